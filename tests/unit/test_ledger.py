"""The ledger of a pool against a model of its workers, in any order of events."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from manyhands.controller.ledger import (
    START_ATTEMPTS,
    Action,
    KillWorker,
    Ledger,
    PoolState,
    SendCalls,
    StartWorker,
    StopWorker,
    TellBroken,
    TellCancelled,
    TellDied,
    WorkerState,
)


@dataclass
class Worker:
    """A worker as it is in the world: what it was sent and has not answered."""

    ready: bool = False
    ending: bool = False
    tickets: deque[int] = field(default_factory=deque)
    killed_for: set[int] = field(default_factory=set)


class AnyOrder(RuleBasedStateMachine):
    """Tells a ledger what may happen to a pool, in any order, and does at once what it answers."""

    @initialize(limit=st.integers(1, 3), chunks=st.lists(st.integers(1, 4), min_size=3, max_size=3))
    def begin(self, limit: int, chunks: list[int]) -> None:
        """Three groups are open."""
        self.groups = 3
        self.ledger = Ledger(limit)
        self.chunks = dict(enumerate(chunks))
        for group, chunk in self.chunks.items():
            self.ledger.open_group(group, chunk)
        self.living: dict[int, Worker] = {}
        self.ever: set[int] = set()
        self.queue: deque[int] = deque()
        self.group: dict[int, int] = {}  # of each ticket ever
        self.abandoned: set[int] = set()  # tickets
        self.fates: dict[int, str] = {}
        self.broken = self.closed = False
        self.failed_starts = 0
        self.in_vain: Counter[int] = Counter()

    # -- helpers --

    def open(self, ticket: int) -> bool:
        """Whether somebody still waits for the ticket."""
        return ticket not in self.fates and ticket not in self.abandoned

    def fate(self, ticket: int, what: str) -> None:
        """Guarantee 1: at most one fate each, and none once abandoned."""
        assert self.open(ticket), (ticket, what, self.fates.get(ticket))
        self.fates[ticket] = what

    def act(self, actions: list[Action]) -> list[Action]:
        """Does in the world what the ledger says, checking that it may."""
        for action in actions:
            match action:
                case StartWorker(number):
                    assert not self.broken and not self.closed
                    assert number not in self.ever
                    self.ever.add(number)
                    self.living[number] = Worker()
                case SendCalls(number, group, tickets):
                    self.send(number, group, tickets)
                case StopWorker(number):
                    worker = self.living[number]
                    assert worker.ready and not worker.tickets and not worker.ending
                    worker.ending = True
                case KillWorker(number):
                    self.living[number].ending = True
                case TellDied(ticket, number):
                    assert number not in self.living
                    self.fate(ticket, "died")
                case TellCancelled(ticket):
                    self.fate(ticket, "cancelled")
                    if ticket in self.queue:
                        self.queue.remove(ticket)
                case TellBroken(ticket):
                    assert self.broken or self.closed
                    self.fate(ticket, "broken")
                    if ticket in self.queue:
                        self.queue.remove(ticket)
        return actions

    def send(self, number: int, group: int, tickets: tuple[int, ...]) -> None:
        """Guarantees 2 and 4, and what a chunk may be."""
        assert not self.broken and not self.closed
        worker = self.living[number]
        assert worker.ready and not worker.ending and not worker.tickets
        assert 1 <= len(tickets) <= self.chunks[group]
        assert len(tickets) <= max(1, len(self.queue) // self.ledger.limit)
        for ticket in tickets:
            assert self.group[ticket] == group and self.open(ticket)
            assert all(ticket not in other.tickets for other in self.living.values())
            assert ticket == self.queue.popleft()
            worker.tickets.append(ticket)

    def pick(self, data: st.DataObject, which: str) -> int:
        return data.draw(st.sampled_from(self.those(which)))

    def those(self, which: str) -> list[int]:
        wanted = {
            "starting": lambda worker: not worker.ready,
            "busy": lambda worker: bool(worker.tickets),
            "any": lambda worker: True,
        }[which]
        return [number for number, worker in self.living.items() if wanted(worker)]

    def a_ticket(self, data: st.DataObject) -> int:
        return data.draw(st.integers(0, len(self.group)))

    # -- what users may say --

    @rule(data=st.data(), number=st.integers(1, 5))
    def submit(self, data: st.DataObject, number: int) -> None:
        """Calls arrive; a pool that takes none says so, and so does a group that was abandoned."""
        group = data.draw(st.integers(0, self.groups - 1))
        for _ in range(number):
            ticket = len(self.group)
            self.group[ticket] = group
            if self.broken or self.closed:
                assert self.act(self.ledger.submit(ticket, group)) == [TellBroken(ticket)]
            elif group not in self.chunks:
                assert self.act(self.ledger.submit(ticket, group)) == [TellCancelled(ticket)]
            else:
                self.queue.append(ticket)
                self.act(self.ledger.submit(ticket, group))

    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        """What waits is told cancelled, and nothing else happens."""
        ticket = self.a_ticket(data)
        waits = ticket in self.queue
        assert self.act(self.ledger.cancel(ticket)) == ([TellCancelled(ticket)] if waits else [])

    @rule(data=st.data())
    def kill(self, data: st.DataObject) -> None:
        """What waits is cancelled; the worker of what was sent is ended."""
        ticket = self.a_ticket(data)
        waits = ticket in self.queue
        holder = next((number for number, worker in self.living.items() if ticket in worker.tickets), None)
        actions = self.act(self.ledger.kill(ticket))
        if holder is not None:
            assert actions == [KillWorker(holder)]
            self.living[holder].killed_for.add(ticket)
        else:
            assert actions == ([TellCancelled(ticket)] if waits else [])

    @rule(data=st.data(), kill=st.booleans())
    def abandon(self, data: st.DataObject, kill: bool) -> None:
        """Nothing is heard of the group any more; with ``kill``, its workers end."""
        group = data.draw(st.integers(0, self.groups - 1))
        self.chunks.pop(group, None)
        mine = [ticket for ticket, of in self.group.items() if of == group]
        self.abandoned.update(ticket for ticket in mine if ticket not in self.fates)
        self.queue = deque(ticket for ticket in self.queue if self.group[ticket] != group)
        run = {
            number for number, worker in self.living.items() if any(ticket in mine for ticket in worker.tickets)
        }
        actions = self.act(self.ledger.abandon(group, kill))
        killed = {action.worker for action in actions if isinstance(action, KillWorker)}
        assert killed <= run
        assert not kill or all(self.living[number].ending for number in run)
        assert kill or not killed

    @precondition(lambda self: len(self.chunks) < 3)
    @rule(chunksize=st.integers(1, 4))
    def open_group(self, chunksize: int) -> None:
        """Another map comes."""
        self.chunks[self.groups] = chunksize
        self.ledger.open_group(self.groups, chunksize)
        self.groups += 1

    @rule()
    def retire(self) -> None:
        """Only workers without a call go."""
        assert all(isinstance(action, StopWorker) for action in self.act(self.ledger.retire()))

    @precondition(lambda self: len(self.group) > 10)
    @rule()
    def close(self) -> None:
        """What waits is cancelled; who has nothing to finish is ended."""
        self.closed = True
        self.act(self.ledger.close())
        assert not self.queue
        for worker in self.living.values():
            assert worker.ending or worker.tickets

    # -- what may happen to workers --

    @precondition(lambda self: self.those("starting"))
    @rule(data=st.data())
    def worker_ready(self, data: st.DataObject) -> None:
        """One is set up, perhaps after it was told to end."""
        number = self.pick(data, "starting")
        worker = self.living[number]
        worker.ready = True
        if not worker.ending:
            self.failed_starts = 0
        self.act(self.ledger.worker_ready(number))

    @precondition(lambda self: self.those("busy"))
    @rule(data=st.data(), number=st.integers(1, 3))
    def answer(self, data: st.DataObject, number: int) -> None:
        """Answers in the order of the calls, also from workers that are to end."""
        name = self.pick(data, "busy")
        worker = self.living[name]
        for _ in range(min(number, len(worker.tickets))):
            ticket = worker.tickets.popleft()
            self.in_vain.pop(ticket, None)
            waiting = self.open(ticket)
            assert self.ledger.worker_answered(name, ticket) == waiting
            if waiting:
                self.fate(ticket, "answered")
        self.act(self.ledger.proceed(name))

    @precondition(lambda self: self.living)
    @rule(data=st.data(), begun=st.booleans())
    def worker_ended(self, data: st.DataObject, begun: bool) -> None:
        """Guarantee 3: who was being run, or killed, is told dead; the others go first again."""
        number = self.pick(data, "any")
        worker = self.living.pop(number)
        if not worker.ready and not worker.ending:
            self.failed_starts += 1
            self.broken = self.broken or (self.failed_starts >= START_ATTEMPTS and not self.closed)
        waiting = [ticket for ticket in worker.tickets if self.open(ticket)]
        if worker.tickets and not begun:  # who has been sent in vain too often is taken for the cause
            self.in_vain[worker.tickets[0]] += 1
        at = {ticket for ticket in list(worker.tickets)[:1] if begun or self.in_vain[ticket] >= START_ATTEMPTS}
        dead = set(waiting) & (worker.killed_for or at)
        back = [ticket for ticket in waiting if ticket not in dead]
        stopped = self.broken or self.closed
        if not stopped:
            self.queue.extendleft(reversed(back))
        actions = self.act(self.ledger.worker_ended(number, begun))
        assert {action.ticket for action in actions if isinstance(action, TellDied)} == dead
        if stopped:
            assert all(self.fates[ticket] == "broken" for ticket in back)

    @precondition(lambda self: len(self.group) > 10)
    @rule()
    def break_down(self) -> None:
        """What waits is told; who waits is ended."""
        self.broken = self.broken or not self.closed
        self.act(self.ledger.break_down())
        assert not self.queue

    # -- what must hold --

    @invariant()
    def bounds(self) -> None:
        """Guarantee 5, and that the ledger knows its workers."""
        assert self.ledger.workers.keys() == self.living.keys()
        for number, worker in self.living.items():
            assert self.ledger.running(number) == tuple(worker.tickets)
            assert (self.ledger.workers[number] is WorkerState.ENDING) == worker.ending
        assert self.active() <= self.ledger.limit

    def active(self) -> int:
        """Workers that count: neither ending nor only finishing what nobody waits for."""
        return sum(
            not worker.ending and (not worker.tickets or any(map(self.open, worker.tickets)))
            for worker in self.living.values()
        )

    @invariant()
    def no_deadlock(self) -> None:
        """While calls wait, no worker idles, and as many start as can be of use."""
        state = PoolState.CLOSED if self.closed else PoolState.BROKEN if self.broken else PoolState.OPEN
        assert self.ledger.state is state
        idle = [w for w in self.living.values() if w.ready and not w.ending and not w.tickets]
        starting = [w for w in self.living.values() if not w.ready and not w.ending]
        if self.queue:
            assert state is PoolState.OPEN
            assert not idle
            ending = any(worker.ending for worker in self.living.values())  # then the next step is its end
            assert len(starting) >= len(self.queue) or self.active() == self.ledger.limit or ending
        if state is not PoolState.OPEN:
            assert not idle
        busy = [w for w in self.living.values() if w.ending or w.tickets]
        assert self.ledger.at_rest == (not self.queue and not starting and not busy)

    def teardown(self) -> None:
        """Whatever happened, workers that go on lead every ticket to its one fate."""
        if not hasattr(self, "ledger"):
            return
        for _ in range(10_000):
            self.no_deadlock()
            if self.ledger.at_rest:
                break
            for number, worker in list(self.living.items()):
                if worker.ending:
                    self.end_in_order(number)
                elif not worker.ready:
                    worker.ready = True
                    self.act(self.ledger.worker_ready(number))
                elif worker.tickets:
                    ticket = worker.tickets.popleft()
                    if self.ledger.worker_answered(number, ticket):
                        self.fate(ticket, "answered")
                    self.act(self.ledger.proceed(number))
        assert self.ledger.at_rest
        assert set(self.group) == set(self.fates) | self.abandoned
        assert not set(self.fates) & self.abandoned

    def end_in_order(self, number: int) -> None:
        worker = self.living.pop(number)
        waiting = [ticket for ticket in worker.tickets if self.open(ticket)]
        dead = worker.killed_for or set(list(worker.tickets)[:1])
        if not self.broken and not self.closed:
            self.queue.extendleft(reversed([ticket for ticket in waiting if ticket not in dead]))
        self.act(self.ledger.worker_ended(number))


AnyOrder.TestCase.settings = settings(max_examples=150, stateful_step_count=50)
TestAnyOrder = AnyOrder.TestCase


def started(ledger: Ledger, actions: list[Action]) -> list[int]:
    """Makes ready the workers that ``actions`` start."""
    numbers = [action.worker for action in actions if isinstance(action, StartWorker)]
    for number in numbers:
        ledger.worker_ready(number)
    return numbers


def test_the_pool_gives_up_after_failed_starts() -> None:
    """The third worker in a row that ends before it is ready breaks the pool, and what waits is told."""
    ledger = Ledger(1)
    ledger.open_group(0)
    assert ledger.submit(0, 0) == [StartWorker(0)]
    for number in range(START_ATTEMPTS - 1):
        assert ledger.worker_ended(number) == [StartWorker(number + 1)]
        assert ledger.state is PoolState.OPEN
    assert ledger.worker_ended(START_ATTEMPTS - 1) == [TellBroken(0)]
    assert ledger.state is PoolState.BROKEN
    assert ledger.submit(1, 0) == [TellBroken(1)]


def test_a_ready_worker_forgives_failed_starts() -> None:
    """Only failures in a row count."""
    ledger = Ledger(1)
    ledger.open_group(0)
    (action,) = ledger.submit(0, 0)
    for _ in range(3):
        for _ in range(START_ATTEMPTS - 1):
            assert isinstance(action, StartWorker)
            (action,) = ledger.worker_ended(action.worker)
        assert isinstance(action, StartWorker)
        assert ledger.worker_ready(action.worker) == [SendCalls(action.worker, 0, (0,))]
        assert ledger.worker_answered(action.worker, 0)
        assert ledger.proceed(action.worker) == []
        ledger.worker_ended(action.worker)
        (action,) = ledger.submit(0, 0)
    assert ledger.state is PoolState.OPEN


def test_workers_told_to_end_are_no_failed_starts() -> None:
    """A worker that was killed as it started says nothing about whether workers can be started."""
    ledger = Ledger(3)
    ledger.open_group(0)
    for ticket in range(3):
        ledger.submit(ticket, 0)
    ledger.close()
    for number in range(3):
        assert ledger.worker_ended(number) == []
    assert ledger.state is PoolState.CLOSED and ledger.at_rest


@given(limit=st.integers(1, 4), chunksize=st.integers(1, 10), waiting=st.integers(1, 60))
def test_chunks_are_fair(limit: int, chunksize: int, waiting: int) -> None:
    """Up to ``chunksize`` calls go at once, but so few that every worker gets a share."""
    ledger = Ledger(limit)
    ledger.open_group(0, chunksize)
    for ticket in range(waiting):
        ledger.submit(ticket, 0)
    sizes: list[int] = []
    for number in list(ledger.workers):
        for action in ledger.worker_ready(number):
            if isinstance(action, SendCalls):
                left = waiting - sum(sizes)
                sizes.append(len(action.tickets))
                assert sizes[-1] == max(1, min(chunksize, left // limit))
    assert len(sizes) == min(limit, waiting)


def test_chunks_do_not_mix_groups() -> None:
    """Calls of another group end a chunk."""
    ledger = Ledger(1)
    ledger.open_group(0, 8)
    ledger.open_group(1, 8)
    for ticket, group in enumerate([0, 0, 1, 0]):
        ledger.submit(ticket, group)
    assert ledger.worker_ready(0) == [SendCalls(0, 0, (0, 1))]


def holding(tickets: int) -> Ledger:
    """A ledger whose only worker holds ``tickets`` calls."""
    ledger = Ledger(1)
    ledger.open_group(0, tickets)
    for ticket in range(tickets):
        ledger.submit(ticket, 0)
    assert ledger.worker_ready(0) == [SendCalls(0, 0, tuple(range(tickets)))]
    return ledger


def test_only_who_was_run_is_told_dead() -> None:
    """The calls behind it in the chunk go to the next worker, before those that wait."""
    ledger = holding(3)
    ledger.submit(3, 0)
    assert ledger.worker_ended(0) == [TellDied(0, 0), StartWorker(1)]
    ledger.worker_ready(1)
    assert ledger.running(1)[0] == 1


def test_who_was_not_begun_runs_elsewhere() -> None:
    """A worker that dies before it begins what it was sent blames nobody."""
    ledger = holding(2)
    assert ledger.worker_ended(0, begun=False) == [StartWorker(1)]
    assert ledger.worker_ready(1) == [SendCalls(1, 0, (0, 1))]


def test_who_kills_every_worker_before_it_begins_is_told_dead() -> None:
    """A call that was sent to START_ATTEMPTS workers and begun by none of them is not sent again."""
    ledger = holding(1)
    for number in range(START_ATTEMPTS - 1):
        assert ledger.worker_ended(number, begun=False) == [StartWorker(number + 1)]
        assert ledger.worker_ready(number + 1) == [SendCalls(number + 1, 0, (0,))]
    last = START_ATTEMPTS - 1
    assert ledger.worker_ended(last, begun=False) == [TellDied(0, last)]


def test_each_killed_call_is_told_dead() -> None:
    """Of a chunk in which two calls were killed, neither runs again."""
    ledger = holding(3)
    assert ledger.kill(0) == [KillWorker(0)]
    assert ledger.kill(1) == [KillWorker(0)]
    assert ledger.worker_ended(0) == [TellDied(0, 0), TellDied(1, 0), StartWorker(1)]
    assert ledger.worker_ready(1) == [SendCalls(1, 0, (2,))]


def test_a_call_answered_before_its_kill_blames_nobody() -> None:
    """The worker died of a kill that came too late, so the next call of its chunk is not to blame."""
    ledger = holding(2)
    ledger.kill(0)
    assert ledger.worker_answered(0, 0)
    assert ledger.proceed(0) == []
    assert ledger.worker_ended(0) == [StartWorker(1)]
    assert ledger.worker_ready(1) == [SendCalls(1, 0, (1,))]


def test_abandoned_calls_do_not_hold_up_others() -> None:
    """A worker that only finishes what nobody waits for is replaced, and leaves when it has finished."""
    ledger = holding(1)
    ledger.open_group(1)
    assert ledger.submit(1, 1) == []
    assert ledger.abandon(0) == [StartWorker(1)]
    assert ledger.worker_ready(1) == [SendCalls(1, 1, (1,))]
    assert not ledger.worker_answered(0, 0)
    assert ledger.proceed(0) == [StopWorker(0)]


def test_a_call_of_a_closed_group_is_cancelled() -> None:
    """Nobody can be sent its work any more, so no worker must get it."""
    ledger = Ledger(1)
    ledger.open_group(0)
    ledger.abandon(0)
    assert ledger.submit(0, 0) == [TellCancelled(0)]
    assert ledger.at_rest


def test_repr_counts() -> None:
    """A person sees the pool's state, what waits and what the workers do."""
    ledger = holding(2)
    ledger.submit(2, 0)
    assert repr(ledger) == "<Ledger open, 1 waiting; 1 busy of 1>"
    assert repr(Ledger(2)) == "<Ledger open, 0 waiting; no workers of 2>"


@pytest.mark.parametrize("what", ["close", "break_down"])
def test_what_runs_is_finished(what: str) -> None:
    """A pool that closes or breaks down lets running calls end, and takes their answers."""
    ledger = holding(1)
    actions: Any = getattr(ledger, what)()
    assert actions == []
    assert ledger.worker_answered(0, 0)
    assert ledger.proceed(0) == [StopWorker(0)]

"""The ledger of a pool against a model of its workers, in any order of events."""

from __future__ import annotations

from collections import Counter
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
    Recall,
    SendCalls,
    StartWorker,
    StopWorker,
    TellBroken,
    TellCancelled,
    TellDied,
    WorkerState,
)
from manyhands.workers.marker import LOADING

Key = tuple[int, int]
"""A call: its ticket and its position in that."""

CHUNKSIZES = st.none() | st.integers(1, 4)


def calls(ticket: int, begin: int, end: int) -> list[Key]:
    return [(ticket, position) for position in range(begin, end)]


@dataclass
class Call:
    """What the world knows of a call.

    ``place`` is where it is: "waits", the number of its worker, or what became of it.
    """

    group: int
    place: str | int = "waits"
    times_given: int = 0
    suspect: bool = False
    killed: bool = False


@dataclass
class Worker:
    """A worker as it is in the world: what it was sent and has not answered, in the order of sending."""

    ready: bool = False
    ending: bool = False
    retiring: bool = False
    watched: bool = False
    slow: bool = False
    held: list[Key] = field(default_factory=list)
    given: int = 0
    killed: bool = False
    killed_for: set[Key] = field(default_factory=set)


class AnyOrder(RuleBasedStateMachine):
    """Tells a ledger what may happen to a pool, in any order, and does at once what it answers."""

    @initialize(
        limit=st.integers(1, 3),
        threads=st.integers(1, 2),
        max_tasks=st.none() | st.integers(1, 6),
        chunks=st.lists(CHUNKSIZES, min_size=3, max_size=3),
    )
    def begin(self, limit: int, threads: int, max_tasks: int | None, chunks: list[int | None]) -> None:
        """Three groups are open."""
        self.ledger = Ledger(limit, threads, max_tasks)
        self.groups = 3
        self.chunks = dict(enumerate(chunks))
        for group, chunk in self.chunks.items():
            self.ledger.open_group(group, chunk)
        self.passed: dict[int, set[int]] = {group: set() for group in self.chunks}
        self.living: dict[int, Worker] = {}
        self.ever: set[int] = set()
        self.tickets: dict[int, int] = {}  # of each ever, its group
        self.calls: dict[Key, Call] = {}
        self.broken = self.closed = False
        self.failed_starts = 0
        self.in_vain: Counter[Key] = Counter()

    # -- the world --

    @property
    def is_open(self) -> bool:
        return not self.broken and not self.closed

    def live(self, key: Key) -> bool:
        """Whether somebody still waits for the call."""
        call = self.calls[key]
        return isinstance(call.place, int) or call.place == "waits"

    def waiting(self, group: int | None = None, suspects: bool = True) -> list[Key]:
        return [
            key
            for key, call in self.calls.items()
            if call.place == "waits" and group in (None, call.group) and (suspects or not call.suspect)
        ]

    def fate(self, key: Key, what: str) -> None:
        """Guarantee 1: at most one fate each, and none once abandoned."""
        assert self.live(key), (key, what, self.calls[key])
        self.calls[key].place = what

    def act(self, actions: list[Action]) -> list[Action]:
        """Does in the world what the ledger says, checking that it may."""
        for action in actions:
            match action:
                case StartWorker(number):
                    assert self.is_open and number not in self.ever
                    self.ever.add(number)
                    self.living[number] = Worker()
                case SendCalls():
                    self.send(action)
                case Recall(number):
                    assert number in self.living
                case StopWorker(number):
                    worker = self.living[number]
                    assert worker.ready and not worker.held and not worker.ending
                    worker.ending = True
                case KillWorker(number):
                    self.living[number].ending = True
                case TellDied(ticket, position, number):
                    assert number not in self.living
                    self.fate((ticket, position), "died")
                case TellCancelled(ticket, begin, end):
                    for key in calls(ticket, begin, end):
                        assert self.calls[key].place == "waits"
                        self.fate(key, "cancelled")
                case TellBroken(ticket, begin, end):
                    assert not self.is_open
                    for key in calls(ticket, begin, end):
                        assert not isinstance(self.calls[key].place, int)
                        self.fate(key, "broken")
            self.note_turns()
        return actions

    def send(self, action: SendCalls) -> None:
        """Guarantees 2 and 4, and what a chunk may be."""
        assert self.is_open
        worker = self.living[action.worker]
        assert worker.ready and not worker.ending and not worker.retiring
        assert not any(self.calls[key].suspect for key in worker.held)
        (group,) = {piece[0] for piece in action.pieces}
        keys = [key for _, *stretch in action.pieces for key in calls(*stretch)]
        assert keys and len(set(keys)) == len(keys)
        if self.calls[keys[0]].suspect:
            assert len(keys) == 1 and not worker.held and not action.whole
        else:
            self.check_chunk(action, group, worker, len(keys))
        for key in keys:
            call = self.calls[key]
            assert call.place == "waits" and call.group == group and not call.killed
            if not call.suspect:
                before = self.waiting(group, suspects=False)
                first = min(before, key=lambda other: (not self.calls[other].times_given, other))
                # What was never sent goes in order, after all that was; how the latter are ordered is not said.
                assert key == first or (self.calls[first].times_given and call.times_given)
            call.place = action.worker
            call.times_given += 1
        assert action.watch == bool(self.waiting())
        worker.watched = action.watch
        worker.held += keys
        worker.given += len(keys)
        worker.retiring = worker.given == self.ledger.max_tasks

    def check_chunk(self, action: SendCalls, group: int, worker: Worker, size: int) -> None:
        ledger, fixed = self.ledger, self.chunks[group]
        pace = ledger.pace(group)
        assert action.whole == (fixed is not None)
        assert size <= pace.chunksize
        if fixed is None:
            assert size <= max(1, len(self.waiting()) // (2 * ledger.limit * ledger.threads))
        assert ledger.max_tasks is None or worker.given + size <= ledger.max_tasks
        if len(self.pieces(action.worker)) >= ledger.threads:
            # Calls are sent to wait behind others only if they are known to be short, to a worker that expects it.
            assert pace.ahead and worker.watched and not worker.slow
        # Groups take turns: none comes twice while another waits.
        for other, passed in self.passed.items():
            if other != group and self.waiting(other, suspects=False):
                assert group not in passed
                passed.add(group)
        self.passed[group] = set()

    def pieces(self, number: int) -> list[tuple[int, int, int]]:
        """What a worker holds, without what is just being sent: that the ledger has noted already."""
        held = set(self.living[number].held)
        return [piece for piece in self.ledger.running(number) if (piece[0], piece[1]) in held]

    def note_turns(self) -> None:
        """Who has nothing to wait for has not been passed over."""
        for group, passed in self.passed.items():
            if not self.waiting(group, suspects=False):
                passed.clear()

    def give_back(self, keys: list[Key], suspects: bool = False) -> None:
        for key in keys:
            self.calls[key].place = "waits"
            self.calls[key].suspect |= suspects

    # -- drawing --

    def those(self, which: str) -> list[int]:
        wanted = {
            "starting": lambda worker: not worker.ready,
            "ready": lambda worker: worker.ready,
            "busy": lambda worker: bool(worker.held),
            "any": lambda worker: True,
        }[which]
        return [number for number, worker in self.living.items() if wanted(worker)]

    def pick(self, data: st.DataObject, which: str) -> int:
        return data.draw(st.sampled_from(self.those(which)))

    def a_ticket(self, data: st.DataObject) -> int:
        return data.draw(st.integers(0, len(self.tickets)))

    def a_stretch(self, data: st.DataObject, number: int) -> tuple[int, int, int]:
        """Some of the calls of one piece that the worker holds."""
        ticket, begin, end = data.draw(st.sampled_from(self.ledger.running(number)))
        first = data.draw(st.integers(begin, end - 1))
        return ticket, first, data.draw(st.integers(first + 1, end))

    # -- what users may say --

    def add(self, group: int, stretches: list[tuple[int, int]]) -> int:
        ticket = len(self.tickets)
        self.tickets[ticket] = group
        for begin, end in stretches:
            self.calls.update((key, Call(group)) for key in calls(ticket, begin, end))
        return ticket

    @rule(data=st.data(), number=st.integers(1, 9))
    def submit(self, data: st.DataObject, number: int) -> None:
        """Calls arrive; a pool that takes none says so, and so does a group that was abandoned."""
        group = data.draw(st.integers(0, self.groups - 1))
        ticket = self.add(group, [(0, number)])
        actions = self.act(self.ledger.submit(ticket, group, number))
        if not self.is_open:
            assert actions == [TellBroken(ticket, 0, number)]
        elif group not in self.chunks:
            assert actions == [TellCancelled(ticket, 0, number)]

    @precondition(lambda self: self.chunks)
    @rule(data=st.data(), places=st.lists(st.integers(0, 12), min_size=2, max_size=6, unique=True))
    def submit_again(self, data: st.DataObject, places: list[int]) -> None:
        """Stretches of a ticket arrive that an earlier ledger had."""
        group = data.draw(st.sampled_from(sorted(self.chunks)))
        places.sort()
        stretches = list(zip(places[::2], places[1::2], strict=False))
        ticket = self.add(group, [])
        for begin, end in stretches:
            self.calls.update((key, Call(group)) for key in calls(ticket, begin, end))
            actions = self.act(self.ledger.submit_again(ticket, group, begin, end))
            assert self.is_open or actions == [TellBroken(ticket, begin, end)]

    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        """What waits of a ticket is told cancelled, and nothing else happens."""
        ticket = self.a_ticket(data)
        waits = [key for key in self.waiting() if key[0] == ticket]
        actions = self.act(self.ledger.cancel(ticket))
        assert all(isinstance(action, TellCancelled) for action in actions)
        assert all(self.calls[key].place == "cancelled" for key in waits)

    @precondition(lambda self: self.calls)
    @rule(data=st.data())
    def kill(self, data: st.DataObject) -> None:
        """If the call waits, it alone is cancelled; if it was sent, its worker is ended; else nothing happens."""
        ticket, position = key = data.draw(st.sampled_from(sorted(self.calls)))
        place = self.calls[key].place
        others = [other for other in self.waiting() if other != key]
        holder = next((number for number, worker in self.living.items() if key in worker.held), None)
        actions = self.act(self.ledger.kill(ticket, position))
        assert [other for other in self.waiting() if other != key] == others
        if holder is not None:
            assert actions == [KillWorker(holder)]
            self.living[holder].killed = self.calls[key].killed = True
            self.living[holder].killed_for.add(key)
        else:
            assert actions == ([TellCancelled(ticket, position, position + 1)] if place == "waits" else [])

    @rule(data=st.data(), kill=st.booleans())
    def abandon(self, data: st.DataObject, kill: bool) -> None:
        """Nothing is heard of the group any more; its workers end, or hand back what they have not begun."""
        group = data.draw(st.integers(0, self.groups - 1))
        self.chunks.pop(group, None)
        self.passed.pop(group, None)
        for key, call in self.calls.items():
            if call.group == group and self.live(key):
                call.place = "abandoned"
        run = [
            number
            for number, worker in self.living.items()
            if any(self.calls[key].group == group for key in worker.held)
        ]
        many = {number for number in run if len(self.living[number].held) > self.ledger.threads}
        going = {number for number in run if not self.living[number].ending}
        actions = self.act(self.ledger.abandon(group, kill))
        killed = {action.worker for action in actions if isinstance(action, KillWorker)}
        recalled = {action.worker for action in actions if isinstance(action, Recall)}
        assert killed == (going if kill else set())
        assert many - killed <= recalled <= many
        for number in killed:
            self.living[number].killed = True

    @precondition(lambda self: len(self.chunks) < 3)
    @rule(chunksize=CHUNKSIZES)
    def open_group(self, chunksize: int | None) -> None:
        """Another map comes."""
        self.chunks[self.groups] = chunksize
        self.passed[self.groups] = set()
        self.ledger.open_group(self.groups, chunksize)
        self.groups += 1

    @rule()
    def retire(self) -> None:
        """Only workers without a call go."""
        assert all(isinstance(action, StopWorker) for action in self.act(self.ledger.retire()))
        assert all(worker.ending or worker.held or not worker.ready for worker in self.living.values())

    @precondition(lambda self: len(self.tickets) > 8)
    @rule()
    def close(self) -> None:
        """What waits is cancelled; who has nothing to finish is ended."""
        self.closed = True
        waits = self.waiting()
        self.act(self.ledger.close())
        assert all(self.calls[key].place == "cancelled" for key in waits)
        for worker in self.living.values():
            assert worker.ending or worker.held
            worker.retiring = True

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

    def take(self, number: int, stretch: tuple[int, int, int]) -> list[Key]:
        """Some calls are not with their worker any more; returns those that somebody waits for."""
        keys = calls(*stretch)
        self.living[number].held = [key for key in self.living[number].held if key not in keys]
        return [key for key in keys if self.live(key)]

    def answer_stretch(self, number: int, stretch: tuple[int, int, int], seconds: float | None) -> None:
        waiting = self.take(number, stretch)
        self.living[number].slow = False
        assert self.ledger.answered(number, *stretch, seconds) == bool(waiting)
        for key in waiting:
            self.fate(key, "answered")
            self.in_vain.pop(key, None)

    @precondition(lambda self: self.those("busy"))
    @rule(data=st.data(), times=st.integers(1, 3), seconds=st.sampled_from([None, 0.0, 0.001, 1.0]))
    def answer(self, data: st.DataObject, times: int, seconds: float | None) -> None:
        """Answers in any order, also from workers that are to end."""
        number = self.pick(data, "busy")
        for _ in range(times):
            if self.living[number].held:
                self.answer_stretch(number, self.a_stretch(data, number), seconds)
        self.act(self.ledger.proceed(number))

    @precondition(lambda self: self.those("busy"))
    @rule(data=st.data(), answers=st.booleans())
    def hand_back(self, data: st.DataObject, answers: bool) -> None:
        """A worker lets go of calls that it has not begun, perhaps after the answers to others."""
        number = self.pick(data, "busy")
        if answers:
            self.answer_stretch(number, self.a_stretch(data, number), 1.0)
        if self.living[number].held:
            stretch = self.a_stretch(data, number)
            back = [key for key in calls(*stretch) if self.live(key) and not self.calls[key].killed]
            if not self.living[number].killed:
                self.take(number, stretch)
                self.give_back(back)
                self.living[number].slow = True
            self.ledger.handed_back(number, *stretch)
        self.act(self.ledger.proceed(number))

    @precondition(lambda self: self.those("ready"))
    @rule(data=st.data())
    def worker_full(self, data: st.DataObject) -> None:
        """It finishes what it has, gets nothing more, and goes."""
        number = self.pick(data, "ready")
        self.living[number].retiring = True
        self.act(self.ledger.worker_full(number))
        assert self.living[number].ending or self.living[number].held

    @precondition(lambda self: self.living)
    @rule(data=st.data())
    def doom(self, data: st.DataObject) -> None:
        """Its channel has ended; one that was never ready still is a failed start."""
        number = self.pick(data, "any")
        worker = self.living[number]
        worker.ending = worker.ending or worker.ready
        self.ledger.doom(number)

    def marks(self, number: int) -> st.SearchStrategy[list[Key]]:
        """What may stand in the marker of a worker: of each thread a call, old or not, and loading."""
        old = [key for key in self.calls if key not in self.living[number].held]
        mark = st.sampled_from([*self.living[number].held, *old[-5:], (LOADING, 0)])
        return st.lists(mark, max_size=self.ledger.threads, unique=True) if self.calls else st.just([])

    @precondition(lambda self: self.living)
    @rule(data=st.data())
    def worker_ended(self, data: st.DataObject) -> None:
        """Its process is gone, with any mark in its marker."""
        number = self.pick(data, "any")
        self.end(number, data.draw(self.marks(number)))

    def end(self, number: int, running: list[Key]) -> None:
        """Guarantee 3: who was being run, or killed, is told dead; the others go first again."""
        worker = self.living.pop(number)
        if not worker.ready and not worker.ending:
            self.failed_starts += 1
            self.broken = self.broken or (self.failed_starts >= START_ATTEMPTS and not self.closed)
        mine = [key for key in worker.held if self.live(key)]
        dead, alone = self.guilty(worker, mine, running)
        back = [key for key in mine if key not in dead]
        self.give_back(back)
        self.give_back(alone, suspects=True)
        actions = self.act(self.ledger.worker_ended(number, running))
        told = [action for action in actions if isinstance(action, TellDied)]
        assert {(action.ticket, action.position) for action in told} == set(dead)
        assert all(action.worker == number and action.killed == worker.killed for action in told)
        if not self.is_open:
            assert all(self.calls[key].place == "broken" for key in back)

    def guilty(self, worker: Worker, mine: list[Key], running: list[Key]) -> tuple[list[Key], list[Key]]:
        """Of the calls of a worker that has ended, those that are told dead, and those that go again alone."""
        if worker.killed:
            return [key for key in mine if key in worker.killed_for], []
        at = [key for key in running if key in mine]
        if len(at) > 1:
            return [], at
        if at or not mine:
            return at, []
        first = mine[0]
        if (LOADING, 0) in running and first == worker.held[0]:
            return [first], []
        self.in_vain[first] += 1  # who has been sent in vain too often is taken for the cause
        return ([first], []) if self.in_vain[first] >= START_ATTEMPTS else ([], [])

    @precondition(lambda self: len(self.tickets) > 8)
    @rule()
    def break_down(self) -> None:
        """What waits is told; who waits is ended."""
        self.broken = self.broken or not self.closed
        self.act(self.ledger.break_down())

    # -- what must hold --

    @invariant()
    def bounds(self) -> None:
        """Guarantee 5, and that the ledger knows its workers and tickets."""
        ledger = self.ledger
        assert ledger.workers.keys() == self.living.keys()
        for number, worker in self.living.items():
            assert [key for piece in ledger.running(number) for key in calls(*piece)] == worker.held
            assert (ledger.workers[number] is WorkerState.ENDING) == worker.ending
            suspects = [key for key in worker.held if self.calls[key].suspect]
            assert not suspects or len(worker.held) == 1
        known = {key[0] for key in self.calls if self.live(key)}
        assert all(ledger.knows(ticket) == (ticket in known) for ticket in self.tickets)
        assert self.active() <= ledger.limit

    def active(self) -> int:
        """Workers that count: neither ending nor only finishing what nobody waits for."""
        return sum(
            not worker.ending and (not worker.held or any(map(self.live, worker.held)))
            for worker in self.living.values()
        )

    @invariant()
    def no_deadlock(self) -> None:
        """While calls wait, no worker idles, and as many start as can be of use."""
        state = PoolState.CLOSED if self.closed else PoolState.BROKEN if self.broken else PoolState.OPEN
        assert self.ledger.state is state
        going = [worker for worker in self.living.values() if not worker.ending]
        idle = [worker for worker in going if worker.ready and not worker.held]
        starting = [worker for worker in going if not worker.ready]
        waiting = self.waiting()
        if waiting:
            assert self.is_open
            assert not idle
            ending = len(going) < len(self.living)  # then the next step is its end
            assert len(starting) >= len(waiting) or self.active() == self.ledger.limit or ending
        if not self.is_open:
            assert not idle
        rests = not waiting and all(worker in idle for worker in self.living.values())
        assert self.ledger.at_rest == rests
        held = any(worker.held for worker in self.living.values())
        assert self.ledger.expects == bool(waiting or starting or held)

    def teardown(self) -> None:
        """Whatever happened, workers that go on lead every call to its one fate."""
        if not hasattr(self, "ledger"):
            return
        for _ in range(10_000):
            self.bounds()
            self.no_deadlock()
            if self.ledger.at_rest:
                break
            for number, worker in list(self.living.items()):
                if worker.ending:
                    self.end(number, worker.held[:1])
                elif not worker.ready:
                    worker.ready = True
                    self.act(self.ledger.worker_ready(number))
                elif worker.held:
                    self.answer_stretch(number, self.ledger.running(number)[0], 0.001)
                    self.act(self.ledger.proceed(number))
        assert self.ledger.at_rest
        assert not [key for key in self.calls if self.live(key)]


AnyOrder.TestCase.settings = settings(max_examples=200, stateful_step_count=60)
TestAnyOrder = AnyOrder.TestCase


# -- examples -------------------------------------------------------------------------------------------------


def holding(number: int) -> Ledger:
    """A ledger whose only worker holds the ticket 0, a piece of ``number`` calls."""
    ledger = Ledger(1)
    ledger.open_group(0, number)
    assert ledger.submit(0, 0, number)[0] == StartWorker(0)
    assert sends(ledger.worker_ready(0)) == [(0, 0, 0, number)]
    return ledger


def sends(actions: list[Action], worker: int | None = None) -> list[tuple[int, int, int, int]]:
    """The pieces that are sent, to one worker or all."""
    return [
        piece
        for action in actions
        if isinstance(action, SendCalls) and worker in (None, action.worker)
        for piece in action.pieces
    ]


def answer(ledger: Ledger, number: int, seconds: float | None = None) -> list[Action]:
    """The worker answers all that it holds."""
    for ticket, begin, end in ledger.running(number):
        assert ledger.answered(number, ticket, begin, end, seconds)
    return ledger.proceed(number)


def test_the_pool_gives_up_after_failed_starts() -> None:
    """The third worker in a row that ends before it is ready breaks the pool, and what waits is told."""
    ledger = Ledger(1)
    ledger.open_group(0)
    assert ledger.submit(0, 0, 4) == [StartWorker(0)]
    for number in range(START_ATTEMPTS - 1):
        assert ledger.worker_ended(number) == [StartWorker(number + 1)]
        assert ledger.state is PoolState.OPEN
    assert ledger.worker_ended(START_ATTEMPTS - 1) == [TellBroken(0, 0, 4)]
    assert ledger.state is PoolState.BROKEN
    assert ledger.submit(1, 0, 2) == [TellBroken(1, 0, 2)]
    assert ledger.submit_again(2, 0, 3, 5) == [TellBroken(2, 3, 5)]


def test_a_ready_worker_forgives_failed_starts() -> None:
    """Only failures in a row count."""
    ledger = Ledger(1)
    ledger.open_group(0)
    for ticket in range(3):
        (action,) = ledger.submit(ticket, 0)
        for _ in range(START_ATTEMPTS - 1):
            (action,) = ledger.worker_ended(action.worker)
        assert sends(ledger.worker_ready(action.worker)) == [(0, ticket, 0, 1)]
        assert answer(ledger, action.worker) == []
        ledger.worker_ended(action.worker)
    assert ledger.state is PoolState.OPEN


def test_workers_told_to_end_are_no_failed_starts() -> None:
    """A worker that was killed as it started says nothing about whether workers can be started."""
    ledger = Ledger(3)
    ledger.open_group(0)
    ledger.submit(0, 0, 3)
    ledger.close()
    for number in range(3):
        assert ledger.worker_ended(number) == []
    assert ledger.state is PoolState.CLOSED and ledger.at_rest


@given(
    limit=st.integers(1, 4),
    threads=st.integers(1, 3),
    waiting=st.integers(1, 200),
    seconds=st.sampled_from([1e-6, 1e-3, 1.0]),
)
def test_chunks_are_fair(limit: int, threads: int, waiting: int, seconds: float) -> None:
    """Without a chunk size, so few calls go at once that every worker gets a share, twice."""
    ledger = Ledger(limit, threads)
    ledger.open_group(0, None)
    for count in (1, 2, 4, 8, 16):
        ledger.pace(0).took(seconds * count, count)
    ledger.submit(0, 0, waiting)
    left = waiting
    for number in list(ledger.workers):
        for action in ledger.worker_ready(number):
            if isinstance(action, SendCalls):
                size = sum(end - begin for _, _, begin, end in action.pieces)
                assert size == max(1, min(ledger.pace(0).chunksize, left // (2 * limit * threads)))
                assert not action.whole
                left -= size
    assert left < waiting


def test_a_chunk_has_the_size_that_was_asked_for() -> None:
    """Of tickets of any size, cut where a chunk is full; such a chunk stays whole."""
    ledger = Ledger(1)
    ledger.open_group(0, 4)
    for ticket, number in enumerate([3, 3, 1, 9]):
        ledger.submit(ticket, 0, number)
    chunks = [ledger.worker_ready(0)]
    for _ in range(3):
        chunks.append(answer(ledger, 0))
    assert chunks == [
        [SendCalls(0, ((0, 0, 0, 3), (0, 1, 0, 1)), whole=True, watch=True)],
        [SendCalls(0, ((0, 1, 1, 3), (0, 2, 0, 1), (0, 3, 0, 1)), whole=True, watch=True)],
        [SendCalls(0, ((0, 3, 1, 5),), whole=True, watch=True)],
        [SendCalls(0, ((0, 3, 5, 9),), whole=True, watch=False)],
    ]


def test_groups_take_turns() -> None:
    """Each gets one chunk after the other's, however many calls it has, and chunks are of one group."""
    ledger = Ledger(1)
    for group, number in enumerate([5, 1, 3]):
        ledger.open_group(group, 2)
        ledger.submit(group, group, number)
    order = sends(ledger.worker_ready(0))
    while ledger.running(0):
        order += sends(answer(ledger, 0))
    assert order == [(0, 0, 0, 2), (1, 1, 0, 1), (2, 2, 0, 2), (0, 0, 2, 4), (2, 2, 2, 3), (0, 0, 4, 5)]


@pytest.mark.parametrize("seconds", [0.001, 1.0])
def test_short_calls_are_sent_ahead(seconds: float) -> None:
    """A worker has the next chunk when it has answered half of the last one, unless its calls may take long."""
    ledger = Ledger(1)
    ledger.open_group(0, None)
    ledger.pace(0).took(0.001 * 4, 4)
    ledger.submit(0, 0, 20)
    assert sends(ledger.worker_ready(0)) == [(0, 0, 0, 5)]
    ledger.answered(0, 0, 0, 2, seconds * 2)
    assert ledger.proceed(0) == []
    ledger.answered(0, 0, 2, 3, seconds)
    assert sends(ledger.proceed(0)) == ([(0, 0, 5, 10)] if seconds < 0.01 else [])


def test_every_thread_gets_a_call_and_idle_workers_first() -> None:
    """Of two workers with two threads each, both have one before one has two."""
    ledger = Ledger(2, threads=2)
    ledger.open_group(0)
    ledger.submit(0, 0, 4)
    first = ledger.worker_ready(0)
    assert [action.worker for action in first] == [0, 0]
    second = ledger.worker_ready(1)
    assert [action.worker for action in second] == [1, 1]
    assert [action.watch for action in first + second] == [True, True, True, False]
    assert answer(ledger, 1) == []
    ledger.answered(0, 0, 0, 1)
    assert ledger.proceed(0) == []
    assert [action.worker for action in ledger.submit(1, 0, 3)] == [1, 0, 1]


def test_nothing_is_sent_ahead_to_who_handed_back() -> None:
    """It is at a slow call: what it gave back goes elsewhere, until it has answered."""
    ledger = Ledger(2)
    ledger.open_group(0, None)
    for _ in range(5):
        ledger.pace(0).took(0.001, 4)
    ledger.submit(0, 0, 8)
    ledger.worker_ready(0)
    ticket, begin, end = ledger.running(0)[-1]
    ledger.handed_back(0, ticket, begin, end)
    assert sends(ledger.proceed(0), worker=0) == []
    assert sends(ledger.worker_ready(1))[0][2] == begin


def test_only_who_was_run_is_told_dead() -> None:
    """What waited before it and behind it in its chunk goes to the next worker, before those that wait."""
    ledger = holding(5)
    ledger.submit(1, 0)
    assert ledger.worker_ended(0, [(0, 2)]) == [TellDied(0, 2, 0), StartWorker(1)]
    assert sends(ledger.worker_ready(1)) == [(0, 0, 0, 2), (0, 0, 3, 5), (0, 1, 0, 1)]


def test_of_several_that_ran_none_is_told_dead_before_it_ran_alone() -> None:
    """Each has a worker for itself, before anything else; then it is clear which of them it was."""
    ledger = Ledger(1, threads=2)
    ledger.open_group(0)
    ledger.submit(0, 0, 4)
    ledger.worker_ready(0)
    assert ledger.worker_ended(0, [(0, 1), (0, 0)]) == [StartWorker(1)]
    assert sends(ledger.worker_ready(1)) == [(0, 0, 1, 2)]
    assert sends(answer(ledger, 1)) == [(0, 0, 0, 1)]
    assert ledger.worker_ended(1, [(0, 0)]) == [TellDied(0, 0, 1), StartWorker(2)]
    assert sends(ledger.worker_ready(2)) == [(0, 0, 2, 3), (0, 0, 3, 4)]


def test_suspects_of_a_closed_pool_are_told() -> None:
    """Nothing runs again there, so nobody will ever know which it was."""
    ledger = Ledger(1, threads=2)
    ledger.open_group(0)
    ledger.submit(0, 0, 2)
    ledger.worker_ready(0)
    ledger.close()
    assert ledger.worker_ended(0, [(0, 0), (0, 1)]) == [TellBroken(0, 0, 1), TellBroken(0, 1, 2)]


@pytest.mark.parametrize("how", ["cancel", "kill"])
def test_a_waiting_suspect_can_be_dropped(how: str) -> None:
    """No worker has it, so it is cancelled like any call that waits."""
    ledger = Ledger(1, threads=2)
    ledger.open_group(0)
    ledger.submit(0, 0)
    ledger.submit(1, 0)
    ledger.worker_ready(0)
    ledger.worker_ended(0, [(0, 0), (1, 0)])
    assert getattr(ledger, how)(1) == [TellCancelled(1, 0, 1)]
    assert sends(ledger.worker_ready(1)) == [(0, 0, 0, 1)]
    answer(ledger, 1)
    assert ledger.at_rest


def test_who_was_not_begun_runs_elsewhere() -> None:
    """A worker that dies before it begins what it was sent blames nobody."""
    ledger = holding(2)
    assert ledger.worker_ended(0, []) == [StartWorker(1)]
    assert sends(ledger.worker_ready(1)) == [(0, 0, 0, 2)]


def test_who_kills_every_worker_before_it_begins_is_told_dead() -> None:
    """A call that was sent to START_ATTEMPTS workers and begun by none of them is not sent again."""
    ledger = holding(1)
    for number in range(START_ATTEMPTS - 1):
        assert ledger.worker_ended(number, []) == [StartWorker(number + 1)]
        assert sends(ledger.worker_ready(number + 1)) == [(0, 0, 0, 1)]
    last = START_ATTEMPTS - 1
    assert ledger.worker_ended(last, []) == [TellDied(0, 0, last)]


def test_a_function_whose_loading_ends_the_worker_is_to_blame() -> None:
    """The first call that it is loaded for is told dead at once."""
    ledger = holding(2)
    assert ledger.worker_ended(0, [(LOADING, 0)]) == [TellDied(0, 0, 0), StartWorker(1)]


def test_the_death_of_an_abandoned_call_is_no_other_calls_fault() -> None:
    """The worker ended at a call that nobody waits for: what waits behind it has done nothing."""
    ledger = Ledger(1, threads=2)
    for group in (0, 1):
        ledger.open_group(group)
        ledger.submit(group, group)
    ledger.worker_ready(0)
    ledger.abandon(0)
    assert ledger.worker_ended(0, [(0, 0)]) == [StartWorker(1)]


def test_a_mark_of_a_call_that_was_answered_blames_nobody() -> None:
    """A worker that ends between its last answer and its next mark was at no call."""
    ledger = Ledger(1, threads=2)
    ledger.open_group(0)
    ledger.submit(0, 0)
    ledger.submit(1, 0)
    ledger.worker_ready(0)
    ledger.answered(0, 0, 0, 1)
    ledger.proceed(0)
    assert ledger.worker_ended(0, [(0, 0)]) == [StartWorker(1)]


def test_each_killed_call_is_told_dead() -> None:
    """Of a chunk in which two calls were killed, neither runs again, and nothing else is told."""
    ledger = holding(4)
    assert ledger.kill(0, 0) == [KillWorker(0)]
    assert ledger.kill(0, 2) == [KillWorker(0)]
    assert ledger.worker_ended(0, [(0, 0)]) == [
        TellDied(0, 0, 0, True),
        TellDied(0, 2, 0, True),
        StartWorker(1),
    ]
    assert sends(ledger.worker_ready(1)) == [(0, 0, 1, 2), (0, 0, 3, 4)]


def test_a_call_answered_before_its_kill_blames_nobody() -> None:
    """The worker died of a kill that came too late, so the next call of its chunk is not to blame."""
    ledger = holding(2)
    ledger.kill(0, 0)
    assert ledger.answered(0, 0, 0, 1)
    assert ledger.proceed(0) == []
    assert ledger.worker_ended(0, [(0, 1)]) == [StartWorker(1)]
    assert sends(ledger.worker_ready(1)) == [(0, 0, 1, 2)]


def test_a_killed_call_that_comes_back_is_dropped() -> None:
    """Its worker handed it back before it heard of its end: it must not run elsewhere."""
    ledger = holding(3)
    ledger.kill(0, 1)
    ledger.handed_back(0, 0, 1, 3)
    told = ledger.proceed(0) + ledger.worker_ended(0, [(0, 0)])
    assert [action.position for action in told if isinstance(action, TellDied)] == [1]


@pytest.mark.parametrize("position", [0, 3])
def test_a_kill_drops_that_call_and_no_other(position: int) -> None:
    """Whether it waits, or was answered already: the rest of its ticket goes on."""
    ledger = Ledger(1)
    ledger.open_group(0)
    ledger.submit(0, 0, 5)
    ledger.worker_ready(0)
    answer(ledger, 0)
    assert ledger.kill(0, position) == ([TellCancelled(0, 3, 4)] if position == 3 else [])
    ran = []
    while held := ledger.running(0):
        ran += [begin for _, begin, _ in held]
        answer(ledger, 0)
    assert ran == ([1, 2, 4] if position == 3 else [1, 2, 3, 4])
    assert ledger.at_rest


@pytest.mark.parametrize("what", ["close", "break_down"])
def test_calls_that_come_back_to_a_closed_pool_are_told(what: str) -> None:
    """Nobody will run them, so whoever waits for them must hear of that."""
    ledger = holding(4)
    getattr(ledger, what)()
    ledger.answered(0, 0, 0, 1)
    ledger.handed_back(0, 0, 1, 4)
    told = ledger.proceed(0)
    assert [
        (action.begin, action.end) for action in told if isinstance(action, TellBroken | TellCancelled)
    ] == [(1, 4)]
    assert told[-1] == StopWorker(0)
    ledger.worker_ended(0)
    assert ledger.at_rest and not ledger.expects


def test_abandoned_calls_do_not_hold_up_others() -> None:
    """A worker that only finishes what nobody waits for is replaced, and leaves when it has finished."""
    ledger = holding(1)
    ledger.open_group(1)
    assert ledger.submit(1, 1) == []
    assert ledger.abandon(0) == [StartWorker(1)]
    assert sends(ledger.worker_ready(1)) == [(1, 1, 0, 1)]
    assert not ledger.answered(0, 0, 0, 1)
    assert ledger.proceed(0) == [StopWorker(0)]


def test_nothing_is_sent_to_wait_behind_abandoned_calls() -> None:
    """However short it is: what nobody waits for may take for ever."""
    ledger = Ledger(1)
    ledger.open_group(0)
    ledger.submit(0, 0, 2)
    ledger.worker_ready(0)
    ledger.abandon(0)
    ledger.open_group(1, None)
    ledger.pace(1).took(0.0001, 4)
    ledger.submit(1, 1, 20)
    assert sends(ledger.worker_ready(1), worker=0) == []
    for _ in range(3):
        assert sends(answer(ledger, 1, 0.0001), worker=0) == []


def test_a_worker_with_calls_that_nobody_waits_for_hands_them_back() -> None:
    """If it has more than it can be at; and one that was killed for it does no harm to what else it had."""
    ledger = Ledger(1)
    ledger.open_group(0, 3)
    ledger.open_group(1, 3)
    ledger.submit(0, 0, 3)
    ledger.worker_ready(0)
    assert ledger.abandon(0) == [Recall(0)]
    ledger.handed_back(0, 0, 1, 3)
    assert ledger.proceed(0) == []
    assert ledger.running(0) == ((0, 0, 1),)


def test_killing_an_abandoned_group_is_no_fault_of_others() -> None:
    """Calls of another group that ran beside it go again, as they were."""
    ledger = Ledger(1, threads=2)
    for group in (0, 1):
        ledger.open_group(group)
        ledger.submit(group, group)
    ledger.worker_ready(0)
    assert ledger.abandon(0, kill=True) == [KillWorker(0)]
    assert ledger.worker_ended(0, [(0, 0), (1, 0)]) == [StartWorker(1)]
    assert sends(ledger.worker_ready(1)) == [(1, 1, 0, 1)]


def test_a_call_of_a_closed_group_is_cancelled() -> None:
    """Nobody can be sent its work any more, so no worker must get it."""
    ledger = Ledger(1)
    ledger.open_group(0)
    ledger.abandon(0)
    assert ledger.submit(0, 0, 3) == [TellCancelled(0, 0, 3)]
    assert ledger.at_rest


def test_cancel_drops_what_was_not_sent() -> None:
    """Of a ticket that is with a worker in part, the rest; other tickets stay."""
    ledger = Ledger(1)
    ledger.open_group(0, 2)
    ledger.submit(0, 0, 5)
    ledger.submit(1, 0, 1)
    ledger.worker_ready(0)
    assert ledger.cancel(0) == [TellCancelled(0, 2, 5)]
    assert ledger.cancel(0) == []
    assert sends(answer(ledger, 0)) == [(0, 1, 0, 1)]
    assert not ledger.knows(0)


def test_a_worker_is_replaced_after_so_many_calls() -> None:
    """It gets no more than that, chunks are cut for it, and its successor starts at once."""
    ledger = Ledger(1, max_tasks=3)
    ledger.open_group(0, 2)
    ledger.submit(0, 0, 4)
    assert sends(ledger.worker_ready(0)) == [(0, 0, 0, 2)]
    assert sends(answer(ledger, 0)) == [(0, 0, 2, 3)]
    assert answer(ledger, 0) == [StopWorker(0), StartWorker(1)]


def test_a_full_worker_finishes_and_goes() -> None:
    """It is replaced as soon as it has ended its calls; one without calls goes at once."""
    ledger = holding(1)
    ledger.submit(1, 0)
    assert ledger.worker_full(0) == []
    assert answer(ledger, 0) == [StopWorker(0), StartWorker(1)]
    ledger.worker_ready(1)
    answer(ledger, 1)
    assert ledger.worker_full(1) == [StopWorker(1)]
    assert ledger.worker_full(7) == []


def test_an_ending_worker_gets_nothing() -> None:
    """Whoever's channel has ended takes no calls, and once it is gone another does."""
    ledger = holding(1)
    answer(ledger, 0)
    ledger.doom(0)
    assert ledger.submit(1, 0) == [StartWorker(1)]
    assert ledger.worker_ended(0) == []
    assert sends(ledger.worker_ready(1)) == [(0, 1, 0, 1)]


def test_a_death_makes_chunks_small() -> None:
    """The group's pace hears of it."""
    ledger = Ledger(1)
    ledger.open_group(0, None)
    ledger.pace(0).took(0.0, 100)
    ledger.submit(0, 0, 10)
    ledger.worker_ready(0)
    ledger.worker_ended(0, [(0, 0)])
    assert ledger.pace(0).chunksize == 1


def test_what_is_left_of_a_ticket_runs() -> None:
    """Its stretches, each once, in a new ledger; it has ended when they have."""
    ledger = Ledger(1)
    ledger.open_group(0, 10)
    assert ledger.submit_again(4, 0, 2, 5) == [StartWorker(0)]
    assert ledger.submit_again(4, 0, 7, 8) == []
    assert sends(ledger.worker_ready(0)) == [(0, 4, 2, 5), (0, 4, 7, 8)]
    assert ledger.answered(0, 4, 2, 5)
    assert ledger.knows(4)
    assert ledger.answered(0, 4, 7, 8)
    assert not ledger.knows(4)


def test_answers_of_nobody_are_left_aside() -> None:
    """Of a worker that is gone, or of calls that it does not have."""
    ledger = holding(1)
    assert not ledger.answered(5, 0, 0, 1)
    assert not ledger.answered(0, 3, 0, 1)
    assert not ledger.answered(0, 0, 0, 2)
    ledger.handed_back(5, 0, 0, 1)
    assert ledger.proceed(5) == []
    ledger.doom(5)
    assert ledger.running(5) == ()
    assert ledger.running(0) == ((0, 0, 1),)
    assert ledger.pace(5) is None


def test_repr_counts() -> None:
    """A person sees the pool's state, what waits and what the workers do."""
    ledger = holding(2)
    ledger.submit(1, 0, 3)
    assert repr(ledger) == "<Ledger open, 3 waiting; 1 busy of 1>"
    assert repr(Ledger(2)) == "<Ledger open, 0 waiting; no workers of 2>"


@pytest.mark.parametrize("what", ["close", "break_down"])
def test_what_runs_is_finished(what: str) -> None:
    """A pool that closes or breaks down lets running calls end, and takes their answers."""
    ledger = holding(1)
    actions: Any = getattr(ledger, what)()
    assert actions == []
    assert answer(ledger, 0) == [StopWorker(0)]

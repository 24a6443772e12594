"""The ledger of a pool against a model of its workers, in any order of events."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from manyhands.controller.actions import (
    Action,
    KillWorker,
    Recall,
    SendCalls,
    StartWorker,
    StopWorker,
    TellBroken,
    TellCancelled,
    TellDied,
)
from manyhands.controller.hands import WorkerState
from manyhands.controller.ledger import START_ATTEMPTS, Ledger, PoolState
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
    unwanted: bool = False
    refused: bool = False


@dataclass
class Worker:
    """A worker as it is in the world: what it was sent and has not answered, in the order of sending."""

    ready: bool = False  # for calls
    runs: bool = False
    proven: bool = False
    ending: bool = False  # was told to
    lost: bool = False
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
        threads=st.sampled_from([2, 1, 2]),
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
                    assert self.is_open and number not in self.ever and number <= len(self.ever)
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
                        # Others just didn't run.
                        assert self.broken or self.calls[key].suspect or self.calls[key].refused
                        self.fate(key, "broken")
            self.note_turns()
        return actions

    def send(self, action: SendCalls) -> None:
        """Guarantees 2 and 4, and what a chunk may be."""
        assert self.is_open
        worker = self.living[action.worker]
        assert worker.ready and not worker.ending and not worker.lost and not worker.retiring
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
        waits_there = len(self.ledger.running(action.worker)) > self.ledger.threads
        assert action.watch or not (self.waiting() or waits_there), "what waits may be stuck behind a call"
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
            share = len(self.waiting()) // (2 * ledger.limit * ledger.threads)
            assert size <= max(1, share, pace.least)
        assert ledger.max_tasks is None or worker.given + size <= ledger.max_tasks
        if len(self.pieces(action.worker)) >= ledger.threads:
            # Calls wait behind others only if they are known to be short, at a worker that expects it.
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
            self.calls[key].unwanted &= not suspects

    # -- drawing --

    def those(self, which: str) -> list[int]:
        wanted = {
            "unborn": lambda worker: not worker.ready and not worker.runs,
            "starting": lambda worker: not worker.ready,
            "unproven": lambda worker: not worker.proven,
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
            self.calls.update((key, Call(group, refused=not self.is_open)) for key in calls(ticket, begin, end))
        return ticket

    @precondition(lambda self: self.is_open and self.chunks)
    @rule(data=st.data(), numbers=st.lists(st.integers(1, 9), min_size=1, max_size=3))
    def submit_to_ready_workers(self, data: st.DataObject, numbers: list[int]) -> None:
        """Calls arrive, and all workers that start for them get ready."""
        for number in numbers:
            self.submit_to(data.draw(st.sampled_from(sorted(self.chunks))), number)
        for number in self.those("starting"):
            self.get_ready(number)

    @rule(data=st.data(), number=st.integers(1, 9))
    def submit(self, data: st.DataObject, number: int) -> None:
        """Calls arrive; a pool that takes none says so, and so does a group that was abandoned."""
        self.submit_to(data.draw(st.integers(0, self.groups - 1)), number)

    def submit_to(self, group: int, number: int) -> None:
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
            self.calls.update((key, Call(group, refused=not self.is_open)) for key in calls(ticket, begin, end))
            actions = self.act(self.ledger.submit_again(ticket, group, begin, end))
            assert self.is_open or actions == [TellBroken(ticket, begin, end)]

    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        """What waits of a ticket is told cancelled; what waits in a worker is asked back; nothing else happens."""
        ticket = self.a_ticket(data)
        waits = [key for key in self.waiting() if key[0] == ticket]
        actions = self.act(self.ledger.cancel(ticket))
        assert all(isinstance(action, TellCancelled | Recall) for action in actions)
        assert all(self.calls[key].place == "cancelled" for key in waits)
        for number in self.living:  # what waits in a worker is cancelled should it come back
            for piece in self.ledger.running(number)[self.ledger.threads :]:
                for key in calls(*piece):
                    self.calls[key].unwanted |= piece[0] == ticket

    @precondition(lambda self: self.calls)
    @rule(data=st.data())
    def kill(self, data: st.DataObject) -> None:
        """If it waits, it alone is cancelled; if it was sent, its worker is ended; else nothing happens."""
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
        going = {number for number in run if not self.living[number].ending and not self.living[number].lost}
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
        assert all(
            worker.ending or worker.lost or worker.held or not worker.ready for worker in self.living.values()
        )

    @precondition(lambda self: len(self.tickets) > 8)
    @rule()
    def close(self) -> None:
        """What waits is cancelled; who has nothing to finish is ended."""
        self.closed = True
        waits = self.waiting()
        self.act(self.ledger.close())
        assert all(self.calls[key].place == "cancelled" for key in waits)
        for worker in self.living.values():
            assert worker.ending or worker.lost or worker.held
            worker.retiring = True

    # -- what may happen to workers --

    @precondition(lambda self: self.those("starting"))
    @rule(data=st.data())
    def worker_started(self, data: st.DataObject) -> None:
        """One may get calls before it says that it is set up, if no other has; or it was told to end meanwhile."""
        number = self.pick(data, "starting")
        self.living[number].runs = True
        going = [each for each in self.living.values() if not each.ending and not each.lost]
        self.living[number].ready = not any(each.held and not each.proven for each in going)
        self.act(self.ledger.worker_started(number))

    @precondition(lambda self: self.those("unborn"))
    @rule(data=st.data())
    def withdraw(self, data: st.DataObject) -> None:
        """One whose process was not started yet is not needed any more, if nothing waits."""
        number = self.pick(data, "unborn")
        needless = not self.waiting() and not self.living[number].ending
        assert self.ledger.withdraw(number) is needless
        if needless:
            del self.living[number]
            self.ever.remove(
                number
            )  # the next one may be called so: workers are numbered in the order they start

    @precondition(lambda self: self.those("unproven"))
    @rule(data=st.data())
    def worker_ready(self, data: st.DataObject) -> None:
        """One is set up, perhaps after it was told to end."""
        self.get_ready(self.pick(data, "unproven"))

    def get_ready(self, number: int) -> None:
        worker = self.living[number]
        worker.ready = worker.proven = True
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
        worker = self.living[number]
        assert worker.ending or worker.lost or worker.held

    @precondition(lambda self: self.living)
    @rule(data=st.data())
    def doom(self, data: st.DataObject) -> None:
        """Its channel has ended; one that never said that it is set up still is a failed start."""
        number = self.pick(data, "any")
        worker = self.living[number]
        worker.lost = worker.lost or (worker.ready and not worker.ending)
        self.ledger.doom(number)

    def marks(self, number: int) -> st.SearchStrategy[list[Key]]:
        """What may stand in the marker of a worker: of each thread a call, old or not, and loading."""
        old = [key for key in self.calls if key not in self.living[number].held]
        mark = st.sampled_from([*self.living[number].held, *old[-5:], (LOADING, 0)])
        return st.lists(mark, max_size=self.ledger.threads, unique=True) if self.calls else st.just([])

    @precondition(lambda self: self.those("busy"))
    @rule(data=st.data(), at=st.sampled_from([(0, 1), (0,), (1,), (2, 0), (1, 3)]))
    def busy_worker_ended(self, data: st.DataObject, at: tuple[int, ...]) -> None:
        """Its process is gone, while each of its threads was at a call."""
        number = self.pick(data, "busy")
        held = self.living[number].held
        self.end(number, [held[place] for place in at[: self.ledger.threads] if place < len(held)])

    @precondition(lambda self: self.living)
    @rule(data=st.data())
    def worker_ended(self, data: st.DataObject) -> None:
        """Its process is gone, with any mark in its marker."""
        number = self.pick(data, "any")
        self.end(number, data.draw(self.marks(number)))

    def end(self, number: int, running: list[Key]) -> None:
        """Guarantee 3: who was being run, or killed, is told dead; the others go first again."""
        worker = self.living.pop(number)
        if not worker.proven and not worker.ending:
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
            assert all(self.calls[key].place in ("broken", "cancelled") for key in back)

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
        if not worker.proven:
            return [], []
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
            assert worker.ending or (ledger.workers[number] is WorkerState.LOST) == worker.lost
            suspects = [key for key in worker.held if self.calls[key].suspect]
            assert not suspects or len(worker.held) == 1
        assert ledger.has_proven == any(
            worker.proven and not worker.ending and not worker.lost for worker in self.living.values()
        )
        assert set(ledger.unproven) == {
            number
            for number, worker in self.living.items()
            if worker.runs and not worker.proven and not worker.ending and not worker.lost
        }
        known = {key[0] for key in self.calls if self.live(key)}
        assert all(ledger.knows(ticket) == (ticket in known) for ticket in self.tickets)
        assert self.active() <= ledger.limit

    def active(self) -> int:
        """Workers that count: neither ending nor only finishing what nobody waits for."""
        return sum(
            not worker.ending and not worker.lost and (not worker.held or any(map(self.live, worker.held)))
            for worker in self.living.values()
        )

    @invariant()
    def no_deadlock(self) -> None:
        """While calls wait, no worker idles, and as many start as can be of use."""
        state = PoolState.CLOSED if self.closed else PoolState.BROKEN if self.broken else PoolState.OPEN
        assert self.ledger.state is state
        going = [worker for worker in self.living.values() if not worker.ending and not worker.lost]
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
        held = any(worker.held for worker in self.living.values())
        assert self.ledger.at_rest == (not waiting and not held)
        assert self.ledger.starting == bool(starting)
        assert self.ledger.expects == bool(waiting or starting or held)

    def teardown(self) -> None:
        """Whatever happened, workers that go on lead every call to its one fate."""
        if not hasattr(self, "ledger"):
            return
        for _ in range(10_000):
            self.bounds()
            self.no_deadlock()
            if self.ledger.at_rest and not self.ledger.starting:
                break
            for number, worker in list(self.living.items()):
                if worker.ending or worker.lost:
                    self.end(number, worker.held[:1])
                elif not worker.ready:
                    self.get_ready(number)
                elif worker.held:
                    self.answer_stretch(number, self.ledger.running(number)[0], 0.001)
                    self.act(self.ledger.proceed(number))
        assert self.ledger.at_rest
        assert not [key for key in self.calls if self.live(key)]


# To explain a failure, each line that runs is traced: that takes minutes here, and looks like a test that hangs.
AnyOrder.TestCase.settings = settings(
    max_examples=200, stateful_step_count=60, phases=set(Phase) - {Phase.explain}
)
TestAnyOrder = pytest.mark.slow(AnyOrder.TestCase)

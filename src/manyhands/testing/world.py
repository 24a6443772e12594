"""What may happen next to workers that share a model filesystem, and what must hold after it.

A state is the filesystem, how far each worker is (the replies that it got so far: its steps are deterministic), and
how many faults may still happen. ``World.moves`` gives all that can follow, checked.
"""

from __future__ import annotations

import errno
import functools
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, NamedTuple

from manyhands.claims import filesystem as fs
from manyhands.claims.decisions import Busy
from manyhands.claims.names import TOKEN_LENGTH, Log, RecordName, SlotName, parse, record_file
from manyhands.claims.record import Claim, Claimant, Commit, decode, encode
from manyhands.claims.watch import Moment, Stamp, Watch
from manyhands.testing.model import LOCAL, Frozen, Knobs, ModelFileSystem, Write
from manyhands.testing.programs import WHOLE, Ending, Program, Round, compute
from manyhands.workers import guard_process

LOG: Final = Log.of("/d/a.csv")
LEASE: Final = 4
"""Seconds, of the claims of worlds with clocks."""

_NOTES: Final = {
    "suspicions": "wrongly",
    "lost_replies": "reply lost",
    "stale_looks": "stale",
    "delays": "delayed",
    "errors": "error",
    "torn": "torn",
}
LIVES: Final = 64
"""A worker may begin anew so often."""


@dataclass(frozen=True, slots=True)
class Faults:
    """How many of each may happen in one run.

    Attributes:
        crashes: of workers, which never come back.
        suspicions: a live worker is taken for dead, as a stopped one is when its lease ends; ``gc``, which asks no
            lease, may take so for dead who was taken over.
        lost_replies: a creation or a move happened, and is reported as failed (EIO).
        stale_looks: a first look does not see an output that is there; or, where clients remember names, a
            look at one tells what was there.
        removals: of a finished output by a user; workers that were done begin anew.
        delays: a creation or a move is reported as failed (EIO), and happens later.
        errors: an operation fails and has no effect, by one of the world's ``errnos``.
        torn: a file is written by half, and its disk is full then.
        powers: all machines lose their power; workers begin anew.
        stops: of a worker, which may go on at any time; with clocks.
        missed_beats: a beat fails (EIO); with clocks.
        ticks: seconds that pass while somebody works; with clocks.
    """

    crashes: int = 0
    suspicions: int = 0
    lost_replies: int = 0
    stale_looks: int = 0
    removals: int = 0
    delays: int = 0
    errors: int = 0
    torn: int = 0
    powers: int = 0
    stops: int = 0
    missed_beats: int = 0
    ticks: int = 0

    def less(self, name: str) -> Faults:
        """One of them has happened."""
        return _less(self, name)


@functools.cache
def _less(faults: Faults, name: str) -> Faults:
    return replace(faults, **{name: getattr(faults, name) - 1})


class Worker(NamedTuple):
    """How far a worker is.

    Who waits is woken by any change; when nobody runs it looks once more, and is stuck if that does not help.

    Attributes:
        todo: the outputs that it wants, the present one first.
        node: numbers what it was told since its pass began.
        life: how often it began anew as somebody else.
        skipped: so many outputs in a row were not to be had.
        memo: what it knows of who is in its way, by output.
        beats: whether its guard beats for it.
        silent: seconds without a beat, for which the world is to blame.
        longest: of these, in this life.
    """

    todo: tuple[int, ...]
    node: int = 0
    life: int = 0
    state: Literal["running", "waiting", "looking", "stuck", "stopped", "done", "left", "crashed"] = "running"
    skipped: int = 0
    memo: tuple[tuple[int, Watch], ...] = ()
    beats: bool = True
    silent: int = 0
    longest: int = 0


ACTIVE: Final = frozenset({"running", "looking"})
_IDLE: Final = frozenset({"waiting", "looking", "stuck"})  # who looks may have read what has changed since
_GONE: Final = frozenset({"crashed", "left"})


_Made = tuple[int, str]


class State(NamedTuple):
    """Of the world.

    Attributes:
        commits: the one COMMIT of each output that was made: its slot and its token.
        removed: how often an output may have gone, by a user or with the power.
        kept: whether somebody was told that it is published, and on the disk.
    """

    disk: int
    workers: tuple[Worker, ...]
    faults: Faults
    commits: tuple[_Made | None, ...]
    removed: tuple[int, ...]
    kept: tuple[bool, ...]


class Step(NamedTuple):
    """What happened, for the trace; ``kind`` is the field of ``Faults`` that it is of, for counting."""

    what: str
    kind: str = "steps"
    operation: fs.Operation | Write | None = None
    reply: Any = None

    def __str__(self) -> str:
        if self.operation is None:
            return self.what
        return f"{self.what.format(_told(self.operation))} -> {self.reply!r:.60}"


Successor = tuple[Step, State]
Move = Callable[[], list[Successor]]
"""Something that happens next, in one of several ways; the plain one comes first."""


@dataclass(frozen=True, slots=True)
class _Raised:
    number: int


@dataclass(frozen=True, slots=True)
class _Next:
    """What a worker does next: an operation, or how its pass ended."""

    operation: fs.Operation | Write | None
    ending: Ending | Busy | None = None
    refreshed: bool = False
    number: int = -1  # of the operation, among all that there are


@dataclass
class World:
    """Some workers, in all the states that they can come to.

    Attributes:
        workers: how many run ``program``.
        faults: how many of each may happen.
        knobs: what kind of filesystem it is.
        logs: of the outputs, in the order in which they are asked for.
        program: what each worker runs, one pass after the other until it has all outputs.
        others: what others run beside them, once.
        clocks: each worker is on a machine of its own, so that only leases tell who is dead, and time passes.
        errnos: what ``errors`` are.
        quick: let a worker go on without interruption while it does what concerns nobody else. Fewer states,
            for more workers; a crash between two such steps is left out.
    """

    workers: int = 2
    faults: Faults = field(default_factory=Faults)
    knobs: Knobs = LOCAL
    logs: tuple[Log, ...] = (LOG,)
    program: Program = field(default_factory=compute)
    others: tuple[Program, ...] = ()
    clocks: bool = False
    errnos: tuple[int, ...] = (errno.EIO,)
    quick: bool = False

    def __post_init__(self) -> None:
        self._model = ModelFileSystem(self.knobs)
        self._next: dict[tuple[int, int, int, int, Watch | None], _Next] = {}
        self._effects: dict[tuple[int, int, int], tuple[Any, int]] = {}
        self._operations: dict[fs.Operation | Write, int] = {}
        self._nodes: list[tuple[Any, ...]] = [()]
        self._node_numbers: dict[tuple[int, Any], int] = {}
        self._disks: list[Frozen] = []
        self._disk_numbers: dict[Frozen, int] = {}
        self._judged: dict[tuple[int, int], tuple[tuple[_Made, ...], ...]] = {}
        self._us: dict[tuple[int, int], Claimant] = {}

    def start(self) -> State:
        """All begin; claimants have written their records."""
        everything = tuple(range(len(self.logs)))
        workers = [Worker(everything)] * self.workers + [Worker((0,))] * len(self.others)
        for index in range(len(workers)):
            self._be_born(index, 0)
        self._model.sync_all()
        count = len(self.logs)
        return State(self._disk(), tuple(workers), self.faults, (None,) * count, (0,) * count, (False,) * count)

    def check_rest(self, state: State) -> None:
        """Who is stuck must have somebody to wait for."""
        states = {worker.state for worker in state.workers}
        some_go_on = states & (ACTIVE | {"waiting", "stopped"})
        assert "stuck" not in states or some_go_on, f"stuck: {sorted(states)}"

    def moves(self, state: State) -> tuple[list[Move], list[Move]]:
        """What can come next of itself, and what faults may do."""
        plain: list[Move] = []
        for index, worker in enumerate(state.workers):
            if worker.state in ACTIVE:
                plain.append(functools.partial(self._steps, state, index))
                if self.quick and self._is_private(index, worker):
                    return plain[-1:], []
        waiting = any(worker.state in _IDLE for worker in state.workers)
        if self.clocks and waiting and not plain:
            plain.append(functools.partial(self._tick, state, state.faults))
        elif waiting and not plain:
            plain.append(functools.partial(self._wake, state))
        return plain, list(self._faults(state))

    def alone(self, state: State, index: int) -> State:
        """The same, but that all others die now, and nothing else goes wrong any more."""
        workers = tuple(
            (worker._replace(state="running") if worker.state in _IDLE else worker)
            if at == index
            else Worker((), life=worker.life, state="crashed")
            for at, worker in enumerate(state.workers)
        )
        return state._replace(workers=workers, faults=Faults())

    def names(self, state: State) -> list[str]:
        """What is in the directory."""
        return [os.path.basename(name) for name, _ in self._disks[state.disk].names]

    def perform_all(self, state: State, steps: fs.Steps[Any]) -> list[str]:
        """What is in the directory after these steps."""
        self._model.thaw(self._disks[state.disk])
        fs.run(steps, self._model)
        return [os.path.basename(name) for name in sorted(self._model.names)]

    # -- what happens of itself ----------------------------------------------------------------------------------

    def _steps(self, state: State, index: int) -> list[Successor]:
        worker = state.workers[index]
        todo = self._todo(index, worker)
        if todo.operation is None:
            assert todo.ending is not None
            ending = "busy" if isinstance(todo.ending, Busy) else todo.ending
            label = Step(f"{index} ends its round: {ending}", "passes")
            return [(label, self._ended(state, index, todo.ending))]
        found = []
        for told, disk, fault in self._outcomes(state, index, todo, todo.operation):
            faults = state.faults.less(fault) if fault else state.faults
            after = worker._replace(node=self._node(worker.node, told))
            moved = self._moved(state, index, after, disk, faults)
            what = f"{index} {{}}{f' ({_NOTES[fault]})' if fault else ''}"
            found.append((Step(what, fault or "steps", todo.operation, told), moved))
        return found

    def _outcomes(
        self, state: State, index: int, todo: _Next, operation: fs.Operation | Write
    ) -> Iterator[tuple[Any, int, str]]:
        """What the worker may be told of the operation, the disk then, and by which fault."""
        faults = state.faults
        reply, disk = self._effect(state, index, operation, todo.number)
        yield reply, disk, ""
        match operation:
            case Write():
                return
            case fs.Judge(claimant) if reply == "unknown" and faults.suspicions:
                if self._may_be_suspected(state, index, claimant):
                    yield "dead", disk, "suspicions"
            case fs.Exists() | fs.Read() if faults.stale_looks:
                stale = self._stale(state, index, operation, todo.refreshed)
                if stale is not None and stale != reply:
                    yield stale, disk, "stale_looks"
            case fs.Link() | fs.Rename() | fs.RenameNew() if reply is None:
                if faults.lost_replies:
                    yield _Raised(errno.EIO), disk, "lost_replies"
                if faults.delays:
                    self._model.thaw(self._disks[state.disk])
                    self._model.delay(operation)
                    yield _Raised(errno.EIO), self._disk(), "delays"
            case fs.WriteNew() if faults.torn and reply is None:
                self._model.thaw(self._disks[state.disk])
                self._model.tear(operation)
                yield _Raised(errno.ENOSPC), self._disk(), "torn"
        if faults.errors and not isinstance(operation, fs.Now):
            for number in self.errnos:
                yield _Raised(number), state.disk, "errors"

    def _effect(
        self, state: State, index: int, operation: fs.Operation | Write, number: int
    ) -> tuple[Any, int]:
        """The true reply to the worker's operation, and the disk after it."""
        if isinstance(operation, fs.Judge):
            self._model.thaw(self._disks[state.disk])
            self._model.dead = self._dead(state)
            return self._model.perform(operation), state.disk
        key = (state.disk, index if self.clocks or self.knobs.caches else 0, number)
        if key not in self._effects:
            self._model.thaw(self._disks[state.disk])
            try:
                reply: Any = self._model.perform(operation, client=index)
            except OSError as error:
                reply = _Raised(error.errno or 0)
            self._effects[key] = (reply, self._disk())
        return self._effects[key]

    def _stale(self, state: State, index: int, operation: fs.Exists | fs.Read, refreshed: bool) -> Any:
        if not self.knobs.caches:
            finals = {log.final for log in self.logs}
            is_first_look = isinstance(operation, fs.Exists) and operation.path in finals and not refreshed
            return False if is_first_look else None
        self._model.thaw(self._disks[state.disk])
        stale = self._model.stale(operation, index)
        return _Raised(stale.errno or 0) if isinstance(stale, OSError) else stale

    def _may_be_suspected(self, state: State, asker: int, claimant: Claimant) -> bool:
        """Others may be; ``gc`` takes nobody for dead but those who are, or who were taken over for being silent."""
        if claimant.pid == asker + 1:
            return False
        if asker < self.workers:
            return True
        frozen = self._disks[state.disk]
        held = [decode(frozen.content(path) or b"") for path in self._heads(frozen)]
        return Claim(claimant) not in held

    def _heads(self, frozen: Frozen) -> Iterator[str]:
        """The last slot of each log."""
        taken = {name for name, _ in frozen.names}
        for log in self.logs:
            number = 0
            while log.slot(number) in taken:
                number += 1
            if number:
                yield log.slot(number - 1)

    def _dead(self, state: State) -> frozenset[str]:
        """Who surely is: who crashed, unless that was on another machine, and who people were before."""
        return frozenset(
            me.token
            for (index, life), me in self._us.items()
            if life < state.workers[index].life
            or (not self.clocks and life == state.workers[index].life and state.workers[index].state in _GONE)
        )

    def _ended(self, state: State, index: int, ending: Ending | Busy) -> State:
        before = state.workers[index]
        worker = before._replace(node=0, state="running", skipped=0)
        output, disk, kept = worker.todo[0], state.disk, state.kept
        memo = tuple(each for each in worker.memo if each[0] != output)
        frozen = self._disks[disk]
        if isinstance(ending, Busy) and ending.claimant is None and not self.clocks:
            ending = "left"  # a torn slot, which only a lease ends
        if isinstance(ending, Busy) or ending == "busy":
            if isinstance(ending, Busy) and ending.memo is not None and self.clocks:
                memo = (*memo, (output, ending.memo))
            worker = worker._replace(todo=(*worker.todo[1:], output), memo=memo, skipped=before.skipped + 1)
            if worker.skipped >= len(worker.todo):
                is_stuck = before.state == "looking" and not self.clocks
                worker = worker._replace(state="stuck" if is_stuck else "waiting", skipped=0)
        elif ending == "rotate":
            self._model.thaw(frozen)
            worker, disk = self._reborn(index, worker), self._disk()
        elif ending != "again":
            if ending != "left":
                there = frozen.content(self.logs[output].final) is not None
                assert there or state.removed[output], f"{index} is done, and there is no output"
            if ending == "published" and getattr(self.program, "durable", False):
                kept = (*kept[:output], True, *kept[output + 1 :])
            worker = worker._replace(todo=worker.todo[1:], memo=memo)
            if not worker.todo:
                worker = worker._replace(state="left" if ending == "left" else "done")
        return self._moved(state, index, worker, disk, state.faults)._replace(kept=kept)

    def _wake(self, state: State) -> list[Successor]:
        """Who waits looks once more; what it remembers of names is too old by then."""
        waiting = [index for index, each in enumerate(state.workers) if each.state == "waiting"]
        if not waiting:
            return []
        self._model.thaw(self._disks[state.disk])
        self._model.forget(waiting)
        workers = tuple(
            each._replace(state="looking") if each.state == "waiting" else each for each in state.workers
        )
        return [(Step("who waits looks again", "waits"), state._replace(disk=self._disk(), workers=workers))]

    def _tick(self, state: State, faults: Faults) -> list[Successor]:
        """A second passes: who is not stopped beats, unless that fails."""
        beating = [
            index
            for index, worker in enumerate(state.workers)
            if worker.beats and worker.state not in _GONE and worker.state != "stopped"
        ]
        found = []
        for missed in (None, *(beating if faults.missed_beats else ())):
            self._model.thaw(self._disks[state.disk])
            self._model.time += 1
            workers = list(state.workers)
            for index, worker in enumerate(state.workers):
                is_silent = worker.state == "stopped" or index == missed
                beats = worker.beats
                if index == missed:
                    beats = guard_process.may_pass(OSError(errno.EIO, os.strerror(errno.EIO)))
                elif index in beating:
                    beats = self._beat(index, worker)
                silent = worker.silent + 1 if is_silent else 0
                workers[index] = worker._replace(
                    state="running" if worker.state in _IDLE else worker.state,
                    beats=beats,
                    silent=silent,
                    longest=max(silent, worker.longest),
                )
            left = faults if missed is None else faults.less("missed_beats")
            label = "a second passes" + ("" if missed is None else f", {missed} can't beat")
            after = state._replace(disk=self._disk(), workers=tuple(workers), faults=left)
            found.append((Step(label, "seconds" if missed is None else "missed_beats"), after))
        return found

    def _beat(self, index: int, worker: Worker) -> bool:
        me = self._me(index, worker.life)
        try:
            self._model.touch(record_file(self.logs[0].directory, me.token, "claim"), index)
        except OSError as error:
            return guard_process.may_pass(error)
        return True

    # -- what faults do ------------------------------------------------------------------------------------------

    def _faults(self, state: State) -> Iterator[Move]:
        faults = state.faults
        if faults.removals and any(worker.state == "done" for worker in state.workers[: self.workers]):
            for output in range(len(self.logs)):
                if self._disks[state.disk].content(self.logs[output].final) is not None:
                    yield functools.partial(self._remove, state, output)
        if self._disks[state.disk].rest:
            for number in range(len(self._disks[state.disk].rest[1])):
                yield functools.partial(self._land, state, number)
        if faults.powers and any(worker.state in ACTIVE for worker in state.workers):
            yield functools.partial(self._lose_power, state)
        if faults.ticks and any(worker.state in ACTIVE for worker in state.workers):
            yield functools.partial(self._tick, state, faults.less("ticks"))
        for index, worker in enumerate(state.workers):
            if faults.crashes and worker.state not in _GONE and worker.state != "done":
                yield functools.partial(self._crash, state, index)
            if faults.stops and worker.state in ACTIVE:
                yield functools.partial(self._stop, state, index)
            if worker.state == "stopped":
                yield functools.partial(self._go_on, state, index)

    def _crash(self, state: State, index: int) -> list[Successor]:
        life = state.workers[index].life
        workers = [
            other._replace(state="running") if other.state in _IDLE else other for other in state.workers
        ]
        workers[index] = Worker((), life=life, state="crashed")
        after = state._replace(workers=tuple(workers), faults=state.faults.less("crashes"))
        return [(Step(f"{index} crashes", "crashes"), after)]

    def _stop(self, state: State, index: int) -> list[Successor]:
        workers = list(state.workers)
        workers[index] = workers[index]._replace(state="stopped")
        return [
            (
                Step(f"{index} is stopped", "stops"),
                state._replace(workers=tuple(workers), faults=state.faults.less("stops")),
            )
        ]

    def _go_on(self, state: State, index: int) -> list[Successor]:
        workers = list(state.workers)
        workers[index] = workers[index]._replace(state="running")
        return [(Step(f"{index} goes on", "continued"), state._replace(workers=tuple(workers)))]

    def _remove(self, state: State, output: int) -> list[Successor]:
        self._model.thaw(self._disks[state.disk])
        self._model.perform(fs.Unlink(self.logs[output].final))
        workers = [each._replace(state="running") if each.state in _IDLE else each for each in state.workers]
        for index, worker in enumerate(state.workers[: self.workers]):
            if worker.state == "done":  # ``Claims`` becomes somebody else then
                workers[index] = self._reborn(index, worker)._replace(todo=(output,))
        removed = tuple(count + (at == output) for at, count in enumerate(state.removed))
        kept = tuple(value and at != output for at, value in enumerate(state.kept))
        name = os.path.basename(self.logs[output].final)
        after = State(self._disk(), tuple(workers), state.faults.less("removals"), state.commits, removed, kept)
        return [(Step(f"{name} is removed by its user", "removals"), after)]

    def _land(self, state: State, number: int) -> list[Successor]:
        self._model.thaw(self._disks[state.disk])
        label = f"{_told(self._model.pending[number])} happens now"
        self._model.land(number)
        return [(Step(label, "landed"), self._moved(state, None, None, self._disk(), state.faults))]

    def _lose_power(self, state: State) -> list[Successor]:
        self._model.thaw(self._disks[state.disk])
        found = []
        for what, frozen in list(self._model.lose_power()):
            for output, log in enumerate(self.logs):
                self._check_output(log, frozen)
                there = frozen.content(log.final) is not None
                assert there or not state.kept[output], (
                    f"{os.path.basename(log.final)} went with the power: {what}"
                )
            self._model.thaw(frozen)
            workers = tuple(
                self._reborn(index, worker)._replace(todo=tuple(range(len(self.logs))))
                if index < self.workers and worker.state != "crashed"
                else Worker((), life=worker.life, state="crashed")
                for index, worker in enumerate(state.workers)
            )
            removed = tuple(count + 1 for count in state.removed)
            after = state._replace(
                disk=self._disk(), workers=workers, faults=state.faults.less("powers"), removed=removed
            )
            found.append((Step(f"the power fails: {what}", "powers"), after))
        return found

    # -- what must hold ------------------------------------------------------------------------------------------

    def _moved(
        self, state: State, index: int | None, worker: Worker | None, disk: int, faults: Faults
    ) -> State:
        """The state in which ``index`` has become ``worker``; who waits looks again if something changed."""
        workers = list(state.workers)
        commits = state.commits
        if disk != state.disk:
            before, after = self._disks[state.disk], self._disks[disk]
            if before[:2] != after[:2]:
                workers = [
                    other._replace(state="running") if other.state in _IDLE else other for other in workers
                ]
                commits = self._committed(state, self._made(state.disk, disk))
                if self.clocks:
                    self._check_takeovers(state, before, after)
        if index is not None and worker is not None:
            workers[index] = worker
        return State(disk, tuple(workers), faults, commits, state.removed, state.kept)

    def _committed(self, state: State, made: tuple[tuple[_Made, ...], ...]) -> tuple[_Made | None, ...]:
        """The COMMIT of each output. What was delayed may make the same one twice: that says nothing new."""
        commits = list(state.commits)
        for output, those in enumerate(made):
            for each in those:
                is_first = commits[output] in (None, each) or state.removed[output]
                assert is_first, f"a second COMMIT was made of {self.logs[output].final}"
                commits[output] = each
        return tuple(commits)

    def _made(self, before: int, after: int) -> tuple[tuple[_Made, ...], ...]:
        """The COMMITs that were made of each output between these disks; checks the outputs."""
        key = (before, after)
        if key not in self._judged:
            old, new = self._disks[before], self._disks[after]
            for log in self.logs:
                was, now = old.content(log.final), new.content(log.final)
                if was != now:
                    assert now is not None, "the output vanished"
                    assert was is None, f"the output changed from {was!r} to {now!r}"
                    self._check_output(log, new)
            slots = self._new_slots(old, new)
            self._judged[key] = tuple(
                tuple(
                    (name.number, record.token)
                    for name, record in slots
                    if name.prefix == log.stem and isinstance(record, Commit)
                )
                for log in self.logs
            )
        return self._judged[key]

    def _new_slots(self, old: Frozen, new: Frozen) -> list[tuple[SlotName, Any]]:
        taken = {name for name, _ in old.names}
        found = []
        for path, number in new.names:
            if path not in taken and isinstance(name := parse(os.path.basename(path)), SlotName):
                found.append((name, decode(new.files[number])))
        return found

    def _check_output(self, log: Log, frozen: Frozen) -> None:
        """If it is there, it is whole, and all its files are of one call."""
        found = frozen.content(log.final)
        if found is not None:
            whole = found.startswith(WHOLE + os.path.basename(log.final).encode() + b" ")
            assert whole, f"{log.final} is not whole, or another's: {found!r}"
            for part in log.parts:
                other = frozen.content(part)
                assert other == found, f"{part} is not of the same output: {other!r}"

    def _check_takeovers(self, state: State, old: Frozen, new: Frozen) -> None:
        """Who is taken over has been silent for a lease, or lives no more; where nobody frees slots.

        Who has read the slot of a dead owner, which is removed then, by ``gc`` or with an output that was deleted,
        may claim the slot above that of a later owner, and withdraws when it looks below. It costs that owner its
        work.
        """
        if self.others or any(state.removed):
            return
        for name, record in self._new_slots(old, new):
            if not isinstance(record, Claim) or not name.number:
                continue
            below = os.path.join(self.logs[0].directory, f"{name.prefix}-{name.number - 1}")
            loser = decode(new.content(below) or b"")
            for index, worker in enumerate(state.workers):
                if isinstance(loser, Claim) and loser.claimant == self._me(index, worker.life):
                    word = record_file(self.logs[0].directory, loser.token, "claim")
                    has_left = new.content(word) is None  # as it says itself
                    is_late = has_left or worker.state in _GONE or worker.longest >= LEASE
                    assert is_late or loser.token == record.token, f"{index} was taken over while it beat"

    # -- lives, states and their numbers -------------------------------------------------------------------------

    def _me(self, index: int, life: int) -> Claimant:
        if (index, life) not in self._us:
            assert life < LIVES, f"{index} begins anew again and again"
            token = f"{index * LIVES + life + 1:0{TOKEN_LENGTH}x}"
            machine = index if self.clocks else 0
            self._us[index, life] = Claimant(
                token, f"host {machine}", f"boot {machine}", 1, index + 1, 1, float(LEASE)
            )
        return self._us[index, life]

    def _be_born(self, index: int, life: int) -> None:
        """Its records are written; ``Claims`` does so before it asks for anything."""
        me = self._me(index, life)
        for directory in dict.fromkeys(log.directory for log in self.logs):
            for kind, record in (("claim", Claim(me)), ("commit", Commit(me))):
                path = record_file(directory, me.token, "claim" if kind == "claim" else "commit")
                self._model.perform(fs.WriteNew(path, encode(record)))

    def _reborn(self, index: int, worker: Worker) -> Worker:
        self._be_born(index, worker.life + 1)
        return Worker(worker.todo, life=worker.life + 1, skipped=worker.skipped)

    def _is_private(self, index: int, worker: Worker) -> bool:
        match self._todo(index, worker).operation:
            case None | Write() | fs.RefreshDirectory() | fs.SyncDirectory() | fs.Sync():
                return True
            case fs.WriteNew(path) | fs.Remove(path) if not self.others:  # gc looks at these
                return isinstance(parse(os.path.basename(path)), RecordName)
        return False

    def _disk(self) -> int:
        """The number of the model's present state."""
        frozen = self._model.freeze()
        if frozen not in self._disk_numbers:
            self._disk_numbers[frozen] = len(self._disks)
            self._disks.append(frozen)
        return self._disk_numbers[frozen]

    def _node(self, node: int, reply: Any) -> int:
        """The number of ``node``'s replies and one more."""
        key = (node, reply)
        if key not in self._node_numbers:
            self._node_numbers[key] = len(self._nodes)
            self._nodes.append((*self._nodes[node], reply))
        return self._node_numbers[key]

    def _todo(self, index: int, worker: Worker) -> _Next:
        output = worker.todo[0]
        watch = dict(worker.memo).get(output)
        key = (index, worker.life, worker.node, output, watch)
        if key not in self._next:
            program = self.program if index < self.workers else self.others[index - self.workers]
            steps = program(self.logs[output], self._me(index, worker.life), watch)
            self._next[key] = self._replayed(steps, self._nodes[worker.node])
        return self._next[key]

    def _looked(self, steps: Round, operation: fs.Operation | Write) -> fs.Operation | Write:
        """What comes after a look that tells the same in every state: at clocks, where there are none."""
        while not self.clocks:
            if isinstance(operation, fs.Now):
                operation = steps.send(Moment("model", 0.0))
            elif isinstance(operation, fs.Pulse) and not self.others:  # nobody removes records
                operation = steps.send(Stamp(0, 0, 0))
            else:
                break
        return operation

    def _replayed(self, steps: Round, replies: tuple[Any, ...]) -> _Next:
        refreshed = False
        try:
            operation = self._looked(steps, next(steps))
            for reply in replies:
                refreshed = refreshed or isinstance(operation, fs.RefreshDirectory)
                if isinstance(reply, _Raised):
                    operation = steps.throw(OSError(reply.number, os.strerror(reply.number)))
                else:
                    operation = steps.send(reply)
                operation = self._looked(steps, operation)
        except StopIteration as end:
            return _Next(None, end.value)
        number = self._operations.setdefault(operation, len(self._operations))
        return _Next(operation, None, refreshed, number)


def _told(operation: fs.Operation | Write) -> str:
    values = [getattr(operation, name) for name in operation.__match_args__]
    names = (os.path.basename(value) for value in values if isinstance(value, str))
    return " ".join([type(operation).__name__, *names])

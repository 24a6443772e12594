"""Every interleaving of a few workers on one output, checked at every step.

A state is the model filesystem, how far each worker is (the replies that it got so far: its steps are
deterministic), and how many faults may still happen. The search visits each reachable state once, breadth
first, so the trace of a ``Violation`` is a shortest one.

Faults, each at any step as often as ``Faults`` says: a worker crashes; a live worker is taken for dead (as a
stopped one is when its lease ends) and goes on later; the reply to a creation or move is lost; a first look
does not see an output that is there; a user removes the finished output, and workers that were done begin anew.

Checked: at most one COMMIT is ever made; the output appears whole, once, and never changes; a worker that is
done has an output; no live worker waits for ever. After a removal the COMMITs are not counted, nor is it asked
whether the output is still there: who looked at the log before may claim in the next one.
"""

from __future__ import annotations

import errno
import itertools
import os
from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

from manyhands.claims import filesystem as fs
from manyhands.claims import protocol
from manyhands.claims.decisions import Busy, FailedBefore, Finished, Mine, Published
from manyhands.claims.names import TOKEN_LENGTH, Log, SlotName, parse, record_file
from manyhands.claims.record import Claim, Claimant, Commit, Fail, decode, encode
from manyhands.errors import OutputMissing
from manyhands.settings import MAX_CRASHES
from manyhands.testing.model import Frozen, ModelFileSystem, Write

Ending = Literal["done", "again", "busy", "left"]
Round = Generator[fs.Operation | Write, Any, Ending]
"""One pass of a worker over the output: it is done, must ask again, has to wait for somebody, or gives up."""

Program = Callable[[Log, Claimant], Round]

LOG: Final = Log.of("/d/a.csv")
WHOLE: Final = b"whole, by "
HALF: Final = b"half"


@dataclass(frozen=True, slots=True)
class Faults:
    """How many of each may happen in one run."""

    crashes: int = 0
    suspicions: int = 0
    lost_replies: int = 0
    stale_looks: int = 0
    removals: int = 0


class Violation(AssertionError):
    """A promise was broken; ``trace`` says how, step by step."""

    def __init__(self, message: str, trace: list[str]) -> None:
        super().__init__("\n".join([message, *trace]))
        self.trace = trace


def compute(
    log: Log,
    me: Claimant,
    *,
    first: Literal["commit", "fail", "release"] = "commit",
    max_crashes: int = MAX_CRASHES,
) -> Round:
    """Claim, write in two pieces and commit; ``first`` says how the log's first claim ends."""
    decision = yield from protocol.acquire(log, me, protocol.Question(max_crashes=max_crashes))
    if isinstance(decision, Finished):
        return "done"
    if isinstance(decision, FailedBefore) and decision.record.crashes >= max_crashes:
        return "left"
    if isinstance(decision, Busy):
        return "busy"
    assert isinstance(decision, Mine), decision
    if first == "fail" and decision.attempt == 1:
        yield from protocol.fail(me, decision, Fail(me.token, "ValueError", attempt=1, backoff=0.0))
        return "again"
    if first == "release" and decision.slot < 2:
        yield from protocol.release(me, decision)
        return "again"
    for staging in decision.stagings:
        yield Write(staging, HALF)
        yield Write(staging, WHOLE + me.token.encode() + b" in %d" % decision.slot)
    try:
        answer = yield from protocol.commit(me, decision, durable=False)
    except OutputMissing:
        return "again"  # the staging was taken away, which only happens to the superseded
    return "done" if isinstance(answer, Published) else "again"


# -- states --------------------------------------------------------------------------------------------------


class _Worker(NamedTuple):
    """How far a worker is.

    Who waits is woken by any change; when nobody runs it looks once more, and is stuck if that does not help.
    ``node`` numbers what it was told since its round began, ``life`` how often it began anew as somebody else.
    """

    node: int = 0
    life: int = 0
    state: Literal["running", "waiting", "looking", "stuck", "done", "crashed"] = "running"


_ACTIVE: Final = {"running", "looking"}


class _State(NamedTuple):
    disk: int
    workers: tuple[_Worker, ...]
    faults: Faults
    commits: int = 0
    removed: int = 0


class _Step(NamedTuple):
    """One step, for the trace."""

    what: str
    operation: fs.Operation | Write | None = None
    reply: Any = None

    def __str__(self) -> str:
        if self.operation is None:
            return self.what
        return f"{self.what.format(_told(self.operation))} -> {self.reply!r:.60}"


@dataclass(frozen=True, slots=True)
class _Raised:
    number: int


@dataclass(frozen=True, slots=True)
class _Next:
    """What a worker does next: an operation, or how its round ended."""

    operation: fs.Operation | Write | None
    ending: Ending | None = None
    refreshed: bool = False


@dataclass
class Explorer:
    """``explore()`` visits all states and returns their number, or raises ``Violation``.

    Attributes:
        workers: how many, all alike.
        faults: how many of each may happen.
        links: whether there are hard links.
        log: of the output.
        program: what each worker runs.
        quick: let a worker go on without interruption while it does what concerns nobody else. Fewer states,
            for more workers; a crash between two such steps is left out.
        states_max: give up, by an AssertionError, beyond so many.
    """

    workers: int = 2
    faults: Faults = field(default_factory=Faults)
    links: bool = True
    log: Log = LOG
    program: Program = compute
    quick: bool = False
    states_max: int = 1_000_000

    def __post_init__(self) -> None:
        tokens = [
            [f"{index + 1 + 16 * life:0{TOKEN_LENGTH}x}" for life in range(self.faults.removals + 1)]
            for index in range(self.workers)
        ]
        self._us = [
            [Claimant(token, "host", "boot", 1, index + 1, 1) for token in lives]
            for index, lives in enumerate(tokens)
        ]
        self._model = ModelFileSystem(links=self.links)
        self._next: dict[tuple[int, int, int], _Next] = {}
        self._effects: dict[tuple[int, int, int, int], tuple[Any, int, int]] = {}
        self._nodes: list[tuple[Any, ...]] = [()]
        self._node_numbers: dict[tuple[int, Any], int] = {}
        self._disks: list[Frozen] = []
        self._disk_numbers: dict[Frozen, int] = {}

    def explore(self) -> int:
        """Visits every state that can be reached."""
        start = self._start()
        came: dict[_State, tuple[_State, _Step] | None] = {start: None}
        queue = deque([start])
        while queue:
            state = queue.popleft()
            try:
                self._check_rest(state)
                for label, successor in self._successors(state):
                    if successor not in came:
                        came[successor] = (state, label)
                        queue.append(successor)
            except AssertionError as error:
                raise Violation(str(error), _trace(came, state)) from None
            assert len(came) <= self.states_max, "more states than states_max"
        return len(came)

    def _start(self) -> _State:
        for me in itertools.chain(*self._us):
            for kind, record in (("claim", Claim(me)), ("commit", Commit(me))):
                path = record_file(self.log.directory, me.token, "claim" if kind == "claim" else "commit")
                self._model.perform(fs.WriteNew(path, encode(record)))
        return _State(self._disk(), (_Worker(),) * self.workers, self.faults)

    def _check_rest(self, state: _State) -> None:
        states = {worker.state for worker in state.workers}
        assert "stuck" not in states or states & _ACTIVE or "waiting" in states, f"stuck: {sorted(states)}"

    def _successors(self, state: _State) -> list[tuple[_Step, _State]]:
        found = []
        if not any(worker.state in _ACTIVE for worker in state.workers):
            woken = tuple(
                each._replace(state="looking") if each.state == "waiting" else each for each in state.workers
            )
            if woken != state.workers:
                found.append((_Step("who waits looks again"), state._replace(workers=woken)))
        if self.quick:
            for index, worker in enumerate(state.workers):
                if worker.state in _ACTIVE and self._is_private(index, worker):
                    return self._steps(state, index)
        found += self._removals(state)
        for index, worker in enumerate(state.workers):
            if worker.state in ("done", "crashed"):
                continue
            if state.faults.crashes:
                faults = replace(state.faults, crashes=state.faults.crashes - 1)
                crashed = self._moved(state, index, _Worker(state="crashed"), state.disk, faults, 0, woken=True)
                found.append((_Step(f"{index} crashes"), crashed))
            if worker.state in _ACTIVE:
                found += self._steps(state, index)
        return found

    def _is_private(self, index: int, worker: _Worker) -> bool:
        operation = self._todo(index, worker).operation
        return operation is None or isinstance(
            operation, Write | fs.RefreshDirectory | fs.SyncDirectory | fs.Sync
        )

    def _removals(self, state: _State) -> list[tuple[_Step, _State]]:
        if not state.faults.removals or not any(worker.state == "done" for worker in state.workers):
            return []
        self._model.thaw(self._disks[state.disk])
        if self._model.content(self.log.final) is None:
            return []
        self._model.perform(fs.Unlink(self.log.final))
        workers = tuple(_reborn(each) for each in state.workers)
        faults = replace(state.faults, removals=state.faults.removals - 1)
        after = _State(self._disk(), workers, faults, state.commits, state.removed + 1)
        return [(_Step("the output is removed"), after)]

    def _steps(self, state: _State, index: int) -> list[tuple[_Step, _State]]:
        worker = state.workers[index]
        todo = self._todo(index, worker)
        if todo.operation is None:
            label = _Step(f"{index} ends its round: {todo.ending}")
            return [(label, self._ended(state, index, todo.ending))]
        reply, disk, made = self._effect(state, index, todo)
        found = []
        for told, faults, note in self._replies(state.faults, index, todo, reply):
            after = worker._replace(node=self._node(worker.node, told))
            moved = self._moved(state, index, after, disk, faults, made, woken=disk != state.disk)
            found.append((_Step(f"{index} {{}}{note}", todo.operation, told), moved))
        return found

    def _replies(self, faults: Faults, index: int, todo: _Next, reply: Any) -> list[tuple[Any, Faults, str]]:
        """What the worker may be told of an operation that came to ``reply``."""
        told = [(reply, faults, "")]
        match todo.operation:
            case fs.Judge(claimant) if reply == "unknown" and faults.suspicions and claimant.pid != index + 1:
                told.append(("dead", replace(faults, suspicions=faults.suspicions - 1), " (wrongly)"))
            case fs.Exists(self.log.final) if reply is True and faults.stale_looks and not todo.refreshed:
                told.append((False, replace(faults, stale_looks=faults.stale_looks - 1), " (stale)"))
            case fs.Link() | fs.Rename() | fs.RenameNew() if faults.lost_replies and reply is None:
                lost = replace(faults, lost_replies=faults.lost_replies - 1)
                told.append((_Raised(errno.EIO), lost, " (reply lost)"))
        return told

    def _effect(self, state: _State, index: int, todo: _Next) -> tuple[Any, int, int]:
        """The true reply to the worker's operation, the disk after it, and how many COMMITs it made."""
        worker, operation = state.workers[index], todo.operation
        assert operation is not None
        if isinstance(operation, fs.Judge):
            self._model.dead = self._dead(state, index)
            return self._model.perform(operation), state.disk, 0
        key = (state.disk, index, worker.life, worker.node)
        if key not in self._effects:
            self._model.thaw(self._disks[state.disk])
            try:
                reply: Any = self._model.perform(operation)
            except OSError as error:
                reply = _Raised(error.errno or 0)
            disk = self._disk()
            if disk != state.disk:
                self._check_output(state)
            self._effects[key] = (reply, disk, self._made(state, operation))
        return self._effects[key]

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

    def _dead(self, state: _State, asker: int) -> frozenset[str]:
        """Who crashed, and who people were before; and oneself: a claim that one finds is not held any more."""
        dead = []
        for index, worker in enumerate(state.workers):
            for life, me in enumerate(self._us[index]):
                if worker.state == "crashed" or index == asker or life < worker.life:
                    dead.append(me.token)
        return frozenset(dead)

    def _check_output(self, state: _State) -> None:
        names, files = self._disks[state.disk]
        before = next((files[number] for name, number in names if name == str(self.log.final)), None)
        after = self._model.content(self.log.final)
        if after != before:
            assert after is not None, "the output vanished"
            assert after.startswith(WHOLE), f"the output is not whole: {after!r}"
            assert before is None, f"the output changed from {before!r} to {after!r}"
        for part in self.log.parts if after is not None else ():
            found = self._model.content(part)
            assert found == after, f"{part.name} is not of the same output: {found!r}"

    def _made(self, state: _State, operation: fs.Operation | Write) -> int:
        """How many COMMITs the operation made, which the model has performed."""
        if not isinstance(operation, fs.Link | fs.RenameNew | fs.WriteNew):
            return 0
        target = operation.path if isinstance(operation, fs.WriteNew) else operation.target
        if not isinstance(parse(target.name), SlotName) or any(
            name == str(target) for name, _ in self._disks[state.disk][0]
        ):
            return 0
        return int(isinstance(decode(self._model.content(target) or b""), Commit))

    def _ended(self, state: _State, index: int, ending: Ending | None) -> _State:
        before = state.workers[index]
        worker = before._replace(node=0, state="running")
        if ending == "done":
            self._model.thaw(self._disks[state.disk])
            whole = self._model.content(self.log.final) is not None
            assert whole or state.removed, f"{index} is done, and there is no output"
            worker = worker._replace(state="done")
        elif ending == "left":
            worker = worker._replace(state="crashed")
        elif ending == "busy":
            worker = worker._replace(state="stuck" if before.state == "looking" else "waiting")
        return self._moved(state, index, worker, state.disk, state.faults, 0, woken=False)

    def _moved(
        self,
        state: _State,
        index: int,
        worker: _Worker,
        disk: int,
        faults: Faults,
        made: int,
        *,
        woken: bool,
    ) -> _State:
        """The state in which ``index`` has become ``worker``; who waits looks again if something changed."""
        idle = ("waiting", "looking", "stuck")  # who looks may have read what has changed since
        others = [
            other._replace(state="running") if woken and other.state in idle else other
            for other in state.workers
        ]
        others[index] = worker
        assert state.commits + made <= 1 or state.removed, "a second COMMIT was made"
        return _State(disk, tuple(others), faults, state.commits + made, state.removed)

    def _todo(self, index: int, worker: _Worker) -> _Next:
        key = (index, worker.life, worker.node)
        if key not in self._next:
            self._next[key] = self._replayed(
                self.program(self.log, self._us[index][worker.life]), self._nodes[worker.node]
            )
        return self._next[key]

    def _looked(self, steps: Round, operation: fs.Operation | Write) -> fs.Operation | Write:
        """What comes after a look at clocks and at the signs of life, which tell the same in every state."""
        while isinstance(operation, fs.Pulse | fs.Now):
            operation = steps.send(self._model.perform(operation))
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
        return _Next(operation, refreshed=refreshed)


def _reborn(worker: _Worker) -> _Worker:
    """After a removal who was done begins anew, with another token: ``Claims`` rotates then."""
    match worker.state:
        case "done":
            return _Worker(life=worker.life + 1)
        case "waiting" | "stuck" | "looking":
            return worker._replace(state="running")
    return worker


def _told(operation: fs.Operation | Write) -> str:
    values = [getattr(operation, name) for name in operation.__slots__]
    return " ".join([type(operation).__name__, *(value.name for value in values if isinstance(value, Path))])


def _trace(came: dict[_State, tuple[_State, _Step] | None], state: _State) -> list[str]:
    labels: list[str] = []
    step = came[state]
    while step is not None:
        labels.append(str(step[1]))
        step = came[step[0]]
    return labels[::-1]

"""Every interleaving of a few workers on one output, checked at every step.

A state is the model filesystem, how far each worker is (the replies that it got so far: its steps are
deterministic), and how many faults may still happen. The search visits each reachable state once, breadth first,
so the trace of a ``Violation`` is a shortest one.

Faults, each at any step as often as ``Faults`` says: a worker crashes; a live worker is taken for dead (as a
stopped one is when its lease ends) and goes on later; the reply to a creation or move is lost; a first look does
not see an output that is there.

Checked: at most one COMMIT is ever made; the output appears whole, once, and never changes; a worker that is done
has an output; no live worker waits for ever.
"""

from __future__ import annotations

import errno
import os
from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Literal

from manyhands.claims import filesystem as fs
from manyhands.claims import protocol
from manyhands.claims.decisions import Busy, Finished, Mine, Published
from manyhands.claims.names import TOKEN_LENGTH, Log, SlotName, parse, record_file
from manyhands.claims.record import Claim, Claimant, Commit, Fail, decode, encode
from manyhands.testing.model import Frozen, ModelFileSystem, Write

Ending = Literal["done", "again", "busy"]
Round = Generator[fs.Operation | Write, Any, Ending]
"""One pass of a worker over the output: it is done, must ask again, or has to wait for somebody."""

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


def compute(log: Log, me: Claimant, *, first: Literal["commit", "fail", "release"] = "commit") -> Round:
    """Claim, write in two pieces and commit; ``first`` says how the log's first claim ends."""
    decision = yield from protocol.acquire(log, me)
    if isinstance(decision, Finished):
        return "done"
    if isinstance(decision, Busy):
        return "busy"
    assert isinstance(decision, Mine), decision
    if first == "fail" and decision.attempt == 1:
        yield from protocol.fail(me, decision, Fail(me.token, "ValueError", attempt=1, backoff=0.0))
        return "again"
    if first == "release" and decision.slot < 2:
        yield from protocol.release(me, decision)
        return "again"
    yield Write(decision.staging, HALF)
    yield Write(decision.staging, WHOLE + me.token.encode() + b" in %d" % decision.slot)
    try:
        answer = yield from protocol.commit(me, decision, durable=False)
    except protocol.OutputMissing:
        return "again"  # the staging was taken away, which only happens to the superseded
    return "done" if isinstance(answer, Published) else "again"


# -- states --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Worker:
    """Who waits is woken by any change; when nobody runs it looks once more, and is stuck if it must still wait."""

    replies: tuple[Any, ...] = ()
    state: Literal["running", "waiting", "looking", "stuck", "done", "crashed"] = "running"


_ACTIVE: Final = {"running", "looking"}


@dataclass(frozen=True, slots=True)
class _State:
    disk: Frozen
    workers: tuple[_Worker, ...]
    faults: Faults
    commits: int = 0
    removed: int = 0


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
        program: what each worker runs.
        quick: let a worker go on without interruption while it does what concerns nobody else. Fewer states,
            for more workers; a crash between two such steps is left out.
        states_max: give up, by an AssertionError, beyond so many.
    """

    workers: int = 2
    faults: Faults = field(default_factory=Faults)
    links: bool = True
    program: Program = compute
    quick: bool = False
    states_max: int = 1_000_000

    def __post_init__(self) -> None:
        tokens = [f"{index + 1:0{TOKEN_LENGTH}x}" for index in range(self.workers)]
        self._us = [Claimant(token, "host", "boot", 1, index + 1, 1) for index, token in enumerate(tokens)]
        self._model = ModelFileSystem(links=self.links)
        self._next: dict[tuple[int, tuple[Any, ...]], _Next] = {}

    def explore(self) -> int:
        """Visits every state that can be reached."""
        start = self._start()
        came: dict[_State, tuple[_State, str] | None] = {start: None}
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
        for me in self._us:
            for kind, record in (("claim", Claim(me)), ("commit", Commit(me))):
                path = record_file(LOG.directory, me.token, "claim" if kind == "claim" else "commit")
                self._model.perform(fs.WriteNew(path, encode(record)))
        return _State(self._model.freeze(), (_Worker(),) * self.workers, self.faults)

    def _check_rest(self, state: _State) -> None:
        states = {worker.state for worker in state.workers}
        assert "stuck" not in states or states & _ACTIVE or "waiting" in states, f"stuck: {sorted(states)}"

    def _successors(self, state: _State) -> list[tuple[str, _State]]:
        found = []
        if not any(worker.state in _ACTIVE for worker in state.workers):
            woken = tuple(_Worker((), "looking") if each.state == "waiting" else each for each in state.workers)
            if woken != state.workers:
                found.append(("who waits looks again", replace(state, workers=woken)))
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
                crashed = self._moved(state, index, _Worker((), "crashed"), state.disk, faults, 0, woken=True)
                found.append((f"{index} crashes", crashed))
            if worker.state in _ACTIVE:
                found += self._steps(state, index)
        return found

    def _is_private(self, index: int, worker: _Worker) -> bool:
        operation = self._todo(index, worker.replies).operation
        return operation is None or isinstance(operation, Write | fs.RefreshDirectory | fs.SyncDirectory | fs.Sync)

    def _removals(self, state: _State) -> list[tuple[str, _State]]:
        if not state.faults.removals or not any(worker.state == "done" for worker in state.workers):
            return []
        self._model.thaw(state.disk)
        if LOG.final not in self._model.names:
            return []
        self._model.perform(fs.Unlink(LOG.final))
        workers = tuple(each if each.state in (*_ACTIVE, "crashed") else _Worker() for each in state.workers)
        faults = replace(state.faults, removals=state.faults.removals - 1)
        after = _State(self._model.freeze(), workers, faults, state.commits, state.removed + 1)
        return [("the output is removed", after)]

    def _steps(self, state: _State, index: int) -> list[tuple[str, _State]]:
        worker = state.workers[index]
        todo = self._todo(index, worker.replies)
        if todo.operation is None:
            return [(f"{index} ends its round: {todo.ending}", self._ended(state, index, todo.ending))]
        found = []
        for reply, faults, note in self._replies(state, index, todo):
            disk, made = self._model.freeze(), self._made(state, todo.operation)
            woken = disk != state.disk
            moved = self._moved(
                state, index, _Worker((*worker.replies, reply), worker.state), disk, faults, made, woken=woken
            )
            found.append((f"{index} {_told(todo.operation)} -> {reply!r:.60}{note}", moved))
        return found

    def _replies(self, state: _State, index: int, todo: _Next) -> Any:
        """The possible replies to the operation, each with the model in the state that it leaves."""
        operation, model, faults = todo.operation, self._model, state.faults
        assert operation is not None
        model.thaw(state.disk)
        model.dead = frozenset(
            me.token
            for each, (me, worker) in enumerate(zip(self._us, state.workers, strict=True))
            if worker.state == "crashed" or each == index  # a claim of one's own that one no longer holds
        )
        try:
            reply: Any = model.perform(operation)
        except OSError as error:
            yield _Raised(error.errno or 0), faults, ""
            return
        self._check_output(state)
        yield reply, faults, ""
        if isinstance(operation, fs.IsDead) and reply == "alive" and faults.suspicions:
            if operation.claimant != self._us[index]:
                yield "dead", replace(faults, suspicions=faults.suspicions - 1), " (wrongly)"
        if isinstance(operation, fs.Exists) and operation.path == LOG.final and reply:
            if faults.stale_looks and not todo.refreshed:
                yield False, replace(faults, stale_looks=faults.stale_looks - 1), " (stale)"
        if isinstance(operation, fs.Link | fs.Rename | fs.RenameNew) and faults.lost_replies:
            yield _Raised(errno.EIO), replace(faults, lost_replies=faults.lost_replies - 1), " (reply lost)"

    def _check_output(self, state: _State) -> None:
        names, files = state.disk
        before = next((files[number] for path, number in names if path == LOG.final), None)
        after = self._model.content(LOG.final)
        if after != before:
            assert after is not None, "the output vanished"
            assert after.startswith(WHOLE), f"the output is not whole: {after!r}"
            assert before is None, f"the output changed from {before!r} to {after!r}"

    def _made(self, state: _State, operation: fs.Operation | Write) -> int:
        """How many COMMITs the operation made, which the model has performed."""
        if not isinstance(operation, fs.Link | fs.RenameNew | fs.WriteNew):
            return 0
        target = operation.path if isinstance(operation, fs.WriteNew) else operation.target
        if not isinstance(parse(target.name), SlotName) or any(path == target for path, _ in state.disk[0]):
            return 0
        return int(isinstance(decode(self._model.content(target) or b""), Commit))

    def _ended(self, state: _State, index: int, ending: Ending | None) -> _State:
        if ending == "done":
            self._model.thaw(state.disk)
            whole = self._model.content(LOG.final) is not None
            assert whole or state.removed, f"{index} is done, and there is no output"
            worker = _Worker((), "done")
        elif ending == "busy":
            worker = _Worker((), "stuck" if state.workers[index].state == "looking" else "waiting")
        else:
            worker = _Worker()
        return self._moved(state, index, worker, state.disk, state.faults, 0, woken=False)

    def _moved(
        self, state: _State, index: int, worker: _Worker, disk: Frozen, faults: Faults, made: int, *, woken: bool
    ) -> _State:
        """The state in which ``index`` has become ``worker``; those who wait look again if something changed."""
        idle = ("waiting", "stuck")
        others = [_Worker() if woken and other.state in idle else other for other in state.workers]
        others[index] = worker
        assert state.commits + made <= 1 + state.removed, "a second COMMIT was made"
        return _State(disk, tuple(others), faults, state.commits + made, state.removed)

    def _todo(self, index: int, replies: tuple[Any, ...]) -> _Next:
        key = (index, replies)
        if key not in self._next:
            self._next[key] = self._replayed(self.program(LOG, self._us[index]), replies)
        return self._next[key]

    def _replayed(self, steps: Round, replies: tuple[Any, ...]) -> _Next:
        refreshed = False
        try:
            operation = next(steps)
            for reply in replies:
                refreshed = refreshed or isinstance(operation, fs.RefreshDirectory)
                if isinstance(reply, _Raised):
                    operation = steps.throw(OSError(reply.number, os.strerror(reply.number)))
                else:
                    operation = steps.send(reply)
        except StopIteration as end:
            return _Next(None, end.value)
        return _Next(operation, refreshed=refreshed)


def _told(operation: fs.Operation | Write) -> str:
    values = [getattr(operation, name) for name in operation.__slots__]
    return " ".join([type(operation).__name__, *(value.name for value in values if isinstance(value, Path))])


def _trace(came: dict[_State, tuple[_State, str] | None], state: _State) -> list[str]:
    labels: list[str] = []
    step = came[state]
    while step is not None:
        labels.append(step[1])
        step = came[step[0]]
    return labels[::-1]

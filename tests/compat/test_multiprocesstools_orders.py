"""Temp files of multiprocesstools in every order of steps, and that the search finds weakened variants."""

from __future__ import annotations

import errno
import os
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest

from manyhands.claims import filesystem as fs
from manyhands.claims import protocol
from manyhands.claims.record import Claim, Claimant, decode, encode
from manyhands.compat import multiprocesstools_files as files
from manyhands.testing.model import Frozen, Knobs, ModelFileSystem, Write

TEMP, FINAL = "/d/a.tmp", "/d/a.csv"


class Inside:
    """An operation that does nothing: who is about to perform it has the temp file."""


Program = Callable[[Claimant], Iterator[Any]]


def work(me: Claimant) -> Any:
    """What a script does with one file; the final file says who made it."""
    answer = yield from files.making(TEMP, FINAL, me)
    if answer == "made":
        yield Inside()
        yield Write(FINAL, me.token.encode())
        yield from files.withdrawing(TEMP, me)
    return answer


def fail(me: Claimant) -> Any:
    """A script whose analysis fails: the final file is not made."""
    answer = yield from files.making(TEMP, FINAL, me)
    if answer == "made":
        yield Inside()
        yield from files.withdrawing(TEMP, me)
    return "failed" if answer == "made" else answer


def hold(me: Claimant) -> Any:
    """What an instance does for its number: it keeps the file."""
    answer = yield from files.making(TEMP, None, me)
    if answer == "made":
        yield Inside()
    return "holds" if answer == "made" else answer


def clear(me: Claimant) -> Any:
    """Somebody who removes what was left."""
    return f"cleared: {(yield from files.clearing(TEMP, me))}"


class Worker(NamedTuple):
    """How far one is: the replies that it got; ``ended`` is what it returned, or "crashed"."""

    replies: tuple[Any, ...] = ()
    ended: str = ""


class State(NamedTuple):
    """All that matters for what comes."""

    disk: Frozen
    workers: tuple[Worker, ...]
    crashes: int
    lost: int


class Raised(NamedTuple):
    """The reply of an operation that failed."""

    number: int


@dataclass
class Search:
    """Visits all states of these programs; the temp file, and perhaps its lock, are those of a dead process.

    ``crashes`` and ``lost`` are how many may crash, and how many replies to links and renames may get lost.
    """

    programs: tuple[Program, ...] = (work, work)
    crashes: int = 0
    lost: int = 0
    stale: tuple[str, ...] = (TEMP,)
    links: bool = True

    def __post_init__(self) -> None:
        self.us = [Claimant(f"{n:024x}", "host", "boot", 1, n, 1) for n in range(1, len(self.programs) + 2)]
        self.model = ModelFileSystem(Knobs(links=self.links))
        self.steps: dict[tuple[int, tuple[Any, ...]], Any] = {}

    def run(self) -> int:
        """The number of states; raises AssertionError if a promise is broken in one."""
        dead = Claimant("f" * 24, "host", "boot", 1, 99, 1)
        for path in self.stale:
            self.model.perform(fs.WriteNew(path, encode(Claim(dead))))
        start = State(self.model.freeze(), (Worker(),) * len(self.programs), self.crashes, self.lost)
        seen, queue = {start}, deque([start])
        while queue:
            for state in self.after(queue.popleft()):
                if state not in seen:
                    seen.add(state)
                    queue.append(state)
        return len(seen)

    def after(self, state: State) -> Iterator[State]:
        """The states one step on."""
        todo = [self.todo(index, worker) for index, worker in enumerate(state.workers)]
        self.check(state, todo)
        for index, worker in enumerate(state.workers):
            if worker.ended:
                continue
            if isinstance(todo[index], str):
                yield self.moved(state, index, worker._replace(ended=todo[index], replies=()))
                continue
            if state.crashes:
                crashed = self.moved(state, index, Worker(ended="crashed"))
                yield crashed._replace(crashes=state.crashes - 1)
            self.model.thaw(state.disk)
            reply = self.perform(todo[index], state)
            disk = self.model.freeze()
            done = self.moved(state, index, Worker((*worker.replies, reply)))._replace(disk=disk)
            yield done
            if state.lost and reply is None and isinstance(todo[index], fs.Link | fs.Rename | fs.RenameNew):
                lost = self.moved(state, index, Worker((*worker.replies, Raised(errno.EIO))))
                yield lost._replace(disk=disk, lost=state.lost - 1)

    def moved(self, state: State, index: int, worker: Worker) -> State:
        """The state with one worker changed."""
        return state._replace(workers=(*state.workers[:index], worker, *state.workers[index + 1 :]))

    def perform(self, operation: Any, state: State) -> Any:
        """The reply of the model."""
        if isinstance(operation, Inside):
            return None
        crashed = (me.token for me, w in zip(self.us, state.workers, strict=False) if w.ended == "crashed")
        self.model.dead = frozenset(["f" * 24, *crashed])
        try:
            return self.model.perform(operation)
        except OSError as error:
            return Raised(error.errno or 0)

    def todo(self, index: int, worker: Worker) -> Any:
        """The next operation, or what the worker returns."""
        if worker.ended:
            return worker.ended
        key = (index, worker.replies)
        if key not in self.steps:
            self.steps[key] = self.replayed(index, worker)
        return self.steps[key]

    def replayed(self, index: int, worker: Worker) -> Any:
        """As ``todo``, from the beginning."""
        steps = (*self.programs, work)[index](self.us[index])
        try:
            operation = next(steps)
            for reply in worker.replies:
                if isinstance(reply, Raised):
                    operation = steps.throw(OSError(reply.number, os.strerror(reply.number)))
                else:
                    operation = steps.send(reply)
        except StopIteration as end:
            return end.value
        return operation

    def check(self, state: State, todo: list[Any]) -> None:
        """One is inside at most, with the temp file its own and nothing finished; in the end nothing blocks."""
        self.model.thaw(state.disk)
        inside = [index for index, next_step in enumerate(todo) if isinstance(next_step, Inside)]
        assert len(inside) <= 1, "two have the temp file"
        for index in inside:
            found = decode(self.model.content(TEMP) or b"")
            assert found == Claim(self.us[index]), "the temp file is not that of who has it"
            assert self.model.content(FINAL) is None, "what is finished is done again"
        if all(worker.ended for worker in state.workers):
            self.check_end(state)

    def check_end(self, state: State) -> None:
        """Whether all has come to what it should, and somebody who comes late gets what is left."""
        ended = [worker.ended for worker in state.workers]
        finished = self.model.content(FINAL) is not None
        if "crashed" not in ended:
            won = ended.count("made") + ended.count("holds")
            assert won <= 1
            if set(self.programs) in ({work}, {hold}):
                assert won == 1, "nobody has got it"
            if {"made", "failed"} & set(ended):
                assert set(self.model.names) <= {str(FINAL)}, f"left behind: {set(self.model.names)}"
        late = Worker()
        while not isinstance(step := self.todo(len(self.programs), late), str):
            late = Worker((*late.replies, self.perform(step, state)))
        right = {"finished", "doubtful"} if finished else {"held"} if "holds" in ended else {"made"}
        assert step in right, f"who comes late is told: {step}"


LOCK = files.lock_of(TEMP)

SEARCHES = {
    "two": Search(),
    "nothing there": Search(stale=(), crashes=2, lost=1),
    "crashes and lost replies": Search(crashes=2, lost=1),
    "stale lock": Search(crashes=1, lost=1, stale=(TEMP, LOCK)),
    "stale lock of a stale lock": Search(crashes=1, stale=(TEMP, LOCK, files.lock_of(LOCK))),
    "one fails": Search((work, fail), crashes=1, lost=1),
    "one clears": Search((work, clear), crashes=1, lost=1),
    "no hard links": Search(crashes=1, lost=1, links=False),
    "instances": Search((hold, hold), crashes=2, lost=1),
    "three": Search((work, work, work)),
    "three, one clears": Search((work, fail, clear)),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    "search",
    [
        pytest.param(search, id=name, marks=[pytest.mark.slow] if "three" in name else [])
        for name, search in SEARCHES.items()
    ],
)
def test_every_order(search: Search) -> None:
    """One has the temp file at a time, exactly one gets a stale one, and nothing blocks for ever."""
    assert search.run() > 100


# -- variants that must be found ------------------------------------------------------------------------------


def no_lock(path: str, me: Claimant, steps: Any) -> Any:
    """Act on what was seen without having made the lock."""
    return (yield from steps)


def lock_for_good(path: str, me: Claimant, steps: Any) -> Any:
    """A lock that nobody takes over from a maker that is gone."""
    lock = files.lock_of(path)
    if not (yield from files.create(lock, me)):
        return "changed"
    answer = yield from steps
    yield from protocol.drop(lock)
    return answer


def no_look_again(path: str, left: Any, me: Claimant) -> Any:
    """Replace whatever is there once the lock is made."""
    source = protocol.record_file(os.path.dirname(path), me.token, "claim")
    yield from protocol.write_private(source, encode(Claim(me)))
    yield fs.Rename(source, path)
    return "done"


def rename_is_trusted(path: str, left: Any, me: Claimant) -> Any:
    """Take a lost reply for a failure."""
    found = yield from protocol.look(path)
    if found is None or found != left:
        return "missing" if found is None else "changed"
    source = protocol.record_file(os.path.dirname(path), me.token, "claim")
    yield from protocol.write_private(source, encode(Claim(me)))
    yield fs.Rename(source, path)
    return "done"


def everybody_is_gone(content: Any) -> Any:
    """Ask nobody whether the maker lives."""
    return isinstance(content, Claim)
    yield


def nobody_is_gone(content: Any) -> Any:
    """As MultiProcessTools has it: who was killed blocks for ever."""
    return False
    yield


def remove_unseen(path: str, left: Any) -> Any:
    """Remove whatever is there once the lock is made."""
    yield from protocol.drop(path)
    return "done"


def one_look_for_final(temp: str, final: str | None, me: Claimant) -> Any:
    """Look for the final file only before the temp file is made."""
    if final is not None and (yield fs.Exists(final)):
        return "finished"
    return "made" if (yield from files.take(temp, me)) else "held"


BREAKS = {
    "no lock": ("locked", no_lock, Search()),
    "a lock for good": ("locked", lock_for_good, Search(crashes=1)),
    "no look again": ("replacing", no_look_again, Search()),
    "a lost reply": ("replacing", rename_is_trusted, Search(lost=1)),
    "everybody is gone": ("is_left", everybody_is_gone, Search(stale=())),
    "nobody is gone": ("is_left", nobody_is_gone, Search()),
    "removed unseen": ("removing", remove_unseen, Search((work, clear))),
    "one look for the final file": ("making", one_look_for_final, Search(stale=())),
}


@pytest.mark.slow
@pytest.mark.parametrize(("name", "variant", "search"), BREAKS.values(), ids=BREAKS)
def test_a_weakened_variant_is_found(
    name: str, variant: Any, search: Search, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The search sees what it is there for."""
    monkeypatch.setattr(files, name, variant)
    with pytest.raises((AssertionError, OSError)):
        Search(search.programs, search.crashes, search.lost, search.stale).run()

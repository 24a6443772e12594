"""At each single call of one output something befalls its process, and another takes over: every promise is kept.

The calls are counted on an undisturbed run, so none is left out, however often the protocol comes by a point.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from manyhands import OutputDirectoryError, gc
from manyhands.claims import Busy, Claims, Finished, Log, Mine, Wait
from manyhands.claims import filesystem as fs
from manyhands.claims.filesystem import FileSystem, LocalFileSystem, Operation
from manyhands.claims.watch import Moment
from manyhands.testing import (
    History,
    RecordedClaims,
    check,
    listing,
    point_of,
    read_histories,
)
from manyhands.workers import pulse
from tests.helpers import names

ASKS_MAX = 100
"""Who has asked so often for an output is stuck; nobody here needs twenty."""


@dataclass
class Disk:
    """A real filesystem that lacks some operations, and does not wait for the disk, which takes most of the time."""

    missing: tuple[type, ...] = ()

    def perform(self, operation: Operation, /) -> Any:
        if isinstance(operation, self.missing):
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))
        if isinstance(operation, fs.Sync | fs.SyncDirectory):
            os.stat(operation.path)
            return None
        return LocalFileSystem().perform(operation)


@dataclass(frozen=True)
class Place:
    """One moment of a run: before its so many-th call, or after it, if that was done."""

    when: str
    number: int
    point: str

    def __str__(self) -> str:
        return f"{self.when} call {self.number}, {self.point!r}"


@dataclass
class Counted:
    """A filesystem that counts its calls; at one place something happens, which may raise OSError."""

    filesystem: FileSystem
    place: Place | None = None
    deed: Callable[[], object] = lambda: None
    passed: list[Place] = field(default_factory=list)
    _count: int = 0

    def perform(self, operation: Operation, /) -> Any:
        self._count += 1
        number, point = self._count, point_of(operation)
        self._pass(Place("before", number, point))
        reply = self.filesystem.perform(operation)
        self._pass(Place("after", number, point))
        return reply

    def _pass(self, place: Place) -> None:
        self.passed.append(place)
        if place == self.place:
            self.deed()


def signalled(number: signal.Signals) -> Callable[[], object]:
    """To this thread: it goes no further."""
    return lambda: signal.pthread_kill(threading.get_ident(), number)


def failed(number: int) -> Callable[[], object]:
    """A call that fails, done or not."""

    def fail() -> None:
        raise OSError(number, os.strerror(number))

    return fail


class Elsewhere:
    """Another machine, where a lease passes from one look to the next: nobody's process can be seen from here."""

    def __init__(self, filesystem: FileSystem) -> None:
        self._filesystem = filesystem
        self._now = 0.0

    def perform(self, operation: Operation, /) -> Any:
        if isinstance(operation, fs.Now):
            self._now += 1000.0
            return Moment("elsewhere", self._now)
        if isinstance(operation, fs.Judge) and operation.directory is not None:
            token = operation.claimant.token
            here = set(names(operation.directory))
            states = {"unknown": "claim", "released": "released"}
            return next(
                (life for life, kind in states.items() if f".manyhands-{token}.{kind}-record" in here), "dead"
            )
        return self._filesystem.perform(operation)


@dataclass(frozen=True)
class Shape:
    """What an output is, and the filesystem that it is on."""

    name: str
    parts: tuple[str, ...] = ()
    missing: tuple[type, ...] = ()
    is_directory: bool = False

    def __str__(self) -> str:
        return self.name

    def log(self, directory: Path) -> Log:
        directory.mkdir()
        return Log.of(directory / "a.csv", parts=[directory / part for part in self.parts])

    def write(self, mine: Mine) -> None:
        """Compute the output: all that it is says who has written it."""
        for staging in map(Path, mine.stagings):
            files = [staging / "one", staging / "two"] if self.is_directory else [staging]
            if self.is_directory:
                staging.mkdir()
            for file in files:
                file.write_text(f"by {mine.token}, in slot {mine.slot}")

    def texts(self, log: Log) -> list[str]:
        """What is in all its files."""
        files = (
            [Path(log.final) / "one", Path(log.final) / "two"]
            if self.is_directory
            else [*map(Path, log.finals)]
        )
        return [file.read_text() for file in files]


CLAIMING = ("claim", "move record", "second look", "look")
"""What comes before a claim is answered with Mine; who loses it there takes it back, if it had it."""

SHAPES = [
    Shape("file"),
    Shape("file, no links", missing=(fs.Link,)),
    Shape("file, no links, no exclusive rename", missing=(fs.Link, fs.RenameNew)),
    Shape("several files", parts=("a.png", "b.png")),
    Shape("directory", is_directory=True),
]


def work(shape: Shape, log: Log, history: History, filesystem: FileSystem, failures: int = 1) -> None:
    """Ask until the output is there; so many attempts fail before one writes it."""
    with RecordedClaims(history, Claims(filesystem=filesystem)) as claims:
        seen = watch = None
        for _ in range(ASKS_MAX):
            decision = claims.acquire(log, seen=seen, watch=watch)
            match decision:
                case Finished():
                    return
                case Busy(_, _, watch):
                    pass
                case Wait(_, seen):
                    pass
                case Mine(attempt=attempt):
                    with history.body(decision.staging, "a.csv"):
                        shape.write(decision)
                    if attempt <= failures:
                        claims.fail(decision, type_name="ValueError", backoff=0.0)
                    else:
                        claims.commit(decision)
    raise AssertionError(f"{log.final} was asked for {ASKS_MAX} times")


def places_of(shape: Shape, directory: Path, failures: int) -> list[Place]:
    """Before and after every call of one output that nobody disturbs."""
    directory.mkdir()
    run = Counted(Disk(shape.missing))
    work(shape, shape.log(directory / "out"), History(directory / "history"), run, failures)
    return run.passed


def between(places: list[Place]) -> list[Place]:
    """Where a signal makes a difference: after a call all files are as before the next one."""
    return [*(place for place in places if place.when == "before"), places[-1]]


@contextmanager
def forked(body: Callable[[], object]) -> Iterator[int]:
    """A process that runs ``body`` and nothing else; killed at the end if it is still there.

    It has no guard, which would take most of these tests' time: one does not beat for who is stopped, and what it
    says of who was killed is seen without it.
    """
    pid = os.fork()
    if not pid:
        status = 1
        try:
            pulse.through(lambda path, seconds: None)
            body()
            status = 0
        finally:
            os._exit(status)
    is_there = True
    try:
        yield pid
        is_there = False
    finally:
        if is_there:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def head(log: Log) -> dict[str, Any]:
    """What stands in the last slot, read without the library; {} if there is no slot."""
    slots = [log.slot(number) for number in range(20) if Path(log.slot(number)).exists()]
    return dict(json.loads(Path(slots[-1]).read_bytes())) if slots else {}


def fenced(history: History) -> list[str]:
    """Which actions were told that the claim had been lost."""
    return [
        event.action
        for events in read_histories(history.directory)
        for event in events
        if event.note == "fenced"
    ]


def assert_promises(shape: Shape, log: Log, history: History, where: Place) -> str:
    """One whole output by one writer, told by valid histories, and nothing else after ``gc``; returns whose it is."""
    gc(log.directory, now=True)
    verdict = check(read_histories(history.directory), listing(log.directory), ["a.csv"], shape.parts)
    # Who finds the output finished takes back the claim that it has just made, and tells nobody which slot that had.
    doubts = [
        doubt for doubt in verdict.doubts if not doubt.message.endswith("who won the slot before this one")
    ]
    assert not verdict.problems and not doubts, f"{where}: {verdict}"
    texts = shape.texts(log)
    assert len(set(texts)) == 1, f"{where}: {texts}"
    return texts[0].split()[1].removesuffix(",")


# -- the process is killed, or stands still ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "failures"),
    [(SHAPES[0], 0), *((shape, 1) for shape in SHAPES)],
    ids=lambda value: str(value) if isinstance(value, Shape) else ["at once", "after a failure"][value],
)
def test_stopped_and_taken_over_at_every_call(shape: Shape, failures: int, tmp_path: Path) -> None:
    """Who is stopped, taken for dead and continued is fenced, or finds its output finished by whoever came after."""
    told: Counter[str] = Counter()
    for where in between(places_of(shape, tmp_path / "alone", failures)):
        log, history = shape.log(tmp_path / str(where)), History(tmp_path / f"history, {where}")
        stopped = Counted(Disk(shape.missing), where, signalled(signal.SIGSTOP))
        with forked(lambda: work(shape, log, history, stopped, failures)) as pid:  # noqa: B023
            status = os.waitpid(pid, os.WUNTRACED)[1]
            assert os.WIFSTOPPED(status), where
            at, is_published = head(log), Path(log.final).exists()
            work(shape, log, history, Elsewhere(Disk(shape.missing)), failures)
            os.kill(pid, signal.SIGCONT)
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, where
        writer = assert_promises(shape, log, history, where)
        kind = at.get("kind") if not is_published else "published"
        told[f"{kind}"] += 1
        if kind == "CLAIM":
            assert writer != at["token"], f"{where}: it was taken over"
        if kind == "COMMIT":
            assert writer == at["token"], f"{where}: it was helped"
        if kind == "CLAIM" and where.point not in CLAIMING:
            assert fenced(history), f"{where}: it learns that it has lost"
    assert told["CLAIM"] >= 3 and told["COMMIT"] >= 1, "there are calls between CLAIM, COMMIT and publication"


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_killed_at_every_call(shape: Shape, tmp_path: Path) -> None:
    """Whoever comes after, on another machine, finishes the output, or publishes what was committed."""
    for where in between(places_of(shape, tmp_path / "alone", failures=1)):
        log, history = shape.log(tmp_path / str(where)), History(tmp_path / f"history, {where}")
        killed = Counted(Disk(shape.missing), where, signalled(signal.SIGKILL))
        with forked(lambda: work(shape, log, history, killed)) as pid:  # noqa: B023
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL, where
        at = head(log)
        work(shape, log, history, Elsewhere(Disk(shape.missing)))
        writer = assert_promises(shape, log, history, where)
        assert at.get("kind") != "COMMIT" or writer == at["token"], f"{where}: what was committed is published"


# -- a call fails ------------------------------------------------------------------------------------------------

NUMBERS = [errno.ENOSPC, errno.EIO, errno.ESTALE, errno.EPERM]


@pytest.mark.parametrize(
    ("shape", "number"),
    # Without links the same steps are taken in other calls: one error that is told, and one that may pass, will do.
    [(shape, number) for shape in SHAPES for number in NUMBERS[: 2 if shape.missing else None]],
    ids=lambda value: errno.errorcode[value] if isinstance(value, int) else str(value),
)
def test_an_error_at_every_call(shape: Shape, number: int, tmp_path: Path) -> None:
    """Done or not, it is ridden out or told; no output is lost, torn or doubled, and others finish it."""
    told: Counter[str] = Counter()
    for where in places_of(shape, tmp_path / "alone", failures=1):
        log, history = shape.log(tmp_path / str(where)), History(tmp_path / f"history, {where}")
        try:
            work(shape, log, history, Counted(Disk(shape.missing), where, failed(number)))
            told["ridden out"] += 1
        except OutputDirectoryError as error:
            assert str(log.directory) in str(error), where
            told["told"] += 1
        if Path(log.final).exists():
            assert len(set(shape.texts(log))) == 1, where
        work(shape, log, history, Disk(shape.missing))
        assert_promises(shape, log, history, where)
    is_passing = number in (errno.EIO, errno.ESTALE)
    assert told["ridden out"] and bool(told["told"]) is not is_passing, told

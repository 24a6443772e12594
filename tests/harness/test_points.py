"""Points of the protocol: their names, and that a process which ends or stops at any of them breaks no promise."""

from __future__ import annotations

import errno
import itertools
import os
import pickle
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from manyhands import gc
from manyhands.claims import Busy, Claims, Fenced, Finished, Log, Mine, Published, Recorded, Wait
from manyhands.claims import filesystem as fs
from manyhands.claims.filesystem import FileSystem, LocalFileSystem, Operation
from manyhands.testing import (
    POINTS,
    AtPoint,
    History,
    RecordedClaims,
    call_at,
    check,
    crash_at,
    fail_at,
    listing,
    pause_at,
    point_of,
    read_histories,
)
from tests.helpers import names


class NoLinks:
    """A filesystem without hard links."""

    def perform(self, operation: Operation, /) -> object:
        if isinstance(operation, fs.Link):
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))
        return LocalFileSystem().perform(operation)


class NoMoves:
    """A filesystem without a rename that does not replace, as most of those in a network."""

    def perform(self, operation: Operation, /) -> object:
        if isinstance(operation, fs.RenameNew):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return LocalFileSystem().perform(operation)


class Nothing:
    """A filesystem on which only what is written itself can be made: the last resort."""

    def perform(self, operation: Operation, /) -> object:
        if isinstance(operation, fs.Link | fs.RenameNew):
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
        return LocalFileSystem().perform(operation)


class Traced:
    """A filesystem that notes the points that it came by."""

    def __init__(self, filesystem: FileSystem | None = None) -> None:
        self.seen: list[str] = []
        self._filesystem = filesystem or LocalFileSystem()

    def perform(self, operation: Operation, /) -> object:
        self.seen.append(point_of(operation))
        return self._filesystem.perform(operation)


FILESYSTEMS: dict[str, Callable[[], FileSystem]] = {
    "all": LocalFileSystem,
    "links": NoMoves,
    "no links": NoLinks,
    "nothing": Nothing,
}


def work(log: Log, history: History, filesystem: FileSystem, durable: bool = True) -> None:
    """Ask until the output is there: the first attempt fails, the second one writes it."""
    with RecordedClaims(history, Claims(filesystem=filesystem, durable=durable)) as claims:
        seen = None
        while True:
            decision = claims.acquire(log, seen=seen)
            match decision:
                case Finished():
                    return
                case Wait(_, memo):
                    seen = memo
                case Mine(attempt=1):
                    claims.fail(decision, type_name="ValueError", backoff=0.0)
                case Mine():
                    with history.body(decision.staging):
                        decision.staging.write_text(f"by {decision.token}")
                    claims.commit(decision)


def commit(log: Log, filesystem: FileSystem) -> Published | Fenced:
    """One claim, and its COMMIT."""
    with Claims(filesystem=filesystem) as claims:
        mine = claims.acquire(log)
        assert isinstance(mine, Mine)
        mine.staging.write_text("whole")
        return claims.commit(mine)


@contextmanager
def forked(body: Callable[[], object]) -> Iterator[int]:
    """A process that runs ``body`` and nothing else; killed at the end if it is still there."""
    pid = os.fork()
    if not pid:
        status = 1
        try:
            body()
            status = 0
        finally:
            os._exit(status)
    try:
        yield pid
    finally:
        try:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        except (ProcessLookupError, ChildProcessError):
            pass


def ended(pid: int) -> int:
    """How it has ended: its status, or minus the signal."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.fixture
def history(tmp_path: Path) -> History:
    return History(tmp_path / "history")


@pytest.fixture
def log(tmp_path: Path) -> Log:
    (tmp_path / "out").mkdir()
    return Log.of(tmp_path / "out" / "a.csv")


def assert_promises(log: Log, history: History) -> None:
    """The history is valid, and the output and nothing else is there after ``gc``."""
    gc(log.directory, now=True)
    verdict = check(read_histories(history.directory), listing(log.directory), [Path(log.final).name])
    assert verdict.valid, str(verdict)


# -- names -------------------------------------------------------------------------------------------------------


def test_an_uncontested_output_comes_by_these_points(log: Log) -> None:
    """In this order, and by no others."""
    trace = Traced()
    with Claims(filesystem=trace) as claims:
        mine = claims.acquire(log)
        assert isinstance(mine, Mine)
        mine.staging.write_text("whole")
        claims.commit(mine)
    first = ["write record"] * 2 + ["look", "read slot", "claim", "look"]
    then = ["sync", "commit", "publish", "sync directory", "sweep", "sweep"]
    assert trace.seen == [*first, *then, *["drop record"] * 4]


def test_every_point_is_named(tmp_path: Path, history: History) -> None:
    """What is documented is what the protocol comes by, with and without hard links, and nothing else."""
    seen: set[str] = set()
    for kind, durable in itertools.product(FILESYSTEMS, (True, False)):
        directory = tmp_path / f"{kind} {durable}"
        directory.mkdir()
        log = Log.of(directory / "a.csv")
        with forked(lambda log=log: work(log, history, crash_at("after claim"))) as pid:
            assert ended(pid) == -signal.SIGKILL
        trace = Traced(FILESYSTEMS[kind]())
        work(log, history, trace, durable)
        assert Path(log.final).read_text().startswith("by ")
        assert commit(Log.of(directory / "b.csv"), trace) == Published()
        with Claims() as other, Claims(filesystem=trace) as claims:
            other.acquire(Log.of(directory / "c.csv"))
            assert isinstance(claims.acquire(Log.of(directory / "c.csv")), Busy)
        full = Traced(fail_at("before write verdict", errno.ENOSPC))
        with Claims(filesystem=full) as claims:
            claims.acquire(Log.of(directory / "d.csv"))
        seen.update(trace.seen, full.seen)
    assert seen - {"move record"} == set(POINTS)


def test_a_point_must_be_one() -> None:
    """What is no point, or no time, is refused when it is named."""
    for point in ("commit", "at commit", "before nothing", ""):
        with pytest.raises(ValueError, match="a point is 'before' or 'after' and one of 'look'"):
            crash_at(point)
    with pytest.raises(ValueError, match="nth must be"):
        crash_at("before commit", nth=-1)


# -- crashes -----------------------------------------------------------------------------------------------------


def is_passed(when: str, point: str, kind: str) -> bool:
    """Whether who fails, then commits, in a log with an owner before it, comes by the point."""
    if point in ("watch owner", "leave word"):
        return False  # all others are dead, and there is room for all that it has to say
    if point == "sweep":
        return False  # of several owners one may not have heard that it was taken over
    if point == "write copy":
        return kind not in ("all", "links")
    if (when, point) == ("after", "drop staging"):
        return kind == "links"  # else it was moved
    return True


@pytest.mark.parametrize("kind", FILESYSTEMS)
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("point", POINTS)
def test_a_crash_anywhere_breaks_no_promise(
    when: str, point: str, kind: str, log: Log, history: History
) -> None:
    """A process is killed at a point, after another one was in its claim; a third one finishes the output."""
    with forked(lambda: work(log, history, crash_at("after claim"))) as pid:
        assert ended(pid) == -signal.SIGKILL
    crash = crash_at(f"{when} {point}", filesystem=FILESYSTEMS[kind]())
    with forked(lambda: work(log, history, crash, durable=point != "look for staging")) as pid:
        assert ended(pid) == (-signal.SIGKILL if is_passed(when, point, kind) else 0)
    work(log, history, FILESYSTEMS[kind]())
    assert_promises(log, history)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("nth", [1, 2])
def test_a_crash_in_the_sweep(when: str, nth: int, log: Log, history: History) -> None:
    """Whichever slots are left over, the output is finished."""

    def once() -> None:
        with RecordedClaims(history, Claims(filesystem=crash_at(f"{when} sweep", nth=nth))) as claims:
            mine = claims.acquire(log)
            assert isinstance(mine, Mine)
            mine.staging.write_text("whole")
            claims.commit(mine)

    with forked(once) as pid:
        assert ended(pid) == -signal.SIGKILL
    with RecordedClaims(history) as claims:
        assert claims.acquire(log) == Finished()
    assert_promises(log, history)


def test_who_is_paused_and_taken_over_is_fenced(log: Log, history: History) -> None:
    """Stopped before its COMMIT, taken for dead, and continued: it learns that it has lost."""

    def once() -> None:
        with RecordedClaims(history, Claims(filesystem=pause_at("before commit"))) as claims:
            mine = claims.acquire(log)
            assert isinstance(mine, Mine)
            mine.staging.write_text("by the first")
            assert claims.commit(mine) == Fenced()

    with forked(once) as pid:
        os.waitid(os.P_PID, pid, os.WSTOPPED)
        for name in names(log.directory):
            if name.endswith(".claim-record"):
                (Path(log.directory) / name).unlink()  # as who watches its lease would
        work(log, history, LocalFileSystem())
        os.kill(pid, signal.SIGCONT)
        assert ended(pid) == 0
    events = [event for events in read_histories(history.directory) for event in events]
    assert [event.action for event in events if event.note == "fenced"] == ["commit"]
    assert_promises(log, history)


# -- what else can happen ----------------------------------------------------------------------------------------


def test_an_error_before_and_after(log: Log) -> None:
    """Before, the operation was not done: it may be tried again. After, it was, and its reply was lost."""
    assert commit(log, fail_at("after commit", errno.EIO)) == Published()
    Path(log.final).unlink()
    assert commit(log, fail_at("before commit", errno.EIO)) == Published()
    Path(log.final).unlink()
    assert commit(log, fail_at("before commit", errno.EIO, nth=0)) == Fenced()
    assert not Path(log.final).exists()


def test_a_hook_is_called_at_the_nth_time(log: Log) -> None:
    """Once, at that time; each time for 0; never, for what is not reached."""
    for nth, calls in ((0, 2), (1, 1), (2, 1), (3, 0)):
        called = []
        point = call_at("before sweep", lambda called=called: called.append(names(log.directory)), nth=nth)
        commit(log, point)
        assert len(called) == calls
        assert point.seen == 2
        Path(log.final).unlink()
    assert repr(point) == "<AtPoint before sweep, seen 2 times>"


def test_a_point_of_one_output(tmp_path: Path) -> None:
    """Others don't count."""
    called = []
    filesystem = call_at("after claim", lambda: called.append(names(tmp_path)), output="b.csv")
    for name in ("a.csv", "b.csv"):
        commit(Log.of(tmp_path / name), filesystem)
    assert len(called) == 1
    assert ".b.csv.claim-0" in called[0]
    assert "a.csv" in called[0]


def test_what_was_lost_is_not_after(log: Log) -> None:
    """A claim that somebody else has won is tried, and not made."""
    called = []

    def overtake() -> None:
        called.append("before")
        with Claims() as other:
            mine = other.acquire(log)
            assert isinstance(mine, Mine)
            assert other.fail(mine, type_name="ValueError") == Recorded()

    filesystem = call_at("before claim", overtake)
    filesystem = call_at("after claim", lambda: called.append("after"), filesystem=filesystem)
    with Claims(filesystem=filesystem) as claims:
        claims.acquire(log)
    assert called == ["before"]


def test_points_are_the_same_without_links(log: Log) -> None:
    """A COMMIT is one also where it is a copy that is moved, or a slot that is written itself."""
    for make in (NoLinks, Nothing):
        called = []
        filesystem = call_at(
            "after commit", lambda called=called: called.append(names(log.directory)), filesystem=make()
        )
        assert commit(log, filesystem) == Published()
        assert len(called) == 1
        assert ".a.csv.claim-1" in called[0]
        Path(log.final).unlink()


def test_points_travel_to_other_processes(log: Log) -> None:
    """They are pickled as they were made; what was seen is not."""
    point = fail_at("before commit", errno.EIO, nth=0, output="a", filesystem=pause_at("after publish", nth=7))
    copy = pickle.loads(pickle.dumps(point))
    assert isinstance(copy, AtPoint)
    assert commit(log, copy) == Fenced()
    assert (copy.seen, point.seen) == (3, 0)

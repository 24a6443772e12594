"""Guards beat for claims: touched while a process lives and runs, marked when it has ended, by how it ended."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from manyhands.workers import guard_process
from manyhands.workers.guard import Guard
from tests.helpers import Fifo, ends_of, finish, started, until, write_script

OWNER = """
import os
import sys
from pathlib import Path
from manyhands import Controller
from manyhands.claims import Claims, Log
from tests.helpers import tell, wait_for

directory, begun, gate = sys.argv[1:4]
claims = {}


def claim(name):
    claims[name] = Claims(lease=0.4)
    claims[name].acquire(Log.of(Path(directory, name)))
    tell(begun, f"{name} {os.getpid()}")


def hold(name):
    claim(name)
    wait_for(gate)


def hog(name):
    claim(name)
    sum(range(10**15))  # in C, and the GIL is not let go of
"""


@pytest.fixture
def guard() -> Iterator[Guard]:
    """A guard of this process's own."""
    guard = Guard()
    yield guard
    guard.close()


def records(directory: Path) -> list[str]:
    """The kinds of the claimants' files that say whether they live."""
    return sorted(
        path.name.rpartition(".")[2].removesuffix("-record")
        for path in directory.glob(".manyhands-*-record")
        if "commit" not in path.name
    )


def beaten(path: Path, times: int = 1) -> None:
    """Waits until a file was touched so often."""
    for _ in range(times):
        before = path.stat().st_mtime_ns
        until(lambda before=before: path.stat().st_mtime_ns != before, f"{path.name} is touched")


def record_of(directory: Path, pid: int) -> Path:
    """The file that says that the process lives."""
    (found,) = [
        path for path in directory.glob(".manyhands-*.claim-record") if f'"pid":{pid},' in path.read_text()
    ]
    return found


def test_claims_of_a_busy_worker_are_beaten_for(tmp_path: Path, begun: Fifo, gate: Fifo) -> None:
    """Also while its C code holds the GIL; and those of the parent's own."""
    script = write_script(
        tmp_path / "script.py",
        OWNER
        + """
with Controller(1) as pool:
    pool.submit(hog, "theirs")
    hold("mine")
    os._exit(0)
""",
    )
    with started(script, tmp_path, begun.path, gate.path) as process:
        pids = dict(begun.line().split() for _ in range(2))
        for pid in pids.values():
            beaten(record_of(tmp_path, int(pid)), times=3)
        with ends_of([int(pids["theirs"])]) as wait:
            gate.let_go()
            finish(process)
            wait()


def test_who_is_stopped_does_not_beat(tmp_path: Path, begun: Fifo, gate: Fifo) -> None:
    """So that others may go on; once it is continued, it does again."""
    script = write_script(
        tmp_path / "script.py",
        OWNER
        + """
with Controller(1) as pool:
    future = pool.submit(hold, "theirs")
    hold("mine")
    future.result()
""",
    )
    with started(script, tmp_path, begun.path, gate.path) as process:
        pids = {name: int(pid) for name, pid in (begun.line().split() for _ in range(2))}
        mine, theirs = (record_of(tmp_path, pids[name]) for name in ("mine", "theirs"))
        os.kill(pids["theirs"], signal.SIGSTOP)
        until(lambda: psutil.Process(pids["theirs"]).status() == psutil.STATUS_STOPPED, "it is stopped")
        beaten(mine, times=2)  # a beat that was under way is over
        before = theirs.stat().st_mtime_ns
        beaten(mine, times=4)
        assert theirs.stat().st_mtime_ns == before
        os.kill(pids["theirs"], signal.SIGCONT)
        beaten(theirs)
        gate.let_go(2)
        finish(process)


@pytest.mark.parametrize(
    ("number", "mark"), [(signal.SIGKILL, []), (signal.SIGTERM, ["released"])], ids=["killed", "asked to end"]
)
def test_a_worker_that_ends_is_marked(
    tmp_path: Path, begun: Fifo, gate: Fifo, number: signal.Signals, mark: list[str]
) -> None:
    """A crash speaks against what it was at; SIGTERM does not."""
    script = write_script(
        tmp_path / "script.py",
        OWNER
        + """
with Controller(1) as pool:
    future = pool.submit(hold, "theirs")
    wait_for(gate)
    print(type(future.exception()).__name__)
""",
    )
    with started(script, tmp_path, begun.path, gate.path) as process:
        pid = int(begun.line().split()[1])
        assert records(tmp_path) == ["claim"]
        os.kill(pid, number)
        until(lambda: records(tmp_path) == mark, f"the claim is marked: {mark}")
        gate.let_go()
        assert finish(process) == "WorkerDied\n"


@pytest.mark.parametrize(
    ("numbers", "mark"),
    [([signal.SIGKILL], ["released"]), ([signal.SIGTERM, signal.SIGTERM], ["released", "released"])],
    ids=["killed", "the job is asked to end"],
)
def test_a_parent_that_ends_is_marked(
    tmp_path: Path, begun: Fifo, gate: Fifo, numbers: list[signal.Signals], mark: list[str]
) -> None:
    """Its workers end with it, which speaks against nothing they were at; what it was at itself may have killed it."""
    script = write_script(
        tmp_path / "script.py",
        OWNER
        + """
with Controller(1) as pool:
    future = pool.submit(hold, "theirs")
    hold("mine")
""",
    )
    with started(script, tmp_path, begun.path, gate.path) as process:
        for line in (begun.line(), begun.line()):
            beaten(
                record_of(tmp_path, int(line.split()[1]))
            )  # a worker's guard has heard of it, through its parent
        guards = [
            child.pid
            for child in psutil.Process(process.pid).children()
            if "guard_process" in " ".join(child.cmdline())
        ]
        assert len(guards) == 1
        with ends_of(guards) as wait:
            for pid, number in zip([*guards, process.pid][-len(numbers) :], numbers, strict=True):
                os.kill(pid, number)
            process.wait()
            wait()
        assert records(tmp_path) == mark


def test_another_guard_takes_all_over(tmp_path: Path, guard: Guard) -> None:
    """If one was killed, the next that is needed beats for what the first did; whatever their names are."""
    first, second = tmp_path / "100%\nfirst.claim-record", tmp_path / "%0A.claim-record"
    for path in (first, second):
        path.touch()
    guard.beat(os.getpid(), os.fsencode(first), 0.02)
    beaten(first)
    with ends_of([guard._pid]) as wait:
        os.kill(guard._pid, signal.SIGKILL)
        wait()
    until(lambda: not guard._tell(b"\n"), "its pipe is closed")
    guard.beat(os.getpid(), os.fsencode(second), 0.02)
    beaten(first)
    beaten(second)


def test_many_files_that_are_gone_are_forgotten(tmp_path: Path, guard: Guard) -> None:
    """What each short-lived claimant had beaten for does not pile up."""
    kept = tmp_path / "kept.claim-record"
    kept.touch()
    guard.beat(os.getpid(), os.fsencode(kept), 1000.0)
    for number in range(3000):
        guard.beat(os.getpid(), b"/nowhere/%d.claim-record" % number, 1000.0)
    assert os.fsencode(kept) in guard._beats and len(guard._beats) < 1000


@pytest.mark.parametrize(
    ("number", "goes_on"),
    [(errno.ESTALE, True), (errno.EIO, True), (errno.EACCES, True), (errno.ENOENT, False)],
)
def test_what_may_pass_is_ridden_out(number: int, goes_on: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a file that is gone is not touched any more."""

    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "utime", fail)
    assert guard_process.touch(b"a") is goes_on


def test_who_ended_just_before_its_parent_is_marked_too(tmp_path: Path) -> None:
    """The guard had heard that the worker has ended, and not yet what that means for its claims."""
    record = tmp_path / ".manyhands-x.claim-record"
    record.touch()
    worker = subprocess.Popen(["sleep", "60"])
    guard = subprocess.Popen(guard_process.command(os.getpid()), stdin=subprocess.PIPE)
    try:
        told = guard_process.beat_line(worker.pid, os.fsencode(record), 60.0)
        worker.kill()
        worker.wait()
        guard.communicate(b"+%d\n%s!%d\n" % (worker.pid, told, worker.pid), timeout=60)
        assert guard.returncode == 0 and not record.exists()
    finally:
        for process in (worker, guard):
            process.kill()
            process.wait()

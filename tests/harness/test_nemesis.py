"""What a nemesis does to real processes and directories, and that it undoes it."""

from __future__ import annotations

import errno
import gc
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from manyhands import OUTPUT, OutputDirectoryError, claimed_output
from manyhands.testing import Move, Nemesis
from tests.helpers import DEADLINE, names

WAITER = """
import signal, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
print("ready", flush=True)
while sys.stdin.readline():
    print("alive", flush=True)
"""
"""Says that it is ready, then answers each line; ends by itself after the last one, or by SIGTERM."""

Waiter = subprocess.Popen[str]


def start() -> Waiter:
    waiter = subprocess.Popen(
        [sys.executable, "-c", WAITER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert waiter.stdout.readline() == "ready\n"
    return waiter


def answers(waiter: Waiter) -> bool:
    """Whether it is up: waits for its answer, unless it stands still."""
    if is_stopped(waiter):
        return False
    waiter.stdin.write("\n")
    waiter.stdin.flush()
    return waiter.stdout.readline() == "alive\n"


def is_stopped(waiter: Waiter) -> bool:
    return psutil.Process(waiter.pid).status() == psutil.STATUS_STOPPED


@pytest.fixture
def waiters() -> Iterator[list[Waiter]]:
    """Three processes."""
    started = [start() for _ in range(3)]
    yield started
    for waiter in started:
        waiter.kill()
        waiter.communicate()


@pytest.fixture
def nemesis() -> Iterator[Nemesis]:
    with Nemesis(seed=1) as nemesis:
        yield nemesis


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own with little room."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("this user can't mount a small disk")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


# -- processes ---------------------------------------------------------------------------------------------------


def test_it_kills(waiters: list[Waiter], nemesis: Nemesis) -> None:
    """The process has ended by SIGKILL when ``kill`` returns, also one that was stopped; then nothing can be done."""
    for waiter in waiters[:2]:
        nemesis.give(waiter)
    nemesis.stop(waiters[1])
    for waiter in waiters[:2]:
        assert nemesis.kill(waiter)
        assert psutil.Process(waiter.pid).status() == psutil.STATUS_ZOMBIE
        assert not nemesis.kill(waiter)
        assert waiter.wait() == -signal.SIGKILL
    assert not nemesis.stop(waiters[0])
    assert answers(waiters[2])


def test_it_stops_and_resumes(waiters: list[Waiter], nemesis: Nemesis) -> None:
    """Who is stopped stands still when ``stop`` returns, and goes on after ``resume``."""
    nemesis.give(waiters[0], "the first")
    assert nemesis.stop(waiters[0])
    assert is_stopped(waiters[0])
    assert not is_stopped(waiters[1])
    assert nemesis.resume(waiters[0])
    assert answers(waiters[0])
    assert [(deed.what, deed.target) for deed in nemesis.log] == [
        ("stop", "the first"),
        ("resume", "the first"),
    ]
    assert nemesis.log[0].at <= nemesis.log[1].at


def test_it_terminates(waiters: list[Waiter], nemesis: Nemesis) -> None:
    """SIGTERM is the process's own to answer."""
    nemesis.give(waiters[0].pid)
    assert nemesis.terminate(waiters[0])
    assert waiters[0].wait(DEADLINE) == 7


def test_it_leaves_others_alone(waiters: list[Waiter], nemesis: Nemesis) -> None:
    """Who was not given is not touched; nor is anybody that does not exist."""
    nemesis.give(waiters[0])
    for blow in (nemesis.kill, nemesis.stop, nemesis.terminate, nemesis.resume):
        with pytest.raises(ValueError, match="was not given"):
            blow(waiters[1])
    assert answers(waiters[1])
    waiters[2].kill()
    waiters[2].wait()
    with pytest.raises(ProcessLookupError):
        nemesis.give(waiters[2])


def test_a_reused_process_id_is_another_process(
    waiters: list[Waiter], nemesis: Nemesis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that has the id of one that was given, but began at another time, is left alone."""
    nemesis.give(waiters[0])
    _, process = nemesis._targets[waiters[0].pid]
    process._ident = (process._ident[0], 1.0)
    process._create_time = 1.0
    assert not nemesis.kill(waiters[0])
    assert not nemesis.stop(waiters[0])
    assert answers(waiters[0])


def test_the_seed_makes_the_choices(waiters: list[Waiter]) -> None:
    """The same seed strikes the same processes in the same way; another one does not."""

    def played(seed: int) -> list[tuple[str, str]]:
        with Nemesis(seed) as nemesis:
            for number, waiter in enumerate(waiters):
                nemesis.give(waiter, str(number))
            for _ in range(12):
                assert nemesis.strike(("stop", "resume"))
            return [(deed.what, deed.target) for deed in nemesis.log]

    assert played(5) == played(5) != played(6)
    assert {what for what, _ in played(5)} == {"stop", "resume"}


def test_it_strikes_nobody_who_has_ended(waiters: list[Waiter], nemesis: Nemesis) -> None:
    """Each gets one SIGKILL, then nobody is left."""
    for waiter in waiters:
        nemesis.give(waiter)
    assert [nemesis.strike(["kill"]) for _ in range(4)] == [True, True, True, False]


def test_moves_count_round(waiters: list[Waiter], nemesis: Nemesis) -> None:
    """A planned move finds somebody, however many there are."""
    assert not nemesis.do(Move("stop", 0))
    for number, waiter in enumerate(waiters):
        nemesis.give(waiter, str(number))
    for move in (Move("stop", 4), Move("kill", 2), Move("resume", 1)):
        assert nemesis.do(move)
    assert [(deed.what, deed.target) for deed in nemesis.log] == [("stop", "1"), ("kill", "2"), ("resume", "1")]


def test_who_is_stopped_goes_on_after_a_failed_test(waiters: list[Waiter]) -> None:
    """The end of the block undoes, whatever ended it."""
    with pytest.raises(ZeroDivisionError), Nemesis() as nemesis:
        nemesis.give(waiters[0])
        nemesis.give(waiters[1])
        nemesis.stop(waiters[0])
        nemesis.stop(waiters[1])
        nemesis.kill(waiters[1])
        raise ZeroDivisionError
    assert answers(waiters[0])


def test_a_nemesis_that_is_dropped_rests(waiters: list[Waiter]) -> None:
    """One that nobody put to rest does so when it is collected."""
    nemesis = Nemesis()
    nemesis.give(waiters[0])
    nemesis.stop(waiters[0])
    del nemesis
    gc.collect()
    assert answers(waiters[0])


# -- directories -------------------------------------------------------------------------------------------------


def test_a_full_disk(small_disk: Path, nemesis: Nemesis) -> None:
    """There is room for nothing until it is emptied; names can be made until there is no room for those."""
    nemesis.fill(small_disk)
    with pytest.raises(OSError) as caught:
        (small_disk / "a").write_bytes(b"x")
    assert caught.value.errno == errno.ENOSPC
    (small_disk / "a").unlink(missing_ok=True)
    nemesis.empty(small_disk)
    (small_disk / "a").write_bytes(bytes(100_000))
    assert names(small_disk) == ["a"]
    assert [deed.what for deed in nemesis.log] == ["fill", "empty"]


def test_a_disk_that_is_nearly_full(small_disk: Path, nemesis: Nemesis) -> None:
    """Some room can be left."""
    nemesis.fill(small_disk, leave=40_000)
    (small_disk / "a").write_bytes(bytes(20_000))
    with pytest.raises(OSError):
        (small_disk / "b").write_bytes(bytes(60_000))


def test_a_full_disk_is_emptied_at_the_end(small_disk: Path) -> None:
    """Also if the test fails."""
    with pytest.raises(ZeroDivisionError), Nemesis() as nemesis:
        nemesis.fill(small_disk)
        nemesis.fill(small_disk)
        raise ZeroDivisionError
    assert names(small_disk) == []


def test_a_large_disk_is_refused(tmp_path: Path, nemesis: Nemesis, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that others may need is not touched."""
    monkeypatch.setattr(
        "manyhands.testing.nemesis._write_until_full", lambda *_: pytest.fail("it would be full")
    )
    with pytest.raises(ValueError, match="give a small disk"):
        nemesis.fill(tmp_path, most=4096)
    assert names(tmp_path) == []


def test_a_directory_that_can_only_be_read(tmp_path: Path, nemesis: Nemesis) -> None:
    """Nothing can be made in it until it is made writable; what is there can be read."""
    (tmp_path / "a").write_text("whole")
    try:
        nemesis.make_read_only(tmp_path)
    except PermissionError:
        pytest.skip("this user can't")
    nemesis.make_read_only(tmp_path)  # it is so already
    with pytest.raises(OSError) as caught:
        (tmp_path / "b").write_text("more")
    assert caught.value.errno in (errno.EROFS, errno.EACCES)
    assert (tmp_path / "a").read_text() == "whole"
    nemesis.make_writable(tmp_path)
    (tmp_path / "b").write_text("more")
    nemesis.make_read_only(tmp_path)
    nemesis.rest()
    (tmp_path / "c").write_text("more")
    assert not os.path.ismount(tmp_path)


def test_permissions_come_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is not root takes the right to write, and gives it back as it was."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    tmp_path.chmod(0o1775)
    with Nemesis() as nemesis:
        nemesis.make_read_only(tmp_path)
        assert tmp_path.stat().st_mode & 0o7777 == 0o1555
    assert tmp_path.stat().st_mode & 0o7777 == 0o1775


def test_what_can_be_undone_is_undone(
    tmp_path: Path, waiters: list[Waiter], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One thing that can't be undone keeps nothing else from it, and is told."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    gone = tmp_path / "gone"
    gone.mkdir()
    nemesis = Nemesis()
    nemesis.give(waiters[0])
    nemesis.stop(waiters[0])
    nemesis.make_read_only(gone)
    gone.rmdir()
    with pytest.raises(ExceptionGroup) as caught:
        nemesis.rest()
    assert [type(error) for error in caught.value.exceptions] == [FileNotFoundError]
    assert answers(waiters[0])
    nemesis.rest()  # there is nothing left to do


def test_claims_meet_a_full_disk(small_disk: Path, nemesis: Nemesis) -> None:
    """The library says that the directory can't be used; when there is room again, the output is made."""

    @claimed_output(f"{small_disk}/{{name}}.bin")
    def write(name: str, output: Path = OUTPUT) -> None:
        output.write_bytes(bytes(50_000))

    write("a")
    nemesis.fill(small_disk)
    with pytest.raises(OutputDirectoryError):
        write("b")
    nemesis.empty(small_disk)
    assert write("b").stat().st_size == 50_000
    assert names(small_disk) == ["a.bin", "b.bin"]


def test_a_nemesis_tells_what_it_has_to_undo(waiters: list[Waiter], nemesis: Nemesis) -> None:
    """Its repr shows its state."""
    nemesis.give(waiters[0])
    nemesis.stop(waiters[0])
    assert repr(nemesis) == "<Nemesis of 1 processes, with 1 deeds to undo>"

"""Scenario 6: at each system call of one output its process is killed, stopped and taken over, or told an error.

``strace`` does it, so these are the calls that the kernel sees, not the operations that the protocol names. Each run
is a process that is forked here and traced from its first call on, in a directory of its own.
"""

from __future__ import annotations

import os
import re
import select
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from arena import Arena, Figures, listing, some

import manyhands
from manyhands.claims import Busy, Claims, Fenced, Finished, Log, Mine, Seen, Wait, Watch, liveness
from manyhands.claims import filesystem as fs
from manyhands.claims.filesystem import LocalFileSystem, Operation
from manyhands.workers import pulse

CALLS: Final = (
    *(
        "openat",
        "close",
        "read",
        "write",
        "fsync",
        "fstat",
        "newfstatat",
        "lstat",
        "stat",
        "mkdir",
        "getdents64",
    ),
    *("link", "linkat", "rename", "renameat", "renameat2", "unlink", "unlinkat", "rmdir"),
)
ERRORS: Final = ("ENOSPC", "EIO", "ESTALE", "EPERM")
LEASE_SECONDS: Final = 0.02
LOOK_SECONDS: Final = 0.006
PATIENCE_SECONDS: Final = 60.0
ROUND_SECONDS: Final = 1200.0
TOLD: Final = 3
"""Exit status of a process that was told that the directory can't be used."""

FENCED: Final = 4
"""Of one that found the output finished, after it had lost a claim of its own."""


def why_not() -> str:
    """Why this can't be played here; "" if it can."""
    if sys.platform != "linux":
        return "strace is for Linux"
    return "" if shutil.which("strace") else "strace is not installed: apt-get install strace"


class Quick(LocalFileSystem):
    """The real filesystem, which tells where it has helped."""

    def __init__(self) -> None:
        self.helped = 0

    def perform(self, operation: Operation, /) -> object:
        """The reply; raises OSError."""
        reply = super().perform(operation)
        self.helped += isinstance(operation, fs.Link) and Path(operation.target).name == "out"
        return reply


def text(token: str) -> str:
    """What a writer writes: several calls' worth."""
    return f"{token}\n" * 800


def work(log: Log, figures: Counter[str], filesystem: Quick | None = None, attempts: int = 2) -> None:
    """Ask until the output is there; all attempts but the last fail, and so does one whose file can't be written."""
    with Claims(lease=LEASE_SECONDS, max_crashes=1000, filesystem=filesystem) as claims:
        seen: Seen | None = None
        watch: Watch | None = None
        end = time.monotonic() + PATIENCE_SECONDS
        while not isinstance(decision := claims.acquire(log, seen=seen, watch=watch), Finished):
            if time.monotonic() > end:
                raise TimeoutError(f"{log.final} was not finished")
            match decision:
                case Busy():
                    watch = decision.memo
                    time.sleep(LOOK_SECONDS)
                case Wait():
                    seen = decision.memo
                case Mine():
                    figures["taken"] += decision.slot > 0
                    answer = attempt(claims, decision, attempts)
                    figures["fenced"] += isinstance(answer, Fenced)


def attempt(claims: Claims, mine: Mine, attempts: int) -> object:
    """One attempt."""
    try:
        with open(mine.staging, "w", buffering=4096) as file:
            file.write(text(mine.token))
    except OSError as error:
        return claims.fail(mine, type_name="OSError", message=str(error), backoff=0.0)
    if mine.attempt < attempts:
        return claims.fail(mine, type_name="ValueError", backoff=0.0)
    return claims.commit(mine)


@contextmanager
def traced(log: Log, room: Path, *options: str) -> Iterator[int]:
    """A process that makes the output under strace; yields its id, and ends it if it is still there."""
    gate, opener = os.pipe()
    ready, told_ready = os.pipe()
    pid = os.fork()
    if not pid:
        status = 1
        try:
            os.close(opener)
            os.close(ready)
            pulse.through(lambda *_: None)  # no guard: strace would have to follow it
            liveness.identity("")  # before it is traced: whether /proc can be read is not the question
            os.close(told_ready)
            select.select([gate], [], [])  # a call that is not among those that are counted
            figures: Counter[str] = Counter()
            work(log, figures)
            status = FENCED if figures["fenced"] else 0
        except manyhands.OutputDirectoryError:
            status = TOLD
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    os.close(gate)
    os.close(told_ready)
    os.read(ready, 1)
    os.close(ready)
    command = ["strace", "-p", str(pid), "-o", str(room / "strace"), "-e", f"trace={','.join(CALLS)}", *options]
    tracer = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    is_there = True
    try:
        assert tracer.stderr is not None
        told = tracer.stderr.readline()
        if "attached" not in told:
            raise OSError(f"strace can't trace here: {told.strip()}")
        os.write(opener, b".")
        yield pid
        tracer.wait(PATIENCE_SECONDS)
        is_there = False
    finally:
        os.close(opener)
        if is_there:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            tracer.wait()
        if tracer.stderr is not None:
            tracer.stderr.close()


def ended(pid: int) -> int:
    """How it has ended: its status, or minus the signal."""
    with_deadline = os.pidfd_open(pid)
    try:
        if not select.select([with_deadline], [], [], PATIENCE_SECONDS)[0]:
            raise TimeoutError(f"process {pid} did not end")
    finally:
        os.close(with_deadline)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def calls_of_a_run(arena: Arena) -> list[tuple[str, int]]:
    """Each call of an undisturbed run that is about its directory, by its name and at which time that comes."""
    room = arena.directory / "alone"
    log = fresh(room)
    with traced(log, room, "-y") as pid:  # which tells what descriptors are of
        status = ended(pid)
    if status:
        raise OSError(f"a run that nobody disturbed ended with {status}")
    counts: Counter[str] = Counter()
    calls = []
    for name, rest in re.findall(r"^(\w+)\((.*)", (room / "strace").read_text(), re.MULTILINE):
        counts[name] += 1
        if str(room) in rest:
            calls.append((name, counts[name]))
    return calls


def fresh(room: Path) -> Log:
    """A directory for one output."""
    (room / "outputs").mkdir(parents=True)
    return Log.of(room / "outputs" / "out")


def play(arena: Arena) -> Figures:
    """Every call, in every way; violations go to ``arena.wrong``."""
    arena.seconds = ROUND_SECONDS
    figures: Counter[str] = Counter(
        dict.fromkeys(("outputs", "system calls", "kills", "stops", "errors", "told", "takeovers", "fenced"), 0)
    )
    figures.update(dict.fromkeys(("helped", "missing", "torn", "doubled", "littered", "not hit"), 0))
    calls = calls_of_a_run(arena)
    figures["system calls"] = len(calls)
    ways = ["signal=SIGKILL", "signal=SIGSTOP", *(f"error={name}" for name in ERRORS)]
    for name, nth in calls:
        for way in ways:
            where = f"{way} at {name} {nth}"
            room = arena.directory / where.replace(" ", "-")
            play_one(arena, room, where, figures, f"inject={name}:{way}:when={nth}")
            shutil.rmtree(room)
    return dict(figures)


def play_one(arena: Arena, room: Path, where: str, figures: Counter[str], inject: str) -> None:
    """One run, and who comes after it."""
    log = fresh(room)
    heir, told = Quick(), Counter[str]()
    stamp = None
    with traced(log, room, "-e", inject) as pid:
        if "SIGSTOP" in inject:
            os.waitid(os.P_PID, pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
            work(log, told, heir)
            stamp = Path(log.final).stat().st_ino
            os.kill(pid, signal.SIGCONT)
        status = ended(pid)
    is_hit = "INJECTED" in (trace := (room / "strace").read_text()) or "SIGKILL" in trace or "SIGSTOP" in trace
    if not is_hit:
        figures["not hit"] += 1
    figures["outputs"] += 1
    figures["kills"] += status == -signal.SIGKILL
    figures["stops"] += "--- SIGSTOP" in trace
    figures["errors"] += "(INJECTED)" in trace
    figures["told"] += status == TOLD
    expected = {"KILL": (0, -signal.SIGKILL), "STOP": (0, FENCED)}.get(
        where.partition(" ")[0][-4:], (0, TOLD, FENCED)
    )
    if status not in expected:
        arena.wrong(f"{where}: ended with {status}")
    work(log, told, heir)
    figures["takeovers"] += told["taken"] > 0
    figures["fenced"] += status == FENCED
    figures["helped"] += heir.helped > 0 and not told["taken"]
    check(arena, log, where, figures, stamp)


def check(arena: Arena, log: Log, where: str, figures: Counter[str], stamp: int | None) -> None:
    """One whole output of one writer, and nothing else after ``gc``."""
    found = Path(log.final).read_text() if Path(log.final).exists() else None
    if found is None:
        figures["missing"] += 1
        arena.wrong(f"{where}: there is no output")
    elif found != text(found.partition("\n")[0]):
        figures["torn"] += 1
        arena.wrong(f"{where}: the output is not whole")
    elif stamp is not None and Path(log.final).stat().st_ino != stamp:
        figures["doubled"] += 1
        arena.wrong(f"{where}: the output was replaced after it was published")
    manyhands.gc(log.directory, now=True)
    if left := sorted(listing(Path(log.directory)) - {"out"}):
        figures["littered"] += 1
        arena.wrong(f"{where}: left after gc: {some(left)}")

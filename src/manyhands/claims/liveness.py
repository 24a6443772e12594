"""Who this process is, and whether another claimant can still act.

A claim is dead when its claimant's record file is gone: to be marked dead is that one unlink. Renamed, it says that
the claimant has ended, but not for what it computed. Otherwise only a process of this boot and pid namespace can be
judged: it is dead if its pid is free, a zombie's, or taken by a process that started at another time.
"""

from __future__ import annotations

import functools
import os
import socket
import sys
from dataclasses import replace
from pathlib import Path
from typing import Final

from manyhands.claims.filesystem import Life
from manyhands.claims.names import RecordFile, record_file
from manyhands.claims.record import Claimant
from manyhands.settings import LEASE

_PROC = sys.platform == "linux"

BURIED: Final[tuple[RecordFile, ...]] = ("copy", "verdict", "commit", "claim")
"""What a claimant leaves, in the order in which it is removed: the last marks it dead."""


def identity(token: str, lease: float = LEASE) -> Claimant:
    """A claimant of this process called ``token``."""
    return replace(_identity(os.getpid()), token=token, lease=lease)


@functools.lru_cache(maxsize=1)
def _identity(pid: int) -> Claimant:
    started = _started(pid)
    return Claimant(
        "", socket.gethostname(), _boot_id(), _pid_namespace(), pid, -1 if started is None else started
    )


def boot_id() -> str:
    """Tells this run of this machine from every other."""
    return _identity(os.getpid()).boot_id


def judge(claimant: Claimant, directory: Path) -> Life:
    """Can ``claimant`` still act on the logs in ``directory``? Who is dead loses its record files there.

    Raises:
        OSError: its record file can't be looked for.
    """
    if not _is_there(record_file(directory, claimant.token, "claim")):
        # Before that was renamed to this, it was there.
        return "released" if _is_there(record_file(directory, claimant.token, "released")) else "dead"
    me = identity("")
    if (claimant.boot_id, claimant.pid_namespace) != (me.boot_id, me.pid_namespace):
        return "unknown"
    if _started(claimant.pid) == claimant.start_ticks:
        return "unknown"  # it may be stopped for good
    bury(claimant.token, directory)
    return "dead"


def _is_there(path: Path) -> bool:
    try:
        os.lstat(path)
    except FileNotFoundError:
        return False
    return True


def bury(token: str, directory: Path) -> None:
    """Remove the record files of a claimant, as far as that can be done: from now on it counts as dead."""
    for kind in BURIED:
        try:
            os.unlink(record_file(directory, token, kind))
        except OSError:
            pass


def _started(pid: int) -> int | None:
    """When the process started; None if there is no such process or it has ended and is not yet reaped."""
    if not _PROC:
        return _started_elsewhere(pid)
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()  # the name before may contain spaces and brackets
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in (b"Z", b"X", b"x") else int(fields[19])


def _started_elsewhere(pid: int) -> int | None:
    import psutil

    try:
        process = psutil.Process(pid)
        if process.status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):
            return None
        return int(process.create_time() * 1000)
    except psutil.NoSuchProcess:
        return None


def _boot_id() -> str:
    if _PROC:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    import psutil

    return f"{socket.gethostname()}:{int(psutil.boot_time())}"


def _pid_namespace() -> int:
    return os.stat("/proc/self/ns/pid").st_ino if _PROC else 0

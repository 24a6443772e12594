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
from typing import Final, Literal

from manyhands.claims.filesystem import Life
from manyhands.claims.names import RecordFile, record_file
from manyhands.claims.record import Claimant
from manyhands.settings import LEASE

Condition = Literal["alive", "stopped", "ended", "hidden"]
"""Of a process; hidden: it is on another machine, in another container, or this user may not see it."""

_PROC = sys.platform == "linux"
_PID_END: Final = 2**31

BURIED: Final[tuple[RecordFile, ...]] = ("copy", "verdict", "commit", "claim")
"""What a claimant leaves, in the order in which it is removed: the last marks it dead."""


def identity(token: str, lease: float = LEASE) -> Claimant:
    """A claimant of this process called ``token``."""
    return _identity(os.getpid())._replace(token=token, lease=lease)


@functools.lru_cache(maxsize=1)
def _identity(pid: int) -> Claimant:
    started = _started(pid)
    return Claimant(
        "", socket.gethostname(), _boot_id(), _pid_namespace(), pid, -1 if started is None else started
    )


def boot_id() -> str:
    """Tells this run of this machine from every other."""
    return _identity(os.getpid()).boot_id


def judge(claimant: Claimant, directory: str) -> Life:
    """Can ``claimant`` still act on the logs in ``directory``? Who is dead loses its record files there.

    Raises:
        OSError: its record file can't be looked for.
    """
    if not _is_there(record_file(directory, claimant.token, "claim")):
        # Before that was renamed to this, it was there.
        if _is_there(record_file(directory, claimant.token, "released")):
            return "released"
        bury(claimant.token, directory)  # its guard, which said so, has left the rest
        return "dead"
    found = life(claimant)
    if found == "dead":
        bury(claimant.token, directory)
    return found


def life(claimant: Claimant) -> Life:
    """Does the process of ``claimant`` live? "dead" is said only of what surely has ended."""
    me = identity("")
    if (claimant.boot_id, claimant.pid_namespace) != (me.boot_id, me.pid_namespace):
        return "unknown"
    if not 0 < claimant.pid < _PID_END or not _sees_its_namespace():
        return "unknown"
    try:
        started = _started(claimant.pid)
    except PermissionError:
        return "unknown"
    if started == claimant.start_ticks:
        return "unknown"  # it may be stopped for good
    return "unknown" if started is None and _is_hidden(claimant.pid) else "dead"


def condition(claimant: Claimant) -> Condition:
    """What can be seen from here of the process of ``claimant``; for people, nothing is decided by it."""
    if life(claimant) == "dead":
        return "ended"
    me = identity("")
    if (claimant.boot_id, claimant.pid_namespace) != (me.boot_id, me.pid_namespace):
        return "hidden"
    import psutil

    try:
        status = psutil.Process(claimant.pid).status()
    except (psutil.Error, ValueError, OverflowError):
        return "hidden"
    return "stopped" if status in (psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP) else "alive"


def _is_there(path: str) -> bool:
    try:
        os.lstat(path)
    except FileNotFoundError:
        return False
    return True


def bury(token: str, directory: str) -> None:
    """Remove the record files of a claimant, as far as that can be done: from now on it counts as dead."""
    for kind in BURIED:
        try:
            os.unlink(record_file(directory, token, kind))
        except OSError:
            pass


def _started(pid: int) -> int | None:
    """When the process started; None if there is no such process or it has ended and is not yet reaped.

    Raises:
        PermissionError: it is another user's, and the system does not tell.
    """
    if not _PROC:
        return _started_elsewhere(pid)
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()  # the name before may contain spaces and brackets
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in (b"Z", b"X", b"x") else int(fields[19])


def _sees_its_namespace() -> bool:
    """Whether /proc is about this pid namespace; who entered one without mounting it sees another's processes."""
    return not _PROC or os.readlink("/proc/self") == str(os.getpid())


def _is_hidden(pid: int) -> bool:
    """Whether there is such a process that can't be seen: /proc mounted with hidepid shows none of other users."""
    if not _PROC or os.path.exists(f"/proc/{pid}"):
        return False
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except ProcessLookupError:
        pass
    return False


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

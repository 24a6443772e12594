"""A nemesis: what happens to processes and directories in the world, done on purpose and undone at the end."""

from __future__ import annotations

import ctypes
import errno
import os
import random
import signal
import subprocess
import sys
import time
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, Self, get_args

if TYPE_CHECKING:
    import psutil

Blow = Literal["kill", "stop", "resume", "terminate"]
"""What can be done to a process: SIGKILL, SIGSTOP, SIGCONT, SIGTERM."""

Process = int | subprocess.Popen[str] | subprocess.Popen[bytes] | BaseProcess
"""One that runs: by its id, or as who started it has it."""

BLOWS: Final[tuple[Blow, ...]] = get_args(Blow)

MOST_FILLED: Final = 64 << 20
"""Bytes; ``fill`` refuses to fill more, so that it never fills a disk that others need."""

_PATIENCE: Final = 30.0
"""Seconds until a signal that can't be refused must have had its effect, on a busy machine."""

_PIECE: Final = bytes(1 << 16)
_BIND, _REMOUNT, _READ_ONLY, _DETACH = 4096, 32, 1, 2


@dataclass(frozen=True, slots=True)
class Deed:
    """Something that a nemesis has done.

    Attributes:
        at: when, in seconds of this machine's monotonic clock.
        what: in a word.
        target: to whom: the name that the process was given by, or a path.
    """

    at: float
    what: str
    target: str


@dataclass(frozen=True, slots=True)
class Move:
    """A blow that is planned: ``which`` of the processes gets it, counted round and round."""

    blow: Blow
    which: int


class Nemesis:
    """Does to processes and directories what else happens at night; ``rest`` undoes it.

    Use it in a ``with`` block, which rests at its end, also when a test fails; if it is forgotten, it rests when it is
    dropped or the program ends. Nothing is undone if its own process is killed.

    Only processes that were given to it are touched, and never another that got the number of one that has ended.

    Args:
        seed: of the choices that ``strike`` makes. They are the same again for the same processes in the same states.

    Clocks of real processes can't be put wrong without harm to others: only ``manyhands.testing.model`` offers that.

    Attributes:
        log: what it has done, in order.
    """

    def __init__(self, seed: int = 0) -> None:
        self.log: list[Deed] = []
        self._luck = random.Random(seed)
        self._targets: dict[int, tuple[str, psutil.Process]] = {}
        self._stopped: set[int] = set()
        self._undo: dict[tuple[str, str], Callable[[], None]] = {}
        self._finalizer = weakref.finalize(self, _undo_own, os.getpid(), self._undo)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.rest()

    def __repr__(self) -> str:
        return f"<Nemesis of {len(self._targets)} processes, with {len(self._undo)} deeds to undo>"

    # -- processes ------------------------------------------------------------------------------------------------

    def give(self, process: Process, name: str = "") -> None:
        """From now on this process may be touched: a process id, a ``Popen`` or a process of multiprocessing.

        Args:
            process: one that runs.
            name: in ``log``; "": its process id.

        Raises:
            ProcessLookupError: there is none.
        """
        import psutil

        pid = _pid(process)
        try:
            self._targets[pid] = (name or f"process {pid}", psutil.Process(pid))
        except psutil.NoSuchProcess:
            raise ProcessLookupError(errno.ESRCH, f"there is no process {pid}") from None

    def kill(self, process: Process) -> bool:
        """SIGKILL; returns when it has ended: True, or False if it had before."""
        return self._blow("kill", _pid(process))

    def terminate(self, process: Process) -> bool:
        """SIGTERM; does not wait for what that does. False if the process had ended."""
        return self._blow("terminate", _pid(process))

    def stop(self, process: Process) -> bool:
        """SIGSTOP; returns when it stands still: True, or False if it had ended."""
        return self._blow("stop", _pid(process))

    def resume(self, process: Process) -> bool:
        """SIGCONT. False if the process had ended."""
        return self._blow("resume", _pid(process))

    def strike(self, blows: Sequence[Blow] = BLOWS) -> bool:
        """One blow, to one process that lives; both chosen by the seed. False if none fits anybody."""
        choices = []
        for pid, (_, process) in self._targets.items():
            if not _has_ended(process):
                is_stopped = pid in self._stopped
                choices += [
                    (blow, pid)
                    for blow in blows
                    if blow not in ("stop", "resume") or (blow == "resume") == is_stopped
                ]
        return bool(choices) and self._blow(*self._luck.choice(choices))

    def do(self, move: Move) -> bool:
        """A planned blow, to one of the processes in the order in which they were given. False if it had ended."""
        pids = list(self._targets)
        return bool(pids) and self._blow(move.blow, pids[move.which % len(pids)])

    def _blow(self, blow: Blow, pid: int) -> bool:
        import psutil

        if pid not in self._targets:
            raise ValueError(f"process {pid} was not given to this nemesis, which leaves it alone")
        name, process = self._targets[pid]
        number = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP, "resume": signal.SIGCONT}.get(
            blow, signal.SIGTERM
        )
        if _has_ended(process):
            return False
        if blow == "stop":
            self._stopped.add(pid)
            self._undo["stop", str(pid)] = lambda: _resume(process)
        try:
            process.send_signal(number)  # which sees to it that this is still the same process
        except psutil.NoSuchProcess:
            return False
        self._note(blow, name)
        if blow == "kill":
            _until(lambda: _has_ended(process), f"{name} does not end")
        elif blow == "stop":
            _until(lambda: _has_ended(process) or _is_stopped(process), f"{name} does not stop")
        if blow in ("kill", "resume"):
            self._stopped.discard(pid)
            self._undo.pop(("stop", str(pid)), None)
        return True

    # -- directories ----------------------------------------------------------------------------------------------

    def fill(self, directory: str | os.PathLike[str], leave: int = 0, most: int = MOST_FILLED) -> None:
        """Fill the disk that ``directory`` is on, by a file in it: others get ENOSPC there.

        Args:
            directory: on a small disk of the test's own, a tmpfs of a limited size say.
            leave: bytes that stay free, about.
            most: bytes that it may fill.

        Raises:
            ValueError: more is free there; nothing was written.
        """
        path = Path(directory).absolute()
        free = _free(path)
        if free > most:
            raise ValueError(
                f"{str(path)!r} has {free} bytes free, more than {most}: give a small disk of the test's own"
            )
        file = path / f".nemesis-{os.urandom(4).hex()}"
        self.empty(directory)
        self._undo["fill", str(path)] = lambda: file.unlink(missing_ok=True)
        end = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            _write_until_full(end, path, leave)
        finally:
            os.close(end)
        self._note("fill", str(path))

    def empty(self, directory: str | os.PathLike[str]) -> None:
        """Undo ``fill``."""
        self._take_back("fill", directory, "empty")

    def make_read_only(self, directory: str | os.PathLike[str]) -> None:
        """Nothing can be made, changed or removed in ``directory`` by paths that lead through it.

        For others than root by its permissions, which gives EACCES. Root is not bound by those: there it is mounted on
        itself, read-only, which gives EROFS, and needs Linux. Who is in it already, or has it open, is not hindered by
        a mount.

        Raises:
            PermissionError: this user can't do that here.
        """
        path = Path(directory).absolute()
        if ("read-only", str(path)) in self._undo:
            return
        if os.geteuid() == 0:
            self._undo["read-only", str(path)] = _mounted_read_only(path)
        else:
            mode = path.stat().st_mode
            self._undo["read-only", str(path)] = lambda: path.chmod(mode & 0o7777)
            path.chmod(mode & 0o7777 & ~0o222)
        self._note("read-only", str(path))

    def make_writable(self, directory: str | os.PathLike[str]) -> None:
        """Undo ``make_read_only``."""
        self._take_back("read-only", directory, "writable")

    def _take_back(self, what: str, directory: str | os.PathLike[str], word: str) -> None:
        path = str(Path(directory).absolute())
        undo = self._undo.pop((what, path), None)
        if undo is not None:
            undo()
            self._note(word, path)

    # -- the end --------------------------------------------------------------------------------------------------

    def rest(self) -> None:
        """Undo everything: who is stopped goes on, filled disks are emptied, directories can be written to.

        Raises:
            ExceptionGroup: some of it could not be undone; the rest was.
        """
        self._stopped.clear()
        if self._undo:
            self._note("rest", f"{len(self._undo)} undone")
        _undo_all(self._undo)

    def _note(self, what: str, target: str) -> None:
        self.log.append(Deed(time.monotonic(), what, target))


def _undo_own(pid: int, undo: dict[tuple[str, str], Callable[[], None]]) -> None:
    if pid == os.getpid():  # what was forked off has done nothing
        _undo_all(undo)


def _undo_all(undo: dict[tuple[str, str], Callable[[], None]]) -> None:
    errors = []
    while undo:
        _, take_back = undo.popitem()  # the last one first
        try:
            take_back()
        except Exception as error:
            errors.append(error)
    if errors:
        raise ExceptionGroup("a nemesis could not undo all that it has done", errors)


def _pid(process: Process) -> int:
    pid = process if isinstance(process, int) else process.pid
    if pid is None:
        raise ValueError(f"{process!r} has not been started")
    return pid


def _resume(process: psutil.Process) -> None:
    import psutil

    try:
        process.send_signal(signal.SIGCONT)
    except psutil.NoSuchProcess:
        pass


def _has_ended(process: psutil.Process) -> bool:
    """Whether it runs no more; who waits for its parent to look does not."""
    import psutil

    try:
        return not process.is_running() or process.status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    except psutil.NoSuchProcess:
        return True


def _is_stopped(process: psutil.Process) -> bool:
    import psutil

    try:
        return process.status() == psutil.STATUS_STOPPED
    except psutil.NoSuchProcess:
        return False


def _until(condition: Callable[[], bool], otherwise: str) -> None:
    """Looks again and again: nobody tells of these."""
    deadline = time.monotonic() + _PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(otherwise)
        time.sleep(0.001)


def _free(path: Path) -> int:
    room = os.statvfs(path)
    return room.f_bavail * room.f_frsize


def _write_until_full(end: int, path: Path, leave: int) -> None:
    piece = memoryview(_PIECE)
    while _free(path) > leave or not leave:
        try:
            # Near the end what there is room for may be less than a piece: a write takes what it can.
            os.write(end, piece[: max(1, _free(path) - leave)] if leave else piece)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            if len(piece) == 1:
                return
            piece = piece[: len(piece) // 2]


def _mounted_read_only(path: Path) -> Callable[[], None]:
    """Mounts a directory on itself, read-only; returns what takes that back."""
    if sys.platform != "linux":
        raise PermissionError(errno.EPERM, "root can write everywhere on this system", str(path))
    library = ctypes.CDLL(None, use_errno=True)
    name = os.fsencode(path)

    def call(function: Callable[..., int], *arguments: object) -> None:
        if function(*arguments):
            number = ctypes.get_errno()
            raise OSError(number, f"{os.strerror(number)}: can't make it read-only for root", str(path))

    def unmount() -> None:
        call(library.umount2, name, _DETACH)

    call(library.mount, name, name, None, ctypes.c_ulong(_BIND), None)
    try:
        call(library.mount, None, name, None, ctypes.c_ulong(_BIND | _REMOUNT | _READ_ONLY), None)
    except OSError:
        unmount()
        raise
    return unmount

"""The guard: ends the process groups of a parent's workers when the parent dies, however it dies.

And it beats for their claims: it touches the files that tell other machines that these processes live, and marks the
claims of those that have ended.

Runs as a program of its own, with nothing imported that it does not need. It is told on its standard input,
a line each:

    +<group>                          watch this process group
    -<group>                          it has ended by itself
    ~<group>                          it has ended, because it was asked to
    !<group>                          it has ended; what is to be said of its claims follows
    .                                 the parent lives, and needs no guard any more
    *<pid> <milliseconds> <path>      touch this file so often while that process lives; % and newline as %25 and %0A

When that ends, or the parent is gone, it kills all groups it watches and ends. A pipe's end alone is not enough: a
process that the user forked off the parent holds it open.
"""

import _thread
import errno
import os
import select
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from typing import Any
else:
    import _signal as signal  # the same without names for numbers, which take as long to make as Python to start

_QUIET_SECONDS = 0.5
_RECORD, _RELEASED = b".claim-record", b".released-record"  # as ``claims.names`` has it


class Beats:
    """The files that are touched, each for a process.

    In a thread of its own: a server may never answer, and groups must be ended then too.
    """

    def __init__(self) -> None:
        self._files: dict[bytes, list[Any]] = {}  # process id, its start, seconds, when it is due
        self._lock = _thread.allocate_lock()
        self._wake = _thread.allocate_lock()
        self._wake.acquire()
        self._runs = False

    def pids(self) -> set[int]:
        """The processes that files are touched for."""
        with self._lock:
            return {beat[0] for beat in self._files.values()}

    def add(self, pid: int, seconds: float, path: bytes) -> None:
        """Touches the file from now on."""
        with self._lock:
            self._files[path] = [pid, _state(pid)[1], seconds, time.monotonic() + seconds]
            if not self._runs:
                self._runs = True
                _thread.start_new_thread(self._run, ())
        if self._wake.locked():
            self._wake.release()

    def end(self, pid: int, blameless: bool) -> None:
        """The process has ended: its claims are dead; or given up, if it did not end for what it did."""
        with self._lock:
            ended = [path for path, beat in self._files.items() if beat[0] == pid]
            for path in ended:
                del self._files[path]
        for path in ended:
            mark(path, blameless)

    def _run(self) -> None:
        while True:
            now = time.monotonic()
            with self._lock:
                due = [(path, *beat) for path, beat in self._files.items() if beat[3] <= now]
            for path, pid, started, seconds, _ in due:
                # Who is stopped does not beat, so that others may go on; nor who has ended, which the parent will tell.
                goes_on = not _can_go_on(pid, started) or touch(path)
                with self._lock:
                    beat = self._files.get(path)
                    if beat is not None and goes_on:
                        beat[3] = now + seconds
                    elif beat is not None:
                        del self._files[path]
            with self._lock:
                next_due = min((beat[3] for beat in self._files.values()), default=None)
            wait = -1 if next_due is None else max(0.0, next_due - time.monotonic())
            self._wake.acquire(True, wait)


def beat_line(pid: int, path: bytes, seconds: float) -> bytes:
    """What tells the guard to touch a file."""
    path = path.replace(b"%", b"%25").replace(b"\n", b"%0A")
    return b"*%d %d %s\n" % (pid, max(1, round(seconds * 1000)), path)


def touch(path: bytes) -> bool:
    """Beats once; whether that is to be done again. What may pass is ridden out."""
    try:
        os.utime(path, follow_symlinks=False)
    except OSError as error:
        return may_pass(error)
    return True


def may_pass(error: OSError) -> bool:
    """Whether a beat that failed so is to be tried again: unless the file is gone, which says that it is not wanted."""
    return error.errno not in (errno.ENOENT, errno.ENOTDIR)


def mark(path: bytes, blameless: bool) -> None:
    """Says that the claimant has ended: its record goes, or is renamed if it did not end for what it did."""
    try:
        if blameless and path.endswith(_RECORD):
            os.rename(path, path[: -len(_RECORD)] + _RELEASED)
        else:
            os.unlink(path)
    except OSError:
        pass  # others will wait for the lease


def _can_go_on(pid: int, started: bytes) -> bool:
    state, start = _state(pid)
    return state not in "TtZXx" and start == started


def _state(pid: int) -> tuple[str, bytes]:
    """The state of a process, X if it is gone, and what tells it from a later one of that id."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
        return fields[0].decode(), fields[19]
    except (OSError, IndexError):
        pass
    if os.path.exists("/proc/self/stat"):
        return "X", b""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return "X", b""
    except OSError:
        pass
    return "S", b""


def _was_terminated(pid: int) -> bool:
    """Whether SIGTERM ended it, while that can still be seen; or was sent to all, this process too."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            code = int(file.read().rpartition(b")")[2].split()[49])
    except (OSError, IndexError, ValueError):
        code = 0
    return _terminated or code & 0x7F == signal.SIGTERM


_terminated = False


def _note_sigterm(*_: object) -> None:
    """Whoever ends a whole job tells the guard as well; it ends when its parent has."""
    global _terminated
    _terminated = True


def main(parent: int) -> None:
    """Watches until the parent, the process with this id, is gone."""
    signal.signal(signal.SIGTERM, _note_sigterm)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    _let_go_of_inherited()
    try:
        watched = os.pidfd_open(parent)
    except (AttributeError, OSError):
        watched = -1
    groups: set[int] = set()
    beats = Beats()
    text = b""
    while True:
        *lines, text = text.split(b"\n")
        for line in lines:
            if line == b".":
                return
            _heed(line, groups, beats)
        gone = os.getppid() != parent  # perhaps before this process began
        patience = 0 if gone else _QUIET_SECONDS if watched < 0 else None
        ready, _, _ = select.select([0, watched] if watched >= 0 else [0], [], [], patience)
        if 0 in ready:  # first: it may say what is to be ended
            data = os.read(0, 65536)
            if not data:
                break
            text += data
        elif gone or watched in ready:
            break
    blameless = _was_terminated(parent)
    for group in groups:
        try:
            os.killpg(group, signal.SIGKILL)
        except OSError:
            pass  # it has ended by itself
    for group in groups:
        beats.end(group, blameless=True)  # they ended with their parent
    beats.end(parent, blameless)
    for pid in beats.pids():  # of these it was about to be told more
        beats.end(pid, blameless=False)


def _let_go_of_inherited() -> None:
    """Of the parent's session, its directory, and what its program lets others inherit."""
    if os.getsid(0) != os.getpid():
        os.setsid()
    os.chdir("/")
    try:
        numbers = [int(name) for name in os.listdir("/dev/fd")]
    except (OSError, ValueError):
        numbers = list(range(min(os.sysconf("SC_OPEN_MAX"), 1 << 16)))
    for number in numbers:
        if number > 2:
            try:
                os.close(number)
            except OSError:
                pass  # it was that of the listing, or is not open


def _heed(line: bytes, groups: set[int], beats: Beats) -> None:
    kind, rest = line[:1], line[1:]
    if not line:
        return
    if kind == b"+":
        groups.add(int(rest))
    elif kind == b"!":
        groups.discard(int(rest))
    elif kind == b"*":
        pid, milliseconds, path = rest.split(b" ", 2)
        beats.add(int(pid), int(milliseconds) / 1000, path.replace(b"%0A", b"\n").replace(b"%25", b"%"))
    else:
        groups.discard(int(rest))
        beats.end(int(rest), blameless=kind == b"~")


def command(parent: int) -> list[str]:
    """What starts the guard of the process with this id as a program."""
    # Imported rather than run, which would compile it anew each time.
    program = (
        f"import sys; sys.path.append({os.path.dirname(os.path.abspath(__file__))!r}); "
        f"import guard_process; guard_process.main({parent})"
    )
    # A program that embeds Python is no interpreter, but one may be installed beside it.
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    python = sys.executable or os.path.join(sys.exec_prefix, "bin", f"python{version}")
    # -I -S: neither the user's environment nor site-packages can slow it down or change it.
    flags = ["-I", "-S"]
    if sys.dont_write_bytecode:
        flags.append("-B")
    if sys.pycache_prefix is not None:
        flags += ["-X", f"pycache_prefix={sys.pycache_prefix}"]
    return [python, *flags, "-c", program]

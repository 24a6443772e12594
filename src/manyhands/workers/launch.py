"""Starting workers, and hearing of their start and their end: one launcher for each start method.

Workers lead process groups of their own, so that a worker and what it started can be ended together, and so
that Ctrl-C in a terminal reaches the parent alone.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from manyhands.settings import StartMethod

# Not in the functions: a fork of the user's amid an import in a thread leaves its child half a module, and locked.
from manyhands.workers import child, crew, records  # noqa: F401
from manyhands.workers.forkserver import REPORT, REQUEST

starting = threading.RLock()
"""Held while a process is started, and by every fork: one that is forked meanwhile would keep the other's pipes open,
and who waits for their end would wait for it."""


_forking = 0


def fork(body: Callable[[], object]) -> int | None:
    """Forks this process; the child calls ``body`` and ends. Returns its process id.

    None: there is no child. Once the main thread has ended, Python forks no more (from 3.12 on).
    """
    global _forking
    with starting, _signals_held():
        _forking = threading.get_ident()
        try:
            pid = os.fork()
        except RuntimeError:
            return None
        finally:
            _forking = 0
        if pid == 0:
            try:
                body()
            finally:
                os._exit(1)  # never back into the frames below: they are the parent's
    return pid


def forks_for_itself() -> bool:
    """In a child that was just forked: whether it is the library's, not the user's."""
    return _forking == threading.get_ident()


@contextmanager
def _signals_held() -> Iterator[None]:
    """What is started meanwhile is told of no interrupt before it asks for that."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _before_fork() -> None:
    starting.acquire()


def _after_fork() -> None:
    starting.release()


def _renew_lock() -> None:
    global starting
    starting = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_renew_lock)


@dataclass(frozen=True, slots=True)
class Started:
    """The worker with this number runs as the process ``pid``."""

    worker: int
    pid: int


@dataclass(frozen=True, slots=True)
class Ended:
    """The worker's process has ended, with this exit status or minus this signal; None if that is not known."""

    worker: int
    exitcode: int | None


Report = Started | Ended


class Launcher(Protocol):
    """Starts workers. Used by one thread."""

    def launch(self, worker: int, end: socket.socket) -> None:
        """Starts a worker on its ``end`` of a channel, and closes that here; raises OSError if it can't."""
        ...

    def descriptors(self) -> list[int]:
        """What becomes readable when there may be reports."""
        ...

    def reports(self) -> list[Report]:
        """What has happened since; does not wait."""
        ...

    def close(self) -> None:
        """Ends the launcher, without its workers."""
        ...

    def disown(self) -> None:
        """In a forked child: the workers, and what starts them, are the parent's."""
        ...


class _Children:
    """Workers that are children of this process."""

    def __init__(self) -> None:
        self._pids: dict[int, int] = {}
        self._watches: dict[int, int] = {}
        self._reports: list[Report] = []

    def launch(self, worker: int, end: socket.socket) -> None:
        """Starts a worker."""
        with end:
            pid = self._start(end)
        self._pids[worker] = pid
        try:
            self._watches[worker] = os.pidfd_open(pid)
        except (AttributeError, OSError):
            pass  # its end is noticed by its closed channel
        self._reports.append(Started(worker, pid))

    def _start(self, end: socket.socket) -> int:
        raise AssertionError("a launcher says how it starts a worker")

    def descriptors(self) -> list[int]:
        """One for each worker, where the platform has them."""
        return list(self._watches.values())

    def reports(self) -> list[Report]:
        """Reaps what has ended."""
        for worker, pid in list(self._pids.items()):
            exitcode: int | None
            try:
                if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                    continue
                end_group(pid)  # what the worker left behind; its id is not reused before it is reaped
                exitcode = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            except ChildProcessError:
                exitcode = None  # the user's program reaps all children itself
            del self._pids[worker]
            watch = self._watches.pop(worker, None)
            if watch is not None:
                os.close(watch)
            self._reports.append(Ended(worker, exitcode))
        reports, self._reports = self._reports, []
        return reports

    def close(self) -> None:
        """Nothing but the watches."""
        for watch in self._watches.values():
            os.close(watch)
        self._watches.clear()

    disown = close


def _spawn(end: socket.socket) -> int:
    with _signals_held():
        process = _interpreter("manyhands.workers.child", end, process_group=0)
    process.returncode = 0  # reaped here, by process id, so that subprocess leaves it alone
    return process.pid


def flush_streams() -> None:
    """Writes what waits in the streams of this process."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()


class ForkLauncher(_Children):
    """Forks this very process: fast, and risky where other threads hold locks.

    Where Python forks no more, a new interpreter is started.
    """

    def _start(self, end: socket.socket) -> int:
        flush_streams()  # or what a forked worker inherits might be written a second time

        def work() -> None:
            os.setpgid(0, 0)
            child.forget_inherited()
            child.serve(end)

        elsewhere = _other_cores()
        pid = fork(work)
        if pid is None:
            return _spawn(end)
        elsewhere(pid)
        child.lead_group(pid)
        return pid


def _other_cores() -> Callable[[int], None]:
    """Moves a process that is forked next off this thread's core, where the kernel may leave it.

    It would wait there while this thread goes on, some milliseconds if no other core is seen to be idle before.
    """
    try:
        allowed = os.sched_getaffinity(0)
        others = set() if _is_filtered() else allowed - {_own_core()}
    except (AttributeError, OSError, ValueError, IndexError):
        others = allowed = set()  # not this platform

    def move(pid: int) -> None:
        try:
            if others:
                os.sched_setaffinity(pid, others)
                os.sched_setaffinity(pid, allowed)
        except OSError:
            pass  # it has ended already, or the cores were taken away

    return move


def _own_core() -> int:
    """The core that this thread runs on, from proc(5): field 39 of ``stat``, counted from the command's end."""
    return int(_of_this_thread("stat").rpartition(b")")[2].split(maxsplit=37)[36])


def _is_filtered() -> bool:
    """Whether only some system calls are allowed: others may end the process."""
    return b"Seccomp:\t0" not in _of_this_thread("status")


def _of_this_thread(file: str) -> bytes:
    descriptor = os.open(f"/proc/thread-self/{file}", os.O_RDONLY)
    try:
        return os.read(descriptor, 1 << 14)
    finally:
        os.close(descriptor)


class SpawnLauncher(_Children):
    """Starts a new interpreter for every worker."""

    def _start(self, end: socket.socket) -> int:
        return _spawn(end)


class ForkServer:
    """The parent's handle on its fork server: a process without threads that has the library imported."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._door: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def connect(self) -> socket.socket:
        """A pool's own socket to the server, which is started if there is none; raises OSError if it can't be."""
        ours, theirs = socket.socketpair()
        with theirs, self._lock:
            for _ in range(2):
                if self._door is None:
                    self._start()
                try:
                    assert self._door is not None
                    socket.send_fds(self._door, [b"+"], [theirs.fileno()])
                except OSError:  # somebody has ended it
                    self._end()
                else:
                    return ours
        ours.close()
        raise ChildProcessError("the fork server ended at once")

    def _start(self) -> None:
        self._door, theirs = socket.socketpair()
        with theirs:
            # A session of its own keeps the terminal's signals away from it.
            self._process = _interpreter("manyhands.workers.forkserver", theirs, start_new_session=True)

    def close(self) -> None:
        """Ends the server; the workers must have ended before."""
        with self._lock:
            self._end()

    def _end(self) -> None:
        door, self._door = self._door, None
        process, self._process = self._process, None
        if door is not None:
            door.close()
        if process is not None:
            process.wait()

    def abandon(self) -> None:
        """In a forked child: the server is the parent's."""
        self._lock = threading.Lock()
        if self._process is not None:
            self._process.returncode = 0  # so that nobody here waits for it
        self._end()


fork_server = ForkServer()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=fork_server.abandon)


class ForkServerLauncher:
    """Asks the fork server to fork workers."""

    def __init__(self) -> None:
        self._control: socket.socket | None = None
        self._workers: set[int] = set()

    def launch(self, worker: int, end: socket.socket) -> None:
        """Sends the request; the server reports the start."""
        with end:
            if self._control is None:
                self._control = fork_server.connect()
            socket.send_fds(self._control, [REQUEST.pack(worker)], [end.fileno()])
        self._workers.add(worker)

    def descriptors(self) -> list[int]:
        """The control socket."""
        return [] if self._control is None else [self._control.fileno()]

    def reports(self) -> list[Report]:
        """What the server has reported; when it is gone, all its workers are taken for ended."""
        reports: list[Report] = []
        while self._control is not None and _readable(self._control):
            try:
                data = self._control.recv(REPORT.size, socket.MSG_WAITALL)
            except OSError:
                data = b""
            if not data:
                self.close()
                reports.extend(Ended(worker, None) for worker in self._workers)
                self._workers.clear()
                break
            kind, worker, pid, status = REPORT.unpack(data)
            if kind == b"S":
                reports.append(Started(worker, pid))
            else:
                self._workers.discard(worker)
                reports.append(Ended(worker, os.waitstatus_to_exitcode(status)))
        return reports

    def close(self) -> None:
        """Closes the pool's socket."""
        control, self._control = self._control, None
        if control is not None:
            control.close()

    disown = close


LAUNCHERS: dict[StartMethod, Callable[[], Launcher]] = {
    "fork": ForkLauncher,
    "spawn": SpawnLauncher,
    "forkserver": ForkServerLauncher,
}


def end_group(pid: int) -> None:
    """Kills a worker and what it started; what has ended already is fine."""
    for end in (os.killpg, os.kill):  # the task may have moved its process to another group
        try:
            end(pid, signal.SIGKILL)
        except OSError:
            pass


def _readable(end: socket.socket) -> bool:
    poll = select.poll()
    poll.register(end, select.POLLIN)
    return bool(poll.poll(0))


def _interpreter(
    module: str, end: socket.socket, process_group: int | None = None, start_new_session: bool = False
) -> subprocess.Popen[bytes]:
    """A new interpreter like this one that calls ``module.main`` with the descriptor of ``end``."""
    # The path as it is here, so that the library itself is found; the user's script is never run.
    program = (
        f"import sys; sys.path[:] = {search_path()!r}; sys._manyhands_worker = True; "
        f"from {module} import main; main({end.fileno()})"
    )
    flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    with starting:
        return subprocess.Popen(
            [sys.executable, *flags, "-c", program],
            pass_fds=[end.fileno()],
            process_group=process_group,
            start_new_session=start_new_session,
            stdin=subprocess.DEVNULL,
        )


def search_path() -> tuple[str, ...]:
    """``sys.path`` for a worker: what is no str, Python's own import ignores too."""
    return tuple([entry for entry in sys.path if isinstance(entry, str)])

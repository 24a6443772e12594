"""The parent's handle on its guard process; see ``guard_process`` for what the guard does."""

from __future__ import annotations

import os
import select
import signal
import threading
from functools import partial
from typing import Final

from manyhands.workers import guard_process, launch

_END_SECONDS: Final = 1.0
"""A guard that does not end after so long is stopped, or waits for a file server."""


_BEATS_LEAST: Final = 256
"""So many files at least are remembered before those are looked for that are gone."""


class Guard:
    """One guard per process, started with its first worker or claim; another, should that one end."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._groups: set[int] = set()
        self._beats: dict[bytes, tuple[int, float]] = {}
        self._beats_max = _BEATS_LEAST
        self._pid = 0
        self._end = -1  # of the pipe that it reads

    def watch(self, group: int) -> None:
        """Ends this process group, which a worker leads, if this process dies.

        Raises:
            OSError: there is no guard, and none can be started.
        """
        with self._lock:
            self._groups.add(group)
            self._have_told(b"+%d\n" % group)

    def beat(self, pid: int, path: bytes, seconds: float) -> None:
        """Touches this file every so many seconds, while it is there and the process lives.

        Raises:
            OSError: there is no guard, and none can be started.
        """
        with self._lock:
            self._beats[path] = pid, seconds
            if len(self._beats) > self._beats_max:
                self._beats = {path: beat for path, beat in self._beats.items() if os.path.lexists(path)}
                self._beats_max = max(_BEATS_LEAST, 2 * len(self._beats))
            self._have_told(guard_process.beat_line(pid, path, seconds))

    def left(self, group: int) -> None:
        """The process group has ended; ``forget`` follows when this process has had time for a verdict of its own."""
        with self._lock:
            self._groups.discard(group)
            if self._end >= 0:
                self._tell(b"!%d\n" % group)

    def forget(self, group: int, blameless: bool = False) -> None:
        """The process group has ended; ``blameless``: it was asked to, so that it speaks against nothing it was at."""
        with self._lock:
            self._groups.discard(group)
            self._beats = {path: beat for path, beat in self._beats.items() if beat[0] != group}
            if self._end >= 0:
                self._tell((b"~%d\n" if blameless else b"-%d\n") % group)

    def abandon(self) -> None:
        """In a forked child: the guard is the parent's."""
        self._lock = threading.Lock()
        self._groups.clear()
        self._beats.clear()
        self._let_go()

    def close(self) -> None:
        """Ends the guard; the workers must have ended before."""
        with self._lock:
            self._groups.clear()
            self._beats.clear()
            self._end_it()

    def _have_told(self, line: bytes) -> None:
        """Tells the guard; if there is none, one is started, and told all that the last one was. Under the lock."""
        if self._end >= 0 and self._tell(line):
            return
        self._pid, self._end = _start()
        for group in self._groups:
            self._tell(b"+%d\n" % group)
        for path, (pid, seconds) in self._beats.items():
            self._tell(guard_process.beat_line(pid, path, seconds))

    def _tell(self, line: bytes) -> bool:
        """Returns whether there is somebody to be told. Under the lock."""
        try:
            while line:
                try:
                    line = line[os.write(self._end, line) :]
                except BlockingIOError:  # its pipe is full: it is only just starting, perhaps
                    if not select.select([], [self._end], [], _END_SECONDS)[1]:
                        raise
        except OSError:  # somebody ended it, or it is stuck
            self._end_it()
            return False
        return True

    def _end_it(self) -> None:
        try:
            os.write(self._end, b".\n")
        except OSError:
            pass  # it is gone, or stuck; or there is none
        pid = self._let_go()
        if not pid:
            return
        try:
            if not _has_ended(pid, _END_SECONDS):
                os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        except (ChildProcessError, ProcessLookupError):
            pass  # the user's program reaps all children itself

    def _let_go(self) -> int:
        pid, end, self._pid, self._end = self._pid, self._end, 0, -1
        if end >= 0:
            os.close(end)
        return pid


def _start() -> tuple[int, int]:
    """Process id of a new guard, which may only be starting, and the end of a pipe to it."""
    theirs, ours = os.pipe()
    try:
        os.set_blocking(ours, False)
        return _spawn(theirs), ours
    except BaseException:
        os.close(ours)
        raise
    finally:
        os.close(theirs)


def _spawn(end: int) -> int:
    """Starts the program, which reads from ``end``; returns its process id. Raises OSError.

    Not by ``subprocess``, which takes longer: a worker may wait for it.
    """
    actions = [
        (os.POSIX_SPAWN_DUP2, end, 0),
        (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
        (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
    ]
    if end == 0:  # the program has closed its stdin
        os.set_inheritable(end, True)
    command = guard_process.command(os.getpid())
    spawn = partial(
        os.posix_spawn,
        command[0],
        command,
        _environment(),
        file_actions=actions,
        setsigmask=(signal.SIGTERM,),  # until it is ready for that
        setsigdef=(signal.SIGPIPE, signal.SIGXFSZ),
    )
    with launch.starting:
        try:
            return spawn(setsid=True)  # keeps Ctrl-C and a closing terminal away from it
        except NotImplementedError:
            return spawn()  # it does so itself, as soon as it runs


def _environment() -> dict[str, str]:
    """The variables, as far as they can be passed on; other threads may be setting some."""
    values = {name: os.environ.get(name) for name in list(os.environ)}
    return {name: value for name, value in values.items() if name and value is not None}


def _has_ended(pid: int, seconds: float) -> bool:
    """Waits for a child's end for so long, and does not reap it."""
    try:
        watch = os.pidfd_open(pid)
    except (AttributeError, OSError):
        return True  # as far as this platform can say
    try:
        return bool(select.select([watch], [], [], seconds)[0])
    finally:
        os.close(watch)


guard = Guard()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=guard.abandon)

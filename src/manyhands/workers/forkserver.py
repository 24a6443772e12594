"""The fork server: a small process without threads that forks workers for its parent.

It has imported what a worker needs and nothing of the user's, so a fork is quick and safe; what only some workers
need it imports as soon as it has nothing to do. There is one for all pools
of a program. Through its door, a socket, come other sockets, one from each pool. A request on one of those is the
worker's number, with the worker's end of its channel attached; each start and each end of a worker is reported there.
The server ends when the door closes; should workers live then, they are killed.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import struct
from contextlib import suppress
from importlib import import_module
from typing import Final

from manyhands.workers import child

_PRELOADED: Final = ("manyhands.decorators.work", "manyhands.workers.crew", "cloudpickle")
"""Functions with policies, workers with threads and functions of scripts need them, and it takes a while: better here
than in each worker, but not before the first worker runs."""

_QUIET_SECONDS: Final = 0.05

REQUEST: Final = struct.Struct("<q")
REPORT: Final = struct.Struct("<cqqq")
"""``b"S"`` started or ``b"E"`` ended; the worker's number; its process id; its exit status as from waitpid."""

_NOT_STARTED: Final = 1 << 8


def main(descriptor: int) -> None:
    """The whole life of a fork server."""
    with socket.socket(fileno=descriptor) as door:
        _Server(door).serve()


class _Server:
    def __init__(self, door: socket.socket) -> None:
        self._door = door
        self._pools: dict[int, socket.socket] = {}  # by descriptor
        self._workers: dict[int, tuple[socket.socket, int]] = {}  # by process id: whose, and its number
        self._woken, self._wake = os.pipe()
        self._to_load = list(_PRELOADED)

    def serve(self) -> None:
        os.set_blocking(self._wake, False)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        while True:
            patience = _QUIET_SECONDS if self._to_load and self._workers else None
            ready, _, _ = select.select([self._door.fileno(), self._woken, *self._pools], [], [], patience)
            if not ready:
                with suppress(Exception):  # a worker that needs it will tell
                    import_module(self._to_load.pop(0))
            if self._woken in ready:
                os.read(self._woken, 4096)
                self._report_ended()
            if self._door.fileno() in ready and not self._admit():
                break
            for descriptor in ready:
                if descriptor in self._pools:
                    self._attend(self._pools[descriptor])
        for pid in self._workers:
            _kill_group(pid)

    def _admit(self) -> bool:
        """A new pool; returns whether the parent is there still."""
        data, descriptors, _, _ = _receive(self._door, 1)
        for descriptor in descriptors:
            self._pools[descriptor] = socket.socket(fileno=descriptor)
        return bool(data)

    def _attend(self, pool: socket.socket) -> None:
        data, descriptors, _, _ = _receive(pool, REQUEST.size)
        if not data:
            self._dismiss(pool)
            return
        (number,) = REQUEST.unpack(data)
        if not descriptors:  # there was none left for it
            _report(pool, b"E", number, 0, _NOT_STARTED)
            return
        end = socket.socket(fileno=descriptors[0])
        try:
            pid = os.fork()
        except OSError:  # there are too many processes
            end.close()
            _report(pool, b"E", number, 0, _NOT_STARTED)
            return
        if pid == 0:
            self._become_worker(end)
        end.close()
        child.lead_group(pid)
        self._workers[pid] = pool, number
        _report(pool, b"S", number, pid, 0)

    def _become_worker(self, end: socket.socket) -> None:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for unneeded in (self._woken, self._wake):
            os.close(unneeded)
        for other in (self._door, *self._pools.values()):
            other.close()
        os.setpgid(0, 0)
        child.serve(end)

    def _dismiss(self, pool: socket.socket) -> None:
        """The pool has closed; its workers have ended before, or else they end now."""
        for pid, (owner, _) in self._workers.items():
            if owner is pool:
                _kill_group(pid)
        del self._pools[pool.fileno()]
        pool.close()

    def _report_ended(self) -> None:
        while self._workers:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if ended is None:
                return
            _kill_group(ended.si_pid)  # what the worker started and left behind
            _, status = os.waitpid(ended.si_pid, 0)
            pool, number = self._workers.pop(ended.si_pid)
            _report(pool, b"E", number, ended.si_pid, status)


def _receive(end: socket.socket, size: int) -> tuple[bytes, list[int], int, object]:
    try:
        return socket.recv_fds(end, size, 1)
    except ConnectionError:
        return b"", [], 0, None


def _report(pool: socket.socket, kind: bytes, number: int, pid: int, status: int) -> None:
    try:
        pool.send(REPORT.pack(kind, number, pid, status))
    except OSError:
        pass  # it has closed


def _kill_group(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except OSError:
        pass

"""The fork server: a small process without threads that forks workers for its parent.

It has imported what a worker needs and nothing of the user's, so a fork is quick and safe. A request on its
control socket is the worker's number, with the worker's end of its channel attached. It reports each start and
each end of a worker, and ends when the control socket closes; should workers live then, they are killed.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import struct
from typing import Final

from manyhands.workers import child

REQUEST: Final = struct.Struct("<q")
REPORT: Final = struct.Struct("<cqqq")
"""``b"S"`` started or ``b"E"`` ended; the worker's number; its process id; its exit status as from waitpid."""


def main(descriptor: int) -> None:
    """The whole life of a fork server."""
    workers: dict[int, int] = {}
    try:
        with socket.socket(fileno=descriptor) as control:
            _serve(control, workers)
    except ConnectionError:
        pass  # the parent is gone, and hears no report
    for pid in workers:
        _kill_group(pid)


def _serve(control: socket.socket, workers: dict[int, int]) -> None:
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    while True:
        ready, _, _ = select.select([control.fileno(), woken], [], [])
        if woken in ready:
            os.read(woken, 4096)
            _report_ended(control, workers)
        if control.fileno() in ready:
            data, descriptors, _, _ = socket.recv_fds(control, REQUEST.size, 1)
            if not data:
                return
            (worker,) = REQUEST.unpack(data)
            if not descriptors:  # there was none left for it
                control.send(REPORT.pack(b"E", worker, 0, 1 << 8))
                continue
            end = socket.socket(fileno=descriptors[0])
            try:
                pid = os.fork()
            except OSError:  # there are too many processes
                end.close()
                control.send(REPORT.pack(b"E", worker, 0, 1 << 8))
                continue
            if pid == 0:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                for unneeded in (woken, wake):
                    os.close(unneeded)
                control.close()
                os.setpgid(0, 0)
                child.serve(end)
            end.close()
            child.lead_group(pid)
            workers[pid] = worker
            control.send(REPORT.pack(b"S", worker, pid, 0))


def _report_ended(control: socket.socket, workers: dict[int, int]) -> None:
    while workers:
        ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if ended is None:
            return
        _kill_group(ended.si_pid)  # what the worker started and left behind
        _, status = os.waitpid(ended.si_pid, 0)
        control.send(REPORT.pack(b"E", workers.pop(ended.si_pid), ended.si_pid, status))


def _kill_group(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except OSError:
        pass

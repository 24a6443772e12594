"""The worker process: sets itself up, runs calls in the order they come, answers each, and ends.

It imports little, so that it starts fast; the user's modules come with the work.
"""

from __future__ import annotations

import atexit
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

from manyhands.outcome import Answer, Failed, add_note, traceback_text
from manyhands.workers import payload
from manyhands.workers.channel import WorkerChannel
from manyhands.workers.marker import Marker, receive_marker
from manyhands.workers.messages import Answers, Forget, Forgotten, Load, Ready, Run, Setup, Stop, Unready

Work = Callable[[Any], Answer]

_name = ""


def worker_name() -> str:
    """The name of the worker this is running in, ``"<host>:<pid>"``; empty in any other process."""
    return _name


def own_name() -> str:
    """The name of this process, worker or not, ``"<host>:<pid>"``."""
    return _name or f"{socket.gethostname()}:{os.getpid()}"


def main(descriptor: int) -> None:
    """The whole life of a worker that was started as a program of its own."""
    serve(socket.socket(fileno=descriptor))


def lead_group(pid: int) -> None:
    """Makes a worker the leader of a process group; it does so itself too, whoever comes first."""
    try:
        os.setpgid(pid, pid)
    except OSError:
        pass


def forget_inherited() -> None:
    """In a forked worker: what the parent registered to do at its end is not for this process to do."""
    atexit._clear()


def serve(end: socket.socket) -> None:
    """The whole life of a worker; does not return."""
    status = 1
    try:
        _own_process()
        end.setblocking(True)
        end.set_inheritable(False)  # a subprocess of the user's would keep the channel open
        marker = receive_marker(end)
        _Child(WorkerChannel(end), marker).live()
        status = 0
    except (EOFError, OSError):
        pass  # the parent is gone, so nobody waits for an answer
    except BaseException:  # a finalizer of the user's may raise anything; there is nobody else to tell
        traceback.print_exc()
    finally:
        try:
            atexit._run_exitfuncs()
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            # Never back into the frames below: in a forked worker they are the parent's.
            os._exit(status)


def _own_process() -> None:
    """Makes this process independent of the terminal and of what it was forked from."""
    signal.signal(signal.SIGINT, _ignore)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM})
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)


def _ignore(signum: int, frame: object) -> None:
    """Ctrl-C is the parent's to handle. Not SIG_IGN: that would be inherited by the user's subprocesses."""


class _Child:
    def __init__(self, channel: WorkerChannel, marker: Marker) -> None:
        self._channel = channel
        self._marker = marker
        self._works: dict[int, tuple[Load, Work | Failed]] = {}

    def live(self) -> None:
        finalizer = self._set_up()
        if finalizer is _NOT_SET_UP:
            return
        while True:
            message, parts = self._channel.receive()
            match message:
                case Run(number, tickets):
                    for ticket, blob in zip(tickets, parts, strict=True):
                        self._run(number, ticket, blob)
                case Load(number):
                    self._marker.load()
                    self._works[number] = message, _loaded(message, parts[0])
                case Forget(number):
                    self._forget(number)
                    self._channel.send(Forgotten(number))
                case Stop():
                    break
        for number in list(self._works):
            self._forget(number)
        if finalizer is not None:
            finalizer()

    def _set_up(self) -> Any:
        global _name
        setup, (initializer, finalizer) = self._channel.receive()
        assert isinstance(setup, Setup)
        _name = f"{setup.name}:{os.getpid()}"
        try:
            end = payload.loads(finalizer) if finalizer else None
            if initializer:
                payload.loads(initializer)()
        except BaseException as error:  # an initializer that calls sys.exit must be told too
            self._channel.send(Unready(f"{payload.carried(error)}\n{traceback_text(error, skip=1)}"))
            return _NOT_SET_UP
        self._channel.send(Ready(os.getpid()))
        return end

    def _run(self, number: int, ticket: int, blob: bytes) -> None:
        self._marker.begin(ticket)
        load, work = self._works[number]
        start = time.perf_counter()
        answer: Answer
        if isinstance(work, Failed):
            answer = work
        else:
            try:
                _go_to(load)
                answer = work(payload.loads(blob))
            except Exception as error:
                answer = Failed(error, traceback_text(error, skip=1))
            except BaseException as error:
                # sys.exit or KeyboardInterrupt in a task is that item's failure, and must not end the parent
                answer = Failed(payload.carried(error), traceback_text(error, skip=1))
        seconds = time.perf_counter() - start
        self._channel.send(Answers(ticket, seconds), payload.dumps_answer(answer))

    def _forget(self, number: int) -> None:
        _, work = self._works.pop(number, (None, None))
        close = getattr(work, "close", None)
        if close is not None:
            close()


_NOT_SET_UP = object()


def _loaded(load: Load, blob: bytes) -> Work | Failed:
    try:
        _go_to(load)
        return payload.loads(blob)  # type: ignore[no-any-return]
    except BaseException as error:
        add_note(error, "raised in a worker process, as it loaded the function")
        return Failed(error, traceback_text(error, skip=1))


def _go_to(load: Load) -> None:
    """Be where the caller is, and import from where it does."""
    if tuple(sys.path) != load.sys_path:
        sys.path[:] = load.sys_path
    try:
        if os.getcwd() == load.directory:
            return
    except OSError:
        pass  # where it was is gone
    os.chdir(load.directory)

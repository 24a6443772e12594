"""The worker process: sets itself up, runs calls in the order they come, answers them, and ends.

It imports little, so that it starts fast; the user's modules come with the work.
"""

from __future__ import annotations

import atexit
import os
import signal
import socket
import sys
import threading
import time
from collections import deque
from importlib import _bootstrap
from typing import Any, Final

from manyhands.calls import Failed, add_note, traceback_text
from manyhands.workers import namespaces, payload, place, pulse
from manyhands.workers.channel import CONTROL, RUN, Frame, WorkerChannel, control, message_of
from manyhands.workers.flusher import Flusher
from manyhands.workers.lane import Lane, Work
from manyhands.workers.marker import Marker, receive_marker
from manyhands.workers.memory import MemoryWatch
from manyhands.workers.messages import Beat, Forget, Forgotten, Full, Load, Message, Ready, Setup, Stop, Unready
from manyhands.workers.outlet import Outlet
from manyhands.workers.shared import SharedMemory
from manyhands.workers.tether import tether

_GUARD_SECONDS: Final = 0.0001
"""Between two looks whether a guard is there: mostly it is before it is asked for."""


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
    """In a forked worker: the parent's end is not this process's, nor are its other threads here.

    What one of those was importing would never be there, and its lock be held for ever: it is imported anew, if it is
    needed here.
    """
    atexit._clear()
    locks: dict[str, object] = getattr(_bootstrap, "_module_locks", {})
    for name in list(locks):
        spec = getattr(sys.modules.get(name), "__spec__", None)
        if getattr(spec, "_initializing", False):
            sys.modules.pop(name, None)
    locks.clear()


def serve(end: socket.socket) -> None:
    """The whole life of a worker; does not return."""
    status = 1
    try:
        _own_process()
        end.setblocking(True)
        end.set_inheritable(False)  # a subprocess of the user's would keep the channel open
        marker, side = receive_marker(end)
        side.set_inheritable(False)
        Child(WorkerChannel(end), marker, SharedMemory(side)).live()
        status = 0
    except (EOFError, OSError):
        pass  # the parent is gone, so nobody waits for an answer
    except BaseException:  # a finalizer of the user's may raise anything; there is nobody else to tell
        import traceback

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
    tether()
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)


def _ignore(signum: int, frame: object) -> None:
    """Ctrl-C is the parent's to handle. Not SIG_IGN: that would be inherited by the user's subprocesses."""


class _Opened:
    """A work that was loaded, and how many lanes are at it."""

    def __init__(self, load: Load, work: Work | Failed) -> None:
        self.load = load
        self.work = work
        self.users = 0
        self.forgotten = False
        self.tells = False  # the parent waits to hear that it is closed

    def go_home(self) -> None:
        """Back to where the caller was, if that is there."""
        try:
            _go_to(self.load)
        except OSError:
            pass

    def close_if_unused(self) -> bool:
        """Whether it is closed now: a lane that has sent its last answer is still at it for a moment."""
        if not self.forgotten or self.users:
            return False
        close = getattr(self.work, "close", None)
        if close is not None:
            close()
        return True


class Child:
    """A worker, as it is in its own process."""

    def __init__(self, channel: WorkerChannel, marker: Marker, shared: SharedMemory) -> None:
        self._channel = channel
        self._marker = marker
        self._shared = shared
        shared.is_of_this_process()
        os.register_at_fork(before=shared.pin, after_in_parent=shared.pin)
        self._works: dict[int, _Opened] = {}
        self._opening = threading.Lock()
        self._memory: MemoryWatch | None = None
        self._sending = threading.RLock()  # a finaliser may print something in the middle of it
        self._is_sending = False
        self._told: deque[Frame] = deque()  # meanwhile
        self._outlet = Outlet(self._tell, marker)

    def live(self) -> None:
        """From the setting up to the end."""
        finalizer = self._set_up()
        if finalizer is _NOT_SET_UP:
            return
        if self._marker.threads == 1:
            self._work_alone()
        else:
            from manyhands.workers.crew import Crew

            Crew(self._marker, self._channel, self).work()
        for number in list(self._works):
            self._forget(number)
        if finalizer is not None:
            finalizer()

    def _work_alone(self) -> None:
        flusher = Flusher(self._channel.take_unbegun, self.send_frames)
        lane = self.new_lane(0, self._marker, flusher)
        while True:
            if not self._channel.has_frame:
                lane.push()
                self.look_at_memory()
            frame = self._channel.receive(spin=lane.was_quick)
            if frame.kind == RUN:
                self.run(lane, frame)
            else:
                lane.push()
                if not self.take(message_of(frame)):
                    return
            del frame  # it may be large, and nothing may come for long

    def new_lane(self, number: int, marker: Marker, flusher: Flusher) -> Lane:
        """A lane that the flusher looks after."""
        lane = Lane(number, marker, self.send_frames, flusher, self._shared)
        flusher.watch(lane)
        os.register_at_fork(after_in_child=lane.forked)
        return lane

    def take(self, message: Message) -> bool:
        """Does what the parent says; returns whether to go on."""
        match message:
            case Load(number):
                self._await_guard()
                self._marker.loads(True)
                self._outlet.adopt(message.levels)
                self._works[number] = _Opened(message, _loaded(message, self._shared))
                self._marker.loads(False)
            case Forget(number, tell):
                self._forget(number, tell)
            case Stop():
                return False
            case Ready() | Unready() | Forgotten() | Full() | Beat() | Setup():
                raise AssertionError(f"not for a worker: {message!r}")
            case noted:
                self._shared.take_in(noted)
                if noted.rests:
                    self.send_frames()  # with what it comes to
        return True

    def run(self, lane: Lane, piece: Frame) -> None:
        """Has the calls of a RUN frame run; if their work was forgotten meanwhile, they are handed back."""
        with self._opening:
            opened = self._works.get(piece.work)
            if opened is not None:
                opened.users += 1
        if opened is None:
            lane.refuse(piece)
            return
        try:
            work = _placed(opened)
            if self._marker.threads == 1:
                lane.run(piece, work, opened.go_home)
            else:  # the directory is everybody's
                lane.run(piece, work)
        finally:
            with self._opening:
                opened.users -= 1
                closed = opened.close_if_unused()
            if closed and opened.tells:
                self._send(Forgotten(piece.work))

    def _set_up(self) -> Any:
        frame = self._channel.receive()
        assert frame.kind == CONTROL
        setup = message_of(frame)
        assert isinstance(setup, Setup)
        if setup.variables is not None:
            os.environ.clear()
            os.environ.update(setup.variables)
        for name, value in setup.environment.items():
            os.environ.setdefault(name, value)
        place.settle(setup)
        namespaces.share()
        self._outlet.open()
        try:
            try:
                _go_to(setup)
            except OSError:
                pass  # the caller's directory is gone; an initializer may not need it
            if setup.initializer or setup.finalizer:
                self._await_guard()
            end = payload.loads(setup.finalizer) if setup.finalizer else None
            if setup.initializer:
                payload.loads(setup.initializer)()
        except BaseException as error:  # an initializer that calls sys.exit must be told too
            self._send(Unready(f"{payload.carried(error)}\n{traceback_text(error).rstrip()}"))
            return _NOT_SET_UP
        self._shared.limit = setup.max_shared
        pulse.through(lambda path, seconds: self._send(Beat(path, seconds)))
        if setup.max_memory:
            self._memory = MemoryWatch(setup.max_memory)
        self._send(Ready())
        return end

    def _await_guard(self) -> None:
        """What comes next runs the user's code, which may start anything: somebody must be there to end that."""
        while not self._marker.guarded:
            if self._channel.is_left:
                raise EOFError("the parent is gone")
            time.sleep(_GUARD_SECONDS)

    def look_at_memory(self) -> None:
        """Tells the parent once when it is too much."""
        if self._memory is not None and self._memory.is_over():
            self._memory = None  # told once
            self._marker.full = True
            self._send(Full())

    def _send(self, message: Message) -> None:
        self.send_frames(control(message))

    def send_frames(self, *frames: Frame) -> None:
        """Sends frames, in one piece; for any thread."""
        self._outlet.flush()  # what a call has begun to print comes before what it has returned
        with self._sending:
            self._is_sending = True
            try:
                news = self._shared.news()
                if news is not None:
                    frames = (news, *frames)
                if frames:
                    self._channel.send(*frames)
            finally:
                self._is_sending = False
            while self._told:
                self._channel.send(self._told.popleft())

    def _tell(self, frame: Frame) -> None:
        """Sends what a call has said, whatever this thread is at."""
        with self._sending:
            if self._is_sending:
                self._told.append(frame)
            else:
                self._channel.send(frame)

    def _forget(self, number: int, tell: bool = False) -> None:
        with self._opening:
            opened = self._works.pop(number, None)
            if opened is not None:
                opened.forgotten, opened.tells = True, tell
            closed = opened is None or opened.close_if_unused()
        if closed and tell:
            self._send(Forgotten(number))


_NOT_SET_UP = object()


def _placed(opened: _Opened) -> Work | Failed:
    """The work, or why it can't run where its caller was."""
    try:
        _go_to(opened.load)
    except OSError as error:  # the caller's directory is gone
        return Failed(error, traceback_text(error))
    return opened.work


def _loaded(load: Load, shared: SharedMemory) -> Work | Failed:
    try:
        _go_to(load)
        if isinstance(load.blob, bytes):
            return payload.loads(load.blob)  # type: ignore[no-any-return]
        return shared.get(load.blob, kept=True)  # type: ignore[no-any-return]
    except BaseException as error:
        add_note(error, "raised in a worker process, as it loaded the function")
        return Failed(error, traceback_text(error))


def _go_to(load: Load | Setup) -> None:
    """Be where the caller is, and import from where it does."""
    if sys.path != load.sys_path:
        sys.path[:] = load.sys_path
    try:
        if os.getcwd() == load.directory:
            return
    except OSError:
        pass  # where it was is gone
    os.chdir(load.directory)

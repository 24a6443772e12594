"""The dispatcher of a pool: does what the ledger decides, and tells it what happens.

One thread reads from the workers, starts them and hears of their ends. The thread that submits a call writes
it to an idle worker itself. The ledger is asked under the lock; what it answers is done outside of it. What
may be called from a finaliser (closing a session) takes no lock: it leaves a note and wakes the thread.

The dispatcher never unpickles what users have pickled, so their code can't stop it.
"""

from __future__ import annotations

import atexit
import os
import select
import socket
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import ExitStack, closing
from functools import cache, partial
from itertools import count
from typing import Final

from manyhands.controller.handles import Forgetting, Handle, OpenWork, Ticket
from manyhands.controller.ledger import (
    Action,
    KillWorker,
    Ledger,
    PoolState,
    SendCalls,
    StartWorker,
    StopWorker,
    TellBroken,
    TellCancelled,
    TellDied,
    WorkerState,
)
from manyhands.controller.session import RawAnswer, Session, how_it_ended
from manyhands.errors import PoolBroken, PoolClosed
from manyhands.outcome import Answered, Failed
from manyhands.settings import PoolSettings
from manyhands.workers import payload
from manyhands.workers.channel import ParentChannel
from manyhands.workers.guard import guard
from manyhands.workers.launch import LAUNCHERS, Ended, Started, end_group, search_path
from manyhands.workers.marker import send_marker
from manyhands.workers.messages import Answers, Forget, Forgotten, Load, Ready, Run, Setup, Stop, Unready

IDLE_SECONDS: Final = 30.0
"""Workers of a pool that has had nothing to do for so long are ended."""

CLOSE_SECONDS: Final = 5.0
"""Workers of a closed pool that have not ended after so long are killed."""

KILL_SECONDS: Final = 0.5
"""The same, when what runs is not to be waited for: time for a short call to end, and to clean up."""

_REAP_SECONDS: Final = 0.02


class Dispatcher:
    """The engine of one pool.

    Args:
        settings: how many workers, and how they are started.
        idle_seconds: after so long at rest, the workers are ended; they come back with the next call.
        ends_when_idle: the whole pool is closed then, if no session is open.
    """

    def __init__(
        self, settings: PoolSettings, idle_seconds: float = IDLE_SECONDS, ends_when_idle: bool = False
    ) -> None:
        if sys.platform == "win32":
            raise PoolBroken(
                "worker processes need POSIX sockets and process groups; use backend='inline' here"
            )
        self.settings = settings
        self._idle_seconds = idle_seconds
        self._ends_when_idle = ends_when_idle
        self._setup_parts = tuple(
            payload.dumps(function) if function else b""
            for function in (settings.initializer, settings.finalizer)
        )
        self._lock = threading.Lock()
        self._ledger = Ledger(settings.workers)
        self._handles: dict[int, Handle] = {}
        self._tickets: dict[int, Ticket] = {}
        self._works: dict[int, OpenWork] = {}
        self._forgetting: dict[int, Forgetting] = {}
        self._numbers = count()
        self._launcher = LAUNCHERS[settings.start_method]()
        self._commands: deque[Callable[[], Iterable[Action]]] = deque()
        self._woken, self._wake_end = os.pipe()
        os.set_blocking(self._woken, False)
        os.set_blocking(self._wake_end, False)
        self._thread: threading.Thread | None = None
        self._resting: list[threading.Event] = []  # set, and removed, by the thread
        self._broken: Failed | None = None
        self._patience = CLOSE_SECONDS
        self._served = False  # the thread has ended, or is about to
        _register(self)

    # -- for sessions, from any thread ------------------------------------------------------------------

    def open_session(self, work: bytes, chunksize: int | None = None) -> Session:
        """A share of the pool for calls of ``work``, a pickled callable; raises PoolClosed.

        Args:
            work: loaded in a worker, it takes a call and returns its answer.
            chunksize: calls sent at once; None: as their times suggest.
        """
        with self._lock:
            if self._ledger.state is PoolState.CLOSED:
                raise PoolClosed("the pool is closed")
            if self._thread is None:
                name = f"manyhands-dispatcher-{self.settings.workers}"
                thread = threading.Thread(target=self._serve, name=name, daemon=True)
                thread.start()
                self._thread = thread
            group = next(self._numbers)
            load = Load(group, os.getcwd(), search_path())
            self._ledger.open_group(group, chunksize)
            self._works[group] = OpenWork(load, work)
        return Session(self, group)

    def submit(self, group: int, session: Session, number: int, blob: bytes) -> int:
        """Takes a pickled call; returns the pool's ticket."""
        with self._lock:
            ticket = next(self._numbers)
            self._tickets[ticket] = Ticket(session, number, blob)
            actions = self._ledger.submit(ticket, group)
        self._act(actions)
        return ticket

    def cancel(self, ticket: int) -> None:
        """Drops a call that no worker has."""
        self._command(lambda: self._ledger.cancel(ticket))

    def kill(self, ticket: int) -> None:
        """Drops a call, with its worker if one has it."""
        self._command(lambda: self._ledger.kill(ticket))

    def close_session(self, group: int, kill: bool, wait: bool) -> None:
        """Nobody waits for calls of this group any more; without ``wait``, takes no lock.

        With it, returns when the idle workers have forgotten the group's work.
        """
        forgetting = Forgetting()
        self._command(partial(self._forget, group, kill, forgetting))
        # A finaliser may have brought us here in the dispatcher's own thread, which must not wait for itself.
        if wait and not self._served and self._thread not in (None, threading.current_thread()):
            forgetting.done.wait(CLOSE_SECONDS)

    def wait_at_rest(self) -> None:
        """Waits until no call waits or runs, or the pool is closed."""
        rested = threading.Event()
        with self._lock:
            if self._thread is None or self._served:
                return
            self._resting.append(rested)
        self._wake()
        rested.wait()

    def close_later(self) -> None:
        """Ends the pool as soon as its thread comes to it; takes no lock."""
        self._command(self._ledger.close)

    @property
    def has_started(self) -> bool:
        """Whether a session was ever opened."""
        return self._thread is not None

    @property
    def usable(self) -> bool:
        """Whether new calls will run."""
        return self._ledger.state is PoolState.OPEN

    def close(self, kill: bool = False) -> None:
        """Ends the pool: running calls are finished or, with ``kill``, ended; returns when no worker lives."""
        if kill:
            self._patience = KILL_SECONDS
        with self._lock:
            thread = self._thread
            if thread is None:
                self._ledger.close()
        self._command(self._ledger.close)
        if thread is None:
            self._release()
        elif thread is not threading.current_thread():
            thread.join()

    def __repr__(self) -> str:
        return f"<pool of {self.settings.workers}, {self.settings.start_method}: {self._ledger!r}>"

    # -- the thread ---------------------------------------------------------------------------------------

    def _serve(self) -> None:
        try:
            self._serve_until_closed()
        except BaseException as error:
            # An error in the library: whoever waits must hear of it rather than wait for ever.
            self._note_broken(f"the pool met an error of its own: {error!r}")
            self._end_stragglers()
            with self._lock:
                for owner in self._tickets.values():
                    owner.session.put(Answered(owner.number, self._why_broken()))
                self._ledger.close()
            raise
        finally:
            with self._lock:
                self._served = True
            self._tell_resting()
            self._release()

    def _serve_until_closed(self) -> None:
        deadline: float | None = None
        closed: float | None = None
        while True:
            self._run_commands()
            if self._ledger.state is PoolState.CLOSED:
                if not self._handles:
                    return
                closed = closed or time.monotonic()
                deadline = closed + self._patience
                if time.monotonic() >= deadline:
                    # Who has no call any more is in its finalizer, and gets the longer time.
                    self._end_stragglers(all_of_them=time.monotonic() >= closed + CLOSE_SECONDS)
                    deadline = closed + CLOSE_SECONDS
            with self._lock:
                rests = self._ledger.at_rest
                has_workers = bool(self._ledger.workers)
            if not self._commands and (rests or not self.usable):
                self._tell_resting()
            self._wait(deadline, idle=rests and has_workers and deadline is None)

    def _tell_resting(self) -> None:
        while self._resting:
            self._resting.pop().set()

    def _wait(self, deadline: float | None, idle: bool) -> None:
        poll = select.poll()
        poll.register(self._woken, select.POLLIN)
        watched = self._launcher.descriptors()
        for descriptor in watched:
            poll.register(descriptor, select.POLLIN)
        handles = {}
        unreaped = False
        for number, handle in list(self._handles.items()):
            if handle.channel.at_end or handle.channel.fileno() < 0:
                unreaped = True
                continue
            handles[handle.channel.fileno()] = number
            poll.register(
                handle.channel, select.POLLIN | (select.POLLOUT if handle.channel.wants_to_send else 0)
            )
        seconds = _REAP_SECONDS if unreaped else self._idle_seconds if idle else None
        if deadline is not None:
            seconds = min(seconds or CLOSE_SECONDS, max(0.0, deadline - time.monotonic()) + _REAP_SECONDS)
        ready = poll.poll(None if seconds is None else seconds * 1000)
        if not ready and idle:
            with self._lock:
                # A shared pool that no map holds goes altogether; the next map opens another.
                ends = self._ends_when_idle and not self._works and self._ledger.at_rest
                actions = (
                    self._ledger.close() if ends else self._ledger.retire() if self._ledger.at_rest else []
                )
            self._act(actions)
        for descriptor, happened in ready:
            if descriptor == self._woken:
                os.read(self._woken, 4096)
            elif descriptor in handles:
                number = handles[descriptor]
                if number not in self._handles:
                    continue
                handle = self._handles[number]
                if happened & select.POLLOUT:
                    with handle.lock:
                        handle.channel.flush()
                if happened & ~select.POLLOUT:
                    self._take_in(number, handle)
        if unreaped or any(descriptor in watched for descriptor, _ in ready):
            self._reap()

    def _run_commands(self) -> None:
        while self._commands:
            command = self._commands.popleft()
            with self._lock:
                actions = list(command())
            self._act(actions)

    def _take_in(self, number: int, handle: Handle) -> None:
        """Reads what a worker has sent."""
        with handle.lock:
            frames = handle.channel.read()
        if not frames and not handle.channel.at_end:
            return
        actions: list[Action] = []
        with self._lock:
            for message, parts in frames:
                match message:
                    case Answers(ticket, seconds):
                        waiting = self._ledger.worker_answered(number, ticket, seconds)
                        owner = self._tickets.pop(ticket, None)
                        if waiting and owner is not None:
                            name = f"{_host()}:{handle.pid}"
                            owner.session.put(RawAnswer(owner.number, parts[0], seconds, name))
                    case Ready(pid):
                        handle.pid = pid
                        actions += self._ledger.worker_ready(number)
                    case Forgotten(group):
                        if (forgetting := self._forgetting.get(group)) is not None:
                            forgetting.forgotten(number)
                            if not forgetting.workers:
                                del self._forgetting[group]
                    case Unready(summary):
                        self._note_broken(f"the initializer of the workers raised {summary}")
                        actions += self._ledger.break_down()
            if frames:
                actions += self._ledger.proceed(number)
        if handle.channel.at_end and handle.pid is not None:
            end_group(handle.pid)  # it has closed its channel: it is gone, or of no use any more
        self._act(actions)

    def _reap(self) -> None:
        for report in self._launcher.reports():
            handle = self._handles.get(report.worker)
            if handle is None:
                continue
            match report:
                case Started(_, pid):
                    handle.pid = pid
                    guard.watch(pid)
                    if handle.doomed:
                        end_group(pid)
                case Ended(number, exitcode):
                    self._bury(number, handle, exitcode)

    def _bury(self, number: int, handle: Handle, exitcode: int | None) -> None:
        self._take_in(number, handle)  # what it said before it ended
        for forgetting in self._forgetting.values():
            forgetting.forgotten(number)
        self._forgetting = {group: wait for group, wait in self._forgetting.items() if wait.workers}
        if handle.pid is not None:
            if exitcode is None:
                end_group(handle.pid)  # nobody saw it end
            guard.forget(handle.pid)
        with self._lock:
            del self._handles[number]
            handle.channel.close()
            held = self._ledger.running(number)
            actions = self._ledger.worker_ended(number, begun=bool(held) and handle.marker.has_begun(held[0]))
            handle.marker.close()
            if self._ledger.state is PoolState.BROKEN:
                self._note_broken(f"worker processes can't be started: the last one {how_it_ended(exitcode)}")
        self._act(actions, handle.pid, exitcode)

    # -- doing what the ledger says -------------------------------------------------------------------------

    def _act(self, actions: list[Action], pid: int | None = None, exitcode: int | None = None) -> None:
        for action in actions:
            match action:
                case SendCalls(worker, group, tickets):
                    self._send(worker, group, tickets)
                case StartWorker(worker):
                    if threading.current_thread() is self._thread:
                        self._start(worker)
                    else:
                        self._command(partial(list[Action], [action]))
                case StopWorker(worker):
                    self._tell(worker, Stop())
                case KillWorker(worker):
                    self._kill(worker)
                case TellDied(ticket, _):
                    if owner := self._tickets.pop(ticket, None):
                        owner.session.put_died(owner.number, pid or 0, exitcode, f"{_host()}:{pid}")
                case TellCancelled(ticket):
                    if owner := self._tickets.pop(ticket, None):
                        owner.session.put_cancelled(owner.number)
                case TellBroken(ticket):
                    if owner := self._tickets.pop(ticket, None):
                        owner.session.put(Answered(owner.number, self._why_broken()))

    def _start(self, worker: int) -> None:
        with ExitStack() as undo:
            try:
                ours, theirs = map(undo.enter_context, socket.socketpair())
                marker = undo.enter_context(closing(send_marker(ours)))
                handle = self._handles[worker] = Handle(ParentChannel(ours), marker)
                undo.callback(self._handles.pop, worker)
                handle.channel.send(Setup(_host()), *self._setup_parts)
                self._launcher.launch(worker, theirs)
            except OSError as error:
                self._command(partial(self._start_failed, worker, error))
                return
            undo.pop_all()
            theirs.close()
        self._reap()  # some launchers know of the start at once

    def _start_failed(self, worker: int, error: OSError) -> list[Action]:
        actions = self._ledger.worker_ended(worker)
        if self._ledger.state is PoolState.BROKEN:
            self._note_broken(f"worker processes can't be started: {error}")
        return actions

    def _send(self, worker: int, group: int, tickets: tuple[int, ...]) -> None:
        handle = self._handles.get(worker)
        work = self._works.get(group)
        owners = [self._tickets.get(ticket) for ticket in tickets]
        if handle is None:
            return  # it has ended, which the other thread has told the ledger
        if work is None:  # its group was closed by the other thread meanwhile
            with self._lock:
                for ticket in tickets:
                    self._ledger.worker_answered(worker, ticket)
                actions = self._ledger.proceed(worker)
            self._act(actions)
            return
        with handle.lock:
            if group not in handle.loaded:
                handle.loaded.add(group)
                handle.channel.send(work.message, work.blob)
            blobs = [owner.blob if owner else b"" for owner in owners]
            handle.channel.send(Run(group, tickets), *blobs)
            unsent = handle.channel.wants_to_send
        if unsent:
            self._wake()

    def _tell(self, worker: int, message: Stop | Forget) -> None:
        handle = self._handles.get(worker)
        if handle is not None:
            with handle.lock:
                handle.channel.send(message)
                unsent = handle.channel.wants_to_send
            if unsent:
                self._wake()

    def _kill(self, worker: int) -> None:
        handle = self._handles.get(worker)
        if handle is not None:
            handle.doomed = True
            if handle.pid is not None:
                end_group(handle.pid)

    def _forget(self, group: int, kill: bool, forgetting: Forgetting) -> list[Action]:
        idle = {number for number, state in self._ledger.workers.items() if state is WorkerState.IDLE}
        actions = self._ledger.abandon(group, kill)
        self._works.pop(group, None)
        for ticket in [ticket for ticket, owner in list(self._tickets.items()) if owner.session.group == group]:
            del self._tickets[ticket]
        for number, handle in list(self._handles.items()):
            if group in handle.loaded:
                handle.loaded.discard(group)
                self._tell(number, Forget(group))
                if number in idle:
                    forgetting.workers.add(number)
        if forgetting.workers:
            self._forgetting[group] = forgetting
        else:
            forgetting.done.set()
        return actions

    def _end_stragglers(self, all_of_them: bool = True) -> None:
        for number in list(self._handles):
            with self._lock:
                ends = all_of_them or bool(self._ledger.running(number))
            if ends:
                self._kill(number)

    def _note_broken(self, why: str) -> None:
        if self._broken is None:
            self._broken = Failed(PoolBroken(why), halts=True)

    def _why_broken(self) -> Failed:
        if self._broken is None or self._ledger.state is PoolState.CLOSED:
            return Failed(PoolClosed("the pool is closed"), halts=True)
        return self._broken

    # -- small things ---------------------------------------------------------------------------------------

    def _command(self, command: Callable[[], Iterable[Action]]) -> None:
        self._commands.append(command)
        self._wake()

    def _wake(self) -> None:
        try:
            os.write(self._wake_end, b"\0")
        except BlockingIOError:
            pass  # it is awake
        except OSError:
            pass  # the pool has ended, and its descriptor with it

    def _disown(self) -> None:
        """In a forked child: the workers are the parent's, so their channels are closed and nothing is said."""
        self._thread = None
        self._served = True
        self._lock = threading.Lock()
        self._commands.clear()
        self._ledger = Ledger(self.settings.workers)
        self._ledger.close()
        failed = Failed(PoolClosed("the pool is another process's: this one was forked from it"), halts=True)
        for owner in self._tickets.values():  # whoever goes on with a map here must not wait for ever
            owner.session.put(Answered(owner.number, failed))
        self._tickets.clear()
        self._works.clear()
        self._tell_resting()
        for handle in self._handles.values():
            handle.channel.close()
            handle.marker.close()
        self._handles.clear()
        self._launcher.disown()
        for descriptor in (self._woken, self._wake_end):
            if descriptor >= 0:
                os.close(descriptor)
        self._woken = self._wake_end = -1

    def _release(self) -> None:
        _unregister(self)
        self._launcher.close()
        with self._lock:
            descriptors, self._woken, self._wake_end = (self._woken, self._wake_end), -1, -1
        for descriptor in descriptors:
            if descriptor >= 0:
                os.close(descriptor)


@cache
def _host() -> str:
    return socket.gethostname()


_living: weakref.WeakSet[Dispatcher] = weakref.WeakSet()


_living_lock = threading.Lock()


def _register(dispatcher: Dispatcher) -> None:
    with _living_lock:
        if not _living:
            atexit.unregister(close_all)
            atexit.register(close_all)
        _living.add(dispatcher)


def _unregister(dispatcher: Dispatcher) -> None:
    with _living_lock:
        _living.discard(dispatcher)


def close_all() -> None:
    """Ends all pools of this process, and its guard; calls that run are ended with them."""
    with _living_lock:
        pools = list(_living)
    for dispatcher in pools:
        dispatcher.close(kill=True)
    guard.close()


def _disown_all() -> None:
    global _living_lock
    _living_lock = threading.Lock()
    for dispatcher in list(_living):
        dispatcher._disown()
    _living.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_disown_all)

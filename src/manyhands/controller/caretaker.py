"""The caretaker: the one thread of a pool. It starts and buries workers, ends the pool, and reads if nobody else does.

It naps while there is something to expect, to see whether somebody waits for that, and sleeps when there is not. The
only code of the user's that it runs are the done-callbacks of futures.
"""

from __future__ import annotations

import atexit
import os
import select
import signal
import socket
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Final

from manyhands.controller.actions import Action
from manyhands.controller.handles import Handle
from manyhands.controller.hands import WorkerState
from manyhands.controller.ledger import PoolState
from manyhands.controller.reader import CARETAKER
from manyhands.memory.exchange import Exchange, sockets
from manyhands.shutdown import at_end, ends_by_error
from manyhands.workers.channel import ParentChannel
from manyhands.workers.guard import guard
from manyhands.workers.launch import (
    LAUNCHERS,
    Ended,
    Started,
    end_group,
    fork_server,
    forks_for_itself,
)
from manyhands.workers.marker import send_marker

if TYPE_CHECKING:
    from manyhands.controller.dispatcher import Dispatcher

CLOSE_SECONDS: Final = 5.0
"""Workers of a closed pool that have not ended after so long are killed."""

KILL_SECONDS: Final = 0.5
"""The same, when what runs is not to be waited for: time for a short call to end, and to clean up."""

NAP_SECONDS: Final = 0.005
"""So long answers may wait when nobody has led for them; after that the caretaker leads until somebody does."""

MOST_NAP_SECONDS: Final = 0.05
"""The same, when somebody had just led."""

DOZE_SECONDS: Final = 1.0
"""It goes on napping for so long after the last thing that was expected, so that the next call need not wake it."""

START_SECONDS: Final = 30.0
"""A worker that was forked, has nothing of the user's to do first, and says nothing for so long is stuck."""

_FIRST_SECONDS: Final = 0.004
"""So long other forks wait for the first worker of a pool to begin."""

_VERDICT_SECONDS: Final = 2.0
"""Time for who has an item to say what is to be said of it, before the guard says that its worker has ended."""

_REAP_SECONDS: Final = 0.02


class Caretaker:
    """The thread of one pool, started with its first session."""

    def __init__(self, dispatcher: Dispatcher, idle_seconds: float | None, ends_when_idle: bool) -> None:
        self._dispatcher = dispatcher
        self._idle_seconds = idle_seconds
        self._ends_when_idle = ends_when_idle
        self._forks = dispatcher.settings.start_method == "fork"
        self._launcher = LAUNCHERS[dispatcher.settings.start_method]()
        self._orders: deque[Callable[[], list[Action]]] = deque()
        self._callbacks: deque[Callable[[], object]] = deque()
        self._starts: deque[int] = deque()
        self._left: deque[tuple[float, int]] = deque()  # when workers ended, of which the guard is to hear more
        self._woken, self._wake_end = os.pipe()
        for end in (self._woken, self._wake_end):
            os.set_blocking(end, False)
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        self._serving = False  # the thread has begun
        self._ended = False  # the thread has ended, or is about to
        self._patience = CLOSE_SECONDS
        self._closed_at: float | None = None
        self._needed_at = time.monotonic()
        self._hurried = False
        self._rests = False  # workers were told that there is nothing to do
        self._nap = NAP_SECONDS
        self.sleeps = False
        _register(dispatcher)

    # -- from any thread ------------------------------------------------------------------------------------

    @property
    def has_started(self) -> bool:
        """Whether there ever was a thread."""
        return self._thread is not None

    @property
    def is_this_thread(self) -> bool:
        """Whether this is called in it, or there is none."""
        return self._ended or self._thread in (None, threading.current_thread())

    @property
    def is_current(self) -> bool:
        """Whether this is called in it: in a done-callback."""
        return self._thread is threading.current_thread()

    def start(self) -> None:
        """Starts the thread, once."""
        if not self._serving:
            with self._starting:
                if not self._serving and (self._thread is None or self._thread.ident is None):
                    name = f"manyhands-caretaker-{self._dispatcher.settings.workers}"
                    # An interrupt here may leave a thread that begins later, or none: what counts is ``_serving``.
                    self._thread = threading.Thread(target=self._begin, name=name, daemon=True)
                    self._thread.start()

    def order(self, what: Callable[[], list[Action]]) -> None:
        """Has something done under the lock, soon; takes no lock itself."""
        self._orders.append(what)
        self.wake()

    def call_back(self, callback: Callable[[], object]) -> None:
        """Has user code called, outside of all locks."""
        self._callbacks.append(callback)
        self.wake()

    def start_worker(self, number: int) -> None:
        """Has a worker started. Called under the lock."""
        self._starts.append(number)
        self.wake()

    def forget_starts(self) -> None:
        """Those that were to be started were a torn ledger's. Called under the lock."""
        self._starts.clear()

    def hurry(self) -> None:
        """Somebody wants to be called back: no nap."""
        self._hurried = True
        self.wake()

    def wake(self) -> None:
        """Ends its sleep."""
        try:
            os.write(self._wake_end, b"\0")
        except OSError:
            pass  # it is awake, or has ended

    def close(self, kill: bool) -> None:
        """Ends the pool; returns when no worker lives."""
        if kill:
            self._patience = KILL_SECONDS
        self.order(self._dispatcher.ledger_close)
        with self._starting:
            thread = self._thread if self._serving else None
            has_none = thread is None and not self._ended  # it was not started, or will find that it has ended
            if has_none:
                self._run_orders()
                self._release()
        if has_none:
            self._run_callbacks()
        elif thread is not None and thread is not threading.current_thread():
            thread.join()

    # -- the thread -----------------------------------------------------------------------------------------

    def _begin(self) -> None:
        with self._starting:
            if self._serving or self._ended:
                return
            self._serving = True
            self._thread = threading.current_thread()
        self._serve()

    def _serve(self) -> None:
        dispatcher = self._dispatcher
        try:
            while not self._has_closed():
                self._sleep(*self._look_around())
        except BaseException as error:
            # An error in the library: whoever waits must hear of it rather than wait for ever.
            with dispatcher.lock:
                dispatcher.note_broken(f"the pool met an error of its own: {error!r}")
                dispatcher.end_stragglers()
                dispatcher.fail_all()
                dispatcher.ledger.close()
            raise
        finally:
            self._release()
            self._run_callbacks()

    def _look_around(self) -> tuple[float | None, bool]:
        """Does what is to be done; returns how long to sleep, and whether to read meanwhile."""
        dispatcher, reader = self._dispatcher, self._dispatcher.reader
        self._run_callbacks()
        done = self._run_orders() + self._start_workers() + self._reap()
        self._forget_left(_VERDICT_SECONDS)
        if done:
            reader.ring()
        with dispatcher.lock:
            if dispatcher.is_torn and not dispatcher.must_rebuild:
                dispatcher.begin()
                dispatcher.end()
            if dispatcher.must_rebuild and not dispatcher.handles:
                dispatcher.rebuilt()
            if dispatcher.finishing and dispatcher.ledger.state is not PoolState.CLOSED and self._may_finish():
                dispatcher.act(dispatcher.ledger.close())
            dispatcher.send_held()
            self._end_who_does_not_begin()
            expects = dispatcher.expects
            rests = not expects and time.monotonic() - self._needed_at >= DOZE_SECONDS
            if reader.leader == CARETAKER and (not (expects or rests) or reader.has_followers):
                reader.leader = None
            if reader.leader is None and reader.has_followers:
                reader.ring_one()
            elif reader.leader is None and (rests or (expects and (self._hurried or not reader.led))):
                # Of workers that rest, threads of the user's may have something to say.
                reader.leader = CARETAKER
            # While others read, it looks less and less often: each look takes the interpreter away from them.
            led = reader.led or reader.leader not in (None, CARETAKER)
            self._nap = min(2 * self._nap, MOST_NAP_SECONDS) if led else NAP_SECONDS
            reader.led = self._hurried = False
            leads = reader.leader == CARETAKER
            seconds = self._seconds_to_sleep(dispatcher.ledger.expects, leads)
            if self._left:
                seconds = MOST_NAP_SECONDS if seconds is None else min(seconds, MOST_NAP_SECONDS)
            self.sleeps = not (leads and expects) and (seconds is None or seconds > MOST_NAP_SECONDS)
        return seconds, leads

    def _seconds_to_sleep(self, works: bool, leads: bool) -> float | None:
        """For how long to sleep, unless something happens. Under the lock."""
        dispatcher = self._dispatcher
        now = time.monotonic()
        if works:
            self._needed_at = now
            self._rests = False
        unreaped = any(
            handle.channel.at_end or handle.pid is None or handle.doomed
            for handle in dispatcher.handles.values()
        )
        if self._orders or self._callbacks:
            return 0.0
        if self._starts:
            return self._held_back()
        if dispatcher.ledger.state is PoolState.CLOSED or unreaped:
            return _REAP_SECONDS
        if leads and dispatcher.expects:
            return dispatcher.sample_interval or (START_SECONDS if dispatcher.ledger.unproven else None)
        if works or now - self._needed_at < DOZE_SECONDS:
            return self._nap
        return self._rest(now)

    def _rest(self, now: float) -> float | None:
        """Nothing was to be done for a while: gives memory back, and later workers; returns how long to sleep then."""
        dispatcher = self._dispatcher
        if not self._rests or dispatcher.has_let_go:
            self._rests = True
            dispatcher.rest()
            if dispatcher.expects:
                return 0.0
        # What is dropped of results that lie in workers' memory is told by nobody.
        most = DOZE_SECONDS if dispatcher.shares_results else None
        may_end = dispatcher.handles or self._ends_when_idle
        if self._idle_seconds is not None and dispatcher.ledger.at_rest and may_end:
            left = self._needed_at + self._idle_seconds - now
            if left > 0:
                return left if most is None else min(left, most)
            self._retire()
            return _REAP_SECONDS
        return most

    def _may_finish(self) -> bool:
        dispatcher = self._dispatcher
        return not self._orders and (dispatcher.rests or dispatcher.ledger.state is PoolState.BROKEN)

    def _retire(self) -> None:
        dispatcher = self._dispatcher
        self._needed_at = time.monotonic()
        # A shared pool that no map holds goes altogether; the next map opens another.
        if self._ends_when_idle and all(work.share.lasting for work in dispatcher.works.values()):
            dispatcher.act(dispatcher.ledger.close())
        else:
            dispatcher.act(dispatcher.ledger.retire())

    def _sleep(self, seconds: float | None, leads: bool) -> None:
        reader = self._dispatcher.reader
        poll = select.poll()
        poll.register(self._woken, select.POLLIN)
        for descriptor in self._launcher.descriptors():
            poll.register(descriptor, select.POLLIN)
        if leads:
            poll.register(reader.poller.fileno(), select.POLLIN)
        ready = [descriptor for descriptor, _ in poll.poll(None if seconds is None else max(0, seconds) * 1000)]
        self.sleeps = False
        if self._woken in ready:
            try:
                os.read(self._woken, 4096)
            except BlockingIOError:
                pass
        if leads and reader.leader == CARETAKER:
            reader.step(0.0)

    def _run_orders(self) -> int:
        done = 0
        dispatcher = self._dispatcher
        while self._orders:
            with dispatcher.lock:
                dispatcher.begin()
                done += self.run_orders()
                dispatcher.end()
        return done

    def run_orders(self) -> int:
        """Does what was ordered, in a change of the dispatcher's; returns how much that was."""
        done = 0
        while self._orders:
            self._dispatcher.act(
                self._orders[0]()
            )  # an order does no harm if it is obeyed again, after an interrupt
            self._orders.popleft()
            done += 1
        return done

    def _run_callbacks(self) -> None:
        while self._callbacks:
            self._callbacks.popleft()()  # these raise nothing

    def _has_closed(self) -> bool:
        """Whether the pool is closed and its workers have ended; sees to it that they do."""
        dispatcher = self._dispatcher
        if dispatcher.ledger.state is not PoolState.CLOSED or self._orders:
            return False
        with dispatcher.lock:
            if not dispatcher.handles:
                return True
            now = time.monotonic()
            if self._closed_at is None:
                self._closed_at = now
            if now >= self._closed_at + self._patience:
                # Who has no call any more is in its finalizer, and gets the longer time.
                dispatcher.end_stragglers(all_of_them=now >= self._closed_at + CLOSE_SECONDS)
        return False

    # -- workers ----------------------------------------------------------------------------------------------

    def _start_workers(self) -> int:
        done = 0
        while True:
            with self._dispatcher.lock:
                if not self._starts or self._held_back():
                    return done
                number = self._starts.popleft()
            self._start(number)
            done += 1 + self._reap()

    def _held_back(self) -> float:
        """For how many seconds no further worker is to be started: the first one that is forked goes first.

        A fork holds the interpreter, and whoever writes to memory afterwards copies it: both would be in the way of the
        first call, and of its answer. Under the lock.
        """
        dispatcher = self._dispatcher
        unproven = dispatcher.ledger.unproven if self._forks else []
        if not unproven or dispatcher.ledger.has_proven:
            return 0.0
        since = min(dispatcher.handles[number].since for number in unproven)
        return max(0.0, since + _FIRST_SECONDS - time.monotonic())

    def _start(self, number: int) -> None:
        dispatcher = self._dispatcher
        with ExitStack() as undo:
            try:
                ours, theirs = map(undo.enter_context, socket.socketpair())
                side, their_side = map(undo.enter_context, sockets())
                marker = undo.enter_context(closing(send_marker(ours, dispatcher.settings.threads, their_side)))
                their_side.close()
                side.setblocking(False)
                channel = ParentChannel(ours)
                exchange = Exchange(side, dispatcher.memory.bank, dispatcher.shared_by_worker // 2)
                handle = Handle(channel, marker, exchange, since=time.monotonic())
                with dispatcher.lock:
                    dispatcher.begin()
                    wanted = self._is_wanted(number)
                    if wanted:
                        dispatcher.add_worker(number, handle)
                        dispatcher.set_up(number, handle)
                        if self._forks:  # not afterwards, when what is written to must be copied first
                            dispatcher.admit(number)
                    dispatcher.end()
                if not wanted:
                    return
                undo.pop_all()
                with theirs:
                    self._launcher.launch(number, theirs)
            except (OSError, RuntimeError) as error:  # at its very end a program can't start anything
                self._not_started(number, error)

    def _is_wanted(self, number: int) -> bool:
        """Whether a worker that was to be started still is. Under the lock, in a change."""
        ledger = self._dispatcher.ledger
        if self._forks and ledger.withdraw(number):  # the first one has done all meanwhile
            return False
        state = ledger.workers.get(number)
        if state not in (None, WorkerState.STARTING):  # it was told to end before it began
            self._dispatcher.act(ledger.worker_ended(number))
        return state is WorkerState.STARTING

    def _not_started(self, number: int, error: OSError | RuntimeError) -> None:
        dispatcher = self._dispatcher
        with dispatcher.lock:
            dispatcher.begin()
            if number in dispatcher.handles:
                dispatcher.remove_worker(number)
            if number in dispatcher.ledger.workers:
                actions = dispatcher.ledger.worker_ended(number)
                if dispatcher.ledger.state is PoolState.BROKEN:
                    dispatcher.note_broken(f"worker processes can't be started: {error}")
                dispatcher.act(actions)
            dispatcher.end()

    def _reap(self) -> int:
        reports = self._launcher.reports()
        dispatcher = self._dispatcher
        for report in reports:
            with dispatcher.lock:
                dispatcher.begin()
                handle = dispatcher.handles.get(report.worker)
                if handle is not None:
                    match report:
                        case Started(number, pid):
                            self._started(number, handle, pid)
                        case Ended(number, exitcode):
                            if handle.pid is not None:
                                if exitcode is None:
                                    end_group(handle.pid)  # nobody saw it end
                                # A claim that it held speaks against the item, unless it was asked to end.
                                if handle.doomed or exitcode in (0, -signal.SIGTERM):
                                    guard.forget(handle.pid, blameless=True)
                                else:
                                    guard.left(handle.pid)
                                    self._left.append((time.monotonic(), handle.pid))
                            dispatcher.bury(number, exitcode)
                dispatcher.end()
        return len(reports)

    def _forget_left(self, patience: float) -> None:
        """What the guard says of a claim lets others go on, so the verdict of who has the item comes first."""
        while self._left and time.monotonic() - self._left[0][0] >= patience:
            guard.forget(self._left.popleft()[1])

    def _end_who_does_not_begin(self) -> None:
        """A fork of a process with threads may wait for ever for what one of those had locked. Under the lock."""
        for number in self._dispatcher.ledger.unproven:
            handle = self._dispatcher.handles.get(number)
            if handle is not None and not handle.doomed and time.monotonic() - handle.since > START_SECONDS:
                handle.doomed = True
                handle.ended_by = f"had not begun {START_SECONDS:g} s after it was forked, and was ended"
                if handle.pid is not None:
                    end_group(handle.pid)

    def _started(self, number: int, handle: Handle, pid: int) -> None:
        """A worker's process runs; of the user's code nothing does before it is guarded. Under the lock."""
        dispatcher = self._dispatcher
        handle.pid, handle.since, handle.name = pid, time.monotonic(), dispatcher.name_of(pid)
        self._have_guarded(handle, pid)
        if handle.doomed:
            end_group(pid)
            return
        handle.marker.guarded = True
        if not self._forks:
            dispatcher.admit(number)

    def _have_guarded(self, handle: Handle, pid: int) -> None:
        try:
            guard.watch(pid)
        except OSError as error:
            handle.doomed = True
            handle.ended_by = f"was ended, since no guard can be started for it: {error}"

    # -- when it ends -------------------------------------------------------------------------------------------

    def _release(self) -> None:
        dispatcher = self._dispatcher
        _unregister(dispatcher)
        self._forget_left(0.0)
        self._launcher.close()
        with dispatcher.lock:
            dispatcher.fail_all()
            self._ended = True
            if dispatcher.reader.leader == CARETAKER:
                dispatcher.reader.leader = None
            dispatcher.reader.retire()
        dispatcher.memory.bank.close()
        self._close_pipe()

    def _close_pipe(self) -> None:
        descriptors, self._woken, self._wake_end = (self._woken, self._wake_end), -1, -1
        for descriptor in descriptors:
            if descriptor >= 0:
                os.close(descriptor)

    def disown(self) -> None:
        """In a forked child: the thread and the workers are the parent's."""
        self._thread = None
        self._starting = threading.Lock()
        self._serving = False
        self._ended = True
        self._orders.clear()
        self._callbacks.clear()
        self._left.clear()
        self._launcher.disown()
        self._close_pipe()


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


def finish_all() -> None:
    """Waits for what was submitted one by one, as executors do at the end of a program, unless an error ends that."""
    with _living_lock:
        pools = list(_living)
    for dispatcher in pools if not ends_by_error() else []:
        dispatcher.wait_for_promises()


at_end(finish_all)


def close_all() -> None:
    """Ends all pools of this process, and its guard and fork server; what maps have in workers is ended with them.

    What other threads have submitted since ``finish_all`` is run first.
    """
    with _living_lock:
        pools = list(_living)
    try:
        if not ends_by_error():
            for dispatcher in pools:
                dispatcher.drop_maps()
            for dispatcher in pools:
                dispatcher.finishing = True
                dispatcher.wait_at_rest()
    finally:
        for dispatcher in pools:
            dispatcher.close(kill=True)
        guard.close()
        fork_server.close()


def _disown_all() -> None:
    global _living_lock
    _living_lock = threading.Lock()
    for dispatcher in list(_living):
        dispatcher.disown(silently=forks_for_itself())
    _living.clear()


def _pin_views() -> None:
    """A process was forked, and sees what is open of the workers' memory for as long as it lives; a worker, too."""
    for dispatcher in list(_living):
        dispatcher.pin_views()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_pin_views, after_in_parent=_pin_views, after_in_child=_disown_all)

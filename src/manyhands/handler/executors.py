"""A runner over somebody else's executor: any ``concurrent.futures.Executor``, or what can be made to look like one.

It sends no more than the executor can use, so that what waits here can be dropped, and sends short calls together. The
executor is its owner's: it is never shut down here, and what it can't do (ending a call, say) is not pretended.
"""

from __future__ import annotations

import math
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Final

from manyhands.calls import Call, Failed, add_note, error_text, qualified_name, traceback_text
from manyhands.errors import ManyhandsError, PoolBroken, WorkerDied
from manyhands.handler.engines import LONG_SECONDS, Chunk, Engine
from manyhands.outcome import Answered, Cancelled, Died, Event
from manyhands.workers import payload

CHUNK_SECONDS: Final = 0.04
"""So much work is sent together, as measured."""

MOST: Final = 1024
"""No more calls are."""

GROWTH: Final = 8
"""Nor more than so many times of what was measured at once."""

CHUNK_BYTES: Final = 1 << 20
"""Nor many more bytes."""

MUCH: Final = 1 << 25
"""Calls that are out and take so many bytes are enough, if there are two for each that can run."""

LOOK_SECONDS: Final = 1.0
"""Who waits looks so often whether the engine is there still."""


class ExecutorRunner:
    """Runs calls by an engine. Calls that run can't be ended: after ``close`` they are finished, and forgotten.

    Args:
        engine: runs chunks of them.
        chunksize: calls that are sent together; None: as many as are some hundredths of a second of work.
        halts: whether a map is to be ended, whatever its ``on_error`` says, when the engine has broken. If not, each
            item that is left fails.
        shortened: leaves out of a call what goes with the work.
    """

    batches = False

    def __init__(
        self,
        engine: Engine,
        chunksize: int | None = None,
        halts: bool = False,
        shortened: Callable[[Call], Call] | None = None,
    ) -> None:
        self._engine = engine
        self._fixed = chunksize
        self._halts = halts
        self._shortened = shortened
        self._arrived: queue.SimpleQueue[tuple[Chunk, Future[Any]] | None] = queue.SimpleQueue()
        self._early: deque[Event] = deque()
        self._sizes: dict[int, int] = {}  # of the calls that are out, the bytes
        self._bytes = 0
        self._answer_bytes = 0  # of the last one
        # What follows is looked at and changed under the lock, by this thread and those that settle futures. It is
        # taken again where a finaliser runs in the middle of it, which only reads and removes.
        self._lock = threading.RLock()
        self._waiting: deque[tuple[int, Any]] = deque()
        self._again: deque[Chunk] = deque()  # go before all others
        self._running: dict[int, Chunk] = {}  # by their first tickets
        self._feeding = False
        self._closed = False
        self._broken: ManyhandsError | None = None
        self._seconds: float | None = None  # of a call, a moving average
        self._measured = 1  # calls of the largest chunk that came back

    # -- what the pump goes by ------------------------------------------------------------------------------

    @property
    def capacity(self) -> int:
        """How many calls can run at the same time."""
        return self._engine.capacity

    @property
    def chunk(self) -> int:
        """How many calls would be sent at once."""
        if self._fixed is not None:
            return self._fixed
        if self._seconds is None:
            return 1
        return max(1, min(MOST, GROWTH * self._measured, int(CHUNK_SECONDS / max(self._seconds, 1e-6))))

    @property
    def horizon(self) -> int:
        """How many calls are about a second of work."""
        if self._seconds is None:
            return 4 * self.capacity * (self._fixed or 1)
        return int(min(1e9, self.capacity / max(self._seconds, 1e-9)))

    @property
    def has_room(self) -> bool:
        """Whether more calls are wanted, as far as their bytes go, and those of answers like the last one."""
        out = len(self._sizes)
        return self._bytes + out * self._answer_bytes < MUCH or out < 2 * self.capacity

    # -- the runner's part ------------------------------------------------------------------------------------

    def submit(self, ticket: int, call: Call) -> None:
        """Packs the call in this thread, and sends it as soon as there is somebody for it."""
        if self._shortened is not None:
            call = self._shortened(call)
        if self._broken is not None:
            self._early.append(Answered(ticket, self._failed()))
            return
        try:
            packed, size = self._engine.pack(call)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            self._early.append(Answered(ticket, payload.unpicklable(error)))
            return
        self._sizes[ticket] = size
        self._bytes += size
        with self._lock:
            self._waiting.append((ticket, packed))
        self._feed()

    def promise(self, pending: Callable[[], bool]) -> None:
        """An executor lives until its owner ends it."""

    def cancel(self, ticket: int) -> None:
        """Drops the call if it waits here, or if the executor says that it has not begun it."""
        with self._lock:
            for waiting in self._waiting:
                if waiting[0] == ticket:
                    self._waiting.remove(waiting)
                    self._early.append(self._ended(Cancelled(ticket)))
                    return
            chunk = self._running.get(ticket)
        if self._engine.tells and chunk is not None and len(chunk.tickets) == 1 and chunk.future is not None:
            chunk.future.cancel()

    def kill(self, ticket: int) -> None:
        """As ``cancel``: nobody can end the call."""
        self.cancel(ticket)

    def events(self, timeout: float | None) -> list[Event]:
        """What has arrived; waits for the first up to ``timeout`` seconds."""
        deadline = None if timeout is None else time.monotonic() + timeout
        self._feed()
        events: list[Event] = []
        while True:
            left = LOOK_SECONDS if deadline is None else min(LOOK_SECONDS, deadline - time.monotonic())
            try:
                arrived = self._arrived.get(left > 0 and not self._early, max(0.0, left))
                while arrived is not None:
                    events += self._told(*arrived)
                    arrived = self._arrived.get_nowait()
                break  # woken
            except queue.Empty:
                pass
            self._look()
            self._feed()
            if events or self._early or left <= 0:
                break
        self._feed()  # what is to be sent again
        while self._early:
            events.append(self._early.popleft())
        return events

    def wake(self) -> None:
        """Ends a wait in ``events``."""
        self._arrived.put(None)

    def close(self, kill: bool = False, wait: bool = True) -> None:
        """Drops what has not begun; what runs is finished and forgotten, with ``kill`` too."""
        self._closed = True
        for chunk in list(self._running.values()):
            if chunk.future is not None:
                chunk.future.cancel()
        self._close_work()

    # -- inside -------------------------------------------------------------------------------------------------

    def _is_open(self) -> bool:
        return not self._closed

    def _close_work(self) -> None:
        """Its files are of use until the last call has ended."""
        with self._lock:
            if self._running:
                return
            work, self._engine.work = self._engine.work, None
        close = getattr(work, "close", None)
        if close is not None:
            close()

    def _ended(self, event: Event) -> Event:
        self._bytes -= self._sizes.pop(event.ticket, 0)
        return event

    def _feed(self) -> None:
        """Sends what there is room for. One thread does so at a time, and the lock is not held meanwhile."""
        while True:
            with self._lock:
                chunk = None if self._feeding else self._next()
                if chunk is None:
                    return
                self._feeding = True
                self._running[chunk.tickets[0]] = chunk
            chunk.sent = time.monotonic()
            future: Future[Any]
            try:
                future = self._engine.start(chunk, self._is_open)
            except Exception as error:
                future = Future()
                future.set_exception(error)
                chunk.refused = True
            chunk.future = future
            future.add_done_callback(lambda future, chunk=chunk: self._settled(chunk, future))  # type: ignore[misc]
            if self._closed:
                future.cancel()
            # Not before: the call may have run in this very thread, and the next would run within its callback.
            self._feeding = False

    def _next(self) -> Chunk | None:
        """The next chunk to send, if there is room for it."""
        if self._closed or self._broken is not None or any(each.alone for each in list(self._running.values())):
            return None
        short = self._seconds is not None and self._seconds < self._engine.ahead_seconds
        if len(self._running) >= self.capacity * (1 + short):
            return None
        if self._again:
            if self._again[0].alone and self._running:
                return None
            return self._again.popleft()
        if not self._waiting:
            return None
        most = self.chunk
        if self._fixed is None:
            most = max(1, min(most, len(self._waiting) // self.capacity))
        taken = [self._waiting.popleft()]
        size = self._sizes.get(taken[0][0], 0)
        while self._waiting and len(taken) < most and (self._fixed is not None or size < CHUNK_BYTES):
            taken.append(self._waiting.popleft())
            size += self._sizes.get(taken[-1][0], 0)
        patience = LONG_SECONDS if self._fixed is None else math.inf
        return Chunk([ticket for ticket, _ in taken], [call for _, call in taken], patience=patience)

    def _settled(self, chunk: Chunk, future: Future[Any]) -> None:
        """Called when a future is done, in whatever thread."""
        chunk.back = time.monotonic()
        with self._lock:
            self._running.pop(chunk.tickets[0], None)
        self._arrived.put((chunk, future))
        if self._closed:
            self._close_work()
        # What went wrong is looked at by who asks for events. And an executor may cancel its futures under a lock that
        # it takes for each that is submitted.
        elif not future.cancelled() and future.exception() is None:
            self._measure([seconds for answer, seconds in future.result()[1] if answer is not None])
            self._feed()

    def _measure(self, seconds: list[float]) -> None:
        if seconds:
            with self._lock:
                mean = sum(seconds) / len(seconds)
                self._seconds = mean if self._seconds is None else (self._seconds + mean) / 2
                self._measured = max(self._measured, len(seconds))

    def _look(self) -> None:
        """If the engine is gone, so is what it has."""
        if self._broken is None and (self._running or self._waiting) and (lost := self._engine.lost()):
            self._break(lost)
            for chunk in list(self._running.values()):
                self._early.extend(self._all_failed(chunk))

    def _told(self, chunk: Chunk, future: Future[Any]) -> list[Event]:
        """What a future says of its calls."""
        if chunk.tickets[0] not in self._sizes:
            return []  # its engine was given up
        if future.cancelled():
            return [self._ended(Cancelled(ticket)) for ticket in chunk.tickets]
        error = future.exception()
        if error is not None:
            return self._raised(chunk, error)
        name, answers = future.result()
        if not answers:
            again = Chunk(chunk.tickets, chunk.calls, chunk.alone, with_work=True, patience=chunk.patience)
            with self._lock:
                self._again.append(again)
            return []
        events: list[Event] = []
        left: list[tuple[int, Any]] = []
        for ticket, call, (answer, seconds) in zip(chunk.tickets, chunk.calls, answers, strict=True):
            if answer is None:
                left.append((ticket, call))
            else:
                self._answer_bytes = len(answer) if isinstance(answer, bytes) else 0
                answered = Answered(ticket, self._engine.unpack(answer), seconds, name)
                events.append(self._ended(answered))
        with self._lock:
            self._waiting.extendleft(reversed(left))
        return events

    def _raised(self, chunk: Chunk, error: BaseException) -> list[Event]:
        """What it means that the executor gave an error in place of answers: no call of ours raises."""
        engine = self._engine
        if engine.is_death(error) and not chunk.refused:
            if not engine.steady:
                self._break(engine.fault(error) or PoolBroken(error_text(error)))
            elif not chunk.alone:
                # It may have been another that ended the worker: who does so alone is to blame.
                with self._lock:
                    for ticket, call in zip(chunk.tickets, chunk.calls, strict=True):
                        self._again.append(Chunk([ticket], [call], alone=True, with_work=True))
                return []
            seconds = chunk.back - chunk.sent
            return [self._ended(Died(ticket, _death(engine, error, seconds))) for ticket in chunk.tickets]
        fault = engine.fault(error)
        if fault is not None:
            self._break(fault)
            return self._all_failed(chunk)
        add_note(error, f"raised by {engine.name} in place of an answer")
        failed = Failed(payload.harmless(error), traceback_text(error))
        return [self._ended(Answered(ticket, failed)) for ticket in chunk.tickets]

    def _break(self, error: ManyhandsError) -> None:
        """The engine takes no more: all that waits has failed."""
        if self._broken is None:
            self._broken = error
        with self._lock:
            chunks = [*self._again, *(Chunk([ticket], [call]) for ticket, call in self._waiting)]
            self._again.clear()
            self._waiting.clear()
        for chunk in chunks:
            self._early.extend(self._all_failed(chunk))

    def _all_failed(self, chunk: Chunk) -> list[Event]:
        return [self._ended(Answered(ticket, self._failed())) for ticket in chunk.tickets]

    def _failed(self) -> Failed:
        assert self._broken is not None
        # Each gets an error of its own, since notes are added that name its item.
        return Failed(type(self._broken)(*self._broken.args), halts=self._halts)


def _death(engine: Engine, error: BaseException, seconds: float) -> WorkerDied:
    if engine.steady:
        why = "each worker that ran it ended"
    else:
        why = "a process of the executor ended while this was one of its calls, and nobody can tell whose fault that is"
    died = WorkerDied(f"{engine.name}: {why} ({qualified_name(type(error))}: {error_text(error)})")
    died.seconds = seconds
    return died

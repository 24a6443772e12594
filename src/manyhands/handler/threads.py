"""A runner of threads in this very process: for functions that wait, or that let go of the GIL."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable

from manyhands.calls import Answer, Call, Failed, traceback_text
from manyhands.outcome import Answered, Cancelled, Event
from manyhands.waiting import join, noticing


class ThreadRunner:
    """Runs calls in threads, which start with the first call and end with the map.

    A thread can't be ended from outside: after ``close`` a call that runs is finished, and forgotten.
    """

    batches = False
    chunk = 1
    has_room = True

    def __init__(self, work: Callable[[Call], Answer], threads: int, name: str) -> None:
        self.capacity = threads
        self.horizon = 4 * threads
        self._work = work
        self._name = name
        self._calls: queue.SimpleQueue[tuple[int, Call] | None] = queue.SimpleQueue()
        self._arrived: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        self._waiting: set[int] = set()  # submitted, and begun by no thread
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._alive = 0
        self._busy = 0
        self._closed = False

    def submit(self, ticket: int, call: Call) -> None:
        """Takes a call."""
        with self._lock:
            self._waiting.add(ticket)
            if len(self._threads) < min(self.capacity, len(self._waiting) + len(self._threads)):
                thread = threading.Thread(
                    target=self._serve, name=f"manyhands-thread-{len(self._threads)}", daemon=True
                )
                try:
                    thread.start()
                except RuntimeError:  # once the main thread has ended, there may be no new ones
                    pass
                else:
                    self._threads.append(thread)
                    self._alive += 1
            somebody = bool(self._threads)
        if somebody:
            self._calls.put((ticket, call))
        else:
            self._run(ticket, call)

    def promise(self, pending: Callable[[], bool]) -> None:
        """Nothing here ends before its caller does."""

    def cancel(self, ticket: int) -> None:
        """Drops the call if no thread has begun it."""
        with self._lock:
            dropped = ticket in self._waiting
            self._waiting.discard(ticket)
        if dropped:
            self._arrived.put(Cancelled(ticket))

    def kill(self, ticket: int) -> None:
        """As ``cancel``: a thread can't be ended."""
        self.cancel(ticket)

    def events(self, timeout: float | None) -> list[Event]:
        """What has arrived; waits for the first up to ``timeout`` seconds."""
        events: list[Event] = []
        try:
            arrived = self._arrived.get(timeout != 0, noticing(timeout))
            while arrived is not None:
                events.append(arrived)
                arrived = self._arrived.get_nowait()
        except queue.Empty:
            pass
        return events

    def wake(self) -> None:
        """Ends a wait in ``events``."""
        self._arrived.put(None)

    def close(self, kill: bool = False, wait: bool = True) -> None:
        """Drops what waits; threads end after the call that they run. With ``wait``, idle ones have ended."""
        with self._lock:
            was_closed, self._closed = self._closed, True
            for _ in self._threads:
                self._calls.put(None)
            idle = not self._busy
            if not self._alive and not was_closed:
                self._close_work()
        if wait and idle:
            for thread in self._threads:
                join(thread)

    def runs_here(self) -> bool:
        """Whether the thread that asks is one of these."""
        return threading.current_thread() in self._threads

    def _close_work(self) -> None:
        close = getattr(self._work, "close", None)
        if close is not None:
            close()

    def _serve(self) -> None:
        try:
            self._run_calls()
        finally:
            with self._lock:
                self._alive -= 1
                if self._closed and not self._alive:
                    self._close_work()  # its files are of use until the last call has ended

    def _run_calls(self) -> None:
        while (taken := self._calls.get()) is not None and not self._closed:
            self._run(*taken)
            del taken

    def _run(self, ticket: int, call: Call) -> None:
        with self._lock:
            if ticket not in self._waiting:
                return
            self._waiting.remove(ticket)
            self._busy += 1
        start = time.perf_counter()
        answer: Answer
        try:
            answer = self._work(call)
        except BaseException as error:  # sys.exit in a task is that item's failure
            from manyhands.workers.payload import carried

            answer = Failed(carried(error), traceback_text(error))
        with self._lock:
            self._busy -= 1
        end = time.perf_counter()
        self._arrived.put(Answered(ticket, answer, end - start, self._name, end))

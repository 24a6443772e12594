"""Threads for the tasks of a ``ThreadPoolHandler``."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from typing import Any

from manyhands.compat.qdmp_tasks import PoolFuture
from manyhands.errors import PoolClosed
from manyhands.waiting import join

Over = Callable[[PoolFuture], object]


class Threads:
    """So many threads. One whose task is cancelled is left to itself, and another takes its place.

    Args:
        target: called with the arguments of each task.
        workers: how many threads.
        over: told of each task that has ended, once.
    """

    def __init__(self, target: Callable[[Any], Any], workers: int, over: Over) -> None:
        self.workers = workers
        self._target = target
        self._over = over
        self._lock = threading.Lock()
        self._closed = False
        self._tasks: queue.SimpleQueue[PoolFuture | None] = queue.SimpleQueue()
        self._since: dict[PoolFuture, tuple[float, threading.Thread]] = {}  # of what runs and was not cancelled
        self._threads: set[threading.Thread] = set()
        for _ in range(workers):
            self._start()

    def put(self, task: PoolFuture) -> None:
        """Takes a task; raises PoolClosed after ``close``."""
        with self._lock:
            if self._closed:
                raise PoolClosed("the threads were stopped")
            task.future = Future()
            self._tasks.put(task)

    def running(self) -> dict[PoolFuture, float]:
        """What runs, and for how many seconds."""
        with self._lock:
            now = time.monotonic()
            return {task: now - since for task, (since, _) in self._since.items()}

    def cancel(self, task: PoolFuture) -> None:
        """Ends a task; a thread that runs it goes on, and nobody hears of it."""
        with self._lock:
            future = task.future
            if future is None:
                return  # it is about to be taken, or not
            if task in self._since:
                _, thread = self._since.pop(task)
                self._threads.discard(thread)
                future.set_exception(CancelledError())
                with suppress(RuntimeError):  # at its very end a program can't start threads
                    self._start()  # and ends at once, if the threads are being ended
            elif future.cancelled() or not future.cancel():
                return  # it has ended
        self._over(task)

    def close(self, patience: float | None) -> None:
        """No task will be added: ends the threads; what has not ended is cancelled after so many seconds."""
        with self._lock:
            self._closed = True
            for _ in range(self.workers):
                self._tasks.put(None)
        deadline = None if patience is None else time.monotonic() + patience
        for thread in list(self._threads):
            join(thread, None if deadline is None else max(0.0, deadline - time.monotonic()))
        if patience is not None:
            with suppress(queue.Empty):
                while (task := self._tasks.get_nowait()) is not None:
                    self.cancel(task)
                self._tasks.put(None)  # it is some thread's
        for task in self.running():
            self.cancel(task)

    def _start(self) -> None:
        thread = threading.Thread(target=self._serve, name="manyhands-qdmp", daemon=True)
        thread.start()
        self._threads.add(thread)

    def _serve(self) -> None:
        thread = threading.current_thread()
        while (task := self._tasks.get()) is not None:
            future = task.future
            assert future is not None
            with self._lock:
                if not future.set_running_or_notify_cancel():
                    continue
                self._since[task] = time.monotonic(), thread
            value, error = self._call(task)
            with self._lock:
                if self._since.pop(task, None) is None:
                    return  # it was cancelled, and another thread has taken this one's place
                if error is None:
                    future.set_result(value)
                else:
                    future.set_exception(error)
            self._over(task)
            del task, future, value, error

    def _call(self, task: PoolFuture) -> tuple[Any, BaseException | None]:
        try:
            return self._target(task.arguments), None
        except BaseException as error:  # sys.exit in a task is its failure
            return None, error

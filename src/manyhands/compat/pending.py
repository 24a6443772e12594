"""What a ``ProcessController`` hands out for work that may not be done: batches, and single processes."""

from __future__ import annotations

import multiprocessing
import queue
import threading
import time
from collections.abc import Sequence
from concurrent.futures import CancelledError, Future
from typing import Any

from manyhands import Controller
from manyhands.compat.process_controller_logs import Messages
from manyhands.waiting import join


class Pending:
    """The results of some jobs, with the methods of ``multiprocessing.pool.AsyncResult``.

    Args:
        futures: one for each job, in the order of the jobs.
    """

    def __init__(self, futures: Sequence[Future[Any]]) -> None:
        self._futures = tuple(futures)

    def get(self, timeout: float | None = None) -> list[Any]:
        """The results in the order of the jobs; waits for all of them, up to ``timeout`` seconds.

        Raises:
            multiprocessing.TimeoutError: they are not done after that time.
            Exception: what a job raised, of several the first in the order of the jobs; ``WorkerDied`` if its
                process died; ``WorkerDied``, ``PoolClosed`` or ``CancelledError`` if ``exit`` ended it.
        """
        self.wait(timeout)
        if not self.ready():
            raise multiprocessing.TimeoutError(f"not done after {timeout} s")
        return [future.result() for future in self._futures]

    def wait(self, timeout: float | None = None) -> None:
        """Waits until every job is done, well or not, or ``timeout`` seconds are over."""
        deadline = None if timeout is None else time.monotonic() + timeout
        for future in self._futures:
            try:
                future.exception(None if deadline is None else max(0.0, deadline - time.monotonic()))
            except CancelledError:
                pass
            except TimeoutError:  # of the waiting: what a job raises is returned here, not raised
                return

    def ready(self) -> bool:
        """Whether every job is done, well or not."""
        return all(future.done() for future in self._futures)

    def successful(self) -> bool:
        """Whether every job has returned a result; raises ValueError if not all are done."""
        if not self.ready():
            raise ValueError(f"{self!r} is not ready")
        return all(not future.cancelled() and future.exception() is None for future in self._futures)

    def error(self) -> BaseException | None:
        """What ``get`` will raise, None if it returns results; waits for all jobs."""
        self.wait()
        for future in self._futures:
            error = CancelledError() if future.cancelled() else future.exception()
            if error is not None:
                return error
        return None

    def cancel(self) -> None:
        """Gives up what is not done."""
        for future in self._futures:
            future.cancel()

    def __repr__(self) -> str:
        done = sum(future.done() for future in self._futures)
        return f"<{type(self).__name__}: {done} of {len(self._futures)} done>"


class SingleProcess:
    """One worker process for one job. Its pool is closed when the job is done.

    Args:
        name: what the result is told by, and the thread that looks after the process.
        pool: an open pool of one worker, which nobody else uses; from here on it is this object's to close.
        future: the job, submitted to that pool.
        results: where ``[result, name]`` goes; if the job fails, ``[pending, name]``, and ``pending.get()``
            raises what the job raised.
        messages: where it is told that the job failed.
    """

    def __init__(
        self,
        name: str,
        pool: Controller,
        future: Future[Any],
        results: queue.SimpleQueue[list[Any]],
        messages: Messages,
    ) -> None:
        self.name = name
        self._messages = messages
        self._pool = pool
        self._pending = Pending([future])
        self._results = results
        self._over = threading.Event()  # the job is done, or is to be ended
        self._is_wanted = True
        self._thread = threading.Thread(target=self._look_after, name=f"manyhands-{name}", daemon=True)
        self._thread.start()
        future.add_done_callback(lambda _: self._over.set())

    def is_alive(self) -> bool:
        """Whether the process may still live; once it does not, its result is in the queue."""
        return self._thread.is_alive()

    def join(self, timeout: float | None = None) -> None:
        """Waits for its end, up to ``timeout`` seconds."""
        join(self._thread, timeout)

    def terminate(self) -> None:
        """Ends it as soon as can be, and does not wait for that."""
        self._is_wanted = False
        self._over.set()

    def _look_after(self) -> None:
        self._over.wait()
        done = self._pending.ready()
        if done:
            self._tell()  # before the process is ended, which takes a while
        self._pool.close(kill=True)
        if not done:
            self._tell()

    def _tell(self) -> None:
        error = self._pending.error()
        if error is None:
            self._results.put([self._pending.get()[0], self.name])
        else:
            if self._is_wanted:
                self._messages.error("The job of %s failed.", self.name, error=error)
            self._results.put([self._pending, self.name])

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}: {'running' if self.is_alive() else 'ended'}>"

"""A pool of processes for the tasks of a ``ProcessPoolHandler``."""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import Any

from manyhands import Controller
from manyhands.compat.qdmp_tasks import PoolFuture
from manyhands.compat.qdmp_threads import Over
from manyhands.controller.futures import ApplyOne, Desk
from manyhands.errors import PoolBroken
from manyhands.workers import payload


class Lane:
    """A pool of processes and the one function that they call.

    Args:
        work: the function, packed; it is called with one argument.
        pool: an open one; from here on it is this object's to close.
    """

    def __init__(self, work: bytes | payload.Large, pool: Controller) -> None:
        self.pool = pool
        # It has a limit, so that it is known for how long calls run, but one that nothing reaches.
        self._desk = Desk(pool.dispatcher, work, calls=False, timeout=math.inf)

    def submit(self, argument: Any) -> Future[Any]:
        """A future of a call; if no worker can be started, it fails."""
        try:
            return self._desk.submit(argument)
        except PoolBroken as error:
            future: Future[Any] = Future()
            future.set_exception(error)
            return future

    def end(self, future: Future[Any]) -> None:
        """Ends a call, with its process if it runs."""
        if not future.cancel() and future.running():
            self.pool.kill(future)


def packed(function: Callable[[Any], Any]) -> bytes | payload.Large:
    """A function as it goes to workers; raises TypeError if it can't."""
    try:
        return payload.packed(ApplyOne(function))
    except Exception as error:
        raise TypeError(f"the target can't be sent to worker processes: {error}") from error


class Pool:
    """A process pool.

    Args:
        target: called with the arguments of each task.
        workers: how many processes.
        over: told of each task that has ended, once.
    """

    def __init__(self, target: Callable[[Any], Any], workers: int, over: Over) -> None:
        self.workers = workers
        self._over = over
        work = packed(target)
        self._lane = Lane(work, Controller(workers))
        self._tasks: dict[Future[Any], PoolFuture] = {}

    def put(self, task: PoolFuture) -> None:
        """Takes a task."""
        future = self._lane.submit(task.arguments)
        task.future = future
        self._tasks[future] = task
        future.add_done_callback(self._done)

    def running(self) -> dict[PoolFuture, float]:
        """What runs, and for how many seconds that was seen."""
        running = self._lane.pool.running().items()
        return {self._tasks[future]: seconds for future, seconds in running if future in self._tasks}

    def cancel(self, task: PoolFuture) -> None:
        """Ends a task, with its process if it runs."""
        if task.future is not None:  # else it is about to be taken, or not
            self._lane.end(task.future)

    def close(self, patience: float | None) -> None:
        """No task will be added: ends the processes, after so many seconds with what they run."""
        if patience is not None:
            wait(list(self._tasks), patience)
        self._lane.pool.close(kill=patience is not None)

    def _done(self, future: Future[Any]) -> None:
        self._over(self._tasks.pop(future))

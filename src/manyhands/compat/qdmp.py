"""The face of qdmp: handlers that tasks are added to while their results are taken.

Change ``from qdmp import …``, or ``from src.qdmp import …``, to ``from manyhands.compat.qdmp import …``. A process that
freezes or dies takes no task with it: each ends as one result or one error, or is discarded.

A handler may be used from several threads: each result is given to one of those who ask.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from manyhands.compat.qdmp_base import BaseHandler
from manyhands.compat.qdmp_pool import Pool
from manyhands.compat.qdmp_process import Children, ProcessHandler
from manyhands.compat.qdmp_tasks import (
    Backend,
    PoolFuture,
    PoolFutureException,
    ProcessingException,
    ProcessStates,
)
from manyhands.compat.qdmp_threads import Threads

__all__ = [
    "PoolFuture",
    "PoolFutureException",
    "PoolHandler",
    "ProcessHandler",
    "ProcessPoolHandler",
    "ProcessStates",
    "ProcessingException",
    "ThreadPoolHandler",
]


class PoolHandler(BaseHandler):
    """A pool of processes that live on, for a target that is called with the arguments of each task.

    If the target has parameters ``setup`` and ``storage``, it is called as that of a ``ProcessHandler``, and what it
    has precomputed stays in its process. ``handle_error_fn`` is called with the exception and the arguments. A process
    that dies fails its task, and another one takes its place.

    Args:
        target_fn: see above.
        options: see ``BaseHandler``.
    """

    def stop(self, wait: bool = True, cancel_futures: bool = True) -> None:
        """Ends the workers. What was not taken by then still can be; without workers, it does nothing.

        Args:
            wait: finish what runs, however long that takes: a frozen task is waited for, too, so call
                ``cancel_processes`` first. Otherwise it is ended, with its process; a thread goes on, and nobody
                hears of it.
            cancel_futures: drop what has not begun: then it is an error, ``CancelledError``. Otherwise it is run
                first, if there is to be any waiting.
        """
        self._stop(None if wait else 0.0, drop=cancel_futures or not wait)

    def _open(self, workers: int) -> Backend:
        if _keeps_storage(self.target_fn):
            return Children(self.target_fn, workers, self.debug, self._over, self.logger.warning)
        return Pool(self.target_fn, workers, self._over)

    def _error(self, arguments: Any, error: BaseException) -> PoolFutureException:
        return PoolFutureException(arguments, error)

    def _ask(self, error: BaseException, arguments: Any) -> Any:
        assert self.handle_error is not None
        return self.handle_error(error, arguments)


class ProcessPoolHandler(PoolHandler):
    """A ``PoolHandler`` whose target is called with the arguments of each task, whatever its parameters."""

    def _open(self, workers: int) -> Backend:
        return Pool(self.target_fn, workers, self._over)


class ThreadPoolHandler(PoolHandler):
    """A ``PoolHandler`` with threads of this process: for targets that wait, or that let go of the GIL.

    A thread can't be ended: one whose task is cancelled goes on with it, and another one takes its place.
    """

    def _open(self, workers: int) -> Backend:
        return Threads(self.target_fn, workers, self._over)


def _keeps_storage(target: Callable[..., Any]) -> bool:
    try:
        names = inspect.signature(target).parameters
    except (TypeError, ValueError):  # some builtins don't tell
        return False
    return "setup" in names and "storage" in names

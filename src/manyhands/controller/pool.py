"""The face of a pool, and the pools that maps share."""

from __future__ import annotations

import os
import sys
import threading
import warnings
from collections.abc import Callable
from types import TracebackType
from typing import Self

from manyhands.controller.dispatcher import Dispatcher
from manyhands.settings import MapOptions, PoolSettings, StartMethod


class Controller:
    """A pool of worker processes of its own, for the time of a ``with`` block.

    Functions decorated with ``@parallel`` share a pool by default; open one where its workers should end at a
    known place, and pass it as ``backend=pool``. Workers start when the first call needs them.

    Args:
        workers: as in ``@parallel``.
        start_method: as in ``@parallel``.
        initializer: runs first in every worker, without arguments. If it raises, the pool is broken.
        finalizer: runs last in every worker that ends in order.
    """

    def __init__(
        self,
        workers: int | None = None,
        *,
        start_method: StartMethod | None = None,
        initializer: Callable[[], object] | None = None,
        finalizer: Callable[[], object] | None = None,
    ) -> None:
        options = MapOptions(
            workers=workers, start_method=start_method, initializer=initializer, finalizer=finalizer
        )
        self._dispatcher = Dispatcher(options.pool())

    @property
    def workers(self) -> int:
        """How many worker processes it has at most."""
        return self._dispatcher.settings.workers

    @property
    def dispatcher(self) -> Dispatcher:
        """The engine; not for users."""
        return self._dispatcher

    def close(self, *, kill: bool = False) -> None:
        """Ends the pool once what was submitted has run or, with ``kill``, at once; it can't be used again."""
        if not kill:
            self._dispatcher.wait_at_rest()
        self._dispatcher.close(kill)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(kill=error is not None)

    def __del__(self) -> None:
        dispatcher = getattr(self, "_dispatcher", None)
        if dispatcher is None or not dispatcher.has_started or not dispatcher.usable or sys.is_finalizing():
            return
        try:
            warnings.warn(
                f"{self!r} was dropped open; close it, or use a with block", ResourceWarning, 2, source=self
            )
        finally:
            dispatcher.close_later()

    def __repr__(self) -> str:
        return f"<Controller: {self._dispatcher!r}>"


_shared: dict[PoolSettings, Dispatcher] = {}
_lock = threading.Lock()


def shared(settings: PoolSettings) -> Dispatcher:
    """The pool that all maps with these settings share; opened on first use, ended with this process."""
    with _lock:
        for other in [key for key, pool in _shared.items() if not pool.usable]:
            _shared.pop(other).close_later()  # broken, or ended for want of work
        if settings not in _shared:
            _shared[settings] = Dispatcher(settings, ends_when_idle=True)
        return _shared[settings]


def close_shared() -> None:
    """Ends the shared pools; calls that run are ended with them."""
    with _lock:
        pools = list(_shared.values())
        _shared.clear()
    for dispatcher in pools:
        dispatcher.close(kill=True)


def _forget_shared() -> None:
    global _lock
    _lock = threading.Lock()
    _shared.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_shared)

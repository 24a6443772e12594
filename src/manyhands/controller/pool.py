"""The face of a pool, and the pools that maps share."""

from __future__ import annotations

import os
import sys
import threading
import time
import warnings
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from functools import partial
from itertools import islice
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar, cast

from manyhands.calls import short_repr
from manyhands.controller.dispatcher import IDLE_SECONDS, Dispatcher
from manyhands.controller.futures import Apply, ApplyOne, Desk, PoolFuture
from manyhands.errors import PoolClosed
from manyhands.policies.parameters import name_of
from manyhands.policies.star import CallText
from manyhands.settings import (
    MapOptions,
    PoolSettings,
    StartMethod,
    check_positive,
    check_seconds,
    resolve_workers,
)
from manyhands.spelling import suggesting
from manyhands.traces import hide_frames
from manyhands.workers import payload
from manyhands.workers.contexts import carrying

P = ParamSpec("P")
R = TypeVar("R")


class Controller(Executor):
    """A pool of worker processes of its own: an executor as ``concurrent.futures`` has them.

    Functions decorated with ``@parallel`` share a pool by default; open one where its workers should end at a
    known place, and pass it as ``backend=pool``. Workers start when the first call needs them. A call that ends
    its worker fails with ``WorkerDied``, and no other does: a new worker takes the place.

    Args:
        workers: as in ``@parallel``.
        start_method: as in ``@parallel``.
        threads: as in ``@parallel``.
        initializer: runs first in every worker, with ``initargs``. If it raises, the pool is broken.
        initargs: its arguments.
        finalizer: runs last in every worker that ends in order, without arguments.
        max_tasks_per_worker: as in ``@parallel``.
        max_memory_per_worker: as in ``@parallel``.
        max_shared_memory: as in ``@parallel``.
        idle_seconds: workers of a pool that has had nothing to do for so long are ended, and new ones start with
            the next call; None: they stay.
        max_workers: another name for ``workers``.
        mp_context: a context of ``multiprocessing``, in place of ``start_method``; only its start method counts.
        max_tasks_per_child: another name for ``max_tasks_per_worker``.

    Raises:
        TypeError, ValueError: an argument has a wrong type or is out of range, or two names of one are given.
    """

    @suggesting("Controller", example="Controller(4, threads=2)")
    def __init__(
        self,
        workers: int | None = None,
        *,
        start_method: StartMethod | None = None,
        threads: int = 1,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        finalizer: Callable[[], object] | None = None,
        max_tasks_per_worker: int | None = None,
        max_memory_per_worker: int | None = None,
        max_shared_memory: int | None = None,
        idle_seconds: float | None = IDLE_SECONDS,
        max_workers: int | None = None,
        mp_context: Any = None,
        max_tasks_per_child: int | None = None,
    ) -> None:
        if max_workers is not None:
            resolve_workers(max_workers, "max_workers")
        if max_tasks_per_child is not None:
            check_positive("max_tasks_per_child", max_tasks_per_child)
        if not isinstance(initargs, Iterable):
            raise TypeError(
                f"initargs must be the arguments of initializer, a tuple say, not {short_repr(initargs)}"
            )
        workers = _either("workers", workers, "max_workers", max_workers)
        method = None if mp_context is None else _method_of(mp_context)
        initargs = tuple(initargs)
        if initargs and callable(initializer):
            initializer = partial(initializer, *initargs)
        options = MapOptions(
            workers=workers,
            start_method=_either("start_method", start_method, "mp_context", method),
            threads=threads,
            initializer=initializer,
            finalizer=finalizer,
            max_tasks_per_worker=_either(
                "max_tasks_per_worker", max_tasks_per_worker, "max_tasks_per_child", max_tasks_per_child
            ),
            max_memory_per_worker=max_memory_per_worker,
            max_shared_memory=max_shared_memory,
        )
        if idle_seconds is not None:
            check_seconds("idle_seconds", idle_seconds)
        self._dispatcher = Dispatcher(options.pool(), idle_seconds)
        self._desk: Desk | None = None
        self._desks: weakref.WeakSet[Desk] = weakref.WeakSet()
        self._opening = threading.Lock()
        self._shut = False

    @property
    def workers(self) -> int:
        """How many worker processes it has at most."""
        return self._dispatcher.settings.workers

    @property
    def dispatcher(self) -> Dispatcher:
        """The engine; not for users."""
        return self._dispatcher

    def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """A future of ``fn(*args, **kwargs)``, called in a worker.

        Raises:
            PoolClosed: the pool was shut down.
        """
        self._check_open()
        desk = self._desk
        if desk is None:
            with self._opening:
                desk = self._desk = self._desk or self._open_desk(payload.packed(Apply()))
        return desk.submit((carrying(fn), args, kwargs), CallText(fn, args, kwargs))

    @suggesting("Controller.map")
    def map(
        self,
        fn: Callable[..., R],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> Iterator[R]:
        """Calls ``fn`` with one item of each iterable at a time; an iterator of the results in order.

        Args:
            fn: the function.
            iterables: as for the built-in ``map``; the shortest ends it.
            timeout: seconds from this call after which ``next`` raises TimeoutError.
            chunksize: calls that are sent to a worker together.
            buffersize: how many chunks are submitted and not yet taken at most; None: all, at once.

        Raises:
            ValueError: ``chunksize`` or ``buffersize`` is less than 1.
        """
        MapOptions(chunksize=chunksize, buffersize=buffersize)  # checks both
        deadline = None if timeout is None else time.monotonic() + timeout
        source = zip(*iterables, strict=False)
        chunks = iter(lambda: list(islice(source, chunksize)), [])
        call: Callable[[list[Any]], list[R]] = partial(_call_each, carrying(fn))
        submit, abandon = self._submitting(call, f"{name_of(fn)} in a map")
        futures: deque[Future[list[R]]] = deque()
        results = self._results(futures, chunks, submit, abandon, deadline)
        next(results)  # it has begun now, so that dropping it cancels
        futures.extend(map(submit, islice(chunks, buffersize)))
        return cast("Iterator[R]", results)

    def _submitting(
        self, call: Callable[[list[Any]], list[R]], called: str
    ) -> tuple[Callable[[list[Any]], Future[list[R]]], Callable[[bool], object]]:
        """How to submit calls of one function, and what to call then: it is sent only once to each worker."""
        self._check_open()
        try:
            work = payload.packed(ApplyOne(call))
        except Exception:
            return lambda chunk: self.submit(call, chunk), lambda _: None  # each future tells why
        desk = self._open_desk(work)
        return partial(desk.submit, called=called), desk.abandon

    def _open_desk(self, work: bytes | payload.Large) -> Desk:
        desk = Desk(self._dispatcher, work, calls=False)
        self._desks.add(desk)
        return desk

    def _check_open(self) -> None:
        if self._shut or self._dispatcher.finishing:
            raise PoolClosed("the pool is closed: it takes no more calls")

    def _results(
        self,
        futures: deque[Future[list[R]]],
        chunks: Iterator[list[Any]],
        submit: Callable[[list[Any]], Future[list[R]]],
        abandon: Callable[[bool], object],
        deadline: float | None,
    ) -> Iterator[R | None]:
        error: Exception | None = None
        wait = True  # but not in a finaliser, which must take no lock, and not when all have ended
        try:
            yield None
            while futures:
                left = None if deadline is None else max(0.0, deadline - time.monotonic())
                results = futures[0].result(left)
                futures.popleft()
                try:
                    if error is None:
                        futures.extend(map(submit, islice(chunks, 1)))
                except Exception as raised:  # by the input: results before it come first
                    error = raised
                results.reverse()
                while results:
                    yield results.pop()  # and it is not kept here
            wait = False
            if error is not None:
                raise error
        except GeneratorExit:
            wait = False
            raise
        except Exception as raised:
            hide_frames(raised)
            raise
        finally:
            abandon(wait)

    def kill(self, future: Future[Any]) -> bool:
        """Ends a call that was submitted to this pool, with its worker; its future fails with ``WorkerDied``.

        One that no worker has had is cancelled. Returns whether the call had not ended.

        Raises:
            ValueError: the future is not of this pool.
        """
        if isinstance(future, PoolFuture):
            if future.done() or (desk := future._desk) is None:
                return False
            if desk.dispatcher is self._dispatcher:
                return desk.kill(future)
        raise ValueError(f"future must be one that was submitted to this pool, not {short_repr(future)}")

    def running(self) -> dict[Future[Any], float]:
        """The futures of the calls that run now, and for how many seconds each was seen to.

        Calls of functions with a ``timeout`` are looked at all the time, so that is late by a quarter of a second at
        most, and never early. Others are looked at only here: it is the time since the first look.
        """
        found: dict[Future[Any], float] = {}
        for share, ticket, seconds in self._dispatcher.running():
            future = share.future_of(ticket) if isinstance(share, Desk) else None
            if future is not None:
                found[future] = seconds
        return found

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Takes no more calls, and ends the workers when those submitted have run.

        Args:
            wait: return when that has happened.
            cancel_futures: cancel the calls that no worker has.
        """
        self._shut = True
        if cancel_futures:
            for desk in list(self._desks):
                desk.cancel_all()
        if wait:
            self.close()
        elif self._dispatcher.has_started:
            self._dispatcher.finish()

    def close(self, *, kill: bool = False) -> None:
        """Ends the pool once what was submitted has run or, with ``kill``, at once; it can't be used again."""
        self._shut = True
        if self._dispatcher.caretaker.is_current:
            self._dispatcher.finish()  # a done-callback can't wait for the thread that runs it
            return
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
        if self._shut:
            return
        try:
            warnings.warn(
                f"{self!r} was dropped open; close it, or use a with block", ResourceWarning, 2, source=self
            )
        finally:
            dispatcher.finish()

    def __repr__(self) -> str:
        dispatcher = getattr(self, "_dispatcher", None)
        if dispatcher is None:
            return "<Controller: not made>"
        return f"<Controller: {dispatcher.ledger.text()}, {dispatcher.settings.start_method}>"


def _call_each(fn: Callable[..., R], chunk: list[tuple[Any, ...]]) -> list[R]:
    return [fn(*args) for args in chunk]


T = TypeVar("T")


def _either(name: str, value: T | None, other: str, same: T | None) -> T | None:
    if value is not None and same is not None:
        raise TypeError(f"{name} and {other} mean the same: give one of them")
    return same if value is None else value


def _method_of(context: Any) -> StartMethod:
    method = getattr(context, "get_start_method", lambda: None)()
    if method not in ("fork", "spawn", "forkserver"):
        raise TypeError(f"mp_context must be a context of multiprocessing, not {short_repr(context)}")
    return cast("StartMethod", method)


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

"""``@parallel``: a function that can be mapped over many items, in many processes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, ParamSpec, TypeVar, Unpack, cast, overload

from manyhands.calls import short_repr
from manyhands.decorators.decorated import (
    ClaimedFunction,
    Decorated,
    Options,
    ParallelClaimedFunction,
    ParallelFunction,
    Unapplied,
    decorated,
    unwrapped,
)
from manyhands.policies.parameters import name_of
from manyhands.settings import MapOptions, OnError
from manyhands.spelling import suggesting

P = ParamSpec("P")
R = TypeVar("R")


class ParallelDecorator(Unapplied):
    """``@parallel`` with its options."""

    def __init__(self, options: MapOptions) -> None:
        self._options = options

    @overload
    def __call__(self, function: ClaimedFunction[P, R], /) -> ParallelClaimedFunction[P, R]: ...
    @overload
    def __call__(self, function: Decorated[P, R], /) -> ParallelFunction[P, R]: ...
    @overload
    def __call__(self, function: staticmethod[P, R], /) -> ParallelFunction[P, R]: ...
    @overload
    def __call__(self, function: classmethod[Any, P, R], /) -> ParallelFunction[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> ParallelFunction[P, R]: ...
    def __call__(self, function: Any, /) -> Any:
        """Decorates ``function``."""
        body, task, kind = unwrapped(function, "@parallel")
        if task.parallel is not None:
            raise TypeError(
                f"@parallel is applied twice to {name_of(body)}; use .options(…) to change its options"
            )
        return decorated(body, replace(task, parallel=self._options), kind)

    def __repr__(self) -> str:
        return f"<@parallel({self._options.changes_text()})>"


@overload
def parallel(function: ClaimedFunction[P, R], /) -> ParallelClaimedFunction[P, R]: ...
@overload
def parallel(function: Decorated[P, R], /) -> ParallelFunction[P, R]: ...
@overload
def parallel(function: staticmethod[P, R], /) -> ParallelFunction[P, R]: ...
@overload
def parallel(function: classmethod[Any, P, R], /) -> ParallelFunction[P, R]: ...
@overload
def parallel(function: Callable[P, R], /) -> ParallelFunction[P, R]: ...
@overload
def parallel(*, on_error: OnError = "raise", **options: Unpack[Options]) -> ParallelDecorator: ...
@suggesting("@parallel", example="@parallel(workers=4)")
def parallel(function: Any = None, /, **options: Any) -> Any:
    """Makes a function mappable: ``f.map(items)`` calls it for each item, in worker processes.

    With or without parentheses; ``parallel(lambda x: …)`` works too. The function may also be a method, a
    classmethod or a staticmethod (above ``@classmethod``, not below). Called directly, it runs here as ever.

    Args:
        workers: worker processes. None: as configured, else the cores that this process may use, by affinity
            and cgroup; -1 means all of those, -2 all but one.
        threads: calls that run at the same time in each worker process.
        backend: None for the pool that all maps with the same settings share; "threads" for ``workers`` times
            ``threads`` threads of this process; "inline" for this very thread; an open ``Controller``; any other
            executor as ``concurrent.futures`` has them, which stays its owner's; or "dask://host:port" or a
            ``distributed.Client``. What the last three can't do, a ``timeout`` say, is refused.
        chunksize: items that are sent to a worker at once; "auto" goes by how long the last ones took, and
            sends about 100 ms of work.
        buffersize: bound on items in flight plus results not yet taken; None: about a second of work, as
            measured, from 64 to 65,536 items (one under "inline").
        ordered: results in the order of the items, or as they finish.
        timeout: seconds that a call may take, from its own start; then it is ended with its worker, and fails
            with ``TaskTimeout``. Needs worker processes.
        progress: True for a bar where standard error is a terminal or this is a notebook, a text for one with that
            label; a tqdm class for a bar of that class, anywhere; or a function that is called with a ``Progress`` at
            the start, while results are waited for (at most ten times a second) and at the end. What it raises is
            logged, and it is not called again.
        worker_bars: whether there is a bar for each worker, too, as long as the map runs.
        record: True: the map's ``report`` can be asked for, a page that tells what ran where and when; a directory:
            it also writes a journal there, for ``manyhands report``, ``status`` and ``watch``.
        trace: a file that the map writes when it ends: what ran where and when, to be opened with Perfetto.
        on_error: "raise" the first error in order and cancel the rest; "return" a ``Failure``, ``Discarded``
            or ``Elsewhere`` in the item's place; "skip" everything but values.
        start_method: "forkserver" (default on Linux), "spawn" (elsewhere) or "fork".
        initializer: called in every worker first; if it raises, the pool is broken.
        finalizer: called in every worker that ends in order, last.
        max_tasks_per_worker: calls that a worker gets before another one takes its place.
        max_memory_per_worker: bytes of resident memory; a worker that holds more is replaced, between calls.

    Raises:
        TypeError: the function is async or a generator function, or was decorated so before; an option has
            an unknown name or a wrong type.
        ValueError: an option is out of range, ``workers=0`` say.
    """
    decorator = ParallelDecorator(MapOptions().changed(options, "@parallel"))
    if function is None:
        return decorator
    if not (callable(function) or isinstance(function, classmethod | staticmethod)):
        raise TypeError(f"@parallel takes a function, or options by keyword; not {short_repr(function)}")
    return decorator(cast("Any", function))

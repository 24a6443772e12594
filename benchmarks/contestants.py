"""Who is measured: each opens its pool of two workers, offers the same two functions, and closes it.

Nothing is imported here that a contestant would have to import itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Literal, Protocol

WORKERS = 2

Method = Literal["fork", "spawn", "forkserver"]


class Map(Protocol):
    """Results of ``function`` over ``items``, lazily if that is offered; ``chunk`` is set by hand."""

    def __call__(
        self, function: Callable[[Any], Any], items: Iterable[Any], *, ordered: bool = True, chunk: int = 1
    ) -> Iterable[Any]: ...


@dataclass(frozen=True)
class Opened:
    """An open pool.

    Attributes:
        map: as ``Map`` says; an exception in the place of a result is that item's failure.
        submit: starts one call, and returns what waits for its result.
    """

    map: Map
    submit: Callable[[Callable[[Any], Any], Any], Callable[[], Any]]


class Open(Protocol):
    """Opens a pool; by ``fork`` where nothing is said, or as the contestant itself would."""

    def __call__(self, method: Method = ...) -> AbstractContextManager[Opened]: ...


@contextmanager
def manyhands(method: Method | None = None, **options: Any) -> Iterator[Opened]:
    """This library; it chooses its own chunks, and its own start method if none is given."""
    from manyhands import Controller, parallel

    with Controller(WORKERS, start_method=method) as pool:

        def each(
            function: Callable[[Any], Any], items: Iterable[Any], *, ordered: bool = True, chunk: int = 1
        ) -> Iterable[Any]:
            return parallel(function).map(items, backend=pool, ordered=ordered, **options)

        yield Opened(each, lambda function, item: pool.submit(function, item).result)


@contextmanager
def pool(method: Method = "fork") -> Iterator[Opened]:
    """``multiprocessing.Pool``, by ``imap`` and ``imap_unordered``."""
    import multiprocessing

    with multiprocessing.get_context(method).Pool(WORKERS) as opened:

        def each(
            function: Callable[[Any], Any], items: Iterable[Any], *, ordered: bool = True, chunk: int = 1
        ) -> Iterable[Any]:
            return (opened.imap if ordered else opened.imap_unordered)(function, items, chunk)

        yield Opened(each, lambda function, item: opened.apply_async(function, (item,)).get)


@contextmanager
def pool_map(method: Method = "fork") -> Iterator[Opened]:
    """``multiprocessing.Pool``, by ``map``, which chooses its chunks and returns when all is done."""
    import multiprocessing

    with multiprocessing.get_context(method).Pool(WORKERS) as opened:

        def each(
            function: Callable[[Any], Any], items: Iterable[Any], *, ordered: bool = True, chunk: int = 1
        ) -> Iterable[Any]:
            return opened.map(function, items)

        yield Opened(each, lambda function, item: opened.apply_async(function, (item,)).get)


@contextmanager
def executor(method: Method = "fork") -> Iterator[Opened]:
    """``concurrent.futures``; its map knows no other order than that of the items."""
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor

    with ProcessPoolExecutor(WORKERS, multiprocessing.get_context(method)) as opened:

        def each(
            function: Callable[[Any], Any], items: Iterable[Any], *, ordered: bool = True, chunk: int = 1
        ) -> Iterable[Any]:
            assert ordered
            return opened.map(function, items, chunksize=chunk)

        yield Opened(each, lambda function, item: opened.submit(function, item).result)


@contextmanager
def floor(method: Method = "fork") -> Iterator[Opened]:
    """Two bare processes on socket pairs: see ``floor.py``."""
    from benchmarks.floor import Floor

    opened = Floor(WORKERS, method)

    def each(
        function: Callable[[Any], Any], items: Iterable[Any], *, ordered: bool = True, chunk: int = 1
    ) -> Iterable[Any]:
        return opened.map(function, items, chunk)

    try:
        yield Opened(each, opened.submit)
    finally:
        opened.close()

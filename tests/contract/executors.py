"""The executor that the tests in ``test_executor*.py`` are about.

It is ``Controller``, made with the keywords of ``concurrent.futures.ProcessPoolExecutor``, so that what is
written for that runs here with one name changed. With ``MANYHANDS_TEST_EXECUTOR=ProcessPoolExecutor`` in the
environment it is the standard library's: a test that fails with that, and is not marked ``ours``, asks for more
than every process executor keeps. (That multiprocessing's helpers are left behind is then told as an error.)
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from multiprocessing import get_context
from typing import Any

import pytest

from manyhands import Controller
from tests.contract import executor_tasks as tasks
from tests.helpers import DEADLINE, Fifo

METHODS = ("fork", "spawn", "forkserver")
STANDARD = os.environ.get("MANYHANDS_TEST_EXECUTOR") == "ProcessPoolExecutor"
EXECUTOR: Callable[..., Any] = ProcessPoolExecutor if STANDARD else Controller

ours = pytest.mark.skipif(STANDARD, reason="a promise of Controller's, which ProcessPoolExecutor does not make")


def make(method: str, workers: int = 2, **options: Any) -> Any:
    """An executor with this many processes, which its caller shuts down."""
    return EXECUTOR(max_workers=workers, mp_context=get_context(method), **options)


@contextmanager
def held(pool: Executor, begun: Fifo, gate: Fifo, number: int = 2) -> Iterator[list[Future[Any]]]:
    """The futures of calls that run, and return only after the block; no more than the pool has workers."""
    futures = [pool.submit(tasks.hold, index, begun.path, gate.path) for index in range(number)]
    try:
        for _ in futures:
            begun.line()
        yield futures
    finally:
        gate.let_go(number)
        late = wait(futures, DEADLINE).not_done
    assert not late, "nobody told that these have ended"


def is_or_names(error: BaseException | None, kind: type[BaseException]) -> bool:
    """Whether it is such an error, or stands for one that must not be raised as it is, or can't be."""
    return isinstance(error, kind) or getattr(error, "type_name", "").rpartition(".")[2] == kind.__name__


def works(pool: Executor) -> bool:
    """Whether all that is submitted now is answered."""
    futures = [pool.submit(tasks.double, number) for number in range(6)]
    return [future.result(DEADLINE) for future in futures] == [2 * number for number in range(6)]

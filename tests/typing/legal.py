"""Legal uses: mypy --strict and pyright see the types that are asserted here. Imported by a test, never called.

Each decorator is met in every stacking order on functions, methods, classmethods, staticmethods and lambdas.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import Future
from pathlib import Path
from typing import Any, assert_type

from manyhands import (
    OUTPUT,
    Controller,
    Counts,
    Discarded,
    Elsewhere,
    Failure,
    InvalidResult,
    Outcome,
    Results,
    WorkerDied,
    claimed_output,
    configure,
    gc,
    parallel,
    retry_on,
    validated,
)
from manyhands.decorators.decorated import (
    ClaimedFunction,
    Decorated,
    OutputClaims,
    ParallelClaimedFunction,
    ParallelFunction,
)


def save_text(value: object, path: Path) -> None:
    path.write_text(str(value))


def load_text(path: Path) -> str:
    return path.read_text()


def positive(x: int) -> bool:
    return x > 0


def known(value: object) -> bool:
    return value is not None


# -- one decorator, with and without options ------------------------------------------------------------------


@parallel
def bare(x: int, scale: float = 1.0) -> float:
    return x * scale


@parallel()
def called(x: int) -> str:
    return str(x)


@parallel(
    workers=2,
    backend="inline",
    chunksize="auto",
    buffersize=100,
    ordered=False,
    progress="squares",
    on_error="return",
    start_method="spawn",
    initializer=lambda: None,
    finalizer=lambda: None,
)
def optioned(x: int) -> int:
    return x * x


@retry_on(OSError, TimeoutError, attempts=3, wait=0.5)
def retried(x: int) -> int:
    return x


@retry_on(WorkerDied)
@retry_on(InvalidResult, wait=lambda state: 0.1 * state.attempt_number)
def retried_twice(x: int) -> int:
    return x


@validated(arguments=positive, result=known, invalid="raise")
def checked(x: int) -> int:
    return x


@claimed_output("{x}.txt")
def written(x: int, output: Path = OUTPUT) -> None:
    output.write_text(str(x))


@claimed_output(Path("results") / "{x}.txt", temp="claims/{x}", save=save_text, wait=False, failed="report")
def saved(x: int) -> int:
    return x


@claimed_output("{x}.txt", save=save_text, load=load_text)
def loaded(x: int) -> int:
    return x


def single_decorators() -> None:
    assert_type(bare, ParallelFunction[[int, float], float])  # type: ignore[assert-type] # pyright: ignore

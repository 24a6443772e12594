"""Validated functions that the contract tests map."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, Field

from manyhands import InvalidArguments, InvalidResult, parallel, retry_on, validated
from tests.contract.tasks import flaky_body


class Point(BaseModel):
    """A model, as users of pydantic have them."""

    x: int
    y: int = 0


@parallel
@validated
def added(a: int, b: Annotated[int, Field(lt=100)] = 1, *rest: int, plus: int = 0) -> float:
    """Takes what reads as numbers; returns text, which reads as a number too, unless that is 13."""
    total = a + b + sum(rest) + plus
    assert isinstance(total, int)
    return "thirteen" if total == 13 else str(total)  # type: ignore[return-value]


@parallel
@validated(invalid="raise")
def strictly_added(a: int, b: int = 1) -> int:
    """As ``added``; what does not fit fails."""
    return "thirteen" if a + b == 13 else a + b  # type: ignore[return-value]


@parallel
@validated(arguments_in="worker", result_in="parent")
def moved(a: int, pid: int) -> tuple[int, Point]:
    """Checked where it is not usual."""
    return a, {"x": a, "y": os.getpid() == pid}  # type: ignore[return-value]


@parallel
@validated(arguments_in="worker")
def added_there(a: int, b: int = 1, *, plus: int = 0) -> float:
    """As ``added``, with everything checked in the worker."""
    return added.__wrapped__(a, b, plus=plus)  # type: ignore[no-any-return]


@parallel
@validated
def length(array: np.ndarray, weights: list[float], scale: float = 1) -> float:
    """Arrays pass as they are."""
    return float(len(array) * scale) + sum(weights)


class Scale:
    """Has methods that are checked."""

    def __init__(self, factor: int) -> None:
        self.factor = factor

    @parallel
    @validated
    def times(self, x: int) -> int:
        return self.factor * x

    @validated
    @parallel
    @classmethod
    def made(cls, factor: int) -> Scale:
        return cls(factor)

    @parallel
    @validated()
    @staticmethod
    def doubled(x: int) -> int:
        return 2 * x


def body(x: int, pid: int = 0) -> int:
    return x * x


def parent_only(x: int, pid: int) -> bool:
    return os.getpid() == pid


def worker_only(x: int, pid: int) -> bool:
    return os.getpid() != pid


def even(value: int) -> bool:
    return value % 2 == 0


def boom_at_three(x: Any) -> bool:
    if x == 3:
        raise LookupError("three")
    if x == 4:
        raise InvalidResult("of another")
    if x == 5:
        raise InvalidArguments("of another")
    return True


def raises_refusals(x: int) -> int:
    return x if boom_at_three(x) else 0


in_parent = parallel(validated(arguments=parent_only)(body))
in_worker = parallel(validated(arguments=worker_only, arguments_in="worker")(body))
even_in_worker = parallel(validated(result=even)(body))
even_in_parent = parallel(validated(result=even, result_in="parent")(body))
boom_arguments = parallel(validated(arguments=boom_at_three)(body))
boom_arguments_in_worker = parallel(validated(arguments=boom_at_three, arguments_in="worker")(body))
boom_result = parallel(validated(result=boom_at_three)(lambda x: x))
boom_result_in_parent = parallel(validated(result=boom_at_three, result_in="parent")(lambda x: x))
boom_body = parallel(validated(result=even)(raises_refusals))


def flaky_until(x: int, counts: str, result: str) -> Any:
    """Returns a value that is not valid twice, then one that is."""
    try:
        return flaky_body(x, counts, 2)[0]
    except OSError:
        return result


def is_number(value: Any) -> bool:
    return isinstance(value, int)


class Seen(list[Any]):
    """Notes what was looked at, in this process."""

    def __call__(self, value: Any) -> bool:
        self.append((value, os.getpid()))
        return isinstance(value, int)


retried_in_worker = parallel(
    retry_on(InvalidResult, attempts=3, wait=0)(validated(result=is_number)(flaky_until))
)
retried_in_parent = parallel(
    retry_on(InvalidResult, attempts=3, wait=0)(validated(result=is_number, result_in="parent")(flaky_until))
)


@parallel
@retry_on(InvalidResult, attempts=3, wait=0)
@validated
def retried_annotation(x: int, counts: Path, result: str) -> int:
    """As ``flaky_until``, by its annotation."""
    assert isinstance(counts, Path)
    return flaky_until(x, str(counts), result)  # type: ignore[no-any-return]


@parallel
@retry_on(ValueError, attempts=3, wait=0)
@validated(arguments=lambda x: x > 0, arguments_in="worker")
def refused_once(x: int) -> int:
    """What is refused stays refused, though it is a ValueError."""
    return x

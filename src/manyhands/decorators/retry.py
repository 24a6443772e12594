"""``@retry_on``: a function whose failures are tried again."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, ParamSpec, TypeVar, overload

from manyhands.calls import qualified_name
from manyhands.decorators.decorated import (
    ClaimedFunction,
    Decorated,
    ParallelClaimedFunction,
    ParallelFunction,
    decorated,
    unwrapped,
)
from manyhands.policies.retry import DEFAULT_ATTEMPTS, RetryBudget, Wait, merged

P = ParamSpec("P")
R = TypeVar("R")


class RetryDecorator:
    """``@retry_on`` with its exceptions."""

    def __init__(self, budget: RetryBudget) -> None:
        self._budget = budget

    @overload
    def __call__(self, function: ParallelClaimedFunction[P, R], /) -> ParallelClaimedFunction[P, R]: ...
    @overload
    def __call__(self, function: ParallelFunction[P, R], /) -> ParallelFunction[P, R]: ...
    @overload
    def __call__(self, function: ClaimedFunction[P, R], /) -> ClaimedFunction[P, R]: ...
    @overload
    def __call__(self, function: Decorated[P, R], /) -> Decorated[P, R]: ...
    @overload
    def __call__(self, function: staticmethod[P, R], /) -> Decorated[P, R]: ...
    @overload
    def __call__(self, function: classmethod[Any, P, R], /) -> Decorated[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> Decorated[P, R]: ...
    def __call__(self, function: Any, /) -> Any:
        """Decorates ``function``; raises TypeError if an exception has a budget there already."""
        body, task, kind = unwrapped(function, "@retry_on")
        return decorated(body, replace(task, retries=merged(task.retries, self._budget)), kind)

    def __repr__(self) -> str:
        return f"<@retry_on: {self._budget}>"


def retry_on(
    *exceptions: type[BaseException], attempts: int = DEFAULT_ATTEMPTS, wait: Wait = None
) -> RetryDecorator:
    """Repeats calls that end in one of ``exceptions``.

    It may be applied several times: each time is a budget of its own, shared by its exceptions and their
    subclasses; of several budgets that fit, the one that names the most specific type counts. While an item
    waits for its next attempt it occupies no worker.

    Args:
        exceptions: types; WorkerDied, TaskTimeout and InvalidResult may be among them.
        attempts: how many calls may end so, the first included.
        wait: seconds between attempts, or one of tenacity's ``wait_…`` objects; None for exponential back-off
            with jitter, from 0.1 s up to a minute.

    Raises:
        TypeError: no exception is given, one is no exception type or has a budget already.
        ValueError: ``attempts`` or ``wait`` is out of range.
    """
    if not exceptions:
        raise TypeError("@retry_on needs the exceptions that are tried again: @retry_on(OSError, attempts=3)")
    for exception in exceptions:
        if not (isinstance(exception, type) and issubclass(exception, BaseException)):
            raise TypeError(f"@retry_on takes exception types, not {exception!r}")
    if not isinstance(attempts, int) or isinstance(attempts, bool):
        raise TypeError(f"@retry_on: attempts must be a whole number, not {attempts!r}")
    if attempts < 1:
        raise ValueError(f"@retry_on: attempts must be at least 1, not {attempts}")
    if isinstance(wait, bool) or not (wait is None or isinstance(wait, int | float) or callable(wait)):
        raise TypeError(f"@retry_on: wait must be seconds, a tenacity wait or None, not {wait!r}")
    if isinstance(wait, int | float) and not 0 <= wait < math.inf:
        raise ValueError(f"@retry_on: wait must be 0 or more seconds, not {wait}")
    named = tuple(sorted(set(exceptions), key=qualified_name))
    return RetryDecorator(RetryBudget(named, attempts, wait))

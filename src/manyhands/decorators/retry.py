"""``@retry_on``: a function whose failures are tried again."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, ParamSpec, TypeVar, overload

from manyhands.calls import qualified_name, short_repr
from manyhands.decorators.decorated import (
    ClaimedFunction,
    Decorated,
    ParallelClaimedFunction,
    ParallelFunction,
    Unapplied,
    decorated,
    unwrapped,
)
from manyhands.policies.parameters import name_of, signature_of
from manyhands.policies.retry import DEFAULT_ATTEMPTS, Predicate, RetryBudget, Stop, Wait, merged
from manyhands.policies.verdict import HandleError
from manyhands.spelling import suggesting

P = ParamSpec("P")
R = TypeVar("R")


class RetryDecorator(Unapplied):
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
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Decorates a function; raises TypeError if an exception has a budget there already."""
        if (
            kwargs
            or len(args) != 1
            or not (callable(args[0]) or isinstance(args[0], classmethod | staticmethod))
        ):
            given = ", ".join([*map(short_repr, args), *(f"{k}={short_repr(v)}" for k, v in kwargs.items())])
            raise TypeError(f"@retry_on takes a function, not {given or 'nothing'}{self.misuse}")
        (function,) = args
        body, task, kind = unwrapped(function, "@retry_on")
        return decorated(body, replace(task, retries=merged(task.retries, self._budget)), kind)

    @property
    def misuse(self) -> str:
        """What a message adds if this may be a function that was decorated without parentheses; else ``""``."""
        predicates = self._budget.predicates
        if self._budget.exceptions or len(predicates) != 1:
            return ""
        return _meant_for(predicates[0])

    def __repr__(self) -> str:
        return f"<@{self._budget.text()}>"


@suggesting("@retry_on")
def retry_on(
    *exceptions: type[BaseException] | Predicate,
    attempts: int | None = None,
    wait: Wait = None,
    stop: Stop = None,
    handle_error: HandleError | None = None,
) -> RetryDecorator:
    """Repeats calls that end in one of ``exceptions``.

    It may be applied several times: each time is a budget of its own, shared by its exceptions and their
    subclasses; of several budgets that fit, the one that names the most specific type counts, and one with a
    predicate only if none names a type that fits. While an item waits for its next attempt it occupies no worker.

    Args:
        exceptions: types; WorkerDied, TaskTimeout and InvalidResult may be among them. Or functions that are given
            the exception, where it was raised, and tell whether it counts. Arguments that the function's own
            ``@validated`` refuses are not tried again: InvalidArguments counts where the function itself raises it,
            or calls another one that does.
        attempts: how many calls may end so, the first included. None: 3 or, if ``stop`` or ``handle_error`` is given,
            any number.
        wait: seconds between attempts, or one of tenacity's ``wait_…`` objects; None for exponential back-off
            with jitter, from 0.1 s up to a minute.
        stop: one of tenacity's ``stop_…`` objects; delays count from the beginning of the first attempt that failed.
        handle_error: is given the ``Failure``, in this process, and answers ``Retry()``, ``Retry(arguments)`` with
            another item, which is validated again, ``GiveUp()`` or ``Replace(value)``. To try again it needs what is
            left of ``attempts`` and ``stop``. If it raises, the item fails with that.

    Raises:
        TypeError: no exception is given, one is no exception type or has a budget already.
        ValueError: ``attempts`` or ``wait`` is out of range.
    """
    if not exceptions:
        raise TypeError("@retry_on needs the exceptions that are tried again: @retry_on(OSError, attempts=3)")
    types = {exception for exception in exceptions if isinstance(exception, type)}
    predicates = tuple(exception for exception in exceptions if not isinstance(exception, type))
    for exception in types:
        if not issubclass(exception, BaseException):
            raise TypeError(f"@retry_on takes exception types, not {short_repr(exception)}")
    for predicate in predicates:
        _check_predicate(predicate, alone=len(exceptions) == 1)
    check_policy(attempts, wait, stop, handle_error, "@retry_on")
    if attempts is None and stop is None and handle_error is None:
        attempts = DEFAULT_ATTEMPTS
    named = tuple(sorted(types, key=qualified_name))
    return RetryDecorator(RetryBudget(named, attempts, wait, stop, predicates, handle_error))


def _check_predicate(predicate: Any, alone: bool) -> None:
    """Raises TypeError if this can't be one; ``alone``: it may be a function that was to be decorated."""
    if not callable(predicate) or type(predicate).__module__.startswith("tenacity"):
        apart = ""
        if isinstance(predicate, tuple | list | set | frozenset):
            names = [each.__name__ if isinstance(each, type) else short_repr(each) for each in predicate]
            apart = f"; give them one by one: @retry_on({', '.join(names)})"
        elif isinstance(predicate, int | float):
            apart = f"; for a number of attempts there is attempts={predicate}"
        elif isinstance(predicate, str):
            apart = "; give the class itself, without quotes"
        elif isinstance(predicate, BaseException):
            apart = f"; give its class, {type(predicate).__name__}"
        raise TypeError(
            f"@retry_on takes exception types, or functions of an exception, not {short_repr(predicate)}{apart}"
        )
    meant = _meant_for(predicate) if alone else ""
    if alone and isinstance(predicate, Decorated):
        raise TypeError(f"@retry_on takes exceptions, not {short_repr(predicate)}{meant}")
    signature = signature_of(predicate)
    try:
        if signature is not None:
            signature.bind(None)
    except TypeError as error:
        name = name_of(predicate)
        raise TypeError(f"@retry_on: {name} can't be called with an exception alone ({error}){meant}") from None


def _meant_for(function: Callable[..., Any]) -> str:
    name = name_of(function)
    return f"; if @retry_on was meant as the decorator of {name}, name the exceptions: @retry_on(OSError)"


def check_policy(attempts: object, wait: object, stop: object, handle_error: object, name: str) -> None:
    """Raises TypeError or ValueError for what can't be a policy; ``name`` is who was given it."""
    if not (attempts is None or isinstance(attempts, int)) or isinstance(attempts, bool):
        raise TypeError(f"{name}: attempts must be a whole number or None, not {short_repr(attempts)}")
    if attempts is not None and attempts < 1:
        raise ValueError(f"{name}: attempts must be at least 1, not {attempts}")
    if isinstance(wait, bool) or not (wait is None or isinstance(wait, int | float) or callable(wait)):
        raise TypeError(f"{name}: wait must be seconds, a tenacity wait or None, not {short_repr(wait)}")
    if isinstance(wait, int | float) and not 0 <= wait < math.inf:
        raise ValueError(f"{name}: wait must be 0 or more seconds, not {wait}")
    if stop is not None and not callable(stop):
        raise TypeError(
            f"{name}: stop must be a tenacity stop or None, not {short_repr(stop)}; for a number there is attempts"
        )
    if handle_error is not None and not callable(handle_error):
        raise TypeError(f"{name}: handle_error must be a function of a Failure, not {short_repr(handle_error)}")

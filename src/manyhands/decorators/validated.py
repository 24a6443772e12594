"""``@validated``: predicates over a function's arguments and its result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, ParamSpec, TypeVar, get_args, overload

from manyhands.decorators.decorated import (
    ClaimedFunction,
    Decorated,
    ParallelClaimedFunction,
    ParallelFunction,
    decorated,
    unwrapped,
)
from manyhands.policies.parameters import Parameters, name_of
from manyhands.policies.validation import Invalid, Validation

P = ParamSpec("P")
R = TypeVar("R")


class ValidationDecorator:
    """``@validated`` with its predicates."""

    def __init__(self, validation: Validation) -> None:
        self._validation = validation

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
        """Decorates ``function``; raises TypeError if the predicate asks for what it has not."""
        body, task, kind = unwrapped(function, "@validated")
        if task.validation is not None:
            raise TypeError("@validated is applied twice; combine the predicates")
        self._validation.fits(Parameters.of(body), name_of(body))
        return decorated(body, replace(task, validation=self._validation), kind)

    def __repr__(self) -> str:
        return f"<@validated: {self._validation}>"


def validated(
    *,
    arguments: Callable[..., bool] | None = None,
    result: Callable[[Any], bool] | None = None,
    invalid: Invalid = "discard",
) -> ValidationDecorator:
    """Keeps only calls whose arguments and results satisfy predicates.

    Args:
        arguments: called in the parent, before an item is sent, with those of the function's arguments that it
            has parameters for, by name; True keeps the item.
        result: called in the worker with the value or, where the body writes its output, with the path of the
            output that is not yet published; True keeps it. An invalid result is a failed attempt, which
            ``@retry_on(InvalidResult)`` repeats.
        invalid: "discard": a map leaves invalid items out and counts them; "raise": they fail with
            InvalidArguments or InvalidResult. A direct call raises these in both cases.

    Raises:
        TypeError: no predicate is given, or one asks for a parameter that the function does not have; the
            function is decorated so already.
        ValueError: ``invalid`` is neither of the two.
    """
    if arguments is None and result is None:
        raise TypeError("@validated needs a predicate: arguments=… or result=…")
    for name, predicate in (("arguments", arguments), ("result", result)):
        if predicate is not None and not callable(predicate):
            raise TypeError(f"@validated: {name} must be a function, not {predicate!r}")
    if invalid not in get_args(Invalid):
        raise ValueError(f"@validated: invalid must be 'discard' or 'raise', not {invalid!r}")
    return ValidationDecorator(Validation(arguments, result, invalid))

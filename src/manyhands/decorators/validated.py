"""``@validated``: predicates over a function's arguments and its result, and its annotations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, ParamSpec, TypeVar, cast, get_args, overload

from manyhands.calls import short_repr
from manyhands.decorators.decorated import (
    ClaimedFunction,
    Decorated,
    ParallelClaimedFunction,
    ParallelFunction,
    Unapplied,
    decorated,
    unwrapped,
)
from manyhands.policies.annotations import check_installed
from manyhands.policies.parameters import Parameters, name_of
from manyhands.policies.validation import Invalid, Place, Validation, check_predicate
from manyhands.spelling import suggesting

P = ParamSpec("P")
R = TypeVar("R")


class ValidationDecorator(Unapplied):
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
        """Decorates ``function``; raises TypeError if it does not have what is to be checked."""
        body, task, kind = unwrapped(function, "@validated")
        if task.validation is not None:
            raise TypeError(f"@validated is applied twice to {name_of(body)}; combine the predicates")
        self._validation.fits(Parameters.of(body), name_of(body))
        return decorated(body, replace(task, validation=self._validation), kind)

    def __repr__(self) -> str:
        return f"<@{self._validation.text()}>"


@overload
def validated(function: ParallelClaimedFunction[P, R], /) -> ParallelClaimedFunction[P, R]: ...
@overload
def validated(function: ParallelFunction[P, R], /) -> ParallelFunction[P, R]: ...
@overload
def validated(function: ClaimedFunction[P, R], /) -> ClaimedFunction[P, R]: ...
@overload
def validated(function: Decorated[P, R], /) -> Decorated[P, R]: ...
@overload
def validated(function: staticmethod[P, R], /) -> Decorated[P, R]: ...
@overload
def validated(function: classmethod[Any, P, R], /) -> Decorated[P, R]: ...
@overload
def validated(function: Callable[P, R], /) -> Decorated[P, R]: ...
@overload
def validated(
    *,
    arguments: Callable[..., bool] | None = None,
    result: Callable[[Any], bool] | None = None,
    annotations: bool | None = None,
    invalid: Invalid = "discard",
    arguments_in: Place = "parent",
    result_in: Place = "worker",
) -> ValidationDecorator: ...
@suggesting("@validated", example="@validated(arguments=lambda x: x > 0)")
def validated(
    function: Any = None,
    /,
    *,
    arguments: Callable[..., bool] | None = None,
    result: Callable[[Any], bool] | None = None,
    annotations: bool | None = None,
    invalid: Invalid = "discard",
    arguments_in: Place = "parent",
    result_in: Place = "worker",
) -> Any:
    """Keeps only calls whose arguments and results satisfy predicates, or what the annotations say.

    Without predicates, ``@validated`` or ``@validated()``, annotations are checked as pydantic does it (extra
    ``pydantic``): the body gets, and a call returns, what it makes of the values: 3 of ``"3"`` for an ``int``.
    ``Annotated[int, Strict()]`` takes no such thing. Values of other classes, arrays say, pass if they are instances.
    The annotation of the result is for what the body returns; of one that writes its output it says nothing.

    A predicate that raises fails the item with what it raised, whatever ``invalid`` says.

    Args:
        arguments: called with those of the function's arguments that it has parameters for, by name; True keeps the
            item.
        result: called with the value or, where the body writes its output, with the path of the output that is not
            yet published; True keeps it. An invalid result is a failed attempt, which ``@retry_on(InvalidResult)``
            repeats.
        annotations: whether annotations are checked too, before predicates, which get the converted values. None: if
            there is no predicate.
        invalid: "discard": a map leaves invalid items out and counts them; "raise": they fail with
            InvalidArguments or InvalidResult. A direct call raises these in both cases.
        arguments_in: "parent": before an item is sent; "worker": where it runs, before its output is claimed. The
            template of a claimed output gets the arguments as they were given then.
        result_in: "worker": where the call ran; "parent": in the thread that takes the results. Not for claimed
            outputs, which are published in the worker.

    Raises:
        TypeError: a predicate is no function, an async one or a generator function, or asks for a parameter that the
            function does not have; there are no annotations; the function is decorated so already.
        ValueError: an option is none of its values.
        ImportError: annotations are to be checked, and pydantic is not installed.
    """
    for name, predicate in (("arguments", arguments), ("result", result)):
        if predicate is not None:
            check_predicate(predicate, name)
    for name, value, values in (
        ("invalid", invalid, get_args(Invalid)),
        ("arguments_in", arguments_in, get_args(Place)),
        ("result_in", result_in, get_args(Place)),
    ):
        if value not in values:
            raise ValueError(
                f"@validated: {name} must be {' or '.join(map(repr, values))}, not {short_repr(value)}"
            )
    if annotations not in (None, True, False):
        raise TypeError(f"@validated: annotations must be True, False or None, not {short_repr(annotations)}")
    if annotations is None:
        annotations = arguments is None and result is None
    if annotations:
        check_installed()
    elif arguments is None and result is None:
        raise TypeError("@validated(annotations=False) needs a predicate: arguments=… or result=…")
    decorator = ValidationDecorator(
        Validation(arguments, result, invalid, bool(annotations), arguments_in, result_in)
    )
    if function is None:
        return decorator
    if not (callable(function) or isinstance(function, classmethod | staticmethod)):
        raise TypeError(f"@validated takes a function, or predicates by keyword; not {short_repr(function)}")
    return decorator(cast("Any", function))

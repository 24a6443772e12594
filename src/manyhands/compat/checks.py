"""Checks of arguments, with the names that they have in the faces."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, Literal, cast, get_args

from manyhands import parallel
from manyhands.calls import short_repr

OnException = Literal["raise", "return", "proc"]


def whole_number(name: str, value: Any, least: int = 1) -> int:
    """``value`` as an int; raises TypeError or ValueError if it is none, or less than ``least``."""
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be a whole number, not {short_repr(value)}") from None
    if number < least:
        raise ValueError(f"{name} must be at least {least}, not {number}")
    return number


def a_function(name: str, value: Any) -> Callable[..., Any]:
    """``value``, if it is one that ``@parallel`` takes, or has it; else raises TypeError."""
    if not callable(value):
        raise TypeError(f"{name} must be a function, not {short_repr(value)}")
    if not is_parallel(value):
        try:
            parallel(value)
        except TypeError as error:
            raise TypeError(f"{name} must be a plain function: {error}") from None
    return cast("Callable[..., Any]", value)


def is_parallel(function: Callable[..., Any]) -> bool:
    """Whether ``@parallel`` was applied to it."""
    return hasattr(function, "submit") and hasattr(function, "options")


def on_exception(value: Any) -> OnException:
    """``value``, if it is one of the three; else raises ValueError."""
    choices = get_args(OnException)
    if value not in choices:
        raise ValueError(f"exception must be one of {', '.join(map(repr, choices))}, not {short_repr(value)}")
    return cast("OnException", value)

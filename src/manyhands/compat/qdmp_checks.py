"""Checks of what the handlers of qdmp are given, and their loggers."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any

from manyhands.calls import short_repr


def either(one: Iterable[Any] | None, other: Iterable[Any] | None) -> Iterable[Any]:
    """The one of the two that was given; raises TypeError unless it is just one, and can be gone through."""
    given = one if other is None else other
    if (one is None) == (other is None):
        raise TypeError("give tasks or futures, one of them")
    if not isinstance(given, Iterable):
        raise TypeError(f"tasks must be a list with an entry for each task, not {short_repr(given)}")
    return given


def function_or_none(name: str, value: Callable[..., Any] | None) -> Callable[..., Any] | None:
    """``value``, if it is one of them; else raises TypeError."""
    if value is not None and not callable(value):
        raise TypeError(f"{name} must be a function or None, not {short_repr(value)}")
    return value


def seconds_of(name: str, value: Any) -> float:
    """``value``, if it is a number of seconds, 0 or more; else raises TypeError or ValueError."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError(f"{name} must be a number of seconds, not {short_repr(value)}")
    if not value >= 0:
        raise ValueError(f"{name} must be 0 or more seconds, not {value}")
    return value


def logger_for(name: str, console_level: int | str | None) -> logging.Logger:
    """The logger of this name or, with a level for the console, one of a handler's own below it."""
    logger = logging.getLogger(name)
    if console_level is None:
        return logger
    own = logging.Logger(name, console_level)  # noqa: LOG001 - nobody else has it: nothing is written twice
    own.parent = logger
    console = logging.StreamHandler()
    console.setFormatter(logging.Formatter("%(asctime)s - %(levelname)s - %(message)s"))
    own.addHandler(console)
    return own

"""What a user's ``handle_error`` may answer about a failed attempt."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

from manyhands.calls import add_note, qualified_name, short_repr
from manyhands.policies.parameters import name_of

if TYPE_CHECKING:
    from manyhands.outcome import Failure


class _Same(Enum):
    """The type of ``SAME``."""

    SAME = "the same"

    def __repr__(self) -> str:
        return "SAME"


SAME: Final = _Same.SAME
"""Stands for the arguments that the attempt had."""


@dataclass(frozen=True, slots=True)
class Retry:
    """Try again, if the budget allows it.

    Attributes:
        arguments: another item, in place of the one that failed, which is validated again; by default the same.
        wait: seconds until then; None: as the budget says.

    Raises:
        TypeError, ValueError: ``wait`` is no number of seconds, 0 or more.
    """

    arguments: Any = SAME
    wait: float | None = None

    def __post_init__(self) -> None:
        if self.wait is None:
            return
        if not isinstance(self.wait, int | float) or isinstance(self.wait, bool):
            raise TypeError(f"Retry: wait must be a number of seconds or None, not {short_repr(self.wait)}")
        if not 0 <= self.wait < float("inf"):
            raise ValueError(f"Retry: wait must be 0 or more seconds, not {self.wait}")


@dataclass(frozen=True, slots=True)
class GiveUp:
    """The item fails.

    Attributes:
        error: with this exception; None: with the one that the attempt raised.
    """

    error: BaseException | None = None

    def __post_init__(self) -> None:
        if not (self.error is None or isinstance(self.error, BaseException)):
            raise TypeError(f"GiveUp takes an exception or nothing, not {short_repr(self.error)}")


@dataclass(frozen=True, slots=True)
class Replace:
    """The item has this value, as if the function had returned it; it is not validated."""

    value: Any

    def __repr__(self) -> str:
        return f"Replace({short_repr(self.value)})"


Verdict = Retry | GiveUp | Replace
HandleError = Callable[["Failure"], Verdict]


def ask(handle_error: HandleError, failure: Failure) -> Verdict:
    """What ``handle_error`` says; if it raises or says something else, the item fails with that."""
    name = name_of(handle_error)
    try:
        verdict = handle_error(failure)
    except Exception as error:
        if error is not failure.error:
            add_note(
                error,
                f"raised by {name}, the handle_error of @retry_on, which was asked about {failure.error!r}",
            )
        return GiveUp(error)
    if not isinstance(verdict, Retry | GiveUp | Replace):
        return GiveUp(
            TypeError(
                f"{name}, the handle_error of @retry_on, must return Retry(…), GiveUp() or Replace(…); it returned "
                f"a {qualified_name(type(verdict))} when it was asked about {failure.error!r}"
            )
        )
    return verdict


class StaysBehind:
    """Stands for a ``handle_error`` where its function was sent to: it is called where the map was started only."""

    def __init__(self, name: str) -> None:
        self.__name__ = self.__qualname__ = name

    def __call__(self, failure: Failure) -> Verdict:
        """Says so."""
        raise RuntimeError(
            f"{self.__name__} stays in the process that it was given in: a function that was sent to a worker by value "
            f"can't ask it there"
        )

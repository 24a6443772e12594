"""Which failures are tried again, how often and when."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, Final

from manyhands.calls import add_note, error_text, qualified_name, short_repr
from manyhands.policies.parameters import name_of
from manyhands.policies.verdict import HandleError, StaysBehind

DEFAULT_ATTEMPTS: Final = 3

Wait = float | Callable[[Any], float] | None
"""Seconds, one of tenacity's ``wait_…`` objects, or None for exponential back-off with jitter."""

Stop = Callable[[Any], bool] | None
"""One of tenacity's ``stop_…`` objects, or None."""

Predicate = Callable[[BaseException], bool]
"""Tells of an exception whether the call is tried again."""


@dataclass(frozen=True)
class RetryBudget:
    """One ``@retry_on``: its exceptions share ``attempts`` calls.

    Attributes:
        exceptions: the types, sorted by name so that equal sets make equal budgets.
        attempts: how many calls may end in one of them, the first included; None: any number.
        wait: seconds between two attempts, or who draws them.
        stop: says when there are no more.
        predicates: exceptions of which one of these is true count too, unless a type fits.
        handle_error: is asked each time what to do; None: to try again.
        is_last: whether it counts only for what no other budget is for.
    """

    exceptions: tuple[type[BaseException], ...]
    attempts: int | None = DEFAULT_ATTEMPTS
    wait: Wait = None
    stop: Stop = None
    predicates: tuple[Predicate, ...] = ()
    handle_error: HandleError | None = None
    is_last: bool = False

    def text(self) -> str:
        """As it is written, but for what is as by default: ``retry_on(OSError, attempts=3)``."""
        parts = [cls.__name__ for cls in self.exceptions] + [name_of(each) for each in self.predicates]
        parts += [f"attempts={self.attempts}"] * (self.attempts is not None)
        parts += [f"wait={short_repr(self.wait)}"] * (self.wait is not None)
        parts += [f"stop={short_repr(self.stop)}"] * (self.stop is not None)
        parts += [f"handle_error={name_of(self.handle_error)}"] if self.handle_error is not None else []
        return f"retry_on({', '.join(parts)})"

    def next_wait(
        self, spent: int, seconds: float = 0.0, error: BaseException | None = None, wait: float | None = None
    ) -> float | None:
        """Seconds to wait before the next attempt; None: there is none. This may draw random numbers.

        Args:
            spent: how many calls have ended in these exceptions.
            seconds: since the first of them began.
            error: in which the last of them ended.
            wait: seconds that somebody has chosen; None: as this budget says.
        """
        if self.attempts is not None and spent >= self.attempts:
            return None
        if self.stop is None and (wait is not None or isinstance(self.wait, int | float)):
            return float(self.wait if wait is None else wait)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        state = _state(spent, seconds, error)
        if wait is None:
            wait = self._drawn(state)
        state.upcoming_sleep = wait
        return None if self.stop is not None and self.stop(state) else wait

    def _drawn(self, state: Any) -> float:
        if isinstance(self.wait, int | float):
            return float(self.wait)
        if self.wait is not None:
            return max(0.0, float(self.wait(state)))
        from tenacity import wait_exponential, wait_random  # slow, seldom needed

        return float((wait_exponential(multiplier=0.1, max=60.0) + wait_random(0, 0.1))(state))

    def __reduce__(self) -> Any:
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        if self.handle_error is not None:
            values["handle_error"] = StaysBehind(name_of(self.handle_error))
        return RetryBudget, tuple(values.values())


def _state(spent: int, seconds: float, error: BaseException | None) -> Any:
    """What tenacity's objects look at; no clock is read for it."""
    from tenacity import Future, RetryCallState, Retrying

    state = RetryCallState(retry_object=Retrying(), fn=None, args=(), kwargs={})
    state.attempt_number = spent
    state.start_time, state.outcome_timestamp = 0.0, seconds
    if error is not None:
        state.outcome = Future(spent)
        state.outcome.set_exception(error)
    return state


def budget_of(budgets: tuple[RetryBudget, ...], error: BaseException) -> int | None:
    """The index of the budget that counts for ``error``; None: there is none.

    It is the one that names the error's type or, failing that, its nearest base; then the first with a predicate that
    is true, then the last. A predicate that raises is false, and the error gets a note.
    """
    for base in type(error).__mro__:
        for index, budget in enumerate(budgets):
            if base in budget.exceptions and not budget.is_last:
                return index
    for index, budget in enumerate(budgets):
        for predicate in budget.predicates:
            try:
                if predicate(error):
                    return index
            except Exception as raised:
                add_note(
                    error,
                    f"not tried again: the predicate {name_of(predicate)} of @retry_on raised "
                    f"{qualified_name(type(raised))}: {error_text(raised)}",
                )
                return None
    for index, budget in enumerate(budgets):
        if budget.is_last and isinstance(error, budget.exceptions):
            return index
    return None


def merged(budgets: tuple[RetryBudget, ...], added: RetryBudget) -> tuple[RetryBudget, ...]:
    """``budgets`` and ``added`` in an order that does not depend on who came first.

    Raises:
        TypeError: an exception has a budget already.
    """
    for budget in budgets:
        twice = set(budget.exceptions) & set(added.exceptions)
        if twice:
            names = ", ".join(sorted(qualified_name(cls) for cls in twice))
            raise TypeError(f"@retry_on names {names} twice; an exception can have one budget only")
    return tuple(sorted((*budgets, added), key=_order))


def _order(budget: RetryBudget) -> tuple[list[str], list[str]]:
    return [qualified_name(cls) for cls in budget.exceptions], list(map(name_of, budget.predicates))

"""Which failures are tried again, how often and when."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from manyhands.calls import qualified_name

DEFAULT_ATTEMPTS: Final = 3

Wait = float | Callable[[Any], float] | None
"""Seconds, one of tenacity's ``wait_…`` objects, or None for exponential back-off with jitter."""


@dataclass(frozen=True)
class RetryBudget:
    """One ``@retry_on``: its exceptions share ``attempts`` calls.

    Attributes:
        exceptions: the types, sorted by name so that equal sets make equal budgets.
        attempts: how many calls may end in one of them, the first included.
        wait: seconds between two attempts, or who draws them.
    """

    exceptions: tuple[type[BaseException], ...]
    attempts: int = DEFAULT_ATTEMPTS
    wait: Wait = None

    def allows_another(self, spent: int) -> bool:
        """Whether there is another attempt after ``spent`` calls that ended in these exceptions."""
        return spent < self.attempts

    def draw_wait(self, spent: int) -> float:
        """Seconds to wait after the ``spent``-th such call; this draws random numbers."""
        wait = self.wait
        if isinstance(wait, int | float):
            return float(wait)
        from tenacity import RetryCallState, Retrying, wait_exponential, wait_random  # slow, seldom needed

        strategy = wait_exponential(multiplier=0.1, max=60.0) + wait_random(0, 0.1) if wait is None else wait
        state = RetryCallState(retry_object=Retrying(), fn=None, args=(), kwargs={})
        state.attempt_number = spent
        return max(0.0, float(strategy(state)))


def budget_of(budgets: tuple[RetryBudget, ...], error: BaseException) -> int | None:
    """The index of the budget that names ``error``'s type or, failing that, its nearest base; None: none."""
    for base in type(error).__mro__:
        for index, budget in enumerate(budgets):
            if base in budget.exceptions:
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
    return tuple(
        sorted((*budgets, added), key=lambda budget: [qualified_name(cls) for cls in budget.exceptions])
    )

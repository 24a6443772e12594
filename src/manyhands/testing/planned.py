"""A task whose outcomes are planned, attempt by attempt, wherever it runs."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

INVALID: Final = -1
"""What an attempt returns that is planned to be invalid: let ``@validated(result=…)`` refuse what is below 0."""


class PlannedError(Exception):
    """A failure that was planned, of a type that no library has."""


# No ValueError: InvalidResult is one, and who tries the one again would try the other.
ERRORS: Final[dict[str, type[Exception]]] = {
    error.__name__: error for error in (RuntimeError, KeyError, OSError, PlannedError)
}

OUTCOMES: Final = ("value", "invalid", *ERRORS)
"""What an attempt may come to."""

Plan = tuple[str, ...]
"""What the attempts of one item come to, one after the other; the last one goes for all that follow."""


@dataclass(frozen=True)
class PlannedTask:
    """A function of whole numbers: item n does what ``plans[n]`` says, and if there are fewer, what another one says.

    It counts its calls in files, so that all processes count together, and may be sent to any.

    Args:
        plans: one for each item, none of them empty.
        directory: where the counts are; of its own, empty, and not that of the outputs.
    """

    plans: tuple[Plan, ...]
    directory: Path

    def __post_init__(self) -> None:
        wrong = {outcome for plan in self.plans for outcome in plan} - {*OUTCOMES}
        if not self.plans or not all(self.plans) or wrong:
            raise ValueError(
                f"a plan is made of {', '.join(OUTCOMES)}, and has one at least; not {self.plans!r}"
            )

    def __call__(self, item: int) -> int:
        """Twice the item, or -1, or an error that tells the item and the attempt."""
        end = os.open(self.directory / str(item), os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            os.write(end, b".")
            attempt = os.lseek(end, 0, os.SEEK_CUR)
        finally:
            os.close(end)
        outcome = self.outcome(item, attempt)
        if outcome in ERRORS:
            raise ERRORS[outcome](f"item {item}, attempt {attempt}")
        return 2 * item if outcome == "value" else INVALID

    def outcome(self, item: int, attempt: int) -> str:
        """What this attempt, counted from 1, is planned to come to."""
        plan = self.plans[item % len(self.plans)]
        return plan[min(attempt, len(plan)) - 1]

    def expected(self, item: int, attempts: int = 1) -> tuple[str, int]:
        """What the item comes to, and after how many calls, if every error is tried again up to ``attempts``."""
        for attempt in range(1, attempts):
            if self.outcome(item, attempt) not in ERRORS:
                return self.outcome(item, attempt), attempt
        return self.outcome(item, attempts), attempts

    def calls(self, item: int) -> int:
        """How often the item was called until now."""
        path = self.directory / str(item)
        return path.stat().st_size if path.exists() else 0

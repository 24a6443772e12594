"""A tqdm bar for a map: counts what has ended, and shows retries and failures."""

from __future__ import annotations

from typing import Any

from manyhands.outcome import Outcome


class ProgressBar:
    """The observer that draws a bar, in a terminal or a notebook.

    Args:
        label: stands before the bar.
        total: number of items, if known.
    """

    def __init__(self, label: str, total: int | None) -> None:
        from tqdm.auto import tqdm  # only who wants a bar pays for it

        self._bar: Any = tqdm(total=total, desc=label, unit="item", dynamic_ncols=True)
        self._marks = {"failed": 0, "discarded": 0, "retried": 0}

    def ended(self, outcome: Outcome[Any]) -> None:
        """One more."""
        if outcome.failure is not None:
            self._mark("failed")
        elif outcome.discarded is not None:
            self._mark("discarded")
        self._bar.update()

    def retried(self) -> None:
        """One is tried again."""
        self._mark("retried")

    def close(self) -> None:
        """The bar stays as it is."""
        self._bar.close()

    def _mark(self, what: str) -> None:
        self._marks[what] += 1
        self._bar.set_postfix({name: number for name, number in self._marks.items() if number}, refresh=False)

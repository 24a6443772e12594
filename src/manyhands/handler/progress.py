"""A tqdm bar for a map: counts what has ended, and shows retries and failures."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any, cast

from manyhands.calls import Done
from manyhands.outcome import Event, Outcome, Returned


class ProgressBar:
    """The observer that draws a bar, in a terminal or a notebook.

    Args:
        label: stands before the bar.
        total: number of items, if known.
        unit: what is counted.
    """

    def __init__(self, label: str, total: int | None, unit: str = "item") -> None:
        self._bar: Any = None
        self._marks = {"here": 0, "elsewhere": 0, "claimed": 0, "failed": 0, "discarded": 0, "retried": 0}
        with self._drawing():
            self._bar = _bar_class()(total=total, desc=label, unit=unit, dynamic_ncols=True)

    def ended(self, outcome: Outcome[Any]) -> None:
        """One more."""
        if outcome.failure is not None:
            self._mark("failed")
        elif outcome.discarded is not None:
            self._mark("discarded")
        elif outcome.elsewhere is not None or not cast("Done[Any]", outcome.result).computed:
            self._mark("elsewhere")
        elif self._marks["elsewhere"] or self._marks["claimed"]:
            self._mark("here")
        else:
            self._marks["here"] += 1
        self.more(1)

    def happened(self, event: Event) -> None:
        """So many more, without a fault; what else there is has its own methods."""
        if isinstance(event, Returned):
            self.returned(event.values)

    def returned(self, values: Sequence[Any]) -> None:
        """So many more."""
        self.more(len(values))

    def found(self, count: int) -> None:
        """So many more, by others."""
        self._mark("elsewhere", count)
        self.more(count)

    def away(self, count: int) -> None:
        """So many are being computed by others."""
        self._mark("claimed", count - self._marks["claimed"])

    def more(self, count: int) -> None:
        """So many more."""
        if self._bar is not None:
            with self._drawing():
                self._bar.update(count)

    def retried(self, index: int) -> None:
        """One is tried again."""
        self._mark("retried")

    def close(self) -> None:
        """The bar stays as it is."""
        if self._bar is not None:
            with self._drawing():
                self._bar.close()

    def _mark(self, what: str, count: int = 1) -> None:
        self._marks[what] += count
        if self._bar is not None:
            marks = {name: number for name, number in self._marks.items() if number}
            if not marks.keys() & {"elsewhere", "claimed"}:
                marks.pop("here", None)  # all that is done was done here
            with self._drawing():
                self._bar.set_postfix(marks, refresh=False)

    @contextmanager
    def _drawing(self) -> Iterator[None]:
        """Where the bar can't be drawn, stderr being closed or full, say, the work goes on without it."""
        try:
            yield
        except Exception:
            bar, self._bar = self._bar, None
            if bar is not None:
                bar.disable = True  # or it would try once more when it is dropped
            # tqdm keeps it when it can't draw, and a bar in another thread would wait for it.
            lock = _bar_class().get_lock()
            while lock._is_owned():
                lock.release()


@cache
def _bar_class() -> Any:
    """A bar for a process that forks and whose finalisers may run in any thread.

    The lock of tqdm itself is shared with forked processes, and its finaliser takes it: a fork that is killed
    at the wrong moment would hold it for ever, and a garbage collection in a pool's thread wait for it.
    """
    from tqdm.auto import tqdm  # only who wants a bar pays for it

    class Bar(tqdm):  # type: ignore[type-arg]
        monitor_interval = 0  # no thread of its own

        def __del__(self) -> None:
            """The map closes its bar."""

    def renew_lock() -> None:
        Bar.set_lock(threading.RLock())

    renew_lock()
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=renew_lock)
    return Bar

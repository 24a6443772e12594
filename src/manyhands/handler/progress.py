"""Progress of a map: what has ended is counted, and shown by bars or told to the user's function."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol, cast

from manyhands.calls import Done, Later
from manyhands.handler import bars
from manyhands.outcome import Answered, Event, Outcome, Progress, Returned
from manyhands.settings import forced_bars
from manyhands.workers.place import in_task

_EVERY_SECONDS: Final = 0.1  # as often as a person can tell
_TICK_SECONDS: Final = 1.0  # a clock that stands still for longer looks broken
_LOG_SECONDS: Final = 10.0  # nobody sees how a bar in a file changes


class Display(Protocol):
    """Shows how far a map has come."""

    def show(self, progress: Progress, workers: Mapping[str, int]) -> None:
        """Shows this, and what each worker has done since the last time, the last heard of at the end."""

    def close(self) -> None:
        """The map has ended; its last ``Progress`` was shown."""


def meter_for(
    progress: Any,
    label: str,
    total: int | None,
    *,
    rows: int = 0,
    unit: str = "item",
    weigh: Callable[[Sequence[Any]], int] = len,
    clock: Callable[[], float] = time.monotonic,
    lasts: bool = False,
) -> Meter | None:
    """Who counts what happens to a map with this option, and shows it; None: nothing is shown.

    Args:
        progress: the option.
        label: stands before a bar that has no text of its own.
        total: how many items there are; None: nobody knows.
        rows: bars of workers, at most.
        unit: what is counted.
        weigh: how much of it some values are.
        clock: seconds that never go back.
        lasts: whether it is for several maps, one after the other, and goes on to ``finish``.
    """
    if not is_shown(progress):
        return None
    if not isinstance(progress, bool | str | type):
        return Meter(_Told(progress), _EVERY_SECONDS, total, weigh, clock, lasts, by_worker=False)
    given = progress if isinstance(progress, type) else None
    text = progress if isinstance(progress, str) else label
    display = _Guarded(lambda: bars.Bars(text, unit, total, given, rows), quiet=given is None)
    every = _EVERY_SECONDS if given is not None or bars.are_seen() else _LOG_SECONDS
    return Meter(display, every, total, weigh, clock, lasts, by_worker=rows > 0)


def is_shown(progress: Any) -> bool:
    """Whether anything is to be shown of a map with this option, here and now.

    Raises:
        ValueError: ``MANYHANDS_PROGRESS`` is neither "1" nor "0".
    """
    if progress is False or in_task():  # a map inside a task is a part of another one's item
        return False
    if callable(progress) and not isinstance(progress, type):
        return True
    forced = forced_bars()
    if forced is None:
        return isinstance(progress, type) or bars.are_seen()
    return forced


class Meter:
    """The observer that keeps count: shows it at first, every now and then, and at the end.

    Args:
        display: shows it.
        every: seconds between two times, at least.
        total: how many items there are; None: nobody knows.
        weigh: how much values count.
        clock: seconds that never go back.
        lasts: whether it goes on when a map ends, to ``finish``.
        by_worker: whether the display is told what each worker has done.
    """

    def __init__(
        self,
        display: Display,
        every: float,
        total: int | None,
        weigh: Callable[[Sequence[Any]], int],
        clock: Callable[[], float],
        lasts: bool,
        by_worker: bool,
    ) -> None:
        self._display = display
        self._every = every
        self._total = total
        self._weigh = weigh
        self._clock = clock
        self._lasts = lasts
        self._by_worker = by_worker
        self._values = self._failures = self._discarded = self._elsewhere = self._claimed = self._retries = 0
        self._workers: dict[str, int] = {}
        self._is_new = self._is_closed = False
        self._start = self._shown = clock()
        self._show(self._start)

    def happened(self, event: Event) -> None:
        """Items have returned values; or a worker has been heard of, and what it said is judged first."""
        if isinstance(event, Returned):
            weight = self._weigh(event.values)
            self._values += weight
            self._heard(event.worker, weight)
            self._note()
        elif self._by_worker and isinstance(event, Answered) and not isinstance(event.answer, Later):
            value = [event.answer.value] if isinstance(event.answer, Done) else None
            self._heard(event.worker, 1 if value is None else self._weigh(value))

    def ended(self, outcome: Outcome[Any]) -> None:
        """One more."""
        if outcome.failure is not None:
            self._failures += 1
        elif outcome.discarded is not None:
            self._discarded += 1
        elif outcome.elsewhere is not None or not cast("Done[Any]", outcome.result).computed:
            self._elsewhere += 1
        else:
            self._values += self._weigh([outcome.value])
        self._note()

    def found(self, count: int) -> None:
        """So many more, by others."""
        self._elsewhere += count
        self._note()

    def away(self, count: int) -> None:
        """So many are being computed by others."""
        self._claimed = count
        self._note()

    def retried(self, index: int) -> None:
        """One is tried again."""
        self._retries += 1
        self._note()

    def tick(self) -> float:
        """What is new is shown in time, though nothing happens any more; and so is the time."""
        now = self._clock()
        due = self._shown + (self._every if self._is_new else max(self._every, _TICK_SECONDS))
        if now >= due:
            self._show(now)
            due = now + max(self._every, _TICK_SECONDS)
        return due - now

    def close(self) -> None:
        """A map has ended."""
        if not self._lasts:
            self.finish()

    def finish(self) -> None:
        """Shows how it ended, once."""
        if not self._is_closed:
            self._is_closed = True
            self._show(self._clock())
            self._display.close()

    def _heard(self, worker: str, weight: int) -> None:
        if self._by_worker:
            self._workers[worker] = self._workers.pop(worker, 0) + weight

    def _note(self) -> None:
        self._is_new = True
        now = self._clock()
        if now >= self._shown + self._every:
            self._show(now)

    def _show(self, now: float) -> None:
        self._shown, self._is_new = now, False
        workers, self._workers = self._workers, {}
        progress = Progress(
            self._total,
            self._values,
            self._failures,
            self._discarded,
            self._elsewhere,
            self._claimed,
            self._retries,
            now - self._start,
            self._is_closed,
        )
        self._display.show(progress, workers)


class _Told:
    """The user's function."""

    def __init__(self, function: Callable[[Progress], object]) -> None:
        self._function: Callable[[Progress], object] | None = function

    def show(self, progress: Progress, workers: Mapping[str, int]) -> None:
        """Calls it, as long as it does not raise."""
        function = self._function
        if function is None:
            return
        try:
            function(progress)
        except Exception as error:
            self._function = None
            _log(f"progress={function!r} raised; it is not called any more in this map", error)

    def close(self) -> None:
        """It has heard so already."""


class _Guarded:
    """Bars; where they can't be drawn, stderr being closed or full, say, the work goes on without them.

    Args:
        make: makes and draws them.
        quiet: whether nothing is said then.
    """

    def __init__(self, make: Callable[[], bars.Bars], quiet: bool) -> None:
        self._quiet = quiet
        self._bars: bars.Bars | None = None
        self._guard(self._make, make)

    def show(self, progress: Progress, workers: Mapping[str, int]) -> None:
        """Draws them."""
        if self._bars is not None:
            self._guard(self._bars.show, progress, workers)

    def close(self) -> None:
        """They stay, or go."""
        if self._bars is not None:
            self._guard(self._bars.close)

    def _make(self, make: Callable[[], bars.Bars]) -> None:
        self._bars = make()

    def _guard(self, step: Callable[..., object], *args: Any) -> None:
        try:
            step(*args)
        except Exception as error:
            if not self._quiet:
                _log("a bar of the class given as progress= can't be drawn; the map goes on without it", error)
            drawn, self._bars = self._bars, None
            if drawn is not None:
                drawn.drop()
        except BaseException:
            if self._bars is not None:
                self._bars.let_go()
            raise


def _log(text: str, error: Exception) -> None:
    import logging

    logging.getLogger("manyhands").error(text, exc_info=error)

"""What happened in one map: who ran what and when. Pure: no clock, no file; bounded, whatever the map does.

A span costs an append while the map runs. What follows from spans (histogram, busy times, tracks) is worked out in
batches, and past a limit neighbours on a track become one: busy time and counts stay exact, times become coarser.
"""

from __future__ import annotations

import threading
from array import array
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heappush, heapreplace
from typing import Any, Final, Protocol

from manyhands.reporting.labels import (
    TEXT_MAX,
    TRACEBACK_MAX,
    Failed,
    FailureGroup,
    Labels,
    cut,
    is_plain,
    place,
)
from manyhands.reporting.spans import CODES, Span, Status, bin_of, bounded, new_track, spans

SPANS_MAX: Final = 200_000
SLOWEST_MAX: Final = 50
FAILURES_MAX: Final = 1000
WORKERS_MAX: Final = 20_000
LABELS_MAX: Final = 2000
"""Items whose text is kept for the page's timeline, beside those of the slowest."""

ATTEMPTS_MAX: Final = 20
"""Attempts from this one on are counted together."""

_BATCH: Final = 4096


_Entry = tuple[float, int, tuple[int, object, str, float, Status, int]]
"""Seconds, a number that goes down, and the other fields of a ``Slow``, whose item may have no text yet."""


@dataclass(frozen=True, slots=True)
class Slow:
    """One of the slowest attempts; see ``Recording.span`` for its fields."""

    seconds: float
    index: int
    item: str
    worker: str
    begin: float
    status: Status
    attempt: int


class Taker(Protocol):
    """What takes down what happens in a map: a ``Recording``, a journal's ``Writer``."""

    def span(
        self,
        worker: str,
        begin: float,
        seconds: float,
        count: int = 1,
        last: float = 0.0,
        status: Status = "value",
        index: int = -1,
        item: object = None,
        items: Sequence[Any] | None = None,
        attempt: int = 1,
    ) -> None:
        """As ``Recording.span``."""
        ...

    def failed(
        self, index: int, item: object, error_type: str, text: str, traceback: str, attempts: int, worker: str
    ) -> None:
        """As ``Recording.failed``."""
        ...

    def peak(self, worker: str, size: int) -> None:
        """As ``Recording.peak``."""
        ...

    def counts(self, values: int, failures: int, discarded: int = 0, elsewhere: int = 0) -> None:
        """As ``Recording.counts``."""
        ...

    def ended(self, seconds: float) -> None:
        """As ``Recording.ended``."""
        ...


class Recording:
    """What one map did, so far.

    Args:
        function: the function's name.
        begun: when it started, as a unix time in seconds.
        workers: how many can run calls at a time.
        total: number of items, if known.
        host: where the map was started.
        spans_max: spans that are kept apart; beyond, neighbours are merged.

    One thread records at a time; another one may look.
    """

    def __init__(
        self,
        function: str,
        begun: float,
        workers: int,
        total: int | None = None,
        host: str = "",
        *,
        spans_max: int = SPANS_MAX,
    ) -> None:
        self.function = function
        self.begun = begun
        self.workers = workers
        self.total = total
        self.host = host
        self.wall: float | None = None
        self.peaks: dict[str, int] = {}
        self.groups: dict[tuple[str, str], FailureGroup] = {}
        self.failures = 0
        self._items: dict[int, object] = {}  # those with labels: kept as they are, or as labels
        self._counts: tuple[int, int, int, int] | None = None
        self._spans_max = max(4, spans_max)
        self._new: deque[tuple[Any, ...]] = deque()
        self._lock = threading.Lock()
        self._tracks: dict[str, array[float]] = {}
        self._histogram: dict[int, int] = {}
        self._attempts: dict[tuple[int, Status], int] = {}
        self._kept = 0
        self._last = 0.0
        self._merge_at = self._spans_max
        self._slowest: list[_Entry] = []
        self._threshold = -1.0
        self._admitted = 0
        self._labels = Labels()

    # -- while it goes ------------------------------------------------------------------------------------------

    def span(
        self,
        worker: str,
        begin: float,
        seconds: float,
        count: int = 1,
        last: float = 0.0,
        status: Status = "value",
        index: int = -1,
        item: object = None,
        items: Sequence[Any] | None = None,
        attempt: int = 1,
    ) -> None:
        """So many attempts, one after the other, in one worker.

        Args:
            worker: ``"<host>:<pid>"``.
            begin: of the first, in seconds since the map begun.
            seconds: what all but the last took together; of a single one, ``seconds + last`` is what it took.
            count: how many; their items are consecutive.
            last: what the last one took.
            status: what all of them came to.
            index: of the first item; -1: unknown.
            item: the only item.
            items: all of them.
            attempt: which attempt it was, from 1.
        """
        slow = last if count > 1 else seconds + last
        if slow > self._threshold or (count == 1 and len(self._items) < LABELS_MAX):
            self._admit(
                worker,
                begin + seconds if count > 1 else begin,
                slow,
                count,
                status,
                index,
                item,
                items,
                attempt,
            )
        self._new.append((worker, begin, seconds, count, last, status, index, attempt))
        if len(self._new) >= _BATCH:
            self._take()

    def failed(
        self, index: int, item: object, error_type: str, text: str, traceback: str, attempts: int, worker: str
    ) -> None:
        """An item has failed for good, after so many attempts."""
        self.failures += 1
        key = (error_type, place(traceback))
        group = self.groups.get(key)
        if group is None:
            if self.failures > FAILURES_MAX:  # a kind that is new so late is counted with others like it
                key = (error_type if len(self.groups) < 2 * FAILURES_MAX else "other", "")
                traceback = ""
            group = self.groups.setdefault(key, FailureGroup(key[0], cut(traceback, TRACEBACK_MAX)))
        group.count += 1
        if self.failures <= FAILURES_MAX:
            group.kept.append(Failed(index, self._labels.of(item), cut(text, TEXT_MAX), attempts, worker))

    def peak(self, worker: str, size: int) -> None:
        """A worker was seen with so many bytes of memory; the most counts."""
        if size > self.peaks.get(worker, 0) and (worker in self.peaks or len(self.peaks) < WORKERS_MAX):
            self.peaks[worker] = size

    def counts(self, values: int, failures: int, discarded: int = 0, elsewhere: int = 0) -> None:
        """How many items have come to what, so far."""
        self._counts = (values, failures, discarded, elsewhere)

    def ended(self, seconds: float) -> None:
        """The map is over, after so long."""
        self.wall = seconds

    # -- afterwards ---------------------------------------------------------------------------------------------

    @property
    def is_over(self) -> bool:
        """Whether the end was recorded; if not, the map goes on, or its process is gone."""
        return self.wall is not None

    @property
    def seconds(self) -> float:
        """Wall time of the map; until it is over, up to the last that was recorded."""
        self._take()
        return self._last if self.wall is None else max(self.wall, self._last)

    @property
    def outcomes(self) -> dict[str, int]:
        """How many items came to what: values, failures, discarded, elsewhere."""
        if self._counts is None:
            by = self.by_status
            found = (by.get("value", 0), self.failures, by.get("discarded", 0), 0)
        else:
            found = self._counts
        return dict(zip(("values", "failures", "discarded", "elsewhere"), found, strict=True))

    @property
    def attempts(self) -> dict[tuple[int, Status], int]:
        """How many attempts of which number, from 1, came to what; the last number stands for all above."""
        self._take()
        return dict(self._attempts)

    @property
    def by_status(self) -> dict[Status, int]:
        """How many attempts came to what."""
        found: Counter[Status] = Counter()
        for (_, status), count in self.attempts.items():
            found[status] += count
        return dict(found)

    @property
    def busy(self) -> dict[str, float]:
        """Seconds that each worker ran something."""
        return {worker: sum(span.busy for span in track) for worker, track in self.tracks().items()}

    @property
    def histogram(self) -> dict[int, int]:
        """Attempts by duration: bin ``n`` is of those from ``bin_edge(n)`` to ``bin_edge(n + 1)`` seconds."""
        self._take()
        return dict(self._histogram)

    @property
    def slowest(self) -> list[Slow]:
        """The slowest attempts that are known one by one, slowest first."""
        return [
            Slow(seconds, index, self._labels.of(item), worker, begin, status, attempt)
            for seconds, _, (index, item, worker, begin, status, attempt) in sorted(
                self._slowest, key=lambda each: (-each[0], each[1])
            )
        ]

    @property
    def labels(self) -> dict[int, str]:
        """Texts of items by their index, of the first ones that have one."""
        return {index: self._labels.of(item) for index, item in list(self._items.items())}

    def raw_tracks(self) -> dict[str, array[float]]:
        """The track of each worker."""
        self._take()
        with self._lock:
            return {worker: array("d", track) for worker, track in self._tracks.items()}

    def tracks(self) -> dict[str, list[Span]]:
        """The spans of each worker, by their begin."""
        return {worker: spans(track) for worker, track in self.raw_tracks().items()}

    # -- inside -------------------------------------------------------------------------------------------------

    def _admit(
        self,
        worker: str,
        begin: float,
        seconds: float,
        count: int,
        status: Status,
        index: int,
        item: object,
        items: Sequence[Any] | None,
        attempt: int,
    ) -> None:
        if items is not None and len(items):
            item = items[-1]
        if (
            count == 1
            and index >= 0
            and index not in self._items
            and len(self._items) < LABELS_MAX
            and is_plain(item)
        ):
            self._items[index] = self._labels.kept(item)
        index = index + count - 1 if index >= 0 else -1
        if seconds <= self._threshold:
            return
        self._admitted += 1
        entry: _Entry = (
            seconds,
            -self._admitted,
            (index, self._labels.kept(item), worker, begin, status, attempt),
        )
        if len(self._slowest) < SLOWEST_MAX:
            heappush(self._slowest, entry)
        else:
            heapreplace(self._slowest, entry)
        if len(self._slowest) == SLOWEST_MAX:
            self._threshold = self._slowest[0][0]

    def _take(self) -> None:
        with self._lock:
            self._settle()
            if self._kept > self._merge_at:
                self._merge()

    def _settle(self) -> None:
        """What follows from the spans that are new; a loop with little in it, for what it does a million times."""
        take, tracks, bins, attempts = self._new.popleft, self._tracks, self._histogram, self._attempts
        until = self._last
        while self._new:
            worker, begin, seconds, count, last, status, index, attempt = take()
            busy = seconds + last
            end = begin + busy
            if end > until:  # noqa: PLR1730  # max() takes three times as long
                until = end
            if count > 1:
                number = bin_of(seconds / (count - 1))
                bins[number] = bins.get(number, 0) + count - 1
            number = bin_of(last if count > 1 else busy)
            bins[number] = bins.get(number, 0) + 1
            key = (attempt if attempt < ATTEMPTS_MAX else ATTEMPTS_MAX, status)  # noqa: FURB136  # as above
            attempts[key] = attempts.get(key, 0) + count
            track = tracks.get(worker)
            if track is None:
                track = self._new_track(worker)
            bad = 0 if status == "value" else count
            track.extend((begin, end, busy, count, bad, CODES[status], index, attempt))
            self._kept += 1
        self._last = until

    def _new_track(self, worker: str) -> array[float]:
        if len(self._tracks) >= WORKERS_MAX:
            worker = f"{worker.rpartition(':')[0]}:others"
        return self._tracks.setdefault(worker, new_track())

    def _merge(self) -> None:
        """Makes tracks coarser until there is room again: resolution goes with what all workers together have."""
        resolution = 4.0 * max(self._last, 1e-6) * len(self._tracks) / self._spans_max
        self._kept = 0
        for worker, track in self._tracks.items():
            self._tracks[worker] = bounded(track, resolution, self._last)
            self._kept += len(self._tracks[worker]) // len(Span._fields)
        self._merge_at = max(
            self._spans_max, 2 * self._kept
        )  # what overlaps can't be merged: don't try all the time

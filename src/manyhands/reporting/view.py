"""Several recordings as one: who ran what on one axis of time, and the figures that a report shows. Pure.

Times of several hosts are put on one axis as their clocks have them; how far those differ is not known.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush, nlargest
from typing import Final

from manyhands.reporting.labels import FailureGroup
from manyhands.reporting.recording import FAILURES_MAX, SLOWEST_MAX, Recording, Slow
from manyhands.reporting.spans import STATUSES, Span, Status, bin_edge, bounded, lanes, new_track, spans

OWN_ROWS_MAX: Final = 64
"""Of a host with more workers than these, those that were never there together share a row."""

GAP_SECONDS: Final = 60.0
GAP_SHARE: Final = 0.5
"""A pause that is longer than this, and than this share of what was before, parts stretches."""


@dataclass(slots=True)
class Row:
    """One line of the timeline: a worker of a host, or several that followed one another.

    Attributes:
        pids: of the workers; a number in brackets where one ran several calls at a time.
        track: their spans, in seconds since the view's begin.
    """

    pids: list[str]
    track: array[float]

    @property
    def busy(self) -> float:
        """Seconds that calls took."""
        return sum(self.track[2::8])

    @property
    def calls(self) -> int:
        """How many they made."""
        return int(sum(self.track[3::8]))

    @property
    def bad(self) -> int:
        """How many came to no value."""
        return int(sum(self.track[4::8]))

    def cells(self, resolution: float, seconds: float) -> list[Span]:
        """The spans; one for those that are not longer than ``resolution`` seconds together, of a row so long."""
        return spans(bounded(self.track, resolution, seconds))


@dataclass(slots=True)
class Host:
    """What ran on one machine."""

    name: str
    workers: int
    rows: list[Row]


@dataclass(slots=True)
class View:
    """One or several maps, on one axis of time.

    Attributes:
        recordings: by their begin.
        begun: of the first, as a unix time in seconds.
        seconds: from there to the last end.
        hosts: by name.
    """

    recordings: list[Recording]
    begun: float
    seconds: float
    hosts: list[Host] = field(default_factory=list)
    _stretches: list[View] = field(default_factory=list, repr=False)

    @classmethod
    def of(cls, recordings: Iterable[Recording]) -> View:
        """The view of these maps.

        Raises:
            ValueError: there are none.
        """
        ordered = sorted(recordings, key=lambda each: each.begun)
        if not ordered:
            raise ValueError("a report needs at least one recording")
        begun = ordered[0].begun
        seconds = max(each.begun - begun + each.seconds for each in ordered)
        return cls(ordered, begun, seconds, _hosts(ordered, begun, seconds / 500))

    def stretches(self) -> list[View]:
        """The maps that ran at the same time, or soon after one another, together; by their begin."""
        if self._stretches:
            return self._stretches
        groups: list[list[Recording]] = []
        begun = until = 0.0
        for each in self.recordings:
            if not groups or each.begun - until > max(GAP_SECONDS, GAP_SHARE * (until - begun)):
                groups.append([])
                begun = until = each.begun
            groups[-1].append(each)
            until = max(until, each.begun + each.seconds)
        self._stretches = [self] if len(groups) < 2 else [View.of(group) for group in groups]
        return self._stretches

    @property
    def active(self) -> float:
        """Seconds of all stretches: those in which a map was under way, and short pauses."""
        return sum(each.seconds for each in self.stretches())

    @property
    def functions(self) -> list[str]:
        """The names of the functions, each once."""
        return list(dict.fromkeys(each.function for each in self.recordings))

    @property
    def outcomes(self) -> dict[str, int]:
        """How many items came to what."""
        total: Counter[str] = Counter()
        for each in self.recordings:
            total.update(each.outcomes)
        return dict(total)

    @property
    def attempts(self) -> dict[tuple[int, Status], int]:
        """How many attempts of which number came to what."""
        total: Counter[tuple[int, Status]] = Counter()
        for each in self.recordings:
            total.update(each.attempts)
        return dict(total)

    @property
    def by_status(self) -> dict[Status, int]:
        """How many attempts came to what, from good to bad; without what there is none of."""
        total: Counter[Status] = Counter()
        for (_, status), count in self.attempts.items():
            total[status] += count
        return {status: total[status] for status in STATUSES if total[status]}

    @property
    def busy(self) -> float:
        """Seconds in which workers ran something, all together."""
        return sum(row.busy for host in self.hosts for row in host.rows)

    @property
    def efficiency(self) -> float | None:
        """Busy time over workers times wall time, of all maps; None if they took no time."""
        offered = sum(each.workers * each.seconds for each in self.recordings)
        return self.busy / offered if offered > 0 else None

    @property
    def histogram(self) -> dict[int, int]:
        """Attempts by duration, as ``Recording.histogram``."""
        total: Counter[int] = Counter()
        for each in self.recordings:
            total.update(each.histogram)
        return dict(total)

    def quantile(self, share: float) -> float | None:
        """The duration in seconds that this share of the attempts stayed below, to a quarter or so; None of none."""
        bins = self.histogram
        left = share * sum(bins.values())
        for number in sorted(bins):
            left -= bins[number]
            if left <= 0:
                middle = bin_edge(number) * 10 ** (0.5 / 10)
                return min(middle, self.slowest[0][1].seconds) if self.slowest else middle
        return None

    @property
    def slowest(self) -> list[tuple[Recording, Slow]]:
        """The slowest attempts, slowest first."""
        found = ((each, slow) for each in self.recordings for slow in each.slowest)
        return nlargest(SLOWEST_MAX, found, key=lambda pair: pair[1].seconds)

    @property
    def groups(self) -> list[FailureGroup]:
        """Failures by type and place, most first."""
        merged: dict[tuple[str, str], FailureGroup] = {}
        for each in self.recordings:
            for key, group in list(each.groups.items()):  # a map that goes on may add to them
                into = merged.setdefault(key, FailureGroup(group.error_type, group.traceback))
                into.count += group.count
                into.kept += group.kept[: FAILURES_MAX - len(into.kept)]
        return sorted(merged.values(), key=lambda group: -group.count)

    @property
    def peaks(self) -> dict[str, int]:
        """The most memory that each worker was seen with, in bytes; most first."""
        most: dict[str, int] = {}
        for each in self.recordings:
            for worker, size in list(each.peaks.items()):
                most[worker] = max(size, most.get(worker, 0))
        return dict(sorted(most.items(), key=lambda pair: -pair[1]))

    @property
    def labels(self) -> dict[int, str]:
        """Items' texts by index, as far as they are known; none if several maps have such items."""
        return self.recordings[0].labels if len(self.recordings) == 1 else {}


def split(worker: str) -> tuple[str, str]:
    """Host and process of a worker's name."""
    host, _, pid = worker.rpartition(":")
    return host or "this machine", pid


def _hosts(recordings: Sequence[Recording], begun: float, tolerance: float) -> list[Host]:
    tracks: dict[str, array[float]] = {}
    for each in recordings:
        shift = each.begun - begun
        for worker, track in each.raw_tracks().items():
            into = tracks.setdefault(worker, new_track())
            if shift:
                for begin, end, *rest in spans(track):
                    into.extend((begin + shift, end + shift, *rest))
            else:
                into.extend(track)
    by_host: dict[str, list[tuple[str, array[float]]]] = {}
    for worker in sorted(tracks, key=_order):
        host, pid = split(worker)
        by_host.setdefault(host, []).append((pid, tracks[worker]))
    return [Host(name, len(found), _rows(found, tolerance)) for name, found in by_host.items()]


def _order(worker: str) -> tuple[str, int, str]:
    host, pid = split(worker)
    return host, int(pid) if pid.isdecimal() else 0, pid


def _rows(workers: Sequence[tuple[str, array[float]]], tolerance: float) -> list[Row]:
    """A row for each worker, or lane of one; of very many workers, one for those that follow one another."""
    if len(workers) <= OWN_ROWS_MAX:
        return [row for pid, track in workers for row in _lanes(pid, lanes(track, tolerance))]
    rows: list[Row] = []
    free: list[tuple[float, int]] = []  # when the last worker of a row ended, which row
    for pid, track in sorted(workers, key=lambda pair: min(pair[1][0::8])):
        if free and free[0][0] <= min(track[0::8]):
            number = heappop(free)[1]
            rows[number].pids.append(pid)
            rows[number].track.extend(track)
        else:
            number = len(rows)
            rows.append(Row([pid], track))
        heappush(free, (max(track[1::8]), number))
    return rows


def _lanes(pid: str, tracks: Sequence[array[float]]) -> list[Row]:
    return [Row([pid if not number else f"{pid} ({number + 1})"], track) for number, track in enumerate(tracks)]

"""What workers did when, as spans on tracks, and how neighbours become one. Pure."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from heapq import heappop, heappush
from itertools import pairwise
from math import log10
from typing import Final, Literal, NamedTuple, get_args

Status = Literal["value", "discarded", "retried", "failed", "timeout", "died"]
"""What one attempt came to, from good to bad; "retried": it failed, and its item was tried again."""

STATUSES: Final[tuple[Status, ...]] = get_args(Status)
CODES: Final[dict[str, int]] = {status: code for code, status in enumerate(STATUSES)}

BINS_PER_DECADE: Final = 10
LANES_MAX: Final = 64
_SHORTEST: Final = 1e-7
_SHIFT: Final = 70  # to what is never negative, which int() rounds down; the bin of the shortest
_WIDTH: Final = 8


class Span(NamedTuple):
    """Attempts that one worker made one after the other, or one of them.

    Attributes:
        begin, end: in seconds since the map began.
        busy: seconds in which it ran something: less than ``end - begin`` where there are gaps, and more where a
            worker runs several calls at a time.
        calls: attempts.
        bad: how many of them came to no value.
        code: what they came to, the worst of it, as a place in ``STATUSES``.
        first: the index of the first one's item; -1: unknown.
        attempt: the number of the first one, from 1.
    """

    begin: float
    end: float
    busy: float
    calls: int
    bad: int
    code: int
    first: int
    attempt: int

    @property
    def status(self) -> Status:
        """The worst that any of them came to."""
        return STATUSES[self.code]


def new_track() -> array[float]:
    """A track without spans."""
    return array("d")


def spans(track: array[float]) -> list[Span]:
    """The spans of a track, by their begin."""
    return [
        Span(begin, end, busy, int(calls), int(bad), int(code), int(first), int(attempt))
        for begin, end, busy, calls, bad, code, first, attempt in sorted(_rows(track))
    ]


def coarser(track: array[float], resolution: float) -> array[float]:
    """The track with neighbours made one where all of it, gaps too, is not longer than ``resolution`` seconds.

    Busy times and counts are kept, and so is every gap or span that is longer; of what takes so many seconds, at most
    ``2 * seconds / resolution + 1`` spans are left if none overlap.
    """
    merged = new_track()
    rows = iter(sorted(_rows(track)))
    held = next(rows, None)
    if held is None:
        return merged
    begin, end, busy, calls, bad, code, first, attempt = held
    for row in rows:
        further = row[1] if row[1] > end else end  # noqa: FURB136  # max() takes three times as long, a million times
        if further - begin <= resolution:
            end = further
            busy += row[2]
            calls += row[3]
            bad += row[4]
            if row[5] > code:  # noqa: PLR1730  # the same
                code = row[5]
        else:
            merged.extend((begin, end, busy, calls, bad, code, first, attempt))
            begin, end, busy, calls, bad, code, first, attempt = row
    merged.extend((begin, end, busy, calls, bad, code, first, attempt))
    return merged


def bounded(track: array[float], resolution: float, seconds: float) -> array[float]:
    """As ``coarser``, of a track that is so many seconds long: never more than ``2 * seconds / resolution + 2`` spans.

    Where a worker runs several calls at a time, spans overlap, and it takes a coarser resolution to have so few.
    """
    most = 2 * seconds / resolution + 2 if resolution > 0 else 2.0
    track = coarser(track, resolution)
    while len(track) > most * _WIDTH:
        resolution = 2 * resolution or 1e-6
        track = coarser(track, resolution)
    return track


def lanes(track: array[float], tolerance: float) -> list[array[float]]:
    """The track as several in which nothing overlaps by more than ``tolerance`` seconds, as few as possible."""
    rows = sorted(_rows(track))
    if all(one[1] - tolerance <= other[0] for one, other in pairwise(rows)):
        return [track]
    found: list[array[float]] = []
    free: list[tuple[float, int]] = []  # until when a lane is taken, which
    for row in rows:
        if free and (free[0][0] - tolerance <= row[0] or len(found) == LANES_MAX):
            until, number = heappop(free)
        else:
            until, number = row[1], len(found)
            found.append(new_track())
        found[number].extend(row)
        heappush(free, (max(until, row[1]), number))
    return found


def _rows(track: array[float]) -> Iterator[tuple[float, ...]]:
    return zip(*[iter(track)] * _WIDTH, strict=True)


def bin_of(seconds: float) -> int:
    """The bin of a duration, ten to each power of ten."""
    return int(log10(seconds) * BINS_PER_DECADE + _SHIFT) - _SHIFT if seconds > _SHORTEST else -_SHIFT


def bin_edge(number: int) -> float:
    """The shortest duration of a bin, in seconds."""
    return float(10.0 ** (number / BINS_PER_DECADE))

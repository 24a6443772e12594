"""How many calls are sent to a worker at once, from how long the last ones took. Pure."""

from __future__ import annotations

from typing import Final

PROMPT_SECONDS: Final = 0.005
"""What a chunk of single calls should take: somebody waits for each of them."""

TARGET_SECONDS: Final = 0.04
"""What a chunk should take: long beside the cost of sending it, short beside a wait at the end of a map."""

AHEAD_SECONDS: Final = 0.02
"""Calls that take longer are not sent before a worker is free for them, nor those that take twice what a chunk should:
to wait behind one would cost more."""

LEAST_SECONDS: Final = 0.001
"""Chunks are not cut for fairness to less than this: it is lost sooner by sending them."""

MOST: Final = 16384

GROWTH: Final = 8
"""A chunk is at most so many times as large as the largest that was measured."""


class Pace:
    """The chunk size of one map: fixed, or following the measured times, up to ``most`` and to ``target`` seconds.

    Runs that were slower than expected count half, faster ones likewise, and a chunk is at most GROWTH times
    as large as the largest that was measured: so the first chunks grow quickly, but not on the word of one call.
    """

    def __init__(self, fixed: int | None = None, most: int = MOST, target: float = TARGET_SECONDS) -> None:
        self.fixed = fixed
        self._most = most
        self._target = target
        self._seconds: float | None = None
        self._largest = 1

    def took(self, seconds: float, count: int = 1) -> None:
        """So many calls took so long, together, in their worker."""
        each = seconds / count
        self._seconds = each if self._seconds is None else (self._seconds + each) / 2
        self._largest = max(self._largest, min(GROWTH * count, self._most))

    def died(self) -> None:
        """A call ended its worker: what its chunk-mates had finished is lost, so chunks are small for a while."""
        self._largest = 1

    @property
    def seconds(self) -> float | None:
        """What a call takes; None as long as nothing was measured."""
        return self._seconds

    @property
    def chunksize(self) -> int:
        """How many calls to send at once, at least 1."""
        if self.fixed is not None:
            return self.fixed
        if self._seconds is None:
            return 1
        return max(1, min(self._largest, int(self._target / max(self._seconds, 1e-9))))

    @property
    def least(self) -> int:
        """How many calls are too few to be worth a chunk of their own; may be 0."""
        return (
            0 if self._seconds is None else min(self.chunksize, int(LEAST_SECONDS / max(self._seconds, 1e-9)))
        )

    @property
    def in_hand(self) -> int:
        """With how many calls a worker may be sent more: a chunk, or a few, where they are shorter than wanted."""
        chunk = self.chunksize
        if self.fixed is not None or self._seconds is None or self._most < MOST:
            return chunk
        return max(chunk, min(3 * chunk, int(self._target / max(self._seconds, 1e-9))))

    @property
    def ahead(self) -> bool:
        """Whether a worker may be sent calls while it runs others."""
        return (
            self.fixed != 1
            and self._seconds is not None
            and self._seconds <= min(AHEAD_SECONDS, 2 * self._target)
        )

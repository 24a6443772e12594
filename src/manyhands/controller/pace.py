"""How many calls are sent to a worker at once, from how long the last ones took. Pure."""

from __future__ import annotations

from typing import Final

PROMPT_SECONDS: Final = 0.005
"""What a chunk of single calls should take: somebody waits for each of them."""

TARGET_SECONDS: Final = 0.1
"""What a chunk should take: long beside the cost of sending it, short beside a wait at the end of a map."""

AHEAD_SECONDS: Final = 0.02
"""Calls that take longer are not sent before a worker is free for them, nor those that take twice what a chunk should:
to wait behind one would cost more."""

LEAST_SECONDS: Final = 0.001
"""Chunks are not cut for fairness to less than this: it is lost sooner by sending them."""

MOST: Final = 16384

GROWTH: Final = 8
"""A chunk is at most so many times as large as the largest that was measured."""

EXPECTED: Final = GROWTH**2
"""The first chunks are at most so large, where an earlier map tells what to expect."""

_KNOWN: Final = 256


class Pace:
    """The chunk size of one map: fixed, or following the measured times, up to ``most`` and to ``target`` seconds.

    Runs that were slower than expected count half, faster ones likewise, and a chunk is at most GROWTH times
    as large as the largest that was measured: so the first chunks grow quickly, but not on the word of one call.

    Args:
        fixed: the chunk size; None: as measured.
        most: the largest.
        target: seconds.
        expected: what a call took in an earlier map; it counts until a call of this one was measured.
        size: bytes of shared memory that a result took last, in an earlier map; None: that is not known.

    Attributes:
        size: likewise, in this one.
        fixed: as above.
        seconds: what a call takes; None as long as nothing was measured.
        chunksize: how many calls to send at once, at least 1.
        least: how many calls are too few to be worth a chunk of their own; may be 0.
        in_hand: with how many calls a worker may be sent more: a chunk, or a few, where they are shorter than wanted.
        ahead: whether a worker may be sent calls while it runs others.
    """

    def __init__(
        self,
        fixed: int | None = None,
        most: int = MOST,
        target: float = TARGET_SECONDS,
        expected: float | None = None,
        size: int | None = None,
    ) -> None:
        self.fixed = fixed
        self.size = size
        self.seconds: float | None = None
        self._most = most
        self._target = target
        self._expected = expected
        self._largest = 1
        self._settle()

    def took(self, seconds: float, count: int = 1) -> None:
        """So many calls took so long, together, in their worker."""
        each = seconds / count
        self.seconds = each if self.seconds is None else (self.seconds + each) / 2
        self._largest = max(self._largest, min(GROWTH * count, self._most))
        self._settle()

    def died(self) -> None:
        """A call ended its worker: what its chunk-mates had finished is lost, so chunks are small for a while."""
        self._largest = 1
        self.disappointed()

    def disappointed(self) -> None:
        """A worker gave calls back, so those before them were slow: nothing is expected that was not measured."""
        self._expected = None
        self._settle()

    def _settle(self) -> None:
        """Works out what is asked for more often than it changes."""
        largest, each = (EXPECTED, self._expected) if self.seconds is None else (self._largest, self.seconds)
        fits = 0 if each is None else _in(self._target, each)
        self.chunksize = self.fixed or max(1, min(largest, self._most, fits))
        self.least = 0 if each is None else min(self.chunksize, _in(LEAST_SECONDS, each))
        self.in_hand = self.chunksize
        if self.fixed is None and self.seconds is not None and self._most >= MOST:
            self.in_hand = max(self.chunksize, min(3 * self.chunksize, fits))
        self.ahead = (
            self.fixed != 1
            and self.seconds is not None
            and self.seconds <= min(AHEAD_SECONDS, 2 * self._target)
        )


class Paces:
    """What calls took in the last maps, so that the next map of the same function need not begin with one call."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[float, int | None]] = {}  # seconds and size; the latest last

    def note(self, key: int, pace: Pace) -> None:
        """A map of the function with this key has ended."""
        if pace.seconds is not None:
            self._known.pop(key, None)
            self._known[key] = pace.seconds, pace.size
            if len(self._known) > _KNOWN:
                del self._known[next(iter(self._known))]

    def expected(self, key: int) -> tuple[float | None, int | None]:
        """Seconds that a call of the function with this key took last, and the size of its result, if known."""
        return self._known.get(key, (None, None))


def _in(span: float, seconds: float) -> int:
    """How many calls of so many seconds fit into a span of time."""
    return int(span / max(seconds, 1e-9))

"""How many calls are sent to a worker at once, from how long the last ones took. Pure."""

from __future__ import annotations

from typing import Final

TARGET_SECONDS: Final = 0.002
"""What a chunk should take: long beside the cost of sending it, short beside a wait at the end of a map."""

MOST: Final = 32


class Pace:
    """The chunk size of one map: fixed, or following the measured times.

    A call that is slower than expected counts at once, faster ones little by little: too small a chunk costs
    some speed, but too large a one makes short calls wait behind a long one.
    """

    def __init__(self, fixed: int | None = None) -> None:
        self._fixed = fixed
        self._seconds: float | None = None

    def took(self, seconds: float) -> None:
        """A call took so long in its worker."""
        if self._seconds is None or seconds > self._seconds:
            self._seconds = seconds
        else:
            self._seconds += 0.1 * (seconds - self._seconds)

    @property
    def chunksize(self) -> int:
        """How many calls to send at once, at least 1."""
        if self._fixed is not None:
            return self._fixed
        if self._seconds is None:
            return 1
        return max(1, min(MOST, int(TARGET_SECONDS / max(self._seconds, 1e-9))))

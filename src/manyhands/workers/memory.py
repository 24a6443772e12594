"""How much memory this process holds."""

from __future__ import annotations

import os
import time
from typing import Final

_STATM: Final = "/proc/self/statm"

_LOOK_SECONDS: Final = 0.05
"""It is looked at no more often: a look costs some 20 µs."""


class MemoryWatch:
    """Tells when this process holds more resident memory than ``limit`` bytes."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._next = 0.0

    def is_over(self) -> bool:
        """Whether it does, as of the last look."""
        now = time.monotonic()
        if now < self._next:
            return False
        self._next = now + _LOOK_SECONDS
        return resident_bytes() > self._limit


def resident_bytes() -> int:
    """The resident memory of this process."""
    try:
        with open(_STATM, "rb") as statm:  # noqa: PTH123  # a worker starts sooner without pathlib
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        import psutil

        return int(psutil.Process().memory_info().rss)

"""Looking again and again for what is about to come, for a short while, before going to sleep for it.

To be woken takes some fifty microseconds on most machines: longer than a quick call. But who looks on keeps the
processor from others, so after it was in vain, or where others were let run meanwhile, it is left out for a while.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from time import perf_counter
from typing import Final

SPIN_SECONDS: Final = 0.0002
"""It goes on for so long; for calls that take longer it is not worth it."""

MOST_PAUSE: Final = 63
"""It is left out so many times in a row, at most."""

_let_others_run: Callable[[], object] = getattr(os, "sched_yield", lambda: None)  # sleep(0) takes far longer


class Spin:
    """One side's experience with it.

    Args:
        clock: seconds that never go back.
    """

    def __init__(self, clock: Callable[[], float] = perf_counter) -> None:
        self._clock = clock
        self._pause = 0
        self._left_out = 0

    def until(self, come: Callable[[], bool]) -> None:
        """Returns when ``come`` is true, or after ``SPIN_SECONDS``, or at once, if it has been in vain of late."""
        if self._left_out:
            self._left_out -= 1
            return
        begin = now = self._clock()
        while not (found := come()) and now - begin < SPIN_SECONDS:
            _let_others_run()
            now = self._clock()
        if found and self._clock() - begin < 2 * SPIN_SECONDS:
            self._pause = 0
        else:
            self._pause = self._left_out = min(MOST_PAUSE, 2 * self._pause + 1)

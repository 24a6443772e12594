"""Waits that notice a signal.

Python calls a signal's handler between two instructions of the main thread. If the signal arrives after the last look
for one and before the wait has begun in the kernel, or in another thread, the wait goes on as if nothing had happened:
a Ctrl-C would be noticed when it ends, perhaps never. So no wait here is longer than ``NOTICE_SECONDS``.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

NOTICE_SECONDS: Final = 0.4


def noticing(seconds: float | None) -> float:
    """How long to wait before another look, if so many seconds (None: any) are left."""
    return NOTICE_SECONDS if seconds is None or seconds > NOTICE_SECONDS else seconds


def wait_for(condition: threading.Condition, predicate: Callable[[], object]) -> None:
    """As ``condition.wait_for(predicate)``."""
    while not condition.wait_for(predicate, NOTICE_SECONDS):
        pass


def wait(event: threading.Event, timeout: float | None) -> bool:
    """As ``event.wait(timeout)``."""
    return _repeated(event.wait, event.is_set, timeout)


def join(thread: threading.Thread, timeout: float | None = None) -> None:
    """As ``thread.join(timeout)``."""
    _repeated(thread.join, lambda: not thread.is_alive(), timeout)


def _repeated(look: Callable[[float], object], is_over: Callable[[], bool], timeout: float | None) -> bool:
    deadline = None if timeout is None else time.monotonic() + timeout
    while not is_over():
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        look(noticing(left))
        if left is not None and left <= NOTICE_SECONDS:
            return is_over()
    return True

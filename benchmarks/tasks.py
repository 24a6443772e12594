"""What workers run; imports little, since start-up is measured with it."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

DEADLY = 57
"""The item that ends its worker."""


def add_one(number: int) -> int:
    """As little as a call can do."""
    return number + 1


def busy(seconds: float) -> float:
    """Uses ``seconds`` of processor time: who takes the processor away from its workers pays for it."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass
    return seconds


def busy_or_die(number: int) -> int:
    """2 ms of work, or the sudden end of the process."""
    if number == DEADLY:
        os.kill(os.getpid(), signal.SIGKILL)
    busy(0.002)
    return number


def busy_with_sign(sign: str) -> None:
    """20 ms of work, and an empty file that says that work has begun."""
    Path(sign).touch()
    busy(0.02)

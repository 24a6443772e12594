"""The second line of defence: should the guard be gone as well, the kernel ends a worker with its parent (on Linux)."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Final

_PR_SET_PDEATHSIG: Final = 1  # as in linux/prctl.h


def _find() -> Callable[..., int] | None:
    if sys.platform != "linux":
        return None
    try:
        import ctypes  # not every Python has it

        prctl: Callable[..., int] = ctypes.CDLL(None).prctl
    except (ImportError, OSError, AttributeError):
        return None
    return prctl


_prctl = _find()  # now, since a worker that is forked has no time for it


def tether() -> None:
    """From now on this process ends with the thread that has started it."""
    parent = os.getppid()
    if _prctl is not None:
        _prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)  # it has ended before that was said

"""Lets other machines see that a process lives: a file of its is touched by a guard again and again.

A guard, since no thread of the process itself could do it while C code holds the GIL. A worker's is that of the process
that started it.
"""

from __future__ import annotations

import os
from collections.abc import Callable

_tell_parent: Callable[[bytes, float], None] | None = None


def begin(record: str, seconds: float) -> None:
    """From now on the file is touched every so many seconds, as far as that can be done, while it is there.

    When this process has ended, it is removed; or renamed, if it ended with its parent or was asked to end (see
    ``guard_process``).
    """
    path = os.fsencode(record)
    try:
        if _tell_parent is not None:
            _tell_parent(path, seconds)
        else:
            from manyhands.workers.guard import guard

            guard.beat(os.getpid(), path, seconds)
    except OSError:
        pass  # no guard can be started, or the parent is gone: others will wait for the lease, and go on


def through(tell_parent: Callable[[bytes, float], None] | None) -> None:
    """This is a worker: who started it has the guard. In a process that is forked from it, that ends."""
    global _tell_parent
    _tell_parent = tell_parent


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lambda: through(None))

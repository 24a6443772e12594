"""The end of the program, before which is done what was promised."""

from __future__ import annotations

import atexit
import sys
import threading
from collections.abc import Callable

_interrupted = False


def at_end(function: Callable[[], object]) -> None:
    """Has a function called once the main thread has come to its end, the last registered first.

    That is before the functions of ``atexit``: from Python 3.12 on these can't start processes or threads any more.
    """

    def guarded() -> None:
        global _interrupted
        try:
            function()
        except BaseException:
            _interrupted = True
            raise

    try:
        threading._register_atexit(guarded)  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    except (AttributeError, RuntimeError):  # another Python; or the end has begun
        atexit.register(guarded)


def ends_by_error() -> bool:
    """Asked at the end: whether that is because of an exception that nobody caught, Ctrl-C say."""
    return _interrupted or getattr(sys, "last_value", None) is not None

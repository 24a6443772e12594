"""Another name of ``manyhands.compat.multiprocesstools``, which can be called as its class can.

MultiProcessTools' own document imports ``multiprocesshelper`` and calls it, so both serve:
``from manyhands.compat import multiprocesshelper`` and
``from manyhands.compat.multiprocesstools import multiprocesshelper``. Type checkers understand the second.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

from manyhands.compat.multiprocesstools import (
    MultiProcessHelper,
    RunTimeCounter,
    multiprocesshelper,
    run_func_IO_loop,
    wait_until_file_exists,
)

__all__ = [
    "MultiProcessHelper",
    "RunTimeCounter",
    "multiprocesshelper",
    "run_func_IO_loop",
    "wait_until_file_exists",
]


class _Callable(ModuleType):
    def __call__(self, *args: Any, **kwargs: Any) -> MultiProcessHelper:
        """A helper."""
        return MultiProcessHelper(*args, **kwargs)


sys.modules[__name__].__class__ = _Callable

"""A target with a storage of its own in each worker process. Workers import this, so it imports little."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Final, cast

NAMES: Final = ("setup", "storage", "worker_id", "debug", "arguments")


class Keeping:
    """Calls a target with what it returned as its storage from the call before, in one process.

    It is called first with ``setup=True`` and without storage and arguments, to make the storage.

    Args:
        target: called with the five names, or with five values in that order if its parameters have others.
        worker_id, debug: passed to it.
    """

    def __init__(self, target: Callable[..., Any], worker_id: int, debug: bool) -> None:
        self._target = target
        self._worker_id = worker_id
        self._debug = debug
        self._takes_names = takes_names(target)
        self._storage: Any = None
        self._is_set_up = False

    def __call__(self, request: tuple[bool, Any]) -> Any:
        """The result for the arguments, ``(False, arguments)``; or the set-up alone, ``(True, None)``."""
        only_setup, arguments = request
        if not self._is_set_up:
            self._storage, _ = self._pair(True, None, None)
            self._is_set_up = True
        if only_setup:
            return None
        self._storage, result = self._pair(False, self._storage, arguments)
        return result

    def _pair(self, setup: bool, storage: Any, arguments: Any) -> tuple[Any, Any]:
        values = (setup, storage, self._worker_id, self._debug, arguments)
        by_name = dict(zip(NAMES, values, strict=True))
        returned = self._target(**by_name) if self._takes_names else self._target(*values)
        if not isinstance(returned, tuple | list) or len(cast("tuple[Any, ...]", returned)) != 2:
            raise TypeError(
                f"the target must return (storage, result); it returned a {type(returned).__name__}"
            )
        storage, result = returned
        return storage, result


def takes_names(target: Callable[..., Any]) -> bool:
    """Whether it can be called with the five names."""
    try:
        inspect.signature(target).bind(**dict.fromkeys(NAMES))
    except (TypeError, ValueError):
        return False
    return True

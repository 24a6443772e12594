"""Waiting with a limit: for a file, and for a function that returns at last."""

from __future__ import annotations

import logging
import os
import random
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

from manyhands.calls import short_repr
from manyhands.compat.qdmp_checks import seconds_of
from manyhands.policies.parameters import name_of

R = TypeVar("R")

logger: Final = logging.getLogger("MultiProcessTools")
logger.setLevel(logging.DEBUG)  # as there: handlers decide what is seen

FIRST_PAUSE: Final = 0.01
LONGEST_PAUSE: Final = 1.0
SECONDS_BETWEEN_MESSAGES: Final = 5.0


class RunTimeCounter:
    """Counts seconds from when it is made.

    Args:
        timeout: seconds that there are, 0 or more.

    Attributes:
        start_queue: when it was made, as ``time.perf_counter`` tells.
        timeout: as given.
    """

    def __init__(self, timeout: float) -> None:
        self.timeout = seconds_of("timeout", timeout)
        self.start_queue = time.perf_counter()

    def get_time_left(self) -> float:
        """The seconds that are left; 0.0 when the time is over."""
        return max(0.0, self.timeout - (time.perf_counter() - self.start_queue))

    def check_runtime(self) -> float:
        """The seconds that are left.

        Raises:
            RuntimeError: none are.
        """
        left = self.get_time_left()
        if not left:
            logger.error("Timeout reached: %s seconds are over.", self.timeout)
            raise RuntimeError(f"Timeout exceeded: {self.timeout} seconds are over")
        return left

    def __str__(self) -> str:
        return (
            f"RunTimeCounter created at {self.start_queue} with timeout {self.timeout} and "
            f"{self.get_time_left()} seconds left"
        )


def wait_until_file_exists(path: str | os.PathLike[str], timeout: float) -> bool:
    """Waits for a file, a directory, or whatever has that name; looks once a second or more often.

    Args:
        path: its name. A link counts as what it leads to.
        timeout: seconds, 0 or more; ``float("inf")`` waits without end.

    Returns:
        True.

    Raises:
        RuntimeError: it does not exist in time.
    """
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"path must be a path, not {short_repr(path)}")
    counter, pause, told = RunTimeCounter(timeout), FIRST_PAUSE, float("-inf")
    while not os.path.exists(path):  # noqa: PTH110 - what is no path is answered, not raised
        left = counter.check_runtime()
        if time.perf_counter() - told >= SECONDS_BETWEEN_MESSAGES:
            told = time.perf_counter()
            logger.info("Waiting for %s to be created...", path)
        time.sleep(min(pause, left))
        pause = min(2 * pause, LONGEST_PAUSE)
    return True


def run_func_IO_loop(func: Callable[..., R], func_args: Mapping[str, Any], timeout: float) -> R:  # noqa: N802
    """Calls ``func`` again and again until it raises no exception, and returns what it returns.

    Args:
        func: any function.
        func_args: its arguments, by their names.
        timeout: seconds after which no further call is made; one that has begun is finished. The first is
            always made.

    Raises:
        RuntimeError: the time was over after a call that raised; that is the cause.
    """
    if not callable(func):
        raise TypeError(f"func must be a function, not {short_repr(func)}")
    if not isinstance(func_args, Mapping):
        raise TypeError(f"func_args must be a mapping of names to arguments, not {short_repr(func_args)}")
    counter = RunTimeCounter(timeout)
    while True:
        try:
            return func(**func_args)
        except Exception as error:
            logger.error("Couldn't run %s: %s", name_of(func), error)  # noqa: TRY400 - it may be all right soon
            try:
                left = counter.check_runtime()
            except RuntimeError as over:
                raise over from error
        time.sleep(min(random.uniform(0.01, 0.5), left))

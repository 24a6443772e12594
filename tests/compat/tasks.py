"""What the tests of the faces have run in workers, in a module that a worker imports fast."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import Any, Never

from tests.helpers import tell, wait_for

SEEN = 0
"""What a program may change after its workers have imported this."""


def seen(_: Any) -> int:
    """What this process sees."""
    return SEEN


def double(number: Any) -> Any:
    return 2 * number


def divide(dividend: float, divisor: float) -> float:
    return dividend / divisor


def total(*numbers: int) -> int:
    return sum(numbers)


def describe(number: int = 10, *, key: object = False) -> tuple[int, object]:
    return number, key


def report(*args: Any, **kwargs: Any) -> Any:
    """What it was called with."""
    return args, kwargs


def fails(x: Any) -> Never:
    raise KeyError(x)


def process_id(*_: object) -> int:
    return os.getpid()


def meet(begun: Path, gate: Path, then: str = "returns") -> int:
    """Says that it has begun, waits, and ends as it is told."""
    tell(begun, os.getpid())
    wait_for(gate)
    return end(then)


def end(how: str, file: Path | None = None) -> int:
    """Ends as it is told; if it returns, with a note in ``file``."""
    if how == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "raises":
        raise LookupError(how)
    if file is not None:
        tell(file, how)
    return os.getpid()


def fail_at(x: Any, bad: Any = 3) -> Any:
    if x == bad:
        raise KeyError(x)
    return x


def where(_: Any) -> Any:
    return os.getpid(), threading.get_ident()


class Scale:
    def __init__(self, factor: Any) -> None:
        self.factor = factor

    def times(self, x: Any) -> Any:
        return self.factor * x

    def __call__(self, x: Any) -> Any:
        return self.factor * x


class Counted:
    """Says in a file how often it was pickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        tell(self.path, "pickled")
        return Counted, (self.path,)


class Frozen(Exception):
    def __setattr__(self, name: Any, value: Any) -> None:
        raise AttributeError(name)

"""Decorated functions of a module of their own, for ``test_decorators.py``."""

from __future__ import annotations

from pathlib import Path

from manyhands import OUTPUT, parallel


def triple_body(n: int) -> int:
    """Three times n."""
    return 3 * n


triple_body.some_attribute = "kept"  # type: ignore[attr-defined]


def write_body(n: int, output: Path = OUTPUT) -> None:
    """Writes n."""
    output.write_text(str(n))


@parallel
def tripled(n: int) -> int:
    """Three times n.

    >>> tripled(2)
    6
    >>> list(tripled.map([1, 2], backend="inline"))
    [3, 6]
    """
    return 3 * n


class Counter:
    """Methods of all kinds."""

    def __init__(self, start: int) -> None:
        self.start = start

    @parallel
    def add(self, x: int) -> int:
        """From the start on."""
        return self.start + x

    @parallel
    @classmethod
    def named(cls, x: int) -> str:
        """By the class's name."""
        return f"{cls.__name__}{x}"

    @parallel
    @staticmethod
    def plus_one(x: int) -> int:
        """Without either."""
        return x + 1

"""What a measure is, and one measurement in a process of its own.

python -m benchmarks.measure FILE FAMILY MEASURE ROW
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

FAMILIES = {
    "A": "throughput",
    "B": "throughput",
    "C": "throughput",
    "H": "startup",
    "I": "bounds",
    "J": "latency",
    "K": "deaths",
    "L": "functions",
    "M": "signals",
    "N": "claims",
    "O": "claims",
    "R": "policies",
    "S": "logs",
    "T": "reports",
    "V": "policies",
}
"""The module of each letter."""

Value = float | str


class Note(Protocol):
    """Notes figures; what was noted counts also if the measurement does not come to its end."""

    def __call__(self, **figures: Value) -> None: ...


@dataclass(frozen=True)
class Measure:
    """One table.

    Attributes:
        letter: the family it belongs to, with others maybe.
        title: what is measured, and in which unit the first figure is.
        rows: who is measured, and by what; each is called in a fresh process.
        figures: the noted figures to show, the most important first. A smaller one is better.
        base: the row that ratios of the first figure refer to, round by round; none if empty.
        once: behaviour, which one round shows.
        limit: seconds that a measurement may take.
    """

    letter: str
    title: str
    rows: Mapping[str, Callable[[Note], None]]
    figures: tuple[str, ...]
    base: str = ""
    once: bool = False
    limit: float = 60.0


def measures(letter: str) -> list[Measure]:
    """The tables of a letter, in the order in which they are shown."""
    module = importlib.import_module(f"benchmarks.{FAMILIES[letter]}")
    return [measure for measure in module.MEASURES if measure.letter == letter]


def main(path: str, letter: str, number: str, row: str) -> None:
    """Runs one row of one table, and keeps its figures in a file."""
    noted: dict[str, Value] = {}

    def note(**figures: Value) -> None:
        noted.update(figures)
        with open(path + ".new", "w") as file:
            json.dump(noted, file)
        os.replace(path + ".new", path)

    measures(letter)[int(number)].rows[row](note)


if __name__ == "__main__":
    main(*sys.argv[1:])

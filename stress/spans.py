"""What the journal of a schedule says: which worker was at which item, from when to when, in which order."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tasks import Entry

Place = tuple[int, int]
"""Map and index of an item."""


@dataclass
class Span:
    """One call of an item.

    Attributes:
        number, last: of the lines of the journal that tell its begin and its end; ``last`` is inf without an end.
        begun, ended: when, in seconds; ``ended`` is inf without an end.
    """

    place: Place
    pid: int
    number: int
    begun: float
    last: float = math.inf
    ended: float = math.inf

    @property
    def is_open(self) -> bool:
        """Whether its process ended within it."""
        return self.last == math.inf

    def overlaps(self, other: Span) -> bool:
        """Whether both ran at the same time, for some of it."""
        return self.number < other.last and other.number < self.last


class Spans:
    """All calls.

    Attributes:
        of_item: of each item, in the order of their begins.
        of_worker: of each worker, likewise.
        twice: the items that were begun while an earlier worker of theirs was alive.
    """

    def __init__(self, entries: Iterable[Entry]) -> None:
        self.of_item: dict[Place, list[Span]] = defaultdict(list)
        self.of_worker: dict[int, list[Span]] = defaultdict(list)
        self.twice: set[Place] = set()
        for number, entry in enumerate(entries):
            place = entry.scope, entry.item
            if entry.kind == "b":
                span = Span(place, entry.pid, number, entry.at)
                self.of_item[place].append(span)
                self.of_worker[entry.pid].append(span)
            elif entry.kind == "twice":
                self.twice.add(place)
            else:
                span = next(span for span in reversed(self.of_item[place]) if span.pid == entry.pid)
                span.last, span.ended = number, entry.at

    def find(self, place: Place, pid: int) -> Span | None:
        """The last call of an item in a worker."""
        return next((span for span in reversed(self.of_item.get(place, [])) if span.pid == pid), None)

    def open(self, pid: int) -> list[Span]:
        """What a worker was at when it ended."""
        return [span for span in self.of_worker.get(pid, []) if span.is_open]

    def after(self, span: Span) -> Span | None:
        """The next call of the same item."""
        return next((other for other in self.of_item[span.place] if other.number > span.number), None)

    def beside(self, span: Span) -> Iterator[Span]:
        """What else ran in its worker at the same time."""
        return (other for other in self.of_worker[span.pid] if other is not span and other.overlaps(span))

"""Stretches of a ticket's calls. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(slots=True)
class Piece:
    """The calls ``begin`` to ``end`` of a ticket.

    Attributes:
        group, ticket, begin, end: which calls.
        alone: to be run with no other call in the same worker.
        unwanted: not to be run at all, should the worker that has them hand them back.
    """

    group: int
    ticket: int
    begin: int
    end: int
    alone: bool = False
    unwanted: bool = False

    def __len__(self) -> int:
        return self.end - self.begin

    def has(self, ticket: int, position: int) -> bool:
        """Whether it holds this call."""
        return self.ticket == ticket and self.begin <= position < self.end

    def without(self, calls: set[tuple[int, int]]) -> Iterator[Piece]:
        """What is left of it without these calls, given by ticket and position."""
        begin = self.begin
        for position in sorted(position for ticket, position in calls if self.has(ticket, position)):
            if begin < position:
                yield Piece(self.group, self.ticket, begin, position, self.alone)
            begin = position + 1
        if begin < self.end:
            yield Piece(self.group, self.ticket, begin, self.end, self.alone)

"""What one worker has in hand: the calls that were sent to it and of which nothing was heard. Pure."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass, field
from enum import Enum, auto

from manyhands.controller.pieces import Piece


class WorkerState(Enum):
    """Where a worker is in its life."""

    STARTING = auto()
    IDLE = auto()
    BUSY = auto()
    RETIRING = auto()  # finishes what it has, and gets nothing more
    LOST = auto()  # says nothing more: it is ending, or will be ended
    ENDING = auto()  # was told to


@dataclass(slots=True)
class Hand:
    """A worker, as the ledger knows it.

    Attributes:
        state: where it is in its life.
        runs: whether its process is known to run, and not to need any code of the user's to be set up.
        proven: whether it has said that it is set up. It may get calls before, if it runs.
        pieces: what it has, in the order in which that was sent.
        held: how many calls these are.
        given: how many calls it ever got.
        watched: whether it was told that more may be sent.
        slow: whether it handed calls back, and has answered none since.
        suspected: whether it was killed for one of its calls, whichever it was.
        blamed: the calls that it was killed for, by ticket and position.
    """

    state: WorkerState = WorkerState.STARTING
    runs: bool = False
    proven: bool = False
    pieces: list[Piece] = field(default_factory=list)
    held: int = 0
    given: int = 0
    watched: bool = False
    slow: bool = False
    suspected: bool = False
    blamed: set[tuple[int, int]] = field(default_factory=set)

    def take(self, pieces: list[Piece]) -> None:
        """These were sent to it."""
        calls = sum([piece.end - piece.begin for piece in pieces])
        self.held += calls
        self.given += calls
        self.pieces += pieces

    def give_up(self, ticket: int, begin: int, end: int) -> Piece | None:
        """It has these calls no more; returns the piece that they belonged to, None if it had them not."""
        for place, piece in enumerate(self.pieces):
            if piece.ticket == ticket and piece.begin <= begin and end <= piece.end:
                if (begin, end) == (piece.begin, piece.end):
                    del self.pieces[place]
                elif begin == piece.begin:
                    piece.begin = end
                elif end == piece.end:
                    piece.end = begin
                else:
                    after = Piece(piece.group, ticket, end, piece.end, piece.alone, piece.unwanted)
                    piece.end = begin
                    self.pieces.insert(place + 1, after)
                self.held -= end - begin
                return piece
        return None

    def has(self, ticket: int, position: int) -> bool:
        """Whether it has this call."""
        return any(piece.has(ticket, position) for piece in self.pieces)

    def is_at_any_of(self, tickets: Container[int]) -> bool:
        """Whether it has calls of any of these tickets."""
        for piece in self.pieces:  # noqa: SIM110  # mostly the first is one, and ``any`` would cost more than that
            if piece.ticket in tickets:
                return True
        return False

    def counts(self, tickets: Container[int]) -> bool:
        """Whether it counts against the limit of the pool: not if it only finishes what nobody waits for.

        Args:
            tickets: those that somebody waits for.
        """
        if self.state in (WorkerState.BUSY, WorkerState.RETIRING):
            return self.is_at_any_of(tickets)
        return self.state not in (WorkerState.LOST, WorkerState.ENDING)

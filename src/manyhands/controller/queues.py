"""What waits to be sent: a queue for each group, and the calls that are to run alone. Pure."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from manyhands.controller.pace import Pace
from manyhands.controller.pieces import Piece


@dataclass(slots=True)
class _Group:
    pace: Pace
    queue: deque[Piece] = field(default_factory=deque)


class Queues:
    """The groups take turns: each chunk is cut from the one whose turn it is.

    Attributes:
        waiting: how many calls there are in all.
        paces: the chunk sizes of the open groups.
    """

    def __init__(self) -> None:
        self.waiting = 0
        self.paces: dict[int, Pace] = {}
        self._groups: dict[int, _Group] = {}
        self._turns: deque[int] = deque()  # the groups that have calls waiting
        self._suspects: deque[Piece] = deque()  # to be run alone

    # -- groups -------------------------------------------------------------------------------------------

    def open(self, group: int, pace: Pace) -> None:
        """Calls of this group may come."""
        self._groups[group] = _Group(pace)
        self.paces[group] = pace

    def close(self, group: int) -> None:
        """No call of this group is to be sent any more."""
        opened = self._groups.pop(group, None)
        self.paces.pop(group, None)
        if opened is not None:
            self.waiting -= sum(map(len, opened.queue))
        if group in self._turns:
            self._turns.remove(group)
        for piece in [piece for piece in self._suspects if piece.group == group]:
            self._suspects.remove(piece)
            self.waiting -= len(piece)

    # -- in -----------------------------------------------------------------------------------------------

    def add(self, piece: Piece) -> None:
        """New calls, behind all others of their group."""
        group = self._groups[piece.group]
        if not group.queue:
            self._turns.append(piece.group)
        group.queue.append(piece)
        self.waiting += len(piece)

    def add_again(self, pieces: list[Piece]) -> None:
        """These were sent before, and go first again, in the order of their submission."""
        for piece in pieces:
            queue = self._suspects if piece.alone else self._groups[piece.group].queue
            if not piece.alone and not queue and piece.group not in self._turns:
                self._turns.append(piece.group)
            key = piece.ticket, piece.begin
            place = next(
                (at for at, other in enumerate(queue) if (other.ticket, other.begin) > key), len(queue)
            )
            queue.insert(place, piece)
            self.waiting += len(piece)

    def add_suspect(self, group: int, ticket: int, position: int) -> None:
        """A call that is to be run alone."""
        self._suspects.append(Piece(group, ticket, position, position + 1, alone=True))
        self.waiting += 1

    # -- out ----------------------------------------------------------------------------------------------

    @property
    def has_suspects(self) -> bool:
        """Whether calls wait that are to run alone."""
        return bool(self._suspects)

    def pop_suspect(self) -> Piece:
        """The next call that is to run alone."""
        piece = self._suspects.popleft()
        self.waiting -= len(piece)
        return piece

    @property
    def next_pace(self) -> Pace | None:
        """The chunk size of the group whose turn it is; None if no group has calls."""
        return self._groups[self._turns[0]].pace if self._turns else None

    def cut(self, most: int, exact: bool = True) -> list[Piece]:
        """Up to ``most`` calls of the group whose turn it is; then it is the next one's.

        Args:
            most: how many calls.
            exact: so many, if there are so many. Otherwise, since each piece costs something to send and to answer,
                none is cut for less than half of that.
        """
        turn = self._turns.popleft()
        queue = self._groups[turn].queue
        pieces: list[Piece] = []
        left = most
        while queue and left > 0:
            piece = queue[0]
            if len(piece) > left:
                if pieces and not exact and 2 * left <= most:
                    break
                middle = piece.begin + left
                part = Piece(piece.group, piece.ticket, piece.begin, middle)
                piece.begin = middle
            else:
                part = queue.popleft()
            left -= len(part)
            self.waiting -= len(part)
            pieces.append(part)
        if queue:
            self._turns.append(turn)
        return pieces

    def take_all(self) -> list[Piece]:
        """Everything that waits."""
        pieces = list(self._suspects)
        for group in self._turns:
            pieces += self._groups[group].queue
            self._groups[group].queue.clear()
        self._suspects.clear()
        self._turns.clear()
        self.waiting = 0
        return pieces

    def drop(self, group: int, ticket: int, begin: int = 0, end: int | None = None) -> list[tuple[int, int]]:
        """Takes calls of a ticket out; returns begin and end of each stretch that waited."""
        dropped = []
        for queue in (self._groups[group].queue, self._suspects):
            for piece in [piece for piece in queue if piece.ticket == ticket]:
                first, last = max(begin, piece.begin), piece.end if end is None else min(end, piece.end)
                if first >= last:
                    continue
                place = queue.index(piece)
                del queue[place]
                calls = {(ticket, position) for position in range(first, last)}
                for part in reversed(list(piece.without(calls))):
                    queue.insert(place, part)
                self.waiting -= last - first
                dropped.append((first, last))
        if group in self._turns and not self._groups[group].queue:
            self._turns.remove(group)
        return dropped

"""The time limits of a pool's calls: looks at what the workers are at, and says what is over its time."""

from __future__ import annotations

import math
import time
from collections.abc import Container, Iterable, Mapping

from manyhands.controller.handles import Handle, Ticket
from manyhands.controller.overtime import Overtime, Running, interval
from manyhands.controller.share import Share


class Limits:
    """Asked under the dispatcher's lock, except for ``interval``.

    Attributes:
        interval: seconds between two looks; None as long as no call has a limit.
    """

    def __init__(self) -> None:
        self.interval: float | None = None
        self._overtime = Overtime()
        self._abandoned: dict[
            int, float
        ] = {}  # tickets that nobody waits for any more, which keep their limits

    def renew(self, shares: Iterable[Share]) -> bool:
        """These are open now; returns whether that changes the interval."""
        limits = [share.timeout for share in shares if share.timeout is not None]
        before, self.interval = self.interval, interval([*limits, *self._abandoned.values()])
        return self.interval != before

    def abandon(self, number: int, ticket: Ticket) -> None:
        """Nobody waits for this ticket any more."""
        if ticket.share.timeout is not None:
            self._abandoned[number] = ticket.share.timeout

    def look(
        self, handles: Mapping[int, Handle], tickets: Mapping[int, Ticket], held: Container[int]
    ) -> tuple[list[Running], list[Running]]:
        """The calls that are over their time, and those of which one is, nobody knows which.

        Args:
            handles: the workers.
            tickets: those that somebody waits for.
            held: those that workers have calls of, begun or not.
        """
        self._abandoned = {ticket: limit for ticket, limit in self._abandoned.items() if ticket in held}
        running = [
            Running(number, ticket, position, self._limit(ticket, tickets))
            for number, handle in handles.items()
            for ticket, position in handle.marker.running()
        ]
        over = self._overtime.sample(running, time.monotonic())
        margin = 2 * (self.interval or 0.0)
        guilty = [call for call in over if self._overtime.is_alone_to_blame(call, margin)]
        return guilty, [call for call in over if call not in guilty]

    def seconds(self) -> dict[int, float]:
        """Of each ticket of which a call ran when last looked at, for how long that was seen to."""
        return self._overtime.seconds(time.monotonic())

    def _limit(self, ticket: int, tickets: Mapping[int, Ticket]) -> float:
        owner = tickets.get(ticket)
        if owner is None:
            return self._abandoned.get(ticket, math.inf)
        return math.inf if owner.share.timeout is None else owner.share.timeout

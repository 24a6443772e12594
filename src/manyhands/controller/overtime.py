"""Which calls have run for longer than they may, from samples of what the workers are at. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

_LEAST_INTERVAL: Final = 0.01
_MOST_INTERVAL: Final = 0.25


class Running(NamedTuple):
    """A call that a worker is at, and the seconds that it may take."""

    worker: int
    ticket: int
    position: int
    limit: float


class Overtime:
    """Remembers when each running call was first seen, which is at most one interval after it began."""

    def __init__(self) -> None:
        self._seen: dict[tuple[int, int, int], float] = {}

    def sample(self, running: Iterable[Running], now: float) -> list[Running]:
        """Takes in what runs at ``now``; returns what was seen for longer than its limit."""
        seen = {}
        over = []
        for call in running:
            key = call[:3]
            since = seen[key] = self._seen.get(key, now)
            if now - since >= call.limit:
                over.append(call)
        self._seen = seen
        return over


def interval(limits: Iterable[float]) -> float | None:
    """Seconds between two samples: a twentieth of the shortest limit, within bounds; None without limits."""
    shortest = min(limits, default=None)
    return None if shortest is None else min(_MOST_INTERVAL, max(_LEAST_INTERVAL, shortest / 20))

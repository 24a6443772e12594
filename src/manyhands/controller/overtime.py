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
    """Remembers when each running call was first seen, which is at most one interval after it began.

    The time between two samples counts for a quarter of a call's limit at most: calls of a job that its
    scheduler suspends, or of a machine that pauses, stop with who takes the samples, and aren't late when all goes on.
    """

    def __init__(self) -> None:
        self._seen: dict[tuple[int, int, int], float] = {}  # when, or later by what does not count
        self._last = 0.0

    def sample(self, running: Iterable[Running], now: float) -> list[Running]:
        """Takes in what runs at ``now``; returns what was seen for longer than its limit."""
        running = list(running)
        gap, self._last = now - self._last, now
        self._seen = {
            call[:3]: self._seen[call[:3]] + max(0.0, gap - call.limit / 4) if call[:3] in self._seen else now
            for call in running
        }
        return [call for call in running if now - self._seen[call[:3]] >= call.limit]

    def seconds(self, now: float) -> dict[int, float]:
        """Of each ticket of which a call ran at the last sample, for how long that was seen to."""
        return {ticket: now - since for (_, ticket, _), since in self._seen.items()}

    def is_alone_to_blame(self, call: Running, margin: float) -> bool:
        """Whether a call that is over its time has kept no other from going on.

        In a worker with threads, one that holds the GIL stops all of them. Then nothing began there since: what runs
        beside it was seen first at about the same time, within ``margin`` seconds, or earlier.
        """
        mates = [since for key, since in self._seen.items() if key[0] == call.worker and key != call[:3]]
        return not mates or max(mates) > self._seen[call[:3]] + margin


def interval(limits: Iterable[float]) -> float | None:
    """Seconds between two samples: a twentieth of the shortest limit, within bounds; None without limits."""
    shortest = min(limits, default=None)
    return None if shortest is None else min(_MOST_INTERVAL, max(_LEAST_INTERVAL, shortest / 20))

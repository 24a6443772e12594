"""How long the workers of a storm have waited for a processor: what is late for that reason is nobody's fault."""

from __future__ import annotations

import time
from collections import defaultdict, deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

_LOOK_SECONDS: Final = 0.02
_SEARCH_SECONDS: Final = 0.1
_KEPT: Final = 200  # looks at each process: four seconds


@dataclass
class _Seen:
    """A process, as it was at the last look, and for how long it was kept waiting between two looks.

    Attributes:
        ran: nanoseconds that its threads have run.
        waits: moment of the look, and seconds between it and the one before in which the process could have run, did
            not, and did not sleep.
    """

    ran: int = 0
    waits: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=_KEPT))


class Processor:
    """Looks at all that descends from one process. (Linux; elsewhere it sees nothing.)"""

    def __init__(self, root: int) -> None:
        self._root = root
        self._seen: dict[int, _Seen] = {}
        self._living: list[int] = []
        self._looked = self._searched = time.monotonic()

    def look(self) -> None:
        """Looks, if the last look was long enough ago."""
        now = time.monotonic()
        passed = now - self._looked
        if passed < _LOOK_SECONDS:
            return
        self._looked = now
        if now - self._searched >= _SEARCH_SECONDS:
            self._searched = now
            self._living = _descendants(self._root)
        for pid in self._living:
            ran, ready = _state(pid)
            seen = self._seen.get(pid)
            if seen is None:
                self._seen[pid] = _Seen(ran)  # whatever it did before
                continue
            idle = passed - (ran - seen.ran) / 1e9
            seen.waits.append((now, idle if ready and idle > 0 else 0.0))
            seen.ran = ran

    def waited(self, pid: int, seconds: float) -> float:
        """Of the last seconds that a process was seen alive, those in which it waited."""
        seen = self._seen.get(pid)
        if seen is None or not seen.waits:
            return 0.0
        since = seen.waits[-1][0] - seconds
        return sum(waited for moment, waited in seen.waits if moment > since)


def _descendants(root: int) -> list[int]:
    children = defaultdict(list)
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(status.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue  # it has ended
        children[parent].append(int(status.parent.name))
    found = [root]
    for pid in found:
        found += children[pid]
    return found


def _state(pid: int) -> tuple[int, bool]:
    """Nanoseconds that the threads of a process have run, and whether one of them is not asleep."""
    ran, ready = 0, False
    try:
        for thread in Path(f"/proc/{pid}/task").iterdir():
            ran += int((thread / "schedstat").read_text().split()[0])
            ready |= (thread / "stat").read_text().rpartition(")")[2].split()[0] == "R"
    except (OSError, IndexError):
        pass  # one of them has just ended
    return ran, ready

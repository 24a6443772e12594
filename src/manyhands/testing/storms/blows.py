"""What a nemesis does to the processes of a storm, and when: by a seed."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from typing import Final, Literal

from manyhands.testing.nemesis import Blow, Nemesis

_PLAN: Final[dict[tuple[Blow, Literal["parent", "worker"]], int]] = {
    ("kill", "parent"): 2,
    ("kill", "worker"): 6,
    ("stop", "parent"): 2,
    ("stop", "worker"): 8,
    ("terminate", "parent"): 1,
    ("terminate", "worker"): 2,
}
"""How often it does what, to whom, as weights."""

_LONG: Final = 0.7
"""How many of the workers that are stopped are stopped for long."""


class Blows:
    """One blow after the other, as long as ``step`` is called.

    Args:
        nemesis: does it.
        seed: says what, to whom in the order of their start, and how long to wait. What that hits is the machine's.
        pause: seconds between two blows, on average.
        lease: seconds after which others take over from who is stopped. Some workers are stopped for less, some for so
            long that this will happen, in the end at the latest; then they go on, and find out.
    """

    def __init__(self, nemesis: Nemesis, seed: str, pause: float, lease: float) -> None:
        self._nemesis = nemesis
        self._luck = random.Random(seed)
        self._pause = pause
        self._lease = lease
        self._stopped: list[tuple[float, int]] = []
        self._next = time.monotonic() + self._wait()

    def step(self, parents: Sequence[int], workers: Sequence[int]) -> None:
        """Do what is due, to these processes, which the nemesis was given."""
        now = time.monotonic()
        for when, pid in list(self._stopped):
            if when <= now:
                self._stopped.remove((when, pid))
                self._nemesis.resume(pid)
        if now < self._next:
            return
        self._next = now + self._wait()
        blow, whom = self._luck.choices(list(_PLAN), list(_PLAN.values()))[0]
        which, short, is_long = self._luck.random(), self._luck.uniform(0.1, 3.0), self._luck.random() < _LONG
        stopped = {pid for _, pid in self._stopped}
        pids = [pid for pid in (parents if whom == "parent" else workers) if pid not in stopped]
        if not pids:  # whose workers are stopped may be killed, but they themselves are to go on once more
            return
        pid = pids[int(which * len(pids))]
        if blow == "kill":
            self._nemesis.kill(pid)
        elif blow == "terminate":
            self._nemesis.terminate(pid)
        elif 3 * len(stopped) < len(parents) + len(workers) and self._nemesis.stop(pid):
            leases = 10 * short if is_long and whom == "worker" else short
            self._stopped.append((now + leases * self._lease, pid))

    def _wait(self) -> float:
        return self._pause * self._luck.uniform(0.5, 1.5)

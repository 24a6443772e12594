"""What a dispatcher holds: its side of each worker, and what is open between it and those who submit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from manyhands.controller.share import Share
from manyhands.errors import TaskTimeout, WorkerDied
from manyhands.workers.channel import ParentChannel
from manyhands.workers.marker import Marker
from manyhands.workers.messages import Load
from manyhands.workers.parcel import Parcel

Reason = Callable[[int], WorkerDied | TaskTimeout]
"""Given a process id, makes the error of a call that was ended on purpose."""


@dataclass(slots=True)
class Handle:
    """The parent's side of one worker."""

    channel: ParentChannel
    marker: Marker
    pid: int | None = None
    since: float = 0.0  # when its process was seen to run
    name: str = ""
    doomed: bool = False
    ended_by: str = ""
    loaded: set[int] = field(default_factory=set)
    epoch: int = 0
    reasons: dict[tuple[int, int], Reason] = field(default_factory=dict)


@dataclass(slots=True)
class Forgetting:
    """A session that is being closed: the idle workers that have not forgotten it yet."""

    workers: set[int] = field(default_factory=set)
    done: bool = False

    def forgotten(self, worker: int) -> None:
        """One worker less to wait for."""
        self.workers.discard(worker)
        self.done = not self.workers


@dataclass(frozen=True, slots=True)
class OpenWork:
    """What the calls of a share need in a worker."""

    load: Load
    share: Share
    chunksize: int | None


@dataclass(slots=True)
class Ticket:
    """Calls that wait or run: whose they are, and their pickles."""

    share: Share
    parcel: Parcel
    calls: bool

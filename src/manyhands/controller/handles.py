"""What a dispatcher holds: its side of each worker, and what is open between it and its sessions."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from manyhands.controller.session import Session
from manyhands.workers.channel import ParentChannel
from manyhands.workers.marker import Marker
from manyhands.workers.messages import Load


@dataclass(slots=True)
class Handle:
    """The parent's side of one worker."""

    channel: ParentChannel
    marker: Marker
    pid: int | None = None
    doomed: bool = False
    loaded: set[int] = field(default_factory=set)
    lock: threading.RLock = field(default_factory=threading.RLock)


@dataclass(frozen=True, slots=True)
class Forgetting:
    """A session that is being closed: the idle workers that have not forgotten it yet."""

    workers: set[int] = field(default_factory=set)
    done: threading.Event = field(default_factory=threading.Event)

    def forgotten(self, worker: int) -> None:
        """One worker less to wait for."""
        self.workers.discard(worker)
        if not self.workers:
            self.done.set()


@dataclass(frozen=True, slots=True)
class OpenWork:
    """What a session's calls need in a worker."""

    message: Load
    blob: bytes


@dataclass(frozen=True, slots=True)
class Ticket:
    """A call that waits or runs: whose it is, its number there, and its pickle."""

    session: Session
    number: int
    blob: bytes

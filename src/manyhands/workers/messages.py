"""What parent and worker say to one another. Blobs (pickled user objects) travel beside a message, as parts."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Setup:
    """To the worker, first. Parts: its initializer and its finalizer, each empty if there is none."""

    name: str


@dataclass(frozen=True, slots=True)
class Load:
    """To the worker: the work that calls with this number belong to. Part: the work."""

    work: int
    directory: str
    sys_path: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Run:
    """To the worker: run these calls in this order, answering each as it ends. Parts: a call per ticket."""

    work: int
    tickets: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Forget:
    """To the worker: no more calls of this work will come."""

    work: int


@dataclass(frozen=True, slots=True)
class Stop:
    """To the worker: end in order."""


@dataclass(frozen=True, slots=True)
class Ready:
    """From the worker: it was set up."""

    pid: int


@dataclass(frozen=True, slots=True)
class Unready:
    """From the worker: its initializer raised, and it ends."""

    summary: str


@dataclass(frozen=True, slots=True)
class Forgotten:
    """From the worker: it has let go of what it kept for this work."""

    work: int


@dataclass(frozen=True, slots=True)
class Answers:
    """From the worker: the call with this ticket took so many seconds. Part: its answer."""

    ticket: int
    seconds: float


Message = Setup | Load | Run | Forget | Stop | Ready | Unready | Forgotten | Answers

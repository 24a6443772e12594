"""What parent and worker say to one another. Blobs (pickled user objects) travel beside a message, as parts."""

from __future__ import annotations

from typing import NamedTuple


class Setup(NamedTuple):
    """To the worker, first. Parts: its initializer and its finalizer, each empty if there is none."""

    name: str


class Load(NamedTuple):
    """To the worker: the work that calls with this number belong to. Part: the work."""

    work: int
    directory: str
    sys_path: tuple[str, ...]


class Run(NamedTuple):
    """To the worker: run these calls in this order, answering each as it ends. Parts: a call per ticket."""

    work: int
    tickets: tuple[int, ...]


class Forget(NamedTuple):
    """To the worker: no more calls of this work will come."""

    work: int


class Stop(NamedTuple):
    """To the worker: end in order."""


class Ready(NamedTuple):
    """From the worker: it was set up."""

    pid: int


class Unready(NamedTuple):
    """From the worker: its initializer raised, and it ends."""

    summary: str


class Forgotten(NamedTuple):
    """From the worker: it has let go of what it kept for this work."""

    work: int


class Answers(NamedTuple):
    """From the worker: the call with this ticket took so many seconds. Part: its answer."""

    ticket: int
    seconds: float


Message = Setup | Load | Run | Forget | Stop | Ready | Unready | Forgotten | Answers

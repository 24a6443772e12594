"""What the ledger says is to be done. Nobody changes these; not frozen, since that would triple the cost of one."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class StartWorker:
    """Start a worker and call it ``worker``."""

    worker: int


@dataclass(slots=True)
class SendCalls:
    """Send these pieces to the worker.

    Attributes:
        worker: its number.
        pieces: group, ticket, begin and end of each.
        whole: it is not to hand parts of them back.
        watch: more may be sent while it runs them.
        begins: it begins them at once; otherwise they wait behind others.
    """

    worker: int
    pieces: tuple[tuple[int, int, int, int], ...]
    whole: bool = False
    watch: bool = False
    begins: bool = True


@dataclass(slots=True)
class Recall:
    """Ask the worker to hand back what it has not begun."""

    worker: int


@dataclass(slots=True)
class StopWorker:
    """Ask the worker to end in order."""

    worker: int


@dataclass(slots=True)
class KillWorker:
    """End the worker at once."""

    worker: int


@dataclass(slots=True)
class TellDied:
    """The call's worker ended while it was at it; ``killed``: it was ended for that."""

    ticket: int
    position: int
    worker: int
    killed: bool = False


@dataclass(slots=True)
class TellCancelled:
    """These calls were cancelled before they were sent."""

    ticket: int
    begin: int
    end: int


@dataclass(slots=True)
class TellBroken:
    """These calls will never run: no worker can be started."""

    ticket: int
    begin: int
    end: int


Action = StartWorker | SendCalls | Recall | StopWorker | KillWorker | TellDied | TellCancelled | TellBroken

"""Who submits calls to a pool, as the pool sees it, and what it tells them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from manyhands.calls import Failed
from manyhands.errors import TaskTimeout, WorkerDied
from manyhands.workers.channel import Frame


@dataclass(frozen=True, slots=True)
class Dead:
    """The call's worker ended, or was ended, while it was at it."""

    error: WorkerDied | TaskTimeout


@dataclass(frozen=True, slots=True)
class Dropped:
    """The calls were cancelled before they were sent."""


News = Frame | Dead | Dropped | Failed
"""What may become of calls, as the dispatcher tells it. A frame is unpickled by whoever waits for it."""


class Share(Protocol):
    """Who submits calls to a dispatcher, and is told what became of them, under the dispatcher's lock."""

    group: int
    name: str
    """Of the function that is called."""
    timeout: float | None
    """Seconds that a call may take."""
    lasting: bool
    """Whether it stays open without calls, so that it keeps no idle pool alive."""
    most: int
    """Calls that are sent to a worker at once, at most, where their times decide."""
    prompt: bool
    """Whether each answer is waited for by itself, so that none should be held back long to come with others."""
    is_map: bool
    """Whether its calls are of no use once who consumes their results has gone."""

    def promised(self) -> bool:
        """Whether calls that were promised are to come: then the pool waits for them before it closes."""
        ...

    def renew_locks(self) -> None:
        """In a forked child: other threads may have held them, and there are no others here."""
        ...

    def begun(self, ticket: int) -> None:
        """A worker is at some of the ticket's calls; may be told again."""
        ...

    def put(self, ticket: int, begin: int, end: int, news: News, worker: str) -> None:
        """Something became of these calls. What came before may come again: then it is left aside."""
        ...

    def item(self, ticket: int, position: int) -> int | None:
        """The number of this call among all of a map; None: it is in no map, or nobody knows any more."""
        ...

    def unheard(self, ticket: int) -> list[tuple[int, int]]:
        """The stretches of a ticket of which nothing was heard."""
        ...

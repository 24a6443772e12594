"""What a dispatcher holds: its side of each worker, and what is open between it and those who submit."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from manyhands.controller.parcels import Parcel
from manyhands.controller.share import Share
from manyhands.errors import TaskTimeout, WorkerDied
from manyhands.memory.bank import Stored
from manyhands.memory.exchange import Exchange, Noted, Received
from manyhands.workers.channel import Frame, ParentChannel, control
from manyhands.workers.marker import Marker
from manyhands.workers.messages import Load
from manyhands.workers.parcel import STORED

Reason = Callable[[int], WorkerDied | TaskTimeout]
"""Given a process id, makes the error of a call that was ended on purpose."""


@dataclass(slots=True)
class Handle:
    """The parent's side of one worker."""

    channel: ParentChannel
    marker: Marker
    exchange: Exchange
    pid: int | None = None
    since: float = 0.0  # when its process was seen to run
    turned: float = 0.0  # when it was last sent what it begins at once, or answered: then what it is at began
    name: str = ""
    doomed: bool = False
    ended_by: str = ""
    loaded: set[int] = field(default_factory=set)
    epoch: int = 0
    reasons: dict[tuple[int, int], Reason] = field(default_factory=dict)
    lent: dict[tuple[int, int], int] = field(
        default_factory=dict
    )  # of calls that it has, the slots they lie in
    kept: set[int] = field(default_factory=set)  # slots that it has said to have open
    rests: bool = False  # it was told to give memory back, and has not said yet that it has
    frees: bool = False  # since it was told so, it was told of values that nobody uses any more

    def close(self) -> None:
        """Lets go of what leads to the worker, and of what was lent to it."""
        self.channel.close()
        self.marker.close()
        self.exchange.close()
        if self.lent or self.kept:
            self.exchange.bank.take_back([*{*self.lent.values(), *self.kept}])

    def lend(self, ticket: int, calls: Iterable[tuple[int, Stored]]) -> None:
        """The worker is about to be sent calls whose pickles are stored; raises OSError if it can't see them."""
        for position, stored in calls:
            self.exchange.show(stored)
            self.lent[ticket, position] = stored.place.number

    def show(self, work: OpenWork) -> None:
        """The worker is about to be sent this work; raises OSError if it can't see what belongs to that."""
        if work.stored is not None:
            self.exchange.show(work.stored)
            self.kept.add(work.stored.place.number)
        if work.canvas is not None:
            self.exchange.show_segment(work.canvas, writable=True)

    def hear(self, frame: Frame) -> Frame:
        """The worker has done with calls; of an answer that it has stored, what leads to that is the new body."""
        for position in range(frame.begin, frame.end) if self.lent else ():
            number = self.lent.pop((frame.ticket, position), None)
            if number is not None and number not in self.kept:
                self.exchange.bank.take_back([number])
        if frame.form != STORED:
            return frame
        (place,) = pickle.loads(frame.body)
        try:
            received = self.exchange.received(place)
        except (EOFError, OSError):
            received = Received(place, self.exchange.views)  # which says so when it is opened
        return frame._replace(body=received)

    def send(self, frames: list[Frame]) -> None:
        """Sends frames, after what is to be told of memory."""
        exchange = self.exchange
        if exchange.is_used and exchange.has_news and (noted := exchange.news(all_ends=True)) is not None:
            self.frees = self.frees or bool(noted.let_go)
            frames = [control(noted), *frames]
        self.channel.send(frames)

    def tell_to_rest(self) -> None:
        """There is nothing to do for the worker: it is to give memory back, and to say when it has."""
        if self.exchange.is_used and not self.channel.at_end:
            noted = self.exchange.news(all_ends=True) or Noted()
            self.channel.send([control(noted._replace(rests=True))])
            self.rests, self.frees = True, False

    @property
    def shares_results(self) -> bool:
        """Whether somebody has results that lie in its memory."""
        return not self.exchange.views.is_quiet

    @property
    def has_let_go(self) -> bool:
        """Whether some of these are not used any more, but keep memory in it."""
        return (self.frees or self.exchange.views.has_let_go) and not self.channel.at_end

    def take_in(self, noted: Noted) -> None:
        """The worker has told this of what it sees, and shows."""
        self.exchange.take_in(noted)
        self.kept.update(noted.kept)
        self.kept.difference_update(noted.let_go)
        lent = self.lent.values()
        self.exchange.bank.take_back([number for number in noted.let_go if number not in lent])


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
    key: int  # the same for the same work, most likely
    stored: Stored | None = None
    canvas: int | None = None  # a segment that its calls write to


@dataclass(slots=True)
class Ticket:
    """Calls that wait or run: whose they are, and their pickles."""

    share: Share
    parcel: Parcel
    calls: bool

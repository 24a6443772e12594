"""The pump of a map over a sequence of claimed items: a walk decides what is drawn and what is given out.

Here the stream has only the items that somebody was sent after, or that wait for others; when they have ended they are
the walk's.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from manyhands.calls import Call, Done, Failed
from manyhands.errors import PoolClosed
from manyhands.handler.blocks import Run
from manyhands.handler.gate import Gate, Pass
from manyhands.handler.pump import MOST_BUFFER, Halted, Observer, Prepare, Pump
from manyhands.handler.runner import Runner
from manyhands.handler.stream import Ended, Stream
from manyhands.handler.walk import Ready, Walk
from manyhands.outcome import Event, Outcome

_LOSSES: Final = 16
"""After so many items in vain at least, all are looked at together."""

_LOOKS_WORTH: Final = 20
"""About so many entries of a directory are listed in the time that it takes to look for one."""


@dataclass(frozen=True, slots=True)
class Found:
    """What is there of the outputs of a sequence.

    Attributes:
        finished: the items whose outputs are.
        entries: how many entries had to be looked at to know it.
        others: whether somebody else seems to be at work.
    """

    finished: Sequence[int] = ()
    entries: int = 0
    others: bool = False


class Outputs(Protocol):
    """The outputs of a sequence of items."""

    @property
    def has_met_others(self) -> bool:
        """Whether somebody else has been seen at work on them."""
        ...

    def survey(self, items: Sequence[int] | None) -> Found:
        """Which of these outputs are there, of all if it is None; it may miss some."""
        ...

    def is_finished(self, index: int) -> bool:
        """Whether that output is there; if in doubt, it is not."""
        ...

    def value(self, index: int) -> Any:
        """What stands for a finished output that needs no loading."""
        ...


class WalkingPump(Pump):
    """One map in motion.

    Args:
        items: the sequence.
        walk: over it, fresh.
        outputs: theirs.
        ahead: whether calls run while their consumer does something else.
        prepare, runner, gate, observer, clock: as a ``Pump``'s.
        buffersize: how many calls may be out; None: about a second of measured work.
    """

    def __init__(
        self,
        items: list[Any] | tuple[Any, ...] | range,
        walk: Walk,
        outputs: Outputs,
        prepare: Prepare,
        stream: Stream,
        runner: Runner,
        gate: Gate,
        observer: Observer | None,
        *,
        ahead: bool,
        buffersize: int | None,
        clock: Callable[[], float],
    ) -> None:
        super().__init__(items, prepare, stream, runner, gate, observer, clock=clock)
        stream.buffersize = sys.maxsize  # what waits for others takes no room
        self._items = items
        self._walk = walk
        self._outputs = outputs
        self._ahead = ahead
        self._buffersize = buffersize
        self._entries = 0
        self._losses = 0  # since all were looked at
        self._told = bytearray(len(items))  # of these the observer has heard
        self._look_around(None)

    @property
    def finished(self) -> bool:
        """Whether every outcome was taken."""
        return self._walk.finished

    def prime(self, items: int) -> None:
        """Sends as many items as are to be out."""
        if self._ahead:
            self._fill()

    def next_outcome(self) -> Outcome[Any] | Run | None:
        """As a ``Pump``'s."""
        while not self._closed:
            self._send_due()
            if self._ahead:
                self._fill()
                if self.stream.in_flight:
                    self._absorb(self.runner.events(0))
            outcome = self._walk.take()
            if outcome is not None:
                return outcome if isinstance(outcome, Outcome) else self._valued(outcome)
            if self.finished:
                return None
            if self._stopped:
                raise PoolClosed("the map was stopped while its next result was waited for")
            self._fill()
            if self.stream.in_flight + (self.stream.next_due is not None):
                self._absorb(self.runner.events(self._patience()))
        return None

    # -- inside -----------------------------------------------------------------------------------------------

    def _fill(self) -> None:
        """Goes after more items, as far as they are wanted."""
        most = 1
        if self._ahead:
            # No more than that: what waits for others is to be looked at in between.
            most = self._buffersize or min(MOST_BUFFER, max(2 * self.runner.capacity, self.runner.horizon))
            self._walk.room = max(self._walk.room, most)
        while self.stream.in_flight < most and self.runner.has_room:
            index = self._walk.draw()
            if index is None:
                return
            if not self._walk.brings_value(index) and self._outputs.is_finished(index):
                self._walk.was_there(index)
                self._lost(index)
                continue
            item = self._items[index]
            call = self._prepare(index, item)
            if isinstance(call, Failed):
                self._end_new(index, item, call)
            else:
                self._send_new(index, item, call)

    def _send_new(self, index: int, item: Any, call: Call) -> None:
        admitted = self._gate.enter(index, call)
        if isinstance(admitted, Pass):
            call = admitted.call(call)
            self.stream.add_out(item, call, index)
            self.runner.submit(index, call)
            return
        if isinstance(admitted, Failed) and admitted.halts:
            raise Halted(admitted)
        self._end_new(index, item, admitted)

    def _end_new(self, index: int, item: Any, answer: Done[Any] | Failed) -> None:
        self.stream.add(item, Call(), self._clock(), index)
        self._tell(index, self.stream.end(index, answer))
        self._gather()

    def _send_due(self) -> None:
        if self.stream.waits:
            super()._send_due()
            self._gather()

    def _absorb(self, events: list[Event]) -> None:
        try:
            super()._absorb(events)
        finally:
            self._gather()

    def _gather(self) -> None:
        """What has ended in the stream is the walk's."""
        while (outcome := self.stream.take()) is not None:
            assert isinstance(outcome, Outcome)
            self._walk.ended(outcome)
        if self._outputs.has_met_others and self._walk.is_alone:
            self._walk.meet()

    def _lost(self, index: int) -> None:
        """An item was gone after that others had finished."""
        self._tell_found([index])
        self._walk.meet()
        self._losses += 1
        if self._losses >= max(_LOSSES, self._entries // _LOOKS_WORTH):
            self._look_around(self._walk.open)

    def _look_around(self, items: Sequence[int] | None) -> None:
        found = self._outputs.survey(items)
        self._entries, self._losses = found.entries, 0
        self._tell_found(self._walk.found(found.finished))
        if found.others:
            self._walk.meet()

    def _tell_found(self, news: Sequence[int]) -> None:
        if self._observer is not None and news:
            for index in news:
                self._told[index] = 1
            self._observer.found(len(news))

    def _tell(self, index: int, ended: Ended) -> None:
        """An item that is loaded later ends twice, and is told once."""
        if self._observer is not None and ended is not None:
            if self._told[index]:
                return
            self._told[index] = 1
        super()._tell(index, ended)

    def _valued(self, ready: Ready) -> Outcome[Any] | Run:
        index, count = ready.index, ready.count
        if ready.computed:
            done = Done(self._outputs.value(index) if self.wants_values else None)
            return Outcome(index, self._items[index], done, ready.attempts, ready.seconds, ready.worker)
        items = self._items[index : index + count]
        values = (
            [self._outputs.value(index + place) for place in range(count)]
            if self.wants_values
            else [None] * count
        )
        return Run(index, items, values, 0.0, 0.0, "", computed=False)

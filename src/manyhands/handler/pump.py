"""The pump: moves items from the input through the stream to a runner and outcomes back, in one thread.

It has the clock and the side effects that the stream core has not; every decision is the stream's.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from manyhands.errors import PoolClosed
from manyhands.handler.gate import Away, Gate, Pass
from manyhands.handler.runner import Runner
from manyhands.handler.stream import Ended, Stream
from manyhands.outcome import Answered, Call, Cancelled, Died, Done, Event, Failed, Later, Outcome

Prepare = Callable[[int, Any], Call | Failed]
"""Makes the call of the item with this index, or says what is wrong with it."""


class Observer(Protocol):
    """Is told what happens to a map; a progress bar, say."""

    def ended(self, outcome: Outcome[Any]) -> None:
        """An item has ended; its consumer may see it later."""

    def retried(self) -> None:
        """An attempt failed and is to be repeated."""

    def close(self) -> None:
        """The map has ended."""


class Halted(Exception):
    """Carries a fault that concerns the whole map, past ``on_error``."""

    def __init__(self, failed: Failed) -> None:
        super().__init__(failed)
        self.failed = failed


class Pump:
    """One map in motion.

    Args:
        source: the input; advanced only in the thread that calls ``step``.
        prepare: makes calls of items.
        stream: the core, fresh.
        runner: runs the calls; closed with the pump.
        gate: closed with the pump.
        observer: is told, or None.
        clock: seconds that never go back.
    """

    def __init__(
        self,
        source: Iterator[Any],
        prepare: Prepare,
        stream: Stream,
        runner: Runner,
        gate: Gate,
        observer: Observer | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.stream = stream
        self.runner = runner
        self._source = source
        self._prepare = prepare
        self._gate = gate
        self._observer = observer
        self._clock = clock
        self._index = 0
        self._gave = False
        self._source_error: Exception | None = None
        self._closed = False

    def prime(self, items: int) -> None:
        """Draws and sends up to ``items`` items."""
        for _ in range(items):
            if not self._draw():
                break
        self._send_due()

    def next_outcome(self) -> Outcome[Any] | None:
        """The next outcome, waiting for it as long as needed; None when there is no more.

        Raises:
            Halted: a worker met a fault that concerns the whole map.
            Exception: what the input raised, after the outcomes of all items before it.
        """
        if self._gave and self.stream.in_flight < 2 * self.runner.capacity:
            # One item in for one out, when the consumer comes back for more: it has got its result at once.
            self._draw()
        self._gave = False
        while True:
            self._send_due()
            self._absorb(self.runner.events(0) if self.stream.in_flight else [])
            outcome = self.stream.take()
            if outcome is not None:
                self._gave = True
                return outcome
            if self.stream.finished:
                if self._source_error is not None:
                    raise self._source_error
                return None
            self._step()

    def _step(self) -> None:
        """Takes one item in, or waits until something happens."""
        if not self._draw() and self.stream.in_flight + (self.stream.next_due is not None):
            self._absorb(self.runner.events(self._patience()))

    def add(self, item: Any) -> int:
        """Takes an item in, due at once; returns its index. The stream must have room."""
        call = self._prepare(self._index, item)
        self._index += 1
        if isinstance(call, Failed):
            index = self.stream.add(item, Call(), self._clock())
            self._tell(self.stream.end(index, call))
            return index
        return self.stream.add(item, call, self._clock())

    def cancel(self, index: int) -> None:
        """Drops the item if it does not run; it ends as a failure then."""
        if self.stream.is_waiting(index):
            self._tell(self.stream.end(index, Failed(PoolClosed("cancelled before it ran"))))
        else:
            self.runner.cancel(index)

    def poll(self, timeout: float | None) -> Outcome[Any] | None:
        """The next outcome, if there is one within one wait of at most ``timeout`` seconds; draws no input."""
        outcome = self.stream.take()
        if outcome is None:
            self._send_due()  # which may end an item at once, and then nothing is left to wait for
            outcome = self.stream.take()
        if outcome is None:
            patience = self._patience()
            limits = [seconds for seconds in (timeout, patience) if seconds is not None]
            self._absorb(self.runner.events(min(limits, default=None)))
            self._send_due()
            outcome = self.stream.take()
        return outcome

    def close(self, kill: bool = False, wait: bool = True) -> None:
        """Ends the map; what runs is finished and forgotten or, with ``kill``, ended. See ``Runner.close``."""
        if self._closed:
            return
        self._closed = True
        try:
            self.runner.close(kill, wait)
        finally:
            try:
                self._gate.close()
            finally:
                if self._observer is not None:
                    self._observer.close()

    # -- inside -----------------------------------------------------------------------------------------

    def _patience(self) -> float | None:
        due = self.stream.next_due
        return None if due is None else max(0.0, due - self._clock())

    def _draw(self) -> bool:
        if not self.stream.has_room:
            return False
        try:
            item = next(self._source)
        except StopIteration:
            self.stream.close_input()
            return False
        except Exception as error:  # the user's input may raise anything; it surfaces in order
            self._source_error = error
            self.stream.close_input()
            return False
        self.add(item)
        return True

    def _send_due(self) -> None:
        now = self._clock()
        while (index := self.stream.pop_due(now)) is not None:
            call = self.stream.call(index)
            admitted = self._gate.enter(index, call)
            if isinstance(admitted, Pass):
                if admitted.memo is not None:
                    call = Call(call.args, call.kwargs, admitted.memo)
                self.stream.send(index, call)
                self.runner.submit(index, call)
            elif isinstance(admitted, Failed) and admitted.halts:
                raise Halted(admitted)
            else:
                self._tell(self.stream.end(index, admitted))

    def _absorb(self, events: list[Event]) -> None:
        for event in events:
            match event:
                case Answered(index, Later() as later, _, worker):
                    self._later(index, later, worker)
                case Answered(index, Failed(halts=True) as failed):
                    raise Halted(failed)
                case Answered(index, (Done() | Failed()) as answer, seconds, worker):
                    self._tell(self.stream.answered(index, answer, self._clock(), seconds, worker))
                case Died(index, error, worker):
                    self._tell(self.stream.died(index, error, self._clock(), worker))
                case Cancelled(index):
                    failed = Failed(PoolClosed("the pool was closed before this item ran"))
                    self._tell(self.stream.answered(index, failed, self._clock(), 0.0, ""))

    def _later(self, index: int, later: Later, worker: str) -> None:
        wait = self._gate.later(index, later, self.stream.looks(index) + 1)
        if isinstance(wait, Away):
            self._tell(self.stream.leave(index, wait.where))
        else:
            self.stream.postpone(index, self._clock() + wait, later.memo, later.failed, worker)
            if later.failed is not None:
                self._tell(None)

    def _tell(self, ended: Ended) -> None:
        if self._observer is None:
            return
        if ended is None:
            self._observer.retried()
        else:
            self._observer.ended(ended)

"""The pump: moves items from the input through the stream to a runner and outcomes back, in one thread.

It has the clock and the side effects that the stream core has not; every decision is the stream's.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from itertools import islice
from operator import is_
from typing import Any, Final, Protocol

from manyhands.calls import Call, Done, Failed, Later, traceback_text
from manyhands.errors import PoolClosed, TaskTimeout, WorkerDied
from manyhands.handler.blocks import Run
from manyhands.handler.gate import Away, Gate, OpenGate, Pass
from manyhands.handler.item import Item
from manyhands.handler.runner import Runner, takes_blocks
from manyhands.handler.stream import Ended, Question, Stream
from manyhands.outcome import Answered, Cancelled, Died, Event, Held, Outcome, Returned
from manyhands.policies.verdict import SAME, Retry, ask

Prepare = Callable[[int, Any], Call | Failed]
"""Makes the call of the item with this index, or says what is wrong with it."""

Plain = Callable[[Sequence[Any]], bool]
"""Whether nothing has to be decided for any of these items, so that they can go as one block."""

Sift = Callable[[int, Sequence[Any]], "list[Failed | Call | None] | None"]
"""Given the index of the first, what is wrong with each of these items, or its call if it can't go as it is.

None for an item that can; and for all of them.
"""

LEAST_BUFFER: Final = 64
"""The least default of ``buffersize``; large enough that short calls don't wait for their consumer."""

MOST_BUFFER: Final = 65_536
"""The largest default of ``buffersize``."""

_FIXED: Final = frozenset({int, float, complex, bool, type(None)})
"""Types whose values never change, nor are large."""

_SHORT: Final = 4096
"""Texts of fewer characters are not large either."""

_BLOCK: Final = 16384  # items of one block, at most
_DRAW_SECONDS: Final = 0.001  # an input that takes longer to give its items is not waited for


class Observer(Protocol):
    """Is told what happens to a map; a progress bar, say."""

    def happened(self, event: Event) -> None:
        """The runner has told this. Of a ``Returned``, the items have ended with it, and ``ended`` is not called."""

    def ended(self, outcome: Outcome[Any]) -> None:
        """An item has ended; its consumer may see it later."""

    def found(self, count: int) -> None:
        """So many items need not be computed, others have done that."""

    def away(self, count: int) -> None:
        """So many items are claimed by others at present."""

    def retried(self, index: int) -> None:
        """An attempt at this item failed and is to be repeated."""

    def tick(self) -> float:
        """The map is about to wait; after so many seconds (or inf) this is to be called again, if it waits still."""
        ...

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
        source: the input: a list, tuple or range, which is drawn from without ever waiting, or an iterator, which is
            advanced only in the thread that calls ``step``.
        prepare: makes calls of items.
        stream: the core, fresh.
        runner: runs the calls; closed with the pump.
        gate: closed with the pump.
        observer: is told, or None.
        plain: tells which items may go in blocks; None: none.
        sift: tells what is wrong with items that go in blocks; None: nothing is.
        remake: makes calls of items that went in blocks and go round alone; None: as ``prepare``.
        adapts: whether ``buffersize`` grows to about a second of measured work.
        clock: seconds that never go back.
    """

    def __init__(
        self,
        source: list[Any] | tuple[Any, ...] | range | Iterator[Any],
        prepare: Prepare,
        stream: Stream,
        runner: Runner,
        gate: Gate,
        observer: Observer | None = None,
        *,
        plain: Plain | None = None,
        sift: Sift | None = None,
        remake: Prepare | None = None,
        adapts: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.stream = stream
        self.runner = runner
        self.wants_values = True  # else those that could be had at any time are not fetched
        self._source = source
        self._ready = isinstance(source, list | tuple | range)
        self._drawn = 0  # of a source that is ready
        # The items drawn last as they were then, if any of them could change since.
        self._held: list[Any] | None = None
        self._prepare = prepare
        self._gate = gate
        self._observer = observer
        self._plain = plain
        self._sift = sift
        self._remake = remake or prepare
        self._sifted: list[Failed | Call | None] = []  # of a source that is ready, the items to be drawn next
        self._blocks = runner if plain is not None and takes_blocks(runner) else None
        may_repeat = stream.may_repeat or not isinstance(gate, OpenGate)
        self._holder = runner if takes_blocks(runner) and may_repeat and not self._ready else None
        self._adapts = adapts
        self._clock = clock
        self._gave = 0
        self._away: set[int] = set()  # claimed by others when last looked at
        self._source_ended = False
        self._stopped = False
        self._is_cancelled = False
        self._source_error: Exception | None = None
        self._closed = False

    @property
    def finished(self) -> bool:
        """Whether the input has ended and every outcome was taken."""
        return self.stream.finished

    def prime(self, items: int) -> None:
        """Draws and sends up to ``items`` items."""
        while items > 0 and (drawn := self._draw(items)):
            items -= drawn
        self._send_due()

    def next_outcome(self) -> Outcome[Any] | Run | None:
        """The next outcome, or a run of them, waiting as long as needed; None when there is no more.

        Raises:
            Halted: a worker met a fault that concerns the whole map.
            Exception: what the input raised, after the outcomes of all items before it.
        """
        if self._gave:
            self._replace(self._gave)
            self._gave = 0
        stream = self.stream
        # Who need not wait looks all the same, to keep the workers going; and so does who may wait for the input.
        looks = stream.has_outcome or not self._ready
        while not self._closed:  # by its observer, that is
            self._send_due()
            if looks and stream.in_flight:
                self._absorb(self.runner.events(0))
            outcome = self.stream.take()
            if outcome is not None:
                self._gave = len(outcome.values) if isinstance(outcome, Run) else 1
                return outcome
            if self.stream.finished:
                if self._source_error is not None:
                    raise self._source_error
                return None
            if self._stopped:
                raise PoolClosed("the map was stopped while its next result was waited for")
            looks = self._step()
        return None

    def stop(self) -> None:
        """Ends a wait in ``next_outcome``, which raises PoolClosed; may be called from any thread."""
        self._stopped = True
        self.runner.wake()

    def _replace(self, given: int) -> None:
        """Draws for what was given, when the consumer comes back for more: it has got its results at once."""
        if self._ready and self._blocks is not None:
            self._draw(_BLOCK)
        elif self.stream.in_flight < 2 * self.runner.capacity * self.runner.chunk:
            self._draw(max(given, self._block()))

    def _step(self) -> bool:
        """Takes items in, or waits until something happens; returns whether it did not wait."""
        if self._draw(_BLOCK):
            return True
        if self.stream.in_flight + (self.stream.next_due is not None):
            self._absorb(self.runner.events(self._patience()))
        return False

    def add(self, item: Any) -> int:
        """Takes an item in, due at once; returns its index. The stream must have room."""
        call: Call | Failed
        if self._is_cancelled:
            call = self._cancelled()
        elif self._sifted:  # it was asked about when it was drawn before
            call = self._sifted.pop(0) or self._remake(self.stream.added, item)
        else:
            call = self._prepare(self.stream.added, item)
        return self._put(item, call)

    def _put(self, item: Any, call: Call | Failed) -> int:
        """Takes an item in that goes alone, or has failed."""
        if not isinstance(call, Failed):
            return self.stream.add(item, call, self._clock())
        index = self.stream.add(item, Call(), self._clock())
        self._tell(index, self.stream.end(index, call))
        return index

    def cancel(self, index: int) -> None:
        """Drops the item if it does not run; it ends as a failure then."""
        if self.stream.is_waiting(index):
            again = " again" if self.stream.item(index).attempts else ""
            self._tell(index, self.stream.end(index, Failed(PoolClosed(f"cancelled before it ran{again}"))))
        else:
            self.runner.cancel(index)

    def cancel_all(self, kill: bool = False) -> None:
        """Drops what has not begun, or waits to be tried again; nothing is tried again from now on.

        Args:
            kill: end what runs as well.
        """
        self._is_cancelled = True
        self.stream.stop()
        out = self.stream.out
        for index in self.stream.waiting:
            self._tell(index, self.stream.end(index, self._cancelled(index)))
        for index in out:
            self.runner.cancel(index)
        for index in out if kill else []:
            self.runner.kill(index)

    def _cancelled(self, index: int | None = None) -> Failed:
        again = " again" if index is not None and self.stream.item(index).attempts else ""
        if self._is_cancelled:
            return Failed(CancelledError(f"it was cancelled before it ran{again}"))
        return Failed(PoolClosed(f"the pool was closed before this item ran{again}"))

    def poll(self, timeout: float | None) -> Outcome[Any] | Run | None:
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
        patience = None if due is None else max(0.0, due - self._clock())
        if self._observer is None or not self.stream.in_flight + (due is not None):
            return patience
        tick = self._observer.tick()
        if tick == math.inf:
            return patience
        return tick if patience is None else min(patience, tick)

    def _draw(self, most: int) -> int:
        """Takes in up to ``most`` items of the input; returns how many."""
        if not self.stream.is_open:
            return 0
        if self._adapts:
            horizon = min(MOST_BUFFER, self.runner.horizon)
            self.stream.buffersize = max(self.stream.buffersize, LEAST_BUFFER, horizon)
        most = min(most, self.stream.room)
        if most <= 0 or not self.runner.has_room:
            return 0
        block = self._block()
        stream = self.stream
        if most < block and stream.in_flight and (stream.has_outcome or stream.in_flight >= block):
            return 0  # there will be more room soon, and many small blocks cost more than a few large ones
        items = self._next_items(min(most, block))
        if items and self._blocks is not None and self._plain is not None and self._plain(items):
            taken = self._send_sifted(items)
            if taken < len(items):
                self._drawn -= len(items) - taken
                self._source_ended = False
                items = items[:taken]
        else:
            for item in items:
                self._hold(self.add(item), item)
            self._send_due()  # so that the runner knows of them before it is asked for room again
        if self._source_ended:
            self.stream.close_input()
        return len(items)

    def _block(self) -> int:
        """How many items go in a block, where they are to be had."""
        if self._blocks is None:
            return 1
        return max(1, min(_BLOCK if self._ready else self.runner.chunk, self.stream.buffersize // 4))

    def _send_sifted(self, items: Sequence[Any]) -> int:
        """Sends items in blocks, and ends those that are refused; returns how many it has taken in."""
        if self._sift is None:
            return self._send_block(items, self._held)
        told, rest = self._sifted[: len(items)], self._sifted[len(items) :]
        if len(told) < len(items):
            more = items[len(told) :]
            sifted = self._sift(self.stream.added + len(told), more)
            if sifted is None and not told:
                taken = self._send_block(items, self._held)
                self._sifted = [None] * (len(items) - taken)
                return taken
            told += sifted or [None] * len(more)
        begin, held = 0, self._held
        for place in [place for place, found in enumerate(told) if found is not None] + [len(items)]:
            if begin < place:
                begin += self._send_block(items[begin:place], held[begin:place] if held else None)
                if begin < place:
                    break
            if place < len(items):
                self._put(items[place], told[place] or Call())
                begin = place + 1
        self._sifted = told[begin:] + rest  # what was asked once is not asked again
        self._send_due()
        return begin

    def _send_block(self, items: Sequence[Any], held: list[Any] | None) -> int:
        """Sends items in one block; returns how many it has taken."""
        assert self._blocks is not None
        if self._ready:
            taken = self._blocks.submit_block(self.stream.added, items)
            items = items[:taken]
        else:
            self._blocks.submit_held(self.stream.added, items if held is None else held)
        kept = None if held is None or self._holder is None else [_kept(one) for one in held]
        self.stream.send_block(items, kept)
        return len(items)

    def _next_items(self, most: int) -> Sequence[Any]:
        """Advances the input; notes its end, and what it raises, which surfaces in order."""
        source = self._source
        if isinstance(source, list | tuple | range):
            stretch = source[self._drawn : self._drawn + most]
            self._drawn += len(stretch)
            try:
                self._source_ended = self._drawn >= len(source)
            except OverflowError:  # a range may be longer than that
                pass
            return stretch
        items: list[Any] = []
        self._held = None
        begin, asks = self._clock(), True
        try:
            for item in islice(source, most):
                asks = False
                items.append(item)
                if (type(item) is not int or self._held is not None) and self._is_large(items):
                    return items
                if self._clock() - begin > _DRAW_SECONDS:
                    return items
                asks = True
        except Exception as error:
            if not asks:
                raise  # it is not the input's: a signal's handler raised it here
            self._source_error = error
        self._source_ended = len(items) < most
        return items

    def _is_large(self, items: list[Any]) -> bool:
        """Has the last of these items held, since the input may change it when it is asked for the next."""
        item = items[-1]
        if self._blocks is None:
            return False
        if self._held is None and _is_fixed(item):
            return False
        if self._plain is None or not self._plain([item]):
            return True  # it goes alone
        held = self._blocks.hold(item)
        if self._held is None:
            self._held = items[:-1]
        self._held.append(held)
        return type(held) is Held and held.large

    def _due(self) -> list[int]:
        """The items whose time has come; each is sent or ends now."""
        now, due = self._clock(), []
        while (index := self.stream.pop_due(now)) is not None:
            due.append(index)
        return due

    def _send_due(self) -> None:
        if not self.stream.waits:
            return
        for index in self._gate.order(self._due()):
            # What was in a block has no call yet; it goes round on its own now.
            item = self.stream.item(index)
            if item.held is not None and item.was_out:
                call = self._call_again(item)
            else:
                call = item.call or self._remake(index, item.arguments)
            if isinstance(call, Failed):
                self._tell(index, self.stream.end(index, call))
                continue
            admitted = self._gate.enter(index, call)
            if self._away and not isinstance(admitted, Pass):
                self._note_away(index, False)
            if isinstance(admitted, Pass):
                call = admitted.call(call)
                self.stream.send(index, call)
                self.runner.submit(index, call)
            elif isinstance(admitted, Failed) and admitted.halts:
                raise Halted(admitted)
            else:
                self._tell(index, self.stream.end(index, admitted))

    def _hold(self, index: int, item: Any) -> None:
        """Has an item held that goes alone and may be sent again: the input may change it before."""
        holder = self._holder
        if (
            holder is None
            or not self.stream.is_waiting(index)
            or _is_fixed(item)
            or hasattr(type(item), "__next__")
        ):
            return
        entry, again = self.stream.item(index), self._remake(index, item)
        # Arguments that were made of it when it was checked are nobody else's.
        if entry.call is not None and isinstance(again, Call) and _same(entry.call, again):
            entry.held = _kept(holder.hold(item))

    def _call_again(self, item: Item) -> Call | Failed:
        """The call of an item as it was when it was drawn."""
        holder, memo = self._holder, None if item.call is None else item.call.memo
        assert holder is not None
        try:
            item.arguments = holder.opened(item.held)
        except Exception as error:
            return Failed(error, traceback_text(error))
        item.held = None
        call = self._remake(item.index, item.arguments)
        return call if isinstance(call, Failed) else Call(call.args, call.kwargs, memo)

    def _absorb(self, events: list[Event]) -> None:
        halting: Failed | None = None
        for event in events:
            if self._observer is not None:
                self._observer.happened(event)
            if self._away and isinstance(event, Answered) and not isinstance(event.answer, Later):
                self._note_away(event.ticket, False)
            match event:
                case Returned(index, values, seconds, last, worker):
                    self.stream.returned(index, values, seconds, last, worker)
                case Answered(index, Later() as later, seconds, worker):
                    self._later(index, later, seconds, worker)
                case Answered(_, Failed(halts=True) as failed):
                    halting = halting or failed  # what came with it is told first
                case Answered(index, Done() as done, seconds, worker):
                    self._tell(index, self.stream.answered(index, done, seconds, worker))
                case Answered(index, Failed() as failed, seconds, worker):
                    self._judge(index, self.stream.failed(index, failed, self._clock(), seconds, worker))
                case Died(index, error, worker):
                    self._died(index, error, worker)
                case Cancelled(index):
                    self._tell(index, self.stream.dropped(index, self._cancelled()))
        if halting is not None:
            raise Halted(halting)

    def _judge(self, index: int, ended: Ended | Question) -> None:
        """Asks the user, if it is for the user to say."""
        if isinstance(ended, Question):
            verdict = ask(ended.handle_error, ended.failure)
            call = None
            if isinstance(verdict, Retry) and verdict.arguments is not SAME:
                call = self._prepare(index, verdict.arguments)
            ended = self.stream.judged(index, verdict, self._clock(), call)
        self._tell(index, ended)

    def _died(self, index: int, error: WorkerDied | TaskTimeout, worker: str) -> None:
        call = self.stream.call_of(index)
        told = None if call is None else self._gate.died(index, call, error)
        if told is None:
            self._judge(index, self.stream.died(index, error, self._clock(), worker))
            return
        error.index, error.item = index, self.stream.item(index).item
        if isinstance(told, Later):
            self._later(index, told, error.seconds, worker)
        else:
            self._judge(index, self.stream.failed(index, told, self._clock(), error.seconds, worker))

    def _later(self, index: int, later: Later, seconds: float, worker: str) -> None:
        wait = self._gate.later(index, later, self.stream.item(index).looks + 1)
        if isinstance(wait, Away):
            self._tell(index, self.stream.leave(index, wait.where))
        else:
            self.stream.postpone(index, self._clock() + wait, later.memo, later.failed, seconds, worker)
            self._note_away(index, later.failed is None)
            if later.failed is not None:
                self._tell(index, None)
            if self._is_cancelled:
                self._tell(index, self.stream.end(index, self._cancelled(index)))

    def _note_away(self, index: int, is_away: bool) -> None:
        before = len(self._away)
        (self._away.add if is_away else self._away.discard)(index)
        if self._observer is not None and len(self._away) != before:
            self._observer.away(len(self._away))

    def _tell(self, index: int, ended: Ended) -> None:
        if self._observer is None:
            return
        if ended is None:
            self._observer.retried(index)
        else:
            self._observer.ended(ended)


def _kept(held: Any) -> Held | None:
    """What is to be kept, for its next attempts, of an item that was held; one that can't be pickled has failed."""
    return held if type(held) is Held and not isinstance(held.packed, Failed) else None


def _same(call: Call, other: Call) -> bool:
    """Whether two calls have the very same arguments."""
    return (
        len(call.args) == len(other.args)
        and all(map(is_, call.args, other.args))
        and call.kwargs.keys() == other.kwargs.keys()
        and all(other.kwargs[name] is value for name, value in call.kwargs.items())
    )


def _is_fixed(item: Any) -> bool:
    """Whether nothing can happen to an item until it is sent, nor is it large."""
    kind = type(item)
    if kind is tuple:
        return all(map(_is_fixed, item))
    # The hash of a type is its metaclass's, which may be the user's.
    return (type(kind) is type and kind in _FIXED) or ((kind is str or kind is bytes) and len(item) < _SHORT)

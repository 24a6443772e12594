"""What a map returns: a lazy iterator of values, with its outcomes, counts and failures."""

from __future__ import annotations

import os
import sys
import threading
import time
import warnings
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from functools import partial
from itertools import chain
from operator import length_hint
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Generic, Self, TypeVar

from manyhands.calls import Done, short_repr
from manyhands.handler.blocks import Run
from manyhands.handler.html import MOST_TOLD, results_table, told
from manyhands.handler.pump import Halted, Pump
from manyhands.outcome import Counts, Elsewhere, Failure, Outcome, explain, placed
from manyhands.settings import OnError
from manyhands.traces import hide_frames

if TYPE_CHECKING:
    from manyhands.handler.recorder import Recorder

T = TypeVar("T")
U = TypeVar("U")


class Results(Generic[T]):
    """The results of one map, in the order of the input (``ordered=False``: as they finish).

    Iterate over it for values; or use, instead, one of ``outcomes()``, ``collect()`` and ``wait()``. All of
    them consume it. It holds at most ``buffersize`` items and results at any moment, and what it has given
    is forgotten. Use it in one thread at a time: of two at once, both get a RuntimeError. Closing it, by
    ``close()`` or a ``with`` block, cancels what has not started; calls that run are finished in the background
    and forgotten. Dropping it unfinished does the same and emits a ResourceWarning.

    Attributes:
        failures: under ``on_error="skip"``, the failures met so far.
    """

    def __init__(
        self,
        pump: Pump,
        on_error: OnError,
        name: str,
        total: int | None,
        naming: Callable[[Failure], str] | None = None,
        recorder: Recorder | None = None,
    ) -> None:
        self._name = name
        self._recorder = recorder
        self.failures: list[Failure] = []
        self._flow = _Flow(pump, on_error, name, total, self.failures, naming)
        # Values come in lists; chain gives them out one by one without a step of Python for each.
        self._values: Iterator[Any] = chain.from_iterable(_Lists(self._flow))

    def start(self, items: int) -> None:
        """Draws up to ``items`` items and sends them; called once, by who made it."""
        self._flow.start(items)

    # -- the ways to consume it -------------------------------------------------------------------------

    def __iter__(self) -> Iterator[T]:
        return self._values

    def __next__(self) -> T:
        return next(self._values)  # type: ignore[no-any-return]

    async def __aiter__(self) -> AsyncIterator[T]:
        """The values, for ``async for``: a thread waits for them while the event loop goes on.

        Cancelling the task that iterates ends the map.
        """
        while True:
            try:
                values = await self._flow.next_values_async()
                if isinstance(values, BaseException):
                    raise values
            except (Exception, KeyboardInterrupt) as error:
                hide_frames(error)
                raise
            if values is None:
                return
            for value in values:
                yield value

    def outcomes(self) -> Iterator[Outcome[T]]:
        """One outcome per item, whatever it came to; failures are not raised."""
        return self._flow.outcomes()

    def collect(self) -> tuple[list[T], list[Failure]]:
        """All values and all failures, each in the order of the results; discarded items are in neither."""
        values: list[T] = []
        failures: list[Failure] = []
        try:
            for outcome in self.outcomes():
                if outcome.ok:
                    values.append(outcome.value)
                elif outcome.failure is not None:
                    failures.append(outcome.failure)
        except (Exception, KeyboardInterrupt) as error:
            hide_frames(error)
            raise
        return values, failures

    def wait(self) -> Counts:
        """Runs to the end, keeping nothing, and returns how many items came to what.

        Raises:
            Exception: the first error, under ``on_error="raise"``.
        """
        try:
            self._flow.drop_values()
            while (outcome := self._flow.next()) is not None:
                if isinstance(outcome, Outcome) and outcome.failure is not None and self._flow.raises:
                    self.close()
                    raise _raisable(outcome.failure.error)
        except (Exception, KeyboardInterrupt) as error:
            hide_frames(error)
            raise
        return self.counts

    # -- its state ----------------------------------------------------------------------------------------

    @property
    def counts(self) -> Counts:
        """How many of the items taken so far came to what."""
        return self._flow.counts

    def report(self, path: str | os.PathLike[str]) -> Path:
        """Writes a page about the map, so far: what ran where and when, durations, failures, retries, memory.

        Args:
            path: an HTML file, which is written in the place of what is there. It needs nothing from elsewhere.

        Returns:
            Path: of the file.

        Raises:
            RuntimeError: nothing was recorded, since the map was not told to by ``record=True``.
            OSError: it can't be written.
        """
        from manyhands.handler.recorder import write_report  # most maps need none

        return write_report(self._recorder, self._name, path)

    def close(self) -> None:
        """Ends the map; may be called more than once."""
        self._flow.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return repr(self._flow)

    def _repr_html_(self) -> str | None:
        """Its state as a table, for a notebook; takes nothing of it."""
        try:
            return self._flow.html()
        except Exception:  # the text will do
            return None


class _Lists:
    """The values of a flow, in lists, each to be used up before the next is asked for.

    A second thread that asks meanwhile is refused, and so is the first then, since values may have been lost between
    them. (A generator would refuse the second alone, and have ``chain`` crash the first.)
    """

    def __init__(self, flow: _Flow) -> None:
        self._flow = flow
        self._busy = threading.Lock()
        self._crowded = False

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Iterator[Any]:
        if not self._busy.acquire(blocking=False):
            self._crowded = True
            raise RuntimeError(_CROWDED)
        try:
            values = self._flow.next_values()
            if isinstance(values, BaseException):
                raise values
        except (Exception, KeyboardInterrupt) as error:
            hide_frames(error)
            raise
        finally:
            self._busy.release()
        if self._crowded:
            raise RuntimeError(_CROWDED)
        if values is None:
            raise StopIteration
        return values


_CROWDED: Final = (
    "two threads have asked for results of one map at the same time, and some are lost: use one thread"
)


class _Flow:
    """What ``Results`` and its iterators share; the map ends when nobody holds any of them any more."""

    def __init__(
        self,
        pump: Pump,
        on_error: OnError,
        name: str,
        total: int | None,
        failures: list[Failure],
        naming: Callable[[Failure], str] | None = None,
    ) -> None:
        self._pump: Pump | None = pump
        self._on_error = on_error
        self._name = name
        self._total = total
        self._failures = failures
        self._naming = naming  # not a method of its own, or nobody could let go of it
        self._counts = Counts()
        self._run: Run | None = None  # what is being given out,
        self._giving: Iterator[Any] = iter(())  # and what is left of it
        self._begun = time.monotonic()
        self._ended: float | None = None
        self._told: list[tuple[int, str, str]] = []  # of the first failures, for html

    @property
    def raises(self) -> bool:
        return self._on_error == "raise"

    @property
    def counts(self) -> Counts:
        counts = self._counts
        left = length_hint(self._giving)
        return Counts(counts.values - left, counts.failures, counts.discarded, counts.elsewhere)

    def start(self, items: int) -> None:
        if self._pump is not None:
            self._guarded(partial(self._pump.prime, items))

    async def next_values_async(self) -> Iterator[Any] | BaseException | None:
        import asyncio

        step = asyncio.ensure_future(asyncio.to_thread(self.next_values))
        try:
            return await asyncio.shield(step)
        except asyncio.CancelledError:
            pump = self._pump
            if pump is not None:
                pump.stop()
            await asyncio.wait([step])
            if not step.cancelled():
                step.exception()  # it is of no interest any more
            self.close()
            raise

    def next_values(self) -> Iterator[Any] | BaseException | None:
        """The next list of them; None at the end; or the error that is to be raised."""
        while (outcome := self.next()) is not None:
            if isinstance(outcome, Run):
                self._run, self._giving = outcome, iter(outcome.values)
                return self._giving
            match outcome.result:
                case Done(value):
                    return iter((value,))
                case Failure() as failure if self.raises:
                    self.close()
                    return _raisable(failure.error)
                case Failure() as failure if self._on_error == "skip":
                    self._failures.append(failure)
                case Elsewhere() as elsewhere if self._on_error != "skip":
                    return iter((elsewhere,))
                case other if self._on_error == "return":
                    return iter((other,))
        return None

    def outcomes(self) -> Iterator[Outcome[Any]]:
        while True:
            try:
                outcome = self.next()
            except (Exception, KeyboardInterrupt) as error:
                hide_frames(error)
                raise
            if outcome is None:
                return
            if isinstance(outcome, Outcome):
                yield outcome
                continue
            run, others = outcome, len(outcome.values) - 1
            self._run, self._giving = run, (places := iter(range(len(run.values))))
            for place in places:
                seconds = run.last if place == others else run.seconds / others
                done = Done(run.values[place], run.computed)
                yield Outcome(run.index + place, run.items[place], done, (), seconds, run.worker)

    def drop_values(self) -> None:
        """Nobody will look at what is given from now on: who takes it goes on to the end."""
        if self._pump is not None:
            self._pump.wants_values = False

    def next(self) -> Outcome[Any] | Run | None:
        """What comes next, counted."""
        rest = self._rest()
        if rest is not None:
            return rest
        if self._pump is None:
            return None
        outcome = self._guarded(self._pump.next_outcome)
        if outcome is None:
            self.close()
            return None
        counts = self._counts
        values = len(outcome.values) if isinstance(outcome, Run) else isinstance(outcome.result, Done)
        if isinstance(outcome, Run) or values:
            self._counts = Counts(counts.values + values, counts.failures, counts.discarded, counts.elsewhere)
            return outcome
        self._counts = Counts(
            counts.values,
            counts.failures + (outcome.failure is not None),
            counts.discarded + (outcome.discarded is not None),
            counts.elsewhere + (outcome.elsewhere is not None),
        )
        if outcome.failure is not None:
            self._explain(outcome)
            if len(self._told) < MOST_TOLD:
                self._told.append(told(outcome.failure))
        return outcome

    def _rest(self) -> Run | None:
        """What is left of a run whose consumer goes on in another way; it is counted already."""
        run, self._run = self._run, None
        left = length_hint(self._giving)
        if run is None or not left:
            return None
        deque(self._giving, maxlen=0)
        done = len(run.values) - left
        seconds = run.seconds * (left - 1) / max(1, len(run.values) - 1)
        return replace(
            run, index=run.index + done, items=run.items[done:], values=run.values[done:], seconds=seconds
        )

    def close(self, kill: bool = False, wait: bool = True) -> None:
        self._counts = self.counts
        deque(self._giving, maxlen=0)  # the iterator that holds it gives no more
        self._run = None
        pump, self._pump = self._pump, None
        if pump is not None:
            self._ended = time.monotonic()
            pump.close(kill, wait)

    def __del__(self) -> None:
        pump = getattr(self, "_pump", None)
        if pump is None or sys.is_finalizing():
            return
        if not pump.finished or length_hint(self._giving):
            try:
                warnings.warn(
                    f"{self!r} was dropped unfinished; close it, or use it in a with block",
                    ResourceWarning,
                    stacklevel=2,
                    source=self,
                )
            finally:  # a warning may be an error
                self.close(wait=False)
        else:
            self.close(wait=False)

    def __repr__(self) -> str:
        total = "?" if self._total is None else self._total
        state = "ended" if self._pump is None else "running"
        return f"<Results of {self._name}: {self.counts.total} of {total} taken, {state}>"

    def html(self) -> str:
        state = "running" if self._pump is not None else "ended"
        seconds = (self._ended or time.monotonic()) - self._begun
        return results_table(self._name, state, self._total, self.counts, seconds, self._told)

    # -- inside -------------------------------------------------------------------------------------------

    def _guarded(self, step: Callable[[], U]) -> U:
        """Does a step of the pump, and ends the map with what it raises."""
        try:
            return step()
        except Halted as halted:
            failed = halted.failed
        except BaseException as error:
            # An interrupted user wants the cores back; an input that raised has nothing to do with what runs.
            self.close(kill=not isinstance(error, Exception))
            raise
        self.close()
        explain(failed.error, failed.traceback, f"in {self._name}")
        raise failed.error

    def _explain(self, outcome: Outcome[Any]) -> None:
        failure = outcome.failure
        assert failure is not None
        where = placed((self._naming or self._item)(failure), outcome.attempts, outcome.worker)
        explain(failure.error, failure.traceback, where, outcome.attempts)

    def _item(self, failure: Failure) -> str:
        return f"in {self._name}, item {failure.index}: {short_repr(failure.item)}"


def _raisable(error: BaseException) -> BaseException:
    """The error, or what stands for one that would end the loop over the results as if there were no more."""
    if not isinstance(error, StopIteration):
        return error
    stopped = RuntimeError("the function raised StopIteration")
    stopped.__cause__ = error
    return stopped

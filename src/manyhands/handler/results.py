"""What a map returns: a lazy iterator of values, with its outcomes, counts and failures."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from types import TracebackType
from typing import Any, Generic, NoReturn, Self, TypeVar

from manyhands.handler.pump import Halted, Pump
from manyhands.outcome import Counts, Done, Elsewhere, Failure, Outcome, add_note
from manyhands.policies.star import short_repr
from manyhands.settings import OnError

T = TypeVar("T")
U = TypeVar("U")


class RemoteTraceback(Exception):
    """The cause of an exception that came from a worker: shows the traceback as it was there."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __reduce__(self) -> tuple[type[RemoteTraceback], tuple[str]]:
        return (RemoteTraceback, (self.text,))

    def __str__(self) -> str:
        return f"\n\n{self.text.rstrip()}\n"


class Results(Generic[T]):
    """The results of one map, in the order of the input (``ordered=False``: as they finish).

    Iterate over it for values; or use, instead, one of ``outcomes()``, ``collect()`` and ``wait()``. All of
    them consume it. It holds at most ``buffersize`` items and results at any moment, and what it has given
    is forgotten. Use it in one thread at a time. Closing it, by ``close()`` or a ``with`` block, cancels
    what has not started; calls that run are finished in the background and forgotten. Dropping it
    unfinished does the same and emits a ResourceWarning.

    Attributes:
        failures: under ``on_error="skip"``, the failures met so far.
    """

    def __init__(self, pump: Pump, on_error: OnError, name: str, total: int | None) -> None:
        self._pump: Pump | None = pump
        self._on_error = on_error
        self._name = name
        self._total = total
        self._counts = Counts()
        self.failures: list[Failure] = []

    def start(self, items: int) -> None:
        """Draws up to ``items`` items and sends them; called once, by who made it."""
        if self._pump is not None:
            self._guarded(partial(self._pump.prime, items))

    # -- the ways to consume it -------------------------------------------------------------------------

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        while True:
            outcome = self._next_outcome()
            if outcome is None:
                raise StopIteration
            match outcome.result:
                case Done(value):
                    return value
                case Failure() as failure if self._on_error == "raise":
                    self.close()
                    _raise(failure.error)
                case Failure() as failure if self._on_error == "skip":
                    self.failures.append(failure)
                case Elsewhere() as elsewhere if self._on_error != "skip":
                    return elsewhere  # type: ignore[return-value]  # pyright: ignore[reportReturnType]
                case other if self._on_error == "return":
                    return other  # type: ignore[return-value]  # pyright: ignore[reportReturnType]

    def outcomes(self) -> Iterator[Outcome[T]]:
        """One outcome per item, whatever it came to; failures are not raised."""
        while (outcome := self._next_outcome()) is not None:
            yield outcome

    def collect(self) -> tuple[list[T], list[Failure]]:
        """All values and all failures, each in the order of the results; discarded items are in neither."""
        values: list[T] = []
        failures: list[Failure] = []
        for outcome in self.outcomes():
            if outcome.ok:
                values.append(outcome.value)
            elif outcome.failure is not None:
                failures.append(outcome.failure)
        return values, failures

    def wait(self) -> Counts:
        """Runs to the end, keeping nothing, and returns how many items came to what.

        Raises:
            Exception: the first error, under ``on_error="raise"``.
        """
        for outcome in self.outcomes():
            if outcome.failure is not None and self._on_error == "raise":
                self.close()
                _raise(outcome.failure.error)
        return self._counts

    # -- its state ----------------------------------------------------------------------------------------

    @property
    def counts(self) -> Counts:
        """How many of the items taken so far came to what."""
        return self._counts

    def close(self) -> None:
        """Ends the map; may be called more than once."""
        self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        pump = getattr(self, "_pump", None)
        if pump is None or sys.is_finalizing():
            return
        if not pump.stream.finished:
            try:
                warnings.warn(
                    f"{self!r} was dropped unfinished; close it, or use it in a with block",
                    ResourceWarning,
                    stacklevel=2,
                    source=self,
                )
            finally:  # a warning may be an error
                self._close(wait=False)
        else:
            self._close(wait=False)

    def __repr__(self) -> str:
        total = "?" if self._total is None else self._total
        state = "ended" if self._pump is None else "running"
        return f"<Results of {self._name}: {self._counts.total} of {total} taken, {state}>"

    # -- inside -------------------------------------------------------------------------------------------

    def _next_outcome(self) -> Outcome[T] | None:
        if self._pump is None:
            return None
        outcome = self._guarded(self._pump.next_outcome)
        if outcome is None:
            self.close()
            return None
        self._count(outcome)
        if outcome.failure is not None:
            self._explain(outcome)
        return outcome

    def _guarded(self, step: Callable[[], U]) -> U:
        """Does a step of the pump, and ends the map with what it raises."""
        try:
            return step()
        except Halted as halted:
            self.close()
            error = halted.failed.error
            explain(error, halted.failed.traceback, f"in {self._name}")
            raise error from error.__cause__
        except BaseException as error:
            # An interrupted user wants the cores back; an input that raised has nothing to do with what runs.
            self._close(kill=not isinstance(error, Exception))
            raise

    def _count(self, outcome: Outcome[Any]) -> None:
        counts = self._counts
        self._counts = Counts(
            counts.values + outcome.ok,
            counts.failures + (outcome.failure is not None),
            counts.discarded + (outcome.discarded is not None),
            counts.elsewhere + (outcome.elsewhere is not None),
        )

    def _explain(self, outcome: Outcome[Any]) -> None:
        failure = outcome.failure
        assert failure is not None
        where = f"in {self._name}, item {failure.index}: {short_repr(failure.item)}"
        if len(outcome.attempts) > 1:
            where += f", after {len(outcome.attempts)} attempts"
        if outcome.worker:
            where += f", in worker {outcome.worker}"
        explain(failure.error, failure.traceback, where)

    def _close(self, kill: bool = False, wait: bool = True) -> None:
        pump, self._pump = self._pump, None
        if pump is not None:
            pump.close(kill, wait)


def explain(error: BaseException, traceback: str, where: str) -> None:
    """Gives an error the traceback it had in its worker as its cause, and a note that says where it was."""
    if error.__traceback__ is None and traceback and error.__cause__ is None:
        try:
            error.__cause__ = RemoteTraceback(traceback)
        except Exception:  # a frozen dataclass, say
            add_note(error, traceback)
    add_note(error, where)


def _raise(error: BaseException) -> NoReturn:
    try:
        raise error
    except StopIteration as stopped:  # would end the loop over the results as if there were no more
        raise RuntimeError("the function raised StopIteration") from stopped

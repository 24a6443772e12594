"""What a call comes to: the events that a runner reports, and the outcome that a user sees.

An outcome is final: every item of a map ends as exactly one. What kind it is of is told by the wrapper's type, never by
what is inside, so no value of the user's can be mistaken for a failure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar, cast

from manyhands.calls import Answer, Done, add_note, short_repr
from manyhands.traces import users_frames

if TYPE_CHECKING:
    from manyhands.errors import TaskTimeout, WorkerDied

T_co = TypeVar("T_co", covariant=True)


# -- what a runner reports ------------------------------------------------------------------------------------


class Answered(NamedTuple):
    """The call with this ticket was answered after ``seconds`` in ``worker``.

    It ended at ``at`` by ``time.perf_counter``, which is the same clock for all processes of a machine; 0: unknown.
    """

    ticket: int
    answer: Answer
    seconds: float = 0.0
    worker: str = ""
    at: float = 0.0


class Returned(NamedTuple):
    """Consecutive items of a block, from ``ticket`` on, returned values; see ``Run`` for the seconds.

    The last ended at ``at``, as in ``Answered``.
    """

    ticket: int
    values: list[Any]
    seconds: float
    last: float
    worker: str
    at: float = 0.0


class Died(NamedTuple):
    """The worker that ran the call with this ticket ended, or was ended, without an answer."""

    ticket: int
    error: WorkerDied | TaskTimeout
    worker: str = ""


class Cancelled(NamedTuple):
    """The call with this ticket was cancelled before it started."""

    ticket: int


class Held(NamedTuple):
    """An item as it was when it was drawn.

    Attributes:
        packed: the runner's own.
        large: whether it takes much memory until it is sent.
    """

    packed: Any
    large: bool


Event = Answered | Returned | Died | Cancelled


# -- what it came to ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Attempt:
    """One failed attempt.

    Attributes:
        type_name: of the exception, qualified.
        text: of the exception.
        seconds: wall time that it took; if its worker ended, as seen from outside: see ``WorkerDied.seconds``.
        worker: where it ran.
    """

    type_name: str
    text: str
    seconds: float = 0.0
    worker: str = ""


@dataclass(frozen=True, slots=True)
class Failure:
    """A call that failed: for good, where it stands in its item's place under ``on_error="return"``, or not yet.

    Attributes:
        error: the exception, with notes that name the item and the call.
        index: the item's position in the input, from 0.
        item: the item as it was given.
        traceback: text of the traceback where it was raised.
        attempts: all that failed, this one included.
        worker: where it ran; "" if it was not sent.
        arguments: what the last attempt was for: the item or, after ``Retry(arguments)``, what stands there.
    """

    error: BaseException
    index: int
    item: Any
    traceback: str = ""
    attempts: tuple[Attempt, ...] = field(default=(), compare=False, repr=False)
    worker: str = field(default="", compare=False, repr=False)
    arguments: Any = field(default=None, compare=False, repr=False)

    @property
    def attempt(self) -> int:
        """The number of the attempt, from 1; 0 if there was none."""
        return len(self.attempts)

    def __repr__(self) -> str:
        more = [f"attempt={self.attempt}"] * (self.attempt > 1) + [f"worker={self.worker!r}"] * bool(
            self.worker
        )
        own = [f"index={self.index}", f"item={short_repr(self.item)}", short_repr(self.error), *more]
        return f"Failure({', '.join(own)})"


@dataclass(frozen=True, slots=True)
class Discarded:
    """An item that ``@validated`` sorted out; stands in its place under ``on_error="return"``."""

    reason: str
    index: int
    item: Any

    def __repr__(self) -> str:
        return f"Discarded(index={self.index}, item={short_repr(self.item)}, reason={short_repr(self.reason)})"


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """An item that another process was computing when this map ended (``wait=False``)."""

    path: str
    index: int
    item: Any

    def __repr__(self) -> str:
        return f"Elsewhere(index={self.index}, item={short_repr(self.item)}, path={self.path!r})"


class NoValue(ValueError):
    """The outcome has no value."""


@dataclass(frozen=True, slots=True)
class Outcome(Generic[T_co]):
    """What one item of a map came to: a value, a failure, discarded, or elsewhere.

    Attributes:
        index: the item's position in the input, from 0.
        item: the item as it was given.
        result: ``Done(value)``, ``Failure``, ``Discarded`` or ``Elsewhere``.
        attempts: the failed attempts, first to last; a success on the first call has none.
        seconds: wall time of the last attempt in its worker; 0 if nothing had to run.
        worker: name of the process that ran it, ``"<host>:<pid>"``; empty if nothing had to run.
    """

    index: int
    item: Any
    result: Done[T_co] | Failure | Discarded | Elsewhere
    attempts: tuple[Attempt, ...] = ()
    seconds: float = 0.0
    worker: str = ""

    def __repr__(self) -> str:
        own = [f"index={self.index}", f"item={short_repr(self.item)}"]
        match self.result:
            case Done(value):
                own.append(f"value={short_repr(value)}")
            case Failure() as failure:
                own.append(f"failure={short_repr(failure.error)}")
            case Discarded() as discarded:
                own.append(f"discarded={short_repr(discarded.reason)}")
            case elsewhere:
                own.append(f"elsewhere={elsewhere.path!r}")
        own += [f"attempts={len(self.attempts)} failed"] * bool(self.attempts)
        own += [f"worker={self.worker!r}"] * bool(self.worker)
        return f"Outcome({', '.join(own)})"

    @property
    def ok(self) -> bool:
        """Whether there is a value."""
        return isinstance(self.result, Done)

    @property
    def value(self) -> T_co:
        """The value; raises ``NoValue`` if the outcome is of another kind."""
        if isinstance(self.result, Done):
            return cast("T_co", self.result.value)
        raise NoValue(f"outcome {self.index} has no value: {self.result!r}")

    @property
    def failure(self) -> Failure | None:
        """The failure, or None."""
        return self.result if isinstance(self.result, Failure) else None

    @property
    def discarded(self) -> Discarded | None:
        """Why the item was discarded, or None."""
        return self.result if isinstance(self.result, Discarded) else None

    @property
    def elsewhere(self) -> Elsewhere | None:
        """Which output another process holds, or None."""
        return self.result if isinstance(self.result, Elsewhere) else None


@dataclass(frozen=True, slots=True)
class Counts:
    """How many items of a map came to what; ``total`` is their sum."""

    values: int = 0
    failures: int = 0
    discarded: int = 0
    elsewhere: int = 0

    @property
    def total(self) -> int:
        """All items that have ended."""
        return self.values + self.failures + self.discarded + self.elsewhere


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a map has come: what a function given as ``progress=`` is called with.

    Attributes:
        total: how many items there are; None: nobody knows.
        values: items that have a value.
        failures: items that have failed for good.
        discarded: items that ``@validated`` sorted out.
        elsewhere: items of claimed outputs that others have done, or that were left to them.
        claimed: items that others are computing at the moment; they are not done.
        retries: attempts that failed and were, or are, repeated.
        seconds: since the map began.
        ended: whether the map has ended, which is told once, last.
    """

    total: int | None
    values: int = 0
    failures: int = 0
    discarded: int = 0
    elsewhere: int = 0
    claimed: int = 0
    retries: int = 0
    seconds: float = 0.0
    ended: bool = False

    @property
    def done(self) -> int:
        """All items that have ended."""
        return self.values + self.failures + self.discarded + self.elsewhere

    @property
    def rate(self) -> float:
        """Items per second that ended here, since the map began; 0 if none has."""
        here = self.done - self.elsewhere
        return here / self.seconds if here and self.seconds > 0 else 0.0

    @property
    def left(self) -> float | None:
        """Seconds to go, at this rate and without the help of others; None as long as that can't be told."""
        if self.total is None:
            return None
        items = max(0, self.total - self.done)
        return items / self.rate if items and self.rate else None if items else 0.0


class RemoteTraceback(Exception):
    """The cause of an exception of which only the text of its traceback is known: one that was recorded, say."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __reduce__(self) -> tuple[type[RemoteTraceback], tuple[str]]:
        return (RemoteTraceback, (self.text,))

    def __str__(self) -> str:
        return f"\n\n{self.text.rstrip()}\n"


_MOST_NOTES = 3


def explain(error: BaseException, traceback: str, where: str, attempts: Sequence[Attempt] = ()) -> None:
    """Prepares an error to be shown: with the user's frames, the attempts before the last, and a line that says where.

    Args:
        error: is changed.
        traceback: as text, for one that has none of its own.
        where: which item of which call it was, and who ran it.
        attempts: all that failed, the last included.
    """
    if error.__traceback__ is not None:
        error.with_traceback(users_frames(error.__traceback__))
    elif traceback and error.__cause__ is None:
        BaseException.__setattr__(error, "__cause__", RemoteTraceback(traceback))
    earlier = attempts[:-1]
    if len(earlier) > _MOST_NOTES:
        add_note(error, f"({len(earlier) - _MOST_NOTES} earlier attempts)")
    for number, attempt in list(enumerate(earlier, 1))[-_MOST_NOTES:]:
        known = [f"after {attempt.seconds:.3g} s"] * (attempt.seconds > 0)
        known += [f"in worker {attempt.worker}"] * bool(attempt.worker)
        how = f" ({' '.join(known)})" if known else ""
        add_note(error, f"attempt {number}: {attempt.type_name}: {_first_line(attempt.text)}{how}")
    add_note(error, where)


def _first_line(text: str) -> str:
    line, _, more = text.partition("\n")
    return f"{line[:200]}…" if more or len(line) > 200 else line


def placed(where: str, attempts: Sequence[Attempt], worker: str) -> str:
    """The line that says where an error was: ``in f, item 2: 'a', attempt 3, worker host:4242``."""
    tried = f", attempt {len(attempts)}" if len(attempts) > 1 else ""
    return f"{where}{tried}" + (f", worker {worker}" if worker else "")

"""What a call comes to: the answer of whoever ran it, and the outcome that a user sees.

An *answer* tells the stream what one attempt came to. An *outcome* is final: every item of a map ends as
exactly one. Both are plain values, so no value of the user's can be mistaken for one of them: they are
told apart by the wrapper's type, never by what is inside.
"""

from __future__ import annotations

import traceback as _traceback
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from manyhands.errors import TaskTimeout, WorkerDied

T_co = TypeVar("T_co", covariant=True)


# -- what may be asked ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Call:
    """The arguments of one attempt, and what an earlier ``Later`` asked to be told again.

    Attributes:
        args: positional arguments.
        kwargs: keyword arguments.
        memo: the ``memo`` of the last ``Later`` of this item, or what the gate gave at its entry.
    """

    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    memo: Any = None

    def __reduce__(self) -> tuple[Any, ...]:
        return Call, (self.args, self.kwargs, self.memo)  # half the time of what dataclasses do


# -- how it may be answered ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Attempt:
    """One failed attempt: the exception's qualified type name and text, seconds it took, where it ran."""

    type_name: str
    text: str
    seconds: float = 0.0
    worker: str = ""


@dataclass(frozen=True, slots=True)
class Done(Generic[T_co]):
    """The call returned, and its result is valid and, if claimed, published.

    Attributes:
        value: what it returned.
        computed: False if the result was there already, or was computed by another process.
    """

    value: T_co
    computed: bool = True

    def __reduce__(self) -> tuple[Any, ...]:
        return Done, (self.value, self.computed)


@dataclass(frozen=True, slots=True)
class Failed:
    """The attempt raised.

    Attributes:
        error: the exception.
        traceback: its traceback as text, so that it survives the way between processes.
        budget: which of the task's retry budgets it counts against; None: it is not retried.
        discard: when no attempt is left, the item is discarded rather than failed.
        halts: the fault is not the item's (a full disk): the map raises it, whatever ``on_error`` says.
    """

    error: BaseException
    traceback: str = ""
    budget: int | None = None
    discard: bool = False
    halts: bool = False


@dataclass(frozen=True, slots=True)
class Later:
    """Nothing was decided; ask again.

    Attributes:
        wait: seconds to wait; None leaves it to the gate.
        memo: goes into the next ``Call`` of this item.
        failed: the attempt that failed and is to be repeated, or None when another process is at it.
        where: names the output that is claimed elsewhere, for ``Elsewhere``.
    """

    wait: float | None = None
    memo: Any = None
    failed: Failed | None = None
    where: str = ""


Answer = Done[Any] | Failed | Later


# -- what a runner reports ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Answered:
    """The call with this ticket was answered after ``seconds`` in ``worker``."""

    ticket: int
    answer: Answer
    seconds: float = 0.0
    worker: str = ""


@dataclass(frozen=True, slots=True)
class Returned:
    """Consecutive items of a block, from ``ticket`` on, returned values; see ``Run`` for the seconds."""

    ticket: int
    values: list[Any]
    seconds: float
    last: float
    worker: str


@dataclass(frozen=True, slots=True)
class Died:
    """The worker that ran the call with this ticket ended, or was ended, without an answer."""

    ticket: int
    error: WorkerDied | TaskTimeout
    worker: str = ""


@dataclass(frozen=True, slots=True)
class Cancelled:
    """The call with this ticket was cancelled before it started."""

    ticket: int


Event = Answered | Returned | Died | Cancelled


# -- what it came to ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Failure:
    """A call that failed for good; stands in its item's place under ``on_error="return"``.

    Attributes:
        error: the exception, with notes that name the item and the call.
        index: the item's position in the input, from 0.
        item: the item as it was given.
        traceback: text of the traceback where it was raised.
    """

    error: BaseException
    index: int
    item: Any
    traceback: str = ""


@dataclass(frozen=True, slots=True)
class Discarded:
    """An item that ``@validated`` sorted out; stands in its place under ``on_error="return"``."""

    reason: str
    index: int
    item: Any


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """An item that another process was computing when this map ended (``wait=False``)."""

    path: str
    index: int
    item: Any


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

    @property
    def ok(self) -> bool:
        """Whether there is a value."""
        return isinstance(self.result, Done)

    @property
    def value(self) -> T_co:
        """The value; raises ``NoValue`` if the outcome is of another kind."""
        if isinstance(self.result, Done):
            return self.result.value
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


def qualified_name(cls: type[Any]) -> str:
    """``module.QualName`` of a type, without the module for builtins."""
    return cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"


def error_text(error: BaseException) -> str:
    """``str(error)``, that never raises."""
    try:
        return str(error)
    except (Exception, SystemExit):  # a user's __str__ may do anything
        return "(its text can't be shown)"


_OURS = tuple(f"manyhands.{room}." for room in ("workers", "decorators", "handler", "controller", "policies"))


def traceback_text(error: BaseException) -> str:
    """The traceback of ``error`` as text, from the user's first frame on."""
    frames = error.__traceback__
    while (
        frames is not None
        and frames.tb_next is not None
        and str(frames.tb_frame.f_globals.get("__name__")).startswith(_OURS)
    ):
        frames = frames.tb_next
    try:
        return "".join(_traceback.format_exception(type(error), error, frames))
    except (Exception, SystemExit):  # a user's exception may do anything when it is looked at
        return f"{qualified_name(type(error))}: {error_text(error)}\n"


def add_note(error: BaseException, note: str) -> None:
    """Adds a note where the exception lets itself be changed."""
    try:
        error.add_note(note)
    except Exception:  # noqa: S110  # a frozen dataclass, say: the error matters, not the note
        pass


class RemoteTraceback(Exception):
    """The cause of an exception that came from a worker: shows the traceback as it was there."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __reduce__(self) -> tuple[type[RemoteTraceback], tuple[str]]:
        return (RemoteTraceback, (self.text,))

    def __str__(self) -> str:
        return f"\n\n{self.text.rstrip()}\n"


def explain(error: BaseException, traceback: str, where: str) -> None:
    """Gives an error the traceback it had in its worker as its cause, and a note that says where it was."""
    if error.__traceback__ is None and traceback and error.__cause__ is None:
        try:
            error.__cause__ = RemoteTraceback(traceback)
        except Exception:  # a frozen dataclass, say
            add_note(error, traceback)
    add_note(error, where)

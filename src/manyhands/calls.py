"""What a worker is asked, and how it may answer.

An answer tells the stream what one attempt came to. These are types, and a value of the user's is always inside one:
so none can be mistaken for an answer. They are named tuples because a worker makes them when it starts, and there every
millisecond is waited for; nobody treats them as tuples.
"""

from __future__ import annotations

import reprlib
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

if TYPE_CHECKING:
    from manyhands.traces import Trace

T_co = TypeVar("T_co", covariant=True)


class Call(NamedTuple):
    """The arguments of one attempt, and what an earlier ``Later`` asked to be told again.

    Attributes:
        args: positional arguments.
        kwargs: keyword arguments; never changed.
        memo: the ``memo`` of the last ``Later`` of this item, or what the gate gave at its entry.
    """

    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = {}  # noqa: RUF012
    memo: Any = None

    def __reduce__(self) -> tuple[Any, ...]:
        return Call, (self.args, self.kwargs, self.memo)


class Done(NamedTuple, Generic[T_co]):
    """The call returned, and its result is valid and, if claimed, published.

    Attributes:
        value: what it returned.
        computed: False if the result was there already, or was computed by another process.
    """

    value: T_co
    computed: bool = True

    def __reduce__(self) -> tuple[Any, ...]:
        return Done, (self.value, self.computed)


class Failed(NamedTuple):
    """The attempt raised.

    Attributes:
        error: the exception.
        traceback: its traceback as text, so that it survives the way between processes.
        budget: which of the task's retry budgets it counts against; None: it is not retried.
        discard: when no attempt is left, the item is discarded rather than failed.
        halts: the fault is not the item's (a full disk): the map raises it, whatever ``on_error`` says.
        trace: what the exception loses on its way, and gets back at its end.
    """

    error: BaseException
    traceback: str = ""
    budget: int | None = None
    discard: bool = False
    halts: bool = False
    trace: Trace | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return _failed, tuple(self)


def _failed(error: BaseException, *fields: Any) -> Failed:
    failed = Failed(error, *fields)
    if failed.trace is None:
        return failed
    from manyhands.traces import restore  # a worker that starts needs none

    restore(error, failed.trace)
    return failed._replace(trace=None)


class Later(NamedTuple):
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


def qualified_name(cls: type[Any]) -> str:
    """``module.QualName`` of a type, without the module for builtins."""
    return cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"


def error_text(error: BaseException) -> str:
    """``str(error)``, that never raises."""
    try:
        return str(error)
    except (Exception, SystemExit):  # a user's __str__ may do anything
        return "(its text can't be shown)"


_short = reprlib.Repr()
_short.maxstring = _short.maxother = 80
_short.maxlevel = 3


def short_repr(value: object) -> str:
    """``repr(value)`` cut to about 80 characters, that never raises."""
    try:
        text = _short.repr(value)
    except (Exception, SystemExit) as error:  # a user's __repr__ may do anything
        return f"<{type(value).__qualname__} whose repr raises {type(error).__qualname__}>"
    if "\n" in text:
        text = " ".join(text.split())
    return text if len(text) <= 90 else f"{text[:60]}...{text[-20:]}"


def traceback_text(error: BaseException) -> str:
    """The traceback of ``error`` as text, without our frames before those of the user's."""
    import traceback  # a worker that starts needs none

    from manyhands.traces import users_frames

    try:
        return "".join(traceback.format_exception(type(error), error, users_frames(error.__traceback__)))
    except (Exception, SystemExit):  # a user's exception may do anything when it is looked at
        return f"{qualified_name(type(error))}: {error_text(error)}\n"


def add_note(error: BaseException, note: str) -> None:
    """Adds a note, also where the exception does not let itself be changed: a frozen dataclass, say."""
    try:
        error.add_note(note)
    except Exception:
        notes = getattr(error, "__notes__", ())
        BaseException.__setattr__(error, "__notes__", [*(notes if isinstance(notes, list) else ()), note])

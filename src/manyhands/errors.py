"""Every error that manyhands raises of its own, on one screen.

Errors of the user's functions are raised as they are, with notes that say which item failed.
All errors here survive pickling with their fields and notes; a cause does not, as with all exceptions of
Python, but a map shows it in the traceback of the worker.
"""

from __future__ import annotations

from concurrent.futures import BrokenExecutor
from typing import Any


def _rebuild(cls: type[ManyhandsError], args: tuple[Any, ...], fields: dict[str, Any]) -> Any:
    error = cls.__new__(cls, *args)
    error.__dict__.update(fields)
    return error


class ManyhandsError(Exception):
    """The base of all errors of this library."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild, (type(self), self.args, self.__dict__))


class ItemError(ManyhandsError, TypeError):
    """An item does not fit the star rule of its map, or the function's parameters."""


class InvalidArguments(ManyhandsError, ValueError):
    """The arguments did not pass ``@validated``.

    Attributes:
        errors: where annotations were checked, what is wrong: dictionaries with the "type", "loc" and "msg" that
            pydantic gives, ``loc`` beginning with the parameter's name; the first twenty of them.
    """

    errors: tuple[dict[str, Any], ...] = ()


class InvalidResult(ManyhandsError, ValueError):
    """The result did not pass ``@validated``.

    Attributes:
        errors: as those of ``InvalidArguments``; ``loc`` leads into the value.
    """

    errors: tuple[dict[str, Any], ...] = ()


class TemplateError(ManyhandsError, ValueError):
    """A template of ``@claimed_output`` can't be filled, or its path leaves the template's directory."""


class DuplicateOutput(ManyhandsError, ValueError):
    """Two items of one map would write the same output."""


class FingerprintMismatch(ManyhandsError, RuntimeError):
    """Outputs of ``@claimed_output`` are there that were computed with another ``fingerprint``."""


class OutputMissing(ManyhandsError, RuntimeError):
    """The function returned without having written its output."""


class OutputDirectoryError(ManyhandsError, OSError):
    """The directory of an output can't be made or written, or its disk is full."""

    def __reduce__(self) -> tuple[Any, ...]:
        # An OSError keeps its file's name beside its arguments.
        args = self.args if self.filename is None else (*self.args, self.filename)
        return (_rebuild, (type(self), args, self.__dict__))


class ClaimedElsewhere(ManyhandsError):
    """Another process holds the claim, and ``wait=False`` says not to wait for it."""


class FailedElsewhere(ManyhandsError):
    """Another process computed this output and failed; what it recorded is in the message.

    Attributes:
        type_name: the qualified name of the exception that was recorded.
        traceback: the text of its traceback, or ``""``.
    """

    type_name: str = ""
    traceback: str = ""


class RemoteError(ManyhandsError):
    """Stands for an exception of a worker that can't be pickled: its type's name and text.

    Attributes:
        type_name: the qualified name of the original exception's type.
    """

    type_name: str = ""


class _Ended(ManyhandsError):
    """What errors about items that were ended say of them.

    Attributes:
        index: the item's position in the input, from 0; None for a single call.
        item: the item, or None; it stays in this process, since not every item can be pickled.
        pid: the process id of the worker that ran it.
        seconds: for how long it ran, within some hundredths, as seen from outside; in another executor, since it was
            handed to that. 0 if unknown.
    """

    index: int | None = None
    item: Any = None
    pid: int = 0
    seconds: float = 0.0

    def __reduce__(self) -> tuple[Any, ...]:
        fields = {name: value for name, value in self.__dict__.items() if name != "item"}
        return (_rebuild, (type(self), self.args, fields))


class WorkerDied(_Ended):
    """The worker process that ran the item ended before it answered.

    Attributes:
        index, item, pid, seconds: the item, the worker it was in, and for how long.
        exitcode: its exit status, or minus the number of the signal that ended it; None if unknown.
    """

    exitcode: int | None = None


class TaskTimeout(_Ended, TimeoutError):
    """The item ran for longer than ``timeout``, so it was ended with its worker.

    Attributes:
        index, item, pid, seconds: the item, the worker it was in, and for how long.
        timeout: the limit, in seconds.
    """

    timeout: float = 0.0


class PoolBroken(ManyhandsError, BrokenExecutor):
    """Workers can't be started, so the pool has given up."""


class PoolClosed(ManyhandsError, RuntimeError):
    """The pool has been closed; it takes no more work."""

"""Every error that manyhands raises of its own, on one screen.

Errors of the user's functions are raised as they are, with a note that says which item failed.
All errors here survive pickling with their fields and notes; a cause does not, as with all exceptions of
Python, but what comes from a worker brings it along.
"""

from __future__ import annotations

from concurrent.futures import BrokenExecutor
from typing import Any


def _rebuild(cls: type[ManyhandsError], args: tuple[Any, ...], fields: dict[str, Any]) -> Any:
    error = cls.__new__(cls, *args)
    error.__dict__.update(fields)
    return error


class ManyhandsError(Exception):
    """The base of all errors of this library.

    Cure: each class below says its own; docs/errors.md says more.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild, (type(self), self.args, self.__dict__))


class ItemError(ManyhandsError, TypeError):
    """An item does not fit the star rule of its map, or the function's parameters.

    Cure: mend the item, or choose another ``star``, ``kwstar``, ``args`` or ``kwargs``.
    """


class InvalidArguments(ManyhandsError, ValueError):
    """The arguments did not pass ``@validated``.

    Attributes:
        errors: where annotations were checked, what is wrong: dictionaries with the "type", "loc" and "msg" that
            pydantic gives, ``loc`` beginning with the parameter's name; the first twenty of them.

    Cure: call it with what it is for, or have maps leave such items out: ``invalid="discard"``.
    """

    errors: tuple[dict[str, Any], ...] = ()


class InvalidResult(ManyhandsError, ValueError):
    """The result did not pass ``@validated``.

    Attributes:
        errors: as those of ``InvalidArguments``; ``loc`` leads into the value.

    Cure: look at the function, or at the predicate; ``@retry_on(InvalidResult)`` tries again.
    """

    errors: tuple[dict[str, Any], ...] = ()


class TemplateError(ManyhandsError, ValueError):
    """A template of ``@claimed_output`` can't be filled, or its path leaves the template's directory.

    Cure: use the function's parameters, their attributes or items as fields: ``"{image.stem}.csv"``.
    """


class DuplicateOutput(ManyhandsError, ValueError):
    """Two items of one map would write the same output.

    Cure: add to the template what differs between them.
    """


class FingerprintMismatch(ManyhandsError, RuntimeError):
    """Outputs of ``@claimed_output`` are there that were computed with another ``fingerprint``.

    Cure: use another directory, go back to the old parameters, or call the function's ``claims.recompute(items)``.
    """


class OutputMissing(ManyhandsError, RuntimeError):
    """The function returned without having written its output.

    Cure: write to the very path that it gets, on every way out; or return the value, and give ``save``.
    """


class OutputDirectoryError(ManyhandsError, OSError):
    """The directory of an output can't be made or written, or its disk is full.

    Cure: mend the path, its permissions or the disk, and start again: what is finished is not computed twice.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        # An OSError keeps its file's name beside its arguments.
        args = self.args if self.filename is None else (*self.args, self.filename)
        return (_rebuild, (type(self), args, self.__dict__))


class ClaimedElsewhere(ManyhandsError):
    """Another process holds the claim, and ``wait=False`` says not to wait for it.

    Cure: come back later, or leave out ``wait=False``.
    """


class FailedElsewhere(ManyhandsError):
    """Another process computed this output and failed; what it recorded is in the message.

    Attributes:
        type_name: the qualified name of the exception that was recorded.
        traceback: the text of its traceback, or ``""``.

    Cure: mend the cause and start again, with ``failed="retry"``, which is the default.
    """

    type_name: str = ""
    traceback: str = ""


class RemoteError(ManyhandsError):
    """Stands for an exception of a worker that can't be pickled: its type's name and text.

    Attributes:
        type_name: the qualified name of the original exception's type.

    Cure: give the exception a ``__reduce__``, or pass all its arguments on to ``super().__init__``.
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

    Cure: fewer ``workers`` where memory is short; ``python -X faulthandler`` shows where C code crashes;
    ``@retry_on(WorkerDied)`` tries again.
    """

    exitcode: int | None = None


class TaskTimeout(_Ended, TimeoutError):
    """The item ran for longer than ``timeout``, so it was ended with its worker.

    Attributes:
        index, item, pid, seconds: the item, the worker it was in, and for how long.
        timeout: the limit, in seconds.

    Cure: give it more time, or look where it hangs; ``@retry_on(TaskTimeout)`` tries again.
    """

    timeout: float = 0.0


class PoolBroken(ManyhandsError, BrokenExecutor):
    """Workers can't be started, so the pool has given up.

    Cure: mend ``initializer``, or what ends processes as they start: too little memory, or a script without
    ``if __name__ == "__main__":``.
    """


class PoolClosed(ManyhandsError, RuntimeError):
    """The pool has been closed; it takes no more work.

    Cure: keep within its ``with`` block until all results were taken, or make another one.
    """

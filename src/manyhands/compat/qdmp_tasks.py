"""What the handlers of qdmp hand out: exceptions with the arguments they are about, tasks, states of processes."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any, NamedTuple, Protocol, Self

from manyhands.calls import short_repr


class PoolFutureException(Exception):
    """A task of a pool handler that failed.

    Attributes:
        arguments: those of the task.
        exception: what the target raised, or what became of its worker.
    """

    def __init__(self, arguments: Any, exception: BaseException | None = None) -> None:
        super().__init__(arguments, exception)  # which is what it is pickled by
        self.arguments = arguments
        self.exception = exception
        self.__cause__ = exception if isinstance(exception, BaseException) else None

    def __str__(self) -> str:
        return _told(self.arguments, self.exception)


class ProcessingException(Exception):
    """A task of a ``ProcessHandler`` that failed.

    Attributes:
        exception: what the target raised, or what became of its worker.
        traceback: the text of the traceback in the worker; "" if there is none.
        arguments: those of the task.
    """

    def __init__(self, exception: BaseException | None, traceback: str | None, arguments: Any) -> None:
        super().__init__(exception, traceback, arguments)
        self.exception = exception
        self.traceback = traceback
        self.arguments = arguments
        self.__cause__ = exception if isinstance(exception, BaseException) else None

    def __str__(self) -> str:
        return _told(self.arguments, self.exception)


def _told(arguments: Any, exception: object) -> str:
    what = (
        f"{type(exception).__name__}: {exception}" if isinstance(exception, BaseException) else str(exception)
    )
    return f"{what} (with the arguments {short_repr(arguments)})"


class PoolFuture:
    """A task that was added, until it has ended.

    Attributes:
        arguments: those of the task.
        index: how many were added before it.
        future: what it comes to; None as long as nobody can tell.
        is_cancelled: somebody has asked for its end.
    """

    def __init__(self, arguments: Any, index: int) -> None:
        self.arguments = arguments
        self.index = index
        self.future: Future[Any] | None = None
        self.is_cancelled = False

    def done(self) -> bool:
        """Whether it has ended."""
        return self.future is not None and self.future.done()

    def running(self) -> bool:
        """Whether a worker has it."""
        return self.future is not None and self.future.running()

    def cancelled(self) -> bool:
        """Whether ``cancel_processes`` or ``stop`` was asked to end it, and it had not ended before."""
        return self.is_cancelled

    def __repr__(self) -> str:
        state = "ended" if self.done() else "running" if self.running() else "waiting"
        return f"<PoolFuture {self.index}: {short_repr(self.arguments)}, {state}>"


class Backend(Protocol):
    """Who runs tasks."""

    workers: int

    def put(self, task: PoolFuture) -> None:
        """Takes a task; raises PoolClosed if it takes no more."""
        ...

    def running(self) -> dict[PoolFuture, float]:
        """What runs, and for how many seconds."""
        ...

    def cancel(self, task: PoolFuture) -> None:
        """Ends a task, as far as it can."""
        ...

    def close(self, patience: float | None) -> None:
        """Ends all workers, after so many seconds with what they run; None: when all that was put in has ended."""
        ...


class FrozenChild(int):
    """The ``worker_id`` of a process that has been at something for too long.

    Attributes:
        task: what it is at; None: its set-up.
    """

    task: PoolFuture | None

    def __new__(cls, worker_id: int, task: PoolFuture | None) -> Self:
        """The number, which knows the task."""
        child = super().__new__(cls, worker_id)
        child.task = task
        return child

    @property
    def arguments(self) -> Any:
        """Those of the task."""
        return None if self.task is None else self.task.arguments


class ProcessStates(NamedTuple):
    """How the processes of a ``ProcessHandler`` are.

    Attributes:
        error: at least one has ended with an exit code that is not 0.
        all_error: all have.
        exited: at least one has ended.
        all_exited: all have.
        exit_codes: for each; None: it runs, or is about to. Minus the number of the signal that ended it.
    """

    error: bool
    all_error: bool
    exited: bool
    all_exited: bool
    exit_codes: list[int | None]

    @property
    def running(self) -> list[bool]:
        """For each, whether it runs or is about to."""
        return [code is None for code in self.exit_codes]


def states_of(exit_codes: list[int | None]) -> ProcessStates:
    """What these exit codes say."""
    exited = [code is not None for code in exit_codes]
    failed = [bool(code) for code in exit_codes]
    return ProcessStates(any(failed), all(failed), any(exited), all(exited), exit_codes)

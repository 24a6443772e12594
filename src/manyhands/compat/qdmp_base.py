"""What all handlers of qdmp have in common: tasks come in, and each ends as one result, one error, or discarded."""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
import weakref
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import CancelledError
from operator import itemgetter
from types import TracebackType
from typing import Any, NamedTuple, Self, cast

from manyhands.calls import add_note, short_repr
from manyhands.compat.checks import a_function, whole_number
from manyhands.compat.qdmp_checks import either, function_or_none, logger_for, seconds_of
from manyhands.compat.qdmp_tasks import Backend, FrozenChild, PoolFuture
from manyhands.errors import PoolClosed, WorkerDied
from manyhands.policies.parameters import name_of
from manyhands.settings import resolve_workers
from manyhands.shutdown import at_end, ends_by_error
from manyhands.waiting import wait_for


class _Outcome(NamedTuple):
    number: int  # of its task, which is not told of otherwise
    is_error: bool
    value: Any


class BaseHandler(ABC):
    """A handler, less what runs its tasks.

    Args:
        target_fn: what is called with the arguments of each task.
        validate_args_fn: is asked about the arguments before a task is added; False: they are discarded.
        validate_result_fn: is asked about each result; False: it is discarded.
        handle_error_fn: is asked about each failure, and answers ``(enqueue, new_arguments, exception)``: another
            task in place of the one that failed, or the exception to be told of.
        debug: log everything; the target of a ``ProcessHandler`` gets it, too.
        console_level: write messages from this level on to the console; None: only with ``debug``.
        logging_name: of the logger; None: "manyhands.qdmp" and the name of the class.

    Raises:
        TypeError: one of the functions is none.
    """

    def __init__(
        self,
        target_fn: Callable[..., Any],
        *,
        validate_args_fn: Callable[[Any], bool] | None = None,
        validate_result_fn: Callable[[Any], bool] | None = None,
        handle_error_fn: Callable[..., tuple[bool, Any, BaseException | None]] | None = None,
        debug: bool = False,
        console_level: int | str | None = None,
        logging_name: str | None = None,
    ) -> None:
        self.target_fn = a_function("target_fn", target_fn)
        self.validate_args = function_or_none("validate_args_fn", validate_args_fn)
        self.validate_result = function_or_none("validate_result_fn", validate_result_fn)
        self.handle_error = function_or_none("handle_error_fn", handle_error_fn)
        self.debug = bool(debug)
        name = logging_name or f"manyhands.qdmp.{type(self).__name__}"
        self.logger = logger_for(name, logging.DEBUG if debug and console_level is None else console_level)
        self._condition = threading.Condition()
        self._backend: Backend | None = None
        self._was_started = False
        self._added = 0
        self._pending: dict[int, PoolFuture] = {}  # by index, in that order: what is no outcome yet
        self._ended: deque[PoolFuture] = deque()  # of those, the ones that have ended and that nobody looked at
        self._unended = 0
        self._outcomes: list[_Outcome] = []  # that nobody has taken
        self._counted_from = 0.0

    # -- the workers ----------------------------------------------------------------------------------------

    def start(self, workers: int | None = None) -> None:
        """Starts so many workers; None: as many as cores that this process may use.

        Raises:
            RuntimeError: they were started before, and not stopped.
            TypeError, ValueError: it is no whole number, or less than 1; or the target can't be sent to processes.
        """
        number = resolve_workers(None) if workers is None else whole_number("workers", workers)
        with self._condition:
            if self._backend is not None:
                raise RuntimeError(f"{self!r} was started already: call stop first")
            self._backend = self._open(number)
            self._was_started = True
        _look_after(self)
        self.logger.info("Started %d workers.", number)

    @property
    def worker_count(self) -> int:
        """How many workers were started; 0 before ``start`` and after ``stop``."""
        backend = self._backend
        return 0 if backend is None else backend.workers

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop(None if error is None else 0.0)

    def __repr__(self) -> str:
        state = "started" if self._backend is not None else "stopped" if self._was_started else "not started"
        return (
            f"<{type(self).__name__} of {name_of(self.target_fn)}: {len(self._pending)} tasks pending, {state}>"
        )

    # -- tasks ----------------------------------------------------------------------------------------------

    def add_tasks(self, tasks: Iterable[Any] | None = None, *, futures: Iterable[Any] | None = None) -> None:
        """Adds a task for each entry, which is its arguments, and returns at once.

        Args:
            tasks: the arguments of each task. An iterator may be endless, if somebody else takes results.
            futures: another name for ``tasks``.

        Raises:
            RuntimeError: there are no workers, before ``start`` or after ``stop``.
            TypeError: nothing to go through was given.
        """
        self._opened()
        for arguments in either(tasks, futures):
            if self._keeps(arguments):
                self._put(arguments)

    def process_results(self, count: int | None = None, wait: bool = True) -> tuple[list[Any], list[Any]]:
        """Results and errors that were not taken yet, each list in the order in which the tasks were added.

        Args:
            count: results and errors together are so many at most, the first to come; None: all.
            wait: for all tasks that were added so far, or for ``count`` of them; else takes what is there.

        Raises:
            RuntimeError: no workers were ever started.
            TypeError, ValueError: ``count`` is no whole number, or less than 1.
        """
        most = None if count is None else whole_number("count", count)
        with self._condition:
            if not self._was_started:
                raise RuntimeError(f"{self!r}: call start first")
            last, glances = self._added, len(self._ended)
        while True:
            with self._condition:
                if wait:
                    wait_for(self._condition, lambda: self._ended or self._has_come(last, most))
                if not self._ended or (most is not None and len(self._outcomes) >= most):
                    break
                if glances <= 0 and not (wait and self._awaits(last)):
                    break  # what has ended since was added since
                task = self._ended.popleft()
            glances -= 1
            try:
                self._judge(task)
            except BaseException:  # an interrupt: the next call looks at it
                with self._condition:
                    if self._pending.get(task.index) is task:
                        self._ended.appendleft(task)
                        self._condition.notify_all()
                raise
        return self._take(most)

    def check_process_timeout(self, timeout: float) -> Any:
        """The tasks that have run for ``timeout`` seconds or longer, without those that only wait.

        Each has its ``arguments``; ``cancel_processes`` takes the list. Time counts from the last
        ``reset_sanity_timer``.

        Raises:
            RuntimeError: there are no workers.
            TypeError, ValueError: ``timeout`` is no number of seconds, 0 or more.
        """
        least = seconds_of("timeout", timeout)
        backend, counted = self._opened(), self._counted()
        late = [task for task, seconds in backend.running().items() if min(seconds, counted) >= least]
        return sorted(late, key=lambda task: task.index)

    def cancel_processes(
        self, futures: Iterable[PoolFuture | FrozenChild] | None = None, *, tasks: Iterable[Any] | None = None
    ) -> None:
        """Ends these tasks: each that has not ended is an error, ``CancelledError``, and is not handled.

        A task that runs is ended with its process. A thread can't be ended: it goes on with what it is at, which
        nobody hears of, and another one takes its place.

        Args:
            futures: what ``check_process_timeout`` returned.
            tasks: another name for ``futures``.
        """
        backend = self._opened()
        for given in either(futures, tasks):
            task = given.task if isinstance(given, FrozenChild) else given
            if task is not None and not isinstance(task, PoolFuture):
                raise TypeError(f"futures must be what check_process_timeout returned, not {short_repr(task)}")
            if task is not None and self._mark(task):
                backend.cancel(task)

    def reset_sanity_timer(self) -> None:
        """Has ``check_process_timeout`` count from now on; no worker ends for want of tasks."""
        self._opened()
        self._counted_from = time.monotonic()

    # -- for the kinds of handlers --------------------------------------------------------------------------

    @abstractmethod
    def _open(self, workers: int) -> Backend:
        """Who runs tasks, with so many workers."""

    @abstractmethod
    def _error(self, arguments: Any, error: BaseException) -> BaseException:
        """What a failure is told as, if nobody says otherwise."""

    @abstractmethod
    def _ask(self, error: BaseException, arguments: Any) -> Any:
        """What ``handle_error_fn`` says."""

    def _opened(self) -> Backend:
        backend = self._backend
        if backend is None:
            raise RuntimeError(f"{self!r} has no workers: call start first")
        return backend

    def _counted(self) -> float:
        return time.monotonic() - self._counted_from

    def _finish(self) -> None:
        """Returns when all tasks that were added so far have ended; somebody may add more for ever."""
        with self._condition:
            tasks = list(self._pending.values())
            wait_for(self._condition, lambda: self._have_ended(tasks))

    def _give_up(self) -> None:
        """Ends the workers at once, whatever they have to do."""
        with self._condition:
            backend, self._backend = self._backend, None
            for task in list(self._pending.values()):
                self._mark(task)
        if backend is not None:
            backend.close(0.0)

    def _have_ended(self, tasks: list[PoolFuture]) -> bool:
        """Whether all of these have; removes those that have. Under the lock."""
        while tasks and (self._pending.get(tasks[-1].index) is not tasks[-1] or tasks[-1].done()):
            tasks.pop()
        return not tasks

    def _stop(self, patience: float | None, drop: bool = True) -> None:
        """Ends the workers; what runs has so many seconds (None: any), what waits is dropped unless told otherwise."""
        with self._condition:
            backend, self._backend = self._backend, None
        if backend is None:
            return
        try:
            if not drop:
                with self._condition:
                    wait_for(self._condition, lambda: not self._unended)
            for task in list(self._pending.values()):
                if self._mark(task) and not (patience != 0 and task.running()):
                    backend.cancel(task)
            backend.close(patience)
        except BaseException:  # an interrupted user wants the cores back
            backend.close(0.0)
            raise
        self.logger.info("Stopped the workers.")

    def _over(self, task: PoolFuture) -> None:
        """A task has ended; called once for each, from any thread."""
        with self._condition:
            self._ended.append(task)
            self._unended -= 1
            self._condition.notify_all()

    # -- what becomes of tasks ------------------------------------------------------------------------------

    def _keeps(self, arguments: Any, index: int | None = None) -> bool:
        """Whether these are to be run; if the predicate raises, the task ends with that."""
        if self.validate_args is None:
            return True
        try:
            keep = bool(self.validate_args(arguments))
        except Exception as error:
            add_note(error, f"raised by {name_of(self.validate_args)}, the validate_args_fn")
            with self._condition:
                if index is None:
                    index, self._added = self._added, self._added + 1
                self._conclude(_Outcome(index, True, self._error(arguments, error)))
            return False
        if not keep:
            self.logger.debug("Discarded the arguments %s.", short_repr(arguments))
        return keep

    def _put(self, arguments: Any, index: int | None = None) -> None:
        with self._condition:
            backend = self._opened()
            if index is None:
                index, self._added = self._added, self._added + 1
            task = self._pending[index] = PoolFuture(arguments, index)
            self._unended += 1
        try:
            backend.put(task)
        except PoolClosed as error:
            self._take_back(task)
            raise RuntimeError(f"{self!r} was stopped while tasks were added") from error
        except BaseException:
            self._take_back(task)
            raise

    def _take_back(self, task: PoolFuture) -> None:
        with self._condition:
            self._unended -= 1
            if self._pending.get(task.index) is task:
                del self._pending[task.index]
            self._condition.notify_all()

    def _mark(self, task: PoolFuture) -> bool:
        """Notes that somebody wants a task's end; returns whether it has not ended."""
        with self._condition:
            if self._pending.get(task.index) is not task or task.done():
                return False
            task.is_cancelled = True
            return True

    def _awaits(self, last: int) -> bool:
        """Whether a task that was added before number ``last`` has no outcome yet."""
        return next(iter(self._pending), last) < last

    def _has_come(self, last: int, most: int | None) -> bool:
        return not self._awaits(last) or (most is not None and len(self._outcomes) >= most)

    def _judge(self, task: PoolFuture) -> None:
        """Makes an outcome of a task that has ended, or another task."""
        future = task.future
        assert future is not None
        error = CancelledError() if future.cancelled() else future.exception()
        if error is None:
            self._judge_result(task, future.result())
        elif task.is_cancelled:
            if isinstance(error, WorkerDied | CancelledError | PoolClosed):
                error = CancelledError("the task was cancelled before it had ended")
            self._conclude(_Outcome(task.index, True, self._error(task.arguments, error)))
        else:
            self._judge_error(task, error)

    def _judge_result(self, task: PoolFuture, value: Any) -> None:
        keep = True
        if self.validate_result is not None:
            try:
                keep = bool(self.validate_result(value))
            except Exception as error:
                add_note(error, f"raised by {name_of(self.validate_result)}, the validate_result_fn")
                self._conclude(_Outcome(task.index, True, self._error(task.arguments, error)))
                return
        if not keep:
            self.logger.debug("Discarded the result %s.", short_repr(value))
        self._conclude(_Outcome(task.index, False, value) if keep else task.index)

    def _judge_error(self, task: PoolFuture, error: BaseException) -> None:
        arguments = task.arguments
        enqueue, new_arguments, told = self._verdict(error, arguments)
        self.logger.debug("The task with %s raised %r.", short_repr(arguments), error)
        if enqueue and self._backend is None:
            self.logger.warning("There are no workers to run %s again.", short_repr(new_arguments))
        elif enqueue:
            if self._keeps(new_arguments, task.index):
                try:
                    self._put(new_arguments, task.index)
                except Exception as raised:
                    self._conclude(_Outcome(task.index, True, self._error(new_arguments, raised)))
            elif self._pending.get(task.index) is task:
                self._conclude(task.index)
            return
        self._conclude(_Outcome(task.index, True, told or self._error(arguments, error)))

    def _verdict(self, error: BaseException, arguments: Any) -> tuple[bool, Any, BaseException | None]:
        if self.handle_error is None:
            return False, None, None
        name = name_of(self.handle_error)
        try:
            answer = self._ask(error, arguments)
            if not isinstance(answer, tuple | list) or len(cast("tuple[Any, ...]", answer)) != 3:
                raise TypeError(
                    f"{name} must return (enqueue, new_arguments, exception), not {short_repr(answer)}"
                )
            enqueue, new_arguments, told = cast("tuple[bool, Any, Any]", answer)
            enqueue = bool(enqueue)
        except Exception as raised:
            add_note(raised, f"raised by {name}, the handle_error_fn, which was asked about {error!r}")
            return False, None, self._error(arguments, raised)
        if not enqueue and not isinstance(told, BaseException):
            if told is not None:
                self.logger.warning("%s gave no exception in the third place, but %s.", name, short_repr(told))
            told = None
        return enqueue, new_arguments, told

    def _conclude(self, outcome: _Outcome | int) -> None:
        """A task has this outcome; a number alone: of the task that is discarded."""
        with self._condition:
            self._pending.pop(outcome if isinstance(outcome, int) else outcome.number, None)
            if not isinstance(outcome, int):
                self._outcomes.append(outcome)
            self._condition.notify_all()

    def _take(self, most: int | None) -> tuple[list[Any], list[Any]]:
        with self._condition:
            taken, self._outcomes = self._outcomes[:most], self._outcomes[len(self._outcomes[:most]) :]
        taken.sort(key=itemgetter(0))
        results = [outcome.value for outcome in taken if not outcome.is_error]
        return results, [outcome.value for outcome in taken if outcome.is_error]


_started: weakref.WeakSet[BaseHandler] = weakref.WeakSet()


def _look_after(handler: BaseHandler) -> None:
    """What is added to it is finished before the program ends."""
    _started.add(handler)
    # Threads that the end of a program waits for may add tasks until then, so it looks once more after them. The last
    # one registered is the first to be called: pools that run by now are closed later.
    atexit.unregister(_finish_all)
    atexit.register(_finish_all)


def _finish_all() -> None:
    """At the end of a program what was added is finished first, unless that ends by an error."""
    handlers = list(_started)
    finished = False
    try:
        if not ends_by_error():
            for handler in handlers:
                handler._finish()
            finished = True
    finally:
        if not finished:  # and who waits for results, in a thread of the user's, gets errors
            for handler in handlers:
                handler._give_up()


at_end(_finish_all)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_started.clear)

"""``ProcessHandler``: processes that each keep a storage from task to task, and that are restarted when they freeze."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future, wait
from functools import partial
from traceback import TracebackException
from typing import Any, cast

from manyhands import Controller
from manyhands.compat.checks import whole_number
from manyhands.compat.qdmp_base import BaseHandler
from manyhands.compat.qdmp_checks import seconds_of
from manyhands.compat.qdmp_pool import Lane, packed
from manyhands.compat.qdmp_storage import Keeping
from manyhands.compat.qdmp_tasks import FrozenChild, PoolFuture, ProcessingException, ProcessStates, states_of
from manyhands.compat.qdmp_threads import Over
from manyhands.errors import PoolClosed, WorkerDied
from manyhands.settings import PoolSettings


class Child:
    """A process with a number, which runs one task at a time. Used under the lock of its ``Children``.

    Attributes:
        task: what it is at; None: nothing, or its set-up.
        future: of that; None: it is at nothing.
        requeues: its task is to be run again, should it end with its process.
    """

    def __init__(self, number: int, keeping: Keeping, variables: Mapping[str, str]) -> None:
        self.number = number
        self.task: PoolFuture | None = None
        self.future: Future[Any] | None = None
        self.requeues = False
        self._work = packed(keeping)
        self._variables = variables
        self.lane = self._new_lane()

    def _new_lane(self) -> Lane:
        initializer = partial(set_variables, dict(self._variables)) if self._variables else None
        # It is never idle for too long: the process keeps what the user wants kept.
        return Lane(self._work, Controller(1, initializer=initializer, idle_seconds=None))

    def begin(self, task: PoolFuture | None) -> Future[Any]:
        """Starts a task, or the set-up."""
        self.task, self.requeues = task, False
        try:
            self.future = self.lane.submit((True, None) if task is None else (False, task.arguments))
        except PoolClosed as error:  # by an interrupted end of the program, say: the task is to tell, if any
            self.future = Future()
            self.future.set_exception(error)
        if task is not None:
            task.future = self.future
        return self.future

    def renew(self) -> Controller:
        """Has a process to come; returns the old one's pool, which is to be closed."""
        old, self.lane = self.lane.pool, self._new_lane()
        return old

    @property
    def exit_code(self) -> int | None:
        """How its process has ended; None: it runs, or has not run yet."""
        dispatcher = self.lane.pool.dispatcher
        with dispatcher.lock:
            return None if dispatcher.handles else dispatcher.exitcode


def set_variables(variables: Mapping[str, str]) -> None:
    """Sets variables of the environment; runs first in a process."""
    os.environ.update(variables)


class Children:
    """Processes with numbers from 0 on; a task goes to any that has none.

    Args:
        target: called as ``Keeping`` does.
        workers: how many processes.
        debug: for the target.
        over: told of each task that has ended, once.
        warn: told of what no task can be told.
    """

    def __init__(
        self, target: Callable[..., Any], workers: int, debug: bool, over: Over, warn: Callable[..., object]
    ) -> None:
        self.workers = workers
        self._over = over
        self._warn = warn
        self._lock = threading.RLock()
        self._waiting: deque[PoolFuture] = deque()
        self._closed = False
        variables = PoolSettings(workers).environment()  # each is a pool of its own, but not alone
        self._children = [Child(number, Keeping(target, number, debug), variables) for number in range(workers)]
        with self._lock:
            for child in self._children:
                self._begin(child, None)

    def put(self, task: PoolFuture) -> None:
        """Takes a task; raises PoolClosed after ``close``."""
        with self._lock:
            if self._closed:
                raise PoolClosed("the processes were stopped")
            self._waiting.append(task)
            self._dispatch()

    def running(self) -> dict[PoolFuture, float]:
        """What runs, and for how many seconds that was seen."""
        return {child.task: seconds for child, seconds in self.busy() if child.task is not None}

    def busy(self) -> list[tuple[Child, float]]:
        """The processes that are at something, and for how many seconds that was seen."""
        with self._lock:
            found = []
            for child in self._children:
                if child.future is not None:
                    seconds = child.lane.pool.running().get(child.future)
                    if seconds is not None:
                        found.append((child, seconds))
            return found

    def cancel(self, task: PoolFuture) -> None:
        """Ends a task, with its process if it runs."""
        with self._lock:
            child = next((child for child in self._children if child.task is task), None)
            if child is not None:
                assert child.future is not None
                child.requeues = False
                child.lane.end(child.future)
            elif task in self._waiting:
                self._waiting.remove(task)
                task.future = Future()
                task.future.cancel()
                self._over(task)

    def restart(self, number: int) -> None:
        """Ends a process, puts back what it was at, and starts another in its place; returns when it has ended."""
        with self._lock:
            child = self._children[number]
            future, old = child.future, None
            if future is None:
                old = child.renew()
                self._begin(child, None)
            else:
                child.requeues = True
                child.lane.pool.kill(future)
        if old is not None:
            old.close(kill=True)
        elif future is not None:
            wait([future])
            self._done(child, future)

    def exit_codes(self) -> list[int | None]:
        """Of each; None: it runs, or is about to."""
        with self._lock:
            return [child.exit_code for child in self._children]

    def close(self, patience: float | None) -> None:
        """No task will be added: ends the processes, after so many seconds with what they run."""
        with self._lock:
            self._closed = True
            for task in list(self._waiting):
                self.cancel(task)
            futures = [child.future for child in self._children if child.future is not None and child.task]
        wait(futures, patience)
        for child in self._children:
            if child.future is not None:
                child.lane.pool.kill(child.future)
        for child in self._children:
            child.lane.pool.close(kill=True)

    def _begin(self, child: Child, task: PoolFuture | None) -> None:
        future = child.begin(task)
        if future.done():  # it could not be sent; to be called back now would go deeper with every task
            self._settle(child, future)
        else:
            future.add_done_callback(partial(self._done, child))

    def _dispatch(self) -> None:
        for child in self._children:
            while child.future is None and self._waiting:
                self._begin(child, self._waiting.popleft())

    def _done(self, child: Child, future: Future[Any]) -> None:
        with self._lock:
            if child.future is future:
                self._settle(child, future)
                self._dispatch()

    def _settle(self, child: Child, future: Future[Any]) -> None:
        """What a process was at has ended, or the process with it."""
        task, child.task, child.future = child.task, None, None
        error = None if future.cancelled() else future.exception()
        has_died = future.cancelled() or isinstance(error, WorkerDied)
        if task is None:
            if error is not None and not self._closed and not child.requeues:
                self._warn(
                    "The set-up of process %d failed; its next task begins with it: %r", child.number, error
                )
        elif has_died and child.requeues and not self._closed:
            task.future = None
            self._waiting.appendleft(task)
        else:
            self._over(task)
        if child.requeues and has_died and not self._closed:
            self._begin(child, None)


class ProcessHandler(BaseHandler):
    """Processes that each call a target with a storage of their own, which lasts from task to task.

    The target is called as ``target(setup, storage, worker_id, debug, arguments)`` and returns ``(storage,
    result)``: the storage that its process has from then on, and the result of the task. Each new process calls
    it first with ``setup=True``, no storage and no arguments. ``worker_id`` counts from 0. It is called with these
    names, or, if its parameters have others, with the values in this order. A call that raises leaves the storage
    as it was. ``handle_error_fn`` is called with the exception, the arguments, and the traceback as a text.

    A process that dies fails its task, and another one takes its place with the next task. ``stop`` ends what runs
    after a second.

    Args:
        target_fn: see above.
        options: see ``BaseHandler``.
    """

    def check_processes(self) -> ProcessStates:
        """Which processes have ended, and how: ``(error, all_error, exited, all_exited, exit_codes)``."""
        return states_of(self._children().exit_codes())

    def check_process_timeout(self, timeout: float) -> list[FrozenChild]:
        """The ``worker_id`` of each process that has been at a task, or its set-up, for that long or longer.

        A process without a task is not among them. Each is a number that has the ``arguments`` of its task, too;
        ``restart_child`` and ``cancel_processes`` take them. Time counts from the last ``reset_sanity_timer``.
        """
        least, counted = seconds_of("timeout", timeout), self._counted()
        busy = self._children().busy()
        return [FrozenChild(child.number, child.task) for child, time in busy if min(time, counted) >= least]

    def restart_timed_out_children(self, timeout: float) -> list[int]:
        """Restarts what ``check_process_timeout`` returns. Their tasks are run again, before those that wait."""
        frozen = self.check_process_timeout(timeout)
        for number in frozen:
            self.restart_child(number)
        return list(frozen)

    def restart_child(self, worker_id: int) -> None:
        """Ends a process and starts another one with its number. The task that it was at is run again.

        Raises:
            RuntimeError: there are no processes.
            TypeError, ValueError: there is no such number.
        """
        children = self._children()
        number = whole_number("worker_id", worker_id, least=0)
        if number >= children.workers:
            raise ValueError(f"worker_id must be less than {children.workers}, not {number}")
        self.logger.info("Restarting process %d.", number)
        children.restart(number)

    def stop(self, waiting_timeout: float | None = 1) -> None:
        """Ends the processes. Tasks that have not begun are dropped, as errors: ``CancelledError``.

        Args:
            waiting_timeout: seconds after which tasks that run are ended, too; None: they are finished.
        """
        self._stop(None if waiting_timeout is None else seconds_of("waiting_timeout", waiting_timeout))

    def _open(self, workers: int) -> Children:
        return Children(self.target_fn, workers, self.debug, self._over, self.logger.warning)

    def _children(self) -> Children:
        return cast("Children", self._opened())

    def _error(self, arguments: Any, error: BaseException) -> ProcessingException:
        return ProcessingException(error, traceback_of(error), arguments)

    def _ask(self, error: BaseException, arguments: Any) -> Any:
        assert self.handle_error is not None
        return self.handle_error(error, arguments, traceback_of(error))


def traceback_of(error: BaseException) -> str:
    """The text of the traceback where it was raised; "" if it was not raised in a process."""
    if error.__traceback__ is None:
        return ""
    told = TracebackException.from_exception(error)
    told.__notes__ = (told.__notes__ or [])[:-1]  # the last is ours
    return "".join(told.format())

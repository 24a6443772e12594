"""The face of process_controller: batches of jobs on a pool, and single processes, for one function.

Change ``import process_controller`` to ``from manyhands.compat import process_controller``. Main guards and
picklable functions are no longer needed. A process that dies fails its own job, with ``manyhands.WorkerDied``.

A controller may be used from several threads, as long as ``create_new_pool``, ``quit`` and ``clear`` are called
while no other thread calls it. ``exit`` may be called at any time.
"""

from __future__ import annotations

import inspect
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from itertools import count
from types import FrameType
from typing import Any, Final

from manyhands import Controller, parallel
from manyhands.calls import short_repr
from manyhands.compat import endings
from manyhands.compat.checks import a_function, is_parallel, whole_number
from manyhands.compat.pending import Pending, SingleProcess
from manyhands.compat.process_controller_logs import Messages

__all__ = ["ProcessController", "log_server_dir"]

log_server_dir: str = "."
"""The directory of the included logger's file, "process_controller.log". It is made if it is not there."""

_TAKES_POSITION: Final = (
    inspect.Parameter.POSITIONAL_ONLY,
    inspect.Parameter.POSITIONAL_OR_KEYWORD,
    inspect.Parameter.VAR_POSITIONAL,
)


class ProcessController:
    """Runs one function in worker processes: batches of jobs on a pool, or a process for a job.

    Until ``quit``, ``clear`` or ``exit`` it stays alive; the end of the program calls ``quit``, and one by an
    interrupt ``exit``. SIGTERM and SIGABRT call ``exit`` and then do what they did before the controller was
    made, if it was made in the main thread.

    Args:
        target_method: any function that ``@parallel`` takes, or one that has it.
        included_logger: whether there is a log server, from the first pool or process on until ``quit``, ``clear``
            or ``exit``. It writes what the controller tells, and what workers log from INFO on, to
            "process_controller.log" in ``log_server_dir``, a JSON object a line; to "process_controller-2.log", and
            so on, if another one has that file. With or without it, the controller tells the logger
            "manyhands.process_controller" of the standard ``logging``.

    Attributes:
        target_method: the function.
        included_logger: as given.
        pool: a ``manyhands.Controller``, or None.
        pool_cache: a deque of batches that were not retrieved, ``[pending, "Pool_Batch_ID: n"]``; ``pop()``
            takes the oldest. ``pending`` has the methods of ``multiprocessing.pool.AsyncResult``.
        pool_results: a deque of what ``get_pool_results`` has returned, a batch an entry; ``pop()`` takes the
            oldest.
        processes: a deque of the single processes, alive or not; each has ``name``, ``is_alive()``,
            ``join(timeout=None)`` and ``terminate()``.
        process_queue: where the results of single processes arrive, ``[result, "Process-n"]``. Of a job that
            failed it is ``[pending, "Process-n"]``, and ``pending.get()`` raises what the job raised.
        process_results: a deque of what ``get_process_results`` has returned, a call an entry; ``pop()`` takes
            the oldest.

    Raises:
        TypeError: ``target_method`` is no function, or an async or generator function.
    """

    def __init__(self, target_method: Callable[..., Any], included_logger: bool = True) -> None:
        self.target_method = a_function("target_method", target_method)
        self.included_logger = included_logger
        self.pool: Controller | None = None
        self.pool_cache: deque[list[Any]] = deque()
        self.pool_results: deque[list[Any]] = deque()
        self.processes: deque[SingleProcess] = deque()
        self.process_queue: queue.SimpleQueue[list[Any]] = queue.SimpleQueue()
        self.process_results: deque[list[list[Any]]] = deque()
        self._messages = Messages(included_logger, lambda: log_server_dir)
        self._takes_arguments = _takes_arguments(target_method)
        self._function: Any = target_method if is_parallel(target_method) else parallel(target_method)
        self._on_pool: Any = None  # the same function, set to run on the pool
        self._lock = threading.Lock()  # numbers are given, and entries made, in one step
        self._batch_numbers = count()
        self._process_numbers = count(1)
        # What may be unfinished, whatever users have taken out of the deques above.
        self._batches: list[Pending] = []
        self._singles: list[SingleProcess] = []
        endings.keep(self)

    # -- a pool ---------------------------------------------------------------------------------------------

    def create_new_pool(self, num_processes: int | None) -> None:
        """Makes a pool of so many worker processes, which start when jobs need them; None: as many as cores.

        There is one pool at a time: an earlier one is closed first, when its jobs are done. Their results stay.

        Raises:
            TypeError, ValueError: it is no whole number, or less than 1.
            OSError: the log server can't write to its directory.
        """
        workers = None if num_processes is None else whole_number("num_processes", num_processes)
        begin, arguments = self._messages.open()
        pool = Controller(workers, initializer=begin, initargs=arguments)
        try:
            self._close_pool()
        except BaseException:  # an interrupt
            pool.close(kill=True)
            raise
        self.pool = pool
        self._on_pool = self._function.options(backend=pool)
        endings.keep(self)
        self._messages.info("Made a pool of %d processes.", pool.workers)

    def use_pool(self, jobs: Iterable[Any]) -> None:
        """Starts a batch of jobs on the pool and returns at once.

        Args:
            jobs: an entry for each job. A list holds the arguments of a job, anything else is the only one.
                For a function that takes no positional arguments, any filler stands for one run.

        Raises:
            RuntimeError: there is no pool.
            TypeError: ``jobs`` is not iterable, or the function can't be pickled.
        """
        if self.pool is None:
            raise RuntimeError("there is no pool: call create_new_pool first")
        if not isinstance(jobs, Iterable):
            raise TypeError(f"jobs must be a list with an entry for each job, not {short_repr(jobs)}")
        futures: list[Future[Any]] = []
        try:
            for job in list(jobs):
                futures.append(self._on_pool.submit(*self._arguments(job)))  # noqa: PERF401 - see below
        except BaseException:  # an interrupt, or the pool is closed: there will be no batch
            Pending(futures).cancel()
            raise
        batch = Pending(futures)
        with self._lock:
            self._batches = [*(other for other in self._batches if not other.ready()), batch]
            name = f"Pool_Batch_ID: {next(self._batch_numbers)}"
            self.pool_cache.appendleft([batch, name])
        self._messages.info("Started %d jobs, %s.", len(futures), name)

    def get_pool_results(self) -> list[list[Any]]:
        """Waits for all batches in ``pool_cache``, returns them in order, and adds them to ``pool_results``.

        Each is ``[results, "Pool_Batch_ID: n"]``, with the results in the order of the jobs. If a job failed,
        that is logged, and the batch is ``[pending, "Pool_Batch_ID: n"]``: ``pending.get()`` raises the error.
        """
        batches = []
        while self.pool_cache:
            try:
                batch = self.pool_cache.pop()
            except IndexError:  # another thread was faster
                break
            try:
                error = batch[0].error()
            except BaseException:  # an interrupt: the next call gets it
                self.pool_cache.append(batch)
                raise
            if error is None:
                batch = [batch[0].get(), batch[1]]
            else:
                self._messages.error("A job failed, %s.", batch[1], error=error)
            self.pool_results.appendleft(batch)
            batches.append(batch)
        return batches

    # -- single processes -----------------------------------------------------------------------------------

    def use_process(self, args: Any, **kwargs: Any) -> None:
        """Starts a process for one job and returns at once; the result arrives in ``process_queue``.

        Args:
            args: a list of the job's arguments, or the only one; any filler if there are none.
            kwargs: the job's keyword arguments.

        Raises:
            RuntimeError: there is a pool.
            TypeError: the function can't be pickled.
            OSError: the log server can't write to its directory.
        """
        if self.pool is not None:
            raise RuntimeError("there is a pool: call quit before you use single processes")
        self.clean_process_list()
        begin, arguments = self._messages.open()
        pool = Controller(workers=1, initializer=begin, initargs=arguments)
        try:
            future = self._function.options(backend=pool).submit(*self._arguments(args), **kwargs)
            with self._lock:
                name = f"Process-{next(self._process_numbers)}"
                process = SingleProcess(name, pool, future, self.process_queue, self._messages)
                self._singles = [*(other for other in self._singles if other.is_alive()), process]
                self.processes.append(process)
        except BaseException:
            pool.close(kill=True)
            raise
        endings.keep(self)
        self._messages.info("Started %s.", name)

    def get_process_results(self) -> list[list[Any]]:
        """What has arrived in ``process_queue``, in the order of arrival; waits for nothing.

        Unless it is empty, the list that is returned is added to ``process_results``.
        """
        results = []
        try:
            while True:
                results.append(self.process_queue.get_nowait())
        except queue.Empty:
            pass
        if results:
            self.process_results.appendleft(results)
        return results

    def clean_process_list(self) -> None:
        """Forgets the single processes that have ended, which they do by themselves."""
        for process in list(self.processes):
            if not process.is_alive():
                try:
                    self.processes.remove(process)
                except ValueError:  # another thread was faster
                    pass

    # -- the end --------------------------------------------------------------------------------------------

    def quit(self) -> None:
        """Waits for pending jobs and ends all processes and the log server.

        Results stay, and the controller may be used again.
        """
        self._close_pool()
        for process in self._singles:
            process.join()
        self._messages.close()
        endings.release(self)
        self.clean_process_list()

    def clear(self) -> None:
        """Does what ``quit`` does, and forgets all results, retrieved or not."""
        self.quit()
        self.pool_cache.clear()
        self.pool_results.clear()
        self.get_process_results()  # which empties the queue
        self.process_results.clear()
        self._batches = []

    def exit(self, signum: int | None = None, frame: FrameType | None = None) -> None:
        """Ends all processes at once. Jobs that are pending fail; results that are there stay.

        Args:
            signum, frame: so that it may be a signal's handler. As one it waits for two seconds at most:
                code that was interrupted may have to go on before all can end.
        """
        if signum is None:
            self.end_now()
        else:
            endings.end_aside([self])

    def end_now(self) -> None:
        """Does what ``exit`` does outside of signal handlers."""
        for process in self._singles:
            process.terminate()
        pool = self.pool
        if pool is not None:
            pool.close(kill=True)
            if self.pool is pool:
                self.pool = None
        for process in self._singles:
            process.join()
        self._messages.close()
        endings.release(self)
        self.clean_process_list()

    def _close_pool(self) -> None:
        if self.pool is not None:
            for batch in self._batches:
                batch.wait()
            self.pool.close()
            self.pool = None
            self._messages.info("Closed the pool.")

    def _arguments(self, job: Any) -> Iterable[Any]:
        if not self._takes_arguments:
            return ()
        return job if isinstance(job, list) else (job,)


def _takes_arguments(function: Callable[..., Any]) -> bool:
    """Whether it takes positional arguments, required or not; some builtins don't tell, and do."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (ValueError, TypeError):
        return True
    return any(parameter.kind in _TAKES_POSITION for parameter in parameters)

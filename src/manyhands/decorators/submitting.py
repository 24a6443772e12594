"""``submit``: single calls as futures.

A call that needs nothing but a worker goes straight to the pool. Calls with retries or claims come back to be sent
again, so a stream drives them: one thread per function, while any of them is pending.
"""

from __future__ import annotations

import os
import queue
import sys
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from manyhands.calls import Call, Done, Failed, Later
from manyhands.decorators.mapping import (
    call_here,
    gate_for,
    open_pool,
    packed_work,
    preparation,
    start_runner,
    with_checks,
)
from manyhands.decorators.work import Work
from manyhands.errors import ClaimedElsewhere
from manyhands.handler.blocks import Run
from manyhands.handler.gate import Away, Gate, Pass
from manyhands.handler.pump import Halted, Pump
from manyhands.handler.runner import Runner
from manyhands.handler.stream import Stream
from manyhands.outcome import Outcome, explain
from manyhands.policies.star import StarRule
from manyhands.settings import MapOptions
from manyhands.shutdown import at_end, ends_by_error
from manyhands.workers.place import worker_name

if TYPE_CHECKING:
    from manyhands.decorators.decorated import ParallelFunction

LINGER_SECONDS: Final = 1.0
"""The thread of a function stays for so long after its last call."""

_UNBOUNDED: Final = 1 << 60
_SUBMITTED: Final = StarRule(star=True, kwstar=True)
_lock = threading.Lock()
_submitters: weakref.WeakSet[Submitter] = weakref.WeakSet()


def _finish_all() -> None:
    """At the end of a program what was submitted is finished first, unless that ends by an error."""
    submitters = list(_submitters)
    try:
        if not ends_by_error():
            for submitter in submitters:
                submitter.finish()
    finally:
        for submitter in submitters:
            submitter.give_up()


at_end(_finish_all)


def _start_afresh() -> None:
    global _lock
    _lock = threading.Lock()
    _submitters.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_afresh)


def submit(function: ParallelFunction[..., Any], call: Call) -> Future[Any]:
    """A future of one call of ``function``."""
    future: Future[Any] = Future()
    options = function._options
    if options.backend == "inline" or worker_name():
        _run_here(function, call, future)
        return future
    checked = function.task.validation is not None and function.task.validation.checks_result("parent")
    if (
        options.backend != "threads"
        and function.task.claim is None
        and not function.task.retries
        and not checked
    ):
        return _submit_straight(function, call, options)
    with _lock:
        submitter: Submitter | None = function.__dict__.get("_submitter")
        if submitter is None or submitter.place != _place() or not submitter.take(call, future):
            preparation(function, _SUBMITTED, discards=False)  # raises what is wrong before there is a runner
            runner = with_checks(function, start_runner(function, options, discards=False), discards=False)
            submitter = function._submitter = Submitter(function, runner)
            submitter.take(call, future)
    return future


def _submit_straight(function: ParallelFunction[..., Any], call: Call, options: MapOptions) -> Future[Any]:
    from manyhands.controller.futures import Desk
    from manyhands.controller.pool import Controller
    from manyhands.errors import PoolClosed
    from manyhands.workers.payload import Large

    gate_for(function)  # raises for a function that can't be called at all
    prepared = preparation(function, _SUBMITTED, discards=False)(0, (call.args, call.kwargs))
    if isinstance(prepared, Failed):
        future: Future[Any] = Future()
        future.set_running_or_notify_cancel()
        explain(prepared.error, prepared.traceback, "submitted; no worker was asked")
        future.set_exception(prepared.error)
        return future
    work = packed_work(function, Work(function, discards=False))

    def open_desk() -> Desk:
        return open_pool(
            options,
            lambda pool: Desk(pool, work, calls=True, timeout=options.timeout, readonly=options.readonly),
        )

    if isinstance(work, Large):
        # Whether it is what was sent before would take longer to find out than to send it.
        desk = open_desk()
        try:
            return desk.submit(prepared)
        finally:
            desk.retire()
    key = (*_place(), work)
    known: tuple[Any, Desk] | None = function.__dict__.get("_desk")
    if known is not None and known[0] == key:
        try:
            return known[1].submit(prepared)
        except PoolClosed:
            if isinstance(options.backend, Controller):
                raise
            # The shared pool has ended for want of work; there is a new one now.
    elif known is not None:
        known[1].retire()
    desk = open_desk()
    function._desk = key, desk
    weakref.finalize(function, desk.retire).atexit = False
    return desk.submit(prepared)


def _run_here(function: ParallelFunction[..., Any], call: Call, future: Future[Any]) -> None:
    future.set_running_or_notify_cancel()
    try:
        future.set_result(call_here(function, call))
    except Exception as error:
        future.set_exception(error)


def _place() -> tuple[int, str, tuple[str, ...]]:
    """A submitter serves one process, and calls with what workers take over from it: directory and path."""
    return os.getpid(), os.getcwd(), tuple(sys.path)


class _GatePerCall:
    """Every submitted call stands alone, as a direct call does: two of them may ask for the same output.

    Args:
        make: makes the gate of a call, in the caller's directory.
    """

    def __init__(self, make: Callable[[], Gate]) -> None:
        self._make = make
        self._gates: dict[int, Gate] = {}

    def enter(self, index: int, call: Call) -> Pass | Done[Any] | Failed:
        """As the call's own gate says."""
        if index not in self._gates:
            self._gates[index] = self._make()
        return self._gates[index].enter(index, call)

    def later(self, index: int, answer: Later, looks: int) -> float | Away:
        """As the call's own gate says."""
        return self._gates[index].later(index, answer, looks)

    def forget(self, index: int) -> None:
        """The call has ended."""
        gate = self._gates.pop(index, None)
        if gate is not None:
            gate.close()

    def close(self) -> None:
        """All have ended."""
        for index in list(self._gates):
            self.forget(index)


class Submitter:
    """A stream that calls are added to while their outcomes are taken."""

    def __init__(self, function: ParallelFunction[..., Any], runner: Runner) -> None:
        gate_for(function)  # raises here, not in the thread, for a function that can't be called at all
        self.place = _place()
        self._runner = runner
        self._gate = _GatePerCall(partial(gate_for, function, Path(self.place[1])))
        self._arrived: queue.SimpleQueue[tuple[Call, Future[Any]]] = queue.SimpleQueue()
        self._cancelled: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._futures: dict[int, Future[Any]] = {}
        self._linger = LINGER_SECONDS
        self._open = True
        self._tidy = function.task.claim is not None
        self._pump = Pump(
            iter(()),
            preparation(function, _SUBMITTED, discards=False),
            Stream(buffersize=_UNBOUNDED, ordered=False, budgets=function.task.retries),
            runner,
            self._gate,
        )
        runner.promise(lambda: self._open and bool(self._futures or not self._arrived.empty()))
        name = f"manyhands-submit-{getattr(function, '__name__', 'function')}"
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)
        self._thread.start()
        _submitters.add(self)

    def take(self, call: Call, future: Future[Any]) -> bool:
        """Takes a call, unless the thread has ended. Called under the module's lock."""
        if self._open:
            self._arrived.put((call, future))
            self._runner.wake()
        return self._open

    def finish(self) -> None:
        """Returns when all that was taken has ended, and the thread with it."""
        self._linger = 0.0
        self._runner.wake()
        self._thread.join()

    def give_up(self) -> None:
        """What is pending will not be waited for."""
        self._open = False

    def _serve(self) -> None:
        try:
            while self._step(self._futures):
                pass
        except Halted as halted:
            self._fail_all(self._futures, halted.failed.error)
        except BaseException as error:
            self._fail_all(self._futures, error)
            raise
        finally:
            self._pump.close()

    def _step(self, futures: dict[int, Future[Any]]) -> bool:
        """Adds what has arrived and settles one future; returns whether there is, or may be, more to do."""
        while not self._arrived.empty():
            call, future = self._arrived.get()
            if not future.cancelled():
                index = self._pump.add((call.args, call.kwargs))
                futures[index] = future
                future.add_done_callback(lambda future, index=index: self._done(future, index))  # type: ignore[misc]
        while not self._cancelled.empty():
            self._pump.cancel(self._cancelled.get())
        outcome = self._pump.poll(None if futures else self._linger)
        assert not isinstance(outcome, Run)  # calls are added one by one
        if outcome is None:
            if not futures:
                self._close_if_empty()
            return self._open
        self._gate.forget(outcome.index)
        future = futures.pop(outcome.index)
        if self._tidy and not futures:
            self._close_if_empty()  # before anybody looks at the directory
        _settle(future, outcome)
        return self._open

    def _close_if_empty(self) -> None:
        with _lock:
            self._open = not self._arrived.empty()
        if not self._open:
            self._pump.close()

    def _done(self, future: Future[Any], index: int) -> None:
        if future.cancelled():
            self._cancelled.put(index)
            self._runner.wake()

    def _fail_all(self, futures: dict[int, Future[Any]], error: BaseException) -> None:
        with _lock:
            self._open = False
        waiting = list(futures.values())
        while not self._arrived.empty():
            waiting.append(self._arrived.get()[1])
        for future in waiting:
            if future.set_running_or_notify_cancel():
                future.set_exception(error)


def _settle(future: Future[Any], outcome: Outcome[Any]) -> None:
    if not future.set_running_or_notify_cancel():
        return  # it was cancelled
    if outcome.failure is not None:
        failure = outcome.failure
        explain(failure.error, failure.traceback, f"submitted, run in worker {outcome.worker or 'none'}")
        future.set_exception(failure.error)
    elif outcome.elsewhere is not None:
        future.set_exception(ClaimedElsewhere(f"another process is computing {outcome.elsewhere.path!r}"))
    else:
        future.set_result(outcome.value)

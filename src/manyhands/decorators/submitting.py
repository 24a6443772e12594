"""``submit``: single calls as futures.

A call that needs nothing but a worker goes straight to the pool. Calls with retries or claims come back to be sent
again, so a stream drives them: one thread per function, while any of them is pending.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

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
from manyhands.errors import ClaimedElsewhere, TaskTimeout, WorkerDied
from manyhands.future import CallFuture
from manyhands.handler.driver import Driver
from manyhands.handler.gate import Away, Gate, Pass
from manyhands.handler.pump import Prepare, Pump
from manyhands.handler.runner import Runner
from manyhands.handler.stream import Stream
from manyhands.outcome import Outcome, explain, placed
from manyhands.policies.parameters import name_of
from manyhands.policies.star import CallText, StarRule
from manyhands.settings import MapOptions, current_rehearsal, is_foreign
from manyhands.shutdown import at_end, ends_by_error
from manyhands.workers.contexts import captured
from manyhands.workers.place import in_task

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
                submitter.driver.finish()
    finally:
        for submitter in submitters:
            submitter.driver.give_up()


at_end(_finish_all)
_finishes_early = False


def _start_afresh() -> None:
    global _lock
    _lock = threading.Lock()
    _submitters.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_afresh)


def submit(function: ParallelFunction[..., Any], call: Call) -> Future[Any]:
    """A future of one call of ``function``."""
    called = CallText(function, call.args, call.kwargs)
    future: Future[Any] = CallFuture(called)
    options = function._options
    if options.backend == "inline" or in_task() or current_rehearsal() is not None:
        _run_here(function, call, future)
        return future
    foreign = is_foreign(options.backend)
    if foreign:
        _finish_before_executors()
    checked = function.task.validation is not None and function.task.validation.checks_result("parent")
    straight = not foreign and not checked and options.backend != "threads"
    if straight and function.task.claim is None and not function.task.retries:
        return _submit_straight(function, call, options, called)
    with _lock:
        submitter: Submitter | None = function.__dict__.get("_submitter")
        if submitter is None or submitter.place != _surroundings() or not submitter.take(call, future, called):
            preparation(function, _SUBMITTED, discards=False)  # raises what is wrong before there is a runner
            runner = with_checks(function, start_runner(function, options, discards=False), discards=False)
            submitter = function._submitter = Submitter(function, runner)
            submitter.take(call, future, called)
    return future


def _finish_before_executors() -> None:
    """Registered again: executors end in the reverse order of their modules, which may have come after this one."""
    global _finishes_early
    if not _finishes_early:
        _finishes_early = True
        at_end(_finish_all)


def _submit_straight(
    function: ParallelFunction[..., Any], call: Call, options: MapOptions, called: CallText
) -> Future[Any]:
    from manyhands.controller.futures import Desk
    from manyhands.controller.pool import Controller
    from manyhands.errors import PoolClosed
    from manyhands.workers.payload import Large

    gate_for(function)  # raises for a function that can't be called at all
    prepared = preparation(function, _SUBMITTED, discards=False)(0, (call.args, call.kwargs))
    if isinstance(prepared, Failed):
        future: Future[Any] = CallFuture(called)
        future.set_running_or_notify_cancel()
        explain(prepared.error, prepared.traceback, f"in a submitted call of {called}")
        future.set_exception(prepared.error)
        return future
    work = packed_work(function, Work(function, discards=False))

    def open_desk() -> Desk:
        return open_pool(
            options,
            lambda pool: Desk(
                pool,
                work,
                calls=True,
                timeout=options.timeout,
                readonly=options.readonly,
                name=name_of(function),
            ),
        )

    if isinstance(work, Large):
        # Whether it is what was sent before would take longer to find out than to send it.
        desk = open_desk()
        try:
            return desk.submit(prepared, called)
        finally:
            desk.retire()
    # Other levels are taken over when the function is submitted for the first time: to look at all takes too long.
    key = (*_place(), logging.root.level, logging.root.manager.disable, work)
    known: tuple[Any, Desk] | None = function.__dict__.get("_desk")
    if known is not None and known[0] == key:
        try:
            return known[1].submit(prepared, called)
        except PoolClosed:
            if isinstance(options.backend, Controller):
                raise
            # The shared pool has ended for want of work; there is a new one now.
    elif known is not None:
        known[1].retire()
    desk = open_desk()
    function._desk = key, desk
    weakref.finalize(function, desk.retire).atexit = False
    return desk.submit(prepared, called)


def _run_here(function: ParallelFunction[..., Any], call: Call, future: Future[Any]) -> None:
    future.set_running_or_notify_cancel()
    try:
        answer = call_here(function, call)
    except Exception as error:
        answer = Failed(error)
    if isinstance(answer, Failed):
        future.set_exception(answer.error)
    else:
        future.set_result(answer.value)


def _place() -> tuple[int, str, tuple[str, ...]]:
    """A submitter serves one process, and calls with what workers take over from it: directory and path."""
    return os.getpid(), os.getcwd(), tuple(sys.path)


def _surroundings() -> tuple[Any, ...]:
    """The same, with what context variables are set to."""
    return *_place(), captured()


class _GatePerCall:
    """Every submitted call stands alone, as a direct call does: two of them may ask for the same output.

    Args:
        make: makes the gate of a call, in the caller's directory.
    """

    def __init__(self, make: Callable[[], Gate]) -> None:
        self._make = make
        self._gates: dict[int, Gate] = {}

    def order(self, due: list[int]) -> list[int]:
        """As they were submitted."""
        return due

    def enter(self, index: int, call: Call) -> Pass | Done[Any] | Failed:
        """As the call's own gate says."""
        if index not in self._gates:
            self._gates[index] = self._make()
        return self._gates[index].enter(index, call)

    def later(self, index: int, answer: Later, looks: int) -> float | Away:
        """As the call's own gate says."""
        return self._gates[index].later(index, answer, looks)

    def died(self, index: int, call: Call, error: WorkerDied | TaskTimeout) -> Failed | Later | None:
        """As the call's own gate says."""
        return self._gates[index].died(index, call, error)

    def forget(self, index: int) -> None:
        """The call has ended."""
        gate = self._gates.pop(index, None)
        if gate is not None:
            gate.close()

    def close(self) -> None:
        """All have ended."""
        for index in list(self._gates):
            self.forget(index)


class _Token(NamedTuple):
    """A call's future, and how its arguments are an item."""

    future: Future[Any]
    rule: StarRule
    called: CallText


class Submitter:
    """The calls of one function that are sent again if need be."""

    def __init__(self, function: ParallelFunction[..., Any], runner: Runner) -> None:
        gate_for(function)  # raises here, not in the thread, for a function that can't be called at all
        self.place = _surroundings()
        self._gate = _GatePerCall(partial(gate_for, function, Path(self.place[1])))
        self._function = function
        self._preparations: dict[tuple[bool | None, bool], Prepare] = {}
        pump = Pump(
            iter(()),
            self._prepare,
            Stream(buffersize=_UNBOUNDED, ordered=False, budgets=function.task.retries),
            runner,
            self._gate,
        )
        self.driver = Driver(pump, self, LINGER_SECONDS, is_tidy=function.task.claim is not None)
        self.driver.start(f"manyhands-submit-{getattr(function, '__name__', 'function')}")
        _submitters.add(self)

    def take(self, call: Call, future: Future[Any], called: CallText) -> bool:
        """Takes a call, unless the thread has ended."""
        item, rule = StarRule.of_call(call)
        return self.driver.add(item, _Token(future, rule, called))

    # -- in its thread ------------------------------------------------------------------------------------------

    def _prepare(self, index: int, item: Any) -> Call | Failed:
        """Other arguments for a call are such an item as those before were."""
        rule = self.driver.token(index).rule
        key = rule.star, rule.kwstar
        if key not in self._preparations:
            self._preparations[key] = preparation(self._function, rule, discards=False)
        return self._preparations[key](index, item)

    def wants(self, token: _Token) -> bool:
        """A future that was cancelled since is not wanted."""
        return not token.future.cancelled()

    def added(self, token: _Token, index: int) -> None:
        """To cancel the future drops the call."""

        def done(future: Future[Any]) -> None:
            if future.cancelled():
                self.driver.order(lambda pump: pump.cancel(index))

        token.future.add_done_callback(done)

    def settle(self, token: _Token, outcome: Outcome[Any]) -> None:
        """The call has ended."""
        self._gate.forget(outcome.index)
        _settle(token, outcome)

    def fail(self, tokens: list[_Token], error: BaseException) -> None:
        """Nothing will run any more."""
        for future, *_ in tokens:
            if future.set_running_or_notify_cancel():
                future.set_exception(error)


def _settle(token: _Token, outcome: Outcome[Any]) -> None:
    future = token.future
    if not future.set_running_or_notify_cancel():
        return  # it was cancelled
    if outcome.failure is not None:
        failure = outcome.failure
        where = placed(f"in a submitted call of {token.called}", outcome.attempts, outcome.worker)
        explain(failure.error, failure.traceback, where, outcome.attempts)
        future.set_exception(failure.error)
    elif outcome.elsewhere is not None:
        future.set_exception(ClaimedElsewhere(f"another process is computing {outcome.elsewhere.path!r}"))
    else:
        future.set_result(outcome.value)

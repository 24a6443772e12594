"""``Handler``: a long-lived stream of calls that are added while their outcomes are taken."""

from __future__ import annotations

import inspect
import os
import sys
import threading
import warnings
import weakref
from collections import deque
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from operator import itemgetter
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Generic, Self, TypeVar, Unpack, cast

from manyhands.calls import short_repr
from manyhands.decorators.decorated import Decorated, Options, ParallelFunction, unwrapped
from manyhands.decorators.mapping import (
    gate_for,
    joined,
    observer_for,
    preparation,
    recorder_for,
    start_runner,
    with_checks,
)
from manyhands.decorators.parallel import parallel
from manyhands.decorators.retry import RetryDecorator, check_policy
from manyhands.decorators.validated import validated
from manyhands.errors import PoolClosed
from manyhands.handler.driver import Driver
from manyhands.handler.progress import is_shown
from manyhands.handler.pump import Pump
from manyhands.handler.runner import InlineRunner
from manyhands.handler.stream import Stream
from manyhands.outcome import Counts, Failure, Outcome, explain, placed
from manyhands.policies.parameters import name_of
from manyhands.policies.retry import RetryBudget, Wait
from manyhands.policies.star import StarRule, checked_keywords
from manyhands.policies.validation import Invalid
from manyhands.policies.verdict import HandleError
from manyhands.settings import current_clock, option_names
from manyhands.shutdown import at_end, ends_by_error
from manyhands.spelling import check_names, suggesting
from manyhands.waiting import wait_for

if TYPE_CHECKING:
    import asyncio

R = TypeVar("R")

_UNBOUNDED: Final = 1 << 60


class Handler(Generic[R]):
    """A stream of calls of one function: items are added while outcomes are taken, from any threads.

    Each item that was added ends as exactly one ``Outcome``, whatever happens. Use it in a ``with`` block: that ends
    when all that was added has ended; if an error ends it, what runs is ended too.

    Args:
        function: what is called with each item; plain, or decorated.
        arguments: as in ``@validated``, which the function then has not itself.
        result: as in ``@validated``, likewise.
        invalid: as in ``@validated``.
        handle_error: is asked about each failure that no ``@retry_on`` of the function is for; see ``retry_on``. There
            must be some: a function with ``@retry_on(Exception)`` is refused.
        attempts: as in ``@retry_on``: bounds what ``handle_error`` may ask for; None: it does not.
        wait: as in ``@retry_on``: seconds before the next attempt, unless ``handle_error`` says.
        buffersize: how many items may be added and not taken; ``add`` waits for room. None: any number.
        star, kwstar, args, kwargs: as in ``.map``.
        options: as in ``@parallel``, but that ``ordered`` is False unless given.

    Raises:
        TypeError, ValueError: an argument has a wrong type or is out of range, or goes not with what the function is
            decorated with.
        PoolClosed: in a ``with``, of one that was closed.
    """

    @suggesting("Handler", example="Handler(function, workers=4)")
    def __init__(
        self,
        function: Callable[..., R],
        *,
        arguments: Callable[..., bool] | None = None,
        result: Callable[[Any], bool] | None = None,
        invalid: Invalid = "discard",
        handle_error: HandleError | None = None,
        attempts: int | None = None,
        wait: Wait = None,
        star: bool | None = False,
        kwstar: bool = False,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        **options: Unpack[Options],
    ) -> None:
        _check_options(options)
        checks = arguments is not None or result is not None
        if invalid != "discard" and not checks:
            raise TypeError(
                "Handler: invalid is for arguments and result; without them, decorate with @validated"
            )
        method = function if isinstance(function, Decorated) and function._prefix else None
        task: Any = function if method is None else method._unbound()
        _check_function(task, checks, asks=handle_error is not None)
        if checks:
            task = validated(arguments=arguments, result=result, invalid=invalid)(task)
        if handle_error is not None:
            check_policy(attempts, wait, None, handle_error, "Handler")
            budget = RetryBudget((Exception,), attempts, wait, handle_error=handle_error, is_last=True)
            task = RetryDecorator(budget)(task)
        elif attempts is not None or wait is not None:
            raise TypeError(
                "Handler: attempts and wait are for handle_error; without it, decorate with @retry_on"
            )
        if not isinstance(task, ParallelFunction):
            task = parallel(task)
        if method is not None:
            task = task._bound_as(method)
        options.setdefault("ordered", False)
        self._flow = _Flow(
            cast("ParallelFunction[..., Any]", task).options(**options),
            StarRule(star, kwstar, cast("tuple[Any, ...]", args), checked_keywords(kwargs, "kwargs")),
        )
        self._finalizer = weakref.finalize(self, _dropped, self._flow)
        self._finalizer.atexit = False

    # -- the producers' side ------------------------------------------------------------------------------------

    def add(self, item: Any = None, /) -> int:
        """Adds an item; returns its index. Waits for room, if ``buffersize`` is given.

        Raises:
            PoolClosed: the input was closed.
        """
        while (index := self._flow.add(item)) is None:
            self._flow.wait_for_room()
        return index

    def extend(self, items: Iterable[Any], /) -> None:
        """Adds all of these items, one after the other; raises like ``add``."""
        if not isinstance(items, Iterable):
            raise TypeError(
                f"extend takes an iterable of items, not {short_repr(items)}; for one item there is add"
            )
        self._flow.note_adder()  # though they be none
        for item in items:
            self.add(item)

    async def aadd(self, item: Any = None, /) -> int:
        """As ``add``, for a coroutine: the event loop goes on meanwhile."""
        while (index := self._flow.add(item)) is None:
            await self._flow.news(self._flow.has_room)
        return index

    def close_input(self) -> None:
        """No more items will be added: then ``results`` ends after the last outcome."""
        self._flow.close_input()

    # -- the consumers' side ------------------------------------------------------------------------------------

    def results(self) -> HandlerResults[R]:
        """The outcomes, as they come: an iterator, for several threads if need be, also for ``async for``.

        It ends when the input is closed and all outcomes were taken. Where nobody but the thread that iterates has
        added anything, it ends when these were taken: nobody would add more.
        """
        return HandlerResults(self)

    def drain(self) -> list[Outcome[R]]:
        """Closes the input; returns the outcomes that were not taken, once all have ended."""
        self.close_input()
        return list(self.results())

    async def adrain(self) -> list[Outcome[R]]:
        """As ``drain``, for a coroutine."""
        self.close_input()
        return [outcome async for outcome in self.results()]

    def report(self, path: str | os.PathLike[str]) -> Path:
        """Writes a page about what has run so far, as ``Results.report`` does; raises like that."""
        from manyhands.handler.recorder import write_report

        return write_report(self._flow.recorder, self._flow.name, path)

    # -- both -----------------------------------------------------------------------------------------------------

    def cancel(self, *, kill: bool = False) -> None:
        """Closes the input and drops what has not begun, or waits to be tried again: it fails with CancelledError.

        Args:
            kill: end what runs as well; it fails with ``WorkerDied``. (Threads can't be ended.)
        """
        self._flow.cancel(kill)

    @property
    def pending(self) -> int:
        """How many items have not ended."""
        return self._flow.pending

    @property
    def counts(self) -> Counts:
        """How many of the items that have ended came to what."""
        return self._flow.counts

    def close(self, *, kill: bool = False) -> None:
        """Closes the input and returns when all that was added has ended.

        Args:
            kill: cancel what has not begun, and end what runs.
        """
        self._flow.check_waits()
        self._finalizer.detach()
        self._flow.close(kill)

    def __enter__(self) -> Self:
        self._check_enters()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(kill=error is not None)

    async def __aenter__(self) -> Self:
        self._check_enters()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        import asyncio

        try:
            await asyncio.shield(asyncio.to_thread(self.close, kill=error is not None))
        except asyncio.CancelledError:
            self.cancel(kill=True)  # the thread waits for the end still, which comes soon
            raise

    def _check_enters(self) -> None:
        if not self._finalizer.alive:  # close has seen to it
            raise PoolClosed(f"the handler of {self._flow.name} has been closed; make another one")

    def __repr__(self) -> str:
        return repr(self._flow)


def _check_options(options: Collection[str]) -> None:
    """Raises TypeError for what is no option of a handler."""
    if "on_error" in options:
        raise TypeError("Handler has no on_error: each outcome tells what it is")
    own = inspect.signature(Handler.__init__).parameters.keys() - {"self", "function", "options"}
    check_names(options, own | option_names() - {"on_error"}, "Handler")


def _check_function(function: Any, checks: bool, asks: bool) -> None:
    """Raises TypeError if this is no function, or its decorators leave nothing for the handler to check or to ask."""
    task = function.task if isinstance(function, Decorated) else unwrapped(function, "Handler")[1]
    if checks and task.validation is not None:
        raise TypeError(
            f"Handler: {name_of(function)} has its own @validated, so arguments, result and invalid can't be given "
            f"too; combine the predicates there"
        )
    for cls in (cls for budget in task.retries for cls in budget.exceptions):
        if asks and issubclass(Exception, cls):
            raise TypeError(
                f"Handler: handle_error would never be asked, since {name_of(function)} has its own "
                f"@retry_on({cls.__name__}), which is for all failures; name fewer exceptions there, or give it that "
                f"handle_error"
            )


class HandlerResults(Generic[R]):
    """The outcomes of a ``Handler``, each given to one of those who ask."""

    def __init__(self, handler: Handler[R]) -> None:
        self._handler = handler  # which is not dropped while this is used

    def __repr__(self) -> str:
        return f"<results of {self._handler!r}>"

    def __iter__(self) -> Iterator[Outcome[R]]:
        return self

    def __next__(self) -> Outcome[R]:
        outcome = self._handler._flow.take()
        if outcome is None:
            raise StopIteration
        return outcome

    def __aiter__(self) -> AsyncIterator[Outcome[R]]:
        return self

    async def __anext__(self) -> Outcome[R]:
        flow = self._handler._flow
        while True:
            outcome, ends = flow.take_now()
            if outcome is not None:
                return outcome
            if ends:
                raise StopAsyncIteration
            await flow.news(flow.has_news)


class _Flow:
    """What a handler and its driver share. The driver's customer: a token is the item's index and the item."""

    def __init__(self, function: ParallelFunction[..., Any], rule: StarRule) -> None:
        options = function._options
        self.name = name_of(function)
        self._room = options.buffersize or _UNBOUNDED
        self._condition = threading.Condition()
        self._ended: deque[Outcome[Any]] = deque()
        self._waiters: list[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = []
        self._adder: weakref.ref[Any] | None = None
        self._adders = 0  # how many they are; more than one is many
        self._added = self._settled = self._taken = 0
        self._counts = Counts()
        self._open = True
        self._guessed = False  # it has told a consumer that nothing more would come, though the input is open
        self._error: BaseException | None = None
        self._process = os.getpid()
        gate = gate_for(function)
        shows = is_shown(options.progress)
        own = start_runner(function, options, discards=True)
        runner = with_checks(function, own, discards=True)
        stream = Stream(buffersize=_UNBOUNDED, ordered=options.ordered, budgets=function.task.retries)
        prepare = preparation(function, rule, discards=True)
        self.recorder = recorder_for(function, options, None, runner)
        observer = observer_for(function, options, None, own.capacity) if shows else None
        observer = joined(observer, self.recorder)
        pump = Pump(iter(()), prepare, stream, runner, gate, observer, clock=current_clock())
        if self.recorder is not None:
            self.recorder.given = stream.given
        self._driver = Driver(pump, self)
        self._runs_here = getattr(own, "runs_here", bool)
        self._stepping = threading.Lock() if isinstance(own, InlineRunner) else None
        if self._stepping is None:
            self._driver.start(f"manyhands-handler-{self.name}")
        _flows.add(self)

    # -- from any thread ------------------------------------------------------------------------------------------

    def add(self, item: Any) -> int | None:
        """The index of an item that was added; None: there is no room."""
        self._check_process()
        with self._condition:
            if not self._open:
                raise self._closed()
            if self._added - self._taken >= self._room:
                return None
            index, self._added = self._added, self._added + 1
            self.note_adder()
            if not self._driver.add(item, (index, item)):
                self._added = index
                raise self._closed()
            if self._stepping is not None:
                self._tell()  # who waits for outcomes is to run it
        return index

    def wait_for_room(self) -> None:
        """Waits until something was taken, or the input is closed."""
        self.check_waits()
        if self._stepping is not None:
            raise RuntimeError(
                f"the handler of {self.name} has no room, and with backend='inline' nothing runs while this waits: "
                f"take results first, or give a larger buffersize"
            )
        with self._condition:
            wait_for(self._condition, self.has_room)

    def _closed(self) -> PoolClosed:
        error = PoolClosed(f"the handler of {self.name} takes no more items: its input is closed")
        error.__cause__ = self._error
        return error

    def close_input(self) -> None:
        self._check_process()
        with self._condition:
            self._open = False
            self._tell()

    def take(self) -> Outcome[Any] | None:
        """The next outcome; waits for it. None: there will be none."""
        while True:
            outcome, ends = self.take_now()
            if outcome is not None or ends:
                return outcome
            self.check_waits()
            if self._can_step():
                self._step()
                continue
            with self._condition:
                wait_for(self._condition, self.has_news)

    def take_now(self) -> tuple[Outcome[Any] | None, bool]:
        """The next outcome, if there is one; else whether there will be none."""
        self._check_process()
        with self._condition:
            if not self._ended:
                ends = self._is_over()
                self._guessed = ends and self._open
                return None, ends
            self._guessed = False
            outcome = self._ended.popleft()
            self._taken += 1
            self._tell()
            return outcome, False

    def has_room(self) -> bool:
        """Whether ``add`` need not wait. Under the lock, as those below."""
        return not self._open or self._added - self._taken < self._room

    def has_news(self) -> bool:
        """Whether ``take`` need not wait, or has to run something."""
        return bool(self._ended) or self._is_over() or self._can_step()

    def _can_step(self) -> bool:
        return self._stepping is not None and self._driver.is_busy

    def _is_over(self) -> bool:
        if self._taken < self._added:
            return False
        if not self._open:
            return True
        return self._adders == 1 and self._adder is not None and self._adder() is _who()

    async def news(self, is_there: Callable[[], bool]) -> None:
        """Waits until something has changed, unless ``is_there`` says under the lock that it has already."""
        import asyncio

        if self._can_step():
            self._step()
            await asyncio.sleep(0)
            return
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        with self._condition:
            if is_there() or self._can_step():
                return
            self._waiters.append((loop, future))
        await future

    def cancel(self, kill: bool) -> None:
        if self.is_others:
            return
        self.close_input()
        self._driver.cancel_all(kill)

    @property
    def pending(self) -> int:
        return self._added - self._settled

    @property
    def counts(self) -> Counts:
        return self._counts

    def close(self, kill: bool) -> None:
        if self.is_others:
            return
        self.close_input()
        if kill:
            self.cancel(kill=True)
        try:
            if self._stepping is None:
                self._driver.finish()
            else:
                with self._stepping:
                    self._driver.finish()
        except BaseException:
            self.cancel(kill=True)  # an interrupted user wants the cores back
            raise
        if self._guessed and not kill and self._taken < self._added:
            self._guessed = False
            warnings.warn(
                f"{self._added - self._taken} outcomes of the handler of {self.name} were not taken: its results had "
                f"ended when all that one thread had added was taken, and another has added more since; where several "
                f"add, call close_input() when all have, and begin with results() before that",
                RuntimeWarning,
                stacklevel=4,
            )

    def end_soon(self) -> None:
        """Has the thread end when nothing is left to do."""
        self._driver.end_soon()

    def drop(self) -> None:
        """As ``end_soon``; takes no lock of the driver's."""
        self._driver.drop()

    def __repr__(self) -> str:
        state = "open" if self._open else "closed"
        return f"<Handler of {self.name}: {self._added} added, {self.pending} pending, {self._taken} taken, {state}>"

    @property
    def is_done(self) -> bool:
        """Whether nobody misses anything when this is dropped."""
        return self._taken == self._added

    def note_adder(self) -> None:
        """Counts who adds. Who drives or runs an item can add only as long as that has not ended: it doesn't count."""
        self._check_process()
        if self._adders > 1 or self._driver.is_here or self._runs_here():
            return
        who = _who()
        with self._condition:
            if self._adder is None or self._adder() is not who:
                self._adder = weakref.ref(who)
                self._adders += 1

    def check_waits(self) -> None:
        """Raises RuntimeError where to wait would be for ever."""
        if self._driver.is_here and not self.is_others:  # a fork may have a thread of that number
            raise RuntimeError(
                f"the handler of {self.name} can't be waited for here, where it calls handle_error, arguments or, "
                f"with backend='inline', the function: it goes on only when that has returned"
            )

    @property
    def is_others(self) -> bool:
        """Whether this is a fork of the process that has it: its locks may be held for ever here."""
        return os.getpid() != self._process

    def _check_process(self) -> None:
        if self.is_others:
            raise PoolClosed(f"the handler of {self.name} is another process's: this one was forked from it")

    def _tell(self) -> None:
        """Wakes all who wait. Under the lock."""
        self._condition.notify_all()
        waiters, self._waiters = self._waiters, []
        for loop, future in waiters:
            try:
                loop.call_soon_threadsafe(_wake, future)
            except RuntimeError:
                pass  # the loop has ended, and nobody waits in it

    def _step(self) -> None:
        assert self._stepping is not None
        with self._stepping:
            if self._driver.is_busy:
                self._driver.guarded(self._driver.step)

    # -- in the thread that drives --------------------------------------------------------------------------------

    def wants(self, token: tuple[int, Any]) -> bool:
        """All of them."""
        return True

    def added(self, token: tuple[int, Any], index: int) -> None:
        """Items are added in the order of their indices."""
        assert token[0] == index

    def settle(self, token: tuple[int, Any], outcome: Outcome[Any]) -> None:
        """An item has ended."""
        failure = outcome.failure
        if failure is not None:
            where = f"in the handler of {self.name}, item {failure.index}: {short_repr(failure.item)}"
            where = placed(where, outcome.attempts, outcome.worker)
            explain(failure.error, failure.traceback, where, outcome.attempts)
        self._settle(outcome)

    def _settle(self, outcome: Outcome[Any]) -> None:
        counts = self._counts
        with self._condition:
            self._counts = Counts(
                counts.values + outcome.ok,
                counts.failures + (outcome.failure is not None),
                counts.discarded + (outcome.discarded is not None),
                counts.elsewhere + (outcome.elsewhere is not None),
            )
            self._settled += 1
            self._ended.append(outcome)
            self._tell()

    def fail(self, tokens: list[tuple[int, Any]], error: BaseException) -> None:
        """Nothing will run any more."""
        with self._condition:
            self._open = False
            self._error = error
        for index, item in sorted(tokens, key=itemgetter(0)):
            self._settle(Outcome(index, item, Failure(error, index, item)))  # one error, which names no item
        with self._condition:
            self._tell()


def _who() -> threading.Thread | asyncio.Task[Any]:
    """Who runs: a task of an event loop, or a thread."""
    asyncio = sys.modules.get("asyncio")
    task = None
    if asyncio is not None and asyncio._get_running_loop() is not None:
        task = asyncio.current_task()
    return task or threading.current_thread()


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


_flows: weakref.WeakSet[_Flow] = weakref.WeakSet()


def _dropped(flow: _Flow) -> None:
    """A handler was dropped without having been closed."""
    if sys.is_finalizing() or flow.is_others:
        return
    try:
        if not flow.is_done:
            warnings.warn(f"{flow!r} was dropped open; close it, or use a with block", ResourceWarning, 2)
    finally:  # a warning may be an error
        flow.cancel(kill=False)
        flow.drop()


def _finish_all() -> None:
    """At the end of a program what was added is finished first, unless that ends by an error."""
    for flow in list(_flows):
        if ends_by_error():
            flow.cancel(kill=True)  # and who waits for outcomes, in a thread of the user's, gets them
            flow.end_soon()
        else:
            flow.close(kill=False)


at_end(_finish_all)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_flows.clear)

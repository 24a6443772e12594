"""Single calls as futures: the share of a pool that stays open for them."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from concurrent.futures._base import CANCELLED, PENDING, RUNNING
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from manyhands.calls import Done, Failed, traceback_text
from manyhands.controller.answers import loads, unpickled_answer
from manyhands.controller.endings import ended_before_it_ran_again
from manyhands.controller.parcels import Parcel
from manyhands.controller.share import Dead, Dropped, News
from manyhands.errors import PoolClosed
from manyhands.future import CallFuture
from manyhands.outcome import explain, placed
from manyhands.workers import payload
from manyhands.workers.channel import RETURNED, Frame
from manyhands.workers.inlet import inlet
from manyhands.workers.parcel import EACH, STORED, unpack
from manyhands.workers.spin import SPIN_SECONDS

if TYPE_CHECKING:
    from manyhands.controller.dispatcher import Dispatcher

T = TypeVar("T")

_log = logging.getLogger("manyhands")


class _Applied:
    """What the works of an executor have in common."""

    def __call__(self, call: Any) -> Any:
        """Not used: what is submitted is plain."""
        raise AssertionError("an executor submits no Call objects")

    def failed(self, error: Exception) -> Failed:
        """What the function raised, as an answer."""
        return Failed(error, traceback_text(error))


class Apply(_Applied):
    """The work of an executor: calls that bring their function along."""

    @staticmethod
    def plain(request: tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]) -> Any:
        """Calls the function."""
        function, args, kwargs = request
        return function(*args, **kwargs)


class ApplyOne(_Applied):
    """The work of one map of an executor: calls of one function, each with one argument."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self.plain = function


class PoolFuture(CallFuture[T]):
    """A future whose ``result`` reads from the pool itself, in the thread that waits.

    What came from the worker is unpickled when it is asked for.
    """

    def __init__(self, desk: Desk, called: object = "a function") -> None:
        super().__init__(called)
        self._desk: Desk | None = desk
        self._ticket = -1
        self._news: tuple[News, str] | None = None
        self._is_cancelling = False
        self._is_unwanted = False  # somebody has asked to cancel it
        self._is_killed = False
        self._done_callbacks: list[Callable[[Future[T]], object]]

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """What the call raised, or None; raises TimeoutError after ``timeout`` seconds."""
        self._wait(timeout)
        return super().exception(0)

    def cancel(self) -> bool:
        """Cancels the call if no worker has it, or had it; returns whether it is cancelled.

        One that was sent to a worker, which has not begun it, is asked back; it is cancelled when it comes back.
        """
        desk = self._desk
        if desk is not None and not self.running() and not self.done():
            self._is_cancelling = self._is_unwanted = True
            try:
                desk.dispatcher.cancel(self._ticket)
            finally:
                self._is_cancelling = False
                if not desk.knows(self._ticket):
                    self._cancelled_now()
                    desk.dispatcher.reader.ring()  # somebody may wait for it
        return self.cancelled()

    def add_done_callback(self, fn: Callable[[Future[T]], object]) -> None:
        """Has ``fn`` called with this future once it is done, in the pool's own thread or, if it is, here."""
        super().add_done_callback(fn if self.done() else partial(_call_back, fn))
        desk = self._desk
        if desk is not None and not self.done():
            desk.dispatcher.caretaker.hurry()

    def _get_snapshot(self) -> Any:
        """As asyncio asks for it, from Python 3.14 on."""
        self._open()
        return super()._get_snapshot()  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]

    def _wait(self, timeout: float | None) -> None:
        desk = self._desk
        if desk is not None:
            desk.dispatcher.reader.wait(self._is_over, timeout, spin=desk.is_quick)
        if self._news is not None:
            self._open()
        inlet.flush()

    def _is_over(self) -> bool:
        return self._desk is None  # cheaper to ask than ``done``

    def _open(self) -> None:
        with self._condition:
            if self._news is not None:
                self._result, self._exception = _opened(*self._news, self._called)
                self._news = None

    # -- the desk's side --------------------------------------------------------------------------------------

    def settle(self, news: News, worker: str) -> None:
        """The call has ended. Called under the dispatcher's lock, so callbacks are left to the caretaker."""
        desk = self._desk
        assert desk is not None
        if isinstance(news, Dropped) and self._is_cancelling:
            return  # it is ended by who cancels it, who calls its callbacks too
        with self._condition:
            callbacks, self._done_callbacks = self._done_callbacks, []
            self._end(news, worker)
        self._desk = None
        for callback in callbacks:
            desk.dispatcher.caretaker.call_back(partial(callback, self))

    def _end(self, news: News, worker: str) -> None:
        if isinstance(news, Dropped):
            if self._is_unwanted and self._state == RUNNING:
                self._state = PENDING  # it was its turn in its worker, which handed it back instead
            if not self.running():
                self._cancelled_now()
                return
            if self._is_killed:
                news = Dead(ended_before_it_ran_again())
            else:
                news = Failed(PoolClosed("the pool was closed before this call could run again"))
        self._news = news, worker
        try:
            if isinstance(news, Frame) and news.kind == RETURNED:
                self.set_result(None)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
            else:
                self.set_exception(_NotOpened())
        except InvalidStateError:
            self._news = None  # it was cancelled

    def _cancelled_now(self) -> None:
        """No worker will get the call: says so to all who wait. May be called twice."""
        if super().cancel():
            with self._condition:
                if self._state == CANCELLED:
                    self.set_running_or_notify_cancel()
            self._desk = None


def _call_back(fn: Callable[[Future[T]], object], future: Future[T]) -> None:
    """Calls a done-callback where not even ``sys.exit`` must end the thread, nor keep others from being called."""
    try:
        fn(future)
    except BaseException:
        _log.exception("a done-callback of %r raised", future)


class _NotOpened(Exception):
    """Stands for an exception that was not unpickled yet."""


class Desk:
    """A share of a pool for single calls.

    Args:
        dispatcher: of the pool.
        work: packed; what the calls are of.
        calls: whether requests are ``Call`` objects.
        timeout: seconds that a call may take.
        readonly: whether large arguments can't be written to.
        name: of the function; "" if each call brings one along.
    """

    lasting = True
    is_map = False
    most = 4  # few, since what a worker holds can't be cancelled
    prompt = True

    def __init__(
        self,
        dispatcher: Dispatcher,
        work: bytes | payload.Large,
        calls: bool,
        timeout: float | None = None,
        readonly: bool = False,
        name: str = "",
    ) -> None:
        self.dispatcher = dispatcher
        self.name = name
        self.group = -1
        self.timeout = timeout
        self._calls = calls
        self._futures: dict[int, PoolFuture[Any]] = {}
        self._retired = False
        self._readonly = readonly
        dispatcher.open(self, work, readonly=readonly)

    def submit(self, request: Any, called: object = "a function") -> PoolFuture[Any]:
        """Pickles the request in this thread and hands it to the pool; raises PoolClosed or PoolBroken.

        Args:
            request: of the desk's kind.
            called: its ``str`` tells in messages what was called.
        """
        future: PoolFuture[Any] = PoolFuture(self, called)
        try:
            blob = self.dispatcher.memory.pack(request, self._readonly)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            future._desk = None
            future.set_running_or_notify_cancel()
            future.set_exception(payload.unpicklable(error).error)
            return future
        ticket = future._ticket = self.dispatcher.new_ticket()
        try:
            self._futures[ticket] = future
            form = EACH if type(blob) is bytes else STORED
            taken = self.dispatcher.submit(self, ticket, Parcel([blob], form), self._calls)
        except BaseException:  # an interrupt: nobody will have the future, so nobody is to wait for it
            self._futures.pop(ticket, None)
            raise
        if not taken:
            del self._futures[ticket]
            raise self.dispatcher.broken.error
        return future

    def knows(self, ticket: int) -> bool:
        """Whether the call has not ended."""
        return ticket in self._futures

    def future_of(self, ticket: int) -> PoolFuture[Any] | None:
        """The future of a call that has not ended."""
        return self._futures.get(ticket)

    @property
    def is_quick(self) -> bool:
        """Whether the last calls took less time than to be woken takes."""
        pace = self.dispatcher.pace(self.group)
        return pace is not None and pace.seconds is not None and pace.seconds < SPIN_SECONDS

    def kill(self, future: PoolFuture[Any]) -> bool:
        """Ends the call, with its worker if one has it; returns whether it had not ended."""
        future._is_killed = True
        return self.dispatcher.kill(future._ticket)

    def cancel_all(self) -> None:
        """Cancels the calls that no worker has."""
        for future in list(self._futures.values()):
            future.cancel()

    def retire(self) -> None:
        """Nothing more will be submitted: gives the share back once all calls have ended; takes no lock."""
        self._retired = True
        if not self._futures:
            self._close()

    def abandon(self, wait: bool) -> None:
        """Nobody waits for the calls any more: those that no worker has begun will not run.

        Without ``wait`` that is so soon, and no lock is taken.
        """
        self._futures.clear()
        self._close(wait)

    def _close(self, wait: bool = False) -> None:
        self.dispatcher.close_session(self.group, kill=False, later=not wait)

    # -- the dispatcher's side ----------------------------------------------------------------------------

    def promised(self) -> bool:
        """Whether calls have not ended."""
        return bool(self._futures)

    def renew_locks(self) -> None:
        """In a forked child: another thread may have been looking at a future."""
        for future in self._futures.values():
            future._condition = threading.Condition()

    def begun(self, ticket: int) -> None:
        """A worker is at the call: it can't be cancelled any more."""
        future = self._futures.get(ticket)
        if future is not None and future._state == PENDING:
            future.set_running_or_notify_cancel()

    def put(self, ticket: int, begin: int, end: int, news: News, worker: str) -> None:
        """The call has ended."""
        future = self._futures.pop(ticket, None)
        if future is not None:
            future.settle(news, worker)
        if self._retired and not self._futures:
            self._close()

    def item(self, ticket: int, position: int) -> int | None:
        """It is in no map."""
        return None

    def unheard(self, ticket: int) -> list[tuple[int, int]]:
        """The call, unless it has ended."""
        return [(0, 1)] if ticket in self._futures else []


def _opened(news: News, worker: str, called: object) -> tuple[Any, BaseException | None]:
    """Result and exception of a call, one of them None; ``called`` tells what was called, if that matters."""
    match news:
        case Frame(kind=kind) if kind == RETURNED:
            try:
                if news.form == STORED:
                    return loads(news.body), None
                (value,), pickled = unpack(news.form, news.body)
                return (loads(value) if pickled else value), None
            except KeyboardInterrupt:
                raise  # most likely the user's: who asks again gets it then
            except BaseException as error:
                failed = payload.unloadable(error)
        case Frame():
            answer = unpickled_answer(news)
            if isinstance(answer, Done):
                return answer.value, None
            assert isinstance(answer, Failed)
            failed = answer
        case Dead(error):
            failed = Failed(error)
        case Failed():
            failed = news
        case Dropped():
            raise AssertionError("what was cancelled has no result")
    explain(failed.error, failed.traceback, placed(f"in a submitted call of {called}", (), worker))
    return None, failed.error

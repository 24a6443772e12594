"""A stream that items are added to from any thread, driven by a thread of its own or by who wants its outcomes."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Any, Protocol

from manyhands.handler.blocks import Run
from manyhands.handler.pump import Halted, Pump
from manyhands.outcome import Outcome, explain
from manyhands.waiting import join


class Customer(Protocol):
    """Whose items are driven: told of everything in the thread that drives."""

    def wants(self, token: Any) -> bool:
        """Whether the item of this token is to be added still."""
        ...

    def added(self, token: Any, index: int) -> None:
        """The item of this token was added."""
        ...

    def settle(self, token: Any, outcome: Outcome[Any]) -> None:
        """The item of this token has ended."""
        ...

    def fail(self, tokens: list[Any], error: BaseException) -> None:
        """Nothing will run any more, so the items of these tokens end with this error."""
        ...


class Driver:
    """Adds what arrives to a pump, and tells a customer of the outcomes.

    Args:
        pump: without an input.
        customer: is told.
        linger: seconds after which it ends, when nothing is left to do; None: not before ``finish``.
        is_tidy: whether it ends as soon as nothing is left to do.

    Attributes:
        open: whether it takes items.
    """

    def __init__(
        self, pump: Pump, customer: Customer, linger: float | None = None, is_tidy: bool = False
    ) -> None:
        self.open = True
        self._pump = pump
        self._customer = customer
        self._linger = linger
        self._is_tidy = is_tidy
        self._lock = threading.Lock()
        self._arrived: queue.SimpleQueue[tuple[Any, Any]] = queue.SimpleQueue()
        self._orders: queue.SimpleQueue[Callable[[Pump], object]] = queue.SimpleQueue()
        self._tokens: dict[int, Any] = {}
        self._thread: threading.Thread | None = None
        self._driving: int | None = None  # the thread that is at a step
        pump.runner.promise(lambda: self.open and bool(self._tokens or not self._arrived.empty()))

    def start(self, name: str) -> None:
        """Drives from now on, in a thread of this name."""
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)
        self._thread.start()

    # -- from any thread --------------------------------------------------------------------------------------

    def add(self, item: Any, token: Any) -> bool:
        """Takes an item, unless it has ended; returns whether it has taken it."""
        with self._lock:
            takes = self.open  # as of now: once it is put, it ends as the others do
            if takes:
                self._arrived.put((item, token))
        if takes:
            self._pump.runner.wake()
        return takes

    def order(self, what: Callable[[Pump], object]) -> None:
        """Has something done with the pump, in the thread that drives."""
        self._orders.put(what)
        self._pump.runner.wake()

    def cancel_all(self, kill: bool) -> None:
        """Drops what has not begun; see ``Pump.cancel_all``. At once, nothing is tried again."""
        self._pump.stream.stop()
        self.order(lambda pump: pump.cancel_all(kill))

    def finish(self) -> None:
        """Nothing more will be added: returns when all has ended."""
        self.end_soon()
        if self._thread is not None:
            join(self._thread)
        elif self.open:
            self._serve()
        else:
            self._pump.close()  # it has failed in a step

    def end_soon(self) -> None:
        """Nothing more will be added: ends when all has; does not wait for that."""
        self._linger = 0.0
        self._pump.runner.wake()

    def drop(self) -> None:
        """As ``end_soon``, where nobody is left to take outcomes, or to drive if that was no thread of its own."""
        self.end_soon()
        if self._thread is None:
            self.open = False
            self._pump.close(wait=False)

    def give_up(self) -> None:
        """What is pending will not be waited for."""
        self.open = False

    # -- in the thread that drives ------------------------------------------------------------------------------

    def step(self) -> bool:
        """Adds what has arrived and settles one item; returns whether there is, or may be, more to do."""
        pump, customer = self._pump, self._customer
        for _ in range(self._arrived.qsize()):  # no more: who adds without end keeps nothing from running
            item, token = self._arrived.get()
            if customer.wants(token):
                index = pump.stream.added
                self._tokens[index] = token  # before anything of the user's is called, which may raise
                pump.add(item)
                customer.added(token, index)
        while not self._orders.empty():
            self._orders.get()(pump)
        outcome = pump.poll(None if self._tokens else self._linger)
        assert not isinstance(outcome, Run)  # items are added one by one
        if outcome is None:
            if not self._tokens and self._linger is not None:
                self._close_if_empty()
            return self.open
        token = self._tokens.pop(outcome.index)
        if self._is_tidy and not self._tokens:
            self._close_if_empty()  # before anybody looks at what it leaves
        customer.settle(token, outcome)
        return self.open

    @property
    def is_here(self) -> bool:
        """Whether the thread that asks is at a step: what it waited for would never come."""
        return self._driving == threading.get_ident()

    @property
    def is_busy(self) -> bool:
        """Whether anything was added that has not ended."""
        return bool(self._tokens) or not self._arrived.empty()

    def guarded(self, step: Callable[[], bool]) -> bool:
        """Does a step; what it raises is the end of all items."""
        self._driving = threading.get_ident()
        try:
            return step()
        except Halted as halted:
            error = halted.failed.error
            explain(error, halted.failed.traceback, "nothing more could run")
            self._fail_all(error)
            return False
        except BaseException as error:
            self._fail_all(error)
            raise
        finally:
            self._driving = None

    def token(self, index: int) -> Any:
        """What was added with the item that has this index now, and has not ended."""
        return self._tokens[index]

    def _serve(self) -> None:
        try:
            while self.guarded(self.step):
                pass
        finally:
            self._pump.close()

    def _close_if_empty(self) -> None:
        with self._lock:
            self.open = not self._arrived.empty()
        if not self.open:
            self._pump.close()

    def _fail_all(self, error: BaseException) -> None:
        with self._lock:
            self.open = False
        for index, token in sorted(self._tokens.items()):  # in their order, though some have ended before
            outcome = self._pump.stream.outcome(index)
            if outcome is None:
                self._customer.fail([token], error)
            else:
                self._customer.settle(token, outcome)
        self._tokens.clear()
        waiting = []
        while not self._arrived.empty():
            waiting.append(self._arrived.get()[1])
        self._customer.fail(waiting, error)

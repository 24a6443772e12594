"""The stream core: which item is sent next, which outcome is taken next, and what a failure leads to.

It is pure: it has no clock, thread, process or file. The pump tells it what happened and when, and asks it
what to do. Its guarantees, whatever the order of events:

1. every item that was added ends exactly once, and is taken exactly once;
2. at most ``buffersize`` items are added and not yet taken, at any moment;
3. with ``ordered``, outcomes are taken in the order in which their items were added; otherwise as they end;
4. an item is never sent while it is out, and never before its wait is over.

What states an item goes through stands in ``item``. Items that need no decision of their own are added and sent by
``send_block`` and end by ``returned``, many at once (see ``blocks``); one that comes back with anything but a value is
an item by itself from then on.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from manyhands.calls import Call, Done, Failed
from manyhands.errors import TaskTimeout, WorkerDied
from manyhands.handler.blocks import Blocks, Run
from manyhands.handler.item import Item, State, WrongState
from manyhands.outcome import Elsewhere, Failure, Outcome
from manyhands.policies.retry import RetryBudget, budget_of
from manyhands.policies.verdict import SAME, GiveUp, HandleError, Replace, Retry, Verdict

Ended = Outcome[Any] | None
"""The outcome of an item that has just ended, or None if it is to be repeated."""

NextWait = Callable[[RetryBudget, int, float, BaseException, float | None], float | None]


@dataclass(frozen=True, slots=True)
class Question:
    """An item has failed, and what is next is for the user to say: see ``Stream.judged``."""

    handle_error: HandleError
    failure: Failure


class Stream:
    """The state of one map.

    Args:
        buffersize: bound on items added and not yet taken, at least 1.
        ordered: whether outcomes are taken in the order of their items.
        budgets: the task's retry budgets; ``Failed.budget`` counts through them.
        next_wait: as ``RetryBudget.next_wait``, which draws random numbers.

    Attributes:
        added: how many items were added: the index of the next one.
        in_flight: how many items are out.
        is_open: whether items may be added yet.
    """

    def __init__(
        self,
        *,
        buffersize: int,
        ordered: bool = True,
        budgets: tuple[RetryBudget, ...] = (),
        next_wait: NextWait = RetryBudget.next_wait,
    ) -> None:
        self.buffersize = buffersize
        self.ordered = ordered
        self.added = 0
        self.in_flight = 0
        self._taken = 0
        self.is_open = True
        self._repeats = True
        self._budgets = budgets
        self._next_wait = next_wait
        self._items: dict[int, Item] = {}
        self._blocks = Blocks()
        self._runs: dict[int, Run] = {}  # of blocks, ended and not taken, by their first index
        self._due: list[tuple[float, int]] = []  # a heap; the earliest first, then the lowest index
        self._next_taken = 0  # ordered
        self._ended: deque[int] = deque()  # unordered: in the order of ending, items and runs

    @property
    def may_repeat(self) -> bool:
        """Whether there are attempts after the first."""
        return bool(self._budgets)

    # -- in -------------------------------------------------------------------------------------------------

    @property
    def room(self) -> int:
        """How many items may be added."""
        return max(0, self.buffersize - self.pending) if self.is_open else 0

    def add(self, item: Any, call: Call, now: float, index: int | None = None) -> int:
        """Takes an item in, due now; returns its index: how many there were before it, unless it is given."""
        if not self.room:
            raise WrongState(f"no room for item {self.added}: {self!r}")
        if index is None:
            index = self.added
        elif index in self._items or self.ordered:
            raise WrongState(f"item {index} can't be added: {self!r}")
        self.added += 1
        self._items[index] = Item(index, item, item, call)
        self._wait(index, now)
        return index

    def add_out(self, item: Any, call: Call, index: int) -> None:
        """As ``add``, ``pop_due`` and ``send``: an item that was not in here is handed to the runner, as ``call``."""
        if index in self._items or self.ordered or not self.room:
            raise WrongState(f"item {index} can't be added: {self!r}")
        self.added += 1
        self.in_flight += 1
        self._items[index] = Item(index, item, item, call, state=State.SENT)

    def send_block(self, items: Sequence[Any], held: list[Any] | None = None) -> int:
        """Takes items in that are handed to the runner together, at once; returns the index of the first.

        Args:
            items: these.
            held: as they are now, for those that are tried again; None: they stay so, or none is.
        """
        if not items or len(items) > self.room:
            raise WrongState(f"no room for {len(items)} items: {self!r}")
        index = self.added
        self.added += len(items)
        self.in_flight += len(items)
        self._blocks.add(index, items, held)
        return index

    def close_input(self) -> None:
        """No item will be added."""
        self.is_open = False

    def stop(self) -> None:
        """No attempt is repeated from now on; may be called from any thread."""
        self._repeats = False

    # -- to the runner ----------------------------------------------------------------------------------------

    @property
    def waits(self) -> bool:
        """Whether an item may wait to be sent."""
        return bool(self._due)

    @property
    def next_due(self) -> float | None:
        """When the next item is to be sent, or None if none waits."""
        while self._due and not self._is_in(self._due[0][1], State.WAITING):
            heapq.heappop(self._due)  # it ended without having been sent
        return self._due[0][0] if self._due else None

    def pop_due(self, now: float) -> int | None:
        """An item whose time has come, which the caller sends or ends at once; None if there is none."""
        due = self.next_due
        if due is None or due > now:
            return None
        index = heapq.heappop(self._due)[1]
        self._items[index].pop()
        return index

    def send(self, index: int, call: Call) -> None:
        """The item, which ``pop_due`` gave, was handed to the runner as ``call``."""
        self.item(index).send(call)
        self.in_flight += 1

    def end(self, index: int, answer: Done[Any] | Failed) -> Ended:
        """The item ends without having been sent."""
        item = self.item(index)
        item.check(State.WAITING, State.DUE)
        return self._end(item, answer)

    def given(self, index: int) -> Any:
        """The item as it was given; it is out, or waits."""
        return self._blocks.item(index) if self._blocks.is_out(index) else self.item(index).item

    # -- back from it -----------------------------------------------------------------------------------------

    def returned(self, index: int, values: list[Any], seconds: float, last: float, worker: str) -> Run:
        """Items of a block, from this one on, returned these values; see ``Run`` for the seconds."""
        run = self._blocks.returned(index, values, seconds, last, worker)
        self.in_flight -= len(values)
        self._runs[index] = run
        if not self.ordered:
            self._ended.append(index)
        return run

    def answered(self, index: int, done: Done[Any], seconds: float, worker: str) -> Outcome[Any]:
        """The item came back with its value."""
        item = self._back(index)
        return self._end(item, done, seconds, worker) if done.computed else self._end(item, done)

    def dropped(self, index: int, failed: Failed) -> Outcome[Any]:
        """The item came back without having run, which is no attempt."""
        return self._end(self._back(index), failed)

    def leave(self, index: int, where: str) -> Outcome[Any]:
        """The item that came back is left to the process that holds it."""
        item = self._back(index)
        return self._end(item, Elsewhere(where, item.index, item.item))

    def postpone(
        self,
        index: int,
        until: float,
        memo: Any,
        failed: Failed | None = None,
        seconds: float = 0.0,
        worker: str = "",
    ) -> None:
        """The item came back with nothing decided, or with a failed attempt that is to be repeated."""
        self._back(index).postpone(memo, failed, seconds, worker)
        self._wait(index, until)

    def died(self, index: int, error: WorkerDied | TaskTimeout, now: float, worker: str) -> Ended | Question:
        """The item's worker ended with it; nobody but the stream can tell whether that is to be retried."""
        item = self._back(index)
        error.index, error.item = index, item.item
        failed = Failed(error, budget=budget_of(self._budgets, error))
        return self._fail(item, failed, now, error.seconds, worker)

    def call_of(self, index: int) -> Call | None:
        """The call of an item that was sent on its own; None for those of blocks."""
        item = self._items.get(index)
        return None if item is None else item.call

    def failed(self, index: int, failed: Failed, now: float, seconds: float, worker: str) -> Ended | Question:
        """An attempt has failed: the item ends, waits for the next, or its fate is asked for."""
        return self._fail(self._back(index), failed, now, seconds, worker)

    def _fail(self, item: Item, failed: Failed, now: float, seconds: float, worker: str) -> Ended | Question:
        item.fail(failed, now, seconds, worker)
        if failed.budget is None or not self._repeats:
            return self._end(item, failed, seconds, worker)
        handle_error = self._budgets[failed.budget].handle_error
        if handle_error is None:
            return self.judged(item.index, Retry(), now)
        return Question(handle_error, item.failure(failed, worker))

    def judged(self, index: int, verdict: Verdict, now: float, call: Call | Failed | None = None) -> Ended:
        """What becomes of a failed item.

        Args:
            index: of the item.
            verdict: the answer to the ``Question``.
            now: the time.
            call: for other arguments, their call, or what is wrong with them.
        """
        item = self.item(index)
        item.check(State.FAILED)
        assert item.last is not None
        failed, seconds, worker = item.last
        match verdict:
            case Replace(value):
                return self._end(item, Done(value), seconds, worker)
            case GiveUp(error):
                if error is not None:
                    failed = failed._replace(error=error, discard=False)
                return self._end(item, failed, seconds, worker)
            case Retry(arguments, wait):
                allowed = self._allowed_wait(item, failed, now, wait)
                if allowed is None:
                    return self._end(item, failed, seconds, worker)
                if isinstance(call, Failed):
                    return self._end(item, call, seconds, worker)
                if arguments is not SAME:
                    item.arguments, item.call, item.held = arguments, call, None
                item.retry()
                self._wait(index, now + allowed)
                return None

    # -- out --------------------------------------------------------------------------------------------------

    @property
    def has_outcome(self) -> bool:
        """Whether ``take`` would give one."""
        if not self.ordered:
            return bool(self._ended)
        return self._next_taken in self._runs or self._is_in(self._next_taken, State.ENDED)

    @property
    def pending(self) -> int:
        """How many items were added and are not yet taken."""
        return self.added - self._taken

    @property
    def finished(self) -> bool:
        """Whether the input has ended and every outcome was taken."""
        return not self.is_open and not self.pending

    def take(self) -> Outcome[Any] | Run | None:
        """The next outcome or run of outcomes, or None if it has not ended yet."""
        if self.ordered:
            index = self._next_taken
        elif self._ended:
            index = self._ended.popleft()
        else:
            return None
        run = self._runs.pop(index, None)
        if run is not None:
            self._blocks.taken(run)
            self._next_taken = index + len(run.values)
            self._taken += len(run.values)
            return run
        if not self._is_in(index, State.ENDED):
            return None
        self._next_taken = index + 1
        self._taken += 1
        return self._items.pop(index).outcome

    # -- what there is ----------------------------------------------------------------------------------------

    def item(self, index: int) -> Item:
        """An item that was not taken, and did not go in a block; raises WrongState if it is none."""
        item = self._items.get(index)
        if item is None:
            raise WrongState(f"item {index} is unknown: {self!r}")
        return item

    def is_waiting(self, index: int) -> bool:
        """Whether the item is here, and neither out nor ended."""
        return self._is_in(index, State.WAITING, State.DUE)

    @property
    def waiting(self) -> list[int]:
        """The items that are here, and neither out nor ended."""
        return [index for index in self._items if self.is_waiting(index)]

    def outcome(self, index: int) -> Outcome[Any] | None:
        """What an item that was not taken came to; None: it has not ended."""
        item = self._items.get(index)
        return item.outcome if item is not None else None

    @property
    def out(self) -> list[int]:
        """The items that are out by themselves, not in a block."""
        return [index for index in self._items if self._is_in(index, State.SENT)]

    # -- inside -----------------------------------------------------------------------------------------------

    def _is_in(self, index: int, *states: State) -> bool:
        item = self._items.get(index)
        return item is not None and item.state in states

    def _wait(self, index: int, until: float) -> None:
        heapq.heappush(self._due, (until, index))

    def _back(self, index: int) -> Item:
        """The item was out, and is not any more."""
        if index not in self._items and self._blocks.is_out(index):
            item, held = self._blocks.single_out(index)
            self._items[index] = Item(index, item, item, None, held, State.SENT)
        item = self.item(index)
        item.check(State.SENT)
        self.in_flight -= 1
        return item

    def _allowed_wait(self, item: Item, failed: Failed, now: float, wait: float | None) -> float | None:
        """Seconds to wait before the next attempt, if the budget has one."""
        if not self._repeats:
            return None
        assert failed.budget is not None
        assert item.begun is not None
        budget, spent = self._budgets[failed.budget], item.spent[failed.budget]
        return self._next_wait(budget, spent, now - item.begun, failed.error, wait)

    def _end(
        self, item: Item, answer: Done[Any] | Failed | Elsewhere, seconds: float = 0.0, worker: str = ""
    ) -> Outcome[Any]:
        if not self.ordered:
            self._ended.append(item.index)
        return item.end(answer, seconds, worker)

    def __repr__(self) -> str:
        states = [item.state for item in self._items.values()]
        here = len(states) - states.count(State.SENT) - states.count(State.ENDED)
        return (
            f"<Stream {self.added} added, {here} due, {self.in_flight} sent, "
            f"{self.pending - here - self.in_flight} ended, {self._taken} taken, "
            f"{'open' if self.is_open else 'closed'}>"
        )

"""The stream core: which item is sent next, which outcome is taken next, and what a failure leads to.

It is pure: it has no clock, thread, process or file. The pump tells it what happened and when, and asks it
what to do. Its guarantees, whatever the order of events:

1. every item that was added ends exactly once, and is taken exactly once;
2. at most ``buffersize`` items are added and not yet taken, at any moment;
3. with ``ordered``, outcomes are taken in the order in which their items were added; otherwise as they end;
4. an item is never sent while it is out, and never before its wait is over.

An item is in one of four states; the methods named are the only ways from one to the next::

    add -> DUE ---send---> SENT ---answered, leave---> ENDED ---take---> (forgotten)
            ^ |            |  |                          ^ ^
            | +------------|--|-----------end------------+ |
            +--postpone----+  +--failed, died--> FAILED    |
            ^                                    |    |    |
            +--------------judged----------------+    +----+

Who judges a failure is the task's ``handle_error`` or, without one, its budget alone: then it does not stay FAILED.
Items that need no decision of their own are added and sent by ``send_block`` and end by ``returned``, many at
once (see ``blocks``); one that comes back with anything but a value goes on as the drawing says.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

from manyhands.calls import Call, Done, Failed, error_text, qualified_name
from manyhands.errors import TaskTimeout, WorkerDied
from manyhands.handler.blocks import Blocks, Run, WrongState
from manyhands.outcome import Attempt, Discarded, Elsewhere, Failure, Outcome
from manyhands.policies.retry import RetryBudget, budget_of
from manyhands.policies.verdict import SAME, GiveUp, HandleError, Replace, Retry, Verdict

Ended = Outcome[Any] | None
"""The outcome of an item that has just ended, or None if it is to be repeated."""


@dataclass(frozen=True, slots=True)
class Question:
    """An item has failed, and what is next is for the user to say: see ``Stream.judged``."""

    handle_error: HandleError
    failure: Failure


class State(Enum):
    """Where an item is; see the drawing above."""

    DUE = auto()
    SENT = auto()
    FAILED = auto()
    ENDED = auto()


@dataclass(slots=True)
class _Item:
    index: int
    item: Any
    arguments: Any  # what the call was made of: the item, or what stands in its place
    call: Call | None
    state: State = State.DUE
    queued: bool = True  # whether its wait is not over: it was not popped
    looks: int = 0
    spent: dict[int, int] = field(default_factory=dict)
    begun: float | None = None  # of those that have failed, the first
    failed: tuple[Failed, float, str] | None = None
    attempts: list[Attempt] = field(default_factory=list)
    outcome: Outcome[Any] | None = None


NextWait = Callable[[RetryBudget, int, float, BaseException, float | None], float | None]


class Stream:
    """The state of one map.

    Args:
        buffersize: bound on items added and not yet taken, at least 1.
        ordered: whether outcomes are taken in the order of their items.
        budgets: the task's retry budgets; ``Failed.budget`` counts through them.
        next_wait: as ``RetryBudget.next_wait``, which draws random numbers.
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
        self._budgets = budgets
        self._next_wait = next_wait
        self._items: dict[int, _Item] = {}
        self._blocks = Blocks()
        self._runs: dict[int, Run] = {}  # of blocks, ended and not taken, by their first index
        self._due: list[tuple[float, int]] = []  # a heap; the earliest first, then the lowest index
        self._ended: deque[int] = deque()  # unordered: in the order of ending, items and runs
        self._added = 0
        self._taken = 0
        self._next_taken = 0
        self._sent = 0
        self._open = True
        self._repeats = True

    # -- what to do -----------------------------------------------------------------------------------

    @property
    def has_room(self) -> bool:
        """Whether another item may be added."""
        return self.room > 0

    @property
    def room(self) -> int:
        """How many items may be added."""
        return max(0, self.buffersize - self.pending) if self._open else 0

    @property
    def in_flight(self) -> int:
        """How many items are out."""
        return self._sent

    @property
    def added(self) -> int:
        """How many items were added: the index of the next one."""
        return self._added

    @property
    def pending(self) -> int:
        """How many items were added and are not yet taken."""
        return self._added - self._taken

    @property
    def finished(self) -> bool:
        """Whether the input has ended and every outcome was taken."""
        return not self._open and not self.pending

    @property
    def has_outcome(self) -> bool:
        """Whether ``take`` would give one."""
        if not self.ordered:
            return bool(self._ended)
        item = self._items.get(self._next_taken)
        return self._next_taken in self._runs or (item is not None and item.state is State.ENDED)

    @property
    def next_due(self) -> float | None:
        """When the next item is to be sent, or None if none waits."""
        while self._due and not self._is_due(self._due[0][1]):
            heapq.heappop(self._due)  # it ended without having been sent
        return self._due[0][0] if self._due else None

    def pop_due(self, now: float) -> int | None:
        """An item whose time has come, which the caller sends or ends at once; None if there is none."""
        due = self.next_due
        if due is None or due > now:
            return None
        index = heapq.heappop(self._due)[1]
        self._items[index].queued = False
        return index

    def call(self, index: int) -> Call | None:
        """The call of an item that has not ended; None for one that was sent in a block."""
        return self._items[index].call

    def arguments(self, index: int) -> Any:
        """What the call of an item that was not taken is to be made of."""
        return self._items[index].arguments

    def is_waiting(self, index: int) -> bool:
        """Whether the item is here, and neither out nor ended."""
        return self._is_due(index)

    @property
    def waiting(self) -> list[int]:
        """The items that are here, and neither out nor ended."""
        return [index for index in self._items if self._is_due(index)]

    def outcome(self, index: int) -> Outcome[Any] | None:
        """What an item that was not taken came to; None: it has not ended."""
        item = self._items.get(index)
        return item.outcome if item is not None else None

    @property
    def out(self) -> list[int]:
        """The items that are out by themselves, not in a block."""
        return [index for index, item in self._items.items() if item.state is State.SENT]

    def looks(self, index: int) -> int:
        """How many times in a row the item came back with nothing decided."""
        return self._items[index].looks

    # -- what happened ----------------------------------------------------------------------------------

    def add(self, item: Any, call: Call, now: float) -> int:
        """Takes an item in, due now; returns its index."""
        if not self.has_room:
            raise WrongState(f"no room for item {self._added}: {self!r}")
        index = self._added
        self._added += 1
        self._items[index] = _Item(index, item, item, call)
        heapq.heappush(self._due, (now, index))
        return index

    def send_block(self, items: Sequence[Any]) -> int:
        """Takes items in that are handed to the runner together, at once; returns the index of the first."""
        if not items or len(items) > self.room:
            raise WrongState(f"no room for {len(items)} items: {self!r}")
        index = self._added
        self._added += len(items)
        self._sent += len(items)
        self._blocks.add(index, items)
        return index

    def returned(self, index: int, values: list[Any], seconds: float, last: float, worker: str) -> Run:
        """Items of a block, from this one on, returned these values; see ``Run`` for the seconds."""
        run = self._blocks.returned(index, values, seconds, last, worker)
        self._sent -= len(values)
        self._runs[index] = run
        if not self.ordered:
            self._ended.append(index)
        return run

    def close_input(self) -> None:
        """No item will be added."""
        self._open = False

    def stop(self) -> None:
        """No attempt is repeated from now on; may be called from any thread."""
        self._repeats = False

    def send(self, index: int, call: Call) -> None:
        """The item, which ``pop_due`` gave, was handed to the runner as ``call``."""
        item = self._in_state(index, State.DUE)
        if item.queued:
            raise WrongState(f"item {index} is not due yet: {self!r}")
        item.call = call
        item.state = State.SENT
        self._sent += 1

    def postpone(
        self, index: int, until: float, memo: Any, failed: Failed | None = None, worker: str = ""
    ) -> None:
        """The item came back with nothing decided, or with a failed attempt that is to be repeated."""
        item = self._back(index)
        if item.call is not None:
            item.call = Call(item.call.args, item.call.kwargs, memo)
        if failed is None:
            item.looks += 1
        else:
            item.looks = 0
            item.attempts.append(_attempt(failed.error, 0.0, worker))
        self._wait(item, until)

    def answered(self, index: int, done: Done[Any], seconds: float, worker: str) -> Outcome[Any]:
        """The item came back with its value."""
        return self._end(self._back(index), done, *((seconds, worker) if done.computed else (0.0, "")))

    def failed(self, index: int, failed: Failed, now: float, seconds: float, worker: str) -> Ended | Question:
        """An attempt has failed: the item ends, waits for the next, or its fate is asked for."""
        return self._fail(self._back(index), failed, now, seconds, worker)

    def dropped(self, index: int, failed: Failed) -> Outcome[Any]:
        """The item came back without having run, which is no attempt."""
        return self._end(self._back(index), failed, 0.0, "")

    def died(self, index: int, error: WorkerDied | TaskTimeout, now: float, worker: str) -> Ended | Question:
        """The item's worker ended with it; nobody but the stream can tell whether that is to be retried."""
        item = self._back(index)
        error.index, error.item = index, item.item
        return self._fail(item, Failed(error, budget=budget_of(self._budgets, error)), now, 0.0, worker)

    def judged(self, index: int, verdict: Verdict, now: float, call: Call | Failed | None = None) -> Ended:
        """What becomes of a failed item.

        Args:
            index: of the item.
            verdict: the answer to the ``Question``.
            now: the time.
            call: for other arguments, their call, or what is wrong with them.
        """
        item = self._in_state(index, State.FAILED)
        assert item.failed is not None
        failed, seconds, worker = item.failed
        match verdict:
            case Replace(value):
                return self._end(item, Done(value), seconds, worker)
            case GiveUp(error):
                if error is not None:
                    failed = failed._replace(error=error, discard=False)
                return self._end(item, failed, seconds, worker)
            case Retry(arguments, wait):
                seconds_to_wait = self._allowance(item, failed, now, wait)
                if seconds_to_wait is None:
                    return self._end(item, failed, seconds, worker)
                if isinstance(call, Failed):
                    return self._end(item, call, seconds, worker)
                if arguments is not SAME:
                    item.arguments, item.call = arguments, call
                item.state, item.failed, item.looks = State.DUE, None, 0
                self._wait(item, now + seconds_to_wait)
                return None

    def end(self, index: int, answer: Done[Any] | Failed) -> Ended:
        """The item ends without having been sent."""
        return self._end(self._in_state(index, State.DUE), answer, 0.0, "")

    def leave(self, index: int, where: str) -> Ended:
        """The item that came back is left to the process that holds it."""
        item = self._back(index)
        return self._finish(item, Elsewhere(where, item.index, item.item), 0.0, "")

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
        item = self._items.get(index)
        if item is None or item.state is not State.ENDED:
            return None
        del self._items[index]
        self._next_taken = index + 1
        self._taken += 1
        return item.outcome

    # -- inside -----------------------------------------------------------------------------------------

    def _is_due(self, index: int) -> bool:
        item = self._items.get(index)
        return item is not None and item.state is State.DUE

    def _in_state(self, index: int, state: State) -> _Item:
        item = self._items.get(index)
        if item is None or item.state is not state:
            raise WrongState(
                f"item {index} is {item.state.name if item else 'unknown'}, not {state.name}: {self!r}"
            )
        return item

    def _back(self, index: int) -> _Item:
        if index not in self._items and self._blocks.is_out(index):
            item = self._blocks.single_out(index)
            self._items[index] = _Item(index, item, item, None, State.SENT, queued=False)
        item = self._in_state(index, State.SENT)
        self._sent -= 1
        item.state = State.DUE
        return item

    def _wait(self, item: _Item, until: float) -> None:
        item.queued = True
        heapq.heappush(self._due, (until, item.index))

    def _fail(self, item: _Item, failed: Failed, now: float, seconds: float, worker: str) -> Ended | Question:
        item.attempts.append(_attempt(failed.error, seconds, worker))
        budget = failed.budget
        if budget is None or not self._repeats:
            return self._end(item, failed, seconds, worker)
        item.spent[budget] = item.spent.get(budget, 0) + 1
        if item.begun is None:
            item.begun = now - seconds
        item.state, item.failed = State.FAILED, (failed, seconds, worker)
        handle_error = self._budgets[budget].handle_error
        if handle_error is None:
            return self.judged(item.index, Retry(), now)
        return Question(handle_error, _failure(item, failed, worker))

    def _allowance(self, item: _Item, failed: Failed, now: float, wait: float | None) -> float | None:
        """Seconds to wait before the next attempt, if the budget has one."""
        if not self._repeats:
            return None
        assert failed.budget is not None
        assert item.begun is not None
        budget, spent = self._budgets[failed.budget], item.spent[failed.budget]
        return self._next_wait(budget, spent, now - item.begun, failed.error, wait)

    def _end(self, item: _Item, answer: Done[Any] | Failed, seconds: float, worker: str) -> Outcome[Any]:
        result: Done[Any] | Failure | Discarded
        if isinstance(answer, Done):
            result = answer
        elif answer.discard:
            result = Discarded(error_text(answer.error), item.index, item.item)
        else:
            result = _failure(item, answer, worker)
        return self._finish(item, result, seconds, worker)

    def _finish(
        self, item: _Item, result: Done[Any] | Failure | Discarded | Elsewhere, seconds: float, worker: str
    ) -> Outcome[Any]:
        item.outcome = Outcome(item.index, item.item, result, tuple(item.attempts), seconds, worker)
        item.state, item.failed = State.ENDED, None
        if not self.ordered:
            self._ended.append(item.index)
        return item.outcome

    def __repr__(self) -> str:
        waiting = sum(item.state in (State.DUE, State.FAILED) for item in self._items.values())
        return (
            f"<Stream {self._added} added, {waiting} due, {self._sent} sent, "
            f"{self.pending - waiting - self._sent} ended, {self._taken} taken, "
            f"{'open' if self._open else 'closed'}>"
        )


def _failure(item: _Item, failed: Failed, worker: str) -> Failure:
    return Failure(
        failed.error,
        item.index,
        item.item,
        failed.traceback,
        tuple(item.attempts),
        worker,
        item.arguments,
    )


def _attempt(error: BaseException, seconds: float, worker: str) -> Attempt:
    return Attempt(qualified_name(type(error)), error_text(error), seconds, worker)

"""The stream core against a model, in any order of events."""

from __future__ import annotations

import weakref
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from manyhands.calls import Call, Done, Failed, qualified_name
from manyhands.errors import InvalidResult, PoolClosed, TaskTimeout, WorkerDied
from manyhands.handler.blocks import Run
from manyhands.handler.item import WrongState
from manyhands.handler.stream import Question, Stream
from manyhands.outcome import Attempt, Discarded, Elsewhere, Failure, Outcome
from manyhands.policies.retry import RetryBudget, budget_of
from manyhands.policies.verdict import SAME, GiveUp, Replace, Retry, Verdict

WRONG = ["send", "answered", "died", "judged", "postpone", "leave", "end", "returned"]
"""Transitions that may be wrong."""

ERRORS: tuple[type[BaseException], ...] = (OSError, FileNotFoundError, ValueError, InvalidResult, KeyError)


def not_called(failure: Failure) -> Verdict:
    raise AssertionError("the stream asks nobody itself")


@dataclass
class Item:
    """What the model knows of an item that was not taken.

    ``block`` is the first index of the block that it is out with, ``run`` the run that it returned in.
    """

    item: object
    state: str = "due"
    call: Call | None = None
    block: int | None = None
    run: Run | None = None
    until: float = 0.0
    looks: int = 0
    spent: Counter[int] = field(default_factory=Counter)
    attempts: list[Attempt] = field(default_factory=list)
    begun: float | None = None
    failed: Failed | None = None
    arguments: object = None
    outcome: Outcome[Any] | None = None


class AnyOrder(RuleBasedStateMachine):
    """Does to a stream and to a model whatever a pump may do, in any order."""

    @initialize(
        buffersize=st.integers(1, 5),
        ordered=st.booleans(),
        attempts=st.tuples(*[st.integers(1, 3)] * 3),
        named=st.integers(0, 3),
        judged=st.sets(st.integers(0, 2)),
    )
    def begin(
        self, buffersize: int, ordered: bool, attempts: tuple[int, int, int], named: int, judged: set[int]
    ) -> None:
        """A fresh stream with some budgets, one of them more specific than another."""
        kinds = ((OSError, KeyError), (FileNotFoundError, ValueError), (WorkerDied,))
        self.budgets = tuple(
            RetryBudget(kind, most, handle_error=not_called if number in judged else None)
            for number, (kind, most) in enumerate(zip(kinds, attempts, strict=True))
        )[:named]
        self.stream = Stream(
            buffersize=buffersize,
            ordered=ordered,
            budgets=self.budgets,
            next_wait=self.next_wait,
        )
        self.now = 0.0
        self.open = True
        self.stopped = False
        self.items: dict[int, Item] = {}
        self.added = 0
        self.ended: list[int] = []
        self.taken: list[int] = []
        self.seconds: dict[int, float] = {}
        self.asked_for: list[tuple[int, float]] = []
        self.to_be_asked_for: list[tuple[int, float]] = []

    # -- helpers --

    def next_wait(
        self, budget: RetryBudget, spent: int, seconds: float, error: BaseException, wait: float | None
    ) -> float | None:
        self.asked_for.append((spent, seconds))
        if budget.attempts is not None and spent >= budget.attempts:
            return None
        return spent + 0.5 if wait is None else wait

    def those(self, state: str) -> list[int]:
        return [index for index, item in self.items.items() if item.state == state]

    def pick(self, data: st.DataObject, state: str) -> int:
        """An item in that state, which is about to be treated on its own."""
        index = data.draw(st.sampled_from(self.those(state)))
        self.items[index].block = None
        return index

    def finish(
        self, index: int, got: Outcome[Any] | None, seconds: float = 0.0, worker: str = ""
    ) -> Outcome[Any]:
        """The item has ended in the model; checks all of the outcome but its result."""
        item = self.items[index]
        assert got is not None
        assert (got.index, got.attempts, got.seconds, got.worker) == (
            index,
            tuple(item.attempts),
            seconds,
            worker,
        )
        assert got.item is item.item
        item.state, item.outcome = "ended", got
        self.ended.append(index)
        return got

    def failed(self, index: int, error: BaseException, budget: int | None, seconds: float, worker: str) -> bool:
        """Counts a failed attempt in the model; whether the item is to be repeated."""
        item = self.items[index]
        item.attempts.append(Attempt(qualified_name(type(error)), str(error), seconds, worker))
        if budget is None or self.stopped:
            return False
        item.spent[budget] += 1
        if item.begun is None:
            item.begun = self.now - seconds
        if self.budgets[budget].handle_error is not None:
            return False
        return self.repeated(index, budget)

    def repeated(self, index: int, budget: int, wait: float | None = None) -> bool:
        """Has the item wait in the model, if the budget allows it; whether it does."""
        item, most = self.items[index], self.budgets[budget].attempts
        assert most is not None
        assert item.begun is not None
        if self.stopped:
            return False
        self.to_be_asked_for.append((item.spent[budget], self.now - item.begun))
        if item.spent[budget] >= most:
            return False
        item.state, item.looks = "due", 0
        item.until = self.now + (item.spent[budget] + 0.5 if wait is None else wait)
        return True

    def asked(self, index: int, failed: Failed, got: object, seconds: float) -> bool:
        """Whether the fate of the item is asked for, as it must be if its budget says so."""
        item = self.items[index]
        if failed.budget is None or self.budgets[failed.budget].handle_error is None or self.stopped:
            return False
        assert isinstance(got, Question) and got.handle_error is not_called
        failure = got.failure
        assert failure == Failure(failed.error, index, item.item, failed.traceback)
        assert failure.attempts == tuple(item.attempts) and failure.attempt == len(item.attempts)
        assert failure.worker == "w"
        retried = item.call is not None and item.call.args == ("other", index)
        assert failure.arguments is (item.arguments if retried else item.item)
        item.state, item.failed = "failed", failed
        self.seconds[index] = seconds
        return True

    # -- what may happen --

    @rule(seconds=st.sampled_from([0.5, 1.0, 10.0]))
    def time_passes(self, seconds: float) -> None:
        """The clock is the pump's."""
        self.now += seconds

    @rule()
    def add(self) -> None:
        """There is room exactly when the input is open and fewer than ``buffersize`` items are pending."""
        if self.stream.room:
            item = object()
            index = self.stream.add(item, Call((self.added,)), self.now)
            assert index == self.added
            self.items[index] = Item(item, until=self.now, call=Call((index,)))
            self.added += 1
        else:
            before = repr(self.stream)
            with pytest.raises(WrongState):
                self.stream.add(object(), Call(), self.now)
            assert repr(self.stream) == before

    @rule(number=st.integers(0, 4))
    def send_block(self, number: int) -> None:
        """Several items are out at once, if there is room for all of them."""
        items = [object() for _ in range(number)]
        if 0 < number <= self.stream.room:
            assert self.stream.send_block(items) == self.added
            for index, item in enumerate(items, self.added):
                self.items[index] = Item(item, "out", block=self.added)
            self.added += number
        else:
            before = repr(self.stream)
            with pytest.raises(WrongState):
                self.stream.send_block(items)
            assert repr(self.stream) == before

    def in_blocks(self) -> list[int]:
        return [index for index, item in self.items.items() if item.block is not None]

    @precondition(lambda self: self.in_blocks())
    @rule(data=st.data())
    def return_run(self, data: st.DataObject) -> None:
        """Consecutive items of a block return values; they stay together from now on."""
        index = end = data.draw(st.sampled_from(self.in_blocks()))
        block = self.items[index].block
        while end in self.items and self.items[end].block == block:
            end += 1
        whole = range(index, data.draw(st.integers(index + 1, end)))
        run = self.stream.returned(index, [str(n) for n in whole], 2.0, 1.0, "w")
        items = [self.items[n].item for n in whole]
        assert run == Run(index, items, [str(n) for n in whole], 2.0, 1.0, "w")
        for n in whole:
            item = self.items[n]
            item.state, item.block, item.run = "ended", None, run
            self.ended.append(n)

    @rule(end=st.sampled_from([None, None, None, Done("kept"), Failed(ValueError("no"), "", 0)]))
    def advance(self, end: Done[Any] | Failed | None) -> None:
        """The item that waits longest comes first, and never before its wait is over."""
        index = self.stream.pop_due(self.now)
        ready = [
            (self.items[index].until, index)
            for index in self.those("due")
            if self.items[index].until <= self.now
        ]
        assert index == (min(ready)[1] if ready else None)
        if index is None:
            return
        item = self.items[index]
        assert self.stream.item(index).call == item.call
        if end is None:
            item.state, item.call = "out", item.call or Call((index,))
            self.stream.send(index, item.call)
        else:
            self.end(index, end)

    def end(self, index: int, answer: Done[Any] | Failed) -> None:
        got = self.finish(index, self.stream.end(index, answer))
        item = self.items[index].item
        assert got.result == (answer if isinstance(answer, Done) else Failure(answer.error, index, item, ""))

    @precondition(lambda self: self.those("due"))
    @rule(data=st.data())
    def end_unsent(self, data: st.DataObject) -> None:
        """An item may end without having been due."""
        self.end(self.pick(data, "due"), Done(None))

    @precondition(lambda self: self.those("out"))
    @rule(data=st.data(), value=st.integers())
    def return_value(self, data: st.DataObject, value: int) -> None:
        """A value ends the item."""
        index = self.pick(data, "out")
        got = self.finish(index, self.stream.answered(index, Done(value), 1.5, "w"), 1.5, "w")
        assert got.result == Done(value)

    @precondition(lambda self: self.those("out"))
    @rule(data=st.data(), error=st.sampled_from(ERRORS), retried=st.booleans(), discard=st.booleans())
    def fail(self, data: st.DataObject, error: type[BaseException], retried: bool, discard: bool) -> None:
        """A failure goes round while its budget allows; then the item ends, failed or discarded."""
        index = self.pick(data, "out")
        raised = error("boom")
        budget = budget_of(self.budgets, raised) if retried else None
        again = self.failed(index, raised, budget, 2.5, "w")
        answer = Failed(raised, "trace", budget, discard)
        ended = self.stream.failed(index, answer, self.now, 2.5, "w")
        if self.asked(index, answer, ended, 2.5):
            return
        assert not isinstance(ended, Question)
        if again:
            assert ended is None
        else:
            got = self.finish(index, ended, 2.5, "w")
            item = self.items[index].item
            wanted = Discarded(str(raised), index, item) if discard else Failure(raised, index, item, "trace")
            assert got.result == wanted

    @precondition(lambda self: self.those("out"))
    @rule(data=st.data())
    def drop(self, data: st.DataObject) -> None:
        """What did not run ends, without another attempt."""
        index = self.pick(data, "out")
        error = PoolClosed("dropped")
        got = self.finish(index, self.stream.dropped(index, Failed(error)))
        assert got.result == Failure(error, index, self.items[index].item, "")

    @rule()
    @precondition(lambda self: self.added > 5)
    def stop(self) -> None:
        """No attempt is repeated from now on."""
        self.stream.stop()
        self.stopped = True

    @precondition(lambda self: self.those("out"))
    @rule(data=st.data(), seconds=st.sampled_from([0.0, 0.25, 2.0]), late=st.booleans())
    def die(self, data: st.DataObject, seconds: float, late: bool) -> None:
        """A death, or a timeout, counts against the budget that names it, if one does."""
        index = self.pick(data, "out")
        error: WorkerDied | TaskTimeout = TaskTimeout("late") if late else WorkerDied("gone")
        error.seconds = seconds
        again = self.failed(index, error, budget_of(self.budgets, error), seconds, "w")
        ended = self.stream.died(index, error, self.now, "w")
        if self.asked(index, Failed(error, budget=budget_of(self.budgets, error)), ended, seconds):
            return
        assert not isinstance(ended, Question)
        if again:
            assert ended is None
        else:
            got = self.finish(index, ended, seconds, "w")
            assert got.result == Failure(error, index, self.items[index].item, "")

    @precondition(lambda self: self.those("failed"))
    @rule(
        data=st.data(),
        verdict=st.sampled_from(
            [
                Retry(),
                Retry(wait=3.0),
                Retry("other"),
                Retry(None, 0.0),
                GiveUp(),
                GiveUp(OSError()),
                Replace(7),
            ]
        ),
        refused=st.sampled_from(
            [None, None, Failed(ValueError("bad")), Failed(ValueError("bad"), discard=True)]
        ),
    )
    def judge(self, data: st.DataObject, verdict: Verdict, refused: Failed | None) -> None:
        """What was said comes true: with other arguments, if they are accepted, and as far as the budget allows."""
        index = self.pick(data, "failed")
        item = self.items[index]
        failed, item.failed = item.failed, None
        assert failed is not None and failed.budget is not None
        other = isinstance(verdict, Retry) and verdict.arguments is not SAME
        call = (refused or Call(("other", index))) if other else None
        ended = self.stream.judged(index, verdict, self.now, call)
        wanted: Any = Failure(failed.error, index, item.item, failed.traceback)
        match verdict:
            case Retry(arguments, wait):
                allowed = self.repeated(index, failed.budget, wait)
                if allowed and other and refused is not None:
                    failed = refused
                    wanted = Failure(refused.error, index, item.item)
                elif allowed:
                    assert ended is None
                    if other:
                        assert isinstance(call, Call)
                        item.arguments, item.call = arguments, call
                    return
            case GiveUp(error) if error is not None:
                wanted = Failure(error, index, item.item, failed.traceback)
                failed = Failed(error)
            case Replace(value):
                wanted = Done(value)
        if failed.discard and not isinstance(wanted, Done):
            wanted = Discarded(str(failed.error), index, item.item)
        assert self.finish(index, ended, self.seconds[index], "w").result == wanted

    @precondition(lambda self: self.those("out"))
    @rule(data=st.data(), wait=st.sampled_from([0.0, 0.5, 3.0]), attempt=st.booleans())
    def postpone(self, data: st.DataObject, wait: float, attempt: bool) -> None:
        """It waits, with what it is to be told; a failed attempt is noted but counts against no budget."""
        index = self.pick(data, "out")
        item = self.items[index]
        failed = Failed(KeyError("later"), "", 0) if attempt else None
        self.stream.postpone(index, self.now + wait, ("memo", self.now), failed, 0.25, "w")
        item.state, item.until = "due", self.now + wait
        item.call = item.call and Call(item.call.args, {}, ("memo", self.now))
        item.looks = 0 if attempt else item.looks + 1
        if attempt:
            item.attempts.append(Attempt("KeyError", "'later'", 0.25, "w"))

    @precondition(lambda self: self.those("out"))
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        """It ends as somebody else's."""
        index = self.pick(data, "out")
        got = self.finish(index, self.stream.leave(index, "path"))
        assert got.result == Elsewhere("path", index, self.items[index].item)

    @rule()
    def take(self) -> None:
        """Outcomes come in the order of the items or, unordered, as they end; each once."""
        got = self.stream.take()
        if self.stream.ordered:
            head = len(self.taken)
            expected = head if head in self.items and self.items[head].state == "ended" else None
        else:
            waiting = [index for index in self.ended if index in self.items]
            expected = waiting[0] if waiting else None
        if expected is None:
            assert got is None
        elif (run := self.items[expected].run) is not None:
            assert got is run and run.index == expected
            for index in range(expected, expected + len(run.values)):
                assert self.items.pop(index).run is run
                self.taken.append(index)
        else:
            assert got is self.items.pop(expected).outcome
            self.taken.append(expected)

    @precondition(lambda self: self.added > 3)
    @rule()
    def close_input(self) -> None:
        """The input has ended."""
        self.stream.close_input()
        self.open = False

    @rule(data=st.data(), what=st.sampled_from(WRONG))
    def try_what_is_not_allowed(self, data: st.DataObject, what: str) -> None:
        """Each transition raises from a state that it does not start from, and changes nothing."""
        index = data.draw(st.integers(0, self.added + 1))
        state = self.items[index].state if index in self.items else "unknown"
        if what == "returned" and state == "out" and self.items[index].block is not None:
            return  # that would be right
        right = {"end": "due", "judged": "failed"}.get(what, "out")
        if what not in ("send", "returned") and state == right:
            return  # so would that; to send is wrong in every state: an item is sent after ``pop_due``
        before = repr(self.stream)
        with pytest.raises(WrongState):
            match what:
                case "send":
                    self.stream.send(index, Call())
                case "answered":
                    self.stream.answered(index, Done(1), 0.0, "")
                case "judged":
                    self.stream.judged(index, GiveUp(), self.now)
                case "died":
                    self.stream.died(index, WorkerDied(), self.now, "")
                case "postpone":
                    self.stream.postpone(index, self.now, None)
                case "leave":
                    self.stream.leave(index, "")
                case "end":
                    self.stream.end(index, Done(1))
                case "returned":
                    self.stream.returned(index, [1], 0.0, 0.0, "")
        assert repr(self.stream) == before

    # -- what must hold --

    @invariant()
    def facts_agree(self) -> None:
        """What the stream tells of itself is what the model knows; the bound holds."""
        stream = self.stream
        assert self.asked_for == self.to_be_asked_for
        assert stream.pending == len(self.items) <= stream.buffersize
        assert stream.in_flight == len(self.those("out"))
        assert stream.room == (stream.buffersize - len(self.items) if self.open else 0)
        assert stream.added == self.added
        assert stream.finished == (not self.open and not self.items)
        assert stream.next_due == min((self.items[index].until for index in self.those("due")), default=None)
        for index, item in self.items.items():
            assert stream.is_waiting(index) == (item.state == "due")
            if item.block is None and item.run is None:
                retried = item.call is not None and item.call.args == ("other", index)
                assert stream.item(index).arguments is (item.arguments if retried else item.item)
                assert item.state == "ended" or stream.item(index).looks == item.looks

    def teardown(self) -> None:
        """Whatever happened, all can be brought to its end: every item is taken exactly once."""
        if not hasattr(self, "stream"):
            return
        self.stream.close_input()
        self.open = False
        while not self.stream.finished:
            self.now = max(self.now, self.stream.next_due or 0.0)
            self.advance(None)
            for index in self.those("failed"):
                self.finish(index, self.stream.judged(index, Replace(0), self.now), self.seconds[index], "w")
            for index in self.those("out"):
                self.items[index].block = None
                self.finish(index, self.stream.answered(index, Done(0), 0.0, ""))
            self.take()
        assert sorted(self.taken) == list(range(self.added))
        assert sorted(self.ended) == list(range(self.added))
        assert self.taken == (sorted(self.taken) if self.stream.ordered else self.ended)
        assert self.stream.take() is None


AnyOrder.TestCase.settings = settings(max_examples=100, stateful_step_count=40)
TestAnyOrder = AnyOrder.TestCase


@given(
    attempts=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    errors=st.lists(
        st.sampled_from([OSError, FileNotFoundError, PermissionError, TypeError]), min_size=10, max_size=10
    ),
)
def test_budgets_count_calls(attempts: tuple[int, int], errors: list[type[Exception]]) -> None:
    """A budget of n allows exactly n calls that end in its exceptions; what has no budget ends the item."""
    budgets = (RetryBudget((OSError,), attempts[0]), RetryBudget((FileNotFoundError,), attempts[1]))
    stream = Stream(
        buffersize=1,
        budgets=budgets,
        next_wait=lambda budget, spent, seconds, error, wait: 0.0 if spent < (budget.attempts or 0) else None,
    )
    stream.add("item", Call(), 0.0)
    calls: list[type[Exception]] = []
    for error in errors:
        index = stream.pop_due(0.0)
        assert index == 0
        stream.send(0, Call())
        calls.append(error)
        if stream.failed(0, Failed(error("x"), "", budget_of(budgets, error())), 0.0, 0.0, "") is not None:
            break
    last = calls.pop()
    specific = [call for call in calls if call is FileNotFoundError]
    general = [call for call in calls if call is not FileNotFoundError]
    assert TypeError not in calls
    assert len(specific) < attempts[1] and len(general) < attempts[0]
    if last is FileNotFoundError:
        assert len(specific) + 1 == attempts[1]
    elif last is not TypeError:
        assert len(general) + 1 == attempts[0]
    outcome = stream.take()
    assert outcome is not None and len(outcome.attempts) == len(calls) + 1


def test_an_item_is_not_sent_before_its_time() -> None:
    """An item that is to wait can't be sent past ``pop_due``."""
    stream = Stream(buffersize=1)
    stream.add("item", Call(), 5.0)
    with pytest.raises(WrongState):
        stream.send(0, Call())
    assert stream.pop_due(4.9) is None
    assert stream.pop_due(5.0) == 0
    stream.send(0, Call())


@pytest.mark.parametrize("ordered", [True, False])
def test_what_was_taken_is_forgotten(ordered: bool) -> None:
    """Items and results of runs and of others, as soon as nobody else has them."""

    class Thing:
        """An item or a result."""

    stream = Stream(buffersize=9, ordered=ordered)
    things = [Thing() for _ in range(6)]
    lives = [weakref.ref(thing) for thing in things]
    stream.send_block(things[:2])
    stream.add(things[2], Call((things[2],)), 0.0)
    stream.pop_due(0.0)
    stream.send(2, Call((things[2],)))
    stream.returned(0, things[3:5], 0.0, 0.0, "")
    stream.answered(2, Done(things[5]), 0.0, "")
    del things
    assert all(life() is not None for life in lives)
    assert stream.take() is not None
    assert [life() is None for life in lives] == [True, True, False, True, True, False]
    assert stream.take() is not None
    assert all(life() is None for life in lives)


def test_an_unshowable_error_ends_its_item() -> None:
    """An exception whose text can't be had is noted, and discarded, like any other."""

    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

    stream = Stream(buffersize=1)
    stream.add("item", Call(), 0.0)
    stream.pop_due(0.0)
    stream.send(0, Call())
    outcome = stream.failed(0, Failed(Mute(), discard=True), 0.0, 0.0, "")
    assert outcome is not None and outcome.discarded is not None
    assert "can't be shown" in outcome.discarded.reason
    assert "can't be shown" in outcome.attempts[0].text
    assert stream.take() is outcome


def test_default_waits_are_the_budgets() -> None:
    """Without another way to draw waits, the budget's own count, from now on."""
    stream = Stream(buffersize=1, budgets=(RetryBudget((OSError,), 2, 7.0),))
    stream.add("item", Call(), 0.0)
    stream.pop_due(0.0)
    stream.send(0, Call())
    assert stream.failed(0, Failed(OSError(), "", 0), 3.0, 0.0, "") is None
    assert stream.next_due == 10.0


def test_a_failure_ends_the_looks_in_a_row() -> None:
    """After a failed attempt that is repeated, looks are counted anew."""
    stream = Stream(buffersize=1, budgets=(RetryBudget((OSError,), 2, 0.0),))
    stream.add("item", Call(), 0.0)
    for expected in (1, 2):
        stream.pop_due(0.0)
        stream.send(0, Call())
        stream.postpone(0, 0.0, None)
        assert stream.item(0).looks == expected
    stream.pop_due(0.0)
    stream.send(0, Call())
    assert stream.failed(0, Failed(OSError(), "", 0), 0.0, 0.0, "") is None
    assert stream.item(0).looks == 0

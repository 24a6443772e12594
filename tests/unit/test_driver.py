"""The driver of a long-lived stream against a model: a runner and a clock that a test plays, adds and stops at will."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from concurrent.futures import CancelledError
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manyhands.calls import Call, Done, Failed, Later
from manyhands.errors import TaskTimeout, WorkerDied
from manyhands.handler.driver import Driver
from manyhands.handler.gate import Away, Pass
from manyhands.handler.pump import Pump
from manyhands.handler.stream import Stream
from manyhands.outcome import Answered, Cancelled, Died, Event, Failure, Outcome
from manyhands.policies.retry import RetryBudget, budget_of
from manyhands.policies.verdict import GiveUp, Replace, Retry, Verdict

Attempt = str
"""What an attempt comes to: see ``Player.event``."""

RETRIED = {"OSError": 0, "invalid": 1, "died": 2, "timeout": 3, "ValueError": 4}
"""The budget of each; ``ValueError`` is the judge's, who is asked about nothing else."""

ATTEMPTS = st.sampled_from([*RETRIED, *RETRIED, "later", "value", "value", "halt", "crash"])
VERDICTS = st.sampled_from(
    [
        Retry(wait=0.0),
        Retry(wait=7.5),
        Retry("other", 1.0),
        Retry("unfit", 0.0),
        Retry("discarded", 0.0),
        GiveUp(),
        GiveUp(LookupError("given up")),
        Replace("replaced"),
        "raises",
        "nonsense",
        "adds",
        "cancels",
    ]
)


@dataclass
class Item:
    """What an item is to meet."""

    kind: str
    attempts: list[Attempt]
    verdicts: list[Any]


KINDS = st.sampled_from(["fit", "fit", "fit", "fit", "unfit", "discarded"])
ITEMS = st.builds(Item, KINDS, st.lists(ATTEMPTS, max_size=6), st.lists(VERDICTS, max_size=4))
STEPS = st.lists(
    st.sampled_from(["add", "add", "step", "step", "step", "cancel", "kill", "late", "advance"]),
    min_size=5,
    max_size=40,
)


@dataclass
class Clock:
    """Seconds that pass only as a runner waits."""

    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Told:
    """What became of one item, as the runner and the judge saw it."""

    item: Item
    calls: list[Any] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    asked: list[Failure] = field(default_factory=list)
    verdict: Any = None
    ends: str = ""
    not_before: float = 0.0
    cancelled: bool = False


class Crash(BaseException):
    """Ends whatever it meets."""


class World:
    """A driver with all around it: gate, runner, judge and customer, who hold what they see against what must be."""

    batches = False
    chunk = 1
    horizon = 0
    has_room = True
    capacity = 2

    def __init__(self, ordered: bool, chance: random.Random, bounds: list[int | None]) -> None:
        self.chance, self.clock, self.bounds = chance, Clock(), bounds
        kinds: list[Any] = [(OSError,), (RuntimeError,), (WorkerDied,), (TaskTimeout,)]
        self.budgets = (
            *(RetryBudget(kind, most, 2.0) for kind, most in zip(kinds, bounds, strict=False)),
            RetryBudget((Exception,), bounds[4], 1.0, handle_error=self.judge, is_last=True),
        )
        self.told: dict[int, Told] = {}
        self.out: dict[int, Call] = {}
        self.early: list[Event] = []
        self.outcomes: list[Outcome[Any]] = []
        self.cancelled = self.halted = False
        self.ordered = ordered
        self.woken = False
        self.closed = 0
        stream = Stream(buffersize=1 << 60, ordered=ordered, budgets=self.budgets)
        self.pump = Pump(iter(()), self.prepare, stream, self, self, clock=self.clock)
        self.driver = Driver(self.pump, self)

    # -- the user --

    def add(self, item: Item) -> None:
        index = len(self.told)
        self.told[index] = Told(item)
        if not self.driver.add(item, index):
            del self.told[index]
            assert self.halted

    def cancel(self, kill: bool) -> None:
        self.cancelled = True
        self.driver.cancel_all(kill)

    def prepare(self, index: int, item: Any) -> Call | Failed:
        assert not self.pump._is_cancelled
        kind = item.kind if isinstance(item, Item) else item
        told = self.told[index]
        if kind in ("unfit", "discarded"):
            told.ends = kind
            return Failed(TypeError("unfit"), discard=kind == "discarded")
        return Call((item,))

    def judge(self, failure: Failure) -> Verdict:
        told = self.told[failure.index]
        told.asked.append(failure)
        assert failure.attempt == len(told.failed) and failure.item is told.item
        number = len(told.asked) - 1
        verdicts = told.item.verdicts
        told.verdict = verdicts[number] if number < len(verdicts) else GiveUp()
        match told.verdict:
            case "raises":
                raise LookupError("judged")
            case "nonsense":
                return 3  # type: ignore[return-value]
            case "adds":
                self.add(Item("fit", [], []))
                return Replace("added")
            case "cancels":
                told.cancelled = True
                self.cancel(kill=False)
                return Retry(wait=0)
        return told.verdict  # type: ignore[no-any-return]

    # -- gate --

    def enter(self, index: int, call: Call) -> Pass:
        return Pass()

    def order(self, due: list[int]) -> list[int]:
        return due

    def died(self, index: int, call: Call, error: WorkerDied | TaskTimeout) -> None:
        return None

    def later(self, index: int, answer: Later, looks: int) -> float | Away:
        return answer.wait or 0.0

    # -- runner --

    def promise(self, pending: Callable[[], bool]) -> None:
        pass

    def submit(self, ticket: int, call: Call) -> None:
        told = self.told[ticket]
        assert not self.pump._is_cancelled, "sent after it was cancelled"
        assert ticket not in self.out and self.clock.now >= told.not_before, "sent too early"
        assert not told.ends and not told.cancelled
        told.calls.append(call.args[0])
        self.out[ticket] = call

    def cancel_one(self, ticket: int, ran: bool) -> None:
        if not ran:
            del self.out[ticket]
            self.told[ticket].ends = "cancelled"
            self.early.append(Cancelled(ticket))

    def kill(self, ticket: int) -> None:
        if ticket in self.out:
            self.early.append(self.event(ticket, "died"))

    def wake(self) -> None:
        self.woken = True

    def events(self, timeout: float | None) -> list[Event]:
        events, self.early = self.early, []
        woken, self.woken = self.woken, False
        if not events and not woken and (not self.out or self.chance.random() < 0.3):
            assert timeout is not None or self.out, "waits for ever for nothing"
            if timeout is not None:
                self.clock.now += timeout
                return []
        if self.out and (not woken or self.chance.random() < 0.5):
            some = self.chance.sample(sorted(self.out), self.chance.randint(1, len(self.out)))
            events += [self.event(ticket) for ticket in some]
        return events

    def event(self, ticket: int, what: str | None = None) -> Event:
        del self.out[ticket]
        told = self.told[ticket]
        number = len(told.calls) - 1
        attempts = told.item.attempts
        what = what or (attempts[number] if number < len(attempts) else "value")
        if what == "later":
            told.not_before = self.clock.now + 1.5
            return Answered(ticket, Later(1.5), 0.25, "w")
        if what == "halt":
            self.halted = True
            return Answered(ticket, Failed(MemoryError("halted"), halts=True), 0.25, "w")
        if what in ("value", "crash"):
            told.ends = "value"
            return Answered(ticket, Done(("value", told.calls[-1])), 0.25, "w")
        told.failed.append(what)
        told.verdict = None
        match what:
            case "died":
                return Died(ticket, WorkerDied("gone"), "w")
            case "timeout":
                return Died(ticket, TaskTimeout("late"), "w")
            case "invalid":
                error: Exception = RuntimeError("invalid")
                return Answered(ticket, Failed(error, "", budget_of(self.budgets, error), True), 0.25, "w")
        error = OSError("again") if what == "OSError" else ValueError("to be judged")
        return Answered(ticket, Failed(error, "trace", budget_of(self.budgets, error)), 0.25, "w")

    def close(self, kill: bool = False, wait: bool = True) -> None:
        self.closed += 1

    # -- customer --

    def wants(self, token: int) -> bool:
        return True

    def added(self, token: int, index: int) -> None:
        assert token == index

    def settle(self, token: int, outcome: Outcome[Any]) -> None:
        assert outcome.index == token and outcome.item is self.told[token].item
        self.outcomes.append(outcome)

    def fail(self, tokens: list[int], error: BaseException) -> None:
        assert self.halted
        for token in tokens:
            self.outcomes.append(Outcome(token, self.told[token].item, Failure(error, token, None)))

    # -- what must hold --

    def check(self) -> None:
        indices = [outcome.index for outcome in self.outcomes]
        assert sorted(indices) == list(range(len(self.told))), "each item ends once"
        assert indices == sorted(indices) or not self.ordered
        for outcome in self.outcomes:
            self.check_outcome(self.told[outcome.index], outcome)

    def check_outcome(self, told: Told, outcome: Outcome[Any]) -> None:
        for what, number in Counter(told.failed).items():
            most = self.bounds[RETRIED[what]]
            assert most is None or number <= most, f"more of {what} than its budget has"
        failure = outcome.failure
        if failure is not None and isinstance(failure.error, MemoryError):
            assert self.halted and told.ends != "value", "what had ended has not failed"
            return
        assert len(outcome.attempts) == len(told.failed), "attempts are what failed"
        names = {"OSError": "OSError", "invalid": "RuntimeError", "ValueError": "ValueError"}
        names |= {"died": "manyhands.errors.WorkerDied", "timeout": "manyhands.errors.TaskTimeout"}
        assert [attempt.type_name for attempt in outcome.attempts] == [names[what] for what in told.failed]
        if outcome.ok:
            wanted: Any = ("value", told.calls[-1]) if told.calls and told.ends == "value" else None
            if told.ends != "value":
                assert told.failed[-1] == "ValueError" and told.verdict in (Replace("replaced"), "adds")
                wanted = "added" if told.verdict == "adds" else "replaced"
            assert outcome.value == wanted
        elif failure is not None and isinstance(failure.error, CancelledError):
            assert self.cancelled
        elif told.ends in ("unfit", "discarded") and told.failed.count("ValueError") != self.bounds[4]:
            assert (outcome.discarded is not None) == (told.ends == "discarded")
        else:
            self.check_failed(told, outcome)

    def check_failed(self, told: Told, outcome: Outcome[Any]) -> None:
        last = told.failed[-1]
        assert (outcome.discarded is not None) == (last == "invalid")
        spent, most = told.failed.count(last), self.bounds[RETRIED[last]]
        if last != "ValueError":
            assert spent == most or self.cancelled, "its budget had more"
            return
        error = outcome.failure.error  # type: ignore[union-attr]
        given_up = isinstance(told.verdict, GiveUp)
        if told.verdict == "raises" or (given_up and told.verdict.error is not None):
            assert isinstance(error, LookupError)
        elif told.verdict == "nonsense":
            assert isinstance(error, TypeError)
        else:
            assert isinstance(error, ValueError)
            assert given_up or spent == most or self.cancelled


class _Runner:
    """The runner's face of a world, whose own ``cancel`` is the user's."""

    def __init__(self, world: World) -> None:
        self._world = world

    def __getattr__(self, name: str) -> Any:
        return getattr(self._world, name)

    def cancel(self, ticket: int) -> None:
        world = self._world
        if ticket in world.out:
            world.cancel_one(ticket, ran=world.chance.random() < 0.5)


@settings(max_examples=400)
@given(
    items=st.lists(ITEMS, min_size=1, max_size=8),
    todo=STEPS,
    ordered=st.booleans(),
    bounds=st.tuples(*[st.integers(1, 3)] * 4, st.none() | st.integers(1, 3)),
    chance=st.randoms(use_true_random=False),
)
def test_every_item_ends_once(
    items: list[Item], todo: list[str], ordered: bool, bounds: tuple[int | None, ...], chance: random.Random
) -> None:
    """Whatever is added when, dies, waits, is judged, halts or is cancelled: with the right content, and in order."""
    world = World(ordered, chance, list(bounds))
    world.pump.runner = _Runner(world)  # type: ignore[assignment]
    left = list(items)
    for what in [*todo, *["add"] * len(items)]:
        match what:
            case "add" if left and not world.cancelled:
                world.add(left.pop(0))
            case "step" if world.driver.is_busy and world.driver.open:
                world.driver.guarded(world.driver.step)
            case "advance":
                world.clock.now += 1.0
            case "cancel" | "kill":
                world.cancel(kill=what == "kill")
            case "late" if left and not world.cancelled:  # as a thread that adds just before another cancels
                item = left.pop(0)
                world.driver.order(lambda pump, item=item: world.add(item))
                world.cancel(kill=False)
    while world.driver.is_busy or (world.driver.open and not world.driver._orders.empty()):
        assert world.driver.open
        world.driver.guarded(world.driver.step)
    world.check()
    world.driver.finish()
    world.driver.finish()
    assert world.closed >= 1 and not world.driver.open
    assert not world.driver.add(items[0], 99)


def test_what_arrives_as_all_fails() -> None:
    """It ends with all others, in their order; the driver's customer is told even if there is nothing."""
    told: list[Any] = []

    class Customer:
        def wants(self, token: object) -> bool:
            return True

        def added(self, token: object, index: int) -> None:
            raise Crash

        def settle(self, token: object, outcome: object) -> None:
            raise AssertionError

        def fail(self, tokens: list[Any], error: BaseException) -> None:
            assert isinstance(error, Crash)
            told.append(tokens)
            assert not driver.add("late", "late")

    world = World(True, random.Random(0), [1] * 5)
    pump = Pump(iter(()), lambda index, item: Call(), Stream(buffersize=9), world, world, clock=world.clock)
    driver = Driver(pump, Customer())
    assert all(driver.add(x, x) for x in (1, 2, 3))
    with pytest.raises(Crash):
        driver.guarded(driver.step)
    assert [token for tokens in told for token in tokens] == [1, 2, 3]
    driver.finish()
    assert not driver.is_busy and world.closed


class Quiet:
    """A customer who only counts."""

    def __init__(self) -> None:
        self.failed: list[Any] = []
        self.more: Callable[[], object] = lambda: None

    def wants(self, token: object) -> bool:
        return True

    def added(self, token: object, index: int) -> None:
        self.more()

    def settle(self, token: object, outcome: object) -> None: ...

    def fail(self, tokens: list[Any], error: BaseException) -> None:
        self.failed += tokens


def quiet() -> tuple[Driver, Quiet, World]:
    """A driver with such a customer, over a runner that answers."""
    world, customer = World(True, random.Random(0), [1] * 5), Quiet()
    world.told.update((number, Told(Item("fit", [], []))) for number in range(99))
    stream = Stream(buffersize=99)
    pump = Pump(iter(()), lambda index, item: Call((item,)), stream, world, world, clock=world.clock)  # type: ignore[arg-type]
    return Driver(pump, customer), customer, world


def test_who_adds_as_all_fails() -> None:
    """An item that was taken is told of as one that has failed, and not as one that was not taken."""
    driver, customer, world = quiet()

    def fail() -> None:
        def crash() -> bool:
            raise Crash

        with pytest.raises(Crash):
            driver.guarded(crash)

    world.wake = fail  # type: ignore[method-assign]  # it comes when the item was put, before add returns
    assert driver.add(1, "token")
    assert customer.failed == ["token"]
    assert not driver.add(2, "another")


def test_who_adds_without_end() -> None:
    """What was added runs meanwhile."""
    driver, customer, world = quiet()
    customer.more = lambda: driver.add(1, "token")
    driver.add(1, "token")
    while not any(told.ends == "value" for told in world.told.values()):
        driver.guarded(driver.step)

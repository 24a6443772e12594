"""The pump over a runner, a gate and a clock that a test plays, with events in any order."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manyhands.calls import Answer, Call, Done, Failed, Later
from manyhands.errors import TaskTimeout, WorkerDied
from manyhands.handler.gate import Away, OpenGate, Pass
from manyhands.handler.pump import Halted, Pump
from manyhands.handler.stream import Stream
from manyhands.outcome import Answered, Cancelled, Died, Event, Outcome
from manyhands.policies.retry import RetryBudget

BUDGETS = (RetryBudget((OSError,), 2, 1.0), RetryBudget((WorkerDied,), 3, 0.0))

Step = Answer | str
"""What an attempt comes to: an answer, or "died" or "cancelled"."""

Script = tuple[Step, ...]
"""What the attempts of one item come to, one after the other; at the end they succeed."""

steps = st.sampled_from(
    [
        Done("value"),
        Failed(ValueError("final")),
        Failed(ValueError("bad"), discard=True),
        Failed(OSError("again"), budget=0),
        Later(2.0, memo="held"),
        Later(None, memo="fast"),
        Later(0.5, memo="failed", failed=Failed(OSError("elsewhere counted"))),
        "died",
        "cancelled",
    ]
)
scripts = st.lists(st.lists(steps, max_size=5).map(tuple), min_size=1, max_size=6)


def expected(script: Script, gate: Gate) -> tuple[str, int, int]:
    """How an item with this script ends, after how many attempts that failed, and how many were repeated."""
    spent, failures, repeats, looks = [0, 0], 0, 0, 0
    for step in (*script, Done("value")):
        if isinstance(step, Done):
            return "value", failures, repeats
        if isinstance(step, Later):
            looks += 1
            if looks >= gate.patience:
                return "elsewhere", failures, repeats
            if step.failed is not None:
                failures, repeats, looks = failures + 1, repeats + 1, 0
            continue
        if step == "cancelled":
            return "failure", failures, repeats
        failures += 1
        budget = 1 if step == "died" else step.budget if isinstance(step, Failed) else None
        if budget is not None:
            spent[budget] += 1
            if spent[budget] < BUDGETS[budget].attempts:
                repeats, looks = repeats + 1, 0
                continue
        discarded = isinstance(step, Failed) and step.discard
        return "discarded" if discarded else "failure", failures, repeats
    raise AssertionError


@dataclass
class Clock:
    """Seconds that pass only as a runner waits."""

    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Gate:
    """Leaves an item to others after some looks."""

    patience: int = 1000
    closed: int = 0
    asked: list[int] = field(default_factory=list)

    def enter(self, index: int, call: Call) -> Pass | Done[Any] | Failed:
        self.asked.append(index)
        return Pass()

    def order(self, due: list[int]) -> list[int]:
        return due

    def died(self, index: int, call: Call, error: WorkerDied | TaskTimeout) -> None:
        return None

    def later(self, index: int, answer: Later, looks: int) -> float | Away:
        return Away(f"path {index}") if looks >= self.patience else answer.wait or 0.0

    def close(self) -> None:
        self.closed += 1


class Player:
    """A runner that answers as the scripts say, when chance says."""

    batches = False
    chunk = 1
    horizon = 0
    has_room = True

    def __init__(self, items: list[Script], clock: Clock, chance: random.Random, capacity: int = 2) -> None:
        self.capacity = capacity
        self.scripts, self.clock, self.chance = items, clock, chance
        self.out: dict[int, Call] = {}
        self.sent: dict[int, list[Call]] = {}
        self.not_before: dict[int, float] = {}
        self.closed: list[tuple[bool, bool]] = []
        self.woken = False

    def submit(self, ticket: int, call: Call) -> None:
        assert ticket not in self.out, "sent while it is out"
        assert self.clock.now >= self.not_before.get(ticket, 0.0), "sent before its wait is over"
        self.out[ticket] = call
        self.sent.setdefault(ticket, []).append(call)

    def events(self, timeout: float | None) -> list[Event]:
        if timeout is not None and (timeout == 0 or not self.out or self.chance.random() < 0.3):
            self.clock.now += timeout
            if not self.out or self.chance.random() < 0.7:
                return []
        if not self.out:
            assert self.woken, "waits for ever for nothing"
            return []
        tickets = self.chance.sample(sorted(self.out), self.chance.randint(1, len(self.out)))
        return [self.event(ticket) for ticket in tickets]

    def event(self, ticket: int) -> Event:
        del self.out[ticket]
        script = self.scripts[ticket % len(self.scripts)]
        attempt = len(self.sent[ticket]) - 1
        step = script[attempt] if attempt < len(script) else Done("value")
        if step == "died":
            return Died(ticket, WorkerDied("gone"), "w")
        if step == "cancelled":
            return Cancelled(ticket)
        assert not isinstance(step, str)
        wait = step.wait or 0.0 if isinstance(step, Later) else 1.0 if isinstance(step, Failed) else 0.0
        self.not_before[ticket] = self.clock.now + wait
        return Answered(ticket, step, 0.25, "w")

    def cancel(self, ticket: int) -> None:
        raise AssertionError("the pump never cancels one by one")

    kill = cancel

    def wake(self) -> None:
        self.woken = True

    def close(self, kill: bool = False, wait: bool = True) -> None:
        self.closed.append((kill, wait))


@dataclass
class Counting:
    """An observer that keeps what it is told."""

    outcomes: list[Outcome[Any]] = field(default_factory=list)
    retries: int = 0
    closed: int = 0

    def happened(self, event: Event) -> None:
        pass

    def ended(self, outcome: Outcome[Any]) -> None:
        self.outcomes.append(outcome)

    def retried(self, index: int) -> None:
        self.retries += 1

    def away(self, count: int) -> None:
        pass

    def tick(self) -> float:
        return 1.0

    def close(self) -> None:
        self.closed += 1


def kind(outcome: Outcome[Any]) -> str:
    """Which of the four an outcome is."""
    kinds = ("failure", "discarded", "elsewhere")
    named = [name for name in kinds if getattr(outcome, name) is not None] + ["value"] * outcome.ok
    (name,) = named
    return name


def call(index: int, item: Any) -> Call | Failed:
    """The call of an item that is its own index; every seventh does not fit."""
    assert index == item
    return Failed(TypeError("misfit")) if index % 7 == 6 else Call((item,))


class Source:
    """An input that counts how far it was drawn, and holds the bound against what was taken."""

    def __init__(self, length: int | None, buffersize: int, error: Exception | None = None) -> None:
        self.length, self.buffersize, self.error = length, buffersize, error
        self.drawn = self.taken = 0

    def took(self) -> None:
        """An outcome was taken; the bound is exact now."""
        self.taken += 1
        assert self.drawn <= self.taken + self.buffersize, "drawn further than the bound"

    def __iter__(self) -> Iterator[int]:
        return self

    def __next__(self) -> int:
        if self.drawn == self.length:
            if self.error is not None:
                raise self.error
            raise StopIteration
        # One more than was counted may have been taken, and be on its way to who counts.
        assert self.drawn <= self.taken + self.buffersize, "drawn further than the bound"
        self.drawn += 1
        return self.drawn - 1


@dataclass
class Map:
    """A pump with all that it drives."""

    source: Source
    player: Player
    gate: Gate
    observer: Counting
    pump: Pump


def a_map(
    items: list[Script],
    chance: random.Random,
    *,
    length: int | None,
    buffersize: int = 4,
    ordered: bool = True,
    patience: int = 1000,
    error: Exception | None = None,
) -> Map:
    clock = Clock()
    source, player, gate = Source(length, buffersize, error), Player(items, clock, chance), Gate(patience)
    stream = Stream(buffersize=buffersize, ordered=ordered, budgets=BUDGETS)
    observer = Counting()
    return Map(source, player, gate, observer, Pump(source, call, stream, player, gate, observer, clock=clock))


def drained(running: Map, most: int | None = None) -> list[Outcome[Any]]:
    """The outcomes to the end, or as many as ``most``."""
    outcomes: list[Outcome[Any]] = []
    while most is None or len(outcomes) < most:
        outcome = running.pump.next_outcome()
        if outcome is None:
            break
        outcomes.append(outcome)
        running.source.took()
    return outcomes


@settings(max_examples=300)
@given(
    items=scripts,
    chance=st.randoms(use_true_random=False),
    length=st.integers(0, 15),
    buffersize=st.integers(1, 6),
    ordered=st.booleans(),
    patience=st.sampled_from([1, 2, 1000]),
    primed=st.integers(0, 8),
    broken=st.booleans(),
)
def test_every_item_ends_as_its_attempts_say(
    items: list[Script],
    chance: random.Random,
    length: int,
    buffersize: int,
    ordered: bool,
    patience: int,
    primed: int,
    broken: bool,
) -> None:
    """One outcome per item, in order if asked; then the input's error. The observer hears of all of it."""
    error = RuntimeError("input") if broken else None
    running = a_map(
        items, chance, length=length, buffersize=buffersize, ordered=ordered, patience=patience, error=error
    )
    running.pump.prime(primed)
    outcomes: list[Outcome[Any]] = []
    raised: Exception | None = None
    try:
        while (outcome := running.pump.next_outcome()) is not None:
            outcomes.append(outcome)
            running.source.took()
    except RuntimeError as caught:
        raised = caught
    assert raised is error
    indices = [outcome.index for outcome in outcomes]
    assert (indices if ordered else sorted(indices)) == list(range(length))
    repeats = 0
    for outcome in outcomes:
        assert outcome.item == outcome.index
        if outcome.index % 7 == 6:
            assert isinstance(outcome.failure and outcome.failure.error, TypeError)
            assert outcome.index not in running.player.sent
            continue
        wanted, failures, repeated = expected(items[outcome.index % len(items)], running.gate)
        assert (kind(outcome), len(outcome.attempts)) == (wanted, failures)
        repeats += repeated
    told = running.observer
    assert sorted(o.index for o in told.outcomes) == sorted(indices) and told.retries == repeats
    assert {id(o) for o in told.outcomes} == {id(o) for o in outcomes}
    assert not running.player.out


@given(
    items=scripts,
    chance=st.randoms(use_true_random=False),
    buffersize=st.integers(1, 5),
    wanted=st.integers(0, 12),
    ordered=st.booleans(),
)
def test_an_infinite_input_is_drawn_within_bounds(
    items: list[Script], chance: random.Random, buffersize: int, wanted: int, ordered: bool
) -> None:
    """However many are taken, the input is never drawn more than ``buffersize`` further."""
    running = a_map(items, chance, length=None, buffersize=buffersize, ordered=ordered)
    assert len(drained(running, wanted)) == wanted
    assert running.source.drawn <= wanted + buffersize


def test_nothing_is_drawn_before_it_is_asked_for() -> None:
    """A pump alone touches neither input nor runner; primed, it draws what it was told to."""
    running = a_map([()], random.Random(0), length=None, buffersize=4)
    assert running.source.drawn == 0
    running.pump.prime(2)
    assert running.source.drawn == 2 and list(running.player.out) == [0, 1]
    running.pump.prime(10)
    assert running.source.drawn == 4


def test_a_finished_result_waits_for_no_input() -> None:
    """A result that is there is given at once; an item is drawn for it when its consumer comes back."""
    running = a_map([()], random.Random(1), length=None, buffersize=50)
    running.pump.prime(2)
    while running.player.out:
        running.pump._absorb(running.player.events(None))
    assert running.pump.next_outcome() is not None
    assert running.source.drawn == 2
    assert running.pump.next_outcome() is not None
    assert running.source.drawn == 3


@pytest.mark.parametrize("where", ["answer", "gate"])
def test_a_fault_of_the_whole_map_halts_it(where: str) -> None:
    """What no item is to blame for is raised at once, whatever the order of the results."""
    fault = Failed(OSError("disk full"), halts=True)
    running = a_map([(Later(5.0),), (fault,)] if where == "answer" else [()], random.Random(3), length=4)
    if where == "gate":
        running.gate.enter = lambda index, call: fault if index == 2 else Pass()  # type: ignore[method-assign]
    with pytest.raises(Halted) as halted:
        drained(running)
    assert halted.value.failed is fault


def test_the_gate_decides_at_the_entry() -> None:
    """An item passes with what its worker is to be told, or ends without a worker."""
    running = a_map([()], random.Random(0), length=6)
    answers: list[Pass | Done[Any] | Failed] = [Pass("told"), Done("had it"), Failed(KeyError("no")), Pass()]
    running.gate.enter = lambda index, call: answers[index % 4]  # type: ignore[method-assign]
    kinds = [kind(outcome) for outcome in drained(running)]
    assert kinds == ["value", "value", "failure", "value", "value", "value"]
    assert sorted(running.player.sent) == [0, 3, 4]
    assert running.player.sent[0] == [Call((0,), {}, "told")] and running.player.sent[3] == [Call((3,))]


def test_a_memo_comes_back_with_the_next_call() -> None:
    """What a ``Later`` asks to be told again is told with the next attempt, once."""
    running = a_map([(Later(1.0, "first"), Later(1.0), Later(1.0, "third"))], random.Random(0), length=1)
    drained(running)
    assert [sent.memo for sent in running.player.sent[0]] == [None, "first", None, "third"]
    assert running.gate.asked == [0] * 4


@pytest.mark.parametrize(("kill", "wait"), [(False, False), (False, True), (True, False), (True, True)])
def test_closing_closes_everything_once(kill: bool, wait: bool) -> None:
    """Runner, gate and observer are closed, as asked, and not again."""
    running = a_map([()], random.Random(0), length=3)
    running.pump.prime(1)
    running.pump.close(kill, wait)
    running.pump.close(not kill, not wait)
    assert running.player.closed == [(kill, wait)]
    assert running.gate.closed == running.observer.closed == 1


def test_a_runner_that_fails_to_close_keeps_nobody_open() -> None:
    """Gate and observer are closed also when closing the runner raises."""
    running = a_map([()], random.Random(0), length=1)

    def close(kill: bool = False, wait: bool = True) -> None:
        raise RuntimeError("stuck")

    running.player.close = close  # type: ignore[method-assign]
    with pytest.raises(RuntimeError, match="stuck"):
        running.pump.close()
    assert running.gate.closed == running.observer.closed == 1


def test_interruptions_are_not_the_inputs_end() -> None:
    """Only exceptions of the input are kept for later; who interrupts is heard at once."""
    running = a_map([()], random.Random(0), length=0, error=None)

    def interrupted() -> Iterator[int]:
        yield 0
        raise KeyboardInterrupt

    pump = Pump(interrupted(), call, running.pump.stream, running.player, running.gate)
    with pytest.raises(KeyboardInterrupt):
        while pump.next_outcome() is not None:
            pass


@settings(max_examples=100)
@given(items=scripts, chance=st.randoms(use_true_random=False), number=st.integers(0, 8))
def test_polling_draws_no_input(items: list[Script], chance: random.Random, number: int) -> None:
    """Items that are handed in one by one each have their outcome, and the input is left alone."""
    running = a_map(items, chance, length=None, buffersize=10, ordered=False)
    for item in range(number):
        assert running.pump.add(item) == item
    outcomes = []
    while running.pump.stream.pending:
        outcome = running.pump.poll(5.0)
        if outcome is not None:
            outcomes.append(outcome)
    assert sorted(outcome.index for outcome in outcomes) == list(range(number))
    assert running.source.drawn == 0


def test_polling_can_be_woken() -> None:
    """With nothing to wait for, a poll ends as it is woken."""
    running = a_map([()], random.Random(0), length=None)
    running.player.wake()
    assert running.pump.poll(None) is None


def test_an_open_gate_waits_as_told() -> None:
    """Without claims, everything passes, and ``Later`` waits what it says."""
    gate = OpenGate()
    assert gate.enter(0, Call()) == Pass()
    assert gate.later(0, Later(2.5), 1) == 2.5
    assert gate.later(0, Later(), 1) == 0.0
    gate.close()

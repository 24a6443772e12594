"""The pump over a runner that takes blocks: whatever comes back of them, and in whatever runs."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manyhands.calls import Call, Done, Failed
from manyhands.errors import PoolClosed, WorkerDied
from manyhands.handler.blocks import Run
from manyhands.handler.gate import OpenGate
from manyhands.handler.pump import LEAST_BUFFER, MOST_BUFFER, Pump
from manyhands.handler.stream import Stream
from manyhands.outcome import Answered, Cancelled, Died, Event, Held, Outcome, Returned
from manyhands.policies.retry import RetryBudget

BUDGETS = (RetryBudget((OSError,), 2, 1.0), RetryBudget((WorkerDied,), 3, 0.0))

Script = tuple[str, ...]
"""What the attempts of one item come to, one after the other; at the end they return."""

scripts = st.lists(
    st.just(()) | st.lists(st.sampled_from(["error", "again", "died", "cancelled"]), max_size=4).map(tuple),
    min_size=1,
    max_size=6,
)


def expected(script: Script) -> tuple[str, int]:
    """How an item with this script ends, and after how many attempts that failed."""
    again = died = 0
    for place, step in enumerate(script, 1):
        again += step == "again"
        died += step == "died"
        if step in ("error", "cancelled") or again == BUDGETS[0].attempts or died == BUDGETS[1].attempts:
            return step, place - (step == "cancelled")
    return "value", len(script)


class Clock:
    """Seconds that pass only as a runner waits."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


class Player:
    """A runner that answers as the scripts say, in runs and orders that chance says."""

    batches = True
    capacity = 2

    def __init__(self, items: list[Script], clock: Clock, chance: random.Random) -> None:
        self.chunk, self.horizon = chance.choice([1, 3, 100]), chance.choice([0, 5, 1000])
        self.scripts, self.clock, self.chance = items, clock, chance
        self.out: dict[int, int | None] = {}  # of each item that is out, the first index of its block
        self.attempts: dict[int, int] = {}
        self.not_before: dict[int, float] = {}
        self.blocks: list[int] = []
        self.closed = False
        self.choosy = False  # whether it does not always want what it could get

    def submit(self, ticket: int, call: Call) -> None:
        assert call == Call((-ticket,))
        assert self.clock.now >= self.not_before.get(ticket, 0.0), "sent before its wait is over"
        self._take(ticket, None)

    @property
    def has_room(self) -> bool:
        return not (self.choosy and self.out and self.chance.random() < 0.5)

    def submit_block(self, ticket: int, items: list[Any]) -> int:
        assert items == [-index for index in range(ticket, ticket + len(items))]
        if self.choosy:
            items = items[: self.chance.randint(1, len(items))]
        self.blocks.append(len(items))
        for index in range(ticket, ticket + len(items)):
            assert index not in self.attempts, "only new items go in blocks"
            self._take(index, ticket)
        return len(items)

    def hold(self, item: Any) -> Any:
        return Held(item, self.chance.random() < 0.2) if item % 3 else item

    def opened(self, held: Held) -> Any:
        return held.packed

    def submit_held(self, ticket: int, held: list[Any]) -> None:
        items = [one.packed if isinstance(one, Held) else one for one in held]
        assert not any(isinstance(one, Held) and one.large for one in held[:-1]), "drawn beyond a large one"
        choosy, self.choosy = self.choosy, False
        assert self.submit_block(ticket, items) == len(items)
        self.choosy = choosy

    def _take(self, ticket: int, block: int | None) -> None:
        assert ticket not in self.out, "sent while it is out"
        self.out[ticket] = block
        self.attempts[ticket] = self.attempts.get(ticket, 0) + 1

    def step(self, ticket: int) -> str:
        script = self.scripts[ticket % len(self.scripts)]
        attempt = self.attempts[ticket] - 1
        return script[attempt] if attempt < len(script) else "value"

    def events(self, timeout: float | None) -> list[Event]:
        if timeout is not None and (timeout == 0 or not self.out or self.chance.random() < 0.3):
            self.clock.now += timeout
            if not self.out or self.chance.random() < 0.7:
                return []
        assert self.out, "waits for ever for nothing"
        return [self.event() for _ in range(self.chance.randint(1, 3)) if self.out]

    def event(self) -> Event:
        ticket = self.chance.choice(sorted(self.out))
        block = self.out.pop(ticket)
        match self.step(ticket):
            case "error":
                return Answered(ticket, Failed(ValueError("no")), 0.25, "w")
            case "again":
                self.not_before[ticket] = self.clock.now + BUDGETS[0].wait
                return Answered(ticket, Failed(OSError("again"), budget=0), 0.25, "w")
            case "died":
                return Died(ticket, WorkerDied("gone"), "w")
            case "cancelled":
                return Cancelled(ticket)
        if block is None:
            return Answered(ticket, Done(("value", ticket)), 0.5, "w")
        values = [("value", ticket)]
        after = ticket + 1
        while self.out.get(after) == block and self.step(after) == "value" and self.chance.random() < 0.8:
            del self.out[after]
            values.append(("value", after))
            after += 1
        return Returned(ticket, values, 0.5, 0.25, "w")

    def cancel(self, ticket: int) -> None:
        raise AssertionError("the pump never cancels one by one")

    kill = cancel

    def promise(self, pending: Callable[[], bool]) -> None:
        raise AssertionError("nobody was promised anything")

    def wake(self) -> None:
        raise AssertionError("nobody is to be woken")

    def close(self, kill: bool = False, wait: bool = True) -> None:
        self.closed = True


class Source:
    """An input of -0, -1, -2 …, which is never drawn further than the bound."""

    def __init__(self, length: int | None, buffersize: int, error: Exception | None = None) -> None:
        self.length, self.buffersize, self.error = length, buffersize, error
        self.drawn = self.taken = 0

    def __iter__(self) -> Iterator[int]:
        return self

    def __next__(self) -> int:
        if self.drawn == self.length:
            raise self.error or StopIteration
        assert self.drawn < self.taken + self.buffersize, "drawn further than the bound"
        self.drawn += 1
        return 1 - self.drawn


class Items(list[int]):
    """The same as a list, which is there as a whole; its source counts how far it was drawn."""

    def __init__(self, source: Source) -> None:
        super().__init__(range(0, -(3 * MOST_BUFFER if source.length is None else source.length), -1))
        self.source = source

    def __getitem__(self, stretch: Any) -> Any:
        drawn = super().__getitem__(stretch)
        assert stretch.start <= self.source.drawn, "some were left out"
        new = drawn[self.source.drawn - stretch.start :]  # what was not taken in is drawn again
        assert new == [next(self.source) for _ in new]
        return drawn


class Counting:
    """An observer that counts."""

    def __init__(self) -> None:
        self.seen = self.retries = 0

    def ended(self, outcome: Outcome[Any]) -> None:
        self.seen += 1

    def happened(self, event: Event) -> None:
        if isinstance(event, Returned):
            self.seen += len(event.values)

    def retried(self, index: int) -> None:
        self.retries += 1

    def away(self, count: int) -> None:
        pass

    def tick(self) -> float:
        return 1.0

    def close(self) -> None:
        pass


class Refusing:
    """Refuses each so many-th item, and is asked about each item once; 0: refuses none."""

    def __init__(self, each: int) -> None:
        self.each = each
        self.asked: set[int] = set()

    def sift(self, first: int, items: Any) -> list[Failed | None] | None:
        told = [self.refusal(index) for index in range(first, first + len(items))]
        assert [-index for index in range(first, first + len(items))] == list(items)
        return told if any(told) else None

    def refusal(self, index: int) -> Failed | None:
        assert index not in self.asked, "asked twice"
        self.asked.add(index)
        return Failed(LookupError("refused")) if self.refuses(index) else None

    def refuses(self, index: int) -> bool:
        return self.each > 0 and index % self.each == 1

    def prepare(self, index: int, item: int) -> Call | Failed:
        assert item == -index
        return self.refusal(index) or Call((item,))


def remake(index: int, item: int) -> Call:
    assert item == -index
    return Call((item,))


class Map:
    """A pump with all that it drives; takes what it gives apart, and checks the runs."""

    def __init__(
        self,
        items: list[Script],
        chance: random.Random,
        source: Source,
        *,
        ordered: bool = True,
        odd: int = 0,
        ready: bool = False,
        adapts: bool = False,
        choosy: bool = False,
        refused: int = 0,
    ) -> None:
        refusing = Refusing(refused)
        self.refuses = refusing.refuses
        clock = Clock()
        self.source = source
        self.player = Player(items, clock, chance)
        self.player.choosy = choosy
        self.observer = Counting()
        stream = Stream(buffersize=source.buffersize, ordered=ordered, budgets=BUDGETS)
        self.pump = Pump(
            Items(source) if ready else source,
            refusing.prepare,
            stream,
            self.player,
            OpenGate(),
            self.observer,
            plain=lambda some: not odd or all(item % odd for item in some),
            sift=refusing.sift if refused else None,
            remake=remake,
            adapts=adapts,
            clock=clock,
        )

    def next(self) -> list[tuple[int, str, int]] | None:
        """Of what comes next: the index, how it ended and after how many failed attempts; None at the end."""
        outcome = self.pump.next_outcome()
        if outcome is None:
            return None
        if isinstance(outcome, Run):
            self.source.taken += len(outcome.values)
            whole = range(outcome.index, outcome.index + len(outcome.values))
            assert list(outcome.items) == [-index for index in whole]
            assert outcome.values == [("value", index) for index in whole]
            return [(index, "value", 0) for index in whole]
        self.source.taken += 1
        assert outcome.item == -outcome.index
        if outcome.failure is None:
            assert outcome.value == ("value", outcome.index)
            return [(outcome.index, "value", len(outcome.attempts))]
        kinds: dict[Any, str] = {
            ValueError: "error",
            OSError: "again",
            WorkerDied: "died",
            PoolClosed: "cancelled",
            LookupError: "refused",
        }
        return [(outcome.index, kinds[type(outcome.failure.error)], len(outcome.attempts))]


@settings(max_examples=300)
@given(
    items=scripts,
    chance=st.randoms(use_true_random=False),
    length=st.integers(0, 60),
    buffersize=st.integers(1, 30),
    ordered=st.booleans(),
    odd=st.sampled_from([0, 1, 2, 7]),
    ready=st.booleans(),
    primed=st.integers(0, 40),
    broken=st.booleans(),
    choosy=st.booleans(),
    refused=st.sampled_from([0, 2, 3, 7]),
)
def test_every_item_ends_as_its_attempts_say(
    items: list[Script],
    chance: random.Random,
    length: int,
    buffersize: int,
    ordered: bool,
    odd: int,
    ready: bool,
    primed: int,
    broken: bool,
    choosy: bool,
    refused: int,
) -> None:
    """Each item once, in order if asked, in a block or not; never beyond the bound; then the input's error.

    Those that are refused end so; each is asked about once.
    """
    error = RuntimeError("input") if broken and not ready else None
    source = Source(length, buffersize, error)
    running = Map(items, chance, source, ordered=ordered, odd=odd, ready=ready, choosy=choosy, refused=refused)
    running.pump.prime(primed)
    assert source.drawn <= primed
    ends: list[tuple[int, str, int]] = []
    raised: Exception | None = None
    try:
        while (some := running.next()) is not None:
            ends += some
    except RuntimeError as caught:
        raised = caught
    assert raised is error
    wanted = [
        (index, "refused", 0) if running.refuses(index) else (index, *expected(items[index % len(items)]))
        for index in range(length)
    ]
    assert (ends if ordered else sorted(ends)) == wanted
    assert not running.player.out
    assert running.observer.seen == length
    assert running.observer.retries == sum(
        failed - (what not in ("value", "cancelled")) for _, what, failed in wanted if what != "refused"
    )


@given(
    items=scripts,
    chance=st.randoms(use_true_random=False),
    buffersize=st.integers(1, 20),
    wanted=st.integers(0, 40),
    ordered=st.booleans(),
    ready=st.booleans(),
    choosy=st.booleans(),
)
def test_an_infinite_input_is_drawn_within_bounds(
    items: list[Script],
    chance: random.Random,
    buffersize: int,
    wanted: int,
    ordered: bool,
    ready: bool,
    choosy: bool,
) -> None:
    """However many are taken, and in whatever runs, the input is never drawn more than ``buffersize`` further."""
    source = Source(None, buffersize)
    running = Map(items, chance, source, ordered=ordered, ready=ready, choosy=choosy)
    while source.taken < wanted:
        assert running.next()
    assert source.drawn <= source.taken + buffersize


def test_blocks_are_as_large_as_can_be_of_use() -> None:
    """Of items at hand, a quarter of the buffer; of others, what would be sent at once. None is much smaller."""
    for ready, most in ((True, 10), (False, 3)):
        running = Map([()], random.Random(0), Source(100, 40), ready=ready)
        running.player.chunk = 3
        running.pump.prime(100)
        assert set(running.player.blocks) == {most}
        assert running.source.drawn == 40 // most * most


@pytest.mark.parametrize("ready", [True, False])
@pytest.mark.parametrize("ordered", [True, False])
def test_blocks_stay_large_for_a_consumer_who_takes_one_by_one(ready: bool, ordered: bool) -> None:
    """Items that are refused end by themselves, and each makes room for one."""
    running = Map([()], random.Random(0), Source(3000, 400), ordered=ordered, ready=ready, refused=10)
    running.player.chunk = 100
    while running.next() is not None:
        pass
    assert len(running.player.blocks) < 400  # at least 300, between those that are refused


@given(kind=st.sampled_from([list, tuple, range]), length=st.integers(0, 50), primed=st.integers(0, 60))
def test_a_sequence_is_drawn_from_once(kind: Any, length: int, primed: int) -> None:
    """A range as ranges; what is appended to a list before its end was drawn belongs to it."""
    items: Any = range(0, -length, -1) if kind is range else kind(range(0, -length, -1))
    running = Map([()], random.Random(0), Source(length, 20))
    taken: list[Any] = []

    def take(ticket: int, items: Any) -> int:
        taken.append(items)
        return len(items)

    running.player.submit_block = take  # type: ignore[method-assign]
    pump = Pump(items, remake, Stream(buffersize=100), running.player, OpenGate(), plain=lambda some: True)
    pump.prime(primed)
    if kind is list and primed < length:
        items.append(-length)
    pump.prime(100)
    assert [item for some in taken for item in some] == list(items)
    assert all(isinstance(some, range if kind is range else kind) for some in taken)


def test_items_that_need_a_decision_go_alone() -> None:
    """So do all that were drawn with them; the others go together."""
    running = Map([()], random.Random(0), Source(12, 16), odd=7)
    running.player.chunk = 4
    running.pump.prime(12)
    assert running.player.blocks == [4]  # 0 to 3 go alone for 0, and 4 to 7 for 7
    assert sorted(running.player.out) == list(range(12))


def test_a_runner_without_blocks_gets_none() -> None:
    """Even if every item is plain."""
    running = Map([()], random.Random(0), Source(5, 3))
    running.player.batches = False  # type: ignore[misc]
    pump = Pump(
        [0, -1, -2, -3, -4], remake, Stream(buffersize=3), running.player, OpenGate(), plain=lambda some: True
    )
    pump.prime(5)
    assert running.player.blocks == [] and sorted(running.player.out) == [0, 1, 2]


@pytest.mark.parametrize(
    ("horizon", "bound"), [(0, LEAST_BUFFER), (1000, 1000), (10 * MOST_BUFFER, MOST_BUFFER)]
)
def test_the_bound_follows_the_measured_work(horizon: int, bound: int) -> None:
    """By default it grows to what is done in about a second, within limits, and does not shrink again."""
    source = Source(None, MOST_BUFFER)
    running = Map([()], random.Random(0), source, ready=True, adapts=True)
    running.pump.stream.buffersize = 4
    running.player.horizon = horizon
    running.pump.prime(2 * MOST_BUFFER)
    assert source.drawn == running.pump.stream.buffersize == bound
    running.player.horizon = 0
    running.pump.prime(1)
    assert source.drawn == running.pump.stream.buffersize == bound

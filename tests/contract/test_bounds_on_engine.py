"""Bounds that hold on the engine: how far the input is drawn, who draws it, and what is cancelled."""

from __future__ import annotations

import gc
import itertools
import threading
import time
import warnings
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from manyhands import Results, parallel
from tests.contract import tasks
from tests.helpers import Fifo, lines, tell, until, wait_for

How = dict[str, Any]

MOST = 65_536
"""The largest default of ``buffersize``."""


class Source(Iterator[int]):
    """An endless input that knows how far it was drawn, by whom, and whether by two at once."""

    def __init__(self, end: int = 1 << 60) -> None:
        self.drawn = 0
        self.taken = 0
        self.most_ahead = 0
        self.threads: set[int] = set()
        self.entered_twice = False
        self._end = end
        self._inside = threading.Lock()

    def __next__(self) -> int:
        if not self._inside.acquire(blocking=False):
            self.entered_twice = True
            raise AssertionError("two threads advance the input at once")
        try:
            if self.drawn == self._end:
                raise StopIteration
            self.drawn += 1
            self.threads.add(threading.get_ident())
            self.most_ahead = max(self.most_ahead, self.drawn - self.taken)
            return self.drawn - 1
        finally:
            self._inside.release()


@parallel
def hold_the_first(x: int, begun: str, gate: str, calls: str = "") -> int:
    """Item 0 waits to be let go; the others may leave a line."""
    if x == 0:
        tell(begun, x)
        wait_for(gate)
    elif calls:
        tell(calls, x)
    return x


def consumed(results: Results[int], source: Source | None = None) -> tuple[threading.Thread, list[int]]:
    """A thread that takes all results, and what it has taken."""
    values: list[int] = []

    def consume() -> None:
        for value in results:
            values.append(value)
            if source is not None:
                source.taken += 1

    thread = threading.Thread(target=consume)
    thread.start()
    return thread, values


def stands_still(number: Callable[[], int]) -> bool:
    """Whether a number stays as it is for a while: only to let happen what must not."""
    before = number()
    time.sleep(0.1)
    return number() == before


@pytest.mark.parametrize(("kind", "taken"), [("list", 0), ("list", 30), ("generator", 1)])
def test_an_idle_consumer(processes: How, tmp_path: Path, kind: str, taken: int) -> None:
    """While nobody asks for results, no more items run than the buffer holds beyond those taken."""
    calls = tmp_path / "calls"
    source = Source()
    items: Any = list(range(1000)) if kind == "list" else source
    results = tasks.write_call.map(items, args=(str(calls),), buffersize=10, **processes)
    with results:
        assert list(itertools.islice(results, taken)) == list(range(taken))
        until(lambda: stands_still(lambda: len(lines(calls))), "the workers have nothing more to do")
        assert taken <= len(lines(calls)) <= taken + 10
        assert source.drawn <= taken + 10


def test_a_slow_first_item(processes: How, begun: Fifo, gate: Fifo, tmp_path: Path) -> None:
    """Ordered, the others go on behind it until the buffer is full, and then they wait for it."""
    calls = tmp_path / "calls"
    source = Source(200)
    arguments = (str(begun.path), str(gate.path), str(calls))
    results = hold_the_first.map(source, args=arguments, buffersize=30, **processes)
    thread, values = consumed(results, source)
    begun.line()
    until(lambda: len(lines(calls)) >= 29, "the others fill the buffer")
    assert stands_still(lambda: source.drawn)
    assert (source.drawn, len(lines(calls)), values) == (30, 29, [])
    gate.let_go()
    thread.join()
    assert values == list(range(200))
    assert source.most_ahead <= 30


def test_a_slow_first_item_unordered(begun: Fifo, gate: Fifo) -> None:
    """Unordered, nobody waits for it: far more than the buffer holds come before it."""
    arguments = (str(begun.path), str(gate.path))
    how: How = {"buffersize": 30, "workers": 2, "ordered": False}
    with hold_the_first.map(itertools.count(), args=arguments, **how) as results:
        begun.line()
        assert 0 not in list(itertools.islice(results, 500))
        gate.let_go()
        assert 0 in results


@pytest.mark.parametrize("chunksize", ["auto", 100])
def test_the_default_buffer(begun: Fifo, gate: Fifo, chunksize: Any) -> None:
    """It grows with what was measured, and ends at 65,536: behind a slow item, and whatever is drawn."""
    source = Source(120_000)
    arguments = (str(begun.path), str(gate.path))
    results = hold_the_first.map(source, args=arguments, workers=2, chunksize=chunksize)
    thread, values = consumed(results, source)
    begun.line()
    until(lambda: source.drawn > 64 and stands_still(lambda: source.drawn), "the buffer is full")
    assert source.drawn <= MOST
    assert values == []
    gate.let_go()
    thread.join()
    assert values == list(range(120_000))
    assert source.most_ahead <= MOST
    assert not source.entered_twice


def test_an_idle_consumer_with_the_default_buffer(how: How) -> None:
    """Of an endless input no more than the buffer is drawn, and nothing while nobody asks."""
    source = Source()
    with tasks.double.map(source, **how) as results:
        for value in itertools.islice(results, 2000):
            assert value == 2 * source.taken
            source.taken += 1
        drawn = source.drawn
        assert stands_still(lambda: source.drawn)
        assert source.drawn == drawn
        assert source.most_ahead <= MOST


@pytest.mark.parametrize(("number", "ordered"), [(0, True), (1, False), (5000, True), (5000, False)])
def test_an_input_that_raises(processes: How, ordered: bool, number: int) -> None:
    """All results of what was drawn before come first, each once, then the error, and then nothing."""

    def failing() -> Iterator[int]:
        yield from range(number)
        raise LookupError("no more tapes")

    values = []
    results = tasks.double.map(failing(), ordered=ordered, **processes)
    with pytest.raises(LookupError, match="no more tapes"):
        values.extend(results)
    assert sorted(values) == [2 * x for x in range(number)]
    assert list(results) == []


def test_an_input_that_raises_before_an_item_fails() -> None:
    """An item's error comes at its place, before what the input raised after it."""

    def failing() -> Iterator[int]:
        yield from (1, 0, 2)
        raise LookupError("no more tapes")

    with pytest.raises(ZeroDivisionError):
        list(tasks.reciprocal.map(failing(), workers=2))
    results = tasks.reciprocal.map(failing(), workers=2, on_error="skip")
    assert [next(results), next(results)] == [1, 0.5]
    with pytest.raises(LookupError):
        next(results)


@pytest.mark.parametrize("way", ["close", "with", "error in the loop", "dropped"])
def test_the_rest_is_cancelled(processes: How, begun: Fifo, gate: Fifo, tmp_path: Path, way: str) -> None:
    """However the consumer ends it, what has not begun never runs."""
    results = tasks.meet.map(list(range(100)), args=(begun.path, gate.path), buffersize=40, **processes)
    assert {begun.line().split()[0] for _ in range(2)} == {"0", "1"}
    session = weakref.ref(results._flow._pump.runner)  # type: ignore[union-attr]
    end(results, way)
    del results
    gc.collect()
    until(lambda: session() is None, "the pool lets go of the map")
    gate.let_go(2)
    calls = str(tmp_path / "calls")
    assert list(tasks.write_call.map(range(20), args=(calls,), **processes)) == list(range(20))
    assert begun.empty()


def end(results: Results[int], way: str) -> None:
    """Ends a map before its time; dropping it is the caller's to finish."""
    if way == "close":
        results.close()
    elif way == "with":
        with results:
            pass
    elif way == "error in the loop":
        with pytest.raises(LookupError), results:
            raise LookupError
    else:
        warnings.simplefilter("ignore", ResourceWarning)


def test_one_thread_at_a_time_draws(how: How) -> None:
    """The input is advanced by the consumer's thread alone, in maps and in maps of maps."""
    source = Source(3000)
    assert list(tasks.double.map(source, **how)) == [2 * x for x in range(3000)]
    assert source.threads == {threading.get_ident()}
    source = Source(500)
    inner = tasks.double.map(source, **how)
    assert list(tasks.triple.map(inner, **how)) == [6 * x for x in range(500)]
    assert source.threads == {threading.get_ident()}
    assert not source.entered_twice


def test_consumers_in_many_threads() -> None:
    """Maps that run in threads beside one another draw their inputs each in its own, and mix nothing up."""
    sources = [Source(2000) for _ in range(4)]
    maps = [tasks.double.map(source, workers=2) for source in sources]
    before = [set(source.threads) for source in sources]
    running = [consumed(results) for results in maps]
    for thread, values in running:
        thread.join()
        assert values == [2 * x for x in range(2000)]
    for source, first, (thread, _) in zip(sources, before, running, strict=True):
        assert source.threads - first <= {thread.ident}
        assert not source.entered_twice

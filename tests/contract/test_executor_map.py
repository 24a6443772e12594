"""``map`` of the pool as an executor: order, several iterables, timeouts, chunks, and what is drawn when."""

from __future__ import annotations

import gc
import itertools
import sys
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.contract import executor_tasks as tasks
from tests.contract.executors import METHODS, STANDARD, held, make, ours, works
from tests.helpers import DEADLINE, Fifo, lines, shown, until

has_buffersize = pytest.mark.skipif(
    STANDARD and sys.version_info < (3, 14), reason="Executor.map has no buffersize before Python 3.14"
)


@pytest.fixture(scope="module", params=METHODS)
def pool(request: pytest.FixtureRequest) -> Iterator[Any]:
    """An executor with two workers, which the tests of this module share."""
    with make(request.param) as executor:
        yield executor


class Counted:
    """An iterator of 0, 1, 2, … that knows how many were drawn."""

    def __init__(self, end: int | None = None, error: BaseException | None = None) -> None:
        self.drawn = 0
        self.end = end
        self.error = error

    def __iter__(self) -> Counted:
        return self

    def __next__(self) -> int:
        if self.drawn == self.end:
            raise self.error or StopIteration
        self.drawn += 1
        return self.drawn - 1


def test_map(pool: Any) -> None:
    """It yields what the built-in map does, in its order, from an iterator of its own."""
    results = pool.map(pow, range(40), range(40))
    assert iter(results) is results
    assert list(results) == list(map(pow, range(40), range(40)))
    assert list(results) == []
    assert next(results, "ended") == "ended"


@pytest.mark.parametrize("chunksize", [1, 3, 39, 40, 50])
def test_map_in_chunks(pool: Any, chunksize: int) -> None:
    """Chunks of any size change nothing."""
    mapped = pool.map(pow, range(40), range(40), chunksize=chunksize)
    assert list(mapped) == list(map(pow, range(40), range(40)))


@pytest.mark.parametrize("chunksize", [0, -1])
def test_chunks_that_can_not_be(pool: Any, chunksize: int) -> None:
    """A chunk has one item at least."""
    with pytest.raises(ValueError, match="chunksize"):
        list(pool.map(pow, range(4), range(4), chunksize=chunksize))


def test_iterables_of_unequal_length(pool: Any) -> None:
    """The shortest of them ends it; others may be infinite; with none there is nothing to do."""
    assert list(pool.map(tasks.capture, "abc", itertools.count(), [1, 2])) == [
        (("a", 0, 1), {}),
        (("b", 1, 2), {}),
    ]
    assert list(pool.map(tasks.double, [])) == []
    assert list(pool.map(tasks.capture)) == []


def test_more_items_than_a_queue_holds(pool: Any) -> None:
    """Thousands of short calls come in order."""
    assert list(pool.map(tasks.double, range(3000))) == [2 * number for number in range(3000)]


def test_order(pool: Any, begun: Fifo, gate: Fifo, tmp_path: Path) -> None:
    """A slow first item comes first all the same, and the others run meanwhile."""
    calls = tmp_path / "calls"
    results = pool.map(tasks.hold_or_note, range(20), [str(calls)] * 20, [begun.path] * 20, [gate.path] * 20)
    begun.line()
    until(lambda: len(lines(calls)) == 19, "all others have run")
    gate.let_go()
    assert list(results) == list(range(20))


@pytest.mark.parametrize("chunksize", [1, 2])
def test_exceptions_come_in_order(pool: Any, chunksize: int) -> None:
    """Results before the error come first; then it is raised, and there is no more."""
    results = pool.map(divmod, [1, 1, 1, 1, 1, 1], [2, 3, 1, 4, 0, 5], chunksize=chunksize)
    assert [next(results) for _ in range(4)] == [(0, 1), (0, 1), (1, 0), (0, 1)]
    with pytest.raises(ZeroDivisionError) as caught:
        next(results)
    assert "Traceback" in shown(caught.value)
    assert list(results) == []
    assert works(pool)


def test_an_error_cancels_the_rest(pool: Any, begun: Fifo, gate: Fifo, tmp_path: Path) -> None:
    """What has not begun when the error is raised does not run any more."""
    paths = [begun.path] * 50, [gate.path] * 50
    results = pool.map(tasks.fail_or_hold, range(50), [str(tmp_path / "calls")] * 50, *paths)
    with pytest.raises(LookupError):
        next(results)
    gate.let_go(50)
    assert works(pool)
    assert len(lines(tmp_path / "calls")) < 20


def test_the_timeout(pool: Any, begun: Fifo, gate: Fifo) -> None:
    """What is not there in time is a TimeoutError at its place, and the rest is cancelled."""
    with held(pool, begun, gate):
        results = pool.map(tasks.double, range(50), timeout=0)
        with pytest.raises(TimeoutError):
            next(results)
        assert list(results) == []
    assert list(pool.map(tasks.double, range(5), timeout=DEADLINE)) == [0, 2, 4, 6, 8]


def test_the_timeout_is_for_all(pool: Any, begun: Fifo, gate: Fifo) -> None:
    """It counts from the call of ``map``: what came in time is yielded."""
    results = pool.map(tasks.hold_but_zero, [0, 0, 1], [begun.path] * 3, [gate.path] * 3, timeout=0.3)
    try:
        begun.line()
        got = []
        with pytest.raises(TimeoutError):
            for value in results:
                got.append(value)
    finally:
        gate.let_go()
    assert got in ([0, 0], [0], [])  # on a machine that is busy it may come early
    assert works(pool)


@pytest.mark.parametrize("way", ["close", "drop"])
def test_an_iterator_that_is_given_up(pool: Any, begun: Fifo, gate: Fifo, tmp_path: Path, way: str) -> None:
    """When the iterator is closed, or dropped after its first value, what has not begun is cancelled."""
    paths = [begun.path] * 60, [gate.path] * 60
    results = pool.map(tasks.hold_but_zero, range(60), *paths)
    assert next(results) == 0
    begun.line(), begun.line()
    if way == "close":
        results.close()
        assert list(results) == []
    del results
    gc.collect()
    gate.let_go(20)
    assert works(pool)
    ran = 2
    while not begun.empty():
        begun.line()
        ran += 1
    assert ran < 20


@ours
def test_an_iterator_that_is_never_looked_at(pool: Any, begun: Fifo, gate: Fifo, tmp_path: Path) -> None:
    """Dropped before its first value, it is given up as well."""
    with held(pool, begun, gate):
        results = pool.map(tasks.note, range(60), [str(tmp_path / "calls")] * 60)
        del results
        gc.collect()
    assert works(pool)
    assert len(lines(tmp_path / "calls")) < 20


def test_it_begins_at_once(pool: Any, tmp_path: Path) -> None:
    """Items run though nobody asks for results, and all are drawn before ``map`` returns."""
    items = Counted(30)
    results = pool.map(tasks.note, items, [str(tmp_path / "calls")] * 30)
    assert items.drawn == 30
    until(lambda: len(lines(tmp_path / "calls")) == 30, "all have run")
    assert list(results) == list(range(30))


def test_results_are_not_kept(pool: Any) -> None:
    """The iterator holds nothing that it has yielded."""
    for plain in pool.map(tasks.make_plain, range(10)):
        gone = weakref.ref(plain)
        del plain
        until(lambda: gc.collect() is not None and gone() is None, "it is let go")  # noqa: B023


def test_an_error_of_the_input(pool: Any) -> None:
    """Without a buffer, what the input raises is raised by ``map``, which draws it."""
    with pytest.raises(LookupError, match="of the input"):
        pool.map(tasks.double, Counted(5, LookupError("of the input")))
    assert works(pool)


# -- buffersize -----------------------------------------------------------------------------------------------


@has_buffersize
@pytest.mark.parametrize("buffersize", ["4", 2.0])
def test_a_buffersize_that_is_no_number(pool: Any, buffersize: Any) -> None:
    """It is told before anything is drawn."""
    items = Counted(4)
    with pytest.raises(TypeError, match="buffersize"):
        pool.map(tasks.double, items, buffersize=buffersize)
    assert items.drawn == 0


@has_buffersize
@pytest.mark.parametrize("buffersize", [0, -1])
def test_a_buffersize_that_holds_nothing(pool: Any, buffersize: int) -> None:
    """It is told before anything is drawn."""
    items = Counted(4)
    with pytest.raises(ValueError, match="buffersize"):
        pool.map(tasks.double, items, buffersize=buffersize)
    assert items.drawn == 0


@has_buffersize
@pytest.mark.parametrize("buffersize", [1, 2, 4, 8, None])
def test_a_buffer_changes_no_result(pool: Any, buffersize: int | None) -> None:
    """Whatever its size, also with several iterables, with chunks, and with nothing to do."""
    assert list(pool.map(tasks.double, range(4), buffersize=buffersize)) == [0, 2, 4, 6]
    assert list(pool.map(pow, range(4), itertools.count(1), buffersize=buffersize)) == [0, 1, 8, 81]
    assert list(pool.map(tasks.double, range(7), buffersize=buffersize, chunksize=3)) == [0, 2, 4, 6, 8, 10, 12]
    assert list(pool.map(tasks.double, [], buffersize=buffersize)) == []
    assert list(pool.map(tasks.capture, buffersize=buffersize)) == []


@has_buffersize
@pytest.mark.parametrize("buffersize", [1, 3, 10])
def test_an_infinite_input(pool: Any, buffersize: int) -> None:
    """No more is ever drawn than was taken and the buffer holds."""
    items = Counted()
    results = pool.map(tasks.double, items, buffersize=buffersize)
    assert items.drawn <= buffersize
    for taken in range(1, 30):
        assert next(results) == 2 * (taken - 1)
        assert items.drawn <= taken + buffersize
    results.close()
    drawn = items.drawn
    assert works(pool)
    assert items.drawn == drawn


@has_buffersize
def test_an_idle_consumer(pool: Any, tmp_path: Path) -> None:
    """As many items as the buffer holds run before anybody asks for a result, and no more."""
    items = Counted()
    results = pool.map(tasks.note, items, itertools.repeat(str(tmp_path / "calls")), buffersize=4)
    until(lambda: len(lines(tmp_path / "calls")) == 4, "the buffer is full")
    assert works(pool)
    assert items.drawn == 4 and len(lines(tmp_path / "calls")) == 4
    assert next(results) == 0
    results.close()


@ours
def test_a_late_error_of_the_input(pool: Any) -> None:
    """With a buffer, what the input raises comes after the results before it."""
    items = Counted(6, LookupError("of the input"))
    results = pool.map(tasks.double, items, buffersize=2)
    assert [next(results) for _ in range(6)] == [0, 2, 4, 6, 8, 10]
    with pytest.raises(LookupError, match="of the input"):
        next(results)
    assert list(results) == []
    assert works(pool)


@ours
def test_the_input_is_drawn_by_who_asks(pool: Any) -> None:
    """With a buffer, the iterable runs in the caller's thread, so it may itself use the pool."""
    import threading

    threads = set()

    def items() -> Iterator[int]:
        for number in range(20):
            threads.add(threading.current_thread())
            yield pool.submit(tasks.double, number).result(DEADLINE)

    assert list(pool.map(tasks.double, items(), buffersize=3)) == [4 * number for number in range(20)]
    assert threads == {threading.current_thread()}

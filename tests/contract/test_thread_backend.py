"""``backend="threads"`` and ``"inline"``: the same promises, without processes."""

from __future__ import annotations

import itertools
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from manyhands import Counts, InvalidResult, RemoteError, parallel, worker_info
from tests.contract import tasks
from tests.helpers import lines, until

How = dict[str, Any]

DEADLINE = 60.0


@pytest.fixture(params=["threads", "inline"])
def here(request: pytest.FixtureRequest) -> How:
    """Options that say that calls run in this process."""
    return {"backend": request.param, "workers": 2}


THREADS: How = {"backend": "threads", "workers": 2, "threads": 2}


def test_values_in_order(here: How) -> None:
    """Ordered and unordered, from lists and generators, nothing is lost or doubled."""
    expected = [2 * x for x in range(500)]
    assert list(tasks.double.map(range(500), **here)) == expected
    assert list(tasks.double.map(iter(range(500)), **here)) == expected
    assert sorted(tasks.double.map(range(500), ordered=False, **here)) == expected
    assert list(tasks.power.map([(2, 3), (3, 2)], star=True, kwargs={"plus": 1}, **here)) == [9, 10]


def test_errors(here: How) -> None:
    """The first error in order is raised, or stands in its place, or is left out; the traceback is told."""
    items = [1, 2, 0, 4, 0]
    results = tasks.reciprocal.map(items, **here)
    assert [next(results), next(results)] == [1, 0.5]
    with pytest.raises(ZeroDivisionError) as caught:
        next(results)
    assert any("reciprocal, item 2: 0" in note for note in caught.value.__notes__)
    assert list(results) == []
    values = list(tasks.reciprocal.map(items, on_error="return", **here))
    assert [value.index for value in values if not isinstance(value, float)] == [2, 4]  # type: ignore[union-attr]
    assert "return 1 / x" in values[2].traceback  # type: ignore[union-attr]
    assert list(tasks.reciprocal.map(items, on_error="skip", **here)) == [1, 0.5, 0.25]


def test_retries_and_validation(here: How, tmp_path: Path) -> None:
    """Budgets and predicates work as in worker processes."""
    outcomes = list(tasks.flaky.map([1, 2], args=(str(tmp_path), 2), **here).outcomes())
    assert [outcome.value for outcome in outcomes] == [(1, 3), (2, 3)]
    assert [attempt.text for attempt in outcomes[1].attempts] == ["call 1 of 2", "call 2 of 2"]
    with pytest.raises(OSError, match="call 3 of 9"):
        list(tasks.flaky.map([9], args=(str(tmp_path), 9), **here))
    assert tasks.small_square.map([3, -1, 50], **here).wait() == Counts(values=1, discarded=2)
    with pytest.raises(InvalidResult):
        list(tasks.strict_square.map([1, 50], **here))


def test_exit_of_a_task() -> None:
    """``sys.exit`` in a thread fails its item, by an error that ends nobody."""
    with tasks.raise_this.map(["fine", "exit", "interrupt", "well"], **THREADS) as results:
        values, failures = results.collect()
    assert values == ["fine", "well"]
    assert [type(failure.error) for failure in failures] == [RemoteError, RemoteError]
    names = [failure.error.type_name for failure in failures]  # type: ignore[attr-defined]
    assert names == ["SystemExit", "KeyboardInterrupt"]


def test_exit_of_a_submitted_call() -> None:
    """So it does where calls are submitted, and the next call finds everything in order."""
    raise_this = tasks.raise_this.options(**THREADS)
    with pytest.raises(RemoteError, match="SystemExit: leaving"):
        raise_this.submit("exit").result(DEADLINE)
    assert raise_this.submit("fine").result(DEADLINE) == "fine"


def test_where_calls_run(here: How) -> None:
    """In this very process; inline in this very thread; and none is a worker."""

    @parallel
    def where(_: int) -> tuple[int, int, Any]:
        return os.getpid(), threading.get_ident(), worker_info()

    found = set(where.map(range(20), **here))
    assert {pid for pid, _, _ in found} == {os.getpid()}
    assert {info for _, _, info in found} == {None}
    assert ({ident for _, ident, _ in found} == {threading.get_ident()}) == (here["backend"] == "inline")


def test_workers_times_threads_run_at_once() -> None:
    """Four calls that wait for one another meet, a fifth does not join them."""
    barrier = threading.Barrier(4)
    inside: list[int] = []
    most: list[int] = []

    @parallel(**THREADS)
    def meet(x: int) -> int:
        inside.append(x)
        most.append(len(inside))
        barrier.wait(DEADLINE)
        inside.remove(x)
        return x

    assert list(meet.map(range(40))) == list(range(40))
    assert max(most) == 4


def test_as_many_threads_as_asked_for() -> None:
    """The default buffer keeps a hundred threads busy."""
    barrier = threading.Barrier(100)
    meet = parallel(lambda _: barrier.wait(DEADLINE), backend="threads", workers=1, threads=100)
    assert sorted(meet.map(range(100))) == list(range(100))


def test_nothing_is_pickled(here: How) -> None:
    """Items and results are the very objects."""
    locks = [threading.Lock() for _ in range(9)]
    echo = parallel(lambda lock: lock)
    assert all(a is b for a, b in zip(echo.map(locks, **here), locks, strict=True))


def test_the_input_is_drawn_within_bounds_and_here(here: How) -> None:
    """An infinite input is drawn in the consumer's thread, no further than ``buffersize``."""
    drawn: list[int] = []

    def count() -> Iterator[int]:
        for n in itertools.count():
            drawn.append(threading.get_ident())
            yield n

    with tasks.double.map(count(), buffersize=5, **here) as results:
        for taken, value in enumerate(itertools.islice(results, 50), 1):
            assert value == 2 * (taken - 1)
            assert len(drawn) <= taken + 5
    assert set(drawn) == {threading.get_ident()}


def test_close_drops_what_has_not_begun(tmp_path: Path) -> None:
    """What runs is finished, nothing else starts, and the threads end."""
    begun, gate = threading.Semaphore(0), threading.Semaphore(0)
    calls = tmp_path / "calls"

    @parallel(**THREADS)
    def hold(x: int) -> int:
        begun.release()
        gate.acquire(timeout=DEADLINE)
        return tasks.write_call(x, str(calls))

    results = hold.map(range(60))
    for _ in range(4):
        assert begun.acquire(timeout=DEADLINE)
    mine = [thread for thread in threading.enumerate() if thread.name.startswith("manyhands-thread")]
    results.close()
    gate.release(100)
    for thread in mine:
        thread.join(DEADLINE)
    assert not any(thread.is_alive() for thread in mine)
    assert sorted(map(int, lines(calls))) == [0, 1, 2, 3]
    assert not begun.acquire(blocking=False)


def test_threads_end_with_their_map() -> None:
    """None is left when all results were taken."""
    before = set(threading.enumerate())
    assert len(list(tasks.double.map(range(50), **THREADS))) == 50
    until(lambda: set(threading.enumerate()) <= before, "the threads end")


def test_an_input_that_raises(here: How) -> None:
    """It surfaces after the results before it."""

    def failing() -> Iterator[int]:
        yield from range(30)
        raise LookupError("no more tapes")

    results = tasks.double.map(failing(), **here)
    assert [next(results) for _ in range(30)] == [2 * x for x in range(30)]
    with pytest.raises(LookupError, match="no more tapes"):
        next(results)


def test_nested_maps(here: How) -> None:
    """A map inside a task, and a map of a map, work."""

    @parallel(**here)
    def total(n: int) -> int:
        return sum(tasks.double.map(range(n), **here))

    assert list(total.map([3, 4])) == [6, 12]
    assert list(tasks.triple.map(tasks.double.map(range(50), **here), **here)) == [6 * x for x in range(50)]


def test_a_missing_name_is_no_backend() -> None:
    """What is no backend is told."""
    with pytest.raises(ValueError, match="backend must be"):
        tasks.double.map([1], backend="processes")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="backend must be"):
        tasks.double.map([1], backend=sys)  # type: ignore[arg-type]

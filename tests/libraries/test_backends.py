"""One contract for every way to run a map: inline, threads, processes, executors of concurrent.futures, and Dask."""

from __future__ import annotations

import asyncio
import gc
import itertools
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from manyhands import (
    OUTPUT,
    Counts,
    Discarded,
    Failure,
    InvalidArguments,
    InvalidResult,
    RemoteError,
    claimed_output,
    parallel,
    retry_on,
)
from tests.contract import tasks
from tests.helpers import DEADLINE, Fifo, lines, names
from tests.libraries.conftest import FAR

How = dict[str, Any]


# -- items and results ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunksize", ["auto", 1, 7])
def test_values(backend: How, chunksize: Any) -> None:
    """Of lists, ranges and iterators, in order or as they finish: none is lost or doubled."""
    expected = [2 * x for x in range(100)]
    how = {**backend, "chunksize": chunksize}
    assert list(tasks.double.map(range(100), **how)) == expected
    assert list(tasks.double.map(iter(range(100)), **how)) == expected
    assert sorted(tasks.double.map(list(range(100)), ordered=False, **how)) == expected
    assert list(tasks.double.map([], **how)) == []


def test_star_rules(backend: How) -> None:
    """How an item becomes a call, and what is fixed for all."""
    power = tasks.power.options(**backend)
    assert list(power.map([2, 3])) == [4, 9]
    assert list(power.map([2, 3], args=(3,), kwargs={"plus": 1})) == [9, 28]
    assert list(power.map([(2, 3), (3, 2)], star=True)) == [8, 9]
    assert list(power.map([0, 0], star=None, args=(2, 5))) == [32, 32]
    assert list(power.map([{"base": 2}, {"base": 3}], star=None, kwstar=True, kwargs={"plus": 1})) == [5, 10]
    assert list(power.map([(2, {"exponent": 5}), (3, {})], kwstar=True)) == [32, 9]
    assert list(power.map([((2, 3), {"plus": 1})], star=True, kwstar=True)) == [9]
    with pytest.raises(TypeError, match="item 1"):
        list(power.map([(2, 3), (1, 2, 3)], star=True))


def test_functions_of_all_kinds(backend: How) -> None:
    """Lambdas, closures, methods of each kind."""
    number = 5
    assert list(parallel(lambda x: x + number).map([1, 2], **backend)) == [6, 7]
    assert list(tasks.Scaler(3).scale.map([1, 2], kwargs={"plus": 1}, **backend)) == [4, 7]
    assert list(tasks.Scaler.scale_by_class.map([1, 2], **backend)) == [10, 20]
    assert list(tasks.Scaler.negate.map([1, 2], **backend)) == [-1, -2]


def test_where_calls_run(backend: How, place: str) -> None:
    """In other processes, or in this one; outcomes say where, and a map inside a task stays there."""
    for outcome in tasks.process_id.map(range(6), **backend).outcomes():
        assert outcome.worker.endswith(f":{outcome.value}")
        assert (outcome.value != os.getpid()) == (place in FAR)
    if place not in ("inline", "threads"):
        for pids in tasks.countdown.map([2] * 6, **backend):
            assert len(pids) == 3 and len(set(pids)) == 1


def test_the_input_is_drawn_within_bounds_and_here(backend: How) -> None:
    """An infinite input is drawn in the consumer's thread, no further than ``buffersize``."""
    drawn: list[int] = []

    def numbers() -> Iterator[int]:
        for n in itertools.count():
            drawn.append(threading.get_ident())
            yield n

    with tasks.double.map(numbers(), buffersize=5, **backend) as results:
        for taken, value in enumerate(itertools.islice(results, 40), 1):
            assert value == 2 * (taken - 1)
            assert len(drawn) <= taken + 5
    assert set(drawn) == {threading.get_ident()}


def test_an_input_that_raises(backend: How) -> None:
    """It surfaces after the results before it."""

    def failing() -> Iterator[int]:
        yield from range(9)
        raise LookupError("no more tapes")

    results = tasks.double.map(failing(), **backend)
    assert [next(results) for _ in range(9)] == [2 * x for x in range(9)]
    with pytest.raises(LookupError, match="no more tapes"):
        next(results)


def test_items_are_sent_as_they_are_drawn(backend: How, place: str) -> None:
    """What the input changes afterwards is not seen by other processes."""
    if place not in FAR:
        pytest.skip("items are the very objects there")

    def again_and_again() -> Iterator[list[int]]:
        one = [0]
        for n in range(20):
            one[0] = n
            yield one

    assert list(parallel(lambda one: one[0]).map(again_and_again(), **backend)) == list(range(20))


def test_large_values(backend: How) -> None:
    """Arrays of some megabytes as items, as what is fixed, and as results."""
    fixed = np.arange(300_000.0)
    arrays = [np.full(200_000, n) for n in range(5)]
    add = parallel(lambda array, fixed: (array + fixed[-1], float(fixed.sum())))
    for n, (array, total) in enumerate(add.map(arrays, args=(fixed,), **backend)):
        assert (array == n + 299_999).all() and total == fixed.sum()


def test_map_blocks(backend: How) -> None:
    """A function over blocks of rows, into one array."""
    array = np.arange(60_000.0).reshape(20_000, 3)
    doubled = parallel(lambda block, by: by * block).map_blocks(array, rows=1000, args=(2,), **backend)
    assert (doubled == 2 * array).all()


# -- errors -------------------------------------------------------------------------------------------------------


def test_errors(backend: How) -> None:
    """The first in order is raised, with a note and the worker's traceback; or stands in its place; or is left out."""
    items = [1, 2, 0, 4, 0]
    results = tasks.reciprocal.map(items, **backend)
    assert [next(results), next(results)] == [1, 0.5]
    with pytest.raises(ZeroDivisionError) as caught:
        next(results)
    assert any("reciprocal, item 2: 0" in note for note in caught.value.__notes__)
    assert list(results) == []
    values = list(tasks.reciprocal.map(items, on_error="return", **backend))
    failures = [value for value in values if isinstance(value, Failure)]
    assert [failure.index for failure in failures] == [2, 4] and len(values) == 5
    assert "return 1 / x" in failures[0].traceback
    results = tasks.reciprocal.map(items, on_error="skip", **backend)
    assert list(results) == [1, 0.5, 0.25]
    assert [failure.index for failure in results.failures] == [2, 4]
    assert results.counts == Counts(values=3, failures=2)


KINDS = {"unpicklable": RemoteError, "oneway": RemoteError, "group": ExceptionGroup, "chained": ValueError}


def test_errors_on_their_way(backend: How, place: str) -> None:
    """What can be pickled arrives as it is, with its notes; of the rest its type, text and traceback do."""
    kinds = [*KINDS, "local", "noted", "well"]
    values, failures = tasks.raise_this.map(kinds, **backend).collect()
    assert values == ["well"] and [failure.index for failure in failures] == list(range(len(kinds) - 1))
    found = dict(zip(kinds, (failure.error for failure in failures), strict=False))
    if place in FAR:
        assert {kind: type(found[kind]) for kind in KINDS} == KINDS
        assert found["unpicklable"].type_name == "tests.contract.tasks.Unpicklable"
        assert "held fast" in str(found["unpicklable"])
    assert "a note of the user's" in found["noted"].__notes__
    assert all("in raise_this" in failure.traceback for failure in failures)


def test_exits_in_a_task(backend: How, place: str) -> None:
    """They are that item's failure, and end nobody."""
    if place == "inline":
        pytest.skip("a direct call lets them through, and so does this")
    values, failures = tasks.raise_this.map(["fine", "exit", "interrupt", "well"], **backend).collect()
    assert values == ["fine", "well"]
    assert [failure.error.type_name for failure in failures] == ["SystemExit", "KeyboardInterrupt"]
    assert list(tasks.double.map([1, 2], **backend)) == [2, 4]


def test_what_cannot_be_pickled(backend: How, place: str) -> None:
    """A result or an argument is its item's failure, a function is told at once; in this process none is."""
    lock = threading.Lock()
    echo = parallel(lambda item: item)
    items = [1, lock, 3]
    if place not in FAR:
        assert list(echo.map(items, **backend)) == items
        assert parallel(lambda x: lock).map([1], **backend).collect()[0] == [lock]
        return
    values, (failure,) = echo.map(items, **backend).collect()
    assert values == [1, 3] and failure.index == 1 and isinstance(failure.error, TypeError)
    assert any("as the arguments were pickled" in note for note in failure.error.__notes__)
    values, (failure,) = tasks.raise_this.map(["fine", "result", "well"], **backend).collect()
    assert values == ["fine", "well"] and failure.index == 1
    assert any("the result, a _thread.lock, can't be sent back" in note for note in failure.error.__notes__)
    with pytest.raises(TypeError, match="can't be sent to a worker process"):
        parallel(lambda x: lock).map([1], **backend)


# -- policies -------------------------------------------------------------------------------------------------------


def test_validation(backend: How) -> None:
    """Items that don't pass are discarded, before or after their call; or fail, where that is asked for."""
    results = tasks.small_square.map([3, -1, 50], on_error="return", **backend)
    value, before, after = list(results)
    assert value == 9 and isinstance(before, Discarded) and isinstance(after, Discarded)
    assert results.counts == Counts(values=1, discarded=2)
    outcomes = list(tasks.strict_square.map([3, -1, 50], **backend).outcomes())
    assert [type(outcome.failure and outcome.failure.error) for outcome in outcomes] == [
        type(None),
        InvalidArguments,
        InvalidResult,
    ]


def test_retries(backend: How, tmp_path: Path) -> None:
    """Failed calls are repeated after their waits; outcomes list the attempts."""
    flaky = parallel(retry_on(OSError, attempts=3, wait=0.01)(tasks.flaky_body))
    outcomes = list(flaky.map([1, 2, 3], args=(str(tmp_path), 2), **backend).outcomes())
    assert [outcome.value for outcome in outcomes] == [(1, 3), (2, 3), (3, 3)]
    assert [attempt.text for attempt in outcomes[1].attempts] == ["call 1 of 2", "call 2 of 2"]
    assert all(attempt.type_name == "OSError" for outcome in outcomes for attempt in outcome.attempts)
    (outcome,) = flaky.map([9], args=(str(tmp_path), 9), **backend).outcomes()
    assert str(outcome.failure.error) == "call 3 of 9" and len(outcome.attempts) == 3


def test_outcomes(backend: How) -> None:
    """Index, item, time and place of each."""
    outcomes = list(tasks.double.map([5, 6], **backend).outcomes())
    assert [(outcome.index, outcome.item, outcome.value) for outcome in outcomes] == [(0, 5, 10), (1, 6, 12)]
    assert all(outcome.seconds > 0 and outcome.worker for outcome in outcomes)


def test_progress(backend: How, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The bar counts all items, whatever they come to."""
    monkeypatch.setenv("MANYHANDS_PROGRESS", "1")
    results = tasks.reciprocal.map([1, 0, 2, 4], progress="inverting", on_error="skip", **backend)
    assert list(results) == [1, 0.5, 0.25]
    shown = capsys.readouterr().err
    assert "inverting" in shown and "4/4" in shown


def test_claimed_outputs(backend: How, tmp_path: Path) -> None:
    """Each is written once, by who runs the call; nothing is left beside them."""
    calls = tmp_path / "calls"

    @parallel(**backend)
    @claimed_output(str(tmp_path / "out" / "{n}.txt"))
    def write(n: int, output: Path = OUTPUT) -> None:
        tasks.tell(calls, n)
        output.write_text(str(n * n))

    for _ in range(2):
        assert [path.read_text() for path in write.map(range(6))] == [str(n * n) for n in range(6)]
    assert sorted(lines(calls)) == [str(n) for n in range(6)]
    assert names(tmp_path / "out") == [f"{n}.txt" for n in range(6)]
    assert write.submit(7).result(DEADLINE).read_text() == "49"
    assert names(tmp_path / "out") == [f"{n}.txt" for n in [0, 1, 2, 3, 4, 5, 7]]


# -- single calls -----------------------------------------------------------------------------------------------


def test_submit(backend: How, tmp_path: Path) -> None:
    """One call is a future: of a value, of an error with its note, after its retries, or not to be had at all."""
    double, reciprocal = tasks.double.options(**backend), tasks.reciprocal.options(**backend)
    assert [future.result(DEADLINE) for future in [double.submit(n) for n in range(20)]] == [
        2 * n for n in range(20)
    ]
    error = reciprocal.submit(0).exception(DEADLINE)
    assert isinstance(error, ZeroDivisionError)
    flaky = tasks.flaky.options(**backend)
    assert flaky.submit(1, str(tmp_path), 2).result(DEADLINE) == (1, 3)
    strict = tasks.small_square.options(**backend)
    assert isinstance(strict.submit(-1).exception(DEADLINE), InvalidArguments)
    assert isinstance(strict.submit(50).exception(DEADLINE), InvalidResult)


def test_with_asyncio(backend: How) -> None:
    """``asubmit`` and ``async for``."""

    async def main() -> list[int]:
        double = tasks.double.options(**backend)
        assert await double.asubmit(21) == 42
        return [value async for value in double.map(range(10))]

    assert asyncio.run(main()) == [2 * n for n in range(10)]


# -- how it ends ------------------------------------------------------------------------------------------------


def test_leaving_early(backend: How, place: str, begun: Fifo, gate: Fifo, tmp_path: Path) -> None:
    """By ``close`` or by dropping: what has not begun never does, what runs is finished, and all is in order."""
    if place == "inline":
        pytest.skip("nothing runs ahead")
    for leave in ("close", "drop"):
        results = tasks.meet.map(range(60), args=(begun.path, gate.path), **backend)
        for _ in range(2):
            begun.line()
        if leave == "close":
            results.close()
            del results
        else:
            with pytest.warns(ResourceWarning):
                del results
                gc.collect()
        gate.let_go(2)
        assert list(tasks.double.map(range(10), **backend)) == [2 * n for n in range(10)]
        assert begun.empty()


def test_two_calls_at_a_time(backend: How, place: str, begun: Fifo, gate: Fifo) -> None:
    """No third call begins before one has ended."""
    if place == "inline":
        pytest.skip("one at a time")
    with tasks.meet.map(range(6), args=(begun.path, gate.path), **backend) as results:
        first = {begun.line(), begun.line()}
        assert {line.split()[0] for line in first} == {"0", "1"}
        assert begun.empty()
        gate.let_go(6)
        assert list(results) == list(range(6))

"""What a map promises, wherever it runs."""

from __future__ import annotations

import functools
import itertools
import threading
from collections.abc import Iterator
from concurrent.futures import as_completed
from pathlib import Path
from typing import Any

import pytest

from manyhands import Counts, Discarded, Failure, InvalidArguments, InvalidResult, ItemError
from tests.contract import executor_tasks, tasks
from tests.helpers import Fifo, lines, shown

How = dict[str, Any]


def drawn_from(source: Iterator[int], drawn: list[int]) -> Iterator[int]:
    """Notes what is drawn."""
    for item in source:
        drawn.append(item)
        yield item


def test_values_come_in_order(how: How) -> None:
    """The values are those of a plain loop, in the order of the items."""
    assert list(tasks.double.map(range(200), **how)) == [2 * x for x in range(200)]


def test_unordered_gives_the_same_values(how: How) -> None:
    """Unordered, every value comes exactly once."""
    values = list(tasks.double.map(range(200), ordered=False, **how))
    assert sorted(values) == [2 * x for x in range(200)]


def test_unordered_gives_what_is_finished(processes: How, begun: Fifo, gate: Fifo) -> None:
    """Unordered, a finished value does not wait for an earlier one; ordered, it does."""
    first = tasks.meet.map([0], args=(begun.path, gate.path), **processes)
    begun.line()
    assert next(tasks.double.map([5], **processes)) == 10
    mixed = tasks.write_call.map([1, 2], args=(str(gate.path) + ".calls",), ordered=False, **processes)
    assert sorted(mixed) == [1, 2]
    gate.let_go()
    assert list(first) == [0]


def test_map_of_nothing(how: How) -> None:
    """No items, no values, no wait."""
    assert list(tasks.double.map([], **how)) == []
    assert tasks.double.map(iter(()), **how).wait() == Counts()


@pytest.mark.parametrize("buffersize", [1, 5, 16])
def test_source_is_drawn_within_buffersize(how: How, buffersize: int) -> None:
    """Never are more than ``buffersize`` items drawn beyond the values taken."""
    drawn: list[int] = []
    with tasks.double.map(drawn_from(itertools.count(), drawn), buffersize=buffersize, **how) as results:
        assert len(drawn) <= buffersize
        for taken, value in enumerate(itertools.islice(results, 30), 1):
            assert value == 2 * (taken - 1)
            assert len(drawn) <= taken + buffersize


def test_infinite_input(how: How) -> None:
    """An infinite generator is mapped as far as values are taken."""
    with tasks.double.map(itertools.count(), **how) as results:
        assert list(itertools.islice(results, 100)) == [2 * x for x in range(100)]


@pytest.mark.parametrize("items", [range(10**30), range(2**62, 2**70, 3), range(5, -(10**25), -2)])
def test_ranges_of_any_length(how: How, items: range) -> None:
    """A range may be longer than ``len`` can say, and hold numbers of any size."""
    with tasks.double.map(items, **how) as results:
        outcomes = list(itertools.islice(results.outcomes(), 150))
    assert [outcome.item for outcome in outcomes] == list(items[:150])
    assert [outcome.value for outcome in outcomes] == [2 * x for x in items[:150]]


def test_two_threads_at_once_are_told(processes: How, begun: Fifo, gate: Fifo) -> None:
    """Both of them, since some results may be lost between the two; and the process lives on."""
    results = tasks.meet.map([(number, begun.path, gate.path) for number in range(2)], star=True, **processes)
    told: list[BaseException] = []

    def take() -> None:
        try:
            next(results)
        except RuntimeError as error:
            told.append(error)

    first = threading.Thread(target=take)
    first.start()
    begun.line(), begun.line()
    while not told:  # until the first is at it
        take()
    gate.let_go(2)
    first.join()
    assert ["two threads" in str(error) for error in told] == [True, True]
    results.close()


def test_maps_that_are_closed_early_start_no_more_workers(processes: How, tmp_path: Path) -> None:
    """Quick calls are waited for, rather than that workers be started beside them; but not for ever, if all is slow."""
    how: How = {
        **processes,
        "initializer": functools.partial(executor_tasks.note, "begins", str(tmp_path / "starts")),
    }
    for _ in range(20):
        with tasks.double.map(itertools.count(), **how) as results:
            assert list(itertools.islice(results, 500)) == [2 * x for x in range(500)]
    assert len(lines(tmp_path / "starts")) <= how["workers"] + 5


def test_an_input_may_depend_on_earlier_values(how: How) -> None:
    """The input is drawn in the consumer's thread, so it may look at values that the consumer has taken."""
    received: list[int] = []

    def echo() -> Iterator[int]:
        yield from (1, 2, 3)
        while len(received) < 20:
            yield received[-1] if received else 0

    for value in tasks.double.map(echo(), buffersize=2, **how):
        received.append(value)
    assert received[:3] == [2, 4, 6]
    assert len(received) >= 20


def test_an_input_that_raises(how: How) -> None:
    """What the input raises surfaces after the values of all items before it."""

    def failing() -> Iterator[int]:
        yield from range(3)
        raise LookupError("no more tapes")

    results = tasks.double.map(failing(), **how)
    assert [next(results) for _ in range(3)] == [0, 2, 4]
    with pytest.raises(LookupError, match="no more tapes"):
        next(results)


@pytest.mark.parametrize(
    ("options", "items", "expected"),
    [
        ({}, [2, 3], [4, 9]),
        ({"args": (3,)}, [2, 3], [8, 27]),
        ({"star": True}, [(2, 5), (3,)], [32, 9]),
        ({"star": None, "args": (2, 4)}, range(2), [16, 16]),
        ({"star": None, "kwstar": True, "kwargs": {"base": 2}}, [{"exponent": 3}, {"base": 5}], [8, 25]),
        ({"kwstar": True, "kwargs": {"plus": 1}}, [(2, {}), (3, {"plus": 7})], [5, 16]),
        ({"star": True, "kwstar": True}, [((2, 3), {"plus": 1}), ([4], {})], [9, 16]),
    ],
)
def test_star_rules(how: How, options: dict[str, Any], items: Any, expected: list[int]) -> None:
    """Items become calls by the six rules."""
    assert list(tasks.power.map(items, **options, **how)) == expected


def test_on_error_raise(how: How) -> None:
    """The first error in order is raised with item and index, after earlier values; then the map is over."""
    results = tasks.reciprocal.map([1, 2, 0, 4, 0], **how)
    assert next(results) == 1
    assert next(results) == 0.5
    with pytest.raises(ZeroDivisionError) as caught:
        next(results)
    assert any("reciprocal, item 2: 0" in note for note in caught.value.__notes__)
    assert list(results) == []
    assert list(tasks.double.map([1], **how)) == [2]


def test_error_shows_the_traceback_of_its_worker(processes: How) -> None:
    """The lines of the user's code that raised are shown."""
    with pytest.raises(ZeroDivisionError) as caught:
        list(tasks.reciprocal.map([0], **processes))
    assert "return 1 / x" in shown(caught.value)
    assert "src/manyhands/" not in shown(caught.value)


def test_on_error_return(how: How) -> None:
    """Every item has one place: a failure stands in it."""
    values = list(tasks.reciprocal.map([1, 0, 2], on_error="return", **how))
    assert values[::2] == [1, 0.5]
    failure = values[1]
    assert isinstance(failure, Failure)
    assert isinstance(failure.error, ZeroDivisionError)
    assert (failure.index, failure.item) == (1, 0)
    assert "return 1 / x" in failure.traceback


def test_on_error_skip(how: How) -> None:
    """Only values come; failures are kept."""
    results = tasks.reciprocal.map([1, 0, 2], on_error="skip", **how)
    assert list(results) == [1, 0.5]
    assert [failure.index for failure in results.failures] == [1]


def test_outcomes(how: How) -> None:
    """One outcome per item, each of exactly one kind, and none is raised."""
    outcomes = list(tasks.small_square.map([3, -1, "x", 50], **how).outcomes())
    assert [outcome.index for outcome in outcomes] == [0, 1, 2, 3]
    assert [outcome.item for outcome in outcomes] == [3, -1, "x", 50]
    kinds = [(o.ok, o.failure is not None, o.discarded is not None, o.elsewhere is not None) for o in outcomes]
    assert [kind.index(True) for kind in kinds] == [0, 2, 1, 2]
    assert all(kind.count(True) == 1 for kind in kinds)
    assert outcomes[0].value == 9
    assert outcomes[0].worker and outcomes[0].seconds >= 0
    assert outcomes[1].worker == ""
    with pytest.raises(ValueError, match="no value"):
        _ = outcomes[1].value


def test_collect_and_wait(how: How) -> None:
    """``collect`` gives values and failures; ``wait`` counts, and the counts add up."""
    values, failures = tasks.small_square.map([1, -1, "x", 50, 2], on_error="return", **how).collect()
    assert values == [1, 4]
    assert [failure.index for failure in failures] == [2]
    results = tasks.small_square.map([1, -1, "x", 50, 2], on_error="return", **how)
    assert results.wait() == Counts(values=2, failures=1, discarded=2)
    assert results.counts.total == 5
    with pytest.raises(ZeroDivisionError):
        tasks.reciprocal.map([1, 0], **how).wait()


def test_validated_discards(how: How) -> None:
    """Discarded items are left out under "raise" and "skip", and keep their place under "return"."""
    items = [-1, 3, 50, 4]
    assert list(tasks.small_square.map(items, **how)) == [9, 16]
    assert list(tasks.small_square.map(items, on_error="skip", **how)) == [9, 16]
    places = list(tasks.small_square.map(items, on_error="return", **how))
    assert [isinstance(place, Discarded) for place in places] == [True, False, True, False]


def test_validated_raises(how: How) -> None:
    """With ``invalid="raise"``, what does not fit is a failure."""
    with pytest.raises(InvalidArguments, match="x=-1"):
        list(tasks.strict_square.map([1, -1], **how))
    with pytest.raises(InvalidResult, match="2500"):
        list(tasks.strict_square.map([1, 50], **how))


def test_invalid_arguments_are_not_sent(how: How, tmp_path: Path) -> None:
    """An item whose arguments are invalid never runs."""
    from manyhands import validated

    checked = validated(arguments=lambda x: x != 2)(tasks.write_call)
    assert list(checked.map([1, 2, 3], args=(str(tmp_path / "calls"),), **how)) == [1, 3]
    assert sorted(lines(tmp_path / "calls")) == ["1", "3"]


def test_retries(how: How, tmp_path: Path) -> None:
    """A call that fails twice succeeds at the third attempt, and the outcome tells of the others."""
    outcomes = list(tasks.flaky.map([1, 2, 3], args=(str(tmp_path), 2), **how).outcomes())
    assert [outcome.value for outcome in outcomes] == [(1, 3), (2, 3), (3, 3)]
    assert [attempt.text for attempt in outcomes[0].attempts] == ["call 1 of 1", "call 2 of 1"]


def test_retries_end(how: How, tmp_path: Path) -> None:
    """After the last attempt the item fails, with as many calls as the budget allows."""
    with pytest.raises(OSError, match="call 3 of 1") as caught:
        list(tasks.flaky.map([1], args=(str(tmp_path), 9), **how))
    assert any("item 0: 1, attempt 3" in note for note in caught.value.__notes__)
    assert len(lines(tmp_path / "1")) == 3


def test_submit(how: How) -> None:
    """``submit`` gives futures of single calls, with positional and keyword arguments and defaults."""
    power = tasks.power.options(**how)
    futures = {power.submit(n, exponent=3, plus=n): n for n in range(20)}
    for future in as_completed(futures, timeout=60):
        assert future.result() == futures[future] ** 3 + futures[future]
    with pytest.raises(ZeroDivisionError):
        tasks.reciprocal.options(**how).submit(0).result(60)
    with pytest.raises(TypeError):
        power.submit(1, nonsense=2).result(60)


def test_a_future_tells_where_its_call_failed(processes: How) -> None:
    """The exception of a future has the traceback it had in its worker, and a note that names the worker."""
    with pytest.raises(ZeroDivisionError) as caught:
        tasks.reciprocal.options(**processes).submit(0).result(60)
    assert "in reciprocal" in shown(caught.value)
    assert any(
        note.startswith("in a submitted call of reciprocal(0), worker ") for note in caught.value.__notes__
    )


def test_submit_retries_and_validates(how: How, tmp_path: Path) -> None:
    """A submitted call is retried, and raises what is invalid even where a map would discard."""
    assert tasks.flaky.options(**how).submit(1, str(tmp_path), 2).result(60) == (1, 3)
    with pytest.raises(InvalidArguments):
        tasks.small_square.options(**how).submit(-1).result(60)
    with pytest.raises(InvalidResult):
        tasks.small_square.options(**how).submit(50).result(60)


def test_cancelled_future_never_runs(processes: How, begun: Fifo, gate: Fifo, tmp_path: Path) -> None:
    """A future that is cancelled while all workers are busy is not run."""
    meet = tasks.meet.options(**processes)
    busy = [meet.submit(n, begun.path, gate.path) for n in range(2)]
    for _ in busy:
        begun.line()
    late = tasks.write_call.options(**processes).submit(1, str(tmp_path / "calls"))
    assert late.cancel()
    gate.let_go(2)
    assert [future.result(60) for future in busy] == [0, 1]
    assert tasks.write_call.options(**processes).submit(2, str(tmp_path / "calls")).result(60) == 2
    assert lines(tmp_path / "calls") == ["2"]


@pytest.mark.parametrize("chunksize", [1, 3, 50])
def test_chunks_change_nothing(how: How, chunksize: int) -> None:
    """Whatever is sent at once, values, order and errors are the same."""
    assert list(tasks.double.map(range(100), chunksize=chunksize, **how)) == [2 * x for x in range(100)]
    outcomes = list(tasks.reciprocal.map([1, 0, 2, 0], chunksize=chunksize, **how).outcomes())
    assert [outcome.ok for outcome in outcomes] == [True, False, True, False]


def test_items_that_do_not_fit_are_told_before_work(how: How, tmp_path: Path) -> None:
    """In a list, an item that does not fit its star rule is an error before anything runs."""
    with pytest.raises(ItemError, match=r"item 1 \(7\) does not fit star=True") as caught:
        tasks.write_call.map([(1,), 7], star=True, args=(str(tmp_path / "calls"),), **how)
    assert any("nothing was started" in note for note in caught.value.__notes__)
    assert lines(tmp_path / "calls") == []


def test_items_that_do_not_fit_are_failures_of_their_own(how: How) -> None:
    """From a generator, an item that does not fit its rule fails alone."""
    outcomes = list(tasks.power.map(iter([(1, 2), 7, (3,)]), star=True, **how).outcomes())
    assert [outcome.ok for outcome in outcomes] == [True, False, True]
    assert isinstance(outcomes[1].failure.error, ItemError)


def test_arguments_that_can_not_be_sent(processes: How) -> None:
    """An item that can't be pickled fails alone, and says why."""
    outcomes = list(tasks.double.map([1, threading.Lock(), 3], **processes).outcomes())
    assert [outcome.ok for outcome in outcomes] == [True, False, True]
    assert any("pickled for a worker" in note for note in outcomes[1].failure.error.__notes__)


def test_large_arguments_and_results(how: How) -> None:
    """Megabytes go both ways."""
    items = [bytes([n]) * 3_000_000 for n in range(6)]
    assert list(tasks.double.map(items, **how)) == [2 * item for item in items]


def test_two_maps_at_once(how: How) -> None:
    """Two maps in one thread don't mix."""
    doubles = tasks.double.map(itertools.count(), **how)
    powers = tasks.power.map(itertools.count(), **how)
    with doubles, powers:
        pairs = list(itertools.islice(zip(doubles, powers, strict=True), 50))
    assert pairs == [(2 * n, n * n) for n in range(50)]

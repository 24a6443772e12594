"""``timeout``: exactly the item that runs for too long is ended, wherever it is and whatever it does."""

from __future__ import annotations

import os
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import pytest

from manyhands import Controller, Failure, InvalidResult, Outcome, TaskTimeout, WorkerDied
from manyhands.controller.reader import CARETAKER
from tests.contract import fate_tasks, tasks
from tests.helpers import Fifo, until

How = dict[str, Any]

LIMIT = 1.0
"""Seconds; calls that are to stay below it take less than a quarter of it."""


def check_timed_out(error: BaseException, index: int | None, item: Any) -> None:
    """It says which item it was, where, and how long it was given; and its process is no more."""
    assert isinstance(error, TaskTimeout)
    assert isinstance(error, TimeoutError)
    assert (error.index, error.item, error.timeout) == (index, item, LIMIT)
    assert error.pid not in (0, os.getpid())
    until(lambda: not fate_tasks.alive(error.pid), "the worker ends")


def check(outcomes: list[Outcome[int]], victims: tuple[int, ...]) -> None:
    """The victims were ended, and all others have their values, at the first attempt."""
    assert [o.index for o in outcomes if not o.ok] == list(victims)
    assert all(o.value == o.item and o.attempts == () for o in outcomes if o.ok)
    for victim in victims:
        failure = outcomes[victim].failure
        assert failure is not None
        check_timed_out(failure.error, victim, victim)


@pytest.mark.parametrize(("way", "chunksize"), [*((way, 7) for way in fate_tasks.STUCK), ("sleep", "auto")])
def test_exactly_the_item_that_is_stuck(way: str, chunksize: Any) -> None:
    """Asleep, in C code that holds the GIL, or in a process that is stopped: it ends, its chunk-mates run."""
    how: How = {"workers": 2, "timeout": LIMIT, "chunksize": chunksize}
    check(list(fate_tasks.get_stuck.map(range(21), args=((10,), way), **how).outcomes()), (10,))


def test_each_start_method(processes: How) -> None:
    """The first, one amid a chunk and the last item of a map may be stuck, and the pool is good afterwards."""
    victims = (0, 4, 13)
    results = fate_tasks.get_stuck.map(range(14), args=(victims,), timeout=LIMIT, chunksize=7, **processes)
    check(list(results.outcomes()), victims)
    assert list(tasks.double.map(range(9), **processes)) == [2 * x for x in range(9)]


def test_time_counts_from_the_start_of_the_item() -> None:
    """A chunk may take far longer than the limit of each item in it, and so may what waits for a worker."""
    seconds = LIMIT / 5
    results = fate_tasks.get_stuck.map(
        range(14), args=((), "sleep", seconds), timeout=LIMIT, chunksize=7, workers=1
    )
    assert list(results) == list(range(14))


def test_every_item_is_stuck() -> None:
    """All are told, each of its own worker."""
    results = fate_tasks.get_stuck.map(range(4), args=(tuple(range(4)),), timeout=LIMIT, workers=2)
    outcomes = list(results.outcomes())
    check(outcomes, (0, 1, 2, 3))
    assert len({o.failure.error.pid for o in outcomes if o.failure}) == 4  # type: ignore[attr-defined]


def test_other_maps_of_the_pool_have_no_limit(begun: Fifo, gate: Fifo) -> None:
    """A map without a timeout beside one with runs on, in the same pool."""
    free = tasks.meet.map([1], args=(begun.path, gate.path), workers=2)
    begun.line()
    limited = fate_tasks.get_stuck.map([0, 1], args=((0,),), workers=2, timeout=LIMIT)
    check(list(limited.outcomes()), (0,))
    gate.let_go()
    assert list(free) == [1]


def test_a_limit_that_comes_while_another_thread_reads(begun: Fifo, gate: Fifo) -> None:
    """Who reads for all, and sleeps until something arrives, has no limit of its own to look at."""
    with Controller(2) as pool, ThreadPoolExecutor(1) as others:
        meet = tasks.meet.options(backend=pool)
        running = {meet.submit(x, str(begun.path), str(gate.path)) for x in (1, 2)}
        begun.line(), begun.line()  # both workers are there: nothing more is to be heard of them
        gate.let_go()
        _, (future,) = wait(running, return_when=FIRST_COMPLETED)
        reading = others.submit(future.result)
        until(lambda: pool.dispatcher.reader.leader not in (None, CARETAKER), "somebody reads")
        limited = fate_tasks.get_stuck.map([0], args=((0,),), backend=pool, timeout=LIMIT)
        check(list(limited.outcomes()), (0,))
        gate.let_go()
        assert reading.result() in (1, 2)


def test_on_error_raise() -> None:
    """It is raised in its place, after the values before it, with a note that names the item."""
    results = fate_tasks.get_stuck.map(range(9), args=((2,),), timeout=LIMIT, workers=2)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(TaskTimeout, match=rf"ran for more than {LIMIT:g} s") as caught:
        next(results)
    check_timed_out(caught.value, 2, 2)
    assert any("get_stuck, item 2: 2" in note for note in caught.value.__notes__)
    assert list(results) == []


def test_on_error_return_and_skip() -> None:
    """A failure stands in its place, or among the failures."""
    how: How = {"args": ((2,),), "timeout": LIMIT, "workers": 2}
    values = list(fate_tasks.get_stuck.map(range(5), on_error="return", **how))
    failure = values.pop(2)
    assert values == [0, 1, 3, 4]
    assert isinstance(failure, Failure)
    check_timed_out(failure.error, 2, 2)
    results = fate_tasks.get_stuck.map(range(5), on_error="skip", **how)
    assert list(results) == [0, 1, 3, 4]
    check_timed_out(results.failures[0].error, 2, 2)


def test_unordered() -> None:
    """What waits behind nobody comes before the one that is stuck, and that is told all the same."""
    results = fate_tasks.get_stuck.map(range(9), args=((0,),), timeout=LIMIT, workers=2, ordered=False)
    outcomes = list(results.outcomes())
    assert outcomes[-1].index == 0
    check(sorted(outcomes, key=lambda outcome: outcome.index), (0,))


@pytest.mark.parametrize("way", ["sleep", "sleep_with_the_gil"])
def test_submit(way: str) -> None:
    """A submitted call has its limit from its start; calls that wait behind it have theirs."""
    get_stuck = fate_tasks.get_stuck.options(timeout=LIMIT, workers=2)
    futures = [get_stuck.submit(x, (1, 4), way, LIMIT / 5) for x in range(8)]
    assert [f.result(90) for n, f in enumerate(futures) if n not in {1, 4}] == [0, 2, 3, 5, 6, 7]
    for future in (futures[1], futures[4]):
        check_timed_out(future.exception(90) or AssertionError(), None, None)


def test_budgets_are_separate(tmp_path: Path) -> None:
    """Time-outs, ends of workers, exceptions and invalid results have each their own number of attempts."""
    scripts = ["tedi.", "tt", "tdd", "dtee", "eidi", "."]
    how: How = {"timeout": LIMIT, "workers": 2, "chunksize": 1}  # so none runs again because of another
    results = fate_tasks.follow.map(scripts, args=(str(tmp_path),), **how)
    outcomes = list(results.outcomes())
    kinds = [[attempt.type_name.rpartition(".")[2] for attempt in o.attempts] for o in outcomes]
    names = {"t": "TaskTimeout", "d": "WorkerDied", "e": "LookupError", "i": "InvalidResult"}
    assert kinds == [[names[letter] for letter in script if letter != "."] for script in scripts]
    assert [o.ok for o in outcomes] == [True, False, False, False, False, True]
    errors = [type(o.failure.error) for o in outcomes if o.failure]
    assert errors == [TaskTimeout, WorkerDied, LookupError, InvalidResult]


def test_budgets_of_submitted_calls(tmp_path: Path) -> None:
    """So do submitted calls, which come back to be sent again."""
    follow = fate_tasks.follow.options(timeout=LIMIT, workers=2)
    good, bad = (follow.submit(script, str(tmp_path)) for script in ("tde.", "tet"))
    assert good.result(90) == "."
    with pytest.raises(TaskTimeout):
        bad.result(90)


@pytest.mark.parametrize("backend", ["threads", "inline"])
def test_refused_where_nobody_can_be_ended(backend: Any) -> None:
    """Threads and inline calls can't be ended, so a limit is a ValueError there, before any work."""
    with pytest.raises(ValueError, match="timeout needs worker processes"):
        tasks.double.map([1], backend=backend, timeout=LIMIT)
    with pytest.raises(ValueError, match="timeout needs worker processes"):
        tasks.double.options(timeout=LIMIT).map([1], backend=backend)
    with pytest.raises(ValueError, match="timeout needs worker processes"):
        tasks.double.options(timeout=LIMIT, backend=backend)

"""Fates of all kinds inside one map: each item has its own, and none has another's."""

from __future__ import annotations

import os
import pickle
import time
from pathlib import Path
from typing import Any

import pytest

from manyhands import (
    Discarded,
    Elsewhere,
    Failure,
    Outcome,
    PoolBroken,
    PoolClosed,
    RemoteError,
    TaskTimeout,
    WorkerDied,
    parallel,
)
from manyhands.calls import Call, Done, Failed, Later
from manyhands.outcome import Attempt
from tests.contract import fate_tasks, tasks
from tests.contract.fate_tasks import ENDS_WORKER, RAISES
from tests.helpers import lines

How = dict[str, Any]


def type_name(error: BaseException) -> str:
    """The name of an error's type, as it was in the worker."""
    if isinstance(error, RemoteError):
        return error.type_name
    cls = type(error)
    return cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"


def check(outcome: Outcome[Any]) -> None:
    """The outcome is that of its item, and of no other."""
    fate = outcome.item
    if fate in ENDS_WORKER:
        assert outcome.failure is not None, fate
        error = outcome.failure.error
        assert isinstance(error, WorkerDied), fate
        assert (error.exitcode, error.index, error.item) == (ENDS_WORKER[fate], outcome.index, fate)
        assert error.pid not in (0, os.getpid())
    elif fate in RAISES:
        assert outcome.failure is not None, fate
        assert isinstance(outcome.failure.error, Exception), fate  # none that would end who raises it
        assert type_name(outcome.failure.error) == RAISES[fate], fate
    elif fate in {"shy", "unfriendly"}:
        assert outcome.value.x == 5
    else:
        assert outcome.value == ("value" if fate == "farewell" else fate)
    assert outcome.attempts == () or not outcome.ok


FATES = [*RAISES, *ENDS_WORKER, "shy", "unfriendly", "farewell"]


@pytest.mark.parametrize("chunksize", ["auto", 1, 7])
def test_fates_of_all_kinds(chunksize: Any) -> None:
    """Between items that succeed, each fate is that of its item, and all others have their values."""
    items = [each for fate in FATES for each in ("good", fate, "well")]
    outcomes = list(fate_tasks.meet_fate.map(items, workers=2, chunksize=chunksize).outcomes())
    assert [outcome.item for outcome in outcomes] == items
    for outcome in outcomes:
        check(outcome)


@pytest.mark.parametrize("chunksize", ["auto", 5])
def test_fates_unordered_with_threads(chunksize: Any) -> None:
    """The same where several calls run in each process."""
    items = [each for fate in FATES for each in (fate, "good")]
    results = fate_tasks.meet_fate.map(items, workers=2, threads=3, chunksize=chunksize, ordered=False)
    outcomes = sorted(results.outcomes(), key=lambda outcome: outcome.index)
    assert [outcome.item for outcome in outcomes] == items
    for outcome in outcomes:
        check(outcome)


def test_fates_with_each_start_method(processes: How) -> None:
    """An end by a signal, an error that can't travel and a value that can't, whatever the workers come from."""
    items = ["good", "segfault", "sealed", "oneway", "hostile exit", "trap", "interrupt", "abort", "well"]
    outcomes = list(fate_tasks.meet_fate.map(items, **processes).outcomes())
    assert [outcome.item for outcome in outcomes] == items
    for outcome in outcomes:
        check(outcome)


@pytest.mark.parametrize("backend", ["threads", "inline"])
def test_fates_without_processes(backend: Any) -> None:
    """Where nothing travels what can't is a value like any other, and errors are what they are."""
    items = ["good", "error", "mute", "sealed", "oneway", "result", "hostile", "hostile error", "well"]
    outcomes = list(fate_tasks.meet_fate.map(items, backend=backend).outcomes())
    failed = {o.item: type(o.failure.error) for o in outcomes if o.failure}
    expected = {"error": LookupError, "mute": fate_tasks.Mute, "sealed": fate_tasks.Sealed}
    assert failed == {**expected, "oneway": fate_tasks.OneWay, "hostile error": LookupError}
    assert type(outcomes[6].value) is fate_tasks.Hostile


def test_items_that_make_trouble(how: How) -> None:
    """Items that can't be shown, compared or pickled, or whose type can't: each is its own affair."""
    items = [
        fate_tasks.Shy(1),
        fate_tasks.OfUnfriendlyType(2),
        3,
        fate_tasks.OfUnfriendlyType(4),
        fate_tasks.Shy(5),
    ]
    extract = parallel(lambda item: getattr(item, "x", item))
    assert list(extract.map(items, **how)) == [1, 2, 3, 4, 5]
    fail = parallel(lambda item: 1 / 0)
    failures = fail.map(items, on_error="skip", **how)
    assert list(failures) == []
    assert [type(failure.error) for failure in failures.failures] == [ZeroDivisionError] * 5


def test_items_that_can_not_be_pickled(processes: How) -> None:
    """Whatever pickling an item raises, that item fails, and no other."""
    hostile = [fate_tasks.Hostile(kind) for kind in (RuntimeError, SystemExit)]
    items = [1, hostile[0], 2, hostile[1], fate_tasks.Trap(), fate_tasks.OfUnhashableType(), 3]
    with parallel(lambda item: item).map(iter(items), **processes) as results:
        outcomes = list(results.outcomes())
    assert [outcome.ok for outcome in outcomes] == [True, False, True, False, False, False, True]
    errors = [outcome.failure.error for outcome in outcomes if outcome.failure]
    assert all(isinstance(error, Exception) for error in errors)
    assert list(map(type_name, errors)) == ["RuntimeError", "SystemExit", "SystemExit", "RuntimeError"]


# -- values ---------------------------------------------------------------------------------------------------

VALUES: list[Any] = [
    Done(1),
    Done(Failed(ValueError("inside"))),
    Failed(ValueError("no failure")),
    Later(5.0),
    Call((1,), {"x": 2}, None),
    Attempt("a", "b"),
    Failure(ValueError("returned"), 3, "item"),
    Discarded("why", 0, 1),
    Elsewhere("path", 0, 1),
    Outcome(0, 1, Done(2)),
    WorkerDied("nobody died"),
    TaskTimeout("not late"),
    PoolBroken("whole"),
    PoolClosed("open"),
    RemoteError("near"),
    StopIteration(3),
    StopIteration,
    GeneratorExit(),
    KeyboardInterrupt(),
    SystemExit(3),
    ValueError("a value"),
    Ellipsis,
    NotImplemented,
    None,
    (),
    b"",
    pickle.dumps(Failed(ValueError("bytes"))),
]


@pytest.mark.parametrize("on_error", ["raise", "return", "skip"])
def test_any_value_is_a_value(how: How, on_error: Any) -> None:
    """What the library itself uses to say how calls ended is a value where a call returns it."""
    give_back = parallel(lambda number: VALUES[number])
    results = give_back.map(range(len(VALUES)), on_error=on_error, **how)
    assert list(map(repr, results)) == list(map(repr, VALUES))
    assert results.failures == []
    assert results.counts.values == results.counts.total == len(VALUES)


@pytest.mark.parametrize("backend", [None, "threads", "inline"])
def test_any_value_is_a_futures_value(backend: Any) -> None:
    """So it is where calls are submitted."""
    give_back = parallel(lambda number: VALUES[number]).options(backend=backend, workers=2)
    futures = [give_back.submit(number) for number in range(len(VALUES))]
    assert [repr(future.result(90)) for future in futures] == list(map(repr, VALUES))


# -- how often an item starts ---------------------------------------------------------------------------------


@pytest.mark.parametrize("chunksize", ["auto", 1, 6])
def test_no_item_starts_twice_while_its_worker_lives(tmp_path: Path, chunksize: Any) -> None:
    """Only when its worker has ended does an item start again, and then its victims are the only ones to fail."""
    victims = (3, 17, 18, 40)
    start_and_end = fate_tasks.start_and_end.options(workers=2, chunksize=chunksize)
    outcomes = list(start_and_end.map(range(60), args=(str(tmp_path), victims)).outcomes())
    assert [o.index for o in outcomes if not o.ok] == list(victims)
    assert lines(tmp_path / "twice") == []
    starts = {x: len(lines(tmp_path / str(x))) for x in range(60)}
    assert all(starts[victim] == 1 for victim in victims) or chunksize != 1
    assert min(starts.values()) == 1
    if chunksize == 1:
        assert max(starts.values()) == 1


def test_no_item_starts_twice_for_speed(tmp_path: Path) -> None:
    """What waited behind a slow item and was handed to others starts once, as does all else."""

    @parallel(workers=2)
    def uneven(x: int) -> int:
        fate_tasks.note_start(x, str(tmp_path))
        time.sleep(0.3 if x in {100, 101} else 0.0)
        return x

    assert list(uneven.map(range(400))) == list(range(400))
    assert {len(lines(tmp_path / str(x))) for x in range(400)} == {1}


def test_time_outs_restart_nobody_early(tmp_path: Path) -> None:
    """Chunk-mates of an item that is ended for its time start again only after its worker's end."""

    @parallel(workers=2, timeout=1.0, chunksize=5)
    def late(x: int) -> int:
        fate_tasks.note_start(x, str(tmp_path))
        time.sleep(3600 if x in {2, 11} else 0.0)
        return x

    outcomes = list(late.map(range(15)).outcomes())
    assert [o.index for o in outcomes if not o.ok] == [2, 11]
    assert lines(tmp_path / "twice") == []


def test_pool_is_good_after_all_that(processes: How) -> None:
    """The pools that saw all of it work on."""
    assert list(tasks.double.map(range(100), **processes)) == [2 * x for x in range(100)]

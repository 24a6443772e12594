"""Claimed outputs from one process: what is computed, what is not, and what lies in the directory."""

from __future__ import annotations

import itertools
import os
import signal
from pathlib import Path

import pytest

from manyhands import (
    Controller,
    Counts,
    Discarded,
    Elsewhere,
    FailedElsewhere,
    WorkerDied,
    claimed_output,
    gc,
    parallel,
)
from tests.end_to_end import tasks
from tests.helpers import Fifo, names

ITEMS = [f"item {n}" for n in range(12)]


@pytest.fixture(params=["inline", "threads", "fork", "spawn", "forkserver", "threads of workers"])
def how(request: pytest.FixtureRequest) -> dict[str, object]:
    """Options that say where a map runs."""
    if request.param == "inline":
        return {"backend": "inline"}
    if request.param == "threads":
        return {"backend": "threads", "workers": 4}
    if request.param == "threads of workers":
        return {"workers": 2, "threads": 3, "start_method": "fork"}
    return {"workers": 2, "start_method": request.param}


def test_outputs_are_written_once(here: Path, log: Path, how: dict) -> None:
    """A map returns the paths in order; a second one computes nothing; nothing but outputs is left at once."""
    paths = list(tasks.write.map(ITEMS, args=(log,), **how))
    assert tasks.found(here / "out") == tasks.expected(ITEMS)
    assert paths == [here / "out" / f"{item}.txt" for item in ITEMS]
    outcomes = list(tasks.write.map(ITEMS, args=(log,), **how).outcomes())
    assert [outcome.value for outcome in outcomes] == paths
    assert {(outcome.worker, outcome.seconds) for outcome in outcomes} == {("", 0.0)}
    assert tasks.calls(log) == dict.fromkeys(ITEMS, 1)
    assert tasks.found(here / "out") == tasks.expected(ITEMS)


def test_saved_and_loaded(here: Path, log: Path, how: dict) -> None:
    """With ``save`` and ``load`` a map returns values, computed once and loaded ever after."""
    assert list(tasks.square.map(range(6), args=(log,), **how)) == [n * n for n in range(6)]
    assert names(here / "out") == [f"{n}.txt" for n in range(6)]
    outcomes = list(tasks.square.map(range(8), args=(log,), **how).outcomes())
    assert [outcome.value for outcome in outcomes] == [n * n for n in range(8)]
    assert [outcome.worker == "" for outcome in outcomes] == [True] * 6 + [False] * 2
    assert set(tasks.calls(log).values()) == {1}


def test_unordered_submit_and_calls(here: Path, log: Path, how: dict) -> None:
    """Unordered maps, futures and direct calls find the same outputs."""
    assert sorted(tasks.square.map(range(6), args=(log,), ordered=False, **how)) == [0, 1, 4, 9, 16, 25]
    assert tasks.square.options(**how).submit(5, log).result(60) == 25
    assert tasks.square.options(**how).submit(6, log=log).result(60) == 36
    assert tasks.square(6, str(log)) == 36
    assert tasks.square(7, str(log)) == 49
    assert set(tasks.calls(log).values()) == {1}
    assert names(here / "out") == [f"{n}.txt" for n in range(8)]


def test_submit_of_one_output_many_times(here: Path, log: Path) -> None:
    """Futures of equal calls, at once and later, have one output, computed once."""
    write = tasks.write.options(workers=2)
    futures = [write.submit("same", log) for _ in range(5)]
    assert {future.result(60) for future in futures} == {here / "out" / "same.txt"}
    assert write.submit("same", log).result(60) == here / "out" / "same.txt"
    assert tasks.calls(log) == {"same": 1}


def test_submit_follows_the_directory(
    here: Path, log: Path, begun: Fifo, gate: Fifo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A submitted call belongs to the directory that its caller was in, whatever was submitted before."""
    write = tasks.write_or_block.options(workers=2)
    arguments = (log, str(begun.path), str(gate.path))
    first = write.submit("block", *arguments)
    begun.line()
    (here / "below").mkdir()
    monkeypatch.chdir(here / "below")
    assert write.submit("a", *arguments).result(60) == here / "below" / "out" / "a.txt"
    gate.let_go()
    assert first.result(60) == here / "out" / "block.txt"


def test_deleted_output_is_made_again(here: Path, log: Path) -> None:
    """An output that the user deletes is computed again by the next map, and only that one."""
    list(tasks.write.map(ITEMS, args=(log,)))
    (here / "out" / "item 3.txt").unlink()
    list(tasks.write.map(ITEMS, args=(log,)))
    assert tasks.calls(log) == {item: 2 if item == "item 3" else 1 for item in ITEMS}
    assert tasks.found(here / "out") == tasks.expected(ITEMS)


def test_two_maps_of_one_process(here: Path, log: Path) -> None:
    """Two maps over one list at the same time compute each output once, and give the same list."""
    first = tasks.write.map(ITEMS, args=(log,), workers=2)
    second = tasks.write.map(ITEMS, args=(log,), workers=1)
    pairs = list(zip(first, second, strict=True))
    first.close()
    second.close()
    assert all(left == right for left, right in pairs)
    assert tasks.calls(log) == dict.fromkeys(ITEMS, 1)
    assert tasks.found(here / "out") == tasks.expected(ITEMS)


def test_closed_early(here: Path, log: Path) -> None:
    """A map that is closed early leaves whole outputs only, and another goes on from there."""
    with Controller(2) as pool, tasks.write.map(ITEMS, args=(log,), backend=pool) as results:
        next(results)
    assert tasks.found(here / "out").items() <= tasks.expected(ITEMS).items()
    list(tasks.write.map(ITEMS, args=(log,)))
    assert tasks.calls(log) == dict.fromkeys(ITEMS, 1)


def test_temp_in_another_directory(here: Path, log: Path, tmp_path: Path) -> None:
    """With ``temp`` the claims lie elsewhere, and go from there as well."""
    elsewhere = claimed_output("out/{item}.txt", temp="claims/{item}")(tasks.write.__wrapped__)
    mapped = parallel(elsewhere)
    list(mapped.map(ITEMS, args=(log,), workers=2))
    assert tasks.found(here / "out") == tasks.expected(ITEMS)
    assert names(here / "claims") == []


# -- verdicts -------------------------------------------------------------------------------------------------


def test_failed_outputs_are_retried_or_reported(here: Path, log: Path) -> None:
    """``failed="retry"`` runs what failed before once more; ``failed="report"`` believes it."""
    outcomes = list(tasks.write_or_fail.map(["good", "bad"], args=(log,)).outcomes())
    assert [outcome.ok for outcome in outcomes] == [True, False]
    assert tasks.calls(log) == {"bad": 4, "good": 1}
    assert len(outcomes[1].attempts) == 4
    assert isinstance(outcomes[1].failure.error, OSError)

    (again,) = tasks.write_or_fail.map(["bad"], args=(log,)).outcomes()
    assert isinstance(again.failure.error, FailedElsewhere)
    assert again.failure.error.type_name == "OSError"
    assert "bad is bad" in str(again.failure.error) and "bad.txt" in str(again.failure.error)
    assert "raise OSError" in again.failure.traceback
    assert tasks.calls(log)["bad"] == 4

    retrying = parallel(workers=1)(claimed_output("out/{item}.txt")(tasks.write_or_fail.__wrapped__))
    (once_more,) = retrying.map(["bad"], args=(log,)).outcomes()
    assert isinstance(once_more.failure.error, OSError)
    assert tasks.calls(log)["bad"] == 5
    assert names(here / "out")[-1] == "good.txt" and "bad.txt" not in names(here / "out")
    gc(here / "out", now=True)
    assert tasks.found(here / "out") == tasks.expected(["good"])


def test_failure_during_a_map_is_believed(here: Path, log: Path, begun: Fifo, gate: Fifo) -> None:
    """What fails elsewhere while a map runs is not run again by it, also under ``failed="retry"``."""

    @parallel(workers=1)
    @claimed_output("out/{item}.txt")
    def fail_or_block(item: str, log: Path, begun: Path, gate: Path, output: Path = tasks.OUTPUT) -> None:
        from tests.helpers import tell, wait_for

        tell(log / item, "called")
        if item == "bad":
            raise LookupError("never")
        tell(begun, item)
        wait_for(gate)
        output.write_text("x")

    arguments = (log, begun.path, gate.path)
    running = fail_or_block.map(["block", "bad"], args=arguments)
    begun.line()
    (failed,) = fail_or_block.map(["bad"], args=arguments, backend="inline").outcomes()
    assert isinstance(failed.failure.error, LookupError)
    gate.let_go()
    outcomes = list(running.outcomes())
    assert [outcome.ok for outcome in outcomes] == [True, False]
    assert isinstance(outcomes[1].failure.error, FailedElsewhere)
    assert tasks.calls(log) == {"bad": 1, "block": 1}
    list(fail_or_block.map(["bad"], args=arguments, on_error="skip"))
    assert tasks.calls(log)["bad"] == 2


def test_discarded_outputs_leave_a_record(here: Path, log: Path) -> None:
    """An output whose validation discards it is not published, and not computed again under "report"."""
    items = ["fine", "odd", "odd argument", "well"]
    results = tasks.write_if_valid.map(items, args=(log,), on_error="return")
    places = list(results)
    assert [isinstance(place, Discarded) for place in places] == [False, True, True, False]
    assert results.counts == Counts(values=2, discarded=2)
    assert "odd argument" not in tasks.calls(log)
    from dataclasses import replace

    believing = tasks.write_if_valid.options()
    believing.task = replace(believing.task, claim=replace(believing.task.claim, failed="report"))
    assert believing.map(items, args=(log,)).wait() == Counts(values=2, discarded=2)
    assert tasks.calls(log) == {"fine": 1, "odd": 1, "well": 1}
    gc(here / "out", now=True)
    assert tasks.found(here / "out") == tasks.expected(["fine", "well"])


# -- others ---------------------------------------------------------------------------------------------------


def test_wait_false_yields_elsewhere(here: Path, log: Path, begun: Fifo, gate: Fifo) -> None:
    """With ``wait=False`` what another process computes is Elsewhere, and the map ends without it."""
    arguments = (log, str(begun.path), str(gate.path))
    running = tasks.write_or_block.submit("block", *arguments)
    begun.line()
    hurried = parallel(workers=2)(
        claimed_output("out/{item}.txt", wait=False)(tasks.write_or_block.__wrapped__)
    )
    places = list(hurried.map(["a", "block", "b"], args=arguments, on_error="return"))
    assert places[::2] == [here / "out" / "a.txt", here / "out" / "b.txt"]
    assert places[1] == Elsewhere(str(here / "out" / "block.txt"), 1, "block")
    results = hurried.map(["a", "block"], args=arguments)
    assert results.wait() == Counts(values=1, elsewhere=1)
    assert tasks.calls(log)["block"] == 1
    gate.let_go()
    assert running.result(60) == here / "out" / "block.txt"
    assert hurried.map(["a", "block"], args=arguments).wait() == Counts(values=2)


def test_others_first(here: Path, log: Path, begun: Fifo, gate: Fifo) -> None:
    """A map computes other items while one is claimed elsewhere, and comes back for it."""
    arguments = (log, str(begun.path), str(gate.path))
    running = tasks.write_or_block.submit("block", *arguments)
    begun.line()
    results = tasks.write_or_block.map(["block", *ITEMS], args=arguments, ordered=False, workers=2)
    first = [next(results) for _ in ITEMS]
    assert sorted(path.stem for path in first) == sorted(ITEMS)
    gate.let_go()
    assert list(results) == [here / "out" / "block.txt"]
    assert running.result(60) == here / "out" / "block.txt"
    assert set(tasks.calls(log).values()) == {1}
    assert tasks.found(here / "out") == tasks.expected(["block", *ITEMS])


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_worker_killed_in_mid_task(here: Path, log: Path, begun: Fifo, gate: Fifo, method: str) -> None:
    """Only the item of the killed worker fails; nothing torn is published; the next map makes it."""
    arguments = (log, str(begun.path), str(gate.path))
    results = tasks.write_or_block.map(["a", "block", *ITEMS], args=arguments, workers=2, start_method=method)
    os.kill(int(begun.line()), signal.SIGKILL)
    outcomes = list(results.outcomes())
    assert [outcome.index for outcome in outcomes if not outcome.ok] == [1]
    assert isinstance(outcomes[1].failure.error, WorkerDied)
    assert "block.txt" not in names(here / "out")
    gate.let_go()
    assert list(tasks.write_or_block.map(["block"], args=arguments)) == [here / "out" / "block.txt"]
    gc(here / "out", now=True)
    assert tasks.found(here / "out") == tasks.expected(["a", "block", *ITEMS])


def test_infinite_items(here: Path, log: Path) -> None:
    """Claimed maps are lazy: of infinitely many items only what is asked for, and some ahead, is computed."""
    options = {"args": (log,), "buffersize": 4}
    with Controller(2) as pool, tasks.square.map(itertools.count(), backend=pool, **options) as results:
        assert list(itertools.islice(results, 10)) == [n * n for n in range(10)]
    assert len(names(here / "out")) <= 10 + 4

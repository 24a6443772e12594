"""``threads``: several calls at the same time in each worker, and who is blamed when one of them ends it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from manyhands import TaskTimeout, WorkerDied, parallel
from tests.contract import fate_tasks
from tests.helpers import Fifo, ends_of, lines

How = dict[str, Any]

ONE: How = {"workers": 1, "threads": 3}


@pytest.fixture
def far_gate(tmp_path: Path) -> Iterator[Fifo]:
    """A second gate."""
    fifo = Fifo(tmp_path / "far")
    yield fifo
    fifo.let_go(1000)
    fifo.close()


def pids_of(begun: Fifo, number: int) -> dict[int, int]:
    """Which items have begun, and in which process."""
    told = (begun.line().split() for _ in range(number))
    return {int(item): int(pid) for item, pid in told}


def test_calls_run_at_once_in_one_process(method: str, begun: Fifo, gate: Fifo) -> None:
    """As many as there are threads, no more, each in a thread of its own by ``worker_info``."""
    results = fate_tasks.meet_where.map(range(4), args=(begun.path, gate.path), start_method=method, **ONE)
    first = pids_of(begun, 3)
    assert len(set(first.values())) == 1
    assert begun.empty()
    gate.let_go(4)
    infos = list(results)
    assert {info.pid for info in infos} == set(first.values())
    assert {infos[item].thread for item in first} == {0, 1, 2}


def test_threads_of_two_workers(begun: Fifo, gate: Fifo) -> None:
    """Each of the workers runs that many."""
    how: How = {"workers": 2, "threads": 2}
    results = fate_tasks.meet_where.map(range(4), args=(begun.path, gate.path), **how)
    pids = list(pids_of(begun, 4).values())
    assert sorted(map(pids.count, set(pids))) == [2, 2]
    gate.let_go(4)
    assert {(info.number, info.thread) for info in results} >= {(info.number, 0) for info in results}


def test_submitted_calls_run_at_once(begun: Fifo, gate: Fifo) -> None:
    """So do submitted ones."""
    meet = fate_tasks.meet_where.options(**ONE)
    futures = [meet.submit(x, str(begun.path), str(gate.path)) for x in range(3)]
    assert len(set(pids_of(begun, 3).values())) == 1
    gate.let_go(3)
    assert {future.result(90).thread for future in futures} == {0, 1, 2}


@pytest.mark.parametrize("chunksize", ["auto", 2])
def test_values_and_order(chunksize: Any) -> None:
    """Thousands of short calls come in order, errors in their places."""
    half = parallel(lambda x: 1 / (x % 100 - 50), chunksize=chunksize, **ONE)
    outcomes = list(half.map(range(3000)).outcomes())
    assert [o.index for o in outcomes if not o.ok] == list(range(50, 3000, 100))
    assert all(o.value == 1 / (o.item % 100 - 50) for o in outcomes if o.ok)


@pytest.mark.parametrize("alone", [True, False])
def test_a_death_blames_who_dies_alone(begun: Fifo, gate: Fifo, far_gate: Fifo, alone: bool) -> None:
    """All that ran in the dead process run again, and only one whose worker ends once more is told so."""
    arguments = (str(begun.path), (str(gate.path), str(far_gate.path)), 1, alone)
    results = fate_tasks.die_together.map(range(3), args=arguments, **ONE)
    pids = set(pids_of(begun, 3).values())
    assert len(pids) == 1
    with ends_of(pids) as wait:
        gate.let_go()
        wait()
    gate.let_go()
    far_gate.let_go(2)
    outcomes = list(results.outcomes())
    assert set(pids_of(begun, 3)) == {0, 1, 2}  # each once more,
    assert begun.empty()  # and that is all
    assert [o.index for o in outcomes if not o.ok] == ([1] if alone else [])
    assert all(o.attempts == () for o in outcomes if o.ok)
    if alone:
        failure = outcomes[1].failure
        assert failure is not None
        assert isinstance(failure.error, WorkerDied)
        assert (failure.error.exitcode, failure.error.index) == (7, 1)
        assert failure.error.pid not in pids


@pytest.mark.parametrize("how", [ONE, {"workers": 2, "threads": 2, "chunksize": 4}])
def test_many_deaths(how: How, tmp_path: Path) -> None:
    """Whoever ends its worker is told, each time it may, and nobody else; none starts beside its own other run."""
    victims = (0, 7, 8, 20, 29)
    how = {**how, "args": (str(tmp_path), victims, 0.005)}
    outcomes = list(fate_tasks.start_and_end.map(range(30), **how).outcomes())
    assert [o.index for o in outcomes if not o.ok] == list(victims)
    assert all(isinstance(o.failure.error, WorkerDied) for o in outcomes if o.failure)
    assert lines(tmp_path / "twice") == []


def test_a_timeout_blames_its_item() -> None:
    """Its mates, which ran in the same process, start again and have their values."""
    get_stuck = fate_tasks.get_stuck.options(timeout=1.0, **ONE)
    outcomes = list(get_stuck.map(range(40), args=((0, 20), "sleep", 0.05)).outcomes())
    assert [o.index for o in outcomes if not o.ok] == [0, 20]
    assert all(o.value == o.item and o.attempts == () for o in outcomes if o.ok)
    assert all(isinstance(o.failure.error, TaskTimeout) for o in outcomes if o.failure)


@pytest.mark.parametrize("way", ["sleep_with_the_gil", "stop"])
def test_mates_that_are_held_up_are_not_blamed(way: str) -> None:
    """Where one call stops all threads of its worker, they are over their time too, and yet not at fault."""
    get_stuck = fate_tasks.get_stuck.options(timeout=1.0, **ONE)
    outcomes = list(get_stuck.map(range(30), args=((10,), way, 0.001)).outcomes())
    assert [o.index for o in outcomes if not o.ok] == [10]
    assert isinstance(outcomes[10].failure.error, TaskTimeout)


def test_several_are_over_their_time_at_once() -> None:
    """Each is told."""
    get_stuck = fate_tasks.get_stuck.options(timeout=1.0, **ONE)
    outcomes = list(get_stuck.map(range(4), args=((0, 1, 2),)).outcomes())
    assert [o.ok for o in outcomes] == [False, False, False, True]
    errors = [o.failure.error for o in outcomes if o.failure]
    assert [(type(e), e.index) for e in errors] == [(TaskTimeout, n) for n in range(3)]  # type: ignore[attr-defined]


def test_maps_that_end_by_errors() -> None:
    """A map that ends while its calls are under way in all threads leaves the pool in order, each time."""

    @parallel(workers=2, threads=2, chunksize=3)
    def picky(x: int) -> int:
        if x == 3:
            raise KeyError(x)
        time.sleep(0.001)
        return x

    for _ in range(20):
        with pytest.raises(KeyError):
            list(picky.map(range(9)))
    assert list(picky.map([0, 1, 2, 4])) == [0, 1, 2, 4]


def test_exit_and_interrupt_in_a_thread() -> None:
    """``sys.exit`` and KeyboardInterrupt in one thread are that item's failure, and harm no worker."""
    outcomes = list(fate_tasks.meet_fate.map(["a", "sys.exit", "b", "interrupt", "c"] * 3, **ONE).outcomes())
    assert [o.ok for o in outcomes] == [True, False, True, False, True] * 3
    assert len({o.worker for o in outcomes}) == 1


def test_initializer_runs_once_for_all_threads(tmp_path: Path) -> None:
    """It is the process that is set up."""
    file = str(tmp_path / "set up")

    def set_up() -> None:
        from tests.helpers import tell

        tell(file, "x")

    how: How = {"workers": 1, "threads": 4, "initializer": set_up}
    assert len({info.pid for info in fate_tasks.where.map(range(50), **how)}) == 1
    assert lines(tmp_path / "set up") == ["x"]

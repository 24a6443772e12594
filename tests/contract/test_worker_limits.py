"""What is said of workers in the options of a map: limits, first and last calls, where they are, their threads."""

from __future__ import annotations

import itertools
import os
import socket
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from manyhands import Controller, parallel, worker_info
from manyhands.settings import available_cores
from tests.contract import fate_tasks, tasks
from tests.helpers import Fifo, lines, until

How = dict[str, Any]

VARIABLES = [
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
]


# -- limits ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunksize", ["auto", 1, 7])
@pytest.mark.parametrize("workers", [1, 2])
def test_max_tasks_per_worker(workers: int, chunksize: Any) -> None:
    """No worker gets more calls than that, in chunks of any size, and none is lost between two workers."""
    how: How = {"workers": workers, "max_tasks_per_worker": 4, "chunksize": chunksize}
    outcomes = list(tasks.process_id.map(range(30), **how).outcomes())
    assert all(outcome.ok and outcome.attempts == () for outcome in outcomes)
    counts = Counter(outcome.value for outcome in outcomes)
    assert max(counts.values()) <= 4
    assert counts.total() == 30


def test_max_tasks_with_each_start_method(processes: How) -> None:
    """Replacements start as the first workers do, are set up as they were, and the old ones end."""
    how: How = {**processes, "max_tasks_per_worker": 3, "initializer": fate_tasks.set_mark}
    found = list(fate_tasks.marked.map(range(10), **how))
    assert {mark for mark, _ in found} == {"set"}
    pids = [pid for _, pid in found]
    assert len(set(pids)) >= 4
    spent = [pid for pid in set(pids) if pids.count(pid) == 3]
    until(lambda: not any(map(fate_tasks.alive, spent)), "workers that have done their share end")


def test_max_tasks_and_threads() -> None:
    """With threads the calls of all of them count."""
    how: How = {"workers": 1, "threads": 3, "max_tasks_per_worker": 6}
    assert max(Counter(tasks.process_id.map(range(40), **how)).values()) <= 6


def test_max_tasks_and_failures() -> None:
    """Failed calls count, and workers that die between are replaced as well."""
    items = ["a", "error", "b", "exit", "c", "sys.exit", "d", "kill", "e"] * 2
    how: How = {"workers": 2, "max_tasks_per_worker": 2}
    outcomes = list(fate_tasks.meet_fate.map(items, **how).outcomes())
    assert [o.item for o in outcomes if o.ok] == ["a", "b", "c", "d", "e"] * 2


def test_max_memory_per_worker(method: str) -> None:
    """A worker that holds more is replaced after its call, and no item fails for it."""
    size = 400 << 20
    how: How = {"workers": 1, "max_memory_per_worker": size, "chunksize": 1, "start_method": method}
    with fate_tasks.keep_memory.map(itertools.count(), args=(size,), **how) as results:
        first = next(results)
        assert any(pid != first for pid in results)
    until(lambda: not fate_tasks.alive(first), "the worker ends")


def test_memory_below_the_limit() -> None:
    """A worker that holds less stays."""
    how: How = {"workers": 1, "max_memory_per_worker": 8 << 30}
    assert len(set(fate_tasks.keep_memory.map(range(200), args=(1 << 20,), **how))) == 1


# -- first and last -------------------------------------------------------------------------------------------


def test_initializer_and_finalizer_of_a_map(processes: How, tmp_path: Path) -> None:
    """Each worker is set up before its first call, and takes its leave after its last."""
    begin, end = str(tmp_path / "begin"), str(tmp_path / "end")

    def first() -> None:
        from tests.helpers import tell

        fate_tasks.set_mark()
        tell(begin, os.getpid())

    def last() -> None:
        from tests.helpers import tell

        tell(end, f"{os.getpid()} {fate_tasks.mark}")

    how: How = {**processes, "initializer": first, "finalizer": last, "max_tasks_per_worker": 5}
    found = list(fate_tasks.marked.map(range(10), **how))
    assert {mark for mark, _ in found} == {"set"}
    pids = Counter(pid for _, pid in found)
    assert set(map(str, pids)) <= set(lines(Path(begin)))
    spent = [f"{pid} set" for pid, calls in pids.items() if calls == 5]
    until(lambda: set(spent) <= set(lines(Path(end))), "the finalizers run")
    assert max(Counter(lines(Path(end))).values(), default=1) == 1
    assert fate_tasks.mark == "unset"


def test_replacements_are_set_up(processes: How) -> None:
    """A worker that takes a dead one's place has run the initializer too."""
    die_or_tell = parallel(lambda x: os._exit(3) if x % 4 == 1 else fate_tasks.mark)
    how: How = {**processes, "initializer": fate_tasks.set_mark, "on_error": "skip"}
    assert list(die_or_tell.map(range(12), **how)) == ["set"] * 9


def test_a_finalizer_that_raises(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """It is shown, and harms neither results nor the end of the pool."""

    def last() -> None:
        raise RuntimeError("no way to say goodbye")

    with Controller(
        1, finalizer=last, start_method="spawn"
    ) as pool:  # which has the standard error of this test
        assert list(tasks.double.map(range(5), backend=pool)) == [0, 2, 4, 6, 8]
    assert "no way to say goodbye" in capfd.readouterr().err


# -- where calls are ------------------------------------------------------------------------------------------


def test_worker_info_in_workers(processes: How) -> None:
    """Name, process, number and thread are told in maps and submitted calls; numbers are those of the pool."""
    outcomes = list(fate_tasks.where.map(range(30), **processes).outcomes())
    for outcome in outcomes:
        info = outcome.value
        assert info.name == outcome.worker == f"{socket.gethostname()}:{info.pid}"
        assert info.pid != os.getpid()
        assert info.thread == 0
    by_pid = {outcome.value.pid: outcome.value.number for outcome in outcomes}
    assert len(set(by_pid.values())) == len(by_pid) <= 2
    assert fate_tasks.where.options(**processes).submit().result(60).pid not in (0, os.getpid())


def test_worker_info_elsewhere() -> None:
    """Where there is no worker it is None: here, inline and in threads of this process."""
    assert worker_info() is None
    assert fate_tasks.where() is None
    assert list(fate_tasks.where.map(range(3), backend="inline")) == [None] * 3
    assert list(fate_tasks.where.map(range(3), backend="threads")) == [None] * 3


def test_numbers_of_replacements() -> None:
    """A worker that takes another's place has a number of its own."""
    with Controller(1, max_tasks_per_worker=1) as pool:
        infos = list(fate_tasks.where.map(range(4), backend=pool))
    assert len({info.number for info in infos}) == len({info.pid for info in infos}) == 4
    assert infos[0].number == 0


@pytest.mark.parametrize(
    "inner", [{"workers": 4}, {"workers": 3, "start_method": "fork"}, {"backend": "threads"}, {"threads": 4}]
)
def test_nested_maps_take_no_more_processes(inner: How, begun: Fifo, gate: Fifo) -> None:
    """What a task maps and submits runs in its own worker, whatever the options say."""
    results = tasks.meet.map(range(2), args=(begun.path, gate.path), workers=2)
    workers = {int(begun.line().split()[1]) for _ in range(2)}
    gate.let_go(2)
    assert list(results) == [0, 1]
    places = list(fate_tasks.nest.map(range(6), args=(inner,), workers=2))
    assert all(len(place) == 1 for place in places)
    assert set().union(*places) <= workers


# -- threads of numerical libraries ---------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinities here")
@pytest.mark.parametrize("cores", [1, None])
def test_workers_that_are_forked_run_where_their_parent_may(cores: int | None) -> None:
    """On all of its cores, though one is moved to another as it begins."""
    whole = os.sched_getaffinity(0)
    some = set(sorted(whole)[:cores])
    os.sched_setaffinity(0, some)
    try:
        with Controller(2, start_method="fork") as pool:
            assert list(pool.map(os.sched_getaffinity, [0] * 4)) == [some] * 4
    finally:
        os.sched_setaffinity(0, whole)


@pytest.mark.parametrize(("workers", "threads"), [(1, 1), (2, 1), (2, 4), (500, 1)])
def test_numerical_libraries_share_the_cores(
    workers: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In workers the variables say cores / (workers x threads), at least 1; here nothing is set."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    with Controller(workers, threads=threads) as pool:
        (found,) = fate_tasks.environment.map([VARIABLES], backend=pool)
    assert found == [str(max(1, available_cores() // (workers * threads)))] * len(VARIABLES)
    assert not set(VARIABLES) & set(os.environ)


def test_variables_of_the_user_stay(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is set stays as it is; and if it is OMP_NUM_THREADS, none is touched."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MKL_NUM_THREADS", "17")
    with Controller(1, start_method=method) as pool:
        (found,) = fate_tasks.environment.map([VARIABLES], backend=pool)
    cores = str(available_cores())
    assert found == [cores, cores, "17", cores, cores, cores]
    monkeypatch.setenv("OMP_NUM_THREADS", "19")
    with Controller(1, start_method=method) as pool:
        (found,) = fate_tasks.environment.map([VARIABLES], backend=pool)
    assert found == ["19", None, "17", None, None, None]

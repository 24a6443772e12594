"""Corners that a map must get round: each was a defect once."""

from __future__ import annotations

import io
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from manyhands import Controller, ItemError, RemoteError, parallel
from manyhands.workers.lane import FLUSH_SECONDS
from tests.contract import tasks
from tests.helpers import Fifo, run_script, until, write_script

How = dict[str, Any]


def test_items_that_are_iterators_are_used_once(how: How) -> None:
    """A list of iterators gives the same calls as a generator of them."""
    power = tasks.power.options(**how)
    assert list(power.map([iter([2, 3]), iter([3, 2])], star=True)) == [8, 9]
    pairs = [(iter([2]), {"plus": 1}), (iter([3]), {"plus": 2})]
    assert list(power.map(pairs, star=True, kwstar=True)) == [5, 11]


def test_stop_iteration_of_a_task_does_not_end_the_loop(how: How) -> None:
    """It is raised as a RuntimeError, as generators do."""
    with pytest.raises(RuntimeError, match="StopIteration"):
        list(tasks.stop_iteration.map([1, 2], **how))


def test_exit_of_a_task_does_not_end_the_parent(processes: How) -> None:
    """``sys.exit`` in a worker fails its item, by an error that ends nobody else."""
    values, failures = tasks.raise_this.map(["exit", "noted"], **processes).collect()
    assert values == []
    assert [type(failure.error) for failure in failures] == [RemoteError, ValueError]


def test_calls_that_do_not_fit_are_told_before_any_work(how: How) -> None:
    """Wrong numbers and names of arguments are found in a list before anything is started."""
    for items, options in (
        ([1], {"kwargs": {"nonsense": 2}}),
        ([1], {"args": (2, 3, 4)}),
        ([(1,), (2, 3), (4, 5, 6)], {"star": True}),
    ):
        with pytest.raises(ItemError) as caught:
            tasks.power.map(items, **options, **how)
        assert any("nothing was started" in note for note in caught.value.__notes__)


def test_total_is_a_number_of_items() -> None:
    """A negative number, a text and a fraction are refused."""
    for total in (-1, "3", 1.5, True):
        with pytest.raises(ValueError, match="total"):
            tasks.double.map([1], total=total)


def test_an_async_call_method_is_refused() -> None:
    """An object whose ``__call__`` is a coroutine function is one too."""

    class Caller:
        async def __call__(self, x: int) -> int:
            return x

    with pytest.raises(TypeError, match="async"):
        parallel(Caller())


def test_a_bar_that_cannot_be_drawn_stops_nothing(how: How, monkeypatch: pytest.MonkeyPatch) -> None:
    """The work goes on without it."""

    class Broken(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(28, "no space left")

    monkeypatch.setattr(sys, "stderr", Broken())
    monkeypatch.setenv("MANYHANDS_PROGRESS", "1")
    assert list(tasks.double.map([1, 2], progress=True, **how)) == [2, 4]


def test_a_bar_shares_no_lock_with_other_processes() -> None:
    """A forked process that is killed can't take the bar's lock with it, nor a finaliser wait for it."""
    from tqdm import tqdm

    from manyhands.handler.bars import bar_class

    assert type(bar_class().get_lock()) is type(threading.RLock())
    assert bar_class().get_lock() is not tqdm.get_lock()
    assert bar_class().__del__ is not tqdm.__del__


def test_a_path_in_sys_path_is_left_out(processes: How, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is no str does not keep workers from starting."""
    monkeypatch.setattr(sys, "path", [*sys.path, Path("somewhere")])
    with Controller(1, start_method=processes["start_method"]) as pool:
        assert list(tasks.double.map([1], backend=pool)) == [2]


def test_a_forked_child_does_not_wait_for_its_parents_workers(begun: Fifo, gate: Fifo) -> None:
    """Results that it inherited fail there, while new maps and calls of its own work."""
    results = tasks.meet.map([1], args=(begun.path, gate.path), workers=1)
    begun.line()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            try:
                next(results)
            except Exception as error:
                status = 0 if "forked" in str(error) and tasks.double.submit(2).result(60) == 4 else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    gate.let_go(1)
    assert list(results) == [1]


def test_a_cancelled_future_is_not_tried_again(processes: How, tmp_path: Path) -> None:
    """A call that waits for its next attempt ends when its future is cancelled."""
    flaky = tasks.slowly_flaky.options(**processes)
    future = flaky.submit(1, str(tmp_path), 9)
    until((tmp_path / "1").exists, "the first attempt")
    assert future.cancel()
    assert flaky.submit(2, str(tmp_path), 0).result(60) == (2, 1)


def test_a_closed_controller_is_not_waited_for() -> None:
    """One that was closed before its first use says so at once."""
    pool = Controller(1)
    pool.close()
    with pytest.raises(Exception, match="closed"):
        tasks.double.map([1], backend=pool)


def test_fork_writes_nothing_twice(tmp_path: Path) -> None:
    """What stands unflushed in the parent's buffer is not in the worker's."""
    script = write_script(
        tmp_path / "script.py",
        """
        from manyhands import parallel

        print("header")
        print(list(parallel(abs).map([-1], workers=1, start_method="fork")))
        """,
    )
    assert run_script(script) == "header\n[1]\n"


def test_pools_that_fork_may_start_beside_one_another(tmp_path: Path) -> None:
    """A process that is forked while another is being started keeps none of its pipes open."""
    script = write_script(
        tmp_path / "script.py",
        """
        import threading
        from manyhands import Controller, parallel

        def use(number):
            with Controller(1, start_method="fork") as pool:
                assert list(parallel(abs).map([-number], backend=pool)) == [number]

        threads = [threading.Thread(target=use, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        print("done")
        """,
    )
    for _ in range(3):
        assert run_script(script) == "done\n"


@pytest.mark.parametrize("start_method", ["fork", "spawn", "forkserver"])
def test_a_program_that_reaps_its_children_itself(tmp_path: Path, start_method: str) -> None:
    """Where SIGCHLD is ignored nobody learns how a worker ended, and the pool works all the same."""
    script = write_script(
        tmp_path / "script.py",
        f"""
        import os, signal
        from manyhands import Controller, parallel

        signal.signal(signal.SIGCHLD, signal.SIG_IGN)

        def f(x):
            if x == 1:
                os._exit(3)
            return x

        with Controller(1, start_method={start_method!r}) as pool:
            values, failures = parallel(f).map(range(4), backend=pool).collect()
        print(values, [type(failure.error).__name__ for failure in failures])
        """,
    )
    assert run_script(script) == "[0, 2, 3] ['WorkerDied']\n"


class Back(Exception):
    """The child does not end by itself."""


@pytest.mark.parametrize("how", ["raises", "a tuple", "a number, late", "many bytes"])
def test_a_fork_that_comes_back_from_its_task(processes: dict[str, Any], how: str) -> None:
    """It ends there, and nobody takes it for the worker: the item has one answer, and the next items too."""

    @parallel(chunksize=5)
    def fork(x: int) -> Any:
        pid = os.fork()
        if pid == 0:
            if how == "raises":
                raise Back
            if how == "a number, late":
                time.sleep(1.5 * FLUSH_SECONDS)  # then it would be sent at once
                return x
            return bytes(100_000) if how == "many bytes" else (x, 0)
        return x, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    assert list(fork.map(range(10), **processes)) == [(x, 1) for x in range(10)]

"""What happens when tasks, workers or the pool fail: the right item is blamed and the rest goes on."""

from __future__ import annotations

import gc
import itertools
import os
import signal
import threading
import time
import warnings
from pathlib import Path
from typing import Any

import pytest

from manyhands import Controller, PoolBroken, PoolClosed, RemoteError, WorkerDied, parallel
from tests.contract import tasks
from tests.helpers import Fifo, lines, shown

How = dict[str, Any]


def failure_of(how: How, kind: str) -> BaseException:
    """What ``raise_this(kind)`` fails with, between two items that succeed."""
    outcomes = list(tasks.raise_this.map(["fine", kind, "well"], **how).outcomes())
    assert [outcome.ok for outcome in outcomes] == [True, False, True]
    return outcomes[1].failure.error


def test_exception_that_can_not_be_pickled(processes: How) -> None:
    """A RemoteError stands for it: type, text and traceback are told."""
    error = failure_of(processes, "unpicklable")
    assert isinstance(error, RemoteError)
    assert error.type_name == "tests.contract.tasks.Unpicklable"
    assert "held fast" in str(error)
    assert "raise Unpicklable" in shown(error)


def test_exception_that_can_not_be_unpickled(processes: How) -> None:
    """An exception whose constructor wants more comes as a RemoteError, and harms nobody."""
    error = failure_of(processes, "oneway")
    assert isinstance(error, RemoteError)
    assert error.type_name == "tests.contract.tasks.OneWay"
    assert "5: no way back" in str(error)


@pytest.mark.parametrize("kind", ["unpicklable", "oneway"])
def test_such_exceptions_inline(kind: str) -> None:
    """Without processes they are what they are."""
    error = failure_of({"backend": "inline"}, kind)
    assert type(error) is {"unpicklable": tasks.Unpicklable, "oneway": tasks.OneWay}[kind]


def test_exception_of_a_local_class(how: How) -> None:
    """An exception type that no import finds keeps its name and text."""
    error = failure_of(how, "local")
    assert "LocalError" in (getattr(error, "type_name", "") or type(error).__qualname__)
    assert "of a function" in str(error)


def test_exception_group_notes_and_causes(how: How) -> None:
    """Groups and notes survive; the traceback's text shows the cause."""
    group = failure_of(how, "group")
    assert isinstance(group, ExceptionGroup)
    assert [type(error) for error in group.exceptions] == [ValueError, KeyError]
    assert "a note of the user's" in failure_of(how, "noted").__notes__
    failures = tasks.raise_this.map(["chained"], on_error="skip", **how)
    assert list(failures) == []
    assert "KeyError: 'first'" in failures.failures[0].traceback
    assert "ValueError: second" in failures.failures[0].traceback


def test_result_that_can_not_be_pickled(processes: How) -> None:
    """It is that item's failure, and says that it was the result."""
    error = failure_of(processes, "result")
    assert any("can't be sent back" in note for note in error.__notes__)


@pytest.mark.parametrize(("kind", "expected"), [("exit", SystemExit), ("interrupt", KeyboardInterrupt)])
def test_exit_and_interrupt_in_a_task(processes: How, kind: str, expected: type[BaseException]) -> None:
    """``sys.exit`` and KeyboardInterrupt in a task are that item's failure; its worker goes on."""
    error = failure_of(processes, kind)
    assert isinstance(error, expected) or getattr(error, "type_name", "") == expected.__name__


@pytest.mark.parametrize(("way", "exitcode"), [("kill", -signal.SIGKILL), ("exit", 7)])
def test_worker_that_dies(processes: How, way: str, exitcode: int) -> None:
    """The item whose worker died is told with process and status; all others have their values."""
    outcomes = list(tasks.die.map(range(40), args=(13, way), **processes).outcomes())
    assert [o.index for o in outcomes if not o.ok] == [13]
    assert [o.value for o in outcomes if o.ok] == [x for x in range(40) if x != 13]
    failure = outcomes[13].failure
    assert isinstance(failure.error, WorkerDied)
    assert failure.error.exitcode == exitcode
    assert failure.error.pid not in (0, os.getpid())
    assert failure.item == 13
    assert any("die, item 13: 13" in note for note in failure.error.__notes__)
    assert list(tasks.double.map(range(10), **processes)) == [2 * x for x in range(10)]


@pytest.mark.parametrize("chunksize", [5, 40])
def test_blame_within_a_chunk_is_exact(processes: How, chunksize: int) -> None:
    """Of a chunk whose worker died, only the item it was at fails; the others run elsewhere, once each."""
    outcomes = list(tasks.die.map(range(40), args=(13, "kill"), chunksize=chunksize, **processes).outcomes())
    assert [o.index for o in outcomes if not o.ok] == [13]
    assert isinstance(outcomes[13].failure.error, WorkerDied)


def test_every_item_kills_its_worker(processes: How) -> None:
    """When every item kills, every item is told so, and the pool is still good."""
    outcomes = list(tasks.die.map([5] * 6, args=(5, "kill"), **processes).outcomes())
    assert [type(o.failure.error) for o in outcomes] == [WorkerDied] * 6
    assert list(tasks.double.map([1], **processes)) == [2]


def test_worker_died_is_raised(processes: How) -> None:
    """Under "raise", WorkerDied comes in its place in the order."""
    results = tasks.die.map(range(10), args=(2, "exit"), **processes)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(WorkerDied, match="exit status 7"):
        next(results)


def test_retry_on_worker_died(processes: How, tmp_path: Path) -> None:
    """``@retry_on(WorkerDied)`` runs the item again."""
    outcomes = list(tasks.die_once.map(range(6), args=(str(tmp_path),), **processes).outcomes())
    assert [o.value for o in outcomes] == list(range(6))
    assert [attempt.type_name for attempt in outcomes[3].attempts] == ["manyhands.errors.WorkerDied"]


def test_worker_that_dies_under_submit(processes: How) -> None:
    """A submitted call whose worker dies raises WorkerDied from its future."""
    die = tasks.die.options(**processes)
    with pytest.raises(WorkerDied):
        die.submit(1, 1, "kill").result(60)
    assert die.submit(2, 1, "kill").result(60) == 2


@pytest.mark.parametrize("initializer", [tasks.broken_initializer, tasks.exiting_initializer])
def test_failing_initializer(processes: How, initializer: Any) -> None:
    """A pool whose initializer raises is broken at once: no hang, and the initializer's words are told."""
    with pytest.raises(PoolBroken, match="no licence found"):
        list(tasks.double.map(range(5), initializer=initializer, **processes))
    with pytest.raises(PoolBroken, match="no licence found"):
        tasks.double.options(initializer=initializer, **processes).submit(1).result(60)


def test_failing_initializer_is_raised_whatever_on_error_says(processes: How) -> None:
    """It is nobody's item that failed, so it is raised under "return" as well."""
    with pytest.raises(PoolBroken):
        list(tasks.double.map([1], on_error="return", initializer=tasks.broken_initializer, **processes))


def test_initializer_and_finalizer(method: str, tmp_path: Path) -> None:
    """The initializer runs before the first task of every worker, the finalizer when the pool ends."""
    ended = str(tmp_path / "ended")

    def finalizer() -> None:
        from tests.helpers import tell

        tell(ended, os.getpid())

    with Controller(
        2, start_method=method, initializer=tasks.initialize_environment, finalizer=finalizer
    ) as pool:
        assert set(tasks.environment_mark.map(range(20), backend=pool)) == {"set up"}
        pids = set(tasks.process_id.map(range(20), backend=pool))
    assert {str(pid) for pid in pids} <= set(lines(tmp_path / "ended"))
    assert len(lines(tmp_path / "ended")) == len(set(lines(tmp_path / "ended"))) <= 2
    assert "MANYHANDS_TEST_MARK" not in os.environ


def test_function_that_can_not_be_sent(processes: How) -> None:
    """A closure over what can't be pickled is told at the call of ``map``, by name."""
    lock = threading.Lock()

    @parallel
    def locked(_: int) -> bool:
        return lock.locked()

    with pytest.raises(TypeError, match="locked can't be sent to a worker process"):
        locked.map([1], **processes)


def test_function_that_can_not_be_loaded(
    processes: How, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the worker can't import the function's module, each item fails with that error and a note."""
    import sys

    (tmp_path / "fleeting_module.py").write_text("def f(x):\n    return x\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    import fleeting_module  # type: ignore[import-not-found]

    monkeypatch.delitem(sys.modules, "fleeting_module", raising=False)
    monkeypatch.setitem(sys.modules, "fleeting_module", fleeting_module)
    (tmp_path / "fleeting_module.py").write_text("raise ImportError('gone by now')\n")
    if processes["start_method"] == "fork":
        pytest.skip("a fork has the module already")
    f = parallel(fleeting_module.f)
    outcomes = list(f.map([1, 2], **processes).outcomes())
    for outcome in outcomes:
        assert "gone by now" in str(outcome.failure.error)
        assert any("as it loaded the function" in note for note in outcome.failure.error.__notes__)
    assert list(tasks.double.map([1], **processes)) == [2]


# -- ending early ---------------------------------------------------------------------------------------------


def test_close_cancels_what_has_not_started(processes: How, begun: Fifo, gate: Fifo) -> None:
    """After ``close`` no further item starts; those that run are finished in the background."""
    results = tasks.meet.map(range(50), args=(begun.path, gate.path), **processes)
    started = {begun.line().split()[0] for _ in range(2)}
    assert started == {"0", "1"}
    results.close()
    assert list(results) == []
    gate.let_go(2)
    assert list(tasks.double.map(range(10), **processes)) == [2 * x for x in range(10)]
    assert begun.empty()


def test_break_and_close_by_with(processes: How, tmp_path: Path) -> None:
    """Leaving a ``with`` block early ends the map without a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with tasks.write_call.map(itertools.count(), args=(str(tmp_path / "calls"),), **processes) as results:
            for value in results:
                if value == 5:
                    break
        del results
        gc.collect()
    assert list(tasks.double.map([1], **processes)) == [2]


def test_dropping_it_unfinished_warns(how: How) -> None:
    """Results that are dropped unfinished emit a ResourceWarning, and the pool is still good."""
    results = tasks.double.map(itertools.count(), **how)
    assert next(results) == 0
    gc.disable()  # nothing leads back to them, so they go at once
    try:
        with pytest.warns(ResourceWarning, match="dropped unfinished"):
            del results
    finally:
        gc.enable()
    assert list(tasks.double.map([1, 2], **how)) == [2, 4]


def test_finished_results_do_not_warn(how: How) -> None:
    """Consumed, closed or failed results are dropped in silence."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        list(tasks.double.map(range(3), **how))
        tasks.double.map(range(3), **how).close()
        results = tasks.reciprocal.map([0, 1, 2], **how)
        with pytest.raises(ZeroDivisionError):
            next(results)
        del results
        gc.collect()


def test_pool_is_usable_after_an_error(how: How) -> None:
    """Maps that end in errors, many times over, leave a pool that works."""
    for _ in range(5):
        with pytest.raises(ZeroDivisionError):
            list(tasks.reciprocal.map([1, 2, 0, *range(1, 50)], **how))
    assert list(tasks.double.map(range(20), **how)) == [2 * x for x in range(20)]


# -- a pool of one's own --------------------------------------------------------------------------------------


def test_controller_ends_its_workers(method: str) -> None:
    """When the ``with`` block ends, none of its processes lives."""
    import psutil

    with Controller(2, start_method=method) as pool:
        pids = set(tasks.process_id.map(range(20), backend=pool))
        assert pids and all(psutil.pid_exists(pid) for pid in pids)
    assert not any(psutil.pid_exists(pid) for pid in pids)


def test_controller_ends_its_workers_after_an_error(method: str, begun: Fifo, gate: Fifo) -> None:
    """An error in the ``with`` block ends what runs, without waiting for it."""
    import psutil

    pids = []
    with pytest.raises(LookupError), Controller(2, start_method=method) as pool:
        results = tasks.meet.map(range(2), args=(begun.path, gate.path), backend=pool)
        pids = [int(begun.line().split()[1]) for _ in range(2)]
        raise LookupError
    assert len(pids) == 2
    assert not any(psutil.pid_exists(pid) for pid in pids)
    results.close()


def test_closed_controller(method: str) -> None:
    """A closed pool takes no work, and says so."""
    with Controller(1, start_method=method) as pool:
        assert list(tasks.double.map([1], backend=pool)) == [2]
    with pytest.raises(PoolClosed):
        tasks.double.map([1], backend=pool)
    with pytest.raises(PoolClosed):
        tasks.double.options(backend=pool).submit(1)
    pool.close()


def test_controller_that_was_never_used(method: str) -> None:
    """No worker is started for nothing."""
    with Controller(2, start_method=method) as pool:
        assert pool.workers == 2


# -- where workers are ----------------------------------------------------------------------------------------


def test_workers_follow_the_directory(how: How, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each map runs in the directory that its caller was in when it started."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        assert set(tasks.directory.map(range(4), **how)) == {str(tmp_path / name)}


def test_a_deleted_directory_is_told(processes: How, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers that sat in a directory that is gone work on in another."""
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    assert set(tasks.directory.map(range(4), **processes)) == {str(tmp_path / "gone")}
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gone").rmdir()
    assert set(tasks.directory.map(range(4), **processes)) == {str(tmp_path)}


def test_a_task_that_changes_the_directory(processes: How, tmp_path: Path) -> None:
    """The next task in the same worker is back where its map belongs."""

    @parallel
    def wander(to: str) -> str:
        before = os.getcwd()
        os.chdir(to)
        time.sleep(0.001)  # calls of some microseconds may run several before anybody looks
        return before

    options = {**processes, "workers": 1}
    assert set(wander.map([str(tmp_path)] * 3, **options)) == {os.getcwd()}


def test_workers_leave_an_interrupt_to_their_parent(processes: How) -> None:
    """A SIGINT that reaches a worker itself does not end it."""
    options = {**processes, "workers": 1}
    (pid,) = tasks.process_id.map([0], **options)
    os.kill(pid, signal.SIGINT)
    assert list(tasks.process_id.map([0], **options)) == [pid]


def test_workers_know_the_path(processes: How, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was put on ``sys.path`` before the map is found, in workers that lived before as well."""
    list(tasks.double.map(range(4), **processes))
    name = f"found_{processes['start_method']}"
    (tmp_path / f"{name}.py").write_text("value = 42\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert set(tasks.import_by_name.map([name] * 4, **processes)) == {42}

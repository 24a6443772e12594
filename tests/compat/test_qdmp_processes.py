"""``ProcessHandler``: the storage of each process, and processes that freeze, die, and are started again."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from manyhands import PoolClosed, WorkerDied
from manyhands.compat.qdmp import PoolHandler, ProcessHandler, ProcessingException, ProcessStates
from manyhands.compat.qdmp_tasks import states_of
from tests.compat.qdmp_tasks import (
    counting,
    fails_first,
    holding,
    other_names,
    other_order,
    stuck_in_setup,
    threads_allowed,
)
from tests.helpers import Fifo, ends_of, until

Make = Callable[..., Any]
NOT_HELD = (None, None)


@pytest.fixture
def make() -> Iterator[Make]:
    """Makes handlers, and ends them after the test."""
    made: list[Any] = []

    def started(target: Any, workers: int = 1, kind: Any = ProcessHandler, **options: Any) -> Any:
        made.append(kind(target, **options))
        made[-1].start(workers)
        return made[-1]

    yield started
    for handler in made:
        handler._stop(0.0)


# -- the storage ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [ProcessHandler, PoolHandler])
@pytest.mark.parametrize("debug", [True, False])
def test_the_storage_lasts(make: Make, kind: Any, debug: bool) -> None:
    """It is what the set-up returned, then what the last task did; one that raises leaves it as it was."""
    handler = make(counting, kind=kind, debug=debug, console_level="ERROR")
    handler.add_tasks([1, "raise", 2])
    handler.add_tasks([3])
    results, (error,) = handler.process_results()
    head = results[0][0]
    assert head[:2] == (0, debug) and head[2] != os.getpid()
    assert results == [[head, 1], [head, 1, 2], [head, 1, 2, 3]]
    assert error.arguments == "raise"


def test_each_process_has_its_own(make: Make, begun: Fifo, gate: Fifo) -> None:
    """Of several, each has its number and its storage."""
    handler = make(holding, 3)
    handler.add_tasks([("held", begun.path, gate.path)] * 3)
    told = [begun.line().split() for _ in range(3)]
    assert sorted(number for number, _ in told) == ["0", "1", "2"]
    assert len({pid for _, pid in told}) == 3
    gate.let_go(3)
    results, errors = handler.process_results()
    assert sorted(results) == [("held", number, 1) for number in range(3)] and errors == []


def test_it_is_set_up_before_there_are_tasks(
    make: Make, begun: Fifo, gate: Fifo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every process does that as soon as it is started, and no task goes to it before."""
    monkeypatch.setenv("QDMP_BEGUN", str(begun.path))
    monkeypatch.setenv("QDMP_GATE", str(gate.path))
    handler = make(stuck_in_setup, 2)
    assert len({begun.line(), begun.line()}) == 2
    handler.add_tasks([1])
    assert handler.process_results(wait=False) == ([], [])
    gate.let_go(1)
    assert handler.process_results() == ([1], [])
    gate.let_go(1)


def test_a_set_up_that_is_stuck(make: Make, begun: Fifo, gate: Fifo, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its process is told as frozen, without arguments, and can be restarted."""
    monkeypatch.setenv("QDMP_BEGUN", str(begun.path))
    monkeypatch.setenv("QDMP_GATE", str(gate.path))
    handler = make(stuck_in_setup)
    first = int(begun.line())
    until(lambda: handler.check_process_timeout(0), "the set-up is seen to run")
    (frozen,) = handler.check_process_timeout(0)
    assert (frozen, frozen.arguments) == (0, None)
    handler.cancel_processes([frozen])  # there is no task
    with ends_of([first]) as ended:
        assert handler.restart_timed_out_children(0) == [0]
        ended()
    assert int(begun.line()) != first
    handler.add_tasks([1])
    gate.let_go(1)
    assert handler.process_results() == ([1], [])


def test_a_set_up_that_fails(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    """That is logged; each task tries it again, and is an error if that fails, too."""
    handler = make(fails_first)
    handler.add_tasks(["a", "b"])
    results, errors = handler.process_results()
    assert results == []
    assert [(error.arguments, str(error.exception)) for error in errors] == [
        ("a", "no set-up"),
        ("b", "no set-up"),
    ]
    assert "set-up of process 0 failed" in caplog.text


def test_how_the_target_is_called(make: Make) -> None:
    """With the names if it has them, in any order, else in the order of the document."""
    handler = make(other_names)
    handler.add_tasks(["a", "b"])
    assert handler.process_results() == ([(1, 0, False, "a"), (2, 0, False, "b")], [])
    handler = make(other_order)
    handler.add_tasks(["a"])
    assert handler.process_results() == ([("a", False, 0, "stored")], [])


def test_what_the_target_returns(make: Make) -> None:
    """A storage and a result; the error for anything else says so."""
    handler = make(lambda **names: (None, None) if names["setup"] else names["arguments"])
    handler.add_tasks([5, (1, 2), [1, 2], (1, 2, 3), "ab"])
    results, errors = handler.process_results()
    assert results == [2, 2]
    assert [error.arguments for error in errors] == [5, (1, 2, 3), "ab"]
    assert all("(storage, result)" in str(error.exception) for error in errors)


def test_idle_processes_stay(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long there are no tasks, the storage is kept: they have no time after which they end."""
    handler = make(counting)
    (child,) = handler._backend._children
    assert child.lane.pool.dispatcher.caretaker._idle_seconds is None


def test_libraries_share_the_cores(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each process is told how many threads are its share, as those of any pool are."""
    from manyhands.settings import PoolSettings

    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("manyhands.settings.available_cores", lambda: 12)
    assert PoolSettings(3).environment()["OMP_NUM_THREADS"] == "4"
    handler = make(threads_allowed, 3)
    handler.add_tasks([None] * 3)
    assert handler.process_results() == (["4"] * 3, [])


# -- errors ---------------------------------------------------------------------------------------------------


def test_errors_have_tracebacks(make: Make) -> None:
    """As it was in the process; a process that died has none."""
    seen: list[Any] = []

    def handle(exception: Exception, arguments: Any, traceback: str) -> Any:
        seen.append((type(exception), arguments, traceback))
        return False, None, ProcessingException(exception, traceback, arguments)

    for options in ({}, {"handle_error_fn": handle}):
        handler = make(counting, **options)
        handler.add_tasks(["raise", "die"])
        _, (raised, died) = handler.process_results()
        assert isinstance(raised.exception, ValueError) and isinstance(died.exception, WorkerDied)
        head, first, *_, last = raised.traceback.splitlines()
        assert head.startswith("Traceback") and first.endswith(
            "in counting"
        )  # no frame of the library before it
        assert last == "ValueError: raise"
        assert died.traceback == ""
    assert seen == [(ValueError, "raise", raised.traceback), (WorkerDied, "die", "")]


# -- processes that die, freeze, and are restarted ------------------------------------------------------------


def test_a_process_that_dies(make: Make) -> None:
    """Its exit code is told until another one has its place, which has a storage of its own."""
    handler = make(counting)
    handler.add_tasks([1, "die"])
    handler.process_results()
    until(lambda: handler.check_processes().exited, "it has ended")
    assert handler.check_processes() == (True, True, True, True, [3])
    assert handler.check_processes().running == [False]
    handler.add_tasks([2])
    (((_, _, pid), *rest),), _ = handler.process_results()
    assert rest == [2]
    assert handler.check_processes() == (False, False, False, False, [None])
    with ends_of([pid]) as ended:
        os.kill(pid, signal.SIGTERM)
        ended()
    until(lambda: handler.check_processes().exited, "it has ended")
    assert handler.check_processes().exit_codes == [-signal.SIGTERM]


@pytest.mark.parametrize(
    ("codes", "states"),
    [
        ([None, None], (False, False, False, False)),
        ([None, 0], (False, False, True, False)),
        ([0, 0], (False, False, True, True)),
        ([None, -9], (True, False, True, False)),
        ([0, 1], (True, False, True, True)),
        ([-9, 1], (True, True, True, True)),
    ],
)
def test_states(codes: list[int | None], states: tuple[bool, ...]) -> None:
    """Error, all with one, exited, all of them."""
    assert states_of(codes) == ProcessStates(*states, codes)
    assert states_of(codes).running == [code is None for code in codes]


@pytest.mark.parametrize("by_time", [True, False])
def test_a_frozen_process(make: Make, begun: Fifo, gate: Fifo, by_time: bool) -> None:
    """It is told with its task, ended, and another one runs the task, with a storage of its own, before others."""
    handler = make(holding, 2)
    handler.add_tasks([("quick", *NOT_HELD)] * 4)
    handler.process_results()
    handler.add_tasks([("stuck", begun.path, gate.path), ("stuck too", begun.path, gate.path)])
    told = dict(begun.line().split() for _ in range(2))
    handler.add_tasks([("waits", *NOT_HELD)])
    until(lambda: len(handler.check_process_timeout(0)) == 2, "both are seen to run")
    frozen = handler.check_process_timeout(timeout=0)
    assert frozen == [0, 1]
    assert {one.arguments[0] for one in frozen} == {"stuck", "stuck too"}
    assert handler.check_process_timeout(timeout=1000) == []
    assert handler.restart_timed_out_children(1000) == []
    with ends_of(map(int, told.values())) as ended:
        if by_time:
            assert handler.restart_timed_out_children(0) == [0, 1]
        else:
            handler.restart_child(frozen[0])
            handler.restart_child(worker_id=1)
        ended()
    again = [begun.line().split() for _ in range(2)]
    assert sorted(number for number, _ in again) == ["0", "1"]
    assert not {pid for _, pid in again} & set(told.values())
    gate.let_go(2)
    results, errors = handler.process_results()
    assert errors == []
    assert [name for name, _, _ in results] == ["stuck", "stuck too", "waits"]
    assert [count for _, _, count in results[:2]] == [1, 1]


@pytest.mark.parametrize("restarts", [False, True])
def test_a_frozen_process_is_given_up(make: Make, begun: Fifo, gate: Fifo, restarts: bool) -> None:
    """A task that was cancelled is an error, and not run again, even if its process is just being restarted."""
    handler = make(holding)
    handler.add_tasks([("stuck", begun.path, gate.path), ("waits", *NOT_HELD)])
    begun.line()
    until(lambda: handler.check_process_timeout(0), "it is seen to run")
    handler._backend._children[0].requeues = restarts
    handler.cancel_processes(handler.check_process_timeout(0))
    results, (error,) = handler.process_results()
    assert results == [("waits", 0, 1)]
    assert error.arguments[0] == "stuck"
    assert begun.empty()


def test_an_idle_process_is_restarted(make: Make) -> None:
    """It has a new storage; no task was lost, and the old process is gone."""
    handler = make(counting)
    handler.add_tasks([1])
    ((head, _),), _ = handler.process_results()
    with ends_of([head[2]]) as ended:
        handler.restart_child(0)
        ended()
    handler.add_tasks([2])
    ((other, rest),), _ = handler.process_results()
    assert rest == 2 and other[2] != head[2]


def test_idle_processes_have_not_timed_out(make: Make) -> None:
    """Only those that are at something can freeze."""
    handler = make(counting, 2)
    until(lambda: handler.check_process_timeout(0) == [], "both are set up")
    assert handler.restart_timed_out_children(0) == []


@pytest.mark.parametrize(
    ("number", "error"), [(2, ValueError), (-1, ValueError), ("0", TypeError), (None, TypeError)]
)
def test_numbers_of_processes(make: Make, number: Any, error: type) -> None:
    """From 0 to the number of processes."""
    with pytest.raises(error, match="worker_id"):
        make(counting, 2).restart_child(number)


def test_without_processes() -> None:
    """That is an error that says what to do."""
    handler = ProcessHandler(counting)
    for use in (
        handler.check_processes,
        lambda: handler.restart_child(0),
        lambda: handler.restart_timed_out_children(1),
    ):
        with pytest.raises(RuntimeError, match="call start first"):
            use()


def test_stop_waits_for_a_while(make: Make, begun: Fifo, gate: Fifo) -> None:
    """Tasks have the seconds that are given, then they are ended; whoever freezes does not hold it up."""
    handler = make(holding)
    handler.add_tasks([("stuck", begun.path, gate.path)])
    _, pid = begun.line().split()
    for timeout in (-1, "1", float("nan")):
        with pytest.raises((TypeError, ValueError), match="waiting_timeout"):
            handler.stop(timeout)
    with ends_of([int(pid)]) as ended:
        handler.stop(waiting_timeout=0.01)
        ended()
    _, (error,) = handler.process_results()
    assert error.arguments[0] == "stuck"


def test_a_restart_while_all_are_stopped(make: Make, begun: Fifo, gate: Fifo) -> None:
    """The task is not run again, and not waited for."""
    handler = make(holding)
    handler.add_tasks([("stuck", begun.path, gate.path)])
    begun.line()
    handler._backend._closed = True
    handler.restart_child(0)
    _, (error,) = handler.process_results()
    assert error.arguments[0] == "stuck" and begun.empty()


def test_a_pool_that_was_closed(make: Make) -> None:
    """The end of the program closes the pools of processes: tasks that nobody can run any more are errors."""
    handler = make(counting)
    handler.add_tasks([1])
    handler.process_results()
    handler._backend._children[0].lane.pool.close()
    handler.add_tasks([2, 3])
    results, errors = handler.process_results()
    assert results == []
    assert [(error.arguments, type(error.exception)) for error in errors] == [(2, PoolClosed), (3, PoolClosed)]


def test_no_process_can_be_started(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """All tasks are errors, however many there are, and ``restart_child`` tries anew."""
    monkeypatch.setattr("manyhands.compat.qdmp_process.set_variables", end_process)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    handler = make(counting)
    handler.add_tasks(range(2000))
    results, errors = handler.process_results()
    assert results == [] and [error.arguments for error in errors] == list(range(2000))
    monkeypatch.undo()
    handler.restart_child(0)
    handler.add_tasks([1])
    results, errors = handler.process_results()
    assert [result[1:] for result in results] == [[1]] and errors == []


def end_process(variables: Any) -> None:
    os._exit(1)

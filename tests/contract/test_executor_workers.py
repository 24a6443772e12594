"""The workers of an executor: how they are started and set up, how many, for how long, and how they end."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor, Future, wait
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

from manyhands import Controller, PoolBroken, WorkerDied, parallel
from manyhands.controller import caretaker
from manyhands.controller.caretaker import Caretaker
from tests.contract import executor_tasks as tasks
from tests.contract.executors import EXECUTOR, STANDARD, held, make, ours, works
from tests.helpers import DEADLINE, Fifo, ends_of, lines, until


@pytest.fixture
def far_gate(tmp_path: Path) -> Iterator[Fifo]:
    """What the calls of another pool wait at."""
    fifo = Fifo(tmp_path / "far gate")
    yield fifo
    fifo.let_go(1000)
    fifo.close()


# -- start methods --------------------------------------------------------------------------------------------


def test_the_context_says_how_workers_start(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a fork has what its parent's modules were changed to."""
    monkeypatch.setattr(tasks, "inherited", "from the parent")
    with EXECUTOR(max_workers=1, mp_context=get_context(method)) as pool:
        expected = "from the parent" if method == "fork" else ""
        assert pool.submit(tasks.get_inherited).result(DEADLINE) == expected


def test_the_module_and_the_default_context(method: str) -> None:
    """``multiprocessing`` itself and its nameless context serve as contexts; so does None."""
    for context in (multiprocessing, get_context(), None):
        with EXECUTOR(max_workers=1, mp_context=context) as pool:
            assert pool.submit(tasks.double, 4).result(DEADLINE) == 8


@ours
def test_start_method_and_workers(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The names that the rest of the library has for it mean the same."""
    monkeypatch.setattr(tasks, "inherited", "from the parent")
    with Controller(1, start_method=method) as pool:
        assert pool.workers == 1
        assert pool.submit(tasks.get_inherited).result(DEADLINE) == (
            "from the parent" if method == "fork" else ""
        )


# -- how many -------------------------------------------------------------------------------------------------


@ours
@pytest.mark.parametrize("options", [{"workers": 3}, {"max_workers": 3}, {"workers": 3, "threads": 1}])
def test_how_many_workers(options: dict[str, Any]) -> None:
    """``workers`` tells the number that was asked for, under either name."""
    with Controller(**options) as pool:
        assert pool.workers == 3


@ours
def test_how_many_workers_by_default() -> None:
    """Without a number there are as many as this process has cores, and one at least."""
    with Controller() as first, Controller(max_workers=None) as second:
        assert first.workers == second.workers >= 1
        assert works(first)


def test_no_more_workers_than_asked_for(method: str, begun: Fifo, gate: Fifo) -> None:
    """However many calls wait, no more processes run them, and no more calls run at once."""
    with make(method) as pool:
        futures = [pool.submit(tasks.hold, number, begun.path, gate.path) for number in range(30)]
        pids = {begun.line().split()[1] for _ in range(2)}
        assert begun.empty()
        gate.let_go(30)
        assert [future.result(DEADLINE) for future in futures] == list(range(30))
        pids |= {begun.line().split()[1] for _ in range(28)}
    assert len(pids) == 2


@ours
def test_the_first_fork_goes_first(monkeypatch: pytest.MonkeyPatch, begun: Fifo, gate: Fifo) -> None:
    """Others are forked when it is ready, or has taken too long, and calls wait still."""
    starts, start = [], Caretaker._start

    def noted(self: Caretaker, number: int) -> None:
        starts.append((number, self._dispatcher.ledger.has_proven))
        start(self, number)

    monkeypatch.setattr(Caretaker, "_start", noted)
    monkeypatch.setattr(caretaker, "_FIRST_SECONDS", 2 * DEADLINE)
    with Controller(3, start_method="fork") as pool, held(pool, begun, gate, 3):
        assert starts == [(0, False), (1, True), (2, True)]
    monkeypatch.setattr(caretaker, "_FIRST_SECONDS", 0.0)
    with Controller(3, start_method="fork") as pool, held(pool, begun, gate, 3):
        assert {number for number, _ in starts[3:]} == {0, 1, 2}


def test_an_idle_worker_is_used_again(method: str) -> None:
    """Calls that come one after the other are all run by one process, and no other is started for them."""
    if STANDARD and method == "fork":
        pytest.skip("the standard library forks all its workers at once")
    with make(method, 4) as pool:
        pids = set()
        for number in range(5):
            future = pool.submit(tasks.pid, number)
            pids.add(future.result(DEADLINE))
            pool.submit(tasks.double, 1).result(DEADLINE)
        assert STANDARD or len(pids) == 1
        assert len(pids) <= 2  # the standard library may not yet know that the first one is idle


# -- initializer and finalizer --------------------------------------------------------------------------------


def test_initializer(method: str, begun: Fifo, gate: Fifo, tmp_path: Path) -> None:
    """It runs once in every worker, with its arguments, before the first call."""
    with make(method, initializer=tasks.set_up, initargs=("set ", "up")) as pool:
        assert {pool.submit(tasks.get_mark).result(DEADLINE) for _ in range(4)} == {"set up"}
    assert tasks.mark == "not set up"
    with make(method, initializer=tasks.set_up_and_note, initargs=(str(tmp_path / "pids"),)) as pool:
        with held(pool, begun, gate):
            pass
        assert works(pool)
    assert len(lines(tmp_path / "pids")) == len(set(lines(tmp_path / "pids"))) == 2


@ours
def test_an_initializer_without_a_name(method: str) -> None:
    """A closure is one as well."""
    text = "closed over"

    def set_up(number: int) -> None:
        from tests.contract import executor_tasks

        executor_tasks.mark = f"{text} {number}"

    with make(method, initializer=set_up, initargs=(7,)) as pool:
        assert pool.submit(tasks.get_mark).result(DEADLINE) == "closed over 7"


FAILING = [tasks.fail_to_set_up, tasks.leave_set_up, tasks.die_in_set_up]


@pytest.mark.parametrize("initializer", FAILING)
def test_failing_initializer(method: str, initializer: Any) -> None:
    """One that raises, exits or dies breaks the pool: all futures are told, and no submit is taken any more."""
    with make(method, initializer=initializer, initargs=("no licence found",)) as pool:
        futures: list[Future[object]] = []
        with pytest.raises(BrokenExecutor):
            for _ in range(5):
                futures.append(pool.submit(tasks.get_mark))
            wait(futures, DEADLINE)
            futures[0].result(0)
        for future in futures:
            assert isinstance(future.exception(DEADLINE), BrokenExecutor)

        def refused() -> bool:
            try:
                pool.submit(tasks.get_mark)
            except BrokenExecutor:
                return True
            return False

        until(refused, "submit raises")
        with pytest.raises(BrokenExecutor):
            list(pool.map(tasks.double, [1]))


@ours
@pytest.mark.parametrize("initializer", FAILING[:2])
def test_failing_initializer_is_told(method: str, initializer: Any) -> None:
    """The error is PoolBroken, has the initializer's own words, and is each future's own."""
    errors = []
    with make(method, initializer=initializer, initargs=("no licence found",)) as pool:
        for _ in range(3):
            with pytest.raises(PoolBroken, match="no licence found") as caught:
                pool.submit(tasks.get_mark).result(DEADLINE)
            errors.append(caught.value)
    assert len({id(error) for error in errors}) == 3  # or each raise would add its frames to all of them


@ours
def test_an_initializer_that_fails_later(method: str, tmp_path: Path) -> None:
    """When a worker dies and the next one can't be set up, what waits is told, and nothing hangs."""
    with make(method, 1, initializer=tasks.set_up_once, initargs=(str(tmp_path / "mark"),)) as pool:
        assert works(pool)
        with pytest.raises(WorkerDied):
            pool.submit(tasks.end, "kill").result(DEADLINE)
        with pytest.raises(PoolBroken, match="only once"):
            pool.submit(tasks.double, 1).result(DEADLINE)


def test_futures_behind_a_failing_initializer(method: str) -> None:
    """Of a map, of many futures with callbacks, none is left untold."""
    told = threading.Semaphore(0)
    futures = []
    with make(method, initializer=tasks.fail_to_set_up, initargs=("no licence found",)) as pool:
        try:
            for number in range(50):
                futures.append(pool.submit(tasks.double, number))
                futures[-1].add_done_callback(lambda _: told.release())
        except BrokenExecutor:
            pass
        for _ in futures:
            assert told.acquire(timeout=DEADLINE)
        assert all(isinstance(future.exception(0), BrokenExecutor) for future in futures)


@ours
def test_finalizer(method: str, tmp_path: Path) -> None:
    """It runs last in every worker that ends in order, also in one that has done its share of calls."""
    ended = str(tmp_path / "ended")

    def finalizer() -> None:
        from tests.helpers import tell

        tell(ended, os.getpid())

    with make(method, 1, finalizer=finalizer, max_tasks_per_child=2) as pool:
        pids = [pool.submit(tasks.pid).result(DEADLINE) for _ in range(5)]
    assert sorted({str(pid) for pid in pids}) == sorted(lines(tmp_path / "ended"))
    assert len(set(pids)) == 3


# -- tasks per worker -----------------------------------------------------------------------------------------

needs_no_fork = "the standard library can't end a fork after some calls"


@pytest.mark.parametrize("name", ["max_tasks_per_child", pytest.param("max_tasks_per_worker", marks=ours)])
def test_a_worker_ends_after_some_calls(method: str, name: str) -> None:
    """Each worker runs that many calls, then another, which is set up as the first, takes its place."""
    if STANDARD and method == "fork":
        pytest.skip(needs_no_fork)
    with make(method, 1, initializer=tasks.set_up, initargs=("set up",), **{name: 3}) as pool:
        pids = [pool.submit(tasks.pid).result(DEADLINE) for _ in range(7)]
        assert pool.submit(tasks.get_mark).result(DEADLINE) == "set up"
    runs = [pids.count(pid) for pid in dict.fromkeys(pids)]
    assert runs == [3, 3, 1]
    assert pids == sorted(pids, key=list(dict.fromkeys(pids)).index)


@pytest.mark.parametrize(("workers", "most", "calls"), [(1, 1, 4), (1, 2, 7), (2, 1, 6), (3, 2, 10)])
def test_more_calls_than_the_workers_may_run(method: str, workers: int, most: int, calls: int) -> None:
    """Those that wait when a worker ends are run by the next ones, also during shutdown."""
    if STANDARD:
        pytest.skip("it may stop there, in some versions of the standard library")
    with make(method, workers, max_tasks_per_child=most) as pool:
        futures = [pool.submit(tasks.capture, number, tasks.double(number)) for number in range(calls)]
    assert [future.result(0)[0] for future in futures] == [(number, 2 * number) for number in range(calls)]


@ours
def test_errors_and_ends_are_calls_too(method: str) -> None:
    """A call that fails counts; a worker that dies has its place taken; nothing is lost between them."""
    with make(method, 2, max_tasks_per_worker=2) as pool:
        futures = [
            pool.submit(*call)
            for _ in range(4)
            for call in ((tasks.double, 1), (tasks.fail, "fails"), (tasks.end, "exit"))
        ]
        errors = [type(future.exception(DEADLINE)) for future in futures]
    assert errors == [type(None), LookupError, WorkerDied] * 4


@ours
@pytest.mark.parametrize("end", ["shutdown", "drop"])
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_the_last_worker_ends_after_the_executor(method: str, begun: Fifo, gate: Fifo, end: str) -> None:
    """When the pool is shut down or dropped while calls wait, who has done its share still has a successor."""
    pool = make(method, 1, max_tasks_per_child=1)
    futures = [pool.submit(tasks.hold, number, begun.path, gate.path) for number in range(3)]
    begun.line()
    if end == "shutdown":
        pool.shutdown(wait=False)
    del pool
    gate.let_go(3)
    assert [future.result(DEADLINE) for future in futures] == [0, 1, 2]


# -- workers that die -----------------------------------------------------------------------------------------

ENDS = [("kill", -signal.SIGKILL), ("terminate", -signal.SIGTERM), ("exit", 7), ("crash", -signal.SIGSEGV)]


@ours
@pytest.mark.parametrize(("way", "exitcode"), ENDS)
def test_a_call_that_ends_its_worker(method: str, begun: Fifo, gate: Fifo, way: str, exitcode: int) -> None:
    """It alone is WorkerDied, with the process and how it ended; what waited behind it runs, and so on."""
    with make(method) as pool:
        before = {future.result(DEADLINE) for future in [pool.submit(tasks.pid) for _ in range(10)]}
        with held(pool, begun, gate, 1) as (beside,):
            dying = pool.submit(tasks.end, way)
            waiting = [pool.submit(tasks.double, number) for number in range(20)]
            error = dying.exception(DEADLINE)
            assert [future.result(DEADLINE) for future in waiting] == [2 * number for number in range(20)]
        assert type(error) is WorkerDied
        assert error.exitcode == exitcode
        assert error.pid not in (0, os.getpid())
        assert beside.result(DEADLINE) == 0
        after = {future.result(DEADLINE) for future in [pool.submit(tasks.pid) for _ in range(10)]}
        assert error.pid not in after and before
        assert works(pool)


@ours
def test_a_worker_that_is_killed(method: str, begun: Fifo, gate: Fifo) -> None:
    """Somebody else may kill it: while it runs a call, that fails; while it is idle, nobody notices."""
    with make(method) as pool:
        futures = [pool.submit(tasks.hold, number, begun.path, gate.path) for number in range(2)]
        waiting = [pool.submit(tasks.double, number) for number in range(10)]
        told = dict(begun.line().split() for _ in futures)
        os.kill(int(told["0"]), signal.SIGKILL)
        error = futures[0].exception(DEADLINE)
        assert isinstance(error, WorkerDied) and error.pid == int(told["0"])
        assert [future.result(DEADLINE) for future in waiting] == [2 * number for number in range(10)]
        gate.let_go()
        assert futures[1].result(DEADLINE) == 1

        idle = {future.result(DEADLINE) for future in [pool.submit(tasks.pid) for _ in range(10)]}
        with ends_of(idle) as ended:
            for pid in idle:
                os.kill(pid, signal.SIGKILL)
            ended()
        assert works(pool)


@ours
def test_all_workers_are_killed_at_once(method: str, begun: Fifo, gate: Fifo) -> None:
    """Each call is told of its own worker, and what waited is run."""
    with make(method) as pool:
        futures = [pool.submit(tasks.hold, number, begun.path, gate.path) for number in range(2)]
        waiting = [pool.submit(tasks.double, number) for number in range(10)]
        told = dict(begun.line().split() for _ in futures)
        for pid in told.values():
            os.kill(int(pid), signal.SIGKILL)
        errors = [future.exception(DEADLINE) for future in futures]
        assert {str(number): str(error.pid) for number, error in enumerate(errors)} == told
        assert [future.result(DEADLINE) for future in waiting] == [2 * number for number in range(10)]


@ours
def test_many_calls_that_end_their_workers(method: str) -> None:
    """Among a hundred calls, exactly those that kill are told so, in futures and in a map."""
    victims = tuple(range(3, 100, 12))
    with make(method) as pool:
        futures = [pool.submit(tasks.end_if, number, victims) for number in range(100)]
        errors = [future.exception(DEADLINE) for future in futures]
        assert [number for number, error in enumerate(errors) if error] == list(victims)
        assert {type(error) for error in errors if error} == {WorkerDied}
        assert len({error.pid for error in errors if error}) == len(victims)
        assert [future.result() for number, future in enumerate(futures) if number not in victims] == [
            number for number in range(100) if number not in victims
        ]
        results = pool.map(tasks.end_if, range(10), [(4,)] * 10)
        assert [next(results) for _ in range(4)] == [0, 1, 2, 3]
        with pytest.raises(WorkerDied):
            next(results)
        assert works(pool)


@ours
def test_each_error_is_an_object_of_its_own(method: str) -> None:
    """Raising one WorkerDied adds its frames to no other."""
    with make(method) as pool:
        futures = [pool.submit(tasks.end, "kill") for _ in range(3)]
        errors = [future.exception(DEADLINE) for future in futures]
    assert len({id(error) for error in errors}) == 3


# -- kill -----------------------------------------------------------------------------------------------------


@ours
def test_kill_what_runs(method: str, begun: Fifo, gate: Fifo) -> None:
    """Its worker ends with it, its future is WorkerDied, and nothing else is touched."""
    with make(method) as pool:
        futures = [pool.submit(tasks.hold, number, begun.path, gate.path) for number in range(2)]
        waiting = [pool.submit(tasks.double, number) for number in range(20)]
        told = dict(begun.line().split() for _ in futures)
        with ends_of([int(told["0"])]) as ended:
            assert pool.kill(futures[0]) is True
            ended()
        error = futures[0].exception(DEADLINE)
        assert isinstance(error, WorkerDied) and error.pid == int(told["0"])
        assert not futures[0].cancelled()
        assert [future.result(DEADLINE) for future in waiting] == [2 * number for number in range(20)]
        assert not futures[1].done()
        gate.let_go()
        assert futures[1].result(DEADLINE) == 1
        assert works(pool)


@ours
def test_kill_what_is_stopped(method: str, begun: Fifo, gate: Fifo) -> None:
    """A worker that is stopped is ended as well."""
    with make(method, 1) as pool:
        future = pool.submit(tasks.hold, 0, begun.path, gate.path)
        os.kill(int(begun.line().split()[1]), signal.SIGSTOP)
        assert pool.kill(future)
        assert isinstance(future.exception(DEADLINE), WorkerDied)
        assert works(pool)


@ours
def test_kill_what_waits(method: str, begun: Fifo, gate: Fifo, tmp_path: Path) -> None:
    """It is cancelled and never runs; no worker is ended for it."""
    with make(method) as pool:
        with held(pool, begun, gate) as futures:
            for number in range(10):
                pool.submit(tasks.double, number)
            waiting = pool.submit(tasks.note, "killed", tmp_path / "calls")
            assert pool.kill(waiting) is True
            assert waiting.cancelled()
        assert wait([waiting], DEADLINE).done == {waiting}
        assert [future.result(DEADLINE) for future in futures] == [0, 1]
        assert works(pool)
    assert lines(tmp_path / "calls") == []


def test_kill_what_waits_to_run_again(begun: Fifo, gate: Fifo) -> None:
    """The mate of a call that was ended with their worker has run, so it is not cancelled but ended, like that one."""
    with Controller(1, threads=2, start_method="spawn") as pool:
        futures = [pool.submit(tasks.hold, number, begun.path, gate.path) for number in range(2)]
        begun.line(), begun.line()
        assert pool.kill(futures[0])
        with pytest.raises(WorkerDied, match="on request"):
            futures[0].result(DEADLINE)
        assert pool.kill(futures[1])
        with pytest.raises(WorkerDied, match="on request"):
            futures[1].result(DEADLINE)
        assert pool.submit(abs, -1).result(DEADLINE) == 1


@ours
def test_kill_what_is_over(method: str, begun: Fifo, gate: Fifo, far_gate: Fifo) -> None:
    """What is done, failed, cancelled or killed is left as it is; what is no call of this pool is an error."""
    with make(method) as pool, make(method, 1) as other:
        done, failed = pool.submit(tasks.double, 1), pool.submit(tasks.fail, "fails")
        wait([done, failed], DEADLINE)
        with held(pool, begun, gate):
            for number in range(10):
                pool.submit(tasks.double, number)
            cancelled = pool.submit(tasks.double, 1)
            assert cancelled.cancel()
            foreign = other.submit(tasks.hold, "foreign", begun.path, far_gate.path)
            assert begun.line().startswith("foreign ")
            killed = pool.submit(tasks.double, 1)
            assert pool.kill(killed)
            unknown: Future[int] = Future()
            for future in (done, failed, cancelled, killed):
                assert pool.kill(future) is False
            for future in (foreign, unknown):
                with pytest.raises(ValueError, match="this pool"):
                    pool.kill(future)
            assert not foreign.done() and not unknown.done()
            far_gate.let_go()
            assert foreign.result(DEADLINE) == "foreign"
        assert done.result(0) == 2 and str(failed.exception(0)) == "fails"
        assert works(pool)


@ours
def test_kill_is_told_to_all_who_wait(method: str, begun: Fifo, gate: Fifo) -> None:
    """Callbacks are called, and whoever waits gets the error."""
    told: list[Future[Any]] = []
    with make(method, 1) as pool:
        future = pool.submit(tasks.hold, 0, begun.path, gate.path)
        begun.line()
        with concurrent.futures.ThreadPoolExecutor(3) as threads:
            waiting = [threads.submit(future.exception, DEADLINE) for _ in range(3)]
            future.add_done_callback(told.append)
            assert pool.kill(future)
            assert {type(each.result(DEADLINE)) for each in waiting} == {WorkerDied}
        until(lambda: told == [future], "the callback is called")


@ours
def test_kill_after_shutdown(method: str, begun: Fifo, gate: Fifo) -> None:
    """What still runs then can be ended, and what waited behind it runs."""
    pool = make(method, 1)
    future = pool.submit(tasks.hold, 0, begun.path, gate.path)
    waiting = pool.submit(tasks.double, 1)
    begun.line()
    pool.shutdown(wait=False)
    assert pool.kill(future)
    assert isinstance(future.exception(DEADLINE), WorkerDied)
    assert waiting.result(DEADLINE) == 2
    pool.shutdown()


# -- arguments that can't be ----------------------------------------------------------------------------------

WRONG: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"max_workers": 0}, ValueError, "max_workers"),
    ({"initializer": "no function"}, TypeError, "initializer"),
    ({"max_tasks_per_child": 0}, ValueError, "max_tasks_per_child"),
    ({"max_tasks_per_child": 1.5}, TypeError, "max_tasks_per_child"),
    ({"unheard_of": 1}, TypeError, "unheard_of"),
]

WRONG_HERE: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"workers": 0}, ValueError, "workers"),
    ({"workers": "two"}, TypeError, "workers"),
    ({"workers": 1.5}, TypeError, "workers"),
    ({"max_workers": "two"}, TypeError, "max_workers"),
    ({"workers": 2, "max_workers": 3}, TypeError, "max_workers"),
    ({"start_method": "magic"}, ValueError, "start_method"),
    ({"start_method": "fork", "mp_context": get_context("spawn")}, TypeError, "mp_context"),
    ({"mp_context": "spawn"}, TypeError, "mp_context"),
    ({"threads": 0}, ValueError, "threads"),
    ({"finalizer": 3}, TypeError, "finalizer"),
    ({"max_tasks_per_worker": 0}, ValueError, "max_tasks_per_worker"),
    ({"max_tasks_per_worker": "two"}, TypeError, "max_tasks_per_worker"),
    ({"max_tasks_per_worker": 2, "max_tasks_per_child": 3}, TypeError, "max_tasks_per_child"),
    ({"max_memory_per_worker": 0}, ValueError, "max_memory_per_worker"),
    ({"initializer": tasks.set_up, "initargs": 5}, TypeError, "initargs"),
]


@pytest.mark.parametrize(("options", "error", "name"), WRONG, ids=range(len(WRONG)))
def test_arguments_that_can_not_be(options: dict[str, Any], error: type[Exception], name: str) -> None:
    """The error names the argument, and comes before any process is started."""
    with pytest.raises(error, match=name):
        EXECUTOR(**options)


@ours
@pytest.mark.parametrize(("options", "error", "name"), WRONG_HERE, ids=range(len(WRONG_HERE)))
def test_arguments_of_its_own_that_can_not_be(options: dict[str, Any], error: Any, name: str) -> None:
    """As above, with the names that are not the standard library's."""
    with pytest.raises(error, match=name):
        Controller(**options)


@ours
def test_an_initializer_that_can_not_be_sent(method: str) -> None:
    """Arguments for the initializer that don't pickle are told where they are given, or by each future."""
    options = {"initializer": tasks.set_up, "initargs": (threading.Lock(),)}
    with pytest.raises((TypeError, BrokenExecutor)), make(method, **options) as pool:
        pool.submit(tasks.get_mark).result(DEADLINE)


@ours
def test_kill_what_a_decorated_function_submitted(method: str, begun: Fifo, gate: Fifo) -> None:
    """Its futures are the pool's as well, and no other pool's."""
    with make(method) as pool, make(method, 1) as other:
        future = parallel(tasks.hold).options(backend=pool).submit(0, begun.path, gate.path)
        begun.line()
        with pytest.raises(ValueError, match="this pool"):
            other.kill(future)
        assert pool.kill(future) is True
        assert isinstance(future.exception(DEADLINE), WorkerDied)
        assert pool.kill(future) is other.kill(future) is False


# -- what runs, and since when --------------------------------------------------------------------------------


@ours
def test_what_runs(method: str, begun: Fifo, gate: Fifo) -> None:
    """Calls that a worker is at, with the seconds, which grow; not those that wait, and not those that have ended."""
    with make(method) as pool:
        assert pool.running() == {}
        with held(pool, begun, gate) as futures:
            waiting = [pool.submit(tasks.double, number) for number in range(5)]
            first = pool.running()
            assert set(first) == set(futures)
            until(lambda: pool.running()[futures[0]] > first[futures[0]], "time passes")
        assert all(future.result(DEADLINE) is not None for future in waiting)
        until(lambda: pool.running() == {}, "nothing runs")


@ours
def test_time_of_calls_with_a_limit(method: str, begun: Fifo, gate: Fifo) -> None:
    """It counts from when they began, whether or not anybody has asked before."""
    with make(method) as pool:
        submit = parallel(tasks.hold, timeout=1000).options(backend=pool).submit
        with_limit, without = (
            submit(0, begun.path, gate.path),
            pool.submit(tasks.hold, 1, begun.path, gate.path),
        )
        begun.line(), begun.line()
        until(lambda: len(pool.dispatcher._limits._overtime._seen) == 2, "somebody has looked")
        assert set(pool.running()) == {with_limit, without}
        assert all(seconds > 0 for seconds in pool.running().values())
        gate.let_go(2)


@ours
def test_idle_workers_end(method: str) -> None:
    """After the time that is given, and others come with the next call; with None, they stay."""
    with make(method, 1, idle_seconds=0.01) as pool, make(method, 1, idle_seconds=None) as lasting:
        pid, other = pool.submit(tasks.pid).result(DEADLINE), lasting.submit(tasks.pid).result(DEADLINE)
        until(lambda: not pool.dispatcher.handles, "the idle worker has ended")
        until(lambda: lasting.dispatcher.caretaker._rests, "the other pool rests, too")
        assert pool.submit(tasks.pid).result(DEADLINE) != pid
        assert lasting.submit(tasks.pid).result(DEADLINE) == other


@ours
@pytest.mark.parametrize("seconds", [0, -1, "1", float("inf")])
def test_seconds_of_idleness(seconds: Any) -> None:
    """A number above 0, or None."""
    with pytest.raises((TypeError, ValueError), match="idle_seconds"):
        Controller(1, idle_seconds=seconds)

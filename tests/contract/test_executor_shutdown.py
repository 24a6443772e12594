"""The end of an executor: by shutdown, with the interpreter, as garbage; forks; executors in workers."""

from __future__ import annotations

import concurrent.futures
import gc
import os
import signal
import socket
import subprocess
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, as_completed, wait
from contextlib import contextmanager
from pathlib import Path
from pickle import PicklingError
from typing import Any

import psutil
import pytest

from manyhands import Controller, PoolClosed, WorkerDied
from manyhands.controller.caretaker import Caretaker
from manyhands.workers import launch
from tests.contract import executor_tasks as tasks
from tests.contract.executors import STANDARD, held, make, ours, works
from tests.helpers import (
    DEADLINE,
    Fifo,
    ends_of,
    finish,
    lines,
    run_script,
    shown,
    started,
    until,
    write_script,
)


@contextmanager
def ended_workers(pool: Any) -> Iterator[Callable[[], None]]:
    """Call what it yields to wait until the workers of the pool have ended."""
    pids = {future.result(DEADLINE) for future in [pool.submit(tasks.pid) for _ in range(10)]}
    del pool  # which its user may want to drop
    with ends_of(pids) as wait_for_ends:
        yield wait_for_ends


# -- shutdown -------------------------------------------------------------------------------------------------


def test_with_block(method: str) -> None:
    """It ends when everything that was submitted in it has run, and no worker is left then."""
    with make(method) as pool:
        results = pool.map(abs, range(-5, 5))
        pids = pool.submit(tasks.pid), pool.submit(tasks.pid)
        futures = [pool.submit(tasks.double, number) for number in range(50)]
    assert all(future.done() for future in futures)
    assert [future.result() for future in futures] == [2 * number for number in range(50)]
    assert list(results) == [5, 4, 3, 2, 1, 0, 1, 2, 3, 4]
    assert not any(psutil.pid_exists(pid.result()) for pid in pids)


@ours
def test_it_does_not_wait_for_workers_that_are_starting(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that has begun nothing of the user's is ended, however far its start has come."""
    start, processes = launch._interpreter, []

    def or_sleep(module: str, end: socket.socket, process_group: int | None) -> subprocess.Popen[bytes]:
        if processes:
            sleep = [sys.executable, "-c", "import signal; signal.pause()"]
            process = subprocess.Popen(sleep, pass_fds=[end.fileno()], process_group=process_group)
            process.returncode = 0  # as of any worker
        else:
            process = start(module, end, process_group)
        processes.append(process)
        return process

    monkeypatch.setattr(launch, "_interpreter", or_sleep)
    with make("spawn") as pool:
        futures = [pool.submit(tasks.double, number) for number in range(2)]
        assert [future.result(DEADLINE) for future in futures] == [0, 2]
    assert len(processes) == 2
    assert not any(psutil.pid_exists(process.pid) for process in processes)


def test_it_is_ended_before_its_thread_has_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was submitted is cancelled, and whoever asked is called back."""
    go, begin = threading.Event(), Caretaker._begin
    called: list[object] = []

    def begin_late(self: Caretaker) -> None:
        go.wait()
        begin(self)

    monkeypatch.setattr(Caretaker, "_begin", begin_late)
    pool = Controller(1)
    future = pool.submit(len, "abc")
    future.add_done_callback(called.append)
    pool.close(kill=True)
    assert future.cancelled() and called == [future]
    thread = pool._dispatcher.caretaker._thread
    go.set()
    assert thread is not None
    thread.join()


@ours
def test_it_waits_for_initializers(method: str, tmp_path: Path) -> None:
    """What they have begun they finish."""
    begun, go_on, ended = Fifo(tmp_path / "begun"), Fifo(tmp_path / "go_on"), tmp_path / "ended"
    pool = make(method, initializer=tasks.wait_in_second, initargs=(begun.path, go_on.path, ended))
    futures = [pool.submit(tasks.double, number) for number in range(2)]
    assert [future.result(DEADLINE) for future in futures] == [0, 2]
    begun.line()
    shutdown = threading.Thread(target=pool.shutdown)
    shutdown.start()
    until(lambda: _is_shut(pool), "the pool to be shut")
    go_on.let_go()
    shutdown.join(DEADLINE)
    assert ended.exists()
    begun.close()
    go_on.close()


def _is_shut(pool: Any) -> bool:
    try:
        pool.submit(tasks.double, 1)
    except RuntimeError:
        return True
    return False


def test_nothing_runs_after_shutdown(method: str) -> None:
    """``submit`` and ``map`` raise RuntimeError then, however often it is shut down, used or not."""
    for use in (True, False):
        pool = make(method)
        if use:
            assert pool.submit(tasks.double, 1).result(DEADLINE) == 2
        pool.shutdown()
        for _ in range(2):
            with pytest.raises(RuntimeError, match=r"closed|shut"):
                pool.submit(tasks.double, 1)
            with pytest.raises(RuntimeError, match=r"closed|shut"):
                pool.map(tasks.double, [1])
            pool.shutdown()
            pool.shutdown(wait=False, cancel_futures=True)


@ours
def test_it_is_pool_closed(method: str) -> None:
    """That RuntimeError is PoolClosed, which a ``with`` on what is shut down raises no earlier than its use."""
    with make(method) as pool:
        pool.shutdown()
        with pytest.raises(PoolClosed):
            pool.submit(tasks.double, 1)


def test_shutdown_waits(method: str, begun: Fifo, gate: Fifo) -> None:
    """It returns only after what runs and what waits has ended, in each thread that calls it."""
    pool = make(method)
    futures = [pool.submit(tasks.hold, number, begun.path, gate.path) for number in range(6)]
    begun.line()
    done: list[bool] = []

    def shut_down() -> None:
        pool.shutdown()
        done.append(all(future.done() for future in futures))

    threads = [threading.Thread(target=shut_down) for _ in range(1 if STANDARD else 3)]
    for thread in threads:
        thread.start()
    assert not done
    gate.let_go(6)
    for thread in threads:
        thread.join(DEADLINE)
    assert done == [True] * len(threads)
    assert [future.result(0) for future in futures] == list(range(6))


def test_shutdown_right_after_submit(method: str) -> None:
    """Calls that were just submitted, mapped or cancelled are no trouble."""
    for number in (1, 3, 50):
        pool = make(method)
        pool.map(tasks.double, range(number))
        futures = [pool.submit(tasks.double, 1) for _ in range(number)]
        futures[-1].cancel()
        pool.shutdown()
        assert all(future.done() for future in futures)


def test_shutdown_without_waiting(method: str, begun: Fifo, gate: Fifo) -> None:
    """It returns while calls run; they and those that wait are finished, told, and then the workers end."""
    pool = make(method)
    told = threading.Event()
    with ended_workers(pool) as wait_for_ends:
        with held(pool, begun, gate) as futures:
            waiting = [pool.submit(tasks.double, number) for number in range(20)]
            waiting[-1].add_done_callback(lambda _: told.set())
            pool.shutdown(wait=False)
            assert not any(future.done() for future in [*futures, *waiting])
            with pytest.raises(RuntimeError):
                pool.submit(tasks.double, 1)
        assert set(as_completed(waiting, DEADLINE)) == set(waiting)
        assert [future.result(0) for future in waiting] == [2 * number for number in range(20)]
        assert told.wait(DEADLINE)
        wait_for_ends()


def test_map_without_waiting(method: str) -> None:
    """Results of a map are there after ``shutdown(wait=False)`` and after the pool was dropped."""
    pool = make(method)
    results = pool.map(abs, range(-5, 5))
    pool.shutdown(wait=False)
    del pool
    gc.collect()
    assert list(results) == [5, 4, 3, 2, 1, 0, 1, 2, 3, 4]


@ours
def test_shutdown_after_shutdown_waits(method: str, begun: Fifo, gate: Fifo) -> None:
    """A second one waits if it says so, as at the end of a ``with`` block."""
    with make(method) as pool:
        future = pool.submit(tasks.hold, 1, begun.path, gate.path)
        begun.line()
        pool.shutdown(wait=False)
        assert not future.done()
        gate.let_go()
    assert future.done() and future.result() == 1


@pytest.mark.parametrize("waits", [True, False])
def test_cancel_futures(method: str, begun: Fifo, gate: Fifo, tmp_path: Path, waits: bool) -> None:
    """What has not begun is cancelled and never runs; what runs is finished."""
    calls = tmp_path / "calls"
    pool = make(method)
    with ended_workers(pool) as wait_for_ends:
        with held(pool, begun, gate) as futures:
            waiting = [pool.submit(tasks.note, number, calls) for number in range(50)]
            last_told = threading.Event()
            waiting[-1].add_done_callback(lambda _: last_told.set())
            ender = threading.Thread(target=pool.shutdown, kwargs={"wait": waits, "cancel_futures": True})
            ender.start()
            if not STANDARD:  # which may do so only when a worker is free
                assert last_told.wait(DEADLINE)
        ender.join(DEADLINE)
        wait_for_ends()
        if not STANDARD:  # which never tells those who wait for what it cancels
            assert wait([*futures, *waiting], DEADLINE).not_done == set()
    cancelled = [future for future in waiting if future.cancelled()]
    assert len(cancelled) > 40 and last_told.is_set()
    with pytest.raises(CancelledError):
        cancelled[0].result(0)
    assert [future.result(0) for future in futures] == [0, 1]
    ran = [number for number, future in enumerate(waiting) if not future.cancelled()]
    assert sorted(int(line) for line in lines(calls)) == ran


def test_cancelled_before_shutdown(method: str) -> None:
    """A call that is cancelled right before is not waited for."""
    pool = make(method, 1)
    assert pool.submit(int).result(DEADLINE) == 0
    pool.submit(int).cancel()
    pool.shutdown()
    with pytest.raises(RuntimeError):
        pool.submit(int)


def test_shutdown_in_a_callback(method: str) -> None:
    """A done-callback may shut the pool down, without waiting."""
    pool = make(method)
    with ended_workers(pool) as wait_for_ends:
        futures = [pool.submit(tasks.double, number) for number in range(20)]
        futures[0].add_done_callback(lambda _: pool.shutdown(wait=False))
        assert [future.result(DEADLINE) for future in futures] == [2 * number for number in range(20)]
        wait_for_ends()


@ours
def test_shutdown_in_a_callback_that_waits(method: str) -> None:
    """With ``wait=True`` it may raise there, or not wait for itself: it neither hangs nor loses a call."""
    pool = make(method)
    with ended_workers(pool) as wait_for_ends:
        futures = [pool.submit(tasks.double, number) for number in range(20)]
        futures[0].add_done_callback(lambda _: pool.shutdown())
        assert [future.result(DEADLINE) for future in futures] == [2 * number for number in range(20)]
        pool.shutdown()
        wait_for_ends()


def test_arguments_that_do_not_pickle_at_shutdown(method: str) -> None:
    """A call that can't be sent is an error of its own, and the pool ends all the same."""
    pool = make(method)
    with ended_workers(pool) as wait_for_ends:
        with pytest.raises(PicklingError):
            future = pool.submit(id, tasks.AtPickling(tasks.refuse_pickling))
            pool.shutdown(wait=False)
            future.result(DEADLINE)
        pool.shutdown(wait=False)
        wait_for_ends()


@ours
@pytest.mark.parametrize("waits", [True, False])
def test_a_worker_that_dies_after_shutdown(method: str, begun: Fifo, gate: Fifo, waits: bool) -> None:
    """Its call is WorkerDied, and those that wait still run, in a new worker if need be."""
    pool = make(method, 1)
    dying = pool.submit(tasks.hold_and_crash, 1, begun.path, gate.path)
    waiting = [pool.submit(tasks.double, number) for number in range(10)]
    begun.line()
    ender = threading.Thread(target=pool.shutdown, kwargs={"wait": waits})
    ender.start()
    gate.let_go()
    assert isinstance(dying.exception(DEADLINE), WorkerDied)
    assert [future.result(DEADLINE) for future in waiting] == [2 * number for number in range(10)]
    ender.join(DEADLINE)
    pool.shutdown()


# -- executors that are dropped -------------------------------------------------------------------------------


@pytest.mark.parametrize("in_a_cycle", [False, True])
def test_a_dropped_executor(method: str, begun: Fifo, gate: Fifo, in_a_cycle: bool) -> None:
    """One that is dropped without shutdown finishes what was submitted, and then its workers end."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        pool = make(method)
        with ended_workers(pool) as wait_for_ends:
            futures = [pool.submit(tasks.hold, number, begun.path, gate.path) for number in range(8)]
            if in_a_cycle:
                pool.myself = pool
            del pool
            gc.collect()
            begun.line()
            gate.let_go(8)
            assert [future.result(DEADLINE) for future in futures] == list(range(8))
            wait_for_ends()


def test_an_executor_that_was_never_used(method: str) -> None:
    """It starts no process, and is dropped or shut down without a word."""
    before = set(psutil.Process().children(recursive=True))
    pools = [make(method) for _ in range(3)]
    assert set(psutil.Process().children(recursive=True)) <= before
    pools.pop().shutdown()
    pools.pop().shutdown(wait=False)
    del pools
    gc.collect()


def test_executors_beside_one_another(method: str) -> None:
    """Several are used at once, and ending one is nothing to the others."""
    with make(method, 1) as first, make(method, 1) as second:
        with make(method, 1) as third:
            pids = {pool.submit(tasks.pid).result(DEADLINE) for pool in (first, second, third)}
            assert len(pids) == 3
        assert works(first) and works(second)
        first.shutdown()
        assert works(second)


# -- the end of the interpreter -------------------------------------------------------------------------------

SCRIPT_HEAD = """
import sys
from tests.contract import executor_tasks as tasks
from tests.contract.executors import make

method, begun, gate, calls = sys.argv[1:]
"""


def script(tmp_path: Path, body: str) -> Path:
    """A script with a main guard, which makes an executor."""
    indented = "".join(f"    {line}\n" for line in body.strip().splitlines())
    return write_script(tmp_path / "script.py", f"{SCRIPT_HEAD}\nif __name__ == '__main__':\n{indented}")


@pytest.mark.parametrize("end", ["", "pool.shutdown()", "pool.shutdown(wait=False)"])
def test_the_end_of_a_script(tmp_path: Path, method: str, begun: Fifo, gate: Fifo, end: str) -> None:
    """Calls that are pending when the script ends are run first; it ends by itself, and says nothing."""
    if STANDARD and "False" in end:
        pytest.skip("the standard library's hangs there")
    path = script(
        tmp_path,
        f"""
pool = make(method)
pool.submit(tasks.hold, 0, begun, gate)
for number in range(20):
    pool.submit(tasks.note, number, calls)
print("last line", flush=True)
{end}
""",
    )
    calls = tmp_path / "calls"
    with started(path, method, begun.path, gate.path, calls) as process:
        begun.line()
        gate.let_go()
        out, err = process.communicate(timeout=DEADLINE)
    assert (process.returncode, out, err) == (0, "last line\n", "")
    assert sorted(map(int, lines(calls))) == list(range(20))


@ours
def test_the_end_of_a_script_that_cancels(tmp_path: Path, method: str, begun: Fifo, gate: Fifo) -> None:
    """With ``cancel_futures`` what runs is finished at its end, and what waited is not run."""
    path = script(
        tmp_path,
        """
from tests.helpers import tell
pool = make(method, 1)
running = pool.submit(tasks.hold, 0, begun, gate)
waiting = [pool.submit(tasks.note, number, calls) for number in range(50)]
running.add_done_callback(lambda future: print("told", future.result(), flush=True))
while not running.running():
    pass
pool.shutdown(wait=False, cancel_futures=True)
tell(begun, "shut down")
""",
    )
    calls = tmp_path / "calls"
    with started(path, method, begun.path, gate.path, calls) as process:
        assert "shut down" in {begun.line(), begun.line()}
        gate.let_go()
        out, err = process.communicate(timeout=DEADLINE)
    assert (process.returncode, out, err) == (0, "told 0\n", "")
    assert len(lines(calls)) < 20


def test_submit_at_the_very_end(tmp_path: Path, method: str, begun: Fifo, gate: Fifo) -> None:
    """A function of ``atexit`` that submits when pools have ended gets a RuntimeError, and nothing hangs."""
    path = write_script(
        tmp_path / "script.py",
        """
        import atexit, sys

        @atexit.register
        def last():
            try:
                pool.submit(id, None)
            except RuntimeError:
                print("RuntimeError")

        from tests.contract.executors import make
        if __name__ == "__main__":
            pool = make(sys.argv[1])
            print(pool.submit(abs, -42).result())
        """,
    )
    if method == "fork":
        assert run_script(path, method) == "42\nRuntimeError\n"
    else:  # in children of multiprocessing's own kind the script's atexit functions may be registered too
        assert run_script(path, method).startswith("42\n")


def test_an_error_ends_the_script(tmp_path: Path, method: str, begun: Fifo, gate: Fifo) -> None:
    """A future's error that nobody catches ends it with status 1, and the worker's traceback is shown."""
    path = script(tmp_path, "pool = make(method)\npool.submit(tasks.fail, 'not caught').result()")
    with started(path, method, begun.path, gate.path, tmp_path / "calls") as process:
        _, err = process.communicate(timeout=DEADLINE)
    assert process.returncode == 1
    assert "this line is looked for" in err and "\nLookupError: not caught\n" in err


def test_ctrl_c_while_waiting(tmp_path: Path, method: str, begun: Fifo, gate: Fifo) -> None:
    """It interrupts ``result()``; who catches it finds the call going on, and the pool in order."""
    path = script(
        tmp_path,
        """
pool = make(method)
future = pool.submit(tasks.hold, 1, begun, gate)
try:
    future.result()
except KeyboardInterrupt:
    print("interrupted", flush=True)
print(future.result(), pool.submit(tasks.double, 4).result())
""",
    )
    with started(path, method, begun.path, gate.path, tmp_path / "calls") as process:
        begun.line()
        until(lambda: psutil.Process(process.pid).status() == psutil.STATUS_SLEEPING, "it waits")
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "interrupted\n"
        gate.let_go()
        assert finish(process) == "1 8\n"


@ours
def test_a_script_without_a_main_guard(tmp_path: Path, method: str) -> None:
    """Functions of a script are run, and the script itself is run once."""
    path = write_script(
        tmp_path / "script.py",
        """
        import sys
        from multiprocessing import get_context
        from manyhands import Controller

        print("once", flush=True)

        def add(x, y):
            return x + y + SHIFT

        SHIFT = 10
        pool = Controller(max_workers=2, mp_context=get_context(sys.argv[1]))
        print(pool.submit(add, 1, y=2).result(), list(pool.map(add, [1, 2], [3, 4])))
        """,
    )
    assert run_script(path, method) == "once\n13 [14, 16]\n"


# -- forks, and pools in workers ------------------------------------------------------------------------------


def in_a_fork(body: Callable[[], bool]) -> int:
    """The exit status of a fork of this process: 0 if ``body`` was true there, 3 if not, 1 if it raised."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            status = 0 if body() else 3
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@ours
def test_a_fork_of_the_parent(method: str, begun: Fifo, gate: Fifo) -> None:
    """There what was pending fails, and the pool is closed or has workers of its own; here it goes on."""
    with make(method) as pool:
        with held(pool, begun, gate) as futures:
            waiting = pool.submit(tasks.double, 1)

            def look() -> bool:
                errors = [future.exception(DEADLINE) for future in [*futures, waiting]]
                try:
                    own = pool.submit(tasks.double, 1).result(DEADLINE)
                except PoolClosed:
                    own = 2
                pool.shutdown()
                return own == 2 and all(isinstance(error, PoolClosed) for error in errors)

            assert in_a_fork(look) == 0
        assert [future.result(DEADLINE) for future in [*futures, waiting]] == [0, 1, 2]
        assert works(pool)


def test_a_fork_has_its_own(method: str) -> None:
    """A fork may open a pool of its own beside its parent's, and its end harms neither."""
    if STANDARD and method != "fork":
        pytest.skip("multiprocessing's helpers can't be shared with a fork of this kind")

    def use() -> bool:
        with make(method) as own:
            return works(own)

    with make(method) as pool:
        assert works(pool)
        assert in_a_fork(use) == 0
        assert works(pool)


def test_a_fork_that_ends_in_order(tmp_path: Path, method: str, begun: Fifo, gate: Fifo) -> None:
    """A forked child that runs to the end of the script ends by itself and leaves its parent's pool alone."""
    path = script(
        tmp_path,
        """
import os
pool = make(method)
future = pool.submit(tasks.hold, 1, begun, gate)
while not future.running():
    pass
child = os.fork()
if child == 0:
    sys.exit(5)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
tasks.tell(begun, "reaped")
print(future.result(), pool.submit(tasks.double, 4).result())
""",
    )
    with started(path, method, begun.path, gate.path, tmp_path / "calls") as process:
        assert "reaped" in {begun.line(), begun.line()}
        gate.let_go()
        assert finish(process) == "5\n1 8\n"


def test_an_executor_in_a_worker(method: str) -> None:
    """A call may use an executor of its own, several at once; nothing is left of it."""
    with make(method) as pool:
        futures = [pool.submit(tasks.nested, method, [number, 5]) for number in range(4)]
        assert [future.result(DEADLINE) for future in futures] == [[2 * number, 10] for number in range(4)]


def test_an_executor_can_not_be_sent(method: str) -> None:
    """The pool itself, or a future, as an argument is a TypeError of that call, and harms nobody."""
    with make(method) as pool:
        for thing in (pool, pool.submit(tasks.double, 1)):
            with pytest.raises(TypeError):
                pool.submit(tasks.identity, thing).result(DEADLINE)
        assert works(pool)


def test_its_futures_outlive_it(method: str) -> None:
    """Values, errors and callbacks are there when the pool is long gone."""
    with make(method) as pool:
        futures = [pool.submit(tasks.double, 1), pool.submit(tasks.fail, "kept")]
    del pool
    gc.collect()
    assert concurrent.futures.wait(futures, 0).not_done == set()
    assert futures[0].result() == 2
    assert "this line is looked for" in shown(futures[1].exception())
    told: list[object] = []
    futures[0].add_done_callback(told.append)
    assert told == [futures[0]]

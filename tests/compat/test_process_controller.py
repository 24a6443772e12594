"""The face of process_controller: its document's examples, and what each method promises."""

from __future__ import annotations

import functools
import logging
import multiprocessing
import os
import queue
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError, Future
from pathlib import Path
from typing import Any

import pytest

from manyhands import PoolClosed, WorkerDied, parallel
from manyhands.compat import endings, process_controller
from manyhands.compat.pending import Pending
from manyhands.compat.process_controller import ProcessController
from tests.compat.tasks import describe, divide, double, end, meet, process_id, total
from tests.helpers import Fifo, ends_of, run_script, write_script

LOGGER = "manyhands.process_controller"


@pytest.fixture(autouse=True)
def _log_server_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The included logger writes to where the program is."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def control() -> Iterator[Callable[[Callable[..., Any]], ProcessController]]:
    """Makes controllers, and ends them after the test."""
    made: list[ProcessController] = []

    def make(function: Callable[..., Any]) -> ProcessController:
        made.append(ProcessController(function))
        return made[-1]

    yield make
    for controller in made:
        controller.exit()


Control = Callable[[Callable[..., Any]], ProcessController]


# -- the document ---------------------------------------------------------------------------------------------


@pytest.fixture
def document(tmp_path: Path) -> Path:
    """Where the document's module with a function for examples lies."""
    (tmp_path / "test_function.py").write_text("def test(dividend, divisor):\n    return dividend / divisor\n")
    return tmp_path


def test_the_documents_pool(document: Path) -> None:
    """The examples with a pool print what they say, with only the import changed."""
    script = write_script(
        document / "script.py",
        """
        import test_function
        from manyhands.compat import process_controller
        pc = process_controller.ProcessController(test_function.test)
        pc = process_controller.ProcessController(test_function.test, included_logger=False)
        pc.create_new_pool(2)
        pc.use_pool([[4,2],[12,3]])
        print(pc.get_pool_results())
        print(pc.pool_results.pop())
        pc.use_pool([[4,1],[4,2]])
        batch = pc.pool_cache.pop()
        print(batch[0].get())
        pc.use_pool([[4,0]])
        pc.get_pool_results()
        batch = pc.pool_results.pop()
        try:
            batch[0].get()
        except ZeroDivisionError as error:
            print(error)
        pc.quit()
        """,
    )
    assert run_script(script).splitlines() == [
        "[[[2.0, 4.0], 'Pool_Batch_ID: 0']]",
        "[[2.0, 4.0], 'Pool_Batch_ID: 0']",
        "[4.0, 2.0]",
        "division by zero",
    ]


def test_the_documents_processes(document: Path) -> None:
    """The examples with single processes print what they say, once what they ask for has arrived."""
    script = write_script(
        document / "script.py",
        """
        import test_function
        from manyhands.compat import process_controller
        pc = process_controller.ProcessController(test_function.test)
        pc.use_process([6,2])
        pc.processes[0].join()
        print(pc.get_process_results())
        print(pc.process_results.pop())
        pc.use_process([5,2])
        print(pc.process_queue.get())
        """,
    )
    assert run_script(script).splitlines() == ["[[3.0, 'Process-1']]"] * 2 + ["[2.5, 'Process-2']"]


def test_a_new_controller(control: Control) -> None:
    """The attributes that the document lists are there from the start."""
    pc = control(divide)
    assert pc.target_method is divide
    assert pc.pool is None
    assert not pc.pool_cache and not pc.pool_results and not pc.processes and not pc.process_results
    assert pc.process_queue.empty() and pc.process_queue.qsize() == 0
    assert isinstance(process_controller.log_server_dir, str)


# -- a pool ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "jobs", "results"),
    [
        (double, [1, [2], 3, (1, 2)], [2, 4, 6, (1, 2, 1, 2)]),
        (parallel(double), range(3), [0, 2, 4]),
        (lambda: "ran", [0, None, [1, 2], "filler"], ["ran"] * 4),
        (describe, [[], [5], 6], [(10, False), (5, False), (6, False)]),
        (total, [[1, 2], [], 3], [3, 0, 3]),
        (functools.partial(divide, 8), [2, 4], [4, 2]),
        (max, [[1, 2], [[3, 4]]], [2, 4]),
    ],
)
def test_entries_are_jobs(
    control: Control, function: Callable[..., Any], jobs: Iterable[Any], results: list[Any]
) -> None:
    """A list holds arguments, anything else is the only one, and a function without any takes fillers."""
    pc = control(function)
    pc.create_new_pool(1)
    pc.use_pool(jobs)
    pc.use_pool([])
    assert pc.get_pool_results() == [[results, "Pool_Batch_ID: 0"], [[], "Pool_Batch_ID: 1"]]


def test_batches_in_order(control: Control) -> None:
    """Batches have numbers in order; they are returned in order, and popped in that order."""
    pc = control(double)
    pc.create_new_pool(2)
    for number in range(4):
        pc.use_pool([number])
    oldest = pc.pool_cache.pop()
    assert (oldest[0].get(), oldest[1]) == ([0], "Pool_Batch_ID: 0")
    batches = pc.get_pool_results()
    assert batches == [[[2 * number], f"Pool_Batch_ID: {number}"] for number in (1, 2, 3)]
    assert not pc.pool_cache
    pc.use_pool([4])
    batches += pc.get_pool_results()
    assert [pc.pool_results.pop() for _ in range(4)] == batches
    assert pc.get_pool_results() == []


def test_pending(control: Control, begun: Fifo, gate: Fifo) -> None:
    """A batch is pending, without blocking, until its last job is done; then it has been successful."""
    pc = control(meet)
    pc.create_new_pool(2)
    pc.use_pool([[begun.path, gate.path]] * 2)
    pending, _ = pc.pool_cache[0]
    workers = {int(begun.line()), int(begun.line())}
    for _ in range(2):
        assert not pending.ready()
        with pytest.raises(multiprocessing.TimeoutError):
            pending.get(0)
        assert pending.wait(0) is None
        with pytest.raises(ValueError, match="not ready"):
            pending.successful()
        gate.let_go()  # one of them
    gate.let_go()
    assert pending.wait() is None
    assert pending.ready() and pending.successful()
    assert set(pending.get()) == set(pending.get(0)) == workers


def test_a_failed_batch(control: Control, caplog: pytest.LogCaptureFixture) -> None:
    """It is logged, its first error in order stays retrievable, and the batches beside it are whole."""
    pc = control(divide)
    pc.create_new_pool(2)
    pc.use_pool([[1, 1]])
    pc.use_pool([[1, 1], [1, 0], ["a", 1]])
    pc.use_pool([[2, 1]])
    first, failed, last = pc.get_pool_results()
    assert (first, last) == ([[1], "Pool_Batch_ID: 0"], [[2], "Pool_Batch_ID: 2"])
    assert failed[1] == "Pool_Batch_ID: 1"
    assert list(pc.pool_results) == [last, failed, first]
    assert failed[0].ready() and not failed[0].successful()
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            failed[0].get()
    (record,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert record.name == LOGGER
    assert "Pool_Batch_ID: 1" in record.getMessage()
    assert record.exc_info and isinstance(record.exc_info[1], ZeroDivisionError)


def test_a_job_that_raises_a_timeout(control: Control) -> None:
    """A job's own TimeoutError is its failure, and is not taken for the end of a wait."""

    def late() -> None:
        raise TimeoutError("of the job")

    pc = control(late)
    pc.create_new_pool(1)
    pc.use_pool([0, 0])
    ((failed, _),) = pc.get_pool_results()
    assert failed.ready()
    with pytest.raises(TimeoutError, match="of the job"):
        failed.get(0)


def test_cancelled_jobs() -> None:
    """A batch whose pool has cancelled a job is done, without success, and says which error that is."""
    done: Future[int] = Future()
    cancelled: Future[int] = Future()
    pending = Pending([done, cancelled])
    cancelled.cancel()
    assert not pending.ready()
    done.set_result(1)
    pending.wait()
    assert pending.ready() and not pending.successful()
    assert isinstance(pending.error(), CancelledError)
    with pytest.raises(CancelledError):
        pending.get()


def test_a_killed_worker(control: Control, tmp_path: Path) -> None:
    """A worker that dies fails its own job and batch; what else there is runs, and the pool works on."""
    pc = control(end)
    pc.create_new_pool(2)
    done = tmp_path / "done"
    pc.use_pool([["a", done], ["dies"], ["b", done], ["c", done]])
    pc.use_pool([["d", done], ["e", done]])
    failed, whole = pc.get_pool_results()
    with pytest.raises(WorkerDied, match="SIGKILL"):
        failed[0].get()
    assert len(whole[0]) == 2
    assert sorted(done.read_text().split()) == ["a", "b", "c", "d", "e"]
    pc.use_pool([["f"]])
    assert len(pc.get_pool_results()[0][0]) == 1


def test_one_pool_at_a_time(control: Control, begun: Fifo, gate: Fifo) -> None:
    """A new pool takes the place of the one before, whose jobs are finished first and keep their results."""
    pc = control(meet)
    pc.create_new_pool(1)
    first = pc.pool
    pc.use_pool([[begun.path, gate.path]] * 3)
    worker = int(begun.line())
    with ends_of([worker]) as wait:
        gate.let_go(3)
        pc.create_new_pool(2)
        wait()
    assert pc.pool and pc.pool is not first and pc.pool.workers == 2
    with pytest.raises(PoolClosed):
        parallel(double).options(backend=first).submit(1).result()
    assert pc.pool_cache[0][0].ready()
    assert pc.get_pool_results() == [[[worker] * 3, "Pool_Batch_ID: 0"]]


def test_a_pool_of_no_size(control: Control) -> None:
    """A wrong number of processes is told, by the argument's name, and leaves the pool that is there."""
    pc = control(double)
    pc.create_new_pool(1)
    pool = pc.pool
    wrong: list[Any] = [0, -1, "2", 1.5]
    for number in wrong:
        with pytest.raises((TypeError, ValueError), match=r"^num_processes must be .*, not "):
            pc.create_new_pool(number)
    assert pc.pool is pool
    pc.use_pool([1])
    assert pc.get_pool_results() == [[[2], "Pool_Batch_ID: 0"]]


def test_no_pool(control: Control) -> None:
    """Jobs without a pool are refused, and count for no batch."""
    pc = control(double)
    with pytest.raises(RuntimeError, match="create_new_pool"):
        pc.use_pool([1])
    assert not pc.pool_cache


def test_no_jobs(control: Control) -> None:
    """What is no list of jobs is told, by the argument's name, and counts for no batch."""
    pc = control(double)
    pc.create_new_pool(1)
    jobs: Any = 5
    with pytest.raises(TypeError, match=r"^jobs must be a list .*, not 5"):
        pc.use_pool(jobs)
    assert not pc.pool_cache


def test_a_function_that_cannot_be_sent(control: Control) -> None:
    """A function that holds what can't be pickled is told where it is first used."""
    lock = threading.Lock()
    pc = control(lambda: lock.locked())
    with pytest.raises(TypeError, match="lock"):
        pc.use_process([])
    pc.create_new_pool(1)
    with pytest.raises(TypeError, match="lock"):
        pc.use_pool([0])
    assert not pc.pool_cache and not pc.processes


def test_jobs_that_raise_as_they_are_listed(control: Control, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of the iterable of jobs reaches the caller before any job is handed over."""

    def jobs() -> Iterator[int]:
        yield 1
        raise LookupError("no more")

    pc = control(double)
    pc.create_new_pool(1)
    with monkeypatch.context() as patch:
        patch.setattr(pc, "_on_pool", None)
        with pytest.raises(LookupError):
            pc.use_pool(jobs())
    assert not pc.pool_cache
    pc.use_pool([3])
    assert pc.get_pool_results() == [[[6], "Pool_Batch_ID: 0"]]


def test_an_interrupted_wait(control: Control, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch whose waiting is interrupted is there for the next call, and stays the oldest."""
    pc = control(double)
    pc.create_new_pool(1)
    pc.use_pool([1])
    pc.use_pool([2])
    with monkeypatch.context() as patch:
        patch.setattr(pc.pool_cache[-1][0], "wait", lambda: signal.default_int_handler(signal.SIGINT, None))
        with pytest.raises(KeyboardInterrupt):
            pc.get_pool_results()
    assert [batch[0] for batch in pc.get_pool_results()] == [[2], [4]]


async def waits() -> None: ...


@pytest.mark.parametrize("function", [3, None, waits])
def test_no_function(function: Any) -> None:
    """What is no function is told at once, by the argument's name, and nothing is looked after."""
    with pytest.raises(TypeError, match=r"^target_method must be a "):
        ProcessController(function)
    assert not endings._open


# -- single processes -----------------------------------------------------------------------------------------


def test_single_processes(control: Control) -> None:
    """Each job has a process of its own, which ends with it, and a name by its number."""
    pc = control(process_id)
    seen = []
    for _ in range(3):
        pc.use_process("filler")
        seen.append(pc.process_queue.get(timeout=90))
    assert [name for _, name in seen] == ["Process-1", "Process-2", "Process-3"]
    assert len({pid for pid, _ in seen} | {os.getpid()}) == 4
    pc.processes[-1].join()
    for pid, _ in seen:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_arguments_of_a_single_process(control: Control) -> None:
    """A list holds arguments, anything else is the only one; keywords are passed on."""
    pc = control(describe)
    calls: list[tuple[Any, dict[str, Any]]] = [
        ([4], {"key": "x"}),
        (5, {"key": None}),
        ([], {"number": 7}),
    ]
    for args, kwargs in calls:
        pc.use_process(args, **kwargs)
        pc.processes[-1].join()
    results = pc.get_process_results()
    assert [result for result, _ in results] == [(4, "x"), (5, None), (7, False)]


def test_no_single_process_beside_a_pool(control: Control) -> None:
    """Single processes are refused while there is a pool, and take no number."""
    pc = control(double)
    pc.create_new_pool(1)
    with pytest.raises(RuntimeError, match="there is a pool"):
        pc.use_process(1)
    assert not pc.processes
    pc.quit()
    pc.use_process(1)
    assert pc.process_queue.get(timeout=90) == [2, "Process-1"]


@pytest.mark.parametrize(("how", "error"), [("raises", LookupError), ("dies", WorkerDied)])
def test_a_single_process_that_fails(
    control: Control, caplog: pytest.LogCaptureFixture, how: str, error: type[Exception]
) -> None:
    """The failure is logged, arrives under the process' name, and fails no other."""
    pc = control(end)
    pc.use_process([how])
    pending, name = pc.process_queue.get(timeout=90)
    assert name == "Process-1"
    with pytest.raises(error):
        pending.get()
    (record,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert record.name == LOGGER and "Process-1" in record.getMessage()
    pc.use_process(["returns"])
    assert isinstance(pc.process_queue.get(timeout=90)[0], int)


def test_process_results_do_not_wait(control: Control, begun: Fifo, gate: Fifo) -> None:
    """What has arrived is returned and kept, in the order of arrival; what runs is not waited for."""
    pc = control(meet)
    pc.use_process([begun.path, gate.path])
    worker = int(begun.line())
    assert pc.get_process_results() == []
    assert not pc.process_results
    gate.let_go()
    pc.processes[0].join()
    assert pc.process_queue.qsize() == 1
    assert pc.get_process_results() == [[worker, "Process-1"]]
    assert list(pc.process_results) == [[[worker, "Process-1"]]]
    assert pc.process_queue.empty()
    with pytest.raises(queue.Empty):
        pc.process_queue.get_nowait()


def test_the_process_list(control: Control, begun: Fifo, gate: Fifo) -> None:
    """Living processes are kept in the list; those that have ended are forgotten, at the next start too."""
    pc = control(meet)
    pc.use_process([begun.path, gate.path])
    pc.use_process([begun.path, gate.path])
    begun.line(), begun.line()
    first, second = pc.processes
    assert (first.name, second.name) == ("Process-1", "Process-2")
    pc.clean_process_list()
    assert list(pc.processes) == [first, second]
    second.terminate()
    second.join()
    assert first.is_alive() and not second.is_alive()
    assert list(pc.processes) == [first, second]
    pc.clean_process_list()
    assert list(pc.processes) == [first]
    gate.let_go()
    first.join()
    pc.use_process([begun.path, gate.path])
    assert [process.name for process in pc.processes] == ["Process-3"]
    gate.let_go()


# -- the end --------------------------------------------------------------------------------------------------


@pytest.fixture(params=["pool", "processes"])
def busy(
    request: pytest.FixtureRequest, control: Control, begun: Fifo, gate: Fifo
) -> tuple[ProcessController, list[int]]:
    """A controller with two jobs that have begun, and their processes; with a pool, a third waits."""
    pc = control(meet)
    if request.param == "pool":
        pc.create_new_pool(2)
        pc.use_pool([[begun.path, gate.path]] * 3)
    else:
        pc.use_process([begun.path, gate.path])
        pc.use_process([begun.path, gate.path])
    return pc, [int(begun.line()), int(begun.line())]


def results_of(pc: ProcessController) -> list[int]:
    """All results, of whichever kind."""
    ids = [pid for batch in pc.get_pool_results() for pid in batch[0]]
    return ids or [pid for pid, _ in pc.get_process_results()]


def test_quit(busy: tuple[ProcessController, list[int]], gate: Fifo) -> None:
    """It waits for what is pending, ends all processes, and leaves the results; the controller starts anew."""
    pc, workers = busy
    pc.processes.clear()  # what users take out of the list is waited for all the same
    with ends_of(workers) as wait:
        gate.let_go(3)
        pc.quit()
        wait()
    assert pc.pool is None and not endings._open
    assert set(results_of(pc)) == set(workers)
    pc.quit()  # there is nothing to do any more
    gate.let_go()
    pc.create_new_pool(1)
    assert endings._open
    pc.use_pool([[os.devnull, gate.path]])
    assert len(results_of(pc)) == 1


def test_quit_at_once(control: Control, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job that is still on its way to the pool when quit is called is done."""
    waited_for = threading.Event()

    class SlowToPickle:
        def __reduce__(self) -> Any:
            if threading.current_thread() is not threading.main_thread():
                waited_for.wait(90)
            return int, (4,)

    pc = control(double)
    pc.create_new_pool(1)
    pc.use_pool([SlowToPickle()])
    pending = pc.pool_cache[0][0]
    wait = pending.wait

    def told(timeout: float | None = None) -> None:
        waited_for.set()
        wait(timeout)

    monkeypatch.setattr(pending, "wait", told)
    pc.quit()
    assert pc.get_pool_results() == [[[8], "Pool_Batch_ID: 0"]]


def test_clear(busy: tuple[ProcessController, list[int]], gate: Fifo) -> None:
    """It does what quit does, and no result is left, retrieved or not."""
    pc, workers = busy
    pc.process_results.append([])
    pc.pool_results.append([])
    with ends_of(workers) as wait:
        gate.let_go(3)
        pc.clear()
        wait()
    assert pc.pool is None and not endings._open
    assert not pc.pool_cache and not pc.pool_results and not pc.processes and not pc.process_results
    assert pc.process_queue.empty()


def test_exit(busy: tuple[ProcessController, list[int]], caplog: pytest.LogCaptureFixture) -> None:
    """It ends what runs and what waits, at once; who waits for results is told so."""
    pc, workers = busy
    pc.processes.clear()
    with ends_of(workers) as wait:
        pc.exit()
        wait()
    assert pc.pool is None and not endings._open
    assert not caplog.records  # nobody needs to be told of what was ended on purpose
    failed = [batch[0] for batch in pc.get_pool_results()] or [pair[0] for pair in pc.get_process_results()]
    assert failed
    for pending in failed:
        with pytest.raises((CancelledError, PoolClosed, WorkerDied)):
            pending.get()
    pc.exit()  # there is nothing to do any more


def test_exit_while_another_thread_waits(busy: tuple[ProcessController, list[int]]) -> None:
    """A thread that waits for results goes on when another one calls exit."""
    pc, _ = busy
    got: queue.SimpleQueue[Any] = queue.SimpleQueue()
    wait_for_it = pc.get_pool_results if pc.pool else pc.process_queue.get
    thread = threading.Thread(target=lambda: got.put(wait_for_it()))
    thread.start()
    pc.exit()
    thread.join(90)
    assert got.get(timeout=90)


def test_exit_as_a_handler(busy: tuple[ProcessController, list[int]]) -> None:
    """It may be installed as the handler of a signal, and then ends all as well."""
    pc, workers = busy
    earlier = signal.signal(signal.SIGUSR1, pc.exit)
    try:
        with ends_of(workers) as wait:
            signal.raise_signal(signal.SIGUSR1)
            wait()
    finally:
        signal.signal(signal.SIGUSR1, earlier)


def test_a_handler_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the end needs a lock that the interrupted code holds, a handler returns, and the end comes later."""
    monkeypatch.setattr(endings, "SIGNAL_SECONDS", 0.0)
    lock, ended = threading.Lock(), threading.Event()

    class Locked:
        def quit(self) -> None: ...

        def end_now(self) -> None:
            with lock:
                ended.set()

    with lock:
        endings.end_aside([Locked()])
        assert not ended.is_set()
    assert ended.wait(90)
    endings.release(Locked())  # lets the helper go


def test_outside_of_the_main_thread() -> None:
    """Made and used in another thread, it works, and leaves handlers of signals alone."""
    before = [signal.getsignal(signum) for signum in endings.SIGNALS]
    seen: list[Any] = []

    def use() -> None:
        pc = ProcessController(double)
        pc.create_new_pool(1)
        pc.use_pool([1, 2])
        seen.append([signal.getsignal(signum) for signum in endings.SIGNALS])
        seen.append(pc.get_pool_results())
        pc.quit()
        pc.use_process(3)
        seen.append(pc.process_queue.get(timeout=90))
        pc.exit()

    thread = threading.Thread(target=use)
    thread.start()
    thread.join()
    assert seen == [before, [[[2, 4], "Pool_Batch_ID: 0"]], [6, "Process-1"]]
    assert not endings._open


def test_handlers_come_and_go() -> None:
    """While any controller is open SIGTERM is looked after; then the earlier handler is back."""
    before = signal.getsignal(signal.SIGTERM)
    first, second = ProcessController(double), ProcessController(double)
    assert signal.getsignal(signal.SIGTERM) is not before
    assert endings._helper is not None  # before it is needed: at the end of a program no thread can be started
    first.quit()
    assert signal.getsignal(signal.SIGTERM) is not before
    second.create_new_pool(1)
    second.clear()
    assert signal.getsignal(signal.SIGTERM) is before
    second.create_new_pool(1)  # it is open again
    assert signal.getsignal(signal.SIGTERM) is not before
    second.exit()
    assert signal.getsignal(signal.SIGTERM) is before
    assert not endings._hooks and endings._helper is None


def test_a_later_handler_stays() -> None:
    """A handler that the program installs over the controller's is not taken away at the end."""

    def later(*_: object) -> None: ...

    before = signal.getsignal(signal.SIGTERM)
    pc = ProcessController(double)
    signal.signal(signal.SIGTERM, later)
    try:
        pc.quit()
        assert signal.getsignal(signal.SIGTERM) is later
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize("included", [True, False])
def test_logging(caplog: pytest.LogCaptureFixture, tmp_path: Path, included: bool) -> None:
    """With or without a log server, messages go to one logger of the standard library, whose settings stay."""
    pc = ProcessController(double, included_logger=included)
    assert pc.included_logger is included
    for level, number in ((logging.WARNING, 0), (logging.INFO, 2)):
        caplog.set_level(level)
        pc.create_new_pool(1)
        pc.quit()
        assert [record.name for record in caplog.records] == [LOGGER] * number
    assert logging.getLogger(LOGGER).level == logging.NOTSET and not logging.getLogger(LOGGER).handlers
    assert [path.name for path in tmp_path.iterdir()] == ["process_controller.log"] * included


def test_what_a_script_needs(tmp_path: Path) -> None:
    """Functions of a script without a main guard work, and the package itself does not load this face."""
    script = write_script(
        tmp_path / "script.py",
        """
        import sys
        import manyhands
        assert not any(name.startswith("manyhands.compat") for name in sys.modules)
        from manyhands.compat.process_controller import ProcessController
        pc = ProcessController(lambda x: x + 1)
        pc.create_new_pool(2)
        pc.use_pool(range(3))
        print(pc.get_pool_results())
        """,
    )
    assert run_script(script) == "[[[1, 2, 3], 'Pool_Batch_ID: 0']]\n"

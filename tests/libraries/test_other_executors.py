"""What is special about somebody else's executor: it is bounded, it is theirs, it may break, and can't do all."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from itertools import count
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from manyhands import Controller, Failure, PoolBroken, PoolClosed, WorkerDied, parallel, retry_on
from manyhands.calls import Call, Done
from manyhands.handler.dask import DaskEngine
from manyhands.handler.engines import ThreadsEngine
from manyhands.handler.executors import ExecutorRunner
from manyhands.outcome import Answered, Cancelled, Event
from tests.contract import tasks
from tests.helpers import DEADLINE, Fifo, ends_of, lines, run_script, write_script
from tests.libraries.clusters import dask_cluster


def processes(workers: int = 2) -> ProcessPoolExecutor:
    """An executor that may be broken."""
    return ProcessPoolExecutor(workers, mp_context=get_context("spawn"))


class InThisThread(Executor):
    """Runs calls as they are submitted, of any number at a time, and counts what it is given."""

    def __init__(self) -> None:
        self.bytes: list[int] = []
        self.broken: Exception | None = None

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """A future that is done."""
        self.bytes.append(sum(len(arg) for arg in args if isinstance(arg, bytes)))
        future: Future[Any] = Future()
        try:
            if self.broken is not None:
                raise self.broken
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


class Bounded(ThreadPoolExecutor):
    """Notes how many calls were in it at most."""

    def __init__(self, workers: int) -> None:
        super().__init__(workers)
        self.inside = self.most = self.calls = 0
        self.lock = threading.Lock()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Counts."""
        with self.lock:
            self.calls += 1
            self.inside += 1
            self.most = max(self.most, self.inside)
        future = super().submit(fn, *args, **kwargs)
        future.add_done_callback(self.done)
        return future

    def done(self, _: object) -> None:
        """One less."""
        with self.lock:
            self.inside -= 1


# -- options ----------------------------------------------------------------------------------------------------


REFUSED: list[tuple[str, Any]] = [
    ("timeout", 1.0),
    ("threads", 2),
    ("start_method", "spawn"),
    ("initializer", print),
    ("finalizer", print),
    ("max_tasks_per_worker", 5),
    ("max_memory_per_worker", 1 << 30),
    ("max_shared_memory", 0),
    ("readonly", True),
]


@pytest.mark.parametrize(("option", "value"), REFUSED)
@pytest.mark.parametrize("address", ["dask://nowhere:8786", None])
def test_what_cannot_be_had_is_refused(
    address: str | None, option: str, value: Any, thread_pool: Executor
) -> None:
    """At once, wherever the options stand, by the names of the option and the backend."""
    backend = address or thread_pool
    name = f"'{address}'" if address else "a ThreadPoolExecutor"
    for refused in (
        lambda: tasks.double.map([1], backend=backend, **{option: value}),
        lambda: tasks.double.options(**{option: value}).options(backend=backend),
        lambda: parallel(backend=backend, **{option: value}),
    ):
        with pytest.raises(ValueError, match=rf"^{option} needs .* backend={name}"):
            refused()


def test_why_it_cannot_be_had(thread_pool: Executor) -> None:
    """The reason is true of the backend: threads are given the very objects, and there are no processes."""
    untrue = ("processes", "own arguments", "shares no memory")
    for option, value in REFUSED:
        with pytest.raises(ValueError, match=f"^{option} ") as told:
            tasks.double.options(backend=thread_pool, **{option: value})
        reason = str(told.value).partition(", which ")[2].replace("starts no processes", "")
        assert reason or option == "start_method"
        assert not any(word in reason for word in untrue), reason
    with ProcessPoolExecutor(1) as pool, pytest.raises(ValueError, match="gives each call its own arguments"):
        tasks.double.options(backend=pool, readonly=True)


@pytest.mark.parametrize(
    ("backend", "kind"),
    [("dask", ValueError), ("dask://", ValueError), ("dask://host", ValueError), ("tcp://a:1", ValueError)]
    + [(kind, TypeError) for kind in (5, sys, ThreadPoolExecutor)],
)
def test_what_is_no_backend_is_told(backend: Any, kind: type[Exception]) -> None:
    """With what may be one."""
    with pytest.raises(
        kind,
        match=r"^backend must be None .worker processes., 'threads', 'inline', 'dask://host:port', a Controller",
    ):
        tasks.double.options(backend=backend)


def test_a_controller_is_none_of_them(controller: Controller) -> None:
    """It can do all that this library's workers can."""
    assert list(tasks.double.map([1], backend=controller, timeout=DEADLINE, readonly=True)) == [2]


def test_dask_is_loaded_when_it_is_asked_for(tmp_path: Path) -> None:
    """By its address or its client, and by nothing else; where it is missing, the error says what to install."""
    script = write_script(
        tmp_path / "script.py",
        """
        from concurrent.futures import ThreadPoolExecutor
        from manyhands import parallel

        double = parallel(lambda x: 2 * x)
        with ThreadPoolExecutor(2) as pool:
            assert list(double.map(range(3), backend=pool)) == [0, 2, 4]
        double.options(backend="dask://127.0.0.1:1")
        assert not {"dask", "distributed"} & set(sys.modules)
        sys.modules["distributed"] = None
        try:
            double.map([1], backend="dask://127.0.0.1:1")
        except ImportError as error:
            assert "pip install 'manyhands[dask]'" in str(error)
            print("told")
        """,
    )
    assert run_script(script) == "told\n"


@pytest.mark.parametrize("on_dask", [False, True])
def test_functions_of_a_script(on_dask: bool, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """They, their globals and their classes travel by value, and what was submitted is finished at the end."""
    script = write_script(
        tmp_path / "script.py",
        """
        import os
        from concurrent.futures import ProcessPoolExecutor
        from pathlib import Path
        from manyhands import parallel, retry_on

        offset = 5

        class Pair:
            def __init__(self, one, two):
                self.one, self.two = one, two

        @parallel
        @retry_on(OSError, attempts=2, wait=0)
        def add(pair):
            return Pair(pair.one + offset, os.getpid())

        @parallel
        def late(number, directory):
            Path(directory, str(number)).touch()

        if __name__ == "__main__":
            pool = sys.argv[2] or ProcessPoolExecutor(2)
            for n, pair in enumerate(add.map([Pair(n, 0) for n in range(20)], backend=pool)):
                assert type(pair) is Pair and pair.one == n + 5 and pair.two != os.getpid()
            for n in range(40):
                late.options(backend=pool).submit(n, sys.argv[1])
        """,
    )
    late = tmp_path / "late"
    late.mkdir()
    run_script(script, late, request.getfixturevalue("dask_address") if on_dask else "")
    assert len(os.listdir(late)) == 40


# -- what is sent -----------------------------------------------------------------------------------------------


def test_no_more_is_in_it_than_it_can_use() -> None:
    """However many calls wait; short ones go together."""
    with Bounded(3) as pool:
        assert list(tasks.double.map(range(3000), backend=pool)) == [2 * x for x in range(3000)]
        assert pool.most <= 2 * 3 and pool.calls < 3000
        pool.most = 0
        assert list(tasks.double.map(range(300), backend=pool, workers=1)) == [2 * x for x in range(300)]
        assert pool.most <= 2
        pool.calls = 0
        assert list(tasks.double.map(range(300), backend=pool, chunksize=1)) == [2 * x for x in range(300)]
        assert pool.calls == 300


def test_calls_that_run_as_they_are_submitted() -> None:
    """An executor may do so, and many calls don't lead ever deeper."""
    pool = InThisThread()
    assert list(tasks.double.map(range(3000), backend=pool, chunksize=1)) == [2 * x for x in range(3000)]


def test_a_large_work_is_sent_to_each_worker_once() -> None:
    """What all calls have in common goes with the first ones only."""
    pool = InThisThread()
    fixed = os.urandom(1 << 20)
    tail = parallel(lambda n, text: text[n])
    assert list(tail.map(range(50), args=(fixed,), backend=pool, chunksize=1, workers=2)) == list(fixed[:50])
    assert [size > 1 << 20 for size in pool.bytes] == [True] * 2 + [False] * 48


def test_a_work_that_was_forgotten_is_sent_again() -> None:
    """A process that has not got it, or not any more, asks for it."""
    from manyhands.workers import far

    pool = InThisThread()
    fixed = os.urandom(1 << 20)
    tail = parallel(lambda n, text: text[n])
    with tail.map(
        iter(range(50)), args=(fixed,), backend=pool, chunksize=1, workers=1, buffersize=1
    ) as results:
        assert [next(results) for _ in range(10)] == list(fixed[:10])
        far._kept.clear()
        assert list(results) == list(fixed[10:50])
    assert sum(size > 1 << 20 for size in pool.bytes) == 2


def test_a_work_is_unpickled_once() -> None:
    """And not for each call."""
    pool = InThisThread()
    loaded.clear()
    counted = parallel(Counted())
    assert list(counted.map(range(20), backend=pool, chunksize=1)) == list(range(20))
    assert len(loaded) == 1


loaded: list[str] = []


class Counted:
    """A function that says when it is unpickled."""

    __name__ = "counted"

    def __call__(self, x: int) -> int:
        return x

    def __reduce__(self) -> Any:
        return _load, ()


def _load() -> Counted:
    loaded.append("once")
    return Counted()


def test_what_waits_behind_a_long_call_goes_elsewhere(begun: Fifo, gate: Fifo) -> None:
    """Calls that were sent together with one that turns out to be long are run by others when it has ended."""
    with ThreadPoolExecutor(2) as pool:
        slow = parallel(lambda x: tasks.meet(x, begun.path, gate.path) if x == 500 else x)
        with slow.map(range(1000), backend=pool, buffersize=240) as results:  # so chunks of 60 at most
            values = [next(results) for _ in range(400)]
            begun.line()
            gate.let_go()
            assert [*values, *results] == list(range(1000))


def test_the_executor_is_its_owners() -> None:
    """Maps end, it goes on."""
    with ThreadPoolExecutor(2) as pool:
        with tasks.double.map(count(), backend=pool) as results:
            assert next(results) == 0
        assert pool.submit(len, "abc").result(DEADLINE) == 3


def test_cancelled_calls(begun: Fifo, gate: Fifo) -> None:
    """A call that nobody has begun is dropped, one that runs is finished."""

    def work(call: Call) -> Done[int]:
        return Done(tasks.meet(*call.args, begun.path, gate.path))

    with ThreadPoolExecutor(1) as pool:
        runner = ExecutorRunner(ThreadsEngine(pool, work, None))
        for ticket in range(3):
            runner.submit(ticket, Call((ticket,)))
        assert begun.line().startswith("0 ")
        runner.cancel(0)
        runner.cancel(1)
        gate.let_go(3)
        events: list[Event] = []
        while len(events) < 3:
            events += runner.events(DEADLINE)
        runner.close()
    assert [type(event) for event in sorted(events)] == [Answered, Cancelled, Answered]
    assert begun.line().startswith("2 ") and begun.empty()


# -- how it ends --------------------------------------------------------------------------------------------------


def test_closed_before_the_executor_came_to_it(gate: Fifo, tmp_path: Path) -> None:
    """What the executor was given and has not begun is taken back."""
    calls = tmp_path / "calls"
    with processes(1) as pool:
        owners = [pool.submit(tasks.wait_for, gate.path) for _ in range(4)]  # of which it takes in three
        tasks.write_call.map(range(5), args=(str(calls),), backend=pool).close()
        gate.let_go(4)
        for future in owners:
            future.result(DEADLINE)
        assert pool.submit(len, "abc").result(DEADLINE) == 3
    assert not calls.exists()


@pytest.mark.parametrize("cancels", [False, True])
def test_shut_down_in_the_middle(cancels: bool, begun: Fifo, gate: Fifo) -> None:
    """What runs is finished, what is left fails, item by item."""
    with ThreadPoolExecutor(2) as pool:
        results = tasks.meet.map(range(20), args=(begun.path, gate.path), on_error="return", backend=pool)
        begun.line()
        begun.line()
        pool.shutdown(wait=False, cancel_futures=cancels)
        gate.let_go(20)
        values = list(results)
    assert values[:2] == [0, 1] and len(values) == 20
    assert {type(value.error) for value in values[2:] if isinstance(value, Failure)} == {PoolClosed}
    with pytest.raises(PoolClosed, match="ThreadPoolExecutor takes no more calls"):
        list(tasks.double.map([1], backend=pool))
    assert isinstance(tasks.double.options(backend=pool).submit(1).exception(DEADLINE), PoolClosed)


def test_a_process_that_dies_breaks_its_pool(gate: Fifo) -> None:
    """What was in it fails with WorkerDied, what is left with PoolBroken: one outcome each, and those before stay."""
    path = gate.path

    @parallel
    def die_or_wait(x: int) -> int:
        if x == 20:
            os.kill(os.getpid(), signal.SIGKILL)
        if x > 20:
            tasks.wait_for(path)
        return x

    with processes() as pool:
        begin = time.monotonic()
        outcomes = list(die_or_wait.map(range(30), chunksize=1, backend=pool).outcomes())
        took = time.monotonic() - begin
        assert [outcome.index for outcome in outcomes] == list(range(30))
        kinds = [type(outcome.failure.error) if outcome.failure else int for outcome in outcomes]
        assert int in kinds[:20] and kinds[20] is WorkerDied and kinds[-1] is PoolBroken
        assert kinds.count(WorkerDied) <= 4 and int not in kinds[20:]
        died = outcomes[20].failure.error
        assert 0 < died.seconds == outcomes[20].attempts[0].seconds <= took
        assert died.index == 20 and died.item == 20 and "nobody can tell whose fault" in str(died)
        assert "takes no more calls" in str(outcomes[29].failure.error)
        with pytest.raises(PoolBroken):
            list(tasks.double.map([1], backend=pool))


def test_a_broken_pool_ends_an_endless_map() -> None:
    """Where failures are skipped, the map says that there will never be another value."""
    with processes() as pool, pytest.raises(PoolBroken):
        for _ in tasks.die.map(count(), args=(20, "exit"), on_error="skip", backend=pool):
            pass


def test_submitted_to_a_pool_that_breaks() -> None:
    """Each future is told; another executor goes on."""
    with processes() as pool:
        die = tasks.die.options(backend=pool)
        futures = [die.submit(n, 3, "kill") for n in range(10)]
        errors = [future.exception(DEADLINE) for future in futures]
        assert type(errors[3]) is WorkerDied
        assert {type(error) for error in errors} <= {type(None), WorkerDied, PoolBroken}
        assert type(die.submit(1, 3, "kill").exception(DEADLINE)) is PoolBroken
    with processes() as pool:
        assert die.options(backend=pool).submit(1, 3, "kill").result(DEADLINE) == 1


def test_where_the_library_is_missing() -> None:
    """What the far side lacks is said, not what its unpickling says."""
    pool = InThisThread()
    pool.broken = ModuleNotFoundError("No module named 'manyhands'", name="manyhands")
    with pytest.raises(PoolBroken, match=r"^manyhands must be installed where .*InThisThread runs its calls"):
        list(tasks.double.map([1], backend=pool))


def test_what_an_executor_raises_of_its_own() -> None:
    """It is the failure of what was sent."""
    pool = InThisThread()
    pool.broken = OSError("the tape is torn")
    _, failures = tasks.double.map([1, 2], backend=pool).collect()
    assert [str(failure.error) for failure in failures] == ["the tape is torn"] * 2
    assert any("InThisThread in place of an answer" in note for note in failures[0].error.__notes__)


# -- Dask ---------------------------------------------------------------------------------------------------------


def test_a_worker_of_dask_that_is_killed(dask_address: str, begun: Fifo, gate: Fifo) -> None:
    """In the middle of a map: its call runs again elsewhere, and every item has its value."""
    with tasks.meet.map(range(6), args=(begun.path, gate.path), backend=dask_address) as results:
        pids = dict(map(int, line.split()) for line in (begun.line(), begun.line()))
        assert set(pids) == {0, 1} and len(set(pids.values())) == 2
        with ends_of([pids[0]]) as wait:
            os.kill(pids[0], signal.SIGKILL)
            wait()
        gate.let_go(10)
        assert list(results) == list(range(6))
        begun_again = Counter(int(begun.line().split()[0]) for _ in range(5))
    assert begun_again == Counter(range(6)) - Counter([1])


def test_a_call_that_kills_its_workers_in_dask(dask_address: str) -> None:
    """It fails when Dask gives up; no other does, and nothing is left of it."""
    with tasks.die.map(range(30), args=(7, "kill"), backend=dask_address) as results:
        outcomes = list(results.outcomes())
    assert [outcome.index for outcome in outcomes if outcome.failure] == [7]
    error = outcomes[7].failure.error
    assert type(error) is WorkerDied and error.index == 7 and "each worker that ran it ended" in str(error)
    assert list(tasks.double.map(range(10), backend=dask_address)) == [2 * n for n in range(10)]


def test_a_death_in_dask_may_be_tried_again(dask_address: str, tmp_path: Path) -> None:
    """WorkerDied has its budget there, too."""
    die_twice = parallel(retry_on(WorkerDied, attempts=2, wait=0)(_die_at_first))
    begin = time.monotonic()
    (outcome,) = die_twice.map([str(tmp_path / "calls")], backend=dask_address).outcomes()
    assert 0 < outcome.attempts[0].seconds <= time.monotonic() - begin
    assert outcome.value == 3 and [attempt.type_name for attempt in outcome.attempts] == [
        "manyhands.errors.WorkerDied"
    ]


def _die_at_first(file: str) -> int:
    """Ends its process when it runs with others, and when it runs alone."""
    tasks.tell(file, os.getpid())
    calls = len(lines(Path(file)))
    if calls <= 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return calls


def test_a_scheduler_that_is_gone(tmp_path: Path, begun: Fifo, gate: Fifo) -> None:
    """The map says so, whatever it does with errors, and does not wait; so do the next one and what is submitted."""
    with dask_cluster(tmp_path, failures=0) as (address, pid):
        meet = tasks.meet.options(backend=address)
        results = meet.map(range(60), args=(begun.path, gate.path), on_error="return")
        pids = [int(begun.line().split()[1]) for _ in range(2)]
        future = meet.submit(0, begun.path, gate.path)
        with ends_of(pids) as wait:
            os.kill(pid, signal.SIGKILL)
            with pytest.raises(PoolBroken, match=r"Dask at tcp://.* can't be reached"):
                list(results)
            assert type(future.exception(DEADLINE)) is PoolBroken
            gate.let_go(2)
            wait()
        with pytest.raises(PoolBroken):
            list(tasks.double.map([1], backend=address))


class _Client:
    """What the engine asks a client for: who works."""

    status = "running"
    scheduler = SimpleNamespace(address="tcp://here:1")

    def __init__(self) -> None:
        self.threads: dict[str, int] = {}

    def nthreads(self, asynchronous: bool = False) -> Any:
        """Threads by worker."""

        async def later() -> dict[str, int]:
            return self.threads

        return later() if asynchronous else self.threads


class _AtOnce(DaskEngine):
    """Hears from its client at once."""

    def _on_loop(self, coroutine: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(asyncio.run(coroutine))
        return future


def test_nobody_is_there(caplog: pytest.LogCaptureFixture) -> None:
    """Calls that wait five seconds while there are no workers are told of once, with the address."""
    seconds = [0.0]
    client = _Client()
    engine = _AtOnce(client, b"", False, None, "double", clock=lambda: seconds[0])

    def look(*at: float) -> int:
        for seconds[0] in at:
            assert engine.lost() is None
        return len(caplog.records)

    assert look(0, 1, 2, 3, 4) == 0
    client.threads = {"a": 1}
    assert look(5, 6) == 0, "somebody came"
    client.threads = {}
    assert look(8, 9, 10, 11) == 0
    assert look(100, 101, 102, 103, 104, 105) == 0, "nothing waited meanwhile"
    assert look(106, 107) == 1
    assert look(*range(108, 130)) == 1
    (told,) = caplog.records
    assert told.getMessage().startswith(
        "Dask at tcp://here:1 has had no workers for 5 seconds; calls of double"
    )
    assert (told.name, told.levelname) == ("manyhands", "WARNING")


def test_maps_of_one_client_end_by_themselves(dask_client: Any) -> None:
    """One that is left while its results are fetched takes none from another."""
    with parallel(lambda n: bytes(n)).map(range(1000, 1100), chunksize=1, backend=dask_client) as others:
        for n, value in enumerate(others):
            assert len(value) == 1000 + n
            if n % 10 == 0:
                with parallel(lambda n: bytes(n)).map(
                    [1 << 20] * 8, chunksize=1, backend=dask_client
                ) as results:
                    next(results)


def test_a_client_that_is_closed(dask_address: str, begun: Fifo, gate: Fifo) -> None:
    """Its maps end with an error."""
    from distributed import Client

    client = Client(dask_address.replace("dask://", "tcp://"), set_as_default=False)
    results = tasks.meet.map(range(60), args=(begun.path, gate.path), on_error="skip", backend=client)
    begun.line()
    client.close()
    with pytest.raises(PoolBroken):
        list(results)
    gate.let_go(2)
    with pytest.raises(PoolBroken):
        tasks.double.map([1], backend=client)


def test_an_asynchronous_client_is_refused() -> None:
    """A map waits for its results, and would wait for ever in that loop."""
    from distributed import Client

    class Asynchronous(Client):
        """What a user may hand over, without a scheduler."""

        def __init__(self) -> None:
            self._asynchronous = True

        def __del__(self) -> None:
            pass

    with pytest.raises(TypeError, match="backend can't be an asynchronous Client"):
        tasks.double.map([1], backend=Asynchronous())


def test_where_no_scheduler_answers() -> None:
    """It is told as the map begins."""
    import dask

    with (
        dask.config.set({"distributed.comm.timeouts.connect": "100ms"}),
        pytest.raises(PoolBroken, match="no Dask"),
    ):
        tasks.double.map([1], backend="dask://127.0.0.1:1")

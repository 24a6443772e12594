"""Objects that fail on their way to a worker and back: one call fails, and nobody waits for ever."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from manyhands import RemoteError, WorkerDied
from tests.contract import executor_tasks as tasks
from tests.contract.executors import METHODS, held, is_or_names, make, ours, works
from tests.helpers import DEADLINE, Fifo, shown


@pytest.fixture(scope="module", params=METHODS)
def pool(request: pytest.FixtureRequest) -> Iterator[Any]:
    """An executor with two workers, which the tests of this module share: no fault of one is another's."""
    with make(request.param) as executor:
        yield executor


def error_of(pool: Any, *call: Any) -> BaseException | None:
    """What a call fails with, at its submit or in its future, between others that succeed."""
    before = pool.submit(tasks.double, 1)
    try:
        future = pool.submit(*call)
    except BaseException as error:
        failed: BaseException | None = error
    else:
        after = pool.submit(tasks.double, 2)
        try:
            failed = future.exception(DEADLINE)
        except BaseException as error:  # as it is unpickled
            failed = error
        assert future.done() and not future.running() and not future.cancelled()
        assert after.result(DEADLINE) == 4
    assert before.result(DEADLINE) == 2
    assert works(pool)
    return failed


# -- on the way to the worker ---------------------------------------------------------------------------------


def test_arguments_that_do_not_pickle(pool: Any) -> None:
    """The error is what pickling raised."""
    assert "does not pickle" in str(error_of(pool, id, tasks.AtPickling(tasks.refuse_pickling)))
    assert isinstance(error_of(pool, id, threading.Lock()), TypeError)
    assert isinstance(error_of(pool, tasks.capture, 1, (_ for _ in ())), TypeError)


@ours
def test_pickling_that_exits(pool: Any) -> None:
    """``sys.exit`` in the pickling of an argument is raised where it is submitted, or is that call's error."""
    assert is_or_names(error_of(pool, id, tasks.AtPickling(tasks.leave)), SystemExit)


def test_a_function_that_does_not_pickle(pool: Any) -> None:
    """A function that can't be sent is told as that."""
    lock = threading.Lock()
    error = error_of(pool, lambda: lock.locked())
    assert isinstance(error, Exception) and "pickle" in str(error)


def test_arguments_that_do_not_pickle_in_a_map(pool: Any) -> None:
    """Items before it have their values; there the map ends."""
    results = pool.map(tasks.identity, [1, 2, threading.Lock(), 4])
    assert [next(results), next(results)] == [1, 2]
    with pytest.raises(TypeError, match="pickle"):
        next(results)
    assert works(pool)


@ours
def test_arguments_that_do_not_unpickle(pool: Any) -> None:
    """The worker tells what unpickling raised, with its traceback, and lives on."""
    error = error_of(pool, id, tasks.AtUnpickling(tasks.refuse_unpickling))
    assert "does not unpickle" in str(error) and "refuse_unpickling" in shown(error)


@ours
def test_unpickling_that_exits(pool: Any) -> None:
    """``sys.exit`` in the unpickling of an argument is that call's error."""
    assert is_or_names(error_of(pool, id, tasks.AtUnpickling(tasks.leave)), SystemExit)


@ours
def test_unpickling_that_ends_the_worker(pool: Any) -> None:
    """A segmentation fault there, or a kill, is WorkerDied of that call."""
    for call in (tasks.crash, tasks.kill_own_process):
        assert isinstance(error_of(pool, id, tasks.AtUnpickling(call)), WorkerDied)


# -- in the call ----------------------------------------------------------------------------------------------


def test_a_call_that_exits(pool: Any) -> None:
    """``sys.exit`` in a call is its error, and not the end of anybody."""
    assert is_or_names(error_of(pool, tasks.leave), SystemExit)


def test_a_call_that_is_interrupted(pool: Any) -> None:
    """KeyboardInterrupt in a call is its error too."""
    assert is_or_names(error_of(pool, tasks.raise_type, KeyboardInterrupt), KeyboardInterrupt)


@ours
def test_a_call_that_crashes(pool: Any) -> None:
    """A segmentation fault is WorkerDied of that call."""
    assert isinstance(error_of(pool, tasks.crash), WorkerDied)


@ours
def test_crashes_with_large_arguments(pool: Any) -> None:
    """Workers that die while megabytes are on their way to them are told each for its own call."""
    data = b"a" * (3 << 20)
    futures = [pool.submit(tasks.crash_with, data) for _ in range(6)]
    futures.append(pool.submit(len, data))
    assert [type(future.exception(DEADLINE)) for future in futures] == [WorkerDied] * 6 + [type(None)]
    assert works(pool)


@ours
def test_ends_beside_large_results(pool: Any) -> None:
    """Megabytes that come back meanwhile come whole."""
    data = bytes(range(256)) * (3 << 12)
    futures = [pool.submit(*call) for _ in range(4) for call in ((tasks.identity, data), (tasks.end, "kill"))]
    assert [type(future.exception(DEADLINE)) for future in futures] == [type(None), WorkerDied] * 4
    assert all(future.result(0) == data for future in futures[::2])


# -- on the way back ------------------------------------------------------------------------------------------


def test_results_that_do_not_pickle(pool: Any) -> None:
    """The call fails with what pickling its result raised."""
    assert "does not pickle" in str(error_of(pool, tasks.make_at_pickling, tasks.refuse_pickling))
    assert isinstance(error_of(pool, tasks.unsendable), TypeError)


def test_result_pickling_that_exits(pool: Any) -> None:
    """``sys.exit`` there is the call's error."""
    assert is_or_names(error_of(pool, tasks.make_at_pickling, tasks.leave), SystemExit)


@ours
def test_result_pickling_that_ends_the_worker(pool: Any) -> None:
    """A segmentation fault there, or a kill, is WorkerDied of that call."""
    for call in (tasks.crash, tasks.kill_own_process):
        assert isinstance(error_of(pool, tasks.make_at_pickling, call), WorkerDied)


@ours
def test_results_that_do_not_unpickle(pool: Any) -> None:
    """What unpickling a result raises here, or already in the worker, is the call's error."""
    assert "does not unpickle" in str(error_of(pool, tasks.make_at_unpickling, tasks.refuse_unpickling))


@ours
def test_result_unpickling_that_exits(pool: Any) -> None:
    """``sys.exit`` there is the call's error, and ends neither this process nor the pool's thread."""
    assert is_or_names(error_of(pool, tasks.make_at_unpickling, tasks.leave), SystemExit)


@ours
def test_such_results_with_callbacks(pool: Any, begun: Fifo, gate: Fifo) -> None:
    """Those who are told by a callback hear of it as well, though nobody waits."""
    told = threading.Semaphore(0)
    with held(pool, begun, gate):
        futures = [
            pool.submit(tasks.make_at_unpickling, call) for call in (tasks.refuse_unpickling, tasks.leave)
        ]
        for future in futures:
            future.add_done_callback(lambda _: told.release())
    for _ in futures:
        assert told.acquire(timeout=DEADLINE)
    assert all(future.exception(0) is not None for future in futures)


# -- errors on the way back -----------------------------------------------------------------------------------


@ours
@pytest.mark.parametrize(
    ("function", "type_name", "text"),
    [
        (tasks.raise_two_arguments, "TwoArguments", "5: no way back"),
        (tasks.raise_locked, "Locked", "held fast"),
    ],
)
def test_exceptions_that_can_not_be_sent(pool: Any, function: Any, type_name: str, text: str) -> None:
    """A RemoteError stands for one that does not pickle, or not unpickle: its type, text and traceback."""
    error = error_of(pool, function)
    assert isinstance(error, RemoteError)
    assert error.type_name == f"tests.contract.executor_tasks.{type_name}"
    assert text in str(error) and function.__name__ in shown(error)


@ours
@pytest.mark.parametrize("function", [tasks.raise_with_pickling, tasks.raise_with_unpickling])
@pytest.mark.parametrize("call", [tasks.refuse_pickling, tasks.leave])
def test_exceptions_with_such_objects(pool: Any, function: Any, call: Any) -> None:
    """An error that carries what fails, or exits, on its way is told as LookupError all the same."""
    assert is_or_names(error_of(pool, function, call), LookupError)


@ours
@pytest.mark.parametrize("function", [tasks.raise_with_pickling, tasks.raise_with_unpickling])
def test_exceptions_that_end_the_worker(pool: Any, function: Any) -> None:
    """One that carries what crashes on its way is WorkerDied of that call."""
    assert isinstance(error_of(pool, function, tasks.crash), WorkerDied)


@ours
def test_faults_of_all_kinds_at_once(pool: Any) -> None:
    """Among all of them, in any order, every good call has its value and every bad one its error."""
    bad: list[tuple[Any, ...]] = [
        (tasks.crash,),
        (id, tasks.AtUnpickling(tasks.crash)),
        (tasks.leave,),
        (tasks.make_at_pickling, tasks.crash),
        (id, tasks.AtUnpickling(tasks.leave)),
        (tasks.make_at_unpickling, tasks.refuse_unpickling),
        (tasks.raise_two_arguments,),
        (tasks.raise_locked,),
        (tasks.unsendable,),
    ]
    good, failing = [], []
    for number in range(3 * len(bad)):
        failing.append(pool.submit(*bad[(5 * number) % len(bad)]))
        good.append(pool.submit(tasks.double, number))
    assert [future.result(DEADLINE) for future in good] == [2 * number for number in range(3 * len(bad))]
    assert all(future.exception(DEADLINE) is not None for future in failing)

"""The pool as an executor: futures, callbacks, waiting, asyncio, threads, and what may be submitted."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import logging
import operator
import threading
import traceback
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import (
    ALL_COMPLETED,
    FIRST_COMPLETED,
    FIRST_EXCEPTION,
    CancelledError,
    Future,
    as_completed,
    wait,
)
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.contract import executor_tasks as tasks
from tests.contract.executors import METHODS, held, is_or_names, make, ours, works
from tests.helpers import DEADLINE, Fifo, lines, shown, until


@pytest.fixture(scope="module", params=METHODS)
def pool(request: pytest.FixtureRequest) -> Iterator[Any]:
    """An executor with two workers, which the tests of this module share."""
    with make(request.param) as executor:
        yield executor


@pytest.fixture
def second_gate(tmp_path: Path) -> Iterator[Fifo]:
    """Another gate, for a call that is to be let go by itself."""
    fifo = Fifo(tmp_path / "second gate")
    yield fifo
    fifo.let_go(1000)
    fifo.close()


def in_threads(*calls: Callable[[], object]) -> None:
    """Runs all at the same time, and raises what one of them raised."""
    with concurrent.futures.ThreadPoolExecutor(len(calls)) as threads:
        for future in [threads.submit(call) for call in calls]:
            future.result(DEADLINE)


def behind(pool: Any, number: int = 10) -> list[Future[int]]:
    """Calls behind others that hold all workers; the last one is so far behind that it has not begun."""
    return [pool.submit(tasks.double, index) for index in range(number)]


# -- submit and results ---------------------------------------------------------------------------------------


def test_it_is_an_executor(pool: Any) -> None:
    """Pool and futures are what code that is written for executors looks for."""
    assert isinstance(pool, concurrent.futures.Executor)
    assert isinstance(pool.submit(pow, 2, 8), Future)


def test_submit(pool: Any) -> None:
    """A call comes back with its value, whatever the value."""
    assert pool.submit(pow, 2, 8).result(DEADLINE) == 256
    for value in (None, False, StopIteration, NotImplemented, ..., ValueError("returned"), b"", [()]):
        assert repr(pool.submit(tasks.identity, value).result(DEADLINE)) == repr(value)


def test_keywords_are_the_calls(pool: Any) -> None:
    """Every name may be a keyword argument, also ``self`` and ``fn``."""
    keywords = {"self": 2, "fn": 3, "function": 4, "args": 5, "kwargs": 6, "timeout": 7, "chunksize": 8}
    assert pool.submit(tasks.capture, 1, **keywords).result(DEADLINE) == ((1,), keywords)


def test_submit_wants_a_function(pool: Any) -> None:
    """Without a function, or with it as a keyword, submit is a TypeError; what can't be called is one too."""
    with pytest.raises(TypeError):
        pool.submit()
    with pytest.raises(TypeError):
        pool.submit(fn=tasks.capture)
    with pytest.raises(TypeError):
        pool.submit("not a function", 1).result(DEADLINE)


def test_what_may_be_submitted(pool: Any) -> None:
    """Built-ins, classes, bound methods, class methods, static methods, partials and callable objects run."""
    plain = tasks.Plain(5)
    calls = [
        (len, "four", 4),
        (operator.itemgetter(1), "four", "o"),
        (tasks.Plain, 3, tasks.Plain(3)),
        (plain.plus, 3, 8),
        (tasks.Plain.named, 3, "Plain 3"),
        (plain.negated, 3, -3),
        (plain, 3, 15),
        (partial(pow, 2), 3, 8),
        (partial(plain.plus, y=4), None, 9),
        ("a b".split, " ", ["a", "b"]),
    ]
    futures = [
        pool.submit(call, argument) if argument is not None else pool.submit(call)
        for call, argument, _ in calls
    ]
    assert [future.result(DEADLINE) for future in futures] == [expected for _, _, expected in calls]


@ours
def test_functions_without_a_name(pool: Any) -> None:
    """Lambdas, closures, local classes and their exceptions travel by value."""
    factor = 7

    class Local:
        def times(self, x: int) -> int:
            return factor * x

    class LocalError(Exception):
        pass

    def fails() -> None:
        raise LocalError("of a function")

    assert pool.submit(lambda x: x + factor, 1).result(DEADLINE) == 8
    assert pool.submit(Local().times, 2).result(DEADLINE) == 14
    assert pool.submit(tasks.identity, lambda: factor).result(DEADLINE)() == 7
    error = pool.submit(fails).exception(DEADLINE)
    assert is_or_names(error, LocalError) and "of a function" in str(error)


@ours
def test_a_function_that_was_changed(pool: Any) -> None:
    """A closure is taken as it is at its submit, and a new one of the same name is the new one."""
    futures = []
    for factor in range(4):

        def scaled(x: int, factor: int = factor) -> int:
            return factor * x

        futures.append(pool.submit(scaled, 10))
    assert [future.result(DEADLINE) for future in futures] == [0, 10, 20, 30]


def test_large_values(pool: Any) -> None:
    """Arguments and results of several megabytes, many at once, come whole."""
    blob = bytes(range(256)) * 2**13
    futures = [pool.submit(tasks.identity, (index, blob)) for index in range(12)]
    for index, future in enumerate(futures):
        assert future.result(DEADLINE) == (index, blob)


def test_arguments_are_taken_at_submit_or_later_but_whole(pool: Any) -> None:
    """Ten calls of one list, which does not change, give ten equal lists that are none of them the other."""
    given = [1, [2]]
    results = [future.result(DEADLINE) for future in [pool.submit(tasks.identity, given) for _ in range(10)]]
    assert results == [given] * 10
    assert len({id(result) for result in [*results, given]}) == 11


# -- exceptions -----------------------------------------------------------------------------------------------


def test_exception(pool: Any) -> None:
    """The error comes with its type and arguments; the cause holds the text of the worker's traceback."""
    future = pool.submit(tasks.fail, "nothing there")
    with pytest.raises(LookupError) as caught:
        future.result(DEADLINE)
    assert type(caught.value) is LookupError and caught.value.args == ("nothing there",)
    assert future.exception() is caught.value
    assert "this line is looked for" in shown(caught.value)
    assert "this line is looked for" in "".join(traceback.format_exception(caught.value))
    assert works(pool)


def test_chained_and_grouped_exceptions(pool: Any) -> None:
    """A cause is told in the text, and a group comes with its members."""
    error = pool.submit(tasks.raise_chained).exception(DEADLINE)
    assert type(error) is ValueError
    assert "KeyError: 'first'" in shown(error)
    group = pool.submit(tasks.raise_group).exception(DEADLINE)
    assert [type(member) for member in group.exceptions] == [ValueError, KeyError]


def test_no_exception(pool: Any) -> None:
    """A call that succeeds has None for its exception, also one that returns an exception."""
    future = pool.submit(tasks.identity, ValueError("returned"))
    assert future.exception(DEADLINE) is None
    assert type(future.result()) is ValueError


@pytest.mark.parametrize(
    "kind", [StopIteration, GeneratorExit, TimeoutError, CancelledError, OSError, MemoryError]
)
def test_exceptions_that_mean_something_elsewhere(pool: Any, kind: type[BaseException]) -> None:
    """What a call raises is its error, and is not taken for a word of the pool's own."""
    future = pool.submit(tasks.raise_type, kind)
    error = future.exception(DEADLINE)
    assert is_or_names(error, kind) and "raised" in str(error)
    assert future.done() and not future.cancelled()


# -- states ---------------------------------------------------------------------------------------------------


def test_states(pool: Any, begun: Fifo, gate: Fifo) -> None:
    """A future is running while its call runs, and done and not running when it has ended."""
    with held(pool, begun, gate) as futures:
        until(lambda: all(future.running() for future in futures), "both run")
        last = behind(pool)[-1]
        assert not last.running()
        for future in [*futures, last]:
            assert not future.done() and not future.cancelled()
    for future in [*futures, last]:
        future.result(DEADLINE)
        assert future.done() and not future.running() and not future.cancelled()


def test_timeouts_of_a_future(pool: Any, begun: Fifo, gate: Fifo) -> None:
    """``result`` and ``exception`` raise TimeoutError, and the future is good for a later look."""
    with held(pool, begun, gate) as (future, _):
        for seconds in (0, 0.01):
            with pytest.raises(TimeoutError):
                future.result(seconds)
            with pytest.raises(TimeoutError):
                future.exception(timeout=seconds)
    assert future.result(0) == 0 and future.exception(0) is None


def test_cancel(pool: Any, begun: Fifo, gate: Fifo, tmp_path: Path) -> None:
    """What waits is cancelled and never runs; what runs, or has run, is not."""
    with held(pool, begun, gate) as futures:
        behind(pool)
        waiting = pool.submit(tasks.note, "cancelled", tmp_path / "calls")
        assert waiting.cancel() and waiting.cancel()
        assert waiting.cancelled() and waiting.done() and not waiting.running()
        until(lambda: futures[0].running(), "it runs")
        assert not futures[0].cancel() and not futures[0].cancelled()
    for look in (waiting.result, waiting.exception):
        with pytest.raises(CancelledError):
            look(DEADLINE)
    assert not futures[0].cancel()
    assert works(pool)
    assert lines(tmp_path / "calls") == []


def test_cancel_is_told_to_who_waits(pool: Any, begun: Fifo, gate: Fifo) -> None:
    """A thread that waits for the result gets CancelledError as soon as another cancels."""
    with held(pool, begun, gate):
        for _ in range(20):
            last = behind(pool)[-1]
            looks = threading.Event()

            def look(last: Future[int] = last, looks: threading.Event = looks) -> None:
                looks.set()
                with pytest.raises(CancelledError):
                    last.result(DEADLINE)

            def cancel(last: Future[int] = last, looks: threading.Event = looks) -> None:
                assert looks.wait(DEADLINE)
                assert last.cancel()

            in_threads(look, look, cancel)


def test_cancelled_futures_are_waited_for(pool: Any, begun: Fifo, gate: Fifo) -> None:
    """``wait`` and ``as_completed`` take a cancelled future for one that is done."""
    with held(pool, begun, gate):
        waiting = behind(pool)
        assert waiting[-1].cancel()
    assert set(as_completed(waiting, DEADLINE)) == set(waiting)
    assert wait([waiting[-1]], DEADLINE) == ({waiting[-1]}, set())


def test_many_are_cancelled(pool: Any, begun: Fifo, gate: Fifo, tmp_path: Path) -> None:
    """Of many waiting calls, those whose cancel is true never run and all others do."""
    with held(pool, begun, gate):
        futures = [pool.submit(tasks.note, index, tmp_path / "calls") for index in range(200)]
        cancelled = {index for index in range(0, 200, 2) if futures[index].cancel()}
        assert len(cancelled) > 80
    wait(futures, DEADLINE)
    assert {int(line) for line in lines(tmp_path / "calls")} == set(range(200)) - cancelled


# -- callbacks ------------------------------------------------------------------------------------------------


def test_callbacks(pool: Any, begun: Fifo, gate: Fifo) -> None:
    """They are called once each, with the finished future, in the order in which they were added."""
    seen: list[tuple[int, object, bool]] = []
    done = threading.Event()
    with held(pool, begun, gate) as (future, _):
        for number in range(5):
            future.add_done_callback(lambda future, number=number: seen.append((number, future, future.done())))
        future.add_done_callback(lambda _: done.set())
    assert done.wait(DEADLINE)
    assert seen == [(number, future, True) for number in range(5)]


def test_callbacks_see_each_end(pool: Any, begun: Fifo, gate: Fifo) -> None:
    """A value, an error and a cancellation are all told; a callback for what is done is called at once."""
    told: dict[str, object] = {}
    with held(pool, begun, gate):
        waiting = behind(pool, 30)
        cancelled, failed = waiting[-1], pool.submit(tasks.fail, "told")
        waiting[0].add_done_callback(lambda future: told.update(value=future.result()))
        failed.add_done_callback(lambda future: told.update(error=future.exception()))
        cancelled.add_done_callback(lambda future: told.update(cancelled=future.cancelled()))
        assert cancelled.cancel() and told == {"cancelled": True}
    wait([*waiting, failed], DEADLINE)
    until(lambda: len(told) == 3, "all callbacks are called")
    assert told == {"value": 0, "error": failed.exception(), "cancelled": True}
    for number, future in enumerate([waiting[0], failed, cancelled]):
        future.add_done_callback(lambda future, number=number: told.update({str(number): future}))
        assert told[str(number)] is future


def test_a_callback_that_raises(pool: Any, begun: Fifo, gate: Fifo, caplog: pytest.LogCaptureFixture) -> None:
    """Its error is logged, and the other callbacks, the future and the pool don't mind."""
    done = threading.Event()

    def raises(_: object) -> None:
        raise LookupError("in a callback")

    with caplog.at_level(logging.ERROR), held(pool, begun, gate) as (future, _):
        future.add_done_callback(raises)
        future.add_done_callback(lambda _: done.set())
    assert done.wait(DEADLINE) and future.result() == 0
    assert "in a callback" in caplog.text
    assert works(pool)


@ours
def test_a_callback_that_exits(pool: Any, begun: Fifo, gate: Fifo) -> None:
    """Not even ``sys.exit`` in a callback stops the pool."""
    with held(pool, begun, gate) as futures:
        for future in futures:
            future.add_done_callback(lambda _: tasks.leave())
    assert works(pool)


def test_callbacks_of_callbacks(pool: Any) -> None:
    """A callback may add another, and may submit calls with callbacks of their own."""
    seen: list[int] = []
    done = threading.Event()

    def go_on(future: Future[int]) -> None:
        future.add_done_callback(lambda future: seen.append(future.result()))
        if future.result() < 500:
            pool.submit(tasks.double, future.result()).add_done_callback(go_on)
        else:
            done.set()

    pool.submit(tasks.double, 1).add_done_callback(go_on)
    assert done.wait(DEADLINE)
    assert seen == [2, 4, 8, 16, 32, 64, 128, 256, 512]


def test_submitting_never_waits_for_callbacks(pool: Any, begun: Fifo, gate: Fifo) -> None:
    """While a callback does not return, thousands of calls can be submitted, and they are answered after it."""
    entered, go_on = threading.Event(), threading.Event()

    def block(_: object) -> None:
        entered.set()
        go_on.wait(DEADLINE)

    try:
        with held(pool, begun, gate, 1) as (future,):
            future.add_done_callback(block)
        assert entered.wait(DEADLINE)
        futures = [pool.submit(tasks.double, number) for number in range(3000)]
    finally:
        go_on.set()
    assert [future.result(DEADLINE) for future in futures] == [2 * number for number in range(3000)]


# -- waiting for several --------------------------------------------------------------------------------------


def test_as_completed(pool: Any, begun: Fifo, gate: Fifo) -> None:
    """Each future comes once, those that are done first, and duplicates are one."""
    with held(pool, begun, gate, 1) as (late,):
        early = [pool.submit(tasks.double, number) for number in range(10)]
        coming = as_completed([late, *early, late, early[0]], DEADLINE)
        first = [next(coming) for _ in early]
        assert set(first) == set(early)
        assert wait([late], 0) == (set(), {late})
        gate.let_go()
        assert list(coming) == [late]


def test_as_completed_times_out(pool: Any, begun: Fifo, gate: Fifo) -> None:
    """What is done comes, and then TimeoutError."""
    done = pool.submit(tasks.double, 1)
    done.result(DEADLINE)
    with held(pool, begun, gate) as futures:
        came = []
        with pytest.raises(TimeoutError):
            for future in as_completed([*futures, done], timeout=0):
                came.append(future)
        assert came == [done]


def test_wait_for_all(pool: Any) -> None:
    """Errors are among the done, and a future that stands twice is one."""
    futures = [pool.submit(tasks.divide, 1, number % 2) for number in range(6)]
    assert wait([*futures, *futures], DEADLINE, ALL_COMPLETED) == (set(futures), set())


def test_wait_for_the_first(pool: Any, begun: Fifo, gate: Fifo) -> None:
    """It returns with what is done when one is, while others run."""
    with held(pool, begun, gate, 1) as (late,):
        first = pool.submit(tasks.double, 1)
        assert wait([late, first], DEADLINE, FIRST_COMPLETED) == ({first}, {late})
        assert wait([late, first], DEADLINE, FIRST_COMPLETED) == ({first}, {late})
    assert wait([late, first], DEADLINE, FIRST_COMPLETED) == ({first, late}, set())


def test_wait_for_the_first_exception(pool: Any, begun: Fifo, gate: Fifo, second_gate: Fifo) -> None:
    """Values don't end it, an error does, also one that was there before."""
    with held(pool, begun, gate, 1) as (late,):
        good = [pool.submit(tasks.double, number) for number in range(3)]
        bad = pool.submit(tasks.hold_and_fail, "bad", begun.path, second_gate.path)
        assert begun.line().startswith("bad ")
        assert wait(good, DEADLINE, FIRST_EXCEPTION) == (set(good), set())
        assert wait([late, bad, *good], 0, FIRST_EXCEPTION) == (set(good), {late, bad})
        second_gate.let_go()
        for _ in range(2):
            assert wait([late, bad, *good], DEADLINE, FIRST_EXCEPTION) == ({bad, *good}, {late})
    assert wait([late, *good], DEADLINE, FIRST_EXCEPTION) == ({late, *good}, set())


def test_wait_times_out(pool: Any, begun: Fifo, gate: Fifo) -> None:
    """With each of the three conditions, what is not done by then is told apart."""
    done = pool.submit(tasks.double, 1)
    done.result(DEADLINE)
    with held(pool, begun, gate) as futures:
        for condition, seconds in [(ALL_COMPLETED, 0), (ALL_COMPLETED, 0.01), (FIRST_EXCEPTION, 0.01)]:
            assert wait([*futures, done], seconds, condition) == ({done}, set(futures))
        assert wait(futures, 0.01, FIRST_COMPLETED) == (set(), set(futures))


# -- who runs when --------------------------------------------------------------------------------------------


def test_no_call_waits_behind_one_that_runs(pool: Any, begun: Fifo, gate: Fifo) -> None:
    """While one worker is busy, the other answers all the rest, also what came while both were busy."""
    for number in range(100):  # short calls may make a pool bold
        pool.submit(tasks.double, number).result(DEADLINE)
    with held(pool, begun, gate) as futures:
        waiting = behind(pool, 50)
        gate.let_go(1)
        assert [future.result(DEADLINE) for future in waiting] == [2 * number for number in range(50)]
        assert len(wait(futures, DEADLINE, FIRST_COMPLETED).not_done) == 1
        assert [future.result(DEADLINE) for future in behind(pool, 50)] == [2 * number for number in range(50)]


def test_calls_that_wait_for_each_other(pool: Any, begun: Fifo, gate: Fifo) -> None:
    """As many calls as there are workers run at once, however short the calls before them were."""
    for _ in range(20):
        wait([pool.submit(tasks.double, number) for number in range(20)], DEADLINE)
        futures = [
            pool.submit(tasks.meet, begun.path, gate.path),
            pool.submit(tasks.meet, gate.path, begun.path),
        ]
        assert [future.result(DEADLINE) for future in futures] == ["met", "met"]


# -- threads and asyncio --------------------------------------------------------------------------------------


def test_many_threads(pool: Any) -> None:
    """Threads that submit and wait at the same time get each their own results."""

    def use(thread: int) -> None:
        for round_ in range(10):
            futures = [pool.submit(tasks.capture, thread, round_, number) for number in range(5)]
            futures.append(pool.submit(tasks.fail, f"{thread}"))
            assert str(futures.pop().exception(DEADLINE)) == f"{thread}"
            assert [future.result(DEADLINE)[0] for future in futures] == [(thread, round_, n) for n in range(5)]

    in_threads(*(partial(use, number) for number in range(8)))


def test_many_threads_wait_for_one(pool: Any, begun: Fifo, gate: Fifo) -> None:
    """Every thread that waits for a future gets its one result."""
    with held(pool, begun, gate) as futures:
        watched = pool.submit(tasks.make_plain, 3)
        waiting = threading.Barrier(9)
        got: list[object] = []

        def look() -> None:
            waiting.wait(DEADLINE)
            got.append(watched.result(DEADLINE))

        def let_go() -> None:
            waiting.wait(DEADLINE)
            gate.let_go(len(futures))

        in_threads(*[look] * 8, let_go)
    assert len(got) == 8 and len({id(value) for value in got}) == 1


def test_a_thread_that_gives_up(pool: Any, begun: Fifo, gate: Fifo) -> None:
    """One that stops waiting keeps nobody else from being told."""
    with held(pool, begun, gate, 1) as (late,):
        waits = threading.Event()

        def give_up() -> None:
            waits.set()
            with pytest.raises(TimeoutError):
                late.result(0.05)

        def wait_on() -> None:
            waits.wait(DEADLINE)
            for number in range(200):
                assert pool.submit(tasks.double, number).result(DEADLINE) == 2 * number

        in_threads(give_up, wait_on, give_up, wait_on)
    assert works(pool)


def test_asyncio(pool: Any, begun: Fifo, gate: Fifo) -> None:
    """``run_in_executor`` and ``wrap_future`` don't block the loop; values, errors and many at once arrive."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        late = loop.run_in_executor(pool, tasks.hold, "late", str(begun.path), str(gate.path))
        wrapped = asyncio.wrap_future(pool.submit(tasks.double, 4))
        assert await asyncio.wait_for(wrapped, DEADLINE) == 8
        with pytest.raises(LookupError, match="awaited"):
            await asyncio.wait_for(loop.run_in_executor(pool, tasks.fail, "awaited"), DEADLINE)
        calls = [loop.run_in_executor(pool, tasks.double, number) for number in range(50)]
        values = await asyncio.wait_for(asyncio.gather(*calls), DEADLINE)
        assert values == [2 * number for number in range(50)]
        assert not late.done()
        gate.let_go()
        assert await asyncio.wait_for(late, DEADLINE) == "late"

    asyncio.run(main())


def test_asyncio_cancels(pool: Any, begun: Fifo, gate: Fifo) -> None:
    """Cancelling the task that awaits a call cancels the call, if it has not begun."""

    async def main(future: Future[int]) -> None:
        task = asyncio.ensure_future(asyncio.wrap_future(future))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with held(pool, begun, gate):
        last = behind(pool)[-1]
        asyncio.run(main(last))
        assert last.cancelled()
    assert works(pool)


# -- references -----------------------------------------------------------------------------------------------


def test_dropped_futures_run(pool: Any, tmp_path: Path) -> None:
    """Calls whose futures nobody keeps are run all the same."""
    for number in range(20):
        pool.submit(tasks.note, number, tmp_path / "calls")
    until(lambda: len(lines(tmp_path / "calls")) == 20, "all have run")
    assert {int(line) for line in lines(tmp_path / "calls")} == set(range(20))


def test_arguments_are_let_go(pool: Any) -> None:
    """When a call has ended, nothing here holds its function and arguments, with or without its future."""
    for kept in (True, False):
        plain = tasks.Plain()
        gone = weakref.ref(plain)
        future = pool.submit(plain.plus, 1)
        future.result(DEADLINE)
        if not kept:
            del future
        del plain
        until(lambda: gc.collect() is not None and gone() is None, "the argument is let go")  # noqa: B023


def test_results_are_let_go(pool: Any) -> None:
    """A result is its future's alone."""
    future = pool.submit(tasks.make_plain, 1)
    gone = weakref.ref(future.result(DEADLINE))
    del future
    until(lambda: gc.collect() is not None and gone() is None, "the result is let go")


def test_workers_let_go(pool: Any, begun: Fifo) -> None:
    """A worker deletes the arguments and the result when the call has ended, not at the next one."""
    messenger = tasks.Messenger(str(begun.path))
    assert pool.submit(tasks.capture, messenger).result(DEADLINE)[0][0].fifo == str(begun.path)
    assert begun.line() == "deleted"

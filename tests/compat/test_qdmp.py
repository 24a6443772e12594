"""The face of qdmp: its document's examples, and what holds of every handler."""

from __future__ import annotations

import logging
import pickle
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manyhands import WorkerDied, parallel
from manyhands.compat.qdmp import (
    PoolFutureException,
    PoolHandler,
    ProcessHandler,
    ProcessingException,
    ProcessPoolHandler,
    ThreadPoolHandler,
)
from tests.compat.qdmp_tasks import Stored, by_name, counting, even, hold, hold_once, multiple_of_13, square
from tests.helpers import Fifo, ends_of, run_script, until, write_script

POOLS = (ProcessPoolHandler, ThreadPoolHandler, PoolHandler)
KINDS = (*POOLS, ProcessHandler)
OF_PROCESSES = (ProcessPoolHandler, PoolHandler, ProcessHandler)
every_kind = pytest.mark.parametrize("kind", KINDS)

Make = Callable[..., Any]


def new(kind: Any, target: Any, **options: Any) -> Any:
    """A handler of a plain function."""
    return kind(Stored(target) if kind is ProcessHandler else target, **options)


@pytest.fixture
def make() -> Iterator[Make]:
    """Makes handlers, and ends them after the test."""
    made: list[Any] = []

    def started(kind: Any, target: Any, workers: int = 2, **options: Any) -> Any:
        made.append(new(kind, target, **options))
        made[-1].start(workers)
        return made[-1]

    yield started
    for handler in made:
        handler._stop(0.0)


def retry(error: BaseException, arguments: Any, *traceback: Any) -> Any:
    """The arguments say what is to be tried instead."""
    return True, arguments[1], None


# -- the document ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", POOLS)
def test_the_documents_first_example(tmp_path: Path, kind: Any) -> None:
    """It runs as a script, with the import changed."""
    script = write_script(
        tmp_path / "script.py",
        f"""
        from manyhands.compat.qdmp import {kind.__name__}
        from typing import Any


        def target_function(arguments: Any) -> Any:
            return arguments ** 2


        handler = {kind.__name__}(target_function)
        handler.start(4)
        handler.add_tasks([1, 2, 3, 4, 5, 6, 7, 8, 9, 10])
        results, errors = handler.process_results()
        handler.stop()
        print(results, errors)
        """,
    )
    assert run_script(script) == "[1, 4, 9, 16, 25, 36, 49, 64, 81, 100] []\n"


def test_the_documents_last_example(tmp_path: Path) -> None:
    """It runs as a script, with the import changed: nothing has timed out, and one task raises."""
    script = write_script(
        tmp_path / "script.py",
        """
        from manyhands.compat.qdmp import ProcessPoolHandler
        from typing import Any


        def target_function(arguments: Any) -> Any:
            return arguments ** 2


        handler = ProcessPoolHandler(target_function)
        handler.start(4)
        handler.add_tasks([1, 2, 3, 4, 5, 6, 7, 8, 9, "y"])
        results, errors = handler.process_results()
        timed_out_futures = handler.check_process_timeout(timeout=5)
        handler.cancel_processes(futures=timed_out_futures)
        handler.add_tasks(futures=[task.arguments for task in timed_out_futures])
        handler.stop()
        print(results, [error.arguments for error in errors], type(errors[0].exception).__name__, timed_out_futures)
        """,
    )
    assert run_script(script) == "[1, 4, 9, 16, 25, 36, 49, 64, 81] ['y'] TypeError []\n"


SAMPLES = """
    import math
    from typing import Any, Tuple, Union
    from manyhands.compat.qdmp import (
        PoolFutureException, PoolHandler, ProcessHandler, ProcessingException, ProcessPoolHandler, ThreadPoolHandler,
    )


    def valid_arguments(arguments: Any) -> bool:
        return arguments % 13 == 0


    def valid_results(results: Any) -> bool:
        return int(math.sqrt(results)) - math.sqrt(results) == 0


    def for_processes(exception: Exception, arguments: Any, traceback: str = None) \\
            -> Tuple[bool, Any, Union[ProcessingException, None]]:
        if isinstance(exception, FileExistsError):
            print(f"File already exists: {arguments}")
            print(f"Traceback: {traceback.splitlines()[-1]}")
            return False, None, ProcessingException(exception, traceback, arguments)
        elif isinstance(exception, ValueError):
            print(f"ValueError: {arguments}")
            return True, arguments + 1, None
        else:
            return False, None, ProcessingException(exception, traceback, arguments)


    def for_pools(exception: Exception, arguments: Any) -> Tuple[bool, Any, Union[PoolFutureException, None]]:
        if isinstance(exception, FileExistsError):
            print(f"File already exists: {arguments}")
            return False, None, PoolFutureException(arguments, exception)
        elif isinstance(exception, ValueError):
            print(f"ValueError: {arguments}")
            return True, arguments + 1, None
        else:
            return False, None, PoolFutureException(arguments, exception)


    def target(arguments):
        if arguments == 3:
            raise FileExistsError("it is there")
        if arguments == 5:
            raise ValueError("five")
        return {}[arguments] if arguments == 7 else arguments


    def keeping(setup, storage, worker_id, debug, arguments):
        return storage, None if setup else target(arguments)

"""


@pytest.mark.parametrize("kind", KINDS)
def test_the_documents_samples(tmp_path: Path, kind: Any) -> None:
    """Its functions for validation and for errors do as their comments say."""
    process = kind is ProcessHandler
    target, handle = ("keeping", "for_processes") if process else ("target", "for_pools")
    script = write_script(
        tmp_path / "script.py",
        SAMPLES
        + f"""
    handler = {kind.__name__}({target}, handle_error_fn={handle})
    handler.start(1)
    handler.add_tasks([3, 5, 7, 9])
    results, errors = handler.process_results()
    handler.stop()
    print(results, [(type(error).__name__, error.arguments, repr(error.exception)) for error in errors])
    handler = {kind.__name__}({target}, validate_args_fn=valid_arguments, validate_result_fn=valid_results)
    handler.start(2)
    handler.add_tasks([12, 13, 14, 169, 26])
    print(handler.process_results())
    handler.stop()
    """,
    )
    name = "ProcessingException" if process else "PoolFutureException"
    assert run_script(script).splitlines() == [
        "File already exists: 3",
        *(["Traceback: FileExistsError: it is there"] if process else []),
        "ValueError: 5",
        f"[6, 9] [('{name}', 3, \"FileExistsError('it is there')\"), ('{name}', 7, 'KeyError(7)')]",
        "([169], [])",
    ]


# -- what becomes of tasks ------------------------------------------------------------------------------------

PLANS = st.recursive(
    st.one_of(
        st.tuples(st.just("value"), st.integers(0, 9)),
        st.tuples(st.just("exists"), st.integers(0, 9)),
        st.tuples(st.just("lock"), st.none()),
        st.tuples(st.just("odd"), st.none()),
    ),
    lambda plans: st.tuples(st.just("raise"), plans),
    max_leaves=4,
)


def fate(plan: Any) -> Any:
    """What is to become of a task."""
    if plan[0] == "raise":
        return fate(plan[1])
    if plan[0] == "odd" or (plan[0] == "value" and plan[1] % 2):
        return "discarded"
    return "result" if plan[0] == "value" else "error"


@pytest.fixture(scope="module")
def judged() -> Iterator[dict[Any, Any]]:
    """Handlers that try again with what a task raises, for many examples."""

    def handle(error: BaseException, arguments: Any, *traceback: Any) -> Any:
        return isinstance(error, ValueError), arguments[1], None

    options = {
        "validate_args_fn": lambda plan: plan[0] != "odd",
        "validate_result_fn": lambda value: not isinstance(value, int) or even(value),
        "handle_error_fn": handle,
    }
    handlers = {kind: new(kind, by_name, **options) for kind in KINDS}
    for handler in handlers.values():
        handler.start(2)
    yield handlers
    for handler in handlers.values():
        handler.stop()


STEPS = st.lists(st.tuples(st.integers(1, 5), st.none() | st.integers(1, 4), st.booleans()), max_size=6)


@given(plans=st.lists(PLANS, max_size=12), steps=STEPS)
@every_kind
def test_each_task_has_one_fate(judged: dict[Any, Any], kind: Any, plans: list[Any], steps: list[Any]) -> None:
    """However tasks are added and results are taken, each is one result, one error, or discarded."""
    if kind is ThreadPoolHandler:
        plans = [plan for plan in plans if "lock" not in str(plan)]  # there it would be a value
    handler = judged[kind]
    results: list[Any] = []
    errors: list[Any] = []
    rest = list(plans)
    for number, count, wait in [*steps, (len(plans), 1, False)]:
        handler.add_tasks(rest[:number])
        rest = rest[number:]
        taken = handler.process_results(count, wait=wait)
        assert count is None or len(taken[0]) + len(taken[1]) <= count
        results += taken[0]
        errors += taken[1]
    taken = handler.process_results()
    results += taken[0]
    errors += taken[1]
    assert handler.process_results() == ([], [])
    fates = Counter(map(fate, plans))
    assert (len(results), len(errors)) == (fates["result"], fates["error"])
    assert all(value % 2 == 0 for value in results)
    wanted = sorted(str(innermost(plan)) for plan in plans if fate(plan) == "error")
    assert sorted(str(error.arguments) for error in errors) == wanted


def innermost(plan: Any) -> Any:
    """What is tried last."""
    return innermost(plan[1]) if plan[0] == "raise" else plan


@every_kind
def test_results_in_order(make: Make, kind: Any, tmp_path: Path, begun: Fifo, gate: Fifo) -> None:
    """What is taken at once is in the order of the tasks, also when the first is the last to end."""
    handler = make(kind, hold_or_square)
    handler.add_tasks([("slow", begun.path, gate.path), 2, 3, "x", 4])
    begun.line()
    until(lambda: len(handler._ended) == 4, "four have ended")
    gate.let_go()
    results, errors = handler.process_results()
    assert results == ["slow", 4, 9, 16]
    assert [error.arguments for error in errors] == ["x"]


def hold_or_square(arguments: Any) -> Any:
    return hold(arguments) if isinstance(arguments, tuple) else square(arguments)


@every_kind
def test_taking_some(make: Make, kind: Any, begun: Fifo, gate: Fifo) -> None:
    """With ``count``, what comes first, and no more; without ``wait``, what is there."""
    handler = make(kind, hold_or_square)
    assert handler.process_results() == handler.process_results(wait=False) == ([], [])
    handler.add_tasks([("slow", begun.path, gate.path)])
    begun.line()
    handler.add_tasks([2, 3, 4])
    assert handler.process_results(1) == ([4], [])
    until(lambda: handler._unended == 1, "all but the slow one have ended")
    assert handler.process_results(wait=False) == ([9, 16], [])
    assert handler.process_results(1, wait=False) == ([], [])
    gate.let_go()
    assert handler.process_results(5) == (["slow"], [])


@every_kind
def test_many_tasks(make: Make, kind: Any) -> None:
    """Hundreds of them, from an iterator, in one go."""
    handler = make(kind, square)
    handler.add_tasks(number for number in range(500))
    assert handler.process_results() == ([number**2 for number in range(500)], [])


@every_kind
def test_adding_while_taking(make: Make, kind: Any) -> None:
    """One thread adds, two take: each result is somebody's, once."""
    handler = make(kind, square)
    taken: list[Any] = []
    added = threading.Event()

    def take() -> None:
        while True:
            last = added.is_set()
            results, errors = handler.process_results(7, wait=not last)
            taken.extend(results + errors)
            if last and not handler._pending and not handler._outcomes:
                return

    threads = [threading.Thread(target=take) for _ in range(2)]
    for thread in threads:
        thread.start()
    for number in range(200):
        handler.add_tasks([number])
    added.set()
    for thread in threads:
        thread.join()
    assert sorted(taken) == [number**2 for number in range(200)]


@every_kind
def test_validation(make: Make, kind: Any, caplog: pytest.LogCaptureFixture) -> None:
    """What is not valid is in neither list, and told in the log at the level of debugging."""
    caplog.set_level(logging.DEBUG)
    handler = make(kind, square, validate_args_fn=multiple_of_13, validate_result_fn=even)
    handler.add_tasks([1, 13, 26, 27])
    assert handler.process_results() == ([676], [])
    messages = [record.getMessage() for record in caplog.records if record.name.endswith(kind.__name__)]
    assert "Discarded the arguments 1." in messages
    assert "Discarded the result 169." in messages


@every_kind
def test_predicates_that_raise(make: Make, kind: Any) -> None:
    """The task is an error with what they raised, which nobody is asked about, and the others go on."""
    asked: list[Any] = []
    handler = make(
        kind,
        str,
        validate_args_fn=multiple_of_13,
        validate_result_fn=even,
        handle_error_fn=lambda *a: asked.append(a),
    )
    handler.add_tasks([1, None, 13, 14])
    results, errors = handler.process_results()
    assert results == [] and asked == []
    assert [error.arguments for error in errors] == [None, 13]
    assert [type(error.exception) for error in errors] == [TypeError, TypeError]
    assert "validate_args_fn" in errors[0].exception.__notes__[0]
    assert "validate_result_fn" in errors[1].exception.__notes__[0]


@every_kind
def test_another_task_instead(make: Make, kind: Any) -> None:
    """New arguments take the place of those that failed; they are validated, and may fail again."""
    handler = make(kind, by_name, handle_error_fn=retry, validate_args_fn=lambda plan: plan is not None)
    value = ("value", 1)
    handler.add_tasks([("raise", ("raise", value)), ("value", 2), ("raise", None), ("raise", value)])
    assert handler.process_results() == ([1, 2, 1], [])
    assert not handler._pending


@every_kind
def test_new_arguments_that_the_predicate_fails_at(make: Make, kind: Any) -> None:
    """The task is one error, with the new arguments."""
    handler = make(kind, by_name, handle_error_fn=retry, validate_args_fn=len)
    handler.add_tasks([("raise", 7), ("value", 1)])
    results, (error,) = handler.process_results()
    assert results == [1]
    assert error.arguments == 7 and isinstance(error.exception, TypeError)


@every_kind
@pytest.mark.parametrize("answer", [(False, None, None), (False, 1, "text"), [0, 1, 2]])
def test_no_exception_to_be_told(make: Make, kind: Any, answer: Any) -> None:
    """Without one, the failure is told as it is without a handler."""
    handler = make(kind, by_name, handle_error_fn=lambda *_: answer)
    handler.add_tasks([("raise", "why")])
    results, (error,) = handler.process_results()
    assert results == []
    check_error(kind, error, ("raise", "why"), ValueError)


@every_kind
def test_any_exception_may_be_told(make: Make, kind: Any) -> None:
    """It is told as it is."""
    told = LookupError("told")
    handler = make(kind, by_name, handle_error_fn=lambda *_: (False, None, told))
    handler.add_tasks([("raise", "why")])
    assert handler.process_results() == ([], [told])


@every_kind
@pytest.mark.parametrize("answer", [None, (True, 1), "abc", 5])
def test_a_handler_that_answers_anything(make: Make, kind: Any, answer: Any) -> None:
    """A TypeError says what it must return; a text of three characters is no answer."""
    handler = make(kind, by_name, handle_error_fn=lambda *_: answer)
    handler.add_tasks([("raise", "why")])
    _, (error,) = handler.process_results()
    check_error(kind, error, ("raise", "why"), TypeError)
    assert "(enqueue, new_arguments, exception)" in str(error)


@every_kind
def test_a_handler_that_raises(make: Make, kind: Any) -> None:
    """The task is an error with that, which names the handler and what it was asked about."""

    def handle(*_: Any) -> Any:
        raise KeyError("mine")

    handler = make(kind, by_name, handle_error_fn=handle)
    handler.add_tasks([("raise", "why")])
    _, (error,) = handler.process_results()
    check_error(kind, error, ("raise", "why"), KeyError)
    assert "why" in error.exception.__notes__[-1]


@every_kind
def test_an_interrupt_loses_nothing(make: Make, kind: Any) -> None:
    """What was looked at before is there for the next call, and what was being looked at is looked at again."""
    interrupts = [True, True]

    def validate(value: Any) -> bool:
        if value == 9 and interrupts:
            interrupts.pop()
            raise KeyboardInterrupt
        return True

    handler = make(kind, square, validate_result_fn=validate)
    handler.add_tasks([1, 2, 3, 4])
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            handler.process_results()
    assert handler.process_results() == ([1, 4, 9, 16], [])


def check_error(kind: Any, error: Any, arguments: Any, cause: type) -> None:
    """It is the kind's own, and knows all."""
    assert type(error) is (ProcessingException if kind is ProcessHandler else PoolFutureException)
    assert error.arguments == arguments
    assert type(error.exception) is cause


@every_kind
def test_sys_exit(make: Make, kind: Any) -> None:
    """In a task it is that task's failure."""
    handler = make(kind, by_name)
    handler.add_tasks([("exit", 3), ("value", 1)])
    results, (error,) = handler.process_results()
    assert results == [1]
    assert error.arguments == ("exit", 3)


@pytest.mark.parametrize("kind", OF_PROCESSES)
def test_a_worker_that_dies(make: Make, kind: Any) -> None:
    """Its task is an error with its arguments, and the others have their results."""
    handler = make(kind, by_name)
    handler.add_tasks([("value", 1), ("die", "now"), *[("value", number) for number in range(2, 20)]])
    results, (error,) = handler.process_results()
    assert results == list(range(1, 20))
    check_error(kind, error, ("die", "now"), WorkerDied)
    assert error.exception.exitcode == -signal.SIGKILL


@pytest.mark.parametrize("kind", OF_PROCESSES)
def test_a_worker_that_dies_and_a_handler(make: Make, kind: Any) -> None:
    """The handler is asked about it as about an exception."""
    handler = make(kind, by_name, handle_error_fn=retry)
    handler.add_tasks([("die", ("value", 5))])
    assert handler.process_results() == ([5], [])


@pytest.mark.parametrize("kind", OF_PROCESSES)
def test_what_cannot_be_pickled(make: Make, kind: Any) -> None:
    """Arguments and results are errors of their own tasks; hundreds of them are no deeper than one."""
    lock = threading.Lock()
    handler = make(kind, by_name)
    handler.add_tasks([("value", 1), ("lock", 0), *[("value", lock)] * 300, ("value", 2)])
    results, errors = handler.process_results()
    assert results == [1, 2]
    assert [error.arguments for error in errors] == [("lock", 0), *[("value", lock)] * 300]


@pytest.mark.parametrize("kind", KINDS)
def test_functions_of_all_kinds(make: Make, kind: Any) -> None:
    """Closures and decorated functions serve."""
    factor = 3
    handler = make(kind, lambda arguments: factor * arguments)
    handler.add_tasks([1, 2])
    assert handler.process_results() == ([3, 6], [])
    handler = make(kind, parallel(square))
    handler.add_tasks([1, 2])
    assert handler.process_results() == ([1, 4], [])


@pytest.mark.parametrize("kind", OF_PROCESSES)
def test_a_target_that_cannot_be_sent(kind: Any) -> None:
    """That is told when the workers are to be started, and then there are none."""
    lock = threading.Lock()
    handler = new(kind, lambda arguments: lock)
    with pytest.raises(TypeError, match="target"):
        handler.start(1)
    assert handler.worker_count == 0
    handler.stop()


# -- start and stop -------------------------------------------------------------------------------------------


@every_kind
def test_use_without_workers(kind: Any) -> None:
    """Before ``start`` and after ``stop`` it is an error that says what to do; ``stop`` is none."""
    handler = new(kind, square)
    assert handler.worker_count == 0
    handler.stop()
    with pytest.raises(RuntimeError, match="call start first"):
        handler.process_results()
    for _ in range(2):
        for use in (
            lambda: handler.add_tasks([1]),
            lambda: handler.check_process_timeout(1),
            lambda: handler.cancel_processes([]),
            lambda: handler.reset_sanity_timer(),
        ):
            with pytest.raises(RuntimeError, match="call start first"):
                use()
        handler.start(1)
        handler.stop()
        handler.stop()
    assert handler.process_results() == ([], [])


@every_kind
def test_starts(make: Make, kind: Any) -> None:
    """Once, until it was stopped; then again, with another number. Without a number, as many as cores."""
    handler = make(kind, square, 2)
    assert handler.worker_count == 2
    with pytest.raises(RuntimeError, match="started already"):
        handler.start(2)
    handler.stop()
    assert handler.worker_count == 0
    handler.start()
    assert handler.worker_count >= 1
    handler.add_tasks([4])
    assert handler.process_results() == ([16], [])


@every_kind
@pytest.mark.parametrize("number", [0, -1, 1.5, "2"])
def test_numbers_of_workers(kind: Any, number: Any) -> None:
    """A whole number, 1 or more."""
    with pytest.raises((TypeError, ValueError), match="workers"):
        new(kind, square).start(number)


@every_kind
def test_stop_drops_what_waits(make: Make, kind: Any, begun: Fifo, gate: Fifo) -> None:
    """What runs is finished, what waits is an error with its arguments, and all can be taken afterwards."""
    handler = make(kind, hold, 1)
    tasks = [(name, begun.path, gate.path) for name in "abc"]
    handler.add_tasks(tasks)
    begun.line()
    stopping = threading.Thread(target=handler.stop, args=(None,) if kind is ProcessHandler else ())
    stopping.start()
    until(lambda: handler._backend is None, "stop has begun")
    gate.let_go(1)
    stopping.join()
    results, errors = handler.process_results()
    assert results == ["a"]
    assert [(error.arguments, type(error.exception)) for error in errors] == [
        (tasks[1], CancelledError),
        (tasks[2], CancelledError),
    ]
    assert begun.empty()


@pytest.mark.parametrize("kind", POOLS)
def test_stop_after_all(make: Make, kind: Any) -> None:
    """With ``cancel_futures=False`` all that was added is run first."""
    handler = make(kind, square, 1)
    handler.add_tasks(range(50))
    handler.stop(cancel_futures=False)
    assert handler.process_results() == ([number**2 for number in range(50)], [])


@every_kind
def test_stop_at_once(make: Make, kind: Any, begun: Fifo, gate: Fifo) -> None:
    """What runs is ended, or left to itself where it can't be, and is an error with its arguments."""
    handler = make(kind, hold, 1)
    tasks = [(name, begun.path, gate.path) for name in "ab"]
    handler.add_tasks(tasks)
    _, pid = begun.line().split()
    if kind is ThreadPoolHandler:
        handler.stop(wait=False)
    else:
        with ends_of([int(pid)]) as ended:
            handler.stop(0) if kind is ProcessHandler else handler.stop(wait=False)
            ended()
    results, errors = handler.process_results()
    assert results == []
    assert [error.arguments for error in errors] == tasks
    assert all(isinstance(error.exception, CancelledError) for error in errors)


@every_kind
def test_stop_while_somebody_waits(make: Make, kind: Any, begun: Fifo, gate: Fifo) -> None:
    """Who waits for results has what became of all tasks."""
    handler = make(kind, hold, 1)
    handler.add_tasks([(name, begun.path, gate.path) for name in "ab"])
    begun.line()
    taken: list[Any] = []
    taking = threading.Thread(target=lambda: taken.append(handler.process_results()))
    taking.start()
    handler._stop(0.0)
    taking.join()
    assert [len(part) for part in taken[0]] == [0, 2]


@every_kind
def test_stop_while_tasks_are_added(make: Make, kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who adds them is told so, and nobody waits for what was not taken."""
    handler = make(kind, square)
    backend = handler._backend
    handler.stop()
    monkeypatch.setattr(handler, "_opened", lambda: backend)
    with pytest.raises(RuntimeError, match="was stopped while tasks were added"):
        handler.add_tasks([1])
    assert handler.process_results() == ([], [])
    assert handler._unended == 0


@every_kind
def test_a_task_again_after_the_end(make: Make, kind: Any) -> None:
    """A handler that wants one has the failure told instead: there is nobody to run it."""
    handler = make(kind, by_name, handle_error_fn=retry)
    handler.add_tasks([("raise", ("value", 1))])
    until(lambda: handler._ended, "the task has ended")
    handler.stop()
    _, (error,) = handler.process_results()
    check_error(kind, error, ("raise", ("value", 1)), ValueError)


@every_kind
def test_a_block(kind: Any, begun: Fifo, gate: Fifo) -> None:
    """At its end the workers are stopped; if an error ends it, what runs is ended."""
    with new(kind, square) as handler:
        handler.start(1)
        handler.add_tasks([3])
        assert handler.process_results() == ([9], [])
    assert handler.worker_count == 0
    with pytest.raises(KeyError), new(kind, hold) as handler:
        handler.start(1)
        handler.add_tasks([("a", begun.path, gate.path)])
        begun.line()
        raise KeyError
    assert [len(part) for part in handler.process_results()] == [0, 1]


# -- what takes too long --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", POOLS)
def test_what_takes_too_long(make: Make, kind: Any, begun: Fifo, gate: Fifo) -> None:
    """Tasks that run are told, those that wait are not; cancelled, each is one error with its arguments."""
    asked: list[Any] = []
    handler = make(kind, hold, 2, handle_error_fn=lambda *_: asked.append(1))
    tasks = [(name, begun.path, gate.path) for name in "abcd"]
    handler.add_tasks(tasks)
    told = dict(begun.line().split() for _ in range(2))
    until(lambda: len(handler.check_process_timeout(0)) == 2, "both are seen to run")
    late = handler.check_process_timeout(timeout=0)
    assert [task.arguments for task in late] == tasks[:2]
    assert not any(task.done() or task.cancelled() for task in late)
    assert all(task.running() for task in late)
    assert handler.check_process_timeout(timeout=1000) == []
    handler.cancel_processes(futures=late[:1])
    handler.cancel_processes(late[:1])  # again: nothing
    results, (error,) = handler.process_results(1)
    assert results == [] and late[0].done() and late[0].cancelled()
    assert (error.arguments, type(error.exception)) == (tasks[0], CancelledError)
    if kind is not ThreadPoolHandler:
        with pytest.raises(ProcessLookupError), ends_of([int(told["a"])]):
            pass
    begun.line()  # another worker has the place, and the next task
    gate.let_go(4)  # one of them for the thread, if it is one
    begun.line()
    assert handler.process_results() == (["b", "c", "d"], [])
    assert asked == []


@every_kind
def test_a_frozen_task_again(make: Make, kind: Any, tmp_path: Path, begun: Fifo, gate: Fifo) -> None:
    """As the document has it: its arguments are added again, once it was cancelled."""
    handler = make(kind, hold_once, 1)
    arguments = (tmp_path / "mark", begun.path, gate.path)
    handler.add_tasks([arguments])
    begun.line()
    until(lambda: (tmp_path / "mark").exists(), "it is stuck")
    until(lambda: handler.check_process_timeout(timeout=0), "it is seen to run")
    frozen = handler.check_process_timeout(timeout=0)
    handler.cancel_processes(futures=frozen)
    handler.add_tasks(futures=[task.arguments for task in frozen])
    results, (error,) = handler.process_results()
    assert results == ["again"]
    assert error.arguments == arguments and isinstance(error.exception, CancelledError)


@every_kind
def test_time_that_counts_anew(
    make: Make, kind: Any, monkeypatch: pytest.MonkeyPatch, begun: Fifo, gate: Fifo
) -> None:
    """From the last ``reset_sanity_timer`` on."""
    handler = make(kind, hold, 1)
    handler.add_tasks([("a", begun.path, gate.path)])
    begun.line()
    until(lambda: handler.check_process_timeout(0.01), "it has run for so long")
    monkeypatch.setattr(handler, "_counted", lambda: 0.005)
    assert not handler.check_process_timeout(0.01)
    monkeypatch.undo()
    before = handler._counted()
    handler.reset_sanity_timer()
    assert handler._counted() < before
    gate.let_go()


@pytest.mark.parametrize("kind", OF_PROCESSES)
def test_time_counts_from_the_beginning(make: Make, kind: Any, begun: Fifo, gate: Fifo) -> None:
    """Not from when somebody asks for the first time: what runs is looked at all along."""
    handler = make(kind, hold, 1)
    handler.add_tasks([("a", begun.path, gate.path)])
    begun.line()
    backend = handler._backend
    lane = backend._children[0].lane if kind is ProcessHandler else backend._lane
    until(lambda: lane.pool.dispatcher._limits._overtime._seen, "somebody has looked")
    gate.let_go()


@every_kind
@pytest.mark.parametrize("timeout", [-1, "5", None, True, float("nan")])
def test_timeouts_are_seconds(make: Make, kind: Any, timeout: Any) -> None:
    """A number, 0 or more."""
    with pytest.raises((TypeError, ValueError), match="timeout"):
        make(kind, square).check_process_timeout(timeout)


# -- arguments ------------------------------------------------------------------------------------------------


@every_kind
def test_bad_arguments(make: Make, kind: Any) -> None:
    """They are named, before anything happens."""
    with pytest.raises(TypeError, match="target_fn"):
        kind(5)
    for name in ("validate_args_fn", "validate_result_fn", "handle_error_fn"):
        with pytest.raises(TypeError, match=name):
            kind(counting, **{name: 5})
    handler = make(kind, square)
    for count in (0, -1):
        with pytest.raises(ValueError, match="count"):
            handler.process_results(count)
    with pytest.raises(TypeError, match="count"):
        handler.process_results("all")
    for call in (
        lambda: handler.add_tasks(),
        lambda: handler.add_tasks([1], futures=[2]),
        lambda: handler.add_tasks(5),
    ):
        with pytest.raises(TypeError, match="tasks"):
            call()
    with pytest.raises(TypeError, match="futures"):
        handler.cancel_processes([5])
    assert handler.process_results() == ([], [])


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (PoolFutureException("y", TypeError("why")), "TypeError: why (with the arguments 'y')"),
        (PoolFutureException("y"), "None (with the arguments 'y')"),
        (ProcessingException(TypeError("why"), "there", [1]), "TypeError: why (with the arguments [1])"),
    ],
)
def test_exceptions(error: Any, text: str) -> None:
    """They say what happened to which arguments, and are the same after pickling."""
    assert str(error) == text
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), repr(again)) == (type(error), text, repr(error))
    assert again.arguments == error.arguments
    assert repr(again.exception) == repr(error.exception)
    assert getattr(again, "traceback", None) == getattr(error, "traceback", None)
    assert again.__cause__ is again.exception


def test_names_of_their_arguments() -> None:
    """They are those of the document."""
    error = ValueError()
    pool = PoolFutureException(arguments=1, exception=error)
    assert (pool.arguments, pool.exception) == (1, error)
    process = ProcessingException(exception=error, traceback="there", arguments=1)
    assert (process.exception, process.traceback, process.arguments) == (error, "there", 1)


# -- messages -------------------------------------------------------------------------------------------------


def test_the_logger(make: Make, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]) -> None:
    """Messages go to the logger of the name that was given, and nowhere else."""
    caplog.set_level(logging.INFO)
    make(ThreadPoolHandler, square, logging_name="mine").stop()
    assert [(record.name, record.levelname) for record in caplog.records] == [("mine", "INFO")] * 2
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("options", "lines"),
    [({"console_level": logging.INFO}, 2), ({"debug": True}, 3), ({"console_level": "ERROR"}, 0)],
)
def test_the_console(make: Make, capsys: pytest.CaptureFixture[str], options: Any, lines: int) -> None:
    """With a level, or with ``debug``, messages are written, once, whatever handlers there were before."""
    make(ThreadPoolHandler, square, **options).stop()
    capsys.readouterr()
    handler = make(ThreadPoolHandler, square, validate_args_fn=lambda _: False, **options)
    handler.add_tasks([1])
    handler.stop()
    assert len(capsys.readouterr().err.splitlines()) == lines

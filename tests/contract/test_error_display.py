"""What a user sees of an error: their frames, those in workers included, none of ours, and one line that says where."""

from __future__ import annotations

import asyncio
import pdb  # noqa: T100
import pickle
import threading
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

import manyhands
from manyhands import (
    FailedElsewhere,
    Handler,
    InvalidArguments,
    PoolClosed,
    RemoteError,
    TaskTimeout,
    WorkerDied,
    parallel,
    validated,
)
from tests.contract import display_tasks as tasks
from tests.helpers import run_script, shown, write_script

How = dict[str, Any]
OURS = str(Path(manyhands.__file__).parent)
BACKENDS = ("inline", "threads", "fork", "spawn", "forkserver", "controller", "thread executor", "executor")
PROCESSES = ("fork", "spawn", "forkserver", "controller", "executor")


@pytest.fixture(scope="module")
def executors() -> Iterator[dict[str, Any]]:
    """Executors of the standard library."""
    with ThreadPoolExecutor(2) as threads, ProcessPoolExecutor(1) as processes:
        yield {"thread executor": threads, "executor": processes}


@pytest.fixture(params=BACKENDS)
def everywhere(request: pytest.FixtureRequest) -> How:
    """Options that say who runs a map, one after the other."""
    return options(request)


@pytest.fixture(params=PROCESSES)
def elsewhere(request: pytest.FixtureRequest) -> How:
    """Those that run it in other processes."""
    return options(request)


def options(request: pytest.FixtureRequest) -> How:
    """What the backend of this name is asked for by."""
    name = request.param
    if name in ("inline", "threads"):
        return {"backend": name}
    if name == "controller":
        return {"backend": request.getfixturevalue("controller")}
    if "executor" in name:
        return {"backend": request.getfixturevalue("executors")[name]}
    return {"workers": 2, "start_method": name}


def raised(call: Callable[[], object]) -> BaseException:
    """What the call raises, seen from its own frame on."""
    try:
        call()
    except BaseException as error:
        assert error.__traceback__ is not None
        return error.with_traceback(error.__traceback__.tb_next)
    raise AssertionError("it raised nothing")


def frames(error: BaseException) -> list[str]:
    """The functions of its traceback."""
    return [frame.name for frame in traceback.extract_tb(error.__traceback__)]


def ways(how: How) -> dict[str, Callable[[], object]]:
    """The ways to have 3 mapped or called."""

    async def iterate() -> None:
        async for _ in tasks.fail.map([1, 2, 3], **how):
            pass

    return {
        "list": lambda: list(tasks.fail.map([1, 2, 3], **how)),
        "iterator": lambda: list(tasks.fail.map(iter([1, 2, 3]), **how)),
        "unordered": lambda: list(tasks.fail.map([1, 2, 3], ordered=False, **how)),
        "wait": lambda: tasks.fail.map([1, 2, 3], **how).wait(),
        "async for": lambda: asyncio.run(iterate()),
    }


@pytest.mark.parametrize("way", ways({}))
def test_the_users_frames_and_one_line(everywhere: How, way: str) -> None:
    """The call is followed by what the function did, with the lines of both; the last line says where it was."""
    error = raised(ways(everywhere)[way])
    assert frames(error)[-2:] == ["fail", "broken"]
    told = shown(error)
    assert OURS not in told and "RemoteTraceback" not in told
    assert "\n    broken(x)\n" in told and '\n    raise ValueError(f"{x} is broken")\n' in told
    assert (*told.splitlines()[-2:],)[0] == "ValueError: 3 is broken"
    assert told.splitlines()[-1].startswith("in fail, item 2: 3, worker ")
    assert error.__cause__ is None and len(error.__notes__) == 1
    if way == "list":
        assert frames(error) == ["<lambda>", "fail", "broken"]


INTERRUPTED = """
import os, signal, sys, traceback
from manyhands import parallel

@parallel(workers=2)
def interrupt(pid, waits=True):
    os.kill(pid, signal.SIGINT)
    if waits:  # to be ended with its map; what was submitted would be waited for at exit
        signal.pause()

ways = {
    "list": lambda: list(interrupt.map([os.getpid(), 0])),
    "wait": lambda: interrupt.map([os.getpid()]).wait(),
    "collect": lambda: interrupt.map([os.getpid()]).collect(),
    "outcomes": lambda: list(interrupt.map([os.getpid()]).outcomes()),
    "submit": lambda: interrupt.submit(os.getpid(), waits=False).result(),
}
signal.signal(signal.SIGINT, signal.default_int_handler)
try:
    ways[sys.argv[1]]()
except KeyboardInterrupt as error:
    print([frame.name for frame in traceback.extract_tb(error.__traceback__)])
"""


@pytest.mark.parametrize("way", ["list", "wait", "collect", "outcomes", "submit"])
def test_an_interrupt_shows_the_users_call_alone(way: str, tmp_path: Path) -> None:
    """Not where in the library it came."""
    script = write_script(tmp_path / "script.py", INTERRUPTED)
    assert run_script(script, way) == "['<module>', '<lambda>']\n"


@pytest.mark.parametrize("way", ["list", "outcomes", "collect"])
def test_what_the_input_raises_shows_no_frames_of_ours(everywhere: How, way: str) -> None:
    """But the user's call, and the user's iterator."""

    def items() -> Iterator[int]:
        yield 1
        raise LookupError("no more")

    results = parallel(abs).map(items(), **everywhere)
    calls: dict[str, Callable[[], object]] = {
        "list": lambda: list(results),
        "outcomes": lambda: list(results.outcomes()),
        "collect": results.collect,
    }
    error = raised(calls[way])
    assert isinstance(error, LookupError) and frames(error)[-1] == "items"
    assert OURS not in shown(error)


def test_a_frame_knows_its_line(elsewhere: How) -> None:
    """IPython asks the frame for it, and not the traceback."""

    def fails(x: int) -> int:
        y = x + 1
        raise ValueError(y)

    with pytest.raises(ValueError, match="2") as caught:
        list(parallel(fails).map([1], **elsewhere))
    last = caught.value.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    assert last is not None and last.tb_frame.f_code.co_name == "fails"
    assert last.tb_lineno == last.tb_frame.f_lineno == fails.__code__.co_firstlineno + 2


@pytest.mark.parametrize("task", [tasks.fail, tasks.fail_again, tasks.fail_judged])
def test_a_future(everywhere: How, task: Any) -> None:
    """It raises what the call raised, with the same frames each time that it is asked."""
    future = task.options(**everywhere).submit(3)
    for _ in range(3):
        error = raised(lambda: future.result(60))
        assert [name for name in frames(error) if name.startswith(("fail", "broken", "result"))][-1] == "broken"
        told = shown(error)
        assert OURS not in told and told.count("in broken") == 1 and told.count(", in <lambda>") <= 2
        assert told.splitlines()[-1].replace("submitted ", "").startswith(f"in a call of {task.__name__}(3)")


@pytest.mark.parametrize("task", [tasks.fail, tasks.fail_again, tasks.fail_judged])
def test_a_direct_call(task: Any) -> None:
    """It looks as if nothing were in between."""
    error = raised(lambda: task(3))
    assert OURS not in shown(error) and frames(error)[-1] == "broken"
    assert frames(error)[:2] in (["<lambda>", task.__name__], ["<lambda>", "<lambda>"])


def test_a_claimed_output(everywhere: How, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does one see what claims do."""
    monkeypatch.chdir(tmp_path)
    error = raised(lambda: list(tasks.fail_claimed.map([1, 3], **everywhere)))
    assert OURS not in shown(error) and frames(error) == ["<lambda>", "fail_claimed", "broken"]
    error = raised(lambda: tasks.fail_claimed(3))
    assert OURS not in shown(error) and frames(error)[-1] == "broken"


def test_what_another_process_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its traceback is a text, and shown as the cause."""
    monkeypatch.chdir(tmp_path)
    believing = parallel(manyhands.claimed_output("{x}.txt", failed="report")(tasks.fail_claimed.__wrapped__))
    raised(lambda: believing(3))
    error = raised(lambda: believing(3))
    assert isinstance(error, FailedElsewhere) and "in broken" in str(error.__cause__)
    assert OURS not in shown(error)


def test_earlier_attempts(everywhere: How) -> None:
    """A line for each, and then the one that says where."""
    error = raised(lambda: list(tasks.fail_again.map([7], **everywhere)))
    first, second, last = error.__notes__
    assert first.startswith("attempt 1: ValueError: 7 is broken")
    assert second.startswith("attempt 2: ValueError: 7 is broken")
    assert last.startswith("in fail_again, item 0: 7, attempt 3, worker ")


def test_of_many_attempts_the_latest() -> None:
    """More than a few lines would hide the error."""
    error = raised(lambda: manyhands.retry_on(ValueError, attempts=9, wait=0)(tasks.broken)(1))
    assert [note[:20] for note in error.__notes__] == [
        "(5 earlier attempts)",
        "attempt 6: ValueErro",
        "attempt 7: ValueErro",
        "attempt 8: ValueErro",
        "in a call of broken(",
    ]


def test_an_earlier_attempt_takes_one_line() -> None:
    """The beginning of its message, if that is long."""
    for text in ("first\nsecond", "x" * 1000):
        error = raised(lambda text=text: manyhands.retry_on(ValueError, attempts=2, wait=0)(tasks.broken)(text))
        note, last = error.__notes__
        assert len(note.splitlines()) == 1 and len(note) < 300 and "…" in note
        assert len(last.splitlines()) == 1 and len(last) < 200


def test_a_map_within_a_task(everywhere: How) -> None:
    """Both calls are seen, one after the other, and a line for each."""
    error = raised(lambda: list(tasks.fail_within.map([3], **everywhere)))
    assert frames(error) == ["<lambda>", "fail_within", "fail", "broken"]
    inner, outer = error.__notes__
    assert inner.startswith("in fail, item 0: 3, worker") and outer.startswith(
        "in fail_within, item 0: 3, worker"
    )


def test_causes_and_contexts(everywhere: How) -> None:
    """They are what they were, with frames of their own, and shown as where they were raised."""
    error = raised(lambda: list(tasks.raise_chain.map(["cause"], **everywhere)))
    assert isinstance(error.__cause__, KeyError) and error.__suppress_context__
    assert frames(error.__cause__) == ["raise_chain"]
    assert "The above exception was the direct cause" in shown(error)
    error = raised(lambda: list(tasks.raise_chain.map(["context"], **everywhere)))
    assert isinstance(error.__context__, KeyError) and not error.__suppress_context__
    assert "During handling of the above exception" in shown(error)
    error = raised(lambda: list(tasks.raise_chain.map(["suppressed"], **everywhere)))
    assert "KeyError" not in shown(error)


def test_a_cause_that_does_not_pickle(elsewhere: How) -> None:
    """Something that has its type's name and its frames stands for it."""
    error = raised(lambda: list(tasks.raise_chain.map(["strange cause"], **elsewhere)))
    assert isinstance(error.__cause__, RemoteError) and error.__cause__.type_name.endswith("TwoArguments")
    assert frames(error.__cause__) == ["raise_chain"]


def test_what_stands_for_an_exit(elsewhere: How) -> None:
    """It has the frames of the call that would have ended its process."""
    error = raised(lambda: list(tasks.leave.map([3], **elsewhere)))
    assert isinstance(error, RemoteError) and frames(error) == ["<lambda>", "leave"]


def test_groups_keep_their_frames(everywhere: How) -> None:
    """Each exception of a group is shown with its own."""
    error = raised(lambda: list(tasks.raise_chain.map(["group"], **everywhere)))
    assert isinstance(error, ExceptionGroup)
    first, second = error.exceptions
    assert frames(first) == ["raise_chain"] and frames(second) == []
    assert 'known["first"]' in shown(error) and OURS not in shown(error)


def test_what_the_error_tells_itself(everywhere: How) -> None:
    """Notes of the user's come before ours; a SyntaxError shows its line; what can't be changed is noted, too."""
    error = raised(lambda: list(tasks.raise_chain.map(["noted"], **everywhere)))
    assert error.__notes__[0] == "a note of the user's" and len(error.__notes__) == 2
    error = raised(lambda: list(tasks.raise_chain.map(["syntax"], **everywhere)))
    assert 'File "settings.txt", line 1' in shown(error) and "a = (1" in shown(error)
    error = raised(lambda: list(tasks.raise_chain.map(["frozen"], **everywhere)))
    assert "Frozen" in repr(error) and "item 0: 'frozen'" in error.__notes__[0]


def test_an_endless_recursion(everywhere: How) -> None:
    """It is told as Python tells it, and short."""
    error = raised(lambda: list(tasks.fall.map([0], **everywhere)))
    assert isinstance(error, RecursionError) and " more times]" in shown(error)
    assert sum(name == "deeper" for name in frames(error)) > 900
    assert len(shown(error).splitlines()) < 20


@pytest.mark.parametrize("method", ["fork", "forkserver"])
def test_errors_of_the_librarys_own(method: str) -> None:
    """They have the user's call and no frame of ours."""
    how: How = {"workers": 1, "start_method": method}
    error = raised(lambda: list(tasks.end.map([1, 3], **how)))
    assert isinstance(error, WorkerDied) and frames(error) == ["<lambda>"]
    assert error.__notes__[0].startswith("in end, item 1: 3, worker ")
    error = raised(lambda: list(tasks.stay.map([1, 3], timeout=0.1, **how)))
    assert isinstance(error, TaskTimeout) and frames(error) == ["<lambda>"]
    checked = parallel(validated(arguments=lambda x: x != 3, invalid="raise")(tasks.fail.__wrapped__))
    for call in (lambda: list(checked.map([1, 3], **how)), lambda: checked(3)):
        error = raised(call)
        assert isinstance(error, InvalidArguments) and frames(error) == ["<lambda>"]
        assert len(error.__notes__) == 1
    error = raised(lambda: list(tasks.fail.map([(1, 2)], star=True, **how)))
    assert frames(error) == ["<lambda>"] and "nothing was started" in error.__notes__[0]


def test_what_the_input_raises(everywhere: How) -> None:
    """Its own frames follow the call."""

    def numbers() -> Iterator[int]:
        yield 1
        tasks.broken(2)

    error = raised(lambda: list(tasks.fail.map(numbers(), **everywhere)))
    assert frames(error) == ["<lambda>", "numbers", "broken"]


def test_a_handler(elsewhere: How) -> None:
    """The error in an outcome has the frames of the user's function, and the line that says where."""
    with Handler(tasks.fail, **elsewhere) as handler:
        handler.extend([1, 3])
        failure = next(outcome.failure for outcome in handler.results() if outcome.failure)
        list(handler.results())
    assert frames(failure.error) == ["fail", "broken"]
    assert failure.error.__notes__[0].startswith("in the handler of fail, item 1: 3, worker ")
    assert isinstance(raised(lambda: handler.add(1)), PoolClosed)


def test_a_debugger_finds_the_place(elsewhere: How) -> None:
    """Post mortem, it stands at the line that raised, where the module's names can be looked at."""
    error = raised(lambda: list(tasks.fail.map([3], **elsewhere)))
    output = StringIO()
    debugger = pdb.Pdb(
        stdin=StringIO("list\np TwoArguments.__name__\nup\nq\n"), stdout=output, nosigint=True, readrc=False
    )
    debugger.reset()
    debugger.interaction(None, error.__traceback__)
    assert "->" in output.getvalue() and 'raise ValueError(f"{x} is broken")' in output.getvalue()
    assert "NameError" not in output.getvalue() and "broken(x)" in output.getvalue()


def test_errors_are_pickled_as_ever(elsewhere: How) -> None:
    """What came from a worker can be pickled again, with its notes."""
    error = raised(lambda: list(tasks.fail.map([3], **elsewhere)))
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is ValueError and again.args == error.args and again.__notes__ == error.__notes__


def test_a_function_that_can_not_be_sent() -> None:
    """The message names what of it can't."""
    lock = threading.Lock()

    @parallel(workers=1)
    def held(x: int) -> int:
        with lock:
            return x

    for error in (raised(lambda: held.map([1])), raised(lambda: held.submit(1))):
        assert "it refers to 'lock', a _thread.lock" in str(error)

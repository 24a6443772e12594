"""``ReturnProcess``, ``ParEval`` and ``set_start_method`` of manyhands.compat.parmapper."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from manyhands import WorkerDied
from manyhands.compat import parmapper
from manyhands.compat.parmapper import ParEval, ReturnProcess, parmap
from tests.compat.tasks import fails, meet, report
from tests.helpers import Fifo, ends_of, run_script, shown, tell, wait_for, write_script


async def begun_later() -> None: ...


def begun_process(begun: Fifo, gate: Fifo, **options: Any) -> tuple[ReturnProcess, int]:
    """A process that is at its call, and its id."""
    process = ReturnProcess(meet, args=(begun.path, gate.path), **options).start()
    return process, int(begun.line())


# -- ReturnProcess ------------------------------------------------------------------------------------------


def test_join_returns_the_result() -> None:
    """``start`` returns the object and ``join`` the result of the call, as often as it is asked."""
    process = ReturnProcess(report, args=(1, 2), kwargs={"k": 3})
    assert process.start() is process
    assert [process.join(), process.join(timeout=90)] == [((1, 2), {"k": 3})] * 2
    assert ReturnProcess(target=report).start().join() == ((), {})


def test_it_is_a_process_of_its_own(begun: Fifo, gate: Fifo) -> None:
    """Two of them run at the same time, each in its own process, which has ended after ``join``."""
    (first, one), (second, two) = begun_process(begun, gate), begun_process(begun, gate)
    assert len({one, two, os.getpid()}) == 3
    assert first.is_alive() and second.is_alive()
    with ends_of([one, two]) as wait:
        gate.let_go(2)
        assert [first.join(), second.join()] == [one, two]
        assert not psutil.pid_exists(one) and not psutil.pid_exists(two)
        wait()
    assert not first.is_alive() and not second.is_alive()


def test_closures_and_what_cannot_be_pickled() -> None:
    """The target may be a lambda or a closure; it and its arguments need not be picklable."""
    lock, number = threading.Lock(), 5
    assert ReturnProcess(lambda x: x + number, args=(1,)).start().join() == 6
    assert ReturnProcess(lambda x: (lock.locked(), x), args=(1,)).start().join() == (False, 1)
    assert ReturnProcess(
        lambda x, y: (x.locked(), y.locked()), args=(lock,), kwargs={"y": lock}
    ).start().join() == (
        False,
        False,
    )


@pytest.mark.parametrize("exception", ["raise", "proc"])
def test_its_error_is_raised(exception: Any) -> None:
    """What the call raises is raised by ``join``, with the traceback it had; the process has ended."""
    process = ReturnProcess(fails, args=(4,), exception=exception).start()
    for _ in range(2):
        with pytest.raises(KeyError) as caught:
            process.join()
        assert caught.value.args == (4,) and "in fails" in shown(caught.value)
    assert not process.is_alive()


def test_its_error_is_returned() -> None:
    """With "return", the error is what ``join`` returns."""
    error = ReturnProcess(fails, "return", args=(4,)).start().join()
    assert type(error) is KeyError and error.args == (4,)


def test_a_result_that_cannot_be_sent() -> None:
    """A result that can't be pickled is an error of that call, not a wait without end."""
    with pytest.raises(TypeError, match="lock"):
        ReturnProcess(threading.Lock).start().join()


def test_a_killed_process(begun: Fifo, gate: Fifo) -> None:
    """If the process is killed, ``join`` says so at once."""
    process, pid = begun_process(begun, gate)
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(WorkerDied, match="SIGKILL") as caught:
        process.join()
    assert caught.value.pid == pid and not process.is_alive()


def test_it_can_be_ended(begun: Fifo, gate: Fifo) -> None:
    """``terminate`` and ``kill`` end the process while the call runs; ``join`` says that it died."""
    process, pid = begun_process(begun, gate)
    process.terminate()
    with pytest.raises(WorkerDied):
        process.join()
    assert not psutil.pid_exists(pid)
    process.kill()


@pytest.mark.parametrize("exception", ["raise", "return"])
def test_it_can_be_ended_at_once(gate: Fifo, exception: Any) -> None:
    """Ended before its call has begun, its call never runs; ``join`` raises that, or returns it."""
    process = ReturnProcess(meet, exception, args=(os.devnull, gate.path)).start()
    process.terminate()
    if exception == "return":
        assert isinstance(process.join(), CancelledError | WorkerDied)
    else:
        with pytest.raises((CancelledError, WorkerDied)):
            process.join()
    assert not process.is_alive()


def test_terminate_before_and_after() -> None:
    """Ended before it is started, nothing happens; after the call, its result stays."""
    process = ReturnProcess(report, args=(1,))
    process.terminate()
    assert process.start().join() == ((1,), {})
    process.terminate()
    assert process.join() == ((1,), {})


def test_join_gives_up(begun: Fifo, gate: Fifo) -> None:
    """``join`` with a timeout raises TimeoutError and lets the call go on."""
    process, pid = begun_process(begun, gate)
    with pytest.raises(TimeoutError, match="has not ended"):
        process.join(timeout=0)
    assert process.is_alive()
    gate.let_go()
    assert process.join() == pid


def test_dropped_without_join(begun: Fifo, gate: Fifo) -> None:
    """Dropped without ``join``, its call is finished, and then its process ends."""
    process, pid = begun_process(begun, gate)
    del process
    gc.collect()
    assert psutil.pid_exists(pid)
    with ends_of([pid]) as wait:
        gate.let_go()
        wait()


def test_misuse_of_a_process() -> None:
    """It is started once, and before it is joined."""
    process = ReturnProcess(report, name="mine")
    assert process.name == "mine" and process.daemon is False and not process.is_alive()
    with pytest.raises(RuntimeError, match=r"mine of report: not started.*before it is started"):
        process.join()
    process.start().join()
    with pytest.raises(RuntimeError, match=r"mine of report: ended.*only once"):
        process.start()


def test_a_forked_process_does_not_join(begun: Fifo, gate: Fifo) -> None:
    """A process that was forked from its own can't join it, and does not wait in vain."""
    process, pid = begun_process(begun, gate)

    def join() -> str:
        with pytest.raises(RuntimeError, match="the process that made it"):
            process.join()
        return "refused"

    lock = threading.Lock()  # so that it is inherited by a fork
    assert list(parmap(lambda _: lock.locked() or join(), [1], N=2)) == ["refused"]
    gate.let_go()
    assert process.join() == pid


@pytest.mark.parametrize(
    ("name", "value", "kind"),
    [
        ("target", None, TypeError),
        ("target", 3, TypeError),
        ("target", begun_later, TypeError),
        ("exception", "ignore", ValueError),
        ("args", 3, TypeError),
        ("kwargs", [1], TypeError),
        ("group", "some", ValueError),
    ],
)
def test_bad_arguments_of_a_process(name: Any, value: Any, kind: Any) -> None:
    """A bad argument is told at once, by its name."""
    with pytest.raises(kind, match=f"^{name} "):
        ReturnProcess(**{"target": report, name: value})


# -- ParEval ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "settings", "lengths"),
    [
        (10, {"n_chunks": 3}, [4, 3, 3]),
        (10, {"n_chunks": 1}, [10]),
        (3, {"n_chunks": 5}, [1, 1, 1]),
        (10, {"n_eval": 3}, [3, 3, 2, 2]),
        (10, {"n_eval": 10}, [10]),
        (10, {"n_eval": 100}, [10]),
        (10, {"n_chunks": 5, "n_min": 3}, [4, 3, 3]),
        (10, {"n_eval": 1, "n_min": 4}, [5, 5]),
        (10, {"n_chunks": 5, "n_min": 20}, [10]),
        (0, {"n_chunks": 3}, [0]),
        (0, {"n_eval": 3, "n_min": 2}, [0]),
    ],
)
def test_arrays_are_split(rows: Any, settings: Any, lengths: Any) -> None:
    """The parts are as even as they can be, by number or by size, never too small, and none is empty."""
    seen: list[int] = []

    def double(part: Any) -> Any:
        seen.append(len(part))
        return 2 * part

    assert ParEval(double, N=1, **settings)(np.arange(rows)).tolist() == [2 * row for row in range(rows)]
    assert seen == lengths


@pytest.mark.parametrize("number", [1, 3])
def test_arrays_are_split_among_all_cores(monkeypatch: pytest.MonkeyPatch, number: Any) -> None:
    """Without a number, there are CPU_COUNT parts."""
    monkeypatch.setattr(parmapper, "CPU_COUNT", number)
    parfun = ParEval(lambda part: np.array([len(part)]))
    assert parfun(np.arange(6)).tolist() == [6 // number] * number


@pytest.mark.parametrize("how", [{"N": 1}, {"N": 2}])
def test_arrays_are_joined(how: dict[str, int]) -> None:
    """The result is that of the plain call, whatever the array's shape, in its order."""
    table = np.arange(84.0).reshape(7, 3, 4)
    doubled = ParEval(lambda part: 2 * part, n_eval=2, ordered=False, chunksize=5, **how)(table)
    assert doubled.shape == (7, 3, 4) and (doubled == 2 * table).all()
    assert ParEval(lambda part: part.sum(axis=(1, 2)), **how)(table).tolist() == table.sum(axis=(1, 2)).tolist()
    assert ParEval(np.sqrt, **how)([4, 9]).tolist() == [2, 3]
    assert ParEval(np.sqrt, **how)(16).tolist() == [4]


def test_arrays_are_joined_in_order(gate: Fifo) -> None:
    """Parts that end late keep their places, whatever ``ordered`` says."""

    def first_waits(part: Any) -> Any:
        if part[0] == 0:
            wait_for(gate.path)
        else:
            tell(gate.path, "go on")
        return part

    parfun = ParEval(first_waits, n_chunks=2, N=2, ordered=False)
    assert parfun(np.arange(4)).tolist() == [0, 1, 2, 3]


def test_arrays_take_the_options_of_parmap() -> None:
    """The options of parmap go to parmap, and an error is raised with its part's number."""
    scaled = ParEval(lambda part, factor, shift: factor * part + shift, 2, args=(3,), kwargs={"shift": 1}, N=2)
    assert scaled(np.arange(4)).tolist() == [1, 4, 7, 10]
    with pytest.raises(ZeroDivisionError) as caught:
        ParEval(lambda part: part + 1 // (2 - int(part[0])), n_eval=1, N=2)(np.arange(4))
    assert caught.value.seq_index == 2


def test_a_parallel_function_can_be_passed_on() -> None:
    """It can be called like the function, many times, and in processes too."""
    parfun = ParEval(np.negative, n_chunks=2, N=2)
    assert [parfun(np.arange(3)).tolist() for _ in range(2)] == [[0, -1, -2]] * 2
    assert [part.tolist() for part in parmap(parfun, [np.ones(2)] * 2, N=2)] == [[-1, -1]] * 2


@pytest.mark.parametrize(
    ("name", "options", "kind"),
    [
        ("n_chunks and n_eval", {"n_chunks": 2, "n_eval": 2}, ValueError),
        ("n_chunks", {"n_chunks": 0}, ValueError),
        ("n_chunks", {"n_chunks": 1.5}, TypeError),
        ("n_eval", {"n_eval": 0}, ValueError),
        ("n_min", {"n_min": -1}, ValueError),
        ("fun", {"fun": 3}, TypeError),
        ("N", {"N": 0}, ValueError),
        ("exception", {"exception": "return"}, ValueError),
        (".*'workers'", {"workers": 2}, TypeError),
    ],
)
def test_bad_arguments_for_arrays(name: Any, options: Any, kind: Any) -> None:
    """A bad argument, also one of parmap's, is told at once, by its name."""
    with pytest.raises(kind, match=f"^{name}"):
        ParEval(**{"fun": np.sqrt, **options})


# -- imports and start methods --------------------------------------------------------------------------------


def test_import_is_light() -> None:
    """Importing it loads neither NumPy nor tqdm nor cloudpickle."""
    program = (
        "import sys, manyhands.compat.parmapper; print(*{'numpy', 'tqdm', 'cloudpickle'} & set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout == "\n"


def test_set_start_method(tmp_path: Path) -> None:
    """After it multiprocessing forks, and each map sees the program's memory as it is then."""
    script = write_script(
        tmp_path / "program.py",
        """
        import multiprocessing
        import manyhands.compat.parmapper as parmapper
        from tests.compat import tasks

        tasks.SEEN = 1
        assert set(parmapper.parmap(tasks.seen, range(4), N=2)) == {0}  # a module as it is imported
        parmapper.set_start_method()
        parmapper.set_start_method()
        assert multiprocessing.get_start_method() == "fork"
        for tasks.SEEN in (2, 3):
            assert set(parmapper.parmap(tasks.seen, range(4), N=2)) == {tasks.SEEN}
            assert parmapper.ReturnProcess(tasks.seen, args=(0,)).start().join() == tasks.SEEN
            nested = parmapper.parmap(lambda x: list(parmapper.parmap(tasks.seen, range(x), N=2)), [2, 1], N=2)
            assert list(nested) == [[tasks.SEEN] * 2, [tasks.SEEN]]
        print("passed")
        """,
    )
    assert run_script(script) == "passed\n"


def test_set_start_method_too_late(tmp_path: Path) -> None:
    """If multiprocessing has another method already, it is a RuntimeError and nothing changes."""
    script = write_script(
        tmp_path / "program.py",
        """
        import multiprocessing
        import manyhands.compat.parmapper as parmapper

        multiprocessing.set_start_method("spawn")
        try:
            parmapper.set_start_method()
        except RuntimeError as error:
            print(error)
        assert multiprocessing.get_start_method() == "spawn"
        """,
    )
    assert "too late" in run_script(script)


@pytest.mark.parametrize(
    ("platform", "value", "method"),
    [
        ("darwin", "true", "fork"),
        ("darwin", "True", "fork"),
        ("darwin", "no", "None"),
        ("linux", "true", "None"),
    ],
)
def test_the_environment_asks_for_fork(platform: Any, value: Any, method: Any) -> None:
    """``PYTOOLBOX_SET_START=true`` calls ``set_start_method`` at import, on macOS."""
    program = (
        f"import sys, multiprocessing, manyhands; sys.platform = {platform!r}; "
        "import manyhands.compat.parmapper; print(multiprocessing.get_start_method(allow_none=True))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTOOLBOX_SET_START": value},
    )
    assert (ran.stdout, ran.stderr) == (f"{method}\n", "")

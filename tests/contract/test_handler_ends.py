"""How a ``Handler`` comes to an end that nobody has asked for: dropped, forked, interrupted, at the program's end."""

from __future__ import annotations

import gc
import os
import signal
import threading
import warnings
from pathlib import Path
from typing import Any

import pytest

from manyhands.decorators.handler import Handler
from tests.contract import tasks
from tests.helpers import DEADLINE, Fifo, descendants, ends_of, finish, started, until, write_script

Way = dict[str, Any]


@pytest.fixture(params=["inline", "threads", "forkserver", "controller"])
def way(request: pytest.FixtureRequest) -> Way:
    """Options that say where calls run, one after the other."""
    if request.param in ("inline", "threads"):
        return {"backend": request.param, "workers": 2}
    if request.param == "controller":
        return {"backend": request.getfixturevalue("controller")}
    return {"workers": 2}


def handler_threads() -> set[threading.Thread]:
    """Those that drive handlers."""
    return {thread for thread in threading.enumerate() if thread.name.startswith("manyhands-handler")}


# -- dropped ----------------------------------------------------------------------------------------------------


def test_dropped_open(way: Way) -> None:
    """It warns if there is an outcome that nobody has taken; its thread ends."""
    before = handler_threads()
    handler: Handler[int] = Handler(tasks.double, **way)
    handler.add(1)
    with pytest.warns(ResourceWarning, match="Handler of double: 1 added.* was dropped open"):
        del handler
        gc.collect()
    until(lambda: handler_threads() <= before, "its thread ends")


def test_dropped_with_nothing_missing(way: Way) -> None:
    """No word is said; its thread ends."""
    before = handler_threads()
    handler: Handler[int] = Handler(tasks.double, **way)
    handler.extend([1, 2])
    assert len(list(handler.results())) == 2
    del handler
    gc.collect()
    until(lambda: handler_threads() <= before, "its thread ends")


def test_dropped_when_closed(way: Way) -> None:
    """No word is said, taken or not."""
    before = handler_threads()
    with Handler(tasks.double, **way) as handler:
        handler.add(1)
    del handler
    gc.collect()
    assert handler_threads() <= before


def test_results_keep_it(way: Way) -> None:
    """Who iterates needs no other reference."""
    handler: Handler[int] = Handler(tasks.double, **way)
    handler.extend([1, 2])
    results = handler.results()
    del handler
    gc.collect()
    assert sorted(outcome.value for outcome in results) == [2, 4]


def test_its_bar_is_closed_when_it_is_dropped(
    way: Way, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever drives it."""
    monkeypatch.setenv("MANYHANDS_PROGRESS", "1")
    before = handler_threads()
    handler: Handler[int] = Handler(tasks.double, progress="dropped", **way)
    del handler
    gc.collect()
    until(lambda: handler_threads() <= before, "its thread ends")
    assert capfd.readouterr().err.endswith("\n")


# -- forked -----------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_forked(way: Way) -> None:
    """The child can't use it, is told so, and does no harm by leaving; the parent's goes on."""
    with Handler(tasks.double, **way) as handler:
        handler.add(1)
        with handler._flow._condition:  # as another thread may hold it at a fork
            child = os.fork()
            if not child:
                _in_child(handler)
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        handler.add(2)
        assert sorted(outcome.value for outcome in handler.drain()) == [2, 4]


def _in_child(handler: Handler[int]) -> None:
    from manyhands import PoolClosed

    signal.alarm(int(DEADLINE))
    done = threading.Event()

    def use() -> None:  # by another thread than the one that held the lock
        for wrong in (lambda: handler.add(5), lambda: next(handler.results()), handler.drain):
            try:
                wrong()
            except PoolClosed as error:
                assert "another process" in str(error)
            else:
                os._exit(3)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            handler._finalizer()  # as when it is dropped here
        handler.cancel(kill=True)
        handler.close(kill=True)
        handler.close()
        done.set()

    try:
        threading.Thread(target=use, daemon=True).start()
        assert done.wait(DEADLINE / 2)
    except BaseException:
        os._exit(2)
    os._exit(0)


# -- interrupted ------------------------------------------------------------------------------------------------


def test_ctrl_c_in_results(begun: Fifo, gate: Fifo) -> None:
    """It is raised there, and what runs is ended; nothing is without an outcome."""
    main = threading.main_thread()
    assert threading.current_thread() is main

    def interrupt() -> None:
        begun.line()
        os.kill(os.getpid(), signal.SIGINT)

    helper = threading.Thread(target=interrupt)
    with (
        pytest.raises(KeyboardInterrupt),
        Handler(tasks.meet, args=(str(begun.path), str(gate.path)), workers=2) as handler,
    ):
        handler.extend(range(8))
        helper.start()
        for _ in handler.results():
            pass
    helper.join()
    assert handler.pending == 0
    outcomes = handler.drain()
    assert sorted(outcome.index for outcome in outcomes) == list(range(8))
    assert not any(outcome.ok for outcome in outcomes)


def test_ctrl_c_in_a_call_inline() -> None:
    """It is raised, and all that was added has ended with it."""

    def interrupted(number: int) -> int:
        if number == 2:
            raise KeyboardInterrupt
        return number

    taken = []
    handler: Handler[int] = Handler(interrupted, backend="inline")
    with pytest.raises(KeyboardInterrupt), handler:
        handler.extend([1, 2, 3])
        for outcome in handler.results():
            taken.append(outcome)
    taken += handler.drain()
    assert [outcome.index for outcome in taken] == [0, 1, 2]
    assert taken[0].value == 1
    assert all(isinstance(outcome.failure.error, KeyboardInterrupt) for outcome in taken[1:])  # type: ignore[union-attr]


# -- the end of the program -------------------------------------------------------------------------------------

SCRIPT = """
import sys
import threading
from manyhands.decorators.handler import Handler
from tests.contract import tasks
from tests.helpers import tell

kind, end, calls = sys.argv[1:]
options = {"backend": kind} if kind in ("inline", "threads") else {"start_method": kind}

if __name__ == "__main__":
    handler = Handler(tasks.write_call, args=(calls,), workers=2, **options)
    handler.extend(range(20))
    if end == "consumer":
        threading.Thread(target=lambda: print(len(list(handler.results())))).start()
    if end == "noted error":
        threading.Thread(target=lambda: print(len(list(handler.results())))).start()
    if "error" in end:
        raise SystemError("so it ends")
"""


@pytest.mark.parametrize("kind", ["inline", "threads", "fork", "spawn", "forkserver"])
@pytest.mark.parametrize("end", ["alone", "consumer", "error", "noted error"])
def test_the_end_of_a_program(tmp_path: Path, kind: str, end: str) -> None:
    """What was added is run first, unless that ends by an error; who waits for outcomes gets them all the same."""
    script = write_script(tmp_path / "script.py", SCRIPT)
    with started(script, kind, end, tmp_path / "calls") as process:
        out = finish(process, 1 if "error" in end else 0)
    assert out == ("" if end in ("alone", "error") else "20\n")
    if "error" not in end:
        assert sorted(map(int, (tmp_path / "calls").read_text().split())) == list(range(20))


def test_ctrl_c_at_a_script(tmp_path: Path, begun: Fifo, gate: Fifo) -> None:
    """It ends, and its workers do, with one traceback."""
    script = write_script(
        tmp_path / "script.py",
        """
        import sys
        from manyhands.decorators.handler import Handler
        from tests.contract import tasks

        with Handler(tasks.meet, args=tuple(sys.argv[1:]), workers=2) as handler:
            handler.extend(range(4))
            for outcome in handler.results():
                print(outcome)
        """,
    )
    with started(script, begun.path, gate.path, process_group=0) as parent:
        begun.line(), begun.line()
        with ends_of(descendants(parent.pid)) as wait:
            os.killpg(parent.pid, signal.SIGINT)
            wait()
        out, err = parent.communicate(timeout=DEADLINE)
        assert parent.returncode == -signal.SIGINT and not out
        assert err.rstrip().endswith("KeyboardInterrupt") and err.count("Traceback") == 1

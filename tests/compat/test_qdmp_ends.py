"""The face of qdmp at the end of the program, where nobody has called ``stop``."""

from __future__ import annotations

import os
import subprocess
import threading
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import pytest

from manyhands.compat import qdmp_base
from manyhands.compat.qdmp import PoolFuture, PoolHandler, ProcessHandler, ProcessPoolHandler, ThreadPoolHandler
from tests.compat.qdmp_tasks import hold
from tests.helpers import DEADLINE, Fifo, lines, started, write_script

HEAD = """
import sys
import threading
from manyhands.compat.qdmp import PoolFuture, PoolHandler, ProcessHandler, ProcessPoolHandler, ThreadPoolHandler
from tests.compat.qdmp_tasks import Stored
from tests.helpers import tell, wait_for


def note(arguments):
    name, begun, gate, done = arguments
    tell(begun, name)
    wait_for(gate)
    tell(done, name)


def tasks(names):
    return [(name, *sys.argv[2:]) for name in names]


kind = globals()[sys.argv[1]]
handler = kind(Stored(note) if kind is ProcessHandler else note)
handler.start(1)
"""

every_kind = pytest.mark.parametrize(
    "kind", [ProcessPoolHandler, ThreadPoolHandler, PoolHandler, ProcessHandler]
)


@every_kind
def test_all_is_finished(tmp_path: Path, kind: Any, begun: Fifo, gate: Fifo) -> None:
    """At the end of a program what runs and what waits is finished first, also of a handler that was dropped."""
    script = write_script(
        tmp_path / "script.py",
        HEAD
        + """
handler.add_tasks(tasks("abc"))
del handler
print("the last line", flush=True)
""",
    )
    done = tmp_path / "done"
    with started(script, kind.__name__, begun.path, gate.path, done) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline() == "the last line\n"
        for name in "abc":
            assert begun.line() == name
            gate.let_go()
        _, err = process.communicate(timeout=DEADLINE)
        assert (process.returncode, err) == (0, "")
    assert lines(done) == ["a", "b", "c"]


@every_kind
def test_tasks_of_threads_that_go_on(tmp_path: Path, kind: Any, begun: Fifo, gate: Fifo) -> None:
    """What a thread adds after the end of the main thread is finished, too."""
    script = write_script(
        tmp_path / "script.py",
        HEAD
        + """
def add_later():
    threading.main_thread().join()
    handler.add_tasks(tasks("bc"))


handler.add_tasks(tasks("a"))
handler.process_results()
threading.Thread(target=add_later).start()
""",
    )
    gate.let_go(3)
    done = tmp_path / "done"
    with started(script, kind.__name__, begun.path, gate.path, done) as process:
        _, err = process.communicate(timeout=DEADLINE)
        assert (process.returncode, err) == (0, "")
    assert lines(done) == ["a", "b", "c"]


@every_kind
@pytest.mark.parametrize("error", ["KeyboardInterrupt", "LookupError"])
def test_an_error_ends_all(tmp_path: Path, kind: Any, error: str, begun: Fifo, gate: Fifo) -> None:
    """A program that ends by an error waits for no task; who waits for results gets errors; nothing else is printed."""
    script = write_script(
        tmp_path / "script.py",
        HEAD
        + f"""
def take():
    results, errors = handler.process_results()
    print(results, [type(error.exception).__name__ for error in errors])


handler.add_tasks(tasks("abc"))
input()
threading.Thread(target=take).start()
raise {error}
""",
    )
    done = tmp_path / "done"
    with started(script, kind.__name__, begun.path, gate.path, done, stdin=subprocess.PIPE) as process:
        assert begun.line() == "a"
        out, err = process.communicate("go on\n", timeout=DEADLINE)
    assert process.returncode != 0
    assert out == f"[] {['CancelledError'] * 3}\n"
    check_only(error, err)
    assert begun.empty() and lines(done) == []


def check_only(error: str, err: str) -> None:
    """Nothing was printed but the traceback of this error."""
    assert err.startswith("Traceback") and err.splitlines()[-1] == error
    assert err.count("Traceback") == 1 and "manyhands" not in err


def test_an_error_during_the_set_up(
    tmp_path: Path, begun: Fifo, gate: Fifo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process is ended without a word about the task that waits for it."""
    monkeypatch.setenv("QDMP_BEGUN", str(begun.path))
    monkeypatch.setenv("QDMP_GATE", str(gate.path))
    script = write_script(
        tmp_path / "script.py",
        """
        from manyhands.compat.qdmp import ProcessHandler
        from tests.compat.qdmp_tasks import stuck_in_setup

        handler = ProcessHandler(stuck_in_setup)
        handler.start(1)
        handler.add_tasks([1])
        input()
        raise KeyboardInterrupt
        """,
    )
    with started(script, stdin=subprocess.PIPE) as process:
        begun.line()
        _, err = process.communicate("go on\n", timeout=DEADLINE)
    check_only("KeyboardInterrupt", err)


def test_tasks_without_end(monkeypatch: pytest.MonkeyPatch, begun: Fifo, gate: Fifo) -> None:
    """Somebody may go on adding tasks: the end of the program waits for those that were there."""
    handler = ThreadPoolHandler(hold)
    handler.start(1)
    handler.add_tasks([("a", begun.path, gate.path)])
    waits = threading.Event()
    have_ended = handler._have_ended

    def told(tasks: list[PoolFuture]) -> bool:
        waits.set()
        return have_ended(tasks)

    monkeypatch.setattr(handler, "_have_ended", told)
    thread = threading.Thread(target=handler._finish)
    thread.start()
    waits.wait()
    handler.add_tasks([("b", begun.path, gate.path)])
    gate.let_go()
    thread.join()
    assert [begun.line(), begun.line()] == [f"{name} {os.getpid()}" for name in "ab"]
    assert handler.process_results(wait=False) == (["a"], [])
    gate.let_go()
    handler.stop()


def test_threads_that_are_given_up(begun: Fifo, gate: Fifo) -> None:
    """What runs and what waits has ended then, once each, and a task that was cancelled does not end again."""
    handler = ThreadPoolHandler(hold)
    handler.start(1)
    handler.add_tasks([(name, begun.path, gate.path) for name in "abc"])
    begun.line()
    handler.cancel_processes([handler._pending[1]])
    backend = handler._opened()
    handler._give_up()
    handler._give_up()
    backend.cancel(handler._pending[1])
    assert handler._unended == 0
    results, errors = handler.process_results()
    assert results == [] and [error.arguments[0] for error in errors] == ["a", "b", "c"]
    assert {type(error.exception) for error in errors} == {CancelledError}
    assert begun.empty()


def test_a_fork_has_no_handlers(begun: Fifo, gate: Fifo) -> None:
    """The end of a forked process does not wait for what its parent is at."""
    handler = ThreadPoolHandler(hold)
    handler.start(1)
    handler.add_tasks([("a", begun.path, gate.path)])
    begun.line()
    status = 1
    pid = os.fork()
    if pid == 0:
        try:
            status = len(qdmp_base._started)
        finally:
            os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0
    gate.let_go()
    handler.stop()

"""The face of qdmp at the end of the program, where nobody has called ``stop``."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import pytest

from manyhands.compat import qdmp_base
from manyhands.compat.qdmp import PoolFuture, PoolHandler, ProcessHandler, ProcessPoolHandler, ThreadPoolHandler
from manyhands.errors import PoolClosed
from tests.compat.qdmp_tasks import Stored, hold
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


def finish(handler):  # what is let go only then can't have ended by itself, before the end of the program
    tell(sys.argv[2], "the end")
    own_finish(handler)


kind = globals()[sys.argv[1]]
own_finish, kind._finish = kind._finish, finish
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
        assert {begun.line(), begun.line()} == {"a", "the end"}
        gate.let_go()
        for name in "bc":
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


handler.stop()
handler.start(1)  # and is looked after once more: its pools are, too
handler.add_tasks(tasks("a"))
handler.process_results()
threading.Thread(target=add_later).start()
""",
    )
    done = tmp_path / "done"
    with started(script, kind.__name__, begun.path, gate.path, done) as process:
        assert begun.line() == "a"
        gate.let_go()
        assert sorted(begun.line() for _ in range(3)) == ["b", "the end", "the end"]
        gate.let_go(2)
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
    assert process.returncode == (-signal.SIGINT if error == "KeyboardInterrupt" else 1)
    assert out == f"[] {['CancelledError'] * 3}\n"
    check_only(error, err)
    assert begun.empty() and lines(done) == []


def check_only(error: str, err: str) -> None:
    """Nothing was printed but the traceback of this error."""
    assert err.startswith("Traceback") and err.splitlines()[-1] == error
    assert err.count("Traceback") == 1 and "manyhands" not in err


@every_kind
def test_an_interrupt_of_the_end(tmp_path: Path, kind: Any, begun: Fifo, gate: Fifo) -> None:
    """Who interrupts a program that has come to its end, and that waits for tasks, waits no longer."""
    script = write_script(tmp_path / "script.py", HEAD + 'handler.add_tasks(tasks("abc"))\n')
    done = tmp_path / "done"
    with started(script, kind.__name__, begun.path, gate.path, done) as process:
        assert {begun.line(), begun.line()} == {"a", "the end"}
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=DEADLINE)
    assert err.count("Traceback") == 1 and err.splitlines()[-1].startswith("KeyboardInterrupt")
    assert begun.empty() and lines(done) == []


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
        out, err = process.communicate("go on\n", timeout=DEADLINE)
    assert (process.returncode, out) == (-signal.SIGINT, "")
    check_only("KeyboardInterrupt", err)


def watched(handler: Any, monkeypatch: pytest.MonkeyPatch) -> tuple[threading.Event, list[bool]]:
    """Is set when somebody has looked whether tasks have ended; and all that was seen."""
    looked, answers = threading.Event(), list[bool]()
    have_ended = handler._have_ended

    def told(tasks: list[PoolFuture]) -> bool:
        answers.append(have_ended(tasks))
        looked.set()
        return answers[-1]

    monkeypatch.setattr(handler, "_have_ended", told)
    return looked, answers


def test_tasks_without_end(monkeypatch: pytest.MonkeyPatch, begun: Fifo, gate: Fifo) -> None:
    """Somebody may go on adding tasks: the end of the program waits for those that were there."""
    handler = ThreadPoolHandler(hold)
    handler.start(1)
    handler.add_tasks([("a", begun.path, gate.path)])
    waits, answers = watched(handler, monkeypatch)
    thread = threading.Thread(target=handler._finish, daemon=True)
    thread.start()
    assert waits.wait(DEADLINE) and answers == [False]
    handler.add_tasks([("b", begun.path, gate.path)])
    gate.let_go()
    thread.join(DEADLINE)
    assert not thread.is_alive()
    assert [begun.line(), begun.line()] == [f"{name} {os.getpid()}" for name in "ab"]
    assert handler.process_results(wait=False) == (["a"], [])
    gate.let_go()
    handler.stop()


def test_a_task_that_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """The end of the program has seen it come, and does not wait for it any more."""
    handler = ThreadPoolHandler(hold)
    handler.start(1)
    waits, answers = watched(handler, monkeypatch)
    thread = threading.Thread(target=handler._finish, daemon=True)

    def put(task: PoolFuture) -> None:
        thread.start()
        assert waits.wait(DEADLINE) and answers == [False]
        raise PoolClosed("the threads were stopped")

    monkeypatch.setattr(handler._opened(), "put", put)
    with pytest.raises(RuntimeError, match="was stopped while tasks were added"):
        handler.add_tasks([None])
    thread.join(DEADLINE)
    assert not thread.is_alive()
    handler.stop()


def test_threads_that_are_given_up(begun: Fifo, gate: Fifo) -> None:
    """What runs and what waits has ended then, once each, and a task that was cancelled does not end again."""
    handler = ThreadPoolHandler(hold, handle_error_fn=lambda *failure: (False, None, LookupError("handled")))
    handler.start(1)
    handler.add_tasks([(name, begun.path, gate.path) for name in "abc"])
    begun.line()
    handler.cancel_processes([handler._pending[1]])
    backend = handler._opened()
    handler._give_up()
    handler._give_up()
    backend.cancel(handler._pending[1])
    assert handler._unended == 0 and handler.worker_count == 0
    results, errors = handler.process_results()
    assert results == [] and [error.arguments[0] for error in errors] == ["a", "b", "c"]
    assert {type(error.exception) for error in errors} == {CancelledError}
    assert begun.empty()


def test_processes_that_are_given_up(monkeypatch: pytest.MonkeyPatch, begun: Fifo, gate: Fifo) -> None:
    """What waits has ended before what runs does: else its process would begin with that."""
    handler = ProcessHandler(Stored(hold))
    ended: list[str] = []
    over = handler._over

    def told(task: PoolFuture) -> None:
        ended.append(task.arguments[0])
        over(task)

    monkeypatch.setattr(handler, "_over", told)
    handler.start(1)
    handler.add_tasks([(name, begun.path, gate.path) for name in "abc"])
    begun.line()
    handler._give_up()
    results, errors = handler.process_results()
    assert results == [] and [type(error.exception) for error in errors] == [CancelledError] * 3
    assert ended == ["b", "c", "a"] and begun.empty()


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

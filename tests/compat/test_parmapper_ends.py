"""What becomes of maps and processes of manyhands.compat.parmapper when their program ends: scripts run for real."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.helpers import Fifo, descendants, ends_of, finish, lines, started, write_script

SIGNALS = (signal.SIGINT, signal.SIGTERM)

HEAD = """
import threading
from manyhands.compat.parmapper import ReturnProcess, parmap
from tests.compat.tasks import double, meet

begun, gate, how, *rest = sys.argv[1:]
hows = {
    "processes": {"N": 2},
    "both": {"N": 2, "Nt": 2},
    "threads": {"N": 1, "Nt": 4},
    "inherited": {"N": 2, "Nt": 2, "args": (threading.Lock(),)},
}

def task(x, lock=None):
    return meet(begun, gate)
"""

BUSY = {"processes": 2, "both": 4, "threads": 4, "inherited": 4}
"""How many calls run at the same time."""

MAPS = "for _ in parmap(task, range(9), **hows[how]): pass\n"


# -- maps -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "signum"),
    [*((how, signal.SIGINT) for how in BUSY), ("both", signal.SIGTERM), ("inherited", signal.SIGTERM)],
)
def test_signals_end_a_map(tmp_path: Path, begun: Fifo, gate: Fifo, how: str, signum: signal.Signals) -> None:
    """Ctrl-C and SIGTERM end a program amid a map as they end any, with all its processes and no noise of theirs."""
    script = write_script(tmp_path / "program.py", HEAD + MAPS)
    with started(script, begun.path, gate.path, how, start_new_session=True) as program:
        for _ in range(BUSY[how]):
            begun.line()
        with ends_of(descendants(program.pid)) as wait:
            os.killpg(program.pid, signum)  # as a terminal does
            wait()
        _, err = program.communicate(timeout=90)
    assert program.returncode == -signum
    if signum == signal.SIGINT:
        assert err.count("Traceback") == 1 and err.endswith("\nKeyboardInterrupt\n")
    else:
        assert err == ""


@pytest.mark.parametrize("how", ["both", "inherited"])
def test_an_interrupt_that_is_caught(tmp_path: Path, begun: Fifo, gate: Fifo, how: str) -> None:
    """After a Ctrl-C that the program catches nothing of the map goes on running, and maps run as before."""
    script = write_script(
        tmp_path / "program.py",
        HEAD
        + """
from tests.helpers import wait_for

def inherits(x, lock=None):
    return double(x)

try:
    list(parmap(task, range(9), **hows[how]))
except KeyboardInterrupt:
    wait_for(rest[0])
    print(list(parmap(inherits, range(3), **hows[how])))
""",
    )
    go_on = Fifo(tmp_path / "go on")
    try:
        with started(script, begun.path, gate.path, how, go_on.path, start_new_session=True) as program:
            with ends_of({int(begun.line()) for _ in range(4)}) as wait:
                os.killpg(program.pid, signal.SIGINT)
                wait()
            go_on.let_go()
            assert finish(program) == "[0, 2, 4]\n"
    finally:
        go_on.close()


@pytest.mark.parametrize("how", ["both", "threads", "inherited"])
def test_a_program_that_drops_a_map(tmp_path: Path, begun: Fifo, gate: Fifo, how: str) -> None:
    """A program that ends amid a map does not wait for what runs, and leaves no process."""
    script = write_script(
        tmp_path / "program.py",
        HEAD
        + """
def first_returns(x, lock=None):
    return x or task(x)

from tests.helpers import wait_for

results = parmap(first_returns, [1, 0, 0, 0, 0, 0], **hows[how])
print(next(results))
wait_for(rest[0])
""",
    )
    leave = Fifo(tmp_path / "leave")
    try:
        with started(script, begun.path, gate.path, how, leave.path) as program:
            for _ in range(BUSY[how]):
                begun.line()
            with ends_of(descendants(program.pid)) as wait:
                leave.let_go()
                wait()
            assert finish(program) == "1\n"
    finally:
        leave.close()


# -- single processes -----------------------------------------------------------------------------------------


def test_a_program_that_does_not_join(tmp_path: Path, begun: Fifo, gate: Fifo) -> None:
    """A program that ends without joining waits for the call."""
    script = write_script(
        tmp_path / "program.py",
        """
        from manyhands.compat.parmapper import ReturnProcess
        from tests.compat.tasks import meet
        from tests.helpers import tell

        def work(begun, gate, done):
            meet(begun, gate)
            tell(done, "done")

        ReturnProcess(work, args=sys.argv[1:4]).start()
        """,
    )
    with started(script, begun.path, gate.path, tmp_path / "done") as program:
        with ends_of([int(begun.line())]) as wait:
            gate.let_go()
            wait()
        assert program.wait(90) == 0
    assert lines(tmp_path / "done") == ["done"]


def test_a_daemon_ends_with_its_program(tmp_path: Path, begun: Fifo, gate: Fifo) -> None:
    """The process of a daemon is ended when the program ends."""
    script = write_script(
        tmp_path / "program.py",
        """
        from manyhands.compat.parmapper import ReturnProcess
        from tests.compat.tasks import meet
        from tests.helpers import wait_for

        ReturnProcess(meet, args=sys.argv[1:3], daemon=True).start()
        wait_for(sys.argv[3])
        """,
    )
    leave = Fifo(tmp_path / "leave")
    try:
        with started(script, begun.path, gate.path, leave.path) as program:
            with ends_of([int(begun.line())]) as wait:
                leave.let_go()
                wait()
            assert program.wait(90) == 0
    finally:
        leave.close()


@pytest.mark.parametrize("signum", SIGNALS)
@pytest.mark.parametrize("daemon", [False, True])
def test_signals_end_it(tmp_path: Path, begun: Fifo, gate: Fifo, signum: signal.Signals, daemon: bool) -> None:
    """Ctrl-C and SIGTERM while it is joined end the process and the program."""
    text = f"ReturnProcess(meet, args=(begun, gate), daemon={daemon}).start().join()\n"
    script = write_script(tmp_path / "program.py", HEAD + text)
    with started(script, begun.path, gate.path, "") as program:
        begun.line()
        with ends_of(descendants(program.pid)) as wait:
            program.send_signal(signum)
            wait()
        assert program.wait(90) == -signum

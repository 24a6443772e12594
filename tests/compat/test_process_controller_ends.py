"""What becomes of a program's controllers when it ends, by itself or by a signal: scripts run for real."""

from __future__ import annotations

import signal
from pathlib import Path

import psutil
import pytest

from tests.helpers import Fifo, descendants, ends_of, finish, lines, started, until, write_script


@pytest.fixture(autouse=True)
def _log_server_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The included logger writes to where the program is."""
    monkeypatch.chdir(tmp_path)


HEAD = """
import os, signal, sys, threading, time
from manyhands import parallel
from manyhands.compat.process_controller import ProcessController
from tests.compat.tasks import double, meet
from tests.helpers import tell, wait_for

begun, gate, kind, *rest = sys.argv[1:]

def open_one(function=meet):
    pc = ProcessController(function)
    if kind == "pool":
        pc.create_new_pool(2)
        pc.use_pool([[begun, gate]] * 2)
    else:
        pc.use_process([begun, gate])
        pc.use_process([begun, gate])
    return pc

def tell_at_the_end(pc):
    def quit():
        tell(begun, "at the end")
        own_quit()
    own_quit, pc.quit = pc.quit, quit

def wait_on(pc):
    return pc.get_pool_results() if kind == "pool" else [pc.process_queue.get() for _ in range(2)]
"""

KINDS = ("pool", "processes")
SIGNALS = (signal.SIGTERM, signal.SIGABRT)


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """What is busy when the program ends."""
    return str(request.param)


def test_end_of_program(tmp_path: Path, begun: Fifo, gate: Fifo, kind: str) -> None:
    """A program that ends with jobs pending waits for them, beside other pools, and leaves no process."""
    script = write_script(
        tmp_path / "script.py",
        HEAD
        + """
def job(begun, gate):
    meet(begun, gate)
    print("done\\n", end="", flush=True)

tell_at_the_end(open_one(job))
print(list(parallel(double).map([3], workers=2)))
""",
    )
    with started(script, begun.path, gate.path, kind) as program:
        assert "at the end" in {begun.line() for _ in range(3)}
        with ends_of(descendants(program.pid)) as wait:
            gate.let_go(2)
            out = finish(program)
            wait()
    assert sorted(out.splitlines()) == ["[6]", "done", "done"]


def test_program_that_raises(tmp_path: Path, begun: Fifo, gate: Fifo, kind: str) -> None:
    """An error that nobody catches ends the program like any end: jobs are finished."""
    text = "pc = open_one()\ntell_at_the_end(pc)\nraise LookupError\n"
    script = write_script(tmp_path / "script.py", HEAD + text)
    with started(script, begun.path, gate.path, kind) as program:
        assert "at the end" in {begun.line() for _ in range(3)}
        gate.let_go(2)
        _, err = program.communicate(timeout=90)
    assert program.returncode == 1
    assert err.count("Traceback") == 1 and err.endswith("LookupError\n")


def test_ctrl_c(tmp_path: Path, begun: Fifo, gate: Fifo, kind: str) -> None:
    """An interrupt that nobody catches ends jobs, too: the program does not wait for them."""
    script = write_script(tmp_path / "script.py", HEAD + "pc = open_one()\nwait_on(pc)\n")
    with started(script, begun.path, gate.path, kind) as program:
        begun.line()
        begun.line()
        with ends_of(descendants(program.pid)) as wait:
            program.send_signal(signal.SIGINT)
            wait()
        program.communicate(timeout=90)
    assert program.returncode == -signal.SIGINT


@pytest.mark.parametrize(("kind", "signum"), [("pool", signal.SIGTERM), ("processes", signal.SIGABRT)])
def test_signal_without_a_handler(
    tmp_path: Path, begun: Fifo, gate: Fifo, kind: str, signum: signal.Signals
) -> None:
    """A signal ends the program as it would have without a controller, and all processes with it."""
    script = write_script(tmp_path / "script.py", HEAD + "pc = open_one()\nwait_on(pc)\n")
    with started(script, begun.path, gate.path, kind) as program:
        begun.line()
        begun.line()
        with ends_of(descendants(program.pid)) as wait:
            program.send_signal(signum)
            wait()
        program.communicate(timeout=90)
    assert program.returncode == -signum


HANDLED = (
    HEAD
    + """
signum = int(rest[0])

def earlier(number, frame):
    print("earlier", number == signum, pc.pool, any(process.is_alive() for process in pc.processes), flush=True)
    if rest[1] == "leaves":
        raise SystemExit(7)

signal.signal(signum, earlier)
pc = open_one()
wait_on(pc)
print("back", signal.getsignal(signum) is earlier, flush=True)
pc = open_one()
gate = os.devnull
pc.exit()
print("done", signal.getsignal(signum) is earlier)
"""
)


@pytest.mark.parametrize(
    ("kind", "signum", "then"),
    [
        ("pool", signal.SIGTERM, "leaves"),
        ("pool", signal.SIGABRT, "returns"),
        ("processes", signal.SIGTERM, "returns"),
        ("processes", signal.SIGABRT, "leaves"),
    ],
)
def test_signal_with_an_earlier_handler(
    tmp_path: Path, begun: Fifo, gate: Fifo, kind: str, signum: signal.Signals, then: str
) -> None:
    """All processes are ended, then the earlier handler is called, and it alone is there afterwards."""
    script = write_script(tmp_path / "script.py", HANDLED)
    with started(script, begun.path, gate.path, kind, int(signum), then) as program:
        workers = [int(begun.line()), int(begun.line())]
        with ends_of(workers) as wait:
            program.send_signal(signum)
            wait()
        out = finish(program, 7 if then == "leaves" else 0).splitlines()
    assert out == ["earlier True None False", *(["back True", "done True"] if then == "returns" else [])]


def test_signal_that_is_ignored(tmp_path: Path, begun: Fifo, gate: Fifo, kind: str) -> None:
    """Where a signal was ignored it ends the jobs, and the program goes on."""
    script = write_script(
        tmp_path / "script.py",
        HEAD
        + """
signal.signal(signal.SIGTERM, signal.SIG_IGN)
pc = open_one()
wait_on(pc)
print(pc.pool, signal.getsignal(signal.SIGTERM) == signal.SIG_IGN)
""",
    )
    with started(script, begun.path, gate.path, kind) as program:
        with ends_of([int(begun.line()), int(begun.line())]) as wait:
            program.send_signal(signal.SIGTERM)
            wait()
        assert finish(program) == "None True\n"


def test_signal_at_the_end(tmp_path: Path, begun: Fifo, gate: Fifo, kind: str) -> None:
    """A signal also ends a program that has come to its end and waits for pending jobs."""
    script = write_script(
        tmp_path / "script.py",
        HEAD
        + """
def earlier(number, frame):
    print("earlier", pc.pool, flush=True)
signal.signal(signal.SIGTERM, earlier)
pc = open_one()
tell_at_the_end(pc)
""",
    )
    with started(script, begun.path, gate.path, kind) as program:
        told = {begun.line() for _ in range(3)}
        with ends_of([int(line) for line in told - {"at the end"}]) as wait:
            program.send_signal(signal.SIGTERM)
            wait()
        assert finish(program) == "earlier None\n"


def test_handlers_over_handlers(tmp_path: Path, begun: Fifo, gate: Fifo) -> None:
    """A handler that was put over the controller's and calls it gets through to the first, once."""
    script = write_script(
        tmp_path / "script.py",
        HEAD
        + """
signal.signal(signal.SIGTERM, lambda *_: print("first"))
one = ProcessController(double)
below = signal.getsignal(signal.SIGTERM)
def middle(number, frame):
    print("middle")
    below(number, frame)
signal.signal(signal.SIGTERM, middle)
two = ProcessController(double)
assert signal.getsignal(signal.SIGTERM) is not middle
signal.raise_signal(signal.SIGTERM)
assert signal.getsignal(signal.SIGTERM) is middle
signal.raise_signal(signal.SIGTERM)
""",
    )
    with started(script, begun.path, gate.path, "pool") as program:
        assert finish(program).split() == ["middle", "first"] * 2


def test_the_fault_handler(tmp_path: Path, begun: Fifo, gate: Fifo) -> None:
    """SIGABRT stays with faulthandler, which reports it, unless the program has a handler of its own."""
    script = write_script(
        tmp_path / "script.py",
        HEAD
        + """
import faulthandler
faulthandler.enable()
signal.signal(signal.SIGABRT, lambda *_: print("own", flush=True))
own = signal.getsignal(signal.SIGABRT)
pc = ProcessController(double)
assert signal.getsignal(signal.SIGABRT) is not own
signal.raise_signal(signal.SIGABRT)
signal.signal(signal.SIGABRT, signal.SIG_DFL)
faulthandler.disable()
faulthandler.enable()
pc = ProcessController(double)
os.abort()
""",
    )
    with started(script, begun.path, gate.path, "pool") as program:
        out, err = program.communicate(timeout=90)
    assert (program.returncode, out) == (-signal.SIGABRT, "own\n")
    assert "Fatal Python error: Aborted" in err


def test_a_forked_child(tmp_path: Path, begun: Fifo, gate: Fifo) -> None:
    """A child of the program ends by its own signal and at its own end, and leaves the parent's jobs alone."""
    script = write_script(
        tmp_path / "script.py",
        HEAD
        + """
pc = open_one()
told = rest[0]
if (child := os.fork()) == 0:
    signal.raise_signal(signal.SIGTERM)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGTERM
if (child := os.fork()) == 0:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    own = ProcessController(double)
    own.create_new_pool(1)
    own.use_pool([4])
    tell(told, own.get_pool_results())
    signal.raise_signal(signal.SIGTERM)
    tell(told, own.pool)
    sys.exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
tell(told, "children have ended")
print(all(len(batch[0]) == 2 for batch in wait_on(pc)))
""",
    )
    told = tmp_path / "told"
    with started(script, begun.path, gate.path, "pool", told) as program:
        begun.line()
        begun.line()
        until(lambda: len(lines(told)) == 3 or not psutil.pid_exists(program.pid), "children have ended")
        gate.let_go(2)
        assert finish(program) == "True\n"
    assert lines(told) == ["[[[8], 'Pool_Batch_ID: 0']]", "None", "children have ended"]


def test_signal_amid_submissions(tmp_path: Path, begun: Fifo, gate: Fifo) -> None:
    """A signal that comes while the main thread hands jobs over ends the program all the same."""
    script = write_script(
        tmp_path / "script.py",
        HEAD
        + """
pc = ProcessController(double)
pc.create_new_pool(1)
tell(begun, "begun")
while True:
    pc.use_pool([[1]] * 100)
    pc.get_pool_results()
    pc.pool_results.clear()
""",
    )
    with started(script, begun.path, gate.path, "pool") as program:
        begun.line()
        program.send_signal(signal.SIGTERM)
        program.communicate(timeout=90)
        assert program.returncode == -signal.SIGTERM

"""When the parent ends, however it ends, its workers end too."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import psutil
import pytest

from tests.helpers import Fifo, descendants, ends_of, finish, started, until, write_script

SCRIPT = """
import os
import sys
from manyhands import parallel
from tests.contract import tasks
from tests.helpers import wait_for

method, begun, gate, catch = sys.argv[1:]
try:
    results = tasks.meet.map(range(4), args=(begun, gate), workers=2, start_method=method)
    if catch == "idle":
        list(tasks.double.map(range(10), workers=2, start_method=method))
    list(results)
except KeyboardInterrupt:
    if catch != "caught":
        raise
    wait_for(gate)
    print(list(tasks.double.map([1, 2], workers=2, start_method=method)))
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """A script whose two workers are at a task that does not end."""
    return write_script(tmp_path / "script.py", SCRIPT)


def test_killed_parent_leaves_no_worker(script: Path, method: str, begun: Fifo, gate: Fifo) -> None:
    """SIGKILL of the parent, which nothing can handle, ends workers, fork server and guard."""
    with started(script, method, begun.path, gate.path, "no") as parent:
        workers = {int(begun.line().split()[1]) for _ in range(2)}
        all_of_them = descendants(parent.pid)
        assert workers <= set(all_of_them)
        with ends_of(all_of_them) as wait:
            parent.kill()
            wait()


def test_terminated_parent_leaves_no_worker(script: Path, method: str, begun: Fifo, gate: Fifo) -> None:
    """SIGTERM, unhandled, ends everything too."""
    with started(script, method, begun.path, gate.path, "no") as parent:
        begun.line(), begun.line()
        with ends_of(descendants(parent.pid)) as wait:
            parent.terminate()
            wait()
        assert parent.wait(90) == -signal.SIGTERM


@pytest.mark.parametrize("whom", ["the parent", "its group"])
def test_ctrl_c(script: Path, method: str, begun: Fifo, gate: Fifo, whom: str) -> None:
    """SIGINT, to the parent alone or from a terminal to its group, raises KeyboardInterrupt and ends all."""
    with started(script, method, begun.path, gate.path, "no", process_group=0) as parent:
        begun.line(), begun.line()
        with ends_of(descendants(parent.pid)) as wait:
            if whom == "the parent":
                parent.send_signal(signal.SIGINT)
            else:
                os.killpg(parent.pid, signal.SIGINT)
            wait()
        _, err = parent.communicate(timeout=90)
        assert parent.returncode == -signal.SIGINT
        assert err.rstrip().endswith("KeyboardInterrupt")
        assert err.count("Traceback") == 1


def test_ctrl_c_that_is_caught(script: Path, method: str, begun: Fifo, gate: Fifo) -> None:
    """A KeyboardInterrupt that the script catches has ended what ran, and the pool works on."""
    with started(script, method, begun.path, gate.path, "caught") as parent:
        workers = [int(begun.line().split()[1]) for _ in range(2)]
        with ends_of(workers) as wait:
            parent.send_signal(signal.SIGINT)
            wait()
        gate.let_go()
        assert finish(parent) == "[2, 4]\n"


def test_ctrl_c_between_maps(tmp_path: Path, method: str, begun: Fifo, gate: Fifo) -> None:
    """Idle workers don't take a Ctrl-C for theirs: a script that catches it finds them at work."""
    script = write_script(
        tmp_path / "script.py",
        """
        import sys
        from tests.contract import tasks
        from tests.helpers import tell, wait_for

        method, begun, gate = sys.argv[1:]
        options = {"workers": 1, "start_method": method}
        first = list(tasks.process_id.map([0], **options))
        try:
            tell(begun, "idle")
            wait_for(gate)
        except KeyboardInterrupt:
            pass
        print(first == list(tasks.process_id.map([0], **options)))
        """,
    )
    with started(script, method, begun.path, gate.path, process_group=0) as parent:
        begun.line()
        until(lambda: psutil.Process(parent.pid).status() == psutil.STATUS_SLEEPING, "the script waits")
        os.killpg(parent.pid, signal.SIGINT)
        assert finish(parent) == "True\n"


def test_a_job_that_is_suspended(tmp_path: Path, method: str, begun: Fifo, gate: Fifo) -> None:
    """A script that was stopped with all that it started goes on where it was: no call has used up its time."""
    text = """
    import sys
    from manyhands import Controller
    from tests.contract import tasks
    from tests.helpers import tell, until

    method, begun, gate = sys.argv[1:]
    with Controller(1, start_method=method) as pool:
        future = tasks.meet.options(backend=pool, timeout=1.0).submit(7, begun, gate)
        until(lambda: pool.running().get(future), "its time runs")
        tell(begun, "seen")
        print(future.result())
    """
    script = write_script(tmp_path / "stopped.py", text)
    with started(script, method, begun.path, gate.path, process_group=0) as parent:
        begun.line(), begun.line()
        everyone = [psutil.Process(pid) for pid in [parent.pid, *descendants(parent.pid)]]
        for each in everyone:
            each.suspend()
        until(lambda: all(each.status() == psutil.STATUS_STOPPED for each in everyone), "all are stopped")
        time.sleep(1.1)  # more than it has
        for each in everyone:
            each.resume()
        gate.let_go()
        assert finish(parent) == "7\n"

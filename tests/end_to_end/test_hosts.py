"""Two machines on one directory: each with host name, boot id and process ids of its own, by Linux namespaces."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import psutil
import pytest

from manyhands import gc
from tests.helpers import Fifo, descendants, ends_of, finish, lines, names, until, write_script

SCRIPT = """
import os
import sys
from pathlib import Path
from manyhands import OUTPUT, Controller, claimed_output, parallel
from tests.helpers import tell, wait_for

role, lease, begun, gate, log = sys.argv[1:6]


@parallel(workers=1, start_method="forkserver", on_error="return")
@claimed_output("{name}.txt", lease=float(lease), max_crashes=2)
def work(name, output: Path = OUTPUT):
    tell(log, f"{name} {role}")
    output.write_text("half")
    tell(begun, f"{name} {role} {os.getpid()}")
    if role != "last":
        wait_for(gate)
    output.write_text(f"whole, by {role}")


for outcome in work.map(sys.argv[6:]).outcomes():
    print(outcome.value.name if outcome.failure is None else repr(outcome.failure.error), flush=True)
"""

Host = Callable[..., AbstractContextManager["subprocess.Popen[str]"]]


@pytest.fixture
def host(tmp_path: Path, here: Path, begun: Fifo, gate: Fifo) -> Host:
    """Starts the script as another machine would, in a role, for some names; skips where that is not allowed.

    A lease is short where it has to pass. Where it must not, it is longer than any wait of a loaded machine.
    """
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("only root may make namespaces, and only on Linux")
    probe = subprocess.run(["unshare", "-u", "-p", "-m", "-f", "true"], capture_output=True, check=False)
    if probe.returncode:
        pytest.skip("namespaces are not allowed here")
    script = write_script(tmp_path / "script.py", SCRIPT)

    @contextmanager
    def start(role: str, *items: str, lease: float = 0.4) -> Iterator[subprocess.Popen[str]]:
        boot = tmp_path / f"boot id of {role}"
        boot.write_text(f"{role}\n")
        inside = (
            f"hostname {role}; mount --bind '{boot}' /proc/sys/kernel/random/boot_id; exec "
            f"{sys.executable} '{script}' {role} {lease} '{begun.path}' '{gate.path}' '{tmp_path / 'log'}' "
            f"{' '.join(items)}"
        )
        process = subprocess.Popen(
            ["unshare", "-u", "-p", "-m", "-f", "--mount-proc", "--kill-child", "sh", "-c", inside],
            cwd=here,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()
            process.communicate()

    return start


def called(here: Path) -> list[str]:
    """Which item was computed where."""
    return sorted(lines(here.parent / "log"))


def worker_of(process: subprocess.Popen[str], begun: Fifo) -> int:
    """The worker of a machine, as it is known here, once it computes."""
    _, role, inner = begun.line().split()
    for pid in descendants(process.pid):
        status = Path(f"/proc/{pid}/status").read_text()
        if f"NSpid:\t{pid}\t{inner}\n" in status:
            return pid
    raise AssertionError(f"no worker of {role} is {inner} there")


def lose(process: subprocess.Popen[str]) -> None:
    """The machine is gone, all of it at once: nobody is left to say so."""
    everything = descendants(process.pid)
    with ends_of(everything) as wait:
        for pid in everything:
            os.kill(pid, signal.SIGSTOP)  # or the guard would see its parent die
        process.kill()
        wait()


def test_a_machine_that_is_gone_is_taken_over(here: Path, host: Host, begun: Fifo, gate: Fifo) -> None:
    """After its lease; the output is whole, and gc finds nothing to keep."""
    with host("first", "a") as first:
        worker_of(first, begun)
        lose(first)
        with host("last", "a", "b") as last:
            assert finish(last) == "a.txt\nb.txt\n"
    assert (here / "a.txt").read_text() == "whole, by last"
    assert called(here) == ["a first", "a last", "b last"]
    gc(here, now=True)
    assert names(here) == ["a.txt", "b.txt"]


def test_an_owner_that_lives_is_waited_for(here: Path, host: Host, begun: Fifo, gate: Fifo) -> None:
    """However often its lease has passed: its record is touched."""
    with host("first", "a", lease=2) as first:
        worker_of(first, begun)
        (record,) = here.glob(".manyhands-*.claim-record")
        with host("last", "a", "b", lease=2) as last:
            until(lambda: (here / "b.txt").exists(), "the other does what it can")
            for _ in range(20):  # more than two leases
                before = record.stat().st_mtime_ns
                until(lambda before=before: record.stat().st_mtime_ns != before, "it is touched")
            gate.let_go()
            assert finish(last) == "a.txt\nb.txt\n"
        assert finish(first) == "a.txt\n"
    assert called(here) == ["a first", "b last"]


def test_who_was_stopped_for_too_long_is_fenced(here: Path, host: Host, begun: Fifo, gate: Fifo) -> None:
    """It finds that another has published, and returns that; what it writes goes nowhere."""
    with host("first", "a") as first:
        worker = worker_of(first, begun)
        os.kill(worker, signal.SIGSTOP)
        until(lambda: psutil.Process(worker).status() == psutil.STATUS_STOPPED, "it is stopped")
        with host("last", "a") as last:
            assert finish(last) == "a.txt\n"
        assert (here / "a.txt").read_text() == "whole, by last"
        os.kill(worker, signal.SIGCONT)
        gate.let_go()
        assert finish(first) == "a.txt\n"
    assert (here / "a.txt").read_text() == "whole, by last"
    assert called(here) == ["a first", "a last"]


def test_an_input_that_ends_machines_has_failed(here: Path, host: Host, begun: Fifo, gate: Fifo) -> None:
    """After two in a row, nobody computes it any more; others are told how it came."""
    for role in ("first", "second"):
        with host(role, "a") as process:
            worker_of(process, begun)
            lose(process)
    with host("last", "a", "b") as last:
        told = finish(last).splitlines()
    assert "killed its workers: 2 in a row" in told[0] and told[1] == "b.txt"
    assert called(here) == ["a first", "a second", "b last"]


def test_a_worker_that_dies_fails_its_item_for_all(here: Path, host: Host, begun: Fifo, gate: Fifo) -> None:
    """Its parent tells the others at once, which have no lease to wait for, and do not compute it again."""
    with host("first", "a", lease=60) as first:
        worker = worker_of(first, begun)
        with host("last", "b", "a", lease=60) as last:
            assert begun.line().startswith("b last")
            os.kill(worker, signal.SIGKILL)
            assert finish(first).startswith("WorkerDied('the worker process")
            told = finish(last).splitlines()
    assert told[0] == "b.txt" and "FailedElsewhere" in told[1] and "was ended by SIGKILL" in told[1]
    assert called(here) == ["a first", "b last"]

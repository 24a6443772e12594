"""Ends of the parent that leave workers no chance to notice by themselves, and signals to the whole group."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.contract import fate_tasks
from tests.helpers import Fifo, descendants, ends_of, finish, run_script, started, until, write_script

BUSY = """
import ctypes
import os
import subprocess
import sys

from manyhands import parallel
from tests.helpers import tell, wait_for

method, begun, gate, way = sys.argv[1:]

def work(x):
    if way == "children":
        child = subprocess.Popen(["sleep", "3600"])
        detached = subprocess.Popen(["sleep", "3600"], start_new_session=True)
        tell(begun, f"{os.getpid()} {child.pid} {detached.pid}")
        child.wait()
    tell(begun, os.getpid())
    if way == "gil":
        ctypes.PyDLL(None).sleep(3600)
    wait_for(gate)

results = parallel(work).map(range(2), workers=2, start_method=method)
if way == "gil":
    sibling = os.fork()  # it holds what it inherited
    if sibling == 0:
        wait_for(gate)
        os._exit(0)
    tell(begun, f"sibling {sibling}")
list(results)
"""


@pytest.fixture
def busy(tmp_path: Path) -> Path:
    """A script whose two workers are busy until they are let go, if ever."""
    return write_script(tmp_path / "busy.py", BUSY)


def test_killed_while_c_code_runs_and_a_fork_lives(busy: Path, method: str, begun: Fifo, gate: Fifo) -> None:
    """Workers whose C code holds the GIL end with their parent, though a fork of it keeps its descriptors."""
    with started(busy, method, begun.path, gate.path, "gil") as parent:
        told = [begun.line() for _ in range(3)]
        (sibling,) = (int(line.split()[1]) for line in told if line.startswith("sibling"))
        workers = [int(line) for line in told if not line.startswith("sibling")]
        assert len(workers) == 2
        with ends_of([sibling]) as wait_for_sibling:
            with ends_of(workers) as wait:
                parent.kill()
                wait()
            assert fate_tasks.alive(sibling)
            gate.let_go()
            wait_for_sibling()


OWN_FILES = ["/dev/null", "/dev/null", "anon_inode:[pidfd]", "pipe"]
"""What a guard has open: what it says goes nowhere, and it watches its parent and what that says."""


def guards_of(pid: int) -> list[int]:
    """The process ids of the guards of a parent, one at most."""
    return [child for child in descendants(pid) if "guard_process" in " ".join(psutil.Process(child).cmdline())]


def test_killed_when_the_guard_is_gone(busy: Path, method: str, begun: Fifo, gate: Fifo) -> None:
    """There is a second line of defence, for workers whose C code holds the GIL, too."""
    with started(busy, method, begun.path, gate.path, "gil") as parent:
        told = [begun.line() for _ in range(3)]
        (sibling,) = (int(line.split()[1]) for line in told if line.startswith("sibling"))
        workers = [int(line) for line in told if not line.startswith("sibling")]
        (guard,) = guards_of(parent.pid)
        with ends_of([guard]) as wait:
            os.kill(guard, signal.SIGKILL)
            wait()
        with ends_of([sibling]) as wait_for_sibling:
            with ends_of(workers) as wait:
                parent.kill()
                wait()
            gate.let_go()
            wait_for_sibling()


def test_a_guard_whose_pipe_is_descriptor_0(tmp_path: Path, begun: Fifo, gate: Fifo) -> None:
    """A program may have closed its standard input; the guard is told what to do all the same."""
    script = write_script(
        tmp_path / "script.py",
        """
        import os, subprocess, sys
        from manyhands.workers.guard import guard
        from tests.helpers import tell, wait_for

        guarded = subprocess.Popen(["sleep", "3600"], process_group=0)
        os.close(0)
        guard.watch(guarded.pid)
        tell(sys.argv[1], guarded.pid)
        wait_for(sys.argv[2])
        """,
    )
    with started(script, begun.path, gate.path) as parent:
        guarded = int(begun.line())
        (guard,) = guards_of(parent.pid)
        until(lambda: files_of(guard) == OWN_FILES, "the guard watches")
        with ends_of([guarded]) as wait:
            parent.kill()
            wait()


GUARDED = """
import os, select, signal, subprocess, sys
from manyhands.workers.guard import guard
from tests.helpers import tell, wait_for

begun, gate, way = sys.argv[1:]
guarded = [subprocess.Popen(["sleep", "3600"], process_group=0) for _ in range(2)]
tell(begun, " ".join(str(process.pid) for process in guarded))
wait_for(gate)
guard.watch(guarded[0].pid)
if way == "after its death":
    watch = os.pidfd_open(guard._pid)
    os.kill(guard._pid, signal.SIGKILL)
    select.select([watch], [], [])
guard.watch(guarded[1].pid)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("way", ["before it began", "after its death"])
def test_whom_a_guard_ends(tmp_path: Path, begun: Fifo, gate: Fifo, way: str) -> None:
    """All that it, or the one before it, was told, though its parent may be gone before it looks for the first time."""
    script = write_script(tmp_path / "script.py", GUARDED)
    with started(script, begun.path, gate.path, way), ends_of(map(int, begun.line().split())) as wait:
        gate.let_go()
        wait()


def test_no_worker_without_a_guard(tmp_path: Path, method: str) -> None:
    """Where none can be started, the pool says so, and no worker is left."""
    script = write_script(
        tmp_path / "script.py",
        """
        import errno, os, sys
        from manyhands import PoolBroken, parallel
        from manyhands.workers import guard
        from tests.helpers import descendants, until

        def none():
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

        guard._start = none
        try:
            list(parallel(len, start_method=sys.argv[1], workers=2).map(["a"]))
        except PoolBroken as error:
            print(error)
        before = "forkserver" in sys.argv
        until(lambda: len(descendants(os.getpid())) == before, "there is the fork server at most")
        """,
    )
    out = run_script(script, method)
    assert out == (
        "worker processes can't be started: the last one was ended, since no guard can be started for it: "
        "[Errno 24] Too many open files\n"
    )


def files_of(pid: int) -> list[str]:
    """What a process has open."""
    directory = f"/proc/{pid}/fd"
    try:
        return sorted(
            re.sub(r"^pipe:.*", "pipe", os.readlink(f"{directory}/{number}"))
            for number in os.listdir(directory)
        )
    except FileNotFoundError:
        return []


def test_a_guard_holds_nothing_of_its_parent(busy: Path, begun: Fifo, gate: Fifo) -> None:
    """No file that a program lets others inherit, nor its session or directory."""
    with started(busy, "fork", begun.path, gate.path, "wait", pass_fds=[begun._end]) as parent:
        workers = [int(begun.line()) for _ in range(2)]
        (guard,) = guards_of(parent.pid)
        until(lambda: files_of(guard) == OWN_FILES, "the guard has let go of what was its parent's")
        assert os.getsid(guard) == guard
        assert psutil.Process(guard).cwd() == "/"
        with ends_of([*workers, guard]) as wait:
            parent.kill()
            wait()


@pytest.mark.parametrize(
    "oddity", ["sys.executable = None", "sys.executable = ''", "os.environ._data[b''] = b'odd'"]
)
def test_a_guard_of_an_odd_program(tmp_path: Path, oddity: str) -> None:
    """One that embeds Python, or that was started with a variable that nobody can pass on."""
    script = write_script(
        tmp_path / "script.py",
        f"""
        import os, sys
        from manyhands import parallel

        {oddity}
        print(list(parallel(abs, workers=1, start_method="fork").map([-19])))
        """,
    )
    assert run_script(script) == "[19]\n"


def test_a_guard_writes_no_more_bytecode_than_its_parent(tmp_path: Path) -> None:
    """It is told what its parent was."""
    program = "from manyhands.workers.guard_process import command; print(*command(1)[1:-2])"
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    prefix = f"pycache_prefix={tmp_path}"
    cases: list[tuple[list[str], str]] = [([], ""), (["-B"], " -B"), (["-X", prefix], f" -X {prefix}")]
    for settings, flags in cases:
        command = [sys.executable, *settings, "-c", program]
        out = subprocess.run(command, env=variables, check=True, stdout=subprocess.PIPE, text=True).stdout
        assert out == f"-I -S{flags}\n"


def test_a_guard_that_is_told_to_end_before_it_is_ready(tmp_path: Path) -> None:
    """SIGTERM to a whole job hits a guard that is only starting; it stays for its workers."""
    script = write_script(
        tmp_path / "script.py",
        """
        import os, signal, subprocess
        from manyhands.workers.guard import guard

        guarded = subprocess.Popen(["sleep", "3600"], process_group=0)
        guard.watch(guarded.pid)
        os.kill(guard._pid, signal.SIGTERM)
        print(guarded.pid, flush=True)
        os.waitid(os.P_PID, guard._pid, os.WEXITED)
        """,
    )
    with started(script) as parent:
        assert parent.stdout is not None
        guarded = int(parent.stdout.readline())
        (guard,) = guards_of(parent.pid)
        until(lambda: files_of(guard) == OWN_FILES, "the guard watches")
        with ends_of([guarded]) as wait:
            parent.kill()
            wait()


def test_a_fork_that_is_stuck(tmp_path: Path, gate: Fifo) -> None:
    """A lock that another thread held when a worker was forked stays locked there: another worker takes its place."""
    script = write_script(
        tmp_path / "script.py",
        """
        import os, sys
        from manyhands import parallel
        from manyhands.controller import caretaker
        from tests.helpers import wait_for

        caretaker.START_SECONDS = 0.5
        gate = sys.argv[1]

        def count():
            global forks
            forks += 1

        forks = 0
        os.register_at_fork(before=count, after_in_child=lambda: forks == 1 and wait_for(gate))
        negative = parallel(lambda x: -x, workers=1, start_method="fork")
        print(list(negative.map(range(5))), negative.submit(5).result())
        """,
    )
    assert run_script(script, gate.path) == "[0, -1, -2, -3, -4] -5\n"


def test_a_fork_amid_an_import(tmp_path: Path, begun: Fifo, gate: Fifo) -> None:
    """Of a module that another thread imports: the worker imports it for itself, and waits for nobody."""
    (tmp_path / "slow_module.py").write_text(
        "import os, sys\n"
        "from tests.helpers import tell, wait_for\n"
        "if os.getpid() == int(sys.argv[3]):\n"
        "    tell(sys.argv[1], 'begun')\n"
        "    wait_for(sys.argv[2])\n"
        "number = 7\n"
    )
    script = write_script(
        tmp_path / "script.py",
        """
        import os, sys, threading
        from manyhands import parallel

        sys.argv.append(str(os.getpid()))

        def number(_):
            import slow_module
            return slow_module.number

        thread = threading.Thread(target=number, args=(None,))
        thread.start()
        begun = open(sys.argv[1]).readline()
        print(begun.strip(), list(parallel(number, workers=1, start_method="fork").map([0])))
        with open(sys.argv[2], "w") as gate:
            gate.write(".")
        thread.join()
        """,
    )
    assert run_script(script, begun.path, gate.path) == "begun [7]\n"


def test_workers_hear_no_interrupt_before_they_are_set_up(tmp_path: Path) -> None:
    """In a fork it would be raised amid what the parent was doing; once a worker runs calls, nothing is held back."""
    script = write_script(
        tmp_path / "script.py",
        """
        import os, signal
        from manyhands import parallel

        def held(_=None):
            return sorted(signal.pthread_sigmask(signal.SIG_BLOCK, []) & {signal.SIGINT, signal.SIGTERM})

        os.register_at_fork(after_in_child=lambda: setattr(os, "held_at_fork", held()))
        for method in ("fork", "forkserver", "spawn"):
            print(list(parallel(held).map([0], workers=1, start_method=method)))
        print(list(parallel(lambda _: os.held_at_fork).map([0], workers=2, start_method="fork")))
        print(held())
        """,
    )
    assert run_script(script).splitlines() == ["[[]]"] * 3 + [
        "[[<Signals.SIGINT: 2>, <Signals.SIGTERM: 15>]]",
        "[]",
    ]


def test_killed_while_workers_have_children(busy: Path, method: str, begun: Fifo, gate: Fifo) -> None:
    """What workers have started ends with them; what has made itself a session of its own lives on."""
    with started(busy, method, begun.path, gate.path, "children") as parent:
        told = [tuple(map(int, begun.line().split())) for _ in range(2)]
        detached = [pids[2] for pids in told]
        with ends_of(detached), ends_of(pid for pids in told for pid in pids[:2]) as wait:
            parent.kill()
            wait()
            assert all(map(fate_tasks.alive, detached))


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_to_the_group(
    busy: Path, method: str, begun: Fifo, gate: Fifo, signum: signal.Signals
) -> None:
    """The program ends as that signal ends any, with all its processes, and no worker says a word."""
    with started(busy, method, begun.path, gate.path, "wait", process_group=0) as parent:
        begun.line(), begun.line()
        with ends_of(descendants(parent.pid)) as wait:
            os.killpg(parent.pid, signum)
            wait()
        out, err = parent.communicate(timeout=90)
        assert (parent.returncode, out) == (-signum, "")
        if signum == signal.SIGINT:
            assert err.count("Traceback") == 1
            assert err.rstrip().endswith("KeyboardInterrupt")
        else:
            assert err == ""


def test_a_handler_of_the_users(tmp_path: Path, begun: Fifo, gate: Fifo) -> None:
    """A SIGTERM that the program turns into its own exit ends everything, with the exit code it chose."""
    script = write_script(
        tmp_path / "script.py",
        """
        import signal, sys
        from tests.contract import tasks

        signal.signal(signal.SIGTERM, lambda *_: sys.exit(42))
        list(tasks.meet.map(range(2), args=tuple(sys.argv[1:]), workers=2))
        """,
    )
    with started(script, begun.path, gate.path, process_group=0) as parent:
        begun.line(), begun.line()
        with ends_of(descendants(parent.pid)) as wait:
            os.killpg(parent.pid, signal.SIGTERM)
            wait()
        _, err = parent.communicate(timeout=90)
        assert (parent.returncode, err) == (42, "")


def test_forks_of_the_parent(tmp_path: Path, method: str) -> None:
    """A fork amid an open map has a pool of its own, the parent goes on, and either ends by itself."""
    script = write_script(
        tmp_path / "script.py",
        """
        import os, sys
        from manyhands import PoolClosed, parallel

        double = parallel(lambda x: 2 * x, workers=2, start_method=sys.argv[1])
        results = double.map(iter(range(100)), buffersize=10)
        assert next(results) == 0
        for _ in range(3):
            pid = os.fork()
            if pid == 0:
                try:
                    list(results)
                except PoolClosed:
                    print("closed", list(double.map([1, 2])), double.submit(3).result(), flush=True)
                sys.exit(0)
            assert os.waitpid(pid, 0)[1] == 0
        assert list(results) == [2 * x for x in range(1, 100)]
        print("done")
        """,
    )
    with started(script, method) as parent:
        assert finish(parent) == "closed [2, 4] 6\n" * 3 + "done\n"

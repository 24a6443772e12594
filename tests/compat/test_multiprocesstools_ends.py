"""Several processes that share a directory by the face of MultiProcessTools, and are killed: scripts run for real."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from manyhands import gc
from manyhands.claims import liveness
from manyhands.claims.record import Claim, encode
from manyhands.compat.multiprocesstools import MultiProcessHelper
from tests.helpers import Fifo, finish, names, run_script, started, write_script

# The script of MultiProcessTools' document, with its gaps filled in and its import changed.
DOCUMENT = """
import logging
import os
import sys
{statement}
from tests.helpers import tell, wait_for

working_directory, done, begun, gate = sys.argv[1:]
tell(begun, "ready")
wait_for(gate)
mph = multiprocesshelper(
    name="my_analysis",
    working_directory=working_directory,
    loggers=["my_analysis_logger1", "my_analysis_logger2"],
)
files_to_analyze = [f"{{number}}.txt" for number in range(20)]
name = __name__

if name == "__main__":
    mph.create_directory("my_analysis_results")
    for f in files_to_analyze:
        file_name = f.split(".")[0]
        final_file_name = file_name + "_analyzed.csv"
        temp_file_name = file_name + ".tmp"
        file_is_available = mph.create_temp_file(
            final_file_name=final_file_name, temp_file_name=temp_file_name, path="my_analysis_results"
        )
        if file_is_available == False:
            continue
        try:
            tell(done, f)
            if f == "13.txt" and not os.path.exists(done + ".13"):
                tell(done + ".13", "failed")
                raise ValueError(f)
            with open(os.path.join(mph.get_directory("my_analysis_results"), final_file_name), "x") as file:
                file.write(f)
            mph.delete_tempfile(temp_file_name=temp_file_name, path="my_analysis_results")
        except:
            logging.getLogger("my_analysis_logger2").exception("failed: %s", f)
            mph.delete_tempfile(temp_file_name=temp_file_name, path="my_analysis_results")
    print(mph.instance_number)
"""

STATEMENTS = [
    "from manyhands.compat.multiprocesstools import multiprocesshelper",
    "from manyhands.compat.multiprocesstools import MultiProcessHelper as multiprocesshelper",
    "from manyhands.compat import multiprocesshelper",
]

HEAD = """
import os
import sys
from manyhands.compat.multiprocesstools import MultiProcessHelper
from tests.helpers import tell, wait_for

root, begun, gate, *rest = sys.argv[1:]
"""

TAKER = (
    HEAD
    + """
mph = MultiProcessHelper("taker", root, [])
mph.create_directory("results")
tell(begun, "ready")
for _ in range(int(rest[1])):
    wait_for(gate)
    won = [n for n in range(30) if mph.create_temp_file(f"{n}.csv", f"{n}.tmp", "results")]
    tell(begun, " ".join(map(str, won)))
    wait_for(rest[0])
    os.kill(os.getpid(), 9) if rest[2:] else mph.delete_all_tempfiles()
    tell(begun, "ready")
"""
)


@pytest.fixture
def again(tmp_path: Path) -> Iterator[Fifo]:
    """A second gate: who is through the first must not take what lets others through it."""
    fifo = Fifo(tmp_path / "again")
    yield fifo
    fifo.let_go(1000)
    fifo.close()


@pytest.mark.parametrize("statement", STATEMENTS)
def test_the_documents_script(tmp_path: Path, begun: Fifo, gate: Fifo, statement: str) -> None:
    """By several processes at once all is done, each file once, and the one that failed at most once more."""
    script = write_script(tmp_path / "script.py", DOCUMENT.format(statement=statement))
    work, done = tmp_path / "work", tmp_path / "done"
    with ExitStack() as stack:
        programs = [stack.enter_context(started(script, work, done, begun.path, gate.path)) for _ in range(4)]
        assert [begun.line() for _ in programs] == ["ready"] * 4
        gate.let_go(4)
        numbers = [int(finish(program)) for program in programs]
    assert len(numbers) == 4 and all(1 <= number <= 4 for number in numbers)
    run_once_more = [work, done, begun.path, gate.path]
    gate.let_go(1)
    run_script(script, *run_once_more)
    analyzed = done.read_text().split()
    assert sorted(analyzed) == sorted([*(f"{number}.txt" for number in range(20)), "13.txt"])
    results = work / "my_analysis_results"
    assert {path.name: path.read_text() for path in results.iterdir()} == {
        f"{number}_analyzed.csv": f"{number}.txt" for number in range(20)
    }
    assert names(work) == ["multiprocesstools_logs", "my_analysis_results"]
    logs = [path.read_text() for path in (work / "multiprocesstools_logs").iterdir()]
    assert sum("failed: 13.txt" in text for text in logs) == 1


def test_what_a_killed_process_held(tmp_path: Path, begun: Fifo, gate: Fifo) -> None:
    """Its temp files and its number block while it lives, stopped or not, and nobody after it was killed."""
    script = write_script(
        tmp_path / "script.py",
        HEAD
        + """
mph = MultiProcessHelper("a", root, ["killed"])
assert mph.instance_number == 1
mph.create_directory("results")
assert mph.create_temp_file("a.csv", "a.tmp", "results")
tell(begun, "held")
wait_for(gate)
""",
    )
    work = tmp_path / "work"
    with started(script, work, begun.path, gate.path) as program:
        assert begun.line() == "held"
        mph = MultiProcessHelper("a", work, [])
        mph.create_directory("results")
        assert mph.instance_number == 2
        for signum in (signal.SIGSTOP, signal.SIGCONT):
            program.send_signal(signum)
            assert not mph.create_temp_file("a.csv", "a.tmp", "results")
            mph.delete_tempfile(work / "results" / "a.tmp")  # which is not its own
        held = (work / "results" / "a.tmp").read_bytes()
        program.send_signal(signal.SIGKILL)
        os.waitid(os.P_PID, program.pid, os.WEXITED | os.WNOWAIT)  # nobody has reaped it: it is a zombie
        assert (work / "results" / "a.tmp").read_bytes() == held
        assert mph.create_temp_file("a.csv", "a.tmp", "results")
        other = MultiProcessHelper("a", work, [])
        assert other.instance_number == 1
    assert names(work / "results") == ["a.tmp"]
    mph.cleanup()
    other.cleanup()
    assert names(work) == ["multiprocesstools_logs", "results"] and names(work / "results") == []


@pytest.mark.parametrize("left", ["stale", "free", "stale with a stale lock"])
def test_a_race_for_temp_files(tmp_path: Path, begun: Fifo, gate: Fifo, again: Fifo, left: str) -> None:
    """Of several processes that ask at once for files of a dead one exactly one gets each, time and again."""
    from manyhands.compat.multiprocesstools_files import lock_of

    script = write_script(tmp_path / "script.py", TAKER)
    work, rounds, racers = tmp_path / "work", 10, 5
    stale = encode(Claim(liveness.identity("f" * 24)._replace(start_ticks=1)))
    with ExitStack() as stack:
        programs = [
            stack.enter_context(started(script, work, begun.path, gate.path, again.path, rounds))
            for _ in range(racers)
        ]
        for _ in range(rounds):
            assert {begun.line() for _ in programs} == {"ready"}
            for number in range(30):
                temp = work / "results" / f"{number}.tmp"
                if left != "free":
                    temp.write_bytes(stale)
                if left == "stale with a stale lock":
                    Path(lock_of(str(temp))).write_bytes(stale)
            gate.let_go(racers)
            won = [int(number) for _ in programs for number in begun.line().split()]
            assert sorted(won) == list(range(30))
            assert names(work / "results") == sorted(f"{number}.tmp" for number in range(30))
            again.let_go(racers)
        for program in programs:
            finish(program)
    assert names(work / "results") == []


def test_a_race_after_kills(tmp_path: Path, begun: Fifo, gate: Fifo, again: Fifo) -> None:
    """What real processes held when they were killed, others get, each from one to one."""
    script = write_script(tmp_path / "script.py", TAKER)
    work = tmp_path / "work"
    for generation in range(2):
        with ExitStack() as stack:
            programs = [
                stack.enter_context(started(script, work, begun.path, gate.path, again.path, 1, "die"))
                for _ in range(4)
            ]
            assert {begun.line() for _ in programs} == {"ready"}
            assert {name for name in names(work) if name.endswith(".tmp")} == {
                f"taker{number}.tmp" for number in range(1, 5)
            }, generation
            gate.let_go(4)
            won = [int(number) for _ in programs for number in begun.line().split()]
            assert sorted(won) == list(range(30))
            again.let_go(4)
            for program in programs:
                finish(program, -signal.SIGKILL)
    assert names(work / "results") == sorted(f"{number}.tmp" for number in range(30))


def test_a_race_for_instance_numbers(tmp_path: Path, begun: Fifo, gate: Fifo, again: Fifo) -> None:
    """Living instances never share one, whether the numbers were free or those of killed ones."""
    script = write_script(
        tmp_path / "script.py",
        HEAD
        + """
tell(begun, "ready")
wait_for(gate)
tell(begun, MultiProcessHelper("a", root, ["log"]).instance_number)
wait_for(rest[0])
os.kill(os.getpid(), 9)
""",
    )
    for _ in range(2):
        with ExitStack() as stack:
            programs = [
                stack.enter_context(started(script, tmp_path / "work", begun.path, gate.path, again.path))
                for _ in range(6)
            ]
            assert {begun.line() for _ in programs} == {"ready"}
            gate.let_go(6)
            numbers = {int(begun.line()) for _ in programs}
            assert len(numbers) == 6
            again.let_go(6)
            for program in programs:
                finish(program, -signal.SIGKILL)
    mph = MultiProcessHelper("a", tmp_path / "work", [])
    assert mph.instance_number == 1
    mph.cleanup()


@pytest.mark.parametrize("point", ["locked", "replaced", "made"])
def test_killed_in_the_middle(tmp_path: Path, begun: Fifo, gate: Fifo, point: str) -> None:
    """A process that is killed while it takes a file over leaves it to the next."""
    script = write_script(
        tmp_path / "script.py",
        HEAD
        + """
from manyhands.claims import filesystem as fs
from manyhands.compat import multiprocesstools_files as files

class Dying(fs.LocalFileSystem):
    def perform(self, operation):
        if isinstance(operation, fs.Rename) and rest[0] == "locked":
            os.kill(os.getpid(), 9)
        reply = super().perform(operation)
        if isinstance(operation, fs.Rename) and rest[0] == "replaced":
            os.kill(os.getpid(), 9)
        if isinstance(operation, fs.Link) and rest[0] == "made":
            os.kill(os.getpid(), 9)
        return reply

files._filesystem = Dying()
files.make(os.path.join(root, "a.tmp"), None)
""",
    )
    temp = tmp_path / "work" / "a.tmp"
    temp.parent.mkdir()
    temp.write_bytes(encode(Claim(liveness.identity("f" * 24)._replace(start_ticks=1))))
    run_script(script, temp.parent, begun.path, gate.path, point, status=-signal.SIGKILL)
    mph = MultiProcessHelper("b", temp.parent, [])
    assert mph.create_temp_file("a.csv", "a.tmp", "working_directory")
    mph.cleanup()
    gc(temp.parent)
    assert names(temp.parent) == ["multiprocesstools_logs"]


def test_the_end_of_a_program(tmp_path: Path, begun: Fifo, gate: Fifo) -> None:
    """One that ends in order, or by an error, gives back what it holds, which other machines can't find out."""
    script = write_script(
        tmp_path / "script.py",
        HEAD
        + """
os.chdir(os.path.dirname(root))
mph = MultiProcessHelper("a", os.path.basename(root), ["log"])
assert mph.create_temp_file("a.csv", "a.tmp", "working_directory")
os.chdir("/")
raise SystemExit(3) if rest[0] == "3" else LookupError
""",
    )
    for status in (3, 1):
        run_script(script, tmp_path / "work", begun.path, gate.path, status, status=status)
        assert names(tmp_path / "work") == ["multiprocesstools_logs"]


def test_a_forked_process(tmp_path: Path, begun: Fifo, gate: Fifo) -> None:
    """It makes files of its own by the helper it has inherited, and leaves those of its parent alone."""
    script = write_script(
        tmp_path / "script.py",
        HEAD
        + """
mph = MultiProcessHelper("a", root, [])
mph.create_directory("results")
assert mph.create_temp_file("a.csv", "a.tmp", "results")
child = os.fork()
if not child:
    assert not mph.create_temp_file("a.csv", "a.tmp", "results")
    assert mph.create_temp_file("b.csv", "b.tmp", "results")
    mph.cleanup()
    tell(begun, " ".join(sorted(os.listdir(root) + os.listdir(mph.get_directory("results")))))
    assert mph.create_temp_file("c.csv", "c.tmp", "results")
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
assert mph.create_temp_file("c.csv", "c.tmp", "results")
mph.cleanup()
""",
    )
    run_script(script, tmp_path / "work", begun.path, gate.path)
    assert begun.line() == "a.tmp a1.tmp multiprocesstools_logs results"
    assert names(tmp_path / "work" / "results") == []


def test_other_machines_are_never_judged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A file of another machine, or of this one before it was started anew, blocks, however old it is."""
    mph = MultiProcessHelper("a", tmp_path, [])
    me = liveness.identity("f" * 24)
    for number, changes in enumerate([{"boot_id": "x"}, {"pid_namespace": 1}, {"host": "x", "boot_id": "x"}]):
        temp = tmp_path / f"{number}.tmp"
        temp.write_bytes(encode(Claim(me._replace(start_ticks=1, **changes))))  # type: ignore[arg-type]
        os.utime(temp, (0, 0))
        assert not mph.create_temp_file("a.csv", temp.name, "working_directory")
        with caplog.at_level(logging.WARNING):
            mph.delete_tempfile(temp)
        assert temp.exists()
    mph.cleanup()

"""Storms of users' functions: one that is right passes, whatever is done to its processes; wrong ones are caught."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from click.testing import CliRunner, Result

import manyhands.cli.stress
from manyhands.errors import DuplicateOutput
from manyhands.testing import Event, Nemesis, SerialRunFailed, digest, storm
from manyhands.testing.storms.blows import Blows
from manyhands.testing.storms.onlooker import Onlooker
from manyhands.testing.storms.round import figures_of
from tests.harness import storm_tasks as tasks
from tests.helpers import Fifo, started

TASKS = tasks.__name__
command = manyhands.cli.stress.stress
MARK = "MANYHANDS_TEST_OF_STORMS"


def stress(*arguments: object, stdin: str = "") -> Result:
    """The command, in this process."""
    return CliRunner().invoke(command, [*map(str, arguments)], input=stdin)


@pytest.fixture
def nobody_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Of all that the test has started nothing runs when it has ended, in whatever session."""
    monkeypatch.setenv(MARK, str(tmp_path))
    yield
    left = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and process.environ().get(MARK) == str(tmp_path):
                left.append(process.cmdline())
        except (psutil.Error, OSError):
            continue
    assert not left


# -- functions ------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("nobody_left")
def test_a_function_that_keeps_the_rules_passes(tmp_path: Path) -> None:
    """All is there in the end, the figures say what was done, and nothing is left in the directory."""
    arguments = ("--processes", 2, "--workers", 1, "--minutes", 0.02, "--rounds", 1, "--seed", 1, "--directory")
    ran = stress(f"{TASKS}:right", *arguments, tmp_path, "--json", "--inputs", *range(12))
    assert ran.exit_code == 0, ran.output
    report = json.loads(ran.output)
    assert (report["ok"], report["seed"], report["rounds"], report["problems"]) == (True, 1, 1, [])
    figures = report["figures"]
    assert figures["outputs"] == 12
    assert figures["processes"] >= 3
    assert figures["looks"] > 0
    assert not any(figures[name] for name in ("missing", "torn", "doubled", "littered", "other"))
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("nobody_left")
@pytest.mark.parametrize(
    ("function", "rule", "message"),
    [
        (tasks.beside, "publications", "'out/0.txt' was there before it was committed"),
        (tasks.leaving, "process", "left by a run of one process: process .*signal.pause"),
    ],
)
def test_what_is_wrong_already_alone_is_told_at_once(
    tmp_path: Path, function: Any, rule: str, message: str
) -> None:
    """No round is played; the files are kept, the processes are not."""
    report = storm(function, [0], patience=0.5, directory=tmp_path, seed=1)
    assert (report.ok, report.rounds) == (False, 0)
    assert {problem.rule for problem in report.problems} == {rule}
    assert report.directory is not None
    assert (report.directory / "outputs" / "out" / "0.txt").exists()
    assert f"WRONG {rule}" in str(report)
    assert_matches(message, report.problems[0].message)


def assert_matches(pattern: str, text: str) -> None:
    """The text has it."""
    with pytest.raises(AssertionError, match=pattern):
        raise AssertionError(text)


@pytest.mark.usefixtures("nobody_left")
def test_outputs_that_depend_on_the_process_are_caught(tmp_path: Path) -> None:
    """They are the same in each run of one process alone, and others in the storm."""
    options = {"processes": 1, "workers": 1, "rounds": 1, "seconds": 0.0}
    report = storm(tasks.by_process, range(3), directory=tmp_path, **options)  # type: ignore[arg-type]
    assert report.rounds == 1
    assert report.figures["torn"] >= 3
    assert "'out/0.txt' differs from that of a serial run" in str(report)
    assert report.directory is not None
    assert report.directory.parent.parent == tmp_path.resolve()


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (tasks.by_time, "by_time is not deterministic: the output 'out/1.txt' differs between two runs"),
        (tasks.failing, r"failing fails with nobody beside it, in 1 of 1 items .*RuntimeError: as ever"),
    ],
)
def test_what_gives_nothing_to_compare_with_is_refused(tmp_path: Path, function: Any, message: str) -> None:
    """Before the storm; nothing is left."""
    with pytest.raises(SerialRunFailed, match=message):
        storm(function, [1], directory=tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("nobody_left")
def test_an_interrupted_storm_leaves_nothing(tmp_path: Path, begun: Fifo, gate: Fifo) -> None:
    """Ctrl-C ends all its processes, and the status tells."""
    script = tmp_path / "script.py"
    script.write_text("from manyhands.cli import main; main()")
    row = f"{begun.path},{gate.path}"
    arguments = ("stress", f"{TASKS}:hanging", "--star", "--inputs", row, "--directory", tmp_path)
    environment = {MARK: str(tmp_path), "PYTHONPATH": ":".join(filter(None, sys.path))}
    with started(script, *arguments, env=environment) as process:
        worker = psutil.Process(int(begun.line()))
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
        worker.wait(60)
    assert not list(tmp_path.glob("manyhands-storm-*"))


@pytest.mark.usefixtures("nobody_left")
def test_a_function_of_a_script(tmp_path: Path) -> None:
    """By the script's path: its processes get the function by value, and never run the script."""
    script = tmp_path / "count.py"
    script.write_text(
        "from pathlib import Path\nfrom manyhands import OUTPUT, claimed_output\n"
        "with open('imported', 'a') as file:\n    file.write('.')\n\n\n"
        "@claimed_output('out/{number}.txt')\ndef count(number: int, output: Path = OUTPUT) -> None:\n"
        "    output.write_text(str(number))\n"
    )
    arguments = ("stress", "count.py:count", "1", "2", "--minutes", "0", "--rounds", "1", "--processes", "1")
    ran = subprocess.run(
        [sys.executable, "-m", "manyhands", *arguments, "--workers", "1"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": ":".join(filter(None, sys.path))},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    assert (tmp_path / "imported").read_text() == "."


# -- what is asked for ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing"], "'nothing' is not MODULE:FUNCTION, such as 'photos:count'"),
        (["no_such_module:f"], "there is no module 'no_such_module'"),
        ([f"{TASKS}:nobody"], f"'{TASKS}' has no 'nobody'"),
        (
            [f"{TASKS}:plain", "--inputs", "1"],
            "a storm takes a function with @claimed_output, which plain has not",
        ),
        ([f"{TASKS}:right"], "a storm needs items: there are none"),
        ([f"{TASKS}:right", "--inputs", "-"], "a storm needs items: there are none"),
        ([f"{TASKS}:right", "--inputs", "one"], "input 1, 'one': argument 'number' of right: 'one' is no int"),
        ([f"{TASKS}:right", "--inputs", "no-such-*"], "no file matches 'no-such-*'"),
        ([f"{TASKS}:hanging", "--inputs", "a"], "with --star an input is a row of arguments"),
        ([f"{TASKS}:hanging", "--star", "--inputs", "a"], "hanging takes the arguments begun, gate"),
        ([f"{TASKS}:same", "--inputs", "1", "2"], "items 0 and 1 of same, 1 and 2, have the same output"),
        ([f"{TASKS}:absolute", "--inputs", "1"], "the template '/tmp/{number}.txt' of absolute is absolute"),
        ([f"{TASKS}:right", "--inputs", "1", "--processes", "0"], "0 is not in the range x>=1"),
    ],
)
def test_a_storm_that_can_not_begin_is_a_usage_error(arguments: list[str], message: str) -> None:
    """Status 2, and what would be right; nothing was started."""
    ran = stress(*arguments)
    assert ran.exit_code == 2, ran.output
    assert message in " ".join(ran.output.replace("│", " ").split())


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"processes": 0}, ValueError, "processes must be a whole number of 1 or more, not 0"),
        ({"rounds": True}, ValueError, "rounds must be a whole number"),
        ({"seconds": -1}, ValueError, "seconds must be a number of seconds, 0 or more, not -1"),
        ({"lease": 0}, ValueError, "lease must be a number of seconds, 0.01 or more, not 0"),
    ],
)
def test_numbers_out_of_range_are_refused(options: Any, error: type[Exception], message: str) -> None:
    """By name, before anything is started."""
    with pytest.raises(error, match=message):
        storm(tasks.right, [1], **options)


def test_items_with_one_output_are_refused() -> None:
    """As a map does."""
    with pytest.raises(DuplicateOutput, match="items 0 and 1 of same, 5 and 6, have the same output"):
        storm(tasks.same, [5, 6])


def test_inputs_become_items(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Paths are absolute; lines of stdin and what matches stand where they were asked for; rows are split."""
    monkeypatch.chdir(tmp_path)
    for name in ("b 1.png", "a.png"):
        (tmp_path / name).touch()
    items = manyhands.cli.stress._items
    monkeypatch.setattr("sys.stdin", iter(["7\n", "\n", "8"]))
    assert list(items(tasks.right, ["1", "-", "2"], star=False)) == [1, 7, 8, 2]

    def count(image: Path, factor: float = 1.0) -> None:
        """A body."""

    found = [tmp_path / "a.png", tmp_path / "b 1.png", tmp_path / "none.png"]
    assert list(items(count, ["*.png", "none.png"], star=False)) == found
    assert list(items(count, ["a.png, 2", '"b 1.png"'], star=True)) == [(found[0], 2.0), (found[1],)]


# -- its parts ------------------------------------------------------------------------------------------------


def test_an_onlooker_sees_what_is_torn_replaced_or_gone(tmp_path: Path) -> None:
    """Each is told once, by its name."""
    outputs = {name: (name,) for name in ("wrong", "changed", "replaced", "gone", "right")}
    for name in outputs:
        (tmp_path / name).write_text("whole")
    (tmp_path / "wrong").write_text("half")
    expected = dict.fromkeys(outputs, "") | {}
    digests = {name: digest(tmp_path / "right") for name in expected}
    onlooker = Onlooker(tmp_path, outputs, digests)
    for name in outputs:
        onlooker.look(name)
    (tmp_path / "changed").write_text("whole and more")
    (tmp_path / "new").write_text("whole")
    (tmp_path / "new").replace(tmp_path / "replaced")
    (tmp_path / "gone").unlink()
    for name in (*outputs, *outputs):
        onlooker.look(name)
    told = [(problem.rule, *problem.names) for problem in onlooker.problems]
    assert told == [("torn", "wrong"), ("torn", "changed"), ("replaced", "replaced"), ("gone", "gone")]
    assert onlooker.looks == 15


def test_blows_follow_the_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same seed does the same to the same, in the same order; another one does not; who is stopped goes on."""

    class Noting(Nemesis):
        def __init__(self) -> None:
            super().__init__()
            self.done: list[tuple[str, int]] = []

        def _blow(self, blow: str, pid: int) -> bool:
            self.done.append((blow, pid))
            return True

    def blows(seed: str) -> list[tuple[str, int]]:
        nemesis, now = Noting(), 0.0
        monkeypatch.setattr("time.monotonic", lambda: now)
        plan = Blows(nemesis, seed, 0.1, 0.5)
        for _ in range(400):
            now += 0.1
            plan.step([1, 2, 3], [11, 12, 13])
        return nemesis.done

    first = blows("a")
    assert first == blows("a") != blows("b")
    assert {blow for blow, _ in first} == {"kill", "stop", "resume", "terminate"}
    assert {pid for _, pid in first} == {1, 2, 3, 11, 12, 13}
    stopped: set[int] = set()
    for blow, pid in first:
        assert (pid in stopped) == (blow == "resume") or blow in ("kill", "terminate")
        stopped = stopped | {pid} if blow == "stop" else stopped - {pid} if blow == "resume" else stopped
        assert len(stopped) <= 2


def test_figures_are_read_from_histories() -> None:
    """A claim upon a claim, a commit that came too late, and one that another has published."""

    def event(action: Any, output: str, slot: int, kind: Any = "ok", note: str = "") -> Event:
        return Event("p", 0, kind, action, output, slot, note=note)

    events = [
        event("claim", "a", 0),
        event("claim", "a", 1),
        event("commit", "a", 1, "fail", "fenced"),
        event("commit", "a", 2),
        event("publish", "a", 1),
        event("claim", "b", 0),
        event("failure", "b", 1),
        event("claim", "b", 2),
        event("commit", "b", 3),
        event("claim", "c", 0, "invoke"),
    ]
    assert figures_of(events) == {"takeovers": 1, "fenced": 1, "helped": 1, "recomputed": 2}

"""``manyhands run``: what it runs, what it prints, and the status it ends with."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from manyhands.cli.commands import cli
from manyhands.reporting.journal import read
from tests.helpers import DEADLINE, Fifo, descendants, ends_of, lines

SCRIPT = """
import sys
from dataclasses import dataclass
from pathlib import Path

from manyhands import OUTPUT, claimed_output, parallel, validated, worker_info

import neighbour

assert __name__ != "__main__"
with open("imported", "a") as file:
    file.write("imported\\n")


class TooSmall(Exception):
    pass


@dataclass
class Size:
    bytes: int


def size(path: Path) -> Size:
    if not path.stat().st_size:
        raise TooSmall(f"{path}\\nis empty")
    return Size(neighbour.size(path))


@claimed_output("out/{path.stem}.txt")
def count(path: Path, factor: int = 1, output: Path = OUTPUT) -> None:
    output.write_text(str(size(path).bytes * factor))


@validated(arguments=lambda number: number >= 0)
def root(number: float) -> float:
    return number**0.5


def in_worker(number: int) -> tuple[int, bool]:
    return number, worker_info() is not None


def mean(number: int) -> None:
    pass


async def later(number: int) -> None:
    pass


@parallel(workers=1, timeout=60)
def limited(number: int) -> int:
    return number


if __name__ == "__main__":
    raise AssertionError("started as a program")
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory with a script, its neighbour and images; what the command does to this process is undone."""
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (here / "count.py").write_text(SCRIPT)
    (here / "neighbour.py").write_text("def size(path):\n    return path.stat().st_size\n")
    for name in ("c.png", "a.png", "b.png"):
        (here / name).write_text(name)
    yield here
    for name in ("__mp_main__", "neighbour", "broken", "count", "ends", "loud"):
        sys.modules.pop(name, None)


def run(*arguments: object, stdin: str | bytes | None = None, backend: str = "inline") -> Result:
    """The command, in this process."""
    return CliRunner().invoke(cli, ["run", "--backend", backend, *map(str, arguments)], input=stdin)


def environment() -> dict[str, str]:
    """Of a process that imports what this one can."""
    own = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    return {**own, "PYTHONPATH": ":".join(filter(None, sys.path))}


def process(*arguments: object, **options: Any) -> subprocess.Popen[str]:
    """The command, in a process of its own."""
    command = [sys.executable, "-m", "manyhands", "run", *map(str, arguments)]
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    return subprocess.Popen(command, text=True, env=environment(), **pipes)  # type: ignore[no-any-return]


# -- functions and inputs -------------------------------------------------------------------------------------


def test_a_plain_function_over_a_pattern(here: Path) -> None:
    """A line for each path, in their order; the summary is not among them."""
    ran = run("count.py:size", "*.png")
    assert ran.exit_code == 0, ran.output
    assert ran.stdout.splitlines() == ["Size(bytes=5)"] * 3
    assert "3 inputs in" in ran.stderr and "3 done" in ran.stderr
    assert lines(here / "imported") == ["imported"]


def test_outputs_are_told_by_their_paths(here: Path) -> None:
    """As they come; a second time they are there already. A script may lie elsewhere."""
    ran = run("count.py:count", "a.png", "b.png")
    assert (ran.exit_code, ran.stdout) == (0, "out/a.txt\nout/b.txt\n"), ran.output
    assert "2 computed here" in ran.stderr
    (here / "below").mkdir()
    os.chdir(here / "below")
    again = run("../count.py:count", "../a.png")
    assert (again.exit_code, again.stdout) == (0, "out/a.txt\n"), again.output
    os.chdir(here)
    again = run(here / "count.py:count", "*.png", "--json")
    told = [json.loads(line) for line in again.stdout.splitlines()]
    assert [each["value"] for each in told] == ["out/a.txt", "out/b.txt", "out/c.txt"]
    assert [each["attempts"] for each in told] == [0, 0, 1]
    assert "1 computed here, 2 there already" in again.stderr


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("function", "text", "value"),
    [
        ("os.path:getsize", "a.png", "5"),
        ("count:size", "a.png", "Size(bytes=5)"),
        ("datetime:date.fromisoformat", "2026-01-02", "datetime.date(2026, 1, 2)"),
    ],
)
def test_any_function_of_any_module(function: str, text: str, value: str) -> None:
    """One that lies here, of the standard library, of a class; inputs without an annotation stay texts."""
    ran = run(function, text)
    assert (ran.exit_code, ran.stdout) == (0, f"{value}\n"), ran.output


@pytest.mark.usefixtures("here")
def test_rows_of_a_table() -> None:
    """With a header in any order of columns, or none; the failure of a row names its text."""
    table = "factor,path\n2,a.png\n3,b.png\n4,none.png\n"
    ran = run("count.py:count", "-", "--star", stdin=table)
    assert ran.exit_code == 1
    assert [Path(path).read_text() for path in ran.stdout.split()] == ["10", "15"]
    assert "failed: 4,none.png: FileNotFoundError" in ran.stderr
    assert "the same command tries what failed once more" in ran.stderr
    assert run("count.py:count", "--star", "c.png,7").exit_code == 0
    assert Path("out/c.txt").read_text() == "35"


@pytest.mark.usefixtures("here")
def test_what_all_calls_have_in_common() -> None:
    """It is given once, beside a pattern or the rows of a table."""
    assert run("count.py:count", "[ab].png", "--set", "factor=3").exit_code == 0
    assert run("count.py:count", "--set", "factor=4", "--star", "-", stdin="path\nc.png\n").exit_code == 0
    assert [Path(f"out/{name}.txt").read_text() for name in "abc"] == ["15", "15", "20"]
    assert run("count.py:count", "6", "--set", "path=b.png").exit_code == 0  # then inputs are for the other one
    ran = run("count.py:count", "a.png", "--set", "fctor=4")
    assert ran.exit_code == 2 and "count has no parameter 'fctor'; did you mean 'factor'?" in ran.stderr


@pytest.mark.usefixtures("here")
def test_names_that_are_no_text_pass() -> None:
    """From standard input, through the function and out again."""
    name = b"\xff.png"
    Path(os.fsdecode(name)).write_text("as it is")
    ran = run("count.py:count", "-", stdin=name + b"\n")
    assert (ran.exit_code, ran.stdout_bytes) == (0, b"out/\xff.txt\n"), ran.output


# -- what is told ---------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("options", "status", "values", "failures"),
    [((), 1, 3, 2), (("--on-error", "skip"), 0, 3, 0), (("--on-error", "raise"), 1, 1, 1)],
)
def test_failures(options: tuple[str, ...], status: int, values: int, failures: int) -> None:
    """Each is told in a line, and the others go on; or it is the last; or they are only counted."""
    for name in ("ab.png", "bb.png"):
        Path(name).touch()
    ran = run("count.py:size", "*.png", *options)
    assert ran.exit_code == status
    assert len(ran.stdout.splitlines()) == values
    told = [line for line in ran.stderr.splitlines() if line.startswith("failed")]
    assert (
        told
        == ["failed: ab.png: TooSmall: ab.png is empty", "failed: bb.png: TooSmall: bb.png is empty"][:failures]
    )
    assert ("2 failed" in ran.stderr) == (options != ("--on-error", "raise"))
    assert "\x1b" not in ran.stderr


@pytest.mark.usefixtures("here")
def test_what_is_sorted_out_is_no_failure() -> None:
    """It is counted, and JSON has the reason."""
    ran = run("count.py:root", "--json", "--traceback", "--", "4", "-4")
    assert ran.exit_code == 0, ran.output
    done, left = map(json.loads, ran.stdout.splitlines())
    assert (done["status"], done["value"], done["input"]) == ("ok", 2.0, "4")
    assert left["status"] == "discarded" and "number" in left["reason"]
    assert "1 done, 1 discarded" in ran.stderr


@pytest.mark.usefixtures("here")
def test_a_traceback_where_it_is_asked_for() -> None:
    """It shows the line of the user's."""
    Path("ab.png").touch()
    assert "raise TooSmall" not in run("count.py:size", "ab.png").stderr
    assert "raise TooSmall" in run("count.py:size", "ab.png", "--traceback").stderr


def test_nothing_to_do_is_no_error(here: Path) -> None:
    """A search may have found nothing."""
    ran = run("count.py:size", "-", stdin="\n")
    assert (ran.exit_code, ran.stdout) == (0, "")
    assert "0 inputs" in ran.stderr


def test_a_run_leaves_a_journal_beside_outputs(here: Path) -> None:
    """Unless it is told not to; of plain functions there is a page, if asked for."""
    inputs = ["a.png", "b.png"]
    ran = run("count.py:count", *inputs, "--report", "run.html", "--trace", "run.json")
    assert ran.exit_code == 0, ran.output
    (recording,) = read(here / "out")
    assert recording.outcomes == {"values": 2, "failures": 0, "discarded": 0, "elsewhere": 0}
    assert "count" in (here / "run.html").read_text()
    assert json.loads((here / "run.json").read_text())["traceEvents"]
    assert run("count.py:count", *inputs, "--no-record").exit_code == 0
    assert len(read(here / "out")) == 1
    assert run("count.py:root", "4", "--report", "root.html").exit_code == 0
    assert "root" in (here / "root.html").read_text()
    refused = run("count.py:root", "4", "--record")
    assert refused.exit_code == 2 and "--record is for functions with @claimed_output" in refused.stderr


def test_numbers_that_json_has_no_word_for(here: Path) -> None:
    """Every line is JSON."""
    (here / "loud.py").write_text("def odd(x: float):\n    return {'a': [x, 1.5], 'b': (x, 'nan')}\n")
    ran = run("loud.py:odd", "nan", "inf", "--json")

    def refuse(text: str) -> None:
        raise AssertionError(text)

    told = [json.loads(line, parse_constant=refuse)["value"] for line in ran.stdout.splitlines()]
    assert told == [{"a": [None, 1.5], "b": [None, "nan"]}] * 2


@pytest.mark.usefixtures("here")
def test_a_table_with_a_mark_of_byte_order() -> None:
    """As spreadsheets write it."""
    ran = run("count.py:root", "-", "--star", stdin="\ufeffnumber\n9\n")
    assert ran.stdout == "3.0\n", ran.output


def test_places_are_looked_at_before_anything_runs(here: Path) -> None:
    """Of a report, of a trace."""
    for option in ("--report", "--trace"):
        ran = run("count.py:root", "4", option, "nowhere/run.html")
        assert ran.exit_code == 2 and "no directory" in ran.stderr and not ran.stdout


@pytest.mark.parametrize(
    ("streams", "status", "told"),
    [
        (">/dev/full", 1, "Error: standard output can't be written: No space left on device"),
        (">&-", 0, "2 inputs in"),
        ("- <&-", 2, "the input '-' is standard input, which is closed"),
    ],
)
def test_streams_that_are_of_no_use(here: Path, streams: str, status: int, told: str) -> None:
    """Told in a line."""
    command = f"{sys.executable} -m manyhands run --backend inline count.py:root 4 9 {streams}"
    ran = subprocess.run(["sh", "-c", command], capture_output=True, text=True, env=environment(), check=False)
    assert ran.returncode == status, ran.stderr
    assert told in ran.stderr and "Traceback" not in ran.stderr


def test_letters_that_a_terminal_has_not(here: Path) -> None:
    """They are told by their numbers."""
    ran = subprocess.run(
        [sys.executable, "-m", "manyhands", "run", "--backend", "inline", "os.path:basename", "ü"],
        capture_output=True,
        text=True,
        env={**environment(), "PYTHONIOENCODING": "ascii"},
        check=True,
    )
    assert ran.stdout == "\\xfc\n"


def test_what_the_function_prints_is_no_result(here: Path) -> None:
    """It goes to standard error."""
    (here / "loud.py").write_text("def loud(x: int):\n    print('loud', x)\n    return x\n")
    ran = run("loud.py:loud", "1", "2", "--json")
    assert [json.loads(line)["value"] for line in ran.stdout.splitlines()] == [1, 2]
    assert "loud 1\nloud 2\n" in ran.stderr


def test_a_script_does_not_get_our_arguments(here: Path) -> None:
    """One that reads its own as it is imported finds none; ours are back then."""
    (here / "ends.py").write_text(
        "import sys\nARGUMENTS = sys.argv[:]\ndef arguments(_):\n    return ARGUMENTS\n"
    )
    before = sys.argv[:]
    assert run("ends.py:arguments", "1").stdout == "['ends.py']\n"
    assert sys.argv == before


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["count.py", "a.png"], "'count.py' is not MODULE:FUNCTION, such as 'count.py:limited'"),
        (["count", "a.png"], "'count' is not MODULE:FUNCTION, such as 'photos:count'"),
        (["nothing.py:f", "a.png"], "there is no file 'nothing.py' in "),
        (["nothing:f", "a.png"], "there is no module 'nothing'"),
        (["count.py:cuont", "a.png"], "'count.py' has no 'cuont'; did you mean 'count'?"),
        (["count.py:Path.nothing", "a.png"], "'count.py' has no 'Path.nothing'"),
        (["count.py:SCALE", "a.png"], "'count.py' has no 'SCALE'"),
        (["count.py:__name__", "a.png"], "'count.py:__name__' is no function, but str"),
        (["count.py:later", "1"], "an async function has no place here"),
        (["count.py:size"], "there is no INPUT"),
        (["count.py:size", "*.jpg"], "input 1: no file matches '*.jpg'"),
        (["count.py:mean", "1", "x"], "input 2, 'x': argument 'number' of mean: 'x' is no int"),
        (["count.py:count", "a.png", "./a.png"], "have the same output"),
        (["count.py:mean", "1", "--workers", "0"], "workers must not be 0"),
        (
            ["count.py:mean", "1", "--no-wait"],
            "--no-wait is for functions with @claimed_output, which count.py:mean",
        ),
        (["count.py:mean", "1", "--timeout", "-1"], "timeout must be more than 0 seconds"),
        (["count.py:limited", "1"], "timeout needs worker processes, which can be ended; backend='inline' has"),
        (["count.py:mean", "1", "--on-error", "ignore"], "'ignore' is not one of 'return', 'raise', 'skip'"),
    ],
)
def test_what_can_not_be_run_is_bad_usage(arguments: list[str], message: str) -> None:
    """Status 2, what is wrong and what would be right; nothing was started."""
    ran = run(*arguments)
    assert ran.exit_code == 2, ran.output
    assert message in " ".join(ran.stderr.split())
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import sys\nsys.exit(3)", "it called sys.exit(3); put what it does as a program under if __name__"),
        ("import no_such_module_at_all", "No module named 'no_such_module_at_all'"),
        ("def f(:", "SyntaxError"),
        ("1 / 0", 'broken.py", line 1, in <module>'),
    ],
)
def test_a_module_that_can_not_be_imported(here: Path, text: str, message: str) -> None:
    """By its path as by its name: status 2, and where, from the user's own line on."""
    (here / "broken.py").write_text(text)
    for name in ("broken.py:f", "broken:f"):
        ran = run(name, "1")
        assert ran.exit_code == 2
        assert message in ran.stderr and "cli/function.py" not in ran.stderr and "importlib" not in ran.stderr
        assert "__mp_main__" not in sys.modules


# -- processes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
@pytest.mark.parametrize("module", ["count.py", "count"])
def test_workers_find_the_function(here: Path, module: str, method: str) -> None:
    """Of a script it is sent to them: they never run that. Of a module they import it. Exceptions come back."""
    with (here / "count.py").open("a") as file:
        file.write(f"\nimport manyhands\nmanyhands.configure(start_method={method!r}, workers=1)\n")
    (here / "ab.png").touch()
    with process(f"{module}:in_worker", "1", "2", stdout=subprocess.PIPE) as ran:
        assert ran.communicate(timeout=DEADLINE)[0] == "(1, True)\n(2, True)\n"
    assert ran.returncode == 0
    assert len(lines(here / "imported")) == (1 if module == "count.py" else 2)
    with process(f"{module}:size", "a.png", "ab.png", "--json") as ran:
        out, err = ran.communicate(timeout=DEADLINE)
    assert ran.returncode == 1
    assert json.loads(out.splitlines()[0])["value"] == "Size(bytes=5)"
    assert json.loads(out.splitlines()[1])["error"]["type"] == (
        "TooSmall" if module == "count.py" else "count.TooSmall"
    )
    assert "failed: ab.png: TooSmall: ab.png is empty" in err


@pytest.mark.parametrize("plain", [False, True])
def test_a_terminal(here: Path, plain: bool) -> None:
    """It has a bar, with whole lines above it; colours, unless NO_COLOR is set."""
    (here / "ab.png").touch()
    ours, theirs = os.openpty()
    termios.tcsetwinsize(theirs, (24, 100))
    own = {name: value for name, value in environment().items() if name not in ("NO_COLOR", "FORCE_COLOR")}
    variables = own | {"TERM": "xterm"} | ({"NO_COLOR": "1"} if plain else {})
    command = [
        sys.executable,
        "-m",
        "manyhands",
        "run",
        "count.py:size",
        "a.png",
        "ab.png",
        "--backend",
        "inline",
    ]
    ends = {"stdin": theirs, "stdout": theirs, "stderr": theirs}
    with subprocess.Popen(command, env=variables, start_new_session=True, **ends) as ran:  # type: ignore[call-overload]
        os.close(theirs)
        shown = b""
        with suppress(OSError):  # which is how a terminal says that nobody is left
            while piece := os.read(ours, 4096):
                shown += piece
        os.close(ours)
    assert ran.returncode == 1
    text = shown.decode().replace("\r", "\n")
    assert "Size(bytes=5)" in text.splitlines() and "2/2" in text
    plainly = re.sub(r"\x1b\[[0-9;]*[mKA]", "", text)
    assert "failed: ab.png: TooSmall: ab.png is empty" in plainly.splitlines()
    assert bool(re.search(r"\x1b\[[0-9;]*3[0-9]m", text)) == (not plain)


BLOCKING = """
from pathlib import Path
from manyhands import OUTPUT, claimed_output
from tests.helpers import tell, wait_for

@claimed_output("out/{item}.txt")
def work(item: str, begun: str = "../begun", gate: str = "../gate", output: Path = OUTPUT) -> None:
    if item == "block":
        tell(begun, "begun")
        wait_for(gate)
    tell("../log", item)
    output.write_text(item)
"""


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupt_ends_all_and_the_same_command_goes_on(
    here: Path, begun: Fifo, gate: Fifo, number: int, status: int
) -> None:
    """The workers end with it, what is done stays done, and the status tells which signal it was."""
    (here / "work.py").write_text(BLOCKING)
    command = ("work.py:work", "a", "block", "b", "--workers", "1")
    with process(*command) as ran:
        assert ran.stdout is not None
        assert ran.stdout.readline() == "out/a.txt\n"
        begun.line()
        with ends_of(descendants(ran.pid)) as wait:
            ran.send_signal(number)
            out, err = ran.communicate(timeout=DEADLINE)
            wait()
    assert (ran.returncode, out) == (status, "")
    assert "1 computed here, 2 not done" in err and "the same command goes on from there" in err
    assert "Traceback" not in err
    gate.let_go(1)
    with process(*command) as ran:
        out, err = ran.communicate(timeout=DEADLINE)
    assert (ran.returncode, out.split()) == (0, ["out/a.txt", "out/block.txt", "out/b.txt"])
    assert "2 computed here, 1 there already" in err


def test_commands_at_once_share_the_work(here: Path, begun: Fifo, gate: Fifo) -> None:
    """As tasks of a cluster do: each output is computed once, and each command, unless in haste, tells of all."""
    (here / "work.py").write_text(BLOCKING)
    command = ("work.py:work", "a", "block", "b", "c", "--workers", "1")
    with process(*command) as first:
        begun.line()
        with process(*command, "--no-wait") as hasty:
            out, err = hasty.communicate(timeout=DEADLINE)
        assert (hasty.returncode, out.split()) == (0, ["out/a.txt", "out/b.txt", "out/c.txt"])
        assert "1 being computed elsewhere" in err
        with process(*command) as second:
            assert second.stdout is not None
            told = [second.stdout.readline()]
            gate.let_go(1)
            told += second.communicate(timeout=DEADLINE)[0].splitlines(keepends=True)
        others = first.communicate(timeout=DEADLINE)[0].splitlines(keepends=True)
    assert (first.returncode, second.returncode) == (0, 0)
    assert told == others == [f"out/{name}.txt\n" for name in ("a", "block", "b", "c")]
    assert sorted(lines(here.parent / "log")) == ["a", "b", "block", "c"]


@pytest.mark.usefixtures("here")
def test_a_reader_that_has_seen_enough() -> None:
    """Who no longer reads ends the command, without a word."""
    with process("count.py:in_worker", *range(5000), "--workers", "1", "--json") as ran:
        assert ran.stdout is not None and ran.stderr is not None
        assert ran.stdout.readline()
        ran.stdout.close()
        assert ran.stderr.read() == ""
        assert ran.wait(DEADLINE) == 141

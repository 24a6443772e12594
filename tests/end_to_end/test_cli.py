"""What all commands share: help, exit statuses, lazy imports; and the small ones, version and completion."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from importlib.metadata import version as version_of
from pathlib import Path

import pytest
from click.testing import CliRunner

from manyhands import __version__
from manyhands.cli import exits
from manyhands.cli.commands import COMMANDS, cli
from manyhands.cli.signals import Interrupted, exiting, interruptible

SHELLS = ("bash", "zsh", "fish")


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_has_help_with_an_example(name: str) -> None:
    """It exits with 0, and the table's line about it is one line."""
    ran = CliRunner().invoke(cli, [name, "--help"], prog_name="manyhands")
    assert ran.exit_code == 0, ran.output
    assert "Example" in ran.output and f"manyhands {name} " in ran.output
    assert COMMANDS[name].endswith(".") and len(COMMANDS[name]) < 65


def test_help_lists_all_commands_and_loads_none() -> None:
    """With what the table says of them."""
    program = (
        "import sys; from manyhands.cli import main; sys.argv[1:] = ['--help']\n"
        "try: main()\nfinally: print(*sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = set(ran.stdout.splitlines()[-1].split())
    assert not loaded & {f"manyhands.cli.{name}" for name in COMMANDS}
    assert not loaded & {"rich", "tqdm", "numpy", "psutil", "manyhands.testing", "manyhands.demo"}
    for name, line in COMMANDS.items():
        assert f"  {name} " in ran.stdout and line in ran.stdout


@pytest.mark.parametrize("status", [0, 1])
def test_the_demo_as_json(status: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An object, and nothing else, on standard output."""

    def run(*_: object, stderr: bool, **__: object) -> int:
        print("x", file=sys.stderr if stderr else sys.stdout)
        return status

    monkeypatch.setattr("manyhands.demo.run", run)
    ran = CliRunner().invoke(cli, ["demo", str(tmp_path), "--json", "--kill"])
    told = {"ok": not status, "directory": str(tmp_path), "processes": 4, "workers": 1, "kill": True}
    assert (json.loads(ran.stdout), ran.exit_code) == (told, status)


def test_an_unknown_command_is_bad_usage() -> None:
    """Status 2."""
    ran = CliRunner().invoke(cli, ["rnu"])
    assert ran.exit_code == exits.USAGE
    assert "there is no command 'rnu'; did you mean 'run'?" in ran.output


# -- ends before their time -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_become_statuses(number: int, status: int) -> None:
    """A second one changes nothing; afterwards signals do what they did."""
    before = signal.getsignal(number)
    with pytest.raises(SystemExit) as ended, exiting():
        try:
            os.kill(os.getpid(), number)
        except Interrupted:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGTERM)
            raise
    assert ended.value.code == status
    assert signal.getsignal(number) is before


def test_an_interrupt_that_takes_long_may_be_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some seconds after the first one, and not before."""
    now = [0.0]
    monkeypatch.setattr("manyhands.cli.signals.time.monotonic", lambda: now[0])
    with pytest.raises(Interrupted), interruptible():
        try:
            signal.raise_signal(signal.SIGINT)
        except Interrupted:
            now[0] = 4.9
            signal.raise_signal(signal.SIGINT)
        now[0] = 5.1
        signal.raise_signal(signal.SIGTERM)
        pytest.fail("nothing was raised")


def test_a_signal_that_is_ignored_stays_ignored() -> None:
    """As shells have it for commands in the background."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with exiting():
            os.kill(os.getpid(), signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


def test_an_interrupt_of_python_itself_is_one() -> None:
    """Status 130, whoever raised it."""
    with pytest.raises(SystemExit) as ended, exiting():
        raise KeyboardInterrupt
    assert ended.value.code == 130


@pytest.mark.parametrize("lines", [1, 100_000])
def test_what_nobody_reads_is_not_complained_about(lines: int) -> None:
    """Whether it is noticed when the buffer is full, or in the end; status 141."""
    program = (
        "import sys; from manyhands.cli.signals import exiting\n"
        f"with exiting():\n    sys.stdin.read()\n    for n in range({lines}): print(n)\n    sys.exit(3)"
    )
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(  # type: ignore[call-overload]
        [sys.executable, "-c", program], env=environment, **pipes
    ) as process:
        assert process.stdin is not None and process.stdout is not None and process.stderr is not None
        process.stdout.close()
        process.stdin.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


# -- version --------------------------------------------------------------------------------------------------


def test_version_says_what_a_report_needs() -> None:
    """For people and for programs."""
    ran = CliRunner().invoke(cli, ["version", "--json"])
    told = json.loads(ran.output)
    assert (ran.exit_code, told["manyhands"]) == (0, __version__)
    assert told["python"].endswith(".".join(map(str, sys.version_info[:3])))
    assert told["workers"] >= 1 and told["start_method"] in ("spawn", "forkserver", "fork")
    assert told["packages"]["click"] == version_of("click") and "numpy" in told["packages"]
    lines = CliRunner().invoke(cli, ["version"]).output.splitlines()
    assert lines[0].split() == ["manyhands", __version__]
    assert any(line.startswith("start method") for line in lines)


# -- completion -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shell", SHELLS)
def test_completion_prints_a_script(shell: str) -> None:
    """One that the shell can read, where it is installed."""
    ran = CliRunner().invoke(cli, ["completion", shell])
    assert ran.exit_code == 0
    assert f"_MANYHANDS_COMPLETE={shell}_complete" in ran.output
    found = shutil.which(shell)
    if found:
        subprocess.run([found, "-n"], input=ran.output, text=True, check=True)


@pytest.mark.parametrize(
    ("words", "shell", "completions"),
    [
        (["ru"], "zsh", {"run"}),
        (["run", "co"], "zsh", {"count.py:size", "count.py:total", "co"}),
        (["run", "count.py:s"], "zsh", {"count.py:size"}),
        (["run", "./count.py:s"], "zsh", {"./count.py:size"}),
        (["run", "torn.py:"], "zsh", set()),
        (["run", "count.py", ":", "to"], "bash", {"total"}),
        (["run", "count.py", ":"], "bash", {"size", "total"}),
        (["run", "count.py:size", "c"], "zsh", {"c"}),
    ],
)
def test_functions_of_scripts_are_completed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], shell: str, completions: set[str]
) -> None:
    """Without importing the script; also for bash, which takes ``count.py:si`` for three words."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "count.py").write_text("1 / 0\ndef size(): pass\ndef total(): pass\ndef _own(): pass\n")
    (tmp_path / "torn.py").write_text("def (")
    variables = {
        "_MANYHANDS_COMPLETE": f"{shell}_complete",
        "COMP_WORDS": " ".join(["manyhands", *words]),
        "COMP_CWORD": str(len(words)),
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    ran = CliRunner().invoke(cli, [], prog_name="manyhands")
    assert ran.exit_code == 0
    told = ran.output.splitlines()
    assert ({line.partition(",")[2] for line in told} if shell == "bash" else set(told[1::3])) == completions

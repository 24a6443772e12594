"""The commands that look at a directory of outputs, and after it: what they print, do, and exit with."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import manyhands.cli.doctor
import manyhands.cli.failures
import manyhands.cli.gc
import manyhands.cli.retry
import manyhands.cli.status
import manyhands.cli.watch  # noqa: F401  # each file adds its command
from manyhands import OUTPUT, claimed_output, parallel, validated
from manyhands.claims import Claims, Log, Mine, liveness
from manyhands.claims.record import Claim, Commit, encode
from manyhands.claims.states import STATES
from manyhands.cli.commands import cli
from manyhands.reporting.journal import Writer
from tests.helpers import DEADLINE, Fifo, lines, names, started, tell, until, write_script

COMMANDS = ("status", "watch", "failures", "retry", "gc", "doctor")


def run(*arguments: object, status: int | None = 0) -> Result:
    """The command in this process; its exit status must be ``status``, if that is known."""
    ran = CliRunner().invoke(cli, [str(each) for each in arguments], catch_exceptions=False)
    assert status is None or ran.exit_code == status, ran.output
    return ran


@parallel
@claimed_output("{item}.csv", failed="report")
@validated(arguments=lambda item: True, result=lambda path: "odd" not in path.name)
def make(item: str, log: str, output: Path = OUTPUT) -> None:
    """Fails for "bad…", until it is allowed; "odd…" is discarded."""
    tell(log, item)
    if item.startswith("bad") and not Path(f"{log} allowed").exists():
        raise ValueError(f"{item}: no good")
    output.write_text(item)


def made(items: list[str], log: Path) -> None:
    """All of them, one after the other, whatever they come to."""
    make.map(items, kwargs={"log": str(log)}, backend="inline", on_error="skip").collect()


@pytest.fixture
def some(here: Path, log: Path) -> Path:
    """A directory with outputs of each kind, and a log of what was called."""
    made(["good 1", "good 2", "bad 1", "bad 2", "odd"], log / "calls")
    return here


# -- all commands ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS)
def test_help(command: str) -> None:
    """It has an example, and tells the exit status."""
    text = run(command, "--help").stdout
    assert re.search(rf"Examples?: manyhands {command}", text) and "Exit status 0" in text


@pytest.mark.parametrize("command", COMMANDS)
def test_a_directory_that_is_not_there(here: Path, command: str) -> None:
    """It is a wrong use, which names it, and nothing is made."""
    ran = run(command, "nowhere", status=2)
    assert "nowhere" in ran.stderr
    (here / "file").touch()
    assert "file" in run(command, "file", status=2).stderr
    assert names(here) == ["file"]


# -- status ---------------------------------------------------------------------------------------------------


def test_status(some: Path) -> None:
    """Counts in one line, then who runs and what failed, with the last line of its exception; nothing is coloured."""
    with Claims() as claims:
        claims.acquire(Log.of(some / "now.csv"))
        text = run("status", status=1).stdout
    assert text.splitlines()[0] == f"{some}: 2 done, 1 running, 2 failed, 1 discarded"
    assert re.search(rf"now\.csv +\S+:{os.getpid()} +\d.* +1 +\d.* ago", text)
    assert re.search(r"bad 1\.csv +\d.* ago +1 +ValueError: bad 1: no good\n", text)
    assert "\x1b" not in text and "odd" not in text
    assert re.search(r"odd\.csv", run("status", "--all", status=1).stdout)


def test_all_is_well(here: Path, log: Path) -> None:
    """Without failures the exit status is 0, and there is only one line."""
    made(["good 1"], log / "calls")
    assert run("status", here).stdout == f"{here}: 1 done\n"


def test_many_rows(here: Path) -> None:
    """Ten are shown, and how many more there are; --all shows all; long names and messages are not cut."""
    with Claims() as claims:
        for at in range(12):
            mine = claims.acquire(Log.of(here / f"{at}-{'x' * 100}.csv"))
            claims.fail(mine, type_name="E", message="y" * 300)
    text = run("status", status=1).stdout
    assert text.count("y" * 300) == 10 and "and 2 more (--all shows them)" in text
    everything = run("status", "--all", status=1).stdout
    assert everything.count("y" * 300) == 12 and all(f"{at}-{'x' * 100}.csv" in everything for at in range(12))


KEYS = (
    "directory name state reason log slot attempt host pid token since quiet_seconds lease_seconds "
    "retry_in_seconds exception message traceback"
)


def test_status_as_json(some: Path) -> None:
    """Everything is there, under the keys that are documented."""
    with Claims() as claims:
        claims.acquire(Log.of(some / "now.csv"))
        told = json.loads(run("status", "--json", status=1).stdout)
        me = claims.claimant
    assert list(told) == ["directory", "time", "maps", "outputs", "done", "counts", "claimants", "not_listed"]
    assert told["directory"] == str(some) and told["done"] == 2
    assert list(told["counts"]) == [state for state in STATES if state != "done"]
    assert {state for state, count in told["counts"].items() if count} == {"running", "failed", "discarded"}
    outputs = {each["name"]: each for each in told["outputs"]}
    assert {each["directory"] for each in told["outputs"]} == {str(some)}
    assert sorted(outputs) == ["bad 1.csv", "bad 2.csv", "now.csv", "odd.csv"]
    assert all(list(each) == KEYS.split() for each in outputs.values())
    assert (outputs["now.csv"]["pid"], outputs["now.csv"]["token"]) == (os.getpid(), me.token)
    assert outputs["bad 1.csv"]["exception"] == "ValueError"
    assert "raise ValueError" in outputs["bad 1.csv"]["traceback"]


def test_names_that_would_harm_a_terminal(here: Path) -> None:
    """Control characters and bytes that are no text are shown as what they are."""
    with Claims() as claims:
        for name in ("\x1b[2J.csv", "a\nb.csv", "\udcff.csv"):
            claims.fail(claims.acquire(Log.of(here / name)), type_name="E", message="\x1b[31mred\x07")
    for command in ("status", "failures"):
        text = run(command, status=1).stdout
        assert text.replace("\n", "").isprintable()
        assert r"\x1b[2J.csv" in text and r"a\nb.csv" in text and r"\udcff.csv" in text
    assert len(json.loads(run("status", "--json", status=1).stdout)["outputs"]) == 3


def test_below(some: Path) -> None:
    """With --recursive directories below are told of, and names tell where."""
    assert run("status", some.parent, status=0).stdout.startswith(f"{some.parent}: 2 done\n")
    text = run("status", "-r", some.parent, "--match", "*.csv", status=1).stdout
    assert ": 2 done, 2 failed, 1 discarded" in text and "here/bad 1.csv" in text


SCRIPT = """
import sys
from tests.end_to_end.tasks import write_or_block
log, begun, gate = sys.argv[1:]
kwargs = {"log": log, "begun": begun, "gate": gate}
write_or_block.map(["block"], kwargs=kwargs, workers=1, on_error="skip").collect()
sys.stdin.read()
"""


def test_a_worker_that_is_killed(here: Path, log: Path, begun: Fifo, gate: Fifo, tmp_path: Path) -> None:
    """While it computes it is told where; when it was killed its parent says what became of it."""
    script = write_script(tmp_path / "script.py", SCRIPT)
    with started(script, log, begun.path, gate.path, stdin=subprocess.PIPE) as process:
        worker = int(begun.line())
        assert f":{worker} " in run("status", "out").stdout
        os.kill(worker, signal.SIGSTOP)
        until(lambda: "(stopped)" in run("status", "out").stdout, "the worker is stopped")
        os.kill(worker, signal.SIGKILL)
        until(lambda: "running" not in run("status", "out", status=None).stdout, "its end is told")
        until(lambda: "WorkerDied" in run("failures", "out", status=None).stdout, "the verdict is there")
        process.communicate("")


# -- failures -------------------------------------------------------------------------------------------------


def test_failures(some: Path) -> None:
    """By type and message, with examples; what was discarded only if asked for."""
    text = run("failures", status=1).stdout
    assert text.splitlines() == [
        "ValueError: 2 outputs",
        "       2  ValueError: bad …: no good",
        "          bad 1.csv, bad 2.csv",
    ]
    assert "odd" in run("failures", "--discarded", status=1).stdout
    text = run("failures", "--traceback", status=1).stdout
    assert "| Traceback" in text and "raise ValueError" in text


def test_failures_as_json(some: Path) -> None:
    """Each of them, with its traceback."""
    told = json.loads(run("failures", "--json", status=1).stdout)
    assert list(told) == ["directory", "failures", "count", "not_listed"]
    assert told["count"] == 2
    assert [(each["name"], each["message"]) for each in told["failures"]] == [
        ("bad 1.csv", "bad 1: no good"),
        ("bad 2.csv", "bad 2: no good"),
    ]


def test_no_failures(here: Path) -> None:
    """It says so, and the exit status is 0."""
    assert run("failures").stdout == "nothing failed\n"


# -- retry ----------------------------------------------------------------------------------------------------


def test_retry(some: Path, log: Path) -> None:
    """Only what matches is computed again by the next run, though that believes failures; a dry run changes nothing."""
    before = names(some)
    told = run("retry", ".", "*1.csv", "--dry-run")
    assert (told.stdout, told.stderr) == ("bad 1.csv\n", "1 output would be reopened\n")
    assert names(some) == before
    told = run("retry", ".", "*1.csv")
    assert (told.stdout, told.stderr) == ("bad 1.csv\n", "1 output reopened\n")
    assert run("retry", ".", "*1.csv").stderr == "nothing reopened\n"
    (log / "calls allowed").touch()
    (log / "calls").unlink()
    made(["good 1", "bad 1", "bad 2", "odd"], log / "calls")
    assert lines(log / "calls") == ["bad 1"]
    assert (some / "bad 1.csv").read_text() == "bad 1"


def test_retry_of_all(some: Path, log: Path) -> None:
    """Without a pattern all failures are meant, and what was discarded only if asked for."""
    assert sorted(run("retry").stdout.splitlines()) == ["bad 1.csv", "bad 2.csv"]
    assert run("retry", "--discarded").stdout == "odd.csv\n"


def test_retry_as_json(some: Path) -> None:
    """What was reopened, or would be."""
    expected = {"directory": str(some), "dry_run": True, "reopened": ["bad 1.csv"]}
    assert json.loads(run("retry", "--json", ".", "*1*", "--dry-run").stdout) == expected
    told = run("retry", "--json", ".", "*1*")
    assert json.loads(told.stdout) == {**expected, "dry_run": False} and told.stderr == ""


def test_retry_of_stale_claims(here: Path) -> None:
    """Claims whose owners are gone are given up, if asked for; those of the living are left alone."""
    with Claims() as claims, Claims() as gone:
        claims.acquire(Log.of(here / "living.csv"))
        gone.acquire(Log.of(here / "stale.csv"))
        for path in gone.paths():
            path.unlink()
        assert run("status", status=1).stdout.startswith(f"{here}: 0 done, 1 running, 1 stale\n")
        assert run("retry").stdout == ""
        assert run("retry", "--stale").stdout == "stale.csv\n"
        assert run("status").stdout.startswith(f"{here}: 0 done, 1 running, 1 open\n")
        assert isinstance(claims.acquire(Log.of(here / "stale.csv")), Mine)


def test_retry_where_nothing_can_be_written(some: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says so, and the exit status is 1."""

    def never(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("manyhands.claims.filesystem._write_new", never)
    assert "Permission denied" in run("retry", status=1).stderr


# -- gc -------------------------------------------------------------------------------------------------------


def test_gc(some: Path) -> None:
    """Leftovers go, failures stay; --now takes those too, but outputs. A dry run says the same, and does nothing."""
    (some / f".x.csv.claim-0-{'a' * 24}-x.csv").write_text("half")
    before = names(some)
    told = run("gc", "--dry-run")
    assert names(some) == before and "x.csv" in told.stdout and told.stderr.endswith("would be removed\n")
    assert run("gc").stdout == told.stdout
    assert run("failures", status=1).stdout.startswith("ValueError: 2 outputs")
    dry = run("gc", "--now", "--dry-run").stdout
    assert run("gc", "--now", "--yes").stdout == dry
    assert names(some) == ["good 1.csv", "good 2.csv"]
    assert run("gc").stderr == "nothing removed\n"


def test_gc_as_json(here: Path) -> None:
    """What is removed and, of a dry run, what would be published."""
    log, owner = Log.of(here / "a.csv"), liveness.identity("a" * 24)
    Path(log.slot(0)).write_bytes(encode(Claim(owner)))
    Path(log.slot(1)).write_bytes(encode(Commit(owner)))
    Path(log.staging(0, owner.token)).write_text("whole")
    dry = json.loads(run("gc", "--now", "--dry-run", "--json").stdout)
    assert list(dry) == ["directory", "dry_run", "removed", "would_publish"]
    assert dry == {**dry, "directory": str(here), "dry_run": True, "would_publish": ["a.csv"]}
    told = json.loads(run("gc", "--now", "--yes", "--json").stdout)
    assert told == {**dry, "dry_run": False, "would_publish": []} and len(told["removed"]) == 3
    assert names(here) == ["a.csv"]


def test_gc_below(some: Path) -> None:
    """With --recursive directories below are cleaned, too."""
    assert run("gc", some.parent, "--now", "--yes").stdout == ""
    assert "here/.bad 1.csv.claim-0" in run("gc", "-r", some.parent, "--now", "--yes").stdout
    assert names(some) == ["good 1.csv", "good 2.csv"]


def test_gc_now_asks(some: Path) -> None:
    """In a terminal it asks, and does nothing unless that is confirmed; elsewhere it needs --yes."""
    before = names(some)
    assert "--yes" in run("gc", "--now", status=2).stderr
    with terminal("gc", "--now") as (process, screen):
        screen.until("[y/N]")
        screen.type("n\n")
        assert process.wait(DEADLINE) == 1
    assert names(some) == before
    with terminal("gc", "--now") as (process, screen):
        screen.until("[y/N]")
        screen.type("y\n")
        assert process.wait(DEADLINE) == 0
    assert names(some) == ["good 1.csv", "good 2.csv"]


# -- doctor ---------------------------------------------------------------------------------------------------


def test_doctor(here: Path) -> None:
    """A line for each check, with a cure where something is not well; exit status 1 if there is a problem."""
    assert re.search(r"^ok +creation +claims are hard links", run("doctor").stdout, re.MULTILINE)
    told = json.loads(run("doctor", "--json").stdout)
    assert list(told) == ["directory", "ok", "checks"] and told["ok"] is True
    assert all(list(check) == ["name", "verdict", "text", "cure"] for check in told["checks"])
    (here / ".a.csv.claim-0").write_text("mine")
    text = run("doctor", status=1).stdout
    assert re.search(
        r"^problem +foreign files +1 in the place of a claim: '.a.csv.claim-0'.*\n +-> move", text, re.MULTILINE
    )
    assert text.endswith("1 problem\n")
    assert json.loads(run("doctor", "--json", status=1).stdout)["ok"] is False
    assert names(here) == [".a.csv.claim-0"]


# -- watch ----------------------------------------------------------------------------------------------------


def test_watch_ends_when_all_is_settled(some: Path) -> None:
    """With a total it ends when all outputs are done, failed or discarded; its exit status is that of status."""
    text = run("watch", "--total", 5, status=1).stdout
    assert re.fullmatch(r"\d\d:\d\d:\d\d  2 done, 2 failed, 1 discarded, of 5\n", text)
    for path in some.glob(".*"):
        path.unlink()
    assert "2 done, of 2" in run("watch", "--total", 2).stdout
    assert "2 done" in run("watch", "--until-idle").stdout


def test_watch_tells_changes(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line for each change, none without, and it goes on while somebody runs."""
    with Claims() as claims:
        held = [claims.acquire(Log.of(here / f"{at}.csv")) for at in range(2)]

        def sleep(seconds: float) -> None:
            assert seconds >= 0.5
            steps.pop(0)()

        def finish() -> None:
            mine = held.pop()
            mine.staging.write_text("whole")
            claims.commit(mine)

        steps = [lambda: None, finish, lambda: None, finish]
        with monkeypatch.context() as patched:
            patched.setattr("manyhands.cli.watch.time.sleep", sleep)
            text = run("watch", "--total", 2, "--interval", 0.5).stdout
    assert [line[10:].partition(";")[0] for line in text.splitlines()] == [
        "0 done, 2 running, of 2",
        "1 done, 1 running, of 2",
        "2 done, of 2",
    ]
    assert "left" in text.splitlines()[1]


def test_watch_as_json(some: Path) -> None:
    """A line for each change, with the numbers alone."""
    told = [json.loads(line) for line in run("watch", "--json", "--total", 5, status=1).stdout.splitlines()]
    assert [list(each) for each in told] == [
        ["time", "done", "counts", "settled", "total", "left", "per_second", "seconds_left"]
    ]
    assert (told[0]["done"], told[0]["counts"]["failed"], told[0]["settled"], told[0]["total"]) == (2, 2, 5, 5)


def test_watch_at_ctrl_c(some: Path) -> None:
    """It ends quietly, with exit status 0, though something failed."""
    command = [sys.executable, "-m", "manyhands", "watch", "--interval", "0.1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert "2 done" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=DEADLINE)
    assert (process.returncode, out, err) == (0, "", "")


@pytest.mark.parametrize("idle", [[], ["--until-idle"]])
def test_watch_follows_the_maps_that_write_journals(here: Path, idle: list[str]) -> None:
    """It knows how much is left, and ends with them."""
    writer = Writer(here, "count", time.time(), 1, 40, socket.gethostname())
    writer.counts(10, 0)
    writer.flush()
    assert "count runs on" in run("status", ".").stdout and "10 of 40 items" in run("status", ".").stdout
    assert [one["settled"] for one in json.loads(run("status", ".", "--json").stdout)["maps"]] == [10]
    command = [sys.executable, "-m", "manyhands", "watch", "--interval", "0.1", *idle]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert "30 to go" in process.stdout.readline()
        assert process.poll() is None
        writer.counts(20, 0)
        writer.flush()
        assert "20 to go" in process.stdout.readline()  # nothing runs in between, which is not the end
        writer.counts(40, 0)
        writer.ended(3.0)
        out, err = process.communicate(timeout=DEADLINE)
    assert (process.returncode, err) == (0, "") and "to go" not in out.splitlines()[-1]
    assert "count runs" not in run("status", ".").stdout


def test_watch_ends_where_only_old_journals_are(here: Path) -> None:
    """After some looks: a map may be about to start."""
    writer = Writer(here, "count", time.time(), 1, 40, socket.gethostname())
    writer.ended(3.0)
    assert "0 done" in run("watch", "--interval", "0.1").stdout


def test_a_command_that_is_not_there() -> None:
    """The nearest one is suggested."""
    assert "there is no command 'stauts'; did you mean 'status'?" in CliRunner().invoke(cli, ["stauts"]).output


def test_messages_that_are_nothing_but_quoted(here: Path) -> None:
    """They stay apart, and long ones are cut."""

    def fails(key: str, output: Path = OUTPUT) -> None:
        raise KeyError(key)

    keys = ["colour", "size", "x" * 5000]
    decorated = parallel(claimed_output("{key:.10}.txt")(fails), backend="inline")
    decorated.map(keys, on_error="skip").wait()
    shown = run("failures", status=1).stdout
    assert (
        "KeyError: 'colour'" in shown
        and "KeyError: 'size'" in shown
        and max(map(len, shown.splitlines())) < 600
    )


# -- in a terminal --------------------------------------------------------------------------------------------


class Screen:
    """A terminal of 100 columns, as its user has it."""

    def __init__(self, end: int) -> None:
        self._end = end
        self.text = ""

    def until(self, text: str) -> None:
        """Reads until that has appeared."""
        deadline = time.monotonic() + DEADLINE
        while text not in self.text:
            ready, _, _ = select.select([self._end], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"{text!r} did not appear in {self.text!r}"
            self.text += os.read(self._end, 65536).decode()

    def type(self, text: str) -> None:
        """Presses keys."""
        os.write(self._end, text.encode())


@contextmanager
def terminal(*arguments: str) -> Iterator[tuple[subprocess.Popen[bytes], Screen]]:
    """The command in a terminal of its own, which is closed at the end."""
    mine, its = pty.openpty()
    environment = {**os.environ, "COLUMNS": "100", "LINES": "30", "TERM": "xterm"}
    environment.pop("NO_COLOR", None)
    process = subprocess.Popen(
        [sys.executable, "-m", "manyhands", *arguments],
        stdin=its,
        stdout=its,
        stderr=its,
        env=environment,
        start_new_session=True,
        close_fds=True,
    )
    os.close(its)
    try:
        yield process, Screen(mine)
    finally:
        process.kill()
        process.wait()
        os.close(mine)


def test_status_in_a_terminal(some: Path) -> None:
    """It is coloured, says what to do next, and a message that is too long for the terminal is folded, not cut."""
    with Claims() as claims:
        claims.fail(claims.acquire(Log.of(some / "long.csv")), type_name="E", message="Q" * 300 + "END")
    with terminal("status") as (process, screen):
        screen.until("END")
        screen.until("manyhands retry .")
        assert process.wait(DEADLINE) == 1
    assert "\x1b[" in screen.text and screen.text.count("Q") == 300


def test_watch_in_a_terminal(some: Path) -> None:
    """The screen shows counts, what runs and what failed; Ctrl-C ends it with exit status 0."""
    with Claims() as claims:
        claims.acquire(Log.of(some / "now.csv"))
        with terminal("watch", "--total", "9", "--interval", "0.1") as (process, screen):
            for text in ("2 done", "of 9", "now.csv", "bad 1: no good"):
                screen.until(text)
            process.send_signal(signal.SIGINT)
            screen.until("\x1b[?25h")  # the cursor is shown again
            assert process.wait(DEADLINE) == 0
    assert "Traceback" not in screen.text

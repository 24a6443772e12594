"""Functions for storms, as users write them: some that are right, and some that are wrong, each in its own way."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from manyhands import OUTPUT, claimed_output, parallel, retry_on

PAUSE = 0.01


def steps(file: Path, number: int) -> None:
    """Write something in steps, between which one may be killed."""
    with open(file, "w") as end:
        for step in range(4):
            print(number, step, "x" * 1000 * (number % 5), file=end, flush=True)
            time.sleep(PAUSE * (number % 3))


# -- right ---------------------------------------------------------------------------------------------------


@claimed_output("out/{number}.txt")
def one(number: int, output: Path = OUTPUT) -> None:
    steps(output, number)


@parallel
@claimed_output(("out/{number}/a.txt", "b/{number}.txt", "out/{number}/c.txt"), durable=False)
def several(number: int, outputs: tuple[Path, ...] = OUTPUT) -> None:
    for output in outputs:
        steps(output, number)


@claimed_output("out/{number}/", fingerprint="1")
def folder(number: int, output: Path = OUTPUT) -> None:
    (output / "inner").mkdir()
    for name in ("a", "inner/b"):
        steps(output / name, number)


@claimed_output(
    "{number}.json",
    temp="claims/{number}",
    save=lambda value, path: path.write_text(json.dumps(value)),
    load=lambda path: json.loads(path.read_text()),
)
def saved(number: int) -> dict[str, int]:
    time.sleep(PAUSE)
    return {"number": number}


@parallel(threads=2, timeout=0.05)  # which a storm takes away: who is stopped can't keep it
@claimed_output("out/{number}.txt")
@retry_on(OSError, attempts=3, wait=0.01)
def stumbling(number: int, output: Path = OUTPUT) -> None:
    mark = Path(f"{number % 7}.mark")
    if not mark.exists():
        mark.touch()
        raise OSError("a planned failure")
    steps(output, number)


RIGHT = (one, several, folder, saved, stumbling)

# -- wrong ---------------------------------------------------------------------------------------------------


@claimed_output("out/{number}.txt")
def beside(number: int, output: Path = OUTPUT) -> None:
    """Writes to the output's place, too."""
    steps(Path(f"out/{number}.txt"), number)
    steps(output, number)


@claimed_output("out/{number}.txt")
def of_others(number: int, output: Path = OUTPUT) -> None:
    """Writes to what it finds beside its own staging."""
    steps(output, number)
    time.sleep(5 * PAUSE)
    for other in output.parent.glob(".*.claim-*-*.txt"):
        if other != output:
            other.write_text("mine")


@claimed_output("out/{number}.txt")
def in_one_place(number: int, output: Path = OUTPUT) -> None:
    """Has one place for what it is at, whoever runs it."""
    scratch = Path("scratch")
    steps(scratch, number)
    time.sleep(PAUSE)
    os.replace(scratch, output)


@claimed_output("out/{number}.txt")
def littering(number: int, output: Path = OUTPUT) -> None:
    """Leaves a file of a name that nobody knows."""
    Path(f"out/{os.getpid()}.tmp").touch()
    steps(output, number)


@claimed_output("out/{number}.txt")
def leaving(number: int, output: Path = OUTPUT) -> None:
    """Leaves a process."""
    subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"], start_new_session=True)
    steps(output, number)


@claimed_output("out/{number}.txt")
def by_count(number: int, output: Path = OUTPUT) -> None:
    """Its outputs depend on how often it was called here."""
    by_count.__dict__["calls"] = calls = by_count.__dict__.get("calls", 0) + 1
    output.write_text(f"{number} {calls}")
    time.sleep(PAUSE)


@claimed_output("out/{number}.txt")
def changing(number: int, output: Path = OUTPUT) -> None:  # noqa: ARG001  # the template uses it
    """Goes on writing after it has returned."""
    end = os.open(output, os.O_WRONLY | os.O_CREAT, 0o644)
    os.write(end, b"half")
    if os.fork() == 0:
        time.sleep(5 * PAUSE)
        os.write(end, b" and half")
        os._exit(0)
    os.close(end)


WRONG: dict[Any, set[str]] = {
    beside: {"publications"},
    of_others: {"bytes", "torn", "raised"},
    in_one_place: {"raised", "bytes", "torn"},
    littering: {"left over"},
    leaving: {"process"},
    by_count: {"bytes", "torn"},
    changing: {"bytes", "torn"},
}
"""And by which rules each is caught: by one of them at least."""

"""Functions for storms: one that keeps the rules, and some that break one each."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from manyhands import OUTPUT, claimed_output, parallel
from tests.helpers import tell, wait_for


@claimed_output("out/{number}.txt")
def right(number: int, output: Path = OUTPUT) -> None:
    """Writes in two steps."""
    with output.open("w") as file:
        for step in range(2):
            print(number, step, file=file, flush=True)


@parallel
@claimed_output("out/{number}.txt")
def beside(number: int, output: Path = OUTPUT) -> None:
    """Writes to the output's place as well."""
    Path(f"out/{number}.txt").write_text("mine")
    output.write_text("mine")


@claimed_output("out/{number}.txt")
def by_process(number: int, output: Path = OUTPUT) -> None:
    """Writes something else in a worker than where it runs by itself."""
    output.write_text(f"{number} {os.getsid(0) == os.getpid()}")


@claimed_output("out/{number}.txt")
def by_time(number: int, output: Path = OUTPUT) -> None:
    """Never writes the same again."""
    output.write_text(f"{number} {os.urandom(8).hex()}")


@claimed_output("out/{number}.txt")
def leaving(number: int, output: Path = OUTPUT) -> None:
    """Leaves a process, of a session of its own."""
    subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"], start_new_session=True)
    output.write_text(str(number))


@claimed_output("out/{number}.txt")
def failing(number: int, output: Path = OUTPUT) -> None:
    """Fails."""
    raise RuntimeError("as ever")


@claimed_output("out/{begun.name}.txt")
def hanging(begun: Path, gate: Path, output: Path = OUTPUT) -> None:
    """Says that it has begun, and waits."""
    tell(begun, str(os.getpid()))
    wait_for(gate)


@claimed_output("out/same.txt")
def same(number: int, output: Path = OUTPUT) -> None:
    """Has one output for all items."""


@claimed_output("/tmp/{number}.txt")
def absolute(number: int, output: Path = OUTPUT) -> None:
    """Writes to the same place from everywhere."""


def plain(number: int) -> None:
    """Has no output."""

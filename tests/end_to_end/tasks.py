"""Claimed functions that the end-to-end tests run, in this and in other processes.

Each leaves a line in ``<log>/<item>`` when its body is called.
"""

from __future__ import annotations

import os
from pathlib import Path

from manyhands import OUTPUT, claimed_output, parallel, retry_on, validated
from tests.helpers import tell, wait_for


@parallel(workers=1)
@claimed_output("out/{item}.txt")
def write(item: str, log: str, output: Path = OUTPUT) -> None:
    """Writes its output itself, in two parts."""
    tell(Path(log) / str(item), os.getpid())
    with output.open("w") as file:
        file.write(f"{item}: ")
        file.flush()
        file.write(f"{len(str(item))}\n")


def save_number(value: int, path: Path) -> None:
    """Writes a number."""
    path.write_text(str(value))


def load_number(path: Path) -> int:
    """Reads it."""
    return int(path.read_text())


@parallel(workers=1)
@claimed_output("out/{item}.txt", save=save_number, load=load_number)
def square(item: int, log: str) -> int:
    """Returns a value, which is saved and loaded."""
    tell(Path(log) / str(item), os.getpid())
    return item * item


@parallel(workers=1)
@claimed_output("out/{item}.txt")
def write_or_block(item: str, log: str, begun: str, gate: str, output: Path = OUTPUT) -> None:
    """As ``write``; the item "block" writes a half, says that it has begun, and waits to be let go."""
    tell(Path(log) / item, os.getpid())
    with output.open("w") as file:
        file.write(f"{item}: ")
        file.flush()
        if item == "block" and begun:
            tell(begun, os.getpid())
            wait_for(gate)
        file.write(f"{len(item)}\n")


@parallel(workers=1)
@claimed_output("out/{item}.txt", failed="report")
@retry_on(OSError, attempts=4, wait=0)
def write_or_fail(item: str, log: str, output: Path = OUTPUT) -> None:
    """As ``write``; items that start with "bad" fail at every attempt."""
    tell(Path(log) / item, os.getpid())
    output.write_text("torn")
    if item.startswith("bad"):
        raise OSError(f"{item} is bad")
    output.write_text(f"{item}: {len(item)}\n")


@parallel(workers=1)
@claimed_output("out/{item}.txt")
@validated(arguments=lambda item: item != "odd argument", result=lambda path: "odd" not in path.read_text())
def write_if_valid(item: str, log: str, output: Path = OUTPUT) -> None:
    """As ``write``; outputs with "odd" in them are discarded."""
    tell(Path(log) / item, os.getpid())
    output.write_text(f"{item}: {len(item)}\n")


def expected(items: list[str]) -> dict[str, str]:
    """What the outputs of ``write…`` hold, by name."""
    return {f"{item}.txt": f"{item}: {len(item)}\n" for item in items}


def found(directory: Path) -> dict[str, str]:
    """What is in a directory, by name, hidden files included."""
    return {name: (directory / name).read_text() for name in sorted(os.listdir(directory))}


def calls(log: Path) -> dict[str, int]:
    """How many calls of each item there were."""
    return {name: len((log / name).read_text().splitlines()) for name in sorted(os.listdir(log))}

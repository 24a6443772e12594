"""N: what a claimed output costs, beside outputs that are written as safely and claimed by nobody."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks.contestants import WORKERS
from benchmarks.measure import Measure, Note
from manyhands import OUTPUT, claimed_output, parallel

COUNT = 500
CONTENT = b"x" * 100


@parallel(workers=WORKERS)
@claimed_output("{name}")
def claimed(name: str, output: Path = OUTPUT) -> None:
    """As little as an output can be."""
    output.write_bytes(CONTENT)


def publish(name: str) -> None:
    """The same by hand: written beside, brought to the disk, published by a link."""
    with open(f".{name}", "xb") as file:
        file.write(CONTENT)
        os.fsync(file.fileno())
    os.link(f".{name}", name)
    os.unlink(f".{name}")
    directory = os.open(".", os.O_RDONLY)
    os.fsync(directory)
    os.close(directory)


def floor(names: list[str]) -> None:
    for name in names:
        publish(name)


def inline(names: list[str]) -> None:
    claimed.map(names, backend="inline").wait()


def mapped(names: list[str]) -> None:
    claimed.map(names).wait()


def outputs(write: Callable[[list[str]], None], note: Note) -> None:
    """Notes what one output costs, in a fresh directory."""
    names = [f"output-{number:04d}" for number in range(COUNT)]
    os.chdir(tempfile.mkdtemp(dir="."))
    write([f"first-{number}" for number in range(10)])  # starts what there is to start
    start = time.perf_counter()
    write(names)
    seconds = time.perf_counter() - start
    assert all(Path(name).read_bytes() == CONTENT for name in names)
    note(**{"us per output": seconds / COUNT * 1e6, "outputs/s": COUNT / seconds})


MANY = 50_000
MISSING = 50


@parallel(backend="inline")
@claimed_output("{name}", durable=False)
def noted(name: str, began: list[float], output: Path = OUTPUT) -> None:
    """Notes when the first one is called."""
    began.append(time.perf_counter())
    output.write_bytes(CONTENT)


def list_names(names: list[str]) -> float:
    found = {entry.name for entry in os.scandir(".")}
    assert len(found) == MANY - MISSING
    return time.perf_counter()


def map_names(names: list[str]) -> float:
    began: list[float] = []
    counts = noted.map(names, args=(began,)).wait()
    assert (counts.values, len(began)) == (MANY, MISSING)
    return began[0]


def nearly_all_there(begin: Callable[[list[str]], float], note: Note) -> None:
    """Notes when work begins on the outputs that are missing."""
    names = [f"output-{number:05d}" for number in range(MANY)]
    with tempfile.TemporaryDirectory(dir=".") as place:
        os.chdir(place)
        for number, name in enumerate(names):
            if number % (MANY // MISSING):
                os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
        start = time.perf_counter()
        note(s=begin(names) - start)
        os.chdir("..")


MEASURES = [
    Measure(
        "O",
        f"until work begins, where {MANY - MISSING:,} of {MANY:,} outputs are there",
        {
            "floor, one listing": partial(nearly_all_there, list_names),
            "manyhands, one process": partial(nearly_all_there, map_names),
        },
        ("s",),
        base="floor, one listing",
    ),
    Measure(
        "N",
        f"{COUNT} outputs of {len(CONTENT)} bytes, each brought to the disk",
        {
            "floor, one process": partial(outputs, floor),
            "manyhands, one process": partial(outputs, inline),
            f"manyhands, {WORKERS} workers": partial(outputs, mapped),
        },
        ("us per output", "outputs/s"),
        base="floor, one process",
    ),
]

"""What a call and a claim cost, beside the standard library and a floor written by hand, in one run.

    python benchmarks/overhead.py [--rounds 5]

Two workers for all; contestants take turns in every round; reported are medians and ratios to the first row.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from manyhands import OUTPUT, claimed_output, parallel

CALLS = 5_000
TRIPS = 500
OUTPUTS = 500
CONTENT = b"x" * 100


def identity(value: int) -> int:
    """As little as a call can do."""
    return value


mapped = parallel(workers=2)(identity)


@parallel(workers=2)
@claimed_output("{name}")
def write(name: str, output: Path = OUTPUT) -> None:
    """As little as an output can be."""
    output.write_bytes(CONTENT)


def floor(names: list[str]) -> None:
    """Write, fsync, publish by link: no claims, no second process."""
    for name in names:
        publish(name)


def publish(name: str) -> None:
    """One output of the floor."""
    with open(f".{name}", "xb") as file:
        file.write(CONTENT)
        os.fsync(file.fileno())
    os.link(f".{name}", name)
    os.unlink(f".{name}")
    directory = os.open(".", os.O_RDONLY)
    os.fsync(directory)
    os.close(directory)


def rate(count: int, run: Callable[[], object]) -> float:
    """How many per second."""
    start = time.perf_counter()
    run()
    return count / (time.perf_counter() - start)


def in_new_directory(run: Callable[[list[str]], object]) -> Callable[[], object]:
    """Runs over fresh names in a fresh directory, which becomes the current one."""

    def prepared() -> None:
        os.chdir(tempfile.mkdtemp(dir=base))
        run([f"output-{number:04d}" for number in range(OUTPUTS)])

    return prepared


def main(rounds: int) -> None:
    """Measures and prints."""
    executor = ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("fork"))
    tables: dict[str, dict[str, tuple[int, Callable[[], object]]]] = {
        f"{CALLS} tiny calls, per second": {
            "concurrent.futures": (CALLS, lambda: list(executor.map(identity, range(CALLS)))),
            "manyhands": (CALLS, lambda: list(mapped.map(range(CALLS)))),
            "concurrent.futures, chunksize 32": (
                CALLS,
                lambda: list(executor.map(identity, range(CALLS), chunksize=32)),
            ),
            "manyhands, chunksize 32": (CALLS, lambda: list(mapped.map(range(CALLS), chunksize=32))),
        },
        f"{TRIPS} round trips of one call, per second": {
            "concurrent.futures": (
                TRIPS,
                lambda: [executor.submit(identity, n).result() for n in range(TRIPS)],
            ),
            "manyhands": (TRIPS, lambda: [mapped.submit(n).result() for n in range(TRIPS)]),
        },
        f"{OUTPUTS} outputs of {len(CONTENT)} bytes, durable, per second": {
            "floor, one process": (OUTPUTS, in_new_directory(floor)),
            "manyhands": (OUTPUTS, in_new_directory(lambda names: list(write.map(names)))),
        },
    }
    for title, contestants in tables.items():
        figures: dict[str, list[float]] = {name: [] for name in contestants}
        for number in range(rounds + 1):
            for name, (count, run) in contestants.items():
                figure = rate(count, run)
                if number:  # the first round warms up
                    figures[name].append(figure)
        first = statistics.median(next(iter(figures.values())))
        print(f"\n{title}")
        for name, values in figures.items():
            median = statistics.median(values)
            spread = f"{min(values):9,.0f} … {max(values):9,.0f}"
            print(f"  {name:34} {median:9,.0f}   {spread}   x {median / first:.2f}")
    executor.shutdown()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as base:
        main(options.rounds)
        os.chdir("/")

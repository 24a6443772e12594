"""Measures what the library does and what it costs, beside the standard library and floors, in one run.

python -m benchmarks [--only A,J] [--rounds 3]
"""

from __future__ import annotations

import argparse
import os
import platform

from benchmarks import rounds
from benchmarks.measure import FAMILIES, measures


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.partition("\n")[0])
    parser.add_argument("--only", default=",".join(FAMILIES), help="letters of measures, such as A,J")
    parser.add_argument("--rounds", type=int, default=3, help="of measures of speed; behaviour takes one")
    options = parser.parse_args()
    letters = [letter.strip() for letter in options.only.upper().split(",")]
    if unknown := [letter for letter in letters if letter not in FAMILIES]:
        parser.error(f"no measure is called {unknown[0]!r}; there are {', '.join(FAMILIES)}")
    if options.rounds < 1:
        parser.error("--rounds must be 1 or more")
    load = ", ".join(f"{value:.2f}" for value in os.getloadavg())
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores, load {load}\n")
    for letter in letters:
        for number, measure in enumerate(measures(letter)):
            print(rounds.show(measure, rounds.run(measure, number, options.rounds)), flush=True)


if __name__ == "__main__":
    main()

"""``python -m stress controls``: plays the scenes with each contestant, and prints what came of it."""

from __future__ import annotations

import argparse
import time
import traceback
from collections import Counter

from arena import Arena

from controls.contestant import Contestant
from controls.contestants import ALL, find
from controls.scenes import BROKEN, COLUMNS, SCENES, play

OURS = "manyhands"


def parsed(arguments: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m stress controls", description="The same scenes with other ways to share a directory."
    )
    parser.add_argument("--only", default=",".join(ALL), help=f"contestants, of {', '.join(ALL)}")
    parser.add_argument("--scenes", default=",".join(SCENES), help=f"of {', '.join(SCENES)}")
    parser.add_argument(
        "--seconds", type=float, default=0.0, help="play whole rounds for about so long; one at least"
    )
    parser.add_argument("--seed", type=int, help="where all chance comes from; default: the clock")
    parser.add_argument("--processes", type=int, default=8, help="at any time")
    parser.add_argument("--items", type=int, default=200, help="outputs of a scene")
    parser.add_argument("--kills", type=int, default=25, help="at random, beside those at fixed points")
    parser.add_argument("--keep", action="store_true", help="keep the directories")
    options = parser.parse_args(arguments)
    for option, known in (("only", ALL), ("scenes", SCENES)):
        chosen = getattr(options, option).split(",")
        if unknown := sorted(set(chosen) - set(known)):
            parser.error(f"--{option}: {', '.join(unknown)} is unknown; there are {', '.join(known)}")
        setattr(options, option, chosen)
    if options.processes < 1 or options.items < 1:
        parser.error("--processes and --items must be at least 1")
    if options.seed is None:
        options.seed = time.time_ns() % 1_000_000_007
    return options


def main(arguments: list[str]) -> int:
    """0 if all was played, and the library broke no promise."""
    options = parsed(arguments)
    print(f"seed {options.seed}", flush=True)
    contestants = []
    for contestant in map(find, options.only):
        if (version := contestant.version()) is None:
            print(f"skipped: {contestant.name}, for which {contestant.distribution} is not installed")
            continue
        print(f"{contestant.name}: {f'{contestant.distribution} {version}' if version else 'plain Python'}")
        contestants.append(contestant)
    sums: dict[tuple[str, str], Counter[str]] = {}
    problems: list[str] = []
    began, rounds = time.monotonic(), 0
    while True:
        for scene in options.scenes:
            for contestant in contestants:
                problems += play_one(contestant, scene, options, rounds, sums)
        rounds += 1
        if (time.monotonic() - began) * (1 + 1 / rounds) > options.seconds:
            break
    print(f"\nrounds: {rounds}, in {time.monotonic() - began:.0f} s")
    print(table(sums), end="\n\n")
    for problem in problems:
        print(f"FAIL {problem}")
    return 1 if problems else 0


def play_one(
    contestant: Contestant,
    scene: str,
    options: argparse.Namespace,
    number: int,
    sums: dict[tuple[str, str], Counter[str]],
) -> list[str]:
    """Play a scene with a contestant, and add up its figures; what went wrong, or the library did."""
    name = f"{scene} {contestant.name}"
    arena = Arena(name, options.seed + 1000 * number, seconds=180.0)
    began = time.monotonic()
    figures = None
    try:
        figures = play(arena, contestant, scene, options.items, options.processes, options.kills)
        arena.check_nobody_left()
    except Exception:
        arena.wrong(traceback.format_exc())
    finally:
        arena.close(keep=options.keep)
    if options.keep:
        print(f"kept: {arena.directory}")
    if figures is None:
        print(f"not played here: {name}", flush=True)
        return arena.problems
    print(f"{name}: {time.monotonic() - began:.1f} s", flush=True)
    sums.setdefault((scene, contestant.name), Counter()).update(figures)
    broken = BROKEN if scene in ("stop", "full") else (*BROKEN, "computed twice")
    if contestant.name == OURS:
        arena.problems += [f"{name}: {figure}: {figures[figure]}" for figure in broken if figures[figure]]
    return arena.problems


def table(sums: dict[tuple[str, str], Counter[str]]) -> str:
    """The figures, in Markdown: a table for each scene, without columns in which nobody has anything."""
    lines = []
    for scene in dict.fromkeys(scene for scene, _ in sums):
        rows = {name: figures for (of, name), figures in sums.items() if of == scene}
        columns = [column for column in COLUMNS if any(figures[column] for figures in rows.values())]
        lines += ["", f"| {' | '.join((scene, *columns))} |", f"| --- |{' ---: |' * len(columns)}"]
        lines += [
            f"| {' | '.join((name, *(str(figures[column]) for column in columns)))} |"
            for name, figures in rows.items()
        ]
    return "\n".join(lines)

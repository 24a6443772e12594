"""``python -m stress filesystems``: the storm on each filesystem that can be had here."""

from __future__ import annotations

import argparse
import datetime as dt
import signal
import time
import traceback
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from arena import Arena, Figures, Stuck

from filesystems import nfs
from filesystems.kinds import KINDS, Filesystem
from filesystems.storm import Storm
from filesystems.world import Missing, World

ROUND_SECONDS = 600.0
COLUMNS = ("outputs", "kills", "stops", "takeovers", "missing", "torn", "doubled", "littered")


@dataclass
class Tally:
    """What the rounds on one filesystem came to."""

    name: str
    figures: Counter[str] = field(default_factory=Counter)
    primitive: str = ""
    passed: int = 0
    failed: int = 0
    skipped: str = ""

    def row(self) -> str:
        """A line of the table, in Markdown."""
        figures = self.figures
        figures["kills"] = figures["parents killed"] + figures["workers killed"] + figures["machines killed"]
        figures["takeovers"] = figures["items of several workers"]
        if self.skipped:
            return f"| {self.name} | not here: {self.skipped.splitlines()[0]} |"
        uncounted = {"doubled"} if getattr(EVERY[self.name], "computes_again", False) else set()
        cells = ["-" if column in uncounted else str(figures[column]) for column in COLUMNS]
        today = dt.datetime.now(tz=dt.UTC).date().isoformat()
        return f"| {' | '.join([self.name, *cells, self.primitive, today])} |"


Kind = type[Filesystem] | type[nfs.Nfs]

EVERY: dict[str, Kind] = {**KINDS, nfs.Nfs.name: nfs.Nfs, nfs.Nfs3.name: nfs.Nfs3}


def play(kind: Kind, world: World, arena: Arena, options: argparse.Namespace) -> tuple[Figures, str]:
    """What a round comes to, and by what slots were created; violations go to ``arena.wrong``."""
    if issubclass(kind, nfs.Nfs):
        server = kind(world)
        server.start()
        return nfs.play(arena, server, options.processes, options.items)
    filesystem = kind(world, arena.seed)
    filesystem.start()
    storm = Storm(arena, filesystem, options.processes, options.items)
    try:
        return storm.play(), storm.primitive
    finally:
        arena.end_members()  # they hold the mounts


def play_round(kind: Kind, tally: Tally, number: int, options: argparse.Namespace) -> None:
    """One round in a world of its own."""
    seed = options.seed + 1000 * number
    arena = Arena(f"{kind.name} {number}", seed, seconds=ROUND_SECONDS)
    began = time.monotonic()
    try:
        room = arena.directory / "world"
        room.mkdir()
        with World(room) as world:
            figures, tally.primitive = play(kind, world, arena, options)
            tally.figures.update(figures)
    except Missing as missing:
        tally.skipped = str(missing)
        return
    except Stuck as stuck:
        arena.wrong(str(stuck))
    except Exception:
        arena.wrong(traceback.format_exc())
    finally:
        tally.figures["doubled"] += sum("was computed" in problem for problem in arena.problems)
        arena.close(keep=options.keep and bool(arena.problems))
    seconds = time.monotonic() - began
    if not arena.problems:
        tally.passed += 1
        print(f"ok   {arena.name}, {seconds:.1f} s", flush=True)
        return
    tally.failed += 1
    for problem in arena.problems[:20]:
        print(f"FAIL {arena.name} (filesystems --only {kind.name} --seed {seed}): {problem}", flush=True)
    if options.keep:
        print(f"kept: {arena.directory}")


def main(arguments: Sequence[str]) -> int:
    """0 if nothing was violated; what can't be had here is told, and is no failure."""
    parser = argparse.ArgumentParser(
        prog="python -m stress filesystems",
        description="The claims storm by several clients of real network filesystems, each in namespaces of its own.",
    )
    parser.add_argument(
        "--only", action="append", choices=list(EVERY), help="this filesystem; may be given again"
    )
    parser.add_argument("--seconds", type=float, default=60.0, help="for each; one round at least")
    parser.add_argument("--seed", type=int, help="where all chance comes from; default: the clock")
    parser.add_argument("--processes", type=int, default=4, help="at any time, over all clients")
    parser.add_argument("--items", type=int, default=200, help="outputs of a round")
    parser.add_argument("--keep", action="store_true", help="keep the directories of rounds that failed")
    options = parser.parse_args(arguments)
    if options.processes < 1 or options.items < 1:
        parser.error("--processes and --items must be at least 1")
    if options.seed is None:
        options.seed = time.time_ns() % 1_000_000_007
    print(f"seed {options.seed}", flush=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that what was started is ended
    tallies: list[Tally] = []
    try:
        play_all(options, tallies)
    except KeyboardInterrupt:
        print("interrupted")
        return 130
    for tally in tallies:
        for what, figure in tally.figures.items():
            print(f"    {tally.name:<16}{what:<28}{figure:>8}")
    print(f"| filesystem | {' | '.join(COLUMNS)} | created by | date |")
    print("|" + " --- |" * (len(COLUMNS) + 3))
    for tally in tallies:
        print(tally.row())
    failed = sum(tally.failed for tally in tallies)
    print(f"{sum(tally.passed for tally in tallies)} passed, {failed} failed")
    return 1 if failed else 0


def play_all(options: argparse.Namespace, tallies: list[Tally]) -> None:
    """Rounds on each filesystem that is asked for, one after the other; what they come to goes to ``tallies``."""
    for name in options.only or EVERY:
        tally, kind = Tally(name), EVERY[name]
        tallies.append(tally)
        began, number = time.monotonic(), 0
        try:
            kind.check()
        except Missing as missing:
            tally.skipped = str(missing)
        while not tally.skipped:
            play_round(kind, tally, number, options)
            number += 1
            spent = time.monotonic() - began
            if options.seconds - spent < spent / number / 2:
                break
        if tally.skipped:
            print(f"skip {name}: {tally.skipped}", flush=True)

"""Real processes in anger: ``python -m stress``; see README.md beside it."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import claims_storm
import controls.main
import failing_items
import handler_schedule
import handler_storm
import pool_storm
import schedule
from arena import Arena, Figures, Stuck

NAMES = ("claims", "pool", "handler", "failing")
FAILING_PROCESSES = 3
FAILING_ITEMS = 60


@dataclass
class Scenario:
    """One kind of round.

    Attributes:
        share: of the whole time.
        play: plays a round.
        figures: sums over its rounds.
    """

    name: str
    share: float
    play: Callable[[Arena], Figures]
    figures: Counter[str] = field(default_factory=Counter)
    passed: int = 0
    failed: int = 0
    seconds: float = 0.0


def scenarios(options: argparse.Namespace) -> list[Scenario]:
    """The scenarios that are asked for."""
    if options.schedule is not None:
        text = options.schedule.read_text()
        if "flows" in json.loads(text):
            storm = handler_schedule.loads(text)
            return [Scenario("handler", 1.0, lambda arena: handler_storm.play_again(arena, storm))]
        again = schedule.loads(text)
        return [Scenario("pool", 1.0, lambda arena: pool_storm.play_again(arena, again))]
    every = [
        Scenario("claims", 0.4, lambda arena: claims_storm.play(arena, options.processes, options.items)),
        Scenario("pool", 0.2, pool_storm.play),
        Scenario("handler", 0.2, handler_storm.play),
        Scenario("failing", 0.2, lambda arena: failing_items.play(arena, FAILING_PROCESSES, FAILING_ITEMS)),
    ]
    return [scenario for scenario in every if not options.scenarios or scenario.name in options.scenarios]


def play_round(scenario: Scenario, number: int, options: argparse.Namespace) -> None:
    """Play one round and say what it came to."""
    seed = options.seed + 1000 * number
    arena = Arena(f"{scenario.name} {number}", seed)
    began = time.monotonic()
    try:
        scenario.figures.update(scenario.play(arena))
    except Stuck as stuck:
        arena.wrong(str(stuck))
    except Exception:
        arena.wrong(traceback.format_exc())
    finally:
        arena.close(keep=options.keep and bool(arena.problems))
    seconds = time.monotonic() - began
    scenario.seconds += seconds
    again = f"{scenario.name} --seed {options.seed} --round {number}"
    if options.schedule is not None:
        again = f"--schedule {options.schedule}"
    if arena.problems:
        scenario.failed += 1
        for problem in arena.problems[:20]:
            print(f"FAIL {arena.name} ({again}): {problem}")
        if len(arena.problems) > 20:
            print(f"FAIL {arena.name} ({again}): and {len(arena.problems) - 20} problems more")
        if options.keep:
            print(f"kept: {arena.directory}")
    else:
        scenario.passed += 1
        print(f"ok   {arena.name}, {seconds:.1f} s", flush=True)


def play_all(chosen: list[Scenario], options: argparse.Namespace) -> None:
    """Each scenario has its share of the time, and one round at least."""
    total = sum(scenario.share for scenario in chosen)
    for scenario in chosen:
        number = 0 if options.round is None else options.round
        while True:
            play_round(scenario, number, options)
            number += 1
            average = scenario.seconds / (scenario.passed + scenario.failed)
            left = options.seconds * scenario.share / total - scenario.seconds
            if options.round is not None or left < average / 2:
                break


def table(chosen: list[Scenario]) -> str:
    """The figures, summed over the rounds of each scenario."""
    lines = []
    for scenario in chosen:
        rounds = scenario.passed + scenario.failed
        lines.append(f"{scenario.name}: {rounds} rounds in {scenario.seconds:.1f} s")
        lines += [f"    {name:<28}{value:>8}" for name, value in scenario.figures.items()]
    return "\n".join(lines)


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m stress", description="Stress manyhands with real processes, some of them killed."
    )
    parser.add_argument("scenarios", nargs="*", metavar="scenario", help=f"{', '.join(NAMES)}; default: all")
    parser.add_argument(
        "--seconds", type=float, default=50.0, help="about how long; one round of each at least"
    )
    parser.add_argument("--seed", type=int, help="where all chance comes from; default: the clock")
    parser.add_argument("--processes", type=int, default=8, help="of the claims storm, at any time")
    parser.add_argument("--items", type=int, default=300, help="of the claims storm")
    parser.add_argument("--round", type=int, help="this round alone, as a failure names it")
    parser.add_argument(
        "--schedule",
        type=Path,
        help="play the schedule in this file, of the pool or of handlers,, again and again",
    )
    parser.add_argument("--keep", action="store_true", help="keep the directories of rounds that failed")
    options = parser.parse_args()
    if options.processes < 1 or options.items < 1:
        parser.error("--processes and --items must be at least 1")
    if unknown := set(options.scenarios) - set(NAMES):
        parser.error(f"unknown scenario: {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    if options.seed is None:
        options.seed = time.time_ns() % 1_000_000_007
    return options


class Terminated(KeyboardInterrupt):
    """SIGTERM; in this shape it passes whatever plays."""


def _terminate(*_: object) -> None:
    raise Terminated


def main() -> int:
    """0 if nothing was violated."""
    if sys.argv[1:2] == ["controls"]:
        return _until_terminated(lambda: controls.main.main(sys.argv[2:]))
    return _until_terminated(stress)


def _until_terminated(play: Callable[[], int]) -> int:
    """Interrupted, what was started is ended."""
    signal.signal(signal.SIGTERM, _terminate)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # also where a shell's background job ignores it
    try:
        return play()
    except KeyboardInterrupt as interrupt:
        print("interrupted")
        return 143 if isinstance(interrupt, Terminated) else 130


def stress() -> int:
    """Play the scenarios; 0 if nothing was violated."""
    options = parsed()
    print(f"seed {options.seed}", flush=True)
    chosen = scenarios(options)
    play_all(chosen, options)
    print(table(chosen))
    passed, failed = (sum(getattr(scenario, name) for scenario in chosen) for name in ("passed", "failed"))
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

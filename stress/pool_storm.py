"""Scenario 2: schedules that Hypothesis makes, each played by a process of its own, very bad for workers."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import storm_tasks
from evidence import Evidence
from outside import Outside
from search import Search
from spans import Spans
from strategies import schedules
from verdict import judge

if TYPE_CHECKING:
    from arena import Arena, Figures
    from schedule import Schedule

EXAMPLES: Final = 6
"""Schedules of a round."""

_TICK_SECONDS: Final = 0.002


def play(arena: Arena) -> Figures:
    """A round of schedules made from the arena's seed; violations go to ``arena.wrong``."""
    return Search(arena, _play).round(schedules(), EXAMPLES)


def play_again(arena: Arena, schedule: Schedule) -> Figures:
    """A round of this schedule alone."""
    return Search(arena, _play).again(schedule)


def _play(arena: Arena, schedule: Schedule) -> Counter[str]:
    """One schedule in a process of its own; returns figures."""
    storm_tasks.prepare(arena.directory, schedule)
    member = arena.start("pool_process.py")
    outside = Outside(arena, schedule.events, member.popen.pid)
    done = arena.directory / storm_tasks.PLAYED
    try:
        arena.until(lambda: done.exists() or not member.alive, outside.step, _TICK_SECONDS)
    finally:
        outside.rest()
    assert member.popen.stdin is not None
    member.popen.stdin.close()
    arena.until(lambda: not member.alive)
    arena.check_nobody_left()
    arena.finish(member)
    if words := member.last_words():
        arena.wrong(f"noise: {words}")
    lines = member.report.read_text().splitlines() if member.report.exists() else []
    told: list[dict[str, Any]] = [json.loads(line) for line in lines]
    probes = [one["probe"] for one in told if "probe" in one]
    if probes != [True]:
        arena.wrong(f"lost: the pool was of no use afterwards: {probes}")
    if (slots := [one["slots"] for one in told if "slots" in one]) not in ([0], []):
        arena.wrong(f"lost: {slots} slots of shared memory were not free in the end")
    maps = [one for one in told if "map" in one]
    evidence = Evidence(
        schedule,
        maps,
        Spans(arena.look()),
        outside.killed,
        outside.stopped,
        outside.lag,
        outside.processor.waited,
    )
    verdict = judge(evidence)
    for problem in verdict.problems:
        arena.wrong(problem)
    figures = Counter({"schedules": 1, "maps": len(maps)})
    for more in (outside.figures, verdict.figures):
        figures.update(more)  # not +, which drops what is 0
    return figures

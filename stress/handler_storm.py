"""Scenario 4: handlers whose items fail in every way, and all that may be said to that."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import handler_tasks
from handler_evidence import Evidence
from handler_strategies import storms
from handler_verdict import judge
from outside import Outside
from search import Search

if TYPE_CHECKING:
    from arena import Arena, Figures
    from handler_schedule import Storm

EXAMPLES: Final = 5
"""Storms of a round."""

_TICK_SECONDS: Final = 0.002


def play(arena: Arena) -> Figures:
    """A round of storms made from the arena's seed; violations go to ``arena.wrong``."""
    return Search(arena, _play).round(storms(), EXAMPLES)


def play_again(arena: Arena, storm: Storm) -> Figures:
    """A round of this storm alone."""
    return Search(arena, _play).again(storm)


def _play(arena: Arena, storm: Storm) -> Counter[str]:
    """One storm in a process of its own; returns figures."""
    handler_tasks.prepare(arena.directory, storm)
    member = arena.start("handler_process.py")
    outside = Outside(arena, storm.events, member.popen.pid)
    try:
        arena.until(lambda: not member.alive, outside.step, _TICK_SECONDS)
    finally:
        outside.rest()
    arena.check_nobody_left()
    arena.finish(member)
    if words := member.last_words():
        arena.wrong(f"noise: {words}")
    lines = member.report.read_text().splitlines() if member.report.exists() else []
    told: list[dict[str, Any]] = [json.loads(line) for line in lines]
    verdict = judge(Evidence(storm, told, arena.look(), outside.killed, outside.lag, outside.processor.waited))
    for problem in verdict.problems:
        arena.wrong(problem)
    figures = Counter({"storms": 1, "flows": len(told), "workers killed": outside.figures["kills"]})
    figures.update(verdict.figures)
    return figures

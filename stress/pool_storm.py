"""Scenario 2: schedules that Hypothesis makes, each played by a process of its own, some of them very bad for workers.

When one fails, Hypothesis looks for a smaller one that does too. Who wins a race is the machine's to decide, so what
counts is each play: the smallest schedule that has failed in any of them is told.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import storm_tasks
from arena import Arena, Figures, Stuck
from evidence import Evidence
from hypothesis import HealthCheck, Phase, Verbosity, given, seed, settings
from hypothesis.errors import Flaky
from outside import Outside
from spans import Spans
from strategies import schedules
from verdict import judge

if TYPE_CHECKING:
    from schedule import Schedule

EXAMPLES: Final = 6
"""Schedules of a round."""

PLAY_SECONDS: Final = 60.0
"""How long a schedule may take; it is done in two, mostly. Smaller ones than one that failed get a third of that."""

SHRINK_SECONDS: Final = 90.0
TRIES: Final = 3
"""How often a smaller schedule is played before it is taken to be harmless."""

_TICK_SECONDS: Final = 0.002


class Violated(Exception):
    """A schedule was played, and something does not hold."""


def play(arena: Arena) -> Figures:
    """A round of schedules made from the arena's seed; violations go to ``arena.wrong``."""
    search = _Search(arena)
    try:
        search.run()
    except (Violated, Flaky):
        search.tell()
    return dict(search.figures)


def play_again(arena: Arena, schedule: Schedule) -> Figures:
    """A round of this schedule alone."""
    search = _Search(arena)
    problems = search.play(schedule)
    for problem in problems:
        arena.wrong(problem)
    return dict(search.figures)


class _Search:
    """Plays schedules until one fails, and then smaller ones."""

    def __init__(self, arena: Arena) -> None:
        self.figures: Counter[str] = Counter()
        self._arena = arena
        self._failed: tuple[Schedule, list[str]] | None = None
        self._until = 0.0

    def run(self) -> None:
        """Raises Violated or, if the same schedule did not fail the next time, Flaky."""

        @seed(self._arena.seed)
        @settings(
            max_examples=EXAMPLES,
            database=None,
            deadline=None,
            phases=(Phase.generate, Phase.shrink),
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
            verbosity=Verbosity.quiet,
        )
        @given(schedules())
        def each(schedule: Schedule) -> None:
            self._try(schedule)

        each()

    def tell(self) -> None:
        """The smallest schedule that has failed, with what was wrong."""
        assert self._failed is not None
        schedule, problems = self._failed
        for problem in problems:
            self._arena.wrong(problem)
        self._arena.wrong(f"the schedule was\n{schedule.dumps()}")

    def _try(self, schedule: Schedule) -> None:
        for _ in range(1 if self._failed is None else TRIES):
            if self._failed is not None and time.monotonic() > self._until:
                return  # small enough
            if problems := self.play(schedule):
                if self._failed is None:
                    self._until = time.monotonic() + SHRINK_SECONDS
                if self._failed is None or len(schedule.dumps()) <= len(self._failed[0].dumps()):
                    self._failed = schedule, problems
                raise Violated

    def play(self, schedule: Schedule) -> list[str]:
        """One play; returns what does not hold. What is played after a failure does not count in the figures."""
        seconds = PLAY_SECONDS if self._failed is None else PLAY_SECONDS / 3
        room = Arena(self._arena.name, self._arena.seed, seconds, self._arena.directory)
        figures: Counter[str] = Counter()
        try:
            figures = _play(room, schedule)
        except Stuck as stuck:
            room.wrong(f"lost: {stuck}")
            figures["lost"] += 1
        finally:
            room.close(keep=bool(room.problems))
        if self._failed is None:
            self.figures.update(figures)
        return room.problems


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

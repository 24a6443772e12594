"""Plays schedules that Hypothesis makes until one fails, and then smaller ones.

Who wins a race is the machine's to decide, so what counts is each play: the smallest schedule that has failed in any of
them is told.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import Any, Final, Generic, Protocol, TypeVar

from arena import Arena, Figures, Stuck
from hypothesis import HealthCheck, Phase, Verbosity, given, seed, settings
from hypothesis import strategies as st
from hypothesis.errors import Flaky

PLAY_SECONDS: Final = 60.0
"""How long a schedule may take; it is done in two, mostly. Smaller ones than one that failed get a third of that."""

SHRINK_SECONDS: Final = 90.0
TRIES: Final = 3
"""How often a smaller schedule is played before it is taken to be harmless."""


class Violated(Exception):
    """A schedule was played, and something does not hold."""


class Dumps(Protocol):
    """What can be written down."""

    def dumps(self) -> str:
        """As one line."""


S = TypeVar("S", bound=Dumps)


class Search(Generic[S]):
    """A round of schedules.

    Args:
        arena: whose seed they are made from; violations go to its ``wrong``.
        play: plays one, in an arena of its own.
    """

    def __init__(self, arena: Arena, play: Callable[[Arena, S], Counter[str]]) -> None:
        self._arena = arena
        self._play = play
        self._figures: Counter[str] = Counter()
        self._failed: tuple[S, list[str]] | None = None
        self._until = 0.0

    def round(self, schedules: st.SearchStrategy[S], examples: int) -> Figures:
        """So many of them; returns figures."""
        try:
            self._run(schedules, examples)
        except (Violated, Flaky):
            self._tell()
        return dict(self._figures)

    def again(self, schedule: S) -> Figures:
        """This one alone."""
        for problem in self._play_one(schedule):
            self._arena.wrong(problem)
        return dict(self._figures)

    def _run(self, schedules: st.SearchStrategy[S], examples: int) -> None:
        """Raises Violated or, if the same schedule did not fail the next time, Flaky."""

        @seed(self._arena.seed)
        @settings(
            max_examples=examples,
            database=None,
            deadline=None,
            phases=(Phase.generate, Phase.shrink),
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
            verbosity=Verbosity.quiet,
        )
        @given(schedules)
        def each(schedule: Any) -> None:
            self._try(schedule)

        each()

    def _tell(self) -> None:
        """The smallest schedule that has failed, with what was wrong."""
        assert self._failed is not None
        schedule, problems = self._failed
        for problem in problems:
            self._arena.wrong(problem)
        self._arena.wrong(f"the schedule was\n{schedule.dumps()}")

    def _try(self, schedule: S) -> None:
        for _ in range(1 if self._failed is None else TRIES):
            if self._failed is not None and time.monotonic() > self._until:
                return  # small enough
            if problems := self._play_one(schedule):
                if self._failed is None:
                    self._until = time.monotonic() + SHRINK_SECONDS
                if self._failed is None or len(schedule.dumps()) <= len(self._failed[0].dumps()):
                    self._failed = schedule, problems
                raise Violated

    def _play_one(self, schedule: S) -> list[str]:
        """One play; returns what does not hold. What is played after a failure does not count in the figures."""
        seconds = PLAY_SECONDS if self._failed is None else PLAY_SECONDS / 3
        room = Arena(self._arena.name, self._arena.seed, seconds, self._arena.directory)
        figures: Counter[str] = Counter()
        try:
            figures = self._play(room, schedule)
        except Stuck as stuck:
            room.wrong(f"lost: {stuck}")
            figures["lost"] += 1
        finally:
            room.close(keep=bool(room.problems))
        if self._failed is None:
            self._figures.update(figures)
        return room.problems

"""Scenario 4: storms of users' functions. Right ones must pass, wrong ones must be caught."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import functions

from manyhands.testing import SerialRunFailed, StormReport, storm

if TYPE_CHECKING:
    from arena import Arena, Figures


def play(arena: Arena) -> Figures:
    """One round: one function that is right, one that is wrong; violations go to ``arena.wrong``."""
    right = arena.luck.choice(functions.RIGHT)
    report = start(arena, right, arena.luck.randint(30, 100), arena.luck.choice((2.0, 4.0)))
    if not report.ok:
        arena.wrong(f"{right.__name__} is right: {report}")
    figures = Counter({"storms": 1, **report.figures})
    wrong, rules = arena.luck.choice(list(functions.WRONG.items()))
    try:
        report = start(arena, wrong, 20, 1.0)
    except SerialRunFailed:
        figures["refused"] += 1
        return dict(figures)
    found = {problem.rule for problem in report.problems}
    if not found & rules:
        arena.wrong(f"{wrong.__name__} is wrong by {rules}, not {found}: {report}")
    figures["caught"] += 1
    return dict(figures)


def start(arena: Arena, function: object, items: int, seconds: float) -> StormReport:
    """A round of a storm, with options by chance."""
    return storm(
        function,
        range(items),
        processes=arena.luck.randint(3, 8),
        workers=arena.luck.randint(1, 2),
        seconds=seconds,
        rounds=1,
        seed=arena.seed,
        lease=arena.luck.choice((0.2, 0.5, 120.0)),
        patience=20.0,
        directory=arena.directory,
    )

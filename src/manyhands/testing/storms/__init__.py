"""Storms: a user's claimed function in many processes, some of which are killed and stopped; and is all well?"""

from __future__ import annotations

import os
import random
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from manyhands.policies.parameters import name_of
from manyhands.spelling import suggesting
from manyhands.testing.checker import Problem
from manyhands.testing.storms.job import Job, Options, Room, claimed, outputs_of
from manyhands.testing.storms.reference import Reference
from manyhands.testing.storms.reference import SerialRunFailed as SerialRunFailed
from manyhands.testing.storms.round import Round

LEASE: Final = 0.5
"""Seconds after which who is stopped is taken for dead; a storm has no patience for more."""

_KINDS: Final = {
    "missing": "missing",
    "torn": "torn",
    "bytes": "torn",
    "gone": "doubled",
    "replaced": "doubled",
    "publications": "doubled",
    "commits": "doubled",
    "left over": "littered",
}
"""As what each kind of problem is counted."""

_FIGURES: Final = (
    *(
        "outputs",
        "processes",
        "kills",
        "stops",
        "terms",
        "takeovers",
        "fenced",
        "helped",
        "recomputed",
        "looks",
    ),
    *("missing", "torn", "doubled", "littered", "other", "doubts"),
)


@dataclass(frozen=True)
class StormReport:
    """What a storm came to.

    Attributes:
        function: its name.
        seed: gives the same blows again; who is hit at what is the machine's to decide.
        rounds: how many were played.
        seconds: how long all took.
        figures: counts over all rounds, by name: ``outputs``; ``processes`` that were started; ``kills``, ``stops`` and
            ``terms`` (SIGTERM) that hit one; ``takeovers``, claims upon a claim; ``fenced``, owners that came too late;
            ``helped``, outputs that another published than who had committed them, or who was killed before it could
            tell; ``recomputed``, calls beyond the first of each output; ``looks`` at outputs by the reader;
            ``missing``, ``torn``, ``doubled`` and ``littered``, which should be 0; ``other``, further problems;
            ``doubts``, what the histories of those who were killed leave open.
        problems: what was wrong, in the last round; empty if all is well.
        directory: where that round's files are; None if they were removed.
    """

    function: str
    seed: int
    rounds: int
    seconds: float
    figures: Mapping[str, int]
    problems: tuple[Problem, ...] = ()
    directory: Path | None = None

    @property
    def ok(self) -> bool:
        """Whether no promise was broken: ``assert report.ok, report``."""
        return not self.problems

    def __str__(self) -> str:
        width = max(map(len, self.figures), default=0)
        told = f"{self.function}: {self.rounds} rounds in {self.seconds:.1f} s, seed {self.seed}"
        lines = [told, *(f"    {name:<{width}}{number:>9}" for name, number in self.figures.items())]
        lines += [f"WRONG {problem}" for problem in self.problems[:20]]
        if len(self.problems) > 20:
            lines.append(f"WRONG and {len(self.problems) - 20} problems more")
        if self.directory is not None:
            lines.append(f"kept: {self.directory}")
        return "\n".join(lines)


@suggesting("storm", example="storm(function, items, seconds=60)")
def storm(
    function: Any,
    items: Iterable[Any],
    *,
    star: bool = False,
    processes: int = 8,
    workers: int = 2,
    seconds: float = 60.0,
    rounds: int | None = None,
    seed: int | None = None,
    lease: float = LEASE,
    vary: bool = False,
    patience: float = 30.0,
    directory: str | os.PathLike[str] | None = None,
    tell: Callable[[str], object] | None = None,
) -> StormReport:
    """Runs a function with ``@claimed_output`` in several processes that are killed and stopped, and checks everything.

    First it runs alone, twice, each time in a process and a directory of its own; that says what is right. Then come
    rounds, each in a fresh directory. ``processes`` map the function over all items there, as independent programs do.
    Meanwhile parents and workers are killed (SIGKILL, SIGTERM), stopped and continued. Who has ended is replaced, until
    the list is complete. One more process comes after that, and must have nothing to do; then ``gc(now=True)``.

    These must hold: every output is there, equal byte for byte to that of the serial run; a reader that looks all the
    time has seen no other bytes, nor an output that was replaced; the histories of all claims are valid (``check``); no
    process failed on its own, but for what ``@retry_on`` names; the last one computed nothing; no file is there that
    the serial run had not left, and no process. After a round in which something did not, no more are played.

    The function runs with its own options, except: so many ``workers``, no ``timeout``, no pool of its own, no
    ``wait=False``; failures are tried again by who comes later; the death of a worker is always retried and never a
    failure for good.

    Args:
        function: with ``@claimed_output``, with or without ``@parallel``. Its templates are relative. It runs in a
            directory that is not this process's: paths among its items are better absolute.
        items: over which it is mapped; each has an output of its own. The more they are, and the longer they take, the
            more happens in a round.
        star: whether an item is all positional arguments.
        processes: at any time.
        workers: of each of them.
        seconds: for which processes are disturbed, over all rounds, in each from the first claim on. A round that has
            begun then is finished in peace. Serial runs, and starts and ends of rounds, come on top.
        rounds: so many at most; None: as many as there is time for, and one at least.
        seed: of what is done to whom; None: by chance.
        lease: seconds; who is stopped for longer is taken over.
        vary: whether outputs may differ from run to run. They are compared with what their writers had written then,
            not with a serial run.
        patience: seconds in which processes that have nothing to do must vanish; and, beside 20 times the longest
            item, in which something must go on.
        directory: below which the directories of runs are made; None: a temporary one. They are removed, except those
            of a round in which something was wrong.
        tell: is called with a line about how it goes, some times in a second.

    Raises:
        TypeError: the function has no ``@claimed_output``, or can't be sent to a process.
        ValueError: there are no items; a number is out of range; a template is absolute.
        DuplicateOutput, TemplateError, ItemError: an item has no output of its own.
        SerialRunFailed: the function fails by itself, or two serial runs differ.
    """
    _check_numbers(processes=processes, workers=workers, rounds=1 if rounds is None else rounds)
    for name, value, least in (("seconds", seconds, 0.0), ("lease", lease, 0.01), ("patience", patience, 0.0)):
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value < float("inf"):
            raise ValueError(f"{name} must be a number of seconds, {least:g} or more, not {value!r}")
    job = Job(claimed(function), list(items), star)
    outputs = outputs_of(job)
    seed = random.SystemRandom().randrange(1 << 32) if seed is None else seed
    began, figures = time.monotonic(), Counter(dict.fromkeys(_FIGURES, 0))
    place = Path(tempfile.mkdtemp(prefix="manyhands-storm-", dir=directory)).resolve()
    options = Options(processes, workers, lease, patience, vary, tell or str)
    keep, played, problems = False, 0, []
    try:
        reference = Reference.of(job, outputs, place, options)
        problems, room = reference.problems, reference.room
        left = float(seconds)
        while not problems and (left > 0 or not played) and (rounds is None or played < rounds):
            room = Room(place / f"round-{played}")
            this = Round(job, reference, room, options, f"{seed} {played}", left)
            this.play()
            left -= this.seconds
            played += 1
            figures.update(this.figures)
            problems = this.problems
            if not problems:
                shutil.rmtree(room.path)
        for problem in problems:
            figures[_KINDS.get(problem.rule, "other")] += max(1, len(problem.names))
        keep = bool(problems)
        spent = time.monotonic() - began
        told = tuple(problems)
        return StormReport(
            name_of(function), seed, played, spent, dict(figures), told, room.path if keep else None
        )
    finally:
        if not keep:
            shutil.rmtree(place, ignore_errors=True)


def _check_numbers(**numbers: int) -> None:
    for name, number in numbers.items():
        if not isinstance(number, int) or isinstance(number, bool) or number < 1:
            raise ValueError(f"{name} must be a whole number of 1 or more, not {number!r}")

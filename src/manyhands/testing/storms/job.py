"""What a storm runs: a function over items, in a directory of its own, and how it is changed for that."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from manyhands import parallel
from manyhands.calls import short_repr
from manyhands.errors import DuplicateOutput, WorkerDied
from manyhands.outcome import Failure
from manyhands.policies.parameters import name_of
from manyhands.policies.retry import RetryBudget, budget_of
from manyhands.policies.star import StarRule
from manyhands.testing.recorded import Recording
from manyhands.testing.storms.crew import absolute_path

Outputs = Mapping[str, Sequence[str]]
"""The files of each output, by the last of them: ways from the directory in which the function runs."""

_NEVER: Final = 1_000_000
"""Owners that an output may end: they are killed on purpose."""


@dataclass(frozen=True)
class Options:
    """As in ``storm``."""

    processes: int
    workers: int
    lease: float
    patience: float
    vary: bool
    tell: Callable[[str], object]


class Room:
    """The directories of one run: its outputs, its histories, and what its processes have printed."""

    def __init__(self, path: Path) -> None:
        self.path, self.outputs, self.history = path, path / "outputs", path / "history"
        self.outputs.mkdir(parents=True)
        self.history.mkdir()
        self.log = path / "log"


@dataclass(frozen=True)
class Job:
    """A function over items."""

    function: Any
    items: list[Any]
    star: bool

    def recorded(self, room: Room, options: Options) -> Job:
        """The same, as it is run in a room: its claims tell what they do, and nothing but its body decides."""
        function = self.function if hasattr(self.function, "map") else parallel(self.function)
        backend = function.task.parallel.backend
        function = function.options(
            workers=options.workers,
            timeout=None,
            progress=False,
            on_error="return",
            backend=backend if backend in ("threads", "inline") else None,
        )
        function.task = replace(
            function.task,
            claim=replace(
                function.task.claim,
                wait=True,
                failed="retry",
                lease=options.lease,
                max_crashes=_NEVER,
                claims=Recording(room.history, room.outputs),
            ),
            retries=_with_patience(function.task.retries),
        )
        return replace(self, function=function)


def claimed(function: Any) -> Any:
    """The function, if it can be run in a storm; raises TypeError or ValueError."""
    task = getattr(function, "task", None)
    if getattr(task, "claim", None) is None:
        what = name_of(function) if callable(function) else repr(function)
        raise TypeError(f"a storm takes a function with @claimed_output, which {what} has not")
    for template in (*function.task.claim.finals, function.task.claim.temp):
        if template is not None and Path(template.text).is_absolute():
            raise ValueError(
                f"the template {template.text!r} of {name_of(function)} is absolute, so each round would write to the "
                f"same place; a storm needs one that is relative to the directory that the caller is in"
            )
    return function


def outputs_of(job: Job) -> dict[str, tuple[str, ...]]:
    """What a complete list has; raises what is wrong with an item."""
    if not job.items:
        raise ValueError("a storm needs items: there are none")
    here, rule = Path.cwd(), StarRule(star=job.star)
    found: dict[str, tuple[str, ...]] = {}
    first: dict[str, int] = {}
    for index, item in enumerate(job.items):
        call = rule.call(index, item)
        paths = job.function.claims.paths(*call.args)
        files = tuple(path.relative_to(here).as_posix() for path in paths)
        for file in files:
            if first.setdefault(file, index) != index:
                raise DuplicateOutput(
                    f"items {first[file]} and {index} of {name_of(job.function)}, {short_repr(job.items[first[file]])} "
                    f"and {short_repr(item)}, have the same output, {file!r}; its template must tell them apart"
                )
        found[files[-1]] = files
    return found


def _with_patience(budgets: tuple[RetryBudget, ...]) -> tuple[RetryBudget, ...]:
    """The user's budgets, and one for workers that are killed, which is never used up."""
    kept = [
        replace(budget, exceptions=tuple(one for one in budget.exceptions if one is not WorkerDied))
        for budget in budgets
    ]
    others = [budget for budget in kept if budget.exceptions or budget.predicates]
    return (*others, RetryBudget((WorkerDied,), attempts=None, wait=0.01))


@dataclass(frozen=True)
class Told:
    """What a map came to.

    Attributes:
        failures: which items failed, and how, but for what is retried.
        discarded: which were.
        seconds: of each call, 0 where there was none.
    """

    failures: tuple[str, ...]
    discarded: tuple[int, ...]
    seconds: tuple[float, ...]


@dataclass(frozen=True)
class Program:
    """A program that maps."""

    job: Job
    directory: Path
    backend: str | None = None

    def __call__(self, *_: int) -> Told:
        """Runs here, in the directory."""
        absolute_path()
        os.chdir(self.directory)
        job, retries = self.job, self.job.function.task.retries
        options = {} if self.backend is None else {"backend": self.backend}
        failures, discarded, seconds = [], [], []
        for outcome in job.function.map(job.items, star=job.star, **options).outcomes():
            seconds.append(outcome.seconds)
            failure = outcome.failure
            if outcome.discarded is not None:
                discarded.append(outcome.index)
            elif failure is not None and (self.backend or not _is_retried(failure, retries)):
                failures.append(_failed(failure))
        return Told(tuple(failures), tuple(discarded), tuple(seconds))


def _is_retried(failure: Failure, retries: tuple[RetryBudget, ...]) -> bool:
    """Whether it may be that the attempts were used up by those who were killed."""
    return budget_of(retries, failure.error) is not None


def _failed(failure: Failure) -> str:
    told = f"item {failure.index}, {short_repr(failure.item)}: {type(failure.error).__name__}: {failure.error}"
    return f"{told}\n{failure.traceback.rstrip()}" if failure.traceback else told

"""Storms: a user's claimed function in many processes, some of which are killed and stopped, and whether all is well."""

from __future__ import annotations

import os
import random
import shutil
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from manyhands import parallel
from manyhands.claims import gc
from manyhands.errors import DuplicateOutput, WorkerDied
from manyhands.outcome import Failure
from manyhands.policies.parameters import name_of
from manyhands.policies.retry import RetryBudget, budget_of
from manyhands.policies.star import StarRule, short_repr
from manyhands.testing.blows import Blows
from manyhands.testing.checker import Problem, Verdict, check
from manyhands.testing.crew import Crew, Member, absolute_path
from manyhands.testing.events import Event
from manyhands.testing.history import digest, read_histories
from manyhands.testing.nemesis import Nemesis
from manyhands.testing.onlooker import Onlooker
from manyhands.testing.races import RacerDied
from manyhands.testing.recorded import Recording

Outputs = Mapping[str, Sequence[str]]
"""The files of each output, by the last of them: ways from the directory in which the function runs."""

LEASE: Final = 0.5
"""Seconds after which who is stopped is taken for dead; a storm has no patience for more."""

_NEVER: Final = 1_000_000
"""Owners that an output may end: they are killed on purpose."""

_LEAST_PAUSE: Final = 0.08
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


class SerialRunFailed(Exception):
    """The function fails, or its outputs differ from run to run, with nobody beside it: no storm was started."""


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
            tell; ``recomputed``, calls beyond the first of each output; ``looks`` at outputs by the reader; ``missing``,
            ``torn``, ``doubled`` and ``littered``, which should be 0; ``other``, further problems; ``doubts``, what
            the histories of those who were killed leave open.
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
        seconds: for which processes are disturbed, over all rounds, in each from the first claim on. A round that has begun
            then is finished in peace. Serial runs, and starts and ends of rounds, come on top.
        rounds: so many at most; None: as many as there is time for, and one at least.
        seed: of what is done to whom; None: by chance.
        lease: seconds; who is stopped for longer is taken over.
        vary: whether outputs may differ from run to run. They are compared with what their writers had written then,
            not with a serial run.
        patience: seconds in which processes that have nothing to do must vanish; and, beside 20 times the longest item,
            in which something must go on.
        directory: below which the directories of runs are made; None: a temporary one. They are removed, except those of
            a round in which something was wrong.
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
    job = _Job(_claimed(function), list(items), star)
    outputs = _outputs(job)
    seed = random.SystemRandom().randrange(1 << 32) if seed is None else seed
    began, figures = time.monotonic(), Counter(dict.fromkeys(_FIGURES, 0))
    place = Path(tempfile.mkdtemp(prefix="manyhands-storm-", dir=directory)).resolve()
    options = _Options(processes, workers, lease, patience, vary, tell or (lambda line: None))
    keep, played, problems = False, 0, []
    try:
        reference = _Reference.of(job, outputs, place, options)
        problems, room = reference.problems, reference.room
        left = float(seconds)
        while not problems and (left > 0 or not played) and (rounds is None or played < rounds):
            room = _Room(place / f"round-{played}")
            this = _Round(job, reference, room, options, f"{seed} {played}", left)
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
        return StormReport(name_of(function), seed, played, spent, dict(figures), told, room.path if keep else None)
    finally:
        if not keep:
            shutil.rmtree(place, ignore_errors=True)


_FIGURES: Final = (
    *("outputs", "processes", "kills", "stops", "terms", "takeovers", "fenced", "helped", "recomputed", "looks"),
    *("missing", "torn", "doubled", "littered", "other", "doubts"),
)


# -- what is asked for ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Job:
    """A function over items."""

    function: Any
    items: list[Any]
    star: bool

    def recorded(self, room: _Room, options: _Options) -> _Job:
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


@dataclass(frozen=True)
class _Options:
    processes: int
    workers: int
    lease: float
    patience: float
    vary: bool
    tell: Callable[[str], object]


class _Room:
    """The directories of one run: its outputs, its histories, and what its processes have printed."""

    def __init__(self, path: Path) -> None:
        self.path, self.outputs, self.history = path, path / "outputs", path / "history"
        self.outputs.mkdir(parents=True)
        self.history.mkdir()
        self.log = path / "log"


def _check_numbers(**numbers: int) -> None:
    for name, number in numbers.items():
        if not isinstance(number, int) or isinstance(number, bool) or number < 1:
            raise ValueError(f"{name} must be a whole number of 1 or more, not {number!r}")


def _claimed(function: Any) -> Any:
    task = getattr(function, "task", None)
    if getattr(task, "claim", None) is None:
        what = name_of(function) if callable(function) else repr(function)
        raise TypeError(f"a storm takes a function with @claimed_output, which {what} has not")
    for template in (*function.task.claim.finals, function.task.claim.temp):
        if template is not None and os.path.isabs(template.text):
            raise ValueError(
                f"the template {template.text!r} of {name_of(function)} is absolute, so each round would write to the "
                f"same place; a storm needs one that is relative to the directory that the caller is in"
            )
    return function


def _outputs(job: _Job) -> dict[str, tuple[str, ...]]:
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


# -- what runs in processes of its own ------------------------------------------------------------------------


@dataclass(frozen=True)
class _Told:
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
class _Mapping:
    """A program that maps."""

    job: _Job
    directory: Path
    backend: str | None = None

    def __call__(self, round: int, racer: int) -> _Told:
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
        return _Told(tuple(failures), tuple(discarded), tuple(seconds))


def _is_retried(failure: Failure, retries: tuple[RetryBudget, ...]) -> bool:
    """Whether it may be that the attempts were used up by those who were killed."""
    return budget_of(retries, failure.error) is not None


def _failed(failure: Failure) -> str:
    told = f"item {failure.index}, {short_repr(failure.item)}: {type(failure.error).__name__}: {failure.error}"
    return f"{told}\n{failure.traceback.rstrip()}" if failure.traceback else told


# -- what is right --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Reference:
    """What a run by itself leaves.

    Attributes:
        outputs: those that are made; items that ``@validated`` discards have none.
        digests: of each.
        others: what else it leaves.
        usual, slowest: seconds that items took: the median, and the longest.
        discarded: items that are.
    """

    outputs: Outputs
    digests: dict[str, str]
    others: set[str]
    usual: float
    slowest: float
    discarded: tuple[int, ...]
    problems: list[Problem]
    room: _Room

    @classmethod
    def of(cls, job: _Job, outputs: Outputs, place: Path, options: _Options) -> _Reference:
        """Two runs, one after the other, that must leave the same; raises SerialRunFailed."""
        first = cls._run(job, outputs, _Room(place / "serial-1"), options)
        if options.vary or first.problems:
            return first
        second = cls._run(job, outputs, _Room(place / "serial-2"), options)
        for name, found in first.digests.items():
            if second.digests.get(name) != found:
                raise SerialRunFailed(
                    f"{name_of(job.function)} is not deterministic: the output {name!r} differs between two runs of one "
                    f"process alone, so nothing tells which bytes are right; with vary=True (--vary) outputs are only "
                    f"compared with what their writers wrote"
                )
        return first

    @classmethod
    def _run(cls, job: _Job, outputs: Outputs, room: _Room, options: _Options) -> _Reference:
        options.tell(f"{room.path.name}: {len(outputs)} outputs by one process")
        with Crew(room.log) as crew:
            run = _Mapping(job.recorded(room, options), room.outputs, "inline")
            member = crew.start(crew.program(run, job.function))
            while not member.has_answered and not member.has_ended:
                crew.look()
            crew.look()
            if not member.has_answered:
                how = RacerDied(0, member.pid, member.racer.status() or 0)
                raise SerialRunFailed(f"{name_of(job.function)} ended its process: {how}; {_last_words(room.log)}")
            if member.error is not None:
                raise SerialRunFailed(f"{name_of(job.function)} can't be mapped: {_text(member.error)}") from member.error
            told: _Told = member.value
            if told.failures:
                raise SerialRunFailed(
                    f"{name_of(job.function)} fails with nobody beside it, in {len(told.failures)} of {len(job.items)} "
                    f"items (it runs in another directory than this: are paths absolute?): {told.failures[0]}"
                )
            problems = [Problem("process", f"left by a run of one process: {each}") for each in crew.left(options.patience)]
        made = {key: files for at, (key, files) in enumerate(outputs.items()) if at not in told.discarded}
        found = _found(room.outputs, made)
        verdict = check(read_histories(room.history), found, made, set(found) - set(made))
        problems += verdict.problems
        others = set(found) - set(made)
        digests = {name: found[name] for name in made if name in found}
        usual = statistics.median(told.seconds)
        return cls(made, digests, others, usual, max(told.seconds), told.discarded, problems, room)


def _found(directory: Path, outputs: Outputs) -> dict[str, str]:
    """What there is after ``gc``, by its way from the directory; parts of outputs are told with these."""
    for here, _, _ in os.walk(directory):
        gc(here, now=True)
    parts = {file for key, files in outputs.items() for file in files if file != key}
    listing: dict[str, str] = {}
    for here, folders, files in os.walk(directory):
        for name in (*list(folders), *files):
            path = Path(here, name)
            way = path.relative_to(directory).as_posix()
            if way in outputs:
                listing[way] = digest(*(directory / file for file in outputs[way]))
                if name in folders:
                    folders.remove(name)
            elif way not in parts and name in files:
                listing[way] = digest(path)
    return listing


# -- a round --------------------------------------------------------------------------------------------------


class _Round:
    """One round of a storm.

    Attributes:
        figures: what happened.
        problems: what was wrong.
        seconds: from the first claim to the last output.
    """

    def __init__(
        self, job: _Job, reference: _Reference, room: _Room, options: _Options, seed: str, most: float
    ) -> None:
        self.figures: Counter[str] = Counter(outputs=len(reference.outputs))
        self.problems: list[Problem] = []
        self._job = job.recorded(room, options)
        self._reference = reference
        self._room = room
        self._options = options
        self._seed = seed
        self._most = most
        self.seconds = 0.0
        self._missing = set(reference.outputs)
        self._heard: set[int] = set()
        self._workers: list[int] = []
        self._deaths: set[int] = set()  # of whom the nemesis ended

    def play(self) -> None:
        """Plays it; no process is left."""
        reference, room = self._reference, self._room
        expected = None if self._options.vary else reference.digests
        with Crew(room.log) as crew, Onlooker(room.outputs, reference.outputs, expected) as onlooker:
            if self._play(crew):
                self._play_last(crew)
            if not self.problems:
                self.problems += [
                    Problem("process", f"left over: {each}") for each in crew.left(self._options.patience)
                ]
        self.figures["processes"] = len(crew.members)
        self.figures["looks"] = onlooker.looks
        events = [event for history in read_histories(room.history) for event in history]
        self.figures.update(figures_of(events))
        self.problems += onlooker.problems
        self.problems += self._judged([events])

    def _play(self, crew: Crew) -> bool:
        """The storm; whether the list is complete."""
        program = crew.program(_Mapping(self._job, self._room.outputs), self._job.function)
        gate, start = os.pipe()
        try:
            for _ in range(self._options.processes):
                crew.start(program, gate)
        finally:
            os.close(gate)
        try:
            self._until_all(crew, lambda: all(member.is_ready for member in crew.members), "come to the start")
        finally:
            os.close(start)
        pause = max(_LEAST_PAUSE, 2 * self._reference.usual)
        with Nemesis() as nemesis:
            blows = Blows(nemesis, self._seed, pause, self._options.lease)

            began: list[float] = []

            def step() -> None:
                if not began and any(self._room.history.iterdir()):
                    began.append(time.monotonic())
                self.seconds = time.monotonic() - began[0] if began else 0.0
                if began and self.seconds < self._most:
                    self._strike(crew, nemesis, blows)
                else:
                    nemesis.rest()
                for _ in range(self._options.processes - len(crew.alive())):
                    crew.start(program)

            self._until_all(crew, lambda: not self._missing, "make all outputs", step)
        deeds = Counter(deed.what for deed in nemesis.log)
        self.figures.update(kills=deeds["kill"], stops=deeds["stop"], terms=deeds["terminate"])
        self._until_all(crew, lambda: not crew.alive(), "end when the list is complete")
        return not self.problems

    def _strike(self, crew: Crew, nemesis: Nemesis, blows: Blows) -> None:
        """One step of the nemesis, who is given those it does not know yet: who writes a history is a worker."""
        import psutil

        parents = [member.pid for member in crew.alive()]
        known = {member.pid for member in crew.members}
        for path in self._room.history.iterdir():
            pid = int(path.name.partition("-")[0])
            if pid not in self._heard and pid not in known:
                self._heard.add(pid)
                try:
                    process = psutil.Process(pid)
                    if crew.carries_tag(process):
                        nemesis.give(pid, f"worker {pid}")
                        self._workers.append(pid)
                except (psutil.Error, ProcessLookupError):
                    pass  # it has ended
        for pid in parents:
            if pid not in self._heard:
                try:
                    nemesis.give(pid, f"parent {pid}")
                except ProcessLookupError:
                    continue
                self._heard.add(pid)
        self._workers = [pid for pid in self._workers if psutil.pid_exists(pid)]
        before = len(nemesis.log)
        blows.step([pid for pid in parents if pid in self._heard], self._workers)
        for deed in nemesis.log[before:]:
            if deed.what in ("kill", "terminate"):
                self._deaths.add(int(deed.target.rpartition(" ")[2]))

    def _play_last(self, crew: Crew) -> None:
        """One who comes when all is done must find it done."""
        before = _claims_made(self._room)
        member = crew.start(crew.program(_Mapping(self._job, self._room.outputs), self._job.function))
        self._until_all(crew, lambda: member.has_ended, "find all done")
        made = _claims_made(self._room) - before
        if made:
            told = f"a process that came when all was done claimed {made} outputs"
            self.problems.append(Problem("commits", told))

    def _until_all(
        self, crew: Crew, done: Callable[[], bool], what: str, step: Callable[[], None] = lambda: None
    ) -> None:
        """Looks and steps, until that is so, something is wrong, or nothing goes on any more."""
        patience = self._options.patience + 20 * self._reference.slowest
        heard = [member for member in crew.members if member.has_answered or member.has_ended]
        since, state = time.monotonic(), (len(self._missing), len(crew.alive()))
        while not self.problems and not done():
            crew.look()
            step()
            self._missing -= {name for name in self._missing if os.path.lexists(self._room.outputs / name)}
            self._options.tell(self._line(crew))
            for member in crew.members:
                if member not in heard and (member.has_answered or member.has_ended):
                    heard.append(member)
                    self._hear(member)
            now = len(self._missing), sum(member.is_ready for member in crew.members)
            if now != state and (now[0] != state[0] or not self._missing):
                since, state = time.monotonic(), now
            elif time.monotonic() - since > patience:
                alive = ", ".join(str(member.pid) for member in crew.alive())
                told = f"in {patience:.0f} s they did not {what}; {len(self._missing)} outputs are missing; "
                self.problems.append(Problem("stuck", f"{told}processes that run: {alive or 'none'}"))

    def _hear(self, member: Member) -> None:
        """What one who has ended had to say."""
        if not member.has_answered:
            if member.pid not in self._deaths:
                how = RacerDied(member.racer.number, member.pid, member.racer.status() or 0)
                self.problems.append(Problem("process", f"{how}, which nobody did to it; {_last_words(self._room.log)}"))
        elif member.error is not None:
            self.problems.append(Problem("raised", f"the map of process {member.pid}: {_text(member.error)}"))
        else:
            told: _Told = member.value
            self.problems += [Problem("raised", f"in the storm only: {failure}") for failure in told.failures]
            if told.discarded != self._reference.discarded:
                self.problems.append(Problem("raised", f"other items were discarded: {told.discarded}"))

    def _line(self, crew: Crew) -> str:
        outputs = len(self._reference.outputs)
        return (
            f"{self._room.path.name}: {outputs - len(self._missing)} of {outputs} outputs, "
            f"{len(crew.members)} processes, {len(self._deaths)} ended"
        )

    def _judged(self, histories: list[list[Event]]) -> list[Problem]:
        """What is there in the end, and how it came to be."""
        reference = self._reference
        listing = _found(self._room.outputs, reference.outputs)
        verdict: Verdict = check(histories, listing, reference.outputs, reference.others)
        self.figures["doubts"] += len(verdict.doubts)
        problems = list(verdict.problems)
        if self.problems:  # it was ended before all was there
            problems = [problem for problem in problems if problem.rule not in ("missing", "left over")]
        if not self._options.vary:
            for name in reference.outputs:
                if name in listing and listing[name] != reference.digests[name]:
                    problems.append(Problem("bytes", f"{name!r} differs from that of a serial run", (), (name,)))
        return problems


def _claims_made(room: _Room) -> int:
    events = (event for history in read_histories(room.history) for event in history)
    return sum(event.action == "claim" and event.kind == "ok" for event in events)


def figures_of(events: Iterable[Event]) -> dict[str, int]:
    """What histories tell of takeovers, of owners that came too late, of helpers, and of work done twice."""
    claims: dict[str, set[int]] = {}
    committed: set[str] = set()
    published: set[str] = set()
    fenced = 0
    for event in events:
        if event.action == "claim" and event.kind == "ok":
            claims.setdefault(event.output, set()).add(event.slot)
        elif event.action == "commit":
            committed.add(event.output)
            fenced += event.note == "fenced"
        elif event.action == "publish" and event.kind == "ok":
            published.add(event.output)
    return {
        "takeovers": sum(slot - 1 in slots for slots in claims.values() for slot in slots),
        "fenced": fenced,
        "helped": len(committed - published),
        "recomputed": sum(len(slots) - 1 for slots in claims.values()),
    }


def _last_words(log: Path) -> str:
    words = log.read_text(errors="replace")[-2000:].strip()
    return f"the last words of all:\n{words}" if words else "nobody has printed anything"


def _text(error: BaseException) -> str:
    return "\n".join([f"{type(error).__name__}: {error}", *getattr(error, "__notes__", ())])

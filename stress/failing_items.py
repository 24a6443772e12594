"""Scenario 3: items that fail always, some times or in their results, tried by several processes.

Under ``failed="report"`` the number of calls of each item is known exactly, however many processes share them.
Under ``"retry"`` a process that begins late may reopen failures; what a last process alone does is known again.
"""

from __future__ import annotations

import json
import select
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import tasks
from arena import Arena, Figures, Member, Nemesis, listing, some

import manyhands

DEEDS = {"stop parent": 30, "stop worker": 70}
BOOM = "tasks.Boom"
Told = dict[int, tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Plan:
    """What a round is to come to.

    Attributes:
        mode: ``failed=`` of the function.
        attempts: of its retry budget.
        failures: of each item: how many calls fail first, -1 for all, None if the result is invalid.
    """

    mode: str
    attempts: int
    failures: tuple[int | None, ...]

    @classmethod
    def of(cls, arena: Arena, items: int) -> Plan:
        """By chance."""
        mode, attempts = arena.luck.choice(("report", "retry")), arena.luck.randint(2, 5)
        return cls(mode, attempts, tuple(tasks.planned_failures(arena.seed, n, attempts) for n in range(items)))

    def words(self, number: int) -> str:
        """The item, for a message."""
        failures = self.failures[number]
        return f"item {number}, to fail {failures} times, {self.attempts} attempts, {self.mode!r}"

    def succeeds(self, number: int, calls: int) -> bool:
        """Whether the item has an output after so many calls."""
        failures = self.failures[number]
        return failures is not None and 0 <= failures < calls

    def kind(self, number: int) -> str | None:
        """What the item must come to in everybody's list; None if that depends on who begins when."""
        failures = self.failures[number]
        if failures is None:
            return "discarded"
        if failures == -1:
            return BOOM
        if failures < self.attempts:
            return "value"
        return BOOM if self.mode == "report" else None

    def calls(self, number: int, processes: int) -> tuple[int, int]:
        """How often the item is called by all together, at least and at most."""
        failures = self.failures[number]
        fewest = 1 if failures is None else self.attempts
        if failures is not None and failures >= 0:
            fewest = min(failures + 1, self.attempts)
        if self.mode == "report" or self.kind(number) == "value":
            return fewest, fewest
        most = fewest * processes  # each may reopen what the one before it recorded
        return fewest, min(failures + 1, most) if failures is not None and failures > 0 else most

    def calls_of_last(self, number: int, made: int) -> int:
        """How often a process that comes when all is done calls the item, after ``made`` calls."""
        failures = self.failures[number]
        if self.mode == "report" or self.succeeds(number, made):
            return 0
        if failures is None:
            return 1
        return self.attempts if failures == -1 else min(failures + 1 - made, self.attempts)


def play(arena: Arena, processes: int, items: int) -> Figures:
    """One round; violations go to ``arena.wrong``."""
    outputs, calls = arena.directory / "outputs", arena.directory / "calls"
    outputs.mkdir()
    calls.mkdir()
    plan = Plan.of(arena, items)
    nemesis = Nemesis(arena, DEEDS, (0.05, 0.3))
    arguments = ("failing_process.py", arena.seed, items, plan.attempts, plan.mode)

    told = race(arena, nemesis, [arena.start(*arguments) for _ in range(processes)])
    made = count_calls(calls, items)
    for number in range(items):
        check_answers(arena, plan, number, [answers[number] for answers in told])
        fewest, most = plan.calls(number, processes)
        if not fewest <= made[number] <= most:
            arena.wrong(f"{plan.words(number)}: {made[number]} calls, not {fewest} to {most}")
    shared = sum(len(pids) > 1 for pids in workers_of(arena).values())

    told = race(arena, nemesis, [arena.start(*arguments, spared=True)])
    total = count_calls(calls, items)
    for number in range(items):
        check_last(arena, plan, number, (made[number], total[number]), [answers[number] for answers in told])
    arena.check_nobody_left()
    manyhands.gc(outputs, now=True)
    expected = {f"{number}.txt" for number in range(items) if plan.succeeds(number, total[number])}
    if wrong := sorted(listing(outputs) ^ expected):
        arena.wrong(f"after gc, missing or too many: {some(wrong)}")
    return {
        f"rounds with {plan.mode!r}": 1,
        "items": items,
        "calls": sum(total),
        "never succeed": plan.failures.count(-1),
        "succeed late": sum(failures is not None and failures > 0 for failures in plan.failures),
        "invalid": plan.failures.count(None),
        "tried by several workers": shared,
        "stops": nemesis.figures["stops"],
    }


def race(arena: Arena, nemesis: Nemesis, members: list[Member]) -> list[Told]:
    """Start members together and let them end; what those that did so in order have told."""
    waiting = list(members)

    def all_ready() -> bool:
        for member in list(waiting):
            assert member.popen.stdout is not None
            if not member.alive or select.select([member.popen.stdout], [], [], 0)[0]:
                waiting.remove(member)
        return not waiting

    arena.until(all_ready)
    for member in members:
        if member.alive and member.popen.stdin is not None:
            member.popen.stdin.write("go\n")
            member.popen.stdin.flush()
    try:
        arena.until(lambda: not any(member.alive for member in members), nemesis.step)
    finally:
        nemesis.rest()
    return [
        {index: (kind, text) for index, kind, text in json.loads(member.report.read_text())}
        for member in members
        if arena.finish(member)
    ]


def count_calls(calls: Path, items: int) -> list[int]:
    """How often each item was called up to now, in all processes."""
    sizes = {path.name: path.stat().st_size for path in calls.iterdir()}
    return [sizes.get(str(number), 0) for number in range(items)]


def workers_of(arena: Arena) -> dict[int, set[int]]:
    """Which workers have begun which item."""
    workers: dict[int, set[int]] = defaultdict(set)
    for entry in arena.look():
        workers[entry.item].add(entry.pid)
    return workers


def check_answers(arena: Arena, plan: Plan, number: int, answers: list[tuple[str, str]]) -> None:
    """All processes have the right kind of outcome and, where failures are believed, the very same."""
    kind = plan.kind(number)
    for answer in answers:
        if kind not in {None, answer[0]}:
            arena.wrong(f"{plan.words(number)}: came to {answer}, not {kind}")
    if (plan.mode == "report" or kind == "value") and len(set(answers)) > 1:
        arena.wrong(f"{plan.words(number)}: processes disagree: {sorted(set(answers))}")


def check_last(
    arena: Arena, plan: Plan, number: int, calls: tuple[int, int], answers: list[tuple[str, str]]
) -> None:
    """A process that comes when all is done tries every failure once more, or none."""
    made, total = calls
    expected = plan.calls_of_last(number, made)
    if total - made != expected:
        arena.wrong(f"{plan.words(number)}: {total - made} calls by the last, not {expected}")
    kind = "discarded" if plan.failures[number] is None else BOOM
    if plan.succeeds(number, total):
        kind = "value"
    for answer in answers:
        if answer[0] != kind:
            arena.wrong(f"{plan.words(number)}: came at last to {answer}, not {kind}")

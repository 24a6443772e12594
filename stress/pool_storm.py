"""Scenario 2: one process, map after map with options by chance; items end their workers, so does a nemesis."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any

import tasks
from arena import Arena, Figures, Nemesis, some

DEEDS = {"kill worker": 70, "stop worker": 30}
FIGURES = (
    "items",
    "values",
    "failures",
    "died by themselves",
    "died by the nemesis",
    "blamed before they began",
    "finished and run again",
)
DIED = "manyhands.errors.WorkerDied"


def play(arena: Arena, seconds: float) -> Figures:
    """One round; violations go to ``arena.wrong``."""
    member = arena.start("pool_process.py", arena.seed, seconds)
    nemesis = Nemesis(arena, DEEDS, (0.02, 0.2), longest_stop=0.3)
    try:
        arena.until(lambda: not member.alive, nemesis.step)
    finally:
        nemesis.rest()
    arena.check_nobody_left()
    arena.finish(member)
    lines = member.report.read_text().splitlines() if member.report.exists() else []
    maps = [json.loads(line) for line in lines]
    if not maps:
        arena.wrong("no map was finished")
    checker = Checker(arena, nemesis.killed_workers)
    for told in maps:
        checker.check(told)
    return {"maps": len(maps), **nemesis.figures, **checker.figures}


class Checker:
    """Judges maps by their reports, the journal, and the nemesis' list of whom it has killed."""

    def __init__(self, arena: Arena, killed: set[int]) -> None:
        self.figures: Figures = dict.fromkeys(FIGURES, 0)
        self._arena = arena
        self._killed = killed
        self._blamed: dict[int, str] = {}
        self._begun: dict[tuple[int, int], list[int]] = defaultdict(list)
        self._at: dict[int, tuple[int, int] | None] = {}
        for entry in arena.look():
            item = (entry.scope, entry.item)
            if entry.kind == "b":
                self._begun[item].append(entry.pid)
            self._at[entry.pid] = item if entry.kind == "b" else None

    def check(self, told: dict[str, Any]) -> None:
        """One map."""
        self._map = {key: value for key, value in told.items() if key != "outcomes"}
        outcomes = told["outcomes"]
        indices = [outcome["index"] for outcome in outcomes]
        whole = told["take"] == told["items"]
        expected = list(range(told["take"]))
        if told["ordered"] and indices != expected:
            self._wrong(f"indices out of order: {some(indices)}")
        if len(set(indices)) != told["take"] or (whole and sorted(indices) != expected):
            self._wrong(f"not one outcome for each item: {some(sorted(indices))}")
        if told["more"]:
            self._wrong("more outcomes than items")
        for outcome in outcomes:
            self._check_outcome(outcome, told["attempts"])
        if whole:
            self._check_none_lost(told["map"], outcomes)

    def _check_outcome(self, outcome: dict[str, Any], attempts: int) -> None:
        number = outcome["index"]
        item = (self._map["map"], number)
        self.figures["items"] += 1
        if outcome["item"] != list(item):
            self._wrong(f"item {number}: the outcome has the item {outcome['item']}")
        blamed = deaths(outcome)
        for pid in blamed:
            self._check_blame(item, pid)
        action = tasks.action(self._arena.seed, *item)
        if outcome.get("error") == "WorkerDied":
            self._check_death(number, action, outcome, blamed, attempts)
        else:
            self._check_answer(number, action, outcome)
        answered = list(self._begun[item])
        for pid in blamed:
            if pid in answered:
                answered.remove(pid)
        # What a worker had finished and not told when it died runs again: chunk-mates of what killed it, too.
        mates = self._map["chunksize"] != 1
        for pid in answered[:-1]:
            if not (pid in self._killed or (mates and self._at.get(pid) is not None)):
                self._wrong(f"item {number} ran in {pid}, which nobody has killed, and then again")
            self.figures["finished and run again"] += 1

    def _check_answer(self, number: int, action: str, outcome: dict[str, Any]) -> None:
        """An item that was answered has the value or the failure that was planned for it."""
        match action:
            case "return":
                right = outcome.get("value") == [self._map["map"], number]
            case "raise":
                right = (outcome.get("error"), outcome.get("text")) == ("Boom", f"item {number}")
            case "unpicklable":
                notes = " ".join(outcome.get("notes", ()))
                right = outcome.get("error") == "TypeError" and "can't be sent back" in notes
            case _:
                right = False
        self.figures["values" if "value" in outcome else "failures"] += 1
        if not right:
            self._wrong(f"item {number}, planned to {action}, came to {outcome}")

    def _check_death(
        self, number: int, action: str, outcome: dict[str, Any], blamed: list[int], attempts: int
    ) -> None:
        """An item that failed by its worker's death has no attempt left, and tells how that worker ended."""
        self.figures["failures"] += 1
        if len(blamed) != attempts:
            self._wrong(f"item {number} gave up after {len(blamed)} of {attempts} deaths")
        if not blamed or outcome["pid"] != blamed[-1]:
            self._wrong(f"item {number} names the worker {outcome['pid']}, its attempts say {blamed}")
        status = {"exit": tasks.EXIT_STATUS, "kill": -9}.get(action)
        if outcome["exitcode"] != status and not (outcome["exitcode"] == -9 and outcome["pid"] in self._killed):
            self._wrong(f"item {number}, planned to {action}, says its worker ended with {outcome['exitcode']}")

    def _check_blame(self, item: tuple[int, int], pid: int) -> None:
        """A worker's death is put down to one item: the one it was at."""
        where = f"item {item[1]} of map {item[0]}"
        if pid in self._blamed:
            self._wrong(f"the death of {pid} is put down to {self._blamed[pid]} and to {where}")
        self._blamed[pid] = where
        suicide = tasks.action(self._arena.seed, *item) in ("exit", "kill") and pid in self._begun[item]
        if suicide:
            self.figures["died by themselves"] += 1
        elif pid in self._killed:
            self.figures["died by the nemesis"] += 1
        else:
            self._wrong(f"{where} is said to have died with {pid}, which nobody has killed")
        if pid not in self._begun[item]:
            self.figures["blamed before they began"] += 1
            if self._at.get(pid) is not None:
                self._wrong(f"{where} is blamed for the death of {pid}, which was at {self._at[pid]}")

    def _check_none_lost(self, map_number: int, outcomes: list[dict[str, Any]]) -> None:
        """Whoever was at an item when it died is named in that item's attempts."""
        told = {outcome["index"]: set(deaths(outcome)) for outcome in outcomes}
        for pid, at in self._at.items():
            if at is not None and at[0] == map_number and pid not in told.get(at[1], set()):
                self._wrong(f"{pid} ended while it was at item {at[1]}, whose attempts don't tell")

    def _wrong(self, problem: str) -> None:
        self._arena.wrong(f"{problem} [{self._map}]")


def deaths(outcome: dict[str, Any]) -> list[int]:
    """The workers whose deaths ended attempts of the item."""
    return [int(worker.rpartition(":")[2]) for name, worker in outcome["attempts"] if name == DIED]

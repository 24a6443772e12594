"""Scenario 1: processes race on one shared directory over the same list, while some are killed and stopped."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

import tasks
from arena import Arena, Figures, Member, Nemesis, listing, some
from judging import end_state, repeated

import manyhands

DEEDS = {"kill parent": 6, "orphan stopped worker": 4, "kill worker": 50, "stop parent": 15, "stop worker": 25}
MOST_STARTS = 200


def play(arena: Arena, processes: int, items: int) -> Figures:
    """One round; violations go to ``arena.wrong``."""
    outputs = arena.directory / "outputs"
    outputs.mkdir()
    for marks in ("stumbled", "trapped"):
        (arena.directory / marks).mkdir()
    names = [tasks.output_name(number) for number in range(items)]
    reader = arena.start("reader.py", arena.seed, items, spared=True)
    nemesis = Nemesis(arena, DEEDS, (0.02, 0.2))

    trapped = Trapped(arena)

    def racers() -> list[Member]:
        return [member for member in arena.members if member is not reader]

    def each() -> None:
        nemesis.step()
        trapped.step()
        for _ in range(processes - sum(member.alive for member in racers())):
            if len(arena.members) < MOST_STARTS:
                arena.start("claims_process.py", arena.seed, items)

    try:
        arena.until(lambda: set(names) <= listing(outputs), each)
    finally:
        nemesis.rest()
    arena.start("claims_process.py", arena.seed, items)  # comes when all is done; there is a survivor then
    arena.until(lambda: not any(member.alive for member in racers()))
    assert reader.popen.stdin is not None
    reader.popen.stdin.close()
    arena.until(lambda: not reader.alive)
    arena.check_orphans(wait=True)
    arena.check_nobody_left()

    survivors = check_survivors(arena, racers(), [str(outputs / name) for name in names])
    looks = check_reader(arena, reader)
    left = len(listing(outputs)) - items
    manyhands.gc(outputs, now=True)
    check_outputs(arena, outputs, names)
    return {
        "outputs": items,
        "processes": len(racers()),
        "survivors": survivors,
        "parents killed": sum(member.killed for member in racers()),
        **nemesis.figures,
        "trapped workers orphaned": trapped.orphaned,
        **check_journal(arena, nemesis.killed_workers, items),
        "reader's looks": looks,
        "left for gc": left,
    }


class Trapped:
    """Kills the parents of workers that would never end by themselves, and the parents only."""

    def __init__(self, arena: Arena) -> None:
        self.orphaned = 0
        self._arena = arena
        self._read = 0

    def step(self) -> None:
        """Look for who is newly in a trap."""
        entries = self._arena.look()
        new, self._read = entries[self._read :], len(entries)
        for entry in new:
            member = self._arena.members[entry.scope]
            if entry.kind == "t" and member.alive and member.in_danger:
                self.orphaned += any(process.pid == entry.pid for process in self._arena.workers(member))
                self._arena.kill_parent(member)


def check_survivors(arena: Arena, racers: list[Member], expected: list[str]) -> int:
    """Whoever was not killed has returned the whole list in order; returns how many they are."""
    survivors = [member for member in racers if arena.finish(member)]
    for member in survivors:
        if json.loads(member.report.read_text()) != expected:
            arena.wrong(f"member {member.number} did not return the whole list in order")
    if not survivors:
        arena.wrong("nobody survived")
    return len(survivors)


def check_reader(arena: Arena, reader: Member) -> int:
    """No reader has seen a torn or a replaced output; returns how often it has looked."""
    if not arena.finish(reader):
        return 0
    told = json.loads(reader.report.read_text())
    arena.problems.extend(told["wrong"])
    return int(told["looks"])


def check_outputs(arena: Arena, outputs: Path, names: list[str]) -> None:
    """The directory holds every output, as a serial run writes it, and nothing else."""
    serial = arena.directory / "serial"
    serial.mkdir()
    found = listing(outputs)
    for number, name in enumerate(names):
        tasks.write_output(arena.seed, number, serial / name, hurried=True)
    state = end_state(
        {name: (serial / name).read_bytes() for name in names},
        {name: (outputs / name).read_bytes() for name in found & set(names)},
    )
    for name in state.differing:
        arena.wrong(f"the output {name!r} differs from the serial run's")
    if state.missing:
        arena.wrong(f"outputs missing: {some(state.missing)}")
    if surplus := sorted(found - set(names)):
        arena.wrong(f"left after gc: {some(surplus)}")


def check_journal(arena: Arena, killed_workers: set[int], items: int) -> Figures:
    """Only the death of who was at an item is a reason to compute it again."""
    killed_members = {member.number for member in arena.members if member.killed}
    calls: dict[int, list[tasks.Entry]] = defaultdict(list)
    stumbles = 0
    for entry in arena.look():
        if entry.kind == "b":
            calls[entry.item].append(entry)
        stumbles += entry.kind == "f"

    def is_killed(entry: tasks.Entry) -> bool:
        return entry.scope in killed_members or entry.pid in killed_workers

    for item, times in repeated(arena.entries, is_killed).items():
        arena.wrong(f"item {item} was computed {times} times by processes that nobody killed")
    computed = sum(map(len, calls.values()))
    if computed < items:
        arena.wrong(f"only {len(calls)} of {items} items were ever computed")
    again = computed - items - stumbles
    taken_over = sum(len({entry.pid for entry in begun}) > 1 for begun in calls.values())
    return {"planned errors": stumbles, "computed again": again, "items of several workers": taken_over}

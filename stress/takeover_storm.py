"""Scenario 5: many processes, short leases, no mercy: claims are taken over all the time, also from the living.

The processes work on ``manyhands.claims`` itself and write histories, which a checker judges that shares no code with
it. They may be spread over several machines, made of namespaces, which can be lost as a whole.
"""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Final

import psutil
import tasks
from arena import Arena, Figures, Member, ended, listing, some
from hosts import Host

import manyhands
from manyhands import testing

LEASE_SECONDS: Final = 0.1
PAUSE_SECONDS: Final = (0.4, 4.0)
"""From one deed to the next, for each process that there is."""
STOP_SECONDS: Final = (0.05, 2.0)
ROUND_SECONDS: Final = 900.0
DEEDS: Final = {"kill": 6, "stop": 60, "lose host": 2}
DOUBLED: Final = ("slots", "commits", "publications")
"""What the checker calls it if two have one claim, or one output is decided or published twice."""


def play(arena: Arena, processes: int, items: int, hosts: int) -> Figures:
    """One round on so many hosts, 0 for this machine as it is; violations go to ``arena.wrong``."""
    arena.seconds = ROUND_SECONDS
    outputs = arena.directory / "outputs"
    outputs.mkdir()
    names = [tasks.output_name(number) for number in range(items)]
    reader = arena.start("reader.py", arena.seed, items, "signed", spared=True)
    crowd = Crowd(arena, items, hosts)
    nemesis = Nemesis(arena, crowd, processes)

    def each() -> None:
        nemesis.step()
        crowd.grow(processes)

    try:
        arena.until(lambda: set(names) <= listing(outputs), each)
        crowd.start()  # comes when all is done; there is a survivor then
        arena.until(lambda: not any(member.alive for member in crowd.members), nemesis.rest)
    finally:
        nemesis.rest()
        crowd.close()
    assert reader.popen.stdin is not None
    reader.popen.stdin.close()
    arena.until(lambda: not reader.alive)
    arena.check_nobody_left()
    survivors = sum(arena.finish(member) for member in crowd.members)
    if not survivors:
        arena.wrong("nobody survived")
    left = len(listing(outputs)) - items
    manyhands.gc(outputs, now=True)
    happened = Counter(entry.kind for entry in arena.look())
    return {
        "outputs": items,
        "processes": len(crowd.members),
        "survivors": survivors,
        "kills": nemesis.figures["kill"],
        "stops": nemesis.figures["stop"],
        "hosts lost": nemesis.figures["lose host"],
        "takeovers": happened["takeover"],
        "fenced": happened["fenced"],
        "helped": happened["helped"],
        **check_reader(arena, reader),
        "left for gc": left,
        **check(arena, outputs, names),
    }


class Crowd:
    """The processes that work, and the hosts that they are on."""

    def __init__(self, arena: Arena, items: int, hosts: int) -> None:
        self.members: list[Member] = []
        self._arena = arena
        self._items = items
        self._names = 0
        self._hosts: list[Host] = [self._new_host() for _ in range(hosts)]
        self._at: dict[int, Host] = {}

    def start(self) -> None:
        """One more, on the next host."""
        host = self._hosts[len(self.members) % len(self._hosts)] if self._hosts else None
        arguments = (self._arena.seed, self._items, LEASE_SECONDS)
        member = self._arena.start("takeover_process.py", *arguments, host=host)
        self.members.append(member)
        if host is not None:
            self._at[member.number] = host

    def grow(self, processes: int) -> None:
        """As many as there should be."""
        for _ in range(processes - sum(member.alive for member in self.members)):
            self.start()

    def worker(self, member: Member) -> psutil.Process | None:
        """The process itself: on a host it is behind the one that was started; None if it can't be seen."""
        if member.number not in self._at:
            return member.process
        try:
            return next(iter(member.process.children()), None)
        except psutil.Error:
            return None

    def lose(self, luck: random.Random) -> bool:
        """A host is gone, with all that is on it, and another comes; False: there is none."""
        if not self._hosts:
            return False
        host = self._hosts.pop(luck.randrange(len(self._hosts)))
        for member in self.members:
            if self._at.get(member.number) is host and member.alive:
                member.killed = True
        host.lose()
        self._hosts.append(self._new_host())
        return True

    def close(self) -> None:
        """All hosts go."""
        while self._hosts:
            self._hosts.pop().lose()

    def _new_host(self) -> Host:
        self._names += 1
        return Host(f"host{self._names}", self._arena.directory, self._arena.environment)


class Nemesis:
    """Kills processes, stops them for longer than their leases, and loses hosts."""

    def __init__(self, arena: Arena, crowd: Crowd, processes: int) -> None:
        self.figures: Counter[str] = Counter()
        self._crowd = crowd
        self._processes = processes
        self._luck = arena.luck
        self._next = time.monotonic()
        self._stopped: list[tuple[float, psutil.Process]] = []
        self._arena = arena
        self._read = 0

    def step(self) -> None:
        """Do what is due."""
        now = time.monotonic()
        self._find(now)
        self._release(now)
        if now < self._next:
            return
        self._next = now + self._luck.uniform(*PAUSE_SECONDS) / self._processes
        deed = self._luck.choices(list(DEEDS), list(DEEDS.values()))[0]
        if deed == "lose host":
            self.figures[deed] += self._crowd.lose(self._luck)
            return
        alive = [member for member in self._crowd.members if member.alive and not member.killed]
        member = self._luck.choice(alive) if alive else None
        process = self._crowd.worker(member) if member else None
        if member is None or process is None:
            return
        if deed == "kill":
            member.killed = True  # before: whoever sees it dead must find it here
            self.figures[deed] += _signal(process.kill)
        elif _signal(process.suspend):
            self._stopped.append((now + self._luck.uniform(*STOP_SECONDS), process))
            self.figures[deed] += 1

    def rest(self) -> None:
        """Continue all who stand still; only those will from now on who stop themselves."""
        self._find(0.0)
        self._stopped = [(0.0, process) for _, process in self._stopped]
        self._release(0.0)

    def _find(self, now: float) -> None:
        """Those who have stopped themselves."""
        entries = self._arena.look()
        new, self._read = entries[self._read :], len(entries)
        for entry in new:
            if entry.kind == "stands" and (process := self._crowd.worker(self._arena.members[entry.scope])):
                self._stopped.append((now + self._luck.uniform(*STOP_SECONDS), process))
                self.figures["stop"] += 1

    def _release(self, now: float) -> None:
        waiting = []
        for due, process in self._stopped:
            if due > now or not (
                is_still(process) or ended(process)
            ):  # who is about to stop must not miss this
                waiting.append((due, process))
            else:
                _signal(process.resume)
        self._stopped = waiting


def is_still(process: psutil.Process) -> bool:
    """Whether it has been stopped."""
    try:
        return bool(process.status() == psutil.STATUS_STOPPED)
    except psutil.Error:
        return False


def _signal(send: Callable[[], object]) -> bool:
    """Whether there was somebody to get it."""
    try:
        send()
    except psutil.Error:
        return False
    return True


def check_reader(arena: Arena, reader: Member) -> Figures:
    """No reader has seen a torn or a replaced output; how often it has looked."""
    if not arena.finish(reader):
        return {}
    told = json.loads(reader.report.read_text())
    arena.problems.extend(told["wrong"])
    return {"reader's looks": int(told["looks"])}


def check(arena: Arena, outputs: Path, names: list[str]) -> Figures:
    """The directory holds every output, whole and of one writer, and nothing else; the histories agree."""
    found = listing(outputs)
    missing, littered = sorted(set(names) - found), sorted(found - set(names))
    torn = [
        name
        for number, name in enumerate(names)
        if name in found and not tasks.is_signed(arena.seed, number, (outputs / name).read_bytes())
    ]
    histories = testing.read_histories(arena.directory / "history")
    verdict = testing.check(histories, testing.listing(outputs), names)
    doubled = {
        event.output for problem in verdict.problems if problem.rule in DOUBLED for event in problem.events
    }
    for what, which in (("missing", missing), ("torn", torn), ("left after gc", littered)):
        if which:
            arena.wrong(f"{what}: {some(which)}")
    for problem in verdict.problems:
        arena.wrong(str(problem))
    return {
        "events": sum(map(len, histories)),
        "missing": len(missing),
        "torn": len(torn),
        "doubled": len(doubled),
        "littered": len(littered),
    }

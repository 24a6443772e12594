"""The scenes of the controls: what happens to the processes of a contestant, and what is counted in the end."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import psutil
from arena import Arena, Figures, Member, Nemesis, describe, some
from claims_storm import Trapped
from judging import repeated

import manyhands.testing
from controls.contestant import OUTPUTS, Contestant, Job
from controls.small_disk import small_disk

LEASE: Final = 2.0
"""Seconds, in scenes in which owners fall silent."""

HOLD_SECONDS: Final = 5 * LEASE
"""For how long owners stay stopped after the others have come to the end of what they can do."""

FULL_SECONDS: Final = 10.0
"""How long the disk stays full, if not all have ended for that before."""

WAIT_SECONDS: Final = 45.0
"""After so long without anything new in the journal, who has not ended is taken to wait for ever."""

OTHER_HOST: Final = (
    *("unshare", "--uts", "--pid", "--mount-proc", "--fork", "--kill-child"),
    *("sh", "-c", 'hostname elsewhere && exec "$@"', "sh"),
)
"""The command by which another runs on a machine of its own, as far as names and process ids tell."""

COLUMNS: Final = (
    *("outputs", "processes", "killed", "stopped", "missing meanwhile", "missing", "missing after its remedy"),
    *("torn when seen", "torn in the end", "computed twice", "replaced", "stood waiting", "crashed", "left"),
)

BROKEN: Final = ("missing", "torn when seen", "torn in the end", "replaced", "stood waiting", "crashed", "left")
"""What the library promises to have none of, whatever happens."""


@dataclass
class Stage:
    """One scene with one contestant."""

    arena: Arena
    contestant: Contestant
    job: Job
    processes: int
    kills: int

    def __post_init__(self) -> None:
        self.figures = dict.fromkeys(COLUMNS, 0)
        self.figures["outputs"] = self.job.items
        self.workers: list[Member] = []
        self.left: list[str] = []
        self.waiting: set[int] = set()
        self.nemesis: Nemesis | None = None
        (self.arena.directory / "interrupted").mkdir()
        (self.arena.directory / OUTPUTS).mkdir()

    # -- processes ------------------------------------------------------------------------------------------------

    def enter(self, number: int, spared: bool = False, prefix: Sequence[str] = ()) -> list[Member]:
        """Let so many processes begin, together."""
        members = [self._start("work", spared, prefix) for _ in range(number)]
        self.workers += members
        for member in members:
            assert member.popen.stdout is not None
            member.popen.stdout.readline()
        for member in members:
            self._tell(member)
        return members

    def act(self, deed: str) -> Member:
        """Let a process do one deed, and wait for its end."""
        member = self._start(deed, True, ())
        self._tell(member)
        self.arena.until(lambda: not member.alive)
        return member

    def settle(self, each: Callable[[], None] | None = None) -> None:
        """Wait for the end of all who work, doing ``each`` meanwhile; who waits for ever is counted, and ended."""
        is_quiet = self.quiet_for(WAIT_SECONDS)
        self.arena.until(lambda: not self.alive or is_quiet(), each)
        for member in self.alive:
            self.figures["stood waiting"] += 1
            self._ask_why(member)
            self.waiting.add(member.number)
            self.arena.kill_parent(member)
        self.arena.until(lambda: not self.alive)

    def _ask_why(self, member: Member) -> None:
        """Print what a process that waits for ever is at, and what it has started."""
        for process in self.arena.descendants(member):
            print(f"waiting: {describe(process)}")
        member.popen.send_signal(signal.SIGCONT)
        member.popen.send_signal(signal.SIGUSR1)
        time.sleep(1.0)  # for the threads' tracebacks, which nothing announces
        print(f"waiting: member {member.number} of {self.contestant.name}\n{member.last_words()}", flush=True)

    def quiet_for(self, seconds: float) -> Callable[[], bool]:
        """Whether the journal, looked at again and again, has got nothing new for so long."""
        since, heard = time.monotonic(), -1

        def is_quiet() -> bool:
            nonlocal since, heard
            if (entries := len(self.arena.look())) != heard:
                since, heard = time.monotonic(), entries
            return time.monotonic() - since > seconds

        return is_quiet

    @property
    def alive(self) -> list[Member]:
        """Those who work, or are stopped."""
        return [member for member in self.workers if member.alive]

    def _start(self, deed: str, spared: bool, prefix: Sequence[str]) -> Member:
        return self.arena.start(
            "control_process.py",
            self.contestant.name,
            self.job.to_json(),
            deed,
            spared=spared,
            prefix=prefix,
        )

    @staticmethod
    def _tell(member: Member) -> None:
        assert member.popen.stdin is not None
        member.popen.stdin.write("go\n")
        member.popen.stdin.flush()

    # -- the end --------------------------------------------------------------------------------------------------

    def judge(self) -> dict[str, list[str]]:
        """What there is now."""
        member = self.act("judge")
        told: dict[str, list[str]] = json.loads(member.report.read_text())
        return told

    def count(self, figure: str, number: int) -> None:
        """Add to a figure."""
        self.figures[figure] += number


@contextmanager
def watched(stage: Stage) -> Iterator[None]:
    """A reader looks all the time, until the end of the block; then what it has seen is counted."""
    arena, job = stage.arena, stage.job
    reader = arena.start("reader.py", job.seed, job.items, stage.contestant.name, spared=True)
    yield
    assert reader.popen.stdin is not None
    reader.popen.stdin.close()
    arena.until(lambda: not reader.alive)
    if arena.finish(reader):
        kinds = json.loads(reader.report.read_text())["kinds"]
        stage.count("torn when seen", len(kinds.get("torn", ())))
        stage.count("replaced", len(kinds.get("replaced", ())))


def play(
    arena: Arena, contestant: Contestant, scene: str, items: int, processes: int, kills: int
) -> Figures | None:
    """One scene; None if it can't be played here."""
    stage = Stage(arena, contestant, replace(JOBS[scene], seed=arena.seed, items=items), processes, kills)
    with DISKS.get(scene, any_disk)(arena.directory / OUTPUTS) as is_there:
        if not is_there:
            return None
        with watched(stage):
            is_played = SCENES[scene](stage)
    if stage.left:
        print(f"left by {contestant.name}: {some(stage.left)}")
    return stage.figures if is_played else None


@contextmanager
def any_disk(_: Path) -> Iterator[bool]:
    """The one that the directory is on."""
    yield True


def conclude(stage: Stage, is_judging_repeats: bool = True) -> bool:
    """One more process comes when all is quiet; then the remedy, if it is needed; then cleaning up, and counting."""
    arena, figures = stage.arena, stage.figures
    stage.enter(1, spared=True)
    stage.settle()
    state = stage.judge()
    figures["missing"] = figures["missing after its remedy"] = len(state["missing"])
    if state["missing"] and stage.contestant.remedy:
        stage.act("heal")
        stage.enter(1, spared=True)
        stage.settle()
        figures["missing after its remedy"] = len(stage.judge()["missing"])
    stage.act("clean")
    state = stage.judge()
    figures["torn in the end"], figures["left"] = len(state["torn"]), len(state["left"])
    stage.left = state["left"]
    figures["processes"] = len(stage.workers)
    killed = {member.number for member in arena.members if member.killed}
    workers: set[int] = set()
    if stage.nemesis is not None:
        workers = stage.nemesis.killed_workers
        stage.count("stopped", stage.nemesis.figures["stops"])
    figures["killed"] = len(killed - stage.waiting) + len(workers)
    if is_judging_repeats:
        figures["computed twice"] = len(
            repeated(arena.look(), lambda entry: entry.scope in killed or entry.pid in workers)
        )
        figures["crashed"] = sum(not member.killed and member.popen.returncode != 0 for member in stage.workers)
    return True


# -- the scenes -------------------------------------------------------------------------------------------------


def race(stage: Stage) -> bool:
    """All begin together, on outputs that take no time; nobody is disturbed."""
    stage.enter(stage.processes)
    stage.settle()
    return conclude(stage)


def kill(stage: Stage) -> bool:
    """Processes are killed and stopped, at random and where an output is nearly written; others replace them."""
    nemesis = stage.nemesis = Nemesis(stage.arena, stage.contestant.deeds, (0.05, 0.25))
    trapped = Trapped(stage.arena)
    stage.enter(stage.processes)

    def killed() -> int:
        return sum(member.killed for member in stage.workers) + len(nemesis.killed_workers)

    def each() -> None:
        trapped.step()
        if killed() < stage.kills:
            nemesis.step()
        else:
            nemesis.rest()  # of who is stopped, nobody stays so
        gone = sum(member.killed for member in stage.workers)
        if (absent := stage.processes + gone - len(stage.workers)) > 0:
            stage.enter(absent)

    stage.settle(each)
    nemesis.rest()
    return conclude(stage)


def stop(stage: Stage) -> bool:
    """Three owners stop when their output is nearly written, for longer than any lease, and go on."""
    stage.enter(stage.processes)
    arena = stage.arena
    is_quiet = stage.quiet_for(HOLD_SECONDS)

    def stopped() -> int:
        return sum(entry.kind == "s" for entry in arena.look())

    def continue_all() -> None:
        for process in arena.tagged():
            with suppress(psutil.NoSuchProcess):
                if process.status() == psutil.STATUS_STOPPED:
                    process.send_signal(signal.SIGCONT)

    arena.until(lambda: is_quiet() and stopped() > 0)
    stage.count("missing meanwhile", len(stage.judge()["missing"]))
    stage.settle(continue_all)
    stage.count("stopped", stopped())
    return conclude(stage)


def full(stage: Stage) -> bool:
    """The disk is full for a while; processes that end for that are started again when there is room."""
    arena = stage.arena
    outputs = arena.directory / OUTPUTS
    stage.enter(stage.processes)
    arena.until(lambda: len(arena.look()) > stage.job.items // 2)
    with manyhands.testing.Nemesis(arena.seed) as nemesis:
        nemesis.fill(outputs)
        filled = time.monotonic()
        arena.until(lambda: not stage.alive or time.monotonic() - filled > FULL_SECONDS)
    stage.settle()
    stage.enter(stage.processes)
    stage.settle()
    return conclude(stage, is_judging_repeats=False)


def vanish(stage: Stage) -> bool:
    """Three machines vanish, one after the other, each with a process whose output is nearly written."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return False
    for vanished in range(JOBS["vanish"].interrupts):
        (member,) = stage.enter(1, prefix=OTHER_HOST)

        def is_due(member: Member = member, vanished: int = vanished) -> bool:
            trapped = sum(entry.kind == "t" for entry in stage.arena.look())
            return trapped > vanished or not member.alive

        stage.arena.until(is_due)
        stage.arena.kill_parent(member)
    stage.enter(stage.processes)
    stage.settle()
    return conclude(stage)


SCENES: Final[dict[str, Callable[[Stage], bool]]] = {
    "race": race,
    "kill": kill,
    "stop": stop,
    "full": full,
    "vanish": vanish,
}

JOBS: Final = {
    "race": Job(0, 0, hurried=True),
    "kill": Job(0, 0, "trap", 1000),
    "stop": Job(0, 0, "hold", 3, lease=LEASE),
    "full": Job(0, 0),
    "vanish": Job(0, 0, "trap", 3, lease=LEASE),
}

DISKS: Final = {"full": small_disk}

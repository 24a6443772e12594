"""The room of one round: its directory, its processes, its nemesis, and what was found wrong.

Every process of a round carries the round's tag in its environment, as everything does that it starts. So what
is left over is found without asking the library.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import tasks

if TYPE_CHECKING:
    from hosts import Host

VANISH_SECONDS = 20.0
"""How long processes may take to vanish after their parent was killed, on a busy machine."""

TICK_SECONDS = 0.02

Figures = dict[str, int]


class Stuck(Exception):
    """A round did not get done in its time."""


@dataclass
class Member:
    """A process that the round has started.

    Attributes:
        spared: the nemesis leaves it alone.
        killed: the nemesis has ended it.
        number_of_room: in which of several rooms it is, where there are several.
    """

    number: int
    popen: subprocess.Popen[str]
    process: psutil.Process
    report: Path
    errors: Path
    spared: bool
    killed: bool = False
    number_of_room: int = 0

    @property
    def in_danger(self) -> bool:
        """Whether the nemesis may do something to it."""
        return not (self.killed or self.spared)

    @property
    def alive(self) -> bool:
        """Whether it runs, or is stopped."""
        return self.popen.poll() is None

    def last_words(self) -> str:
        """The end of what it wrote to its standard error."""
        return self.errors.read_text(errors="replace")[-3000:]


@dataclass
class Arena:
    """One round. Close it: that ends its processes and removes its directory.

    Args:
        name: of the scenario and the round.
        seed: all chance in the round comes from it; the moments also depend on the machine.
        seconds: after so long the round is given up.
        parent: where its directory is made; None: where the system has temporary ones.
    """

    name: str
    seed: int
    seconds: float = 120.0
    parent: Path | None = None
    problems: list[str] = field(default_factory=list)
    members: list[Member] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="manyhands-stress-", dir=self.parent))
        self.journal = self.directory / tasks.JOURNAL
        self.tag = uuid.uuid4().hex
        self.luck = tasks.luck(self.seed, "nemesis")
        self.began = time.monotonic()
        self._born = time.time() - 5.0
        self._orphans: list[tuple[float, int, list[psutil.Process]]] = []
        self._read = 0
        self._unfinished_line = ""
        self.entries: list[tasks.Entry] = []

    # -- processes ------------------------------------------------------------------------------------------

    @property
    def environment(self) -> dict[str, str]:
        """Of everything that the round starts, so that it can be found."""
        return {**os.environ, tasks.TAG: self.tag}

    def start(
        self,
        script: str,
        *arguments: object,
        spared: bool = False,
        prefix: Sequence[str] = (),
        host: Host | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> Member:
        """Start one of the scripts beside this file, in the round's directory, or where ``prefix`` leads it.

        ``host`` is the machine to do it on.
        """
        number = len(self.members)
        errors = self.directory / f"stderr-{number}"
        report = self.directory / f"report-{number}"
        variables = {**self.environment, **(environment or {}), tasks.MEMBER: str(number)}
        command = [sys.executable, str(Path(__file__).with_name(script)), str(report), *map(str, arguments)]
        with open(errors, "wb") as stderr:
            popen = subprocess.Popen(
                [*prefix, *(command if host is None else host.command(command))],
                cwd=self.directory,
                env=variables,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
            )
        member = Member(number, popen, psutil.Process(popen.pid), report, errors, spared)
        self.members.append(member)
        return member

    def tagged(self) -> list[psutil.Process]:
        """The processes that carry the round's tag and have not ended."""
        found = []
        for process in psutil.process_iter():
            try:
                if (
                    process.create_time() >= self._born
                    and process.environ().get(tasks.TAG) == self.tag
                    and not ended(process)
                ):
                    found.append(process)
            except (psutil.Error, OSError):
                pass
        return found

    def descendants(self, member: Member) -> list[psutil.Process]:
        """What a member has started, and what that has started."""
        try:
            return member.process.children(recursive=True)
        except psutil.Error:
            return []

    def workers(self, member: Member) -> list[psutil.Process]:
        """Those of its workers that have begun an item at any time."""
        begun = {entry.pid for entry in self.look()}
        found = [process for process in self.descendants(member) if process.pid in begun and not ended(process)]
        return sorted(found, key=lambda process: process.pid)

    def kill_parent(self, member: Member) -> None:
        """SIGKILL to a member alone; that its workers vanish is then for the library to see to."""
        orphans = self.descendants(member)
        member.killed = True
        member.popen.send_signal(signal.SIGKILL)
        self._orphans.append((time.monotonic() + VANISH_SECONDS, member.number, orphans))

    def check_orphans(self, wait: bool = False) -> None:
        """Find fault with orphans that outlive their parent for too long."""
        while self._orphans:
            for group in list(self._orphans):
                deadline, number, orphans = group
                left = [process for process in orphans if not ended(process)]
                if left and time.monotonic() < deadline:
                    continue
                self._orphans.remove(group)
                for process in left:
                    self.wrong(f"{describe(process)}: outlived its parent, member {number}")
            if not wait:
                return
            time.sleep(TICK_SECONDS)

    def check_nobody_left(self) -> None:
        """Find fault with any process of the round that is still there, after some patience."""
        deadline = time.monotonic() + VANISH_SECONDS
        while (left := self.tagged()) and time.monotonic() < deadline:
            for member in self.members:
                member.popen.poll()
            time.sleep(TICK_SECONDS)
        for process in left:
            self.wrong(f"left over: {describe(process)}")

    # -- what happened --------------------------------------------------------------------------------------

    def look(self) -> list[tasks.Entry]:
        """The journal up to now."""
        if self.journal.exists():
            with open(self.journal) as file:
                file.seek(self._read)
                text = self._unfinished_line + file.read()
                self._read = file.tell()
            whole, _, self._unfinished_line = text.rpartition("\n")
            self.entries.extend(tasks.entries(whole))
        return self.entries

    def wrong(self, problem: str) -> None:
        """Note a violation."""
        self.problems.append(problem)

    def until(
        self, done: Callable[[], bool], each: Callable[[], None] | None = None, tick: float = TICK_SECONDS
    ) -> None:
        """Every ``tick`` seconds do ``each``, until ``done``.

        Raises:
            Stuck: the round's time is over; what the members' threads were at is among the problems.
        """
        while not done():
            if time.monotonic() - self.began > self.seconds:
                self._dump()
                raise Stuck(f"not done after {self.seconds:.0f} s")
            if each is not None:
                each()
            self.check_orphans()
            time.sleep(tick)

    def finish(self, member: Member) -> bool:
        """Whether a member has ended in order; if not, and it was not killed, finds fault with it."""
        if member.killed:
            return False
        if member.popen.returncode != 0:
            self.wrong(f"member {member.number} ended with {member.popen.returncode}:\n{member.last_words()}")
            return False
        return True

    def _dump(self) -> None:
        alive = [member for member in self.members if member.alive]
        for process in self.tagged():
            self.wrong(f"still there: {describe(process)}")
        for member in alive:
            member.popen.send_signal(signal.SIGCONT)
            member.popen.send_signal(signal.SIGUSR1)
        time.sleep(1.0)  # for the threads' tracebacks, which nothing announces
        for member in alive:
            self.wrong(f"member {member.number} was at:\n{member.last_words()}")

    # -- the end --------------------------------------------------------------------------------------------

    def close(self, keep: bool) -> None:
        """End what is left of the round's own processes; remove the directory."""
        self.end_members()
        if not keep:
            shutil.rmtree(self.directory, ignore_errors=True)

    def end_members(self) -> None:
        """End what is left of the round's own processes, each by its id."""
        for member in self.members:
            if member.alive:
                member.popen.kill()
            member.popen.wait()
            for pipe in (member.popen.stdin, member.popen.stdout):
                if pipe is not None:
                    try:
                        pipe.close()
                    except OSError:
                        pass  # what was not yet written to somebody who was killed
        for process in self.tagged():
            try:
                process.kill()
            except psutil.Error:
                pass


class Nemesis:
    """Kills, stops and continues a round's processes at random moments.

    Args:
        arena: the round.
        deeds: how often it does what, as weights: "kill parent", "kill worker", "stop parent", "stop worker"
            and "orphan stopped worker", which stops a worker for good and kills its parent.
        pause: seconds from one deed to the next, at least and at most.
        longest_stop: seconds for which a process is stopped at most.
    """

    def __init__(
        self, arena: Arena, deeds: dict[str, int], pause: tuple[float, float], longest_stop: float = 0.8
    ) -> None:
        self.killed_workers: set[int] = set()
        self.figures: Counter[str] = Counter()
        self._arena = arena
        self._deeds = deeds
        self._pause = pause
        self._longest_stop = longest_stop
        self._luck: random.Random = arena.luck
        self._next = time.monotonic() + self._luck.uniform(*pause)
        self._stopped: list[tuple[float, psutil.Process]] = []

    def step(self) -> None:
        """Do what is due."""
        now = time.monotonic()
        self._release(now)
        if now < self._next:
            return
        self._next = now + self._luck.uniform(*self._pause)
        deed = self._luck.choices(list(self._deeds), list(self._deeds.values()))[0]
        members = [member for member in self._arena.members if member.alive and member.in_danger]
        self._luck.shuffle(members)
        if "worker" not in deed:
            for member in members[:1]:
                self._do_to_parent(deed, member, now)
            return
        for member in members:
            if workers := self._arena.workers(member):
                self._do_to_worker(deed, member, self._luck.choice(workers), now)
                return

    def rest(self) -> None:
        """Continue whom it has stopped."""
        self._release(float("inf"))

    def _do_to_parent(self, deed: str, member: Member, now: float) -> None:
        if deed == "stop parent":
            self._stop(member.process, now)
        else:
            self._arena.kill_parent(member)

    def _do_to_worker(self, deed: str, member: Member, worker: psutil.Process, now: float) -> None:
        if deed == "kill worker":
            self._kill(worker)
        elif deed == "stop worker":
            self._stop(worker, now)
        elif self._signal(worker, signal.SIGSTOP):  # for ever: it can't notice its parent's death by itself
            self.figures["stops"] += 1
            self._do_to_parent("kill parent", member, now)

    def _kill(self, process: psutil.Process) -> None:
        self.killed_workers.add(process.pid)  # before: whoever sees it dead must find it here
        if self._signal(process, signal.SIGKILL):
            self.figures["workers killed"] += 1

    def _stop(self, process: psutil.Process, now: float) -> None:
        if self._signal(process, signal.SIGSTOP):
            self._stopped.append((now + self._luck.uniform(0.02, self._longest_stop), process))
            self.figures["stops"] += 1

    def _release(self, now: float) -> None:
        for stop in list(self._stopped):
            if stop[0] <= now:
                self._stopped.remove(stop)
                self._signal(stop[1], signal.SIGCONT)

    @staticmethod
    def _signal(process: psutil.Process, number: signal.Signals) -> bool:
        try:
            process.send_signal(number)  # which sees to it that the process id is still this process's
        except psutil.Error:
            return False
        return True


def ended(process: psutil.Process) -> bool:
    """Whether it runs no more; a zombie that waits for its parent does not."""
    try:
        return not process.is_running() or process.status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    except psutil.Error:
        return True


def describe(process: psutil.Process) -> str:
    """The process in words."""
    try:
        command = " ".join(process.cmdline())[-200:]
        return f"process {process.pid}, {process.status()}, child of {process.ppid()}, {command!r}"
    except psutil.Error:
        return f"process {process.pid}, which has just ended"


def listing(directory: Path) -> set[str]:
    """The names in a directory."""
    return set(os.listdir(directory))


def some(names: Sequence[object]) -> str:
    """The first few of many, for a message."""
    return ", ".join(map(repr, names[:5])) + (f" and {len(names) - 5} more" if len(names) > 5 else "")

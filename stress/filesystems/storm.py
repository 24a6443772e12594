"""The claims storm with several machines, each a client of one filesystem with mounts and caches of its own."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import claims_storm
import psutil
import tasks
from arena import Arena, Figures, Member, Nemesis, listing, some

from filesystems.kinds import Filesystem

DEEDS = {"kill parent": 10, "kill worker": 45, "stop parent": 10, "stop worker": 25, "kill machine": 10}
CLIENTS = 2
MOST_STARTS = 100
FROST_SECONDS = 12.0
"""From one freeze of the server to the next."""

KILLS_MAX = 40
"""Machines are replaced by others, and each that dies costs a lease."""

HERE = Path(__file__).parent


class Storm:
    """One round on a filesystem that has been started.

    Args:
        arena: the round.
        filesystem: where the outputs are.
        processes: at any time, over all clients.
        items: how many outputs.
    """

    def __init__(self, arena: Arena, filesystem: Filesystem, processes: int, items: int) -> None:
        self.arena = arena
        self.filesystem = filesystem
        self.world = filesystem.world
        self.processes = processes
        self.items = items
        self.names = [tasks.output_name(number) for number in range(items)]
        self.rooms: list[Path] = []
        self.primitive = ""

    def play(self) -> Figures:
        """One round; violations go to ``arena.wrong``."""
        arena = self.arena
        for number in range(CLIENTS):
            self.make_room(number, self.filesystem.client(f"client-{number}"))
        self.primitive = self.inspect("probe", self.rooms[0]).strip()
        self.make_room(CLIENTS, self.filesystem.client("reader"))
        reader = self.start("reader.py", CLIENTS, spared=True)
        nemesis = Machines(arena, DEEDS, (0.05, 0.4))
        trapped = claims_storm.Trapped(arena)
        frost = Frost(self.filesystem)

        def racers() -> list[Member]:
            return [member for member in arena.members if member is not reader]

        def each() -> None:
            nemesis.step()
            trapped.step()
            frost.step(arena.luck)
            for _ in range(self.processes - sum(member.alive for member in racers())):
                if len(arena.members) < MOST_STARTS:
                    self.start("claims_process.py", len(arena.members) % CLIENTS)

        outputs = self.outputs(0)
        try:
            arena.until(lambda: set(self.names) <= listing(outputs), each)
        finally:
            nemesis.rest()
            frost.rest()
        self.start("claims_process.py", 0)
        arena.until(lambda: not any(member.alive for member in racers()))
        assert reader.popen.stdin is not None
        reader.popen.stdin.close()
        arena.until(lambda: not reader.alive)
        arena.check_orphans(wait=True)
        arena.check_nobody_left()
        survivors = sum(
            claims_storm.check_survivors(
                arena, [member for member in racers() if self.room_of(member) == room], self.expected(room)
            )
            for room in self.rooms[:CLIENTS]
            if any(self.room_of(member) == room and not member.killed for member in racers())
        )
        looks = claims_storm.check_reader(arena, reader)
        left = len(listing(outputs)) - self.items
        self.make_room(CLIENTS + 1, self.filesystem.client("inspector"))  # which has seen nothing before
        journal = claims_storm.check_journal(arena, nemesis.killed_workers, self.items)
        if self.filesystem.computes_again:
            arena.problems[:] = [problem for problem in arena.problems if "was computed" not in problem]
        return {
            "outputs": self.items,
            "processes": len(racers()),
            "survivors": survivors,
            "parents killed": sum(member.killed for member in racers()),
            **nemesis.figures,
            "servers frozen": frost.times,
            **journal,
            **self.check_outputs(),
            "reader's looks": looks,
            "left for gc": left,
        }

    # -- places ---------------------------------------------------------------------------------------------

    def make_room(self, number: int, mount: Path) -> None:
        """Where a client's processes are: outputs on its mount, all else is the round's."""
        room = self.arena.directory / f"room-{number}"
        room.mkdir()
        for name in ("stumbled", "trapped"):
            (self.arena.directory / name).mkdir(exist_ok=True)
        self.arena.journal.touch()
        for name in ("stumbled", "trapped", tasks.JOURNAL):
            (room / name).symlink_to(self.arena.directory / name)
        (self.world.root / (mount / "outputs").relative_to("/")).mkdir(exist_ok=True)
        (room / "outputs").symlink_to(mount / "outputs")
        self.rooms.append(room)

    def outputs(self, number: int) -> Path:
        """A client's view of the outputs, from here."""
        return self.world.root / os.readlink(self.rooms[number] / "outputs").lstrip("/")

    def expected(self, room: Path) -> list[str]:
        """What a process in that room returns."""
        return [str(room / "outputs" / name) for name in self.names]

    def room_of(self, member: Member) -> Path:
        """Where a member runs."""
        return self.rooms[member.number_of_room]

    def start(self, script: str, client: int, *arguments: object, spared: bool = False) -> Member:
        """Start a script of the storms on a client."""
        environment = {tasks.LEASE: str(self.filesystem.lease)}
        if not self.filesystem.keeps_inodes:
            environment[tasks.BY_NAME] = "1"
        member = self.arena.start(
            script,
            self.arena.seed,
            self.items,
            *arguments,
            spared=spared,
            prefix=self.world.client(client, self.rooms[client]),
            environment=environment,
        )
        member.number_of_room = client
        return member

    def inspect(self, order: str, room: Path) -> str:
        """What the inspector says, as a client of its own."""
        number = self.rooms.index(room)
        ran = subprocess.run(
            [*self.world.client(number, room), sys.executable, str(HERE / "inspector.py"), order, "outputs"],
            capture_output=True,
            text=True,
            check=False,
        )
        if ran.returncode:
            self.arena.wrong(f"the inspector's {order} ended with {ran.returncode}:\n{ran.stderr[-3000:]}")
        return ran.stdout

    def check_outputs(self) -> Figures:
        """The directory holds every output, as a serial run writes it, and nothing else."""
        found: dict[str, str] = json.loads(self.inspect("final", self.rooms[-1]) or "{}")
        missing = sorted(set(self.names) - set(found))
        surplus = sorted(set(found) - set(self.names))
        torn = [
            name
            for number, name in enumerate(self.names)
            if name in found
            and found[name] != hashlib.sha256(tasks.content(self.arena.seed, number)).hexdigest()
        ]
        for what, names in (("missing", missing), ("torn", torn), ("littered", surplus)):
            if names:
                self.arena.wrong(f"{what}: {some(names)}")
        return {"missing": len(missing), "torn": len(torn), "littered": len(surplus)}


class Frost:
    """Stops the filesystem's server for up to two leases: afterwards everybody looks dead at the first look."""

    def __init__(self, filesystem: Filesystem) -> None:
        self.times = 0
        self._filesystem = filesystem
        self._next = time.monotonic() + FROST_SECONDS
        self._thaw: threading.Timer | None = None

    def step(self, luck: random.Random) -> None:
        """Do what is due."""
        if not self._filesystem.server or time.monotonic() < self._next:
            return
        self.rest()
        pids = self._filesystem.world.pids(self._filesystem.server)
        # By another thread: whoever looks into the directory, as the round does, hangs until then.
        self._thaw = threading.Timer(
            luck.uniform(0.2, 2.0) * self._filesystem.lease, _signal_all, (pids, signal.SIGCONT)
        )
        _signal_all(pids, signal.SIGSTOP)
        self._thaw.start()
        self.times += 1
        self._next = time.monotonic() + FROST_SECONDS

    def rest(self) -> None:
        """Wait until it is over."""
        if self._thaw is not None:
            self._thaw.join()


def _signal_all(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            pass


class Machines(Nemesis):
    """Also ends all of a member at once, its guard too, so that nobody is left to say that it has died."""

    def _do_to_parent(self, deed: str, member: Member, now: float) -> None:
        if deed != "kill machine":
            super()._do_to_parent(deed, member, now)
            return
        if self.figures["machines killed"] >= KILLS_MAX:
            return
        victims = [process for process in self._arena.tagged() if _member_of(process) == member.number]
        member.killed = True
        for number in (signal.SIGSTOP, signal.SIGKILL):  # none of them may act on the end of another
            for process in victims:
                self.killed_workers.add(process.pid)
                self._signal(process, number)
        self.figures["machines killed"] += 1


def _member_of(process: psutil.Process) -> int:
    try:
        return int(process.environ().get(tasks.MEMBER, "-1"))
    except (psutil.Error, OSError):
        return -1

"""NFS by Linux's own client: each client is a kernel of its own (user-mode Linux), the server is nfs-ganesha.

A machine boots in some seconds on this machine's own tree of files, with a host name, a boot id, process ids and
caches of its own. To kill it is to lose a machine with all that was on it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import tasks
from arena import Arena, Figures, listing, some

from filesystems.world import Missing, World, needs

HERE = Path(__file__).parent
MODULES = Path("/usr/lib/uml/modules")
MEMORY = "640M"
LEASE = 10.0
MACHINES = 2
MACHINES_KILLED = 2
FIRST_KILL = 0.3
"""A machine is killed when so much is done, the next one when the same part of the rest is."""

_CONFIGURATION = """
NFS_CORE_PARAM {{ Protocols = {protocol}; NFS_Port = 2049; MNT_Port = 2048; Enable_NLM = false; Enable_RQUOTA = false;
                 Plugins_Dir = /usr/lib/x86_64-linux-gnu/ganesha; }}
NFSv4 {{ Graceless = true; Minor_Versions = 1; RecoveryBackend = fs; Lease_Lifetime = 60; }}
EXPORT {{ Export_Id = 1; Path = {store}; Pseudo = /store; Protocols = {protocol}; Transports = TCP; SecType = sys;
         Access_Type = RW; Squash = No_Root_Squash; FSAL {{ Name = VFS; }} }}
LOG {{ Default_Log_Level = EVENT; }}
"""

_INIT = """#!/bin/sh
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t tmpfs tmpfs /run; mount -t tmpfs tmpfs /mnt
mkdir -p /dev/shm /mnt/tmp /mnt/nfs; mount -t tmpfs tmpfs /dev/shm
hostname machine{number}; ip link set lo up; ip addr add 10.98.{number}.2/24 dev vec0; ip link set vec0 up
modprobe -d {room} {module}
mount -t nfs -o {options} 10.98.{number}.1:{export} /mnt/nfs || echo NOT MOUNTED
mkdir -p /mnt/nfs/outputs; cd /mnt/tmp
{environment} {command}
sync; umount /mnt/nfs; echo o > /proc/sysrq-trigger; sleep 9
"""


class Nfs:
    """The server, and machines that mount it.

    Attributes:
        name: what it is called on the command line and in the table.
    """

    name = "nfs4.1"
    protocol = 4
    module = "nfsv4"
    options = "vers=4.1,proto=tcp,port=2049"

    def __init__(self, world: World) -> None:
        self.world = world
        self.store = world.room / "store"

    @classmethod
    def check(cls) -> None:
        """Raises Missing if it can't be had here."""
        needs("linux.uml", "ganesha.nfsd", "mount.nfs", "modprobe")
        if not MODULES.is_dir():
            raise Missing("user-mode Linux has no modules here")
        if not Path("/dev/net/tun").exists():
            raise Missing("there is no /dev/net/tun")

    @property
    def export(self) -> str:
        """What the clients mount."""
        return "/store"

    def start(self) -> None:
        """Start the server."""
        room, call = self.world.room, self.world.call
        self.store.mkdir()
        (room / "lib").mkdir()
        (room / "lib" / "modules").symlink_to(MODULES)
        call("mount", "-t", "tmpfs", "tmpfs", "/run")
        call("mount", "-t", "tmpfs", "tmpfs", "/var/lib/nfs")
        call("mkdir", "-p", "/run/ganesha", "/run/rpcbind", "/var/lib/nfs/ganesha")
        self.prepare()
        configuration = room / "ganesha.conf"
        configuration.write_text(_CONFIGURATION.format(protocol=self.protocol, store=self.store))
        server = ("/usr/bin/ganesha.nfsd", "-F", "-f", str(configuration), "-p", str(room / "ganesha.pid"))
        self.world.serve(*server, "-L", str(self.world.log("ganesha-own")))
        self.world.wait_for_port(2049)

    def prepare(self) -> None:
        """What must run before the server."""

    def machine(self, number: int, command: str) -> subprocess.Popen[bytes]:
        """Boot a machine that runs the command, which finds the outputs in /mnt/nfs/outputs, and ends."""
        room, call = self.world.room, self.world.call
        tap = f"tap{number}"
        call("ip", "tuntap", "add", "dev", tap, "mode", "tap")
        call("ip", "addr", "add", f"10.98.{number}.1/24", "dev", tap)
        call("ip", "link", "set", tap, "up")
        environment = "TMPDIR=/mnt/tmp PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=" + shlex.quote(
            os.environ.get("PYTHONPATH", "")
        )
        init = room / f"init-{number}"
        init.write_text(
            _INIT.format(
                number=number,
                room=room,
                module=self.module,
                options=self.options,
                export=self.export,
                environment=environment,
                command=command,
            )
        )
        init.chmod(0o755)
        return self.world.serve(
            "env",
            f"HOME={room}",
            f"TMPDIR={room}",
            "linux.uml",
            f"mem={MEMORY}",
            "root=/dev/root",
            "rootfstype=hostfs",
            "rootflags=/",
            "rw",
            f"init={init}",
            f"vec0:transport=tap,ifname={tap},depth=128",
            "con=null",
            "con0=null,fd:1",
            "con1=fd:0,fd:1",
            "quiet",
            f"uml_dir={room}",
            f"umid=machine{number}",
            name=f"machine-{number}",
        )


class Nfs3(Nfs):
    """The older protocol, which has no state."""

    name = "nfs3"
    protocol = 3
    module = "nfsv3"
    options = "vers=3,nolock,proto=tcp,port=2049,mountport=2048,mountproto=tcp"

    @classmethod
    def check(cls) -> None:
        super().check()
        needs("rpcbind")

    @property
    def export(self) -> str:
        return str(self.store)

    def prepare(self) -> None:
        self.world.serve("rpcbind", "-f", "-w")
        self.world.wait_for_port(111)


def play(arena: Arena, nfs: Nfs, processes: int, items: int) -> tuple[Figures, str]:
    """One round, and by what slots were created; violations go to ``arena.wrong``."""
    names = {tasks.output_name(number) for number in range(items)}
    outputs = nfs.store / "outputs"
    machines: dict[int, subprocess.Popen[bytes]] = {}
    killed: set[int] = set()

    def report(number: int) -> Path:
        return arena.directory / f"machine-{number}.json"

    def boot() -> None:
        number = len(machines) + 1
        script = [sys.executable, HERE / "machine.py", report(number), number, arena.seed, items]
        words = [*script, max(1, processes // MACHINES), LEASE, "/mnt/nfs/outputs"]
        machines[number] = nfs.machine(number, shlex.join(map(str, words)))

    def done() -> int:
        return len(names & listing(outputs)) if outputs.exists() else 0

    kills = [items * FIRST_KILL * (kill + 1) for kill in range(MACHINES_KILLED)]

    def each() -> None:
        if len(killed) < len(kills) and done() >= kills[len(killed)]:
            number = max(number for number in machines if number not in killed)
            killed.add(number)
            kill_machine(nfs.world, number)
            boot()

    for _ in range(MACHINES):
        boot()
    arena.until(lambda: all(machine.poll() is not None for machine in machines.values()), each, tick=0.1)
    total: Counter[str] = Counter()
    primitive = ""
    for number in machines:
        if number in killed:
            continue
        if not report(number).exists():
            log = nfs.world.log(f"machine-{number}").read_text(errors="replace")
            arena.wrong(f"machine {number} ended without a report:\n{log[-3000:]}")
            continue
        told = json.loads(report(number).read_text())
        total.update(told["figures"])
        primitive = told["primitive"]
        arena.problems += [f"machine {number}: {problem}" for problem in told["problems"]]
    total["outputs"] = items
    total["machines killed"] = len(killed)
    total["computed again"] = max(0, total["computed again"] - items)  # by the machines that were not killed
    total.update(check_store(arena, outputs, names, items))
    return dict(total), primitive


def kill_machine(world: World, number: int) -> None:
    """SIGKILL to all that a machine is: its kernel's process, and those of what runs on it."""
    mark, here = f"umid=machine{number}".encode(), os.readlink(f"/proc/{world.pid}/ns/pid")
    for process in Path("/proc").iterdir():
        try:
            if (
                process.name.isdigit()
                and mark in (process / "cmdline").read_bytes().split(b"\0")
                and os.readlink(process / "ns" / "pid") == here
            ):
                os.kill(int(process.name), signal.SIGKILL)
        except OSError:
            pass  # it has just ended


def check_store(arena: Arena, outputs: Path, names: set[str], items: int) -> Figures:
    """What the server holds in the end: every output, as a serial run writes it, and nothing else after gc."""
    inspector = [sys.executable, str(HERE / "inspector.py"), "final", str(outputs)]
    ran = subprocess.run(inspector, capture_output=True, text=True, check=False)
    if ran.returncode:
        arena.wrong(f"the inspector ended with {ran.returncode}:\n{ran.stderr[-3000:]}")
        return {}
    found: dict[str, str] = json.loads(ran.stdout)
    wanted = {
        tasks.output_name(number): hashlib.sha256(tasks.content(arena.seed, number)).hexdigest()
        for number in range(items)
    }
    missing, surplus = sorted(names - set(found)), sorted(set(found) - names)
    torn = sorted(name for name in names & set(found) if found[name] != wanted[name])
    for what, some_of in (("missing", missing), ("torn", torn), ("littered", surplus)):
        if some_of:
            arena.wrong(f"{what}: {some(some_of)}")
    return {"missing": len(missing), "torn": len(torn), "littered": len(surplus)}

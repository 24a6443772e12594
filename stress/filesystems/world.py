"""A world of its own for one filesystem: servers and mounts in namespaces that end with whoever made them.

Its network has a loopback and nothing else, its mounts are seen by nobody outside, and its first process waits for the
end of a pipe that this process holds. When that ends, however it ends, the kernel ends all that was started in the
world, and the mounts with it. So nothing is left behind by a run that is killed.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

START_SECONDS = 30.0
"""How long a server or a mount may take."""

ADDRESS = "10.99.1.1"
"""Of the world's loopback; some servers refuse 127.0.0.1."""

_BEGIN = (
    "mount --make-rprivate /",
    "ip link set lo up",
    f"ip addr add {ADDRESS}/32 dev lo",
    "echo ready",
    "exec cat",
)


class Missing(Exception):
    """This filesystem can't be had here; says why."""


class World:
    """Namespaces for mounts, network and processes; a context manager.

    Args:
        room: an empty directory, for sockets, logs, mount points and what servers store.

    Raises:
        Missing: no namespaces can be made here.
    """

    def __init__(self, room: Path) -> None:
        self.room = room
        if sys.platform != "linux" or os.geteuid() != 0:
            raise Missing("only root may make namespaces, and only on Linux")
        needs("unshare", "nsenter", "ip", "mount")
        self._holder = subprocess.Popen(
            ["unshare", "-m", "-n", "-p", "-f", "--kill-child=SIGKILL", "sh", "-ec", "; ".join(_BEGIN)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._holder.stdout is not None
        if self._holder.stdout.readline() != "ready\n":
            self._holder.kill()
            raise Missing(f"namespaces are not allowed here: {self._holder.communicate()[1].strip()}")
        self.pid = int(
            Path(f"/proc/{self._holder.pid}/task/{self._holder.pid}/children").read_text().split()[0]
        )
        self._servers: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for server in self._servers:
            server.send_signal(signal.SIGCONT)  # nsenter stops itself when what it has started was stopped
        self._holder.communicate()  # which closes its input first
        for server in self._servers:
            server.wait()

    @property
    def root(self) -> Path:
        """The tree of files as it is seen inside, from outside."""
        return Path(f"/proc/{self.pid}/root")

    def inside(self, *command: str) -> list[str]:
        """The command that runs ``command`` inside, in all its namespaces, so that it ends with the world."""
        return ["nsenter", "-t", str(self.pid), "-m", "-n", "-p", "--", *command]

    def call(self, *command: str, check: bool = True) -> str:
        """Run a command inside and wait for it; what it wrote. Its process ids are this machine's, as /proc shows them.

        Raises:
            Missing: it failed, which is told with what it wrote.
        """
        ran = subprocess.run(
            ["nsenter", "-t", str(self.pid), "-m", "-n", "--", *command],
            capture_output=True,
            text=True,
            check=False,
            timeout=START_SECONDS,
        )
        if check and ran.returncode:
            raise Missing(f"{' '.join(command)}: {ran.stderr.strip() or ran.stdout.strip()}")
        return ran.stdout

    def serve(self, *command: str, name: str = "") -> subprocess.Popen[bytes]:
        """Start a server inside, which runs until the world ends; it writes to ``<name>.log`` in the room."""
        with open(self.log(name or Path(command[0]).name), "ab") as log:
            server = subprocess.Popen(self.inside(*command), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self._servers.append(server)
        return server

    def log(self, name: str) -> Path:
        """Where a server writes."""
        return self.room / f"{name}.log"

    def pids(self, program: str) -> list[int]:
        """The process ids of what runs inside under this name."""
        found, here = [], os.readlink(f"/proc/{self.pid}/ns/pid")
        for process in Path("/proc").iterdir():
            try:
                if (
                    process.name.isdigit()
                    and (process / "comm").read_text().strip() == program
                    and os.readlink(process / "ns" / "pid") == here
                ):
                    found.append(int(process.name))
            except OSError:
                pass  # it has just ended
        return found

    def wait_for_port(self, port: int) -> None:
        """Until somebody listens on the port inside."""
        wanted = f":{port:04X} "
        self.until(lambda: wanted in _listening(self.pid), f"nobody listens on port {port}")

    def wait_for_mount(self, point: Path) -> None:
        """Until something is mounted there inside."""
        line = f" {point} "
        self.until(
            lambda: line in Path(f"/proc/{self.pid}/mountinfo").read_text(), f"nothing is mounted on {point}"
        )

    def until(self, done: Callable[[], bool], otherwise: str) -> None:
        """Wait.

        Raises:
            Missing: it takes too long; says ``otherwise`` and the end of the logs.
        """
        end = time.monotonic() + START_SECONDS
        while not done():
            if time.monotonic() > end:
                logs = [log.read_text(errors="replace")[-500:] for log in self.room.glob("*.log")]
                raise Missing("\n".join([otherwise, *logs]))
            time.sleep(0.05)

    def client(self, number: int, directory: Path) -> list[str]:
        """What a command must begin with to run in ``directory`` on machine ``number``.

        It sees the mounts, and has a host name and a boot id of its own. Its process ids are those of this machine.
        """
        boot = self.room / f"boot-id-{number}"
        boot.write_text(f"00000000-0000-4000-8000-{number:012d}\n")
        inside = (
            f'hostname client{number}; mount --bind "{boot}" /proc/sys/kernel/random/boot_id; cd "{directory}"; '
            'exec "$@"'
        )
        return ["nsenter", "-t", str(self.pid), "-m", "--", "unshare", "-m", "-u", "sh", "-ec", inside, "sh"]


def _listening(pid: int) -> str:
    """The local addresses on which somebody listens, as the kernel writes them."""
    found = []
    for name in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{name}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A":
                found.append(fields[1] + " ")
    return "\n".join(found)


def needs(*programs: str) -> None:
    """Raises Missing if one of these programs is not installed."""
    path = os.pathsep.join((os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin", "/sbin"))
    missing = [program for program in programs if shutil.which(program, path=path) is None]
    if missing:
        raise Missing(f"not installed: {', '.join(missing)}")


def run_all(commands: Sequence[Sequence[str]]) -> None:
    """Run commands here, one after the other; raises CalledProcessError."""
    for command in commands:
        subprocess.run(command, check=True, capture_output=True)

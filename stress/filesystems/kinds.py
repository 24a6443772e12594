"""The filesystems: how each is started, and mounted several times."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from abc import ABC, abstractmethod
from pathlib import Path

from filesystems.world import ADDRESS, Missing, World, needs, run_all


class Filesystem(ABC):
    """One filesystem in its world. Each mount is a client with caches of its own.

    Attributes:
        name: what it is called on the command line and in the table.
        lease: seconds that suit it; the storm is to see leases end.
        keeps_inodes: whether the number of a file's inode tells that it was replaced.
        computes_again: whether that is nobody's fault: names that are free are believed to be so, or replies get lost.
        server: the program that is frozen now and then; none if it is empty.
        seed: of the round, for filesystems that have luck.
    """

    name: str
    lease: float = 4.0
    keeps_inodes: bool = False
    computes_again: bool = False
    server: str = ""

    def __init__(self, world: World, seed: int) -> None:
        self.world = world
        self.seed = seed

    @classmethod
    @abstractmethod
    def check(cls) -> None:
        """Raises Missing if it can't be had here."""

    @abstractmethod
    def start(self) -> None:
        """Start its servers."""

    @abstractmethod
    def mount(self, point: Path) -> None:
        """Mount it on this empty directory, and return when it is there."""

    def client(self, name: str) -> Path:
        """Another client; where its mount is."""
        point = self.world.room / name
        point.mkdir()
        self.mount(point)
        self.world.wait_for_mount(point)
        return point


class Local(Filesystem):
    """A directory of this machine, twice: what the others are compared with."""

    name = "local"
    keeps_inodes = True

    @classmethod
    def check(cls) -> None:
        """It is always there."""

    def start(self) -> None:
        (self.world.room / "store").mkdir()

    def mount(self, point: Path) -> None:
        self.world.call("mount", "--bind", str(self.world.room / "store"), str(point))


class Sshfs(Filesystem):
    """sshfs with its usual caches of twenty seconds."""

    name = "sshfs"
    server = "sshd"
    options: tuple[str, ...] = ()
    _port = 2222

    @classmethod
    def check(cls) -> None:
        needs("sshfs", "sshd", "ssh-keygen")

    def start(self) -> None:
        room = self.world.room
        (room / "store").mkdir()
        for key in ("host", "user"):
            run_all([["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(room / key)]])
        shutil.copy(room / "user.pub", room / "authorized")
        config = {
            "Port": self._port,
            "ListenAddress": ADDRESS,
            "HostKey": room / "host",
            "AuthorizedKeysFile": room / "authorized",
            "PidFile": "none",
            "StrictModes": "no",
            "UsePAM": "no",
            "PasswordAuthentication": "no",
            "PermitRootLogin": "prohibit-password",
            "Subsystem": "sftp internal-sftp",
        }
        (room / "sshd.conf").write_text("".join(f"{key} {value}\n" for key, value in config.items()))
        # It wants a directory of the system, which is this world's own then.
        self.world.call("mount", "-t", "tmpfs", "tmpfs", "/run")
        self.world.call("mkdir", "/run/sshd")
        self.world.serve("/usr/sbin/sshd", "-D", "-e", "-f", str(room / "sshd.conf"))
        self.world.wait_for_port(self._port)

    def mount(self, point: Path) -> None:
        room = self.world.room
        options = [
            f"IdentityFile={room / 'user'}",
            "UserKnownHostsFile=/dev/null",
            "StrictHostKeyChecking=no",
            "LogLevel=ERROR",
            *self.options,
        ]
        arguments = ("-f", "-p", str(self._port), "-o", ",".join(options))
        self.world.serve("sshfs", *arguments, f"root@{ADDRESS}:{room / 'store'}", str(point))


class SshfsWithoutCaches(Sshfs):
    """sshfs that asks its server each time."""

    name = "sshfs-uncached"
    options = ("dir_cache=no", "entry_timeout=0", "attr_timeout=0", "negative_timeout=0")


class SshfsWithoutLinks(Sshfs):
    """sshfs that has no hard links."""

    name = "sshfs-nolink"
    options = ("disable_hardlink",)


class Stale(Filesystem):
    """A FUSE filesystem of ours; clients believe for three seconds what they have seen, and that names are free."""

    name = "stale"
    keeps_inodes = True
    computes_again = True
    cache = 3.0
    faults = 0

    @classmethod
    def check(cls) -> None:
        if importlib.util.find_spec("pyfuse3") is None:
            raise Missing("pyfuse3 is not installed for this Python")

    def start(self) -> None:
        (self.world.room / "store").mkdir()

    def mount(self, point: Path) -> None:
        faults = self.faults if point.name.startswith("client") else 0  # who looks on is spared
        script = str(Path(__file__).with_name("passthrough.py"))
        settings = (str(self.seed), str(self.cache), str(faults))
        self.world.serve(
            sys.executable, script, str(self.world.room / "store"), str(point), *settings, name=point.name
        )


class Faulty(Stale):
    """The same, where one in two hundred operations on names fails, or is done and its reply lost."""

    name = "faulty"
    cache = 1.0
    faults = 200


class MooseFS(Filesystem):
    """MooseFS: a master, one chunk server."""

    name = "moosefs"
    server = "mfsmaster"

    @classmethod
    def check(cls) -> None:
        needs("mfsmaster", "mfschunkserver", "mfsmount")
        if not Path("/var/lib/mfs/metadata.mfs.empty").exists():
            raise Missing("MooseFS has no empty metadata file to start with")

    def start(self) -> None:
        room = self.world.room
        for name in ("master", "chunks", "disk"):
            (room / name).mkdir()
        shutil.copy("/var/lib/mfs/metadata.mfs.empty", room / "master" / "metadata.mfs")
        (room / "exports").write_text("* / rw,alldirs,maproot=0\n")
        (room / "topology").write_text("")
        (room / "disks").write_text(f"{room / 'disk'}\n")
        self._configure(
            "master.conf",
            DATA_PATH=room / "master",
            EXPORTS_FILENAME=room / "exports",
            TOPOLOGY_FILENAME=room / "topology",
            MATOML_LISTEN_HOST=ADDRESS,
            MATOCS_LISTEN_HOST=ADDRESS,
            MATOCL_LISTEN_HOST=ADDRESS,
        )
        self._configure(
            "chunks.conf",
            DATA_PATH=room / "chunks",
            HDD_CONF_FILENAME=room / "disks",
            MASTER_HOST=ADDRESS,
            CSSERV_LISTEN_HOST=ADDRESS,
            HDD_LEAVE_SPACE_DEFAULT="64MiB",
        )
        self.world.serve("/usr/sbin/mfsmaster", "-f", "-c", str(room / "master.conf"), "start")
        self.world.wait_for_port(9421)
        self.world.serve("/usr/sbin/mfschunkserver", "-f", "-c", str(room / "chunks.conf"), "start")
        self.world.wait_for_port(9422)

    def _configure(self, name: str, **settings: object) -> None:
        who = {"WORKING_USER": "root", "WORKING_GROUP": "root", "SYSLOG_IDENT": name}
        (self.world.room / name).write_text(
            "".join(f"{key} = {value}\n" for key, value in (who | settings).items())
        )

    def mount(self, point: Path) -> None:
        self.world.serve("mfsmount", str(point), "-f", "-H", ADDRESS, "-P", "9421")


class GlusterFS(Filesystem):
    """GlusterFS: a volume of two bricks, each file on one of them."""

    name = "glusterfs"
    server = "glusterfsd"

    @classmethod
    def check(cls) -> None:
        needs("glusterd", "gluster", "glusterfs")

    def start(self) -> None:
        room, call = self.world.room, self.world.call
        for place in ("/var/lib/glusterd", "/var/log/glusterfs", "/run"):  # this world's own
            call("mkdir", "-p", place)
            call("mount", "-t", "tmpfs", "tmpfs", place)
        call("mkdir", "-p", "/run/gluster")
        self.world.serve("/usr/sbin/glusterd", "-N", "-l", str(self.world.log("glusterd-own")))
        self.world.wait_for_port(24007)
        bricks = [f"{ADDRESS}:{room / name}" for name in ("brick1", "brick2")]
        call("gluster", "--mode=script", "volume", "create", "claims", *bricks, "force")
        call("gluster", "--mode=script", "volume", "start", "claims")

    def mount(self, point: Path) -> None:
        log = str(self.world.log(f"client-{point.name}"))
        self.world.serve(
            "glusterfs", "-N", f"--volfile-server={ADDRESS}", "--volfile-id=claims", "-l", log, str(point)
        )


KINDS: dict[str, type[Filesystem]] = {
    kind.name: kind
    for kind in (Local, Sshfs, SshfsWithoutCaches, SshfsWithoutLinks, Stale, Faulty, MooseFS, GlusterFS)
}

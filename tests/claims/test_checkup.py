"""What a doctor finds of a directory as a place for claims, and that nothing is left of the examination."""

from __future__ import annotations

import errno
import os
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from manyhands.claims import Claims, Log, Mine, checkup, liveness
from manyhands.claims.belongings import inspect
from manyhands.claims.checkup import Check, examine
from manyhands.claims.filesystem import (
    Exists,
    Link,
    LocalFileSystem,
    Operation,
    Pulse,
    RenameNew,
    Sync,
    WriteNew,
)
from manyhands.claims.mounts import Mount, known_of, mount_of
from manyhands.claims.names import record_file
from manyhands.claims.record import Claim, Claimant, encode

TABLE = """\
22 27 0:21 / / rw,relatime - ext4 /dev/sda1 rw
23 22 0:22 / /data rw - nfs4 server:/export rw,vers=4.1,acregmax=30,hard
24 22 0:23 / /data/my\\040disk rw master:1 - fuse.sshfs me@there: rw
25 22 0:24 / /data rw - nfs4 server:/other rw,soft
torn line
"""


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("/home", "/dev/sda1"),
        ("/data", "server:/other"),
        ("/data/x/y", "server:/other"),
        ("/database", "/dev/sda1"),
        ("/data/my disk/x", "me@there:"),
    ],
)
def test_which_mount(path: str, source: str) -> None:
    """The longest path that leads to it, with blanks in it; of two at one place the later one."""
    assert mount_of(path, TABLE).source == source


def test_no_table() -> None:
    """A table that does not tell is no error."""
    assert mount_of("/x", "") is None


@pytest.mark.parametrize(
    ("kind", "options", "verdict"),
    [
        ("ext4", "rw", "ok"),
        ("tmpfs", "rw", "ok"),
        ("nfs4", "rw,hard", "ok"),
        ("nfs4", "rw,soft", "warning"),
        ("nfs", "rw,nocto", "warning"),
        ("fuse.glusterfs", "rw", "ok"),
        ("fuse.sshfs", "rw", "warning"),
        ("cifs", "rw", "warning"),
        ("vfat", "rw", "warning"),
        ("fuse.s3fs", "rw", "problem"),
        ("fuse.rclone", "rw", "problem"),
        ("something", "rw", "warning"),
    ],
)
def test_what_is_known_of_filesystems(kind: str, options: str, verdict: str) -> None:
    """As the page about filesystems has it; what is not well has a cure."""
    found = known_of(Mount("/", kind, "source", frozenset(options.split(","))))
    assert found[0] == verdict
    assert bool(found[2]) == (verdict != "ok")


@pytest.mark.parametrize(
    ("kind", "options", "seconds"),
    [
        ("nfs4", "rw", 60),
        ("nfs", "rw,acregmax=10", 10),
        ("nfs4", "actimeo=3", 3),
        ("nfs4", "noac", 0),
        ("xfs", "", 0),
    ],
)
def test_how_long_old_attributes_are_believed(kind: str, options: str, seconds: float) -> None:
    """By NFS for a minute, unless it is mounted otherwise."""
    assert Mount("/", kind, "source", frozenset(options.split(","))).believes == seconds


def checks(directory: Path) -> dict[str, Check]:
    """All of them, by name, and nothing is left."""
    before = sorted(os.listdir(directory))
    found = {check.name: check for check in examine(directory)}
    assert sorted(os.listdir(directory)) == before
    return found


def test_a_good_place(tmp_path: Path) -> None:
    """On this machine all can be done: no problem, and what is not well has a cure."""
    found = checks(tmp_path)
    assert list(found) == ["filesystem", "writing", "creation", "fsync", "clock", "names", "sharing", "space"]
    assert [check for check in found.values() if check.verdict == "problem"] == []
    assert all(check.cure for check in found.values() if check.verdict == "warning")
    assert "hard links" in found["creation"].text


class Lacking:
    """The real filesystem, of which something is different."""

    def __init__(self, change: Callable[[Operation], object]) -> None:
        self._change = change

    def perform(self, operation: Operation, /) -> object:
        changed = self._change(operation)
        return LocalFileSystem().perform(operation) if changed is None else changed


def without(*kinds: type[Operation], number: int = errno.EPERM) -> Lacking:
    """It can't do these."""

    def change(operation: Operation) -> None:
        if isinstance(operation, kinds):
            raise OSError(number, os.strerror(number))

    return Lacking(change)


def careless(*kinds: type[Operation]) -> Lacking:
    """It says of these that they were done, whatever was there."""
    return Lacking(lambda operation: True if isinstance(operation, kinds) else None)


@pytest.mark.parametrize(
    ("files", "name", "verdict", "text"),
    [
        (without(Link), "creation", "ok", "no hard links"),
        (without(Link, RenameNew), "creation", "warning", "torn claim"),
        (careless(Link), "creation", "problem", "second hard link"),
        (without(Sync, number=errno.EIO), "fsync", "problem", "Input/output"),
    ],
)
def test_a_filesystem_that_lacks_something(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: Lacking, name: str, verdict: str, text: str
) -> None:
    """The next way is tried; one that does not refuse a second creation is a problem, and so is an error."""
    monkeypatch.setattr(checkup, "_files", files)
    found = checks(tmp_path)[name]
    assert found.verdict == verdict and text in found.text


@pytest.mark.parametrize("skew", [-100, 100])
def test_clocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, skew: int) -> None:
    """A directory whose clock differs is told of, with how much and which way."""

    def change(operation: Operation) -> object:
        if not isinstance(operation, Pulse):
            return None
        stamp = LocalFileSystem().perform(operation)
        return stamp._replace(mtime_ns=stamp.mtime_ns + skew * 10**9)

    monkeypatch.setattr(checkup, "_files", Lacking(change))
    found = checks(tmp_path)["clock"]
    assert found.verdict == "warning"
    assert ("ahead of" if skew > 0 else "behind") in found.text
    assert re.search(r" (9\d|100) s ", found.text)


def test_names_that_are_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where case does not count, people are warned."""
    monkeypatch.setattr(checkup, "_files", careless(Exists))
    found = checks(tmp_path)["names"]
    assert found.verdict == "warning" and "upper and lower case" in found.text


def test_a_place_where_nothing_can_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is one problem, with its reason, and what can be told without writing is told."""

    def never(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", never)
    found = checks(tmp_path)
    assert list(found) == ["filesystem", "writing", "space"]
    assert found["writing"].verdict == "problem" and "Permission denied" in found["writing"].text
    assert found["writing"].cure == "let this user write there"


@pytest.mark.parametrize(
    ("mode", "umask", "verdict"), [(0o777, 0o077, "warning"), (0o775, 0o027, "ok"), (0o755, 0o077, "ok")]
)
def test_others_who_could_not_read(tmp_path: Path, mode: int, umask: int, verdict: str) -> None:
    """Where others may write, claims that they can't read make their items fail."""
    place = tmp_path / "shared"
    place.mkdir()
    place.chmod(mode)
    before = os.umask(umask)
    try:
        assert checks(place)["sharing"].verdict == verdict
        assert os.umask(umask) == umask, "it is as it was"
    finally:
        os.umask(before)


GIB = 2**30


@pytest.mark.parametrize(
    ("free", "inodes", "flag", "verdict"),
    [
        (5 * GIB, 10**6, 0, "ok"),
        (5 * GIB, None, 0, "ok"),
        (GIB // 2, 10**6, 0, "warning"),
        (5 * GIB, 500, 0, "warning"),
        (1000, 10**6, 0, "problem"),
        (5 * GIB, 5, 0, "problem"),
        (5 * GIB, 10**6, os.ST_RDONLY, "problem"),
    ],
)
def test_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, inodes: int | None, flag: int, verdict: str
) -> None:
    """Little of it is a warning, next to none a problem; where inodes are not counted, their number says nothing."""
    counted = (0, 0, 0) if inodes is None else (10**7, inodes, inodes)
    told = os.statvfs_result((4096, 1, 10 * free, free, free, *counted, flag, 255))
    monkeypatch.setattr(checkup.os, "statvfs", lambda _: told)
    assert checks(tmp_path)["space"].verdict == verdict


# -- what lies there ------------------------------------------------------------------------------------------


def found_in(directory: Path) -> dict[str, Check]:
    before = sorted(os.listdir(directory))
    found = {check.name: check for check in inspect(directory)}
    assert sorted(os.listdir(directory)) == before
    return found


def test_an_empty_directory(tmp_path: Path) -> None:
    """All is well."""
    found = found_in(tmp_path)
    assert list(found) == ["at work", "leases", "stale claims", "foreign files", "leftovers"]
    assert {check.verdict for check in found.values()} == {"ok"}


def test_who_is_at_work(tmp_path: Path) -> None:
    """Outputs, workers and machines are counted; nothing of theirs is a leftover."""
    with Claims() as claims:
        for name in ("a", "b"):
            assert isinstance(claims.acquire(Log.of(tmp_path / name)), Mine)
        found = found_in(tmp_path)
        assert found["at work"].text == "outputs being computed: 2; workers: 1; machines: 1"
        assert {check.verdict for check in found.values()} == {"ok"}


def test_what_is_not_well(tmp_path: Path) -> None:
    """Stale claims, foreign files and leftovers are named, each with a cure."""
    here = Claim(Claimant("a" * 24, "here", "boot", 1, 1, 1))
    Path(Log.of(tmp_path / "stale.csv").slot(0)).write_bytes(encode(here))
    Path(Log.of(tmp_path / "foreign.csv").slot(0)).write_text("mine")
    found = found_in(tmp_path)
    stale, foreign, left = (found[name] for name in ("stale claims", "foreign files", "leftovers"))
    assert stale.verdict == "warning" and "'stale.csv' (its record file is gone)" in stale.text
    assert foreign.verdict == "problem" and "'.foreign.csv.claim-0' (not JSON)" in foreign.text
    assert left.verdict == "warning" and left.text.startswith("1 file")
    assert stale.cure and foreign.cure and left.cure


def test_leases_that_are_too_short_for_the_mount(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On NFS a lease of less than twice what clients believe is warned of, with the one to take."""
    monkeypatch.setattr(
        "manyhands.claims.belongings.mounted", lambda _: Mount("/", "nfs4", "s:/", frozenset({"rw"}))
    )
    with Claims(lease=60) as claims:
        claims.acquire(Log.of(tmp_path / "a"))
        assert "lease=120" in found_in(tmp_path)["leases"].cure
    with Claims(lease=120) as claims:
        claims.acquire(Log.of(tmp_path / "b"))
        assert found_in(tmp_path)["leases"].verdict == "ok"


def test_owners_that_are_late(tmp_path: Path) -> None:
    """One that was not heard of for half its lease is told of before it is over."""
    me = liveness.identity("a" * 24)
    for path in (Log.of(tmp_path / "a").slot(0), record_file(tmp_path, me.token, "claim")):
        Path(path).write_bytes(encode(Claim(me)))
        os.utime(path, (time.time() - 70,) * 2)
    found = found_in(tmp_path)["leases"]
    assert found.verdict == "warning" and str(os.getpid()) in found.text


def test_files_are_written_as_they_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A place that loses what is written is a problem."""
    real = LocalFileSystem()

    def change(operation: Operation) -> object:
        if isinstance(operation, WriteNew) and operation.data:
            return real.perform(WriteNew(operation.path, b"")) or True
        return None

    monkeypatch.setattr(checkup, "_files", Lacking(change))
    assert checks(tmp_path)["writing"].verdict == "problem"

"""Is this directory a good place for claims? Tries what they ask of it, in a directory of its own that goes again.

Should the process die meanwhile, ``gc`` takes what is left: its name is that of something half-written.
"""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from manyhands.claims import filesystem as fs
from manyhands.claims.directory import mounted
from manyhands.claims.mounts import Verdict, known_of
from manyhands.claims.names import TOKEN_LENGTH

SKEW: Final = 2.0
"""Seconds between this machine's clock and the directory's that are worth a word."""

BYTES_FEW: Final = 2**30
BYTES_NONE: Final = 2**24
INODES_FEW: Final = 10_000
INODES_NONE: Final = 100

_files: Final = fs.LocalFileSystem()


@dataclass(frozen=True, slots=True)
class Check:
    """What was found of one thing, and what to do if it is not well.

    Attributes:
        name: of what was looked at; one word or two.
        verdict: "ok", "warning" or "problem".
        text: what was found.
        cure: what to do, in one line; empty if nothing is to be done.
    """

    name: str
    verdict: Verdict
    text: str
    cure: str = ""


def examine(directory: Path) -> Iterator[Check]:
    """All that is asked of the directory as a place, one after the other; nothing is left there."""
    mount = mounted(directory)
    if mount is None:
        yield Check("filesystem", "ok", "of which kind is not told by this system")
    else:
        yield Check("filesystem", *known_of(mount))
    token = os.urandom(TOKEN_LENGTH // 2).hex()
    probe = directory / f".doctor.claim-0-{token}-doctor"
    try:
        probe.mkdir()
    except OSError as error:
        yield Check("writing", "problem", f"nothing can be made there: {error.strerror}", _cure(error))
        yield from _guarded("space", _space, directory)
        return
    try:
        for name, check in _PROBES.items():
            yield from _guarded(name, check, probe)
    finally:
        shutil.rmtree(probe, ignore_errors=True)
    yield from _guarded("sharing", _sharing, directory)
    yield from _guarded("space", _space, directory)


def _guarded(name: str, check: Callable[[Path], Check], path: Path) -> Iterator[Check]:
    try:
        yield check(path)
    except OSError as error:
        yield Check(name, "problem", f"it failed: {error.strerror or error}", _cure(error))


def _cure(error: OSError) -> str:
    return _CURES.get(error.errno or 0, "see what the system's log says of that filesystem")


_CURES: Final = {
    errno.EACCES: "let this user write there",
    errno.EPERM: "let this user write there",
    errno.EROFS: "mount it for writing",
    errno.ENOSPC: "make room",
    errno.EDQUOT: "make room, or ask for a larger quota",
}


def _writing(probe: Path) -> Check:
    path = str(probe / "written")
    _files.perform(fs.WriteNew(path, b"whole"))
    same = fs.read(path) == b"whole"
    _files.perform(fs.Unlink(path))
    if not same:
        return Check("writing", "problem", "what was written there is not read again", "use another filesystem")
    return Check("writing", "ok", "files can be made, read and removed")


def _creation(probe: Path) -> Check:
    """Which way to create a name is there, and whether a second one is refused."""
    for at, (way, create) in enumerate(_WAYS.items()):
        sources = [str(probe / f"source-{at}-{each}") for each in range(2)]
        for source in sources:
            _files.perform(fs.WriteNew(source, b"whole"))
        made = [_is_done(create(source, str(probe / f"target-{at}"))) for source in sources]
        if all(made):
            text = f"a second {way} to the same name is not refused: two processes would both have a claim"
            return Check("creation", "problem", text, "do not use this filesystem")
        if made[0]:
            return Check("creation", *_CREATION[at])
    return Check("creation", "problem", "no name can be created exclusively", "do not use this filesystem")


def _is_done(operation: fs.Operation) -> bool:
    try:
        _files.perform(operation)
    except OSError:
        return False
    return True


_WAYS: Final[dict[str, Callable[[str, str], fs.Operation]]] = {
    "hard link": fs.Link,
    "rename that does not replace": fs.RenameNew,
    "exclusive creation": lambda _, target: fs.WriteNew(target, b""),
}
_CREATION: Final[tuple[tuple[Verdict, str, str], ...]] = (
    ("ok", "claims are hard links, and a second one is refused", ""),
    ("ok", "no hard links: claims are renames that do not replace, and a second one is refused", ""),
    (
        "warning",
        "neither hard links nor other renames: who is killed in the wrong moment leaves a torn claim",
        "mount it with hard links if it can",
    ),
)


def _syncing(probe: Path) -> Check:
    path = str(probe / "synced")
    _files.perform(fs.WriteNew(path, b"whole"))
    begin = time.monotonic()
    _files.perform(fs.Sync(path))
    middle = time.monotonic()
    try:
        _sync_directory(probe)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
            raise
        text = "of directories it is not there: a loss of power may take outputs that were just finished"
        return Check("fsync", "warning", text, "keep what matters on another filesystem, too")
    times = f"{1e3 * (middle - begin):.2g} ms a file, {1e3 * (time.monotonic() - middle):.2g} ms a directory"
    return Check("fsync", "ok", f"works: {times}")


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _clock(probe: Path) -> Check:
    path = str(probe / "clock")
    before = time.time()
    _files.perform(fs.WriteNew(path, b""))
    after = time.time()
    made = _files.perform(fs.Pulse(path)).mtime_ns / 1e9
    # The file was made between the two, by a clock that may tell whole seconds only.
    skew = made - after if made > after else min(0.0, made + 1.0 - before)
    if abs(skew) <= SKEW:
        return Check("clock", "ok", "the directory's and this machine's agree within some seconds")
    word = "ahead of" if skew > 0 else "behind"
    return Check(
        "clock",
        "warning",
        f"the directory's is {abs(skew):.0f} s {word} this machine's; claims do not mind, but ages are shown wrong",
        "have both machines follow a time server",
    )


def _names(probe: Path) -> Check:
    """Whether names that people take for two are one there."""
    same = []
    for one, other, what in (
        ("a", "A", "upper and lower case"),
        ("\u00e9", "e\u0301", "ways to write an accent"),
    ):
        try:
            _files.perform(fs.WriteNew(str(probe / one), b""))
        except OSError:
            return Check("names", "warning", f"{one!r} can't be the name of a file", "use plain names")
        if _files.perform(fs.Exists(str(probe / other))):
            same.append(what)
    if same:
        text = f"{' and '.join(same)} are not told apart: items whose names differ in that only have one output"
        return Check("names", "warning", text, "give items names that differ in more")
    longest = os.pathconf(probe, "PC_NAME_MAX")
    if longest < 255:
        return Check(
            "names", "problem", f"no longer than {longest} bytes; 255 are needed", "use another filesystem"
        )
    return Check("names", "ok", "differ by case and accents, up to 255 bytes")


_PROBES: Final[dict[str, Callable[[Path], Check]]] = {
    "writing": _writing,
    "creation": _creation,
    "fsync": _syncing,
    "clock": _clock,
    "names": _names,
}


def _sharing(directory: Path) -> Check:
    """Whether others may read what this user writes there, if it is a place for several."""
    mode = os.stat(directory).st_mode
    mask = os.umask(0o077)
    os.umask(mask)
    others_write = mode & 0o022
    if others_write and mask & (0o040 if others_write == 0o020 else 0o044):
        return Check(
            "sharing",
            "warning",
            f"others may write there, and could not read this user's claims (umask {mask:03o}): their items would fail",
            "umask 027 or 022, before the program starts",
        )
    return Check("sharing", "ok", "claims can be read by those who may write there")


def _space(directory: Path) -> Check:
    found = os.statvfs(directory)
    free, inodes = found.f_bavail * found.f_frsize, found.f_favail
    counts_inodes = found.f_files > 0
    text = f"{free / 2**30:,.1f} GiB free" + (f", room for {inodes:,} files" if counts_inodes else "")
    cure = "make room; a full directory ends maps with OutputDirectoryError, and loses no output"
    if found.f_flag & os.ST_RDONLY:
        return Check("space", "problem", "the filesystem is mounted read-only", "mount it for writing")
    if free < BYTES_NONE or (counts_inodes and inodes < INODES_NONE):
        return Check("space", "problem", text, cure)
    if free < BYTES_FEW or (counts_inodes and inodes < INODES_FEW):
        return Check("space", "warning", text, cure)
    return Check("space", "ok", text)

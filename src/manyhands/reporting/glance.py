"""How far maps are that write journals, by a look at the begin and the end of each: cheap, however long they are."""

from __future__ import annotations

import json
import os
import stat
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from manyhands.reporting.journal import is_journal

TAIL_BYTES: Final = 64 * 1024
QUIET_SECONDS: Final = 600.0
"""A map of another machine whose journal has not changed for so long is taken to have ended without saying so."""


@dataclass(frozen=True, slots=True)
class Glance:
    """A map, as its journal has it.

    Attributes:
        function: the function's name.
        host: where it was started.
        pid: of its process there.
        begun: when, as a unix time in seconds.
        total: number of items; None: unknown.
        settled: items that have ended, here or elsewhere, when it last said so.
        state: "running", "ended", or "lost": its process ended without saying so, or nothing was heard for long.
    """

    function: str
    host: str
    pid: int
    begun: float
    total: int | None
    settled: int
    state: str

    @property
    def left(self) -> int | None:
        """Items that have not ended; None: unknown."""
        return None if self.total is None else max(0, self.total - self.settled)


def glances(directory: str | os.PathLike[str], host: str) -> list[Glance]:
    """The maps whose journals are in ``directory``, by their begin, as seen from a process on ``host``.

    Raises:
        OSError: the directory can't be read.
    """
    with os.scandir(directory) as entries:
        paths = [Path(entry.path) for entry in entries if is_journal(entry.name)]
    found = [seen for path in paths if (seen := _glance(path, host)) is not None]
    return sorted(found, key=lambda seen: (seen.begun, seen.host, seen.pid))


def left_of(seen: Iterable[Glance]) -> int | None:
    """Items that have not ended of the maps that run; None: nobody knows.

    Maps that share a directory are about the same items, mostly: so it is not their sum, but the most of them.
    """
    left = [one.left for one in seen if one.state == "running"]
    known = [number for number in left if number is not None]
    return max(known) if known and len(known) == len(left) else None


def _glance(path: Path, host: str) -> Glance | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                return None
            header = _parsed(file.readline(TAIL_BYTES))
            if file.tell() < status.st_size - TAIL_BYTES:
                file.seek(status.st_size - TAIL_BYTES)
                file.readline()
            lines = file.read().splitlines()
    except OSError:
        return None
    if not isinstance(header, dict) or header.get("kind") != "journal":
        return None
    settled, over = 0, False
    for line in reversed(lines):
        if line.startswith((b'["c"', b'["e"')):
            row = _parsed(line)
            over |= isinstance(row, list) and row[:1] == ["e"]
            if isinstance(row, list) and row[:1] == ["c"]:
                settled = sum(number for number in row[1:] if isinstance(number, int))
                break
    try:
        total, pid = header.get("total"), int(header["pid"])
        own, begun = str(header.get("host", "")), float(header["begun"])
    except (KeyError, TypeError, ValueError):
        return None
    gone = not _lives(pid) if own == host else time.time() - status.st_mtime > QUIET_SECONDS
    state = "ended" if over else "lost" if gone else "running"
    total = total if isinstance(total, int) else None
    return Glance(str(header.get("function", "?")), own, pid, begun, total, settled, state)


def _parsed(line: bytes) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (ProcessLookupError, OverflowError):
        return False
    return True

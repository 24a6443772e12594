"""A filesystem in memory that performs the operations of ``manyhands.claims.filesystem``.

Names lead to files and a file may have several names, so that what is written into a staging after it was
published is seen in the output, as on a real disk.
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from manyhands.claims import filesystem as fs
from manyhands.claims.record import Claimant
from manyhands.claims.watch import Moment, Stamp


@dataclass(frozen=True, slots=True)
class Write:
    """What the user's function does: open for writing, which empties the file or makes it, and write."""

    path: Path
    data: bytes


Frozen = tuple[tuple[tuple[str, int], ...], tuple[bytes, ...]]
"""A state of the filesystem: names with their file's number, and the files' bytes by number."""


class ModelFileSystem:
    """Names and files; ``links=False`` refuses hard links as FAT does.

    ``dead`` holds the tokens that ``Judge`` calls dead; the clock stands still at ``clock`` seconds.
    """

    def __init__(self, *, links: bool = True) -> None:
        self.links = links
        self.names: dict[str, int] = {}
        self.files: dict[int, bytes] = {}
        self.dead: frozenset[str] = frozenset()
        self.clock = 0.0

    def __repr__(self) -> str:
        return f"<ModelFileSystem {sorted(self.names)}>"

    def freeze(self) -> Frozen:
        """The present state; equal states are equal values."""
        numbers: dict[int, int] = {}
        names = []
        for name, number in sorted(self.names.items()):
            names.append((name, numbers.setdefault(number, len(numbers))))
        return tuple(names), tuple(self.files[number] for number in numbers)

    def thaw(self, frozen: Frozen) -> None:
        """Go back to a state."""
        names, files = frozen
        self.names = dict(names)
        self.files = dict(enumerate(files))

    def content(self, path: Path) -> bytes | None:
        """What is in the file, or None."""
        number = self.names.get(str(path))
        return None if number is None else self.files[number]

    def perform(self, operation: fs.Operation | Write, /) -> Any:
        """The reply; raises OSError."""
        match operation:
            case fs.Exists(path):
                return str(path) in self.names
            case fs.Read(path):
                return self.files[self._number(path)]
            case fs.Sync(path):
                self._number(path)
            case fs.WriteNew(path, data):
                self._free(path)
                self._make(path, data)
            case Write(path, data):
                if str(path) in self.names:
                    self.files[self.names[str(path)]] = data
                else:
                    self._make(path, data)
            case fs.Unlink(path) | fs.Remove(path):
                self._number(path)
                del self.names[str(path)]
            case fs.Link(source, target):
                self._link(source, target)
            case fs.RenameNew(source, target):
                number = self._number(source)
                self._free(target)
                del self.names[str(source)]
                self.names[str(target)] = number
            case fs.Rename(source, target):
                number = self._number(source)
                if self.names.get(str(target)) != number:  # two names of one file: POSIX leaves both
                    del self.names[str(source)]
                    self.names[str(target)] = number
            case fs.Judge() | fs.Pulse() | fs.Now():
                return self._told(operation)
            case fs.SyncDirectory() | fs.RefreshDirectory():
                pass
        return None

    def _told(self, operation: fs.Judge | fs.Pulse | fs.Now) -> Any:
        """What can be learned of claimants; their records never change here."""
        match operation:
            case fs.Judge(claimant):
                return self.judge(claimant)
            case fs.Pulse():
                return Stamp(0, 0, 0)
        return Moment("model", self.clock)

    def judge(self, claimant: Claimant) -> fs.Life:
        """Whether ``claimant`` is among the dead."""
        return "dead" if claimant.token in self.dead else "unknown"

    def _link(self, source: Path, target: Path) -> None:
        number = self._number(source)
        if not self.links:
            raise _error(errno.EPERM, target)
        self._free(target)
        self.names[str(target)] = number

    def _make(self, path: Path, data: bytes) -> None:
        number = max(self.files, default=-1) + 1
        self.names[str(path)] = number
        self.files[number] = data

    def _number(self, path: Path) -> int:
        if str(path) not in self.names:
            raise _error(errno.ENOENT, path)
        return self.names[str(path)]

    def _free(self, path: Path) -> None:
        if str(path) in self.names:
            raise _error(errno.EEXIST, path)


def _error(number: int, path: Path) -> OSError:
    return OSError(number, os.strerror(number), str(path))

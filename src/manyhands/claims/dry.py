"""A filesystem that does nothing, and answers as if it had: what would be removed, and what would be published."""

from __future__ import annotations

import errno
import os
from typing import Any

from manyhands.claims import filesystem as fs
from manyhands.claims.liveness import life


class DryFileSystem:
    """Reads the real one; what is changed is remembered.

    Attributes:
        made, gone: the names that were changed so.
    """

    def __init__(self) -> None:
        # What stands there: what another name stands for, or these bytes.
        self.made: dict[str, str | bytes] = {}
        self.gone: set[str] = set()
        self._real = fs.LocalFileSystem()

    def perform(self, operation: fs.Operation, /) -> Any:
        """The reply; raises OSError."""
        match operation:
            case fs.Judge(claimant):  # its record was just read; the real one removes those of the dead
                return life(claimant)
            case fs.Exists(path):  # Written is one
                return path in self.made or (path not in self.gone and self._real.perform(operation))
            case fs.Read(path):
                return self._read(path)
            case fs.WriteNew(path, data):
                self._make(path, data)
            case fs.Link(source, target) | fs.RenameNew(source, target):
                self._make(target, self._found(source))
                if isinstance(operation, fs.RenameNew):
                    self._take(source)
            case fs.Rename(source, target):
                self.made[target] = self._found(source)
                self._take(source)
            case fs.Unlink(path) | fs.Remove(path):
                self._found(path)
                self._take(path)
            case fs.Sync() | fs.SyncDirectory():
                pass
            case _:
                return self._real.perform(operation)
        return None

    def _read(self, path: str) -> bytes:
        found = self._found(path)
        return found if isinstance(found, bytes) else fs.read_record(found)

    def _found(self, path: str) -> str | bytes:
        if path in self.made:
            return self.made[path]
        if path in self.gone or not self._real.perform(fs.Exists(path)):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return path

    def _make(self, path: str, what: str | bytes) -> None:
        if self.perform(fs.Exists(path)):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
        self.made[path] = what

    def _take(self, path: str) -> None:
        self.made.pop(path, None)
        self.gone.add(path)

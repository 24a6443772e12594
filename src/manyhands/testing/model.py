"""A filesystem in memory that performs the operations of ``manyhands.claims.filesystem``, with knobs.

Names lead to files and a file may have several names, so that what is written into a staging after it was
published is seen in the output, as on a real disk. Everything is a value: ``freeze`` and ``thaw`` go to and fro
between states, which is how the explorer tries what comes after each.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

from manyhands.claims import filesystem as fs
from manyhands.claims.names import record_file
from manyhands.claims.record import Claimant
from manyhands.claims.watch import Moment, Stamp


@dataclass(frozen=True, slots=True)
class Write:
    """What the user's function does: open for writing, which empties the file or makes it, and write."""

    path: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Knobs:
    """What kind of filesystem it is; as it stands, a local one.

    Attributes:
        links: whether there are hard links; FAT has none, and says EPERM.
        moves: whether a rename can be told not to replace; else EINVAL where the name is free, as NFS says.
        taken: what is said of a name that is taken; sshfs says EPERM.
        caches: whether each client remembers what it saw under a name, or that nothing was there. What it
            remembers may be told in place of the truth until it refreshes the directory, as on NFS. Files
            that are gone under such a name are ESTALE.
        volatile: whether bytes and names are lost with the power until they are synced.
        grain: seconds, of which the times of files are multiples.
        skews: seconds by which the clock of each client is ahead of the server's; none: all agree.
        by_client: whether who touches a file writes the time of its own clock, as on SMB; else the server's.
    """

    links: bool = True
    moves: bool = True
    taken: int = errno.EEXIST
    caches: bool = False
    volatile: bool = False
    grain: int = 1
    skews: tuple[int, ...] = ()
    by_client: bool = False


LOCAL: Final = Knobs()

Change = fs.Link | fs.Rename | fs.RenameNew | fs.WriteNew | fs.Unlink | fs.Remove


class Frozen(NamedTuple):
    """A state of the filesystem; equal states are equal values.

    Attributes:
        names: names with their file's number.
        files: the files' bytes, by number.
        rest: what the knobs and the faults add, empty without them.
    """

    names: tuple[tuple[str, int], ...]
    files: tuple[bytes, ...]
    rest: tuple[Any, ...] = ()

    def content(self, path: str) -> bytes | None:
        """What is in the file, or None."""
        return next((self.files[number] for name, number in self.names if name == path), None)


class ModelFileSystem:
    """Names and files, as ``knobs`` say.

    Attributes:
        dead: the tokens that ``Judge`` calls dead.
        time: seconds on the server's clock, and on everybody's monotonic one.
        pending: changes that were reported as failed and happen later.
    """

    def __init__(self, knobs: Knobs = LOCAL) -> None:
        self.knobs = knobs
        self.names: dict[str, int] = {}
        self.files: dict[int, bytes] = {}
        self.dead: frozenset[str] = frozenset()
        self.time = 0
        self.pending: list[Change] = []
        self._touched: dict[int, int] = {}  # times of files
        self._seen: dict[tuple[int, str], int | None] = {}  # what clients remember
        self._kept_names: dict[str, int] = {}  # what a loss of power leaves
        self._kept_files: dict[int, bytes] = {}

    def __repr__(self) -> str:
        return f"<ModelFileSystem {sorted(self.names)}>"

    def freeze(self) -> Frozen:
        """The present state."""
        numbers: dict[int, int] = {}
        names = tuple(
            (name, numbers.setdefault(number, len(numbers))) for name, number in sorted(self.names.items())
        )
        if not (self.time or self.pending or self._touched or self._seen or self.knobs.volatile):
            return Frozen(names, tuple(self.files[number] for number in numbers))
        seen = tuple(sorted((key, numbers.get(at, -1)) for key, at in self._seen.items() if at is not None))
        absent = tuple(sorted(key for key, at in self._seen.items() if at is None))
        kept = tuple(
            (name, numbers.setdefault(number, len(numbers)))
            for name, number in sorted(self._kept_names.items())
        )
        kept_files = tuple(self._kept_files.get(number) for number in numbers)
        touched = tuple(self._touched.get(number, 0) for number in numbers) if self._touched else ()
        rest = (self.time, tuple(self.pending), touched, seen, absent, kept, kept_files)
        return Frozen(names, tuple(self.files[number] for number in numbers), rest)

    def thaw(self, frozen: Frozen) -> None:
        """Go back to a state."""
        self.names = dict(frozen.names)
        self.files = dict(enumerate(frozen.files))
        self.time, self.pending, self._touched, self._seen = 0, [], {}, {}
        self._kept_names, self._kept_files = {}, {}
        if frozen.rest:
            self.time, pending, touched, seen, absent, kept, kept_files = frozen.rest
            self.pending = list(pending)
            self._touched = dict(enumerate(touched))
            self._seen = {**dict(seen), **dict.fromkeys(absent)}
            self._kept_names = dict(kept)
            self._kept_files = {number: data for number, data in enumerate(kept_files) if data is not None}

    def content(self, path: str) -> bytes | None:
        """What is in the file, or None."""
        number = self.names.get(path)
        return None if number is None else self.files[number]

    def perform(self, operation: fs.Operation | Write, /, client: int = 0) -> Any:
        """The reply to ``client``; raises OSError. What it is told of names is the truth: see ``stale``."""
        match operation:
            case fs.Exists(path):
                self._remember(client, path)
                return path in self.names
            case fs.Read(path):
                self._remember(client, path)
                return self.files[self._number(path)]
            case fs.List(path):
                return self._listed(path)
            case fs.Judge() | fs.Pulse() | fs.Now():
                return self._told(operation, client)
            case fs.Sync(path):
                self._sync(path)
            case fs.SyncDirectory(path):
                self._sync_directory(path)
            case fs.RefreshDirectory(path):
                self._forget(client, path)
            case Write(path, data):
                if path in self.names:
                    self.files[self.names[path]] = data
                else:
                    self._make(path, data)
            case _:
                try:
                    self._change(operation)
                finally:
                    for name in ("path", "source", "target"):
                        if hasattr(operation, name):  # who asked the server itself knows
                            self._remember(client, getattr(operation, name))
        return None

    def stale(self, operation: fs.Exists | fs.Read, client: int) -> Any:
        """What ``client`` may be told instead, by what it remembers; an OSError is returned, not raised."""
        key = (client, operation.path)
        if key not in self._seen or self._seen[key] == self.names.get(key[1]):
            return None
        number = self._seen[key]
        if isinstance(operation, fs.Exists):
            return number is not None
        if number is None:
            return _error(errno.ENOENT, operation.path)
        return self.files[number] if number in self.files else _error(errno.ESTALE, operation.path)

    def forget(self, clients: Sequence[int]) -> None:
        """What these remember of names is too old to be told."""
        self._seen = {key: at for key, at in self._seen.items() if key[0] not in clients}

    def delay(self, change: Change) -> None:
        """It will happen, if it can then: see ``land``."""
        self.pending.append(change)

    def land(self, number: int) -> None:
        """A delayed change happens now."""
        try:
            self._change(self.pending.pop(number))
        except OSError:
            pass

    def tear(self, write: fs.WriteNew) -> None:
        """The half of it that a full disk takes, or that is there when its writer is killed."""
        self._change(write._replace(data=write.data[: len(write.data) // 2]))

    def touch(self, path: str, client: int) -> None:
        """What a beat does, at the time that the server or the client takes it to be."""
        skews = self.knobs.skews
        now = self.time + (skews[client] if self.knobs.by_client and skews else 0)
        self._touched[self._number(path)] = now - now % self.knobs.grain

    def lose_power(self) -> Iterator[tuple[str, Frozen]]:
        """What may be left: of what was not synced everything, nothing, or all but one; bytes whole or as they were."""
        self.thaw(self.freeze())  # so that the numbers are those of what is tried
        open_names = sorted(
            name
            for name in self.names.keys() | self._kept_names.keys()
            if self.names.get(name) != self._kept_names.get(name)
        )
        choices = {
            "everything": set(open_names),
            "nothing": set[str](),
            **{f"only {Path(name).name}": {name} for name in open_names},
            **{f"all but {Path(name).name}": set(open_names) - {name} for name in open_names},
        }
        torn = [number for number, data in self.files.items() if self._kept_files.get(number) != data]
        both = set(self.names.values()) & set(self._kept_names.values())
        before = self.freeze()
        left = set()
        for what, happened in choices.items():
            for cut in (False, True) if torn else (False,):
                self.thaw(before)
                for name in open_names:
                    source = self.names if name in happened else self._kept_names
                    if name in source:
                        self._kept_names[name] = source[name]
                    else:
                        self._kept_names.pop(name, None)
                for number in self.files:
                    data = self._kept_files.get(number, b"")
                    self._kept_files[number] = data if cut else self.files[number]
                if both - set(self._kept_names.values()):
                    continue  # a rename happens or not: it does not lose its file
                self.names, self.files = dict(self._kept_names), dict(self._kept_files)
                self.pending, self._seen = [], {}
                if (frozen := self.freeze()) not in left:
                    left.add(frozen)
                    yield f"{what} was on the disk{', bytes were not' if cut else ''}", frozen
        self.thaw(before)

    def sync_all(self) -> None:
        """All that is there is on the disk."""
        self._kept_names, self._kept_files = dict(self.names), dict(self.files)

    def _change(self, change: Change) -> None:
        match change:
            case fs.WriteNew(path, data):
                self._free(path)
                self._make(path, data)
            case fs.Unlink(path) | fs.Remove(path):
                self._number(path)
                del self.names[path]
            case fs.Link(source, target):
                number = self._number(source)
                if not self.knobs.links:
                    raise _error(errno.EPERM, target)
                self._free(target)
                self.names[target] = number
            case fs.RenameNew(source, target):
                number = self._number(source)
                self._free(target)
                if not self.knobs.moves:
                    raise _error(errno.EINVAL, target)
                del self.names[source]
                self.names[target] = number
            case fs.Rename(source, target):
                number = self._number(source)
                if self.names.get(target) != number:  # two names of one file: POSIX leaves both
                    del self.names[source]
                    self.names[target] = number

    def _told(self, operation: fs.Judge | fs.Pulse | fs.Now, client: int) -> Any:
        """What can be learned of claimants."""
        match operation:
            case fs.Judge(claimant, directory):
                return self._life(claimant, directory)
            case fs.Pulse(path):
                seconds = self._touched.get(self._number(path), 0)
                return Stamp(seconds * 10**9, seconds * 10**9, 0)
        skews = self.knobs.skews
        return Moment(f"client {client}", float(self.time + (skews[client] if skews else 0)))

    def _life(self, claimant: Claimant, directory: str | None) -> fs.Life:
        if directory is not None and str(record_file(directory, claimant.token, "claim")) not in self.names:
            word = record_file(directory, claimant.token, "released")
            return "released" if word in self.names else "dead"
        return "dead" if claimant.token in self.dead else "unknown"

    def _listed(self, directory: str) -> tuple[fs.Entry, ...]:
        names = map(os.path.split, sorted(self.names))
        return tuple(fs.Entry(name, is_directory=False) for where, name in names if where == directory)

    def _remember(self, client: int, path: str) -> None:
        if self.knobs.caches:
            self._seen[client, path] = self.names.get(path)

    def _forget(self, client: int, directory: str) -> None:
        self._seen = {
            (whose, name): at
            for (whose, name), at in self._seen.items()
            if whose != client or os.path.dirname(name) != directory
        }

    def _sync(self, path: str) -> None:
        number = self._number(path)
        if self.knobs.volatile:
            self._kept_files[number] = self.files[number]

    def _sync_directory(self, directory: str) -> None:
        if self.knobs.volatile:
            inside = {
                name for name in self.names.keys() | self._kept_names if os.path.dirname(name) == directory
            }
            self._kept_names = {
                **{name: number for name, number in self._kept_names.items() if name not in inside},
                **{name: number for name, number in self.names.items() if name in inside},
            }

    def _make(self, path: str, data: bytes) -> None:
        number = max(self.files, default=-1) + 1
        self.names[path] = number
        self.files[number] = data

    def _number(self, path: str) -> int:
        if path not in self.names:
            raise _error(errno.ENOENT, path)
        return self.names[path]

    def _free(self, path: str) -> None:
        if path in self.names:
            raise _error(self.knobs.taken, path)


def _error(number: int, path: str) -> OSError:
    return OSError(number, os.strerror(number), path)

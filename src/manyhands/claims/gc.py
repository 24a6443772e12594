"""Removing what claims leave behind.

What decides whether something is still needed is read after its owners were found dead, so that the worst that
a process which starts meanwhile can suffer is to compute an output once more.
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass, field
from pathlib import Path

from manyhands.claims import protocol
from manyhands.claims.filesystem import Judge, Link, LocalFileSystem, Remove, Unlink, read_record, run
from manyhands.claims.names import (
    TOKEN_LENGTH,
    Log,
    RecordName,
    SlotName,
    StagingName,
    final_name,
    parse,
    record_file,
)
from manyhands.claims.record import Claim, Commit, Fail, Record, Unreadable, decode, encode, is_ours
from manyhands.errors import OutputDirectoryError


def gc(directory: str | os.PathLike[str], now: bool = False) -> list[Path]:
    """As ``manyhands.gc``, which says what it does."""
    found = _scan(Path(directory))
    collector = _Collector(Path(directory), now, found)
    for prefix in sorted(found.slots.keys() | found.stagings.keys()):
        collector.collect_log(prefix)
    for token, paths in sorted(found.records.items()):
        if collector.is_dead(token):
            for path in paths:
                if path.name.endswith(".released-record") and token in collector.remembered:
                    continue  # without it that claim would count as a crash
                if not isinstance(_own(path), str):
                    collector.remove(path)
    return collector.removed


def remove_output(log: Log) -> list[Path]:
    """Remove an output and its log; returns which of its files were there. Call it only while nobody computes it.

    Raises:
        OutputDirectoryError: there is something in the place of a slot that is none of ours; nothing was removed.
    """
    slots: list[Record | Unreadable] = []
    while (found := _own(path := log.slot(len(slots)))) is not None:
        if isinstance(found, str):
            raise OutputDirectoryError(
                errno.EEXIST,
                f"{str(path)!r} stands in the place of a claim of {log.final.name!r}, and is none ({found}): nothing "
                f"of this output was removed; move that away first",
            )
        slots.append(found)
    filesystem, removed = LocalFileSystem(), []
    for final in reversed(log.finals):  # the one that tells of all goes first
        if os.path.lexists(final):
            filesystem.perform(Remove(final))
            removed.append(final)
    for number in reversed(range(len(slots))):
        record = slots[number]
        if isinstance(record, Claim):
            run(protocol.drop(*log.stagings(number, record.token)), filesystem)
        filesystem.perform(Unlink(log.slot(number)))
    return removed


def why_unreadable(path: Path) -> str:
    """Why there is no record in this slot, in words."""
    try:
        record = decode(read_record(path))
    except OSError as error:
        return error.strerror or str(error)
    return record.reason if isinstance(record, Unreadable) else "now it can"


def _own(path: Path) -> Record | Unreadable | str | None:
    """The record of ours in ``path``, be it torn; why it is none of ours; None if nothing is there."""
    try:
        data = read_record(path)
    except FileNotFoundError:
        return None
    found = decode(data)
    return found.reason if isinstance(found, Unreadable) and not is_ours(data) else found


def _owners(slots: dict[int, Record | Unreadable]) -> set[str]:
    return {record.token for record in slots.values() if isinstance(record, Claim | Commit)}


@dataclass
class _Found:
    slots: dict[str, dict[int, Path]] = field(default_factory=dict)
    stagings: dict[str, dict[Path, StagingName]] = field(default_factory=dict)
    records: dict[str, list[Path]] = field(default_factory=dict)


def _scan(directory: Path) -> _Found:
    found = _Found()
    with os.scandir(directory) as entries:
        for entry in entries:
            name = parse(entry.name)
            if name is None or not (
                entry.is_file(follow_symlinks=False)
                or (isinstance(name, StagingName) and entry.is_dir(follow_symlinks=False))
            ):
                continue
            path = directory / entry.name
            match name:
                case SlotName(prefix, number):
                    found.slots.setdefault(prefix, {})[number] = path
                case StagingName(prefix):
                    found.stagings.setdefault(prefix, {})[path] = name
                case RecordName(token):
                    found.records.setdefault(token, []).append(path)
    for paths in found.records.values():
        paths.sort(reverse=True)  # the claim record, which keeps its owner alive, goes last
    return found


class _Collector:
    def __init__(self, directory: Path, now: bool, found: _Found) -> None:
        self.directory = directory
        self.now = now
        self.found = found
        self.removed: list[Path] = []
        self.filesystem = LocalFileSystem()
        self.remembered: set[str] = set()  # owners in logs that stay
        self._dead: dict[str, bool] = {}
        self._links: bool | None = None

    def collect_log(self, prefix: str) -> None:
        """Remove the log's slots, unless somebody needs them, and the stagings of the dead."""
        stagings = self.found.stagings.get(prefix, {})
        idle = {name.token for name in stagings.values() if self.is_dead(name.token)}
        dead = {owner for owner in _owners(self._read(prefix)) if self.is_dead(owner)}
        slots = self._read(prefix)  # again: nothing that they did can be missing now
        all_dead = _owners(slots) <= dead
        kept = self._publish(prefix, slots, stagings)
        if kept is None and (self.now or (all_dead and self._may_go(prefix, slots, stagings))):
            for number in sorted(slots, reverse=True):
                self.remove(self._slot(prefix, number))
        else:
            self.remembered |= _owners(slots)
        for path, name in stagings.items():
            if name.token in idle and (name.number, name.token) != kept:
                self.remove(path)

    def is_dead(self, token: str) -> bool:
        """Whether the claimant ``token`` can no longer act here."""
        if self.now:
            return True
        if token not in self._dead:
            self._dead[token] = self._judge(token)
        return self._dead[token]

    def remove(self, path: Path) -> None:
        """Another may have been faster; where others' files are protected, as in /tmp, they are theirs to remove."""
        try:
            self.filesystem.perform(Remove(path))
        except FileNotFoundError:
            return
        except PermissionError:
            if not os.access(self.directory, os.W_OK | os.X_OK):
                raise
            return
        self.removed.append(path)

    def _judge(self, token: str) -> bool:
        path = record_file(self.directory, token, "claim")
        try:
            data = read_record(path)
        except FileNotFoundError:
            # A claimant that is about to write its first record has no claim record yet, but also no slot.
            return True
        record = decode(data)
        if not isinstance(record, Claim):
            return False
        return bool(self.filesystem.perform(Judge(record.claimant, self.directory)) != "unknown")

    def _slot(self, prefix: str, number: int) -> Path:
        return self.directory / f"{prefix}-{number}"

    def _read(self, prefix: str) -> dict[int, Record | Unreadable]:
        """The log's slots by number; a foreign file of such a name is none."""
        slots: dict[int, Record | Unreadable] = {}
        for number in self.found.slots.get(prefix, ()):
            found = _own(self._slot(prefix, number))
            if found is not None and not isinstance(found, str):
                slots[number] = found
        number = max(slots, default=-1) + 1
        while not self.now and (record := run(protocol.look(self._slot(prefix, number)), self.filesystem)):
            slots[number] = record  # made since the scan
            number += 1
        return slots

    def _publish(
        self, prefix: str, slots: dict[int, Record | Unreadable], stagings: dict[Path, StagingName]
    ) -> tuple[int, str] | None:
        """Roll the log's COMMIT forward; returns the claim if that must wait for the next run."""
        last = max(slots, default=-1)
        head = slots.get(last)
        if not isinstance(head, Commit):
            return None
        for path, name in stagings.items():
            if (name.number, name.token) != (last - 1, head.token) or name.part is not None:
                continue
            if not os.path.lexists(path):
                continue
            final = final_name(name)
            if (
                final is None or SlotName(prefix, last).is_of_several
            ):  # only the function knows where it belongs
                return name.number, name.token
            log = Log(self.directory / final, self.directory / prefix)
            run(protocol.publish(log, (path,)), self.filesystem)
            if not os.path.lexists(path):
                self.removed.append(path)
        return None

    def _may_go(
        self, prefix: str, slots: dict[int, Record | Unreadable], stagings: dict[Path, StagingName]
    ) -> bool:
        """Whether a log, all of whose owners are dead, says nothing that the next claimant should know."""
        if any(isinstance(record, Unreadable) for record in slots.values()):
            return False
        if any(isinstance(record, Fail) for record in slots.values()) and not self._final_exists(
            prefix, stagings
        ):
            return False
        if len(slots) <= 2:
            return True
        return self._has_links() and not SlotName(prefix, 0).is_of_several

    def _final_exists(self, prefix: str, stagings: dict[Path, StagingName]) -> bool:
        names = {final_name(name) for name in stagings.values()}
        several = SlotName(prefix, 0).is_of_several
        names.add(prefix.removeprefix(".").removesuffix(".claims" if several else ".claim"))
        for name in names:
            if name and os.path.lexists(self.directory / name):
                return Log.of(self.directory / name, parts=[name] if several else ()).prefix.name == prefix
        return False

    def _has_links(self) -> bool:
        """Whether outputs are published by link here; by rename a zombie could replace one."""
        if self._links is None:
            token = os.urandom(TOKEN_LENGTH // 2).hex()
            source, target = (record_file(self.directory, token, kind) for kind in ("verdict", "copy"))
            try:
                run(protocol.write_private(source, encode(Fail(token, "probe"))), self.filesystem)
                self.filesystem.perform(Link(source, target))
                self._links = True
            except OSError:
                self._links = False
            run(protocol.drop(target), self.filesystem)
            run(protocol.drop(source), self.filesystem)
        return self._links

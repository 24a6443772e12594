"""Removing what claims leave behind.

What decides whether something is still needed is read after its owners were found dead, so that the worst that
a process which starts meanwhile can suffer is to compute an output once more. Steps over a filesystem, as the
protocol is.
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass, field
from pathlib import Path

from manyhands.claims import protocol
from manyhands.claims.filesystem import (
    Exists,
    FileSystem,
    Judge,
    Link,
    List,
    LocalFileSystem,
    Read,
    Remove,
    Steps,
    Unlink,
    read_record,
    run,
)
from manyhands.claims.names import (
    TOKEN_LENGTH,
    JournalName,
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


def gc(
    directory: str | os.PathLike[str], now: bool = False, filesystem: FileSystem | None = None
) -> list[Path]:
    """As ``manyhands.gc``, which says what it does; on another ``filesystem`` than the real one, if given."""
    token = os.urandom(TOKEN_LENGTH // 2).hex()
    removed = run(collect(str(Path(directory)), token, now=now), filesystem or LocalFileSystem())
    return [Path(path) for path in removed]


def collect(directory: str, token: str, *, now: bool = False) -> Steps[list[str]]:
    """What ``gc`` does; ``token`` names the files by which it tries whether there are hard links."""
    found = yield from _scan(directory)
    collector = _Collector(directory, token, now, found)
    for prefix in sorted(found.slots.keys() | found.stagings.keys()):
        yield from collector.collect_log(prefix)
    for owner, paths in sorted(found.records.items()):
        if (yield from collector.is_dead(owner)):
            for path in paths:
                if path.endswith(".released-record") and owner in collector.remembered:
                    continue  # without it that claim would count as a crash
                if not isinstance((yield from _own(path)), str):
                    yield from collector.remove(path)
    for path in found.journals if now else ():
        if not isinstance((yield from _own(path)), str):
            yield from collector.remove(path)
    return collector.removed


def remove_output(log: Log) -> list[Path]:
    """Remove an output and its log; returns which of its files were there. Call it only while nobody computes it.

    Raises:
        OutputDirectoryError: there is something in the place of a slot that is none of ours; nothing was removed.
    """
    filesystem, removed = LocalFileSystem(), []
    slots: list[Record | Unreadable] = []
    while (found := run(_own(path := log.slot(len(slots))), filesystem)) is not None:
        if isinstance(found, str):
            raise OutputDirectoryError(
                errno.EEXIST,
                f"{path!r} stands in the place of a claim of {os.path.basename(log.final)!r}, and is none "
                f"({found}): nothing of this output was removed; move that away first",
            )
        slots.append(found)
    for final in reversed(log.finals):  # the one that tells of all goes first
        if os.path.lexists(final):
            filesystem.perform(Remove(final))
            removed.append(Path(final))
    for number in reversed(range(len(slots))):
        record = slots[number]
        if isinstance(record, Claim):
            run(protocol.drop(*log.stagings(number, record.token)), filesystem)
        filesystem.perform(Unlink(log.slot(number)))
    return removed


def why_unreadable(path: str) -> str:
    """Why there is no record in this slot, in words."""
    try:
        record = decode(read_record(path))
    except OSError as error:
        return error.strerror or str(error)
    return record.reason if isinstance(record, Unreadable) else "now it can"


def _own(path: str) -> Steps[Record | Unreadable | str | None]:
    """The record of ours in ``path``, be it torn; why it is none of ours; None if nothing is there."""
    try:
        data = yield Read(path)
    except FileNotFoundError:
        return None
    found = decode(data)
    return found.reason if isinstance(found, Unreadable) and not is_ours(data) else found


def _owners(slots: dict[int, Record | Unreadable]) -> set[str]:
    return {record.token for record in slots.values() if isinstance(record, Claim | Commit)}


@dataclass
class _Found:
    slots: dict[str, dict[int, str]] = field(default_factory=dict)
    stagings: dict[str, dict[str, StagingName]] = field(default_factory=dict)
    records: dict[str, list[str]] = field(default_factory=dict)
    journals: list[str] = field(default_factory=list)


def _scan(directory: str) -> Steps[_Found]:
    found = _Found()
    for entry in sorted((yield List(directory))):
        name = parse(entry.name)
        if name is None or (entry.is_directory and not isinstance(name, StagingName)):
            continue
        path = os.path.join(directory, entry.name)
        match name:
            case SlotName(prefix, number):
                found.slots.setdefault(prefix, {})[number] = path
            case StagingName(prefix):
                found.stagings.setdefault(prefix, {})[path] = name
            case RecordName(token):
                found.records.setdefault(token, []).append(path)
            case JournalName():
                found.journals.append(path)
    for paths in found.records.values():
        paths.sort(reverse=True)  # the claim record, which keeps its owner alive, goes last
    return found


class _Collector:
    def __init__(self, directory: str, token: str, now: bool, found: _Found) -> None:
        self.directory = directory
        self.now = now
        self.found = found
        self.removed: list[str] = []
        self.remembered: set[str] = set()  # owners in logs that stay
        self._token = token
        self._dead: dict[str, bool] = {}
        self._links: bool | None = None

    def collect_log(self, prefix: str) -> Steps[None]:
        """Remove the log's slots, unless somebody needs them, and the stagings of the dead."""
        stagings = self.found.stagings.get(prefix, {})
        idle = yield from self._the_dead({name.token for name in stagings.values()})
        dead = yield from self._the_dead(_owners((yield from self._read(prefix))))
        slots = yield from self._read(prefix)  # again: nothing that they did can be missing now
        all_dead = _owners(slots) <= dead
        kept = yield from self._publish(prefix, slots, stagings)
        may_go = self.now or (all_dead and (yield from self._may_go(prefix, slots, stagings)))
        if kept is None and may_go:
            for number in sorted(slots, reverse=True):
                yield from self.remove(self._slot(prefix, number))
        else:
            self.remembered |= _owners(slots)
        for path, name in stagings.items():
            if name.token in idle and (name.number, name.token) != kept:
                yield from self.remove(path)

    def is_dead(self, token: str) -> Steps[bool]:
        """Whether the claimant ``token`` can no longer act here."""
        if self.now:
            return True
        if token not in self._dead:
            self._dead[token] = yield from self._judge(token)
        return self._dead[token]

    def remove(self, path: str) -> Steps[None]:
        """Another may have been faster; where others' files are protected, as in /tmp, they are theirs to remove."""
        try:
            yield Remove(path)
        except FileNotFoundError:
            return
        except PermissionError:
            if not (yield from self._can_write()):
                raise
            return
        self.removed.append(path)

    def _the_dead(self, tokens: set[str]) -> Steps[set[str]]:
        dead = set()
        for token in sorted(tokens):
            if (yield from self.is_dead(token)):
                dead.add(token)
        return dead

    def _judge(self, token: str) -> Steps[bool]:
        try:
            data = yield Read(record_file(self.directory, token, "claim"))
        except FileNotFoundError:
            # A claimant that is about to write its first record has no claim record yet, but also no slot.
            return True
        record = decode(data)
        if not isinstance(record, Claim):
            return False
        return bool((yield Judge(record.claimant, self.directory)) != "unknown")

    def _slot(self, prefix: str, number: int) -> str:
        return os.path.join(self.directory, f"{prefix}-{number}")

    def _read(self, prefix: str) -> Steps[dict[int, Record | Unreadable]]:
        """The log's slots by number; a foreign file of such a name is none."""
        slots: dict[int, Record | Unreadable] = {}
        for number in self.found.slots.get(prefix, ()):
            found = yield from _own(self._slot(prefix, number))
            if found is not None and not isinstance(found, str):
                slots[number] = found
        number = max(slots, default=-1) + 1
        while not self.now and (record := (yield from protocol.look(self._slot(prefix, number)))):
            slots[number] = record  # made since the scan
            number += 1
        return slots

    def _publish(
        self, prefix: str, slots: dict[int, Record | Unreadable], stagings: dict[str, StagingName]
    ) -> Steps[tuple[int, str] | None]:
        """Roll the log's COMMIT forward; returns the claim if that must wait for the next run."""
        last = max(slots, default=-1)
        head = slots.get(last)
        if not isinstance(head, Commit):
            return None
        for path, name in stagings.items():
            if (name.number, name.token) != (last - 1, head.token) or name.part is not None:
                continue
            if not (yield Exists(path)):
                continue
            final = final_name(name)
            if (
                final is None or SlotName(prefix, last).is_of_several
            ):  # only the function knows where it belongs
                return name.number, name.token
            log = Log(os.path.join(self.directory, final), os.path.join(self.directory, prefix))
            yield from protocol.publish(log, (path,))
            if not (yield Exists(path)):
                self.removed.append(path)
        return None

    def _may_go(
        self, prefix: str, slots: dict[int, Record | Unreadable], stagings: dict[str, StagingName]
    ) -> Steps[bool]:
        """Whether a log, all of whose owners are dead, says nothing that the next claimant should know."""
        if any(isinstance(record, Unreadable) for record in slots.values()):
            return False
        if any(isinstance(record, Fail) for record in slots.values()) and not (
            yield from self._final_exists(prefix, stagings)
        ):
            return False
        if len(slots) <= 2:
            return True
        return (yield from self._has_links()) and not SlotName(prefix, 0).is_of_several

    def _final_exists(self, prefix: str, stagings: dict[str, StagingName]) -> Steps[bool]:
        names = {final_name(name) for name in stagings.values()}
        several = SlotName(prefix, 0).is_of_several
        names.add(prefix.removeprefix(".").removesuffix(".claims" if several else ".claim"))
        for name in sorted(filter(None, names)):
            if (yield Exists(final := os.path.join(self.directory, name))):
                return Log.of(final, parts=[name] if several else ()).stem == prefix
        return False

    def _can_write(self) -> Steps[bool]:
        probe = record_file(self.directory, self._token, "copy")
        try:
            yield from protocol.write_private(probe, encode(Fail(self._token, "probe")))
        except OSError:
            return False
        yield from protocol.drop(probe)
        return True

    def _has_links(self) -> Steps[bool]:
        """Whether outputs are published by link here; by rename a zombie could replace one."""
        if self._links is None:
            source, target = (record_file(self.directory, self._token, kind) for kind in ("verdict", "copy"))
            try:
                yield from protocol.write_private(source, encode(Fail(self._token, "probe")))
                yield Link(source, target)
                self._links = True
            except OSError:
                self._links = False
            yield from protocol.drop(target, source)
        return self._links

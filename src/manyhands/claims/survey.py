"""What is in a directory of outputs, while others are at work there. Reads, and changes nothing.

Between any two steps entries may come, go or change: what has gone is left out, and a claim that looks abandoned is
read once more before it is called so.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

from manyhands.claims import protocol
from manyhands.claims.filesystem import Exists, LocalFileSystem, Pulse, run
from manyhands.claims.liveness import condition
from manyhands.claims.names import (
    Log,
    RecordName,
    SlotName,
    StagingName,
    is_plain,
    output_name,
    parse,
    record_file,
)
from manyhands.claims.record import Claim, Commit, Fail, Record, Unreadable
from manyhands.claims.states import OutputState, Sight, State, attempt_of, decide
from manyhands.claims.watch import Stamp, lease_of

_TRIES: Final = 3
_NANO: Final = 1e9
_files: Final = LocalFileSystem()


@dataclass
class Listing:
    """The names in one directory, sorted by what they are; of finished outputs only their number is kept.

    Attributes:
        directory: which.
        files, directories: how many there are that are not of claims, and whose names don't start with a dot.
        logs: of each log the highest slot.
        stagings: of each log who has written something, by slot and token.
        claimants: the tokens of those who have record files there.
        below: the directories in it, if those are wanted.
    """

    directory: Path
    files: int = 0
    directories: int = 0
    logs: dict[str, int] = field(default_factory=dict)
    stagings: dict[str, set[tuple[int, str]]] = field(default_factory=dict)
    claimants: set[str] = field(default_factory=set)
    below: list[str] = field(default_factory=list)

    def add_ours(self, name: str) -> bool:
        """Take note of a file of a claim; False: it is none."""
        match parse(name):
            case SlotName(prefix, number):
                self.logs[prefix] = max(number, self.logs.get(prefix, 0))
            case StagingName(prefix, number, token):
                self.stagings.setdefault(prefix, set()).add((number, token))
            case RecordName(token):
                self.claimants.add(token)
            case _:
                return False
        return True


@dataclass
class Survey:
    """A look at a directory of outputs; ``read`` it once, then ``counts`` are whole.

    Attributes:
        directory: which; also those below it if it is ``recursive``.
        match: a pattern as shells have it; outputs of other names are left out.
        done: how many files and directories there are that are not of claims; with ``recursive`` only files.
        counts: of outputs that have logs, by state.
        claimants: how many threads of processes have record files there.
        unread: directories below that could not be listed, and why.
        newest: the latest time that was seen on a file of a claim, in seconds since the epoch.
    """

    directory: Path
    recursive: bool = False
    match: str | None = None
    clock: Callable[[], float] = time.time
    done: int = 0
    counts: Counter[State] = field(default_factory=Counter)
    claimants: int = 0
    unread: dict[str, str] = field(default_factory=dict)
    newest: float = 0.0

    def read(self) -> Iterator[OutputState]:
        """One after the other the outputs that have a log and are not done; the claimed ones of a directory last.

        Raises:
            OSError: the directory can't be listed.
        """
        for listing in self._listings():
            yield from self._outputs(listing)

    def _listings(self) -> Iterator[Listing]:
        waiting = [self.directory]
        while waiting:
            directory = waiting.pop()
            try:
                listing = list_names(directory, self._wants, below=self.recursive)
            except OSError as error:
                if directory == self.directory:
                    raise
                if not isinstance(error, FileNotFoundError):
                    self.unread[str(directory)] = error.strerror or str(error)
                continue
            self.done += listing.files + (0 if self.recursive else listing.directories)
            self.claimants += len(listing.claimants)
            waiting += [directory / name for name in sorted(listing.below, reverse=True)]
            yield listing

    def _wants(self, name: str) -> bool:
        return self.match is None or fnmatchcase(name, self.match)

    def _outputs(self, listing: Listing) -> Iterator[OutputState]:
        reader = _Reader(listing, self.clock)
        claimed = []
        for prefix in sorted(listing.logs):
            if not self._wants(output_name(prefix).name):
                continue
            found = reader.state(prefix)
            if found is None:
                continue
            self.counts[found.state] += 1
            if found.state in ("running", "stale"):
                claimed.append(found)
            elif found.state != "done":
                yield found
        for found in claimed:
            yield reader.with_since(found)
        self.newest = max(self.newest, reader.newest)


def list_names(
    directory: Path, wants: Callable[[str], bool] = lambda _: True, *, below: bool = False
) -> Listing:
    """One pass over the directory.

    Raises:
        OSError: it can't be listed.
    """
    listing = Listing(directory)
    with os.scandir(directory) as entries:
        for entry in entries:
            name = entry.name
            if not is_plain(name) and listing.add_ours(name):
                continue
            try:
                is_directory = entry.is_dir(follow_symlinks=False)
            except OSError:
                continue  # its kind is asked for, and it has gone
            if is_directory and below:
                listing.below.append(name)
            if name.startswith(".") or not wants(name):
                continue
            if is_directory:
                listing.directories += 1
            else:
                listing.files += 1
    return listing


class _Reader:
    """Reads the logs of one directory."""

    def __init__(self, listing: Listing, clock: Callable[[], float]) -> None:
        self.newest = 0.0
        self._listing = listing
        self._clock = clock
        self._last_verdict: dict[
            str, float
        ] = {}  # by claimant: it has ended something then, and began the next

    def state(self, prefix: str) -> OutputState | None:
        """What this log says; None if it has gone."""
        named = output_name(prefix)
        directory = self._listing.directory
        log = Log(str(directory / named.name), str(directory / prefix))
        reason = ""
        for _ in range(_TRIES):
            try:
                return self._looked(log, is_here=named.is_here)
            except OSError as error:  # that of a server may pass
                reason = error.strerror or str(error)
        return OutputState(str(directory), named.name, "unreadable", reason, prefix)

    def _looked(self, log: Log, *, is_here: bool) -> OutputState | None:
        slots, found = run(protocol.read(log), _files), None
        for _ in range(_TRIES):
            if not slots:
                return None
            found = self._seen(log, slots, is_here=is_here)
            if found.state not in ("stale", "open", "committed", "unreadable"):
                break
            # It may have ended in order, or have been followed, since its log was read.
            before, slots = slots, run(protocol.read(log), _files)
            if slots == before:
                break
        return found

    def with_since(self, found: OutputState) -> OutputState:
        """The claim was made after all else that its owner is known to have ended."""
        ended = self._last_verdict.get(found.owner.token) if found.owner else None
        return found if ended is None else replace(found, since=max(ended, found.since or 0.0))

    def _seen(self, log: Log, slots: list[Record | Unreadable], *, is_here: bool) -> OutputState:
        head, number = slots[-1], len(slots) - 1
        # First the staging, then the output: it was there before its staging went.
        has_staging = isinstance(head, Commit) and self._has_staging(log, number - 1, head.token, is_here)
        # Of one that is elsewhere, that its staging was moved there says that it is done.
        is_moved = isinstance(head, Commit) and not has_staging
        is_there = bool(_files.perform(Exists(log.final))) if is_here else is_moved
        sight, since = self._owner(log, slots) if isinstance(head, Claim) else (None, None)
        state, reason = decide(slots, is_there=is_there, has_staging=has_staging, sight=sight)
        failure = head if isinstance(head, Fail) else None
        retry_in = None
        if sight is None and (stamp := self._stamp(log.slot(number))):
            since = (stamp.ctime_ns if isinstance(head, Commit) else stamp.mtime_ns) / _NANO
            if failure and failure.backoff is not None:
                retry_in = max(0.0, since + failure.backoff - self._clock())
            if not isinstance(head, Commit | Unreadable):
                self._last_verdict[head.token] = max(since, self._last_verdict.get(head.token, 0.0))
        return OutputState(
            log.directory,
            os.path.basename(log.final),
            state,
            reason,
            log.stem,
            number,
            attempt_of(slots),
            head.claimant if isinstance(head, Claim | Commit) else None,
            since,
            sight.quiet if sight else None,
            lease_of(slots) if sight else None,
            retry_in,
            failure,
        )

    def _has_staging(self, log: Log, number: int, token: str, is_here: bool) -> bool:
        if is_here:
            return bool(_files.perform(Exists(log.staging(number, token))))
        return (number, token) in self._listing.stagings.get(log.stem, ())

    def _owner(self, log: Log, slots: list[Record | Unreadable]) -> tuple[Sight, float | None]:
        """What is seen of a claim's owner, and when it may have begun at the earliest."""
        head, number = slots[-1], len(slots) - 1
        assert isinstance(head, Claim)
        record = self._stamp(record_file(log.directory, head.token, "claim"))
        if record is None:
            if _files.perform(Exists(record_file(log.directory, head.token, "released"))):
                return Sight("released"), None
            return Sight("gone", condition(head.claimant)), None
        slot = self._stamp(log.slot(number))
        if slot and slot.mtime_ns < record.mtime_ns:
            since: float | None = slot.mtime_ns / _NANO  # a copy, which is not touched: no hard links here
        else:
            # Slots share the record's times. The file of COMMITs changes when an output is committed, or its log
            # removed, so the owner was at its last output then.
            last = self._stamp(record_file(log.directory, head.token, "commit"))
            since = last and last.ctime_ns / _NANO
        if number and not isinstance(slots[-2], Claim | Commit) and since is not None:
            below = self._stamp(log.slot(number - 1))
            since = max(since, below.mtime_ns / _NANO) if below else since
        quiet = max(0.0, self._clock() - record.mtime_ns / _NANO)
        return Sight("there", condition(head.claimant), quiet), since

    def _stamp(self, path: str) -> Stamp | None:
        try:
            stamp: Stamp = _files.perform(Pulse(path))
        except FileNotFoundError:
            return None
        self.newest = max(self.newest, stamp.mtime_ns / _NANO)
        return stamp

"""The claimant of one thread, and the record files that it keeps in each directory of claims.

**A CLAIM whose claimant's record file no longer exists is dead.** So being marked dead by another process is one
unlink, and giving claims up without a verdict one rename, which says that they ended nobody; neither needs room on a
full disk.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from manyhands.claims import liveness
from manyhands.claims.decisions import GaveUp, Mine
from manyhands.claims.filesystem import FileSystem, Rename, Steps, Unlink, run
from manyhands.claims.names import TOKEN_LENGTH, RecordFile, record_file
from manyhands.claims.protocol import release, write_private
from manyhands.claims.record import Claim, Claimant, Commit, encode
from manyhands.settings import LEASE
from manyhands.workers import pulse

_LASTING: Final[tuple[RecordFile, ...]] = ("claim", "commit")

BEATS: Final = 8
"""How often a record file is touched within its lease."""


class Claimants:
    """Who this thread is. After a fork, and when its claims are given up, it is somebody new.

    Not for use by two threads: they would share a token and take each other's claims for their own.

    Attributes:
        held: the claims that are held, by the prefixes of their logs. When they are given up, these say so or, if that
            can't be, a file does.
    """

    def __init__(self, filesystem: FileSystem, lease: float = LEASE) -> None:
        self._filesystem = filesystem
        self._lease = lease
        self._directories: set[str] = set()
        self.held: dict[str, Mine] = {}
        self._begin()

    def __repr__(self) -> str:
        return f"<Claimants {self._me.token} in {len(self._directories)} directories>"

    @property
    def me(self) -> Claimant:
        """The claimant that this thread is now."""
        if self._me.pid != os.getpid():
            self._finalizer.detach()  # the files are the parent's
            self._begin()
        return self._me

    def ready(self, directory: str) -> Claimant:
        """``me``, with its record files in ``directory`` written.

        Raises:
            OSError: they can't be.
        """
        me = self.me
        if directory not in self._directories:
            self._directories.add(directory)  # first: what a failed write leaves is removed too
            try:
                for kind in _LASTING:
                    data = encode(Claim(me) if kind == "claim" else Commit(me))
                    run(write_private(record_file(directory, me.token, kind), data), self._filesystem)
            except OSError:
                self._directories.discard(directory)
                _remove(self._filesystem, os.getpid(), me, {directory}, {})
                raise
            pulse.begin(record_file(directory, me.token, "claim"), self._lease / BEATS)
        return me

    def rotate(self) -> None:
        """Become somebody new: every claim held until now is given up, in every directory.

        The old record files are removed as far as they can be; what tells that claims were given up stays.
        """
        self.me  # noqa: B018  # after a fork they are the parent's, and this drops them
        self._finalizer()
        self._begin()

    def close(self) -> None:
        """As ``rotate``; nothing is written until the next ``ready``."""
        self.rotate()

    def paths(self) -> list[Path]:
        """The record files, by whose removal another process can mark this claimant dead."""
        me = self.me
        return [
            Path(record_file(directory, me.token, kind))
            for directory in sorted(self._directories)
            for kind in _LASTING
        ]

    def _begin(self) -> None:
        self._me = liveness.identity(os.urandom(TOKEN_LENGTH // 2).hex(), self._lease)
        self._directories = set()
        self.held = {}
        # A thread that ends without close(), and the end of the interpreter, give its claims up.
        self._finalizer = weakref.finalize(
            self, _remove, self._filesystem, os.getpid(), self._me, self._directories, self.held
        )


def _remove(
    filesystem: FileSystem, pid: int, me: Claimant, directories: set[str], held: dict[str, Mine]
) -> None:
    if pid != os.getpid():
        return
    run(leave(me, directories, held), filesystem)
    directories.clear()
    held.clear()


def leave(me: Claimant, directories: Iterable[str], held: Mapping[str, Mine]) -> Steps[None]:
    """Give up the claims that are held, in their logs as far as that can be done, and remove the record files."""
    unsaid = set()
    for mine in held.values():
        try:
            answer = yield from release(me, mine)
        except OSError:
            unsaid.add(mine.log.directory)
        else:
            if isinstance(answer, GaveUp):
                unsaid.add(mine.log.directory)
    for directory in directories:
        for kind in liveness.BURIED:
            record = record_file(directory, me.token, kind)
            leaves_word = kind == "claim" and directory in unsaid
            try:
                yield (
                    Rename(record, record_file(directory, me.token, "released"))
                    if leaves_word
                    else Unlink(record)
                )
            except OSError:
                pass

"""The claimant of one thread, and the record files that it keeps in each directory of claims.

**A CLAIM whose claimant's record file no longer exists is dead.** So leaving in order, giving a claim up
without a verdict and being marked dead by another process are all one unlink, and need no write on a full disk.
"""

from __future__ import annotations

import os
import weakref
from pathlib import Path
from typing import Final

from manyhands.claims import liveness
from manyhands.claims.filesystem import FileSystem, Unlink, run
from manyhands.claims.names import RECORD_FILES, TOKEN_LENGTH, RecordFile, record_file
from manyhands.claims.protocol import write_private
from manyhands.claims.record import Claim, Claimant, Commit, encode

_LASTING: Final[tuple[RecordFile, ...]] = ("claim", "commit")


class Claimants:
    """Who this thread is. After a fork, and when its claims are given up, it is somebody new.

    Not for use by two threads: they would share a token and take each other's claims for their own.
    """

    def __init__(self, filesystem: FileSystem) -> None:
        self._filesystem = filesystem
        self._directories: set[Path] = set()
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

    def ready(self, directory: Path) -> Claimant:
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
                _remove(self._filesystem, os.getpid(), me.token, {directory})
                raise
        return me

    def rotate(self) -> None:
        """Become somebody new: every claim held until now is given up, in every directory.

        The old record files are removed as far as they can be.
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
            record_file(directory, me.token, kind)
            for directory in sorted(self._directories)
            for kind in _LASTING
        ]

    def _begin(self) -> None:
        self._me = liveness.identity(os.urandom(TOKEN_LENGTH // 2).hex())
        self._directories = set()
        # A thread that ends without close(), and the end of the interpreter, give its claims up.
        self._finalizer = weakref.finalize(
            self, _remove, self._filesystem, os.getpid(), self._me.token, self._directories
        )


def _remove(filesystem: FileSystem, pid: int, token: str, directories: set[Path]) -> None:
    if pid != os.getpid():
        return
    for directory in directories:
        for kind in reversed(RECORD_FILES):
            try:
                filesystem.perform(Unlink(record_file(directory, token, kind)))
            except OSError:
                pass
    directories.clear()

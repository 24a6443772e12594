"""Claims on real files: what the decorators use.

This is the shell around the protocol. It keeps the thread's claimant, turns errors of the filesystem into ours,
and walks away from what can't be known: the claimant is rotated, and its claims count as dead.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Final, Self, TypeVar

from manyhands.claims import protocol
from manyhands.claims.claimant import Claimants
from manyhands.claims.decisions import (
    Busy,
    Decision,
    Fenced,
    GaveUp,
    Mine,
    Orphan,
    Published,
    Recorded,
    Seen,
)
from manyhands.claims.directory import mounted, unusable
from manyhands.claims.filesystem import Exists, FileSystem, Link, LocalFileSystem, Operation, Steps, run
from manyhands.claims.names import Log
from manyhands.claims.record import Claimant, Fail
from manyhands.claims.watch import Watch
from manyhands.errors import ManyhandsError
from manyhands.settings import LEASE, MAX_CRASHES

T = TypeVar("T")

_PUBLISHED_MAX: Final = 100_000
"""Outputs remembered of one token, some ten MB; then comes another."""

_IN_THE_WAY: Final = frozenset({errno.EISDIR, errno.ENOTEMPTY})
"""What a rename is told that would replace a directory."""

_UNKNOWN_MAX: Final = 5
"""Errors in a row that may pass by themselves; one more is told to the user."""


class Claims:
    """The claims of one thread. Close it, or use it in a ``with`` block; other threads make their own.

    Args:
        durable: bring outputs and their names to the disk before they count as done; without it a loss of
            power may leave an output that is not whole.
        lease: seconds; who can't tell whether this process lives waits for so long without a sign of it.
        max_crashes: so many owners of an output in a row may end without a word; then it has failed.
        filesystem: who performs the operations.

    All methods raise OutputDirectoryError when the directory of the output or of its claim can't be read or
    written, and ManyhandsError when a directory has the place of one of its files. The claim has been given up then.
    """

    def __init__(
        self,
        *,
        durable: bool = True,
        lease: float = LEASE,
        max_crashes: int = MAX_CRASHES,
        filesystem: FileSystem | None = None,
    ) -> None:
        self._durable = durable
        self._max_crashes = max_crashes
        self._filesystem = filesystem or LocalFileSystem()
        self._is_worn = False
        self._claimants = Claimants(self._filesystem, lease)
        self._unknown = 0
        self._published: set[str] = set()
        self._locals: dict[str, bool] = {}  # by directory
        self._local_devices: dict[int, bool] = {}

    def __repr__(self) -> str:
        return f"<Claims of {self._claimants!r}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def claimant(self) -> Claimant:
        """Who this thread is now."""
        return self._claimants.me

    def paths(self) -> list[Path]:
        """The record files whose removal, by anybody, ends this thread's claims."""
        return self._claimants.paths()

    def acquire(
        self,
        log: Log,
        *,
        reopen: int = -1,
        code_hash: str = "",
        seen: Seen | None = None,
        watch: Watch | None = None,
        looked: bool = False,
    ) -> Decision:
        """Ask for the output of ``log``; does not wait.

        Args:
            reopen: failures recorded up to this slot are reopened (see ``failures_before``).
            code_hash: of the function; failures of other code don't bind.
            seen: the ``memo`` of the last ``Wait`` for this log.
            watch: the ``memo`` of the last ``Busy`` for it.
            looked: the output was looked for a moment ago, and not there. That saves to look again.

        Returns:
            Decision: ``Finished``, ``Mine``, ``Busy``, ``Wait`` or ``FailedBefore``.
        """
        for last in (False, True):
            try:
                self._renew(log)
                me = self._claimants.ready(log.directory)
                local = self._is_local(log.directory)
                question = protocol.Question(reopen, code_hash, seen, watch, self._max_crashes, looked, local)
                decision = run(protocol.acquire(log, me, question), self._filesystem, self._note)
            except OSError as error:
                self._claimants.rotate()
                if isinstance(error, FileNotFoundError) and not last:
                    continue  # our record file was removed: somebody took us for dead
                self._told(error, log)
                return Busy(None, -1)
            self._unknown = 0
            if (
                not isinstance(decision, Busy)
                or decision.claimant is None
                or decision.claimant.token != me.token
            ):
                if isinstance(decision, Mine):
                    self._claimants.held[log.prefix] = decision
                return decision
            self._claimants.rotate()  # a claim that I gave up, or lost sight of
        return decision

    def commit(self, mine: Mine) -> Published | Fenced:
        """Publish the staging.

        Raises:
            OutputMissing: there is no staging, or it is neither a file nor a directory; the claim is still held, so
                ``fail`` or ``release`` it.
        """
        try:
            local = self._is_local(mine.log.directory)
            answer = self._settle(protocol.commit(self.claimant, mine, durable=self._durable, local=local))
        except OSError as error:
            self._given_up(mine, error)
            return Fenced()
        self._claimants.held.pop(mine.log.prefix, None)
        if isinstance(answer, Published):
            self._published.add(mine.log.final)
        return answer

    def fail(
        self,
        mine: Mine,
        *,
        type_name: str,
        message: str = "",
        traceback: str = "",
        backoff: float | None = None,
        discarded: bool = False,
        code_hash: str = "",
    ) -> Recorded | Fenced:
        """Record that the attempt failed, for the fields of ``Fail``; the staging is removed."""
        me = self.claimant
        record = Fail(me.token, type_name, message, traceback, mine.attempt, backoff, discarded, code_hash)
        return self._end(mine, protocol.fail(me, mine, record))

    def release(self, mine: Mine) -> Recorded | Fenced:
        """Give the claim up without a verdict; the staging is removed."""
        return self._end(mine, protocol.release(self.claimant, mine))

    def orphaned(self, log: Log, pid: int, *, reopen: int = -1, code_hash: str = "") -> Orphan | None:
        """The claim on ``log`` that the process ``pid`` of this machine held, which has ended; None if it held none.

        ``reopen`` and ``code_hash`` are as in ``acquire``.
        """
        question = protocol.Question(reopen, code_hash)
        try:
            return run(protocol.orphaned(log, self.claimant, question, pid), self._filesystem)
        except OSError:
            return None  # others will find out

    def bury(
        self,
        orphan: Orphan,
        *,
        type_name: str,
        message: str = "",
        traceback: str = "",
        backoff: float | None = None,
        code_hash: str = "",
    ) -> bool:
        """Record that an attempt failed whose process has ended, for the fields of ``Fail``.

        Returns:
            Whether that stands in the log now; else somebody has taken it over, or it can't be written.
        """
        me = self.claimant
        record = Fail(
            me.token, type_name, message, traceback, orphan.attempt, backoff, False, code_hash, orphan.crashes
        )
        try:
            return run(protocol.bury(me, orphan, record), self._filesystem)
        except OSError:
            return False

    def close(self) -> None:
        """Give up every claim that is still held and remove this claimant's files; it may be used again."""
        self._claimants.close()

    def _is_local(self, directory: str) -> bool:
        """Whether it surely is on a filesystem of this machine. The mounts are read once for each device."""
        local = self._locals.get(directory)
        if local is not None:
            return local
        try:
            device = os.stat(directory).st_dev
        except OSError:
            return False
        if device not in self._local_devices:
            mount = mounted(directory)
            self._local_devices[device] = mount is not None and mount.is_local
        return self._locals.setdefault(directory, self._local_devices[device])

    def _renew(self, log: Log) -> None:
        """Become somebody new where the old token would not do."""
        # An output that I published and swept has gone: a helper that still holds my COMMIT would take my next
        # staging in slot 0 for the one that was committed.
        removed = log.final in self._published and not self._filesystem.perform(Exists(log.final))
        if self._is_worn or removed or len(self._published) > _PUBLISHED_MAX:
            self._is_worn = False
            self._published.clear()
            self._claimants.rotate()

    def _note(self, operation: Operation, error: OSError) -> None:
        # The record has as many links as a file can have: there must be another.
        self._is_worn = self._is_worn or (error.errno == errno.EMLINK and isinstance(operation, Link))

    def _end(self, mine: Mine, steps: Steps[Recorded | Fenced | GaveUp]) -> Recorded | Fenced:
        try:
            answer = self._settle(steps)
        except OSError as error:
            self._given_up(mine, error)
            return Fenced()
        if isinstance(answer, GaveUp):
            self._given_up(mine, answer.error)
            return Fenced()
        self._claimants.held.pop(mine.log.prefix, None)
        return answer

    def _settle(self, steps: Steps[T]) -> T:
        answer = run(steps, self._filesystem, self._note)
        self._unknown = 0
        return answer

    def _given_up(self, mine: Mine, error: OSError) -> None:
        """Rotate, and raise ours unless the error may pass."""
        self._claimants.rotate()
        if not isinstance(error, FileNotFoundError) or not os.path.isdir(mine.log.directory):
            self._told(error, mine.log)

    def _told(self, error: OSError, log: Log) -> None:
        if error.errno in _IN_THE_WAY:
            place = os.fsdecode(error.filename2 or error.filename or log.final)
            raise ManyhandsError(
                f"{place!r} is a directory in the place of a file of the output {log.final!r}: move it away"
            ) from error
        self._unknown += 1
        if error.errno not in protocol.UNSETTLED or self._unknown > _UNKNOWN_MAX:
            self._unknown = 0
            unusable(log.directory if os.path.isdir(log.home) else log.home, error)

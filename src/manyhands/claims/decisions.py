"""What a claim can come to."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from manyhands.claims.filesystem import Word
from manyhands.claims.names import Log
from manyhands.claims.record import Claimant, Fail
from manyhands.claims.watch import Moment, Watch

# Tuples with names, as records are.


class Seen(NamedTuple):
    """When this observer first saw the failure whose back-off it waits for."""

    slot: int
    token: str
    since: Moment


class Finished(Word):
    """The output is there, whole."""

    __slots__ = ()


class Mine(NamedTuple):
    """Compute into ``staging``, then commit, fail or release; ``attempt`` counts from 1, over all processes."""

    log: Log
    slot: int
    token: str
    attempt: int

    @property
    def staging(self) -> Path:
        """Where the output is to be written; it does not exist yet."""
        return Path(self.stagings[-1])

    @property
    def stagings(self) -> tuple[str, ...]:
        """Where its files are to be written, if it is several; the last one is ``staging``."""
        return self.log.stagings(self.slot, self.token)


class Orphan(NamedTuple):
    """A claim whose owner has ended: the ``attempt``-th, and the ``crashes``-th in a row to end so."""

    log: Log
    slot: int
    token: str
    attempt: int
    crashes: int

    @property
    def stagings(self) -> tuple[str, ...]:
        """What the owner may have written."""
        return self.log.stagings(self.slot, self.token)


class Busy(NamedTuple):
    """Somebody else is at it: ``claimant``, None if unknown, in ``slot``, -1 if even that is unknown.

    Without a ``memo`` what is in ``slot`` will not end by itself: it is no record.

    Give ``memo`` back as ``watch`` when you ask again: it is what this observer has seen of the claimant.
    """

    claimant: Claimant | None
    slot: int
    memo: Watch | None = None


class Wait(NamedTuple):
    """The next attempt may start in ``seconds``; give ``memo`` back as ``seen`` then."""

    seconds: float
    memo: Seen


class FailedBefore(NamedTuple):
    """It failed for good; ``record`` in ``slot`` tells how."""

    record: Fail
    slot: int


Decision = Finished | Mine | Busy | Wait | FailedBefore


class Published(Word):
    """The output is there, and it is mine."""

    __slots__ = ()


class Fenced(Word):
    """The claim had been lost. The item is not done: ask for it again."""

    __slots__ = ()


class Recorded(Word):
    """The verdict stands in the log."""

    __slots__ = ()


class GaveUp(NamedTuple):
    """The verdict could not be written for ``error``: rotate the claimant, which gives the claim up."""

    error: OSError

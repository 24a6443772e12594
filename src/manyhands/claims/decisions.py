"""What a claim can come to."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from manyhands.claims.names import Log
from manyhands.claims.record import Claimant, Fail
from manyhands.claims.watch import Moment, Watch


@dataclass(frozen=True, slots=True)
class Seen:
    """When this observer first saw the failure whose back-off it waits for."""

    slot: int
    token: str
    since: Moment


@dataclass(frozen=True, slots=True)
class Finished:
    """The output is there, whole."""


@dataclass(frozen=True)
class Mine:
    """Compute into ``staging``, then commit, fail or release; ``attempt`` counts from 1, over all processes."""

    log: Log
    slot: int
    token: str
    attempt: int

    @property
    def staging(self) -> Path:
        """Where the output is to be written; it does not exist yet."""
        return Path(self.stagings[-1])

    @cached_property
    def stagings(self) -> tuple[str, ...]:
        """Where its files are to be written, if it is several; the last one is ``staging``."""
        return self.log.stagings(self.slot, self.token)


@dataclass(frozen=True, slots=True)
class Orphan:
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


@dataclass(frozen=True, slots=True)
class Busy:
    """Somebody else is at it: ``claimant``, None if unknown, in ``slot``, -1 if even that is unknown.

    Without a ``memo`` what is in ``slot`` will not end by itself: it is no record.

    Give ``memo`` back as ``watch`` when you ask again: it is what this observer has seen of the claimant.
    """

    claimant: Claimant | None
    slot: int
    memo: Watch | None = None


@dataclass(frozen=True, slots=True)
class Wait:
    """The next attempt may start in ``seconds``; give ``memo`` back as ``seen`` then."""

    seconds: float
    memo: Seen


@dataclass(frozen=True, slots=True)
class FailedBefore:
    """It failed for good; ``record`` in ``slot`` tells how."""

    record: Fail
    slot: int


Decision = Finished | Mine | Busy | Wait | FailedBefore


@dataclass(frozen=True, slots=True)
class Published:
    """The output is there, and it is mine."""


@dataclass(frozen=True, slots=True)
class Fenced:
    """The claim had been lost. The item is not done: ask for it again."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """The verdict stands in the log."""


@dataclass(frozen=True, slots=True)
class GaveUp:
    """The verdict could not be written for ``error``: rotate the claimant, which gives the claim up."""

    error: OSError

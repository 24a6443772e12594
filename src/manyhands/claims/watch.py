"""Watching a claim whose owner can't be judged from here: does its record file still change? Pure.

Two machines' times are never compared. An observer remembers what the owner's record looked like beside its own
clock; a record that stays the same for a whole lease belongs to somebody who does not beat any more.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Final, NamedTuple

from manyhands.claims.record import Claim, Commit, Fail, Record, Unreadable

LOOKS_MIN: Final = 4
"""So many looks must have found a record unchanged after the first, each worth a quarter of the lease at most.

After a server froze, or this machine slept, everything looks dead at once; no single gap can end a lease.
"""

DOUBLINGS_MAX: Final = 6
"""Beyond these a lease does not double: 64-fold."""


class Moment(NamedTuple):
    """A time on one machine's monotonic clock.

    Attributes:
        clock: whose; times of two clocks have nothing to do with each other.
        seconds: that clock's.
    """

    clock: str
    seconds: float

    def since(self, earlier: Moment) -> float | None:
        """Seconds from then to now, never less than none; None if that was another clock."""
        return max(0.0, self.seconds - earlier.seconds) if self.clock == earlier.clock else None


class Stamp(NamedTuple):
    """What changes when a record file is touched; whose clock wrote it does not matter."""

    mtime_ns: int
    ctime_ns: int
    size: int


class Watch(NamedTuple):
    """What one observer knows of the claim in a slot.

    Attributes:
        slot, token: the claim.
        stamp: what its owner's record looked like, all the time.
        last: when it was last looked at.
        quiet: seconds for which it surely did not change.
        looks: how often it was found unchanged.
    """

    slot: int
    token: str
    stamp: Stamp
    last: Moment
    quiet: float = 0.0
    looks: int = 0

    def again(self, stamp: Stamp, now: Moment, lease: float) -> Watch:
        """After another look, which begins anew where something has changed."""
        gap = now.since(self.last)
        if stamp != self.stamp or gap is None:
            return Watch(self.slot, self.token, stamp, now)
        credit = min(gap, lease / LOOKS_MIN)
        return Watch(self.slot, self.token, stamp, now, self.quiet + credit, self.looks + 1)

    def has_expired(self, lease: float) -> bool:
        """Whether the owner is to be taken for dead."""
        return self.looks >= LOOKS_MIN and self.quiet >= lease


def lease_of(slots: Sequence[Record | Unreadable]) -> float:
    """The lease of the CLAIM at the head of a log, in seconds: its owner's, doubled for each CLAIM directly below.

    So an input that takes its time, on slow machines, is not taken from one owner after the other for ever.
    """
    head = slots[-1]
    assert isinstance(head, Claim)
    below = 0
    while below + 1 < len(slots) and isinstance(slots[-2 - below], Claim):
        below += 1
    lease: float = head.claimant.lease * 2 ** min(below, DOUBLINGS_MAX)
    return lease


def crashes(slots: Sequence[Record | Unreadable], code_hash: str) -> int:
    """How many owners in a row were superseded without a verdict, the head's not counted.

    A failure of the function says that it was not the process that failed, and begins the count anew, as other code
    and a COMMIT do. What a FAIL has counted is kept when that is reopened.
    """
    count = 0
    for record, successor in pairwise([*slots, None]):
        if isinstance(record, Claim) and isinstance(successor, Claim):
            count += 1
        elif isinstance(record, Fail):
            count = record.crashes if record.code_hash == code_hash else 0
        elif isinstance(record, Commit):
            count = 0
    return count

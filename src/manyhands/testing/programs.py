"""What the workers of an exploration do: passes over one output by the steps of production, and ``gc``."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, Final, Literal

from manyhands.claims import filesystem as fs
from manyhands.claims import protocol
from manyhands.claims.claimant import leave
from manyhands.claims.decisions import Busy, FailedBefore, Finished, GaveUp, Mine, Published, Wait
from manyhands.claims.gc import collect as gc_steps
from manyhands.claims.names import Log
from manyhands.claims.record import Claimant, Fail
from manyhands.claims.watch import Watch
from manyhands.errors import OutputMissing
from manyhands.settings import MAX_CRASHES
from manyhands.testing.model import Write

Ending = Literal["published", "done", "again", "rotate", "busy", "left"]
"""How a pass over an output ended.

It was published by this worker, or by another; it is to be asked for again, as somebody else after "rotate"; somebody
else is at it; or it has failed, which is reported.
"""

Round = Generator[fs.Operation | Write, Any, Ending | Busy]
"""One pass of a worker over one output."""

Program = Callable[[Log, Claimant, Watch | None], Round]
"""Begins a pass: over which output, as whom, and with what is known of who was in the way."""

WHOLE: Final = b"whole, "
HALF: Final = b"half"


@dataclass(frozen=True)
class compute:  # noqa: N801  # a function with options
    """A program: claim, write in two pieces and commit, as ``Claims`` and the decorators do.

    Attributes:
        first: how the output's first attempt ends.
        attempts: so many may fail, when the first does; it fails for good then.
        max_crashes: as ``Claims`` has it.
        reopen: failures up to this slot are tried again.
        durable: whether bytes and names are brought to the disk.
        local: whether it goes about its claims as on a filesystem of its own machine.
        looked: looks for the output before it asks, as maps do, and then takes the log for empty.
    """

    first: Literal["commit", "fail", "release"] = "commit"
    attempts: int = 2
    max_crashes: int = MAX_CRASHES
    reopen: int = -1
    durable: bool = False
    local: bool = False
    looked: bool = False

    def __call__(self, log: Log, me: Claimant, watch: Watch | None = None) -> Round:
        """Begins a pass."""
        mine: Mine | None = None
        try:
            if self.looked and (yield fs.Exists(log.final)):
                return "done"
            looked = self.looked and watch is None
            question = protocol.Question(
                watch=watch,
                max_crashes=self.max_crashes,
                reopen=self.reopen,
                looked=looked,
                local=self.local,
            )
            decision = yield from protocol.acquire(log, me, question)
            match decision:
                case Finished():
                    return "done"
                case FailedBefore():
                    return "left"
                case Wait():
                    return "busy"
                case Busy(None, _, None):
                    return "left"  # a slot that is no record: the item fails, and names it
                case Busy(None):
                    return decision  # a torn one, which ends with a lease
                case Busy(claimant) if claimant is not None and claimant.token != me.token:
                    return decision
                case Mine():
                    mine = decision
                    return (yield from self._work(log, me, mine))
        except OSError:
            pass  # whatever is not known is left behind
        yield from leave(me, [log.directory], {} if mine is None else {log.prefix: mine})
        return "rotate"

    def _work(self, log: Log, me: Claimant, mine: Mine) -> Round:
        answer: object
        if self.first == "fail" and mine.attempt < self.attempts:
            answer = yield from protocol.fail(me, mine, self._failure(me, mine))
        elif self.first == "release" and mine.slot < 2:
            answer = yield from protocol.release(me, mine)
        else:
            yield from self.write(log, me, mine)
            try:
                answer = yield from protocol.commit(me, mine, durable=self.durable, local=self.local)
            except OutputMissing:  # it was taken away, which only happens to the superseded
                answer = yield from protocol.release(me, mine)
        if isinstance(answer, GaveUp):
            raise answer.error
        return "published" if isinstance(answer, Published) else "again"

    def _failure(self, me: Claimant, mine: Mine) -> Fail:
        backoff = 0.0 if mine.attempt < self.attempts else None
        return Fail(me.token, "ValueError", attempt=mine.attempt, backoff=backoff)

    def write(self, log: Log, me: Claimant, mine: Mine) -> Generator[Write, Any, None]:
        """The user's function."""
        for staging in mine.stagings:
            yield Write(staging, HALF)
            yield Write(staging, whole(log, me, mine.slot))


def whole(log: Log, me: Claimant, slot: int) -> bytes:
    """What the output is, if it is of this claim."""
    return WHOLE + b"%s by %s in %d" % (os.path.basename(log.final).encode(), me.token.encode(), slot)


@dataclass(frozen=True)
class collect:  # noqa: N801  # as above
    """A program: ``gc``, once. ``now`` as for that."""

    now: bool = False

    def __call__(self, log: Log, me: Claimant, watch: Watch | None = None) -> Round:
        """Begins it."""
        assert watch is None, "gc waits for nobody"
        try:
            yield from gc_steps(log.directory, me.token, now=self.now)
        except OSError:
            pass  # which is told to the user
        return "left"

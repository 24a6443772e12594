"""What a log says of its output, for people who look on. Pure: what was read comes in, a state comes out.

Nobody acts on these states: who computes asks the protocol, which waits for a lease where this goes by one look.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

from manyhands.claims.liveness import Condition
from manyhands.claims.record import Claim, Claimant, Commit, Fail, Record, Release, Reopen, Unreadable
from manyhands.claims.watch import lease_of

State = Literal["running", "stale", "waiting", "failed", "discarded", "open", "committed", "unreadable", "done"]
"""running: its owner may be at work. stale: its owner has ended, or is not heard of any more. waiting: an attempt
failed, and others are left. failed: for good. discarded: sorted out by @validated. open: given up or reopened, for
whoever comes. committed: complete, and not yet under its name. unreadable: something else is in the place of a slot.
done: the output is there, beside its log.
"""

STATES: Final[tuple[State, ...]] = get_args(State)

Sign = Literal["there", "gone", "released"]
"""Of an owner's record file: it is there, or not, or was renamed when its owner was asked to end."""


_LONGEST: Final = 500
"""Characters of a line about a failure."""

_SCRIPTS: Final = ("__main__.", "__mp_main__.")
"""What the types of a script are in: that says nothing to its user."""


@dataclass(frozen=True, slots=True)
class Sight:
    """What was seen of the owner of a CLAIM.

    Attributes:
        record: of its record file.
        process: of its process.
        quiet: seconds since that file was last touched, by this machine's clock; None if that is not known.
    """

    record: Sign
    process: Condition = "hidden"
    quiet: float | None = None


@dataclass(frozen=True, slots=True)
class OutputState:
    """One output that has a log.

    Attributes:
        directory: where the log is, as a text.
        name: the output's basename; a hash of it if it is long.
        state: see ``State``.
        reason: why, in a few words; may be empty.
        prefix: how the names of its slots start.
        slot: the number of the last record.
        attempt: the one that runs, or the last that was made; from 1.
        owner: who claimed it, if it is claimed; who committed it.
        since: seconds since the epoch. Of a claim no later than it was made: when its owner ended what it did before.
            Of anything else when that was written. None if it is not known.
        quiet: of a claim: seconds for which nothing was heard of its owner, by this machine's clock.
        lease: of a claim: seconds without a sign of life after which others take it over.
        retry_in: of a waiting one: seconds until its next attempt may start, 0 if it may.
        failure: its last failure, if that is what it says.
    """

    directory: str
    name: str
    state: State
    reason: str = ""
    prefix: str = ""
    slot: int = 0
    attempt: int = 1
    owner: Claimant | None = None
    since: float | None = None
    quiet: float | None = None
    lease: float | None = None
    retry_in: float | None = None
    failure: Fail | None = None

    @property
    def last_line(self) -> str:
        """The exception as the last line of its traceback has it."""
        if self.failure is None:
            return ""
        lines = self.failure.message.strip().splitlines()
        line = f"{self.exception}: {lines[-1].strip()}" if lines else self.exception
        return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 1]}…"

    @property
    def exception(self) -> str:
        """The name of its type; of one of a script, as that has it."""
        name = "" if self.failure is None else self.failure.type_name
        for script in _SCRIPTS:
            name = name.removeprefix(script)
        return name

    @property
    def place(self) -> str:
        """Where its owner is: host and process."""
        return "" if self.owner is None else f"{self.owner.host}:{self.owner.pid}"

    def as_json(self) -> dict[str, Any]:
        """All that is known, in types that JSON has; the keys are documented, and stay."""
        owner, failure = self.owner, self.failure
        return {
            "directory": self.directory,
            "name": self.name,
            "state": self.state,
            "reason": self.reason,
            "log": self.prefix,
            "slot": self.slot,
            "attempt": self.attempt,
            "host": owner and owner.host,
            "pid": owner and owner.pid,
            "token": owner and owner.token,
            "since": self.since,
            "quiet_seconds": self.quiet,
            "lease_seconds": self.lease,
            "retry_in_seconds": self.retry_in,
            "exception": failure and self.exception,
            "message": failure and failure.message,
            "traceback": failure and failure.traceback,
        }


def decide(
    slots: Sequence[Record | Unreadable], *, is_there: bool, has_staging: bool, sight: Sight | None = None
) -> tuple[State, str]:
    """The state of an output, and why it is that.

    Args:
        slots: its log, not empty.
        is_there: whether the output is there.
        has_staging: whether what the COMMIT at the head speaks of has still to be moved.
        sight: of the owner of the CLAIM at the head.
    """
    if is_there:
        return "done", ""
    match slots[-1]:
        case Claim():
            assert sight is not None
            return _claimed(sight, lease_of(slots))
        case Commit():
            return ("committed", "") if has_staging else ("open", "its output was removed")
        case Fail() as head if head.backoff is not None:
            return "waiting", ""
        case Fail() as head:
            return ("discarded" if head.discarded else "failed"), ""
        case Release():
            return "open", "given up"
        case Reopen():
            return "open", "to be tried again"
        case Unreadable() as head:
            return "unreadable", "torn or being written" if head.is_torn else head.reason
    return "unreadable", "a record that belongs elsewhere"


def _claimed(sight: Sight, lease: float) -> tuple[State, str]:
    if sight.record == "released":
        return "open", "given up"
    if sight.process == "ended":
        return "stale", "its process has ended"
    if sight.record == "gone":
        return "stale", "its record file is gone"
    if sight.quiet is not None and sight.quiet > lease:
        stopped = "its process is stopped: " if sight.process == "stopped" else ""
        return "stale", f"{stopped}no sign of life for longer than its lease"
    return "running", "its process is stopped" if sight.process == "stopped" else ""


def attempt_of(slots: Sequence[Record | Unreadable]) -> int:
    """Which attempt the log is at, whatever the code: the one that runs or is to come, or the last if that failed."""
    failures = 0
    for record in slots:
        if isinstance(record, Fail):
            failures = record.attempt
        elif isinstance(record, Commit | Reopen):
            failures = 0
    return failures if isinstance(slots[-1], Fail) else failures + 1

"""The protocol: claim, commit, fail, release, as steps over a filesystem.

Slot k of a log is written once; nothing but the exclusive creation of the next slot decides anything. To commit
in slot k+1 one must own the CLAIM in slot k, so whoever was taken over is told by slot k+1. Nothing here knows
a process, an open file or a clock. OSErrors that say nothing about the protocol pass through to the caller.
"""

from __future__ import annotations

import errno
import os
from typing import Final, Literal, NamedTuple

from manyhands.claims import filesystem as fs
from manyhands.claims.decisions import (
    Busy,
    Decision,
    FailedBefore,
    Fenced,
    Finished,
    GaveUp,
    Mine,
    Orphan,
    Published,
    Recorded,
    Seen,
    Wait,
)
from manyhands.claims.filesystem import Steps
from manyhands.claims.names import Log, record_file
from manyhands.claims.record import (
    Claim,
    Claimant,
    Commit,
    Fail,
    Fingerprint,
    Record,
    Release,
    Reopen,
    Unreadable,
    decode,
    encode,
)
from manyhands.claims.watch import Watch, crashes, lease_of
from manyhands.errors import OutputMissing, WorkerDied
from manyhands.settings import MAX_CRASHES

UNSUPPORTED: Final = frozenset(
    {errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EXDEV, errno.EMLINK, errno.ENOSYS, errno.EINVAL}
)
"""Another primitive may do what this one could not."""

UNSETTLED: Final = frozenset({errno.EIO, errno.ESTALE, errno.ETIMEDOUT})
"""It may have happened, or may happen yet."""

FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})
"""Nothing can be written here now."""

TRIES: Final = 3

ROUNDING: Final = 1e-6
"""Seconds; a wait that is shorter is over. Sums of times are not exact, and a clock may not show the rest."""

WORKER_DIED: Final = f"{WorkerDied.__module__}.{WorkerDied.__qualname__}"
KILLED: Final = (
    "it killed its workers: {} in a row ended, or were not heard of any more, while they computed it"
)

Slots = list[Record | Unreadable]
"""A log, from slot 0 up to its head."""


# -- running one output ---------------------------------------------------------------------------------------


class Question(NamedTuple):
    """What the answer to "may I compute this output?" depends on, beside its log.

    Attributes:
        reopen: FAILs up to this slot bind me not.
        code_hash: nor do those of other code.
        seen: the failure whose back-off I wait for.
        watch: what I know of the claim that is in my way.
        max_crashes: so many owners in a row may be ended by it.
        looked: final was not there a moment ago, and nothing is known of the log: most likely it is empty.
        local: on a filesystem of this machine nothing is cached that another may have changed.
    """

    reopen: int = -1
    code_hash: str = ""
    seen: Seen | None = None
    watch: Watch | None = None
    max_crashes: int = MAX_CRASHES
    looked: bool = False
    local: bool = False


FIRST_QUESTION: Final = Question()

Way = Literal["free", "moved"]
"""The next slot may be claimed; or the log has changed, and is to be read again."""


def acquire(log: Log, me: Claimant, question: Question = FIRST_QUESTION) -> Steps[Decision]:
    """May I compute this output now?"""
    if question.looked:
        answer: Decision | Way = yield from claim_first(log, me, question)
        if not isinstance(answer, str):
            return answer
    while True:
        if (yield fs.Exists(log.final)):
            yield from tidy(log, me)
            return Finished()
        slots = yield from read(log)
        answer = yield from ask(log, me, question, slots)
        if answer == "free":
            answer = yield from claim(log, me, question, slots)
        if not isinstance(answer, str):
            return answer


def ask(log: Log, me: Claimant, question: Question, slots: Slots) -> Steps[Decision | Way]:
    """What the head of the log says: whether the slot above it is mine to claim."""
    # Who finds that the log was swept while it was read may have buried the COMMIT of another one.
    for slot, record in enumerate(slots):
        if isinstance(record, Commit) and (yield from publish(log, log.stagings(slot - 1, record.token))):
            return Finished()
    match slots[-1] if slots else None:
        case Claim():
            return (yield from challenge(log, me, question, slots))
        case Unreadable():
            return (yield from outlast(log, me, question, slots))
        case Fail() as head:
            return (yield from heed(log, me, question, slots, head))
    return unless_failed(slots, question)


def challenge(log: Log, me: Claimant, question: Question, slots: Slots) -> Steps[Decision | Way]:
    """The owner of the CLAIM at the head may be gone; then so may its claim, unless it ended too many."""
    slot, head = len(slots) - 1, slots[-1]
    assert isinstance(head, Claim)
    life = yield fs.Judge(head.claimant, log.directory)
    if life == "released":
        yield from note(me, log.slot(slot + 1), Release(me.token))
        return "moved"
    if life == "unknown":
        watch = yield from look_again(log, question.watch, slots)
        if watch is None:
            return "moved"  # it has just gone
        if not watch.has_expired(lease_of(slots)):
            return Busy(head.claimant, slot, watch)
    if (times := crashes(slots, question.code_hash) + 1) >= question.max_crashes:
        attempt = max((record.attempt for record in slots if isinstance(record, Fail)), default=0) + times
        killed = Fail(
            me.token, WORKER_DIED, KILLED.format(times), "", attempt, None, False, question.code_hash, times
        )
        yield from note(me, log.slot(slot + 1), killed)
        return "moved"
    return unless_failed(slots, question)


def outlast(log: Log, me: Claimant, question: Question, slots: Slots) -> Steps[Decision | Way]:
    """A torn slot at the head: its writer is at it, or has died, where slots can't be made with what they say.

    It may be the COMMIT of the owner of the CLAIM below, which publishes once that is written: while that owner may
    act nobody goes on. Any other record comes too late when the next slot is taken, so a lease can end it.
    """
    slot, head, below = len(slots) - 1, slots[-1], slots[-2] if len(slots) > 1 else None
    assert isinstance(head, Unreadable)
    if not head.is_torn or (
        isinstance(below, Claim) and (yield fs.Judge(below.claimant, log.directory)) == "unknown"
    ):
        return Busy(None, slot)
    try:
        stamp = yield fs.Pulse(log.slot(slot))
    except FileNotFoundError:
        return "moved"
    now, watch = (yield fs.Now()), question.watch
    if watch is None or (watch.slot, watch.token) != (slot, ""):
        return Busy(None, slot, Watch(slot, "", stamp, now))
    watch = watch.again(stamp, now, me.lease)
    return unless_failed(slots, question) if watch.has_expired(me.lease) else Busy(None, slot, watch)


def look_again(log: Log, watch: Watch | None, slots: Slots) -> Steps[Watch | None]:
    """What I know by now of the owner of the CLAIM at the head; None if its record is gone."""
    slot, head = len(slots) - 1, slots[-1]
    assert isinstance(head, Claim)
    try:
        stamp = yield fs.Pulse(record_file(log.directory, head.token, "claim"))
    except FileNotFoundError:
        return None
    now = yield fs.Now()
    if watch is None or (watch.slot, watch.token) != (slot, head.token):
        return Watch(slot, head.token, stamp, now)
    return watch.again(stamp, now, lease_of(slots))


def heed(log: Log, me: Claimant, question: Question, slots: Slots, head: Fail) -> Steps[Decision | Way]:
    """The FAIL at the head binds me; or is reopened, so that all know which attempt comes next."""
    verdict, slot = binding(slots, question)
    if verdict and verdict.backoff is None:
        return FailedBefore(verdict, slot)
    if verdict is not head:
        yield from note(me, log.slot(len(slots)), Reopen(me.token, question.code_hash))
        return "moved"  # whether this was mine or another's
    now, seen = (yield fs.Now()), question.seen
    if seen is None or (seen.slot, seen.token, seen.since.clock) != (slot, head.token, now.clock):
        seen = Seen(slot, head.token, now)
    left = (head.backoff or 0.0) - (now.since(seen.since) or 0.0)
    return Wait(left, seen) if left > ROUNDING else "free"


def claim(log: Log, me: Claimant, question: Question, slots: Slots) -> Steps[Decision | Way]:
    """Create the CLAIM in the slot above ``slots``."""
    source = record_file(log.directory, me.token, "claim")
    if not (yield from create(me, log.slot(len(slots)), Claim(me), source)):
        return "moved"
    return (yield from confirm(log, me, question, slots))


def claim_first(log: Log, me: Claimant, question: Question) -> Steps[Decision | Way]:
    """Claim a log that should be empty: to create slot 0 tells as well as to look whether it was free.

    If it can't be, the log is to be read. What is in the slot tells nothing: I may have put it there long ago.
    """
    problem = yield from tried(fs.Link(record_file(log.directory, me.token, "claim"), log.slot(0)), tries=1)
    if problem is None:
        return (yield from confirm(log, me, question, []))
    if problem.errno not in {errno.EEXIST, *UNSUPPORTED, *UNSETTLED}:
        raise problem
    return "moved"


def confirm(log: Log, me: Claimant, question: Question, slots: Slots) -> Steps[Decision | Way]:
    """The slot above ``slots`` is mine; look once more whether that was needed."""
    k, head = len(slots), slots[-1] if slots else None
    if (yield from second_look(log, local=question.local)):
        yield from withdraw(log, me, k)
        return Finished()
    if head is not None and log.directory != log.home and not question.local:
        yield fs.RefreshDirectory(log.directory)
    if head is not None and (below := (yield from look(log.slot(k - 1)))) != head:
        # The log was swept since it was read, and this is another one. Its COMMIT must not be buried.
        is_done = isinstance(below, Commit) and (yield from publish(log, log.stagings(k - 2, below.token)))
        yield from withdraw(log, me, k)
        return Finished() if is_done else "moved"
    if isinstance(head, Claim):
        yield from drop(*log.stagings(k - 1, head.token))  # the dead owner's: slot k fences it off for ever
    verdict, _ = binding(slots, question)
    return Mine(log, k, me.token, attempt=verdict.attempt + 1 if verdict else 1)


def commit(me: Claimant, mine: Mine, *, durable: bool = True, local: bool = False) -> Steps[Published | Fenced]:
    """Make the staging the output.

    Args:
        me: who claimed it.
        mine: the claim.
        durable: bring bytes and names to the disk.
        local: on a filesystem of this machine a rename that is not to replace never does. Some layers take it for one
            that does.

    Raises:
        OutputMissing: there is no staging, or it is neither a file nor a directory; the claim is still held.
    """
    log, successor, stagings = mine.log, mine.log.slot(mine.slot + 1), mine.stagings
    if mine.token != me.token:
        return Fenced()  # that claim was given up
    for staging, final in zip(stagings, log.finals, strict=True):
        try:
            if durable:
                yield fs.Sync(staging)
            elif not (yield fs.Written(staging)):
                raise FileNotFoundError
        except FileNotFoundError:
            if (yield from look(successor)) is not None:
                return Fenced()
            raise OutputMissing(f"the function returned without writing {str(final)!r}") from None
    if durable and log.parts:
        # Or the power may take the name of one of them, and nobody could tell that from its having been published.
        yield fs.SyncDirectory(log.directory)
    if not (yield from create(me, successor, Commit(me), record_file(log.directory, me.token, "commit"))):
        yield from drop(*stagings)
        return Fenced()
    if not (yield from publish(log, stagings, durable=durable, local=local)):
        return Fenced()  # somebody published it and then removed it
    yield from sweep(mine)
    return Published()


def fail(me: Claimant, mine: Mine, record: Fail) -> Steps[Recorded | Fenced | GaveUp]:
    """Record that the attempt failed."""
    return (yield from give_back(me, mine, record))


def release(me: Claimant, mine: Mine) -> Steps[Recorded | Fenced | GaveUp]:
    """Give the claim up without a verdict."""
    return (yield from give_back(me, mine, Release(me.token)))


def give_back(me: Claimant, mine: Mine, record: Fail | Release) -> Steps[Recorded | Fenced | GaveUp]:
    """End the claim by ``record``; the staging goes first, which makes room on a full disk, unless it is committed."""
    decided = yield from look(mine.log.slot(mine.slot + 1))
    if isinstance(decided, Commit) and decided.token == mine.token:
        return Fenced()  # to publish it failed, or to hear of that: whoever looks will do it
    yield from drop(*mine.stagings)
    if mine.token != me.token:
        return Fenced()
    try:
        won = yield from note(me, mine.log.slot(mine.slot + 1), record)
    except OSError as error:
        if error.errno in FULL:
            return GaveUp(error)
        raise
    return Recorded() if won else Fenced()


def orphaned(log: Log, me: Claimant, question: Question, pid: int) -> Steps[Orphan | None]:
    """The claim at the head, if a process of mine held it that has ended: its verdict is mine to give."""
    slots = yield from read(log)
    head = slots[-1] if slots else None
    if not isinstance(head, Claim) or (yield fs.Judge(head.claimant, log.directory)) == "unknown":
        return None
    owner = head.claimant
    if (owner.boot_id, owner.pid_namespace, owner.pid) != (me.boot_id, me.pid_namespace, pid):
        return None
    verdict, _ = binding(slots, question)
    attempt = verdict.attempt + 1 if verdict else 1
    return Orphan(log, len(slots) - 1, owner.token, attempt, crashes(slots, question.code_hash) + 1)


def bury(me: Claimant, orphan: Orphan, record: Fail) -> Steps[bool]:
    """Record for its owner, which has ended, that the attempt failed; False: somebody was faster."""
    yield from drop(*orphan.stagings)
    return (yield from note(me, orphan.log.slot(orphan.slot + 1), record))


# -- its parts -------------------------------------------------------------------------------------------------


def read(log: Log) -> Steps[Slots]:
    """The records of the slots from 0 up to the first that is free."""
    slots: Slots = []
    while (record := (yield from look(log.slot(len(slots))))) is not None:
        slots.append(record)
    return slots


def look(slot: str) -> Steps[Record | Unreadable | None]:
    """What is in the slot; None if it is free."""
    try:
        return decode((yield fs.Read(slot)))
    except FileNotFoundError:
        return None


def binding(slots: Slots, question: Question) -> tuple[Fail | None, int]:
    """The latest FAIL of the same code, after slot ``reopen``, the last REOPEN of it and the last COMMIT; its slot."""
    verdict, at = None, -1
    for slot, record in enumerate(slots):
        if isinstance(record, Fail) and record.code_hash == question.code_hash and slot > question.reopen:
            verdict, at = record, slot
        elif isinstance(record, Commit) or (
            isinstance(record, Reopen) and record.code_hash in ("", question.code_hash)
        ):
            verdict, at = None, -1
    return verdict, at


def unless_failed(slots: Slots, question: Question) -> FailedBefore | Literal["free"]:
    """Nothing is in my way but a failure for good, if there is one that binds me."""
    verdict, slot = binding(slots, question)
    return "free" if verdict is None or verdict.backoff is not None else FailedBefore(verdict, slot)


def second_look(log: Log, *, local: bool = False) -> Steps[bool]:
    """Is final there after all? A log that was swept looks like a new one to whoever looked too early."""
    if not local:
        yield fs.RefreshDirectory(log.home)
    return bool((yield fs.Exists(log.final)))


def withdraw(log: Log, me: Claimant, slot: int) -> Steps[None]:
    """Take back a claim that is not needed; a CLAIM left live would fence a later owner."""
    if slot:
        yield from note(me, log.slot(slot + 1), Release(me.token))
        return
    try:
        yield fs.Unlink(log.slot(0))
    except FileNotFoundError:
        pass


def publish(log: Log, stagings: tuple[str, ...], *, durable: bool = True, local: bool = False) -> Steps[bool]:
    """Roll a COMMIT forward, as its owner or a helper; False: staging and final are both gone."""
    *parts, staging = stagings
    if parts and not (yield from publish_parts(log, parts, durable=durable)):
        return False
    # One change of the directory in place of two; who does not own the COMMIT does what is sure anywhere.
    problem = (yield from tried(fs.RenameNew(staging, log.final))) if local else OSError(errno.ENOSYS, "")
    is_left = problem is not None
    if problem is not None and problem.errno in UNSUPPORTED:
        problem = yield from move(staging, log.final)
    elif isinstance(problem, FileExistsError):
        problem = None
    # Final is looked at after staging was: it was there before staging went.
    if problem is not None and not (yield from second_look(log)):
        if problem.errno == errno.ENOENT and not (yield fs.Exists(staging)):
            return False
        raise problem
    if durable:
        yield fs.SyncDirectory(log.home)
    if is_left:
        yield from drop(*stagings)
    return True


def publish_parts(log: Log, stagings: list[str], *, durable: bool) -> Steps[bool]:
    """Move the files before the last one; False: one of them is gone, and so is its staging.

    What is in their places is older, since final is not there, and is replaced. That nobody comes too late to do so
    is why ``gc`` never frees the slots of such a log.
    """
    if (yield fs.Exists(log.final)):
        return True
    for staging, part in zip(stagings, log.parts, strict=True):
        problem = yield from tried(fs.Rename(staging, part))
        if problem is not None and problem.errno != errno.ENOENT:
            raise problem
        # Where it is gone, another was faster, or this one, and did not hear of it.
        if problem is not None and not (yield fs.Exists(part)) and not (yield fs.Exists(log.final)):
            return False
    if durable:
        for directory in dict.fromkeys(os.path.dirname(part) for part in log.parts):
            yield fs.SyncDirectory(directory)
    return True


def move(staging: str, final: str) -> Steps[OSError | None]:
    """Give staging final's name, unless something has it; where that can't be linked, as a directory, rename it."""
    problem = yield from tried(fs.Link(staging, final))
    if problem is None or problem.errno not in UNSUPPORTED:
        return None if isinstance(problem, FileExistsError) else problem
    return (yield from tried(fs.Rename(staging, final)))


def tried(operation: fs.Operation, tries: int = TRIES) -> Steps[OSError | None]:
    """Why it could not be done, after some tries where that may pass."""
    problem = None
    for _ in range(tries):
        try:
            yield operation
        except OSError as error:
            problem = error
        else:
            return None
        if problem.errno not in UNSETTLED:
            break
    return problem


def sweep(mine: Mine) -> Steps[None]:
    """Remove an uncontested log, CLAIM and COMMIT by me; in any other a superseded owner may be about."""
    if mine.slot == 0:
        try:
            yield fs.Unlink(mine.log.slot(1))
            yield fs.Unlink(mine.log.slot(0))
        except OSError:
            pass  # what is left harms nobody


def tidy(log: Log, me: Claimant) -> Steps[None]:
    """Final is there: remove a committed staging, or deleting final would bring it back; and my claim, if I lost sight.

    Looks once more, and not at what was cached: final may have been deleted, and what is committed now be that of the
    next claim.
    """
    slots = yield from read(log)
    head = slots[-1] if slots else None
    if isinstance(head, Commit) and (yield from second_look(log)):
        yield from drop(*log.stagings(len(slots) - 2, head.token))
    elif isinstance(head, Claim) and head.token == me.token:
        yield from withdraw(log, me, len(slots) - 1)


def drop(*paths: str) -> Steps[None]:
    """Remove files, or directories with all that is in them, if that can be done; gc finds them otherwise."""
    for path in paths:
        try:
            yield fs.Remove(path)
        except OSError:
            pass


# -- exclusive creation ---------------------------------------------------------------------------------------


def agree(me: Claimant, path: str, record: Fingerprint) -> Steps[Record | Unreadable | None]:
    """What is written there once and for all: my ``record``, if nothing was."""
    found = yield from look(path)
    if found is None:
        yield from note(me, path, record)
        found = yield from look(path)
    return found


def note(me: Claimant, slot: str, record: Fail | Release | Reopen | Fingerprint) -> Steps[bool]:
    """Create ``slot`` with a record of its own, written whole first: a full disk never leaves a torn slot."""
    source = record_file(os.path.dirname(slot), me.token, "verdict")
    yield from write_private(source, encode(record))
    try:
        won = yield from create(me, slot, record, source)
    except OSError:
        yield from drop(source)
        raise
    yield from drop(source)
    return won


def create(me: Claimant, slot: str, record: Record, source: str) -> Steps[bool]:
    """Create ``slot`` exclusively from my file ``source``, which holds ``record``; False: somebody else has it.

    Whatever the call answers, the token in the slot decides: replies get lost.
    """
    problem = OSError()
    for primitive in (by_link, by_rename, by_writing):
        for _ in range(TRIES):
            try:
                yield from primitive(me, source, slot, record)
                return True
            except OSError as error:
                problem = error
            found = yield from look(slot)
            if found is not None and same(found, record):
                return True
            is_last = primitive is by_writing
            if isinstance(found, Unreadable) and is_last and problem.errno not in {errno.EEXIST, *UNSUPPORTED}:
                raise problem  # my own torn record: the outcome is unknown to all
            if found is not None or problem.errno == errno.EEXIST:
                return False
            # With no other way left EPERM says that somebody had it (sshfs can't say EEXIST), who has swept it since.
            if problem.errno not in UNSETTLED and not (is_last and problem.errno in UNSUPPORTED):
                break
        if problem.errno not in UNSUPPORTED:
            break
    raise problem


def same(found: Record | Unreadable, record: Record) -> bool:
    """Whether ``found`` is my ``record``: its kind and token are. Never its inode or its count of links."""
    return not isinstance(found, Unreadable) and type(found) is type(record) and found.token == record.token


def by_link(me: Claimant, source: str, slot: str, record: Record) -> Steps[None]:
    """One link of a file that is ready."""
    yield fs.Link(source, slot)


def by_rename(me: Claimant, source: str, slot: str, record: Record) -> Steps[None]:
    """Where there are no hard links: a copy, moved without replacing."""
    copy = record_file(os.path.dirname(slot), me.token, "copy")
    yield from write_private(copy, encode(record))
    try:
        yield fs.RenameNew(copy, slot)
    except OSError:
        yield from drop(copy)
        raise


def by_writing(me: Claimant, source: str, slot: str, record: Record) -> Steps[None]:
    """The last resort; a crash or a full disk leaves a torn slot, which only ``gc`` ends."""
    yield fs.WriteNew(slot, encode(record))


def write_private(path: str, data: bytes) -> Steps[None]:
    """Write a file that nobody else creates, anew if it is there."""
    for last in (False, True):
        try:
            yield fs.WriteNew(path, data)
            return
        except FileExistsError:
            if last:
                raise
            yield from drop(path)
        except OSError:
            yield from drop(path)
            raise

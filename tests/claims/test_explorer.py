"""The protocol in every order, and that the search finds each of its weakened variants."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest

from manyhands.claims import filesystem as fs
from manyhands.claims import protocol
from manyhands.claims.decisions import Busy, Fenced, Finished, Mine, Published, Recorded
from manyhands.claims.gc import _Collector
from manyhands.claims.names import Log, record_file
from manyhands.claims.record import Claimant, Commit, Fail, Record, Release, Unreadable
from manyhands.claims.watch import Watch
from manyhands.errors import OutputMissing
from manyhands.testing.explorer import Explorer, Faults, Knobs, Violation
from manyhands.testing.model import Write
from manyhands.testing.programs import Round, collect, compute, whole
from manyhands.workers import guard_process

EVERYTHING = Faults(crashes=1, suspicions=1, lost_replies=1, stale_looks=1)
NOTHING_STALE = replace(EVERYTHING, stale_looks=0)
SEVERAL = (Log.of("/d/a.csv", parts=["/d/a.png"]),)
TWO = (Log.of("/d/a.csv"), Log.of("/d/b.csv"))
STRESSED = Faults(crashes=2, suspicions=2, lost_replies=1)
NO_LINKS = Knobs(links=False)
NFS = Knobs(caches=True)
SSHFS = Knobs(moves=False, taken=errno.EPERM)
LOCAL = compute(local=True)
WHOLE_SECONDS = Knobs(grain=2, skews=(0, 3600), by_client=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    "explorer",
    [
        pytest.param(Explorer(), id="no faults"),
        pytest.param(Explorer(faults=EVERYTHING, liveness=True), id="one of each"),
        pytest.param(Explorer(faults=NOTHING_STALE, program=LOCAL, liveness=True), id="one of each, local"),
        pytest.param(Explorer(faults=STRESSED, program=LOCAL), id="two crashes and suspicions"),
        pytest.param(Explorer(faults=EVERYTHING, knobs=NO_LINKS), id="no hard links"),
        pytest.param(
            Explorer(faults=Faults(1, 1, 0, 1), program=compute(first="fail"), liveness=True),
            id="failing first",
        ),
        pytest.param(
            Explorer(faults=Faults(1, 1), program=compute(first="fail", local=True), liveness=True),
            id="failing first, local",
        ),
        pytest.param(
            Explorer(faults=Faults(1, 1, 0, 0), program=compute(first="release"), liveness=True),
            id="releasing first",
        ),
        pytest.param(
            Explorer(faults=Faults(2, 1, 1, 1), program=compute(max_crashes=2)), id="two crashes are too many"
        ),
        pytest.param(
            Explorer(faults=Faults(1, 1, 0, 0), program=LOCAL, logs=SEVERAL, liveness=True), id="two files"
        ),
        pytest.param(
            Explorer(faults=Faults(1, 0, 0, 1), logs=SEVERAL, knobs=NO_LINKS), id="two files without links"
        ),
        pytest.param(Explorer(workers=3, program=LOCAL), id="three workers"),
        pytest.param(
            Explorer(faults=Faults(stale_looks=2, suspicions=1), knobs=NFS, liveness=True),
            id="clients that remember names",
        ),
        pytest.param(Explorer(faults=Faults(delays=1, suspicions=1), quick=True), id="late effects"),
        pytest.param(
            Explorer(faults=Faults(delays=1, suspicions=1), program=LOCAL, quick=True),
            id="late effects, local",
        ),
        pytest.param(
            Explorer(
                faults=Faults(errors=1),
                program=LOCAL,
                errnos=(errno.EIO, errno.ESTALE, errno.ENOSPC, errno.EPERM),
            ),
            id="errors",
        ),
        pytest.param(
            Explorer(faults=Faults(torn=1), program=compute(first="fail"), quick=True, liveness=True),
            id="torn records",
        ),
        pytest.param(Explorer(faults=Faults(suspicions=1, lost_replies=1), knobs=SSHFS), id="as on sshfs"),
        pytest.param(
            Explorer(faults=Faults(stops=1, missed_beats=1), clocks=True, knobs=WHOLE_SECONDS, quick=True),
            id="leases, by clocks that disagree",
        ),
        pytest.param(
            Explorer(workers=1, others=(collect(),), faults=Faults(crashes=1), program=LOCAL),
            id="gc beside one that dies",
        ),
    ],
)
def test_no_order_breaks_a_promise(explorer: Explorer) -> None:
    """One COMMIT, one whole output, nobody stuck, who beats is left alone: in every state that can be reached."""
    assert explorer.explore() > 500


# -- variants that must be found ------------------------------------------------------------------------------


def no_second_look(log: Log, *, local: bool = False) -> fs.Steps[bool]:
    """Believe the first look."""
    return False
    yield


def claim_left_live(log: Log, me: Claimant, slot: int) -> fs.Steps[None]:
    """Find final at the second look and leave the CLAIM as it is."""
    return
    yield


def sweep_contested(mine: Mine) -> fs.Steps[None]:
    """Remove any log after publication."""
    for number in range(mine.slot + 1, -1, -1):
        yield from protocol.drop(mine.log.slot(number))


def unlink_on_release(me: Claimant, mine: Mine, record: Fail | Release) -> fs.Steps[Any]:
    """Give a claim up by freeing its slot."""
    yield from protocol.drop(*mine.stagings)
    yield from protocol.drop(mine.log.slot(mine.slot))
    return Recorded()


def drop_what_is_committed(me: Claimant, mine: Mine, record: Fail | Release) -> fs.Steps[Any]:
    """Give up what could not be published as if it were not decided yet."""
    yield from protocol.drop(*mine.stagings)
    won = yield from protocol.note(me, mine.log.slot(mine.slot + 1), record)
    return Recorded() if won else Fenced()


def publish_without_commit(
    me: Claimant, mine: Mine, *, durable: bool = True, local: bool = False
) -> fs.Steps[Any]:
    """Publish when no slot above mine is taken, without taking it."""
    if (yield from protocol.look(mine.log.slot(mine.slot + 1))) is not None:
        return Fenced()
    yield from protocol.publish(mine.log, mine.stagings, durable=durable)
    return Published()


def no_token_compare(found: Record | Unreadable, record: Record) -> bool:
    """Whatever is in the slot is not mine."""
    return False


def kind_compare_only(found: Record | Unreadable, record: Record) -> bool:
    """Whatever is of my kind is mine."""
    return type(found) is type(record)


def fixed_staging(log: Log, number: int, token: str) -> str:
    """One staging for all claimants."""
    return f"{log.prefix}-staging"


def slots_of_all(log: Log, number: int) -> str:
    """One log for all outputs."""
    return os.path.join(log.directory, f".claim-{number}")


def stagings_of_all(log: Log, number: int, token: str) -> str:
    """One staging for all outputs of a claimant's slot."""
    return os.path.join(log.directory, f".claim-{number}-{token}-x")


def one_token(directory: str, token: str, kind: Any) -> str:
    """The record files of one claimant for all, as if two threads shared a token."""
    return record_file(directory, f"{1:024x}", kind)


def fenced_is_done(log: Log, me: Claimant, watch: Watch | None) -> Round:
    """Take a lost claim for somebody else's success."""
    ending = yield from compute()(log, me, watch)
    return "done" if ending == "again" else ending


def own_claim_is_waited_for(log: Log, me: Claimant, watch: Watch | None) -> Round:
    """Wait for whoever has the claim, be it oneself, who has lost sight of it."""
    decision = yield from protocol.acquire(log, me)
    if isinstance(decision, Finished):
        return "done"
    if not isinstance(decision, Mine):
        return "busy"
    for _ in range(2):
        yield from compute().write(log, me, decision)
    return "again"  # and forget it


def commit_before_writing(log: Log, me: Claimant, watch: Watch | None) -> Round:
    """Commit what is not whole yet."""
    decision = yield from protocol.acquire(log, me)
    if not isinstance(decision, Mine):
        return "done" if decision == Finished() else "busy"
    yield Write(decision.stagings[-1], b"half")
    answer = yield from protocol.commit(me, decision, durable=False)
    return "done" if isinstance(answer, Published) else "again"


def second_releases(log: Log, me: Claimant, watch: Watch | None) -> Round:
    """The second worker gives its claim up at once and leaves."""
    if me.pid != 2:
        return (yield from compute()(log, me, watch))
    decision = yield from protocol.acquire(log, me)
    if isinstance(decision, Mine):
        yield from protocol.release(me, decision)
    return "left"


def holds(log: Log, me: Claimant, watch: Watch | None) -> Round:
    """The first worker is at it for some time, while it beats."""
    if me.pid != 1:
        return (yield from compute()(log, me, watch))
    decision = yield from protocol.acquire(log, me, protocol.Question(watch=watch))
    match decision:
        case Mine():
            return "busy"
        case Busy(owner, slot) if owner == me:
            if (yield fs.Now()).seconds < LONG:
                return "busy"
            mine = Mine(log, slot, me.token, 1)
            yield from compute().write(log, me, mine)
            answer = yield from protocol.commit(me, mine, durable=False)
            return "published" if isinstance(answer, Published) else "again"
    return "done" if isinstance(decision, Finished) else "busy"


def taken_over(log: Log, me: Claimant, watch: Watch | None) -> Round:
    """The first worker claims and commits once; the second one comes later, and ends with it."""
    if me.pid == 2:
        if not (yield fs.Exists(log.slot(0))):
            return "left"
        yield from compute()(log, me, watch)
        return "left"
    decision = yield from protocol.acquire(log, me)
    if isinstance(decision, Mine):
        yield Write(decision.stagings[-1], whole(log, me, decision.slot))
        try:
            yield from protocol.commit(me, decision, durable=False)
        except OutputMissing:
            pass  # gc took it away, as it may of who was taken over
    return "left"


def collect_in_the_end(log: Log, me: Claimant, watch: Watch | None) -> Round:
    """``gc``, if the output is there."""
    if (yield fs.Exists(log.final)):
        yield from collect()(log, me)
    return "left"


def mtime_against_now(watch: Watch, lease: float) -> bool:
    """Subtract the time that another machine wrote from this one's."""
    return watch.last.seconds - watch.stamp.mtime_ns / 1e9 >= lease


def one_look_is_enough(watch: Watch, lease: float) -> bool:
    """Take for dead whoever did not beat between two looks."""
    return watch.looks >= 1


def never(watch: Watch, lease: float) -> bool:
    """Wait for ever for whoever does not beat."""
    return False


def no_error_passes(error: OSError) -> bool:
    """Stop beating at the first error."""
    return False


def as_if_linked(collector: _Collector) -> fs.Steps[bool]:
    """Free the slots of contested logs wherever outputs are published by renaming, too."""
    return True
    yield


def all_are_dead(collector: _Collector, token: str) -> fs.Steps[bool]:
    """Ask nobody whether it lives."""
    return True
    yield


def last_file_first(log: Log, stagings: Any, *, durable: bool = True, local: bool = False) -> fs.Steps[bool]:
    """Publish the file that tells of all before the others."""
    published = yield from published_as_it_is(Log(log.final, log.prefix), stagings[-1:], durable=durable)
    return published and (yield from protocol.publish_parts(log, list(stagings[:-1]), durable=durable))


published_as_it_is = protocol.publish
committed_as_it_is = protocol.commit


def not_synced(me: Claimant, mine: Mine, *, durable: bool, local: bool) -> fs.Steps[Any]:
    """Bring nothing to the disk."""
    return committed_as_it_is(me, mine, durable=False, local=local)


def names_not_synced(log: Log, stagings: Any, *, durable: bool = True, local: bool = False) -> fs.Steps[bool]:
    """Bring the bytes to the disk, and not the name."""
    return published_as_it_is(log, stagings, durable=False, local=local)


def parts_linked(log: Log, stagings: list[Any], *, durable: bool) -> fs.Steps[bool]:
    """Leave parts as they are where there are any."""
    for staging, part in zip(stagings, log.parts, strict=True):
        yield from protocol.move(staging, part)
    return True


def tidy_at_once(log: Log, me: Claimant) -> fs.Steps[None]:
    """Remove what is committed without another look at final."""
    slots = yield from protocol.read(log)
    if slots and isinstance(slots[-1], Commit):
        yield from protocol.drop(*log.stagings(len(slots) - 2, slots[-1].token))


def tidy_by_what_was_seen(log: Log, me: Claimant) -> fs.Steps[None]:
    """Remove what is committed if final was there when it was last looked for."""
    slots = yield from protocol.read(log)
    if slots and isinstance(slots[-1], Commit) and (yield fs.Exists(log.final)):
        yield from protocol.drop(*log.stagings(len(slots) - 2, slots[-1].token))


def stagings_not_synced(me: Claimant, mine: Mine, *, durable: bool, local: bool) -> fs.Steps[Any]:
    """Commit several files whose names are not on the disk."""
    steps = committed_as_it_is(me, mine, durable=durable, local=local)
    operation = next(steps)
    is_decided = False
    try:
        while True:
            if isinstance(operation, fs.SyncDirectory) and not is_decided:
                operation = steps.send(None)
                continue
            is_decided = is_decided or isinstance(operation, fs.Link)
            try:
                reply = yield operation
            except OSError as error:
                operation = steps.throw(error)
            else:
                operation = steps.send(reply)
    except StopIteration as end:
        return end.value


def first_claim_by_token(log: Log, me: Claimant, question: protocol.Question) -> fs.Steps[Any]:
    """Take slot 0 for mine if my token is in it, though I may have put it there for an earlier attempt."""
    return (yield from protocol.claim(log, me, question, []))


SEARCHES: dict[str, Callable[[], Explorer]] = {
    "who has looked and fails first": lambda: Explorer(
        faults=Faults(crashes=1, suspicions=1, stale_looks=1),
        program=compute(first="fail", looked=True),
        liveness=True,
        quick=True,
    ),
    "who has looked, and a removal": lambda: Explorer(
        faults=Faults(stale_looks=1, lost_replies=1, removals=1), program=compute(looked=True), quick=True
    ),
    "a stale look and a lost reply": lambda: Explorer(faults=Faults(stale_looks=1, lost_replies=1)),
    "one taken over, without links": lambda: Explorer(faults=Faults(suspicions=1), knobs=NO_LINKS),
    "a stale look, and a removal": lambda: Explorer(faults=Faults(stale_looks=1, removals=1)),
    "three, of which one gives up": lambda: Explorer(
        workers=3, faults=Faults(suspicions=1), program=second_releases, quick=True
    ),
    "two files, and a removal": lambda: Explorer(faults=Faults(removals=1), logs=SEVERAL),
    "two outputs": lambda: Explorer(logs=TWO),
    "a full disk": lambda: Explorer(faults=Faults(errors=1), errnos=(errno.ENOSPC,)),
    "the power fails": lambda: Explorer(
        faults=Faults(powers=1),
        knobs=Knobs(volatile=True),
        program=compute(durable=True, local=True),
        quick=True,
    ),
    "two files, and the power fails": lambda: Explorer(
        faults=Faults(powers=1),
        knobs=Knobs(volatile=True),
        logs=SEVERAL,
        program=compute(durable=True),
        quick=True,
    ),
    "clocks that disagree": lambda: Explorer(clocks=True, knobs=WHOLE_SECONDS, program=holds),
    "a beat that fails": lambda: Explorer(clocks=True, faults=Faults(missed_beats=1), program=holds),
    "another machine dies": lambda: Explorer(
        clocks=True, faults=Faults(crashes=1), quick=True, liveness=True, states_max=50_000
    ),
    "gc beside a worker": lambda: Explorer(workers=1, others=(collect(),)),
    "gc beside one taken over, without links": lambda: Explorer(
        faults=Faults(suspicions=2),
        knobs=NO_LINKS,
        program=taken_over,
        others=(collect_in_the_end,),
        quick=True,
    ),
}
"""In each of these worlds nothing is found where nothing is wrong."""

LARGE: dict[str, Callable[[], Explorer]] = {
    "two files, names remembered, and a removal": lambda: Explorer(
        faults=Faults(stale_looks=1, removals=1), logs=SEVERAL, knobs=NFS, quick=True
    ),
}
"""So it is in these, which the stress run goes through."""

LONG = 10
"""Seconds for which a worker is at it, while it beats."""


@dataclass(frozen=True)
class Mutant:
    """A weakened variant, and where it is found."""

    search: str
    where: Any = None
    what: str = ""
    variant: Any = None
    program: Any = None


MUTANTS: dict[str, Mutant] = {
    "no second look": Mutant("a stale look and a lost reply", protocol, "second_look", no_second_look),
    "a CLAIM left live at the second look": Mutant(
        "a stale look, and a removal", protocol, "withdraw", claim_left_live
    ),
    "no token compare": Mutant("a stale look and a lost reply", protocol, "same", no_token_compare),
    "kind compare only": Mutant("a stale look and a lost reply", protocol, "same", kind_compare_only),
    "sweep contested": Mutant("one taken over, without links", protocol, "sweep", sweep_contested),
    "unlink on release": Mutant("three, of which one gives up", protocol, "give_back", unlink_on_release),
    "publish without COMMIT": Mutant(
        "one taken over, without links", protocol, "commit", publish_without_commit
    ),
    "gc of a contested log with rename publication": Mutant(
        "gc beside one taken over, without links", _Collector, "_has_links", as_if_linked
    ),
    "gc of the living": Mutant("gc beside a worker", _Collector, "is_dead", all_are_dead),
    "mtime against now": Mutant("clocks that disagree", Watch, "has_expired", mtime_against_now),
    "one look is enough": Mutant("clocks that disagree", Watch, "has_expired", one_look_is_enough),
    "beating dies at the first error": Mutant("a beat that fails", guard_process, "may_pass", no_error_passes),
    "a lease never ends": Mutant("another machine dies", Watch, "has_expired", never),
    "fixed staging name": Mutant("one taken over, without links", Log, "staging", fixed_staging),
    "slot name without final's name": Mutant("two outputs", Log, "slot", slots_of_all),
    "staging name without final's name": Mutant("two outputs", Log, "staging", stagings_of_all),
    "token shared by two threads": Mutant("a stale look and a lost reply", protocol, "record_file", one_token),
    "fenced = done": Mutant("one taken over, without links", program=fenced_is_done),
    "one's own claim is waited for": Mutant("a stale look and a lost reply", program=own_claim_is_waited_for),
    "commit before writing": Mutant("a stale look and a lost reply", program=commit_before_writing),
    "what is committed is dropped": Mutant("a full disk", protocol, "give_back", drop_what_is_committed),
    "nothing is synced": Mutant("the power fails", protocol, "commit", not_synced),
    "names are not synced": Mutant("the power fails", protocol, "publish", names_not_synced),
    "tidy at once": Mutant("two files, and a removal", protocol, "tidy", tidy_at_once),
    "tidy by what was seen": Mutant(
        "two files, names remembered, and a removal", protocol, "tidy", tidy_by_what_was_seen
    ),
    "names of stagings are not synced": Mutant(
        "two files, and the power fails", protocol, "commit", stagings_not_synced
    ),
    "the first claim is judged by its token": Mutant(
        "who has looked and fails first", protocol, "claim_first", first_claim_by_token
    ),
    "last file first": Mutant("two files, and a removal", protocol, "publish", last_file_first),
    "parts are not replaced": Mutant("two files, and a removal", protocol, "publish_parts", parts_linked),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SEARCHES)
def test_the_protocol_itself_passes_these_searches(name: str) -> None:
    """Nothing is found where nothing is wrong."""
    assert SEARCHES[name]().explore() > 500


@pytest.mark.slow
@pytest.mark.parametrize("name", MUTANTS)
def test_a_weakened_protocol_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each rule of the protocol is needed: without it the search finds a broken promise."""
    mutant = MUTANTS[name]
    if mutant.where is not None:
        monkeypatch.setattr(mutant.where, mutant.what, mutant.variant)
    explorer = (SEARCHES | LARGE)[mutant.search]()
    if mutant.program is not None:
        explorer.program = mutant.program
    with pytest.raises(Violation):
        explorer.explore()


def test_what_is_cached_is_not_local() -> None:
    """Who trusts a look where another's changes may not be seen makes an output twice."""
    with pytest.raises(Violation, match="a second COMMIT"):
        Explorer(faults=Faults(stale_looks=1), program=LOCAL).explore()


def test_a_violation_tells_the_way_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """The trace lists the steps from the start, with who did what."""
    monkeypatch.setattr(protocol, "second_look", no_second_look)
    with pytest.raises(Violation, match="a second COMMIT") as caught:
        Explorer(faults=Faults(stale_looks=1)).explore()
    assert caught.value.trace[0] == "0 Exists a.csv -> False"
    assert any("(stale)" in step for step in caught.value.trace)

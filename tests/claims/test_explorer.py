"""The protocol in every order, and that the search finds each of its weakened variants."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from manyhands.claims import filesystem as fs
from manyhands.claims import protocol
from manyhands.claims.decisions import Fenced, Finished, Mine, Published, Recorded
from manyhands.claims.names import Log, record_file
from manyhands.claims.record import Claimant, Commit, Fail, Record, Release, Unreadable
from manyhands.testing.explorer import Ending, Explorer, Faults, Round, Violation, compute
from manyhands.testing.model import Write

EVERYTHING = Faults(crashes=1, suspicions=1, lost_replies=1, stale_looks=1)
SEVERAL = Log.of("/d/a.csv", parts=["/d/a.png"])
STRESSED = Faults(crashes=2, suspicions=2, lost_replies=1, stale_looks=1)


@pytest.mark.slow
@pytest.mark.parametrize(
    "explorer",
    [
        pytest.param(Explorer(), id="no faults"),
        pytest.param(Explorer(faults=EVERYTHING), id="one of each"),
        pytest.param(Explorer(faults=STRESSED), id="two crashes and suspicions"),
        pytest.param(Explorer(faults=EVERYTHING, links=False), id="no hard links"),
        pytest.param(
            Explorer(faults=Faults(1, 1, 0, 1), program=functools.partial(compute, first="fail")),
            id="failing first",
        ),
        pytest.param(
            Explorer(faults=Faults(1, 1, 0, 0), program=functools.partial(compute, first="release")),
            id="releasing first",
        ),
        pytest.param(
            Explorer(faults=Faults(2, 1, 1, 1), program=functools.partial(compute, max_crashes=2)),
            id="two crashes are too many",
        ),
        pytest.param(Explorer(faults=Faults(1, 1, 0, 0), log=SEVERAL), id="two files"),
        pytest.param(
            Explorer(faults=Faults(1, 0, 0, 1), log=SEVERAL, links=False), id="two files without links"
        ),
        pytest.param(Explorer(workers=3), id="three workers"),
    ],
)
def test_no_order_breaks_a_promise(explorer: Explorer) -> None:
    """One COMMIT, one whole output, nobody stuck: in every state that can be reached."""
    assert explorer.explore() > 500


# -- variants that must be found ------------------------------------------------------------------------------


def no_second_look(log: Log) -> fs.Steps[bool]:
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
    yield from protocol.drop(mine.staging)
    yield from protocol.drop(mine.log.slot(mine.slot))
    return Recorded()


def publish_without_commit(me: Claimant, mine: Mine, *, durable: bool = True) -> fs.Steps[Any]:
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
    return not isinstance(found, Unreadable) and found.kind == record.kind


def fixed_staging(log: Log, number: int, token: str) -> Any:
    """One staging for all claimants."""
    return log.prefix.with_name(f"{log.prefix.name}-staging")


def one_token(directory: Any, token: str, kind: Any) -> Any:
    """The record files of one claimant for all, as if two threads shared a token."""
    return record_file(directory, f"{1:024x}", kind)


def fenced_is_done(log: Log, me: Claimant) -> Round:
    """Take a lost claim for somebody else's success."""
    steps = compute(log, me)
    ending: Ending = yield from steps
    return "done" if ending == "again" else ending


def commit_before_writing(log: Log, me: Claimant) -> Round:
    """Commit what is not whole yet."""
    decision = yield from protocol.acquire(log, me)
    if not isinstance(decision, Mine):
        return "done" if decision == Finished() else "busy"
    yield Write(decision.staging, b"half")
    answer = yield from protocol.commit(me, decision, durable=False)
    return "done" if isinstance(answer, Published) else "again"


def second_releases(log: Log, me: Claimant) -> Round:
    """The second worker gives its claim up at once and leaves."""
    if me.pid != 2:
        return (yield from compute(log, me))
    decision = yield from protocol.acquire(log, me)
    if isinstance(decision, Mine):
        yield from protocol.release(me, decision)
    return "left"


def faulty() -> Explorer:
    """A stale look and a lost reply."""
    return Explorer(faults=Faults(stale_looks=1, lost_replies=1))


def moving() -> Explorer:
    """One owner taken over while it goes on, where outputs are published by renaming."""
    return Explorer(faults=Faults(suspicions=1), links=False)


def removing() -> Explorer:
    """A stale look, and the output is removed later."""
    return Explorer(faults=Faults(stale_looks=1, removals=1))


def releasing() -> Explorer:
    """Three workers, of which one gives up; one is taken over and goes on."""
    return Explorer(workers=3, faults=Faults(suspicions=1), program=second_releases, quick=True)


def last_file_first(log: Log, stagings: Any, *, durable: bool = True) -> fs.Steps[bool]:
    """Publish the file that tells of all before the others."""
    published = yield from published_as_it_is(replace(log, parts=()), stagings[-1:], durable=durable)
    return published and (yield from protocol.publish_parts(log, list(stagings[:-1]), durable=durable))


published_as_it_is = protocol.publish


def parts_linked(log: Log, stagings: list[Any], *, durable: bool) -> fs.Steps[bool]:
    """Leave parts as they are where there are any."""
    for staging, part in zip(stagings, log.parts, strict=True):
        yield from protocol.move(staging, part)
    return True


def several() -> Explorer:
    """Two files, of which the last is removed later."""
    return Explorer(faults=Faults(removals=1), log=SEVERAL)


def tidy_at_once(log: Log) -> fs.Steps[None]:
    """Remove what is committed without another look at final."""
    slots = yield from protocol.read(log)
    if slots and isinstance(slots[-1], Commit):
        yield from protocol.drop(*log.stagings(len(slots) - 2, slots[-1].token))


MUTANTS: dict[str, tuple[Any, str, Any, Callable[[], Explorer]]] = {
    "no second look": (protocol, "second_look", no_second_look, faulty),
    "sweep contested": (protocol, "sweep", sweep_contested, moving),
    "unlink on release": (protocol, "give_back", unlink_on_release, releasing),
    "publish without COMMIT": (protocol, "commit", publish_without_commit, moving),
    "no token compare": (protocol, "same", no_token_compare, faulty),
    "kind compare only": (protocol, "same", kind_compare_only, faulty),
    "fixed staging name": (Log, "staging", fixed_staging, moving),
    "one token for two": (protocol, "record_file", one_token, faulty),
    "claim left live at the second look": (protocol, "withdraw", claim_left_live, removing),
    "tidy at once": (protocol, "tidy", tidy_at_once, several),
    "last file first": (protocol, "publish", last_file_first, several),
    "parts are not replaced": (protocol, "publish_parts", parts_linked, several),
}


@pytest.mark.slow
@pytest.mark.parametrize("search", [faulty, moving, removing, releasing, several])
def test_the_protocol_itself_passes_these_searches(search: Callable[[], Explorer]) -> None:
    """Nothing is found where nothing is wrong."""
    assert search().explore() > 1000


@pytest.mark.slow
@pytest.mark.parametrize("name", MUTANTS)
def test_a_weakened_protocol_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each rule of the protocol is needed: without it the search finds a broken promise."""
    where, what, mutant, search = MUTANTS[name]
    monkeypatch.setattr(where, what, mutant)
    with pytest.raises(Violation):
        search().explore()


@pytest.mark.parametrize("program", [fenced_is_done, commit_before_writing])
def test_a_wrong_use_is_found(program: Callable[[Log, Claimant], Round]) -> None:
    """Fenced is not done, and what is committed must be whole."""
    with pytest.raises(Violation):
        Explorer(faults=EVERYTHING, program=program).explore()


def test_a_violation_tells_the_way_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """The trace lists the steps from the start, with who did what."""
    monkeypatch.setattr(protocol, "second_look", no_second_look)
    with pytest.raises(Violation, match="a second COMMIT") as caught:
        Explorer(faults=Faults(stale_looks=1)).explore()
    assert caught.value.trace[0] == "0 Exists a.csv -> False"
    assert any("(stale)" in step for step in caught.value.trace)

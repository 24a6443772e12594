"""Claims that are recorded: also what one claimant says in the place of another."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from manyhands.claims import Busy, Claims, FailedBefore, Finished, Log, Mine
from manyhands.testing import check, digest, read_histories
from manyhands.testing.recorded import Recording

CLAIM_AND_END = """
import sys
from pathlib import Path
from manyhands.claims import Log
from manyhands.testing.recorded import Recording
claims = Recording(Path(sys.argv[1]), Path(sys.argv[2]))()
claims.acquire(Log.of(Path(sys.argv[2], "a.csv")))
sys.stdout.write(claims._claims.claimant.token)
sys.stdout.flush()
import os
os._exit(0)
"""


@pytest.fixture
def recording(tmp_path: Path) -> Recording:
    """Into a directory of its own."""
    (tmp_path / "out").mkdir()
    return Recording(tmp_path / "history", tmp_path / "out")


def dead_claimant(recording: Recording) -> tuple[int, str]:
    """Somebody who has claimed a.csv, and has ended; its process id and token."""
    program = [sys.executable, "-c", CLAIM_AND_END, recording.directory, recording.root]
    process = subprocess.Popen(program, stdout=subprocess.PIPE, text=True)
    token, _ = process.communicate(timeout=60)
    return process.pid, token


def log(recording: Recording, name: str = "a.csv") -> Log:
    """Of an output."""
    return Log.of(recording.root / name)


def told(recording: Recording) -> list[str]:
    """What the histories say, but for claims that were asked for."""
    events = [event for history in read_histories(recording.directory) for event in history]
    return sorted(
        f"{event.kind} {event.action} {event.slot} {event.note}".strip()
        for event in events
        if event.action != "claim" or event.kind == "ok"
    )


def test_the_verdict_of_a_parent_is_told(recording: Recording) -> None:
    """Who buries a dead owner's claim is no owner; the next attempt counts it."""
    pid, token = dead_claimant(recording)
    claims = recording()
    orphan = claims.orphaned(log(recording), pid)
    assert orphan is not None
    assert orphan.token == token
    assert claims.bury(orphan, type_name="x", backoff=0.0)
    mine = claims.acquire(log(recording))
    assert isinstance(mine, Mine)
    assert (mine.slot, mine.attempt) == (2, 2)
    assert told(recording) == [
        "invoke failure 1 for another",
        "ok claim 0",
        "ok claim 2",
        "ok failure 1 for another",
    ]
    verdict = check(read_histories(recording.directory))
    assert verdict.valid, str(verdict)
    claims.close()


def test_the_release_for_who_was_asked_to_end_is_told(recording: Recording) -> None:
    """Who finds the owner's file renamed writes a RELEASE, on its way to a claim."""
    _, token = dead_claimant(recording)
    record = recording.root / f".manyhands-{token}.claim-record"
    record.rename(record.with_name(f".manyhands-{token}.released-record"))
    with recording() as claims:
        mine = claims.acquire(log(recording))
        assert isinstance(mine, Mine)
        assert "ok release 1 for another" in told(recording)
        assert check(read_histories(recording.directory)).valid
        claims.release(mine)


def test_the_failure_after_too_many_crashes_is_told(recording: Recording) -> None:
    """It ends the last of them."""
    dead_claimant(recording)
    with recording(max_crashes=1) as claims:
        assert isinstance(claims.acquire(log(recording)), FailedBefore)
    assert "ok failure 1 for another" in told(recording)
    assert check(read_histories(recording.directory)).valid


def test_what_was_held_at_the_end_is_released(recording: Recording) -> None:
    """Closing tells of it, and the next claim is no doubt."""
    with recording() as claims:
        assert isinstance(claims.acquire(log(recording)), Mine)
    with recording() as claims:
        mine = claims.acquire(log(recording))
        assert isinstance(mine, Mine)
        assert mine.slot == 2
        assert check(read_histories(recording.directory)).valid
        claims.release(mine)


def test_a_claim_that_was_not_needed_is_not_told(recording: Recording) -> None:
    """The RELEASE of one's own claim, as the output turned out to be there, ends nothing that anybody had."""
    first = Claims()
    mine = first.acquire(log(recording))
    assert isinstance(mine, Mine)
    mine.staging.write_text("x")
    first.commit(mine)
    with recording() as claims:
        assert isinstance(claims.acquire(log(recording)), Finished)
    assert told(recording) == []
    first.close()


def test_an_output_that_was_there_before_it_was_committed_is_wrong(recording: Recording) -> None:
    """Somebody has written to its place; else it is not."""
    with recording() as claims:
        for name, is_wrong in (("a.csv", True), ("b.csv", False)):
            mine = claims.acquire(log(recording, name))
            assert isinstance(mine, Mine)
            mine.staging.write_text("x")
            if is_wrong:
                Path(mine.log.final).write_text("x")
            claims.commit(mine)
    problems = check(read_histories(recording.directory)).problems
    assert [(problem.rule, problem.message) for problem in problems] == [
        ("publications", "'a.csv' was there before it was committed")
    ]


def test_outputs_are_called_by_their_ways(recording: Recording) -> None:
    """Two of the same name in different directories are two; so are all files of one that is several."""
    for folder in ("1", "2"):
        (recording.root / folder).mkdir()
        several = Log.of(recording.root / folder / "b", parts=[recording.root / folder / "a"])
        with pickle.loads(pickle.dumps(recording))() as claims:
            mine = claims.acquire(several)
            assert isinstance(mine, Mine)
            for staging in mine.stagings:
                Path(staging).write_text(folder)
            claims.commit(mine)
            assert isinstance(claims.acquire(several), Finished)
    listing = {f"{n}/b": digest(recording.root / n / "a", recording.root / n / "b") for n in ("1", "2")}
    assert listing["1/b"].count("+") == 1
    verdict = check(read_histories(recording.directory), listing, listing)
    assert verdict.valid, str(verdict)
    (recording.root / "2" / "a").write_text("other")
    listing["2/b"] = digest(recording.root / "2" / "a", recording.root / "2" / "b")
    assert [each.rule for each in check(read_histories(recording.directory), listing).problems] == ["bytes"]


def test_a_claim_of_somebody_alive_is_busy(recording: Recording) -> None:
    """And nothing is said for it."""
    with recording() as first, recording() as second:
        mine = first.acquire(log(recording))
        assert isinstance(mine, Mine)
        assert isinstance(second.acquire(log(recording)), Busy)
        assert told(recording) == ["ok claim 0"]
        assert first.paths()
        assert os.path.lexists(first.paths()[0])
        first.release(mine)

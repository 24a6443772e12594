"""A survey says of each output what its log says, of directories that the real engine has made, and changes nothing."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manyhands.claims import Claims, FailedBefore, Log, Mine, gc, liveness, protocol, survey
from manyhands.claims.filesystem import LocalFileSystem, Operation, run
from manyhands.claims.names import output_name, record_file
from manyhands.claims.record import Claim, Claimant, Commit, Fail, Reopen, encode
from manyhands.claims.reopen import reopen, reopened
from manyhands.claims.states import STATES, OutputState, Sight, decide
from manyhands.claims.survey import Survey

TOKEN = "c" * 24


def taken(claims: Claims, log: Log) -> Mine:
    """The claim, which nobody else has."""
    mine = claims.acquire(log)
    assert isinstance(mine, Mine)
    return mine


def seen(directory: Path, **options: object) -> dict[str, OutputState]:
    """What a survey finds, by name."""
    return {found.name: found for found in Survey(directory, **options).read()}


def state(directory: Path, name: str = "a.csv", **options: object) -> tuple[str, str]:
    """State and reason of one output; "none" if it is not told of."""
    found = seen(directory, **options).get(name)
    return ("none", "") if found is None else (found.state, found.reason)


def contents(directory: Path) -> dict[str, tuple[bytes, int, int]]:
    """All that could be changed by looking."""
    return {
        path.name: (path.read_bytes(), path.stat().st_mtime_ns, path.stat().st_nlink)
        for path in directory.iterdir()
    }


# -- states ---------------------------------------------------------------------------------------------------


def test_each_state(tmp_path: Path) -> None:
    """Each end that a claim can come to is told as what it is, with what was recorded; finished outputs are counted."""
    with Claims() as claims:
        for name in ("done.csv", "done too.csv"):
            mine = taken(claims, Log.of(tmp_path / name))
            mine.staging.write_text("whole")
            claims.commit(mine)
        taken(claims, Log.of(tmp_path / "running.csv"))
        claims.release(taken(claims, Log.of(tmp_path / "open.csv")))
        why = {"type_name": "ValueError", "message": "first\nno good", "traceback": "Traceback\n"}
        claims.fail(taken(claims, Log.of(tmp_path / "failed.csv")), **why)
        claims.fail(taken(claims, Log.of(tmp_path / "waiting.csv")), **why, backoff=1000.0)
        claims.fail(taken(claims, Log.of(tmp_path / "discarded.csv")), **why, discarded=True)
        (tmp_path / ".unreadable.csv.claim-0").write_text("mine")
        before, look = contents(tmp_path), Survey(tmp_path)
        found = {each.name: each for each in look.read()}
        assert contents(tmp_path) == before
        assert {name: each.state for name, each in found.items()} == {
            f"{name}.csv": name for name in ("running", "open", "failed", "waiting", "discarded", "unreadable")
        }
        assert look.done == 2 and look.claimants == 1
        assert look.counts == {each.state: 1 for each in found.values()}
        me = claims.claimant
    running, failed, waiting = (found[f"{name}.csv"] for name in ("running", "failed", "waiting"))
    assert running.owner == me and running.place == f"{me.host}:{os.getpid()}"
    assert running.attempt == 1 and running.lease == me.lease and running.quiet is not None
    assert failed.last_line == "ValueError: no good" and failed.failure.traceback == "Traceback\n"
    assert waiting.attempt == 1 and 900 < waiting.retry_in <= 1000
    assert found["unreadable.csv"].reason == "not JSON"


DEAD = Claimant(TOKEN, "elsewhere", "another boot", 1, 1, 1, 10.0)


@pytest.mark.parametrize(
    ("sight", "expected"),
    [
        (Sight("there", "alive", 1.0), ("running", "")),
        (Sight("there", "hidden", None), ("running", "")),
        (Sight("there", "hidden", 10.0), ("running", "")),
        (Sight("there", "hidden", 10.1), ("stale", "no sign of life for longer than its lease")),
        (Sight("there", "stopped", 1.0), ("running", "its process is stopped")),
        (
            Sight("there", "stopped", 11.0),
            ("stale", "its process is stopped: no sign of life for longer than its lease"),
        ),
        (Sight("there", "ended", 1.0), ("stale", "its process has ended")),
        (Sight("gone", "hidden"), ("stale", "its record file is gone")),
        (Sight("released", "ended"), ("open", "given up")),
    ],
)
def test_owners(sight: Sight, expected: tuple[str, str]) -> None:
    """A claim is stale if its process or record is gone or it was not heard of for its lease, and says which."""
    assert decide([Claim(DEAD)], is_there=False, has_staging=False, sight=sight) == expected
    assert decide([Claim(DEAD)], is_there=True, has_staging=False, sight=sight) == ("done", "")


def test_a_lease_doubles_with_each_owner_that_was_superseded() -> None:
    """As the protocol has it: the third owner in a row has four times its lease."""
    slots = [Claim(DEAD)] * 3
    verdicts = [
        decide(slots, is_there=False, has_staging=False, sight=Sight("there", "hidden", quiet))[0]
        for quiet in (40.0, 40.1)
    ]
    assert verdicts == ["running", "stale"]


def test_which_attempt(tmp_path: Path) -> None:
    """The attempt that runs is one more than what failed since the failures were last reopened."""
    with Claims() as claims:
        log = Log.of(tmp_path / "a.csv")
        claims.fail(taken(claims, log), type_name="E", backoff=0.0)
        assert seen(tmp_path)["a.csv"].attempt == 1
        claims.fail(taken(claims, log), type_name="E", backoff=0.0)
        assert seen(tmp_path)["a.csv"].attempt == 2
        taken(claims, log)
        assert seen(tmp_path)["a.csv"].attempt == 3
        Path(log.slot(5)).write_bytes(encode(Reopen(TOKEN)))
        assert seen(tmp_path)["a.csv"].attempt == 1


def test_committed_until_it_is_published(tmp_path: Path) -> None:
    """Between COMMIT and the output's name it is committed; afterwards done, even beside its log; then open."""
    with Claims() as claims:
        log = Log.of(tmp_path / "a.csv")
        mine = taken(claims, log)
        mine.staging.write_text("whole")
        Path(log.slot(1)).write_bytes(encode(Commit(claims.claimant)))
        assert state(tmp_path) == ("committed", "")
        mine.staging.rename(log.final)
        look = Survey(tmp_path)
        assert list(look.read()) == [] and look.counts == {"done": 1} and look.done == 1
        Path(log.final).unlink()
        assert state(tmp_path) == ("open", "its output was removed")


def test_outputs_whose_claims_lie_elsewhere(tmp_path: Path) -> None:
    """With temp= the directory of the claims shows them, by the outputs' names; a COMMIT without staging is done."""
    (tmp_path / "claims").mkdir()
    logs = [Log.of(tmp_path / "out" / name, temp=tmp_path / "claims" / "it") for name in ("a.csv", "b~1.csv")]
    (tmp_path / "out").mkdir()
    with Claims() as claims:
        mine = taken(claims, logs[0])
        taken(claims, logs[1])
        assert {name: each.state for name, each in seen(tmp_path / "claims").items()} == {
            "a.csv": "running",
            "b~1.csv": "running",
        }
        Path(logs[0].slot(1)).write_bytes(encode(Commit(claims.claimant)))
        mine.staging.write_text("whole")
        assert state(tmp_path / "claims") == ("committed", "")
        mine.staging.unlink()
        assert state(tmp_path / "claims") == ("none", "")
        assert seen(tmp_path / "out") == {}


def test_what_counts_as_done(tmp_path: Path) -> None:
    """Files and directories that are not of claims and not hidden; of a pattern if there is one; below, only files."""
    for name in ("a.csv", "b.png", ".hidden", f".manyhands-{TOKEN}.fingerprint", "my.claims.csv"):
        (tmp_path / name).touch()
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "c.csv").touch()
    Path(Log.of(tmp_path / "sub" / "d.csv").slot(0)).write_text("what")
    Path(Log.of(tmp_path / "d.png").slot(0)).write_text("what")
    (tmp_path / f".a.csv.claim-0-{TOKEN}-a.csv").mkdir()  # a staging that is a directory
    (tmp_path / f".a.csv.claim-0-{TOKEN}-a.csv" / "inside.csv").touch()
    (tmp_path / "link").symlink_to(tmp_path / "sub")

    def told(**options: object) -> tuple[int, list[str]]:
        look = Survey(tmp_path, **options)
        names = [found.name for found in look.read()]
        return look.done, names

    assert told() == (5, ["d.png"])
    assert told(match="*.csv") == (2, [])
    assert told(recursive=True) == (5, ["d.png", "d.csv"])
    assert told(recursive=True, match="*.csv") == (3, ["d.csv"])


def test_a_directory_that_cannot_be_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is an error if it was asked for; one below it is named, and the others are told; one that has gone is none."""
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "it").touch()
    scandir = os.scandir

    def failing(path: Path) -> object:
        if path.name in ("a", "b"):
            raise PermissionError(13, "Permission denied") if path.name == "a" else FileNotFoundError(2, "gone")
        return scandir(path)

    monkeypatch.setattr(survey.os, "scandir", failing)
    look = Survey(tmp_path, recursive=True)
    assert list(look.read()) == []
    assert look.done == 1 and look.unread == {str(tmp_path / "a"): "Permission denied"}
    with pytest.raises(PermissionError):
        list(Survey(tmp_path / "a").read())


def test_since_when_a_claim_is_there(tmp_path: Path) -> None:
    """It is when its owner ended what it did before, by commit or by failure, whatever its guard touches meanwhile."""
    with Claims() as claims:
        first = taken(claims, Log.of(tmp_path / "a.csv"))
        begin = seen(tmp_path)["a.csv"].since
        record = record_file(tmp_path, claims.claimant.token, "claim")
        os.utime(record, (2e9, 2e9))  # a beat
        assert seen(tmp_path)["a.csv"].since == begin
        first.staging.write_text("whole")
        claims.commit(first)
        second = taken(claims, Log.of(tmp_path / "b.csv"))
        between = seen(tmp_path)["b.csv"].since
        assert between >= begin
        claims.fail(second, type_name="E")
        os.utime(second.log.slot(1), (3e9, 3e9))
        taken(claims, Log.of(tmp_path / "c.csv"))
        assert seen(tmp_path)["c.csv"].since == 3e9


def test_a_claim_that_is_a_copy_tells_when_it_was_made(tmp_path: Path) -> None:
    """Without hard links a slot is a file of its own, and its time is the claim's."""
    log, me = Log.of(tmp_path / "a.csv"), liveness.identity(TOKEN)
    for path, when in ((log.slot(0), 1e9), (record_file(tmp_path, TOKEN, "claim"), 2e9)):
        Path(path).write_bytes(encode(Claim(me)))
        os.utime(path, (when, when))
    assert seen(tmp_path)["a.csv"].since == 1e9


names_of_outputs = st.text("ab.~@-é", min_size=1, max_size=8).filter(lambda name: name not in (".", ".."))
temps = st.none() | st.tuples(st.sampled_from(["/out", "/out/claims"]), names_of_outputs)


@given(names_of_outputs, temps, st.booleans(), st.sampled_from(["", "x" * 150, "x" * 230]))
def test_names_that_logs_tell(name: str, temp: tuple[str, str] | None, is_of_several: bool, long: str) -> None:
    """Whatever outputs and claims are called, a name that is sure is the output's, and that is in this directory."""
    final = f"/out/{name[:4]}{long}{name[4:]}"
    place = None if temp is None else "/".join(temp)
    log = Log.of(final, temp=place, parts=["/out/other"] if is_of_several else ())
    found = output_name(log.stem)
    assert found.name
    if found.is_here:
        assert os.path.join(log.directory, found.name) == log.final
    if temp is None and not long and "~" not in name:
        assert found.is_here


@pytest.mark.parametrize("times", [1, 100])
def test_errors_of_a_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times: int) -> None:
    """One that passes is nothing; one that stays makes that output unreadable, and tells why."""
    left = [times]

    def stale() -> None:
        left[0] -= 1
        if left[0] >= 0:
            raise OSError(errno.ESTALE, "Stale file handle")

    with Claims() as claims:
        taken(claims, Log.of(tmp_path / "a.csv"))
        monkeypatch.setattr(survey, "_files", Meddler(0, stale, always=True))
        assert state(tmp_path) == (("running", "") if times == 1 else ("unreadable", "Stale file handle"))


def test_a_torn_slot_that_is_being_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where slots are written after they are made, one that is whole at the second look is told as what it says."""
    log = Log.of(tmp_path / "a.csv")
    Path(log.slot(0)).write_bytes(b"")
    assert state(tmp_path) == ("unreadable", "torn or being written")
    whole = encode(Fail(TOKEN, "E"))
    monkeypatch.setattr(survey, "_files", Meddler(3, lambda: Path(log.slot(0)).write_bytes(whole)))
    assert state(tmp_path) == ("failed", "")


# -- real processes -------------------------------------------------------------------------------------------

HOLDER = """
import sys
from manyhands.claims import Claims, Log
claims = Claims(lease=50)
claims.acquire(Log.of(sys.argv[1]))
print("claimed", flush=True)
sys.stdin.read()
"""


@contextmanager
def holder(output: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that has claimed the output, and does nothing."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(output)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout.readline() == "claimed\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def test_a_killed_owner(tmp_path: Path) -> None:
    """As soon as its process is gone its claim is stale, whether or not its guard has been faster."""
    with holder(tmp_path / "a.csv") as process:
        assert state(tmp_path) == ("running", "")
        process.kill()
        process.wait()
        assert state(tmp_path)[0] == "stale"
        found = seen(tmp_path)["a.csv"]
        assert found.place.endswith(f":{process.pid}")
        assert found.reason in ("its process has ended", "its record file is gone")


def test_a_stopped_owner(tmp_path: Path) -> None:
    """It runs, and is said to be stopped, until its lease is over: its guard does not touch its file any more."""
    with holder(tmp_path / "a.csv") as process:
        os.kill(process.pid, signal.SIGSTOP)
        os.waitpid(process.pid, os.WUNTRACED)
        assert state(tmp_path) == ("running", "its process is stopped")
        assert state(tmp_path, clock=lambda: time.time() + 200)[0] == "stale"
        assert "stopped" in state(tmp_path, clock=lambda: time.time() + 200)[1]
        os.kill(process.pid, signal.SIGCONT)


def test_an_owner_that_left_in_order(tmp_path: Path) -> None:
    """Who ends gives its claims up: they are open, not stale."""
    with holder(tmp_path / "a.csv") as process:
        process.communicate("")
        assert state(tmp_path)[0] == "open"


def test_an_owner_on_another_machine(tmp_path: Path) -> None:
    """Nothing is known of its process, so it goes by its record: it runs while that is touched, within its lease."""
    for path in (Log.of(tmp_path / "a.csv").slot(0), record_file(tmp_path, TOKEN, "claim")):
        Path(path).write_bytes(encode(Claim(DEAD)))
        os.utime(path, (1e9, 1e9))
    assert state(tmp_path, clock=lambda: 1e9 + 9) == ("running", "")
    assert state(tmp_path, clock=lambda: 1e9 - 500) == ("running", ""), "a clock that is behind"
    assert state(tmp_path, clock=lambda: 1e9 + 11) == ("stale", "no sign of life for longer than its lease")


def test_a_clock_that_is_ahead_is_noticed(tmp_path: Path) -> None:
    """The latest time that was seen tells by how much at least."""
    Path(Log.of(tmp_path / "a.csv").slot(0)).write_text("what")
    os.utime(Log.of(tmp_path / "a.csv").slot(0), (2e9, 2e9))
    look = Survey(tmp_path)
    assert look.newest == 0.0 and list(look.read()) and look.newest == 2e9


# -- while others write ---------------------------------------------------------------------------------------


class Meddler:
    """The real filesystem, on which something happens before one of the operations."""

    def __init__(self, at: int, action: Callable[[], object], *, always: bool = False) -> None:
        self.left = at
        self._action = action
        self._always = always

    def perform(self, operation: Operation, /) -> object:
        if self.left == 0 or self._always:
            self._action()
        self.left -= 1
        return LocalFileSystem().perform(operation)


def committed(claims: Claims, mine: Mine) -> None:
    mine.staging.write_text("whole")
    claims.commit(mine)


def ended(claims: Claims, mine: Mine) -> None:
    """Finishes, and leaves."""
    committed(claims, mine)
    claims.close()


def followed(claims: Claims, mine: Mine) -> None:
    """Fails, and another one comes."""
    claims.fail(mine, type_name="E", backoff=0.0)
    claims.close()
    taken(claims, mine.log)


def cleaned(claims: Claims, mine: Mine) -> None:
    """Is gone without a trace."""
    claims.release(mine)
    claims.close()
    gc(mine.log.directory, now=True)


@pytest.mark.parametrize(
    ("action", "afterwards"),
    [
        (committed, {"none"}),
        (ended, {"none"}),
        (followed, {"running"}),
        (cleaned, {"none", "open"}),
        (lambda claims, mine: claims.fail(mine, type_name="E"), {"failed"}),
    ],
)
def test_changes_at_every_step(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    action: Callable[[Claims, Mine], object],
    afterwards: set[str],
) -> None:
    """Whenever an owner moves on while its log is read, that is told as before or as after; never as stale."""
    at, is_over = 0, False
    while not is_over:
        directory = tmp_path / str(at)
        directory.mkdir()
        with Claims() as claims:
            mine = taken(claims, Log.of(directory / "a.csv"))
            meddler = Meddler(at, lambda claims=claims, mine=mine: action(claims, mine))
            with monkeypatch.context() as patched:
                patched.setattr(survey, "_files", meddler)
                found = state(directory)[0]
            is_over = meddler.left >= 0
            assert found in (afterwards | {"running"}), f"before operation {at}"
        at += 1
    assert at > 5, "the operations were counted"


# -- reopening ------------------------------------------------------------------------------------------------


def test_failures_are_reopened_by_a_record(tmp_path: Path) -> None:
    """A reopened failure binds nobody, of whatever code it was; nothing but one slot is left."""
    log = Log.of(tmp_path / "a.csv")
    with Claims() as claims:
        claims.fail(taken(claims, log), type_name="E", code_hash="code")
        assert isinstance(claims.acquire(log, code_hash="code"), FailedBefore)
        before = contents(tmp_path).keys()
        found = seen(tmp_path)["a.csv"]
        assert reopen(found)
        assert contents(tmp_path).keys() - before == {".a.csv.claim-2"}
        assert state(tmp_path) == ("open", "to be tried again")
        assert not reopen(found), "once is enough"
        again = claims.acquire(log, code_hash="code")
        assert isinstance(again, Mine) and again.attempt == 1


def test_a_log_that_moved_on_is_not_reopened(tmp_path: Path) -> None:
    """What was seen must still be so: another failure, or none, is left alone."""
    log = Log.of(tmp_path / "a.csv")
    with Claims() as claims:
        claims.fail(taken(claims, log), type_name="E")
        found = seen(tmp_path)["a.csv"]
        Path(log.slot(1)).unlink()
        assert not reopen(found)
        Path(log.slot(1)).write_bytes(encode(Fail(TOKEN, "Other")))
        assert not reopen(found)
        assert not Path(log.slot(2)).exists()


def test_a_stale_claim_is_released(tmp_path: Path) -> None:
    """Others go on at once, and it counts as no crash; an owner that is there after all can't publish."""
    log = Log.of(tmp_path / "a.csv")
    with Claims() as slow, Claims(max_crashes=1) as fast:
        mine = taken(slow, log)
        found = seen(tmp_path, clock=lambda: time.time() + 1000)["a.csv"]
        assert found.state == "stale"
        assert reopen(found)
        mine.staging.write_text("slow")
        slow.commit(mine)
        assert not Path(log.final).exists()
        committed(fast, taken(fast, log))
        assert Path(log.final).read_text() == "whole"


def claimed_again(found: OutputState) -> None:
    """A run that tries failures once more begins, and goes on."""
    with Claims() as claims:
        mine = claims.acquire(Log.of(Path(found.directory) / found.name), reopen=found.slot)
        if isinstance(mine, Mine):
            claims.fail(mine, type_name="Again")


@pytest.mark.parametrize("action", [reopen, claimed_again])
def test_two_reopen_at_every_step(tmp_path: Path, action: Callable[[OutputState], object]) -> None:
    """Whoever else opens it meanwhile: one of both has the slot, and the log goes on from there."""
    at, is_over = 0, False
    while not is_over:
        directory = tmp_path / str(at)
        directory.mkdir()
        with Claims() as claims:
            claims.fail(taken(claims, Log.of(directory / "a.csv")), type_name="E")
        found = seen(directory)["a.csv"]
        meddler = Meddler(at, lambda found=found: action(found))
        won = run(reopened(found, liveness.identity("d" * 24)), meddler)
        is_over = meddler.left >= 0
        slots = [protocol.decode(path.read_bytes()) for path in sorted(directory.glob(".a.csv.claim-*"))]
        assert [type(slot) for slot in slots[1:3]] == [Fail, Reopen], f"before operation {at}"
        assert won == (slots[2].token == "d" * 24)
        assert not [path for path in directory.iterdir() if path.name.endswith("-record")]
        at += 1
    assert at > 2, "the operations were counted"


@pytest.mark.parametrize("kind", ["directory", "fifo", "link", "large"])
def test_what_may_lie_in_a_slot(tmp_path: Path, kind: str) -> None:
    """Nothing is followed or waited for; it is told what is there."""
    slot, target = Path(Log.of(tmp_path / "a.csv").slot(0)), tmp_path / ".target"
    target.write_bytes(encode(Fail(TOKEN, "E")))
    if kind == "directory":
        slot.mkdir()
    elif kind == "fifo":
        os.mkfifo(slot)
    elif kind == "link":
        slot.symlink_to(target)
    else:
        slot.write_bytes(b" " * 100_000)
    assert state(tmp_path) == ("unreadable", "too long" if kind == "large" else "it is no regular file")


def test_all_states_are_known() -> None:
    """Those that a survey counts are those that are documented."""
    assert len(STATES) == 9

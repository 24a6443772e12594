"""Claims on a real directory, with real processes and injected errors."""

from __future__ import annotations

import errno
import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from manyhands.claims import (
    Busy,
    Claims,
    Decision,
    FailedBefore,
    Fenced,
    Finished,
    Log,
    Mine,
    Published,
    Recorded,
    Wait,
    check_directory,
    engine,
    failures_before,
    filesystem,
    gc,
    liveness,
    protocol,
)
from manyhands.claims.decisions import GaveUp
from manyhands.claims.filesystem import Link, LocalFileSystem, Now, Operation, RenameNew, WriteNew
from manyhands.claims.mounts import Mount
from manyhands.claims.names import TOKEN_LENGTH
from manyhands.claims.record import Claim, Claimant, Commit, Fail, Release, encode
from manyhands.claims.watch import Moment
from manyhands.errors import OutputDirectoryError, OutputMissing
from manyhands.testing import fail_at

CHILD = """
import os, sys
from manyhands.claims import Claims, Log, Mine
claims = Claims()
mine = claims.acquire(Log.of(sys.argv[1]))
assert isinstance(mine, Mine), mine
mine.staging.write_text("half")
print("claimed", flush=True)
sys.stdin.read()
if sys.argv[2] == "zombie":
    os._exit(0)
"""


@contextmanager
def a_child_with_the_claim(final: str, ending: str) -> Iterator[subprocess.Popen[str]]:
    """A process that has claimed ``final`` and waits until its standard input is closed."""
    command = [sys.executable, "-c", CHILD, final, ending]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None and child.stdin is not None
        try:
            assert child.stdout.readline() == "claimed\n"
            yield child
        finally:
            child.kill()
            child.stdin.close()


def names(directory: Path) -> list[str]:
    """What is in the directory."""
    return sorted(path.name for path in directory.iterdir())


def claimed(claims: Claims, log: Log) -> Mine:
    """A claim that is there to be had."""
    decision = claims.acquire(log)
    assert isinstance(decision, Mine), decision
    return decision


def test_claim_and_commit(tmp_path: Path) -> None:
    """An uncontested output leaves nothing but itself once its claimant is closed."""
    log = Log.of(tmp_path / "a b {é}.tar.gz")
    with Claims() as claims:
        mine = claimed(claims, log)
        assert mine.attempt == 1
        mine.staging.write_text("whole")
        assert claims.commit(mine) == Published()
        assert Path(log.final).read_text() == "whole"
        assert claims.acquire(log) == Finished()
    assert names(tmp_path) == ["a b {é}.tar.gz"]


def test_a_claim_excludes_others(tmp_path: Path) -> None:
    """While one thread holds the claim, another is told who does; a closed claimant's claim is free."""
    log = Log.of(tmp_path / "a.csv")
    with Claims() as one, Claims() as two:
        mine = claimed(one, log)
        busy = two.acquire(log)
        assert isinstance(busy, Busy) and (busy.claimant, busy.slot) == (one.claimant, 0)
        one.close()
        assert claimed(two, log).slot == 2  # above a RELEASE
        mine.staging.write_text("late")
        assert one.commit(mine) == Fenced()


def test_the_owner_that_was_taken_over_is_fenced(tmp_path: Path) -> None:
    """Who is taken for dead and goes on can't publish, and its staging is removed."""
    log = Log.of(tmp_path / "a.csv")
    with Claims() as one, Claims() as two:
        late = claimed(one, log)
        late.staging.write_text("late")
        for path in one.paths():
            if path.name.endswith(".claim-record"):
                path.unlink()
        mine = claimed(two, log)
        mine.staging.write_text("mine")
        late.staging.write_text("late")
        assert one.commit(late) == Fenced()
        assert not late.staging.exists()
        assert one.fail(late, type_name="ValueError") == Fenced()
        assert two.commit(mine) == Published()
    assert Path(log.final).read_text() == "mine"


@pytest.mark.parametrize("ending", ["killed", "zombie"])
def test_a_dead_process_is_taken_over_at_once(tmp_path: Path, ending: str) -> None:
    """A process killed over its claim, reaped or still a zombie, does not hold anybody up."""
    log = Log.of(tmp_path / "a.csv")
    with Claims() as claims, a_child_with_the_claim(log.final, ending) as child:
        busy = claims.acquire(log)
        assert isinstance(busy, Busy) and busy.claimant is not None and busy.claimant.pid == child.pid
        if ending == "killed":
            child.kill()
            child.wait()
        else:
            assert child.stdin is not None
            child.stdin.close()
            os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # ended, and left unreaped
        mine = claimed(claims, log)
        assert mine.slot == 1
        assert len(list(tmp_path.glob(".manyhands-*"))) == 2, "the dead one's records are gone"
        assert not Path(log.staging(0, busy.claimant.token)).exists()
        mine.staging.write_text("whole")
        assert claims.commit(mine) == Published()
    gc(tmp_path)
    assert names(tmp_path) == ["a.csv"]


def foreign_claim(log: Log, claimant: Claimant) -> None:
    """A CLAIM in slot 0, and its owner's record."""
    Path(log.slot(0)).write_bytes(encode(Claim(claimant)))
    os.link(log.slot(0), Path(log.directory) / f".manyhands-{claimant.token}.claim-record")


@pytest.mark.parametrize(
    ("changes", "dead"),
    [
        ({}, False),
        ({"start_ticks": 1}, True),
        ({"boot_id": "another"}, False),
        ({"pid_namespace": 7, "start_ticks": 1}, False),
        ({"host": "renamed", "start_ticks": 1}, True),
    ],
)
def test_a_pid_is_no_identity(tmp_path: Path, changes: dict[str, Any], dead: bool) -> None:
    """A process of the same pid that started at another time is dead; one elsewhere is waited for."""
    log = Log.of(tmp_path / "a.csv")
    foreign_claim(log, liveness.identity("f" * 24)._replace(**changes))
    with Claims() as claims:
        assert isinstance(claims.acquire(log), Mine if dead else Busy)


class Clock(LocalFileSystem):
    """Real files, and a clock that goes on by a second at each look."""

    seconds = 0.0

    def perform(self, operation: Operation, /) -> Any:
        if isinstance(operation, Now):
            self.seconds += 1.0
            return Moment("here", self.seconds)
        return super().perform(operation)


def looks(claims: Claims, log: Log, times: int) -> Decision:
    """The last answer of some looks, as a map takes them."""
    watch = None
    for _ in range(times):
        decision = claims.acquire(log, watch=watch)
        if not isinstance(decision, Busy):
            break
        watch = decision.memo
    return decision


class Pausing(LocalFileSystem):
    """No way to create a file with what it holds; between the two steps for ``slot`` something happens."""

    def __init__(self, slot: str, meanwhile: Callable[[], object]) -> None:
        self.slot = slot
        self.meanwhile = meanwhile

    def perform(self, operation: Operation, /) -> Any:
        match operation:
            case Link() | RenameNew():
                raise OSError(errno.EPERM, os.strerror(errno.EPERM))
            case WriteNew(path, data) if path == self.slot:
                super().perform(WriteNew(path, data[: len(data) // 2]))
                self.meanwhile()
                Path(path).write_bytes(data)
                return None
        return super().perform(operation)


@pytest.mark.parametrize("torn", [b"", b'{"manyhands":1,"kind":"CL'])
def test_a_slot_that_is_torn_is_waited_for(tmp_path: Path, torn: bytes) -> None:
    """It is a claim by somebody unknown: a lease ends it, or gc if it is told that nobody runs."""
    log, other = Log.of(tmp_path / "a.csv"), Log.of(tmp_path / "b.csv")
    for slot in (log.slot(0), other.slot(0)):
        Path(slot).write_bytes(torn)
    with Claims(filesystem=Clock(), lease=8.0) as claims:
        assert isinstance(looks(claims, log, 8), Busy)
        assert gc(tmp_path) == [] and Path(log.slot(0)).exists()
        mine = looks(claims, log, 10)
        assert isinstance(mine, Mine) and mine.slot == 1
        claims.release(mine)
        assert isinstance(looks(claims, other, 8), Busy)
    gc(tmp_path, now=True)
    assert names(tmp_path) == []


@pytest.mark.parametrize(("slot", "token"), [(1, ""), (0, "f" * 24)])
def test_what_was_seen_of_another_claim_does_not_count(tmp_path: Path, slot: int, token: str) -> None:
    """A torn slot is watched from its own beginning, however much it looks like what was watched before."""
    log = Log.of(tmp_path / "a.csv")
    Path(log.slot(0)).touch()
    with Claims(filesystem=Clock(), lease=8.0) as claims:
        own = claims.acquire(log)
        assert isinstance(own, Busy) and own.memo is not None
        expired = own.memo._replace(quiet=100.0, looks=100)
        assert isinstance(claims.acquire(log, watch=expired._replace(slot=slot, token=token)), Busy)
        mine = claims.acquire(log, watch=expired)
        assert isinstance(mine, Mine)
        claims.release(mine)


def test_a_writer_that_was_slow_is_fenced(tmp_path: Path) -> None:
    """Who needs more than a lease to write its claim finds that another has gone on."""
    log = Log.of(tmp_path / "a.csv")
    got: list[Decision] = []
    with Claims(filesystem=Clock(), lease=8.0) as other:
        slow = Claims(filesystem=Pausing(log.slot(0), lambda: got.append(looks(other, log, 10))))
        with slow:
            mine = claimed(slow, log)
            mine.staging.write_text("slow")
            assert slow.commit(mine) == Fenced()
        assert isinstance(got[0], Mine)
        got[0].staging.write_text("quick")
        assert other.commit(got[0]) == Published()
    assert Path(log.final).read_text() == "quick"


def test_a_commit_that_is_being_written_is_nobodys_to_pass(tmp_path: Path) -> None:
    """A torn slot above the claim of an owner that may live is never passed: it may be its COMMIT."""
    log = Log.of(tmp_path / "a.csv")
    got: list[Decision] = []
    with Claims(filesystem=Clock(), lease=8.0) as other:
        with Claims(filesystem=Pausing(log.slot(1), lambda: got.append(looks(other, log, 40)))) as slow:
            mine = claimed(slow, log)
            mine.staging.write_text("slow")
            assert slow.commit(mine) == Published()
        assert got == [Busy(None, 1)]
        log = Log.of(tmp_path / "b.csv")
        foreign_claim(log, liveness.identity("f" * 24)._replace(start_ticks=1))
        Path(log.slot(1)).touch()  # that one has died over it
        after = looks(other, log, 10)
        assert isinstance(after, Mine) and after.slot == 2
        other.release(after)


@pytest.mark.parametrize("obstacle", ["directory", "link", "fifo"])
def test_what_is_no_file_is_no_slot(tmp_path: Path, obstacle: str) -> None:
    """Something else in a slot's place is neither followed nor opened for long nor removed."""
    log = Log.of(tmp_path / "a.csv")
    match obstacle:
        case "directory":
            Path(log.slot(0)).mkdir()
        case "link":
            (tmp_path / "elsewhere").mkdir()
            (tmp_path / "elsewhere" / "record").write_bytes(encode(Release("f" * 24)))
            Path(log.slot(0)).symlink_to("elsewhere/record")
        case "fifo":
            os.mkfifo(log.slot(0))
    with Claims() as claims:
        assert claims.acquire(log) == Busy(None, 0)
    gc(tmp_path, now=True)
    assert os.path.lexists(log.slot(0))


# -- failures -------------------------------------------------------------------------------------------------


def test_a_final_failure_is_believed(tmp_path: Path) -> None:
    """Everybody is told what was recorded; a map that starts later opens it once."""
    log = Log.of(tmp_path / "a.csv")
    with Claims() as one, Claims() as two:
        before = failures_before(tmp_path)
        assert one.fail(claimed(one, log), type_name="ValueError", message="no", traceback="tb") == Recorded()
        failed = two.acquire(log, reopen=before.get(log.stem, -1))
        assert isinstance(failed, FailedBefore)
        assert (failed.record.type_name, failed.record.message, failed.record.traceback) == (
            "ValueError",
            "no",
            "tb",
        )
        later = failures_before(tmp_path)[log.stem]
        again = two.acquire(log, reopen=later)
        assert isinstance(again, Mine) and again.attempt == 1
        two.fail(again, type_name="KeyError")
        failed = one.acquire(log, reopen=later)
        assert isinstance(failed, FailedBefore) and failed.record.type_name == "KeyError"


def test_a_backoff_is_waited_from_first_sight(tmp_path: Path) -> None:
    """The memo carries the first sight along; attempts are counted over all claimants."""
    log = Log.of(tmp_path / "a.csv")
    with Claims() as one, Claims() as two:
        one.fail(claimed(one, log), type_name="OSError", backoff=1000.0)
        wait = two.acquire(log)
        assert isinstance(wait, Wait) and wait.seconds == pytest.approx(1000.0)
        second = two.acquire(log, seen=wait.memo)
        assert isinstance(second, Wait) and second.memo == wait.memo and second.seconds < 1000.0
        earlier = wait.memo.since._replace(seconds=wait.memo.since.seconds - 1000.0)
        mine = two.acquire(log, seen=wait.memo._replace(since=earlier))
        assert isinstance(mine, Mine) and mine.attempt == 2
        two.fail(mine, type_name="OSError", backoff=5.0)
        third = one.acquire(log, seen=wait.memo)
        assert isinstance(third, Wait) and third.seconds == pytest.approx(5.0), (
            "another failure is waited for anew"
        )


def test_failures_bind_callers_of_the_same_code(tmp_path: Path) -> None:
    """A mended function starts afresh, and the two don't reopen each other's failures for ever."""
    log = Log.of(tmp_path / "a.csv")
    with Claims() as old, Claims() as new:
        old.fail(claimed(old, log), type_name="OldError")
        assert isinstance(old.acquire(log, code_hash="new"), Mine)
        old.close()
        mine = new.acquire(log, code_hash="new")
        assert isinstance(mine, Mine) and mine.attempt == 1
        new.fail(mine, type_name="NewError", code_hash="new")
        for code_hash, told in (("new", "NewError"), ("", "OldError")):
            failed = old.acquire(log, code_hash=code_hash)
            assert isinstance(failed, FailedBefore) and failed.record.type_name == told


def test_a_release_lets_the_next_go_on(tmp_path: Path) -> None:
    """A claim that was given up without a verdict counts as no attempt."""
    log = Log.of(tmp_path / "a.csv")
    with Claims() as one, Claims() as two:
        mine = claimed(one, log)
        mine.staging.write_text("half")
        assert one.release(mine) == Recorded()
        assert not mine.staging.exists()
        assert claimed(two, log).attempt == 1


def test_no_output_is_no_success(tmp_path: Path) -> None:
    """Committing what was not written is an error, and the claim is still there to be failed."""
    log = Log.of(tmp_path / "a.csv")
    for durable in (True, False):
        with Claims(durable=durable) as claims:
            mine = claimed(claims, log)
            with pytest.raises(OutputMissing, match=r"a\.csv"):
                claims.commit(mine)
            assert claims.release(mine) == Recorded()


def test_attempts_begin_anew_when_a_result_is_deleted(tmp_path: Path) -> None:
    """Also where the log that tells of its earlier failures is still there."""
    log = Log.of(tmp_path / "a.csv")
    with Claims() as claims, Claims() as other:
        claims.fail(claimed(claims, log), type_name="ValueError", backoff=0.0)
        mine = claimed(claims, log)
        mine.staging.write_text("whole")
        assert (mine.attempt, claims.commit(mine)) == (2, Published())
        Path(log.final).unlink()
        again = claimed(other, log)
        assert (again.slot, again.attempt) == (4, 1)


# -- who a claimant is ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("durable", [True, False])
@pytest.mark.parametrize("what", ["link", "fifo"])
def test_what_is_no_output_is_not_committed(tmp_path: Path, what: str, durable: bool) -> None:
    """It is neither followed nor waited for."""
    log, victim = Log.of(tmp_path / "a.csv"), tmp_path / "victim"
    victim.touch()
    with Claims(durable=durable) as claims:
        mine = claimed(claims, log)
        if what == "link":
            mine.staging.symlink_to(victim)
        else:
            os.mkfifo(mine.staging)
        with pytest.raises(OutputMissing, match=r"a\.csv' is neither a file nor a directory"):
            claims.commit(mine)
        claims.release(mine)
    assert not os.path.lexists(log.final) and victim.exists()


def test_a_forked_child_is_somebody_else(tmp_path: Path) -> None:
    """After a fork the child has a token of its own, and its end leaves the parent's claim alone."""
    log = Log.of(tmp_path / "a.csv")
    with Claims() as claims:
        mine = claimed(claims, log)
        child = os.fork()
        if not child:
            with claims:
                os._exit(0 if isinstance(claims.acquire(log), Busy) else 1)
        assert os.waitpid(child, 0)[1] == 0
        mine.staging.write_text("whole")
        assert claims.commit(mine) == Published()


def test_a_forked_child_that_ends_in_order_removes_nothing(tmp_path: Path) -> None:
    """The interpreter's end in a forked child leaves the parent's records, and so its claim, alone."""
    code = """
import os, sys
from manyhands.claims import Claims, Log
claims = Claims()
claims.acquire(Log.of(sys.argv[1]))
if not os.fork():
    sys.exit()
os.wait()
print(Claims().acquire(Log.of(sys.argv[1])))
"""
    command = [sys.executable, "-c", code, str(tmp_path / "a.csv")]
    assert subprocess.run(command, capture_output=True, text=True).stdout.startswith("Busy(")
    assert not list(tmp_path.glob(".manyhands-*")), "and the parent's own end removes them"


def test_removed_records_are_made_anew(tmp_path: Path) -> None:
    """Whose records were removed by gc becomes somebody new and goes on; the claims from before are lost."""
    with Claims() as claims:
        mine = claimed(claims, Log.of(tmp_path / "a.csv"))
        mine.staging.write_text("late")
        gc(tmp_path, now=True)
        assert claimed(claims, Log.of(tmp_path / "b.csv")).token != mine.token
        assert claims.commit(mine) == Fenced()


def test_a_claim_that_was_lost_sight_of_is_nobodys(tmp_path: Path) -> None:
    """A thread that finds its own claim, of which it knows nothing any more, gives it up and takes it anew."""
    log = Log.of(tmp_path / "a.csv")
    with Claims() as claims:
        first = claimed(claims, log)
        second = claimed(claims, log)
        assert (second.slot, second.token == first.token) == (2, False)


def test_a_thread_that_ends_gives_its_claims_up(tmp_path: Path) -> None:
    """Claims that nobody refers to any more are dead, even if they were not closed."""
    log = Log.of(tmp_path / "a.csv")
    thread = threading.Thread(target=lambda: Claims().acquire(log))
    thread.start()
    thread.join()
    with Claims() as claims:
        assert claimed(claims, log).slot == 2  # above a RELEASE


def test_importing_is_cheap() -> None:
    """The package loads neither psutil nor NumPy nor tenacity."""
    code = "import sys, manyhands.claims; print({'psutil', 'numpy', 'tenacity'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"


# -- errors of the disk ---------------------------------------------------------------------------------------


class Failing:
    """A real filesystem whose operations fail by number, once or from then on, undone or done."""

    def __init__(self, at: int, number: int, *, lasting: bool = False, after: bool = False) -> None:
        self.real = LocalFileSystem()
        self.count = 0
        self.at, self.number, self.lasting, self.after = at, number, lasting, after
        self.operations: list[Operation] = []

    def perform(self, operation: Operation, /) -> Any:
        self.operations.append(operation)
        self.count += 1
        fails = self.count == self.at or (self.lasting and self.count > self.at)
        if fails and not self.after:
            self._partly(operation)
            raise OSError(self.number, os.strerror(self.number))
        if isinstance(operation, filesystem.Sync | filesystem.SyncDirectory):
            os.stat(operation.path)
            reply = None  # the real thing takes most of these tests' time
        else:
            reply = self.real.perform(operation)
        if fails:
            raise OSError(self.number, os.strerror(self.number))
        return reply

    def _partly(self, operation: Operation) -> None:
        """A full disk takes the name and no bytes."""
        if isinstance(operation, filesystem.WriteNew) and self.number == errno.ENOSPC:
            self.real.perform(operation._replace(data=operation.data[:7]))


def test_the_disk_is_asked_in_order(tmp_path: Path) -> None:
    """The bytes are on the disk before COMMIT, the name before the output counts as done; unless not wanted."""
    for durable in (True, False):
        log = Log.of(tmp_path / f"{durable}.csv")
        disk = Failing(0, 0)
        with Claims(durable=durable, filesystem=disk) as claims:
            mine = claimed(claims, log)
            mine.staging.write_text("whole")
            claims.commit(mine)
        (staging,) = mine.stagings
        syncs: list[Operation] = [filesystem.Sync(staging), filesystem.SyncDirectory(str(tmp_path))]
        if not durable:
            assert not any(sync in disk.operations for sync in syncs)
            continue
        commit = next(each for each in disk.operations if isinstance(each, Link) and each.target == log.slot(1))
        steps: list[Operation] = [syncs[0], commit, RenameNew(staging, log.final), syncs[1]]
        places = [disk.operations.index(step) for step in steps]
        assert places == sorted(places)
        assert filesystem.Remove(staging) not in disk.operations


@pytest.mark.parametrize(
    ("kind", "moves"),
    [("ext4", True), ("tmpfs", True), ("nfs4", False), ("fuse.sshfs", False), ("cifs", False), (None, False)],
)
def test_an_output_is_moved_where_that_is_sure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str | None, moves: bool
) -> None:
    """Some filesystems take a rename that is not to replace for one that does; the mounts are read once."""
    asked: list[str] = []

    def mounted(directory: str) -> Mount | None:
        asked.append(directory)
        return None if kind is None else Mount("/", kind, "source", frozenset())

    monkeypatch.setattr(engine, "mounted", mounted)
    disk = Failing(0, 0)
    with Claims(filesystem=disk) as claims:
        for place in ("a", "a", "b"):
            log = Log.of(tmp_path / place / f"{len(disk.operations)}.csv")
            Path(log.home).mkdir(exist_ok=True)
            mine = claimed(claims, log)
            mine.staging.write_text("whole")
            assert claims.commit(mine) == Published()
            (staging,) = mine.stagings
            way = (RenameNew if moves else Link)(staging, log.final)
            assert way in disk.operations
            assert moves or RenameNew(staging, log.final) not in disk.operations
            assert Path(log.final).read_text() == "whole" and not mine.staging.exists()
    assert asked == [str(tmp_path / "a")]


def test_a_committed_staging_beside_its_output_goes(tmp_path: Path) -> None:
    """Otherwise a user who removes the output would get it back."""
    log = Log.of(tmp_path / "a.csv")
    owner = liveness.identity("f" * 24)._replace(start_ticks=1)
    foreign_claim(log, owner)
    Path(log.slot(1)).write_bytes(encode(Commit(owner)))
    Path(log.final).write_text("whole")
    Path(log.staging(0, owner.token)).write_text("whole")
    with Claims() as claims:
        assert claims.acquire(log) == Finished()
        assert not Path(log.staging(0, owner.token)).exists()
        Path(log.final).unlink()
        assert isinstance(claims.acquire(log), Mine)


def test_a_helper_publishes_what_was_committed(tmp_path: Path) -> None:
    """An owner that died after its COMMIT has done its work."""
    log = Log.of(tmp_path / "a.csv")
    owner = liveness.identity("f" * 24)._replace(start_ticks=1)
    foreign_claim(log, owner)
    Path(log.slot(1)).write_bytes(encode(Commit(owner)))
    Path(log.staging(0, owner.token)).write_text("whole")
    with Claims() as claims:
        assert claims.acquire(log) == Finished()
    assert Path(log.final).read_text() == "whole" and not Path(log.staging(0, owner.token)).exists()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS], ids=errno.errorcode.get)
def test_a_verdict_that_does_not_fit(tmp_path: Path, number: int) -> None:
    """A full disk is answered, not raised: the claim is then given up without a write, and no slot is torn."""
    log = Log.of(tmp_path / "a.csv")
    with Claims() as claims:
        mine = claimed(claims, log)
        steps = protocol.fail(claims.claimant, mine, Fail(mine.token, "ValueError"))
        answer = filesystem.run(steps, Failing(3, number))
        assert isinstance(answer, GaveUp) and answer.error.errno == number
        assert not Path(log.slot(1)).exists() and not list(tmp_path.glob("*.verdict-record"))


def use(claims: Claims, log: Log) -> None:
    """All that can be done with claims, once, over two outputs."""
    other = Log.of(Path(log.final).with_name("b.csv"))
    decision = claims.acquire(other)
    if isinstance(decision, Mine):
        claims.release(decision)
    for round_number in range(12):
        decision = claims.acquire(log)
        if isinstance(decision, Finished):
            return
        if isinstance(decision, Mine):
            decision.staging.write_text("whole")
            if round_number == 0:
                claims.fail(decision, type_name="OSError", backoff=0.0)
            elif isinstance(claims.commit(decision), Published):
                return


def operations_of_a_run(directory: Path) -> int:
    """How many operations ``use`` takes when nothing fails."""
    failing = Failing(0, 0)
    directory.mkdir()
    with Claims(filesystem=failing) as claims:
        use(claims, Log.of(directory / "a.csv"))
    return failing.count


NUMBERS = [
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EIO,
    errno.ESTALE,
    errno.EROFS,
    errno.EACCES,
    errno.EPERM,
    errno.EMLINK,
    errno.EXDEV,
]


@pytest.mark.parametrize("after", [False, True], ids=["not done", "done"])
@pytest.mark.parametrize("lasting", [False, True], ids=["once", "from then on"])
@pytest.mark.parametrize("number", NUMBERS, ids=errno.errorcode.get)
def test_an_error_at_every_operation(tmp_path: Path, number: int, lasting: bool, after: bool) -> None:
    """Whatever fails, no output is torn, the error is ours, others finish, and gc leaves outputs only."""
    for at in range(1, operations_of_a_run(tmp_path / "plain") + 1):
        directory = tmp_path / str(at)
        directory.mkdir()
        log = Log.of(directory / "a.csv")
        with Claims(filesystem=Failing(at, number, lasting=lasting, after=after)) as claims:
            try:
                use(claims, log)
            except OutputDirectoryError as error:
                assert str(directory) in str(error)
        if Path(log.final).exists():
            assert Path(log.final).read_text() == "whole"
        gc(directory, now=True)
        assert names(directory) in ([], ["a.csv"])
        with Claims() as claims:
            use(claims, log)
        assert Path(log.final).read_text() == "whole"


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EACCES], ids=errno.errorcode.get)
def test_after_one_error_others_go_on(tmp_path: Path, number: int) -> None:
    """A process whose operation failed gives its claim up: one beside it finishes without any gc."""
    for at in range(1, operations_of_a_run(tmp_path / "plain") + 1):
        directory = tmp_path / str(at)
        directory.mkdir()
        log = Log.of(directory / "a.csv")
        with Claims(filesystem=Failing(at, number)) as failing, Claims() as claims:
            try:
                use(failing, log)
            except OutputDirectoryError:
                pass
            use(claims, log)
            assert Path(log.final).read_text() == "whole", at


class Without(LocalFileSystem):
    """A filesystem that has no such operations."""

    def __init__(self, *missing: type, number: int = errno.EPERM) -> None:
        self.missing = missing
        self.number = number

    def perform(self, operation: Operation, /) -> Any:
        if isinstance(operation, self.missing):
            raise OSError(self.number, os.strerror(self.number))
        return super().perform(operation)


@pytest.mark.parametrize(
    "number", [errno.EPERM, errno.EOPNOTSUPP, errno.EXDEV, errno.EMLINK], ids=errno.errorcode.get
)
@pytest.mark.parametrize(
    "missing", [(Link,), (Link, RenameNew)], ids=["no link", "no link, no exclusive rename"]
)
def test_other_ways_to_create_exclusively(tmp_path: Path, missing: tuple[type, ...], number: int) -> None:
    """Without hard links, or links enough, slots are made in another way and exclude others all the same."""
    log = Log.of(tmp_path / "a.csv")
    with Claims(filesystem=Without(*missing, number=number)) as one, Claims() as two:
        mine = claimed(one, log)
        assert isinstance(two.acquire(log), Busy)
        mine.staging.write_text("whole")
        assert one.commit(mine) == Published()
        assert two.acquire(log) == Finished()
        again = claimed(one, Log.of(tmp_path / "b.csv"))
        assert (again.token != mine.token) is (number == errno.EMLINK)
        one.release(again)
    gc(tmp_path, now=True)
    assert names(tmp_path) == ["a.csv"]


def test_an_error_after_commit_does_not_cost_the_work(tmp_path: Path) -> None:
    """Who can't publish what it has committed leaves it to others."""
    log = Log.of(tmp_path / "a.csv")
    with Claims(filesystem=fail_at("before publish", errno.EIO, nth=0)) as one, Claims() as two:
        mine = claimed(one, log)
        mine.staging.write_text("whole")
        assert one.commit(mine) == Fenced()
        assert two.acquire(log) == Finished()
    assert Path(log.final).read_text() == "whole"


class Vague(Without):
    """Says EPERM where a name is taken, as sshfs does; who had it has gone before one looks."""

    def __init__(self, times: int, left: bytes | None = None) -> None:
        super().__init__(Link, RenameNew)
        self.times = times
        self.left = left

    def perform(self, operation: Operation, /) -> Any:
        if isinstance(operation, WriteNew) and Path(operation.path).name.endswith(".claim-0") and self.times:
            self.times -= 1
            if self.left is not None:
                Path(operation.path).write_bytes(self.left)
            raise OSError(errno.EPERM, os.strerror(errno.EPERM), str(operation.path))
        return super().perform(operation)


def test_a_loser_that_is_told_eperm_tries_again(tmp_path: Path) -> None:
    """Where nobody has the slot any more it is free; only an EPERM that stays is told, with the file."""
    log = Log.of(tmp_path / "a.csv")
    with Claims(filesystem=Vague(1)) as claims:
        claims.release(claimed(claims, log))
    with Claims(filesystem=Vague(99)) as claims, pytest.raises(OutputDirectoryError, match=r"\.b\.csv\.claim-"):
        claims.acquire(Log.of(tmp_path / "b.csv"))
    with Claims(filesystem=Vague(1, b"")) as claims:  # who has it is about to write it
        assert isinstance(claims.acquire(Log.of(tmp_path / "c.csv")), Busy)


def test_errors_that_stay_are_told(tmp_path: Path) -> None:
    """An I/O error that does not pass is not asked about for ever."""
    log = Log.of(tmp_path / "a.csv")
    with Claims(filesystem=Failing(1, errno.EIO, lasting=True)) as claims, pytest.raises(OutputDirectoryError):
        for _ in range(20):
            assert claims.acquire(log) == Busy(None, -1)


def test_a_directory_that_is_missing_is_told(tmp_path: Path) -> None:
    """The error names the directory."""
    with Claims() as claims, pytest.raises(OutputDirectoryError, match="nowhere"):
        claims.acquire(Log.of(tmp_path / "nowhere" / "a.csv"))


def test_the_directory_of_outputs_is_checked(tmp_path: Path) -> None:
    """It is made with its parents, left empty, and what is no directory is told with the reason."""
    check_directory(tmp_path / "p" / "q")
    assert names(tmp_path / "p") == ["q"] and names(tmp_path / "p" / "q") == []
    (tmp_path / "file").touch()
    with pytest.raises(OutputDirectoryError, match=r"file.*Not a directory") as caught:
        check_directory(tmp_path / "file" / "q")
    copy = pickle.loads(pickle.dumps(caught.value))
    assert str(copy) == str(caught.value) and copy.errno == errno.ENOTDIR


def test_an_output_that_was_removed_is_computed_by_somebody_new(tmp_path: Path) -> None:
    """A late helper can't take the second staging of one thread for the one that it had committed."""
    log = Log.of(tmp_path / "a.csv")
    with Claims() as claims:
        first = claimed(claims, log)
        first.staging.write_text("whole")
        assert claims.commit(first) == Published()
        assert claims.acquire(log) == Finished() and claims.claimant.token == first.token
        Path(log.final).unlink()
        assert claimed(claims, log).staging != first.staging


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_directory_is_told(tmp_path: Path) -> None:
    """A directory that can't be written is an error before any work."""
    tmp_path.chmod(0o555)
    try:
        with pytest.raises(OutputDirectoryError, match="Permission denied"):
            check_directory(tmp_path)
        with Claims() as claims, pytest.raises(OutputDirectoryError, match="Permission denied"):
            claims.acquire(Log.of(tmp_path / "a.csv"))
    finally:
        tmp_path.chmod(0o755)


def test_the_tokens_are_random(tmp_path: Path) -> None:
    """Two claimants never share a token."""
    assert len({Claims().claimant.token for _ in range(50)}) == 50
    assert TOKEN_LENGTH >= 24


def test_sigkill_is_what_the_child_gets(tmp_path: Path) -> None:
    """The helper of these tests ends its process even when the test fails."""
    with a_child_with_the_claim(tmp_path / "a.csv", "killed") as child:
        pass
    assert child.returncode == -signal.SIGKILL

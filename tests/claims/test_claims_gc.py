"""gc removes what nobody needs, publishes what was committed, and touches nothing else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from manyhands.claims import Claims, FailedBefore, Finished, Log, Mine, gc, liveness, protocol
from manyhands.claims.filesystem import Link, LocalFileSystem, Operation, run
from manyhands.claims.names import record_file
from manyhands.claims.record import Claim, Claimant, Commit, Fail, Record, Release, encode


def names(directory: Path) -> list[str]:
    """What is in the directory."""
    return sorted(path.name for path in directory.iterdir())


def somebody(token: str, *, alive: bool) -> Claimant:
    """A claimant that is this process, or one that ended."""
    me = liveness.identity(token * 24)
    return me if alive else Claimant(me.token, me.host, me.boot_id, me.pid_namespace, me.pid, 1)


def write_log(log: Log, *records: Record, alive: bool = False) -> None:
    """A log, and the records of its claimants; a CLAIM at its head has a staging, as has a COMMIT."""
    for slot, record in enumerate(records):
        Path(log.slot(slot)).write_bytes(encode(record))
        if isinstance(record, Claim):
            path = Path(log.directory) / f".manyhands-{record.token}.claim-record"
            path.write_bytes(encode(record))
            Path(log.staging(slot, record.token)).write_text("whole")


DEAD = somebody("a", alive=False)
ALIVE = somebody("b", alive=True)
FAILED = Fail("c" * 24, "ValueError")

LOGS: dict[str, tuple[Record, ...]] = {
    "claimed by the dead": (Claim(DEAD),),
    "committed": (Claim(DEAD), Commit(DEAD)),
    "failed": (Claim(DEAD), FAILED),
    "released": (Claim(DEAD), Release(DEAD.token)),
    "claimed by the living": (Claim(ALIVE),),
    "taken over by the living": (Claim(DEAD), Claim(ALIVE)),
    "committed by the living": (Claim(DEAD), Claim(ALIVE), Commit(ALIVE)),
}


@pytest.mark.parametrize("state", LOGS)
def test_now_leaves_outputs_only(tmp_path: Path, state: str) -> None:
    """When nobody runs everything of ours goes, and what was committed is published."""
    log = Log.of(tmp_path / "a.csv")
    write_log(log, *LOGS[state])
    removed = gc(tmp_path, now=True)
    assert names(tmp_path) == (["a.csv"] if "committed" in state else [])
    slots = [str(path) for path in removed if path.name.startswith(f"{log.stem}-") and path.name[-2] == "-"]
    assert slots == [log.slot(number) for number in range(len(LOGS[state]) - 1, -1, -1)], "highest first"
    assert len(set(removed)) == len(removed)
    if "committed" in state:
        assert Path(log.final).read_text() == "whole"


@pytest.mark.parametrize(
    ("state", "left"),
    [
        ("claimed by the dead", []),
        ("committed", ["a.csv"]),
        ("released", []),
        ("failed", [".a.csv.claim-0", ".a.csv.claim-1"]),
        ("claimed by the living", [".a.csv.claim-0", "record", "staging"]),
        ("taken over by the living", [".a.csv.claim-0", ".a.csv.claim-1", "record", "staging"]),
    ],
)
def test_otherwise_only_what_the_dead_left(tmp_path: Path, state: str, left: list[str]) -> None:
    """A live claim, its staging and its record stay, and so does the memory of failures."""
    log = Log.of(tmp_path / "a.csv")
    write_log(log, *LOGS[state])
    gc(tmp_path)
    slot = 0 if state == "claimed by the living" else 1
    meant = {
        "record": f".manyhands-{ALIVE.token}.claim-record",
        "staging": Path(log.staging(slot, ALIVE.token)).name,
    }
    assert names(tmp_path) == sorted(meant.get(name, name) for name in left)


def test_the_word_of_who_gave_up_stays(tmp_path: Path) -> None:
    """While a log stays in which it was at work, that it left is no crash; then it goes too."""
    log = Log.of(tmp_path / "a.csv")
    write_log(log, *LOGS["failed"], Claim(DEAD))
    word = Path(record_file(str(tmp_path), DEAD.token, "released"))
    os.rename(record_file(str(tmp_path), DEAD.token, "claim"), word)
    gc(tmp_path)
    assert word.exists()
    with Claims(max_crashes=1) as claims:
        mine = claims.acquire(log, reopen=1)
        assert isinstance(mine, Mine) and mine.slot == 4, "above a RELEASE"
        mine.staging.write_text("whole")
        claims.commit(mine)
    gc(tmp_path)
    assert names(tmp_path) == ["a.csv"]


def test_failures_beside_an_output_go(tmp_path: Path) -> None:
    """When the output is there, what failed before is nobody's concern."""
    log = Log.of(tmp_path / "a.csv")
    write_log(log, Claim(DEAD), FAILED, Claim(DEAD))
    Path(log.final).write_text("whole")
    gc(tmp_path)
    assert names(tmp_path) == ["a.csv"]


def test_failures_are_believed_after_gc(tmp_path: Path) -> None:
    """A final verdict outlives its writer and a careful gc; gc now forgets it."""
    log = Log.of(tmp_path / "a.csv")
    write_log(log, Claim(DEAD), FAILED)
    with Claims() as claims:
        gc(tmp_path)
        assert isinstance(claims.acquire(log), FailedBefore)
        gc(tmp_path, now=True)
        assert isinstance(claims.acquire(log), Mine)


def test_foreign_files_stay(tmp_path: Path) -> None:
    """What only looks like ours by its name is not touched, nor what a link of such a name leads to."""
    foreign = {
        ".a.csv.claim-0": "a,b\n",
        ".claim-0": "",
        ".a.csv.claim-x": "",
        "notes.txt": "n",
        ".a.csv.claim": "x",
    }
    for name, text in foreign.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "target").write_text("t")
    (tmp_path / ".b.csv.claim-0").symlink_to("target")
    (tmp_path / f".manyhands-{'a' * 24}.claim-record").symlink_to("target")
    (tmp_path / ".c.csv.claim-0").mkdir()
    (tmp_path / "below").mkdir()
    write_log(Log.of(tmp_path / "below" / "a.csv"), Claim(DEAD))
    before, below = names(tmp_path), names(tmp_path / "below")
    assert gc(tmp_path, now=True) == []
    assert (names(tmp_path), names(tmp_path / "below")) == (before, below)


@pytest.mark.parametrize("now", [False, True])
@pytest.mark.parametrize(
    ("final", "temp"), [("out/a.csv", "work/t"), ("x" * 200 + ".csv", None), ("x" * 200 + ".csv", "t")]
)
def test_a_commit_is_never_lost(tmp_path: Path, final: str, temp: str | None, now: bool) -> None:
    """Where gc can't tell the output's place it keeps what was committed, and the next run publishes it."""
    for name in ("out", "work"):
        (tmp_path / name).mkdir()
    log = Log.of(tmp_path / final, None if temp is None else tmp_path / temp)
    write_log(log, Claim(DEAD), Commit(DEAD))
    gc(log.directory, now=now)
    with Claims() as claims:
        assert claims.acquire(log) == Finished()
    assert Path(log.final).read_text() == "whole"
    gc(log.directory, now=True)
    assert not list(Path(log.directory).glob(".*"))


def test_another_temp(tmp_path: Path) -> None:
    """Logs whose names start with a temp of the user's are found, and published beside it."""
    log = Log.of(tmp_path / "a.csv", tmp_path / "tmp")
    write_log(log, Claim(DEAD), Commit(DEAD))
    gc(tmp_path)
    assert names(tmp_path) == ["a.csv"]


def test_a_contested_log_stays_where_outputs_are_moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without hard links a late owner could replace an output in a log that was freed."""
    log = Log.of(tmp_path / "a.csv")
    write_log(log, Claim(DEAD), Claim(DEAD), Release(DEAD.token))
    real = LocalFileSystem.perform

    def without_links(self: LocalFileSystem, operation: Operation) -> object:
        if isinstance(operation, Link):
            raise PermissionError(1, "Operation not permitted")
        return real(self, operation)

    monkeypatch.setattr(LocalFileSystem, "perform", without_links)
    gc(tmp_path)
    assert names(tmp_path) == [".a.csv.claim-0", ".a.csv.claim-1", ".a.csv.claim-2"]
    monkeypatch.undo()
    gc(tmp_path)
    assert names(tmp_path) == []


@pytest.mark.parametrize("staging", [True, False])
def test_what_moved_during_gc_is_seen(tmp_path: Path, staging: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A claim that is made after the directory was listed keeps its log."""
    log = Log.of(tmp_path / "a.csv")
    write_log(log, Claim(DEAD), Release(DEAD.token))
    if not staging:
        Path(log.staging(0, DEAD.token)).unlink()  # its owner is judged later then
    judge = liveness.judge

    def judge_after_a_claim(claimant: Claimant, directory: str) -> str:
        if not Path(log.slot(2)).exists():
            write_log(Log.of(tmp_path / "b"), Claim(ALIVE))
            Path(log.slot(2)).write_bytes(encode(Claim(ALIVE)))
        return judge(claimant, directory)

    monkeypatch.setattr(liveness, "judge", judge_after_a_claim)
    gc(tmp_path)
    assert run(protocol.read(log), LocalFileSystem())[2] == Claim(ALIVE)


def test_a_missing_directory_is_an_error(tmp_path: Path) -> None:
    """gc does not take a misspelt name for an empty directory."""
    with pytest.raises(FileNotFoundError):
        gc(tmp_path / "nowhere")
    assert not os.path.lexists(tmp_path / "nowhere")

"""Histories as processes write them, and as they are read again."""

from __future__ import annotations

import errno
import os
import pickle
import threading
from pathlib import Path

import pytest

from manyhands.claims import Claims, Fenced, Finished, Log, Mine
from manyhands.claims.filesystem import LocalFileSystem, Operation
from manyhands.errors import OutputMissing
from manyhands.testing import History, RecordedClaims, check, digest, listing, read_histories


def told(history: History) -> list[str]:
    """The events, as (kind, action, note)."""
    return [
        " ".join(filter(None, (event.kind, event.action, event.note)))
        for events in read_histories(history.directory)
        for event in events
    ]


def test_threads_count_for_themselves(tmp_path: Path) -> None:
    """One file for the process, in which each thread has a name and numbers of its own."""
    history = History(tmp_path / "history")

    def record() -> None:
        for _ in range(3):
            history.record("invoke", "compute", "a")
            history.record("ok", "compute", "a")

    threads = [threading.Thread(target=record) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    [events] = read_histories(history.directory)
    numbers: dict[str, list[int]] = {}
    for event in events:
        numbers.setdefault(event.process, []).append(event.number)
    assert list(numbers.values()) == [list(range(6))] * 4
    assert check([events]).valid


def test_a_forked_process_writes_a_file_of_its_own(tmp_path: Path) -> None:
    """So does one that got the history by pickle."""
    history = History(tmp_path / "history")
    history.record("invoke", "compute", "a")
    child = os.fork()
    if not child:
        status = 1
        try:
            history.record("ok", "compute", "b")
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    pickle.loads(pickle.dumps(history)).record("ok", "compute", "c")
    found = [
        [(event.output, event.number) for event in events] for events in read_histories(tmp_path / "history")
    ]
    assert sorted(found) == [[("a", 0)], [("b", 0)], [("c", 0)]]


def test_a_torn_line_is_left_out(tmp_path: Path) -> None:
    """The last line may be torn by a kill; one before it is missed by its number."""
    history = History(tmp_path / "history")
    for _ in range(2):
        history.record("invoke", "compute", "a")
        history.record("ok", "compute", "a")
    [path] = (tmp_path / "history").iterdir()
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines)[:-5])
    assert check(read_histories(tmp_path / "history")).valid
    path.write_bytes(b"".join([lines[0], lines[1][:20] + b"\n", *lines[2:]]))
    assert check(read_histories(tmp_path / "history")).result == "unknown"


def test_a_body_tells_what_it_wrote(tmp_path: Path) -> None:
    """Its slot, token and output are in the staging's name; what it raises passes through."""
    history = History(tmp_path / "history")
    staging = Path(Log.of(tmp_path / "a.csv").staging(3, "0" * 24))
    with history.body(staging):
        staging.write_text("whole")
    with pytest.raises(ValueError, match="no"), history.body(staging, attempt=2):
        raise ValueError("no")
    [events] = read_histories(tmp_path / "history")
    assert [(event.kind, event.output, event.slot, event.token) for event in events] == [
        (kind, "a.csv", 3, "0" * 24) for kind in ("invoke", "ok", "invoke", "fail")
    ]
    assert events[1].digest == digest(staging) != ""
    assert events[3].note == "ValueError"


def test_names_that_are_no_unicode_have_a_digest(tmp_path: Path) -> None:
    """A directory is told from another by the names of its files, whatever bytes they are."""
    for number in range(2):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / os.fsdecode(b"f\xfe" + b"\xff" * number)).touch()
    assert digest(tmp_path / "0") != digest(tmp_path / "1")


def test_a_body_whose_staging_tells_no_output(tmp_path: Path) -> None:
    """Where the name is too long to be in the staging's, it must be given."""
    history = History(tmp_path / "history")
    staging = Path(Log.of(tmp_path / ("a" * 240)).staging(0, "0" * 24))
    with pytest.raises(ValueError, match="give output="), history.body(staging):
        pass
    with history.body(staging, output="long"):
        staging.write_text("whole")
    [events] = read_histories(tmp_path / "history")
    assert {event.output for event in events} == {"long"}


def test_digests_tell_bytes_and_names(tmp_path: Path) -> None:
    """Of files their bytes, of directories names too; what is not there has none."""
    for name in ("a", "b"):
        (tmp_path / name).write_text("same")
    (tmp_path / "c").mkdir()
    before = digest(tmp_path / "c")
    (tmp_path / "c" / "d").write_text("same")
    assert digest(tmp_path / "a") == digest(tmp_path / "b") != digest(tmp_path / "c") != before
    assert digest(tmp_path / "e") == ""
    assert listing(tmp_path) == {name: digest(tmp_path / name) for name in "abc"}


class Refusing:
    """A filesystem that fails at one kind of operation."""

    def __init__(self, kind: str, number: int) -> None:
        self.kind, self.number = kind, number

    def perform(self, operation: Operation, /) -> object:
        if type(operation).__name__ == self.kind:
            raise OSError(self.number, os.strerror(self.number))
        return LocalFileSystem().perform(operation)


def test_recorded_claims_tell_what_claims_answer(tmp_path: Path) -> None:
    """Claimed, failed, claimed again, missing, committed, published; then finished."""
    history, log = History(tmp_path / "history"), Log.of(tmp_path / "out" / "a.csv")
    Path(log.directory).mkdir()
    with RecordedClaims(history) as claims:
        mine = claims.acquire(log)
        assert isinstance(mine, Mine)
        claims.fail(mine, type_name="ValueError", backoff=0.0)
        mine = claims.acquire(log)
        assert isinstance(mine, Mine)
        with pytest.raises(OutputMissing):
            claims.commit(mine)
        with history.body(mine.staging):
            mine.staging.write_text("whole")
        claims.commit(mine)
        assert claims.acquire(log) == Finished()
    assert told(history) == [
        "invoke claim",
        "ok claim",
        "invoke failure",
        "ok failure",
        "invoke claim",
        "ok claim",
        "invoke commit",
        "fail commit missing",
        "invoke compute",
        "ok compute",
        "invoke commit",
        "ok commit",
        "invoke publish",
        "ok publish",
        "invoke claim",
        "fail claim finished",
    ]
    found = {name: seen for name, seen in listing(log.directory).items() if name == "a.csv"}
    verdict = check(read_histories(history.directory), found)
    assert verdict.valid, str(verdict)


@pytest.mark.parametrize("kind", ["Link", "SyncDirectory"])
def test_a_commit_that_was_walked_away_from_is_unknown(tmp_path: Path, kind: str) -> None:
    """An I/O error says neither yes nor no, and ``Fenced`` then says nothing of the COMMIT."""
    history, log = History(tmp_path / "history"), Log.of(tmp_path / "out" / "a.csv")
    Path(log.directory).mkdir()
    plain = Claims()
    claims = RecordedClaims(history, plain)
    mine = claims.acquire(log)
    assert isinstance(mine, Mine)
    mine.staging.write_text("whole")
    plain._filesystem = Refusing(kind, errno.EIO)  # before the slot, and after the publication
    assert claims.commit(mine) == Fenced()
    assert told(history)[-1] == "unknown commit given up"
    claims.close()


def test_a_commit_of_who_was_taken_over_has_failed(tmp_path: Path) -> None:
    """That one is known not to have happened."""
    history, log = History(tmp_path / "history"), Log.of(tmp_path / "out" / "a.csv")
    Path(log.directory).mkdir()
    mine = None
    with RecordedClaims(history) as slow, RecordedClaims(history) as quick:
        mine = slow.acquire(log)
        assert isinstance(mine, Mine)
        mine.staging.write_text("slow")
        for path in slow.paths():
            path.unlink()  # somebody took it for dead
        other = quick.acquire(log)
        assert isinstance(other, Mine)
        assert slow.commit(mine) == Fenced()
        other.staging.write_text("quick")
        quick.commit(other)
    assert "fail commit fenced" in told(history)
    assert check(read_histories(history.directory)).valid

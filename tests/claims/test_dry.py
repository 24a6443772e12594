"""A dry run of gc says what it would do, and does nothing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from manyhands.claims import Log, gc
from manyhands.claims.dry import DryFileSystem
from manyhands.claims.filesystem import Exists, Link, Read, Remove, Rename, RenameNew, WriteNew
from manyhands.claims.names import record_file
from tests.claims.test_claims_gc import DEAD, LOGS, write_log


def everything(directory: Path) -> dict[str, bytes]:
    """What is in a directory of files."""
    return {path.name: path.read_bytes() for path in directory.iterdir()}


@pytest.mark.parametrize("now", [False, True])
@pytest.mark.parametrize("state", LOGS)
def test_it_says_what_gc_does(tmp_path: Path, state: str, now: bool) -> None:
    """The same files in the same order, and the same outputs; and all stays as it is, dead owners' records too."""
    log = Log.of(tmp_path / "a.csv")
    write_log(log, *LOGS[state])
    write_log(Log.of(tmp_path / "b.csv"), *LOGS["released"])
    before, dry = everything(tmp_path), DryFileSystem()
    told = gc(tmp_path, now, dry)
    assert everything(tmp_path) == before
    done = gc(tmp_path, now)
    # Who judges the dead removes their records: a dry run tells of these, too.
    records = {path for path in told if path.name.endswith("-record")}
    assert [path for path in told if path not in records] == [path for path in done if path not in records]
    assert {path.name for path in told} >= before.keys() - everything(tmp_path).keys()
    assert set(dry.made) == ({log.final} if Path(log.final).exists() else set())


def test_it_believes_in_its_own_deeds(tmp_path: Path) -> None:
    """What it has made is there, what it has removed is not, and a name is made once."""
    dry, one, two = DryFileSystem(), str(tmp_path / "one"), str(tmp_path / "two")
    Path(one).write_bytes(b"1")
    dry.perform(Link(one, two))
    with pytest.raises(FileExistsError):
        dry.perform(Link(one, two))
    dry.perform(Remove(one))
    with pytest.raises(FileNotFoundError):
        dry.perform(Read(one))
    assert dry.perform(Read(two)) == b"1"
    dry.perform(RenameNew(two, one))
    assert (dry.perform(Exists(one)), dry.perform(Exists(two))) == (True, False)
    dry.perform(WriteNew(two, b"2"))
    dry.perform(Rename(two, one))
    assert dry.perform(Read(one)) == b"2"
    assert everything(tmp_path) == {"one": b"1"}


def test_who_left_in_order_is_known(tmp_path: Path) -> None:
    """A claim whose record was renamed is given up, in a dry run as in a real one."""
    write_log(Log.of(tmp_path / "a.csv"), *LOGS["claimed by the dead"])
    os.rename(record_file(tmp_path, DEAD.token, "claim"), record_file(tmp_path, DEAD.token, "released"))
    before = everything(tmp_path)
    told = gc(tmp_path, filesystem=DryFileSystem())
    assert everything(tmp_path) == before
    assert told == gc(tmp_path)

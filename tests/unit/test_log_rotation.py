"""The log server's file: whole lines, each exactly once, whatever happens to the file."""

from __future__ import annotations

import os
import resource
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manyhands.logs.rotation import RotatedFile

LINES = st.lists(st.binary(min_size=1, max_size=9).filter(lambda line: b"\n" not in line), max_size=6)


def files(path: Path) -> list[Path]:
    """The oldest first."""
    backups = sorted(path.parent.glob(f"{path.name}.*"), key=lambda each: -int(each.suffix[1:]))
    return [*backups, path]


def content(path: Path) -> list[bytes]:
    return [line for file in files(path) for line in file.read_bytes().split(b"\n")[:-1]]


@given(st.lists(LINES, max_size=6), st.none() | st.integers(1, 30))
def test_every_line_exactly_once(batches: list[list[bytes]], max_bytes: int | None) -> None:
    """With room for all files, they hold all lines in order; a file is too long only for one line alone."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "log")
        file = RotatedFile(path, max_bytes, backups=100)
        for batch in batches:
            assert file.write(batch) == len(batch)
        file.close()
        assert content(path) == [line for batch in batches for line in batch]
        for each in files(path):
            text = each.read_bytes()
            assert max_bytes is None or len(text) <= max_bytes or text.count(b"\n") == 1


def test_the_oldest_goes(tmp_path: Path) -> None:
    """No more files than asked for are kept, the newest of all."""
    path = tmp_path / "log"
    file = RotatedFile(path, 4, backups=2)
    assert file.write([b"%d" % number for number in range(9)]) == 9
    file.close()
    assert [each.name for each in files(path)] == ["log.2", "log.1", "log"]
    assert content(path) == [b"4", b"5", b"6", b"7", b"8"]


def test_a_full_disk(tmp_path: Path) -> None:
    """Lines that don't fit are not counted as written, leave no half behind, and later ones are whole."""
    path = tmp_path / "log"
    file = RotatedFile(path, None, 1)
    assert file.write([b"first"]) == 1
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20, hard))  # writing goes up to there, then fails
    try:
        written = [
            file.write([b"second", b"the third", b"4"]),
            file.write([b"a long one", b"5"]),
            file.write([b"6"]),
        ]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert written == [1, 0, 1]
    assert path.read_bytes() == b"first\nsecond\n6\n"
    assert file.write([b"7", b"8"]) == 2
    file.close()
    assert content(path) == [b"first", b"second", b"6", b"7", b"8"]


def test_half_a_line_that_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If half a line can't be taken back, the next one begins on a line of its own."""
    path = tmp_path / "log"
    file = RotatedFile(path, None, 1)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with monkeypatch.context() as patch:
        patch.setattr(os, "ftruncate", _fails)
        resource.setrlimit(resource.RLIMIT_FSIZE, (9, hard))
        try:
            assert file.write([b"first", b"second"]) == 1
            assert file.write([b"third"]) == 0
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert file.write([b"fourth", b"fifth"]) == 2
    file.close()
    assert content(path) == [b"first", b"sec", b"fourth", b"fifth"]


def _fails(*_: object) -> None:
    raise OSError


def test_what_an_earlier_server_left(tmp_path: Path) -> None:
    """A file is appended to; half a line at its end, of a machine that lost its power, harms no other."""
    path = tmp_path / "log"
    path.write_bytes(b"whole\nhal")
    file = RotatedFile(path, 14, 3)
    assert file.write([b"next"]) == 1
    file.close()
    assert content(path) == [b"whole", b"hal", b"next"]


@pytest.mark.parametrize("how", ["moved", "removed", "replaced", "emptied"])
def test_somebody_else_moves_it(tmp_path: Path, how: str) -> None:
    """What is written after the file was moved or removed is in a file of its name."""
    path = tmp_path / "log"
    file = RotatedFile(path, 100, 3)
    file.write([b"before"])
    if how == "moved":
        path.rename(tmp_path / "elsewhere")
    elif how == "removed":
        path.unlink()
    elif how == "replaced":
        (tmp_path / "other").write_bytes(b"other\n")
        (tmp_path / "other").rename(path)
    else:
        os.truncate(path, 0)
    assert file.write([b"after"]) == 1
    file.close()
    assert path.read_bytes() == (b"other\n" if how == "replaced" else b"") + b"after\n"


def test_the_directory_goes_and_comes(tmp_path: Path) -> None:
    """Without its directory nothing is written; when that is there again, it is."""
    path = tmp_path / "logs" / "log"
    path.parent.mkdir()
    file = RotatedFile(path, None, 1)
    path.unlink()
    path.parent.rmdir()
    assert file.write([b"lost"]) == 0
    path.parent.mkdir()
    assert file.write([b"kept"]) == 1
    file.close()
    assert content(path) == [b"kept"]


def test_what_cannot_be_moved_aside(tmp_path: Path) -> None:
    """A file that can't be rotated grows, and loses nothing."""
    path = tmp_path / "log"
    (tmp_path / "log.1" / "inside").mkdir(parents=True)
    file = RotatedFile(path, 4, 1)
    assert file.write([b"1", b"2", b"3"]) == 3 and file.write([b"4"]) == 1
    file.close()
    assert path.read_bytes() == b"1\n2\n3\n4\n"


def test_one_at_a_time(tmp_path: Path) -> None:
    """A second one on the same file is refused, until the first is closed; by any name of the file."""
    path = tmp_path / "log"
    (tmp_path / "link").symlink_to(path)
    first = RotatedFile(path, None, 1)
    for name in ("log", "link"):
        with pytest.raises(OSError, match="another log server") as caught:
            RotatedFile(tmp_path / name, None, 1)
        assert caught.value.filename == str(tmp_path / name)
    first.close()
    first.close()
    RotatedFile(path, None, 1).close()


def test_a_copy_does_not_keep_it(tmp_path: Path) -> None:
    """A copy of its descriptor, in a forked process say, does not keep the file from the next one."""
    file = RotatedFile(tmp_path / "log", None, 1)
    copy = os.dup(file._file)
    file.close()
    RotatedFile(tmp_path / "log", None, 1).close()
    os.close(copy)


def test_no_regular_file(tmp_path: Path) -> None:
    """A FIFO, which nobody reads, is refused and not waited for; so is a directory."""
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(OSError, match="regular file"):
        RotatedFile(tmp_path / "fifo", None, 1)
    with pytest.raises(IsADirectoryError):
        RotatedFile(tmp_path, None, 1)
    with pytest.raises(FileNotFoundError):
        RotatedFile(tmp_path / "none" / "log", None, 1)

"""How far maps are, as the ends of their journals tell."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from manyhands.reporting.glance import QUIET_SECONDS, TAIL_BYTES, Glance, glances, left_of
from manyhands.reporting.journal import Writer


def write(directory: Path, total: int | None = 100, host: str = "here", spans: int = 0) -> Writer:
    writer = Writer(directory, "count", 1000.0, 2, total, host)
    for number in range(spans):
        writer.span("here:1", float(number), 0.0, 1, 0.5, "value", number, f"item {number}")
    return writer


@pytest.mark.parametrize("spans", [0, TAIL_BYTES // 20])
def test_what_a_journal_says_last(tmp_path: Path, spans: int) -> None:
    """However long it is, and whatever came before."""
    writer = write(tmp_path, spans=spans)
    writer.counts(1, 0)
    writer.counts(20, 3, 2, 5)
    writer.flush()
    (seen,) = glances(tmp_path, "here")
    assert seen == Glance("count", "here", os.getpid(), 1000.0, 100, 30, "running")
    assert seen.left == 70
    writer.counts(90, 3, 2, 5)
    writer.ended(12.0)
    (seen,) = glances(tmp_path, "here")
    assert (seen.settled, seen.state, seen.left) == (100, "ended", 0)


def test_whose_process_is_gone_is_lost(tmp_path: Path) -> None:
    """On this machine; of another one nothing is known but when it wrote last."""
    program = (
        "import sys; from manyhands.reporting.journal import Writer; "
        "Writer(sys.argv[1], 'count', 1.0, 2, 5, 'here').flush()"
    )
    subprocess.run([sys.executable, "-c", program, tmp_path], check=True)
    assert [seen.state for seen in glances(tmp_path, "here")] == ["lost"]
    assert [seen.state for seen in glances(tmp_path, "there")] == ["running"]
    (path,) = tmp_path.iterdir()
    long_ago = time.time() - 2 * QUIET_SECONDS
    os.utime(path, (long_ago, long_ago))
    assert [seen.state for seen in glances(tmp_path, "there")] == ["lost"]


def test_other_files_are_left_out(tmp_path: Path) -> None:
    """Whatever they are called, or hold."""
    for number, text in enumerate(["", "{", "[]", '{"kind": "journal"}', '{"kind": "other", "pid": 1}']):
        (tmp_path / f".manyhands-{number:024x}.journal").write_text(text)
    (tmp_path / f".manyhands-{9:024x}.journal").mkdir()
    os.mkfifo(tmp_path / f".manyhands-{10:024x}.journal")
    (tmp_path / "journal").write_text("{}")
    assert glances(tmp_path, "here") == []


def test_a_torn_end_hides_nothing(tmp_path: Path) -> None:
    """The last whole line of counts is what is known."""
    writer = write(tmp_path)
    writer.counts(20, 0)
    writer.close()
    with writer.path.open("a") as file:
        file.write('["c",99,')
    assert [seen.settled for seen in glances(tmp_path, "here")] == [20]


def test_what_is_left_of_maps_that_share_a_list() -> None:
    """The most of those that run, unless one of them does not know."""

    def glance(total: int | None, settled: int, state: str = "running") -> Glance:
        return Glance("f", "h", 1, 0.0, total, settled, state)

    assert left_of([]) is None
    assert left_of([glance(100, 40), glance(100, 70)]) == 60
    assert left_of([glance(100, 40, "ended"), glance(100, 70)]) == 30
    assert left_of([glance(100, 40), glance(None, 70)]) is None
    assert left_of([glance(100, 40, "lost")]) is None
    assert left_of([glance(10, 12)]) == 0

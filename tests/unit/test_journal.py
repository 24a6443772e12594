"""Journals: what is read is what was written, whatever became of the file."""

from __future__ import annotations

import errno
import json
import logging
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from manyhands.claims import gc
from manyhands.claims.names import JournalName, parse
from manyhands.reporting import journal
from manyhands.reporting.figures import figures
from manyhands.reporting.journal import Writer, is_journal, read, read_file
from manyhands.reporting.page import page
from manyhands.reporting.recording import Recording, Taker
from manyhands.reporting.spans import STATUSES
from manyhands.reporting.view import View

texts = st.text(st.characters(), max_size=20)  # lone surrogates, too
seconds = st.integers(0, 10**9).map(lambda number: number / 1e6)
workers = st.sampled_from(["a:1", "b:2", "c", "é:\ud800"])
spans = st.tuples(
    st.just("span"),
    st.fixed_dictionaries(
        {
            "worker": workers,
            "begin": seconds,
            "seconds": seconds,
            "count": st.integers(1, 9),
            "last": seconds,
            "status": st.sampled_from(STATUSES),
            "index": st.integers(-1, 10**6),
            "item": texts | st.none() | st.integers(),
            "attempt": st.integers(1, 30),
        }
    ),
)
failures = st.tuples(
    st.just("failed"),
    st.fixed_dictionaries(
        {
            "index": st.integers(0, 99),
            "item": texts,
            "error_type": texts,
            "text": texts,
            "traceback": texts,
            "attempts": st.integers(0, 9),
            "worker": workers,
        }
    ),
)
peaks = st.tuples(st.just("peak"), st.fixed_dictionaries({"worker": workers, "size": st.integers(0, 10**12)}))
counts = st.tuples(
    st.just("counts"), st.fixed_dictionaries({"values": st.integers(0, 9), "failures": st.integers(0, 9)})
)
events = st.lists(st.one_of(spans, failures, peaks, counts), max_size=30)
within = settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


def tell(recorder: Taker, told: list[tuple[str, dict[str, Any]]]) -> None:
    for name, fields in told:
        getattr(recorder, name)(**fields)


def some(writer: Taker) -> None:
    """A little of everything."""
    writer.span("a:1", 0.0, 0.5, index=0, item="one")
    writer.span("a:2", 0.25, 0.5, 4, 0.125, index=1, items=[1, 2, 3, 4])
    writer.span("a:1", 0.5, 0.5, status="failed", index=5, item="<&>", attempt=2)
    writer.failed(5, "<&>", "ValueError", "bad", '  File "x.py"\nValueError: bad', 2, "a:1")
    writer.peak("a:1", 1000)
    writer.counts(5, 1)


@within
@given(told=events, over=st.booleans())
def test_what_is_read_is_what_was_told(tmp_path: Path, told: list[Any], over: bool) -> None:
    """A recording that was read from a journal says what one says that was told the same."""
    directory = tmp_path / os.urandom(4).hex()
    directory.mkdir()
    recording = Recording("mod.f", 123.5, 3, 77, "a")
    writer = Writer(directory, "mod.f", 123.5, 3, 77, "a")
    for each in (recording, writer):
        tell(each, told)
        if over:
            each.ended(2000.0)
    writer.close()
    (found,) = read(directory)
    assert figures([found]) == figures([recording])
    assert found.tracks() == recording.tracks()
    assert found.labels == recording.labels


def test_a_file_torn_anywhere_is_read_up_to_there(tmp_path: Path) -> None:
    """Cut at any byte, a journal gives what its whole lines say; before its first line is whole, it is none."""
    writer = Writer(tmp_path, "f", 1.0, 2)
    some(writer)
    writer.ended(2.0)
    data = writer.path.read_bytes()
    steps = set()
    for stop in range(len(data)):
        writer.path.write_bytes(data[:stop])
        found = read_file(writer.path)
        lines = data[:stop].split(b"\n")[:-1]
        if (found is None) != (not lines):
            json.loads(data[:stop])  # all of the first line but its end
            continue
        if found is not None:
            whole = [json.loads(line)[0] for line in lines[1:]]
            calls = sum(found.by_status.values())
            assert calls >= [0, 1, 5, 6][whole.count("s")]  # more if the last line lacks its end alone
            steps.add(calls)
    assert steps == {0, 1, 5, 6}


@settings(within, max_examples=40)
@given(lines=st.lists(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | texts, st.lists)))
def test_strange_lines_are_left_out(tmp_path: Path, lines: list[Any]) -> None:
    """Whatever JSON stands in the lines, the journal is read, and a page can be made of it."""
    writer = Writer(tmp_path, "f", 1.0, 2)
    some(writer)
    writer.close()
    with writer.path.open("a") as file:
        for line in lines:
            file.write(f"{json.dumps(line)}\n")
    found = read_file(writer.path)
    assert found is not None
    assert found.by_status == {"value": 5, "failed": 1}
    writer.path.unlink()


FIELDS: list[Any] = [None, -5, 2**80, 1e300, float("nan"), float("inf"), "x", [], {}, True]


@pytest.mark.parametrize("wrong", FIELDS, ids=repr)
@pytest.mark.parametrize("kind", ["w", "s", "t", "f", "p", "c", "e"])
def test_a_line_with_a_wrong_field_harms_no_other(tmp_path: Path, kind: str, wrong: Any) -> None:
    """A line of a known kind, one field of which is something else, is left out or taken; a page can be made."""
    rows: dict[str, list[Any]] = {
        "w": ["w", 7, "a:7"],
        "s": ["s", 0, 0.5, 0.5, 1, 0.0, "value", 3, 1, "'x'"],
        "t": ["t", 0, "text"],
        "f": ["f", 1, "'x'", "ValueError", "bad", 0, 1, "a:1"],
        "p": ["p", "a:1", 5],
        "c": ["c", 1, 2, 3, 4],
        "e": ["e", 3.0],
    }
    writer = Writer(tmp_path, "f", 1.0, 2)
    some(writer)
    writer.close()
    with writer.path.open("a") as file:
        for place in range(1, len(rows[kind])):
            row = list(rows[kind])
            row[place] = wrong
            file.write(f"{json.dumps(row)}\n{json.dumps(row[:place])}\n")
    found = read_file(writer.path)
    assert found is not None
    assert sum(found.by_status.values()) >= 6
    assert "".join(page(View.of([found])))
    json.dumps(figures([found]), allow_nan=False)


@pytest.mark.parametrize("begun", [*FIELDS, -1e15, 2.0**53], ids=repr)
def test_a_strange_header_is_none_or_is_shown(tmp_path: Path, begun: Any) -> None:
    """A header with a wrong time makes no journal, and one with an unlikely time can be shown."""
    path = journal.journal_file(tmp_path, "0" * 24)
    path.write_text(f"{json.dumps({'manyhands': 1, 'kind': 'journal', 'begun': begun})}\n" + '["w",0,"a:1"]\n')
    found = read_file(path)
    if found is not None:
        assert "".join(page(View.of([found])))


def test_what_a_later_version_adds_is_left_out(tmp_path: Path) -> None:
    """Unknown kinds of lines and fields, and another version, don't keep the rest from being read."""
    path = journal.journal_file(tmp_path, "0" * 24)
    header = {"manyhands": 9, "kind": "journal", "function": "f", "begun": 5.0, "colour": "green"}
    lines = [
        header,
        ["w", 0, "a:1", "more"],
        ["z", 1],
        ["s", 0, 1.0, 1.0, 1, 0.0, "value", 0, 1, "", "more", 7],
    ]
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    (found,) = read(tmp_path)
    assert (found.function, found.busy) == ("f", {"a:1": 1.0})


def test_only_journals_are_read(tmp_path: Path) -> None:
    """Other files, links, directories and FIFOs of such names, and journals without a header, are left out."""
    token = "0123456789abcdef01234567"
    writer = Writer(tmp_path, "f", 1.0, 2)
    writer.close()
    (tmp_path / "other").write_text("{}")
    journal.journal_file(tmp_path, token).mkdir()
    os.mkfifo(journal.journal_file(tmp_path, token[::-1]))
    journal.journal_file(tmp_path, "1" * 24).symlink_to(writer.path)
    journal.journal_file(tmp_path, "2" * 24).write_bytes(b"\0" * 100)
    journal.journal_file(tmp_path, "3" * 24).write_text("[]\n")
    journal.journal_file(tmp_path, "4" * 24).write_text('{"manyhands":1,"kind":"claim","begun":1.0}\n')
    assert len(read(tmp_path)) == 1
    below = tmp_path / "below"
    below.mkdir()
    Writer(below, "g", 0.0, 2).close()
    assert [found.function for found in read(tmp_path, recursive=True)] == ["g", "f"]
    assert [found.function for found in read(tmp_path)] == ["f"]


@pytest.mark.parametrize(
    "name", [".manyhands-0.journal", ".manyhands-" + "G" * 24 + ".journal", "a.journal", ""]
)
def test_other_names_are_no_journals(name: str) -> None:
    """Reports and claims agree on what is no journal."""
    assert not is_journal(name)
    assert parse(name) is None


def test_claims_know_journals(tmp_path: Path) -> None:
    """A journal is told by its name, kept by gc, removed by gc(now=True), and neither touches what looks like one."""
    writer = Writer(tmp_path, "f", 1.0, 2)
    for number in range(2000):  # longer than any record
        writer.span("a:1", float(number), 1.0)
    writer.close()
    other = journal.journal_file(tmp_path, "0" * 24)
    other.write_text("mine")
    name = parse(writer.path.name)
    assert isinstance(name, JournalName)
    assert is_journal(writer.path.name)
    assert gc(tmp_path) == []
    assert gc(tmp_path, now=True) == [writer.path]
    assert other.read_text() == "mine"


def test_it_is_written_now_and_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was told is in the file after half a second, at the next event, or once it is much; its header at once."""
    now = [10.0]
    monkeypatch.setattr(journal.time, "monotonic", lambda: now[0])
    writer = Writer(tmp_path, "f", 1.0, 2)
    header = writer.path.read_bytes()
    assert header.endswith(b"\n")
    writer.span("a:1", 0.0, 1.0)
    assert writer.path.read_bytes() == header
    now[0] += 0.5
    writer.span("a:1", 1.0, 1.0)
    (found,) = read(tmp_path)
    assert found.by_status == {"value": 2}
    while writer.path.stat().st_size < 1000:
        writer.span("a:1", 2.0, 1.0)
    assert writer.path.stat().st_size > journal.FLUSH_BYTES
    writer.close()


def test_short_writes_are_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A system call that takes only a few bytes is followed by another one for the rest."""
    write = os.write
    monkeypatch.setattr(journal.os, "write", lambda descriptor, data: write(descriptor, data[:7]))
    writer = Writer(tmp_path, "f", 1.0, 2)
    some(writer)
    writer.ended(2.0)
    monkeypatch.undo()
    (found,) = read(tmp_path)
    assert (found.by_status, found.is_over) == ({"value": 5, "failed": 1}, True)


def test_a_full_disk_turns_it_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """When it can't be written that is said once, nothing is raised, and what was written can be read."""
    writer = Writer(tmp_path, "f", 1.0, 2)
    some(writer)
    writer.flush()
    write, room = os.write, [10]

    def full(descriptor: int, data: bytes) -> int:
        if room:
            return write(descriptor, data[: room.pop()])
        raise OSError(errno.ENOSPC, "no space left on device")

    monkeypatch.setattr(journal.os, "write", full)
    with caplog.at_level(logging.WARNING, "manyhands"):
        for _ in range(3):
            some(writer)
            writer.flush()
        writer.ended(1.0)
    monkeypatch.undo()
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "no space left" in caplog.text
    assert str(writer.path) in caplog.text
    (found,) = read(tmp_path)
    assert found.by_status == {"value": 5, "failed": 1}


@pytest.mark.parametrize("before", [True, False])
def test_a_directory_that_is_gone_turns_it_off(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, before: bool
) -> None:
    """Where the directory is not there, or goes away, that is said once, and nothing is raised."""
    directory = tmp_path / "gone"
    if not before:
        directory.mkdir()
    descriptors = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    writer = Writer(directory, "f", 1.0, 2)
    if not before:
        shutil.rmtree(directory)
    for _ in range(3):
        some(writer)
        writer.flush()
    writer.ended(1.0)
    assert len(caplog.records) == 1
    if descriptors:
        assert len(os.listdir("/proc/self/fd")) == descriptors


def test_failures_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All failures are counted; of so many it is said what, and for so many places where, once each."""
    monkeypatch.setattr(journal, "FAILURES_MAX", 5)
    writer = Writer(tmp_path, "f", 1.0, 2)
    for number in range(50):
        writer.failed(number, "x" * 50, "E", "y" * 50, f'  File "x.py", line {number % 3}\n', 1, "a:1")
    writer.flush()
    assert writer.path.read_text().count("y" * 50) == 5
    assert writer.path.read_text().count('\n["t",') == 3
    (found,) = read(tmp_path)
    assert sorted(group.count for group in found.groups.values()) == [16, 17, 17]
    for number in range(50):
        writer.failed(number, "x" * 50, "E", "y" * 50, f'  File "y.py", line {number}\n', 1, "a:1")
    writer.close()
    assert writer.path.read_text().count('\n["t",') == 5
    (found,) = read(tmp_path)
    assert sum(group.count for group in found.groups.values()) == 100

"""What a map records of itself: every attempt once, when it was and where, and what it came to."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from manyhands import Handler, claimed_output, parallel, retry_on, validated
from manyhands.handler.recorder import Recorder
from manyhands.reporting.journal import read
from manyhands.reporting.recording import Recording
from tests.helpers import names


def plus(x: int) -> int:
    return x + 1


@retry_on(IndexError, attempts=3, wait=0.001)
@validated(result=lambda value: value != 8)
def mixed(x: int) -> int:
    if x == 3:
        raise IndexError("never")
    if x == 5:
        raise KeyError("once")
    return x


def recording_of(results: Any) -> Recording:
    recorder: Recorder = results._recorder
    return recorder.recording


def check_times(recording: Recording) -> None:
    """Spans lie within the map, and those of one worker do not overlap but for the error of a clock."""
    assert recording.is_over and recording.wall is not None
    for spans in recording.tracks().values():
        assert all(0 <= span.begin <= span.end <= recording.wall + 1e-3 for span in spans)
        assert all(before.end <= after.begin + 1e-3 for before, after in pairwise(spans))


def test_every_item_is_in_one_span(how: dict[str, Any]) -> None:
    """Of tiny calls, which come in runs, as of others."""
    results = parallel(plus, **how).map(range(5000), record=True)
    assert sum(results) == sum(range(1, 5001))
    recording = recording_of(results)
    spans = [span for track in recording.tracks().values() for span in track]
    assert sum(span.calls for span in spans) == 5000 == sum(recording.histogram.values())
    assert recording.by_status == {"value": 5000}
    assert recording.outcomes == {"values": 5000, "failures": 0, "discarded": 0, "elsewhere": 0}
    assert all(re.fullmatch(r".+:[0-9]+", worker) for worker in recording.tracks())
    assert set(recording.peaks) == set(recording.tracks()) and min(recording.peaks.values()) > 1 << 20
    check_times(recording)


def test_attempts_are_told_apart(how: dict[str, Any]) -> None:
    """What was tried again, what failed for good, and what was sorted out."""
    results = parallel(mixed, **how).map(range(10), on_error="return", record=True)
    assert len(list(results)) == 10
    recording = recording_of(results)
    assert recording.attempts == {
        (1, "value"): 7,
        (1, "retried"): 1,
        (2, "retried"): 1,
        (3, "failed"): 1,
        (1, "failed"): 1,
        (1, "discarded"): 1,
    }
    assert recording.outcomes == {"values": 7, "failures": 2, "discarded": 1, "elsewhere": 0}
    told = {
        (kind.error_type, failed.index, failed.item, failed.text, failed.attempts)
        for kind in recording.groups.values()
        for failed in kind.kept
    }
    assert told == {("IndexError", 3, "3", "never", 3), ("KeyError", 5, "5", "'once'", 1)}
    check_times(recording)


def ends(x: int) -> int:
    if x == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    if x == 4:
        time.sleep(60)
    return x


def test_deaths_and_timeouts_are_told_apart(processes: dict[str, Any]) -> None:
    """With the worker that it was."""
    results = parallel(ends, **processes).map(range(6), on_error="return", timeout=1.0, record=True)
    results.wait()
    recording = recording_of(results)
    assert recording.by_status == {"value": 4, "died": 1, "timeout": 1}
    assert recording.outcomes["failures"] == 2
    assert all(worker for worker in recording.tracks())


def test_times_are_those_of_the_calls(processes: dict[str, Any]) -> None:
    """Calls of one worker that notes when they run lie in the spans that were recorded for them."""

    def noting(x: int) -> tuple[int, float, float]:
        begin = time.perf_counter()
        time.sleep(0.002 * (x % 7))
        return os.getpid(), begin, time.perf_counter()

    results = parallel(noting, **processes).map(range(60), record=True)
    recorder: Any = results._recorder
    noted = [(pid, begin - recorder._begun, end - recorder._begun) for pid, begin, end in results]
    tracks = recording_of(results).tracks()
    for pid, begin, end in noted:
        (track,) = [spans for worker, spans in tracks.items() if worker.endswith(f":{pid}")]
        assert any(span.begin - 5e-3 <= begin and end <= span.end + 5e-3 for span in track)


def test_claimed_items_are_counted_where_they_were_computed(tmp_path: Path, processes: dict[str, Any]) -> None:
    """Those that others have done are elsewhere."""

    def write(x: int) -> str:
        return str(x)

    def save(value: str, path: Path) -> None:
        path.write_text(value)

    function = parallel(claimed_output(str(tmp_path / "{x}.txt"), save=save)(write), **processes)
    function.map(range(5)).wait()
    results = function.map(range(12), record=True)
    results.wait()
    recording = recording_of(results)
    assert recording.outcomes == {"values": 7, "failures": 0, "discarded": 0, "elsewhere": 5}
    assert recording.by_status == {"value": 7}
    assert list(function.map(iter(range(12)), record=tmp_path / "journals"))
    assert names(tmp_path / "journals") == []  # nothing has run, so there is nothing to tell


def test_the_report_of_a_map_that_was_not_recorded(how: dict[str, Any], tmp_path: Path) -> None:
    """It can't be had, and the error says what to do."""
    results = parallel(plus, **how).map(range(3))
    with pytest.raises(RuntimeError, match=r"record=True, as in plus\.map\(items, record=True\)"):
        results.report(tmp_path / "run.html")
    assert list(results) == [1, 2, 3] and names(tmp_path) == []


def test_a_report_a_journal_and_a_trace(tmp_path: Path, processes: dict[str, Any]) -> None:
    """The page while the map goes on, and after; the others at its end, also if it is closed early."""
    where, trace = tmp_path / "new" / "records", tmp_path / "run.json"
    with parallel(mixed, **processes).map(
        range(1000), on_error="skip", record=where, trace=trace, chunksize=1
    ) as results:
        assert next(results) == 0
        assert "mixed" in results.report(tmp_path / "early.html").read_text()
        assert not trace.exists()
    (recording,) = read(where)
    assert recording.is_over and recording.function == "mixed" and recording.total == 1000
    ours = recording_of(results)
    assert recording.by_status == ours.by_status and recording.outcomes == ours.outcomes
    assert {span.first for track in recording.tracks().values() for span in track} == {
        span.first for track in ours.tracks().values() for span in track
    }
    complete = [event for event in json.loads(trace.read_text())["traceEvents"] if event["ph"] == "X"]
    assert len(complete) == 1 + sum(map(len, ours.tracks().values()))  # and the map
    assert results.report(str(tmp_path / "late.html")) == tmp_path / "late.html"


def test_a_handler_records_too(tmp_path: Path) -> None:
    """All that went through it."""
    with Handler(plus, workers=2, record=True) as handler:
        handler.extend(range(20))
        assert sorted(outcome.value for outcome in handler.drain()) == list(range(1, 21))
        assert "plus" in handler.report(tmp_path / "run.html").read_text()
    with Handler(plus, workers=2) as handler, pytest.raises(RuntimeError, match="record=True"):
        handler.report(tmp_path / "other.html")


def test_a_journal_whose_directory_is_no_more_harms_nothing(tmp_path: Path) -> None:
    """The map has its results, though there is nothing to remove."""
    where = tmp_path / "records"
    with parallel(plus, backend="inline").map([1], record=where) as results:
        shutil.rmtree(where)
        where.touch()
    assert results.counts.total == 0


@pytest.mark.parametrize(
    ("option", "error", "text"),
    [
        ({"record": ""}, TypeError, "record must be True, False or the path of a directory, not ''"),
        ({"record": 1}, TypeError, "record must be True, False or the path of a directory, not 1"),
        ({"trace": True}, TypeError, "trace must be the path of a file, or None; not True"),
        ({"trace": "."}, IsADirectoryError, r"trace must be the path of a file; '\.' is a directory"),
        (
            {"trace": "no/run.json"},
            FileNotFoundError,
            "there is no directory '.*/no' for the trace 'no/run.json'",
        ),
        ({"record": "file/below"}, OSError, "file/below"),
    ],
)
def test_bad_places_are_told_before_anything_runs(
    option: dict[str, Any], error: type[Exception], text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the option's name, or the path."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(error, match=text):
        parallel(plus, workers=2).map(range(3), **option)
    assert names(tmp_path) == ["file"]


def test_a_journal_survives_its_process(tmp_path: Path) -> None:
    """What was told half a second before it was killed is there."""
    script = tmp_path / "script.py"
    script.write_text(
        "import os, sys, time\nfrom manyhands import parallel\n"
        "def slow(x):\n    time.sleep(0.02)\n    return x\n"
        "for value in parallel(slow, workers=2).map(range(10**6), record=sys.argv[1]):\n"
        "    print(value, flush=True)\n"
    )
    process = subprocess.Popen(
        [sys.executable, script, tmp_path / "records"], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    for line in process.stdout:
        if int(line) >= 150:
            break
    process.kill()
    process.communicate()
    (recording,) = read(tmp_path / "records")
    assert not recording.is_over and recording.total == 10**6
    assert recording.by_status["value"] > 20

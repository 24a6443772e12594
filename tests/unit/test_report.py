"""The page, the trace and the command: well-formed, complete, self-contained, whatever texts are in them."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

import manyhands.cli.report
from manyhands.reporting.figures import figures
from manyhands.reporting.files import write_whole
from manyhands.reporting.journal import Writer
from manyhands.reporting.page import page, write_page
from manyhands.reporting.recording import Recording, Taker
from manyhands.reporting.sections import MAPS_MAX
from manyhands.reporting.spans import STATUSES
from manyhands.reporting.texts import percent, size, visible
from manyhands.reporting.texts import seconds as duration
from manyhands.reporting.timeline import STRETCHES_MAX, Timeline, ticks
from manyhands.reporting.trace import events, write_trace
from manyhands.reporting.view import OWN_ROWS_MAX, View

HOSTILE = [
    "</script><script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "'--><!--",
    "]]>&amp;<b>",
    "a\ud800b\0c\u202ed",
    "日本語 é 😀",
]
VOID = {"meta", "br"}


class Checker(HTMLParser):
    """Follows the tags of a page, and collects what it holds."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.scripts: list[str] = []
        self.styles: list[str] = []
        self.policy = ""
        self.text = ""
        self.headings: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        assert not [name for name in found if name.startswith("on") or name == "style"], "inline code"
        if "id" in found:
            self.ids.append(found["id"] or "")
        self.links += [value or "" for name, value in attrs if name in ("href", "src", "xlink:href")]
        if found.get("http-equiv") == "Content-Security-Policy":
            self.policy = found["content"] or ""
        if tag == "th":
            assert found.get("scope") in ("col", "row")
        if tag == "svg":
            assert found.get("role") == "img" or found.get("aria-hidden") == "true"
        if tag not in VOID:
            self.open.append(tag)
            if tag in ("script", "style"):
                (self.scripts if tag == "script" else self.styles).append("")
            if tag in ("h1", "h2", "h3"):
                self.headings.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """SVG's elements may be closed at once; what they hold is looked at as if they were open."""
        self.handle_starttag(tag, attrs)
        assert tag in VOID or self.open.pop() == tag

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.scripts[-1] += data
        elif self.open and self.open[-1] == "style":
            self.styles[-1] += data
        else:
            self.text += data


def checked(*recordings: Recording) -> Checker:
    """The page of these maps, which is well-formed."""
    text = "".join(page(View.of(recordings)))
    assert text.encode()
    checker = Checker()
    checker.feed(text)
    checker.close()
    assert not checker.open
    assert len(set(checker.ids)) == len(checker.ids)
    return checker


def whole(text: str = "plate", begun: float = 1e9, host: str = "a") -> Recording:
    """A recording with something of everything."""
    recording = Recording(f"mod.{text}", begun, 2, 9, host)
    fill(recording, text, host)
    return recording


def fill(recorder: Taker, text: str = "plate", host: str = "a") -> None:
    for number, status in enumerate(STATUSES):
        recorder.span(f"{host}:{number % 3 + 1}", 1.0 * number, 0.5, status=status, index=number, item=text)
    recorder.span(f"{host}:1", 7.0, 0.5, index=2, item=text, attempt=2)
    for number in range(20):
        recorder.span(f"{host}:2", 8.0 + number / 10, 0.05, index=10 + number, item=text)
    for number in (3, 4):
        recorder.failed(number, text, text, text, f"  File {text!r}\n{text}", 1, f"{host}:1")
    recorder.peak(f"{host}:1", 5_000_000)
    recorder.counts(22, 2, 1, 1)
    recorder.ended(12.0)


@pytest.mark.parametrize("text", HOSTILE)
def test_texts_of_others_are_only_shown(text: str) -> None:
    """Names, items, messages, tracebacks and hosts can't become anything else than text."""
    recording = whole(text, host=text)
    recording.span(text.replace(":", ""), 0.0, 1.0)  # a worker's name may be anything
    found = checked(recording)
    assert len(found.scripts) == 2
    assert text not in found.scripts[0] or "<" not in text
    assert visible(text) in found.text
    assert json.loads(found.scripts[0])["labels"]


def test_the_page_needs_nothing_and_allows_nothing() -> None:
    """Its policy lets in no more than the style and the script that are in it; nothing leads elsewhere."""
    found = checked(whole())
    assert found.links == []
    (style,) = found.styles
    script = found.scripts[1]

    def digest(text: str) -> str:
        return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

    rules = dict(rule.strip().split(" ", 1) for rule in found.policy.split(";"))
    assert rules == {
        "default-src": "'none'",
        "style-src": digest(style),
        "script-src": digest(script),
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    assert "url(" not in style
    assert "@import" not in style
    assert not re.search(r"fetch|XMLHttp|import\(|innerHTML", script)


def test_each_part_is_there_when_there_is_something_to_say() -> None:
    """A map of everything has all parts; one of which nothing was recorded has its header, and says so."""
    found = checked(whole(), whole(begun=1e9 + 5, host="b"))
    parts = ["timeline", "failures", "retries", "durations", "slowest", "memory", "maps"]
    assert [part for part in parts if part in found.ids] == parts
    assert found.headings[0] == "h1"
    assert found.headings.count("h1") == 1
    empty = checked(Recording("f", 0.0, 2))
    assert [part for part in parts if part in empty.ids] == ["timeline"]
    assert "No call was recorded" in empty.text
    assert "not over" in empty.text


def test_no_recording_is_refused() -> None:
    """A page of nothing is an error that says so."""
    with pytest.raises(ValueError, match="at least one recording"):
        View.of([])


def test_hosts_are_on_one_axis() -> None:
    """Maps of two hosts are placed by the times at which they began, each under its own host."""
    view = View.of([whole(begun=1e9 + 5, host="b"), whole(begun=1e9)])
    assert (view.begun, view.seconds) == (1e9, 17.0)
    assert [(host.name, host.workers) for host in view.hosts] == [("a", 3), ("b", 3)]
    assert view.hosts[1].rows[0].cells(1e-3, 20.0)[0].begin == 5.0
    assert view.outcomes == {"values": 44, "failures": 4, "discarded": 2, "elsewhere": 2}
    assert view.labels == {}, "whose item it is can't be told by its index"


def test_runs_that_are_apart_have_axes_of_their_own() -> None:
    """A pause of hours takes no room on an axis and is no wall time; a short one is in a run; the last are drawn."""
    runs = [whole(begun=1e9), whole(begun=1e9 + 30), whole("later", 1e9 + 7200)]
    view = View.of(runs)
    assert [len(stretch.recordings) for stretch in view.stretches()] == [2, 1]
    assert [stretch.seconds for stretch in view.stretches()] == [42.0, 12.0]
    assert (view.active, view.seconds) == (54.0, 7212.0)
    timeline = Timeline(view)
    assert timeline.lengths == [42.0] * 3 + [12.0] * 3
    assert timeline.html.count('class="stretch"') == 2
    many = Timeline(View.of([whole(begun=1e9 + 7200 * number) for number in range(STRETCHES_MAX + 3)]))
    assert (many.left_out, many.html.count('class="stretch"')) == (3, STRETCHES_MAX)


def test_very_many_maps_are_shown_in_little() -> None:
    """Of hundreds of maps the last are listed, and all are counted."""
    found = checked(*(whole(begun=1e9 + 100 * number) for number in range(MAPS_MAX + 1)))
    assert found.text.count("mod.plate") == MAPS_MAX + 2, "in the title, the heading and the list"
    assert f"The last {MAPS_MAX} of {MAPS_MAX + 1}." in found.text
    assert f"{22 * (MAPS_MAX + 1) + 4 * (MAPS_MAX + 1):,}" in found.text


def test_efficiency_is_busy_time_over_workers_and_wall_time() -> None:
    """Two workers of which one is busy half of the time are used to a quarter."""
    recording = Recording("f", 0.0, 2)
    recording.span("a:1", 0.0, 2.0, 4, 3.0)
    recording.ended(10.0)
    assert View.of([recording]).efficiency == 0.25
    assert figures([recording])["efficiency"] == 0.25


def test_a_hundred_thousand_tasks_are_shown_in_little() -> None:
    """However many tasks, workers and failures, the page is below two megabytes, and no cell is lost."""
    for workers in (1, 70, 3000):
        recording = Recording("f", 0.0, workers)
        for number in range(100_000 if workers == 70 else 20_000):
            status = STATUSES[number % 7 % 6]
            recording.span(
                f"a:{number % workers}", number * 0.5 / workers, 0.2, status=status, index=number, item="x" * 90
            )
            if number < 3000:
                text = f'  File "{"x" * 20_000}", line {number % 100}\n'
                recording.failed(number, "x" * 900, "E" * 50, "y" * 900, text, 1, "a:1")
        view = View.of([recording])
        assert len("".join(page(view)).encode()) < 2_000_000
        if workers <= 1000:
            cells = [cell for row in Timeline(view).cells for cell in row]
            assert sum(cell[4] if len(cell) > 4 else 1 for cell in cells) == sum(recording.by_status.values())


def test_calls_at_the_same_time_have_rows_of_their_own() -> None:
    """Where a worker runs calls at a time, as threads do, each row shows what does not overlap, as few as can be."""
    recording = Recording("f", 0.0, 3)
    for number in range(30):
        recording.span("a:7", number // 3 * 1.0 + number % 3 * 0.2, 0.99, index=number)
    (host,) = View.of([recording]).hosts
    assert host.workers == 1
    assert [row.pids for row in host.rows] == [["7"], ["7 (2)"], ["7 (3)"]]
    for row in host.rows:
        cells = row.cells(1e-3, 11.0)
        assert len(cells) == 10
        assert all(one.end <= other.begin for one, other in pairwise(cells))
    assert "several calls at a time" in checked(recording).text


def test_very_many_calls_at_the_same_time_are_shown_in_little() -> None:
    """Calls that overlap without end take no more room, in memory and on the page, than others."""
    recording = Recording("f", 0.0, 1000, spans_max=5000)
    for number in range(40_000):
        recording.span("a:7", number * 0.01, 10.0, index=number)
    assert len(recording.tracks()["a:7"]) <= 5002
    assert recording.by_status == {"value": 40_000}
    assert abs(recording.busy["a:7"] - 400_000) < 1e-3
    assert len("".join(page(View.of([recording]))).encode()) < 2_000_000


def test_workers_that_follow_one_another_share_rows() -> None:
    """Of very many workers there are as many rows as were there together, and no two spans of one overlap."""
    recording = Recording("f", 0.0, 2)
    for number in range(10 * OWN_ROWS_MAX):
        recording.span(f"a:{number + 1}", number // 2 * 1.0, 0.9, index=number)
    (host,) = View.of([recording]).hosts
    assert (host.workers, len(host.rows)) == (10 * OWN_ROWS_MAX, 2)
    for row in host.rows:
        cells = row.cells(1e-3, 1e3)
        assert all(one.end <= other.begin for one, other in pairwise(cells))
        assert row.calls == sum(cell.calls for cell in cells) == 5 * OWN_ROWS_MAX


@pytest.mark.parametrize("until", [1e-9, 0.003, 0.7, 1.0, 9.0, 59.0, 61.0, 4000.0, 90_000.0, 1e7, 1e15])
def test_ticks_are_round_and_few(until: float) -> None:
    """An axis of any length has a few ticks, from 0, at equal steps, none beyond its end."""
    found = ticks(until)
    assert found[0] == 0
    assert found[-1] <= until
    assert 2 <= len(found) <= 13 or until < 1e-8


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0 s"),
        (4.2e-7, "0.42 µs"),
        (0.00999996, "10.0 ms"),
        (0.9996, "1.00 s"),
        (59.96, "60.0 s"),
        (119.9, "120 s"),
        (120, "2 min 00 s"),
        (3599.9, "60 min 00 s"),
        (7200, "2 h 00 min"),
    ],
)
def test_durations_read_well(value: float, text: str) -> None:
    """Durations have three digits and the unit that fits."""
    assert duration(value) == text


def test_shares_and_sizes_read_well() -> None:
    """What is not quite all is not said to be; sizes have the unit that fits."""
    assert [percent(share) for share in (0, 0.5, 0.99999, 1, 1.5)] == [
        "0.0 %",
        "50.0 %",
        "99.9 %",
        "100 %",
        "150 %",
    ]
    assert [size(value) for value in (0, 1023, 1024, 2**20, 500 * 2**30)] == [
        "0 B",
        "1023 B",
        "1.0 KiB",
        "1.0 MiB",
        "500 GiB",
    ]


def test_a_trace_is_as_its_format_asks(tmp_path: Path) -> None:
    """The trace is JSON with metadata that names processes and threads, complete events inside them, and counters."""
    write_trace(tmp_path / "run.json", [whole(), whole("other", 1e9 + 5, "b")])
    trace = json.loads((tmp_path / "run.json").read_text())
    assert set(trace) == {"traceEvents", "displayTimeUnit", "otherData"}
    assert trace["displayTimeUnit"] in ("ms", "ns")
    named: dict[str, dict[tuple[int, int], str]] = {"process_name": {}, "thread_name": {}}
    for event in trace["traceEvents"]:
        assert type(event["pid"]) is type(event["tid"]) is int
        if event["ph"] == "M":
            named[event["name"]][event["pid"], event["tid"]] = event["args"]["name"]
        else:
            assert event["ph"] in ("X", "C")
            assert (event["pid"], event["tid"]) in named["thread_name"], "named before it is used"
            assert type(event["ts"]) is float
            assert event["ts"] >= 0
    assert sorted(named["process_name"].values()) == ["a", "b", "maps"]
    maps, complete = timed(trace)
    assert [(event["name"], event["ts"], event["dur"]) for event in maps] == [
        ("mod.plate", 0.0, 12e6),
        ("mod.other", 5e6, 12e6),
    ]
    assert {event["args"]["workers"] for event in maps} == {2}
    assert len({event["tid"] for event in maps}) == 2, "they overlap"
    assert all(event["pid"] == maps[0]["pid"] for event in maps)
    assert len(complete) == 2 * 27
    assert_one_by_one(maps + complete)
    assert all(event["dur"] > 0 and event["name"] and event["cat"] in STATUSES for event in complete)
    first = complete[0]
    assert first["args"] == {"index": 0, "status": "value", "attempt": 1, "item": "'plate'"}
    assert (first["ts"], first["dur"]) == (0.0, 500_000.0)
    (other,) = [place[0] for place, name in named["process_name"].items() if name == "b"]
    assert {event["ts"] for event in complete if event["pid"] == other and event["args"]["index"] == 0} == {5e6}
    memory = [event for event in trace["traceEvents"] if event["ph"] == "C"]
    assert {event["args"]["bytes"] for event in memory} == {5_000_000}
    assert [event["ts"] for event in memory if event["pid"] == other] == [5e6, 17e6]
    assert len(memory) == 4


def test_a_trace_takes_hostile_texts(tmp_path: Path) -> None:
    """Lone surrogates and NUL in names don't keep a trace from being UTF-8 JSON; and nothing stands as a surrogate."""
    write_trace(tmp_path / "run.json", [whole(text, host=text) for text in HOSTILE])
    text = (tmp_path / "run.json").read_bytes().decode("utf-8")
    assert json.loads(text)
    assert "😀" in text
    assert not re.search(r"\\u[dD][89a-fA-F]", text.replace("\\\\", ""))


def test_calls_at_the_same_time_are_on_threads_of_their_own(tmp_path: Path) -> None:
    """Perfetto takes those of one thread that overlap for calls within calls."""
    recording = Recording("mod.f", 1e9, 1, 5, "a")
    for number in range(5):
        recording.span("a:7", 0.1 * number, 0.25, index=number)
    recording.ended(1.0)
    write_trace(tmp_path / "run.json", [recording])
    trace = json.loads((tmp_path / "run.json").read_text())
    _, complete = timed(trace)
    assert_one_by_one(complete)
    names = [event["args"]["name"] for event in trace["traceEvents"] if event["name"] == "thread_name"]
    assert names == ["maps", "worker 7", "worker 7 (2)", "worker 7 (3)"]
    assert len({event["tid"] for event in complete}) == 3
    assert sorted(event["ts"] for event in complete) == [0, 1e5, 2e5, 3e5, 4e5]
    assert {event["dur"] for event in complete} == {250_000.0}


def test_maps_at_the_same_time_share_no_thread_of_a_worker(tmp_path: Path) -> None:
    """Unless their calls come one after the other: where many are one span, others may have run in between."""
    recordings = [Recording(f"mod.{name}", 1e9 + begun, 1, 2, "a") for begun, name in enumerate("fg")]
    for recording in recordings:
        recording.span("a:7", 0.0, 1.5, count=100, index=0)
        recording.span("a:7", 3.0, 0.5, index=100)
        recording.ended(4.0)
    write_trace(tmp_path / "run.json", recordings)
    _, complete = timed(json.loads((tmp_path / "run.json").read_text()))
    assert_one_by_one(complete)
    assert [event["tid"] == 7 for event in complete] == [True, True, False, False]
    assert sorted((event["name"], event["ts"]) for event in complete) == [
        ("mod.f", 0.0),
        ("mod.f", 3e6),
        ("mod.g", 1e6),
        ("mod.g", 4e6),
    ]


@given(st.lists(st.floats(1e-7, 1e3), min_size=1, max_size=60), st.booleans())
def test_what_follows_at_once_does_not_overlap(durations: list[float], through_journal: bool) -> None:
    """Whatever is rounded, also on its way through a journal; and all is on one thread."""
    recording = Recording("mod.f", 1e9, 1, len(durations), "a")
    begin = 0.0
    for number, seconds in enumerate(durations):
        digits = 9 if through_journal else 17
        recording.span("a:7", round(begin, digits), round(seconds, digits), index=number)
        begin += seconds
    recording.ended(begin)
    found = [event for event in events(View.of([recording])) if event.get("cat") == "value"]
    assert len({event["tid"] for event in found}) == 1
    assert_one_by_one(found)


def timed(trace: dict[str, Any]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The maps of a trace, and the spans of workers."""
    complete = [event for event in trace["traceEvents"] if event["ph"] == "X"]
    maps = [event for event in complete if event["cat"] == "map"]
    return maps, [event for event in complete if event["cat"] != "map"]


def assert_one_by_one(complete: list[dict[str, Any]]) -> None:
    """In each thread a span ends before the next one begins, to the nanosecond."""
    threads: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for event in complete:
        begin, took = round(event["ts"] * 1000), round(event["dur"] * 1000)
        assert took >= 0
        threads.setdefault((event["pid"], event["tid"]), []).append((begin, begin + took))
    for found in threads.values():
        assert all(one[1] <= other[0] for one, other in pairwise(sorted(found)))


def test_files_are_written_as_a_whole(tmp_path: Path) -> None:
    """When writing fails, what was there stays, and nothing else is left; the error names the file."""
    path = tmp_path / "run.html"
    write_page(path, [whole()])
    before = path.read_bytes()

    def pieces() -> Any:
        yield "half"
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_whole(path, pieces())
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(OSError, match="nowhere") as caught:
        write_page(tmp_path / "nowhere" / "run.html", [whole()])
    assert caught.value.filename == str(tmp_path / "nowhere" / "run.html")


def command(*arguments: object) -> Result:
    return CliRunner().invoke(manyhands.cli.report.report, [*map(str, arguments)])


@pytest.fixture
def journals(tmp_path: Path) -> Path:
    """A directory with the journals of two maps."""
    directory = tmp_path / "results"
    directory.mkdir()
    for begun, host in ((1e9, "a"), (1e9 + 5, "b")):
        writer = Writer(directory, "mod.f", begun, 2, 9, host)
        fill(writer, "plate", host)
    return directory


def test_the_command_writes_what_it_is_asked_for(journals: Path, tmp_path: Path, monkeypatch: Any) -> None:
    """A page here by default; a page, a trace and figures where they are asked for, and no page unasked."""
    monkeypatch.chdir(tmp_path)
    ran = command(journals)
    assert (ran.exit_code, ran.stdout) == (0, "wrote report.html\n")
    assert "mod.f" in (tmp_path / "report.html").read_text()
    (tmp_path / "report.html").unlink()
    ran = command(journals, "--json", "--trace", "run.json")
    assert ran.exit_code == 0
    told = json.loads(ran.stdout)
    assert told["items"] == {"values": 44, "failures": 4, "discarded": 2, "elsewhere": 2}
    assert len(told["maps"]) == 2
    assert json.loads((tmp_path / "run.json").read_text())["traceEvents"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["results", "run.json"]
    assert (
        command(journals, "-o", "run.html", "--trace", "run.json").stdout == "wrote run.html\nwrote run.json\n"
    )


def test_the_command_says_what_is_wrong(journals: Path, tmp_path: Path) -> None:
    """Without journals it says how to record them; a file that can't be written is named. Exit status 2."""
    empty = tmp_path / "empty"
    empty.mkdir()
    ran = command(empty)
    assert ran.exit_code == 2
    assert f"there are no journals in {str(empty)!r}" in ran.stderr
    assert f"record={str(empty)!r}" in ran.stderr
    assert "--recursive" in ran.stderr
    ran = command(journals, "-o", tmp_path / "nowhere" / "x.html")
    assert ran.exit_code == 2
    assert str(tmp_path / "nowhere" / "x.html") in ran.stderr
    assert command(tmp_path / "missing").exit_code == 2
    assert command(tmp_path, "--recursive", "--json").exit_code == 0

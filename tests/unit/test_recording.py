"""What a recording keeps of a map, against plain lists; merging, slowest items, failures."""

from __future__ import annotations

import random
import threading
import weakref
from collections import Counter
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import manyhands.reporting.recording as recording_module
from manyhands.reporting.labels import REPRS_MAX, place
from manyhands.reporting.recording import (
    ATTEMPTS_MAX,
    FAILURES_MAX,
    LABELS_MAX,
    SLOWEST_MAX,
    Recording,
)
from manyhands.reporting.spans import STATUSES, Span, bin_edge, bin_of, coarser, new_track, spans

seconds = st.floats(0, 1000, allow_subnormal=False)
events = st.fixed_dictionaries(
    {
        "worker": st.sampled_from(["a:1", "a:2", "b:1"]),
        "begin": seconds,
        "seconds": seconds,
        "count": st.integers(1, 5),
        "last": seconds,
        "status": st.sampled_from(STATUSES),
        "index": st.integers(-1, 100),
        "attempt": st.integers(1, 2 * ATTEMPTS_MAX),
    }
)


def close(one: float, other: float) -> bool:
    """Whether sums of the same numbers in two orders are the same."""
    return abs(one - other) <= 1e-6 * max(1.0, abs(other))


@given(st.lists(events, max_size=60), st.integers(4, 100), st.integers(1, 20))
def test_nothing_is_lost_by_merging(told: list[dict[str, Any]], spans_max: int, every: int) -> None:
    """Busy times, counts by attempt and status, and the histogram are those of a plain list, however few are kept."""
    recording = Recording("f", 0.0, 2, spans_max=spans_max)
    busy: Counter[str] = Counter()
    attempts: Counter[Any] = Counter()
    bins: Counter[int] = Counter()
    calls: Counter[str] = Counter()
    bad: Counter[str] = Counter()
    for number, event in enumerate(told):
        recording.span(**event)
        if number % every == 0:
            assert recording.seconds >= 0  # a look in between, which settles what there is
        worker, count = event["worker"], event["count"]
        busy[worker] += event["seconds"] + event["last"]
        attempts[min(event["attempt"], ATTEMPTS_MAX), event["status"]] += count
        if count > 1:
            bins[bin_of(event["seconds"] / (count - 1))] += count - 1
            bins[bin_of(event["last"])] += 1
        else:
            bins[bin_of(event["seconds"] + event["last"])] += 1
        calls[worker] += count
        bad[worker] += count * (event["status"] != "value")
    assert recording.attempts == attempts
    assert recording.histogram == bins
    assert all(close(seconds, busy[worker]) for worker, seconds in recording.busy.items())
    for worker, track in recording.tracks().items():
        assert sum(span.calls for span in track) == calls[worker]
        assert sum(span.bad for span in track) == bad[worker]
        assert [span.begin for span in track] == sorted(span.begin for span in track)
    last = max((event["begin"] + event["seconds"] + event["last"] for event in told), default=0.0)
    assert close(recording.seconds, last)


@given(
    st.lists(st.tuples(st.floats(0, 0.5), st.floats(0.001, 3)), min_size=1, max_size=200), st.integers(4, 50)
)
def test_it_is_bounded(steps: list[tuple[float, float]], spans_max: int) -> None:
    """Of calls that follow one another no more spans are kept than asked for, and a few for each worker."""
    recording = Recording("f", 0.0, 2, spans_max=spans_max)
    now = 0.0
    for number, (gap, took) in enumerate(steps):
        recording.span(f"a:{number % 2}", now + gap, took)
        now += gap + took
    tracks = recording.tracks()
    assert sum(map(len, tracks.values())) <= spans_max + 2 * len(tracks)


rows = st.lists(
    st.tuples(st.integers(0, 300), st.integers(0, 40), st.integers(1, 3), st.integers(0, 5)), max_size=30
)


@given(rows, st.integers(0, 100))
def test_coarser_keeps_what_is_longer_than_its_resolution(told: list[Any], resolution: int) -> None:
    """Only what fits in the resolution together becomes one, and nothing that would fit stays apart."""
    track = new_track()
    for number, (begin, took, calls, code) in enumerate(told):
        track.extend((begin, begin + took, took, calls, calls * (code > 0), code, number, 1))
    before, after = spans(track), spans(coarser(track, resolution))
    assert sum(span.busy for span in after) == sum(span.busy for span in before)
    assert sum(span.calls for span in after) == sum(span.calls for span in before)
    at = 0
    for span in after:
        group: list[Span] = []
        while sum(each.calls for each in group) < span.calls:
            group.append(before[at])
            at += 1
        assert (span.begin, span.end) == (group[0].begin, max(each.end for each in group))
        assert len(group) == 1 or span.end - span.begin <= resolution
        assert span.code == max(each.code for each in group)
        assert (span.first, span.bad) == (group[0].first, sum(each.bad for each in group))
    assert at == len(before)
    starts = [span.begin for span in after]
    for one, other in pairwise(after):
        following = next(each for each in before if each.begin == other.begin and each.first == other.first)
        assert max(one.end, following.end) - one.begin > resolution
    assert starts == sorted(starts)


@given(st.floats(1e-7, 1e9))
def test_a_duration_is_in_its_bin(duration: float) -> None:
    """A duration lies between the edges of its bin, give or take the last digit."""
    number = bin_of(duration)
    assert bin_edge(number) * (1 - 1e-9) <= duration <= bin_edge(number + 1) * (1 + 1e-9)


def test_no_time_at_all_has_a_bin() -> None:
    """Durations of 0, and below what a clock can tell, are in the lowest bin."""
    assert {bin_of(0.0), bin_of(-1.0), bin_of(1e-12)} == {bin_of(1e-7)} == {-70}


@given(st.lists(st.floats(0, 100), max_size=150), st.booleans())
def test_the_slowest_are_the_slowest(durations: list[float], as_runs: bool) -> None:
    """The longest durations are kept, slowest first, of runs those of their last items; with items and indexes."""
    recording = Recording("f", 0.0, 1)
    for number, took in enumerate(durations):
        if as_runs:
            items = range(3 * number, 3 * number + 3)
            recording.span("a:1", 1.0 * number, 0.5, 3, took, index=3 * number, items=items)
        else:
            recording.span("a:1", 1.0 * number, took, index=number, item=number)
    found = recording.slowest
    assert [slow.seconds for slow in found] == sorted(durations, reverse=True)[:SLOWEST_MAX]
    for slow in found:
        place_of = (slow.index - 2) // 3 if as_runs else slow.index
        assert durations[place_of] == slow.seconds
        assert slow.item == str(slow.index)
        assert slow.begin == place_of + (0.5 if as_runs else 0.0)


@pytest.mark.parametrize("seed", range(5))
def test_the_slowest_of_many_are_the_slowest(seed: int) -> None:
    """Of a thousand durations in any order the longest are kept."""
    durations = [number / 7 for number in range(1000)]
    random.Random(seed).shuffle(durations)
    recording = Recording("f", 0.0, 1)
    for took in durations:
        recording.span("a:1", 0.0, took)
    assert [slow.seconds for slow in recording.slowest] == sorted(durations, reverse=True)[:SLOWEST_MAX]


def test_failures_are_grouped_counted_and_bounded() -> None:
    """Failures of one type at one place are one group, whatever they say; all are counted, so many kept."""
    recording = Recording("f", 0.0, 1)
    for number in range(FAILURES_MAX + 500):
        at = number % 3
        text = f'Traceback (most recent call last):\n  File "x.py", line {at}\n    f()\nValueError: item {number}\n'
        recording.failed(number, number, "ValueError", f"item {number}", text, 1, "a:1")
    groups = list(recording.groups.values())
    assert len(groups) == 3
    assert sum(group.count for group in groups) == recording.failures == FAILURES_MAX + 500
    assert sum(len(group.kept) for group in groups) == FAILURES_MAX
    assert "item 0" in groups[0].traceback
    assert groups[1].kept[0].index == 1


def test_many_kinds_of_failures_are_bounded() -> None:
    """Where every failure has a place of its own, those after the first thousand share a group of their type."""
    recording = Recording("f", 0.0, 1)
    for number in range(5 * FAILURES_MAX):
        recording.failed(number, number, f"E{number}", "", f'  File "x.py", line {number}\n', 1, "a:1")
    assert len(recording.groups) <= 2 * FAILURES_MAX + 1
    assert sum(group.count for group in recording.groups.values()) == 5 * FAILURES_MAX


def test_the_place_of_a_traceback_leaves_out_what_it_says() -> None:
    """Two errors that differ in their message alone are at one place, also where that has many lines."""
    frame = 'Traceback (most recent call last):\n  File "x.py", line 3, in f\n    g()\n'
    assert place(f"{frame}ValueError: a\n") == place(f"{frame}ValueError: b\nc\n") != place("")


class Costly:
    """An item whose repr is counted."""

    asked = 0

    def __repr__(self) -> str:
        Costly.asked += 1
        return "costly"


def test_items_are_not_kept_and_seldom_asked() -> None:
    """An item is let go of at once, and no more than some are asked for their repr, however much slower each is."""
    recording = Recording("f", 0.0, 1)
    Costly.asked = 0
    item = Costly()
    gone = weakref.ref(item)
    recording.span("a:1", 0.0, 1.0, index=0, item=item)
    del item
    assert gone() is None
    for number in range(1, 3 * REPRS_MAX):
        recording.span("a:1", 1.0 * number, 1.0 + number, index=number, item=Costly())
    assert Costly.asked <= REPRS_MAX
    assert recording.slowest[0].item == "<Costly>"
    assert recording.slowest[0].index == 3 * REPRS_MAX - 1


def test_texts_of_the_first_items_are_kept() -> None:
    """The timeline can name the first items, and those alone."""
    recording = Recording("f", 0.0, 1)
    for number in range(LABELS_MAX + 10):
        recording.span(
            "a:1", 1.0 * number, 1.0 + number, index=number, item=f"item {number}"
        )  # each the slowest
    assert len(recording.labels) == LABELS_MAX
    assert recording.labels[7] == "'item 7'"


def test_workers_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of very many workers the later ones of a host are counted together."""
    monkeypatch.setattr(recording_module, "WORKERS_MAX", 3)
    recording = Recording("f", 0.0, 1)
    for number in range(9):
        recording.span(f"a:{number}", number * 1.0, 0.5)
    assert recording.busy == {"a:0": 0.5, "a:1": 0.5, "a:2": 0.5, "a:others": 3.0}


def test_who_looks_meanwhile_costs_nothing() -> None:
    """Another thread that looks all the time takes no span away."""
    recording = Recording("f", 0.0, 1)
    over = threading.Event()

    def look() -> None:
        while not over.is_set():
            recording.tracks()

    looker = threading.Thread(target=look)
    looker.start()
    for number in range(20_000):
        recording.span("a:1", number * 1.0, 0.5, index=number)
    over.set()
    looker.join()
    assert recording.by_status == {"value": 20_000}
    assert recording.busy == {"a:1": 10_000.0}


def test_outcomes_are_what_was_told_or_what_spans_say() -> None:
    """Until counts were told, they are taken from the spans; the end and the peaks are those told last and most."""
    recording = Recording("f", 5.0, 2, total=9, host="a")
    recording.span("a:1", 0.0, 1.0, 3, 0.5)
    recording.span("a:1", 2.0, 1.0, status="discarded")
    recording.failed(4, None, "ValueError", "", "", 1, "a:1")
    recording.peak("a:1", 7)
    recording.peak("a:1", 3)
    assert recording.outcomes == {"values": 3, "failures": 1, "discarded": 1, "elsewhere": 0}
    assert (recording.is_over, recording.seconds, recording.peaks) == (False, 3.0, {"a:1": 7})
    recording.counts(4, 1, 1, 3)
    recording.ended(9.0)
    assert recording.outcomes == {"values": 4, "failures": 1, "discarded": 1, "elsewhere": 3}
    assert (recording.is_over, recording.seconds) == (True, 9.0)

"""Overtime: a call is over its time when it was seen for that long, and only that call."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manyhands.controller.overtime import Overtime, Running, interval

CALLS = [Running(worker, ticket, position, limit) for worker, ticket, position, limit in [
    (0, 0, 0, 1.0), (0, 0, 1, 1.0), (0, 1, 0, 2.5), (1, 0, 0, 1.0), (1, 2, 0, 4.0),
]]  # fmt: skip


def test_a_call_is_told_when_its_time_is_over() -> None:
    """Not before; and again as long as it is seen."""
    overtime = Overtime()
    call = Running(0, 5, 7, 2.0)
    for now in [10.0, 10.5, 11.0, 11.5, 11.9]:
        assert overtime.sample([call], now) == []
    assert overtime.sample([call], 12.0) == [call]
    assert overtime.sample([call], 12.5) == [call]


def test_time_in_which_nobody_looked() -> None:
    """Of that a quarter of the limit counts, so what was stopped with all else has most of its time left."""
    overtime = Overtime()
    call, brief = Running(0, 5, 7, 2.0), Running(1, 6, 8, 1.0)
    assert overtime.sample([call, brief], 10.0) == []
    assert overtime.sample([call, brief], 3610.0) == []
    assert overtime.seconds(3610.0) == {5: 0.5, 6: 0.25}
    for now in [3610.25, 3610.5]:
        assert overtime.sample([call, brief], now) == []
    for now in [3610.75, 3611.0, 3611.25]:
        assert overtime.sample([call, brief], now) == [brief]
    assert overtime.sample([call, brief], 3611.5) == [call, brief]


def test_a_call_that_was_gone_begins_anew() -> None:
    """A call that is sent to the same worker once more has its whole time."""
    overtime = Overtime()
    call = Running(0, 5, 7, 2.0)
    overtime.sample([call], 10.0)
    overtime.sample([], 11.0)
    for now in [12.5, 13.0, 13.5, 14.0]:
        assert overtime.sample([call], now) == []
    assert overtime.sample([call], 14.5) == [call]


def test_the_seconds_of_what_runs() -> None:
    """Since it was seen first; what was gone at the last sample is not told."""
    overtime = Overtime()
    overtime.sample([Running(0, 5, 0, math.inf), Running(1, 6, 0, 1.0)], 10.0)
    assert overtime.sample([Running(0, 5, 0, math.inf), Running(1, 7, 0, math.inf)], 1e9) == []
    assert overtime.seconds(1e9 + 1) == {5: 1e9 + 1 - 10.0, 7: 1.0}


@pytest.mark.parametrize("other", [Running(1, 5, 7, 2.0), Running(0, 6, 7, 2.0), Running(0, 5, 8, 2.0)])
def test_calls_are_told_apart(other: Running) -> None:
    """By worker, ticket and position: the next one's time is its own."""
    overtime = Overtime()
    overtime.sample([Running(0, 5, 7, 2.0)], 10.0)
    for now in [12.0, 12.5, 13.0, 13.5]:
        assert overtime.sample([other], now) == []
    assert overtime.sample([other], 14.0) == [other]


def test_who_is_alone_to_blame() -> None:
    """Not a call whose mates, in the same worker, began with it or before it and got no further since."""
    overtime = Overtime()
    first, mate, elsewhere = Running(0, 0, 0, 2.0), Running(0, 0, 1, math.inf), Running(1, 0, 2, 2.0)
    overtime.sample([first, elsewhere], 10.0)
    assert overtime.is_alone_to_blame(first, 0.2)
    overtime.sample([first, elsewhere, mate], 10.2)
    assert not overtime.is_alone_to_blame(first, 0.2)
    assert not overtime.is_alone_to_blame(mate, 0.2)
    assert overtime.is_alone_to_blame(elsewhere, 0.2)
    later = Running(0, 0, 3, 2.0)
    overtime.sample([first, elsewhere, later], 10.5)
    assert overtime.is_alone_to_blame(first, 0.2)
    assert not overtime.is_alone_to_blame(later, 0.2)


@given(
    st.lists(st.tuples(st.sets(st.sampled_from(CALLS)), st.integers(0, 48).map(lambda n: n / 16)), max_size=20)
)
def test_samples(samples: list[tuple[set[Running], float]]) -> None:
    """Of what is seen, that is over its time which was in every sample since so long ago, without long gaps."""
    overtime = Overtime()
    now, past = 0.0, []
    for running, later in samples:
        now += later
        past.append((now, running))
        over = overtime.sample(iter(running), now)
        assert set(over) == {call for call in running if seen_for(past, call) >= call.limit}
        assert len(over) == len(set(over))


def seen_for(past: list[tuple[float, set[Running]]], call: Running) -> float:
    """Seconds through all of the last samples that have the call, each gap cut to a quarter of its limit."""
    total = 0.0
    for (before, running), (after, _) in reversed(list(itertools.pairwise(past))):
        if call not in running:
            break
        total += min(after - before, call.limit / 4)
    return total


@pytest.mark.parametrize(
    ("limits", "seconds"),
    [([], None), ([2.0], 0.1), ([60.0, 2.0, 5.0], 0.1), ([0.001], 0.01), ([0.0], 0.01), ([3600.0], 0.25)],
)
def test_the_shortest_limit_says_how_often_to_look(limits: Iterable[float], seconds: float | None) -> None:
    """A twentieth of it, but neither all the time nor hardly ever; without a limit, never."""
    assert interval(iter(limits)) == (None if seconds is None else pytest.approx(seconds))

"""The pace: chunks of short calls grow, and shrink at once when a call is long."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manyhands.controller.pace import (
    AHEAD_SECONDS,
    EXPECTED,
    GROWTH,
    LEAST_SECONDS,
    MOST,
    TARGET_SECONDS,
    Pace,
    Paces,
)

SECONDS = st.floats(0, 1000)
RUNS = st.lists(st.tuples(SECONDS, st.integers(1, 10_000)))


def test_short_calls_go_together() -> None:
    """After a slow start, calls of no length at all are sent in the largest chunks."""
    pace = Pace()
    assert pace.chunksize == 1
    pace.took(1.0)
    assert pace.chunksize == 1
    for _ in range(200):
        pace.took(0.0, pace.chunksize)
    assert pace.chunksize == MOST


def test_chunks_grow_step_by_step() -> None:
    """Each is at most eight times as large as the largest that was seen to be short."""
    pace = Pace()
    sizes = []
    for _ in range(15):
        sizes.append(pace.chunksize)
        pace.took(0.0, pace.chunksize)
    assert sizes == [min(GROWTH**n, MOST) for n in range(15)]


@given(RUNS, SECONDS, st.integers(1, 10_000))
def test_no_chunk_is_expected_to_be_long(earlier: list[tuple[float, int]], last: float, count: int) -> None:
    """A chunk of calls like the last ones takes no longer than twice the target, unless it is one call."""
    pace = Pace()
    for seconds, calls in [*earlier, (last, count)]:
        pace.took(seconds, calls)
    assert 1 <= pace.chunksize <= MOST
    assert pace.chunksize <= GROWTH * max(calls for _, calls in [*earlier, (last, count)])
    assert pace.chunksize == 1 or pace.chunksize * (last / count) <= 2 * TARGET_SECONDS * (1 + 1e-9)


@given(st.lists(st.tuples(SECONDS, st.integers(1, 100)), min_size=1))
def test_what_was_measured_is_between_the_extremes(runs: list[tuple[float, int]]) -> None:
    """What a call takes is a mean of what calls took, each run halfway from what was known."""
    pace = Pace()
    each = [seconds / calls for seconds, calls in runs]
    for seconds, calls in runs:
        pace.took(seconds, calls)
    assert min(each) <= pace.seconds <= max(each)
    if len(each) == 2:
        assert pace.seconds == pytest.approx((each[0] + each[1]) / 2)


def test_nothing_is_known_at_first() -> None:
    """Calls go one by one, and none ahead, until one was measured."""
    pace = Pace()
    assert (pace.seconds, pace.chunksize, pace.ahead) == (None, 1, False)


def test_long_calls_are_not_sent_ahead() -> None:
    """Only calls that are known to be short wait behind others; a chunk size of 1 says that none shall."""
    pace = Pace()
    pace.took(AHEAD_SECONDS)
    assert pace.ahead
    pace.took(2 * AHEAD_SECONDS)
    assert not pace.ahead
    single, several = Pace(1), Pace(2)
    single.took(0.0)
    several.took(0.0)
    assert several.ahead and not single.ahead


@given(SECONDS, RUNS)
def test_what_is_expected_counts_until_something_is_measured(
    seconds: float, runs: list[tuple[float, int]]
) -> None:
    """The first chunks are small, whatever is expected, and nothing is sent ahead; then all is as without."""
    pace, other = Pace(expected=seconds), Pace()
    assert pace.least >= 1 or seconds > LEAST_SECONDS
    assert pace.least <= pace.chunksize <= EXPECTED
    assert pace.chunksize == 1 or pace.chunksize * seconds <= TARGET_SECONDS * (1 + 1e-9)
    assert (pace.seconds, pace.ahead) == (None, False)
    pace.took(1e-6, 1)
    other.took(1e-6, 1)
    for took, calls in runs:
        pace.took(took, calls)
        other.took(took, calls)
    assert (pace.seconds, pace.chunksize, pace.least) == (other.seconds, other.chunksize, other.least)


@pytest.mark.parametrize("what", ["disappointed", "died"])
def test_what_is_expected_does_not_outlive_the_contrary(what: str) -> None:
    """Calls that were slow, or died, go one by one until one was measured."""
    pace = Pace(expected=0.0)
    assert (pace.chunksize, pace.least) == (EXPECTED, EXPECTED)
    getattr(pace, what)()
    assert (pace.chunksize, pace.least) == (1, 0)


def test_what_was_asked_for_comes_before_what_is_expected() -> None:
    """A fixed chunk size, or a limit on it."""
    assert Pace(3, expected=0.0).chunksize == 3
    assert Pace(most=4, expected=0.0).chunksize == 4


def test_the_next_map_of_a_function_is_told_what_the_last_one_measured() -> None:
    """Of each function for itself; where nothing was measured, what is known stays."""
    paces, measured = Paces(), Pace()
    measured.took(0.5)
    measured.size = 7
    paces.note(1, measured)
    paces.note(1, Pace())
    assert (paces.expected(1), paces.expected(2)) == ((0.5, 7), (None, None))


def test_of_many_functions_the_latest_are_known() -> None:
    """A program that makes functions for ever fills no memory with that."""
    paces, measured = Paces(), Pace()
    measured.took(0.5)
    works = list(range(1000))
    for work in works:
        paces.note(works[0], measured)
        paces.note(work, measured)
    known = [work for work in works if paces.expected(work) != (None, None)]
    assert known == [works[0], *works[-255:]]


def test_a_death_makes_chunks_small() -> None:
    """They grow again from one, while the calls are as short as they were."""
    pace = Pace()
    for _ in range(20):
        pace.took(0.0, pace.chunksize)
    pace.died()
    assert pace.chunksize == 1
    assert pace.seconds == 0.0
    pace.took(0.0, 1)
    assert pace.chunksize == GROWTH


def test_no_more_than_was_allowed() -> None:
    """A limit on the chunks is one on what a worker has in hand, too."""
    pace = Pace(most=4)
    for _ in range(20):
        pace.took(0.0, pace.chunksize)
    assert (pace.chunksize, pace.in_hand) == (4, 4)


@given(st.floats(1e-6, 1.0), st.floats(0.001, 0.1))
def test_another_target(each: float, target: float) -> None:
    """Chunks of calls that are waited for one by one are shorter, and only shorter calls are sent ahead."""
    pace = Pace(target=target)
    for _ in range(20):
        pace.took(each * pace.chunksize, pace.chunksize)
    assert pace.chunksize == 1 or pace.chunksize * pace.seconds <= target * (1 + 1e-9)
    assert pace.ahead == (pace.seconds <= min(AHEAD_SECONDS, 2 * target))


@given(SECONDS, st.integers(1, 10_000))
def test_what_is_in_hand(seconds: float, count: int) -> None:
    """A worker has a chunk in hand at least, and three only where one is shorter than wanted."""
    pace = Pace()
    pace.took(seconds, count)
    assert pace.chunksize <= pace.in_hand <= 3 * pace.chunksize
    assert pace.in_hand == pace.chunksize or pace.in_hand * pace.seconds <= TARGET_SECONDS * (1 + 1e-9)
    assert pace.least <= pace.chunksize and pace.least * pace.seconds <= LEAST_SECONDS * (1 + 1e-9)


@given(st.integers(1, 1000), RUNS)
def test_what_the_user_says_holds(fixed: int, runs: list[tuple[float, int]]) -> None:
    """A chunk size that was given does not change."""
    pace = Pace(fixed)
    for seconds, calls in runs:
        pace.took(seconds, calls)
        pace.died()
    assert pace.chunksize == fixed

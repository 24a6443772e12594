"""The pace: chunks of short calls grow, and shrink at once when a call is long."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from manyhands.controller.pace import MOST, TARGET_SECONDS, Pace

SECONDS = st.floats(0, 1000)


def test_short_calls_go_together() -> None:
    """After a slow start, calls of no length at all are sent in the largest chunks."""
    pace = Pace()
    assert pace.chunksize == 1
    pace.took(1.0)
    assert pace.chunksize == 1
    for _ in range(200):
        pace.took(0.0)
    assert pace.chunksize == MOST


@given(st.lists(SECONDS), SECONDS)
def test_no_chunk_is_expected_to_be_long(earlier: list[float], last: float) -> None:
    """A chunk of calls like the last one takes no longer than the target, unless it is one call."""
    pace = Pace()
    for seconds in [*earlier, last]:
        pace.took(seconds)
    assert 1 <= pace.chunksize <= MOST
    assert pace.chunksize == 1 or pace.chunksize * last <= TARGET_SECONDS


@given(st.integers(1, 1000), st.lists(SECONDS))
def test_what_the_user_says_holds(fixed: int, times: list[float]) -> None:
    """A chunk size that was given does not change."""
    pace = Pace(fixed)
    for seconds in times:
        pace.took(seconds)
    assert pace.chunksize == fixed

"""Schedules, as Hypothesis makes and shrinks them. What it tries first is the simplest: one quick item, one worker."""

from __future__ import annotations

from typing import Any, Final

from hypothesis import strategies as st
from schedule import ENDLESS, FAILURES, SUICIDES, Ask, Event, Map, Pause, Schedule, Step

TIMEOUT: Final = 500
"""Milliseconds; much longer than whatever ends by itself, and than a busy machine keeps a process waiting."""

CARGOES: Final = (0, 0, 0, 70_000, 1_500_000)
"""Bytes: none, what is just large enough for shared memory, and what is seen there rather than copied."""

Draw = Any  # what ``st.composite`` gives


def steps(endless: bool) -> st.SearchStrategy[tuple[Step, ...]]:
    """Items of a map; not too many that last, nor that end their workers, which takes long to mend."""
    fast = st.builds(Step, st.sampled_from(("quick", "boxed")), st.sampled_from((1, 2, 5, 13, 40, 150)))
    fails = st.builds(Step, st.sampled_from(FAILURES), st.sampled_from((1, 2, 5)), st.sampled_from((0, 0, 5)))
    large = st.builds(Step, st.just("big"), st.sampled_from((1, 2, 5)))
    slow = st.builds(
        Step,
        st.sampled_from(("slow", "busy", "hold")),
        st.sampled_from((1, 2, 3, 7, 20)),
        st.sampled_from((1, 4, 12)),
    )
    slower = st.builds(
        Step, st.sampled_from(("slow", "hold")), st.sampled_from((1, 2, 4)), st.sampled_from((30, 90))
    )
    lethal = st.builds(
        Step, st.sampled_from(sorted(SUICIDES)), st.sampled_from((1, 1, 2)), st.sampled_from((0, 0, 5, 40))
    )
    kinds = [fast, slow, fast, fails, large, slower, lethal]
    if endless:
        kinds.append(st.builds(Step, st.sampled_from(ENDLESS), st.sampled_from((1, 1, 3))))
    return st.lists(st.one_of(kinds), min_size=1, max_size=8).map(tuple)


@st.composite
def pooled_maps(draw: Draw) -> Map:
    """A map."""
    timeout = draw(st.sampled_from((None, TIMEOUT, TIMEOUT)))
    drawn = draw(steps(endless=timeout is not None))
    total = sum(step.times for step in drawn)
    pauses = st.builds(Pause, st.integers(0, total), st.sampled_from((10, 60, 250)))
    return Map(
        drawn,
        chunksize=draw(st.sampled_from(("auto", 1, 7))),
        ordered=draw(st.booleans()),
        buffersize=draw(st.sampled_from((None, None, 1, 3, 20))),
        source=draw(st.sampled_from(("list", "generator"))),
        take=draw(st.one_of(st.none(), st.none(), st.none(), st.integers(0, total))),
        timeout=timeout,
        attempts=draw(st.sampled_from((1, 1, 1, 2, 3))),
        cargo=draw(st.sampled_from(CARGOES)),
        pauses=tuple(draw(st.lists(pauses, max_size=2))),
    )


@st.composite
def submitted_calls(draw: Draw, own: bool) -> Map:
    """Single calls, some of them killed or cancelled; without a timeout only a ``Controller`` ends what is endless."""
    timeout = None if own and draw(st.booleans()) else TIMEOUT
    drawn = draw(steps(endless=True))
    total = sum(step.times for step in drawn)
    kinds = ("cancel", "kill") if own and timeout is None else ("cancel",)
    asks = st.builds(
        Ask, st.integers(0, total - 1), st.sampled_from(kinds), st.sampled_from((0, 0, 3, 20, 100))
    )
    return Map(
        drawn,
        submits=True,
        ordered=draw(st.booleans()),
        timeout=timeout,
        cargo=draw(st.sampled_from(CARGOES)),
        asks=tuple(draw(st.lists(asks, max_size=5))),
        calls_back=draw(st.booleans()),
    )


@st.composite
def schedules(draw: Draw) -> Schedule:
    """All of it."""
    own = draw(st.booleans())
    maps = st.one_of(pooled_maps(), pooled_maps(), submitted_calls(own))
    drawn = tuple(draw(st.lists(maps, min_size=1, max_size=4)))
    total = sum(len(one.items) for one in drawn)
    events = st.builds(
        Event,
        st.integers(1, total),
        st.sampled_from((0, 0, 1, 5, 30)),
        st.sampled_from(("stop", "kill", "kill")),
        st.integers(0, 3),
        st.booleans(),
        st.sampled_from((20, 120, 300)),
    )
    start_method = draw(st.sampled_from(("forkserver", "forkserver", "fork", "spawn")))
    fewest = max(1, total // (10 if start_method == "spawn" else 40))  # so that it takes seconds, not minutes
    return Schedule(
        drawn,
        events=tuple(draw(st.lists(events, max_size=6))),
        workers=draw(st.integers(1, 4)),
        threads=draw(st.sampled_from((1, 1, 2, 3))),
        start_method=start_method,
        max_tasks=draw(st.sampled_from((None, None, None, fewest, 5 * fewest))),
        own=own,
    )

"""Storms of handlers, as Hypothesis makes and shrinks them."""

from __future__ import annotations

from typing import Any, Final

from handler_schedule import LETHAL, RAISED, Budget, Flow, Plan, Storm
from hypothesis import strategies as st
from schedule import Event
from strategies import TIMEOUT, Draw

_GROUPS: Final = (
    ("Trouble",),
    ("Worse",),
    ("is_broken",),
    ("OSError",),
    ("InvalidResult",),
    ("InvalidResult", "Broken"),
    ("WorkerDied",),
    ("TaskTimeout", "ConnectionError"),
)
"""Names that may share a budget; of those with the same first name a flow has one."""

_ANSWERS: Final = (
    "retry", "retry", "retry other", "retry other", "retry later", "give up", "give up other", "replace", "raise",
    "nonsense",
)  # fmt: skip


def plans(lethal: bool, overtime: bool) -> st.SearchStrategy[tuple[Plan, ...]]:
    """The items of a flow; not too many that end their workers, which takes long to mend."""
    fails = ["invalid", *RAISED]
    answers = st.lists(st.sampled_from(_ANSWERS), max_size=6).map(tuple)
    refused = st.sampled_from((None, None, None, 1, 0, 1))
    ms = st.sampled_from((0, 0, 1, 4, 15, 40))
    some = st.lists(st.sampled_from(fails), min_size=1, max_size=7)
    kinds: list[st.SearchStrategy[Plan]] = [
        st.builds(Plan, ms=ms, times=st.sampled_from((1, 3, 10, 25))),
        *[_plans(some, answers, refused, ms, (1, 4, 7))] * 3,
        st.builds(Plan, refused=st.just(0), times=st.sampled_from((1, 4))),
    ]
    if lethal:
        ends = st.sampled_from([*fails, *LETHAL, *LETHAL, *LETHAL] + ["overtime"] * overtime)
        kinds.append(_plans(st.lists(ends, min_size=1, max_size=4), answers, refused, ms, (1, 2)))
    if overtime:
        late = st.sampled_from((("overtime",), ("overtime", "overtime"), ("offline", "overtime")))
        kinds.append(_plans(late, answers, refused, ms, (1,)))
    return st.lists(st.one_of(kinds), min_size=1, max_size=9).map(tuple)


def _plans(does: Any, answers: Any, refused: Any, ms: Any, times: tuple[int, ...]) -> st.SearchStrategy[Plan]:
    return st.builds(Plan, does.map(tuple), answers, refused, ms, st.sampled_from(times))


@st.composite
def budgets(draw: Draw) -> tuple[Budget, ...]:
    """The stacked ``@retry_on`` of a function; some have one for all other exceptions."""
    chosen = draw(st.lists(st.sampled_from(_GROUPS), max_size=7, unique_by=lambda names: names[0]))
    if draw(st.sampled_from((False, False, False, False, True))):
        chosen.append(("Exception",))
    return tuple(draw(_budget(names)) for names in chosen)


@st.composite
def _budget(draw: Draw, names: tuple[str, ...]) -> Budget:
    asks = draw(st.booleans())
    attempts = draw(st.sampled_from((2, 3, 3, 5, 1)))
    if asks and draw(st.booleans()):
        attempts = None
    return Budget(names, attempts, draw(st.sampled_from((0, 3, 12, 30))), asks)


@st.composite
def flows(draw: Draw, backend: str) -> Flow:
    """A handler or, now and then, maps and calls of the same function."""
    how = draw(st.sampled_from(("handler", "handler", "handler", "handler", "map", "submit")))
    real = backend == "processes"
    timeout = TIMEOUT if real and draw(st.booleans()) else None
    drawn = draw(plans(lethal=real, overtime=timeout is not None))
    total = sum(plan.times for plan in drawn)
    handled = how == "handler"
    stacked = draw(budgets())
    may_ask = handled and not any("Exception" in budget.names for budget in stacked)  # that leaves it nothing
    inline = backend == "inline"
    return Flow(
        drawn,
        how=how,
        invalid=draw(st.sampled_from(("discard", "raise", None))),
        checked_by=draw(st.sampled_from(("function", "handler"))) if handled else "function",
        budgets=stacked,
        own=draw(st.one_of(st.none(), _own())) if may_ask else None,
        producers=draw(st.sampled_from((1, 2, 4))) if handled else 1,
        gap=draw(st.sampled_from((0, 0, 1, 5))),
        consumers=draw(st.sampled_from((1, 1, 2))) if handled else 1,
        pause=draw(st.sampled_from((0, 0, 1, 5))),
        is_async=handled and draw(st.sampled_from((False, False, True))),
        ending=draw(st.sampled_from(("results", "results", "close", "drain", "cancel", "cancel", "kill")))
        if handled
        else "results",
        after=draw(st.sampled_from((1, min(4, total), total // 2, total, 0))),
        ordered=draw(st.booleans()),
        buffersize=None if inline else draw(st.sampled_from((None, None, 1, 4, 20))),
        chunksize=draw(st.sampled_from(("auto", "auto", 1, 5))),
        timeout=timeout,
    )


@st.composite
def _own(draw: Draw) -> Budget:
    """What a handler has itself."""
    return Budget((), draw(st.sampled_from((None, 2, 4))), draw(st.sampled_from((0, 3, 12, 30))), True)


@st.composite
def storms(draw: Draw) -> Storm:
    """All of it."""
    backend = draw(st.sampled_from(("processes", "processes", "processes", "processes", "threads", "inline")))
    drawn = tuple(draw(st.lists(flows(backend), min_size=1, max_size=3)))
    total = sum(len(flow.items) for flow in drawn)
    kills = st.builds(
        Event,
        st.integers(1, total),
        st.sampled_from((0, 0, 1, 5, 30)),
        st.just("kill"),
        st.integers(0, 3),
        st.booleans(),
    )
    return Storm(
        drawn,
        events=tuple(draw(st.lists(kills, max_size=4))) if backend == "processes" else (),
        workers=draw(st.integers(1, 3)),
        threads=draw(st.sampled_from((1, 1, 1, 3))),
        backend=backend,
        start_method=draw(st.sampled_from(("forkserver",) * 5 + ("spawn",))),
        own=draw(st.booleans()),
    )

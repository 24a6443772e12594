"""The repr of what users have in hand: it tells the state, is short, never raises, and uses nothing up."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import manyhands
from manyhands import (
    OUTPUT,
    Controller,
    Counts,
    Discarded,
    Elsewhere,
    Failure,
    GiveUp,
    Handler,
    Outcome,
    Replace,
    Retry,
    WorkerInfo,
    claimed_output,
    parallel,
    retry_on,
    validated,
)
from manyhands.outcome import Attempt, Done

LONG = list(range(100_000))


class Hostile:
    """Its repr raises."""

    def __repr__(self) -> str:
        raise ValueError("no repr")


class Counter:
    """Has a method."""

    @parallel
    def add(self, x: int) -> int:
        """Adds nothing."""
        return x


def halved(x: Any) -> Any:
    """Fails on what is odd."""
    if x % 2:
        raise ValueError(f"{x} is odd")
    return x // 2


def write(x: int, output: Path = OUTPUT) -> None:
    """Writes a number."""
    output.write_text(str(x))


task = parallel(workers=2)(halved)
failed = Failure(ValueError("odd"), 3, "item", "text", (Attempt("E", "e"), Attempt("E", "e")), "host:1")
PARTS = {
    "<parallel function halved>": task,
    "<claimed function write>": claimed_output("{x}.txt")(write),
    "<parallel claimed validated retried function write>": parallel(
        retry_on(OSError)(validated(arguments=lambda x: x > 0)(claimed_output("{x}.txt")(write)))
    ),
    "<claims of write: '{x}.txt'>": claimed_output("{x}.txt")(write).claims,
    "<@parallel(workers=2, ordered=False)>": parallel(workers=2, ordered=False),
    "<@parallel()>": parallel(),
    "<@claimed_output('{x}.txt', '{x}.log')>": claimed_output(("{x}.txt", "{x}.log")),
    "<@retry_on(OSError, attempts=5, wait=1)>": retry_on(OSError, attempts=5, wait=1),
    "<@validated(result=bool, invalid='raise')>": validated(result=bool, invalid="raise"),
    "<task: parallel(workers=2), retry_on(OSError, attempts=3)>": parallel(workers=2)(
        retry_on(OSError)(halved)
    ).task,
    "Failure(index=3, item='item', ValueError('odd'), attempt=2, worker='host:1')": failed,
    "Outcome(index=3, item='item', failure=ValueError('odd'))": Outcome(3, "item", failed),
    "Outcome(index=0, item=1, value=[0, 1, 2, 3, 4, 5, ...], worker='host:1')": Outcome(
        0, 1, Done(LONG), (), 0.5, "host:1"
    ),
    "Outcome(index=0, item=1, discarded='too small')": Outcome(0, 1, Discarded("too small", 0, 1)),
    "Outcome(index=0, item=1, elsewhere='1.txt')": Outcome(0, 1, Elsewhere("1.txt", 0, 1)),
    "Discarded(index=0, item=1, reason='too small')": Discarded("too small", 0, 1),
    "Elsewhere(index=0, item=1, path='1.txt')": Elsewhere("1.txt", 0, 1),
    "Counts(values=1, failures=0, discarded=0, elsewhere=0)": Counts(1),
    "Retry(arguments=SAME, wait=None)": Retry(),
    "GiveUp(error=None)": GiveUp(),
    "Replace([0, 1, 2, 3, 4, 5, ...])": Replace(LONG),
    "WorkerInfo(name='host:1', pid=1, number=0, thread=0)": WorkerInfo("host:1", 1, 0, 0),
    "OUTPUT": OUTPUT,
}


@pytest.mark.parametrize(("text", "value"), PARTS.items(), ids=PARTS)
def test_values(text: str, value: object) -> None:
    """They tell what they are, and what of them is not as by default."""
    assert repr(value) == text


def test_bound_methods() -> None:
    """They tell of what."""
    assert re.fullmatch(r"<parallel function Counter.add of <.*Counter object at .*>>", repr(Counter().add))


def test_results() -> None:
    """How many were taken, of how many, and whether it goes on; asking takes none."""
    results = task.map([0, 2, 4], backend="inline")
    for _ in range(3):
        assert repr(results) == "<Results of halved: 0 of 3 taken, running>"
    assert next(results) == 0 and repr(results) == "<Results of halved: 1 of 3 taken, running>"
    assert list(results) == [1, 2] and repr(results) == "<Results of halved: 3 of 3 taken, ended>"

    def numbers() -> Iterator[int]:
        yield 0

    with task.map(numbers(), backend="inline") as results:
        assert repr(results) == "<Results of halved: 0 of ? taken, running>"


@pytest.mark.parametrize("backend", [None, "threads", "inline"])
def test_futures(backend: str | None) -> None:
    """Which call, and what has become of it."""
    calls = task.options(backend=backend)
    future, other = calls.submit(4), calls.submit(x=3)
    assert re.fullmatch(r"<(pending|running|finished) call of halved\(4\)>", repr(future))
    assert future.result(60) == 2 and repr(future) == "<finished call of halved(4)>"
    assert isinstance(other.exception(60), ValueError) and repr(other) == "<failed call of halved(x=3)>"


def test_a_failed_call_is_not_looked_at_for_its_repr() -> None:
    """That it failed is known before it is asked for."""
    with Controller(1) as pool:
        future, large = pool.submit(halved, 3), pool.submit(len, LONG)
    assert repr(future) == "<failed call of halved(3)>" and repr(large) == "<finished call of len(<list>)>"
    assert str(future.exception()) == "3 is odd" and repr(future) == "<failed call of halved(3)>"
    assert large.result() == len(LONG)


def test_pools() -> None:
    """What waits, what the workers do, and whether it takes calls."""
    with Controller(2, start_method="fork") as pool:
        assert repr(pool) == "<Controller: open, 0 waiting; no workers of 2, fork>"
        pool.submit(halved, 2).result(60)
        assert re.fullmatch(r"<Controller: open, 0 waiting; 1 (busy|idle)(, 1 \w+)? of 2, fork>", repr(pool))
    assert repr(pool) == "<Controller: closed, 0 waiting; no workers of 2, fork>"


def test_handlers() -> None:
    """How many were added, wait and were taken; their results say whose they are."""
    with Handler(task, backend="inline") as handler:
        handler.add(2)
        assert repr(handler) == "<Handler of halved: 1 added, 1 pending, 0 taken, open>"
        assert repr(handler.results()) == f"<results of {handler!r}>"
        assert len(handler.drain()) == 1
    assert repr(handler) == "<Handler of halved: 1 added, 0 pending, 1 taken, closed>"


def test_what_has_no_repr_is_told_so() -> None:
    """A user's value whose repr raises spoils none of ours."""
    odd: Any = Hostile()
    for value in (
        Outcome(0, odd, Done(odd)),
        Failure(ValueError(odd), 0, odd),
        Discarded("why", 0, odd),
        Elsewhere("path", 0, odd),
        Replace(odd),
    ):
        assert "<Hostile" in repr(value)
    for value in (
        Failure(ValueError("x" * 10_000), 0, LONG),
        Outcome(0, LONG, Done(LONG)),
        Replace("x" * 10_000),
    ):
        assert len(repr(value)) < 300
    future: Any = task.options(backend="inline").submit(odd)
    assert repr(future) == "<failed call of halved(<Hostile>)>"
    future.exception()


def test_every_public_class_is_here() -> None:
    """A class with a repr of Python's own would tell its address only."""
    for name in manyhands.__all__:
        cls = getattr(manyhands, name)
        if isinstance(cls, type) and not issubclass(cls, BaseException):
            assert cls.__repr__ is not object.__repr__, name

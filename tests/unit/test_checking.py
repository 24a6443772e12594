"""Results that are checked in the parent, over a runner that says what it is told to."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manyhands.calls import Done, Failed, Later
from manyhands.errors import WorkerDied
from manyhands.handler.checking import checking
from manyhands.outcome import Answered, Cancelled, Died, Event, Returned


class Refusal(Exception):
    """What the check below raises."""


class Scripted:
    """A runner."""

    def __init__(self, events: list[Event]) -> None:
        self.told = events
        self.asked: list[Any] = []
        self.capacity = 7

    def events(self, timeout: float | None) -> list[Event]:
        self.asked.append(timeout)
        events, self.told = self.told, []
        return events

    def wake(self) -> None:
        self.asked.append("woken")


def check(value: int) -> int:
    """Keeps what is not negative, twice."""
    if value < 0:
        raise Refusal(value)
    return 2 * value


def failed(error: Exception) -> Failed:
    return Failed(error, "text", budget=1)


def flat(events: list[Event]) -> list[Any]:
    """What came of each ticket."""
    found: list[Any] = []
    for event in events:
        if isinstance(event, Returned):
            found += [(event.ticket + offset, value) for offset, value in enumerate(event.values)]
        elif isinstance(event, Answered) and isinstance(event.answer, Failed):
            found.append((event.ticket, repr(event.answer.error), event.answer.budget))
        else:
            found.append(event)
    return found


@given(st.lists(st.integers(-2, 5), min_size=1), st.floats(0, 10), st.floats(0, 10))
def test_a_run_falls_into_runs_and_failures(values: list[int], seconds: float, last: float) -> None:
    """Every value is checked once, in order; what is refused is answered by itself; no time is lost."""
    seconds = seconds if len(values) > 1 else 0.0
    events = checking(Scripted([Returned(10, values, seconds, last, "w")]), check, failed).events(1.5)
    expected: list[Any] = []
    for ticket, value in enumerate(values, 10):
        expected.append((ticket, 2 * value) if value >= 0 else (ticket, repr(Refusal(value)), 1))
    assert flat(events) == expected
    runs = [event for event in events if isinstance(event, Returned)]
    assert all(event.worker == "w" for event in events)
    assert all(run.values for run in runs)
    assert len(runs) <= 1 + sum(value < 0 for value in values)
    times = [run.seconds + run.last for run in runs]
    times += [event.seconds for event in events if isinstance(event, Answered)]
    assert sum(times) == pytest.approx(seconds + last)


def test_single_answers() -> None:
    """A value is checked; everything else passes as it is."""
    other: list[Event] = [
        Answered(2, Failed(KeyError("k"))),
        Answered(3, Later(None)),
        Died(4, WorkerDied("dead")),
        Cancelled(5),
    ]
    runner = Scripted([Answered(0, Done(1), 2.0, "w"), Answered(1, Done(-1), 3.0, "w"), *other])
    events = checking(runner, check, failed).events(None)
    assert events[0] == Answered(0, Done(2), 2.0, "w")
    assert flat(events[1:2]) == [(1, repr(Refusal(-1)), 1)]
    assert events[1].seconds == 3.0
    assert events[2:] == other
    assert runner.asked == [None]


def test_an_interrupted_check_loses_nothing() -> None:
    """What was not told is told by the next question, without asking the runner."""
    interrupted = iter([KeyboardInterrupt, KeyboardInterrupt])

    def interruptible(value: int) -> int:
        if value == 3 and (interrupt := next(interrupted, None)):
            raise interrupt
        return value

    runner = Scripted([Answered(0, Done(0)), Returned(1, [1, 2, 3], 0.0, 0.0, "w"), Answered(4, Done(3))])
    checked = checking(runner, interruptible, failed)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            checked.events(None)
    events = checked.events(None)
    assert events == [Answered(0, Done(0)), Returned(1, [1, 2, 3], 0.0, 0.0, "w"), Answered(4, Done(3))]
    assert runner.asked == [None]
    assert checked.events(0) == [] and runner.asked == [None, 0]


def test_all_else_is_the_runners() -> None:
    """Its sizes and what it is told."""
    runner = Scripted([])
    checked = checking(runner, check, failed)
    assert checked.capacity == 7
    checked.wake()
    assert runner.asked == ["woken"]

"""The runner of the calling thread: every submitted call is followed by one event."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from manyhands.calls import Call, Done
from manyhands.handler.runner import InlineRunner
from manyhands.outcome import Answered, Cancelled

actions = st.lists(st.sampled_from(["submit", "cancel", "kill", "events"]), max_size=30)


@given(actions, st.data())
def test_one_event_per_call(todo: list[str], data: st.DataObject) -> None:
    """In any order of requests, a call either runs, first come first served, or is told cancelled."""
    ran: list[int] = []

    def work(call: Call) -> Done[Any]:
        ran.append(call.args[0])
        return Done(call.args[0])

    runner = InlineRunner(work, name="here")
    events: list[Any] = []
    submitted = 0
    for action in [*todo, *["events"] * (len(todo) + 1)]:
        ticket = data.draw(st.integers(0, submitted)) if action in ("cancel", "kill") else submitted
        if action == "submit":
            runner.submit(ticket, Call((ticket,)))
            submitted += 1
            assert len(ran) == sum(isinstance(event, Answered) for event in events), "runs only when asked"
        elif action == "events":
            events += runner.events(0)
        else:
            getattr(runner, action)(ticket)
    assert Counter(event.ticket for event in events) == Counter(range(submitted))
    answered = [event for event in events if isinstance(event, Answered)]
    assert ran == sorted(ran) == [event.ticket for event in answered]
    assert all(event.answer == Done(event.ticket) and event.worker == "here" for event in answered)
    assert all(isinstance(event, Answered | Cancelled) for event in events)


def test_it_sleeps_only_when_idle() -> None:
    """A wait is slept when there is nothing to run, and not when there is."""
    slept: list[float] = []
    runner = InlineRunner(lambda call: Done(0), slept.append)
    assert runner.events(1.5) == []
    assert runner.events(0) == runner.events(None) == []
    runner.submit(0, Call())
    runner.events(2.5)
    assert slept == [1.5]
    runner.wake()


def test_closing_forgets_and_closes_the_work() -> None:
    """Nothing runs after the end, and the work is told of it if it wants to be."""

    class Work:
        closed = 0

        def __call__(self, call: Call) -> Done[Any]:
            raise AssertionError("it runs")

        def close(self) -> None:
            self.closed += 1

    work = Work()
    runner = InlineRunner(work)
    runner.submit(0, Call())
    runner.submit(1, Call())
    runner.cancel(0)
    runner.close()
    assert runner.events(0) == [] and work.closed == 1
    InlineRunner(lambda call: Done(0)).close(kill=True, wait=False)

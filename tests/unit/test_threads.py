"""The runner of threads: calls begin in order, so many at once, and each is followed by one event."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manyhands.calls import Call, Done, Failed
from manyhands.errors import RemoteError
from manyhands.handler.threads import ThreadRunner
from manyhands.outcome import Answered, Cancelled, Event
from tests.helpers import DEADLINE


class Work:
    """Calls that go as far as they are let.

    Attributes:
        begun: the arguments of those that have begun, in that order.
        most: how many ran at once.
        running: how many run.
        closes: how often it was closed.
    """

    def __init__(self) -> None:
        self.begun: list[int] = []
        self.most = 0
        self.running = 0
        self.closes = 0
        self._changed = threading.Condition()
        self._let_go = 0

    def __call__(self, call: Call) -> Done[int]:
        with self._changed:
            self.begun.append(call.args[0])
            self.running += 1
            self.most = max(self.most, self.running)
            self._changed.notify_all()
            assert self._changed.wait_for(lambda: self._let_go, DEADLINE)
            self._let_go -= 1
            self.running -= 1
        return Done(call.args[0] * 2)

    def close(self) -> None:
        assert not self.running
        self.closes += 1

    def wait_for(self, begun: int) -> None:
        """Returns when so many calls have begun."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.begun) >= begun, DEADLINE)

    def let_go(self, number: int) -> None:
        """Lets so many calls end."""
        with self._changed:
            self._let_go += number
            self._changed.notify_all()


def ours() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name.startswith("manyhands-thread-")}


def end(*threads: threading.Thread) -> None:
    for thread in threads:
        thread.join(DEADLINE)
        assert not thread.is_alive()


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    """What a test has started ends with its runners."""
    yield
    end(*ours())


def all_events(runner: ThreadRunner, number: int) -> list[Event]:
    """So many events, in the order in which they arrive."""
    events: list[Event] = []
    while len(events) < number:
        got = runner.events(DEADLINE)
        assert got, "nothing came"
        events += got
    assert len(events) == number
    return events


@settings(max_examples=50)
@given(
    todo=st.lists(st.sampled_from(["submit", "submit", "cancel", "kill", "events"]), max_size=30),
    threads=st.integers(1, 4),
    data=st.data(),
)
def test_one_event_per_call(todo: list[str], threads: int, data: st.DataObject) -> None:
    """In any order of requests, a call either runs or is told cancelled, and the latter only if it was asked for."""
    ran: list[int] = []

    def work(call: Call) -> Done[int]:
        ran.append(call.args[0])
        return Done(call.args[0])

    events: list[Any] = []
    submitted = 0
    dropped: set[int] = set()
    with closing(ThreadRunner(work, threads, "here")) as runner:
        for action in todo:
            if action == "submit":
                runner.submit(submitted, Call((submitted,)))
                submitted += 1
            elif action == "events":
                events += runner.events(0)
            else:
                ticket = data.draw(st.integers(0, submitted))
                dropped.add(ticket)
                getattr(runner, action)(ticket)
        events += all_events(runner, submitted - len(events))
    assert Counter(event.ticket for event in events) == Counter(range(submitted))
    answered = {event.ticket for event in events if isinstance(event, Answered)}
    assert Counter(ran) == Counter(answered)
    assert all(event.answer == Done(event.ticket) for event in events if event.ticket in answered)
    assert {event.ticket for event in events if isinstance(event, Cancelled)} <= dropped
    assert all(event.worker == "here" and event.seconds >= 0 for event in events if event.ticket in answered)


def test_so_many_run_at_once() -> None:
    """As many as there are threads, first come first served; a thread that has ended a call begins the next."""
    work = Work()
    runner = ThreadRunner(work, 3, "here")
    assert runner.capacity == 3 and not runner.batches
    assert ours() == set()
    for ticket in range(7):
        runner.submit(ticket, Call((ticket,)))
    work.wait_for(3)
    assert sorted(work.begun) == [0, 1, 2]
    assert runner.events(0) == []
    work.let_go(1)
    (first,) = all_events(runner, 1)
    assert isinstance(first, Answered) and first.ticket in {0, 1, 2} and first.answer == Done(first.ticket * 2)
    work.wait_for(4)
    assert work.begun[3] == 3
    work.let_go(6)
    all_events(runner, 6)
    assert work.most == 3 and len(ours()) == 3
    runner.close()


def test_what_has_begun_is_not_cancelled() -> None:
    """It goes on to its end; what waits is dropped at once, and never begins."""
    work = Work()
    runner = ThreadRunner(work, 1, "here")
    for ticket in range(3):
        runner.submit(ticket, Call((ticket,)))
    work.wait_for(1)
    runner.cancel(0)
    runner.kill(0)
    runner.cancel(1)
    runner.cancel(1)
    assert runner.events(0) == [Cancelled(1)]
    work.let_go(2)
    assert [event.ticket for event in all_events(runner, 2)] == [0, 2]
    assert work.begun == [0, 2]
    runner.close()


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_ends_of_programs_are_their_calls(error: type[BaseException]) -> None:
    """A call that exits or is interrupted fails, and its thread goes on."""

    def work(call: Call) -> Done[int]:
        if call.args[0] == 0:
            raise error("because")
        return Done(1)

    runner = ThreadRunner(work, 1, "here")
    runner.submit(0, Call((0,)))
    runner.submit(1, Call((1,)))
    first, second = all_events(runner, 2)
    assert isinstance(first, Answered) and isinstance(first.answer, Failed)
    assert isinstance(first.answer.error, RemoteError)
    assert str(first.answer.error) == f"{error.__name__}: because"
    assert "in work" in first.answer.traceback
    assert isinstance(second, Answered) and second.answer == Done(1)
    runner.close()


def test_a_wait_can_be_ended() -> None:
    """By its time, or by whoever wakes it, also before it began."""
    runner = ThreadRunner(Work(), 1, "here")
    assert runner.events(0.01) == []
    runner.wake()
    assert runner.events(None) == []
    assert runner.events(0) == []


def test_a_wake_loses_no_event() -> None:
    """What had arrived and what arrives then is told, now or by the next question."""
    runner = ThreadRunner(lambda call: Done(0), 1, "here")
    runner.submit(0, Call())
    end_of_first = all_events(runner, 1)
    runner.wake()
    runner.submit(1, Call())
    events: list[Event] = []
    while not events:
        events = runner.events(DEADLINE)
    assert [event.ticket for event in end_of_first + events] == [0, 1]
    runner.close()


def test_closing_forgets_what_waits() -> None:
    """What runs is finished; nothing else begins, and no thread stays."""
    work = Work()
    runner = ThreadRunner(work, 2, "here")
    for ticket in range(5):
        runner.submit(ticket, Call((ticket,)))
    work.wait_for(2)
    threads = ours()
    runner.close(kill=True, wait=False)
    work.let_go(5)
    end(*threads)
    assert len(threads) == 2 and sorted(work.begun) == [0, 1]


def test_idle_threads_have_ended_when_it_is_closed() -> None:
    """Who waits for the close finds none of them; without threads there is nothing to wait for."""
    runner = ThreadRunner(lambda call: Done(0), 3, "here")
    runner.close()
    runner = ThreadRunner(lambda call: Done(0), 3, "here")
    for ticket in range(9):
        runner.submit(ticket, Call())
    all_events(runner, 9)
    runner.close(wait=True)
    assert ours() == set()


@pytest.mark.parametrize("waits", [True, False])
def test_the_work_is_closed_once(waits: bool) -> None:
    """When the last call has ended, or at once if none runs."""
    work = Work()
    ThreadRunner(work, 2, "here").close()
    assert work.closes == 1
    work = Work()
    runner = ThreadRunner(work, 2, "here")
    runner.submit(0, Call((0,)))
    runner.submit(1, Call((1,)))
    work.wait_for(2)
    threads = ours()
    runner.close(wait=waits)
    assert work.closes == 0
    work.let_go(2)
    end(*threads)
    assert work.closes == 1
    for _ in range(50):
        work = Work()
        runner = ThreadRunner(work, 2, "here")
        runner.submit(0, Call((0,)))
        work.let_go(1)
        all_events(runner, 1)
        threads = ours()
        runner.close(wait=waits)
        end(*threads)
        assert work.closes == 1

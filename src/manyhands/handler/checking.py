"""A runner whose results are checked in the parent, as they arrive.

What is refused is an attempt that failed, as if its worker had said so.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from manyhands.calls import Done, Failed
from manyhands.handler.runner import Runner
from manyhands.outcome import Answered, Event, Returned


def checking(runner: Runner, check: Callable[[Any], Any], failed: Callable[[Exception], Failed]) -> Runner:
    """The runner, with ``check`` for each value that it reports.

    Args:
        runner: runs the calls; closed with what is returned.
        check: called in the thread that asks for events, with one value after the other; it returns the value to be
            reported, or raises.
        failed: what it raised, as an answer.
    """
    return cast("Runner", _CheckingRunner(runner, check, failed))


class _CheckingRunner:
    """All but ``events`` is the runner's own."""

    def __init__(
        self, runner: Runner, check: Callable[[Any], Any], failed: Callable[[Exception], Failed]
    ) -> None:
        self._runner = runner
        self._check = check
        self._failed = failed
        # A check may be interrupted: what is here then is not lost.
        self._arrived: list[Event] = []
        self._checked: list[Event] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._runner, name)

    def events(self, timeout: float | None) -> list[Event]:
        """As the runner's; waits no longer than that while it checks nothing."""
        if not self._arrived:
            self._arrived = self._runner.events(timeout)[::-1]
        while self._arrived:
            checked = self._look(self._arrived[-1])
            self._arrived.pop()
            self._checked += checked
        events, self._checked = self._checked, []
        return events

    def _look(self, event: Event) -> list[Event]:
        if isinstance(event, Answered) and isinstance(event.answer, Done):
            try:
                return [event._replace(answer=Done(self._check(event.answer.value)))]
            except Exception as error:
                return [event._replace(answer=self._failed(error))]
        if isinstance(event, Returned):
            return self._look_at_run(event)
        return [event]

    def _look_at_run(self, run: Returned) -> list[Event]:
        """The run, in the runs and answers that it falls into: what was refused is answered by itself."""
        events: list[Event] = []
        check, begin, end = self._check, run.ticket, run.ticket + len(run.values)
        each = run.seconds / max(
            1, len(run.values) - 1
        )  # all but the last are taken to have had the same share
        kept: list[Any] = []

        def ended(ticket: int) -> float:
            return run.at if ticket == end - 1 else run.at - run.last - each * (end - 2 - ticket)

        for ticket, value in enumerate(run.values, begin):
            try:
                kept.append(check(value))
            except Exception as error:
                seconds = run.last if ticket == end - 1 else each
                events += _run(kept, ticket, each, each, run.worker, ended(ticket - 1))
                events.append(Answered(ticket, self._failed(error), seconds, run.worker, ended(ticket)))
                kept = []
        return [*events, *_run(kept, end, each, run.last, run.worker, run.at)]


def _run(values: list[Any], end: int, each: float, last: float, worker: str, at: float) -> list[Event]:
    """The run of these values, which ends before that ticket, if there are any."""
    count = len(values)
    return [Returned(end - count, values, each * (count - 1), last, worker, at)] if values else []

"""What is counted of a map, when it is shown, and to whom."""

from __future__ import annotations

import io
import logging
import math
import sys
import threading
from collections.abc import Mapping
from typing import Any

import pytest
from tqdm import tqdm

from manyhands import Progress
from manyhands.calls import Done, Failed, Later
from manyhands.handler.progress import Meter, is_shown, meter_for
from manyhands.outcome import Answered, Cancelled, Discarded, Elsewhere, Failure, Outcome, Returned
from manyhands.workers.place import task
from tests.screen import Terminal


class Shown:
    """A display, and a clock, that tests look at."""

    def __init__(self) -> None:
        self.now = 100.0
        self.progress: list[Progress] = []
        self.workers: list[list[tuple[str, int]]] = []
        self.closed = 0

    def show(self, progress: Progress, workers: Mapping[str, int]) -> None:
        self.progress.append(progress)
        self.workers.append(list(workers.items()))

    def close(self) -> None:
        self.closed += 1

    def meter(self, total: int | None = 10, *, lasts: bool = False) -> Meter:
        return Meter(self, 0.1, total, len, lambda: self.now, lasts, by_worker=True)


def outcome(result: Any) -> Outcome[Any]:
    return Outcome(0, "item", result)


def failure() -> Failure:
    return Failure(ValueError(), 0, "item")


def test_what_is_counted() -> None:
    """Every item that has ended, once, by what it came to; and what happens to the others."""
    shown = Shown()
    meter = shown.meter(20)
    meter.happened(Returned(0, [1, 2, 3], 0.0, 0.0, "a"))
    meter.happened(Answered(3, Done(1), 0.0, "b"))
    meter.ended(outcome(Done(1)))
    meter.happened(Answered(4, Failed(ValueError()), 0.0, "a"))
    meter.retried(4)
    meter.happened(Answered(4, Failed(ValueError()), 0.0, "b"))
    meter.ended(outcome(failure()))
    meter.happened(Answered(5, Later("memo"), 0.0, "c"))
    meter.away(1)
    meter.happened(Cancelled(5))
    meter.ended(outcome(Discarded("why", 0, "item")))
    meter.ended(outcome(Elsewhere("path", 0, "item")))
    meter.ended(outcome(Done(1, computed=False)))
    meter.found(4)
    shown.now += 2.0
    meter.away(2)
    assert shown.progress == [
        Progress(20),
        Progress(20, 4, 1, 1, 6, claimed=2, retries=1, seconds=2.0),
    ]
    assert shown.workers == [[], [("a", 4), ("b", 2)]]


def test_when_it_is_shown() -> None:
    """At once, then every so often where something is new, and at the end; a second is the most while it waits."""
    shown = Shown()
    meter = shown.meter()
    assert meter.tick() == 1.0 and len(shown.progress) == 1
    meter.found(1)
    assert len(shown.progress) == 1
    assert math.isclose(meter.tick(), 0.1) and len(shown.progress) == 1
    shown.now += 0.11
    assert meter.tick() == 1.0 and shown.progress[-1].done == 1
    shown.now += 0.5
    assert math.isclose(meter.tick(), 0.5) and len(shown.progress) == 2
    shown.now += 0.6
    assert meter.tick() == 1.0 and shown.progress[-1].seconds == shown.now - 100 and len(shown.progress) == 3
    meter.found(1)
    meter.close()
    meter.close()
    assert (shown.progress[-1].done, shown.progress[-1].ended) == (2, True)
    assert [progress.ended for progress in shown.progress] == [False] * 3 + [True]
    assert shown.closed == 1


def test_one_for_several_maps() -> None:
    """It goes on when one of them has ended."""
    shown = Shown()
    meter = shown.meter(lasts=True)
    meter.close()
    meter.found(1)
    assert not shown.closed
    meter.finish()
    assert shown.closed == 1 and shown.progress[-1] == Progress(10, elsewhere=1, ended=True)


def test_rate_and_time_left() -> None:
    """Of what ends here, and of what is left then; None where there is nothing to go by."""
    progress = Progress(100, values=10, failures=6, discarded=4, elsewhere=30, seconds=10.0)
    assert (progress.done, progress.rate, progress.left) == (50, 2.0, 25.0)
    assert Progress(100).rate == 0 and Progress(100).left is None
    assert Progress(100, elsewhere=5, seconds=1.0).left is None
    assert Progress(None, values=5, seconds=1.0).left is None
    assert Progress(5, elsewhere=5).left == 0.0
    assert Progress(3, values=5, seconds=1.0).left == 0.0


# -- who is told ----------------------------------------------------------------------------------------------


def told(progress: Progress) -> None: ...


@pytest.mark.parametrize(
    ("progress", "variable", "terminal", "expected"),
    [
        (False, "1", True, False),
        (True, "", True, True),
        (True, "", False, False),
        ("", "", True, True),
        ("text", "", False, False),
        ("text", "1", False, True),
        (True, "0", True, False),
        (tqdm, "", False, True),
        (tqdm, "0", True, False),
        (tqdm, "1", False, True),
        (told, "0", False, True),
        (told, "", False, True),
    ],
)
def test_when_something_is_shown(
    monkeypatch: pytest.MonkeyPatch, progress: Any, variable: str, terminal: bool, expected: bool
) -> None:
    """Bars where they are seen, or asked for; those of a class always; ``MANYHANDS_PROGRESS`` says what of bars."""
    monkeypatch.setenv("MANYHANDS_PROGRESS", variable)
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    with Terminal() as screen:
        monkeypatch.setattr(sys, "stderr", screen.file if terminal else io.StringIO())
        assert is_shown(progress) is expected
        with task():
            assert not is_shown(progress)
        monkeypatch.undo()


def test_a_wrong_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is named, with what would be right."""
    monkeypatch.setenv("MANYHANDS_PROGRESS", "yes")
    with pytest.raises(ValueError, match=r"MANYHANDS_PROGRESS must be 1 .*, 0 .* or empty, not 'yes'"):
        is_shown(True)
    assert is_shown(told) and not is_shown(False)


def test_a_function_that_raises(caplog: pytest.LogCaptureFixture) -> None:
    """It is logged, with its traceback, and is not called again."""
    calls = []

    def bad(progress: Progress) -> None:
        calls.append(progress)
        raise LookupError("of mine")

    with caplog.at_level(logging.ERROR):
        meter = meter_for(bad, "label", 3)
        assert meter is not None
        meter.close()
    assert calls == [Progress(3)]
    (record,) = caplog.records
    assert "bad" in record.message and record.exc_info is not None
    assert isinstance(record.exc_info[1], LookupError)


def test_an_interrupt_in_a_function() -> None:
    """It goes through."""

    def interrupted(progress: Progress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        meter_for(interrupted, "label", 3)


def test_a_class_that_raises(caplog: pytest.LogCaptureFixture) -> None:
    """It is logged, from wherever it raises, and the bar is gone for others."""

    class Bad(tqdm):  # type: ignore[type-arg]
        def __init__(self, **options: Any) -> None:
            super().__init__(file=io.StringIO(), **options)

        def update(self, n: float | None = 1) -> bool | None:
            raise LookupError("of mine")

    meter = meter_for(Bad, "label", 3)
    assert meter is not None
    assert len(caplog.records) == 1 and "can't be drawn" in caplog.records[0].message
    meter.close()
    assert len(caplog.records) == 1
    assert not any(isinstance(bar, Bad) for bar in tqdm._instances)
    assert meter_for(told, "label", 3) is not None


def test_an_interrupt_while_a_bar_is_drawn() -> None:
    """It goes through, and no bar of another thread waits for the one that was drawn."""

    class Interrupted(tqdm):  # type: ignore[type-arg]
        def __init__(self, **options: Any) -> None:
            super().__init__(mininterval=0, miniters=1, **options)

        def display(self, msg: str | None = None, pos: int | None = None) -> None:
            if self.n:
                raise KeyboardInterrupt

    meter = meter_for(Interrupted, "label", 3)
    assert meter is not None
    with pytest.raises(KeyboardInterrupt):
        meter.happened(Returned(0, [1], 0.0, 0.0, ""))
        meter.finish()
    lock, free = meter._display._bars._make.get_lock(), []
    thread = threading.Thread(target=lambda: free.append(lock.acquire(blocking=False)))
    thread.start()
    thread.join()
    assert free == [True]
    meter._display._bars.drop()


def test_files_get_little(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bar that was asked for is drawn now and then where nobody sees how it changes."""
    monkeypatch.setenv("MANYHANDS_PROGRESS", "1")
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    file = io.StringIO()
    monkeypatch.setattr(sys, "stderr", file)
    now = [0.0]
    meter = meter_for("label", "", 100, clock=lambda: now[0])
    assert meter is not None
    for _ in range(100):
        now[0] += 0.5
        meter.found(1)
    assert 5 <= file.getvalue().count("\r") <= 8
    meter.close()
    assert "100/100" in file.getvalue()

"""KeyboardInterrupt at any line of the code that runs in the caller's thread: nothing breaks, nothing hangs."""

from __future__ import annotations

import linecache
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, Self

import pytest

import manyhands.controller
from manyhands import Controller, parallel
from tests.contract import tasks
from tests.helpers import descendants, until

_ROOM = Path(manyhands.controller.__file__).parent
FILES = {
    str(_ROOM / f"{name}.py")
    for name in ("reader", "dispatcher", "session", "ledger", "queues", "hands", "limits", "futures")
}


PUMP = {str(_ROOM.parent / "handler" / "pump.py"), str(_ROOM / "session.py")}


class Alarm(Exception):
    """What a handler of a signal may raise instead."""


class Interrupt:
    """While it is entered, raises KeyboardInterrupt in this thread at the n-th line of these files.

    Lines that begin with ``with`` are left out: Python passes them a second time as the block ends, and a true
    interrupt never comes between its end and the release of what it holds.
    """

    def __init__(
        self, number: int, kind: type[BaseException] = KeyboardInterrupt, files: set[str] = FILES
    ) -> None:
        self.lines = 0
        self._number = number
        self._kind = kind
        self._files = files
        self.at = ""

    def __enter__(self) -> Self:
        self._before = sys.gettrace()
        sys.settrace(self._call)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(self._before)

    def _call(self, frame: FrameType, event: str, argument: object) -> Callable[..., Any] | None:
        return self._line if frame.f_code.co_filename in self._files else None

    def _line(self, frame: FrameType, event: str, argument: object) -> Callable[..., Any] | None:
        if event == "line" and not text_of(frame).startswith("with "):
            self.lines += 1
            if self.lines == self._number:
                self.at = f"{frame.f_code.co_qualname}, line {frame.f_lineno}"
                sys.settrace(None)
                raise self._kind
        return self._line


def text_of(frame: FrameType) -> str:
    """The line that a frame is at."""
    return linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip()


NEVER = 1 << 60


def mapped(pool: Controller) -> None:
    """Starts a map and takes its results: short calls, sent in chunks and one by one."""
    assert list(tasks.double.map(range(40), backend=pool)) == [2 * x for x in range(40)]
    with tasks.double.map(iter(range(6)), backend=pool, chunksize=1) as results:
        assert list(results) == [2 * x for x in range(6)]


def drawn(pool: Controller) -> None:
    """Takes items from a generator that may change them."""
    with parallel(list).map(([x] for x in range(20)), backend=pool) as results:
        assert list(results) == [[x] for x in range(20)]


def failing(pool: Controller) -> None:
    """Errors in a map, which end it early."""
    with tasks.reciprocal.map([1, 2, 0, 4], backend=pool) as results, pytest.raises(ZeroDivisionError):
        list(results)


def closed(pool: Controller) -> None:
    """A map that is left early."""
    with tasks.double.map(iter(range(100)), backend=pool) as results:
        assert next(results) == 0


def submitted(pool: Controller) -> None:
    """Submits calls, and waits for them."""
    futures = [pool.submit(pow, 2, n) for n in range(4)]
    assert [future.result() for future in futures] == [1, 2, 4, 8]
    assert tasks.double.options(backend=pool).submit(4).result() == 8


@pytest.fixture
def pool() -> Iterator[Controller]:
    """A pool that is gone afterwards, with all its processes."""
    list(tasks.double.map(range(2), workers=2))  # so that what all pools share is there
    before = set(descendants(os.getpid()))
    with Controller(2) as pool:
        yield pool
    until(lambda: set(descendants(os.getpid())) <= before, "the pool's processes end")


@pytest.fixture
def ignored(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What Python itself swallows: an interrupt that hits a finaliser, while another thing is let go."""
    found: list[str] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda told: found.append(told.exc_type.__name__))
    return found


@pytest.mark.parametrize(("action", "least"), [(mapped, 60), (failing, 25), (closed, 25), (submitted, 40)])
def test_interrupts_at_every_line(
    pool: Controller, ignored: list[str], action: Callable[[Controller], None], least: int
) -> None:
    """Wherever it comes it is raised, or comes too late; then the pool's next maps and calls are right."""
    with Interrupt(NEVER) as whole:
        action(pool)
    step = max(1, whole.lines // least)
    for number in range(1, whole.lines, step):
        interrupt = Interrupt(number)
        try:
            with interrupt:
                action(pool)
        except KeyboardInterrupt:
            pass
        else:
            assert not interrupt.at or ignored == ["KeyboardInterrupt"], f"swallowed at {interrupt.at}"
        ignored.clear()
        where = f"after an interrupt at {interrupt.at}"
        assert list(tasks.double.map(range(30), backend=pool)) == [2 * x for x in range(30)], where
        assert pool.submit(pow, 2, 5).result(60) == 32, where


def test_alarms_at_every_line(pool: Controller, ignored: list[str]) -> None:
    """An ordinary exception that comes between any two lines is raised too, or does no harm; nothing waits for ever."""
    with Interrupt(NEVER, files=PUMP) as whole:
        drawn(pool)
    step = max(1, whole.lines // 200)
    swallowed = []
    for number in range(1, whole.lines, step):
        alarm = Interrupt(number, Alarm, PUMP)
        try:
            with alarm:
                drawn(pool)
        except Alarm:
            pass
        else:
            swallowed += [alarm.at] if alarm.at and not ignored else []
        ignored.clear()
        assert list(tasks.double.map(range(30), backend=pool)) == [2 * x for x in range(30)], alarm.at
    assert swallowed == []


def test_interrupts_at_every_line_of_the_first_map() -> None:
    """So it is in a pool that was just opened, whose workers are only starting."""
    list(tasks.double.map(range(2), workers=2))
    before = set(descendants(os.getpid()))
    for number in range(1, 400, 37):
        with Controller(2) as pool:
            interrupt = Interrupt(number)
            try:
                with interrupt:
                    mapped(pool)
            except KeyboardInterrupt:
                pass
            where = f"after an interrupt at {interrupt.at}"
            assert list(tasks.double.map(range(30), backend=pool)) == [2 * x for x in range(30)], where
    until(lambda: set(descendants(os.getpid())) <= before, "the pools' processes end")

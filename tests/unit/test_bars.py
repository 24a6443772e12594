"""Bars in a terminal: each in its line, what stays and what goes; and where there is none."""

from __future__ import annotations

import io
import os
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tqdm import tqdm

from manyhands.handler import bars
from manyhands.handler.bars import Bars, are_seen, bar_class, write_above
from manyhands.outcome import Progress
from tests.screen import Screen, Terminal


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    """To be attached."""
    with Terminal(columns=90, rows=12) as terminal:
        yield terminal


def elsewhere(step: Callable[[], Any]) -> Any:
    """What the step returns, in a thread of its own."""
    results = []
    thread = threading.Thread(target=lambda: results.append(step()))
    thread.start()
    thread.join()
    return results[0]


def shown(display: Bars, **counts: Any) -> None:
    """Shows so many."""
    display.show(Progress(10, seconds=1.0, **counts), {})


def test_a_bar_stays(terminal: Terminal) -> None:
    """Where its map has ended, with what it came to behind it."""
    terminal.attach()
    bar = Bars("some", "item", 10)
    shown(bar, values=3)
    shown(bar, values=6, failures=2, retries=4)
    bar.close()
    (line,) = terminal.close()
    assert line.startswith("some:  80%|") and "8/10" in line
    assert line.endswith("failed=2, retried=4]") and len(line) <= 90


def test_marks(terminal: Terminal) -> None:
    """What was done here is told as soon as others take part."""
    terminal.attach()
    bar = Bars("some", "item", None)
    marks = []
    bar._bar.set_postfix = lambda told, refresh: marks.append(told)
    shown(bar, values=1, discarded=1)
    shown(bar, values=2, elsewhere=3, claimed=1)
    shown(bar, values=2, elsewhere=4)
    bar.close()
    assert marks == [
        {"discarded": 1},
        {"here": 2, "elsewhere": 3, "claimed": 1},
        {"here": 2, "elsewhere": 4},
    ]


def test_what_others_did_is_no_speed(terminal: Terminal) -> None:
    """The rate is of what ends here."""
    terminal.attach()
    bar = Bars("some", "item", 10)
    shown(bar, elsewhere=8)
    assert (bar._bar.n, bar._bar.format_dict["initial"]) == (8, 8)
    assert not bar._bar._ema_dn()
    shown(bar, elsewhere=8, values=2)
    assert (bar._bar.n, bar._bar.format_dict["initial"]) == (10, 8)
    bar.close()


def test_nested_bars_go(terminal: Terminal) -> None:
    """A map in a loop over another one leaves nothing, and the outer bar is in its line."""
    terminal.attach()
    outer = Bars("outer", "item", 3)
    for number in range(1, 4):
        inner = Bars("inner", "item", 10)
        shown(inner, values=10)
        inner.close()
        outer.show(Progress(3, values=number), {})
    outer.close()
    assert [line.partition(":")[0] for line in terminal.close()] == ["outer"]


def test_a_nested_bar_that_outlives_the_outer_one(terminal: Terminal) -> None:
    """It takes its line, and goes in the end."""
    terminal.attach()
    outer, inner = Bars("outer", "item", 3), Bars("inner", "item", 10)
    outer.close()
    assert inner._bar.pos == 0
    shown(inner, values=9)
    inner.close()
    assert [line.partition(":")[0] for line in terminal.close()] == ["outer"]


@pytest.mark.parametrize("order", ["abc", "acb", "bac", "bca", "cab", "cba"])
def test_bars_of_several_threads(terminal: Terminal, order: str) -> None:
    """All stay, whichever ends first, each once, in the order of their ends; those that go on move up."""
    terminal.attach()
    made = {name: elsewhere(lambda name=name: Bars(name, "item", 10)) for name in "abc"}
    for number, name in enumerate(order):
        shown(made[name], values=number + 1)
        made[name].close()
        for place, other in enumerate(sorted(order[number + 1 :])):
            shown(made[other], values=1)
            assert made[other]._bar.pos == place
    lines = terminal.close()
    assert [line[0] for line in lines] == list(order)
    assert [line.split("/")[0][-1] for line in lines] == ["1", "2", "3"]


def test_a_loop_of_the_users_own(terminal: Terminal) -> None:
    """A map in a loop with a bar of tqdm's is nested in it; a bar with a place of its own keeps it."""
    terminal.attach()
    fixed = tqdm(total=1, desc="fixed", position=2, file=terminal.file, leave=False, ncols=50)
    for _ in tqdm(range(1), desc="loop", file=terminal.file, ncols=50):
        bars_there = [Bars("inner", "item", 10) for _ in range(3)]
        assert [display._bar.pos for display in bars_there] == [1, 3, 4]
        bars_there[0].close()
        assert [display._bar.pos for display in bars_there[1:]] == [1, 3]
        for display in bars_there[1:]:
            display.close()
        assert fixed.pos == -2
        fixed.close()
    assert [line.partition(":")[0] for line in terminal.close()] == ["loop"]


def test_lines_above(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    """They stand above all bars, which stay whole, in their order."""
    terminal.attach()
    monkeypatch.setattr(sys, "stdout", terminal.file)
    outer = Bars("outer", "item", 10)
    write_above("first\n", sys.stderr)
    inner = Bars("inner", "item", 10)
    shown(inner, values=5)
    write_above("second\nthird, longer than any bar: " + "x" * 64 + "\n", sys.stdout)
    seen = Screen(90)
    terminal.file.flush()
    shown(outer, values=1)
    inner.close()
    outer.close()
    write_above("last\n", sys.stdout)
    lines = terminal.close()
    assert lines[:3] == ["first", "second", "third, longer than any bar: " + "x" * 62]
    assert lines[3] == "x" * 2
    assert [line.partition(":")[0] for line in lines[4:]] == ["outer", "last"]
    assert seen.lines == []


def test_lines_without_bars() -> None:
    """They are written as they are, and so are those to other files while there are bars."""
    with Terminal() as terminal:
        write_above("here\n", terminal.file)
        assert terminal.close() == ["here"]
    file = io.StringIO()
    write_above("there\n", file)
    assert file.getvalue() == "there\n"


def test_labels_of_several_lines(terminal: Terminal) -> None:
    """A label is in one line."""
    terminal.attach()
    bar = Bars("two\nlines\r\n ", "item", 10)
    bar.close()
    (line,) = terminal.close()
    assert line.startswith("two lines:   0%|")


@pytest.mark.parametrize("columns", [2, 9, 25, 40])
def test_narrow_terminals(columns: int) -> None:
    """No bar goes on in the next line."""
    with Terminal(columns=columns) as terminal:
        terminal.attach()
        outer, inner = Bars("outer ä 漢", "item", 10), Bars("inner", "item", 10)
        for number in range(3):
            shown(inner, values=number, failures=2)
            shown(outer, values=number)
        inner.close()
        outer.close()
        assert len(terminal.close()) <= 1


def test_terminals_without_a_size() -> None:
    """They are taken for usual ones."""
    with Terminal(columns=0, rows=0) as terminal:
        terminal.attach()
        terminal.screen.columns = 80
        bar = Bars("some", "item", 10)
        shown(bar, values=5)
        bar.close()
        (line,) = terminal.close()
    assert line.startswith("some:  50%|") and 70 < len(line) <= 80


def test_rows_of_workers(terminal: Terminal) -> None:
    """A line for each, while the map runs; of too many, the longest unheard of give way."""
    terminal.attach()
    bar = Bars("some", "item", 100, rows=2)
    bar.show(Progress(100, values=3, seconds=1.0), {"a": 1, "b": 2})
    assert [(row.desc, row.n) for row in bar._rows.bars] == [("  a", 1), ("  b", 2)]
    bar.show(Progress(100, values=5, seconds=2.0), {"a": 1, "c": 1})
    assert [(row.desc, row.n, row.pos) for row in bar._rows.bars] == [("  a", 2, 1), ("  c", 1, 2)]
    bar.show(Progress(100, values=9, seconds=2.0), {"x": 1, "y": 1, "z": 1, "a": 1})
    assert [(row.desc, row.n) for row in bar._rows.bars] == [("  a", 3), ("  z", 1)]
    bar.close()
    assert [line.partition(":")[0] for line in terminal.close()] == ["some"]


def test_the_rate_of_a_worker(terminal: Terminal) -> None:
    """It goes by the time since it may have begun, though it is heard of later."""
    terminal.attach()
    bar = Bars("some", "item", 100, rows=2)
    bar.show(Progress(100, values=3, seconds=1.0), {"a": 1})
    (row,) = bar._rows.bars
    assert row.start_t == bar._bar.start_t
    bar.show(Progress(100, values=9, seconds=1.0), {"b": 1})
    assert bar._rows.bars[1].start_t > row.start_t
    bar.close()


def test_where_the_cursor_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a file or a text cell, one bar at a time is drawn, and no cursor is moved."""
    file = io.StringIO()
    monkeypatch.setattr(sys, "stderr", file)
    outer, inner = Bars("outer", "item", 10), Bars("inner", "item", 10)
    shown(inner, values=5)
    shown(outer, values=5)
    inner.close()
    outer.close()
    text = file.getvalue()
    assert "\x1b" not in text and text.count("\n") == 1
    assert "inner" not in text


def test_who_sees_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has a terminal, or a notebook; not a file, nor nothing, nor IPython in no kernel."""
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    with Terminal() as terminal:
        terminal.attach()
        assert are_seen()
    for file in (io.StringIO(), terminal.file, None):
        monkeypatch.setattr(sys, "stderr", file)
        assert not are_seen()

    class IPython:
        shell: Any = None

        @classmethod
        def get_ipython(cls) -> Any:
            return cls.shell

    monkeypatch.setitem(sys.modules, "IPython", IPython)
    assert not are_seen()
    IPython.shell = type("TerminalInteractiveShell", (), {})()
    assert not are_seen()
    IPython.shell.kernel = "a kernel"
    assert are_seen()


def test_one_class_for_all_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads that need it first at the same time get the same one: its lock keeps their bars apart."""
    lined, makers = bars._lined, 0

    def slowly(base: Any) -> Any:
        nonlocal makers
        makers += 1
        for _ in range(200):
            os.sched_yield()
        return lined(base)

    bars._bar_class.cache_clear()
    monkeypatch.setattr(bars, "_lined", slowly)
    made: list[Any] = []
    barrier = threading.Barrier(4)

    def make() -> None:
        barrier.wait()
        made.append(bar_class())

    threads = [threading.Thread(target=make) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 4 and len(set(made)) == makers == 1


def test_a_class_of_the_users(terminal: Terminal) -> None:
    """It is drawn as often as it says, with what a bar needs, and goes the same way."""
    terminal.attach()

    class Mine(tqdm):  # type: ignore[type-arg]
        def __init__(self, *args: Any, **options: Any) -> None:
            told.append(options)
            super().__init__(*args, ncols=40, **options)

    told: list[dict[str, Any]] = []
    bar = Bars("mine", "row", 10, Mine)
    assert isinstance(bar._bar, Mine)
    assert told == [{"total": 10, "desc": "mine", "unit": "row"}]
    shown(bar, values=10)
    bar.close()
    (line,) = terminal.close()
    assert line.startswith("mine: 100%|") and len(line) <= 40


def test_a_class_like_tqdms() -> None:
    """Any with its methods does."""
    calls: list[Any] = []

    class Like:
        n = 0

        def __init__(self, **options: Any) -> None:
            calls.append(options)

        def update(self, more: int) -> None:
            calls.append(more)
            self.n += more

        def set_postfix(self, marks: Any, refresh: bool = True) -> None:
            calls.append(marks)

        def close(self) -> None:
            calls.append("closed")

    bar = Bars("like", "item", 10, Like, rows=1)
    bar.show(Progress(10, values=1, failures=2), {"host:1": 3})
    bar.close()
    assert calls == [
        {"total": 10, "desc": "like", "unit": "item"},
        {"failed": 2},
        3,
        {"desc": "  host:1", "unit": "item", "leave": False},
        3,
        "closed",
        "closed",
    ]

"""What commands print is made by pure functions: durations, rows that are kept, rates, groups of messages."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest

from manyhands.claims.record import Fail
from manyhands.claims.states import OutputState
from manyhands.claims.survey import Survey
from manyhands.cli.failures import EXAMPLES, MESSAGES_MAX, OTHERS, Group, grouped, shape
from manyhands.cli.tables import Rows, aligned, duration, number, printable
from manyhands.cli.watch import LOOKS, Pace, is_over, pause, per_time


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "?"),
        (0.0, "0 s"),
        (59.9, "59 s"),
        (60, "1 min"),
        (200, "3 min 20 s"),
        (3600, "1 h"),
        (7500, "2 h 5 min"),
        (86400, "1 d"),
        (350000, "4 d 1 h"),
    ],
)
def test_durations(seconds: float | None, text: str) -> None:
    """Two units at most, and whole ones."""
    assert duration(seconds) == text


def test_numbers() -> None:
    """One is not many, and thousands are told apart."""
    assert [number(count, "file") for count in (0, 1, 2000)] == ["0 files", "1 file", "2,000 files"]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("ä b", "ä b"),
        ("a\nb", r"a\nb"),
        ("\x1b[31m", r"\x1b[31m"),
        ("\udcff", r"\udcff"),
        ("\u202e", r"\u202e"),
    ],
)
def test_harmful_characters(text: str, shown: str) -> None:
    """What a terminal would obey, or can't be encoded, is shown as what it is."""
    assert printable(text) == shown


def test_rows_that_are_kept() -> None:
    """Of however many rows the first ones in order are there, and the others are counted."""
    values = list(range(1000))
    random.Random(1).shuffle(values)
    rows: Rows[int] = Rows(lambda value: -value, 5)
    for value in values:
        rows.add(value)
        assert len(rows._kept) <= 20
    assert (list(rows), rows.hidden, rows.count) == ([999, 998, 997, 996, 995], 995, 1000)
    everything: Rows[int] = Rows(int, None)
    for value in values:
        everything.add(value)
    assert (list(everything), everything.hidden) == (sorted(values), 0)


def test_aligned_lines() -> None:
    """Columns stand below each other, nothing is cut, and no line ends with blanks."""
    assert list(aligned([["a", "b"], ["long" * 30, ""], ["c", "d"]])) == [
        f"{'a':<120}  b",
        "long" * 30,
        f"{'c':<120}  d",
    ]


# -- rates ----------------------------------------------------------------------------------------------------


def test_a_rate_needs_two_looks() -> None:
    """After one there is none, and no time left; then what was done in between counts, not what was there."""
    pace = Pace()
    pace.add(100.0, 5000)
    assert pace.rate is None and pace.time_left(10) is None
    pace.add(102.0, 5010)
    assert pace.rate == 5.0 and pace.time_left(10) == 2.0


def test_nothing_done_means_no_time_left() -> None:
    """A rate of nothing tells no time, nor do outputs that were removed."""
    pace = Pace()
    pace.add(0.0, 10)
    pace.add(1.0, 7)
    assert pace.rate == 0.0 and pace.time_left(5) is None


def test_the_window_moves() -> None:
    """What was long ago does not count, but some looks always do."""
    pace = Pace(window=10.0)
    for second in range(100):
        pace.add(float(second), second * (100 if second < 50 else 1))
    assert len(pace._looks) == 11 and pace.rate == 1.0
    slow = Pace(window=10.0)
    for look in range(100):
        slow.add(100.0 * look, look)
    assert len(slow._looks) == LOOKS and slow.rate == 0.01


@pytest.mark.parametrize(
    ("rate", "text"),
    [(1234.0, "1.23e+03/s"), (4.0, "4/s"), (0.5, "30/min"), (0.01, "36/h"), (0.0, "nothing is being finished")],
)
def test_rates_as_people_read_them(rate: float, text: str) -> None:
    """In the unit in which there is at least one."""
    assert per_time(rate) == text


@pytest.mark.parametrize(
    ("done", "states", "total", "until_idle", "over"),
    [
        (5, {}, None, False, False),
        (5, {}, 5, False, True),
        (4, {}, 5, False, False),
        (3, {"failed": 1, "discarded": 1}, 5, False, True),
        (3, {"waiting": 2}, 5, False, False),
        (5, {"running": 1}, 5, False, False),
        (5, {}, None, True, True),
        (5, {"running": 1}, None, True, False),
        (5, {"waiting": 1}, None, True, False),
        (4, {"stale": 1}, 5, True, True),
    ],
)
def test_when_a_watch_is_over(
    done: int, states: dict[str, int], total: int | None, until_idle: bool, over: bool
) -> None:
    """When all are settled and nobody runs; or, if asked for, when nothing runs or waits, however much is left."""
    survey = Survey(Path("out"), done=done, counts=Counter(states))
    assert is_over(survey, total, until_idle=until_idle) is over


@pytest.mark.parametrize(("interval", "took", "seconds"), [(2.0, 0.1, 2.0), (2.0, 0.5, 2.0), (2.0, 3.0, 12.0)])
def test_large_directories_are_looked_at_less_often(interval: float, took: float, seconds: float) -> None:
    """Looks are as far apart as was asked for, and take no more than a fifth of the time."""
    assert pause(interval, took) == seconds


# -- groups ---------------------------------------------------------------------------------------------------


def failed(name: str, kind: str, message: str) -> OutputState:
    return OutputState("out", name, "failed", failure=Fail("a" * 24, kind, message))


@pytest.mark.parametrize(
    "line",
    [
        "cannot read 'tile 7.png'",
        'cannot read "b"',
        "cannot read /data/x.png",
        "cannot read 12.5",
    ],
)
def test_messages_that_differ_in_items_have_one_shape(line: str) -> None:
    """Numbers, paths and what is quoted are left out."""
    assert shape(line) == "cannot read …"


def test_groups() -> None:
    """By type, the most frequent first; a message that is always the same is told word for word."""
    groups = grouped(
        iter(
            [failed(f"{n}", "ValueError", f"no good: {n}") for n in range(5)]
            + [failed("x", "my.Error", "disk 7 is full"), failed("y", "my.Error", "disk 7 is full")]
        )
    )
    told = [(group.type_name, group.count, [each.line for each in group.messages.values()]) for group in groups]
    assert told == [
        ("ValueError", 5, ["ValueError: no good: …"]),
        ("my.Error", 2, ["my.Error: disk 7 is full"]),
    ]
    assert [each.name for each in groups[0].messages["ValueError: no good: …"].examples] == list("012")[
        :EXAMPLES
    ]


def test_messages_that_are_all_different_take_no_room() -> None:
    """Beyond some thousands they are counted together."""
    group = Group("E")
    for at in range(MESSAGES_MAX + 10):
        word = "".join(chr(ord("a") + int(digit)) for digit in str(at))
        group.add(failed("x", "E", word))
    assert len(group.messages) == MESSAGES_MAX + 1 and group.messages[OTHERS].count == 10

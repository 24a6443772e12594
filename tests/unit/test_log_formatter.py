"""Log records as JSON: the keys of python-json-logger, and values of every kind."""

from __future__ import annotations

import datetime as dt
import json
import logging
import sys
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from manyhands.logs import JSONFormatter


def record(message: object = "text", *args: object, **extra: object) -> logging.LogRecord:
    logger = logging.getLogger("of.the.test")
    return logger.makeRecord("of.the.test", logging.INFO, __file__, 1, message, args, None, extra=extra or None)


def formatted(value: logging.LogRecord, **options: Any) -> dict[str, Any]:
    text = JSONFormatter(**options).format(value)
    assert text.isascii() and "\n" not in text
    return json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def test_the_keys() -> None:
    """First the fields in order, then extras in order, then exc_info and stack_info as texts."""
    try:
        raise ValueError("of the test")
    except ValueError:
        made = record("tile %d", 3, tile=3, image="a.tif", _private=1)
        made.exc_info = sys.exc_info()
    made.stack_info = "Stack (most recent call last):\n  here"
    found = formatted(made)
    assert list(found) == [
        *("asctime", "levelname", "name", "process", "message", "tile", "image", "exc_info", "stack_info")
    ]
    assert (found["message"], found["levelname"], found["name"]) == ("tile 3", "INFO", "of.the.test")
    assert found["process"] == made.process and found["tile"] == 3
    assert found["asctime"] == logging.Formatter().formatTime(made)
    assert found["exc_info"].startswith("Traceback") and found["exc_info"].endswith("ValueError: of the test")
    assert found["stack_info"] == made.stack_info


def test_other_fields() -> None:
    """The fields that are asked for, and no others, with a date as asked for."""
    made = record("text", item=1)
    found = formatted(made, fields=("message", "lineno", "asctime"), datefmt="%Y")
    assert found == {
        "message": "text",
        "lineno": 1,
        "asctime": logging.Formatter().formatTime(made, "%Y"),
        "item": 1,
    }
    with pytest.raises(ValueError, match=r"^fields must be .*'mesage' is none"):
        JSONFormatter(fields=("mesage",))


class Silent:
    def __str__(self) -> str:
        raise RuntimeError("no text")


ROUND: list[Any] = []
ROUND.append(ROUND)


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (float("nan"), "nan"),
        ([1.0, float("inf")], "[1.0, inf]"),
        (np.float32(0.5), 0.5),
        (np.int64(2**40), 2**40),
        (np.float64("nan"), "nan"),
        (Decimal("1.10"), "1.10"),
        (Fraction(1, 2), 0.5),
        (dt.datetime(2026, 1, 2, 3, 4, tzinfo=dt.UTC), "2026-01-02T03:04:00+00:00"),
        (Path("a/b"), "a/b"),
        (b"bytes", "b'bytes'"),
        ({(1, 2): 3}, "{(1, 2): 3}"),
        ({"in": {Path("a")}}, {"in": "{PosixPath('a')}"}),
        (ValueError("why"), "why"),
        (ROUND, "[[...]]"),
        ("\ud800 é \u2028", "\ud800 é \u2028"),
        (2**200, 2**200),
    ],
)
def test_values(value: Any, told: Any) -> None:
    """What JSON has a form for is itself, all else is its text; the record is never lost, nor its other values."""
    found = formatted(record("text %s", value, value=value, other=7))
    assert found["value"] == told and type(found["value"]) is type(told)
    assert (found["message"], found["other"]) == (f"text {value}", 7)


def test_a_value_without_a_text() -> None:
    """A value that can't be made a text is told by its type and place."""
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    assert formatted(record(value=deep))["value"].startswith("<list object at")
    assert "Silent object at" in formatted(record(value=Silent()))["value"]


@given(st.text(), st.dictionaries(st.text(min_size=1).map("x".__add__), st.floats() | st.binary() | st.text()))
def test_any_record(message: str, extra: dict[str, Any]) -> None:
    """Every record is one JSON object on one line, with its message and the names of its extras."""
    found = formatted(record(message, **extra))
    assert found["message"] == message and set(extra) <= set(found)

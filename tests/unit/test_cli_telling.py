"""What ``manyhands run`` prints of values, failures and counts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from manyhands.calls import Done
from manyhands.cli.telling import as_json, error_line, lines_of, shown, summary
from manyhands.errors import RemoteError
from manyhands.outcome import Attempt, Counts, Discarded, Elsewhere, Failure, Outcome


@pytest.mark.parametrize(
    ("value", "lines"),
    [
        (None, []),
        ("a b", ["a b"]),
        (2.5, ["2.5"]),
        (np.int64(3), ["3"]),
        (True, ["True"]),
        (Path("/nowhere/a"), ["/nowhere/a"]),
        ([1, "a"], ["[1, 'a']"]),
        (b"a", ["b'a'"]),
        ((Path("a"), Path("b")), [repr((Path("a"), Path("b")))]),
    ],
)
def test_a_value_is_a_line(value: Any, lines: list[str]) -> None:
    """Texts, numbers and paths as they are; None is no line; the rest as Python writes it."""
    assert lines_of(value, is_claimed=False) == lines


def test_paths_are_told_from_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those above or beside stay absolute; an output of several files is as many lines."""
    monkeypatch.chdir(tmp_path)
    assert shown(tmp_path / "out" / "a.txt") == "out/a.txt"
    assert shown(tmp_path.parent / "b.txt") == str(tmp_path.parent / "b.txt")
    assert shown(tmp_path / "..a") == "..a"
    assert lines_of((tmp_path / "a", tmp_path / "b"), is_claimed=True) == ["a", "b"]


def test_an_error_is_one_line() -> None:
    """Type and text, however many lines that has; a text without end is cut; a type is not told twice."""
    assert error_line(ValueError("no\n  good")) == "ValueError: no good"
    assert error_line(KeyError()) == "KeyError"
    assert error_line(RemoteError("photos.Bad: worse")) == "photos.Bad: worse"
    assert len(error_line(ValueError("x" * 1000))) == 400


def test_json_tells_what_an_input_came_to() -> None:
    """By its status; values that JSON has no words for become plain."""

    def told(result: Any, **more: Any) -> dict[str, Any]:
        line = as_json(Outcome(3, "item", result, **more), "a.png")
        assert "\n" not in line
        return json.loads(line)

    same = {"index": 3, "input": "a.png"}
    ran = told(Done([Path("a"), np.int64(2), np.ones(2), {3}, 1j]), seconds=0.5, worker="host:1")
    value = ["a", 2, [1.0, 1.0], [3], "1j"]
    assert ran == {
        **same, "status": "ok", "value": value, "attempts": 1, "seconds": 0.5, "worker": "host:1"
    }  # fmt: skip
    assert told(Done("there"))["attempts"] == 0
    assert told(Done({(1, 2): 3}))["value"] == "{(1, 2): 3}"
    failed = told(Failure(ValueError("no"), 3, "item", "Traceback"), attempts=(Attempt("ValueError", "no"),))
    assert failed["status"] == "failed" and failed["attempts"] == 1
    assert failed["error"] == {"type": "ValueError", "message": "no", "traceback": "Traceback"}
    assert told(Discarded("too small", 3, "item"))["reason"] == "too small"
    assert told(Elsewhere("/x/a", 3, "item"))["path"] == "/x/a"


@pytest.mark.parametrize(
    ("counts", "total", "is_claimed", "text"),
    [
        (Counts(values=1), 1, False, "1 input in 2.0 s: 1 done"),
        (Counts(3, 2, 1), 9, False, "9 inputs in 2.0 s: 3 done, 2 failed, 1 discarded, 3 not done"),
        (
            Counts(values=3),
            3,
            True,
            "3 inputs in 2.0 s: 2 computed here, 1 there already or computed elsewhere",
        ),
        (Counts(), 0, True, "0 inputs in 2.0 s: nothing to do"),
    ],
)
def test_the_summary_counts(counts: Counts, total: int, is_claimed: bool, text: str) -> None:
    """What there is of each kind, and what is missing."""
    assert summary(counts, min(1, counts.values), total, 2.0, is_claimed) == text

"""Outcomes: exactly one of value, failure, discarded, elsewhere."""

from __future__ import annotations

import dataclasses
import pickle
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manyhands.calls import Call, Done, Failed, Later, error_text, qualified_name, traceback_text
from manyhands.errors import WorkerDied
from manyhands.outcome import (
    Answered,
    Attempt,
    Cancelled,
    Counts,
    Died,
    Discarded,
    Elsewhere,
    Failure,
    NoValue,
    Outcome,
)

anything = st.sampled_from(
    [None, 0, "", Done(1), Failed(ValueError()), Later(), Discarded("", 0, 0), NoValue()]
)


def results(index: int, item: Any, value: Any) -> list[Any]:
    """One result of each kind."""
    return [
        Done(value),
        Failure(ValueError("no"), index, item, "trace"),
        Discarded("why", index, item),
        Elsewhere("path", index, item),
    ]


@given(st.integers(0), anything, anything, st.integers(0, 3))
def test_exactly_one(index: int, item: Any, value: Any, kind: int) -> None:
    """Whatever the value is, even something of the library's own, an outcome is of one kind."""
    result = results(index, item, value)[kind]
    outcome: Outcome[Any] = Outcome(index, item, result)
    found = [
        outcome.ok,
        outcome.failure is not None,
        outcome.discarded is not None,
        outcome.elsewhere is not None,
    ]
    assert found == [number == kind for number in range(4)]
    if kind == 0:
        assert outcome.value is value
    else:
        assert result in (outcome.failure, outcome.discarded, outcome.elsewhere)
        with pytest.raises(NoValue, match=f"outcome {index}"):
            _ = outcome.value


@given(*[st.integers(0, 1000)] * 4)
def test_counts_add_up(values: int, failures: int, discarded: int, elsewhere: int) -> None:
    """The total is all that has ended."""
    assert Counts(values, failures, discarded, elsewhere).total == values + failures + discarded + elsewhere
    assert Counts().total == 0


ALL = [
    Call((1,), {"a": 2}, "memo"),
    Attempt("ValueError", "no", 1.5, "w"),
    Done([1]),
    Later(1.0, "memo", None, "path"),
    Cancelled(3),
    Discarded("why", 0, "item"),
    Elsewhere("path", 0, "item"),
    Outcome(0, "item", Done(1), (Attempt("E", "t"),), 0.5, "w"),
    Counts(1, 2, 3, 4),
    Answered(1, Done(2), 0.5, "w"),
]


def field_names(value: Any) -> list[str]:
    """Of a dataclass or a named tuple."""
    if isinstance(value, tuple):
        return list(type(value)._fields)  # type: ignore[attr-defined]
    return [field.name for field in dataclasses.fields(value)]


@pytest.mark.parametrize("value", ALL, ids=lambda value: type(value).__name__)
def test_they_are_values(value: Any) -> None:
    """Frozen, and equal after pickling."""
    assert pickle.loads(pickle.dumps(value)) == value
    with pytest.raises(AttributeError):
        setattr(value, field_names(value)[0], None)


@pytest.mark.parametrize(
    "value", [Failed(OSError(2, "no", "f"), "t", 1, True, True), Died(1, WorkerDied("x"), "w")]
)
def test_errors_in_them_survive_pickling(value: Any) -> None:
    """What holds an exception comes back with it, field by field."""
    back = pickle.loads(pickle.dumps(value))
    for name in field_names(value):
        old, new = getattr(value, name), getattr(back, name)
        assert repr(old) == repr(new) if isinstance(old, Exception) else old == new


class Mute(Exception):
    """Has no text."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


def test_texts_of_errors() -> None:
    """Names are qualified except for builtins; a text can always be had."""
    assert qualified_name(ValueError) == "ValueError"
    assert qualified_name(Mute) == f"{__name__}.Mute"
    assert error_text(ValueError("no")) == "no"
    assert "can't be shown" in error_text(Mute())


def test_tracebacks_begin_with_the_users_frames() -> None:
    """The library's own outermost frames are left out, but never the last one, nor the causes."""
    from manyhands.policies.star import StarRule

    def fails() -> None:
        raise ValueError("deep") from KeyError("cause")

    class Vals:
        def __iter__(self) -> Any:
            fails()

    def text_of(call: Any) -> str:
        try:
            call()
        except Exception as error:
            frames = error.__traceback__
            assert frames is not None
            error.__traceback__ = frames.tb_next  # as it is where the library itself calls
            return traceback_text(error)
        raise AssertionError

    text = text_of(lambda: (lambda: fails())())  # noqa: PLC3002 - a frame more is what it is for
    assert "in fails" in text and "in <lambda>" in text and "in text_of" not in text
    text = text_of(lambda: next(StarRule(star=True).call(0, Vals()) for _ in "a"))
    assert "in __iter__" in text and "ValueError: deep" in text and "KeyError: 'cause'" in text
    ours = text_of(partial(StarRule(star=True).call, 0, "text"))
    assert "_misfit" in ours and "ItemError" in ours
    assert "in call" not in text_of(partial(StarRule(star=True).call, 0, Vals()))
    assert traceback_text(ValueError("never raised")) == "ValueError: never raised\n"
    assert "Mute" in traceback_text(Mute())

"""Texts from a command line, as arguments."""

from __future__ import annotations

import datetime as dt
import enum
import functools
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, Optional

import pytest

from manyhands import OUTPUT, claimed_output
from manyhands.policies.texts import Texts, from_text


class Colour(enum.Enum):
    """Known by names, or values."""

    RED = 1


@pytest.mark.parametrize(
    ("text", "annotation", "value"),
    [
        ("7", int, 7),
        ("-1.5e3", float, -1500.0),
        ("1+2j", complex, 1 + 2j),
        ("7", str, "7"),
        ("7", Any, "7"),
        ("", str, ""),
        ("a/b.png", Path, Path("a/b.png")),
        ("Yes", bool, True),
        ("0", bool, False),
        ("1.10", Decimal, Decimal("1.10")),
        ("2026-02-03", dt.date, dt.date(2026, 2, 3)),
        ("2026-02-03T04:05", dt.datetime, dt.datetime(2026, 2, 3, 4, 5)),  # noqa: DTZ001
        ("RED", Colour, Colour.RED),
        ("1", Colour, Colour.RED),
        ("2", Literal["1", 2], 2),
        ("7", int | str, 7),
        ("x", int | str, "x"),
        ("7", Optional[int], 7),  # noqa: UP045  # as it may be written
        ("7", Annotated[int, "a note"], 7),
    ],
)
def test_a_text_becomes_what_the_annotation_says(text: str, annotation: Any, value: object) -> None:
    """Of that type, and equal."""
    found = from_text(text, annotation)
    assert (type(found), found) == (type(value), value)


@pytest.mark.parametrize(
    ("text", "annotation", "message"),
    [
        ("x", int, "'x' is no int"),
        ("maybe", bool, "'maybe' is no bool"),
        ("x", Decimal, "'x' is no Decimal"),
        ("BLUE", Colour, "'BLUE' is none of '1', 'RED'"),
        ("3", Literal[1, 2], "'3' is none of '1', '2'"),
        ("x", int | float, "'x' is no int | float"),
    ],
)
def test_a_text_that_says_nothing_of_the_kind_is_refused(text: str, annotation: Any, message: str) -> None:
    """The message has the text and what would be right."""
    with pytest.raises(ValueError, match=message.replace("|", r"\|")):
        from_text(text, annotation)


@pytest.mark.parametrize("annotation", [list[int], dict, bytes, range])
def test_other_annotations_are_refused(annotation: Any) -> None:
    """There is no one way to write them."""
    with pytest.raises(TypeError, match="a text can't become"):
        from_text("1", annotation)


def table(name: str, size: int, *more: float, output: Path = OUTPUT) -> None:
    """A body."""


def test_arguments_are_by_position(tmp_path: Path) -> None:
    """Each by its own parameter; what is over goes to ``*args``; OUTPUT is no parameter."""
    texts = Texts.of(claimed_output("{name}.txt")(table))
    assert texts.arguments(["a", "1"]) == ("a", 1)
    assert texts.arguments(["a", "1", "2", "3"]) == ("a", 1, 2.0, 3.0)
    with pytest.raises(ValueError, match="argument 'size' of table: 'b' is no int"):
        texts.arguments(["a", "b"])
    with pytest.raises(ValueError, match="argument 'more' of table: 'b' is no float"):
        texts.arguments(["a", "1", "b"])
    with pytest.raises(ValueError, match=r"table takes the arguments name, size and more; got \['a'\]"):
        texts.arguments(["a"])


def test_what_does_not_tell_its_parameters_takes_texts() -> None:
    """As they are; and partials are looked through."""
    assert Texts.of(print).arguments(["a", "1"]) == ("a", "1")
    assert Texts.of(functools.partial(table, size=3)).arguments(["a"]) == ("a",)


def test_annotations_that_name_nothing_are_told() -> None:
    """With the function's name."""

    def lost(x: Nowhere) -> None:  # type: ignore[name-defined]  # pyright: ignore[reportUndefinedVariable]  # noqa: F821
        """A body."""

    with pytest.raises(TypeError, match=r"the annotations of .*lost can't be evaluated: name 'Nowhere'"):
        Texts.of(lost)

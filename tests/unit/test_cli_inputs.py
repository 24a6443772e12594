"""What a command line gives becomes arguments, or an error that says what is wrong and where."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from manyhands.cli.inputs import arguments_for, inputs_for


def scaled(image: Path, factor: float = 1.0) -> None:
    """A body."""


def power(base: int, exponent: int) -> None:
    """Another one."""


def abs_of(number: int) -> None:
    """One with a parameter."""


def named(image: Path, *, threshold: float, name: str = "") -> None:
    """One with parameters that go by their names."""


def read(function: Any, *texts: str, stdin: str = "", **options: bool) -> list[tuple[Any, ...]]:
    """The arguments; those by name as items of a mapping, behind the others."""
    found = inputs_for(function, texts, lambda: iter(stdin.splitlines(keepends=True)), **options)
    return [(*each.args, *each.kwargs.items()) for each in found]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current directory with images, one of which is named like a pattern."""
    monkeypatch.chdir(tmp_path)
    for name in ("b.png", "a.png", "c[1].png", "c1.png"):
        (tmp_path / name).touch()
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "d.png").touch()
    return tmp_path


def test_patterns_become_the_paths_that_match(here: Path) -> None:
    """Sorted, as they would be after a shell had put them there; ``**`` goes into directories."""
    names = [(Path(name),) for name in ("a.png", "b.png", "c1.png", "c[1].png")]
    assert read(scaled, "*.png") == names
    assert read(scaled, "**/d.png") == [(Path("deep/d.png"),)]
    assert read(scaled, "[ab].png", absolute=True) == [(here / "a.png",), (here / "b.png",)]


@pytest.mark.usefixtures("here")
def test_a_file_named_like_a_pattern_is_that_file() -> None:
    """A shell may have put it there."""
    assert read(scaled, "c[1].png") == [(Path("c[1].png"),)]


@pytest.mark.usefixtures("here")
def test_lines_stand_where_they_were_asked_for() -> None:
    """Empty ones are left out, and none is taken for a pattern."""
    assert read(scaled, "a.png", "-", "b.png", stdin="*.png\r\n\n\nno-such-[file]") == [
        (Path("a.png"),),
        (Path("*.png"),),
        (Path("no-such-[file]"),),
        (Path("b.png"),),
    ]


def test_rows_are_arguments() -> None:
    """Of the command line as of stdin; quotes hold commas, and lines, together."""
    assert read(power, "2, 3", star=True) == [(2, 3)]
    assert read(scaled, '"a,b.png",2', "*.png", star=True) == [(Path("a,b.png"), 2.0), (Path("*.png"),)]
    assert read(scaled, "-", stdin='"a\nb.png",2\n\n,\nc.png\n', star=True) == [
        (Path("a\nb.png"), 2.0),
        (Path("c.png"),),
    ]


def test_a_header_names_columns() -> None:
    """In any order; without those that have defaults."""
    assert read(power, "-", stdin="exponent,base\n3,2\n", star=True) == [(("exponent", 3), ("base", 2))]
    assert read(named, "-", stdin="threshold,image\n3,a\n", star=True) == [
        (("threshold", 3.0), ("image", Path("a")))
    ]
    assert read(scaled, "-", stdin="image\na.png\nimage\n", star=True) == [
        (("image", Path("a.png")),),
        (("image", Path("image")),),
    ]


@pytest.mark.parametrize(
    ("function", "texts", "star", "stdin", "message"),
    [
        (power, ["2,3", "2,x"], True, "", "input 2, '2,x': argument 'exponent' of power: 'x' is no int"),
        (
            power,
            ["-"],
            True,
            "2,3\n\n4\n",
            "line 3 of standard input, '4': power takes the arguments base, exp",
        ),
        (power, ["-"], True, '"2\n",3\n4,y\n', "line 3 of standard input, '4,y': argument 'exponent'"),
        (power, ["-"], True, "base\n4\n", "line 2 of standard input, '4': power needs 'exponent'"),
        (power, ["-"], True, "base,exponent\n4\n", "there are 2 columns, base, exponent; got"),
        (
            power,
            ["-"],
            True,
            "Base,exponent\n4,4\n",
            "line 1 of standard input looks like a header, but 'Base' is no parameter",
        ),
        (
            power,
            ["-"],
            True,
            "base,base\n4,4\n",
            "looks like a header, but has a name twice; .* be base, exponent",
        ),
        (power, ["5"], False, "", "input 1, '5': .* with --star an input is a row of arguments"),
        (abs, ["*.nothing"], False, "", r"input 1: no file matches '\*.nothing' .*standard input, with '-'"),
        (scaled, ["-"], False, "a\n", None),
    ],
)
def test_what_does_not_fit_is_named(
    function: Any, texts: list[str], star: bool, stdin: str, message: str | None
) -> None:
    """The text, its place, and what would be right."""
    if message is None:
        assert len(read(function, *texts, stdin=stdin, star=star)) == 1
        return
    with pytest.raises(ValueError, match=message):
        read(function, *texts, stdin=stdin, star=star)


def test_all_that_is_wrong_is_told_up_to_a_few() -> None:
    """Who mends a table need not start again for each of its lines."""
    with pytest.raises(ValueError, match=r"line 1 .*\nline 2 (.*\n){4}and 95 more$") as raised:
        read(abs_of, "-", stdin="a\n" * 100)
    assert len(str(raised.value).splitlines()) == 6


def test_what_calls_have_in_common() -> None:
    """By its parameter's annotation; inputs need not give it."""
    assert arguments_for(named, ["threshold=0.5", "name=a=b"]) == {"threshold": 0.5, "name": "a=b"}
    found = inputs_for(power, ["2"], list, fixed={"exponent": 3})
    assert [each.kwargs for each in found] == [{"base": 2}]
    found = inputs_for(power, ["2"], list, fixed={"base": 3})
    assert [each.kwargs for each in found] == [{"exponent": 2}]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("threshold", "'threshold' is not NAME=VALUE; names are image, threshold, name"),
        ("treshold=1", "named has no parameter 'treshold'; did you mean 'threshold'?"),
        ("x=1", "named has no parameter 'x'; it takes image, threshold, name"),
        ("threshold=high", "argument 'threshold' of named: 'high' is no float"),
    ],
)
def test_what_can_not_be_in_common(text: str, message: str) -> None:
    """It is named, with what would be right."""
    with pytest.raises(ValueError, match=message):
        arguments_for(named, [text])

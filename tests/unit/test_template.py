"""Templates of output paths: filled from arguments, never outside of their directory."""

from __future__ import annotations

import os
import pickle
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from manyhands.errors import TemplateError
from manyhands.policies.template import Template

HERE = Path("/base/here")

nasty = st.one_of(
    st.sampled_from(
        ["", ".", "..", "/", "//", "../..", "/etc/passwd", "a/../../b", "\0", "{x}", "{{", "~", " ", "..."]
    ),
    st.text(max_size=12),
    st.lists(
        st.sampled_from(["..", ".", "/", "a", "\0", "é", "\udc80", "{", "}", "\n", "/base/here/"]), max_size=8
    ).map("".join),
)
patterns = st.sampled_from(
    [
        "{a}",
        "{a}.csv",
        "{a}{b}",
        "{a}/{b}",
        "results/{a}",
        "results/{a}/{b}.txt",
        "results/{a}..{b}",
        "results/.{a}/x",
        "{a}./x",
        "results/{a.name}",
        "results/{{1}}/{a}",
        "{{{a}}}/{b}",
        "/abs/dir/{a}",
        "//two/{a}",
        "./x/./{a}",
        "{a!r}",
        "r/{a!s:>3}",
        "r/{a:.2}",
        "fixed",
        "fixed/{{braces}}/name",
    ]
)


class Named(str):
    """A text with a public attribute, as paths have."""

    __slots__ = ()

    @property
    def name(self) -> str:
        return str(self)


def before_first_field(text: str) -> str:
    """The directory that a template names before its first field, read off character by character."""
    plain, position = "", 0
    while position < len(text):
        if text[position] in "{}" and text[position : position + 2] == text[position] * 2:
            position += 1
        elif text[position] == "{":
            break
        plain += text[position]
        position += 1
    return plain[: plain.rfind("/") + 1]


@given(patterns, nasty, nasty)
@example("results/{{1}}/{a}", "/etc/x", "")
@example("{a}", "/base/here/x", "")
@example("{a}", "/etc/a/b/c/d", "")
@example("{a}/{b}", "/work", "there/x/y")
def test_a_path_never_leaves_its_directory(text: str, a: str, b: str) -> None:
    """Whatever the arguments are, it is a file below the directory before the first field, or an error."""
    template = Template(text)
    assert template.base == before_first_field(text)
    base = os.path.normpath(HERE / before_first_field(text))
    try:
        path = template.fill({"a": Named(a), "b": Named(b)}, HERE)
    except TemplateError:
        return
    assert path.is_absolute() and "\0" not in str(path)
    assert ".." not in path.parts
    normal = os.path.normpath(path)
    assert normal.startswith(base.rstrip("/") + "/") and len(normal) > len(base)


names = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1).filter(
    lambda name: name not in (".", "..")
)


@given(names, names)
def test_what_is_a_name_is_filled_in(a: str, b: str) -> None:
    """Spaces, braces, any unicode: values are put in as they are, and not read again."""
    path = Template("out {{x}}/{a}/{b}.csv").fill({"a": a, "b": b, "unused": 1}, HERE)
    assert str(path) == f"/base/here/out {{x}}/{a}/{b}.csv"


@dataclass
class Image:
    """Something with attributes, items and methods."""

    stem: str
    _secret: str = "hidden"

    def method(self) -> str:
        return "called"

    @property
    def broken(self) -> str:
        raise Mute

    def __getitem__(self, key: object) -> str:
        return f"[{key}]"


class Mute(Exception):
    """An error whose text can't be had."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("r/{image.stem}.csv", "r/eye.csv"),
        ("r/{image[key]}", "r/[key]"),
        ("r/{image[3]}", "r/[3]"),
        ("{number:04d}_{image.stem:>5}.txt", "0007_  eye.txt"),
        ("{number!r}{path!r:.3}", "7Pur"),
        ("{path}", "in/eye.png"),
        ("{path.parent}/{path.stem}_{path.suffix}.x", "in/eye_.png.x"),
        ("{path.parent.name}{ratio:.2f}", "in0.33"),
        ("plain", "plain"),
    ],
)
def test_fields_reach_into_arguments(text: str, filled: str) -> None:
    """Attributes, items, conversions and formats work as in ``str.format``."""
    arguments = {"image": Image("eye"), "number": 7, "path": PurePosixPath("in/eye.png"), "ratio": 1 / 3}
    template = Template(text)
    assert template.fill(arguments, HERE) == HERE / filled
    assert set(template.fields) <= arguments.keys()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "names no file"),
        ("/", "names no file"),
        ("a\0b/{x}", "NUL"),
        ("../{x}", r"'\.\.'"),
        ("a/../{x}", r"'\.\.'"),
        ("{x}/../y", r"'\.\.'"),
        ("{x}/..", r"'\.\.'"),
        ("{", "malformed"),
        ("}", "malformed"),
        ("a/{x", "malformed"),
        ("{x!z!}", "malformed"),
        ("{}", "start with a parameter"),
        ("{0}", "start with a parameter"),
        ("{.x}", "start with a parameter"),
        ("{a b}", "start with a parameter"),
        ("{x:{y}}", "field within"),
        ("{x._secret}", "not public"),
        ("{x.__class__}", "not public"),
        ("{x.a.__init__.__globals__[OUTPUT]}", "not public"),
        ("{x[_key]}", "not public"),
        ("{_x}", "not public"),
    ],
)
def test_a_bad_template_is_told_when_it_is_made(text: str, why: str) -> None:
    """What is wrong whatever the arguments are is told at decoration, and the template named."""
    with pytest.raises(TemplateError, match=why) as error:
        Template(text)
    assert repr(text) in str(error.value)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("r/{image.nothing}", "AttributeError"),
        ("r/{image.method}", "is a method"),
        ("r/{missing}", "KeyError"),
        ("r/{image:>9}", "TypeError"),
        ("r/{image.stem:d}", "ValueError"),
        ("r/{number[0]}", "TypeError"),
        ("r/{image.broken}", "Mute"),
        ("r/{image.}", "ValueError"),
        ("{empty}", "not a file below"),
        ("r/{empty}", "not a file below"),
        ("r/x{slash}", "names no file"),
        ("r/x{slash}.", "names no file"),
        ("r/x{slash}/", "names no file"),
        ("r/{empty}/", "not a file below"),
    ],
)
def test_what_can_not_be_filled_names_template_and_arguments(text: str, why: str) -> None:
    """The error of an item says which template, from which arguments, and why."""
    arguments: dict[str, Any] = {"image": Image("eye"), "number": 7, "empty": "", "slash": "/"}
    with pytest.raises(TemplateError, match=why) as error:
        Template(text).fill(arguments, HERE)
    assert repr(text) in str(error.value)
    if "filled from" in str(error.value):
        assert Template(text).fields[0] + "=" in str(error.value)


def test_a_path_from_the_root_has_one_slash() -> None:
    """Where the caller's directory is "/", however the template is filled."""
    template = Template("a/{x}.csv")
    assert template.fill_text({"x": "b"}, "/") == "/a/b.csv"
    assert template.filler("x", {}, "/")("b") == "/a/b.csv"


def test_a_slash_at_the_end_makes_a_directory() -> None:
    """Its path is as a file's."""
    template = Template("r/{image.stem}/")
    assert template.is_directory and not Template("r/{image.stem}").is_directory
    assert template.fill({"image": Image("eye")}, HERE) == HERE / "r" / "eye"


def test_fields_must_be_parameters() -> None:
    """A field that the function does not have is named, with those that it has."""
    template = Template("{image.stem}_{sigma}_{typo}.csv")
    template.fits(frozenset({"image", "sigma", "typo"}), "@claimed_output of f")
    with pytest.raises(TemplateError, match=r"@claimed_output of f: .*\{typo\}.*image, sigma"):
        template.fits(frozenset({"image", "sigma"}), "@claimed_output of f")
    with pytest.raises(TemplateError, match="parameters are none"):
        template.fits(frozenset(), "f")


@given(patterns)
def test_templates_are_values(text: str) -> None:
    """Equal texts make equal templates, also after pickling."""
    template = Template(text)
    assert pickle.loads(pickle.dumps(template)) == template == Template(text)
    assert hash(template) == hash(Template(text))


@given(
    st.sampled_from(
        [
            "{a}",
            "x/{a}.csv",
            "/x/{a}",
            ".{a}",
            "{a}.",
            "{a}/",
            "{a}{b}",
            "{b}/{a}",
            "x//{a}",
            "{{{a}}}",
            "{a!r}",
        ]
    ),
    st.one_of(st.text(alphabet="ab./\0~", max_size=4), st.integers(0, 3), st.none()),
)
def test_one_argument_after_the_other(text: str, value: object) -> None:
    """A filler fills as the template does, or raises as it does."""
    template, directory = Template(text), Path("/here")
    filled: Path | str
    try:
        filled = template.fill({"a": value, "b": "b"}, directory)
    except TemplateError as error:
        filled = str(error)
    fill = template.filler("a", {"a": None, "b": "b"}, "/here")
    try:
        told: Path | str = fill(value)
    except TemplateError as error:
        assert filled == str(error)
    else:
        assert isinstance(filled, Path)
        assert Path(told) == filled
        assert not str(told).endswith("/")
        assert "//" not in str(told)

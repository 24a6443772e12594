"""INPUT… on a command line: values, paths, patterns of paths, ``-`` for lines of stdin; with ``--star`` rows."""

from __future__ import annotations

import csv
import glob
import os
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from manyhands.policies.texts import Texts

STDIN: Final = "-"

_MOST_TOLD: Final = 5


@dataclass(frozen=True, slots=True)
class Input:
    """One item of a map, from a command line.

    Attributes:
        text: as it was given.
        args, kwargs: what a call gets.
    """

    text: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Row:
    """A text, or the cells of a row, before they are converted; ``where`` is its place in messages."""

    where: str
    cells: list[str]
    text: str
    header: tuple[str, ...] | None = None


def inputs_for(
    function: Callable[..., Any],
    texts: Iterable[str],
    lines: Callable[[], Iterable[str]],
    star: bool = False,
    fixed: Collection[str] = (),
    absolute: bool = False,
) -> list[Input]:
    """What the texts of a command line ask for, in their order, as arguments of a function.

    Args:
        function: its parameters' annotations say what texts become.
        texts: values and paths, as they are; patterns of paths, which become the paths that match, sorted; ``-``,
            which becomes lines of stdin that are not empty, each as it is.
        lines: of stdin; asked for at most once.
        star: each text, and each row of stdin, is a row of comma-separated values: no pattern. A first row of stdin
            that consists of names of parameters tells which column is for which.
        fixed: names of parameters that have their arguments already.
        absolute: whether what matches a pattern is given as an absolute path.

    Raises:
        ValueError: texts don't fit; names the first few, their places and what would be right.
        TypeError: no text could fit.
    """
    wanted = Texts.of(function).without(fixed)
    found, wrong = [], []
    for row in _rows(texts, lines, wanted) if star else _plain(texts, lines, absolute):
        try:
            found.append(_input(wanted, row, star, by_name=bool(fixed)))
        except ValueError as error:
            wrong.append(str(error))
    if wrong:
        rest = [f"and {len(wrong) - _MOST_TOLD:,} more"] if len(wrong) > _MOST_TOLD else []
        raise ValueError("\n".join(wrong[:_MOST_TOLD] + rest))
    return found


def arguments_for(function: Callable[..., Any], texts: Iterable[str]) -> dict[str, Any]:
    """What texts like ``threshold=0.5`` say, by the annotations of the parameters.

    Raises:
        ValueError: one is written otherwise, or does not fit.
        TypeError: no text could fit.
    """
    wanted = Texts.of(function)
    found = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise ValueError(f"{text!r} is not NAME=VALUE; names are {', '.join(wanted.names)}")
        found[name] = wanted.argument(name, value)
    return found


def _plain(texts: Iterable[str], lines: Callable[[], Iterable[str]], absolute: bool) -> Iterator[_Row]:
    for number, text in enumerate(texts, 1):
        if text == STDIN:
            for line, read in enumerate(lines(), 1):
                if stripped := read.rstrip("\r\n"):
                    yield _Row(_line(line), [stripped], stripped)
            continue
        for path in _matching(text, number, absolute):
            yield _Row(f"input {number}", [path], path)


def _matching(text: str, number: int, absolute: bool) -> list[str]:
    # A shell may have put a name in the place of its pattern, and names may hold what patterns do.
    if not glob.has_magic(text) or os.path.lexists(text):
        return [text]
    paths = sorted(glob.glob(text, recursive=True))  # noqa: PTH207  # it may be absolute
    if not paths:
        raise ValueError(
            f"input {number}: no file matches {text!r} (a value with *, ? or [ in it can be given as a line of "
            f"standard input, with '-')"
        )
    return [str(Path(path).absolute()) for path in paths] if absolute else paths


def _rows(texts: Iterable[str], lines: Callable[[], Iterable[str]], wanted: Texts) -> Iterator[_Row]:
    for number, text in enumerate(texts, 1):
        if text == STDIN:
            yield from _table(lines(), wanted)
        else:
            cells = next(csv.reader([text], skipinitialspace=True), [])
            yield _Row(f"input {number}", cells, text)


def _table(lines: Iterable[str], wanted: Texts) -> Iterator[_Row]:
    names = set(wanted.names)
    reader = csv.reader(_unmarked(lines), skipinitialspace=True)
    header: tuple[str, ...] | None = None
    is_first, begin = True, 1
    for cells in reader:
        where, begin = _line(begin), reader.line_num + 1
        if not any(cells):
            continue
        if is_first and names.issuperset(cells) and len(set(cells)) == len(cells):
            header = tuple(cells)
        elif is_first and 2 * len(names.intersection(cells)) >= len(cells) and names.intersection(cells):
            unknown = next((cell for cell in cells if cell not in names), None)
            raise ValueError(
                f"{where} looks like a header, but "
                + (
                    "has a name twice"
                    if unknown is None
                    else f"{unknown!r} is no parameter of {wanted.function}"
                )
                + f"; its columns may be {', '.join(wanted.names)}"
            )
        else:
            yield _Row(where, cells, ",".join(cells), header)
        is_first = False


def _unmarked(lines: Iterable[str]) -> Iterator[str]:
    """The lines without the mark of byte order that some programs put before a table."""
    for number, line in enumerate(lines):
        yield line if number else line.removeprefix("\ufeff")


def _line(number: int) -> str:
    return f"line {number} of standard input"


def _input(wanted: Texts, row: _Row, star: bool, by_name: bool) -> Input:
    try:
        if row.header is not None:
            return Input(row.text, (), wanted.keywords(row.header, row.cells))
        arguments = wanted.arguments(row.cells)
        if not by_name or len(arguments) > len(wanted.parameters):
            return Input(row.text, arguments)
        names = [name for name, _ in wanted.parameters[: len(arguments)]]
        return Input(row.text, (), dict(zip(names, arguments, strict=True)))
    except ValueError as error:
        hint = "" if star or wanted.required < 2 else "; with --star an input is a row of arguments"
        raise ValueError(f"{row.where}, {row.text!r}: {error}{hint}") from None

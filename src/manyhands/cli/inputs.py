"""INPUT… on a command line: values, paths, patterns of paths, ``-`` for lines of stdin; with ``--star`` rows."""

from __future__ import annotations

import csv
import glob
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from manyhands.policies.texts import Texts

STDIN: Final = "-"


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
        absolute: whether what matches a pattern is given as an absolute path.

    Raises:
        ValueError: a text does not fit; names it, its place and what would be right.
        TypeError: no text could fit.
    """
    wanted = Texts.of(function)
    rows = _rows(texts, lines, wanted) if star else _plain(texts, lines, absolute)
    return [_input(wanted, row, star) for row in rows]


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
    names = {name for name, _ in wanted.parameters}
    reader = csv.reader(lines, skipinitialspace=True)
    header: tuple[str, ...] | None = None
    is_first, begin = True, 1
    for cells in reader:
        where, begin = _line(begin), reader.line_num + 1
        if not any(cells):
            continue
        if is_first and names.issuperset(cells) and len(set(cells)) == len(cells):
            header = tuple(cells)
        else:
            yield _Row(where, cells, ",".join(cells), header)
        is_first = False


def _line(number: int) -> str:
    return f"line {number} of standard input"


def _input(wanted: Texts, row: _Row, star: bool) -> Input:
    try:
        if row.header is None:
            return Input(row.text, wanted.arguments(row.cells))
        return Input(row.text, (), wanted.keywords(row.header, row.cells))
    except ValueError as error:
        hint = "" if star or wanted.required < 2 else "; with --star an input is a row of arguments"
        raise ValueError(f"{row.where}, {row.text!r}: {error}{hint}") from None

"""How commands print: tables in a terminal, aligned lines for everybody else, and texts that harm neither."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final, Generic, NamedTuple, TypeVar

import click

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

T = TypeVar("T")

ROWS: Final = 10
"""Rows of each table, unless all are asked for."""


class _Step(NamedTuple):
    """Durations below ``end`` seconds are told in units of so many."""

    end: float
    unit: int
    name: str


_STEPS: Final = (
    _Step(60, 1, "s"),
    _Step(3600, 60, "min"),
    _Step(86400, 3600, "h"),
    _Step(math.inf, 86400, "d"),
)


def printable(text: str) -> str:
    """On one line, and without what a terminal would obey: names and messages come from anywhere."""
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def duration(seconds: float | None) -> str:
    """In the two units that tell most: "12 s", "3 min 20 s", "2 h 5 min", "4 d 1 h"; "?" if it is not known."""
    if seconds is None:
        return "?"
    at = next(at for at, step in enumerate(_STEPS) if seconds < step.end)
    step, below = _STEPS[at], _STEPS[max(0, at - 1)]
    big, rest = divmod(int(seconds), step.unit)
    small = rest // below.unit if at else 0
    return f"{big} {step.name} {small} {below.name}" if small else f"{big} {step.name}"


def number(count: int, one: str, many: str | None = None) -> str:
    """A count and what it counts: "1 file", "1,200 files"."""
    return f"{count:,} {one if count == 1 else many or f'{one}s'}"


class Rows(Generic[T]):
    """The first rows in the order of ``key``, and how many there were: memory stays bounded."""

    def __init__(self, key: Callable[[T], Any], limit: int | None = ROWS) -> None:
        self._key = key
        self._limit = limit
        self._kept: list[T] = []
        self.count = 0

    def add(self, row: T) -> None:
        """One more."""
        self.count += 1
        self._kept.append(row)
        if self._limit is not None and len(self._kept) > 4 * max(self._limit, 1):
            self._prune()

    def __iter__(self) -> Iterator[T]:
        self._prune()
        return iter(self._kept)

    @property
    def hidden(self) -> int:
        """How many are not shown."""
        self._prune()
        return self.count - len(self._kept)

    def _prune(self) -> None:
        self._kept.sort(key=self._key)
        if self._limit is not None:
            del self._kept[self._limit :]


def console() -> Console:
    """For standard output as it is now."""
    from rich.console import Console

    return Console(highlight=False, markup=False, emoji=False, soft_wrap=False)


def hint(text: str) -> None:
    """What a person may do next; programs are not told."""
    screen = console()
    if screen.is_terminal:
        screen.print(f"\n{text}", style="dim", soft_wrap=True)


def show(
    title: str, headings: Sequence[str], rows: Iterable[Sequence[str]], hidden: int = 0, style: str = "bold"
) -> None:
    """Print a table with what it is above it, if it has any rows; ``hidden`` others are told by their number."""
    cells = [[printable(cell) for cell in row] for row in rows]
    if not cells:
        return
    more = f"and {hidden:,} more (--all shows them)" if hidden else ""
    screen = console()
    if screen.is_terminal:
        screen.print()
        screen.print(title, style=style)
        screen.print(table(headings, cells))
        if more:
            screen.print(f"  {more}", style="dim")
        return
    click.echo(f"\n{title}")
    for line in aligned([headings, *cells]):
        click.echo(f"  {line}")
    if more:
        click.echo(f"  {more}")


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """For a terminal: cells that are too long for it are folded, never cut."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    made = Table(box=box.SIMPLE, padding=(0, 1), show_edge=False, header_style="dim")
    for heading in headings:
        made.add_column(heading, overflow="fold")
    for row in rows:
        made.add_row(*(Text(cell) for cell in row))
    return made


def aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Rows as lines whose columns stand below each other."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()


def tell_json(**fields: Any) -> None:
    """One JSON object."""
    click.echo(json.dumps(fields, indent=1))


def stream_json(
    fields: dict[str, Any], name: str, items: Iterable[Any], rest: Callable[[], dict[str, Any]]
) -> None:
    """One JSON object with ``fields``, the list ``name`` of as many items as there are, and then ``rest()``."""
    out = sys.stdout
    out.write("{" + "".join(f"\n {json.dumps(key)}: {json.dumps(value)}," for key, value in fields.items()))
    out.write(f"\n {json.dumps(name)}: [")
    comma = ""
    for item in items:
        out.write(f"{comma}\n  {json.dumps(item)}")
        comma = ","
    out.write("\n ]")
    for key, value in rest().items():
        out.write(f",\n {json.dumps(key)}: {json.dumps(value)}")
    out.write("\n}\n")

"""What the races came to: who computed what, whether all results are equal, and the table that says so."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from manyhands.demo.race import Race

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True)
class Portion:
    """The part of the tables that one process computed, or that all killed processes computed together.

    Attributes:
        label: who it was.
        tables: the names of the tables.
        seconds: how long it ran, the longest if it stands for several.
    """

    label: str
    tables: frozenset[str]
    seconds: float


def tables(results: Path) -> list[Path]:
    """The finished tables in a directory of results, sorted."""
    return sorted(path for path in results.glob("*.csv") if not path.name.startswith("."))


def portions(race: Race, names: Iterable[str]) -> list[Portion]:
    """Who computed which of the tables ``names``.

    A killed process could not tell, so what nobody reports is what the killed processes had done.
    """
    left = frozenset(names)
    made, killed = [], []
    for share in race.shares:
        if share.computed is None:
            killed.append(share)
            continue
        made.append(Portion(f"process {share.number}", share.computed & left, share.seconds))
        left -= share.computed
    if killed:
        numbers = " and ".join(str(share.number) for share in killed)
        made.append(Portion(f"killed: {numbers}", left, max(share.seconds for share in killed)))
    elif left:
        made.append(Portion("nobody says", left, 0.0))
    return made


def differences(one: Path, other: Path) -> list[str]:
    """The names of the tables that are not byte for byte the same in both directories, or missing in one."""
    mine = {path.name: path for path in tables(one)}
    theirs = {path.name: path for path in tables(other)}
    common = mine.keys() & theirs.keys()
    differing = {name for name in common if mine[name].read_bytes() != theirs[name].read_bytes()}
    return sorted(differing | (mine.keys() ^ theirs.keys()))


def table(parts: Sequence[Portion], together: Race, alone: Race, objects: int, caption: str) -> Table:
    """The table that the demo prints."""
    from rich.table import Table

    tiles = sum(len(part.tables) for part in parts)
    made = Table(title=f"{tiles} tiles, {objects:,} objects", caption=caption, show_footer=True)
    made.add_column("", "all together")
    made.add_column("tiles", str(tiles), justify="right")
    made.add_column("seconds", f"{together.seconds:.1f}", justify="right")
    made.add_column("tiles per second", f"{tiles / together.seconds:.1f}", justify="right")
    for part in parts:
        speed = f"{len(part.tables) / part.seconds:.1f}" if part.seconds else ""
        made.add_row(part.label, str(len(part.tables)), f"{part.seconds:.1f}", speed)
    made.add_section()
    made.add_row("one process alone", str(tiles), f"{alone.seconds:.1f}", f"{tiles / alone.seconds:.1f}")
    made.add_row("ratio to one process", "", f"{alone.seconds / together.seconds:.2f}", "")
    made.add_section()
    return made

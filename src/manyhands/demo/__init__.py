"""The demo: four processes share the work on a few hundred images, and a picture shows what they found.

It needs the extra ``demo``. Everything that it writes lies below one directory.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from manyhands.demo.race import Race

TILE = 128  # pixels


def run(
    directory: Path | None = None,
    *,
    processes: int = 4,
    workers: int = 1,
    kill: bool = False,
    progress: bool = True,
    stderr: bool = False,
) -> int:
    """Run the whole demo and print what came of it; the exit status, 0 if all went well.

    Cuts the pictures into tiles, lets ``processes`` independent processes with ``workers`` workers each share
    them, lets one process do the same alone, compares the tables byte for byte, and draws the picture. ``kill``
    ends two processes by SIGKILL half-way and starts two others. Writes below ``directory`` (default:
    ``manyhands-demo`` here), where a further run removes what an earlier one made and nothing else; two runs at
    once need two directories. What is printed goes to standard output, or error. Raises ValueError for ``processes``
    or ``workers`` below 1.
    """
    from rich.console import Console
    from rich.markup import escape

    console = Console(stderr=stderr)
    if missing := _missing():
        console.print(escape(f'The demo needs {missing}: pip install "manyhands[demo]"'), highlight=False)
        return 1
    if processes < 1 or workers < 1:
        raise ValueError(f"processes and workers must be at least 1, not {processes} and {workers}")
    from manyhands.demo.race import RaceFailed

    try:
        return _run(console, directory or Path("manyhands-demo"), processes, workers, kill, progress)
    except (OSError, RaceFailed) as error:
        console.print(f"[bold red]The demo failed:[/] {escape(str(error))}", highlight=False)
        return 1


def _missing() -> str:
    """The packages of the extra that are not installed, joined by "and"."""
    from importlib.util import find_spec

    needed = {"skimage": "scikit-image", "matplotlib": "matplotlib"}
    return " and ".join(package for module, package in needed.items() if find_spec(module) is None)


def _run(console: Console, directory: Path, processes: int, workers: int, kill: bool, progress: bool) -> int:
    from manyhands import gc
    from manyhands.demo.folders import fresh
    from manyhands.demo.outlines import areas, panels
    from manyhands.demo.picture import draw
    from manyhands.demo.race import Plan, race
    from manyhands.demo.summary import differences, portions, table, tables
    from manyhands.demo.tiles import cut, pictures

    def say(text: str) -> None:
        console.print(text, soft_wrap=True, markup=False, highlight=False)

    directory.mkdir(parents=True, exist_ok=True)
    tiles, together, alone, reports = (fresh(directory / n) for n in ("tiles", "together", "alone", "reports"))
    total = sum(len(cut(path, tiles, TILE)) for path in pictures().values())
    say(f"{total} tiles in {tiles}")

    def compete(results: Path, processes: int, title: str, kill: bool) -> Race:
        told = fresh(reports / results.name)
        plan = Plan(total, processes, workers, kill)
        return race(plan, tiles, results, told, title=title, progress=progress)

    shared = compete(together, processes, f"{processes} processes", kill)
    single = compete(alone, 1, "1 process  ", False)
    for results in (together, alone):
        gc(results, now=True)
    parts = portions(shared, (path.name for path in tables(together)))
    owners = {name: number for number, part in enumerate(parts) for name in part.tables}
    drawn = panels(tiles, together, TILE, owners, progress=progress)
    objects = sum(panel.objects for panel in drawn)
    picture = directory.resolve() / "manyhands-demo.png"
    legend = {f"{part.label}, {len(part.tables)} tiles": number for number, part in enumerate(parts)}
    sizes = [area for path in tables(together) for area in areas(path)]
    draw(picture, drawn, sizes, legend, f"{objects:,} objects in {total} tiles")
    caption = f"workers in each process: {workers}; cores: {_cores()}"
    console.print(table(parts, shared, single, objects, caption))
    differing = differences(together, alone)
    killed = sum(share.computed is None for share in shared.shares)
    if kill:
        say(f"{killed} processes were killed half-way, and as many others started.")
    if differing:
        say(f"{len(differing)} tables differ from those of one process alone: {', '.join(differing)}")
    else:
        say("Every table is byte for byte the one that one process alone wrote.")
    say(f"results  {together}\npicture  {picture}")
    return 1 if differing else 0


def _cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1

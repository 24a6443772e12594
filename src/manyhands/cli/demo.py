"""``manyhands demo``: what claims do, shown on images."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click


@click.command()
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path), default="manyhands-demo")
@click.option("--kill", is_flag=True, help="Kill two of the processes half-way and start two others.")
@click.option(
    "--processes", type=click.IntRange(min=1), default=4, show_default=True, help="Independent processes."
)
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Worker processes of each of them.",
)
@click.option("--progress/--no-progress", default=True, help="Show one bar for the whole job.")
@click.option("--json", "as_json", is_flag=True, help="Print what came of it as JSON, all else on stderr.")
def demo(directory: Path, kill: bool, processes: int, workers: int, progress: bool, as_json: bool) -> None:
    """Count objects in a few hundred images, by processes that share DIRECTORY and nothing else.

    Takes the photographs and micrographs that scikit-image ships, and needs the extra "demo". DIRECTORY is
    "manyhands-demo" here if not given; tables, tiles and the picture are left in it. Exit status 0 if all
    processes came to the same tables as one process alone, else 1.

    \b
    Example: manyhands demo --kill
    """  # noqa: D301  # \b is click's mark for lines that stay as they are
    from manyhands.demo import run

    status = run(directory, processes=processes, workers=workers, kill=kill, progress=progress, stderr=as_json)
    if as_json:
        told = {"ok": status == 0, "directory": str(directory.absolute())}
        click.echo(json.dumps({**told, "processes": processes, "workers": workers, "kill": kill}))
    sys.exit(status)

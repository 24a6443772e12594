"""``manyhands stress``: a user's function in a storm, from the command line."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from manyhands.cli import exits
from manyhands.cli.function import found
from manyhands.cli.inputs import inputs_for
from manyhands.errors import ManyhandsError

if TYPE_CHECKING:
    from manyhands.testing import StormReport


@click.command(epilog=exits.EPILOG)
@click.argument("function", metavar="MODULE:FUNCTION")
@click.argument("more", nargs=-1, metavar="[INPUT]...")
@click.option(
    "--inputs",
    multiple=True,
    metavar="INPUT",
    help='A value, a path, a pattern of paths, or "-": lines of stdin.',
)
@click.option("--star", is_flag=True, help="Each input is a row of comma-separated arguments.")
@click.option("--processes", type=click.IntRange(min=1), default=8, show_default=True, help="At any time.")
@click.option("--workers", type=click.IntRange(min=1), default=2, show_default=True, help="Of each of them.")
@click.option("--minutes", type=click.FloatRange(min=0), default=1.0, show_default=True, help="Of disturbance.")
@click.option("--rounds", type=click.IntRange(min=1), help="So many at most.")
@click.option("--seed", type=int, help="Of what is done to whom, as a report names it.")
@click.option(
    "--lease", type=click.FloatRange(min=0.01), help="Seconds after which who is stopped is taken over."
)
@click.option("--vary", is_flag=True, help="Outputs may differ from run to run.")
@click.option(
    "--directory",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Where the directories of rounds are made; else where the system has temporary ones.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def stress(
    function: str, more: tuple[str, ...], inputs: tuple[str, ...], star: bool, as_json: bool, **options: Any
) -> None:
    """Run a function with @claimed_output in processes that are killed and stopped, and check its outputs.

    The function runs over all inputs, first by itself, twice; then, in one round after the other, in several
    processes with a directory of their own. Parents and workers are killed, stopped and sent SIGTERM meanwhile.
    In the end all outputs must be there, whole, and nothing else. The directory of a round in which something
    was wrong is kept.

    Inputs become what the annotation of the function's parameter says; paths, and what patterns match, are made
    absolute.

    \b
    Example: manyhands stress photos.py:count 'photos/*.png' --processes 8 --minutes 2
    """  # noqa: D301  # \b is click's mark for lines that stay as they are
    from manyhands.testing import SerialRunFailed, storm

    options["seconds"] = 60.0 * options.pop("minutes")
    if options["lease"] is None:
        del options["lease"]
    target = found(function)
    try:
        items = list(_items(target, (*inputs, *more), star))
        with _progress() as tell:
            report = storm(target, items, star=star, tell=tell, **options)
    except KeyboardInterrupt:
        click.echo("interrupted", err=True)
        raise
    except (ManyhandsError, SerialRunFailed, TypeError, ValueError) as error:
        raise click.UsageError(str(error)) from error
    click.echo(_as_json(report) if as_json else str(report))
    sys.exit(exits.OK if report.ok else exits.FAILED)


def _items(function: Any, inputs: Iterable[str], star: bool) -> Iterator[Any]:
    """Items for processes in other directories: their paths are absolute, whatever the annotation says."""
    for each in inputs_for(function, inputs, lambda: sys.stdin, star, absolute=True):
        if each.kwargs:
            raise ValueError("a storm takes rows without a header: their arguments go by position")
        arguments = tuple(value.absolute() if isinstance(value, Path) else value for value in each.args)
        yield arguments if star else arguments[0]


@contextmanager
def _progress() -> Iterator[Any]:
    """One line that changes, if somebody sees it."""
    if not sys.stderr.isatty():
        yield None
        return
    try:
        yield lambda line: print(f"\r\x1b[K{line}", end="", file=sys.stderr, flush=True)
    finally:
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def _as_json(report: StormReport) -> str:
    told = {
        "function": report.function,
        "ok": report.ok,
        "seed": report.seed,
        "rounds": report.rounds,
        "seconds": round(report.seconds, 3),
        "figures": dict(report.figures),
        "problems": [
            {"rule": each.rule, "message": each.message, "names": each.names} for each in report.problems
        ],
        "directory": None if report.directory is None else str(report.directory),
    }
    return json.dumps(told, indent=2)

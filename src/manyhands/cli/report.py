"""``manyhands report``: what maps that wrote journals did, from the command line."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from manyhands.cli import exits

if TYPE_CHECKING:
    from manyhands.reporting.recording import Recording


class CanNotReport(click.ClickException):
    """There is nothing to report, or no way to read or write it."""

    exit_code = exits.USAGE


@click.command()
@click.argument("directory", type=click.Path(exists=True, file_okay=False, path_type=Path), metavar="DIR")
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The page; report.html, here, if nothing else is asked for.",
)
@click.option(
    "--trace", type=click.Path(dir_okay=False, path_type=Path), help="Also write a trace that Perfetto opens."
)
@click.option("--recursive", is_flag=True, help="Look for journals in directories below DIR, too.")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
def report(directory: Path, output: Path | None, trace: Path | None, recursive: bool, as_json: bool) -> None:
    """Write one page that says what the maps with journals in DIR did, on all hosts.

    The page holds a timeline of workers, failures with tracebacks, retries, the distribution of durations and the
    slowest items. It needs nothing from elsewhere. Maps write journals into DIR if they are given record=DIR. Maps
    that still run, or whose processes were killed, are in it with what they have recorded.

    Exit status 0 if all is written, 2 if there are no journals or something can't be read or written.

    \b
    Example: manyhands report results -o run.html --trace run.json
    """  # noqa: D301  # \b is click's mark for lines that stay as they are
    from manyhands.reporting.journal import read

    try:
        recordings = read(directory, recursive=recursive)
        if not recordings:
            raise CanNotReport(_nothing(directory, recursive))
        if output is None and trace is None and not as_json:
            output = Path("report.html")
        written = _write(recordings, output, trace)
    except OSError as error:
        raise CanNotReport(f"{error.filename or directory}: {error.strerror or error}") from error
    if as_json:
        from manyhands.reporting.figures import figures

        click.echo(json.dumps(figures(recordings), indent=2))
    for path in written:
        click.echo(f"wrote {path}", err=as_json)
    sys.exit(exits.OK)


def _write(recordings: Sequence[Recording], output: Path | None, trace: Path | None) -> list[Path]:
    if output is not None:
        from manyhands.reporting.page import write_page

        write_page(output, recordings)
    if trace is not None:
        from manyhands.reporting.trace import write_trace

        write_trace(trace, recordings)
    return [path for path in (output, trace) if path is not None]


def _nothing(directory: Path, recursive: bool) -> str:
    where = f"in {str(directory)!r}" + (" or below it" if recursive else "")
    more = "" if recursive else ", or look below it with --recursive"
    return (
        f"there are no journals {where}: have maps write them with record={str(directory)!r}, as in "
        f"function.map(items, record={str(directory)!r}){more}"
    )

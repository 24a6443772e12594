"""``manyhands retry``: failed outputs are to be computed after all."""

from __future__ import annotations

import sys
from fnmatch import fnmatchcase
from pathlib import Path

import click

from manyhands.claims.reopen import reopen
from manyhands.claims.states import OutputState, State
from manyhands.claims.survey import Survey
from manyhands.cli.status import directory_argument, json_option, listed, outputs, place_of, recursive_option
from manyhands.cli.tables import printable, tell_json
from manyhands.errors import OutputDirectoryError


@click.command()
@directory_argument
@click.argument("patterns", nargs=-1, metavar="[PATTERN]...")
@recursive_option
@click.option("--discarded", is_flag=True, help="Also what @validated sorted out.")
@click.option(
    "--stale", is_flag=True, help="Also claims of owners that have ended or are not heard of any more."
)
@click.option("--dry-run", is_flag=True, help="Say what would be reopened, and change nothing.")
@json_option
def retry(
    directory: Path,
    patterns: tuple[str, ...],
    recursive: bool,
    discarded: bool,
    stale: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Have failed outputs in DIRECTORY tried again.

    They are reopened: whoever computes there next tries them. With PATTERNs, as '2024-*.csv', only those whose
    names match one of them. A record is added to each log and nothing is removed, so this is safe while others
    are at work, on any machine. It computes nothing itself: runs that start later do, and those at work that have
    not come to these outputs yet.

    --stale needs no lease to pass: an owner that is there after all finds its claim superseded, and its output
    is computed once more.

    Exit status 0, also if there was nothing to reopen; 1 if something could not be written; 2 if DIRECTORY can't
    be listed.

    \b
    Examples: manyhands retry results
              manyhands retry results 'tile-7*.csv' --dry-run
    """  # noqa: D301  # \b is click's mark for lines that stay as they are
    states: set[State] = {"failed"}
    states.update({"discarded"} if discarded else (), {"stale"} if stale else ())
    reopened = []
    try:
        for found in listed(Survey(directory, recursive=recursive)):
            if found.state in states and _is_meant(found, patterns, directory) and (dry_run or reopen(found)):
                reopened.append(place_of(found, directory))
                if not as_json:
                    click.echo(printable(reopened[-1]))
    except OutputDirectoryError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(1)
    finally:  # what was done is told, whatever came then
        if as_json:
            tell_json(directory=str(directory.absolute()), dry_run=dry_run, reopened=reopened)
    if not as_json:
        verb = "would be reopened" if dry_run else "reopened"
        click.echo(f"{outputs(len(reopened)) if reopened else 'nothing'} {verb}", err=True)


def _is_meant(found: OutputState, patterns: tuple[str, ...], top: Path) -> bool:
    names = (found.name, place_of(found, top))
    return not patterns or any(fnmatchcase(name, pattern) for pattern in patterns for name in names)

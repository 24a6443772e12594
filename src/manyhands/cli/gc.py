"""``manyhands gc``: what claims have left behind goes."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from manyhands.claims.dry import DryFileSystem
from manyhands.claims.gc import gc as collect
from manyhands.cli.status import directory_argument, json_option, recursive_option
from manyhands.cli.tables import number, printable, tell_json

WARNING = (
    "With --now everything but outputs goes: also claims of those who are at work, and what is known of failures.\n"
    "Does nobody compute outputs in {}, on any machine, and shall all that go?"
)


@click.command()
@directory_argument
@recursive_option
@click.option(
    "--now", is_flag=True, help="Nobody works there: remove everything but outputs, and forget failures."
)
@click.option("-y", "--yes", is_flag=True, help="With --now: do not ask whether that is so.")
@click.option("--dry-run", is_flag=True, help="Say what would be removed, and change nothing.")
@json_option
def gc(directory: Path, recursive: bool, now: bool, yes: bool, dry_run: bool, as_json: bool) -> None:
    """Remove what claims have left behind in DIRECTORY.

    That is what the dead of this machine have left: logs of finished outputs, half-written files, their own
    files. Outputs that were complete and had not got their names are published first. Failures stay, and so
    does everything that may be in use, on this machine or others. Outputs and files of others are never touched.

    Exit status 0, also if there was nothing to remove; 1 if something could not be removed, or --now was not
    confirmed; 2 if --now is used outside a terminal without --yes.

    \b
    Examples: manyhands gc results
              manyhands gc results --now --dry-run
    """  # noqa: D301  # \b is click's mark for lines that stay as they are
    if now and not (yes or dry_run):
        if not sys.stdin.isatty():
            raise click.UsageError("--now outside a terminal needs --yes: nobody can be asked")
        click.confirm(WARNING.format(printable(str(directory))), abort=True, err=True)
    removed: list[str] = []
    published: list[str] = []
    try:
        for each in _directories(directory, recursive):
            dry = DryFileSystem() if dry_run else None
            gone = [str(path.relative_to(directory)) for path in collect(each, now, dry)]
            removed += gone
            published += [os.path.relpath(path, directory) for path in (dry.made if dry else ())]
            for path in () if as_json else gone:
                click.echo(printable(path))
    except OSError as error:
        click.echo(f"Error: {printable(str(error))}", err=True)
        sys.exit(1)
    finally:  # what was done is told, whatever came then
        if as_json:
            told = {"dry_run": dry_run, "removed": removed, "would_publish": published}
            tell_json(directory=str(directory.absolute()), **told)
    if not as_json:
        verb = "would be removed" if dry_run else "removed"
        also = f", {number(len(published), 'output')} would be published" if published else ""
        click.echo(f"{number(len(removed), 'file') if removed else 'nothing'} {verb}{also}", err=True)


def _directories(top: Path, recursive: bool) -> list[Path]:
    """Those to clean; what writes half an output that is a directory is not among them: its name is one of ours."""
    from manyhands.claims.survey import list_names

    found, waiting = [], [top]
    while waiting:
        directory = waiting.pop()
        found.append(directory)
        if recursive:
            waiting += [directory / name for name in list_names(directory, below=True).below]
    return sorted(found, key=os.fsencode)

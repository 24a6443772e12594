"""``manyhands doctor``: is a directory a good place for claims, and is all well in it?"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Final

import click

from manyhands.claims.belongings import inspect
from manyhands.claims.checkup import Check, examine
from manyhands.claims.mounts import Verdict
from manyhands.cli.status import directory_argument, json_option
from manyhands.cli.tables import console, number, printable

_STYLES: Final[dict[Verdict, str]] = {"ok": "green", "warning": "yellow", "problem": "bold red"}
_WIDTH: Final = 15


@click.command()
@directory_argument
@json_option
def doctor(directory: Path, as_json: bool) -> None:
    """Check whether DIRECTORY is a good place for outputs.

    It tries what claims ask of a filesystem: that one of two creations of a name is refused, fsync, names, room, the
    directory's clock. Then it looks for claims whose owners have gone, and files that are in the way or of no
    use. It says of each what to do. What it makes for that goes again; it may run while others are at work.

    Exit status 0 if there is no problem (there may be warnings), 1 if there is one, 2 if DIRECTORY can't be listed.

    \b
    Example: manyhands doctor /shared/results
    """  # noqa: D301  # \b is click's mark for lines that stay as they are
    checks = _checks(directory)
    if as_json:
        found = list(checks)
        told = {
            "directory": str(directory.absolute()),
            "ok": not _problems(found),
            "checks": [asdict(check) for check in found],
        }
        click.echo(json.dumps(told, indent=1))
    else:
        found = _told(checks)
    sys.exit(int(bool(_problems(found))))


def _checks(directory: Path) -> Iterator[Check]:
    try:
        yield from examine(directory)
        yield from inspect(directory)
    except OSError as error:
        raise click.UsageError(f"{str(directory)!r} can't be listed: {error.strerror or error}") from error


def _told(checks: Iterable[Check]) -> list[Check]:
    """As they come: some take their time."""
    from rich.text import Text

    screen, found = console(), []
    for check in checks:
        found.append(check)
        line = Text(f"{check.verdict:<8} ", style=_STYLES[check.verdict])
        line.append(f"{check.name:<{_WIDTH}}", "default not bold").append(
            printable(check.text), "default not bold"
        )
        cure = f"{'':9}{'':{_WIDTH}}-> {printable(check.cure)}" if check.cure else ""
        if screen.is_terminal:
            screen.print(line, soft_wrap=True)
            if cure:
                screen.print(Text(cure, style="italic"), soft_wrap=True)
        else:
            click.echo(line.plain + (f"\n{cure}" if cure else ""))
    problems, warnings = _problems(found), sum(check.verdict == "warning" for check in found)
    told = [number(count, name) for count, name in ((problems, "problem"), (warnings, "warning")) if count]
    click.echo(f"\n{' and '.join(told) or 'all is well'}")
    return found


def _problems(checks: Iterable[Check]) -> int:
    return sum(check.verdict == "problem" for check in checks)

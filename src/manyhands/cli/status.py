"""``manyhands status``: what a directory of outputs has come to."""

from __future__ import annotations

import shlex
import socket
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import click

from manyhands.claims.states import STATES, OutputState, State
from manyhands.claims.survey import Survey
from manyhands.cli.tables import ROWS, Rows, console, duration, hint, number, printable, show, stream_json
from manyhands.reporting.glance import glances

SKEW: Final = 2.0
"""Seconds by which a directory's clock may be ahead without being told."""

BAD: Final[tuple[State, ...]] = ("failed", "stale", "unreadable")
"""Outputs in these states need somebody: exit status 1."""

Command = Callable[..., Any]

directory_argument = click.argument(
    "directory", type=click.Path(exists=True, file_okay=False, path_type=Path), default="."
)
recursive_option = click.option("-r", "--recursive", is_flag=True, help="Also the directories below it.")
match_option = click.option(
    "--match", metavar="PATTERN", help="Only outputs of such names, '*.csv' for example."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")


@click.command()
@directory_argument
@recursive_option
@match_option
@click.option("--all", "show_all", is_flag=True, help="Show all rows, and outputs in every state.")
@json_option
def status(directory: Path, recursive: bool, match: str | None, show_all: bool, as_json: bool) -> None:
    """Show what is done, running, stale or failed in DIRECTORY.

    That is the current one if none is given. It is only read, so ask at any time, from any machine. "done" counts
    files and directories that are not of claims, whoever made them: name yours with --match if there are others.
    "since" is when a worker ended what it did before; the times of other machines are only as right as their
    clocks. Where outputs have temp=, ask for the directory that names: claims are shown where they lie.

    Exit status 0 if nothing failed, 1 if outputs failed, are stale or can't be read, 2 if DIRECTORY can't be
    listed.

    \b
    Examples: manyhands status results
              manyhands status results --match '*.csv' --json
    """  # noqa: D301  # \b is click's mark for lines that stay as they are
    survey = Survey(directory.absolute() if as_json else directory, recursive=recursive, match=match)
    if as_json:
        stream_json(
            {
                "directory": str(directory.absolute()),
                "time": time.time(),
                "maps": [asdict(one) for one in glances(directory, socket.gethostname())],
            },
            "outputs",
            (found.as_json() for found in listed(survey)),
            lambda: totals(survey),
        )
    else:
        tables = _Tables(None if show_all else ROWS, directory)
        for found in listed(survey):
            tables.add(found)
        head_line(survey)
        tell_maps(directory)
        tables.show(everything=show_all)
        if not survey.claimants and not survey.counts:
            below = "" if recursive else "; -r looks into directories below"
            hint(f"No claims are there: what is done may be any files{below}.")
        if survey.counts["failed"]:
            hint(
                f"manyhands failures {quoted(directory)} tells more, manyhands retry {quoted(directory)} reopens them"
            )
        tell_notes(survey)
    sys.exit(exit_status(survey))


def tell_maps(directory: Path) -> None:
    """The maps that run there, or ended without saying so, of those that write journals."""
    for one in glances(directory, socket.gethostname()):
        if one.state != "ended":
            of = "" if one.total is None else f" of {one.total:,}"
            since = duration(max(0.0, time.time() - one.begun))
            state = "runs" if one.state == "running" else "was lost"
            place = printable(f"{one.host}:{one.pid}")
            console().print(
                f"{printable(one.function)} {state} on {place}: {one.settled:,}{of} items, begun {since} ago",
                soft_wrap=True,
                highlight=False,
                markup=False,
            )


def listed(survey: Survey) -> Iterable[OutputState]:
    """The outputs of a survey; that its directory can't be listed is a wrong use of the command."""
    try:
        yield from survey.read()
    except OSError as error:
        raise click.UsageError(
            f"{str(survey.directory)!r} can't be listed: {error.strerror or error}"
        ) from error


def totals(survey: Survey) -> dict[str, Any]:
    """The counts, when all was read."""
    return {
        "done": survey.done,
        "counts": {state: survey.counts[state] for state in STATES if state != "done"},
        "claimants": survey.claimants,
        "not_listed": survey.unread,
    }


def exit_status(survey: Survey) -> int:
    """1 if some outputs need somebody."""
    return int(any(survey.counts[state] for state in BAD) or bool(survey.unread))


def counted(survey: Survey) -> list[tuple[str, State]]:
    """How many outputs are in each state, as a person reads it; done ones first, in any case."""
    parts: list[tuple[str, State]] = [(f"{survey.done:,} done", "done")]
    for state in STATES:
        if state != "done" and survey.counts[state]:
            parts.append((f"{survey.counts[state]:,} {state}", state))  # noqa: PERF401  # types are told so
    return parts


STYLES: Final[dict[State, str]] = {
    "done": "green",
    "running": "cyan",
    "stale": "yellow",
    "waiting": "yellow",
    "failed": "bold red",
    "unreadable": "bold red",
}


def title(directory: Path) -> str:
    """The directory as its user knows it."""
    return printable(str(directory.absolute() if directory == Path() else directory))


def quoted(directory: Path) -> str:
    """As a shell takes it, in front of a terminal."""
    return printable(shlex.quote(str(directory)))


def head_line(survey: Survey) -> None:
    """The directory and its counts."""
    from rich.text import Text

    line = Text(f"{title(survey.directory)}: ")
    for at, (text, state) in enumerate(counted(survey)):
        line.append(", " if at else "").append(text, style=STYLES.get(state, ""))
    screen = console()
    if screen.is_terminal:
        screen.print(line)
    else:
        click.echo(line.plain)


def tell_notes(survey: Survey) -> None:
    """What makes the picture less than whole."""
    for path, why in survey.unread.items():
        click.echo(f"{printable(path)} can't be listed: {why}", err=True)
    ahead = survey.newest - survey.clock()
    if ahead > SKEW:
        click.echo(
            f"The clock of that directory is at least {duration(ahead)} ahead of this machine's: "
            f"it has been so much longer than what is shown.",
            err=True,
        )


def place_of(found: OutputState, top: Path) -> str:
    """The output's name, from ``top`` on."""
    path = Path(found.directory, found.name)
    return str(path.relative_to(top)) if path.is_relative_to(top) else str(path)


class _Tables:
    def __init__(self, limit: int | None, top: Path) -> None:
        self._top = top
        self._now = time.time()
        self._rows = {state: Rows[OutputState](_ORDER.get(state, _by_name), limit) for state in STATES}

    def add(self, found: OutputState) -> None:
        self._rows[found.state].add(found)

    def show(self, *, everything: bool) -> None:
        self._show("running", ("output", "where", "since", "attempt", "heard of"), self._claimed)
        self._show("stale", ("output", "where", "since", "heard of", "why"), self._stale)
        self._show("waiting", ("output", "again in", "attempt", "error"), self._waiting)
        self._show("failed", ("output", "when", "attempt", "error"), self._failed)
        self._show("unreadable", ("output", "log", "why"), lambda it: (f"{it.prefix}-{it.slot}", it.reason))
        if everything:
            self._show("discarded", ("output", "when", "attempt", "why"), self._failed)
            self._show("open", ("output", "when", "why"), lambda it: (self._ago(it.since), it.reason))
            self._show("committed", ("output", "when", "by"), lambda it: (self._ago(it.since), it.place))

    def _show(
        self, state: State, headings: tuple[str, ...], cells: Callable[[OutputState], tuple[str, ...]]
    ) -> None:
        rows = self._rows[state]
        lines = [(place_of(found, self._top), *cells(found)) for found in rows]
        show(state, headings, lines, rows.hidden, STYLES.get(state, "bold"))

    def _claimed(self, found: OutputState) -> tuple[str, ...]:
        heard = f"{self._quiet(found)}{' (stopped)' if found.reason else ''}"
        return found.place, duration(self._since(found)), str(found.attempt), heard

    def _stale(self, found: OutputState) -> tuple[str, ...]:
        lease = f" ({duration(found.lease)})" if "lease" in found.reason else ""
        return found.place, duration(self._since(found)), self._quiet(found), found.reason + lease

    def _waiting(self, found: OutputState) -> tuple[str, ...]:
        return (
            duration(found.retry_in) if found.retry_in else "now",
            str(found.attempt),
            found.last_line,
        )

    def _failed(self, found: OutputState) -> tuple[str, ...]:
        return self._ago(found.since), str(found.attempt), found.last_line

    def _quiet(self, found: OutputState) -> str:
        return "?" if found.quiet is None else f"{duration(found.quiet)} ago"

    def _since(self, found: OutputState) -> float | None:
        return None if found.since is None else max(0.0, self._now - found.since)

    def _ago(self, since: float | None) -> str:
        return "?" if since is None else f"{duration(max(0.0, self._now - since))} ago"


def _by_name(found: OutputState) -> Any:
    return found.directory, found.name


def oldest_first(found: OutputState) -> Any:
    """A key of rows."""
    return found.since or 0.0, found.name


def newest_first(found: OutputState) -> Any:
    """A key of rows."""
    return -(found.since or 0.0), found.name


_ORDER: Final = {"running": oldest_first, "stale": oldest_first, "failed": newest_first}


def outputs(count: int) -> str:
    """So many outputs."""
    return number(count, "output")

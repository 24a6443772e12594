"""``manyhands watch``: a directory of outputs, looked at again and again."""

from __future__ import annotations

import json
import socket
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

import click

from manyhands.claims.states import STATES, OutputState
from manyhands.claims.survey import Survey
from manyhands.cli.status import (
    STYLES,
    counted,
    directory_argument,
    exit_status,
    listed,
    match_option,
    newest_first,
    oldest_first,
    place_of,
    recursive_option,
    title,
)
from manyhands.cli.tables import Rows, console, duration, number, printable, table
from manyhands.reporting.glance import glances, left_of

if TYPE_CHECKING:
    from rich.console import Console, Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table

WINDOW: Final = 60.0
"""Seconds over which the rate is taken, if there are enough looks in them."""

LOOKS: Final = 10
"""Looks that the rate goes back at least, as far as there were so many."""

_PATIENCE: Final = 3
"""Looks for which maps of which only old journals are there may still come."""

_ROWS: Final = 6
_LINES: Final = 14
"""What the screen shows beside the rows of those that run."""


@dataclass
class Pace:
    """How fast outputs are finished, as seen from here. Pure: times are told.

    Attributes:
        window: seconds that count, if there are ``LOOKS`` looks in them.
    """

    window: float = WINDOW
    _looks: deque[tuple[float, int]] = field(default_factory=deque)

    def add(self, now: float, done: int) -> None:
        """At the time ``now`` so many were done."""
        self._looks.append((now, done))
        while len(self._looks) > LOOKS and self._looks[1][0] <= now - self.window:
            self._looks.popleft()

    @property
    def rate(self) -> float | None:
        """Outputs per second; None before the second look. Those that were removed don't count."""
        (first, before), (last, done) = self._looks[0], self._looks[-1]
        return max(0, done - before) / (last - first) if last > first else None

    def time_left(self, left: int) -> float | None:
        """Seconds for so many more at this rate; None if nothing is being finished."""
        return left / self.rate if self.rate else None


@dataclass
class Look:
    """One look at the directory, as it is shown.

    Attributes:
        total: how many outputs there will be, if that was told.
        left: how many are left to maps that run and write journals, if these know.
    """

    survey: Survey
    total: int | None
    rate: float | None
    seconds_left: float | None
    running: Rows[OutputState]
    failed: Rows[OutputState]
    left: int | None = None

    @property
    def settled(self) -> int:
        """Outputs to which nothing more happens by itself."""
        return settled(self.survey)

    @property
    def counts(self) -> str:
        """How many are in each state."""
        text = ", ".join(text for text, _ in counted(self.survey))
        if self.total is not None:
            return f"{text}, of {self.total:,}"
        return f"{text}, {self.left:,} to go" if self.left else text

    @property
    def pace(self) -> str:
        """The rate, and the time that is left if the total is known."""
        parts = [] if self.rate is None else [per_time(self.rate)]
        if self.seconds_left:
            parts.append(f"{duration(self.seconds_left)} left")
        return ", ".join(parts)

    def as_json(self) -> dict[str, Any]:
        """The numbers alone; the keys are documented, and stay."""
        return {
            "time": time.time(),
            "done": self.survey.done,
            "counts": {state: self.survey.counts[state] for state in STATES if state != "done"},
            "settled": self.settled,
            "total": self.total,
            "left": self.left,
            "per_second": self.rate,
            "seconds_left": self.seconds_left,
        }


class Screen(Protocol):
    """Where looks are shown."""

    def show(self, look: Look) -> None:
        """This is how it is now."""
        ...


@click.command()
@directory_argument
@recursive_option
@match_option
@click.option("--total", type=click.IntRange(min=0), help="How many outputs there will be.")
@click.option(
    "--until-idle",
    is_flag=True,
    help="End at the first look at which nothing runs, waits to be tried again, or is on a map's list.",
)
@click.option(
    "--interval",
    type=click.FloatRange(min=0.1),
    default=2.0,
    show_default=True,
    help="Seconds between looks, or more.",
)
@click.option("--json", "as_json", is_flag=True, help="Print a line of JSON whenever something has changed.")
def watch(
    directory: Path,
    recursive: bool,
    match: str | None,
    total: int | None,
    until_idle: bool,
    interval: float,
    as_json: bool,
) -> None:
    """Show live what is done, runs and fails in DIRECTORY.

    Also how fast it goes and how long it will take, if --total tells how many outputs there will be, or maps that
    run there write journals (as `manyhands run` does). It reads and changes nothing, and may be started at any time,
    on any machine. With --total it ends when all outputs are done or have failed, without when those maps have ended;
    else at Ctrl-C, or as --until-idle says. Outside a terminal it prints a line whenever something has changed.

    Exit status 0 at Ctrl-C; when it ends by itself as `manyhands status`: 0 if nothing failed, 1 if outputs failed,
    are stale or can't be read. 2 if DIRECTORY can't be listed.

    \b
    Examples: manyhands watch results --total 5000
              manyhands watch results --until-idle && manyhands gc results
    """  # noqa: D301  # \b is click's mark for lines that stay as they are
    pace = Pace()
    ended = None
    quiet = -_PATIENCE  # looks in a row at which no map ran that writes a journal; few are enough after one did
    try:
        with _screen(directory, as_json=as_json) as screen:
            while ended is None:
                begin = time.monotonic()
                maps = glances(directory, socket.gethostname())
                look = _look(Survey(directory, recursive=recursive, match=match), total, pace, left_of(maps))
                screen.show(look)
                runs = any(one.state == "running" for one in maps)
                quiet = 0 if runs else quiet + 1
                if (quiet > 0 and maps and total is None and not look.survey.counts["running"]) or is_over(
                    look.survey, total, until_idle=until_idle and not runs
                ):
                    ended = look.survey
                else:
                    time.sleep(pause(interval, time.monotonic() - begin))
    except KeyboardInterrupt:
        sys.exit(0)
    sys.exit(exit_status(ended))


def is_over(survey: Survey, total: int | None, *, until_idle: bool) -> bool:
    """Whether nothing more is to be expected."""
    if total is not None and settled(survey) >= total:
        return not survey.counts["running"]
    counts = survey.counts
    return until_idle and not (counts["running"] or counts["waiting"] or counts["committed"])


def pause(interval: float, took: float) -> float:
    """Seconds until the next look: of large directories it takes a fifth of the time at most."""
    return max(interval, 4 * took)


def settled(survey: Survey) -> int:
    """Outputs to which nothing more happens by itself."""
    return survey.done + survey.counts["failed"] + survey.counts["discarded"]


def _look(survey: Survey, total: int | None, pace: Pace, left: int | None) -> Look:
    running: Rows[OutputState] = Rows(oldest_first, 64)
    failed: Rows[OutputState] = Rows(newest_first, _ROWS)
    for found in listed(survey):
        if found.state == "running":
            running.add(found)
        elif found.state == "failed":
            failed.add(found)
    pace.add(time.monotonic(), settled(survey))
    if total is not None:
        left = max(0, total - settled(survey))
    seconds = None if left is None else pace.time_left(left)
    return Look(survey, total, pace.rate, seconds, running, failed, left)


def per_time(rate: float) -> str:
    """As people read it."""
    if not rate:
        return "nothing is being finished"
    if rate >= 1.0:
        return f"{rate:.3g}/s"
    return f"{60 * rate:.3g}/min" if 60 * rate >= 1.0 else f"{3600 * rate:.3g}/h"


@contextmanager
def _screen(directory: Path, *, as_json: bool) -> Iterator[Screen]:
    screen = console()
    if as_json or not screen.is_terminal or screen.is_dumb_terminal:
        yield Lines(as_json=as_json)
        return
    from rich.live import Live

    with Live(console=screen, auto_refresh=False, vertical_overflow="crop") as live:

        class Alive:
            def show(self, look: Look) -> None:
                live.update(_drawn(look, directory, screen), refresh=True)

        yield Alive()


class Lines:
    """A line for each change."""

    def __init__(self, *, as_json: bool = False) -> None:
        self._as_json = as_json
        self._last = ""

    def show(self, look: Look) -> None:
        """Say how it is, if it is not as before."""
        if look.counts != self._last:
            self._last = look.counts
            if self._as_json:
                click.echo(json.dumps(look.as_json()))
                return
            click.echo(f"{time.strftime('%H:%M:%S')}  {look.counts}{look.pace and f'; {look.pace}'}")


def _drawn(look: Look, top: Path, screen: Console) -> Group:
    from rich.console import Group, RenderableType
    from rich.progress_bar import ProgressBar
    from rich.text import Text

    now = time.time()
    head = Text(f"{title(top)}  ", style="bold")
    for at, (text, state) in enumerate(counted(look.survey)):
        head.append(", " if at else "", "not bold").append(text, f"not bold {STYLES.get(state, '')}")
    lines: list[RenderableType] = [head]
    total = look.total if look.left is None or look.total is not None else look.settled + look.left
    if total:
        share = f"  {min(100, 100 * look.settled // total)} % of {total:,}"
        bar = ProgressBar(total=total, completed=look.settled, width=max(10, screen.width - len(share) - 1))
        lines.append(_beside(bar, share))
    lines.append(Text(look.pace or "…", style="dim"))
    room = max(1, screen.height - _LINES)
    rows = list(look.running)[:room]
    if rows:
        cells = [
            [
                printable(place_of(found, top)),
                printable(found.place),
                duration(None if found.since is None else max(0.0, now - found.since)),
                f"{duration(found.quiet)} ago{' (stopped)' if found.reason else ''}",
            ]
            for found in rows
        ]
        lines += [Text("\nrunning", "cyan"), table(("output", "where", "since", "heard of"), cells)]
        if rest := look.running.count - len(rows):
            lines.append(Text(f"  and {rest:,} more", "dim"))
    failed = list(look.failed)
    if failed:
        cells = [[printable(place_of(found, top)), printable(found.last_line)] for found in failed]
        shown = f"{number(look.failed.count, 'failure')}{', the last ones' if look.failed.hidden else ''}"
        lines += [Text(f"\n{shown}", "bold red"), table(("output", "error"), cells)]
    return Group(*lines)


def _beside(bar: ProgressBar, text: str) -> Table:
    from rich.table import Table

    line = Table.grid()
    line.add_row(bar, text)
    return line

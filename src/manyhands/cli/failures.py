"""``manyhands failures``: what went wrong in a directory of outputs, sorted by what it was."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import click

from manyhands.claims.states import OutputState, State
from manyhands.claims.survey import Survey
from manyhands.cli.status import (
    directory_argument,
    json_option,
    listed,
    match_option,
    outputs,
    place_of,
    recursive_option,
    tell_notes,
)
from manyhands.cli.tables import ROWS, console, hint, printable, stream_json

EXAMPLES: Final = 3
"""Names that are shown of each message."""

MESSAGES: Final = 5
"""Messages that are shown of each type."""

MESSAGES_MAX: Final = 10_000
"""Messages of one type that are told apart."""

OTHERS: Final = "(other messages)"


@dataclass
class Message:
    """Failures whose last lines are the same, but for numbers, paths and what is quoted."""

    shape: str
    line: str
    count: int = 0
    examples: list[OutputState] = field(default_factory=list)

    def add(self, found: OutputState) -> None:
        """One more."""
        self.count += 1
        if len(self.examples) < EXAMPLES:
            self.examples.append(found)
        if found.last_line != self.line:
            self.line = self.shape


_VARYING: Final = re.compile(r"""'[^']*'|"[^"]*"|\S*/\S+|\d[\d.]*""")


def shape(line: str) -> str:
    """What messages about different items have in common; one that would have nothing left stays as it is."""
    kind, colon, message = line.partition(": ")
    if not colon:
        kind, message = "", line
    common = _VARYING.sub("…", message)
    return f"{kind}{colon}{common}" if re.search(r"\w", common) else line


@dataclass
class Group:
    """Failures by exceptions of one type."""

    type_name: str
    count: int = 0
    messages: dict[str, Message] = field(default_factory=dict)

    def add(self, found: OutputState) -> None:
        """One more."""
        self.count += 1
        key = shape(found.last_line)
        if key not in self.messages and len(self.messages) >= MESSAGES_MAX:
            key = OTHERS
        self.messages.setdefault(key, Message(key, found.last_line)).add(found)


@click.command()
@directory_argument
@recursive_option
@match_option
@click.option("--traceback", is_flag=True, help="Show the traceback of one output for each message.")
@click.option("--waiting", is_flag=True, help="Also failed attempts of outputs that have others left.")
@click.option("--discarded", is_flag=True, help="Also what @validated sorted out.")
@click.option("--all", "show_all", is_flag=True, help="Show all messages, not the most frequent ones.")
@json_option
def failures(
    directory: Path,
    recursive: bool,
    match: str | None,
    traceback: bool,
    waiting: bool,
    discarded: bool,
    show_all: bool,
    as_json: bool,
) -> None:
    """Show what failed in DIRECTORY, and why.

    By type of exception, then by message, the most frequent first; what differs from item to item in messages, as
    numbers and paths, is left out. It reads and changes nothing. `manyhands retry` has them tried again.

    Exit status 0 if nothing failed, 1 if something did, 2 if DIRECTORY can't be listed.

    \b
    Examples: manyhands failures results
              manyhands failures results --traceback
    """  # noqa: D301  # \b is click's mark for lines that stay as they are
    survey = Survey(directory.absolute() if as_json else directory, recursive=recursive, match=match)
    wanted: set[State] = {"failed"}
    wanted.update({"waiting"} if waiting else (), {"discarded"} if discarded else ())
    failed = (found for found in listed(survey) if found.state in wanted)
    if as_json:
        stream_json(
            {"directory": str(directory.absolute())},
            "failures",
            (found.as_json() for found in failed),
            lambda: {"count": _count(survey, wanted), "not_listed": survey.unread},
        )
    else:
        _show(grouped(failed), directory, traceback=traceback, show_all=show_all)
        tell_notes(survey)
        if not traceback and survey.counts["failed"]:
            hint("--traceback shows where")
    sys.exit(int(_count(survey, wanted) > 0))


def grouped(failed: Iterator[OutputState]) -> list[Group]:
    """By type, the most frequent first."""
    groups: dict[str, Group] = {}
    for found in failed:
        if found.failure is not None:
            name = found.exception
            groups.setdefault(name, Group(name)).add(found)
    return sorted(groups.values(), key=lambda group: (-group.count, group.type_name))


def _count(survey: Survey, states: set[State]) -> int:
    return sum(survey.counts[state] for state in states)


def _show(groups: list[Group], top: Path, *, traceback: bool, show_all: bool) -> None:
    screen = console()

    def say(text: str, style: str = "") -> None:
        if screen.is_terminal:
            screen.print(text, style=style, soft_wrap=True)
        else:
            click.echo(text)

    if not groups:
        say("nothing failed")
    for at, group in enumerate(groups):
        say(f"{'' if not at else chr(10)}{printable(group.type_name)}: {outputs(group.count)}", "bold red")
        messages = sorted(group.messages.values(), key=lambda each: (-each.count, each.line))
        shown = messages if show_all else messages[: ROWS if len(messages) <= ROWS else MESSAGES]
        for message in shown:
            say(f"  {message.count:>6,}  {printable(message.line)}")
            names = ", ".join(printable(place_of(found, top)) for found in message.examples)
            rest = message.count - len(message.examples)
            say(f"          {names}{f' and {rest:,} more' if rest else ''}", "dim")
            if traceback:
                for line in _traceback(message.examples[0]):
                    say(f"          | {printable(line)}")
        if len(messages) > len(shown):
            rest = sum(message.count for message in messages) - sum(message.count for message in shown)
            say(f"  {rest:>6,}  with {len(messages) - len(shown):,} other messages (--all shows them)", "dim")


def _traceback(found: OutputState) -> list[str]:
    failure: Any = found.failure
    return failure.traceback.rstrip().splitlines() or ["(no traceback was recorded)"]

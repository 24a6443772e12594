"""The group of commands, each of which is imported when it is used."""

from __future__ import annotations

from difflib import get_close_matches
from importlib import import_module
from typing import Final

import click

from manyhands import __version__
from manyhands.cli.signals import exiting

COMMANDS: Final = {
    "completion": "Print the completion script of a shell.",
    "demo": "Count objects in images, by processes that share a directory.",
    "doctor": "Check a directory as a place for outputs that are claimed.",
    "failures": "Show what failed in a directory, and why.",
    "gc": "Remove what nobody needs of the claims in a directory.",
    "logserver": "Take log records of other processes into a file.",
    "report": "Write a page about what maps did, from their journals.",
    "retry": "Have failed outputs computed again.",
    "run": "Run a function over inputs, in worker processes.",
    "status": "Show what is done, running and failed in a directory.",
    "stress": "Check a function with @claimed_output in a storm.",
    "version": "Print the versions of what is installed.",
    "watch": "Show a directory at work, until it is done.",
}
"""Each command and what ``manyhands --help`` says of it; it is the function of that name in the file of that name."""


class LazyGroup(click.Group):
    """The commands of the table, so that to list them, or to run one, does not import the others."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Their names, sorted."""
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, or None if there is none of this name."""
        if cmd_name not in COMMANDS:
            return None
        found = getattr(import_module(f"manyhands.cli.{cmd_name}"), cmd_name)
        assert isinstance(found, click.Command)
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that the arguments begin with; of none, the nearest is suggested."""
        name = args[0]
        if name not in COMMANDS and not name.startswith("-") and not ctx.resilient_parsing:
            near = get_close_matches(name, COMMANDS, 1)
            ctx.fail(f"there is no command {name!r}{f'; did you mean {near[0]!r}?' if near else ''}")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> object:
        """Runs a command; interrupts end it with the status that fits."""
        with exiting():
            return super().invoke(ctx)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """What the table says of each."""
        with formatter.section("Commands"):
            formatter.write_dl(sorted(COMMANDS.items()))


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, package_name="manyhands")
def cli() -> None:
    """Run plain functions over all cores, and over machines that share a directory."""

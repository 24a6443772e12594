"""The command line, ``manyhands``; each command has its file, and a line in the table of ``commands``."""

from __future__ import annotations


def main() -> None:
    """The entry point of the console script."""
    from manyhands.cli.commands import cli  # click is loaded by those who come through here alone

    cli(prog_name="manyhands")

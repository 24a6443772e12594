"""The command line, ``manyhands``; each command has its file."""

from __future__ import annotations


def main() -> None:
    """The entry point of the console script."""
    import manyhands.cli.doctor
    import manyhands.cli.failures
    import manyhands.cli.gc
    import manyhands.cli.retry
    import manyhands.cli.status
    import manyhands.cli.stress  # each file adds its command
    import manyhands.cli.watch  # noqa: F401
    from manyhands.cli.commands import cli  # click is loaded by those who come through here alone

    cli(prog_name="manyhands")

"""The command line, ``manyhands``; each command has its file, and a line in the table of ``commands``."""

from __future__ import annotations

import signal


def main() -> None:
    """The entry point of the console script."""
    from manyhands.cli.commands import cli  # click is loaded by those who come through here alone

    try:
        cli(prog_name="manyhands")
    finally:
        # All is told, and what is left is to end the workers, which the guard does, too, when this process is gone.
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, signal.SIG_DFL)

"""What the exit status of every command says."""

from __future__ import annotations

import signal
from typing import Final

OK: Final = 0
"""All is well."""

FAILED: Final = 1
"""Some items failed, or what was looked at is not well."""

USAGE: Final = 2
"""What was asked for can't be done; nothing was started."""

_SIGNALLED: Final = 128
"""Plus a signal's number: what shells say of a program that it has ended."""

INTERRUPTED: Final = _SIGNALLED + signal.SIGINT
BROKEN_PIPE: Final = _SIGNALLED + signal.SIGPIPE
TERMINATED: Final = _SIGNALLED + signal.SIGTERM

EPILOG: Final = (
    f"Exit status: {OK} all is well, {FAILED} something failed, {USAGE} bad usage and nothing was started, "
    f"{INTERRUPTED} interrupted (Ctrl-C), {TERMINATED} ended by SIGTERM."
)
"""The last paragraph of the help of a command that works on items."""


def of_signal(number: int) -> int:
    """The status of a command that this signal has ended."""
    return _SIGNALLED + number

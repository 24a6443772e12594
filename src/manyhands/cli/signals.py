"""How commands end before their time: by Ctrl-C, by SIGTERM, or because nobody reads what they print."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from manyhands.cli import exits

_PATIENCE: Final = 5.0
"""Seconds for which what was interrupted may go on undisturbed."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C or SIGTERM.

    Attributes:
        status: the exit status that tells which of them.
    """

    def __init__(self, number: int) -> None:
        super().__init__()
        self.status = exits.of_signal(number)


@contextmanager
def interruptible() -> Iterator[None]:
    """Ctrl-C and SIGTERM end what is in it in order, by ``Interrupted``; more of them don't disturb that.

    Unless it takes longer than some seconds: then the next one counts, too.
    What whoever started this program has it ignore, as shells do for ``command &`` in scripts, stays ignored.
    """
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    before = {number: handler for number, handler in handlers.items() if handler is not signal.SIG_IGN}
    ends = float("-inf")

    def interrupt(number: int, _: object) -> None:
        nonlocal ends
        if time.monotonic() > ends:  # one that was raised in a finaliser is lost: it must not be the last
            ends = time.monotonic() + _PATIENCE
            raise Interrupted(number)

    for number in before:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def exiting() -> Iterator[None]:
    """What is in it ends the program with the status that fits, when it is interrupted or nobody reads any more."""
    if sys.stdout is None:  # it was closed by who started this
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123
    try:
        with interruptible():
            try:
                yield
            finally:
                _flush()
    except KeyboardInterrupt as error:
        sys.exit(getattr(error, "status", exits.INTERRUPTED))
    except BrokenPipeError:
        _drop_output()
        sys.exit(exits.BROKEN_PIPE)
    except Unwritten as error:
        _drop_output()
        print(f"Error: standard output can't be written: {error}", file=sys.stderr)
        sys.exit(exits.FAILED)


class Unwritten(Exception):
    """What was printed can't be written: the disk is full, say."""


def _flush() -> None:
    """What can't be written is to be known now."""
    try:
        print(end="", flush=True)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise Unwritten(error.strerror or str(error)) from error


def _drop_output() -> None:
    """What is left in its buffer would be tried once more as Python ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)

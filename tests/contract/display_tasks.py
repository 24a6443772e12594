"""Functions that fail in the ways in which a traceback can look."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from manyhands import OUTPUT, claimed_output, parallel, retry_on, validated


def broken(x: object) -> NoReturn:
    """What the tasks call."""
    raise ValueError(f"{x} is broken")


@parallel
def fail(x: int) -> int:
    """Fails on 3."""
    if x == 3:
        broken(x)
    return x


@parallel
@retry_on(ValueError, attempts=3, wait=0)
def fail_again(x: int) -> int:
    """Fails each time."""
    return broken(x)


@parallel
@claimed_output("{x}.txt")
def fail_claimed(x: int, output: Path = OUTPUT) -> None:
    """Fails on 3, as it holds the claim."""
    if x == 3:
        broken(x)
    output.touch()


@parallel
@validated(result=lambda value: bool(broken(value)))
def fail_judged(x: int) -> int:
    """Its predicate fails."""
    return x


@parallel
def fail_within(x: int) -> list[int]:
    """Maps a function that fails."""
    return list(fail.map([x]))


class TwoArguments(Exception):
    """Can't be unpickled."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(first + second)


@dataclass(frozen=True)
class Frozen(Exception):
    """Can't be changed."""

    code: int


@parallel
def raise_chain(kind: str) -> NoReturn:
    """Raises something that has a cause or a context, or is a group."""
    known: dict[str, int] = {}
    try:
        known["first"]
    except KeyError as error:
        if kind == "context":
            broken("context")
        if kind == "suppressed":
            raise RuntimeError("second") from None
        if kind == "cause":
            raise RuntimeError("second") from error
        caught = error
    if kind == "strange cause":
        try:
            raise TwoArguments("a", "b")
        except TwoArguments as error:
            raise RuntimeError("second") from error
    if kind == "noted":
        told = RuntimeError("noted")
        told.add_note("a note of the user's")
        raise told
    if kind == "syntax":
        compile("a = (1", "settings.txt", "exec")
    if kind == "frozen":
        raise Frozen(3)
    raise ExceptionGroup("two", [caught, ValueError("never raised")])


def deeper(x: int) -> int:
    """Calls itself without end."""
    return deeper(x + 1)


@parallel
def fall(x: int) -> int:
    """Ends where Python's patience does."""
    return deeper(x)


@parallel
def leave(x: int) -> NoReturn:
    """Would end its process."""
    sys.exit(f"{x} is enough")


@parallel
def end(x: int) -> int:
    """Ends its worker on 3."""
    if x == 3:
        os._exit(5)
    return x


@parallel
def stay(x: int) -> int:
    """Does not return from 3."""
    while x == 3:
        time.sleep(60)
    return x

"""For each error class a program that raises it, whose message ``docs/errors.md`` shows."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from manyhands import OUTPUT, Controller, claimed_output, parallel, validated

two: Any = 2


@parallel(workers=1)
def area(width: int, height: int) -> int:
    """Of a rectangle."""
    return width * height


@validated(arguments=lambda width: width > 0, result=lambda value: value < 100, invalid="raise")
def checked_area(width: int, height: int) -> int:
    """Of a small rectangle."""
    return width * height


@parallel(workers=1, timeout=0.5)
def crash(number: int) -> None:
    """Ends its process, or takes too long."""
    while number == 0:
        time.sleep(1)
    os.kill(os.getpid(), 9)


class TwoPartError(Exception):
    """Pickle can't make it again: it has one argument and needs two."""

    def __init__(self, part: str, whole: str) -> None:
        super().__init__(f"{part} of {whole}")


@parallel(workers=1)
def open_part(name: str) -> None:
    """Raises what does not travel."""
    raise TwoPartError(name, "archive.zip")


def refuse() -> None:
    """An initializer that raises."""
    raise ConnectionError("no licence left")


@claimed_output("results/{number}.txt")
def forget(number: int, output: Path = OUTPUT) -> None:
    """Writes nothing."""


@claimed_output("results/{number}.txt", failed="report")
def invert(number: int, output: Path = OUTPUT) -> None:
    """Fails on 0."""
    output.write_text(f"{1 / number}")


@claimed_output("results/{number}.txt", fingerprint={"scale": 2})
def scale(number: int, output: Path = OUTPUT) -> None:
    """Writes twice the number."""
    output.write_text(f"{2 * number}")


@parallel(workers=1)
@claimed_output("results/{number.real}.txt")
def store(number: complex, output: Path = OUTPUT) -> None:
    """Two numbers may have the same real part."""
    output.write_text(f"{number}")


def item_error() -> None:
    area.map([(1, 2), (3,)], star=True)


def invalid_arguments() -> None:
    checked_area(-1, 5)


def invalid_result() -> None:
    checked_area(50, 50)


def template_error() -> None:
    claimed_output("results/{hieght}.txt", save=print)(area)


def duplicate_output() -> None:
    list(store.map([1 + 2j, 1 + 3j]))


def fingerprint_mismatch() -> None:
    scale(1)
    claimed_output("results/{number}.txt", fingerprint={"scale": 3})(scale.__wrapped__)(2)


def output_missing() -> None:
    forget(1)


def output_directory_error() -> None:
    Path("results").write_text("a file")
    invert(1)


def failed_elsewhere() -> None:
    try:
        invert(0)
    except ZeroDivisionError:
        invert(0)


def claimed_elsewhere() -> None:
    @claimed_output("results/{number}.txt", wait=False)
    def again(number: int, output: Path = OUTPUT) -> None:
        Path("results").mkdir(exist_ok=True)
        again(number)

    again(1)


def remote_error() -> None:
    list(open_part.map(["index"]))


def worker_died() -> None:
    list(crash.map([1]))


def task_timeout() -> None:
    list(crash.map([0]))


def pool_broken() -> None:
    list(area.map([(1, 2)], star=True, initializer=refuse))


def pool_closed() -> None:
    with Controller(1) as pool:
        pass
    pool.submit(area, 1, 2)


EXAMPLES: dict[str, Callable[[], None]] = {
    "ItemError": item_error,
    "InvalidArguments": invalid_arguments,
    "InvalidResult": invalid_result,
    "TemplateError": template_error,
    "DuplicateOutput": duplicate_output,
    "FingerprintMismatch": fingerprint_mismatch,
    "OutputMissing": output_missing,
    "OutputDirectoryError": output_directory_error,
    "ClaimedElsewhere": claimed_elsewhere,
    "FailedElsewhere": failed_elsewhere,
    "RemoteError": remote_error,
    "WorkerDied": worker_died,
    "TaskTimeout": task_timeout,
    "PoolBroken": pool_broken,
    "PoolClosed": pool_closed,
}

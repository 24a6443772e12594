"""What the processes of the storms compute, and the journal they keep of it; knows nothing of manyhands.

Everything follows from the seed and the item, so that workers, reader and checker agree without talking.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

MEMBER = "MANYHANDS_STRESS_MEMBER"
TAG = "MANYHANDS_STRESS_TAG"
LEASE = "MANYHANDS_STRESS_LEASE"
BY_NAME = "MANYHANDS_STRESS_BY_NAME"
JOURNAL = "journal.log"


class Boom(Exception):
    """A failure that a storm planned."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of the journal.

    Attributes:
        kind: "b" an item was begun, "e" it was ended, "f" it is about to fail as planned, "t" it is a trap; "twice"
            it is about to be begun although a process that has begun it is alive.
        scope: which member of the storm, or which of its maps, by number.
        pid: of the process that wrote it.
        item: the item's number.
        at: when, in seconds of the monotonic clock, which all processes of a machine share.
    """

    kind: str
    scope: int
    pid: int
    item: int
    at: float


def note(journal: Path, kind: str, scope: int, item: int, at: float | None = None) -> None:
    """Append a line at once, so that a process which is killed the next moment has written it; ``at``: None is now."""
    at = time.monotonic() if at is None else at
    descriptor = os.open(journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(descriptor, f"{kind} {scope} {os.getpid()} {item} {at:.6f}\n".encode())
    finally:
        os.close(descriptor)


def entries(text: str) -> Iterator[Entry]:
    """The lines of a journal."""
    for line in text.splitlines():
        kind, scope, pid, item, at = line.split()
        yield Entry(kind, int(scope), int(pid), int(item), float(at))


def luck(seed: int, *what: object) -> random.Random:
    """Chance that is the same in every process."""
    return random.Random(":".join(map(str, (seed, *what))))


def idle_or_busy(seconds: float, busy: bool) -> None:
    """Spend wall time, or about as much time of the processor."""
    if not busy:
        time.sleep(seconds)
        return
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


# -- the claims storm ----------------------------------------------------------------------------------------


def output_name(number: int) -> str:
    """The output's file name; with spaces and braces in it, which must not matter."""
    return f"out {number:05d} {{x}}.txt"


def output_number(name: str) -> int:
    """The item whose output is called so."""
    return int(name.split()[1])


def pieces(seed: int, number: int) -> list[bytes]:
    """The output of an item, in the steps in which it is written; its last line tells that it is whole."""
    chance = luck(seed, "content", number)
    steps = chance.choice((1, 1, 2, 5))
    size = chance.choice((0, 40, 4000, 60000))
    lines = [f"item {number} step {step} {chance.randbytes(size // 2).hex()}\n" for step in range(steps)]
    return [line.encode() for line in (*lines, f"end of item {number}\n")]


def content(seed: int, number: int) -> bytes:
    """What the output holds when it is whole."""
    return b"".join(pieces(seed, number))


def write_output(
    seed: int,
    number: int,
    output: Path,
    hurried: bool = False,
    before_end: Callable[[], None] | None = None,
) -> None:
    """Write an item's output, by steps; unless ``hurried``, with pauses in which one may be killed.

    ``before_end`` is called when all but the last line is written.
    """
    chance = luck(seed, "pace", number)
    *_, last = steps = pieces(seed, number)
    with open(output, "wb") as file:
        for piece in steps:
            if piece is last and before_end is not None:
                before_end()
            file.write(piece)
            file.flush()
            if not hurried:
                busy = chance.random() < 0.3
                idle_or_busy(chance.uniform(0.001, 0.008 if busy else 0.06), busy)


def signed(seed: int, number: int, signature: str) -> list[bytes]:
    """The same of a storm whose outputs say who has written them: no two writers write the same."""
    chance = luck(seed, "signed", number, signature)
    steps = chance.choice((1, 1, 2, 3))
    size = chance.choice((0, 40, 4000))
    lines = [f"{signature} item {number} step {step} {chance.randbytes(size).hex()}\n" for step in range(steps)]
    return [line.encode() for line in (*lines, f"end of item {number}\n")]


def is_signed(seed: int, number: int, data: bytes) -> bool:
    """Whether that is all of what one writer writes."""
    signature = data[:64].partition(b" ")[0].decode("ascii", "replace")
    return data == b"".join(signed(seed, number, signature))


def write_signed(seed: int, number: int, signature: str, output: Path) -> None:
    """Write it by steps, with pauses in which one may be killed."""
    chance = luck(seed, "pace", number)
    with open(output, "wb") as file:
        for piece in signed(seed, number, signature):
            file.write(piece)
            file.flush()
            idle_or_busy(chance.uniform(0.0, 0.01), busy=False)


def is_trap(number: int) -> bool:
    """Whether the item's first caller stays in it for ever."""
    return number % 97 == 50


def stumbles(seed: int, number: int) -> bool:
    """Whether the item fails once, with an OSError."""
    return luck(seed, "stumble", number).random() < 0.05


def first_time(path: Path) -> bool:
    """Whether nobody, in any process, has asked that of ``path`` before."""
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True


# -- failing items -------------------------------------------------------------------------------------------


def planned_failures(seed: int, number: int, attempts: int) -> int | None:
    """How many calls of the item fail before one succeeds, -1 for all; None: its result is invalid."""
    chance = luck(seed, "failures", number)
    few, many = chance.randint(1, attempts - 1), chance.randint(attempts, 2 * attempts - 1)
    return chance.choices((0, -1, few, many, None), (40, 15, 25, 10, 10))[0]


def count_call(path: Path) -> int:
    """Count a call in a file that all processes share; which call it was, from 1."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(descriptor, b".")
        return os.lseek(descriptor, 0, os.SEEK_CUR)
    finally:
        os.close(descriptor)

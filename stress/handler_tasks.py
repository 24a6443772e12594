"""What the items of a storm of handlers do, and the notes that they take; knows nothing of manyhands.

An item is its flow, its number and its variant: 0, or how many other arguments ``handle_error`` has given for it.
Besides the journal there is a table with two numbers for each: the process that is at it, and how often it was begun.
"""

from __future__ import annotations

import mmap
import os
import signal
import time
from functools import cache
from pathlib import Path
from typing import Any, Final

import tasks
from handler_schedule import RAISED, Deed, Storm, loads
from schedule import EXIT_STATUS
from storm_tasks import ENDLESS_SECONDS, SCHEDULE, TABLE, has_ended

_MOST: Final = 100
"""More than an item has begins, or variants."""

Item = tuple[int, int, int]


class Trouble(Exception):
    """A failure that was planned."""


class Worse(Trouble):
    """One of those, and more exactly so."""


class Broken(Exception):
    """Another one."""


class GaveUp(Exception):
    """What ``handle_error`` gives instead of an error."""


class Undecided(Exception):
    """What ``handle_error`` raises."""


_ERRORS: Final[dict[str, type[Exception]]] = {
    "Trouble": Trouble,
    "Worse": Worse,
    "Broken": Broken,
    "ConnectionError": ConnectionError,
}


def is_broken(error: BaseException) -> bool:
    """A predicate of exceptions."""
    return isinstance(error, Broken)


def keeps(item: Item) -> bool:
    """The predicate of arguments."""
    flow, number, variant = item
    return _room(os.getcwd()).storm.flows[flow].items[number].refused != variant


def is_valid(value: list[Any]) -> bool:
    """The predicate of results."""
    return bool(value[0] != "invalid")


def run(item: Item) -> list[Any]:
    """The function."""
    begun = time.monotonic()  # what comes before the note, a disk that is busy say, is the call's time as well
    flow, number, variant = item
    room = _room(os.getcwd())
    count = room.begin(flow, number, variant, begun)
    plan = room.storm.flows[flow].items[number]
    deed = plan.deed(count)
    if plan.ms:
        time.sleep(plan.ms / 1000)
    if deed == "overtime":
        time.sleep(ENDLESS_SECONDS)
    if deed == "exit":
        os._exit(EXIT_STATUS)
    if deed == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(ENDLESS_SECONDS)  # another thread of this process may be given the signal
    room.end(flow, number, count, variant)
    return _come_to(deed, [flow, number, count, variant])


def text(place: list[int]) -> str:
    """What an exception says."""
    return "item {} {}, begun {} times before, variant {}".format(*place)


def _come_to(deed: Deed, place: list[int]) -> list[Any]:
    if deed in RAISED:
        raise _ERRORS[RAISED[deed]](text(place))
    return [deed, *place]


class Room:
    """What a process knows of the storm that is played in a directory."""

    def __init__(self, directory: Path) -> None:
        self.storm: Storm = loads((directory / SCHEDULE).read_text())
        self._journal = directory / tasks.JOURNAL
        with open(directory / TABLE, "r+b") as file:
            self._table = memoryview(mmap.mmap(file.fileno(), 0)).cast("q")

    def begin(self, flow: int, number: int, variant: int, at: float) -> int:
        """Notes that an item is begun; returns how often it was before."""
        place = 2 * (self.storm.offsets[flow] + number)
        before, self._table[place] = self._table[place], os.getpid()
        count = self._table[place + 1]
        self._table[place + 1] = count + 1
        if before and (before == os.getpid() or not has_ended(before)):
            tasks.note(self._journal, "twice", flow, _noted(number, count, variant))
        tasks.note(self._journal, "b", flow, _noted(number, count, variant), at)
        return count

    def end(self, flow: int, number: int, count: int, variant: int) -> None:
        """Notes that it was ended."""
        self._table[2 * (self.storm.offsets[flow] + number)] = 0
        tasks.note(self._journal, "e", flow, _noted(number, count, variant))


def _noted(number: int, count: int, variant: int) -> int:
    return (number * _MOST + count) * _MOST + variant


def noted(item: int) -> tuple[int, int, int]:
    """Number, count of earlier begins and variant of what the journal has for an item."""
    number, variant = divmod(item, _MOST)
    return (*divmod(number, _MOST), variant)


def prepare(directory: Path, storm: Storm) -> None:
    """Makes the files that the items need."""
    (directory / SCHEDULE).write_text(storm.dumps())
    (directory / TABLE).write_bytes(bytes(16 * storm.offsets[-1]))


@cache
def _room(directory: str) -> Room:
    return Room(Path(directory))

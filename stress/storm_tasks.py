"""What the items of a schedule do in their workers, and the notes that they take; knows nothing of manyhands.

An item is known by its number, all items of a schedule counted through. Besides the journal there is a table of
eight bytes for each: the process that began it last. So a second one sees at once whether the first has ended.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import pickle
import signal
import sys
import threading
import time
from bisect import bisect_right
from functools import cache
from pathlib import Path
from typing import Any, Final, NoReturn

import tasks
from schedule import EXIT_STATUS, Schedule, loads

SCHEDULE: Final = "schedule.json"
TABLE: Final = "table"
PLAYED: Final = "played"
ENDLESS_SECONDS: Final = 300.0
"""Longer than a round may take."""

_BIG: Final = 300_000


class Unloadable:
    """A value that can be pickled, and raises when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _unload, ()


class Cargo:
    """Many bytes that are all the same, and belong to a number. Its pickle leaves them where they are."""

    def __init__(self, number: int, data: Any) -> None:
        self.number = number
        self.data = memoryview(data)

    @classmethod
    def of(cls, number: int, size: int) -> Cargo:
        """The right one."""
        return cls(number, bytearray([number % 251]) * size)

    def __reduce__(self) -> tuple[Any, ...]:
        return Cargo, (self.number, pickle.PickleBuffer(self.data))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Cargo) and other.number == self.number and other.data == self.data

    __hash__ = object.__hash__

    def check(self) -> None:
        """Raises unless it is as it was made; makes something else of it, which nobody else must see."""
        if self != Cargo.of(self.number, len(self.data)):
            raise AssertionError(f"the bytes of item {self.number} are {bytes(self.data[:20])!r}")
        self.data[:] = bytes(len(self.data))


def _unload() -> NoReturn:
    raise tasks.Boom("it can't be unpickled")


def value(does: str, scope: int, index: int) -> Any:
    """What an item returns."""
    if does == "boxed":
        return [scope, index]
    if does == "big":
        return Cargo.of(index, _BIG) if index % 2 else bytes([index % 256]) * _BIG
    return scope * 1_000_000 + index


def run(item: int | Cargo) -> Any:
    """The item with this number."""
    begun = time.monotonic()  # what comes before the note, a disk that is busy say, is the call's time as well
    number = item if isinstance(item, int) else item.number
    if isinstance(item, Cargo):
        item.check()
    room = _room(os.getcwd())
    scope = bisect_right(room.schedule.offsets, number) - 1
    index = number - room.schedule.offsets[scope]
    step = room.schedule.maps[scope].items[index]
    before = room.swap(number, os.getpid())
    if before and not has_ended(before):
        tasks.note(room.journal, "twice", scope, index)
    tasks.note(room.journal, "b", scope, index, begun)
    _pass_time(step.does, step.ms / 1000)
    _end_worker(step.does)
    tasks.note(room.journal, "e", scope, index)
    return _come_to(step.does, scope, index)


def _pass_time(does: str, seconds: float) -> None:
    if does in ("hold", "stall"):
        # A call through PyDLL keeps the GIL, as a long call of an extension does that thinks nothing of it.
        sleep = ctypes.PyDLL(None).usleep
        end = time.monotonic() + (ENDLESS_SECONDS if does == "stall" else seconds)
        while (left := end - time.monotonic()) > 0:
            sleep(int(min(left, 0.9) * 1_000_000))
    elif does == "hang":
        time.sleep(ENDLESS_SECONDS)
    elif seconds:
        tasks.idle_or_busy(seconds, does == "busy")


def _end_worker(does: str) -> None:
    if does == "exit":
        os._exit(EXIT_STATUS)
    if does in ("kill", "segv"):
        os.kill(os.getpid(), signal.SIGKILL if does == "kill" else signal.SIGSEGV)
        time.sleep(ENDLESS_SECONDS)  # another thread of this process may be given the signal


def _come_to(does: str, scope: int, index: int) -> Any:
    match does:
        case "raise":
            raise tasks.Boom(f"item {index}")
        case "leave":
            sys.exit(f"item {index}")
        case "interrupt":
            raise KeyboardInterrupt(f"item {index}")
        case "unpicklable":
            return threading.Lock()
        case "unloadable":
            return Unloadable()
    return value(does, scope, index)


def has_ended(pid: int) -> bool:
    """Whether a process runs no more; a zombie, which waits to be reaped, does not."""
    state = Path(f"/proc/{pid}/stat")
    if Path("/proc/self/stat").exists():
        try:
            return state.read_text().rpartition(")")[2].split()[0] in "ZX"
        except (FileNotFoundError, ProcessLookupError):
            return True
    import psutil  # slow to import, which counts as the item's time

    try:
        return psutil.Process(pid).status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    except psutil.NoSuchProcess:
        return True


class Room:
    """What a process knows of the schedule that is played in a directory."""

    def __init__(self, directory: Path) -> None:
        self.journal = directory / tasks.JOURNAL
        self.schedule: Schedule = loads((directory / SCHEDULE).read_text())
        with open(directory / TABLE, "r+b") as file:
            self._table = memoryview(mmap.mmap(file.fileno(), 0)).cast("q")

    def begun(self, number: int) -> bool:
        """Whether an item was ever begun."""
        return self._table[number] != 0

    def swap(self, number: int, pid: int) -> int:
        """Notes who begins an item; returns who began it before, or 0."""
        before, self._table[number] = self._table[number], pid
        return before


def prepare(directory: Path, schedule: Schedule) -> None:
    """Makes the files that the items need."""
    (directory / SCHEDULE).write_text(schedule.dumps())
    (directory / TABLE).write_bytes(bytes(8 * schedule.offsets[-1]))


@cache
def _room(directory: str) -> Room:
    return Room(Path(directory))

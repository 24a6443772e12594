"""Tasks that come to every kind of end, and values that make trouble; workers import little with them."""

from __future__ import annotations

import ctypes
import faulthandler
import os
import re
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any, NoReturn

import psutil

from manyhands import InvalidResult, TaskTimeout, WorkerDied, parallel, retry_on, validated, worker_info
from tests.helpers import lines, tell, wait_for

# -- calls that do not end ------------------------------------------------------------------------------------


def sleep() -> None:
    """Waits in Python."""
    time.sleep(3600)


def sleep_with_the_gil() -> None:
    """Waits in C, where no other thread of the process can run."""
    ctypes.PyDLL(None).sleep(3600)


def backtrack() -> None:
    """Computes in C, for years."""
    re.fullmatch("(a|a)*b", "a" * 60)


def stop() -> None:
    """Its process does nothing at all any more."""
    os.kill(os.getpid(), signal.SIGSTOP)
    sleep()


STUCK = {way.__name__: way for way in (sleep, sleep_with_the_gil, backtrack, stop)}


@parallel
def get_stuck(x: int, victims: tuple[int, ...], way: str = "sleep", seconds: float = 0.0) -> int:
    """Does not return for the victims; for all others after some seconds."""
    if x in victims:
        STUCK[way]()
    time.sleep(seconds)
    return x


@parallel
@validated(result=lambda value: value != "i", invalid="raise")
@retry_on(TaskTimeout, attempts=2, wait=0)
@retry_on(WorkerDied, attempts=2, wait=0)
@retry_on(LookupError, attempts=2, wait=0)
@retry_on(InvalidResult, attempts=2, wait=0)
def follow(script: str, directory: str) -> str:
    """Its n-th call does what the n-th letter says: time out, die, exception, invalid result; others return."""
    calls = Path(directory) / f"calls of {script}"
    tell(calls, "called")
    letter = script[len(lines(calls)) - 1]
    if letter == "t":
        sleep()
    if letter == "d":
        os._exit(7)
    if letter == "e":
        raise LookupError(script)
    return letter


# -- ends of all kinds ----------------------------------------------------------------------------------------


class Hostile:
    """A value of which everything that one may ask raises."""

    def __init__(self, error: type[BaseException] = RuntimeError) -> None:
        self.error = error

    def __reduce__(self) -> NoReturn:
        raise self.error("reduced")

    def __repr__(self) -> str:
        raise self.error("shown")

    def __eq__(self, other: object) -> bool:
        raise self.error("compared")

    def __hash__(self) -> int:
        raise self.error("hashed")

    def __bool__(self) -> bool:
        raise self.error("asked for its truth")


class Farewell:
    """Its end raises."""

    def __del__(self) -> None:
        raise RuntimeError("on its way out")


class Unfriendly(type):
    """The metaclass of types that can't be compared."""

    def __eq__(cls, other: object) -> bool:
        raise RuntimeError("types compared")

    __hash__ = type.__hash__


class OfUnfriendlyType(metaclass=Unfriendly):
    """A value whose type makes trouble; it travels well."""

    def __init__(self, x: int) -> None:
        self.x = x


class Unhashable(type):
    """The metaclass of types that can't even be pickled, since pickle looks them up."""

    def __hash__(cls) -> int:
        raise RuntimeError("type hashed")


class OfUnhashableType(metaclass=Unhashable):
    """A value that travels nowhere."""


class Shy:
    """A value that travels, and that can be neither shown, compared nor hashed."""

    def __init__(self, x: int) -> None:
        self.x = x

    def __repr__(self) -> str:
        raise RuntimeError("shown")

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("compared")

    def __hash__(self) -> int:
        raise RuntimeError("hashed")


class Trap:
    """Unpickling it raises, in whatever process."""

    def __reduce__(self) -> Any:
        return sys.exit, ("unpickled",)


class Mute(Exception):
    """An error that can't be shown."""

    def __str__(self) -> str:
        raise RuntimeError("shown")

    __repr__ = __str__


class Sealed(Exception):
    """An error that can't be pickled."""

    def __reduce__(self) -> NoReturn:
        raise KeyboardInterrupt("pickled")


class OneWay(Exception):
    """An error that can't be unpickled."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)


def segfault() -> NoReturn:
    """Ends this process by a segmentation fault, in silence."""
    faulthandler.disable()
    faulthandler._sigsegv()  # type: ignore[attr-defined]
    raise AssertionError


def drop_farewells() -> str:
    """Objects whose ends raise come and go."""
    sys.unraisablehook = lambda _: None
    Farewell()
    return "value"


def come_to(fate: str) -> Any:
    """Comes to this end."""
    match fate:
        case "segfault":
            segfault()
        case "exit":
            os._exit(7)
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "abort":
            faulthandler.disable()
            os.abort()
        case "result":
            return threading.Lock()
        case "hostile":
            return Hostile()
        case "hostile exit":
            return Hostile(SystemExit)
        case "hostile interrupt":
            return [Hostile(KeyboardInterrupt)]
        case "trap":
            return Trap()
        case "sys.exit":
            sys.exit("leaving")
        case "interrupt":
            raise KeyboardInterrupt
        case "error":
            raise LookupError(fate)
        case "mute":
            raise Mute
        case "sealed":
            raise Sealed("in")
        case "oneway":
            raise OneWay(1, "no way back")
        case "hostile error":
            raise LookupError(Hostile(SystemExit))
        case "shy":
            return Shy(5)
        case "unfriendly":
            return OfUnfriendlyType(5)
        case "unhashable":
            return OfUnhashableType()
        case "farewell":
            return drop_farewells()
    return fate


ENDS_WORKER = {
    "segfault": -signal.SIGSEGV,
    "exit": 7,
    "kill": -signal.SIGKILL,
    "abort": -signal.SIGABRT,
}
"""The fates that end a worker, and its exit status."""
RAISES = {
    "error": "LookupError",
    "result": "TypeError",
    "hostile": "RuntimeError",
    "hostile exit": "SystemExit",
    "hostile interrupt": "KeyboardInterrupt",
    "unhashable": "RuntimeError",
    "trap": "SystemExit",
    "sys.exit": "SystemExit",
    "interrupt": "KeyboardInterrupt",
    "mute": "tests.contract.fate_tasks.Mute",
    "sealed": "tests.contract.fate_tasks.Sealed",
    "oneway": "tests.contract.fate_tasks.OneWay",
    "hostile error": "LookupError",
}
"""Those that fail by an error, and the name of its type."""

meet_fate = parallel(come_to)


# -- starts that are counted ----------------------------------------------------------------------------------


def note_start(x: int, directory: str) -> None:
    """Leaves a line with this process's id; and another file if an earlier starter of x is alive still."""
    starts = Path(directory) / str(x)
    for pid in map(int, lines(starts)):
        if pid == os.getpid() or alive(pid):
            tell(Path(directory) / "twice", f"{x}: {pid} {os.getpid()}")
    tell(starts, os.getpid())


def alive(pid: int) -> bool:
    """Whether the process runs still; one that waits to be reaped does not."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


@parallel
def start_and_end(x: int, directory: str, victims: tuple[int, ...], seconds: float = 0.0) -> int:
    """Notes its start; victims end their worker."""
    note_start(x, directory)
    time.sleep(seconds)
    if x in victims:
        os.kill(os.getpid(), signal.SIGKILL)
    return x


# -- threads, and where calls are -----------------------------------------------------------------------------


@parallel
def where(_: object = None) -> Any:
    """Where it runs."""
    return worker_info()


@parallel
def meet_where(x: int, begun: str, gate: str) -> Any:
    """Says that it has begun and waits to be let go; returns where it ran."""
    tell(begun, f"{x} {os.getpid()}")
    wait_for(gate)
    return worker_info()


@parallel
def die_together(x: int, begun: str, gates: tuple[str, str], killer: int, alone: bool) -> int:
    """The killer waits at the first gate and ends its process, at its first call or (``alone``) always."""
    tell(begun, f"{x} {os.getpid()}")
    wait_for(gates[x != killer])
    mark = Path(begun).with_name("killed")
    if x == killer and (alone or not mark.exists()):
        mark.touch()
        os._exit(7)
    return x


@parallel
def environment(names: list[str]) -> list[str | None]:
    """What these variables are."""
    return [os.environ.get(name) for name in names]


hoard: list[bytearray] = []


@parallel
def keep_memory(x: int, size: int) -> int:
    """Item 0 keeps so many bytes; all tell where they ran."""
    if x == 0:
        hoard.append(bytearray(b"x") * size)
    return os.getpid()


mark = "unset"


def set_mark() -> None:
    """An initializer."""
    global mark
    mark = "set"


@parallel
def marked(_: object) -> tuple[str, int]:
    """What the initializer has set, and where."""
    return mark, os.getpid()


@parallel
def nest(x: int, options: dict[str, Any]) -> set[int]:
    """Where it runs, and where a map and a submit inside of it run."""
    inner = where.options(**options)
    infos = [*inner.map(range(8)), inner.submit().result(), worker_info()]
    return {info.pid for info in infos}

"""Functions that the contract tests map; a module of its own, so that workers import nothing else."""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from manyhands import WorkerDied, parallel, retry_on, validated
from tests.helpers import tell, wait_for


class Unpicklable(Exception):
    """An error that can't leave its process."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.lock = threading.Lock()


class OneWay(Exception):
    """An error that pickles but does not unpickle: its constructor wants two arguments."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{code}: {text}")
        self.code = code


@parallel
def double(x: int) -> int:
    """Twice x."""
    return 2 * x


@parallel
def power(base: int, exponent: int = 2, *, plus: int = 0) -> int:
    """base ** exponent + plus."""
    return int(base**exponent) + plus


@parallel
def reciprocal(x: int) -> float:
    """Fails for zero."""
    return 1 / x


@parallel
def process_id(_: object = None) -> int:
    """Where it runs."""
    return os.getpid()


@parallel
def directory(_: object = None) -> str:
    """The directory it runs in."""
    return os.getcwd()


@parallel
def import_by_name(name: str) -> Any:
    """``value`` of a module."""
    return __import__(name).value


@parallel
@validated(arguments=lambda x: x >= 0, result=lambda value: value < 100)
def small_square(x: int) -> int:
    """Keeps x >= 0 and squares < 100."""
    return x * x


@parallel
@validated(arguments=lambda x: x >= 0, result=lambda value: value < 100, invalid="raise")
def strict_square(x: int) -> int:
    """As ``small_square``, but strict."""
    return x * x


def flaky_body(x: int, counts: str, failures: int) -> tuple[int, int]:
    """Fails ``failures`` times for each x; returns x and which call it was."""
    file = Path(counts) / str(x)
    tell(file, "called")
    calls = file.read_text().count("called")
    if calls <= failures:
        raise OSError(f"call {calls} of {x}")
    return x, calls


flaky = parallel(retry_on(OSError, attempts=3, wait=0)(flaky_body))


slowly_flaky = parallel(retry_on(OSError, attempts=3, wait=1000)(flaky_body))


@parallel
def stop_iteration(x: int) -> int:
    """Raises what would end a loop."""
    return next(iter([]))


@parallel
def write_call(x: int, file: str) -> int:
    """Leaves a line that it was called."""
    tell(file, x)
    return x


@parallel
def meet(x: int, begun: str, gate: str) -> int:
    """Says that it has begun and waits to be let go."""
    tell(begun, f"{x} {os.getpid()}")
    wait_for(gate)
    return x


@parallel
def die(x: int, victim: int, way: str) -> int:
    """Ends its process if x is the victim."""
    if x == victim:
        if way == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        os._exit(7)
    return x


@parallel
@retry_on(WorkerDied, attempts=2, wait=0)
def die_once(x: int, marks: str) -> int:
    """Ends its process at the first call of x = 3."""
    mark = Path(marks) / "died"
    if x == 3 and not mark.exists():
        mark.touch()
        os._exit(7)
    return x


@parallel
def raise_this(kind: str) -> object:
    """Raises an exception of this kind, or returns what can't be sent."""
    match kind:
        case "unpicklable":
            raise Unpicklable("held fast")
        case "oneway":
            raise OneWay(5, "no way back")
        case "exit":
            sys.exit("leaving")
        case "interrupt":
            raise KeyboardInterrupt("in a task")
        case "local":

            class LocalError(Exception):
                pass

            raise LocalError("of a function")
        case "group":
            raise ExceptionGroup("both", [ValueError("one"), KeyError("two")])
        case "noted":
            error = ValueError("noted")
            error.add_note("a note of the user's")
            raise error
        case "chained":
            try:
                raise KeyError("first")
            except KeyError as error:
                raise ValueError("second") from error
        case "result":
            return threading.Lock()
    return kind


@parallel
def countdown(n: int) -> list[int]:
    """Maps itself inside of itself; one process per call tells where it ran."""
    if n == 0:
        return [os.getpid()]
    return [os.getpid(), *(pid for part in countdown.map([n - 1]) for pid in part)]


@parallel
def triple(x: int) -> int:
    """Three times x."""
    return 3 * x


class Scaler:
    """Methods of all kinds."""

    factor = 10

    def __init__(self, factor: int) -> None:
        self.factor = factor

    @parallel
    def scale(self, x: int, plus: int = 0) -> int:
        """By the instance's factor."""
        return self.factor * x + plus

    @validated(result=lambda value: value > 0)
    def scale_valid(self, x: int) -> int:
        """With a check, and not for maps."""
        return self.factor * x

    @retry_on(OSError)
    def retried(self, x: int) -> int:
        """With a budget, and not for maps."""
        return self.factor * x

    @parallel
    @classmethod
    def scale_by_class(cls, x: int) -> int:
        """By the class's factor."""
        return cls.factor * x

    @parallel
    @staticmethod
    def negate(x: int) -> int:
        """Without either."""
        return -x


def initialize_environment() -> None:
    """Marks the process."""
    os.environ["MANYHANDS_TEST_MARK"] = "set up"


@parallel
def environment_mark(_: object) -> str:
    """What ``initialize_environment`` left."""
    return os.environ.get("MANYHANDS_TEST_MARK", "")


def broken_initializer() -> None:
    """Never succeeds."""
    raise RuntimeError("no licence found")


def exiting_initializer() -> None:
    """Never succeeds either."""
    sys.exit("no licence found")

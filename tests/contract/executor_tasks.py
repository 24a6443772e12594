"""What the tests of the executor send: a module of its own, so that workers import little."""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import threading
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from pickle import PicklingError, UnpicklingError
from typing import Any, NoReturn

from manyhands import worker_info
from tests.helpers import tell, wait_for

inherited: str = ""
"""Set by a test, in its own process."""

mark: str = "not set up"
"""Set by ``set_up``, in a worker."""


def double(x: int) -> int:
    return 2 * x


def identity(x: Any) -> Any:
    return x


def capture(*args: Any, **kwargs: Any) -> tuple[Any, Any]:
    return args, kwargs


def pid(_: object = None) -> int:
    return os.getpid()


def fail(text: str) -> NoReturn:
    raise LookupError(text)  # this line is looked for


def divide(x: int, y: int) -> float:
    return x / y


def wait_in_second(begun: Path, gate: Path, ended: Path) -> None:
    """An initializer that waits in the second worker, and says when it ends."""
    info = worker_info()
    if info is not None and info.number == 1:
        hold(None, str(begun), str(gate))
        ended.touch()


def hold(x: Any, begun: str, gate: str) -> Any:
    """Says that it has begun, and where, and waits to be let go."""
    tell(begun, f"{x} {os.getpid()}")
    wait_for(gate)
    return x


def hold_but_zero(x: int, begun: str, gate: str) -> int:
    """As ``hold``, but zero is answered at once."""
    return hold(x, begun, gate) if x else 0


def hold_or_note(x: int, file: str, begun: str, gate: str) -> int:
    """Zero is held, the others leave a line that they were called."""
    return hold(x, begun, gate) if x == 0 else note(x, file)


def fail_or_hold(x: int, file: str, begun: str, gate: str) -> int:
    """Leaves a line that it was called; zero fails, the others are held."""
    tell(file, x)
    if x == 0:
        fail("the first")
    wait_for(gate)
    return x


def hold_and_fail(x: Any, begun: str, gate: str) -> NoReturn:
    hold(x, begun, gate)
    raise LookupError("after the gate")


def hold_and_crash(x: Any, begun: str, gate: str) -> NoReturn:
    hold(x, begun, gate)
    crash()


def meet(mine: str, others: str) -> str:
    """Lets another call go and waits to be let go by it: both must run at once."""
    end = os.open(mine, os.O_WRONLY)
    os.write(end, b".")
    os.close(end)
    wait_for(others)
    return "met"


def note(x: Any, file: str) -> Any:
    """Leaves a line that it was called."""
    tell(file, x)
    return x


def get_inherited() -> str:
    return inherited


def get_mark() -> str:
    return mark


class Plain:
    """Something that weak references can refer to, with methods of each kind and calls of its own."""

    def __init__(self, x: int = 1) -> None:
        self.x = x

    def plus(self, y: int) -> int:
        return self.x + y

    @classmethod
    def named(cls, y: int) -> str:
        return f"{cls.__name__} {y}"

    @staticmethod
    def negated(y: int) -> int:
        return -y

    def __call__(self, y: int) -> int:
        return self.x * y

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Plain) and other.x == self.x

    __hash__ = None  # type: ignore[assignment]


def make_plain(x: int) -> Plain:
    return Plain(x)


class Messenger:
    """Says when it is deleted, in a process other than the one it was made in."""

    def __init__(self, fifo: str) -> None:
        self.fifo = fifo
        self.home = os.getpid()

    def __del__(self) -> None:
        if os.getpid() != self.home:
            tell(self.fifo, "deleted")


class TwoArguments(Exception):
    """Pickles, but does not unpickle."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{code}: {text}")


class Locked(Exception):
    """Does not pickle."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.lock = threading.Lock()


def raise_two_arguments() -> NoReturn:
    raise TwoArguments(5, "no way back")


def raise_locked() -> NoReturn:
    raise Locked("held fast")


def raise_group() -> NoReturn:
    raise ExceptionGroup("both", [ValueError("one"), KeyError("two")])


def raise_chained() -> NoReturn:
    try:
        raise KeyError("first")
    except KeyError as error:
        raise ValueError("second") from error


def raise_type(kind: type[BaseException]) -> NoReturn:
    raise kind("raised")


# -- ends of a worker -----------------------------------------------------------------------------------------


def crash() -> NoReturn:
    """Ends this process by a segmentation fault, in silence."""
    faulthandler.disable()
    faulthandler._sigsegv()  # type: ignore[attr-defined]
    raise AssertionError


def crash_with(data: object) -> NoReturn:
    crash()


def leave() -> NoReturn:
    sys.exit("leaving")


def end(way: str) -> NoReturn:
    """Ends this process, one way or another."""
    if way == "crash":
        crash()
    elif way == "exit":
        os._exit(7)
    os.kill(os.getpid(), signal.SIGKILL if way == "kill" else signal.SIGTERM)
    signal.pause()
    raise AssertionError


def kill_own_process() -> NoReturn:
    end("kill")


def end_if(x: int, victims: tuple[int, ...]) -> int:
    """Ends this process if x is a victim."""
    if x in victims:
        end("kill")
    return x


# -- objects that fail on their way ---------------------------------------------------------------------------


def refuse_pickling() -> NoReturn:
    raise PicklingError("does not pickle")


def refuse_unpickling() -> NoReturn:
    raise UnpicklingError("does not unpickle")


class AtPickling:
    """Calls a function when it is pickled."""

    def __init__(self, call: Callable[[], NoReturn]) -> None:
        self.call = call

    def __reduce__(self) -> Any:
        self.call()


class AtUnpickling:
    """Calls a function when it is unpickled."""

    def __init__(self, call: Callable[[], NoReturn]) -> None:
        self.call = call

    def __reduce__(self) -> Any:
        return self.call, ()


def make_at_pickling(call: Callable[[], NoReturn]) -> AtPickling:
    return AtPickling(call)


def make_at_unpickling(call: Callable[[], NoReturn]) -> AtUnpickling:
    return AtUnpickling(call)


def raise_with_pickling(call: Callable[[], NoReturn]) -> NoReturn:
    raise LookupError(AtPickling(call))


def raise_with_unpickling(call: Callable[[], NoReturn]) -> NoReturn:
    raise LookupError(AtUnpickling(call))


def unsendable() -> object:
    return threading.Lock()


# -- initializers ---------------------------------------------------------------------------------------------


def set_up(first: str, second: str = "") -> None:
    global mark
    mark = first + second


def set_up_and_note(file: str) -> None:
    tell(file, os.getpid())


def fail_to_set_up(text: str) -> NoReturn:
    raise RuntimeError(text)


def leave_set_up(text: str) -> NoReturn:
    sys.exit(text)


def die_in_set_up(_: str) -> NoReturn:
    os._exit(3)


def set_up_once(file: str) -> None:
    """Fails in every process but the first."""
    if Path(file).exists():
        raise RuntimeError("only once")
    Path(file).touch()


# -- executors in workers -------------------------------------------------------------------------------------


def nested(method: str, numbers: list[int]) -> list[int]:
    """Uses an executor of its own."""
    from tests.contract.executors import EXECUTOR

    with EXECUTOR(max_workers=1, mp_context=get_context(method)) as pool:
        return list(pool.map(double, numbers))

"""What the handlers of qdmp have run in the tests, in a module that a worker imports fast."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import Any

from tests.helpers import tell, wait_for


def square(arguments: Any) -> Any:
    return arguments**2


def by_name(arguments: Any) -> Any:
    """Ends as its arguments say."""
    match arguments:
        case ("value", value):
            return value
        case ("raise", text):
            raise ValueError(text)
        case ("exists", text):
            raise FileExistsError(text)
        case ("die", _):
            os.kill(os.getpid(), signal.SIGKILL)
        case ("lock", _):
            return threading.Lock()
        case ("exit", code):
            raise SystemExit(code)
    raise LookupError(arguments)


def hold(arguments: tuple[str, Path, Path]) -> str:
    """Says that it has begun, with its process, and waits."""
    name, begun, gate = arguments
    tell(begun, f"{name} {os.getpid()}")
    wait_for(gate)
    return name


def hold_once(arguments: tuple[Path, Path, Path]) -> str:
    """Is stuck the first time, and leaves a mark by which it knows the second."""
    mark, begun, gate = arguments
    tell(begun, os.getpid())
    if not mark.exists():
        mark.touch()
        wait_for(gate)
        return "let go"
    return "again"


class Stored:
    """A plain function as the target of a ``ProcessHandler``."""

    def __init__(self, function: Any) -> None:
        self.function = function

    def __call__(self, setup: Any, storage: Any, worker_id: Any, debug: Any, arguments: Any) -> Any:
        return storage, None if setup else self.function(arguments)


def counting(setup: bool, storage: Any, worker_id: int, debug: bool, arguments: Any) -> Any:
    """Its storage holds what it was called with; the result is that."""
    if setup:
        assert storage is None and arguments is None
        return [(worker_id, debug, os.getpid())], None
    if arguments == "raise":
        storage = None
        raise ValueError(arguments)
    if arguments == "die":
        os._exit(3)
    if arguments == "none":
        return storage
    return [*storage, arguments], [*storage, arguments]


def other_names(begins: bool, kept: Any, /, *rest: Any) -> Any:
    return (0, rest) if begins else (kept + 1, (kept + 1, *rest))


def other_order(arguments: Any, debug: bool, worker_id: int, storage: Any, setup: bool) -> Any:
    return ("stored", None) if setup else (storage, (arguments, debug, worker_id, storage))


def fails_first(setup: bool, storage: Any, worker_id: int, debug: bool, arguments: Any) -> Any:
    """Its set-up fails until there is a file, whose path is the arguments; it makes that."""
    raise OSError("no set-up")


def stuck_in_setup(setup: bool, storage: Any, worker_id: int, debug: bool, arguments: Any) -> Any:
    """Its set-up tells, and waits, as the environment says."""
    if setup:
        tell(os.environ["QDMP_BEGUN"], os.getpid())
        wait_for(os.environ["QDMP_GATE"])
    return storage, arguments


def holding(setup: bool, storage: Any, worker_id: int, debug: bool, arguments: Any) -> Any:
    """Tells of its worker, is stuck when told to, and counts its tasks."""
    if setup:
        return 0, None
    name, begun, gate = arguments
    if begun is not None:
        tell(begun, f"{worker_id} {os.getpid()}")
        wait_for(gate)
    return storage + 1, (name, worker_id, storage + 1)


def threads_allowed(setup: bool, storage: Any, worker_id: int, debug: bool, arguments: Any) -> Any:
    return None, os.environ.get("OMP_NUM_THREADS")


def multiple_of_13(arguments: Any) -> bool:
    return arguments % 13 == 0


def even(value: Any) -> bool:
    return value % 2 == 0

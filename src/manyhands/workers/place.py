"""Where this is: in which worker, if in any."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from manyhands.workers.messages import Setup


class WorkerInfo(NamedTuple):
    """Where a call runs.

    Attributes:
        name: ``"<host>:<pid>"``.
        pid: the process id.
        number: 0 for the first worker of its pool, and so on; one that takes a dead one's place has a new number.
        thread: which of the worker's threads this is, from 0.
    """

    name: str
    pid: int
    number: int
    thread: int


_setup: Setup | None = None
here = threading.local()


def worker_info() -> WorkerInfo | None:
    """Which worker this is called in; None in any other process."""
    if _setup is None:
        return None
    return WorkerInfo(worker_name(), os.getpid(), _setup.number, getattr(here, "lane", 0))


def worker_name() -> str:
    """The name of the worker this is running in, ``"<host>:<pid>"``; empty in any other process."""
    return "" if _setup is None else f"{_setup.host}:{os.getpid()}"


def own_name() -> str:
    """The name of this process, worker or not, ``"<host>:<pid>"``."""
    return worker_name() or f"{socket.gethostname()}:{os.getpid()}"


def in_task() -> bool:
    """Whether this is a worker, or a thread that runs a call for an executor of somebody else's."""
    return _setup is not None or getattr(here, "task", False)


@contextmanager
def task() -> Iterator[None]:
    """This thread runs calls for such an executor meanwhile."""
    before = getattr(here, "task", False)
    here.task = True
    try:
        yield
    finally:
        here.task = before


def settle(setup: Setup) -> None:
    """This process is a worker from now on."""
    global _setup
    _setup = setup

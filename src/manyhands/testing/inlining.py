"""Inline: maps and calls of decorated functions in this process, in order, without waiting."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

from manyhands.claims.filesystem import FileSystem, LocalFileSystem, Now, Operation, Pulse
from manyhands.claims.watch import Moment
from manyhands.settings import Rehearsal, rehearse
from manyhands.spelling import suggesting

_lock = threading.Lock()
_entered: list[Rehearsal] = []


class VirtualTime:
    """A clock that goes on only when somebody waits, which takes no time.

    Attributes:
        waits: what was waited for, in seconds, in order.
    """

    def __init__(self) -> None:
        self.waits: list[float] = []
        self._now = time.monotonic()
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<VirtualTime, {sum(self.waits):g} s in {len(self.waits)} waits>"

    def now(self) -> float:
        """Seconds."""
        return self._now

    def sleep(self, seconds: float) -> None:
        """Lets so many seconds pass at once."""
        with self._lock:
            self._now += seconds
            self.waits.append(seconds)
        time.sleep(0)  # who is waited for may be another thread, or process


@contextmanager
@suggesting("inline")
def inline(*, filesystem: FileSystem | None = None) -> Iterator[VirtualTime]:
    """Meanwhile every map and submit of decorated functions runs here: in this process, in order, without waiting.

    Each call runs in the thread that asks for its result, that of ``submit`` in the thread that submits, whatever
    ``workers``, ``threads`` or ``backend`` say; so do ``Handler`` and ``map_blocks``. Nothing is pickled, no process
    started, no ``initializer`` called, no ``timeout`` kept. Else all is as it is: validation, retries, claims, order,
    errors. Waits, of retries and for claims, take no time, and are listed in what is yielded. (Another process's claim
    is looked at again and again, until that one has ended it.)

    It holds for the whole process, for maps and calls that begin in any thread while it is entered; those that began
    before go on as they were. It may be entered again, also by several threads at a time: the one entered last is in
    force, and when it is left, the last of those that are not. At the end, also by an exception, all is as before.

    A ``Controller`` that is used as an executor, and waits of your own, are not concerned.

    Args:
        filesystem: performs the operations of claims: ``fail_at("before publish", errno.EIO)``, say. Only what is
            asked about time is not.
    """
    virtual = VirtualTime()
    performing = _Timed(filesystem or LocalFileSystem(), virtual)
    rehearsal = Rehearsal(virtual.now, virtual.sleep, performing)
    with _lock:
        _entered.append(rehearsal)
        rehearse(rehearsal)
    try:
        yield virtual
    finally:
        with _lock:
            _entered[:] = [each for each in _entered if each is not rehearsal]
            rehearse(_entered[-1] if _entered else None)


class _Timed:
    """A filesystem that tells another time."""

    def __init__(self, filesystem: FileSystem, virtual: VirtualTime) -> None:
        self._filesystem = filesystem
        self._virtual = virtual
        self._beats = count()

    def perform(self, operation: Operation, /) -> Any:
        """The reply; raises OSError."""
        if isinstance(operation, Now):
            return Moment("virtual", self._virtual.now())
        reply = self._filesystem.perform(operation)
        if isinstance(operation, Pulse):  # a lease that takes no time proves nothing: whoever is there, beats
            return reply._replace(mtime_ns=next(self._beats))
        return reply

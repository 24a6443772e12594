"""The memory that a worker shows its parent, and sees of it; made when the first large value comes or goes."""

from __future__ import annotations

import gc
import mmap
import pickle
import socket
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from manyhands.workers import payload
from manyhands.workers.channel import Frame, control
from manyhands.workers.payload import Large

if TYPE_CHECKING:
    from manyhands.memory.exchange import Exchange, Noted
    from manyhands.memory.places import Place


of_this_process: SharedMemory | None = None


class SharedMemory:
    """A worker's. Thread-safe.

    Args:
        side: where descriptors come and go.

    Attributes:
        limit: bytes that its own segments may take.
    """

    def __init__(self, side: socket.socket) -> None:
        self.limit = 0
        self._side = side
        self._exchange: Exchange | None = None
        self._rests = False  # the parent is to be told what became of that
        self._lock = threading.Lock()

    def is_of_this_process(self) -> None:
        """What is unpickled here may look for segments in it."""
        global of_this_process
        of_this_process = self

    def pin(self) -> None:
        """The call has forked a process, which sees what is open here for as long as it lives."""
        if self._exchange is not None:
            self._exchange.views.pin()

    def put(self, large: Large) -> bytes | None:
        """The body of a STORED frame for one value; None: there is no room for it."""
        exchange = self._made()
        stored = exchange.bank.store(large.parts)
        if stored is None:
            return None
        with self._lock:
            place = exchange.show(stored)
        return pickle.dumps([place], protocol=5)

    def get(self, place: Place, kept: bool = False) -> Any:
        """The value that the parent has shown.

        Args:
            place: where it lies.
            kept: whether the parent takes it to be open until it is told otherwise, not only during the call.
        """
        exchange = self._made()
        with self._lock:
            received = exchange.received(place)
            if kept:
                exchange.tell_kept(place.number)
        return payload.loads_parts(received.open(copies=False))

    def memory(self, segment: int) -> mmap.mmap:
        """A segment of the parent's to write to; raises OSError if it can't be seen here."""
        exchange = self._made()
        with self._lock:
            return exchange.memory(segment)

    def opening(self, step: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """A step that takes its request as a pickle, or as the place of one."""
        return lambda entry: step(payload.loads(entry) if type(entry) is bytes else self.get(entry))

    def news(self) -> Frame | None:
        """What the parent is to be told before anything else."""
        exchange = self._exchange
        if exchange is None or not (exchange.has_news or self._rests):
            return None
        with self._lock:
            noted = exchange.news(all_ends=False)
            if self._rests:
                from manyhands.memory.exchange import Noted

                self._rests = False
                noted = (noted or Noted())._replace(rests=True)
        return None if noted is None else control(noted)

    def take_in(self, noted: Noted) -> None:
        """The parent has told this."""
        exchange = self._made()
        with self._lock:
            exchange.take_in(noted)
            exchange.bank.take_back(noted.let_go)
            if noted.rests:
                if exchange.views.alive and gc.isenabled():
                    gc.collect()  # there is time for it, and a cycle of the user's may hold what is large
                exchange.bank.trim()
                self._rests = True

    def _made(self) -> Exchange:
        if self._exchange is None:
            with self._lock:
                if self._exchange is None:
                    from manyhands.memory.bank import Bank
                    from manyhands.memory.exchange import Exchange  # most workers need none of it

                    self._exchange = Exchange(self._side, Bank(self.limit))
        return self._exchange

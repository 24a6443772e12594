"""A little shared memory in which a worker notes what it is at, and its parent what it should stop.

A note costs a worker some 25 ns. The parent reads it while the worker runs (is a call over its time?) and when
it is dead (which call killed it?). The memory has no name that could be left behind: its descriptor travels over
the worker's channel, before the first frame, and with it the socket for those of other shared memory.

It holds whole numbers of 8 bytes: how often its work was recalled; whether the worker is loading a function; two for
each of its threads: ticket and position; and whether a guard knows of the worker, which runs nothing of the user's
before.
"""

from __future__ import annotations

import array  # noqa: F401  # ``socket.send_fds`` imports it, and a worker that is forked has no time for it
import mmap
import os
import socket
from typing import Final

from manyhands.memory.segment import anonymous

NOTHING: Final = -1
LOADING: Final = -2
"""In place of a ticket: the worker is loading the function that the next calls are of."""


class Marker:
    """Either side's view of the memory.

    Attributes:
        numbers: the memory as whole numbers; number 0 is the epoch, the thread ``n`` has 2n + 2 and 2n + 3.
        full: in the worker, whether it is to be replaced, and begins no call any more.
    """

    def __init__(self, descriptor: int, threads: int) -> None:
        self.threads = threads
        self.full = False
        self._memory = mmap.mmap(descriptor, _size(threads))
        self.numbers = memoryview(self._memory).cast("q")

    def running(self) -> list[tuple[int, int]]:
        """Of each thread that runs a call: its ticket (or ``LOADING``), and its position in that."""
        numbers = self.numbers
        pairs = [(numbers[at], numbers[at + 1]) for at in range(2, 2 * self.threads + 2, 2)]
        if numbers[1]:
            pairs.append((LOADING, 0))
        return [pair for pair in pairs if pair[0] != NOTHING]

    def loads(self, loading: bool) -> None:
        """The worker begins or ends to load a function."""
        self.numbers[1] = loading

    @property
    def guarded(self) -> bool:
        """Whether the worker's end is seen to, so that it may begin."""
        return bool(self.numbers[-1])

    @guarded.setter
    def guarded(self, guarded: bool) -> None:
        self.numbers[-1] = guarded

    def recall(self) -> int:
        """Tells the worker to hand back what it has not begun; returns the new epoch."""
        self.numbers[0] += 1
        return self.numbers[0]

    def close(self) -> None:
        """Lets go of the memory."""
        self.numbers.release()
        self._memory.close()


def send_marker(end: socket.socket, threads: int, side: socket.socket) -> Marker:
    """Makes a marker and sends it to the worker, with the socket for more; ``end`` must be blocking still."""
    descriptor = anonymous("manyhands-marker", _size(threads))
    try:
        marker = Marker(descriptor, threads)
        for lane in range(threads):
            marker.numbers[2 * lane + 2] = NOTHING
        socket.send_fds(end, [threads.to_bytes(4, "little")], [descriptor, side.fileno()])
        return marker
    finally:
        os.close(descriptor)


def receive_marker(end: socket.socket) -> tuple[Marker, socket.socket]:
    """The marker and the socket that the parent sent; raises EOFError if the parent is gone."""
    data, descriptors, _, _ = socket.recv_fds(end, 4, 2)
    if len(data) < 4 or len(descriptors) < 2:
        raise EOFError("the parent is gone")
    side = socket.socket(fileno=descriptors[1])
    try:
        return Marker(descriptors[0], int.from_bytes(data, "little")), side
    finally:
        os.close(descriptors[0])


def _size(threads: int) -> int:
    return 8 * (2 * threads + 3)

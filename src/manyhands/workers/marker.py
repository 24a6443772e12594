"""A few bytes of shared memory in which a worker notes what it is at, for its parent to read when it is dead.

A note costs a worker nothing that could be measured beside a call. The memory has no name that could be left
behind: its descriptor travels over the worker's channel, before the first frame.
"""

from __future__ import annotations

import mmap
import os
import socket
import struct
import tempfile
from typing import Final

_TICKET: Final = struct.Struct("<q")
_NOTHING: Final = -1
_LOADING: Final = -2


class Marker:
    """Either side's view of the memory."""

    def __init__(self, descriptor: int) -> None:
        self._memory = mmap.mmap(descriptor, _TICKET.size)

    def begin(self, ticket: int) -> None:
        """The worker is at this call now."""
        _TICKET.pack_into(self._memory, 0, ticket)

    def load(self) -> None:
        """The worker is loading the function that the next calls are of."""
        _TICKET.pack_into(self._memory, 0, _LOADING)

    def has_begun(self, ticket: int) -> bool:
        """Whether the worker was at this call, or loading what it needs, when it last noted anything."""
        return _TICKET.unpack_from(self._memory)[0] in (ticket, _LOADING)

    def close(self) -> None:
        """Lets go of the memory."""
        self._memory.close()


def send_marker(end: socket.socket) -> Marker:
    """Makes a marker and sends it to the worker; the socket must be blocking still."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("manyhands-marker", os.MFD_CLOEXEC)
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    try:
        os.write(descriptor, _TICKET.pack(_NOTHING))
        socket.send_fds(end, [b"M"], [descriptor])
        return Marker(descriptor)
    finally:
        os.close(descriptor)


def receive_marker(end: socket.socket) -> Marker:
    """The marker that the parent sent; raises EOFError if the parent is gone."""
    data, descriptors, _, _ = socket.recv_fds(end, 1, 1)
    if not data:
        raise EOFError("the parent is gone")
    try:
        return Marker(descriptors[0])
    finally:
        os.close(descriptors[0])

"""Frames over a stream socket: a pickled message and any number of raw parts.

A frame is the number of its pieces, their lengths in bytes, and the pieces, all numbers little-endian; the
first piece is the pickled message. The worker's side blocks. The parent's side never does: what the socket
does not take waits in an outbox, and what has arrived in part waits in an inbox.
"""

from __future__ import annotations

import pickle
import socket
import struct
from collections import deque
from collections.abc import Iterator
from typing import Final

from manyhands.workers.messages import Message

Frame = tuple[Message, list[bytes]]

_COUNT: Final = struct.Struct("<I")
_LENGTH: Final = struct.Struct("<Q")
_READ: Final = 1 << 18


def encode(message: Message, parts: tuple[bytes, ...] = ()) -> list[bytes]:
    """The frame as a list of byte strings, to be sent one after the other."""
    pieces = (pickle.dumps(message, protocol=5), *parts)
    head = _COUNT.pack(len(pieces)) + b"".join(_LENGTH.pack(len(piece)) for piece in pieces)
    if sum(map(len, pieces)) < _READ:  # one small write is cheaper than many
        return [b"".join((head, *pieces))]
    return [head, *pieces]


class Inbox:
    """Puts frames together from bytes as they arrive."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[Frame]:
        """The frames that ``data`` completes."""
        self._buffer += data
        while (frame := self._next()) is not None:
            yield frame

    def _next(self) -> Frame | None:
        buffer = self._buffer
        if len(buffer) < _COUNT.size:
            return None
        (count,) = _COUNT.unpack_from(buffer)
        start = _COUNT.size + count * _LENGTH.size
        if len(buffer) < start:
            return None
        lengths = [_LENGTH.unpack_from(buffer, _COUNT.size + i * _LENGTH.size)[0] for i in range(count)]
        if len(buffer) < start + sum(lengths):
            return None
        pieces = []
        with memoryview(buffer) as view:
            for length in lengths:
                pieces.append(bytes(view[start : start + length]))
                start += length
        del buffer[:start]
        return pickle.loads(pieces[0]), pieces[1:]


class WorkerChannel:
    """The worker's side; blocks."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        end.setblocking(True)

    def send(self, message: Message, *parts: bytes) -> None:
        """Sends a frame; raises OSError if the parent is gone."""
        for piece in encode(message, parts):
            self._end.sendall(piece)

    def receive(self) -> Frame:
        """Waits for the next frame; raises EOFError if the parent is gone."""
        (count,) = _COUNT.unpack(self._exactly(_COUNT.size))
        lengths = [_LENGTH.unpack(self._exactly(_LENGTH.size))[0] for _ in range(count)]
        pieces = [self._exactly(length) for length in lengths]
        return pickle.loads(pieces[0]), pieces[1:]

    def _exactly(self, length: int) -> bytes:
        data = bytearray(length)
        with memoryview(data) as view:
            filled = 0
            while filled < length:
                got = self._end.recv_into(view[filled:])
                if not got:
                    raise EOFError("the parent is gone")
                filled += got
        return bytes(data)

    def close(self) -> None:
        """Closes the socket."""
        self._end.close()


class ParentChannel:
    """The parent's side; never blocks. Not thread-safe: its owner holds a lock."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._outbox: deque[memoryview] = deque()
        self._inbox = Inbox()
        self.at_end = False
        end.setblocking(False)

    def fileno(self) -> int:
        """The socket's descriptor, -1 when closed."""
        return self._end.fileno()

    @property
    def wants_to_send(self) -> bool:
        """Whether something waits in the outbox."""
        return bool(self._outbox)

    def send(self, message: Message, *parts: bytes) -> None:
        """Puts a frame into the outbox and sends what the socket takes."""
        self._outbox.extend(memoryview(piece) for piece in encode(message, parts))
        self.flush()

    def flush(self) -> None:
        """Sends what the socket takes; a worker that is gone is noticed by ``read``."""
        try:
            while self._outbox:
                piece = self._outbox[0]
                sent = self._end.send(piece)
                if sent < len(piece):
                    self._outbox[0] = piece[sent:]
                else:
                    self._outbox.popleft()
        except (BlockingIOError, InterruptedError):
            pass
        except OSError:
            self._outbox.clear()

    def read(self) -> list[Frame]:
        """The frames that have arrived; sets ``at_end`` when there will be no more."""
        frames: list[Frame] = []
        while not self.at_end:
            try:
                data = self._end.recv(_READ)
            except (BlockingIOError, InterruptedError):
                break
            except OSError:
                data = b""
            if not data:
                self.at_end = True
            frames.extend(self._inbox.feed(data))
            if len(data) < _READ:
                break
        return frames

    def close(self) -> None:
        """Closes the socket; the worker takes that as its parent's end."""
        self._end.close()

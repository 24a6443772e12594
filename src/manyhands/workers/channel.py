"""Frames over a stream socket: a header of fixed size, and a body of bytes.

Calls and their answers are described by the header alone, since they come by the ten thousand; everything else is
a ``CONTROL`` frame, whose body is a pickled message. The worker's side blocks. The parent's side never does: what
the socket does not take waits in an outbox, and what has arrived in part waits in an inbox.
"""

from __future__ import annotations

import mmap
import pickle
import select
import socket
import struct
import threading
from collections import deque
from typing import Any, Final, NamedTuple

from manyhands.workers.messages import Message
from manyhands.workers.spin import Spin

_HEADER: Final = struct.Struct("<BBHIqqqqdddQ")
_READ: Final = 1 << 18
_SMALL: Final = 1 << 16
"""Up to so many bytes a body is joined to its header: one write is cheaper than two."""

CONTROL: Final = 0
"""Either way: the body is a pickled message."""
RUN: Final = 1
"""To the worker: run the calls ``begin`` to ``end`` of ``ticket``, of the work ``work``. Body: a parcel."""
RETURNED: Final = 2
"""From the worker: the calls ``begin`` to ``end`` of ``ticket`` returned. Body: a parcel of their values."""
ANSWERED: Final = 3
"""From the worker: the call ``begin`` of ``ticket`` came to something else. Body: its pickled answer."""
HANDED_BACK: Final = 4
"""From the worker: the calls ``begin`` to ``end`` of ``ticket`` were not begun, and won't be."""
TOLD: Final = 5
"""From the worker: the call ``begin`` of ``ticket``, or nobody's, has printed or logged something, see ``outlet``."""


class Frame(NamedTuple):
    """What goes over a channel at once.

    Attributes:
        kind: one of the kinds above.
        form: how the body is packed, see ``parcel``.
        flags: of RUN, see below.
        epoch: how many recalls the sender had seen, or made.
        work, ticket, begin, end: which calls; positions count from 0 within the ticket.
        seconds, last: from the worker, what the calls took: all but the last together, and the last.
        at: from the worker, when the last of them ended, by ``time.perf_counter``.
        body: bytes; what has come of STORED is a ``Received`` in the parent.
    """

    kind: int
    form: int = 0
    flags: int = 0
    epoch: int = 0
    work: int = 0
    ticket: int = 0
    begin: int = 0
    end: int = 0
    seconds: float = 0.0
    last: float = 0.0
    at: float = 0.0
    body: Any = b""


CALLS: Final = 1
"""A flag of RUN: the parcel holds ``Call`` objects, not plain items."""
WHOLE: Final = 2
"""A flag of RUN: its calls stay together, however slow they are."""
WATCH: Final = 4
"""A flag of RUN: more may be sent while it runs."""
PROMPT: Final = 8
"""A flag of RUN: each of its calls is waited for by itself."""


def encode(frame: Frame) -> list[bytes | bytearray]:
    """The frame as byte strings, to be sent one after the other."""
    body = frame.body
    head = _HEADER.pack(*frame[:-1], len(body))
    return [head + body] if len(body) <= _SMALL else [head, body]


def control(message: Message) -> Frame:
    """The frame of a message."""
    return Frame(CONTROL, body=pickle.dumps(message, protocol=5))


def message_of(frame: Frame) -> Message:
    """The message of a frame."""
    message: Message = pickle.loads(frame.body)
    return message


class Inbox:
    """Puts frames together from bytes as they arrive. A large body is read into its place, and never copied."""

    def __init__(self) -> None:
        # Fresh memory for each read would cost more than the read; and this is there only when something is read.
        self._buffer = memoryview(mmap.mmap(-1, _READ, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
        self._rest = b""
        self._head: tuple[Any, ...] = ()
        self._body: bytearray | None = None
        self._filled = 0

    def receive(self, end: socket.socket, flags: int = 0) -> list[Frame]:
        """Reads once; the frames that this completes. Raises EOFError at the end, and what the socket raises."""
        if self._body is not None:
            with memoryview(self._body) as view:
                got = end.recv_into(view[self._filled :], 0, flags)
            if not got:
                raise EOFError("the other side is gone")
            self._filled += got
            return self._large()
        got = end.recv_into(self._buffer, 0, flags)
        if not got:
            raise EOFError("the other side is gone")
        return self.feed(bytes(self._buffer[:got]))

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that these bytes complete."""
        if self._body is not None:
            more = min(len(data), len(self._body) - self._filled)
            self._body[self._filled : self._filled + more] = data[:more]
            self._filled += more
            return self._large() + (self.feed(data[more:]) if more < len(data) else [])
        if self._rest:
            data = self._rest + data
        frames = []
        at = 0
        while len(data) - at >= _HEADER.size:
            *head, length = _HEADER.unpack_from(data, at)
            start = at + _HEADER.size
            if len(data) - start < length:
                if length > _SMALL:
                    self._head = tuple(head)
                    self._body = bytearray(length)
                    self._filled = len(data) - start
                    self._body[: self._filled] = data[start:]
                    at = len(data)
                break
            at = start + length
            frames.append(_frame(tuple(head), data[start:at]))
        self._rest = data[at:]
        return frames

    @property
    def empty(self) -> bool:
        """Whether no frame has arrived in part."""
        return self._body is None and not self._rest

    def _large(self) -> list[Frame]:
        if self._body is None or self._filled < len(self._body):
            return []
        body, self._body = self._body, None
        return [_frame(self._head, body)]


def _frame(head: tuple[Any, ...], body: bytes | bytearray) -> Frame:
    return Frame._make((*head, body))


class WorkerChannel:
    """The worker's side; blocks."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._inbox = Inbox()
        self._frames: deque[Frame] = deque()
        self._receiving = threading.Lock()
        self._spin = Spin()
        end.setblocking(True)

    def send(self, *frames: Frame) -> None:
        """Sends frames; raises OSError if the parent is gone."""
        pieces = [piece for frame in frames for piece in encode(frame)]
        if sum(map(len, pieces)) <= _READ:
            self._end.sendall(b"".join(pieces))
            return
        for piece in pieces:
            self._end.sendall(piece)

    @property
    def has_frame(self) -> bool:
        """Whether ``receive`` would return at once."""
        return bool(self._frames)

    def receive(self, spin: bool = False) -> Frame:
        """Waits for the next frame; raises EOFError or OSError if the parent is gone.

        Args:
            spin: it is likely to come within ``SPIN_SECONDS``.
        """
        if spin and not self._frames:
            with self._receiving:
                self._spin.until(self._has_come)
        while True:
            with self._receiving:
                if self._frames:
                    return self._frames.popleft()
                self._frames.extend(self._inbox.receive(self._end))

    @property
    def is_left(self) -> bool:
        """Whether the parent has closed its end."""
        poll = select.poll()
        poll.register(self._end, 0)
        return bool(poll.poll(0))

    def _has_come(self) -> bool:
        try:
            self._frames.extend(self._inbox.receive(self._end, socket.MSG_DONTWAIT))
        except BlockingIOError:
            pass
        return bool(self._frames)

    def take_unbegun(self) -> list[Frame]:
        """Takes the RUN frames away that have arrived; for another thread, while the first does not receive."""
        if not self._receiving.acquire(blocking=False):
            return []
        try:
            self._read_all()
            taken = [frame for frame in self._frames if frame.kind == RUN]
            self._frames = deque(frame for frame in self._frames if frame.kind != RUN)
            return taken
        finally:
            self._receiving.release()

    def _read_all(self) -> None:
        poll = select.poll()
        poll.register(self._end, select.POLLIN)
        try:
            while poll.poll(0):
                self._frames.extend(self._inbox.receive(self._end))
        except (EOFError, OSError):
            pass  # the other thread will see that too

    def close(self) -> None:
        """Closes the socket."""
        self._end.close()


class ParentChannel:
    """The parent's side; never blocks. Not thread-safe: its owner holds a lock."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._outbox: deque[memoryview] = deque()
        self._held: list[Frame] = []
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

    @property
    def holds(self) -> bool:
        """Whether there are frames that go with the next ones."""
        return bool(self._held)

    def hold(self, frame: Frame) -> None:
        """Has a frame go before the next ones that are sent: by itself it is not worth waking a worker for."""
        self._held.append(frame)

    def send(self, frames: list[Frame]) -> None:
        """Puts frames, and before them what was held, into the outbox and sends what the socket takes."""
        if self._held:
            frames, self._held = [*self._held, *frames], []
        pieces = [piece for frame in frames for piece in encode(frame)]
        if len(pieces) > 1 and sum(map(len, pieces)) <= _SMALL:
            pieces = [b"".join(pieces)]
        self._outbox.extend(map(memoryview, pieces))
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

    def read(self, most: int = 16) -> list[Frame]:
        """The frames that have arrived, in up to ``most`` reads; sets ``at_end`` when there will be no more."""
        frames: list[Frame] = []
        for _ in range(most):
            if self.at_end:
                break
            try:
                new = self._inbox.receive(self._end)
            except (BlockingIOError, InterruptedError):
                break
            except (EOFError, OSError):
                self.at_end = True
                break
            frames += new
            if new and self._inbox.empty:
                break  # what came after it is told by the next poll
        return frames

    def close(self) -> None:
        """Closes the socket; the worker takes that as its parent's end."""
        self._end.close()

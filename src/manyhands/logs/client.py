"""The handler that sends log records to a log server.

Whoever logs sends, in their own thread, so that a record is out of the process when the call of the logger returns:
a process that is killed then loses none. What can't be sent waits in memory, up to a bound; the next record, a
``flush`` or the end of the program sends it.
"""

from __future__ import annotations

import logging
import os
import select
import socket
import time
import weakref
from collections import deque
from typing import Final

from manyhands.logs.formatter import JSONFormatter
from manyhands.logs.wire import MAX_RECORD, frame, line_of
from manyhands.settings import check_positive, check_seconds

FIRST_DELAY: Final = 0.1
LAST_DELAY: Final = 10.0
"""Seconds between two tries to reach a server, which double from the first to the last."""

_handlers: weakref.WeakSet[JSONLogHandler] = weakref.WeakSet()


class JSONLogHandler(logging.Handler):
    """Sends records to a ``LogServer``, as JSON objects over one connection; never pickles.

    A record that can't be sent costs the program no more than ``timeout``, and after that no time at all until the
    next try; nothing is raised. A fork has a connection of its own. Records of one thread arrive in their order.

    Args:
        address: of the server, "host:port".
        level: as in ``logging.Handler``.
        timeout: seconds that a record, ``flush`` or ``close`` waits at most for a server that is slow or away.
        max_pending: bytes of records that wait for it; those that come when there are so many are dropped.
        max_record: bytes of a record. The message of one that would be longer is cut, and has no extras.

    Attributes:
        dropped: how many records were not sent, and won't be. What a server that was killed had not read is lost
            without being counted here.

    Raises:
        TypeError, ValueError: an argument has a wrong type or is out of range.
    """

    _socket: socket.socket | None
    _poll: select.poll  # of it: whether the server has ended
    _pending: deque[bytes]
    _waiting: int  # bytes of them
    _sent: int  # bytes of the first of them
    _is_sending: bool
    _next_try: float  # before that, nobody waits for the server
    _delay: float  # seconds until the try after that
    _gave_up: bool  # a flush did, and there was nothing new since
    dropped: int

    def __init__(
        self,
        address: str,
        level: int | str = logging.NOTSET,
        *,
        timeout: float = 2.0,
        max_pending: int = 1 << 24,
        max_record: int = MAX_RECORD,
    ) -> None:
        super().__init__(level)
        check_seconds("timeout", timeout)
        check_positive("max_pending", max_pending)
        check_positive("max_record", max_record, least=1 << 10)
        self.address = address
        self._place = place_of(address)
        self._timeout = timeout
        self._max_pending = max_pending
        self._max_record = max_record
        self.formatter: logging.Formatter | None = JSONFormatter()
        self._start_afresh()
        _handlers.add(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Sends a record, or keeps it until it can be sent; what can't be formatted is told as ``logging`` does."""
        try:
            data = self._framed(record)
        except Exception:
            self.handleError(record)
            return
        self.acquire()
        try:
            if self._pending and self._waiting + len(data) > self._max_pending:
                self._send()
            if self._pending and self._waiting + len(data) > self._max_pending:
                self.dropped += 1
                return
            self._pending.append(data)
            self._waiting += len(data)
            self._gave_up = False
            self._send()
        finally:
            self.release()

    def flush(self) -> None:
        """Sends what waits; for ``timeout`` seconds at most."""
        self.acquire()
        try:
            deadline = time.monotonic() + self._timeout
            while self._pending and not self._is_sending:
                self._next_try = 0.0
                self._send(deadline)
                left = deadline - time.monotonic()
                if not self._pending or left <= 0:
                    break
                time.sleep(min(left, self._delay))
            self._gave_up = bool(self._pending)
        finally:
            self.release()

    def close(self) -> None:
        """Sends what waits, for ``timeout`` seconds at most, drops the rest and ends the connection."""
        self.acquire()
        try:
            if not self._gave_up:  # by a flush just before, as at the end of the program
                self.flush()
            self.dropped += len(self._pending)
            self._pending.clear()
            self._waiting = 0
            self._disconnect()
        finally:
            self.release()
        super().close()

    def __repr__(self) -> str:
        state = "not connected" if self._socket is None else "connected"
        waiting = f"{len(self._pending)} waiting, {self.dropped} dropped"
        return (
            f"<{type(self).__name__} {self.address} ({logging.getLevelName(self.level)}): {state}, {waiting}>"
        )

    # -- records --------------------------------------------------------------------------------------------

    def _framed(self, record: logging.LogRecord) -> bytes:
        body = self.format(record).encode()
        if type(self.formatter) is not JSONFormatter:
            try:
                line_of(body)  # or the server would end the connection
            except ValueError as error:
                raise ValueError(
                    f"the formatter of {self!r} must make one JSON object of a record: {error}"
                ) from None
        if len(body) > self._max_record:
            body = self._cut(record, len(body))
        return frame(body)

    def _cut(self, record: logging.LogRecord, size: int) -> bytes:
        """A shorter one in its place; a character takes twelve bytes at most."""
        message = record.getMessage()[: self._max_record // 24]
        short = logging.LogRecord(
            record.name[:64],
            record.levelno,
            record.pathname,
            record.lineno,
            f"{message}... [cut: this record had {size} bytes]",
            None,
            None,
        )
        short.created, short.msecs, short.process = record.created, record.msecs, record.process
        return JSONFormatter().format(short).encode()

    # -- sending; under the handler's lock --------------------------------------------------------------------

    def _send(self, deadline: float | None = None) -> None:
        """Sends what waits, as far as it goes; waits until the deadline, by default ``timeout`` from now."""
        if self._is_sending:  # a signal's handler, or a finaliser, logs while this thread is at it below
            return
        self._is_sending = True
        try:
            while self._pending and (self._socket is not None or self._connect(deadline)):
                if not self._send_first(deadline):
                    break
        except BaseException:  # an interrupt: nobody knows how much was sent
            self._disconnect()
            raise
        finally:
            self._is_sending = False

    def _send_first(self, deadline: float | None) -> bool:
        """Whether to go on: the first that waits is sent, or the connection is gone."""
        assert self._socket is not None
        if self._poll.poll(0):  # a server sends nothing: it has ended, and what were sent now would be lost
            self._disconnect()
            return True
        first = self._pending[0]
        try:
            self._sent += self._socket.send(first[self._sent :] if self._sent else first)
        except BlockingIOError:
            return self._await_room(deadline)
        except OSError:
            self._disconnect()
            return True
        if self._sent == len(first):
            self._sent = 0
            self._waiting -= len(first)
            self._pending.popleft()
            self._delay = FIRST_DELAY
        return True

    def _await_room(self, deadline: float | None) -> bool:
        """Whether the server has read something, or is gone; after waiting in vain nobody waits for a while."""
        assert self._socket is not None
        now = time.monotonic()
        if now < self._next_try:
            return False
        left = self._timeout if deadline is None else max(0.0, deadline - now)
        room = select.poll()
        room.register(self._socket, select.POLLOUT)
        if room.poll(left * 1000):
            return True
        self._back_off()
        return False

    def _connect(self, deadline: float | None) -> bool:
        now = time.monotonic()
        if now < self._next_try:
            return False
        left = self._timeout if deadline is None else deadline - now
        try:
            end = socket.create_connection(self._place, timeout=max(left, 0.001))
        except OSError:
            self._back_off()
            return False
        if end.getsockname() == end.getpeername():  # nobody listens, and a free port was found: its own
            end.close()
            self._back_off()
            return False
        end.setblocking(False)
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._poll = select.poll()
        self._poll.register(end, select.POLLIN)
        self._socket = end
        return True

    def _back_off(self) -> None:
        self._next_try = time.monotonic() + self._delay
        self._delay = min(2 * self._delay, LAST_DELAY)

    def _disconnect(self) -> None:
        """What was sent of a record only in part is sent anew: the server has dropped that part."""
        self._sent = 0
        if self._socket is not None:
            end, self._socket = self._socket, None
            end.close()

    def _start_afresh(self) -> None:
        """Nothing is connected and nothing waits: what does so in the parent of a fork is the parent's."""
        self._socket = None
        self._poll = select.poll()
        self._pending = deque()
        self._waiting = self._sent = self.dropped = 0
        self._is_sending = self._gave_up = False
        self._next_try = 0.0
        self._delay = FIRST_DELAY


def place_of(address: str) -> tuple[str, int]:
    """Host and port of "host:port"; a host with colons has brackets.

    Raises:
        TypeError, ValueError: it is none.
    """
    if not isinstance(address, str):
        raise TypeError(f"address must be a text, 'host:port', not {address!r}")
    host, colon, port = address.rpartition(":")
    if not (colon and host and port.isascii() and port.isdecimal() and 0 < int(port) < 1 << 16):
        raise ValueError(f"address must be 'host:port', such as '127.0.0.1:9020', not {address!r}")
    return host.removeprefix("[").removesuffix("]"), int(port)


def _of_the_parent() -> None:
    for handler in list(_handlers):
        handler._disconnect()  # closes this process's copy, and tells the server nothing
        handler._start_afresh()


os.register_at_fork(after_in_child=_of_the_parent)

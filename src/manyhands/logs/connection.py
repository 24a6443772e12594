"""One client of a log server, as the server sees it."""

from __future__ import annotations

import socket

from manyhands.logs.wire import Decoder

_PIECE = 1 << 18


class Connection:
    """Reads what has arrived, without waiting.

    Args:
        end: the accepted socket, which is this object's to close.
        max_record: bytes that a record may have.
        now: the time.

    Attributes:
        is_over: nothing more will come.
        is_refused: it was told to go.
        has_more: the last ``read`` has left something, most likely.
        heard: when it last sent a whole record, or was accepted.
    """

    def __init__(self, end: socket.socket, max_record: int, now: float) -> None:
        self._end = end
        self._decoder = Decoder(max_record)
        self.is_over = False
        self.is_refused = False
        self.has_more = False
        self.heard = now
        end.setblocking(False)
        end.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)  # a host may lose its power

    def fileno(self) -> int:
        """So that it can be waited for."""
        return self._end.fileno()

    @property
    def is_guilty(self) -> bool:
        """Whether it has sent what is no record, or ended in the midst of one."""
        return self._decoder.violation is not None or (self.is_over and self._decoder.partial)

    @property
    def is_partial(self) -> bool:
        """Whether a record has begun to arrive, and is not whole."""
        return self._decoder.partial

    def read(self, now: float) -> list[bytes]:
        """The lines of the records that are whole now; none if nothing has arrived."""
        try:
            data = self._end.recv(_PIECE)
        except (BlockingIOError, InterruptedError):
            self.has_more = False
            return []
        except OSError:  # a client that was killed
            data = b""
        self.has_more = len(data) == _PIECE
        if not data:
            self.is_over = True
            return []
        was_partial = self._decoder.partial
        lines = self._decoder.feed(data)
        if lines or not was_partial:
            self.heard = now
        self.is_over = self._decoder.violation is not None
        return lines

    def refuse(self, now: float) -> None:
        """Tells the client that no more will be taken; what it sends before it notices can still be read."""
        self.is_refused = True
        self.heard = now
        try:
            self._end.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def close(self) -> None:
        """Closes it."""
        self._end.close()

"""The log server: one thread that reads all connections and writes one file."""

from __future__ import annotations

import atexit
import math
import os
import selectors
import socket
import threading
import time
from types import TracebackType
from typing import Any, Final, Self

from manyhands.logs.connection import Connection
from manyhands.logs.rotation import RotatedFile
from manyhands.logs.wire import MAX_RECORD
from manyhands.settings import check_positive, check_seconds

_LOOK_SECONDS: Final = 1.0
"""How often it looks for connections that are silent, while that matters."""

_PACE_SECONDS: Final = 0.02
"""Between two rounds: it reads seldom and much, because each record that wakes it costs its client as much again."""

_LEAVE_SECONDS: Final = 1.0
"""How long it reads from one that has to give way: it may not have noticed yet."""

_QUIET_SECONDS: Final = 0.1
_DRAIN_SECONDS: Final = 2.0
"""At its end: after so long a silence nothing is on its way; and so long it reads at most."""

_open: set[LogServer] = set()


class LogServer:
    """Writes what ``JSONLogHandler`` sends, from any number of processes, to a file, a JSON object a line.

    A context manager; ``close``, and the end of the program, write what has arrived. A client that sends what is no
    record of JSON, or half of one, loses its connection, and nobody else does. Whoever reaches the port may write: so
    it listens on loopback only, unless ``host`` says otherwise.

    Args:
        file: it is appended to; its directory must be there.
        host: the address to listen on. There is no password: another one than loopback is for networks that you trust.
        port: 0: a free one.
        max_bytes: the file is moved aside, to FILE.1, before it would have more; None: never.
        backups: how many files that were moved aside are kept; older ones are removed.
        max_record: bytes that a record may have; who sends a longer one is cut off.
        max_connections: so many at a time; others wait. The one that is silent for longest, and for more than
            ``patience``, gives way to them. Handlers come back by themselves when they have something to send.
        patience: seconds in which a record that has begun to arrive must be whole.

    Attributes:
        received: how many records have arrived.
        dropped: how many of them could not be written: the disk was full, say.
        rejected: how many connections were cut off because of what they sent.

    Raises:
        TypeError, ValueError: an argument has a wrong type or is out of range.
    """

    def __init__(
        self,
        file: str | os.PathLike[str],
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        max_bytes: int | None = None,
        backups: int = 5,
        max_record: int = MAX_RECORD,
        max_connections: int = 500,
        patience: float = 10.0,
    ) -> None:
        self.file = os.fspath(file)
        if not isinstance(host, str) or not host:
            raise ValueError(f"host must be an address, such as '127.0.0.1', not {host!r}")
        check_positive("port", port, least=0)
        if port >= 1 << 16:
            raise ValueError(f"port must be less than 65536, not {port}")
        if max_bytes is not None:
            check_positive("max_bytes", max_bytes)
        check_positive("backups", backups)
        check_positive("max_record", max_record)
        check_positive("max_connections", max_connections)
        check_seconds("patience", patience)
        self.host = host
        self._port = port
        self._max_bytes = max_bytes
        self._backups = backups
        self._max_record = max_record
        self._max_connections = max_connections
        self._patience = patience
        self.received = 0
        self.dropped = 0
        self.rejected = 0
        self._connections: set[Connection] = set()
        self._listener: socket.socket | None = None
        self._thread: threading.Thread | None = None
        self._closing = threading.Lock()

    def start(self) -> Self:
        """Opens the file, listens, and returns; a thread does the rest.

        Raises:
            OSError: the file can't be written or another server does, or the port is not free.
            RuntimeError: it was started before.
        """
        if self._listener is not None:
            raise RuntimeError(f"{self!r} was started before; make another one")
        self._log = RotatedFile(self.file, self._max_bytes, self._backups)
        try:
            self._listener = _listen(self.host, self._port)
        except BaseException:
            self._log.close()
            raise
        self._port = self._listener.getsockname()[1]
        self._bell, self._ear = socket.socketpair()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._ear, selectors.EVENT_READ)
        self._accepts = False
        self._listen_again()
        self._thread = threading.Thread(target=self._serve, name="manyhands-log-server", daemon=True)
        _open.add(self)
        self._thread.start()
        return self

    @property
    def port(self) -> int:
        """The port that it listens on; before ``start``, as given."""
        return self._port

    @property
    def address(self) -> str:
        """What a ``JSONLogHandler`` is made with: "host:port"."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def close(self) -> None:
        """Takes no more records, writes those that have arrived, and ends; a second time does nothing.

        Who sends without a pause does not keep it: after two seconds it ends anyway.
        """
        with self._closing:
            if self._thread is None:
                return
            self._bell.send(b".")
            self._thread.join()
            self._thread = None
            _open.discard(self)
            self._bell.close()

    def __enter__(self) -> Self:
        return self if self._thread is not None else self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = f"on {self.address}" if self._thread else "closed" if self._listener else "not started"
        return (
            f"<{type(self).__name__} {self.file} {state}: {self.received} received, {self.dropped} dropped, "
            f"{self.rejected} rejected>"
        )

    # -- in its thread --------------------------------------------------------------------------------------

    def _serve(self) -> None:
        try:
            while True:
                ready = self._selector.select(self._look_in())
                if any(key.fileobj is self._ear for key, _ in ready):
                    break
                if not self._round(ready):
                    time.sleep(_PACE_SECONDS)
                self._look_around()
            self._drain()
        finally:
            self._let_go()

    def _look_in(self) -> float | None:
        """Seconds until connections are looked at; None: only what arrives matters."""
        waits = not self._accepts or any(each.is_partial or each.is_refused for each in self._connections)
        return _LOOK_SECONDS if waits else None

    def _round(self, ready: list[tuple[selectors.SelectorKey, Any]]) -> bool:
        """Reads once from all that have sent something, and writes it together; whether there is more to read."""
        now = time.monotonic()
        lines: list[bytes] = []
        more = False
        for key, _ in ready:
            if key.fileobj is self._listener:
                self._accept(now)
            elif key.fileobj in self._connections:  # else it has just given way to another
                connection: Connection = key.data
                lines += connection.read(now)
                more = more or connection.has_more
                if connection.is_over:
                    self._end(connection)
        self._keep(lines)
        return more

    def _keep(self, lines: list[bytes]) -> None:
        if lines:
            self.received += len(lines)
            self.dropped += len(lines) - self._log.write(lines)

    def _accept(self, now: float) -> None:
        """Somebody waits to be accepted: now, or when there is room."""
        if self._has_room(now) and self._take(now, self._max_connections):
            return
        assert self._listener is not None
        self._selector.unregister(self._listener)  # they wait, with what they send
        self._accepts = False

    def _take(self, now: float, limit: float) -> bool:
        """Accepts those who wait, up to so many; whether there were descriptors for all."""
        assert self._listener is not None
        try:
            while len(self._here()) < limit:
                end, _ = self._listener.accept()
                connection = Connection(end, self._max_record, now)
                self._connections.add(connection)
                self._selector.register(connection, selectors.EVENT_READ, connection)
        except (BlockingIOError, ConnectionAbortedError):
            pass
        except OSError:
            return False
        return True

    def _has_room(self, now: float) -> bool:
        """Whether another may come: there is a place, or the one that is silent for longest gives way."""
        here = self._here()
        if len(here) < self._max_connections:
            return True
        silent = min(here, key=lambda each: each.heard)
        if now - silent.heard <= self._patience or len(self._connections) - len(here) >= self._max_connections:
            return False
        silent.refuse(now)  # it may be about to send something, so it is read from for a while
        return True

    def _here(self) -> list[Connection]:
        return [each for each in self._connections if not each.is_refused]

    def _look_around(self) -> None:
        """Cuts off those who keep it waiting for the rest of a record, and listens again if there is room."""
        now = time.monotonic()
        for each in [each for each in self._connections if each.is_partial or each.is_refused]:
            silence = now - each.heard
            if each.is_partial and silence > self._patience:
                self.rejected += 1
                self._end(each)
            elif each.is_refused and silence > _LEAVE_SECONDS:
                self._end(each)
        if not self._accepts:
            self._listen_again()

    def _listen_again(self) -> None:
        self._accepts = True
        assert self._listener is not None
        self._selector.register(self._listener, selectors.EVENT_READ)

    def _end(self, connection: Connection) -> None:
        self.rejected += connection.is_guilty
        self._selector.unregister(connection)
        self._connections.discard(connection)
        connection.close()

    def _drain(self) -> None:
        """Reads what has arrived, also of those that were not accepted yet."""
        now = time.monotonic()
        deadline = now + _DRAIN_SECONDS
        self._selector.unregister(self._ear)
        if self._accepts:
            assert self._listener is not None
            self._selector.unregister(self._listener)
        self._take(now, math.inf)
        for each in self._connections:
            each.refuse(now)
        while self._connections and time.monotonic() < deadline:
            ready = self._selector.select(_QUIET_SECONDS)
            if not ready:
                break
            self._round(ready)

    def _let_go(self) -> None:
        """Closes everything, for forks that may have copies, too."""
        assert self._listener is not None
        try:
            self._listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # some systems do that for connections only
        self._log.close()
        self._close_descriptors()

    def _close_descriptors(self) -> None:
        for each in self._connections:
            each.close()
        self._connections.clear()
        assert self._listener is not None
        self._listener.close()
        self._selector.close()
        self._ear.close()

    def _forget(self) -> None:
        """In a forked process: closes copies of what is the other's."""
        self._thread = None
        self._closing = threading.Lock()
        self._log.forget()
        self._close_descriptors()
        self._bell.close()


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, _, _, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.create_server(place[:2], family=family, backlog=512)
    except OSError as error:
        why = str(error.strerror).partition(" (")[0]
        raise type(error)(error.errno, f"can't listen on {host}, port {port}: {why}") from error
    listener.setblocking(False)
    return listener


def _close_all() -> None:
    for server in list(_open):
        server.close()


def _of_the_parent() -> None:
    for server in list(_open):
        server._forget()
    _open.clear()


atexit.register(_close_all)  # when pools have ended, whose workers may log until then
os.register_at_fork(after_in_child=_of_the_parent)

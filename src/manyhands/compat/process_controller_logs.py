"""The included logger of a ``ProcessController``: a log server of its own, as long as it has processes.

Workers import this module, so it imports little.
"""

from __future__ import annotations

import errno
import logging
import threading
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from manyhands.logs import JSONLogHandler, LogServer

logger: Final = logging.getLogger("manyhands.process_controller")

_STEM: Final = "process_controller"


class Messages:
    """Tells the standard ``logging`` and, while it is open, the log server.

    It does not touch loggers of this process: what the console shows stays what the program has set up.

    Args:
        included: whether there is a log server.
        directory: asks for the directory of its file.
    """

    def __init__(self, included: bool, directory: Callable[[], str]) -> None:
        self._included = included
        self._directory = directory
        self._lock = threading.Lock()
        self._handler: JSONLogHandler | None = None
        self.server: LogServer | None = None

    def open(self) -> tuple[Callable[..., None] | None, tuple[object, ...]]:
        """Starts the server, unless it runs.

        Returns:
            What workers begin with, and its arguments.

        Raises:
            OSError: it can't write to its directory.
        """
        if not self._included:
            return None, ()
        with self._lock:
            if self.server is None:
                from manyhands.logs import JSONLogHandler

                self.server = _started(Path(self._directory()))
                self._handler = JSONLogHandler(self.server.address)
            level = min(logging.INFO, logging.getLogger().getEffectiveLevel())
            return send_logs, (self.server.address, level)

    def info(self, message: str, *args: object) -> None:
        """Tells what was done."""
        self._log(logging.INFO, message, args)

    def error(self, message: str, *args: object, error: BaseException) -> None:
        """Tells what went wrong, with its traceback."""
        self._log(logging.ERROR, message, args, error)

    def close(self) -> None:
        """Ends the server, when what has arrived is written."""
        with self._lock:
            handler, self._handler = self._handler, None
            server, self.server = self.server, None
        if handler is not None:
            handler.close()
        if server is not None:
            server.close()

    def _log(
        self, level: int, message: str, args: tuple[object, ...], error: BaseException | None = None
    ) -> None:
        logger.log(level, message, *args, exc_info=error)
        handler = self._handler
        if handler is not None:
            info = None if error is None else (type(error), error, error.__traceback__)
            handler.handle(logger.makeRecord(logger.name, level, __file__, 0, message, args, info))


def send_logs(address: str, level: int) -> None:
    """In a worker: has all that is logged from ``level`` on sent to the log server at ``address``."""
    from manyhands.logs import JSONLogHandler

    root = logging.getLogger()
    root.addHandler(JSONLogHandler(address))
    root.setLevel(level)


def _started(directory: Path) -> LogServer:
    """A server that writes to the first file that no other one has."""
    from manyhands.logs import LogServer

    for number in count(1):
        name = f"{_STEM}.log" if number == 1 else f"{_STEM}-{number}.log"
        try:
            directory.mkdir(parents=True, exist_ok=True)
            return LogServer(directory / name).start()
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise OSError(
                    error.errno,
                    f"log_server_dir can't be written ({error.strerror}); set it to another directory, or take "
                    "included_logger=False",
                    str(directory),
                ) from error
    raise AssertionError  # there is always a next number

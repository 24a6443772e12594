"""Handlers of a helper: one for its log file and one for the console, on each of its loggers."""

from __future__ import annotations

import io
import logging
import os
import stat
from typing import Final

FORMAT: Final = "%(asctime)s:%(filename)s:%(funcName)s:%(name)s:%(levelname)s:%(message)s"


class LogFile(logging.FileHandler):
    """Appends to a regular file; follows no link, and does not wait for the reader of a FIFO.

    Attributes:
        owner: the helper's own name.
    """

    owner = ""

    def _open(self) -> io.TextIOWrapper:
        return open(self.baseFilename, "a", encoding="utf-8", opener=_regular)


class Console(logging.StreamHandler):  # type: ignore[type-arg]
    """Writes to the standard error.

    Attributes:
        owner: the helper's own name.
    """

    owner = ""


def open_logger(name: str, log_file: str, instance_number: int, owner: str) -> None:
    """Has what the logger ``name`` is told written to the file, from INFO on, and to the console.

    Raises:
        OSError: the file can't be written, or is no regular one.
    """
    logger = logging.getLogger(name)
    file, console = LogFile(log_file), Console()
    logger.setLevel(logging.DEBUG)
    for handler, kind, level in (
        (file, "file_handler", logging.INFO),
        (console, "stream_handler", logging.DEBUG),
    ):
        handler.set_name(f"{kind}{instance_number}")
        handler.setFormatter(logging.Formatter(FORMAT))
        handler.setLevel(level)
        handler.owner = owner
        logger.addHandler(handler)
    logger.info("Created log file: %s", log_file)


def close_logger(name: str, owner: str) -> None:
    """Closes the handlers that ``owner`` has opened on the logger ``name``, and no others."""
    logger = logging.getLogger(name)
    logger.info("Closing loggers")
    for handler in logger.handlers[:]:
        if isinstance(handler, LogFile | Console) and handler.owner == owner:
            logger.removeHandler(handler)
            handler.close()


def _regular(path: str, flags: int) -> int:
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(f"{path} is no regular file")
    return descriptor

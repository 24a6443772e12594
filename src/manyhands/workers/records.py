"""The records that code in a worker logs, on their way to the parent. Imports ``logging``."""

from __future__ import annotations

import logging
import marshal
from collections.abc import Callable
from typing import Any, Final

from manyhands.workers import payload
from manyhands.workers.outlet import RECORD, Levels

FIELDS: Final = (
    "name",
    "levelno",
    "levelname",
    "pathname",
    "filename",
    "module",
    "lineno",
    "funcName",
    "msg",
    "exc_text",
    "stack_info",
    "created",
    "msecs",
    "relativeCreated",
    "thread",
    "threadName",
    "process",
    "taskName",
)
"""The attributes of a record that travel as they are, in the order in which they do."""

_OTHERS: Final = frozenset((*FIELDS, "args", "exc_info", "message", "asctime", "processName"))
"""What is no attribute of the user's."""


class Records(logging.Handler):
    """The handler of the root logger in a worker. What a forked one has inherited is the parent's to do."""

    def __init__(self, tell: Callable[[int, bytes], bool]) -> None:
        super().__init__()
        self._tell = tell
        self._adopted: dict[str, int] = {}  # what loggers were set to here
        self._own: dict[str, int] = {}  # and what they had of their own
        loggers = [logging.root, *logging.root.manager.loggerDict.values()]
        for logger in loggers:
            if isinstance(logger, logging.Logger):
                logger.handlers.clear()
                logger.propagate = True
        logging.root.addHandler(self)

    def adopt(self, levels: Levels | None) -> None:
        """Lets pass what the parent's loggers do; None: they have no levels yet.

        A logger that code in the worker lets pass more, since it has handlers there, keeps to that.
        """
        if levels is None:
            return
        for name in self._adopted.keys() | levels.by_name.keys():
            logger = logging.getLogger(name)
            if logger.level != self._adopted.get(name):
                self._own[name] = logger.level
            set_ones = [level for level in (self._own[name], levels.by_name.get(name, 0)) if level]
            self._adopted[name] = min(set_ones, default=logging.NOTSET)
            logger.setLevel(self._adopted[name])
        logging.disable(levels.disabled)

    def emit(self, record: logging.LogRecord) -> None:
        """Sends it."""
        try:
            body = _packed(record)
        except Exception:
            self.handleError(record)
            return
        if not self._tell(RECORD, body) and logging.lastResort is not None:
            logging.lastResort.handle(record)  # nobody hears; at least it is seen


def _packed(record: logging.LogRecord) -> bytes:
    known = record.__dict__
    message = record.getMessage()
    if record.exc_info and not record.exc_text:
        record.exc_text = _formatter.formatException(record.exc_info)
    more = b""
    if len(known) != len(_plain) or known.keys() != _plain:
        extra = {name: value for name, value in known.items() if name not in _OTHERS}
        more = _packed_extra(extra) if extra else b""
    values = (
        record.name,
        record.levelno,
        record.levelname,
        record.pathname,
        record.filename,
        record.module,
        record.lineno,
        record.funcName,
        message,
        record.exc_text,
        record.stack_info,
        record.created,
        record.msecs,
        record.relativeCreated,
        record.thread,
        record.threadName,
        record.process,
        known.get("taskName"),
        more,
    )
    try:
        return marshal.dumps(values)
    except ValueError:  # a name that is an instance of a subclass of str, say
        return marshal.dumps(tuple(value if _fits(value) else str(value) for value in values))


def _fits(value: Any) -> bool:
    return value is None or type(value) in (int, float, str, bytes)


def _packed_extra(extra: dict[str, Any]) -> bytes:
    try:
        return payload.dumps(extra)
    except Exception:
        return payload.dumps({name: _sendable(value) for name, value in extra.items()})


def _sendable(value: Any) -> Any:
    """The value, or its ``repr`` if it can't be sent."""
    try:
        payload.dumps(value)
    except Exception:
        return repr(value)
    return value


_formatter: Final = logging.Formatter()
_plain: Final = logging.makeLogRecord({}).__dict__.keys()

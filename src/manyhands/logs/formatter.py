"""Log records as JSON objects, with the keys that python-json-logger gives them."""

from __future__ import annotations

import json
import logging
from numbers import Integral, Real
from typing import Any, Final

FIELDS: Final = ("asctime", "levelname", "name", "process", "message")

_OWN: Final = frozenset(vars(logging.makeLogRecord({}))) | {"asctime", "message", "taskName"}
"""What every record has; all else came with ``extra``."""


class JSONFormatter(logging.Formatter):
    """Makes one JSON object of a record, in ASCII and on one line.

    Its keys are ``fields``, in this order; what came with ``extra``, unless its name begins with "_"; and, as texts,
    ``exc_info`` and ``stack_info``, where there are any. A value that JSON has no form for is its text; numbers of
    NumPy are numbers, dates ISO 8601.

    Args:
        fields: attributes of log records, as the standard ``logging`` names them.
        datefmt: of "asctime", as in ``logging.Formatter``.

    Raises:
        ValueError: a field is no attribute of log records.
    """

    def __init__(self, fields: tuple[str, ...] = FIELDS, datefmt: str | None = None) -> None:
        super().__init__(datefmt=datefmt)
        unknown = [name for name in fields if name not in _OWN]
        if unknown:
            raise ValueError(
                f"fields must be attributes of log records, such as 'lineno'; {unknown[0]!r} is none"
            )
        self.fields = fields

    def format(self, record: logging.LogRecord) -> str:
        """The record as text.

        Raises:
            Exception: its arguments don't fit its message.
        """
        values = self._values(record)
        try:
            return _dumps(values)
        except (TypeError, ValueError, RecursionError):  # a key that is no text, NaN, a value within itself
            return _dumps({str(name): _plain(value) for name, value in values.items()})

    def _values(self, record: logging.LogRecord) -> dict[str, Any]:
        there = vars(record)
        values: dict[str, Any] = {}
        for name in self.fields:
            if name == "message":
                values[name] = record.getMessage()
            elif name == "asctime":
                values[name] = self.formatTime(record, self.datefmt)
            else:
                values[name] = there.get(name)
        values.update((name, there[name]) for name in there if name not in _OWN and not name.startswith("_"))
        if record.exc_info and not record.exc_text:
            record.exc_text = self.formatException(record.exc_info)
        if record.exc_text:
            values["exc_info"] = record.exc_text
        if record.stack_info:
            values["stack_info"] = self.formatStack(record.stack_info)
        return values


def _plain(value: object) -> object:
    """The value, if JSON has a form for all of it, else its text."""
    try:
        _dumps(value)
    except (TypeError, ValueError, RecursionError):
        return _text(value)
    return value


def _form(value: object) -> object:
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return float(value)
    isoformat = getattr(value, "isoformat", None)
    return isoformat() if callable(isoformat) else _text(value)


def _text(value: object) -> str:
    try:
        return str(value)
    except Exception:  # a class of the user's, whose record is worth more than this value
        return object.__repr__(value)


_dumps = json.JSONEncoder(default=_form, allow_nan=False).encode

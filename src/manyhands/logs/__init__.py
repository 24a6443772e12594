"""Logs of many processes in one place: a server that writes JSON lines, and the handler that sends to it."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from manyhands.logs.client import JSONLogHandler
    from manyhands.logs.formatter import JSONFormatter
    from manyhands.logs.server import LogServer
    from manyhands.logs.task import TaskFilter

__all__ = ["JSONFormatter", "JSONLogHandler", "LogServer", "TaskFilter"]

_PLACES = {
    "JSONFormatter": "formatter",
    "JSONLogHandler": "client",
    "LogServer": "server",
    "TaskFilter": "task",
}


def __getattr__(name: str) -> object:
    """Each is loaded when it is asked for: who sends needs no server."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)

"""What calls in workers print, log and warn of, in the parent: it is written, or handled by ``logging``, in a thread.

One thread of this process does all of it, in the order in which each worker said it, since handlers are the user's
code and the pool runs none. Whoever ends a map, or a pool, waits until what its workers had said is done.
"""

from __future__ import annotations

import os
import re
import sys
import threading
import traceback
import warnings
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any, Final, NamedTuple, TextIO

from manyhands.workers.outlet import LOGGER, RECORD, STDERR, STDOUT, WARNING, Levels

MOST: Final = 10_000
"""So many things may wait; then whoever reads from workers waits, too, and they in turn."""

PATIENCE_SECONDS: Final = 5.0
"""So long that wait takes, when a handler is stuck."""


_SOME: Final = 100  # things that are done while what is on the screen is away


class Said(NamedTuple):
    """Something that a worker has said.

    Attributes:
        what: of which kind, see ``outlet``.
        body: as that kind has it.
        worker: who, ``"<host>:<pid>"``.
        item: the position in its map of the item that it was at; None: it was at none.
        task: the name of the function that it was at; "" for none.
    """

    what: int
    body: bytes
    worker: str
    item: int | None
    task: str


class Inlet:
    """The thread, and what waits for it. It starts with the first thing that is said."""

    def __init__(self) -> None:
        self._waiting: deque[Said | threading.Event] = deque()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self.curtain: Callable[[], AbstractContextManager[Any]] = nullcontext
        """What is on the screen, a bar say, is taken away meanwhile."""

    def put(self, said: Said) -> None:
        """Takes what a worker has said; does not wait."""
        self._waiting.append(said)
        if not self._wake.is_set():
            self._wake.set()
            if self._thread is None:
                self._start()

    def hold_back(self) -> None:
        """Waits if there is too much; for who reads, with no lock."""
        if len(self._waiting) > MOST:
            self.flush()

    def flush(self) -> None:
        """Returns when all that was said is done, or nothing seems to happen any more."""
        if not self._waiting and not self._wake.is_set():
            return
        if self._thread is None or self._thread is threading.current_thread():
            return
        done = threading.Event()
        self._waiting.append(done)
        self._wake.set()
        done.wait(PATIENCE_SECONDS)

    def _start(self) -> None:
        self._thread = threading.Thread(target=self._serve, name="manyhands-inlet", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:  # no more threads, or the end of the program
            self._thread = None
            self._work()

    def _serve(self) -> None:
        while True:
            self._wake.wait()
            self._work()

    def _work(self) -> None:
        while True:
            while self._waiting:
                with self.curtain():
                    self._do_some()
            self._wake.clear()
            if not self._waiting:  # or what came in between would wait for the next
                return
            self._wake.set()

    def _do_some(self) -> None:
        for _ in range(min(len(self._waiting), _SOME)):
            said = self._waiting.popleft()
            if isinstance(said, threading.Event):
                said.set()
                continue
            try:
                _do(said)
            except Exception:
                with suppress(Exception):  # stderr itself may be closed
                    traceback.print_exc()

    def renew(self) -> None:
        """In a fork, where there is no thread: what was said to the parent is the parent's to do."""
        self.__init__()  # type: ignore[misc]


def levels() -> Levels | None:
    """What the loggers of this process let pass; None if nobody has imported ``logging``."""
    logging = sys.modules.get("logging")
    if logging is None:
        return None
    root = logging.root
    found = {"": root.level}
    for name, logger in list(root.manager.loggerDict.items()):
        level = getattr(logger, "level", 0)  # of a place holder there is none
        if level:
            found[name] = level
    return Levels(found, root.manager.disable)


def _do(said: Said) -> None:
    if said.what == STDOUT:
        _write(sys.stdout, said.body)
    elif said.what == STDERR:
        _write(sys.stderr, said.body)
    elif said.what == RECORD:
        _log(said)
    elif said.what == WARNING:
        _warn(said)


def _write(stream: TextIO | None, body: bytes) -> None:
    if stream is None:
        return
    text = body.decode("utf-8", "surrogatepass")
    try:
        stream.write(text)
    except UnicodeEncodeError:
        encoding = stream.encoding or "ascii"
        stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
    if (
        stream.isatty()
    ):  # elsewhere it would break what this process writes itself into lines that are not whole
        stream.flush()


def _log(said: Said) -> None:
    import logging
    import marshal

    from manyhands.workers.payload import loads
    from manyhands.workers.records import FIELDS

    *values, more = marshal.loads(said.body)  # noqa: S302  # from a worker of this process
    known: dict[str, Any] = dict(zip(FIELDS, values, strict=True))
    known.update(args=None, exc_info=None, processName=said.worker)
    if more:
        known.update(loads(more))
    known.update(worker=said.worker, item=said.item, task=said.task)
    logger = logging.getLogger(known["name"])
    if logger.isEnabledFor(known["levelno"]):  # code in the worker may let pass more, for handlers there
        logger.handle(logging.makeLogRecord(known))


def _warn(said: Said) -> None:
    import logging
    import marshal

    text, message, kinds, filename, lineno = marshal.loads(said.body)  # noqa: S302  # from a worker of this process
    if _is_ignored(message, kinds, filename, lineno):
        return
    logger = logging.getLogger(LOGGER)
    if not logger.hasHandlers():
        _write(sys.stderr, text.encode("utf-8", "surrogatepass"))
    elif logger.isEnabledFor(logging.WARNING):
        record = logger.makeRecord(LOGGER, logging.WARNING, filename, lineno, "%s", (text,), None)
        record.__dict__.update(worker=said.worker, item=said.item, task=said.task)
        logger.handle(record)


def _is_ignored(message: str, kinds: list[str], filename: str, lineno: int) -> bool:
    """Whether the filters of this process say so, but for those that every process begins with: the worker has them."""
    for action, text, kind, module, line in warnings.filters:
        if (action, text, kind, line) in _FROM_THE_START and module in (None, "__main__"):
            continue
        wanted = kind if isinstance(kind, tuple) else (kind,)
        if (
            any(f"{one.__module__}.{one.__qualname__}" in kinds for one in wanted)
            and _matches(text, message)
            and _matches(module, filename.removesuffix(".py"))
            and line in (0, lineno)
        ):
            return action == "ignore"
    return False


def _matches(pattern: re.Pattern[str] | str | None, text: str) -> bool:
    return pattern is None or bool(re.match(pattern, text))


_FROM_THE_START: Final = frozenset(
    (action, None, kind, 0)
    for action, kind in (
        ("default", DeprecationWarning),
        ("ignore", DeprecationWarning),
        ("ignore", PendingDeprecationWarning),
        ("ignore", ImportWarning),
        ("ignore", ResourceWarning),
    )
)

inlet: Final = Inlet()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=inlet.renew)

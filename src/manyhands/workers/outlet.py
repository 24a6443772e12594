"""What calls in a worker print, log and warn of goes to the parent at once: so what was said before a crash is heard.

``sys.stdout`` and ``sys.stderr`` send whole lines. ``logging`` sends records, once somebody has imported it. What is
written to file descriptors goes where these lead. The parent's side is ``inlet``.
"""

from __future__ import annotations

import io
import marshal
import os
import sys
import threading
import warnings
from collections.abc import Callable
from functools import cached_property
from types import ModuleType
from typing import Any, Final, NamedTuple, cast

from manyhands.workers.channel import TOLD, Frame
from manyhands.workers.marker import NOTHING, Marker
from manyhands.workers.place import here

STDOUT: Final = 0
STDERR: Final = 1
RECORD: Final = 2
WARNING: Final = 3
"""What a TOLD frame holds, by its flags: text in UTF-8, a marshalled record, a marshalled warning."""

LOGGER: Final = "py.warnings"
"""Who logs warnings, as with ``logging.captureWarnings``."""


class Levels(NamedTuple):
    """What the parent's loggers let pass: so a worker sends nothing that nobody wants.

    Attributes:
        by_name: of each logger that has a level of its own; the root logger is "".
        disabled: the highest level that ``logging.disable`` has turned off.
    """

    by_name: dict[str, int]
    disabled: int


class Outlet:
    """The worker's side.

    Args:
        send: sends a frame; for any thread, also in the middle of another frame.
        marker: says which call each thread is at.
    """

    def __init__(self, send: Callable[[Frame], None], marker: Marker) -> None:
        self._send = send
        self._marker = marker
        self._pid = os.getpid()
        self._other_threads = 0 if marker.threads == 1 else -1
        self._levels: Levels | None = None
        self._streams: tuple[Lines, ...] = ()
        self.adopt: Callable[[Levels | None], None] = self._keep

    def open(self) -> None:
        """From now on."""
        self._streams = (Lines(self, STDOUT, sys.stdout), Lines(self, STDERR, sys.stderr))
        sys.stdout, sys.stderr = self._streams
        warnings.showwarning = self._warn
        if "logging" in sys.modules:
            self._open_logging()
        else:
            sys.meta_path.insert(0, _AtImport("logging", self._open_logging))

    def flush(self) -> None:
        """Sends what this thread has begun to print."""
        for stream in self._streams:
            stream.send()

    def tell(self, what: int, body: bytes) -> bool:
        """Sends what a call, or nobody's call, has said; returns whether somebody will hear it."""
        if os.getpid() != self._pid:
            return False  # it was forked from the worker, and the channel is not its own
        ticket = position = NOTHING
        lane = getattr(here, "lane", self._other_threads)
        if lane >= 0:
            numbers = self._marker.numbers
            ticket, position = numbers[2 * lane + 2], numbers[2 * lane + 3]
        try:
            self._send(Frame(TOLD, flags=what, ticket=ticket, begin=position, body=body))
        except OSError:
            return False  # the parent is gone
        return True

    def _keep(self, levels: Levels | None) -> None:
        self._levels = levels

    def _open_logging(self) -> None:
        from manyhands.workers.records import Records  # it needs ``logging``

        self.adopt = Records(self.tell).adopt
        self.adopt(self._levels)

    def _warn(
        self,
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: Any = None,
        line: str | None = None,
    ) -> None:
        text = warnings.formatwarning(message, category, filename, lineno, line)
        kinds = [f"{kind.__module__}.{kind.__qualname__}" for kind in category.__mro__]
        if file is not None or not self.tell(
            WARNING, marshal.dumps((text, str(message), kinds, filename, lineno))
        ):
            (file or sys.stderr).write(text)


def _anew(stream: Any) -> Any:
    """A stream to where this one leads, with nothing in it.

    That of a forked worker may hold what another thread of its parent was writing, which is not to be written twice,
    and a lock that nobody will let go of.
    """
    try:
        return open(
            stream.fileno(),
            "w",
            buffering=1,
            encoding=stream.encoding,
            errors=stream.errors,
            closefd=False,
        )
    except (AttributeError, OSError, ValueError):  # there is none, or it leads nowhere
        return stream


class Lines(io.TextIOBase):
    """Stands for a stream of text: what is written goes to the parent, by whole lines and when it is flushed.

    Args:
        outlet: takes it.
        what: names the stream.
        stream: what it stands for, and where a process that was forked from the worker writes.
    """

    def __init__(self, outlet: Outlet, what: int, stream: Any) -> None:
        self._outlet = outlet
        self._what = what
        self._stream = stream
        self._begun = threading.local()

    @cached_property
    def _real(self) -> Any:
        return _anew(self._stream)  # when it is needed, which is seldom

    def write(self, text: str, /) -> int:
        """Takes text; of each thread lines stay whole."""
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        lines, end, rest = text.rpartition("\n")
        begun = getattr(self._begun, "text", "")
        if not end:
            self._begun.text = begun + text
            return len(text)
        self._begun.text = rest
        self._tell(begun + lines + end)
        return len(text)

    def flush(self) -> None:
        """Sends what this thread has begun."""
        self.send()
        real = vars(self).get("_real")  # if it was never needed, nothing is in it
        if real is not None:
            real.flush()

    def send(self) -> None:
        """As ``flush``, but for what others may have written to the real one."""
        begun = getattr(self._begun, "text", "")
        if begun:
            self._begun.text = ""
            self._tell(begun)

    def _tell(self, text: str) -> None:
        if not self._outlet.tell(self._what, text.encode("utf-8", "surrogatepass")) and self._real is not None:
            self._real.write(text)

    def writable(self) -> bool:
        """It is."""
        return True

    def isatty(self) -> bool:
        """Whether the stream leads to a terminal."""
        return self._real is not None and self._real.isatty()

    def fileno(self) -> int:
        """Of the stream; what is written to that goes straight there."""
        if self._real is None:
            raise io.UnsupportedOperation("fileno")
        return self._real.fileno()  # type: ignore[no-any-return]

    @property
    def encoding(self) -> str:  # type: ignore[override]  # pyright: ignore[reportIncompatibleVariableOverride]
        """Of the stream."""
        return getattr(self._real, "encoding", None) or "utf-8"

    @property
    def errors(self) -> str | None:  # type: ignore[override]  # pyright: ignore[reportIncompatibleVariableOverride]
        """Of the stream."""
        return getattr(self._real, "errors", None)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


class _AtImport:
    """A finder that has something called once a module has been imported."""

    def __init__(self, name: str, then: Callable[[], None]) -> None:
        self._name = name
        self._then = then

    def find_spec(self, name: str, path: Any = None, target: ModuleType | None = None) -> Any:
        """Lets the others find the module."""
        if name != self._name:
            return None
        sys.meta_path.remove(self)
        for finder in sys.meta_path:
            spec = finder.find_spec(name, path, target)
            if spec is not None and spec.loader is not None:
                spec.loader = cast("Any", _Then(spec.loader, self._then))
                return spec
        return None


class _Then:
    """A loader that has something called when it has loaded."""

    def __init__(self, loader: Any, then: Callable[[], None]) -> None:
        self._loader = loader
        self._then = then

    def create_module(self, spec: Any) -> ModuleType | None:
        """As the loader does."""
        return self._loader.create_module(spec)  # type: ignore[no-any-return]

    def exec_module(self, module: ModuleType) -> None:
        """As the loader does, and more."""
        self._loader.exec_module(module)
        self._then()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

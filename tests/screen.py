"""A pseudo-terminal, and a small model of its screen: what a person would see of what is written to it."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import sys
import termios
import threading
from types import TracebackType
from typing import Self

_PIECE = re.compile(r"\x1b\[(\d*)([A-Za-z])|([\r\n])|([^\x1b\r\n])", re.DOTALL)


_END = b"\0"


class Screen:
    """Lines of characters and a cursor: newlines, returns, the cursor up; long lines go on in the next one."""

    def __init__(self, columns: int) -> None:
        self.columns = columns
        self.rows: list[list[str]] = [[]]
        self.row = self.column = 0

    def feed(self, text: str) -> None:
        """Shows more."""
        at = 0
        while at < len(text):
            piece = _PIECE.match(text, at)
            assert piece is not None, (
                f"a terminal's sequence that the model does not know: {text[at : at + 9]!r}"
            )
            at = piece.end()
            count, command, control, letter = piece.groups()
            if command is not None:
                assert command == "A", f"cursor command {command!r}"
                self.row = max(0, self.row - int(count or 1))
            elif control == "\n":
                self._down()
            elif control == "\r":
                self.column = 0
            else:
                self._put(letter)

    def _put(self, letter: str) -> None:
        if self.column >= self.columns:
            self.column = 0
            self._down()
        row = self.rows[self.row]
        row.extend(" " * (self.column + 1 - len(row)))
        row[self.column] = letter
        self.column += 1

    def _down(self) -> None:
        self.row += 1
        while len(self.rows) <= self.row:
            self.rows.append([])

    @property
    def lines(self) -> list[str]:
        """What is seen, without blanks at the ends and below."""
        lines = ["".join(row).rstrip() for row in self.rows]
        while lines and not lines[-1]:
            lines.pop()
        return lines


class Terminal:
    """A file that is a terminal, whose screen is known when it is closed.

    Attributes:
        file: to be written to.
        screen: what is seen, complete when the terminal is closed.
        written: all that was written.
    """

    def __init__(self, columns: int = 80, rows: int = 24) -> None:
        self._own, end = pty.openpty()
        fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.file = os.fdopen(end, "w", encoding="utf-8")
        self.screen = Screen(columns)
        self.written = ""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        seen = b""
        while not seen.endswith(_END):  # a forked worker may have the file still, so it need not end
            seen += os.read(self._own, 65536)
        self.written = seen.removesuffix(_END).decode()
        self.screen.feed(self.written)

    def attach(self) -> None:
        """It is standard error until it is closed; called by the test itself, since pytest undoes it in a fixture."""
        self._before, sys.stderr = sys.stderr, self.file

    def close(self) -> list[str]:
        """Nothing more is written; what is seen at the end."""
        if not self.file.closed:
            if sys.stderr is self.file:
                sys.stderr = self._before
            self.file.write(_END.decode())
            self.file.close()
            self._reader.join()
            os.close(self._own)
        return self.screen.lines

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

"""A recording as a file: lines of JSON that survive the process, one file for each map of each process.

The first line is an object that says whose it is; each of the others is a list that begins with what it tells:

    ["w", number, worker]                                                             a worker has this number
    ["s", number, begin, seconds, count, last, status, index, attempt, item of the last]    a span
    ["t", number, traceback]                                                          a traceback has this number
    ["f", index, item, type, text, traceback's number, attempts, worker]              an item failed for good
    ["p", worker, bytes]       ["c", values, failures, discarded, elsewhere]          ["e", seconds]

Who reads leaves out what it does not understand: a torn line, a kind of line or a field that a later version wrote.
"""

from __future__ import annotations

import json
import os
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from math import isfinite
from pathlib import Path
from typing import IO, Any, Final

from manyhands.reporting.labels import TEXT_MAX, TRACEBACK_MAX, Label, Labels, cut, place
from manyhands.reporting.recording import FAILURES_MAX, Recording
from manyhands.reporting.spans import CODES, Status

VERSION: Final = 1
TOKEN_LENGTH: Final = 24
FLUSH_SECONDS: Final = 0.5
FLUSH_BYTES: Final = 64 * 1024
_LINE_MAX: Final = 1 << 20
_LARGEST: Final = 2**53
_NO_LABEL: Final = '""'
_encode: Final = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode
_decode: Final = json.JSONDecoder().raw_decode


def journal_file(directory: str | os.PathLike[str], token: str) -> Path:
    """The path of a journal; ``claims/names.py`` knows such names."""
    return Path(directory, f".manyhands-{token}.journal")


class Writer:
    """Takes down a map in a new file in ``directory``; takes what a ``Recording`` takes.

    Args:
        directory: where the file is made.
        function: the function's name.
        begun: when the map started, as a unix time in seconds.
        workers: how many can run calls at a time.
        total: number of items, if known.
        host: of this process.

    What is told is in the file after half a second, if something else is told then, or after 64 KiB, or ``close``.
    If the file can't be written that is logged once, and the rest is dropped: nothing here raises OSError.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        function: str,
        begun: float,
        workers: int,
        total: int | None = None,
        host: str = "",
    ) -> None:
        self.path = journal_file(directory, os.urandom(TOKEN_LENGTH // 2).hex())
        self._labels = Labels()
        self._workers: dict[str, int] = {}
        self._tracebacks: dict[tuple[str, str], int] = {}
        self._failures = 0
        self._lines: list[str] = []
        self._size = 0
        self._flushed = time.monotonic()
        self._file: int | None = None
        try:
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            self._file = os.open(self.path, flags, 0o666)
        except OSError as error:
            self._give_up(error)
        header = {
            "manyhands": VERSION,
            "kind": "journal",
            "function": function,
            "begun": begun,
            "host": host,
            "pid": os.getpid(),
            "workers": workers,
            "total": total,
        }
        self._add(header)
        self.flush()

    def span(
        self,
        worker: str,
        begin: float,
        seconds: float,
        count: int = 1,
        last: float = 0.0,
        status: Status = "value",
        index: int = -1,
        item: object = None,
        items: Sequence[Any] | None = None,
        attempt: int = 1,
    ) -> None:
        """As ``Recording.span``."""
        if self._file is None:
            return
        number = self._workers.get(worker)
        if number is None:
            number = self._workers[worker] = len(self._workers)
            self._add(["w", number, worker])
        label = self._labels.of(items[-1] if items is not None and len(items) else item)
        # By hand: there may be very many of these lines, and an encoder takes three times as long.
        self._put(
            f'["s",{number},{round(begin, 9)},{round(seconds, 9)},{count},{round(last, 9)},"{status}",'
            f"{index},{attempt},{_encode(label) if label else _NO_LABEL}]\n"
        )

    def failed(
        self, index: int, item: object, error_type: str, text: str, traceback: str, attempts: int, worker: str
    ) -> None:
        """As ``Recording.failed``."""
        if self._file is None:
            return
        self._failures += 1
        key = (error_type, place(traceback))
        number = self._tracebacks.get(key, -1)
        if number < 0 and len(self._tracebacks) < FAILURES_MAX:
            number = self._tracebacks[key] = len(self._tracebacks)
            self._add(["t", number, cut(traceback, TRACEBACK_MAX)])
        whole = self._failures <= FAILURES_MAX
        told = self._labels.of(item) if whole else ""
        text = cut(text, TEXT_MAX) if whole else ""
        self._add(["f", index, told, error_type, text, number, attempts, worker])

    def peak(self, worker: str, size: int) -> None:
        """As ``Recording.peak``."""
        self._add(["p", worker, size])

    def counts(self, values: int, failures: int, discarded: int = 0, elsewhere: int = 0) -> None:
        """As ``Recording.counts``."""
        self._add(["c", values, failures, discarded, elsewhere])

    def ended(self, seconds: float) -> None:
        """As ``Recording.ended``; nothing comes after it."""
        self._add(["e", seconds])
        self.close()

    def flush(self) -> None:
        """Writes what was told."""
        data, self._lines, self._size = "".join(self._lines).encode(), [], 0
        self._flushed = time.monotonic()
        try:
            while self._file is not None and data:
                data = data[os.write(self._file, data) :]
            if self._file is not None and not os.fstat(self._file).st_nlink:
                raise FileNotFoundError(2, "it was removed")
        except OSError as error:
            self._give_up(error)

    def close(self) -> None:
        """Writes what was told; nothing is told afterwards."""
        self.flush()
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _add(self, row: object) -> None:
        if self._file is not None:
            self._put(f"{_encode(row)}\n")

    def _put(self, line: str) -> None:
        self._lines.append(line)
        self._size += len(line)
        if self._size >= FLUSH_BYTES or time.monotonic() - self._flushed >= FLUSH_SECONDS:
            self.flush()

    def _give_up(self, error: OSError) -> None:
        import logging

        if self._file is not None:
            try:
                os.close(self._file)
            except OSError:
                pass
            self._file = None
        logging.getLogger("manyhands").warning(
            "the journal %r can't be written (%s): what this map does is not recorded there any more",
            str(self.path),
            error.strerror or error,
        )


def read(directory: str | os.PathLike[str], recursive: bool = False) -> list[Recording]:
    """The maps whose journals are in ``directory``, by their begin.

    Raises:
        OSError: the directory can't be read; a file in it that can't be is left out.
    """
    found = [
        recording for path in _journals(directory, recursive) if (recording := read_file(path)) is not None
    ]
    return sorted(found, key=lambda recording: (recording.begun, recording.host))


def read_file(path: str | os.PathLike[str]) -> Recording | None:
    """The map that a journal tells of, as far as it can be read; None if that is no journal."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        return None
    with os.fdopen(descriptor, "rb") as file:
        lines = _parsed(file)
        recording = _begun(next(lines, None))
        if recording is not None:
            replay = _Replay(recording)
            for line in lines:
                replay.tell(line)
        return recording


def _journals(directory: str | os.PathLike[str], recursive: bool) -> Iterator[Path]:
    with os.scandir(directory) as entries:
        found = sorted(entries, key=lambda entry: entry.name)
    for entry in found:
        if recursive and entry.is_dir(follow_symlinks=False):
            try:
                yield from _journals(entry.path, recursive)
            except OSError:
                continue
        elif is_journal(entry.name):
            yield Path(entry.path)


def is_journal(name: str) -> bool:
    """Whether a file of this name is a journal."""
    token = name.removeprefix(".manyhands-").removesuffix(".journal")
    return (
        name == f".manyhands-{token}.journal"
        and len(token) == TOKEN_LENGTH
        and set(token) <= set("0123456789abcdef")
    )


def _parsed(file: IO[bytes]) -> Iterator[Any]:
    while line := _line(file):
        try:
            yield _decode(line.decode("ascii", "replace"))[0]
        except (ValueError, RecursionError):
            yield None


def _line(file: IO[bytes]) -> bytes:
    try:
        return file.readline(_LINE_MAX)
    except OSError:  # what was read until then is told
        return b""


def _begun(header: Any) -> Recording | None:
    if not isinstance(header, dict) or "manyhands" not in header or header.get("kind") != "journal":
        return None
    try:
        total = header.get("total")
        return Recording(
            _text(header.get("function", "?")),
            _seconds(header["begun"]),
            max(1, _whole(header.get("workers", 1))),
            None if total is None else _whole(total),
            _text(header.get("host", "")),
        )
    except (KeyError, TypeError, ValueError):
        return None


class _Replay:
    """Tells a recording what the lines of its journal say."""

    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        self._workers: dict[int, str] = {}
        self._tracebacks: dict[int, str] = {}
        self._kinds: dict[str, Callable[[list[Any]], None]] = {
            "w": self._worker,
            "s": self._span,
            "t": self._traceback,
            "f": self._failed,
            "p": lambda row: recording.peak(_text(row[0]), _whole(row[1])),
            "c": lambda row: recording.counts(*(_whole(each) for each in row[:4])),
            "e": lambda row: recording.ended(_seconds(row[0])),
        }

    def tell(self, line: Any) -> None:
        """What one line says, if it is understood."""
        if not isinstance(line, list) or not line or not isinstance(line[0], str):
            return
        try:
            if act := self._kinds.get(line[0]):
                act(line[1:])
        except (TypeError, ValueError, LookupError):
            return

    def _worker(self, row: list[Any]) -> None:
        self._workers[_whole(row[0])] = _text(row[1])

    def _traceback(self, row: list[Any]) -> None:
        self._tracebacks[_whole(row[0])] = _text(row[1])

    def _span(self, row: list[Any]) -> None:
        number, begin, seconds, count, last, status, index, attempt, label = row[:9]
        worker = self._workers[number]
        # In line: there are very many spans. What is no number can't be compared, and NaN is never in between.
        if not (type(count) is type(index) is type(attempt) is int and type(label) is str and status in CODES):
            return
        if not (1 <= count <= _LARGEST and -1 <= index <= _LARGEST and 0 <= attempt <= _LARGEST):
            return
        if -_LARGEST <= begin <= _LARGEST and 0 <= seconds <= _LARGEST and 0 <= last <= _LARGEST:
            self._recording.span(
                worker, begin, seconds, count, last, status, index, attempt=attempt, item=Label(label)
            )

    def _failed(self, row: list[Any]) -> None:
        index, item, error_type, text, number, attempts, worker = row[:7]
        self._recording.failed(
            _whole(index),
            Label(_text(item)),
            _text(error_type),
            _text(text),
            self._tracebacks.get(number, ""),
            _whole(attempts),
            _text(worker),
        )


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(value)
    return value


def _whole(value: Any) -> int:
    if type(value) is not int or not -1 <= value <= _LARGEST:
        raise ValueError(value)
    return value


def _seconds(value: Any) -> float:
    if type(value) not in (int, float) or not isfinite(value) or abs(value) > _LARGEST:
        raise ValueError(value)
    return float(value)

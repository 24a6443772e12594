"""A file of lines that is moved aside when it is full: FILE is the newest, then FILE.1, FILE.2, and so on."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path


class RotatedFile:
    """Appends whole lines to a file; a line is never torn, nor in two files.

    Not the standard library's handler: when the disk is full, that leaves half a line, to which the next is appended.

    Args:
        path: the file. Its directory must be there; what is in the file stays.
        max_bytes: a file is moved aside before it would have more; None: never. A line that is longer has a file
            of its own.
        backups: how many files that were moved aside are kept, 1 or more.

    Raises:
        OSError: it can't be opened, is no regular file, or another ``RotatedFile`` has it.
    """

    def __init__(self, path: str | os.PathLike[str], max_bytes: int | None, backups: int) -> None:
        self.path = Path(path).absolute()  # the program may go to another directory later
        self._max_bytes = max_bytes
        self._backups = backups
        self._file: int | None = None
        self._is_torn = False  # it ends in the midst of a line
        self._open()

    def write(self, lines: Sequence[bytes]) -> int:
        """Appends lines, each without its line break; raises nothing.

        Returns:
            int: how many of them, from the first on, are in the file. The others are not.
        """
        written = 0
        try:
            while written < len(lines):
                room = self._room(self._size(), lines, written)
                if not room and self._rotate():
                    continue
                room = room or len(lines) - written  # rather too long than lost
                done = self._append(lines[written : written + room])
                written += done
                if done < room:
                    break
        except OSError:  # the disk is full, or the directory is gone; the next lines may have more luck
            pass
        return written

    def close(self) -> None:
        """Closes the file, and others may have it; a second time does nothing."""
        if self._file is not None:
            try:  # a fork may have a copy of it, with which the lock would live on
                fcntl.flock(self._file, fcntl.LOCK_UN)
            except OSError:
                pass
            self.forget()

    def forget(self) -> None:
        """In a forked process: closes the copy of what is the other's."""
        if self._file is not None:
            file, self._file = self._file, None
            os.close(file)

    def _size(self) -> int:
        """Of the file that has the name now, which somebody may have moved or removed."""
        if self._file is not None:
            mine = os.fstat(self._file)
            try:
                named = self.path.stat()
            except FileNotFoundError:
                named = None
            if named is not None and os.path.samestat(mine, named):
                return mine.st_size
        self.close()
        return self._open()

    def _open(self) -> int:
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        file = os.open(self.path, flags, 0o666)
        try:
            found = os.fstat(file)
            if not stat.S_ISREG(found.st_mode):
                raise OSError(errno.EINVAL, "the log must be a regular file", str(self.path))
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise OSError(errno.EBUSY, "another log server writes to it", str(self.path)) from None
            except OSError:
                pass  # a filesystem without locks
            self._is_torn = found.st_size > 0 and os.pread(file, 1, found.st_size - 1) != b"\n"
        except BaseException:
            os.close(file)
            raise
        self._file = file
        return found.st_size

    def _room(self, size: int, lines: Sequence[bytes], start: int) -> int:
        """How many lines, from that one on, go into a file of that size."""
        if self._max_bytes is None:
            return len(lines) - start
        ends = list(accumulate(len(line) + 1 for line in lines[start:]))
        fitting = bisect_right(ends, self._max_bytes - size)
        return fitting or (1 if size == 0 else 0)

    def _rotate(self) -> bool:
        """Whether the file could be moved aside; if so, there is a new one."""
        try:
            for number in range(self._backups - 1, 0, -1):
                try:
                    self._backup(number).replace(self._backup(number + 1))
                except FileNotFoundError:
                    pass  # there are not that many yet
            self.path.replace(self._backup(1))
        except OSError:
            return False
        self.close()
        self._open()
        return True

    def _backup(self, number: int) -> Path:
        return self.path.with_name(f"{self.path.name}.{number}")

    def _append(self, lines: Sequence[bytes]) -> int:
        """How many lines are written; what is written of the next is taken back."""
        assert self._file is not None
        if self._is_torn:
            os.write(self._file, b"\n")
            self._is_torn = False
        data = b"\n".join(lines) + b"\n"
        done = 0
        try:
            while done < len(data):
                done += os.write(self._file, data[done:] if done else data)
        except OSError:
            half = done - (data.rfind(b"\n", 0, done) + 1)
            self._take_back(half)
        return data.count(b"\n", 0, done)

    def _take_back(self, size: int) -> None:
        assert self._file is not None
        try:
            os.ftruncate(self._file, os.fstat(self._file).st_size - size)
        except OSError:
            self._is_torn = size > 0

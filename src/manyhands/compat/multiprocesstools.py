"""The face of MultiProcessTools: processes that share a directory agree by temp files who does what.

Change ``from multiprocesstools import …`` to ``from manyhands.compat.multiprocesstools import …``. A temp file of
a process that was killed is taken over by the next on the same machine that asks for it. What differs, and why,
stands in docs/compat.md.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

from manyhands.calls import short_repr
from manyhands.compat import multiprocesstools_files as files
from manyhands.compat.multiprocesstools_logs import close_logger, open_logger
from manyhands.compat.multiprocesstools_waiting import (
    RunTimeCounter,
    logger,
    run_func_IO_loop,
    wait_until_file_exists,
)

__all__ = [
    "MultiProcessHelper",
    "RunTimeCounter",
    "multiprocesshelper",
    "run_func_IO_loop",
    "wait_until_file_exists",
]

StrPath = str | os.PathLike[str]


class MultiProcessHelper:
    """Makes and removes the temp files by which this process tells others what it is at.

    It may be used from several threads. Temp files are of the process that made them: a copy of the helper, in a
    process that was forked or was sent one, makes its own and leaves those alone. At the end of the program they
    are removed.

    Args:
        name: begins the names of this instance's own temp file and log file, with its number behind it.
        working_directory: is made if need be.
        loggers: names of loggers, which write to the log file and the console until ``close_all_loggers``.

    Attributes:
        instance_number: from 1 on, the first that no living instance of this name in the directory has.
        directories: their paths by their names.
        tempfiles: the paths of all temp files that this helper holds. The first says who has the instance number.
        loggers: the names of those that are open.

    Raises:
        TypeError, ValueError: an argument is not what it should be, or there can't be such a directory.
        RuntimeError: the instance's temp file can't be made.
        OSError: its log file can't be written.
    """

    def __init__(self, name: str, working_directory: StrPath, loggers: Iterable[str]) -> None:
        name, root = _text("name", name), _text("working_directory", working_directory)
        if Path(name).name != name:
            raise ValueError(f"name must be the start of a file name, not {name!r}")
        names = _names(loggers)
        self.tempfiles: list[str] = []
        self.directories: dict[str, str] = {}
        self.loggers: list[str] = []
        self._owner = os.urandom(8).hex()
        logs = Path(root, "multiprocesstools_logs")
        try:
            logs.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(f"working_directory {root!r} is not a valid path: {error}") from error
        self.directories["working_directory"] = root
        self.instance_number = self._number(name, root)
        try:
            for each in names:
                self.loggers.append(each)
                open_logger(
                    each, str(logs / f"{name}{self.instance_number}.log"), self.instance_number, self._owner
                )
        except BaseException:
            self.close_all_loggers()
            self.delete_all_tempfiles()
            raise
        told = logging.getLogger(names[0]) if names else logger
        told.info("Instance number: %d", self.instance_number)
        for directory, path in self.directories.items():
            told.info("%s: %s", directory, path)

    # -- directories ----------------------------------------------------------------------------------------

    def create_directory(self, dir_name: str) -> None:
        """Makes a directory in the working directory, unless it is there, and has it in ``directories``.

        Raises:
            TypeError, ValueError: ``dir_name`` is no name for a directory, or another one has it.
            OSError: it can't be made.
        """
        dir_name = _text("dir_name", dir_name)
        path = os.path.join(self.directories["working_directory"], dir_name)  # noqa: PTH118 - a key as it was given
        if self.directories.get(dir_name, path) != path:
            raise ValueError(
                f"dir_name {dir_name!r} is the name of another directory: {self.directories[dir_name]!r}"
            )
        there = Path(path).exists()
        logger.info("Path already exists:\n\n%s " if there else "Creating path:\n\n%s", path)
        try:
            Path(path).mkdir(parents=True, exist_ok=True)
        except FileExistsError:
            raise ValueError(f"dir_name {dir_name!r} can't be a directory: there is a file {path!r}") from None
        self.directories[dir_name] = path

    def get_directory(self, dir_name: StrPath) -> str:
        """The path of a directory that ``directories`` has, by its name or its path.

        Raises:
            TypeError, ValueError: it has none of that name or path.
        """
        return self._known("dir_name", dir_name)

    # -- temp files -----------------------------------------------------------------------------------------

    def create_temp_file(self, final_file_name: StrPath, temp_file_name: StrPath, path: StrPath) -> bool:
        """Whether this process may make the final file: True if nobody has, or is at it.

        Then the temp file is there, and says so to all others, until ``delete_tempfile``. One whose process, on
        this machine, is gone counts as none.

        Args:
            final_file_name: what exists as soon as the work is done.
            temp_file_name: what exists as long as somebody is at it.
            path: the directory of both, as ``get_directory`` takes it.

        Raises:
            TypeError, ValueError: a name is none, or the directory is not known.
            RuntimeError: the temp file can't be made.
        """
        final_file_name = _text("final_file_name", final_file_name)
        temp_file_name = _text("temp_file_name", temp_file_name)
        directory = self._known("path", path)
        final, temp = (os.path.join(directory, each) for each in (final_file_name, temp_file_name))  # noqa: PTH118
        answer = self._make(temp, None if Path(final) == Path(temp) else final)
        if answer == "doubtful":
            logger.warning(
                "%s exists, and so does %s, whose process is gone: look whether the first is complete, "
                "and delete one of them",
                final,
                temp,
            )
        return answer == "made"

    def delete_tempfile(
        self,
        tempfile: StrPath | None = None,
        path: StrPath | None = None,
        *,
        temp_file_name: StrPath | None = None,
    ) -> None:
        """Removes a temp file, given by its name and directory or by its whole path.

        That of another process is left alone, unless it is surely gone; so is what has come into the place of one
        that this process made. The log tells.

        Args:
            tempfile, temp_file_name: its name, or without ``path`` its whole path; one of the two.
            path: its directory, as ``get_directory`` takes it.

        Raises:
            TypeError, ValueError: a name is none, or the directory is not known.
            OSError: it can't be removed.
        """
        if (tempfile is None) == (temp_file_name is None):
            raise TypeError("give tempfile or temp_file_name, one of them")
        name = _text("temp_file_name", temp_file_name) if tempfile is None else _text("tempfile", tempfile)
        temp = name if path is None else os.path.join(self._known("path", path), name)  # noqa: PTH118
        match files.remove(temp):
            case "done":
                logger.info("Deleting tempfile: %s", temp)
            case "missing":
                logger.info("%s was already deleted or does not exist...", temp)
            case "changed":
                logger.warning("%s was not deleted: it may be another process's", temp)
        try:
            self.tempfiles.remove(temp)
        except ValueError:
            logger.warning("%s not in self.tempfiles", temp)

    def delete_all_tempfiles(self) -> None:
        """Removes all ``tempfiles``, also the one by which this instance has its number.

        Raises:
            OSError: one can't be removed; the others are.
        """
        problem: OSError | None = None
        for temp in list(self.tempfiles):
            try:
                self.delete_tempfile(temp)
            except OSError as error:
                problem = problem or error
        if problem:
            raise problem

    # -- the end --------------------------------------------------------------------------------------------

    def close_all_loggers(self) -> None:
        """Closes what this helper has opened on its loggers; handlers of others stay."""
        while self.loggers:
            with suppress(IndexError):  # another thread was faster
                close_logger(self.loggers.pop(0), self._owner)

    def cleanup(self) -> None:
        """Removes all temp files and closes all loggers."""
        logger.info("Cleaning up!")
        try:
            self.delete_all_tempfiles()
        finally:
            self.close_all_loggers()

    def _number(self, name: str, root: str) -> int:
        for number in count(1):
            if self._make(os.path.join(root, f"{name}{number}.tmp"), None) == "made":  # noqa: PTH118
                return number
        raise AssertionError("numbers have no end")

    def _make(self, temp: str, final: str | None) -> files.Answer:
        try:
            answer = files.make(temp, final)
        except OSError as error:
            logger.error("Unexpected error: %s", error)
            raise RuntimeError(f"the temp file {temp!r} can't be made: {error}") from error
        if answer == "made":
            self.tempfiles.append(temp)
        return answer

    def _known(self, what: str, value: Any) -> str:
        name = _text(what, value)
        if name in self.directories:
            return self.directories[name]
        if name in self.directories.values():
            return name
        raise ValueError(f"{what} {name!r} is not in self.directories, which has {sorted(self.directories)}")


multiprocesshelper = MultiProcessHelper


def _text(what: str, value: Any) -> str:
    """``value`` as a text, if it can be the name of a file."""
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if not isinstance(value, str):
        raise TypeError(f"{what} must be a str, not {short_repr(value)}")
    if not value or "\0" in value:
        raise ValueError(f"{what} must be a name, not {short_repr(value)}")
    return value


def _names(loggers: Any) -> list[str]:
    if isinstance(loggers, str) or not isinstance(loggers, Iterable):
        raise TypeError(f"loggers must be a list of names, not {short_repr(loggers)}")
    names = [_text(f"loggers[{index}]", each) for index, each in enumerate(loggers)]
    return list(dict.fromkeys(names))

"""Histories: what processes say that they did to outputs, while they do it. ``checker`` judges them."""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Self

from manyhands.hashing import blake2b
from manyhands.testing.events import Action, Event, Kind, from_line, to_line

_SUFFIX: Final = ".history"


class History:
    """An append-only record of events, one file for each process.

    It may be pickled, forked and used by any number of threads: each process writes a file of its own in
    ``directory``, and each thread counts its own events. A line is written by one append, before what it says is
    begun or after it has ended. So who is killed leaves whole lines, of which the last may say what it was about to
    do.

    Args:
        directory: where the files are; it is made. Not where the outputs are: it is no output.

    Two outputs of one history must have different names; their directories don't count.
    """

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self.directory = Path(directory).absolute()
        self.directory.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._begin()

    def __reduce__(self) -> tuple[type[Self], tuple[Path]]:
        return type(self), (self.directory,)

    def __repr__(self) -> str:
        return f"<History in {str(self.directory)!r}>"

    def record(self, kind: Kind, action: Action, output: str, **known: Any) -> Event:
        """Append an event of this thread; ``known`` are more fields of ``Event``.

        Raises:
            OSError: it could not be written, or not whole.
        """
        self._follow_fork()
        mine = self._mine
        if not hasattr(mine, "name"):
            mine.name, mine.numbers = f"{self._name}.{next(self._threads)}", itertools.count()
        event = Event(mine.name, next(mine.numbers), kind, action, output, **known)
        line = to_line(event)
        end = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            written = os.write(end, line)
        finally:
            os.close(end)
        if written != len(line):
            raise OSError(f"the history {str(self._path)!r} took {written} of {len(line)} bytes")
        return event

    @contextmanager
    def body(self, staging: str | os.PathLike[str], output: str = "", **known: Any) -> Iterator[None]:
        """For the body of a claimed function: records that it began and, at the end, what it has written.

        Args:
            staging: what the body got as its OUTPUT. Its name tells slot, token and output.
            output: the name of the output, where the staging's does not tell it: it is very long, or the claim is in
                another directory.
            known: fields of ``Event`` that go before those.

        Raises:
            ValueError: the name does not tell, and ``output`` is not given.
        """
        told = {**_told_by(Path(staging)), **known}
        name = output or told.pop("output", "")
        told.pop("output", None)
        if not name:
            raise ValueError(f"the name of {os.fspath(staging)!r} does not tell the output's: give output=")
        self.record("invoke", "compute", name, **told)
        try:
            yield
        except BaseException as error:
            self.record("fail", "compute", name, note=type(error).__name__, **told)
            raise
        self.record("ok", "compute", name, digest=digest(staging), **told)

    def _follow_fork(self) -> None:
        if self._pid != os.getpid():
            with self._lock:
                if self._pid != os.getpid():
                    self._begin()

    def _begin(self) -> None:
        pid = os.getpid()
        self._name = f"{pid}-{os.urandom(4).hex()}"  # process ids come again
        self._path = self.directory / f"{self._name}{_SUFFIX}"
        self._threads = itertools.count()
        self._mine = threading.local()
        self._pid = pid  # last: who sees it needs the others


def read_histories(directory: str | os.PathLike[str]) -> list[list[Event]]:
    """The histories in ``directory``, one list for each process, in the order in which it wrote them.

    Lines that are not whole are left out; their numbers are missing then, which ``check`` sees, but for the last one,
    which may have been torn as its process was killed.
    """
    histories = []
    for path in sorted(Path(directory).glob(f"*{_SUFFIX}")):
        events = map(from_line, path.read_bytes().splitlines())
        histories.append([event for event in events if event is not None])
    return histories


def digest(path: str | os.PathLike[str], *more: str | os.PathLike[str]) -> str:
    """Of a file's bytes, or of a directory's names and files; "" if there is no such thing.

    Of an output of several files, those of all of them.
    """
    if more:
        return "+".join(map(digest, (path, *more)))
    path = Path(path)
    seen = blake2b(digest_size=16)
    try:
        if not path.is_dir():
            seen.update(path.read_bytes())
            return seen.hexdigest()
        for inner in sorted(path.rglob("*")):
            name = os.fsencode(inner.relative_to(path).as_posix())
            data = b"" if inner.is_dir() else inner.read_bytes()
            seen.update(b"%d:%b%d:%b" % (len(name), name, len(data), data))
        return f"directory-{seen.hexdigest()}"
    except FileNotFoundError:
        return ""


def listing(directory: str | os.PathLike[str]) -> dict[str, str]:
    """What is in ``directory``, hidden or not: names, and the digests of what they are."""
    return {path.name: digest(path) for path in sorted(Path(directory).iterdir())}


def _told_by(staging: Path) -> dict[str, Any]:
    """What the name of a staging tells."""
    from manyhands.claims.names import StagingName, final_name, parse

    name = parse(staging.name)
    if not isinstance(name, StagingName):
        return {"output": staging.name}
    return {"output": final_name(name) or "", "slot": name.number, "token": name.token}

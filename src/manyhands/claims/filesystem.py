"""The few operations that the protocol asks for, and who performs them.

The protocol is written as generators that yield one operation at a time. A reply is sent in; an ``OSError`` is
thrown in where the operation stands, so the steps read like plain calls with ``try`` and ``except``. The same
steps run on ``LocalFileSystem`` and on the model in ``manyhands.testing``.
"""

from __future__ import annotations

import errno
import functools
import os
import stat
import sys
import time
from collections.abc import Callable, Generator
from typing import Any, Final, Literal, NamedTuple, NoReturn, Protocol, TypeVar

from manyhands.claims.record import NO_ACCESS, NO_FILE, SIZE_MAX, Claimant
from manyhands.claims.watch import Moment, Stamp
from manyhands.errors import OutputMissing

T = TypeVar("T")

Life = Literal["dead", "released", "unknown"]
"""Of a claimant: surely gone; gone, and not for what it computed; or there, as far as can be told from here."""


class Word:
    """Carries nothing: what it is says all."""

    __slots__ = ()
    __match_args__ = ()

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other)

    def __hash__(self) -> int:
        return hash(type(self))

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


# Tuples with names, as records are; each equals only its own kind.


class _OfPath(NamedTuple):
    path: str

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and tuple.__eq__(self, other) is True

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash((type(self), self.path))


class _OfTwo(NamedTuple):
    source: str
    target: str

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and tuple.__eq__(self, other) is True

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash((type(self), self.source, self.target))


class Exists(_OfPath):
    """-> bool: is there anything of that name, be it a link that leads nowhere."""

    __slots__ = ()


class Written(Exists):
    """-> bool: has an output been written there; raises OutputMissing if what is there is no file or directory."""

    __slots__ = ()


class Read(_OfPath):
    """-> bytes, one more than a record may have at most; ``NO_FILE`` or ``NO_ACCESS`` where there are none."""

    __slots__ = ()


class WriteNew(NamedTuple):
    """Create the file, which must not exist, and write it; a failed write may leave a part of it."""

    path: str
    data: bytes


class Link(_OfTwo):
    """Give ``source`` the second name ``target``, which must not exist."""

    __slots__ = ()


class Rename(_OfTwo):
    """Move ``source`` to ``target`` and replace what is there."""

    __slots__ = ()


class RenameNew(_OfTwo):
    """Move ``source`` to ``target``, which must not exist."""

    __slots__ = ()


class Unlink(_OfPath):
    """Remove the name."""

    __slots__ = ()


class Remove(_OfPath):
    """Remove the name; if it is a directory's, with all that is in it."""

    __slots__ = ()


class Sync(_OfPath):
    """Bring the file's bytes to the disk; of a directory, all that is in it. Raises as ``Written`` does."""

    __slots__ = ()


class SyncDirectory(_OfPath):
    """Bring the directory's names to the disk, where the filesystem can."""

    __slots__ = ()


class RefreshDirectory(_OfPath):
    """Open and close the directory: on NFS what was cached about its names is asked for again."""

    __slots__ = ()


class Entry(NamedTuple):
    """What is in a directory under ``name``: a regular file, or a directory; nothing else counts, nor do links."""

    name: str
    is_directory: bool


class List(_OfPath):
    """-> tuple of Entry, in no order: what is in the directory."""

    __slots__ = ()


class Judge(NamedTuple):
    """-> Life: can this claimant still act on the logs in ``directory``?

    None: whatever directory that is, so its process alone is asked about.
    """

    claimant: Claimant
    directory: str | None


class Pulse(_OfPath):
    """-> Stamp of a record file, asked of the server where there is one."""

    __slots__ = ()


class Now(Word):
    """-> Moment of this machine's monotonic clock."""

    __slots__ = ()


Operation = (
    Exists
    | Read
    | WriteNew
    | Link
    | Rename
    | RenameNew
    | Unlink
    | Remove
    | Sync
    | SyncDirectory
    | RefreshDirectory
    | List
    | Judge
    | Pulse
    | Now
)
Steps = Generator[Operation, Any, T]


class FileSystem(Protocol):
    """Performs operations."""

    def perform(self, operation: Operation, /) -> Any:
        """The reply; raises OSError."""


def run(
    steps: Steps[T], filesystem: FileSystem, told: Callable[[Operation, OSError], object] = lambda *_: None
) -> T:
    """Drives ``steps`` to their end and returns what they return; raises what they let through.

    ``told`` is called with each operation that fails, and why, before the steps hear of it.
    """
    perform, send = filesystem.perform, steps.send
    try:
        operation = next(steps)
        while True:
            try:
                reply = perform(operation)
            except OSError as error:
                told(operation, error)
                failure = error  # it is thrown in out of here, or what comes of it would have it as its context
            else:
                operation = send(reply)
                continue
            operation = steps.throw(failure)
            del failure  # which leads here
    except StopIteration as end:
        result: T = end.value
        return result


class LocalFileSystem:
    """Real system calls. It keeps no state, so one may serve all threads."""

    def perform(self, operation: Operation, /) -> Any:
        """The reply; raises OSError."""
        return _PERFORMED[type(operation)](operation)


def read(path: str) -> bytes:
    """The start of the regular file ``path``, ``NO_FILE`` for other kinds; never blocks, follows no link."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):
            return NO_FILE
        raise
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return NO_FILE
        data = b""
        while len(data) <= SIZE_MAX and (piece := os.read(descriptor, SIZE_MAX + 1 - len(data))):
            data += piece
        return data
    finally:
        os.close(descriptor)


def read_record(path: str) -> bytes:
    """As ``read``; ``NO_ACCESS`` for a file that this user may not read: one such must not hold up all others."""
    try:
        return read(path)
    except PermissionError:
        os.lstat(path)  # raises too if it is the directory that may not be searched
        return NO_ACCESS


def _listed(path: str) -> tuple[Entry, ...]:
    with os.scandir(path) as entries:
        return tuple(
            Entry(entry.name, entry.is_dir(follow_symlinks=False))
            for entry in entries
            if entry.is_file(follow_symlinks=False) or entry.is_dir(follow_symlinks=False)
        )


def _pulse(path: str) -> Stamp:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.ENXIO, errno.EACCES):
            raise
        found = os.lstat(path)  # it is no file, or another user's
        return Stamp(found.st_mtime_ns, found.st_ctime_ns, found.st_size)
    try:
        found = os.fstat(descriptor)  # opened first: NFS asks its server for the attributes then
    finally:
        os.close(descriptor)
    return Stamp(found.st_mtime_ns, found.st_ctime_ns, found.st_size)


def _exists(path: str) -> bool:
    try:
        os.lstat(path)  # os.path.lexists would take an I/O error for absence
    except FileNotFoundError:
        return False
    return True


def _write_new(path: str, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    try:
        while data:
            data = data[os.write(descriptor, data) :]
    finally:
        os.close(descriptor)


def _is_written(path: str) -> bool:
    try:
        _check_kind(path, os.lstat(path).st_mode)
    except FileNotFoundError:
        return False
    return True


def _check_kind(path: str, mode: int) -> None:
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise OutputMissing(f"{path!r} is neither a file nor a directory")


def _fsync(descriptor: int, path: str) -> None:
    try:
        os.fsync(descriptor)
    except OSError as error:
        error.filename = path  # the call does not know it
        raise


def _sync(path: str, flags: int) -> None:
    descriptor = os.open(path, flags | os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        _fsync(descriptor, path)
    finally:
        os.close(descriptor)


def _sync_all(path: str) -> None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):
            _check_kind(path, 0)
        raise
    try:
        mode = os.fstat(descriptor).st_mode
        _check_kind(path, mode)
        _fsync(descriptor, path)
        is_directory = stat.S_ISDIR(mode)
    finally:
        os.close(descriptor)
    for root, directories, files in os.walk(path, onerror=_raise) if is_directory else ():
        for name in files:
            # Links stay what they are; a FIFO or a socket has no bytes.
            if stat.S_ISREG(os.lstat(inside := os.path.join(root, name)).st_mode):
                _sync(inside, os.O_NOFOLLOW)
        for name in directories:
            if not os.path.islink(inside := os.path.join(root, name)):
                _sync_directory(inside)


def _raise(error: OSError) -> NoReturn:
    raise error


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except (IsADirectoryError, PermissionError):  # the latter is what macOS says
        if not stat.S_ISDIR(os.lstat(path).st_mode):
            raise
        import shutil  # slow to import, and seldom needed

        shutil.rmtree(path)


def _sync_directory(path: str) -> None:
    try:
        _sync(path, os.O_DIRECTORY)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):  # this filesystem can't
            raise


@functools.cache
def _renamer() -> Callable[[bytes, bytes], int] | None:
    """The C library's rename that does not replace, or None."""
    import ctypes

    library = ctypes.CDLL(None, use_errno=True)
    try:
        if sys.platform == "darwin":
            return lambda source, target: int(library.renamex_np(source, target, ctypes.c_uint(4)))
        at = ctypes.c_int(-100)
        call = library.renameat2
        return lambda source, target: int(call(at, source, at, target, ctypes.c_uint(1)))
    except AttributeError:
        return None


def _rename_new(source: str, target: str) -> None:
    import ctypes

    rename = _renamer()
    if rename is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS), source)
    if rename(os.fsencode(source), os.fsencode(target)):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), source, None, target)


def _judge(operation: Judge) -> Life:
    from manyhands.claims import liveness

    if operation.directory is None:
        return liveness.life(operation.claimant)
    return liveness.judge(operation.claimant, operation.directory)


def _now(_: Now) -> Moment:
    from manyhands.claims import liveness

    return Moment(liveness.boot_id(), time.monotonic())


def _refresh(path: str) -> None:
    os.close(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))


_PERFORMED: Final[dict[type[Operation], Callable[[Any], Any]]] = {
    Exists: lambda do: _exists(do.path),
    Written: lambda do: _is_written(do.path),
    Read: lambda do: read_record(do.path),
    WriteNew: lambda do: _write_new(do.path, do.data),
    Link: lambda do: os.link(do.source, do.target, follow_symlinks=False),
    Rename: lambda do: os.replace(do.source, do.target),
    RenameNew: lambda do: _rename_new(do.source, do.target),
    Unlink: lambda do: os.unlink(do.path),
    Remove: lambda do: _remove(do.path),
    Sync: lambda do: _sync_all(do.path),
    SyncDirectory: lambda do: _sync_directory(do.path),
    RefreshDirectory: lambda do: _refresh(do.path),
    List: lambda do: _listed(do.path),
    Judge: _judge,
    Pulse: lambda do: _pulse(do.path),
    Now: _now,
}
"""A table, since a ``match`` tries one type after the other, for each of the ten operations of an output."""

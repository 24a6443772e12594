"""Temp files that say who made them, and of which each has one maker at a time.

A temp file is made by one exclusive creation, with its record whole. Only its maker removes it, as long as that
may live. If it is surely gone, whoever wants to put another in the file's place, or to remove it, first makes
the file's lock, in the same way and with the same record, and looks again: so no two act on what they have
seen, and what is new is never taken for what is stale. The file is replaced by one rename. A lock whose maker
is gone is itself such a file, and has a lock.

The steps know no process and no clock, as those of ``manyhands.claims.protocol``, which they use.
"""

from __future__ import annotations

import atexit
import os
from contextlib import suppress
from pathlib import Path
from typing import Final, Literal

from manyhands.claims import filesystem as fs
from manyhands.claims import liveness, protocol
from manyhands.claims.filesystem import Steps
from manyhands.claims.names import TOKEN_LENGTH, record_file
from manyhands.claims.record import NO_ACCESS, Claim, Claimant, Record, Unreadable, decode, encode
from manyhands.hashing import blake2b

Answer = Literal["made", "held", "finished", "doubtful"]
"""Of ``make``: doubtful is what is finished, beside the temp file of a process that is gone."""

Change = Literal["done", "missing", "changed"]
"""Whether a file was changed; else there is none, or it is, or has become, somebody's."""

Content = Record | Unreadable | None

THEIRS: Final = decode(NO_ACCESS)
"""A file of another user that can't be read."""

# By path: what this process has made and not removed; a fork's are its parent's.
_made: dict[str, Claimant] = {}
_filesystem: Final = fs.LocalFileSystem()


def make(temp: str, final: str | None = None) -> Answer:
    """Makes the temp file, unless ``final`` is there or somebody has it; takes it over from who is gone.

    Raises:
        OSError: it can't be made.
    """
    path, me = str(Path(temp).absolute()), _somebody()
    answer = fs.run(making(path, None if final is None else str(Path(final).absolute()), me), _filesystem)
    if answer == "made":
        _made[path] = me
    return answer


def remove(temp: str) -> Change:
    """Removes the temp file, unless it is one of another process that may live.

    What is no temp file at all is removed, too, but not if it is in the place of one that this process made.

    Raises:
        OSError: it can't be removed.
    """
    path = str(Path(temp).absolute())
    maker = _made.pop(path, None)  # of several threads one gets it
    if maker is None or not _is_here(maker):
        return fs.run(clearing(path, _somebody()), _filesystem)
    try:
        return fs.run(withdrawing(path, maker), _filesystem)
    except BaseException:
        _made[path] = maker
        raise


def _somebody() -> Claimant:
    return liveness.identity(os.urandom(TOKEN_LENGTH // 2).hex())


def _is_here(maker: Claimant) -> bool:
    return liveness.identity(maker.token) == maker


def _remove_all() -> None:
    """Other machines can't know that this process has ended."""
    for path in list(_made):
        with suppress(OSError):
            remove(path)


atexit.register(_remove_all)


# -- the steps ------------------------------------------------------------------------------------------------


def making(temp: str, final: str | None, me: Claimant) -> Steps[Answer]:
    """As ``make``."""
    if final is not None and (yield fs.Exists(final)):
        return "doubtful" if (yield from was_left(temp)) else "finished"
    if not (yield from take(temp, me)):
        return "held"
    if final is not None:
        yield fs.RefreshDirectory(os.path.dirname(temp))
        if (yield fs.Exists(final)):  # it was finished, and its temp file removed, since the first look
            yield from withdrawing(temp, me)
            return "finished"
    return "made"


def take(path: str, me: Claimant) -> Steps[bool]:
    """Makes the file, with my record, or replaces that of who is gone; False: it is somebody's."""
    try:
        found = yield from protocol.look(path)
        if found is None:
            return (yield from create(path, me))
    except PermissionError:  # another user's, where they are protected; or nothing can be made here
        if not (yield fs.Exists(path)):
            raise
        return False
    if not (yield from is_left(found)):
        return False
    return (yield from locked(path, me, replacing(path, found, me))) == "done"


def create(path: str, me: Claimant) -> Steps[bool]:
    """Makes the file, with my record; False: there is one."""
    source = record_file(os.path.dirname(path), me.token, "claim")
    yield from protocol.write_private(source, encode(Claim(me)))
    try:
        won = yield from protocol.create(me, path, Claim(me), source)
    except OSError:
        yield from protocol.drop(source)
        raise
    yield from protocol.drop(source)
    return won


def locked(path: str, me: Claimant, steps: Steps[Change]) -> Steps[Change]:
    """Takes the steps while I have the file's lock; none if that is somebody's."""
    lock = lock_of(path)
    if not (yield from take(lock, me)):
        return "changed"
    try:
        answer = yield from steps
    except OSError:
        yield from protocol.drop(lock)
        raise
    yield from protocol.drop(lock)
    return answer


def replacing(path: str, left: Content, me: Claimant) -> Steps[Change]:
    """Puts mine in the place of the file, if it is still the one that was ``left``."""
    if (yield from protocol.look(path)) != left:
        return "changed"
    source = record_file(os.path.dirname(path), me.token, "claim")
    yield from protocol.write_private(source, encode(Claim(me)))
    try:
        yield fs.Rename(source, path)
    except OSError:
        found = yield from protocol.look(path)
        if found != Claim(me):  # else only the reply was lost
            yield from protocol.drop(source)
            raise
    return "done"


def removing(path: str, left: Content) -> Steps[Change]:
    """Removes the file, if it is still the one that was ``left``."""
    found = yield from protocol.look(path)
    if found is None or found != left:
        return "missing" if found is None else "changed"
    yield fs.Unlink(path)
    return "done"


def withdrawing(path: str, me: Claimant) -> Steps[Change]:
    """Removes the file that I made; it needs no lock, since nobody else touches it while I live."""
    return (yield from removing(path, Claim(me)))


def clearing(path: str, me: Claimant) -> Steps[Change]:
    """Removes the file of a maker that is gone, or one without a record."""
    found = yield from protocol.look(path)
    if found is None:
        return "missing"
    if found == THEIRS or (isinstance(found, Claim) and not (yield from is_left(found))):
        return "changed"
    return (yield from locked(path, me, removing(path, found)))


def was_left(path: str) -> Steps[bool]:
    """Whether the file is there, and its maker has surely ended."""
    return (yield from is_left((yield from protocol.look(path))))


def is_left(content: Content) -> Steps[bool]:
    """Whether it is the record of a process that has surely ended."""
    return isinstance(content, Claim) and bool((yield fs.Judge(content.claimant, None)) == "dead")


def lock_of(path: str) -> str:
    """What must be made before a file that was left is touched. Its name always fits."""
    directory, name = os.path.split(path)
    digest = blake2b(os.fsencode(name), digest_size=16).hexdigest()
    return os.path.join(directory, f".manyhands-{digest}.takeover")

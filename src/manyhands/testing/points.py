"""Points of the claim protocol by name, and what a test has happen there: in one process, at the nth time.

A point is one operation on the filesystem, called by its role: "claim", "commit", "publish" …; see ``POINTS``.
Something happens "before" it, when nothing is done yet, or "after" it, when it was done and nobody was told.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from typing import Any, Final, Literal, Self, get_args

from manyhands.claims import filesystem as fs
from manyhands.claims.filesystem import FileSystem, LocalFileSystem, Operation
from manyhands.claims.names import RecordName, SlotName, StagingName, parse
from manyhands.claims.record import Claim, Commit, decode

POINTS: Final[dict[str, str]] = {
    "look": "is the output there? At first; beside a COMMIT; and again at the end of the second look",
    "look for staging": "is there anything to commit, or to publish?",
    "read slot": "who has this slot? Slot 0 and up, until one is free; and after a creation that failed",
    "judge owner": "can the owner of the last CLAIM still act?",
    "watch owner": "where that can't be told: has its record changed?",
    "write record": "a claimant writes what its CLAIMs or COMMITs are links to, once in each directory",
    "claim": "the CLAIM is made in the next slot",
    "second look": "the directory is asked anew; then follows a look",
    "sync": "the bytes of the staging go to the disk",
    "commit": "the COMMIT is made in the next slot: from now on the output is decided",
    "publish": "the staging gets the output's name",
    "sync directory": "the output's name goes to the disk",
    "drop staging": "a staging is removed: published by a link, failed, or of an owner that was taken over",
    "sweep": "a slot is removed: 1 and then 0 of a log that nobody contested, or the CLAIM of who came too late",
    "write verdict": "what a FAIL, RELEASE or REOPEN says is written, whole",
    "verdict": "the FAIL, RELEASE or REOPEN is made in the next slot",
    "leave word": "a claimant that leaves, and can't write a RELEASE, says that its claims ended nobody",
    "write copy": "a record is copied, where there are no hard links",
    "drop record": "a file of a claimant's own is removed: a verdict that stands in its slot, or all as it leaves",
    "clock": "what time is it? Of a failure whose back-off may be over, and of a look at an owner",
}
"""All points, in the order in which most claims come by them, and what they are."""

When = Literal["before", "after"]


def point_of(operation: Operation) -> str:
    """The name of the point that this operation is, by its kind and by the names of its files.

    What a copied record is made for (where there are no hard links) its name does not tell: that is a "move record".
    Operations that are not in ``POINTS`` are called by their type.
    """
    match operation:
        case fs.Exists(path):
            return "look for staging" if isinstance(parse(os.path.basename(path)), StagingName) else "look"
        case fs.Read():
            return "read slot"
        case fs.WriteNew(path, data):
            return _written(path, data)
        case fs.Link(source, target) | fs.Rename(source, target) | fs.RenameNew(source, target):
            return _named(source, target)
        case fs.Unlink(path) | fs.Remove(path):
            kind = type(parse(os.path.basename(path)))
            return {SlotName: "sweep", StagingName: "drop staging"}.get(kind, "drop record")
        case fs.Sync():
            return "sync"
        case fs.SyncDirectory():
            return "sync directory"
        case fs.RefreshDirectory():
            return "second look"
        case fs.Judge():
            return "judge owner"
        case fs.Pulse():
            return "watch owner"
        case fs.Now():
            return "clock"
    return type(operation).__name__


def _written(path: str, data: bytes) -> str:
    name = parse(os.path.basename(path))
    if isinstance(name, RecordName):
        return {"verdict": "write verdict", "copy": "write copy"}.get(name.kind, "write record")
    match decode(data):  # the last resort: a slot that is written itself
        case Claim():
            return "claim"
        case Commit():
            return "commit"
    return "verdict"


def _named(source: str, target: str) -> str:
    """What it means that ``source`` gets, or becomes, ``target``."""
    found = parse(os.path.basename(target))
    if isinstance(found, RecordName):
        return "leave word"
    if not isinstance(found, SlotName):
        return "publish"
    name = parse(os.path.basename(source))
    kind = name.kind if isinstance(name, RecordName) else ""
    return {"claim": "claim", "commit": "commit", "verdict": "verdict"}.get(kind, "move record")


class AtPoint:
    """A filesystem for ``manyhands.claims.Claims(filesystem=…)`` on which something happens at a point.

    It may serve several threads, which count together. Each process has its own, and counts for itself; one that is
    forked goes on from the count that it was forked at.

    Args:
        point: "before" or "after" and the name of a point: "before commit".
        deed: what happens; it may raise OSError.
        nth: at which time, from 1; 0: each time. "Before" counts what is tried, "after" what was done.
        output: only what has this in the names of its files, the name of an output say.
        filesystem: performs the operations; None: the real one. Another ``AtPoint``: both happen.

    Attributes:
        seen: how often it has come to the point.
    """

    def __init__(
        self,
        point: str,
        deed: Callable[[], object],
        *,
        nth: int = 1,
        output: str = "",
        filesystem: FileSystem | None = None,
    ) -> None:
        self._when, self._name = _checked(point)
        if not isinstance(nth, int) or nth < 0:
            raise ValueError(f"nth must be a whole number of 1 or more, or 0 for each time, not {nth!r}")
        self._deed = deed
        self._nth = nth
        self._output = output
        self._filesystem = filesystem or LocalFileSystem()
        self._copied: dict[str, str] = {}
        self._lock = threading.Lock()
        self.seen = 0

    def __repr__(self) -> str:
        return f"<AtPoint {self._when} {self._name}, seen {self.seen} times>"

    def __reduce__(self) -> tuple[Callable[..., Self], tuple[Any, ...]]:
        point = f"{self._when} {self._name}"
        return _made, (type(self), point, self._deed, self._nth, self._output, self._filesystem)

    def perform(self, operation: Operation, /) -> Any:
        """The reply; raises OSError."""
        is_here = self._point(operation) == self._name and self._concerns(operation)
        if is_here and self._when == "before":
            self._count()
        reply = self._filesystem.perform(operation)
        if is_here and self._when == "after":
            self._count()
        return reply

    def _count(self) -> None:
        with self._lock:
            self.seen += 1
            is_due = self._nth in (0, self.seen)
        if is_due:
            self._deed()

    def _point(self, operation: Operation) -> str:
        """As ``point_of``, which also knows what was copied for what."""
        if isinstance(operation, fs.WriteNew) and point_of(operation) == "write copy":
            slot = os.path.join(os.path.dirname(operation.path), ".x.claim-0")  # as if it were written there
            self._copied[operation.path] = _written(slot, operation.data)
        point = point_of(operation)
        if point == "move record" and isinstance(operation, fs.RenameNew):
            return self._copied.get(operation.source, point)
        return point

    def _concerns(self, operation: Operation) -> bool:
        values = [getattr(operation, name) for name in operation.__match_args__]
        return not self._output or any(
            self._output in os.path.basename(value) for value in values if isinstance(value, str)
        )


def _made(
    cls: type[AtPoint],
    point: str,
    deed: Callable[[], object],
    nth: int,
    output: str,
    filesystem: FileSystem,
) -> Any:
    return cls(point, deed, nth=nth, output=output, filesystem=filesystem)


def _checked(point: str) -> tuple[When, str]:
    when, _, name = point.partition(" ")
    for known in get_args(When):
        if when == known and name in POINTS:
            return known, name
    raise ValueError(f"a point is 'before' or 'after' and one of {', '.join(map(repr, POINTS))}; not {point!r}")


def pause_at(point: str, *, nth: int = 1, output: str = "", filesystem: FileSystem | None = None) -> AtPoint:
    """The process stops itself by SIGSTOP at the point, all of it; SIGCONT lets it go on.

    Who started it sees that by ``os.waitid(os.P_PID, pid, os.WSTOPPED)``. See ``AtPoint`` for the arguments.
    """
    return AtPoint(point, _Signal(signal.SIGSTOP), nth=nth, output=output, filesystem=filesystem)


def crash_at(point: str, *, nth: int = 1, output: str = "", filesystem: FileSystem | None = None) -> AtPoint:
    """The process ends itself by SIGKILL at the point. See ``AtPoint`` for the arguments."""
    return AtPoint(point, _Signal(signal.SIGKILL), nth=nth, output=output, filesystem=filesystem)


def fail_at(
    point: str, number: int, *, nth: int = 1, output: str = "", filesystem: FileSystem | None = None
) -> AtPoint:
    """The operation raises OSError with this ``errno``: not done ("before"), or done all the same ("after")."""
    return AtPoint(point, _Raise(number), nth=nth, output=output, filesystem=filesystem)


def call_at(
    point: str,
    hook: Callable[[], object],
    *,
    nth: int = 1,
    output: str = "",
    filesystem: FileSystem | None = None,
) -> AtPoint:
    """``hook`` is called at the point: it may wait for another process, or do to it what a test wants done."""
    return AtPoint(point, hook, nth=nth, output=output, filesystem=filesystem)


class _Signal:
    def __init__(self, number: signal.Signals) -> None:
        self._number = number

    def __call__(self) -> None:
        # To this thread: it goes no further, whichever other one the kernel might have chosen.
        signal.pthread_kill(threading.get_ident(), self._number)


class _Raise:
    def __init__(self, number: int) -> None:
        self._number = number

    def __call__(self) -> None:
        raise OSError(self._number, os.strerror(self._number))

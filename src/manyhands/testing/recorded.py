"""Claims that write a history: for tests that race on ``manyhands.claims`` itself, and for storms of functions."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self, TypeVar

from manyhands.claims import (
    Busy,
    Claims,
    Decision,
    Fail,
    Fenced,
    Log,
    Mine,
    Orphan,
    Published,
    Recorded,
    Seen,
    Watch,
)
from manyhands.claims.filesystem import FileSystem, Link, LocalFileSystem, Operation, RenameNew, WriteNew, read
from manyhands.claims.names import SlotName, parse
from manyhands.claims.record import Claim, Record, Release, Unreadable, decode
from manyhands.errors import OutputMissing
from manyhands.testing.events import FOR_ANOTHER, WAS_THERE, Action
from manyhands.testing.history import History, digest

T = TypeVar("T")

_VERDICTS: Final[dict[type[Record | Unreadable], Action]] = {Fail: "failure", Release: "release"}


@dataclass(frozen=True)
class Recording:
    """Makes the ``Claims`` of a thread, recorded: what a function has them made by, in whatever process it runs.

    Attributes:
        directory: of the histories; one for each of the ``Claims``.
        root: outputs are called by their ways from here.
    """

    directory: Path
    root: Path

    def __call__(self, *, filesystem: FileSystem | None = None, **options: Any) -> RecordedClaims:
        """Takes what ``Claims`` does."""
        verdicts = _Verdicts(filesystem or LocalFileSystem(), History(self.directory))
        claims = Claims(filesystem=verdicts, **options)
        return RecordedClaims(History(self.directory), claims, root=self.root, verdicts=verdicts)


class RecordedClaims:
    """As ``Claims``, whose methods it has; each call is an action in ``history``.

    Outputs are called by their names, without directories; or by their ways from ``root``. What a ``Claims`` answers
    leaves some things open: an action whose claimant was given up with it may have happened or not, and is ``unknown``.
    """

    def __init__(
        self,
        history: History,
        claims: Claims | None = None,
        *,
        root: Path | None = None,
        verdicts: _Verdicts | None = None,
    ) -> None:
        self._history = history
        self._claims = claims or Claims()
        self._root = root
        self._verdicts = verdicts

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def acquire(
        self,
        log: Log,
        *,
        reopen: int = -1,
        code_hash: str = "",
        seen: Seen | None = None,
        watch: Watch | None = None,
        looked: bool = False,
    ) -> Decision:
        """As ``Claims.acquire``."""
        name, known = self._begin(log, self._claims.claimant.token), {"reopen": reopen, "code": code_hash}
        record = self._history.record
        record("invoke", "claim", name, token=self._claims.claimant.token, **known)
        try:
            decision = self._claims.acquire(
                log, reopen=reopen, code_hash=code_hash, seen=seen, watch=watch, looked=looked
            )
        except BaseException as error:
            record("unknown", "claim", name, note=type(error).__name__, **known)
            raise
        match decision:
            case Mine(_, slot, token, attempt):
                record("ok", "claim", name, slot=slot, token=token, attempt=attempt, **known)
            case Busy(None, -1):
                record("unknown", "claim", name, note="busy", **known)
            case _:
                record("fail", "claim", name, note=type(decision).__name__.lower(), **known)
        return decision

    def commit(self, mine: Mine) -> Published | Fenced:
        """As ``Claims.commit``; what was published is read once more."""
        finals = mine.log.finals
        # Before anybody has committed it, if this commit is the one.
        was_there = os.path.lexists(mine.log.final)
        written = digest(*mine.stagings)
        note = WAS_THERE if was_there else ""
        answer = self._end("commit", mine, lambda: self._claims.commit(mine), note, digest=written)
        if isinstance(answer, Published):
            name, known = self._name(mine.log), {"slot": mine.slot, "token": mine.token}
            self._history.record("invoke", "publish", name, **known)
            self._history.record("ok", "publish", name, digest=digest(*finals), **known)
        return answer

    def fail(self, mine: Mine, **record: Any) -> Recorded | Fenced:
        """As ``Claims.fail``."""
        return self._end("failure", mine, lambda: self._claims.fail(mine, **record), attempt=mine.attempt)

    def release(self, mine: Mine) -> Recorded | Fenced:
        """As ``Claims.release``."""
        return self._end("release", mine, lambda: self._claims.release(mine))

    def orphaned(self, log: Log, pid: int, **question: Any) -> Orphan | None:
        """As ``Claims.orphaned``, which does nothing."""
        return self._claims.orphaned(log, pid, **question)

    def bury(self, orphan: Orphan, **record: Any) -> bool:
        """As ``Claims.bury``."""
        self._begin(orphan.log)
        return self._claims.bury(orphan, **record)

    def close(self) -> None:
        """As ``Claims.close``."""
        if self._verdicts is not None:
            self._verdicts.asks_as = ""
        self._claims.close()

    def paths(self) -> list[Path]:
        """As ``Claims.paths``."""
        return self._claims.paths()

    def _name(self, log: Log) -> str:
        if self._root is None:
            return os.path.basename(log.final)
        return Path(os.path.relpath(log.final, self._root)).as_posix()

    def _begin(self, log: Log, asks_as: str = "") -> str:
        name = self._name(log)
        if self._verdicts is not None:
            self._verdicts.names[log.prefix] = name
            self._verdicts.asks_as = asks_as
        return name

    def _end(self, action: Action, mine: Mine, call: Callable[[], T], note: str = "", **more: Any) -> T:
        name, record = self._name(mine.log), self._history.record
        known = {"slot": mine.slot + 1, "token": mine.token, **more}
        before = self._claims.claimant.token
        if self._verdicts is not None:
            self._verdicts.asks_as = mine.token
        record("invoke", action, name, **known)
        try:
            answer = call()
        except OutputMissing:
            record("fail", action, name, note="missing", **known)
            raise
        except BaseException as error:
            record("unknown", action, name, note=type(error).__name__, **known)
            raise
        if not isinstance(answer, Fenced):
            record("ok", action, name, note=note, **known)
        elif self._claims.claimant.token == before:
            record("fail", action, name, note="fenced", **known)
        else:  # something went wrong on the way, and the claimant was given up with the claim
            record("unknown", action, name, note="given up", **known)
        return answer


class _Verdicts:
    """A filesystem that tells of the verdicts which a thread gives in the place of owners that have ended.

    They are written on the way, as an output is asked for; so they get a history of their own, as if another thread
    had done it.

    Attributes:
        names: of outputs, by the prefixes of their logs.
        asks_as: the verdicts about this token's own claims are told elsewhere, or end nothing that was told.
    """

    def __init__(self, filesystem: FileSystem, history: History) -> None:
        self._filesystem = filesystem
        self._history = history
        self.names: dict[str, str] = {}
        self.asks_as = ""

    def perform(self, operation: Operation, /) -> Any:
        """The reply; raises OSError."""
        match operation:
            case Link(source, slot) | RenameNew(source, slot):
                told = self._verdict(slot, source)
            case WriteNew(slot):
                told = self._verdict(slot, operation.data)
            case _:
                told = None
        if told is None:
            return self._filesystem.perform(operation)
        action, name, known = told
        self._history.record("invoke", action, name, note=FOR_ANOTHER, **known)
        try:
            reply = self._filesystem.perform(operation)
        except FileExistsError:
            self._history.record("fail", action, name, note=FOR_ANOTHER, **known)
            raise
        except BaseException:
            self._history.record("unknown", action, name, note=FOR_ANOTHER, **known)
            raise
        self._history.record("ok", action, name, note=FOR_ANOTHER, **known)
        return reply

    def _verdict(self, slot: str, source: str | bytes) -> tuple[Action, str, dict[str, Any]] | None:
        """What creating ``slot`` would say of the claim below it; None if it is no verdict about another's."""
        directory, basename = os.path.split(slot)
        name = parse(basename)
        if not isinstance(name, SlotName) or name.number == 0:
            return None
        output = self.names.get(os.path.join(directory, name.prefix))
        try:
            action = _VERDICTS.get(type(decode(source if isinstance(source, bytes) else read(source))))
            if action is None or output is None:
                return None
            below = decode(read(os.path.join(directory, f"{name.prefix}-{name.number - 1}")))
        except OSError:
            return None
        if not isinstance(below, Claim) or below.token == self.asks_as:
            return None
        return action, output, {"slot": name.number, "token": below.token}

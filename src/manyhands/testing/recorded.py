"""Claims that write a history: for tests that race on ``manyhands.claims`` itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Self, TypeVar

from manyhands.claims import Busy, Claims, Decision, Fenced, Log, Mine, Published, Recorded, Seen, Watch
from manyhands.errors import OutputMissing
from manyhands.testing.events import Action
from manyhands.testing.history import History, digest

T = TypeVar("T")


class RecordedClaims:
    """As ``Claims``, whose methods it has; each call is an action in ``history``.

    Outputs are called by their names, without directories. What a ``Claims`` answers leaves some things open: an
    action whose claimant was given up with it may have happened or not, and is ``unknown``.
    """

    def __init__(self, history: History, claims: Claims | None = None) -> None:
        self._history = history
        self._claims = claims or Claims()

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
    ) -> Decision:
        """As ``Claims.acquire``."""
        name, known = log.final.name, {"reopen": reopen, "code": code_hash}
        record = self._history.record
        record("invoke", "claim", name, token=self._claims.claimant.token, **known)
        try:
            decision = self._claims.acquire(log, reopen=reopen, code_hash=code_hash, seen=seen, watch=watch)
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
        written = digest(mine.staging)
        answer = self._end("commit", mine, lambda: self._claims.commit(mine), digest=written)
        if isinstance(answer, Published):
            name, known = mine.log.final.name, {"slot": mine.slot, "token": mine.token}
            self._history.record("invoke", "publish", name, **known)
            self._history.record("ok", "publish", name, digest=digest(mine.log.final), **known)
        return answer

    def fail(self, mine: Mine, **record: Any) -> Recorded | Fenced:
        """As ``Claims.fail``."""
        return self._end("failure", mine, lambda: self._claims.fail(mine, **record), attempt=mine.attempt)

    def release(self, mine: Mine) -> Recorded | Fenced:
        """As ``Claims.release``."""
        return self._end("release", mine, lambda: self._claims.release(mine))

    def close(self) -> None:
        """As ``Claims.close``."""
        self._claims.close()

    def paths(self) -> list[Path]:
        """As ``Claims.paths``."""
        return self._claims.paths()

    def _end(self, action: Action, mine: Mine, call: Callable[[], T], **more: Any) -> T:
        name, record = mine.log.final.name, self._history.record
        known = {"slot": mine.slot + 1, "token": mine.token, **more}
        before = self._claims.claimant.token
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
            record("ok", action, name, **known)
        elif self._claims.claimant.token == before:
            record("fail", action, name, note="fenced", **known)
        else:  # something went wrong on the way, and the claimant was given up with the claim
            record("unknown", action, name, note="given up", **known)
        return answer

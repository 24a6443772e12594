"""What came of an item of a storm of handlers, in plain values."""

from __future__ import annotations

import time
from concurrent.futures import CancelledError, Future
from typing import Any

from manyhands import Outcome, TaskTimeout, WorkerDied


def told_outcome(outcome: Outcome[Any]) -> dict[str, Any]:
    """An outcome."""
    plain = {
        "index": outcome.index,
        "item": outcome.item,
        "at": time.monotonic(),
        "attempts": [
            [one.type_name.rpartition(".")[2], one.text, int(one.worker.rpartition(":")[2] or 0)]
            for one in outcome.attempts
        ],
    }
    if outcome.ok:
        return {**plain, "value": outcome.value}
    if outcome.discarded is not None:
        return {**plain, "discarded": outcome.discarded.reason}
    assert outcome.failure is not None
    same = outcome.failure.attempts == outcome.attempts
    return {**plain, **_told_error(outcome.failure.error), "same": same}


def told_future(future: Future[Any]) -> dict[str, Any]:
    """A future; waits until it is done."""
    try:
        return {"value": future.result()}
    except (Exception, CancelledError) as error:
        return _told_error(error)


def _told_error(error: BaseException) -> dict[str, Any]:
    told: dict[str, Any] = {"error": type(error).__name__, "text": str(error)}
    if isinstance(error, WorkerDied | TaskTimeout):
        told |= {"pid": error.pid, "exitcode": getattr(error, "exitcode", None)}
    return told

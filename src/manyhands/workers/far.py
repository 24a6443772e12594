"""What runs in the processes of somebody else's executor: calls of a work that is kept here under its name.

Such a process knows nothing of maps. It gets some calls, and the pickled work with them or only its name, and answers
as a worker of this library does.
"""

from __future__ import annotations

import pickle
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from typing import Final

from manyhands.calls import Answer, Call, Failed, add_note, traceback_text
from manyhands.workers import payload
from manyhands.workers.place import own_name, task

KEPT: Final = 16
KEPT_BYTES: Final = 1 << 26
"""Of so many works, and of so many bytes of pickles, a process keeps the last ones; the very last in any case."""

Packed = bytes | None
"""A pickled answer; None: the call was not begun."""

Ran = tuple[str, list[tuple[Packed, float]]]
"""Where calls ran, and for each its answer and the seconds it took; a name alone, if the work is not known there."""

_kept: dict[tuple[str, int], tuple[Callable[[Call], Answer], int]] = {}
_lock = threading.Lock()


def name_of_work() -> str:
    """A name under which others may find a work: another for each map, since calls may change what they share."""
    return uuid.uuid4().hex


def pack(packed: bytes | payload.Large) -> bytes:
    """As one byte string: there is no memory in common."""
    return packed if isinstance(packed, bytes) else payload.whole(packed)


def run(name: str, packed: bytes | None, calls: bytes, tidy: bool, patience: float) -> Ran:
    """Runs calls, one after the other.

    Args:
        name: of the work.
        packed: the work; None: it may be known here.
        calls: a pickled list of pickled calls.
        tidy: whether the work holds files, which are to be closed when the calls are over.
        patience: what does not begin within so many seconds goes back: others may be idle.
    """
    with task():
        try:
            work = _find(name, packed, tidy)
        except BaseException as error:
            return own_name(), [(payload_of(_note(error, "the function was unpickled")), 0.0)] * count(calls)
        if work is None:
            return own_name(), []
        try:
            return own_name(), _answers(work, pickle.loads(calls), patience)
        finally:
            if tidy and (close := getattr(work, "close", None)) is not None:
                close()


def count(calls: bytes) -> int:
    """How many calls these are."""
    return len(pickle.loads(calls))


def run_calls(
    work: Callable[[Call], Answer], calls: Sequence[Call], may_run: Callable[[], bool], patience: float
) -> tuple[str, list[tuple[Answer | None, float]]]:
    """As ``run``, in the very process of the map: nothing is pickled."""
    with task():
        answers: list[tuple[Answer | None, float]] = []
        begin = time.perf_counter()
        for call in calls:
            start = time.perf_counter()
            if not may_run() or (answers and start - begin > patience):
                answers.append((None, 0.0))
            else:
                answers.append((_answer(work, call), time.perf_counter() - start))
        return own_name(), answers


def payload_of(answer: Answer) -> bytes:
    """An answer as it is sent."""
    return pack(payload.packed_answer(answer))


def _find(name: str, packed: bytes | None, tidy: bool) -> Callable[[Call], Answer] | None:
    # What holds files is closed after each use, so no two threads may have the same one.
    key = (name, threading.get_ident() if tidy else 0)
    with _lock:
        found = _kept.pop(key, None)
        if found is not None:
            _kept[key] = found
            return found[0]
    if packed is None:
        return None
    work: Callable[[Call], Answer] = payload.loads(packed)
    with _lock:
        work, _ = _kept[key] = _kept.pop(key, (work, len(packed)))
        while len(_kept) > KEPT or (len(_kept) > 1 and sum(size for _, size in _kept.values()) > KEPT_BYTES):
            del _kept[next(iter(_kept))]
    return work


def _answers(work: Callable[[Call], Answer], calls: list[bytes], patience: float) -> list[tuple[Packed, float]]:
    answers: list[tuple[Packed, float]] = []
    begin = time.perf_counter()
    for packed in calls:
        start = time.perf_counter()
        if answers and start - begin > patience:
            answers.append((None, 0.0))
            continue
        answer = _loaded_answer(work, packed)
        seconds = time.perf_counter() - start
        answers.append((payload_of(answer), seconds))
        del answer  # nothing of it is kept while the next call runs
    return answers


def _loaded_answer(work: Callable[[Call], Answer], packed: bytes) -> Answer:
    try:
        call = payload.loads(packed)
    except BaseException as error:
        return _note(error, "the arguments were unpickled")
    return _answer(work, call)


def _answer(work: Callable[[Call], Answer], call: Call) -> Answer:
    try:
        return work(call)
    except BaseException as error:  # sys.exit in a task is that item's failure, and nobody's end
        return Failed(payload.carried(error), traceback_text(error))


def _note(error: BaseException, when: str) -> Failed:
    told = payload.harmless(error)
    add_note(told, f"raised as {when} in {own_name()}")
    return Failed(told, traceback_text(error))

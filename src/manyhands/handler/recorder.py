"""Takes down what a map does: which attempts ran where and when, what they came to, how much memory workers took."""

from __future__ import annotations

import logging
import math
import os
import socket
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, cast

from manyhands.calls import Done, Failed, Later, error_text, qualified_name
from manyhands.errors import TaskTimeout
from manyhands.handler.pump import Observer
from manyhands.outcome import Answered, Died, Event, Outcome, Returned
from manyhands.reporting import journal
from manyhands.reporting.recording import Recording, Taker
from manyhands.reporting.spans import Status

LOOK_SECONDS: Final = 0.5
"""The memory of workers is looked at so often, if something happens."""

_log: Final = logging.getLogger("manyhands")


class Recorder:
    """The observer that does.

    Args:
        function: the name of the function.
        workers: how many calls run at a time.
        total: number of items, if known.
        directory: where a journal is written; None: there is none.
        trace: where a trace is written at the end; None: nowhere.

    Attributes:
        recording: what was taken down so far.
        given: the item with this index, while it is out.

    Raises:
        OSError: there is no such directory, and it can't be made.
    """

    given: Callable[[int], object]

    def __init__(
        self,
        function: str,
        workers: int,
        total: int | None,
        directory: str | os.PathLike[str] | None = None,
        trace: str | os.PathLike[str] | None = None,
    ) -> None:
        self._host = socket.gethostname()
        begun = time.time()
        self._begun = time.perf_counter()
        self.recording = Recording(function, begun, workers, total, self._host)
        self._takers: tuple[Taker, ...] = (self.recording,)
        self._writer: journal.Writer | None = None
        self._trace = None if trace is None else _place_for(trace)
        if directory is not None:
            os.makedirs(directory, exist_ok=True)  # noqa: PTH103  # as the user gave it, in messages too
            self._writer = journal.Writer(directory, function, begun, workers, total, self._host)
            self._takers = (self.recording, self._writer)
        self._failed: dict[int, _Span] = {}  # attempts of which it is not known yet whether they are repeated
        self._attempts: dict[int, int] = {}  # of items that have failed before, how often
        self._counts = [0, 0, 0, 0]  # values, failures, discarded, elsewhere
        self._told = list(self._counts)
        self._looked = 0.0
        self._local: set[str] = set()  # the workers of this machine
        self._closed = self._has_run = False
        self.given = lambda _: None

    # -- as an observer -------------------------------------------------------------------------------------------

    def happened(self, event: Event) -> None:
        """The runner has told this."""
        if isinstance(event, Returned):
            seconds, last, count = event.seconds, event.last, len(event.values)
            begin, worker = self._begin(event.at, seconds + last), event.worker
            item = self.given(event.ticket + count - 1)
            for taker in self._takers:
                taker.span(worker, begin, seconds, count, last, "value", event.ticket, item)
            self._counts[0] += count
            self._has_run = True
        elif isinstance(event, Answered):
            self._answered(event)
        elif isinstance(event, Died):
            status: Status = "timeout" if isinstance(event.error, TaskTimeout) else "died"
            self._attempted(event.ticket, event.worker, event.error.seconds, 0.0, status)
        else:
            return
        now = time.perf_counter()
        if event.worker not in self._local and event.worker.startswith(f"{self._host}:"):
            self._local.add(event.worker)
        if now - self._looked >= LOOK_SECONDS:
            self._look(now)

    def _answered(self, event: Answered) -> None:
        answer = event.answer
        if isinstance(answer, Later):
            if answer.failed is not None:
                self._note(event, "failed")
        elif isinstance(answer, Failed):
            self._note(event, "discarded" if answer.discard else "failed")
        elif answer.computed:
            self._attempted(event.ticket, event.worker, event.seconds, event.at, "value")

    def _note(self, event: Answered, status: Status) -> None:
        """Keeps a failed attempt until it is known what becomes of the item."""
        begin = self._begin(event.at, event.seconds)
        self._failed[event.ticket] = (event.worker, begin, event.seconds, status, self.given(event.ticket))

    def _attempted(self, index: int, worker: str, seconds: float, at: float, status: Status) -> None:
        begin, item = self._begin(at, seconds), self.given(index)
        self._span((worker, begin, seconds, status, item), index)
        if status != "value":
            self._attempts[index] = self._attempts.get(index, 0) + 1

    def _span(self, span: _Span, index: int) -> None:
        worker, begin, seconds, status, item = span
        attempt = self._attempts.get(index, 0) + 1
        self._has_run = True
        for taker in self._takers:
            taker.span(worker, begin, 0.0, 1, seconds, status, index, item, None, attempt)

    def retried(self, index: int) -> None:
        """The last attempt at this item is to be repeated."""
        failed = self._failed.pop(index, None)
        if failed is not None:
            worker, begin, seconds, _, item = failed
            self._span((worker, begin, seconds, "retried", item), index)
            self._attempts[index] = self._attempts.get(index, 0) + 1

    def ended(self, outcome: Outcome[Any]) -> None:
        """An item has."""
        index, failure = outcome.index, outcome.failure
        failed = self._failed.pop(index, None)
        if failed is not None:
            self._span(failed, index)
        self._attempts.pop(index, None)
        if failure is not None:
            self._counts[1] += 1
            error = failure.error
            told = (qualified_name(type(error)), error_text(error), failure.traceback)
            for taker in self._takers:
                taker.failed(index, outcome.item, *told, max(1, failure.attempt), outcome.worker)
        elif outcome.discarded is not None:
            self._counts[2] += 1
        elif outcome.elsewhere is not None or not cast("Done[Any]", outcome.result).computed:
            self._counts[3] += 1
        else:
            self._counts[0] += 1

    def found(self, count: int) -> None:
        """So many items were done by others."""
        self._counts[3] += count

    def away(self, count: int) -> None:
        """So many are being done by others."""

    def tick(self) -> float:
        """What was told stands in the journal soon, though nothing else happens."""
        if self._counts == self._told:
            return math.inf
        now = time.perf_counter()
        if now - self._looked < LOOK_SECONDS:
            return self._looked + LOOK_SECONDS - now
        self._look(now)
        return math.inf

    def close(self) -> None:
        """The map has ended."""
        if self._closed:
            return
        self._closed = True
        now = time.perf_counter()
        for index, span in list(self._failed.items()):
            self._span(span, index)
        self._failed.clear()
        self._look(now)
        for taker in self._takers:
            taker.ended(now - self._begun)
        if self._writer is not None:
            self._writer.close()
            if not self._has_run:
                with suppress(OSError):  # it says of nothing who ran it, and when; it may stay, too
                    self._writer.path.unlink()
        if self._trace is not None:
            from manyhands.reporting.trace import write_trace

            try:
                write_trace(self._trace, [self.recording])
            except OSError as error:  # what was computed matters more
                _log.error("the trace can't be written: %s", error)

    # -- inside -----------------------------------------------------------------------------------------------------

    def _begin(self, at: float, seconds: float) -> float:
        """When something began that took so long; what is not known to have ended in time has ended now."""
        now = time.perf_counter()
        end = at if self._begun < at <= now else now
        return max(0.0, end - self._begun - seconds)

    def _look(self, now: float) -> None:
        """Looks at the memory of workers, and says how far the map is."""
        self._looked = now
        for worker in self._local:
            size = _peak_of(worker.rpartition(":")[2])
            if size:
                for taker in self._takers:
                    taker.peak(worker, size)
        for taker in self._takers:
            taker.counts(*self._counts)
        self._told = list(self._counts)
        if self._writer is not None:
            self._writer.flush()


_Span = tuple[str, float, float, Status, object]
"""Worker, begin, seconds, what it came to, item."""


class Observers:
    """Several, as one."""

    def __init__(self, observers: Sequence[Observer]) -> None:
        self._observers = observers

    def happened(self, event: Event) -> None:
        """Tells all."""
        for observer in self._observers:
            observer.happened(event)

    def ended(self, outcome: Outcome[Any]) -> None:
        """Tells all."""
        for observer in self._observers:
            observer.ended(outcome)

    def found(self, count: int) -> None:
        """Tells all."""
        for observer in self._observers:
            observer.found(count)

    def away(self, count: int) -> None:
        """Tells all."""
        for observer in self._observers:
            observer.away(count)

    def retried(self, index: int) -> None:
        """Tells all."""
        for observer in self._observers:
            observer.retried(index)

    def tick(self) -> float:
        """Asks all."""
        return min(observer.tick() for observer in self._observers)

    def close(self) -> None:
        """Tells all."""
        for observer in self._observers:
            observer.close()


def write_report(recorder: Recorder | None, name: str, path: str | os.PathLike[str]) -> Path:
    """Writes the page of a map; see ``Results.report``."""
    if recorder is None:
        raise RuntimeError(
            f"nothing was recorded of this map of {name}: give it record=True, as in {name}.map(items, record=True)"
        )
    from manyhands.reporting.page import write_page

    write_page(path, [recorder.recording])
    return Path(path)


def _place_for(path: str | os.PathLike[str]) -> Path:
    """An absolute path of a file that can be made; raises OSError."""
    found = Path(path).absolute()
    if found.is_dir():
        raise IsADirectoryError(f"trace must be the path of a file; {str(path)!r} is a directory")
    if not found.parent.is_dir():
        raise FileNotFoundError(f"there is no directory {str(found.parent)!r} for the trace {str(path)!r}")
    return found


def _peak_of(pid: str) -> int:
    """The most bytes of memory that a process of this machine has had; 0 if nobody knows."""
    if sys.platform != "linux":
        return _size_of(pid)
    try:
        status = Path(f"/proc/{pid}/status").read_bytes()
    except OSError:
        return 0
    _, found, rest = status.partition(b"VmHWM:")
    return 1024 * int(rest.split(None, 1)[0]) if found else 0


def _size_of(pid: str) -> int:
    import psutil

    try:
        return int(psutil.Process(int(pid)).memory_info().rss)
    except (psutil.Error, ValueError):
        return 0

"""A map's share of a pool: the runner that the map's stream drives."""

from __future__ import annotations

import queue
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING

from manyhands.errors import WorkerDied
from manyhands.outcome import Answer, Answered, Call, Cancelled, Died, Event, Failed, add_note, traceback_text
from manyhands.workers import payload

if TYPE_CHECKING:
    from manyhands.controller.dispatcher import Dispatcher


@dataclass(frozen=True, slots=True)
class RawAnswer:
    """An answer as it came from the worker; unpickled by whoever waits for it, not by the dispatcher."""

    ticket: int
    blob: bytes
    seconds: float
    worker: str

    def event(self) -> Answered:
        """The answer, or what unpickling it raised."""
        answer: Answer
        try:
            answer = payload.loads(self.blob)
        except Exception as error:
            add_note(error, "raised as the result of a worker was unpickled")
            answer = Failed(error, traceback_text(error))
        return Answered(self.ticket, answer, self.seconds, self.worker)


class Session:
    """Satisfies the stream's runner protocol. Tickets are the map's own numbers; the pool has others."""

    def __init__(self, dispatcher: Dispatcher, group: int) -> None:
        self._dispatcher = dispatcher
        self.group = group
        self._ours: dict[int, int] = {}  # the map's ticket -> the pool's
        # SimpleQueue may be put to from anywhere, a finaliser or a signal handler included.
        self._arrived: queue.SimpleQueue[RawAnswer | Event | None] = queue.SimpleQueue()

    @property
    def capacity(self) -> int:
        """The number of workers."""
        return self._dispatcher.settings.workers

    def submit(self, ticket: int, call: Call) -> None:
        """Pickles the call in this thread and hands it to the pool."""
        try:
            blob = payload.dumps(call)
        except Exception as error:
            add_note(error, "raised as the arguments were pickled for a worker")
            self.put(Answered(ticket, Failed(error, traceback_text(error))))
            return
        self._ours[ticket] = self._dispatcher.submit(self.group, self, ticket, blob)

    def cancel(self, ticket: int) -> None:
        """Drops the call if no worker has it."""
        if (ours := self._ours.get(ticket)) is not None:
            self._dispatcher.cancel(ours)

    def kill(self, ticket: int) -> None:
        """Drops the call, ending the worker that has it."""
        if (ours := self._ours.get(ticket)) is not None:
            self._dispatcher.kill(ours)

    def events(self, timeout: float | None) -> list[Event]:
        """What has arrived; waits for the first up to ``timeout`` seconds."""
        events: list[Event] = []
        try:
            arrived = self._arrived.get(timeout != 0, timeout)
            while arrived is not None:
                event = arrived.event() if isinstance(arrived, RawAnswer) else arrived
                self._ours.pop(event.ticket, None)
                events.append(event)
                arrived = self._arrived.get_nowait()
        except queue.Empty:
            pass
        return events

    def wake(self) -> None:
        """Ends a wait in ``events``."""
        self._arrived.put(None)

    def close(self, kill: bool = False, wait: bool = True) -> None:
        """Gives the share back; without ``wait``, takes no lock and may be called from a finaliser."""
        self._dispatcher.close_session(self.group, kill, wait)

    # -- the dispatcher's side ----------------------------------------------------------------------------

    def put(self, arrived: RawAnswer | Event) -> None:
        """Something has happened to a call of this session."""
        self._arrived.put(arrived)

    def put_cancelled(self, ticket: int) -> None:
        """The call was dropped."""
        self.put(Cancelled(ticket))

    def put_died(self, ticket: int, pid: int, exitcode: int | None, worker: str) -> None:
        """The call's worker died."""
        error = WorkerDied(f"the worker process {pid} {how_it_ended(exitcode)} while it ran this item")
        error.pid, error.exitcode = pid, exitcode
        self.put(Died(ticket, error, worker))


def how_it_ended(exitcode: int | None) -> str:
    """An exit status in words: ``was ended by SIGKILL``."""
    if exitcode is None:
        return "ended"
    if exitcode >= 0:
        return f"ended with exit status {exitcode}"
    try:
        name = signal.Signals(-exitcode).name
    except ValueError:
        name = f"signal {-exitcode}"
    hint = " (out of memory, perhaps)" if name == "SIGKILL" else ""
    return f"was ended by {name}{hint}"

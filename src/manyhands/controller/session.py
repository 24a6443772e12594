"""A map's share of a pool: the runner that the map's stream drives."""

from __future__ import annotations

import signal
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from manyhands.controller.pace import MOST
from manyhands.errors import TaskTimeout, WorkerDied
from manyhands.outcome import (
    Answer,
    Answered,
    Call,
    Cancelled,
    Died,
    Done,
    Event,
    Failed,
    Returned,
    add_note,
    traceback_text,
)
from manyhands.workers import payload
from manyhands.workers.channel import RETURNED, Frame
from manyhands.workers.parcel import ATOMS, EACH, Parcel, atomic, unpack

if TYPE_CHECKING:
    from manyhands.controller.dispatcher import Dispatcher


@dataclass(frozen=True, slots=True)
class Dead:
    """The call's worker ended, or was ended, while it was at it."""

    error: WorkerDied | TaskTimeout


@dataclass(frozen=True, slots=True)
class Dropped:
    """The calls were cancelled before they were sent."""


News = Frame | Dead | Dropped | Failed
"""What may become of calls, as the dispatcher tells it. A frame is unpickled by whoever waits for it."""


class Share(Protocol):
    """Who submits calls to a dispatcher, and is told what became of them, under the dispatcher's lock."""

    group: int
    timeout: float | None
    """Seconds that a call may take."""
    lasting: bool
    """Whether it stays open without calls, so that it keeps no idle pool alive."""
    most: int
    """Calls that are sent to a worker at once, at most, where their times decide."""
    is_map: bool
    """Whether its calls are of no use once who consumes their results has gone."""

    def promised(self) -> bool:
        """Whether calls that were promised are to come: then the pool waits for them before it closes."""
        ...

    def renew_locks(self) -> None:
        """In a forked child: other threads may have held them, and there are no others here."""
        ...

    def begun(self, ticket: int) -> None:
        """A worker is at some of the ticket's calls; may be told again."""
        ...

    def put(self, ticket: int, begin: int, end: int, news: News, worker: str) -> None:
        """Something became of these calls. What came before may come again: then it is left aside."""
        ...

    def unheard(self, ticket: int) -> list[tuple[int, int]]:
        """The stretches of a ticket of which nothing was heard."""
        ...


@dataclass(slots=True)
class _Sent:
    """What the session knows of a ticket of the pool."""

    index: int
    block: bool
    out: bytearray  # 1 for each call that nothing was heard of
    left: int  # how many these are


class Session:
    """Satisfies the stream's runner protocol. Tickets are the map's own numbers; the pool has others."""

    lasting = False
    batches = True
    most = MOST
    is_map = True

    def __init__(self, dispatcher: Dispatcher, timeout: float | None = None) -> None:
        self._dispatcher = dispatcher
        self.group = -1  # given by the dispatcher
        self.timeout = timeout
        self._ours: dict[int, int] = {}  # the map's ticket -> the pool's, of single calls
        self._sent: dict[int, _Sent] = {}
        self._arrived: deque[tuple[int, int, int, News, str]] = deque()
        self._early: list[Event] = []  # calls that could not be sent
        self._woken = False

    @property
    def capacity(self) -> int:
        """The number of calls that run at the same time."""
        settings = self._dispatcher.settings
        return settings.workers * settings.threads

    @property
    def chunk(self) -> int:
        """How many calls go to a worker at once."""
        pace = self._dispatcher.pace(self.group)
        return pace.chunksize if pace is not None else 1

    @property
    def horizon(self) -> int:
        """How many calls are about a second of work."""
        pace = self._dispatcher.pace(self.group)
        if pace is None or pace.seconds is None:
            return 4 * self.capacity * (pace.fixed or 1) if pace is not None else 0
        return int(min(1e9, self.capacity / max(pace.seconds, 1e-9)))

    def submit(self, ticket: int, call: Call) -> None:
        """Pickles the call in this thread and hands it to the pool."""
        blob = self._pickled(ticket, call)
        if blob is not None:
            self._ours[ticket] = self._submit(ticket, Parcel([blob], EACH), block=False)

    def submit_block(self, ticket: int, items: list[Any]) -> None:
        """Hands items to the pool; those that can't be pickled come back at once."""
        if atomic(items):
            self._submit(ticket, Parcel(items, ATOMS), block=True)
            return
        blobs: list[bytes] = []
        for index, item in enumerate(items, ticket):
            blob = self._pickled(index, item)
            if blob is not None:
                blobs.append(blob)
            elif blobs:
                self._submit(index - len(blobs), Parcel(blobs, EACH), block=True)
                blobs = []
        if blobs:
            self._submit(ticket + len(items) - len(blobs), Parcel(blobs, EACH), block=True)

    def _pickled(self, ticket: int, request: Any) -> bytes | None:
        try:
            return payload.dumps(request)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            self._early.append(Answered(ticket, unpicklable(error)))
            return None

    def _submit(self, index: int, parcel: Parcel, block: bool) -> int:
        ticket = self._dispatcher.new_ticket()
        self._sent[ticket] = _Sent(index, block, bytearray(b"\1") * len(parcel), len(parcel))
        if not self._dispatcher.submit(self, ticket, parcel, calls=not block):
            self._arrived.append((ticket, 0, len(parcel), self._dispatcher.broken, ""))
        return ticket

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
        if timeout == 0:
            self._dispatcher.reader.look()
        elif not self._has_news():
            self._dispatcher.reader.wait(self._has_news, timeout)
        self._woken = False
        events, self._early = self._early, []
        while self._arrived:
            events += self._events(*self._arrived.popleft())
        return events

    def wake(self) -> None:
        """Ends a wait in ``events``."""
        self._woken = True
        self._dispatcher.reader.ring()

    def close(self, kill: bool = False, wait: bool = True) -> None:
        """Gives the share back; without ``wait``, takes no lock and may be called from a finaliser."""
        self._dispatcher.close_session(self.group, kill, wait)

    def promise(self, pending: Callable[[], bool]) -> None:
        """It is no map's: the pool is to wait for its calls as long as ``pending`` is true."""
        self.is_map, self.promised = False, pending  # type: ignore[method-assign]

    def promised(self) -> bool:
        """Whether calls are to come whose answers are promised: not in a map."""
        return False

    def _has_news(self) -> bool:
        return bool(self._arrived or self._early or self._woken)

    def _events(self, ticket: int, begin: int, end: int, news: News, worker: str) -> list[Event]:
        sent = self._sent.get(ticket)
        if sent is None or sent.out.count(1, begin, end) != end - begin:
            return []  # it was run again after an interrupt, and the first answer was here all the same
        sent.out[begin:end] = bytes(end - begin)
        sent.left -= end - begin
        index = sent.index + begin
        if not sent.left:
            del self._sent[ticket]
            if not sent.block:
                self._ours.pop(sent.index, None)
        match news:
            case Frame():
                return answers(index, news, worker, sent.block)
            case Dead(error):
                return [Died(index, error, worker)]
            case Failed():
                return [Answered(index + place, news) for place in range(end - begin)]
            case Dropped():
                return [Cancelled(index + place) for place in range(end - begin)]

    # -- the dispatcher's side ----------------------------------------------------------------------------

    def renew_locks(self) -> None:
        """There are none."""

    def begun(self, ticket: int) -> None:
        """Nobody asks."""

    def put(self, ticket: int, begin: int, end: int, news: News, worker: str) -> None:
        """Something became of calls of this session."""
        self._arrived.append((ticket, begin, end, news, worker))

    def unheard(self, ticket: int) -> list[tuple[int, int]]:
        """The stretches of a ticket of which nothing was heard."""
        heard = {
            position
            for number, begin, end, _, _ in self._arrived
            if number == ticket
            for position in range(begin, end)
        }
        sent = self._sent.get(ticket)
        places = [] if sent is None else [n for n, out in enumerate(sent.out) if out and n not in heard]
        return stretches(places)


def stretches(places: list[int]) -> list[tuple[int, int]]:
    """Rising whole numbers as half-open stretches."""
    found: list[tuple[int, int]] = []
    for place in places:
        if found and found[-1][1] == place:
            found[-1] = (found[-1][0], place + 1)
        else:
            found.append((place, place + 1))
    return found


def answers(index: int, frame: Frame, worker: str, block: bool) -> list[Event]:
    """What a frame of a worker says, or what unpickling it raised; ``index`` is that of its first call."""
    if frame.kind != RETURNED:
        return [Answered(index, unpickled_answer(frame.body), frame.last, worker)]
    values, pickled = unpack(frame.form, frame.body)
    faults: dict[int, Failed] = {}
    if pickled:
        for place, blob in enumerate(values):
            try:
                values[place] = payload.loads(blob)
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                faults[place] = unloadable(error)
    if block and not faults:
        return [Returned(index, values, frame.seconds, frame.last, worker)]
    share = frame.seconds / max(1, len(values) - 1)
    return [
        Answered(
            index + place,
            faults.get(place) or Done(value),
            frame.last if place == len(values) - 1 else share,
            worker,
        )
        for place, value in enumerate(values)
    ]


def unpickled_answer(blob: bytes | bytearray) -> Answer:
    """An answer, or what unpickling it raised."""
    try:
        answer: Answer = payload.loads(blob)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        return unloadable(error)
    return answer


def unpicklable(error: BaseException) -> Failed:
    """What pickling arguments raised."""
    told = payload.harmless(error)
    add_note(told, "raised as the arguments were pickled for a worker")
    return Failed(told, traceback_text(error))


def unloadable(error: BaseException) -> Failed:
    """What unpickling a result raised; ``sys.exit`` there is no reason to end."""
    told = payload.harmless(error)
    add_note(told, "raised as the result of a worker was unpickled")
    return Failed(told, traceback_text(error))


def died(pid: int, exitcode: int | None, ended_by: str = "") -> WorkerDied:
    """The error of a call whose worker ended."""
    how = ended_by or how_it_ended(exitcode)
    error = WorkerDied(f"the worker process {pid} {how} while it ran this item")
    error.pid, error.exitcode = pid, exitcode
    return error


def timed_out(pid: int, limit: float) -> TaskTimeout:
    """The error of a call that ran for too long."""
    error = TaskTimeout(
        f"the item ran for more than {limit:g} s, so it was ended, with its worker process {pid}"
    )
    error.pid, error.timeout = pid, limit
    return error


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

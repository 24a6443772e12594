"""A map's share of a pool: the runner that the map's stream drives."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from manyhands.calls import Call, Failed
from manyhands.controller.answers import answers
from manyhands.controller.pace import MOST, Pace
from manyhands.controller.parcels import Parcel, atomic
from manyhands.controller.share import Dead, Dropped, News
from manyhands.memory.bank import Stored
from manyhands.outcome import Answered, Cancelled, Died, Event, Held
from manyhands.workers import payload
from manyhands.workers.channel import Frame
from manyhands.workers.inlet import inlet
from manyhands.workers.parcel import ATOMS, EACH, STORED
from manyhands.workers.payload import Large

if TYPE_CHECKING:
    from manyhands.controller.dispatcher import Dispatcher


@dataclass(slots=True)
class _Sent:
    """What the session knows of a ticket of the pool."""

    index: int
    block: bool
    out: bytearray  # 1 for each call that nothing was heard of
    left: int  # how many these are
    sizes: dict[int, int]  # of those that lie in shared memory, the bytes


@dataclass(frozen=True, slots=True)
class CallForm:
    """How the calls of a map travel.

    Attributes:
        readonly: whether what is large in them can't be written to.
        shortened: leaves out what all calls have in common, which goes with their work; None: nothing.
    """

    readonly: bool = False
    shortened: Callable[[Call], Call] | None = None


PLAIN_FORM: Final = CallForm()

MUCH: Final = 1 << 25
MOST_BYTES: Final = 1 << 28
"""Calls that hold so many bytes of shared memory are enough: of the first, if there are two for each that can run at
the same time; of the second, if there is one. Few slots that are used in turn stay warm."""

_TOUCH_SECONDS: Final = 2**-32
"""A byte of memory that is touched for the first time takes about so long, four times what copying it does."""

_MOST_PATIENCE: Final = 0.02
"""Seconds that an item waits for memory that was used before, at most."""


class Session:
    """Satisfies the stream's runner protocol. Tickets are the map's own numbers; the pool has others."""

    lasting = False
    batches = True
    most = MOST
    prompt = False
    is_map = True

    def __init__(
        self,
        dispatcher: Dispatcher,
        timeout: float | None = None,
        keeps: bool = False,
        form: CallForm = PLAIN_FORM,
        name: str = "",
    ) -> None:
        self._dispatcher = dispatcher
        self.name = name
        self._keeps = keeps
        self._form = form
        self.group = -1  # given by the dispatcher
        self.timeout = timeout
        self._ours: dict[int, int] = {}  # the map's ticket -> the pool's, of single calls
        self._sent: dict[int, _Sent] = {}
        self._arrived: deque[tuple[int, int, int, News, str]] = deque()
        self._early: list[Event] = []  # calls that could not be sent
        self._woken = False
        self._bytes = 0  # of shared memory, that calls hold which are out
        self._larges = 0  # how many these are
        self._out = 0  # how many calls are out in all

    @property
    def capacity(self) -> int:
        """The number of calls that run at the same time."""
        settings = self._dispatcher.settings
        return settings.workers * settings.threads

    @property
    def chunk(self) -> int:
        """How many calls go to a worker at once."""
        pace = self._dispatcher.pace(self.group)
        return max(1, min(pace.chunksize, self._wanted(pace))) if pace is not None else 1

    @property
    def horizon(self) -> int:
        """How many calls are about a second of work."""
        pace = self._dispatcher.pace(self.group)
        if pace is None or pace.seconds is None:
            return 4 * self.capacity * (pace.fixed or 1) if pace is not None else 0
        return int(min(1e9, self.capacity / max(pace.seconds, 1e-9)))

    @property
    def has_room(self) -> bool:
        """Whether more calls are wanted, as far as the memory goes that those which are out take."""
        return self._wanted(self._dispatcher.pace(self.group)) > 0

    def _wanted(self, pace: Pace | None) -> int:
        """How many more."""
        if pace is None:
            return MOST
        if pace.size is None:  # until something is known of the results
            return max(0, 4 * self.capacity * (pace.fixed or 1) - self._out)
        size = self._bytes + self._out * pace.size
        if size < MUCH:
            return MOST if not pace.size else max(1, (MUCH - size) // pace.size)
        held = self._out if pace.size else self._larges
        return max(0, (2 * self.capacity if size < MOST_BYTES else self.capacity) - held)

    def submit(self, ticket: int, call: Call) -> None:
        """Pickles the call in this thread and hands it to the pool."""
        if self._form.shortened is not None:
            call = self._form.shortened(call)
        blob = self._packed(ticket, call)
        if blob is not None:
            self._ours[ticket] = self._submit_packed(ticket, [blob], block=False)

    def submit_block(self, ticket: int, items: Sequence[Any]) -> int:
        """Hands items to the pool, as many as there is room for; those that can't be pickled come back at once."""
        items = items[: max(1, self._wanted(self._dispatcher.pace(self.group)))]
        if isinstance(items, range) or atomic(items):
            self._submit(ticket, Parcel(items, ATOMS), block=True)
            return len(items)
        blobs: list[bytes | Stored] = []
        index = ticket
        for index, item in enumerate(items, ticket):
            blob = self._packed(index, item)
            if blob is None:
                self._submit_packed(index - len(blobs), blobs, block=True)
                blobs = []
                continue
            blobs.append(blob)
            if type(blob) is Stored:
                self._submit_packed(index + 1 - len(blobs), blobs, block=True)
                blob, blobs = None, []  # its slot is the pool's to free
                if not self.has_room:
                    break
        self._submit_packed(index + 1 - len(blobs), blobs, block=True)
        return index + 1 - ticket

    def hold(self, item: Any) -> Any:
        """The item as it is now: itself if it can't change, else pickled."""
        if atomic((item,)):
            return item
        packed = self._pack(item)
        return Held(packed, isinstance(packed, Stored))

    def opened(self, held: Held) -> Any:
        """The item as it was when it was held; raises what unpickling it raises."""
        packed, bank = held.packed, self._dispatcher.memory.bank
        if not isinstance(packed, Stored):
            return payload.loads(packed)
        if not bank.has(packed.place.segment):
            raise self._dispatcher.broken.error  # the pool was closed meanwhile
        return payload.loads_parts(bank.copy(packed))

    def submit_held(self, ticket: int, held: Sequence[Any]) -> None:
        """Hands items to the pool that were held; those that could not be pickled come back at once."""
        if atomic(held):
            self._submit(ticket, Parcel(held, ATOMS), block=True)
            return
        blobs: list[bytes | Stored] = []
        for index, one in enumerate(held, ticket):
            packed = one.packed if type(one) is Held else self._pack(one)
            if isinstance(packed, Failed):
                self._early.append(Answered(index, packed))
                self._submit_packed(index - len(blobs), blobs, block=True)
                blobs = []
            else:
                blobs.append(packed)
        self._submit_packed(ticket + len(held) - len(blobs), blobs, block=True)

    def _packed(self, ticket: int, request: Any) -> bytes | Stored | None:
        packed = self._pack(request)
        if isinstance(packed, Failed):
            self._early.append(Answered(ticket, packed))
            return None
        return packed

    def _pack(self, request: Any) -> bytes | Stored | Failed:
        try:
            packed = payload.packed(request)
            if isinstance(packed, Large) and self._larges:
                self._await_memory(packed.nbytes)
            return self._dispatcher.memory.store(packed, self._form.readonly)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            return payload.unpicklable(error)

    def _await_memory(self, size: int) -> None:
        """Looks for what the workers have let go of: that is in the processor's cache, and need not be mapped.

        While all of them are at work, it waits for that about as long as new memory would take.
        """
        reader, is_warm = self._dispatcher.reader, partial(self._dispatcher.memory.bank.is_warm, size)
        reader.look()
        if self._larges >= self.capacity and not is_warm():
            reader.wait(is_warm, min(_MOST_PATIENCE, size * _TOUCH_SECONDS))

    def _submit_packed(self, index: int, blobs: list[bytes | Stored], block: bool) -> int:
        """Submits what was packed; returns the pool's ticket."""
        if not blobs:
            return -1
        sizes = {at: blob.place.size for at, blob in enumerate(blobs) if isinstance(blob, Stored)}
        return self._submit(index, Parcel(blobs, STORED if sizes else EACH), block, sizes)

    def _submit(self, index: int, parcel: Parcel, block: bool, sizes: dict[int, int] | None = None) -> int:
        ticket = self._dispatcher.new_ticket()
        self._sent[ticket] = _Sent(index, block, bytearray(b"\1") * len(parcel), len(parcel), sizes or {})
        self._out += len(parcel)
        if sizes:
            self._bytes += sum(sizes.values())
            self._larges += len(sizes)
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
        self._dispatcher.close_session(self.group, kill, not wait, self._keeps)
        if wait:
            inlet.flush()

    def promise(self, pending: Callable[[], bool]) -> None:
        """It is no map's: the pool is to wait for its calls as long as ``pending`` is true."""
        self.is_map, self.prompt, self.promised = False, True, pending  # type: ignore[method-assign]

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
        self._out -= end - begin
        if sent.sizes:
            for position in range(begin, end):
                size = sent.sizes.pop(position, 0)
                self._bytes -= size
                self._larges -= size > 0
        index = sent.index + begin
        if not sent.left:
            del self._sent[ticket]
            if not sent.block:
                self._ours.pop(sent.index, None)
        match news:
            case Frame():
                if (pace := self._dispatcher.pace(self.group)) is not None:
                    pace.size = len(news.body) if news.form == STORED else 0
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

    def item(self, ticket: int, position: int) -> int | None:
        """The item's position in the input."""
        sent = self._sent.get(ticket)
        return None if sent is None else sent.index + position

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

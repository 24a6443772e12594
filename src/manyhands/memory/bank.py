"""Values in slots of this process's own segments, to be read by others. Thread-safe.

A slot is free again when nobody here needs it any more, that is, when its ``Stored`` is gone, and when all to whom it
was lent have let go of it.
"""

from __future__ import annotations

import mmap
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from typing import Final

from manyhands.memory.places import Place, layout
from manyhands.memory.segment import Segment
from manyhands.memory.slots import Slot, Slots, rounded

ARENA: Final = 1 << 25
"""Segments are no smaller than so many bytes, so that they are few. What was not touched takes no memory."""

_ROOM: Final = 4
"""A segment has room for so many values like the one that it is made for."""

_PART: Final = 1 / 4
"""It is no smaller than this part of all that there is: of much, too, there are few."""


Part = memoryview | list[memoryview]


@dataclass(slots=True)
class _Lease:
    slot: Slot
    needed: bool = True
    lent: int = 0


class Stored:
    """A value in a slot, which is kept as long as this is."""

    __slots__ = ("_gone", "place")

    def __init__(self, place: Place, gone: deque[int]) -> None:
        self.place = place
        self._gone = gone

    def __del__(self) -> None:
        self._gone.append(self.place.number)  # no more than that: it may run at any moment, in any thread


class Bank:
    """The slots of one process.

    Args:
        limit: bytes of all segments together, at most.
        is_reused: what is stored is needed for a short time only, so each place is soon used again.

    Attributes:
        version: another one after segments were given back.
    """

    def __init__(self, limit: int, is_reused: bool = False) -> None:
        self.version = 0
        self._is_reused = is_reused
        self._limit = limit
        self._lock = threading.Lock()
        self._slots = Slots()
        self._segments: dict[int, Segment] = {}
        self._canvases: dict[int, Segment] = {}
        self._segment_numbers = count()
        self._leases: dict[int, _Lease] = {}
        self._numbers = count()
        self._gone: deque[int] = deque()  # those of which the Stored is

    def store(self, parts: Sequence[Part], readonly: bool = False) -> Stored | None:
        """Copies bytes into a slot, one part after the other; None: there is no room, or no memory.

        Args:
            parts: each contiguous, of single bytes; or pieces that become one part.
            readonly: whether they are not to be written to where they are seen.
        """
        pieces = [part if isinstance(part, list) else [part] for part in parts]
        lengths = tuple([sum([piece.nbytes for piece in part]) for part in pieces])
        offsets, size = layout(lengths)
        with self._lock:
            self._collect()
            slot = self._slots.take(size) or self._grow(size)
            if slot is None:
                return None
            number = next(self._numbers)
            self._leases[number] = _Lease(slot)
            segment = self._segments[slot.segment]
        stored = Stored(Place(number, slot.segment, slot.offset, slot.size, lengths, readonly), self._gone)
        try:
            for at, part in zip(offsets, pieces, strict=True):
                offset = slot.offset + at
                for piece in part:
                    segment.write(offset, piece)
                    offset += piece.nbytes
        except OSError:
            return None
        return stored

    def copy(self, stored: Stored) -> list[memoryview]:
        """The parts of a value that is stored here, in private memory."""
        place = stored.place
        with self._lock:
            segment = self._segments[place.segment]
        offsets, _ = layout(place.lengths)
        begins = [place.offset + at for at in offsets]
        with memoryview(segment.memory) as memory:
            return [
                memoryview(bytearray(memory[begin : begin + length]))
                for begin, length in zip(begins, place.lengths, strict=True)
            ]

    def is_warm(self, size: int) -> bool:
        """Whether a value of so many bytes would lie where others have lain before."""
        with self._lock:
            self._collect()
            slot = self._slots.find(size)
            return slot is not None and self._segments[slot.segment].is_warm(slot.offset + slot.size)

    def lend(self, number: int) -> None:
        """Somebody else is told of the slot."""
        with self._lock:
            self._leases[number].lent += 1

    def take_back(self, numbers: Sequence[int]) -> None:
        """Somebody has let go of these slots."""
        with self._lock:
            for number in numbers:
                lease = self._leases.get(number)
                if lease is not None and lease.lent:
                    lease.lent -= 1
                    self._free_unless_used(number, lease)

    def descriptor(self, segment: int) -> tuple[int, int]:
        """Descriptor and size of a segment."""
        found = self._segments.get(segment) or self._canvases[segment]
        return found.fileno(), found.size

    def has(self, segment: int) -> bool:
        """Whether the segment was not given back."""
        return segment in self._segments or segment in self._canvases

    def open_canvas(self, size: int) -> int:
        """A segment for others to write to, which does not count to the limit; raises OSError.

        Args:
            size: in bytes.
        """
        segment = Segment(size)
        with self._lock:
            number = next(self._segment_numbers)
            self._canvases[number] = segment
        return number

    def memory(self, number: int) -> mmap.mmap:
        """What the canvas with this number lies in."""
        return self._canvases[number].memory

    def close_canvas(self, number: int) -> Segment:
        """The segment is not to be shown any more; who takes it closes it."""
        with self._lock:
            self.version += 1
            return self._canvases.pop(number)

    def trim(self) -> None:
        """Gives the memory back that is not used."""
        with self._lock:
            self._collect()
            self._drop_idle()
            for number, segment in self._segments.items():
                for begin, end in self._slots.free(number):
                    segment.give_back(begin, end)

    @property
    def used(self) -> int:
        """How many slots are not free."""
        with self._lock:
            self._collect()
            return len(self._leases)

    @property
    def size(self) -> int:
        """Bytes of all segments."""
        return self._slots.size

    def close(self) -> None:
        """Lets go of all segments but canvases; who has them keeps them. Nothing is stored any more."""
        with self._lock:
            self._limit = 0
            if self._segments:
                for segment in self._segments.values():
                    segment.close()
                self._segments.clear()
                self._leases.clear()
                self._slots = Slots()

    def disown(self) -> None:
        """In a forked child: they are the parent's."""
        self._lock = threading.Lock()
        self.close()
        for canvas in self._canvases.values():
            canvas.close()

    # -- under the lock --------------------------------------------------------------------------------------

    def _collect(self) -> None:
        while self._gone:
            number = self._gone.popleft()
            lease = self._leases.get(number)
            if lease is not None:
                lease.needed = False
                self._free_unless_used(number, lease)

    def _free_unless_used(self, number: int, lease: _Lease) -> None:
        if not lease.needed and not lease.lent:
            del self._leases[number]
            self._slots.give_back(lease.slot.segment, lease.slot.offset)

    def _grow(self, size: int) -> Slot | None:
        wanted = rounded(size)
        if self._slots.size + wanted > self._limit:
            self._drop_idle()
        left = (self._limit - self._slots.size) // rounded(1) * rounded(1)
        if wanted > left:
            return None
        size = min(max(ARENA, _ROOM * wanted, rounded(int(_PART * self._slots.size))), left)
        try:
            segment = Segment(size, self._is_reused)
        except (OSError, OverflowError, MemoryError):
            return None
        number = next(self._segment_numbers)
        self._segments[number] = segment
        self._slots.add(number, size)
        return self._slots.take(wanted)

    def _drop_idle(self) -> None:
        for number in self._slots.idle():
            self._slots.drop(number)
            self._segments.pop(number).close()
            self.version += 1

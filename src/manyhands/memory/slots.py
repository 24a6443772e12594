"""Which stretches of some segments of memory are taken: first fit, and what is free is one stretch again. Pure.

The lowest place that fits is taken, so the same memory is used again and again, and stays warm: to touch memory for
the first time costs several times what copying into it does.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from mmap import PAGESIZE
from typing import Final, NamedTuple

PAGE: Final = max(4096, PAGESIZE)
"""Slots begin at multiples of so many bytes: the kernel has no smaller ones."""


class Slot(NamedTuple):
    """A stretch of a segment.

    Attributes:
        segment: its number.
        offset: in bytes from the segment's begin.
        size: in bytes, a multiple of ``PAGE``.
    """

    segment: int
    offset: int
    size: int


class Slots:
    """The slots of some segments.

    Attributes:
        size: bytes of all segments together.
    """

    def __init__(self) -> None:
        self.size = 0
        self._sizes: dict[int, int] = {}
        self._free: dict[int, list[tuple[int, int]]] = {}  # of each segment, begins and ends, rising
        self._taken: dict[tuple[int, int], int] = {}  # by segment and offset, the end

    def add(self, segment: int, size: int) -> None:
        """A new segment of so many bytes, a multiple of ``PAGE``, all free."""
        self._sizes[segment] = size
        self._free[segment] = [(0, size)]
        self.size += size

    def take(self, size: int) -> Slot | None:
        """A free slot of at least so many bytes; None: there is none."""
        slot = self.find(size)
        if slot is not None:
            segment, begin, wanted = slot
            free = self._free[segment]
            place = bisect_left(free, (begin, begin))
            end = free[place][1]
            if end - begin == wanted:
                del free[place]
            else:
                free[place] = begin + wanted, end
            self._taken[segment, begin] = begin + wanted
        return slot

    def find(self, size: int) -> Slot | None:
        """The slot that ``take`` would return."""
        wanted = rounded(size)
        for segment, free in self._free.items():
            for begin, end in free:
                if end - begin >= wanted:
                    return Slot(segment, begin, wanted)
        return None

    def give_back(self, segment: int, offset: int) -> None:
        """A slot is free again; raises KeyError if it was not taken."""
        begin, end = offset, self._taken.pop((segment, offset))
        free = self._free[segment]
        place = bisect_left(free, (begin, end))
        if place < len(free) and free[place][0] == end:
            end = free.pop(place)[1]
        if place > 0 and free[place - 1][1] == begin:
            begin = free.pop(place - 1)[0]
        insort(free, (begin, end))

    def free(self, segment: int) -> list[tuple[int, int]]:
        """Begins and ends of what is not taken of a segment."""
        return list(self._free[segment])

    def idle(self) -> list[int]:
        """The segments of which nothing is taken."""
        return [segment for segment, size in self._sizes.items() if self._free[segment] == [(0, size)]]

    def drop(self, segment: int) -> None:
        """An idle segment is no more."""
        self.size -= self._sizes.pop(segment)
        del self._free[segment]

    def __len__(self) -> int:
        """How many slots are taken."""
        return len(self._taken)


def rounded(size: int) -> int:
    """Up to whole pages, one at least."""
    return max(PAGE, -(-size // PAGE) * PAGE)

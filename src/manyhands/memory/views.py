"""What another process has stored, as it is seen here. Thread-safe.

Segments are mapped privately: what is written into a view is seen by nobody else, and is gone with the view. So a call
may change its arguments, and yet finds them as they were should it have to run again.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import sys
import threading
import weakref
from collections import deque
from functools import lru_cache
from typing import Any, Final

from manyhands.memory.places import Place, layout
from manyhands.memory.segment import private

_SHARED: Final = sys.platform == "linux"
"""Elsewhere it is not known whether a private mapping sees what its owner writes later: there all is copied."""


_MUCH: Final = 1 << 20


class _Watch(weakref.ref[Any]):
    """Tells when a view and all that was made of it is gone."""

    __slots__ = ("address", "place")
    place: Place
    address: int


class Views:
    """The segments of one other process, and what is open of them.

    Args:
        most: bytes that are to be open at a time, at most.
    """

    def __init__(self, most: int = sys.maxsize) -> None:
        self._most = most
        self._size = 0
        self._maps: dict[int, mmap.mmap] = {}
        self._watches: dict[int, _Watch] = {}
        self._gone: deque[_Watch] = deque()
        self._unopened: deque[int] = deque()
        self._pinned: set[int] = set()
        self._lock = threading.RLock()  # a finaliser of the user's may run in the middle, and call something

    def pin(self) -> None:
        """A child was forked, which sees what is open here for as long as it lives: none of that is let go of."""
        self._pinned.update(self._watches)

    def attach(self, segment: int, descriptor: int, size: int, writable: bool = False) -> None:
        """A segment can be seen through this descriptor, which is closed here. Raises OSError.

        Args:
            segment: its number.
            descriptor: of its memory.
            size: in bytes.
            writable: what is written to it is for all to see.
        """
        try:
            if writable:
                memory = mmap.mmap(descriptor, size)
            elif _SHARED:
                memory = mmap.mmap(
                    descriptor, size, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE
                )
            else:
                memory = mmap.mmap(descriptor, size, access=mmap.ACCESS_READ)
        finally:
            os.close(descriptor)
        self._maps[segment] = memory

    def has(self, segment: int) -> bool:
        """Whether a segment is attached."""
        return segment in self._maps

    def detach(self, segment: int) -> None:
        """The owner has given it back."""
        self._maps.pop(segment, None)

    def memory(self, segment: int) -> mmap.mmap:
        """An attached segment."""
        return self._maps[segment]

    @property
    def alive(self) -> int:
        """How many values are open."""
        return len(self._watches) - len(self._gone)

    def has_room(self, place: Place) -> bool:
        """Whether this value may be open too, as far as is known."""
        return self._size + place.size <= self._most

    def numbers(self) -> list[int]:
        """Of the values that are open, or can't be let go of."""
        with self._lock:
            return [*self._watches, *self._pinned.difference(self._watches)]

    @property
    def has_let_go(self) -> bool:
        """Whether anything was let go of since ``settle``."""
        return bool(self._gone or self._unopened)

    @property
    def is_quiet(self) -> bool:
        """Whether nothing is open, nor was let go of since ``settle``."""
        return not self._watches and not self._unopened

    def view(self, place: Place) -> list[memoryview]:
        """The byte strings as they lie there; the slot is in use as long as any of them is."""
        if not _SHARED:
            return self.copy(place)
        base = _bytes_of(place.size).from_buffer(self._maps[place.segment], place.offset)
        watch = _Watch(base, self._gone.append)
        watch.place = place
        watch.address = ctypes.addressof(base)
        with self._lock:
            self._watches[place.number] = watch
            self._size += place.size
        memory = memoryview(base).cast("B")
        return _parts(memory.toreadonly() if place.readonly else memory, 0, place.lengths)

    def copy(self, place: Place) -> list[memoryview]:
        """The byte strings, as private memory; the slot is not in use any more."""
        with memoryview(self._maps[place.segment]) as memory:
            parts = [_copied(part) for part in _parts(memory, place.offset, place.lengths)]
        self._unopened.append(place.number)
        return [part.toreadonly() for part in parts] if place.readonly else parts

    def drop(self, place: Place) -> None:
        """Nobody will look at this value."""
        self._unopened.append(place.number)

    def settle(self) -> list[int]:
        """The numbers of the values that were let go of since the last time."""
        with self._lock:
            ended = []
            while self._unopened:
                ended.append(self._unopened.popleft())
            while self._gone:
                watch = self._gone.popleft()
                place = watch.place
                del self._watches[place.number]
                if place.number in self._pinned:
                    continue
                self._size -= place.size
                memory = self._maps.get(place.segment)
                if memory is not None and not place.readonly and _may_differ(watch.address, place.size):
                    # What was written to it here goes; what its owner writes next is seen.
                    memory.madvise(mmap.MADV_DONTNEED, place.offset, place.size)
                ended.append(place.number)
            return ended


def _parts(memory: memoryview, offset: int, lengths: tuple[int, ...]) -> list[memoryview]:
    offsets, _ = layout(lengths)
    return [memory[offset + at : offset + at + length] for at, length in zip(offsets, lengths, strict=True)]


def _copied(part: memoryview) -> memoryview:
    """As private memory."""
    if part.nbytes < _MUCH or not _SHARED:
        return memoryview(bytearray(part))
    try:
        copy = memoryview(private(part.nbytes))
    except OSError:
        return memoryview(bytearray(part))
    copy[:] = part
    return copy


def _may_differ(address: int, size: int) -> bool:
    """Whether some of this memory may have been written to here. To look costs a tenth of what it spares.

    The kernel tells of each page: bit 63, it is here; 62, it is swapped out; 61, it is the owner's
    (``Documentation/admin-guide/mm/pagemap.rst``).
    """
    count = size // mmap.PAGESIZE
    try:
        descriptor = os.open("/proc/self/pagemap", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return True
    try:
        told = os.pread(descriptor, 8 * count, address // mmap.PAGESIZE * 8)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    if len(told) < 8 * count:
        return True
    pages = int.from_bytes(told, sys.byteorder)
    return bool((pages >> 2 | pages >> 1) & ~pages & _ones(count) << 61)


@lru_cache(64)
def _ones(count: int) -> int:
    """A number of ``count`` times 64 bits, of which the lowest of each is set."""
    return int.from_bytes(b"\1\0\0\0\0\0\0\0" * count, "little")


@lru_cache(64)
def _bytes_of(size: int) -> Any:
    return ctypes.c_ubyte * size

"""Shared memory without a name: nothing is left of it when the last process that has it is gone, however it went."""

from __future__ import annotations

import mmap
import os
import sys
import threading
from typing import Final, Self

_POPULATE_WRITE: Final = 23 if sys.platform == "linux" else -1
"""``MADV_POPULATE_WRITE``, since Linux 5.14; Python has no name for it."""

_FEW: Final = 1 << 25
"""Of values that are larger there are hardly ever many."""

_PART: Final = 1 << 22
"""So many bytes are copied at once: other threads of this process get a turn in between."""


def populate(memory: mmap.mmap, begin: int, end: int) -> None:
    """Has the kernel map these bytes to be written to, at once rather than page by page; or it does nothing.

    To have 2,048 pages mapped by as many page faults takes some six times what copying them does.
    """
    begin -= begin % mmap.PAGESIZE
    try:
        for at in range(begin, end, _PART):  # Python lets no other thread run meanwhile
            memory.madvise(_POPULATE_WRITE, at, min(_PART, end - at))
    except OSError:
        pass  # not this platform, or an older kernel


def private(size: int) -> mmap.mmap:
    """New memory of this process alone, about to be written to. Raises OSError.

    In huge pages, where the kernel has them for who asks: that takes a third of the time that small ones do.
    """
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    try:
        memory.madvise(mmap.MADV_HUGEPAGE)
    except (AttributeError, OSError):
        pass  # they are turned off
    populate(memory, 0, size)
    return memory


def anonymous(name: str, size: int) -> int:
    """A descriptor of new memory, all zeros, not inherited. Raises OSError.

    Linux has it (memfd); elsewhere it is a temporary file that was removed at once.

    Args:
        name: seen in ``/proc`` alone.
        size: in bytes.
    """
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create(name, os.MFD_CLOEXEC)
    else:
        import tempfile  # slow to import

        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    try:
        os.ftruncate(descriptor, size)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


class Segment:
    """Its owner's side of some memory: it writes there, others read.

    Args:
        size: in bytes.
        is_reused: each place will soon be written to again, unless what comes there is huge.

    Attributes:
        size: in bytes.
    """

    def __init__(self, size: int, is_reused: bool = False) -> None:
        self.size = size
        self._is_reused = is_reused
        self._descriptor = anonymous("manyhands", size)
        try:
            self.memory = mmap.mmap(self._descriptor, size)
        except BaseException:
            os.close(self._descriptor)
            raise
        self._lock = threading.Lock()  # over these
        self._touched = 0  # from here on nothing was ever written to
        self._warm = 0  # up to here all of it was
        self._mapped = 0  # up to here it is also seen without a page fault

    def fileno(self) -> int:
        """Its descriptor."""
        return self._descriptor

    def write(self, offset: int, part: memoryview) -> None:
        """Copies bytes to this place; raises OSError if there is no memory for them.

        Where nothing was before, a system call takes half the time of touching each page, and says if there is none.
        """
        end = offset + part.nbytes
        begin = offset
        with self._lock:
            warm = end <= self._warm
            if warm:
                self._map(end)
            self._touched = max(self._touched, end)
        with memoryview(self.memory) as memory:
            while part.nbytes:
                if warm:
                    done = min(_PART, part.nbytes)
                    memory[offset : offset + done] = part[:done]
                else:
                    done = os.pwrite(self._descriptor, part, offset)
                offset += done
                part = part[done:]
        with self._lock:
            if self.is_warm(begin):
                self._warm = max(self._warm, end)  # there is no hole before it, which nobody has touched
                if self._is_reused and end - begin <= _FEW:
                    self._map(end)

    def is_warm(self, end: int) -> bool:
        """Whether all up to here was written to, but for less than a page."""
        return end <= -(-self._warm // mmap.PAGESIZE) * mmap.PAGESIZE

    def _map(self, end: int) -> None:
        if end > self._mapped:
            populate(self.memory, self._mapped, end)
            self._mapped = end

    def give_back(self, begin: int, end: int) -> None:
        """Gives the memory of a stretch back, which is all zeros then; where that can't be, it stays.

        Args:
            begin: where it begins, a multiple of the page size.
            end: where it ends.
        """
        with self._lock:
            end = min(end, -(-self._touched // mmap.PAGESIZE) * mmap.PAGESIZE)
            if begin >= end:
                return
            try:
                self.memory.madvise(mmap.MADV_REMOVE, begin, end - begin)
            except (AttributeError, OSError):
                return
            self._warm = min(self._warm, begin)
            self._mapped = min(self._mapped, begin)

    def seen(self) -> mmap.mmap:
        """A mapping of its own: what is written there from now on, nobody else sees."""
        if sys.platform == "linux":
            prot = mmap.PROT_READ | mmap.PROT_WRITE
            return mmap.mmap(self._descriptor, self.size, flags=mmap.MAP_PRIVATE, prot=prot)
        return mmap.mmap(self._descriptor, self.size)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Lets go of it; who has it keeps it."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)
            del self.memory  # not closed: who looks into it may go on

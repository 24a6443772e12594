"""Shared memory without a name: nothing is left of it when the last process that has it is gone, however it went."""

from __future__ import annotations

import mmap
import os
import sys
from typing import Final, Self

_PART: Final = 1 << 22
"""So many bytes are copied at once: other threads of this process get a turn in between."""


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

    Attributes:
        size: in bytes.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._descriptor = anonymous("manyhands", size)
        try:
            self.memory = mmap.mmap(self._descriptor, size)
        except BaseException:
            os.close(self._descriptor)
            raise
        self._warm = 0

    def fileno(self) -> int:
        """Its descriptor."""
        return self._descriptor

    def write(self, offset: int, part: memoryview) -> None:
        """Copies bytes to this place; raises OSError if there is no memory for them.

        Where nothing was before, a system call takes half the time of touching each page, and says if there is none.
        """
        end = offset + part.nbytes
        warm = end <= self._warm
        follows = offset <= -(-self._warm // mmap.PAGESIZE) * mmap.PAGESIZE
        with memoryview(self.memory) as memory:
            while part.nbytes:
                if warm:
                    done = min(_PART, part.nbytes)
                    memory[offset : offset + done] = part[:done]
                else:
                    done = os.pwrite(self._descriptor, part, offset)
                offset += done
                part = part[done:]
        if follows:
            self._warm = max(self._warm, end)  # there is no hole before it, which nobody has touched

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

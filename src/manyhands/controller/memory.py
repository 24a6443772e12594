"""What a pool stores for its workers to see: large values, and the memory that their calls write to."""

from __future__ import annotations

from manyhands.memory.bank import Bank, Stored
from manyhands.workers import payload
from manyhands.workers.payload import Large


class PoolMemory:
    """The parent's memory of one pool. Thread-safe.

    Args:
        limit: bytes of it, at most; with 0, nothing is stored.

    Attributes:
        bank: the slots and canvases.
    """

    def __init__(self, limit: int) -> None:
        self.bank = Bank(limit, is_reused=True)
        self._is_allowed = limit > 0

    def pack(self, value: object, readonly: bool = False) -> bytes | Stored:
        """Pickles a value for workers, into a slot if it is large; raises what pickling it raises."""
        packed = payload.packed(value)
        return packed if type(packed) is bytes else self.store(packed, readonly)

    def store(self, packed: bytes | Large, readonly: bool) -> bytes | Stored:
        """What was packed, in a slot if it is large and there is room, else as one byte string.

        Args:
            packed: by ``payload.packed``.
            readonly: whether workers may not write to it.
        """
        if isinstance(packed, bytes):
            return packed
        if readonly:
            stream, *buffers = packed.parts
            packed = Large([stream, *[part.toreadonly() for part in buffers if isinstance(part, memoryview)]])
        return self.bank.store(packed.parts, readonly) or payload.whole(packed)

    def open_canvas(self, size: int) -> int | None:
        """A segment of so many bytes for calls to write to; None: there is to be none, or no memory for it."""
        if not self._is_allowed:
            return None
        try:
            return self.bank.open_canvas(size)
        except (OSError, OverflowError, MemoryError):
            return None

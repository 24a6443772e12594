"""Where a value lies in another process's memory. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

ALIGNMENT: Final = 64
"""Parts begin at multiples of so many bytes: a line of the cache, and what vector instructions like."""


class Place(NamedTuple):
    """Some byte strings in one slot, one after the other.

    Attributes:
        number: tells it from all others of its owner, before and after.
        segment, offset, size: the slot.
        lengths: of the byte strings: a pickle, and the buffers that belong to it.
        readonly: whether they are not to be written to by who sees them.
    """

    number: int
    segment: int
    offset: int
    size: int
    lengths: tuple[int, ...]
    readonly: bool = False


def layout(lengths: Sequence[int]) -> tuple[list[int], int]:
    """Where in a slot parts of such lengths begin, and how large it must be."""
    offsets = []
    at = 0
    for length in lengths:
        offsets.append(at)
        at = -(-(at + length) // ALIGNMENT) * ALIGNMENT
    return offsets, at

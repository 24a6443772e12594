"""What the tests of shared memory look with: at slots, and at what the process has open."""

from __future__ import annotations

import os

from manyhands.memory.bank import Bank
from manyhands.memory.places import Place, layout

Memory = tuple[int, int]
"""What tells some memory from all other: device and inode."""


def seen(values: list[bytes]) -> list[memoryview]:
    return [memoryview(value) for value in values]


def read(bank: Bank, place: Place) -> list[bytes]:
    """What lies there, as its owner sees it."""
    descriptor, _ = bank.descriptor(place.segment)
    offsets, _ = layout(place.lengths)
    return [
        os.pread(descriptor, length, place.offset + at)
        for at, length in zip(offsets, place.lengths, strict=True)
    ]


def memory_of(descriptor: int) -> Memory:
    found = os.fstat(descriptor)
    return found.st_dev, found.st_ino


def open_here() -> list[Memory]:
    """What the descriptors of this process lead to, with those that mappings keep.

    To count all descriptors would count those that other threads open meanwhile.
    """
    found = []
    for name in os.listdir("/dev/fd"):
        try:
            found.append(memory_of(int(name)))
        except OSError:
            pass  # that of the directory
    return found

"""Slots of shared memory: never two in one place, and nothing of it is lost."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from manyhands.memory.slots import PAGE, Slot, Slots, rounded


class AnyOrder(RuleBasedStateMachine):
    """Takes and gives back in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.slots = Slots()
        self.sizes: dict[int, int] = {}
        self.taken: list[Slot] = []
        self.numbers = 0

    @rule(pages=st.integers(1, 8))
    def add(self, pages: int) -> None:
        """A segment comes."""
        self.slots.add(self.numbers, pages * PAGE)
        self.sizes[self.numbers] = pages * PAGE
        self.numbers += 1

    @rule(size=st.integers(0, 9 * PAGE))
    def take(self, size: int) -> None:
        """What fits is found, within a segment and beside what is taken; else nothing is."""
        found = self.slots.find(size)
        slot = self.slots.take(size)
        assert found == slot
        if slot is None:
            assert all(stretch < rounded(size) for stretch in self.stretches())
            return
        assert slot.size == rounded(size) >= max(size, 1)
        assert slot.offset % PAGE == 0 <= slot.offset
        assert slot.offset + slot.size <= self.sizes[slot.segment]
        for other in self.taken:
            if other.segment == slot.segment:
                assert slot.offset + slot.size <= other.offset or other.offset + other.size <= slot.offset
        self.taken.append(slot)

    @precondition(lambda self: self.taken)
    @rule(data=st.data())
    def give_back(self, data: st.DataObject) -> None:
        """One is free again, and can't be given back twice."""
        slot = self.taken.pop(data.draw(st.integers(0, len(self.taken) - 1)))
        self.slots.give_back(slot.segment, slot.offset)
        with pytest.raises(KeyError):
            self.slots.give_back(slot.segment, slot.offset)

    @rule()
    def drop_idle(self) -> None:
        """Segments of which nothing is taken may go."""
        for segment in self.slots.idle():
            assert all(slot.segment != segment for slot in self.taken)
            self.slots.drop(segment)
            del self.sizes[segment]

    def stretches(self) -> list[int]:
        """The sizes of all free stretches, as the world knows them."""
        found = []
        for segment, size in self.sizes.items():
            at = 0
            for slot in sorted(slot for slot in self.taken if slot.segment == segment):
                found.append(slot.offset - at)
                at = slot.offset + slot.size
            found.append(size - at)
        return found

    @invariant()
    def nothing_is_lost(self) -> None:
        """All that is not taken is free."""
        assert self.slots.size == sum(self.sizes.values())
        assert len(self.slots) == len(self.taken)
        used = {slot.segment for slot in self.taken}
        assert sorted(self.slots.idle()) == sorted(self.sizes.keys() - used)


TestAnyOrder = AnyOrder.TestCase


def test_the_same_memory_is_used_again() -> None:
    """What was given back is the first to be taken."""
    slots = Slots()
    slots.add(0, 10 * PAGE)
    first = slots.take(3 * PAGE)
    assert first is not None
    for _ in range(5):
        slots.give_back(first.segment, first.offset)
        assert slots.take(3 * PAGE) == first

"""Blocks of items: what is out, what comes back in runs, and what is kept alive meanwhile."""

from __future__ import annotations

import weakref

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from manyhands.handler.blocks import Blocks, Run
from manyhands.handler.item import WrongState


class Thing:
    """An item."""


class AnyOrder(RuleBasedStateMachine):
    """Does to some blocks and to a plain dictionary of items what a stream may do, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = Blocks()
        self.next = 0
        self.items: dict[int, Thing] = {}  # those in a block, neither taken nor single
        self.out: set[int] = set()
        self.starts: list[int] = []
        self.runs: list[Run] = []
        self.lives: dict[int, weakref.ref[Thing]] = {}
        self.held: dict[int, weakref.ref[Thing]] = {}

    @rule(count=st.integers(1, 6), gap=st.integers(0, 2), holds=st.booleans())
    def add(self, count: int, gap: int, holds: bool) -> None:
        """A block is sent; there may be items in no block before it. Something may be kept of its items."""
        self.next += gap
        items = [Thing() for _ in range(count)]
        held = [Thing() for _ in range(count)] if holds else None
        self.blocks.add(self.next, items, held)
        self.held.update({index: weakref.ref(thing) for index, thing in enumerate(held or [], self.next)})
        self.starts.append(self.next)
        for index, item in enumerate(items, self.next):
            self.items[index] = item
            self.lives[index] = weakref.ref(item)
            self.out.add(index)
        self.next += count

    def stretches(self) -> list[tuple[int, int]]:
        """All that is out, in stretches within one block, each as long as can be."""
        found: list[list[int]] = []
        for index in sorted(self.out):
            if found and found[-1][1] == index and index not in self.starts:
                found[-1][1] = index + 1
            else:
                found.append([index, index + 1])
        return [(begin, end) for begin, end in found]

    @precondition(lambda self: self.out)
    @rule(data=st.data())
    def returned(self, data: st.DataObject) -> None:
        """Values come for any stretch that is out."""
        begin, end = data.draw(st.sampled_from(self.stretches()))
        first = data.draw(st.integers(begin, end - 1))
        last = data.draw(st.integers(first + 1, end))
        values = [f"value {index}" for index in range(first, last)]
        run = self.blocks.returned(first, values, 2.0, 1.0, "w")
        assert (run.index, run.values, run.seconds, run.last, run.worker) == (first, values, 2.0, 1.0, "w")
        assert list(run.items) == [self.items[index] for index in range(first, last)]
        self.out -= set(range(first, last))
        self.runs.append(run)

    @precondition(lambda self: self.out)
    @rule(data=st.data())
    def single_out(self, data: st.DataObject) -> None:
        """One that is out leaves its block."""
        index = data.draw(st.sampled_from(sorted(self.out)))
        item, held = self.blocks.single_out(index)
        assert item is self.items.pop(index)
        assert held is (self.held[index]() if index in self.held else None)
        self.out.remove(index)

    @precondition(lambda self: self.runs)
    @rule(data=st.data())
    def taken(self, data: st.DataObject) -> None:
        """A run is of no interest any more, in any order."""
        run = self.runs.pop(data.draw(st.integers(0, len(self.runs) - 1)))
        self.blocks.taken(run)
        for index in range(run.index, run.index + len(run.values)):
            del self.items[index]

    @rule(data=st.data(), count=st.integers(0, 7))
    def returned_what_is_not_out(self, data: st.DataObject, count: int) -> None:
        """Values for anything else are refused, and change nothing."""
        first = data.draw(st.integers(0, self.next + 1))
        whole = range(first, first + count)
        if count and self.out.issuperset(whole) and not set(self.starts) & set(whole[1:]):
            return
        with pytest.raises(WrongState):
            self.blocks.returned(first, [None] * count, 0.0, 0.0, "")

    @rule(data=st.data())
    def single_out_what_is_not_out(self, data: st.DataObject) -> None:
        """So is singling out what is not there."""
        index = data.draw(st.integers(0, self.next + 1))
        if index not in self.out:
            with pytest.raises(WrongState):
                self.blocks.single_out(index)

    @invariant()
    def what_is_out(self) -> None:
        """The blocks know it, and nothing else."""
        assert {index for index in range(self.next + 2) if self.blocks.is_out(index)} == self.out

    @invariant()
    def nothing_else_is_kept(self) -> None:
        """An item that was taken or singled out is not kept alive by its neighbours."""
        gone = [index for index, life in self.lives.items() if life() is None]
        assert set(self.lives) - set(gone) == set(self.items)
        for index in gone:
            del self.lives[index]
        assert {index for index, held in self.held.items() if held() is not None} == self.held.keys() & self.out


AnyOrder.TestCase.settings = settings(max_examples=60, stateful_step_count=40)
TestAnyOrder = AnyOrder.TestCase


class Items(list[Thing]):
    """The items of a block, whose life can be followed."""


def test_a_finished_block_is_forgotten() -> None:
    """Once all of its items are taken or single, nothing is left of it; others stay."""
    blocks = Blocks()
    items, others = Items(Thing() for _ in range(3)), Items(Thing() for _ in range(2))
    lives = weakref.ref(items), weakref.ref(others)
    single = items[2]
    blocks.add(0, items)
    blocks.add(3, others)
    del items, others
    blocks.taken(blocks.returned(0, ["a", "b"], 0.0, 0.0, ""))
    assert lives[0]() is not None
    assert blocks.single_out(2) == (single, None)
    assert lives[0]() is None and lives[1]() is not None
    assert not blocks.is_out(2) and blocks.is_out(3) and blocks.is_out(4)
    with pytest.raises(WrongState, match="item 2 is in no block"):
        blocks.single_out(2)
    with pytest.raises(WrongState, match="items 3 to 5 are not all out"):
        blocks.returned(3, ["a", "b", "c"], 0.0, 0.0, "")

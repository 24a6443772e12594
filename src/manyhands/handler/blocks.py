"""Items that are sent together and come back in runs, at a cost per run rather than per item. Pure.

Where nothing has to be decided for an item of its own, a list of items is one *block*: added and sent as a whole,
answered in *runs*, each the values of consecutive items. An item that does not simply return a value leaves its
block and is treated on its own.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from manyhands.handler.item import WrongState


@dataclass(frozen=True, slots=True)
class Run:
    """Consecutive items that returned values; their outcome is one thing until somebody asks for each.

    Attributes:
        index: the position of the first item in the input.
        items: the items.
        values: what they returned, one each.
        seconds: wall time that all but the last took, together, in their worker.
        last: wall time that the last one took; a slow call is always the last of its run.
        worker: the process that ran them.
        computed: whether the values had to be computed.
    """

    index: int
    items: Sequence[Any]
    values: list[Any]
    seconds: float
    last: float
    worker: str
    computed: bool = True


@dataclass(slots=True)
class _Block:
    start: int
    items: list[Any] | range
    held: list[Any] | None
    out: bytearray  # 1 for each item that is out
    pending: int  # items neither taken nor treated on their own


class Blocks:
    """The blocks of one stream that have items out or not taken."""

    def __init__(self) -> None:
        self._blocks: dict[int, _Block] = {}
        self._starts: list[int] = []

    def add(self, index: int, items: Sequence[Any], held: list[Any] | None = None) -> None:
        """A block is sent whose first item has this index.

        Args:
            index: of the first item.
            items: these.
            held: for each what is kept of it until it comes back; None: nothing.
        """
        kept = items if isinstance(items, list | range) else list(items)
        self._blocks[index] = _Block(index, kept, held, bytearray(b"\1") * len(items), len(items))
        insort(self._starts, index)

    def returned(self, index: int, values: list[Any], seconds: float, last: float, worker: str) -> Run:
        """These values came for the items from ``index`` on, which were out."""
        block, first = self._find(index)
        stop = first + len(values)
        if not values or stop > len(block.items) or block.out.count(1, first, stop) != len(values):
            raise WrongState(f"items {index} to {index + len(values) - 1} are not all out")
        block.out[first:stop] = bytes(len(values))
        if block.held is not None:
            block.held[first:stop] = [None] * len(values)
        return Run(index, block.items[first:stop], values, seconds, last, worker)

    def single_out(self, index: int) -> tuple[Any, Any]:
        """The item, which was out, is treated on its own from now on; returns it, and what was kept of it."""
        block, first = self._find(index)
        if not block.out[first]:
            raise WrongState(f"item {index} is not out")
        block.out[first] = 0
        item, held = block.items[first], None
        if block.held is not None:
            held, block.held[first] = block.held[first], None
        self._forget(block, first, 1)
        return item, held

    def is_out(self, index: int) -> bool:
        """Whether the item belongs to a block, and is out."""
        block = self._at(index)
        return block is not None and bool(block.out[index - block.start])

    def item(self, index: int) -> Any:
        """The item, which belongs to a block and is out."""
        block, first = self._find(index)
        return block.items[first]

    def taken(self, run: Run) -> None:
        """Nobody will ask for these items again."""
        block, first = self._find(run.index)
        self._forget(block, first, len(run.values))

    def _at(self, index: int) -> _Block | None:
        place = bisect_right(self._starts, index) - 1
        block = self._blocks[self._starts[place]] if place >= 0 else None
        return block if block is not None and index < block.start + len(block.items) else None

    def _find(self, index: int) -> tuple[_Block, int]:
        block = self._at(index)
        if block is None:
            raise WrongState(f"item {index} is in no block")
        return block, index - block.start

    def _forget(self, block: _Block, first: int, count: int) -> None:
        if isinstance(block.items, list):  # a range holds nothing that could be let go of
            block.items[first : first + count] = [None] * count  # a slow neighbour must not keep them alive
        block.pending -= count
        if not block.pending:
            del self._blocks[block.start]
            self._starts.remove(block.start)

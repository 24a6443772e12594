"""In which order the items of a sequence are gone after whose outputs others may be making too. Pure.

Of each item a walk knows a byte: so a finished output takes no place in a buffer. As long as nobody else is met, it
goes in the order of the sequence, so that results come at once. After that it goes in an order of its own: two who
share a list should not be after the same output at the same time.

Outcomes are taken in the order of the sequence or, unordered, as they end. The value of a finished output can be had at
any time, so none is kept that is not due soon; failures are. Once ``room`` outcomes are kept, only what comes before
them is gone after.
"""

from __future__ import annotations

import random
from array import array
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, Final

from manyhands.calls import Done
from manyhands.handler.item import WrongState
from manyhands.outcome import Attempt, Outcome

OPEN: Final = 0
"""Nothing is known of it."""
OUT: Final = 1
"""It is being gone after."""
LOADING: Final = 2
"""The same, and its value will come with the outcome."""
FOUND: Final = 3
"""Its output is there, by others, and it was not given out."""
MADE: Final = 4
"""The same, by this map."""
KEPT: Final = 5
"""Its outcome is kept."""
TAKEN: Final = 6
"""It was given out."""

RUN_MAX: Final = 256
"""Finished outputs that are given out together, at most."""


@dataclass(frozen=True, slots=True)
class Ready:
    """Finished outputs that are due, ``count`` of them from ``index`` on; what follows is of one that was made here."""

    index: int
    count: int = 1
    computed: bool = False
    attempts: tuple[Attempt, ...] = ()
    seconds: float = 0.0
    worker: str = ""


class Walk:
    """The state of one.

    Args:
        total: how many items there are.
        ordered: whether outcomes are taken in the order of the items.
        loads: whether the value of a finished output has to be loaded, by going after it once more.
        room: how many outcomes may be kept.
        shuffle: puts a list into a random order; None: by a generator of its own. The user's may be seeded alike in
            all processes, and is left alone.
    """

    def __init__(
        self,
        total: int,
        *,
        ordered: bool = True,
        loads: bool = False,
        room: int = 64,
        shuffle: Callable[[list[int]], None] | None = None,
    ) -> None:
        self.room = room
        self._ordered = ordered
        self._loads = loads
        self._shuffle = shuffle or random.Random().shuffle
        self._marks = bytearray(total)
        self._next = 0  # alone, no item before it is open
        self._own: list[int] | None = None  # what is left of an order of its own, the next one last
        self._due = 0  # ordered: the next to be taken; else no item before it is found
        self._taken = 0
        self._kept: dict[int, Outcome[Any]] = {}
        self._ended: deque[int] = deque()  # unordered: what is kept, in the order of ending
        self._notes = _Notes(total)

    # -- what others do ---------------------------------------------------------------------------------------

    @property
    def is_alone(self) -> bool:
        """Whether nobody else was met."""
        return self._own is None

    def meet(self) -> None:
        """Somebody else goes after the same outputs."""
        if self._own is None:
            self._own = self.open
            self._shuffle(self._own)

    @property
    def open(self) -> list[int]:
        """The items of which nothing is known."""
        marks = self._marks
        return [index for index in range(self._next, len(marks)) if marks[index] == OPEN]

    def found(self, finished: Iterable[int]) -> list[int]:
        """These outputs are there; returns those of which that was not known."""
        news = [index for index in finished if self._marks[index] == OPEN]
        for index in news:
            self._marks[index] = FOUND
        if news and not self._ordered:
            self._due = 0
        return news

    # -- out --------------------------------------------------------------------------------------------------

    def draw(self) -> int | None:
        """The item to go after next; None: there is none, or none as long as so much is kept."""
        index = self._finished_due() if self._loads else None
        if index is None:
            index = self._next_open()
        if index is None:
            return None
        near = not self._ordered or index < self._due + self.room
        self._marks[index] = LOADING if self._loads and near else OUT
        return index

    def brings_value(self, index: int) -> bool:
        """Whether the value of a finished output, which was drawn, is to come with its outcome."""
        return self._marks[index] == LOADING

    def _finished_due(self) -> int | None:
        """A finished output that is to be loaded by now."""
        if not self._ordered:
            return None if len(self._kept) >= self.room else self._find(FOUND, self._due)
        near = (self._find(mark, self._due, self._due + self.room) for mark in (FOUND, MADE))
        return min((index for index in near if index is not None), default=None)

    def _next_open(self) -> int | None:
        if len(self._kept) >= self.room:
            return self._find(OPEN, self._due, self._due + self.room) if self._ordered else None
        if self._own is None:
            index = self._find(OPEN, self._next)
            self._next = len(self._marks) if index is None else index + 1
            return index
        while self._own:
            index = self._own.pop()
            if self._marks[index] == OPEN:
                return index
        return None

    def _find(self, mark: int, first: int, stop: int | None = None) -> int | None:
        index = self._marks.find(mark, first, stop)
        return None if index < 0 else index

    # -- back -------------------------------------------------------------------------------------------------

    def was_there(self, index: int) -> None:
        """The output of an item that was drawn is there, by others; no value comes with it."""
        self._back(index)
        self._marks[index] = FOUND
        self._due = self._due if self._ordered else min(self._due, index)

    def ended(self, outcome: Outcome[Any]) -> None:
        """An item that was drawn has come to this."""
        index, result = outcome.index, outcome.result
        had_value = self._back(index) == LOADING
        at_any_time = isinstance(result, Done) and self._ordered and not had_value
        if at_any_time and (self._loads or index != self._due):
            computed = isinstance(result, Done) and result.computed
            self._marks[index] = MADE if computed else FOUND
            if computed:
                self._notes.take(outcome)
            return
        self._marks[index] = KEPT
        self._kept[index] = outcome if not had_value else self._notes.restored(outcome)
        if not self._ordered:
            self._ended.append(index)

    def _back(self, index: int) -> int:
        mark = self._marks[index]
        if mark not in (OUT, LOADING):
            raise WrongState(f"item {index} was not drawn: {self!r}")
        return mark

    # -- given out --------------------------------------------------------------------------------------------

    @property
    def finished(self) -> bool:
        """Whether all was taken."""
        return self._taken == len(self._marks)

    def take(self) -> Outcome[Any] | Ready | None:
        """What comes next, or None if that has not ended yet."""
        if self._ordered:
            index = self._due
        elif self._ended:
            index = self._ended.popleft()
        elif self._loads:
            return None
        else:
            found = self._find(FOUND, self._due)
            index = self._due = len(self._marks) if found is None else found
        mark = self._marks[index] if index < len(self._marks) else OPEN
        if mark == KEPT:
            self._give(index, 1)
            return self._kept.pop(index)
        if self._loads or mark not in (FOUND, MADE):
            return None
        if mark == MADE:
            self._give(index, 1)
            return self._notes.ready(index)
        stop = index + 1
        while stop < min(index + RUN_MAX, len(self._marks)) and self._marks[stop] == FOUND:
            stop += 1
        self._give(index, stop - index)
        return Ready(index, stop - index)

    def _give(self, index: int, count: int) -> None:
        self._marks[index : index + count] = bytes([TAKEN]) * count
        self._taken += count
        if self._ordered:
            self._due = index + count

    def __repr__(self) -> str:
        count = self._marks.count
        return (
            f"<Walk over {len(self._marks)} items: {count(OPEN)} open, {count(OUT) + count(LOADING)} drawn, "
            f"{count(FOUND)} found, {count(MADE)} made, {len(self._kept)} kept, {self._taken} taken>"
        )


class _Notes:
    """What it took to make outputs that are given out later."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._seconds = array("f")
        self._workers = array("L")
        self._numbers: dict[str, int] = {"": 0}
        self._names = [""]
        self._attempts: dict[int, tuple[Attempt, ...]] = {}

    def take(self, outcome: Outcome[Any]) -> None:
        """Notes it."""
        if not self._seconds:
            self._seconds = array("f", bytes(4)) * self._total
            self._workers = array("L", bytes(array("L").itemsize)) * self._total
        self._seconds[outcome.index] = outcome.seconds
        number = self._numbers.setdefault(outcome.worker, len(self._names))
        if number == len(self._names):
            self._names.append(outcome.worker)
        self._workers[outcome.index] = number
        if outcome.attempts:
            self._attempts[outcome.index] = outcome.attempts

    def ready(self, index: int) -> Ready:
        """What was noted."""
        worker = self._names[self._workers[index]]
        return Ready(index, 1, True, self._attempts.pop(index, ()), self._seconds[index], worker)

    def restored(self, outcome: Outcome[Any]) -> Outcome[Any]:
        """The outcome of having loaded an output, with what it took to make it, if it was made here."""
        if not self._seconds or not isinstance(outcome.result, Done) or outcome.result.computed:
            return outcome
        made = self.ready(outcome.index)
        if not made.worker:
            return outcome
        result = outcome.result._replace(computed=True)
        return replace(outcome, result=result, attempts=made.attempts, seconds=made.seconds, worker=made.worker)

"""The walk over a sequence of claimed items, against a model; and its pump, over outputs that others make too."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from manyhands.calls import Done
from manyhands.handler.item import WrongState
from manyhands.handler.walk import Ready, Walk
from manyhands.outcome import Attempt, Failure, Outcome

FAILED = (Attempt("OSError", "once", 0.5, "host:1"),)


def made(index: int, value: Any = None, *, attempts: tuple[Attempt, ...] = ()) -> Outcome[Any]:
    """An item was computed here, in a worker of its own number."""
    return Outcome(index, f"item {index}", Done(value), attempts, float(index), f"host:{index}")


def failed(index: int) -> Outcome[Any]:
    """An item has failed."""
    error = ValueError(index)
    return Outcome(index, f"item {index}", Failure(error, index, f"item {index}"), (), 1.0, "host:1")


class Walks(RuleBasedStateMachine):
    """Any order of drawing, ending, finding, meeting others and taking."""

    @initialize(total=st.integers(0, 30), ordered=st.booleans(), loads=st.booleans(), room=st.integers(1, 5))
    def begin(self, total: int, ordered: bool, loads: bool, room: int) -> None:
        self.total, self.ordered, self.loads, self.room = total, ordered, loads, room
        self.walk = Walk(total, ordered=ordered, loads=loads, room=room, shuffle=list.reverse)
        self.out: list[int] = []
        self.computed: dict[int, Outcome[Any]] = {}
        self.there: set[int] = set()
        self.ended: dict[int, Outcome[Any]] = {}
        self.given: list[int] = []
        self.drawn: list[int] = []

    def begin_is_over(self) -> bool:
        """Whether ``begin`` was."""
        return hasattr(self, "walk")

    @rule()
    def draw(self) -> None:
        index = self.walk.draw()
        if index is None:
            return
        assert index not in self.out
        assert index not in self.given
        assert index not in self.ended
        if index in self.there or index in self.computed:
            assert self.loads
            assert self.walk.brings_value(index)
        else:
            assert index not in self.drawn
            self.drawn.append(index)
        if not self.loads:
            assert not self.walk.brings_value(index)
        self.out.append(index)

    @precondition(lambda self: self.out)
    @rule(data=st.data(), kind=st.sampled_from(["made", "retried", "failed", "by others", "there"]))
    def end(self, data: st.DataObject, kind: str) -> None:
        index = self.out.pop(data.draw(st.integers(0, len(self.out) - 1)))
        with_value = self.walk.brings_value(index)
        is_known = index in self.there or index in self.computed
        if kind == "there" and not with_value:
            self.there.add(index)
            self.walk.was_there(index)
            return
        outcome = failed(index) if kind == "failed" else made(index, with_value or None)
        if kind == "retried" and not is_known:
            outcome = replace(outcome, attempts=FAILED)
        if kind in ("by others", "there") or (is_known and kind != "failed"):
            outcome = Outcome(index, f"item {index}", Done(with_value or None, computed=False))
            self.there.add(index)
        elif kind != "failed":
            self.computed[index] = outcome
        if kind == "failed" or with_value or (not self.loads and not self.ordered):
            self.ended[index] = outcome
        self.walk.ended(outcome)

    @rule(data=st.data())
    def find(self, data: st.DataObject) -> None:
        some = data.draw(st.sets(st.integers(0, self.total - 1))) if self.total else set()
        open_ = some & set(self.walk.open)
        assert self.walk.found(sorted(some)) == sorted(open_)
        self.there |= open_

    @rule()
    def meet(self) -> None:
        self.walk.meet()
        assert not self.walk.is_alone

    @rule()
    def take(self) -> None:
        self.took(self.walk.take())

    def took(self, taken: Outcome[Any] | Ready | None) -> bool:
        """Checks it; returns whether there was one."""
        if taken is None:
            return False
        if isinstance(taken, Outcome):
            self.given.append(taken.index)
            if taken.index in self.computed and taken.ok:
                told = self.computed[taken.index]
                assert (taken.attempts, taken.seconds, taken.worker) == (
                    told.attempts,
                    told.seconds,
                    told.worker,
                )
                assert taken.result._replace(value=None) == Done(None)  # type: ignore[union-attr]
            if self.loads and taken.ok:
                assert taken.value is True
            return True
        assert not self.loads
        assert taken.count >= 1
        for index in range(taken.index, taken.index + taken.count):
            self.given.append(index)
            assert (index in self.computed) == taken.computed
        if taken.computed:
            told = self.computed[taken.index]
            assert (taken.count, taken.attempts) == (1, told.attempts)
            assert (taken.seconds, taken.worker) == (told.seconds, told.worker)
        return True

    @precondition(begin_is_over)
    @invariant()
    def nothing_twice(self) -> None:
        assert len(set(self.given)) == len(self.given)
        if self.ordered:
            assert self.given == list(range(len(self.given)))
        assert self.walk.finished == (len(self.given) == self.total)

    @precondition(begin_is_over)
    @invariant()
    def little_is_kept(self) -> None:
        assert len(self.walk._kept) <= self.room + self.room + len(self.drawn)

    def teardown(self) -> None:
        if not self.begin_is_over():
            return
        while not self.walk.finished:
            took = self.took(self.walk.take())
            index = self.walk.draw()
            if index is not None:
                self.out.append(index)
            assert took or self.out, repr(self.walk)
            while self.out:
                index = self.out.pop()
                with_value = self.walk.brings_value(index)
                result = Done(
                    with_value or None, computed=index not in self.computed and index not in self.there
                )
                if result.computed:
                    self.computed[index] = made(index)
                self.walk.ended(replace(made(index), result=result))
        assert sorted(self.given) == list(range(self.total))


TestWalks = Walks.TestCase


@given(st.integers(0, 40), st.sets(st.integers(0, 39)))
def test_alone_it_goes_in_order(total: int, there: set[int]) -> None:
    """What is not there is gone after in the order of the items, once each."""
    walk = Walk(total)
    walk.found(sorted(index for index in there if index < total))
    drawn = []
    while (index := walk.draw()) is not None:
        drawn.append(index)
    assert drawn == [index for index in range(total) if index not in there]


def test_who_meets_others_goes_in_an_order_of_its_own() -> None:
    """Once each, all that is left."""
    walk = Walk(100)
    first = [walk.draw() for _ in range(10)]
    walk.meet()
    rest = [walk.draw() for _ in range(90)]
    assert first == list(range(10))
    assert rest != list(range(10, 100))
    assert sorted(rest) == list(range(10, 100))  # type: ignore[type-var]
    assert walk.draw() is None
    another = Walk(100)
    another.meet()
    assert [index for _ in range(100) if (index := another.draw()) in rest] != rest


def test_processes_that_are_seeded_alike_have_orders_of_their_own() -> None:
    """And what the user draws next is what it would have been."""
    orders = []
    for _ in range(2):
        random.seed(7)
        walk = Walk(50)
        walk.meet()
        orders.append([walk.draw() for _ in range(50)])
        drawn = random.random()
        random.seed(7)
        assert drawn == random.random()
    assert orders[0] != orders[1]


def test_what_is_far_ahead_comes_without_its_value() -> None:
    """It would have to be kept; it is loaded when it is nearly due."""
    walk = Walk(20, loads=True, room=3, shuffle=lambda _: None)
    walk.meet()
    drawn = [(index, walk.brings_value(index)) for _ in range(20) if (index := walk.draw()) is not None]
    assert drawn == [(index, index < 3) for index in reversed(range(20))]
    walk.ended(made(19))
    assert walk.draw() is None
    for index in range(17):
        walk.ended(made(index, "value" if index < 3 else None))
        assert (walk.take() is not None) == (index < 3)
    assert [walk.draw(), walk.draw(), walk.draw(), walk.draw()] == [3, 4, 5, None]
    assert walk.brings_value(3)


def test_no_more_than_room_is_kept_far_ahead() -> None:
    """With failures that can't be given out yet, only what holds them up is gone after."""
    walk = Walk(100, room=3)
    held_up = walk.draw()
    assert held_up == 0
    drawn = 0
    while (index := walk.draw()) is not None:
        walk.ended(failed(index))
        drawn += 1
    assert drawn == 3
    assert walk.take() is None
    walk.ended(made(0))
    assert [walk.take() is not None for _ in range(5)] == [True] * 4 + [False]
    assert walk.draw() == 4


def test_finished_outputs_cost_nothing_to_keep() -> None:
    """However slow the first item is, all others are gone after, and given out after it."""
    walk = Walk(10_000, room=3)
    assert walk.draw() == 0
    while (index := walk.draw()) is not None:
        walk.ended(made(index))
    assert walk.take() is None
    assert len(walk._kept) == 0
    walk.ended(made(0))
    taken = [walk.take() for _ in range(10_000)]
    assert [told.index for told in taken if told is not None] == list(range(10_000))
    assert walk.finished


def test_what_was_found_is_given_out_together() -> None:
    """In runs, between what was made here."""
    walk = Walk(6)
    walk.found([1, 2, 3, 5])
    for index in (walk.draw(), walk.draw()):
        assert index is not None
        walk.ended(made(index))
    assert isinstance(walk.take(), Outcome)
    assert walk.take() == Ready(1, 3)
    assert walk.take() == Ready(4, 1, True, (), 4.0, "host:4")
    assert walk.take() == Ready(5, 1)


def test_what_is_found_later_is_given_out_too() -> None:
    """Unordered, wherever it is, once each."""
    walk = Walk(4, ordered=False)
    walk.found([3])
    assert walk.take() == Ready(3)
    walk.found([1, 2])
    assert [walk.take(), walk.take()] == [Ready(1, 2), None]
    assert walk.draw() == 0
    walk.was_there(0)
    assert [walk.take(), walk.finished] == [Ready(0), True]


def test_what_was_not_drawn_can_not_end() -> None:
    """That would be a mistake of the pump's."""
    with pytest.raises(WrongState, match="item 1 was not drawn"):
        Walk(3).ended(made(1))

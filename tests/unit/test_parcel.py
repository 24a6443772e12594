"""Parcels: which values travel together, and that each arrives as if it had travelled alone."""

from __future__ import annotations

import pickle
from enum import IntEnum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manyhands.controller.parcels import Parcel, atomic
from manyhands.workers.parcel import ATOMS, EACH, ONE, unpack

atoms = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.complex_numbers(allow_nan=False)
    | st.text(st.characters(exclude_categories=[]), max_size=5)
    | st.binary(max_size=5)
)
rows = st.lists(atoms, max_size=4).map(tuple)
others = (
    st.lists(st.integers(), max_size=3)
    | st.dictionaries(st.text(max_size=3), st.integers(), max_size=3)
    | st.sets(st.integers(), max_size=3)
    | st.tuples(st.lists(st.integers(), max_size=3))
    | st.tuples(st.tuples(st.integers()))
)


class Number(int):
    """Of a user: it may have any code of its own."""


class Colour(IntEnum):
    """The same."""

    RED = 1


@given(st.lists(atoms) | st.lists(rows))
def test_plain_values_travel_together(values: list[Any]) -> None:
    """Numbers, texts and the like do, and so do tuples of them."""
    assert atomic(values)


@given(st.lists(atoms | rows), others, st.data())
def test_one_other_value_and_all_travel_by_themselves(
    values: list[Any], other: Any, data: st.DataObject
) -> None:
    """Whatever can be changed, or holds what can be, is not plain, wherever it stands."""
    values.insert(data.draw(st.integers(0, len(values))), other)
    assert not atomic(values)


@pytest.mark.parametrize("value", [Number(1), Colour.RED, object(), int, len, bytearray(b"a"), frozenset([1])])
def test_what_may_run_code_of_a_user_is_not_plain(value: Any) -> None:
    """Not even a subclass of a number, alone or in a tuple."""
    assert not atomic([1, value])
    assert not atomic([(1, 2), (1, value)])


@given(st.lists(atoms, min_size=1), st.data())
def test_pieces_of_plain_values(values: list[Any], data: st.DataObject) -> None:
    """Any piece holds its values and no others."""
    parcel = Parcel(values, ATOMS)
    assert len(parcel) == len(values)
    begin = data.draw(st.integers(0, len(values) - 1))
    end = data.draw(st.integers(begin + 1, len(values)))
    form, body = parcel.piece(begin, end)
    assert form == ATOMS
    got, pickled = unpack(form, body)
    assert got == values[begin:end] and not pickled
    assert list(map(type, got)) == list(map(type, values[begin:end]))


@given(st.lists(atoms | rows | others, min_size=1), st.data())
def test_pieces_of_any_values(values: list[Any], data: st.DataObject) -> None:
    """Any piece holds the pickles of its values and no others; a single one is not packed twice."""
    pickles = [pickle.dumps(value, protocol=5) for value in values]
    parcel = Parcel(pickles, EACH)
    begin = data.draw(st.integers(0, len(values) - 1))
    end = data.draw(st.integers(begin + 1, len(values)))
    form, body = parcel.piece(begin, end)
    assert form == (ONE if end == begin + 1 else EACH)
    got, pickled = unpack(form, bytearray(body))
    assert pickled
    assert [pickle.loads(blob) for blob in got] == values[begin:end]
    assert form == EACH or body is pickles[begin]


def test_values_that_travelled_together_share_nothing() -> None:
    """Who changes one of them afterwards does not change another."""
    shared = [1]
    parcel = Parcel([pickle.dumps(shared), pickle.dumps((shared,))], EACH)
    got, _ = unpack(*parcel.piece(0, 2))
    first, (second,) = map(pickle.loads, got)
    first.append(2)
    assert second == [1]


def test_a_value_that_can_not_be_loaded_harms_no_other() -> None:
    """Its pickle arrives like any, and only who loads it hears of it."""
    got, _ = unpack(*Parcel([pickle.dumps(1), b"no pickle", pickle.dumps(3)], EACH).piece(0, 3))
    assert got[1] == b"no pickle"
    assert pickle.loads(got[2]) == 3

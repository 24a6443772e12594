"""Large values: their buffers stay where they are when they are pickled, and what is read again is the same."""

from __future__ import annotations

import array
import os
import pickle
import sys
import types
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from manyhands.controller.parcels import Parcel, atomic, is_long
from manyhands.memory.bank import Bank, Stored
from manyhands.memory.places import layout
from manyhands.workers import payload
from manyhands.workers.parcel import EACH, ONE, STORED, unpack
from manyhands.workers.payload import LARGE, Large, dumps, loads, loads_parts, packed, whole

SMALL = 16
"""From so many bytes on, buffers are large here."""


@pytest.fixture(scope="module", autouse=True)
def small_is_large() -> Iterator[None]:
    """Small data is treated as large data is, and whether any was seen does not matter to other tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(payload, "LARGE", SMALL)
        patch.setattr(payload, "_has_seen_large", payload._has_seen_large)
        yield


def large_buffers(value: object) -> int:
    """How many of the buffers that pickle finds in a value are large; some types of arrays do without."""
    buffers: list[pickle.PickleBuffer] = []
    pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
    return sum(buffer.raw().nbytes >= SMALL for buffer in buffers)


def pieces_of(large: Large) -> list[memoryview]:
    """All that is to be copied, one after the other."""
    return [piece for part in large.parts for piece in (part if isinstance(part, list) else [part])]


class Exporter:
    """Gives its memory to pickle, as libraries with memory of their own do."""

    def __init__(self, memory: Any) -> None:
        self.memory = memory

    def __reduce_ex__(self, protocol: Any) -> Any:
        return Exporter, (pickle.PickleBuffer(self.memory),)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Exporter)
            and bytes(self.memory) == bytes(other.memory)
            and memoryview(self.memory).readonly == memoryview(other.memory).readonly
        )

    __hash__ = None  # type: ignore[assignment]


@dataclass(eq=False)
class Pair:
    """A user's class."""

    first: Any
    second: Any


SCALARS = npst.scalar_dtypes()
DTYPES = (
    SCALARS
    | npst.datetime64_dtypes()
    | npst.timedelta64_dtypes()
    | npst.unicode_string_dtypes()
    | npst.byte_string_dtypes()
    | npst.array_dtypes(SCALARS)
    | st.just(np.dtype(object))
)


@st.composite
def arrays(draw: st.DrawFn) -> np.ndarray:
    """Of any type and layout."""
    dtype = draw(DTYPES)
    shape = draw(npst.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=6))
    if dtype.hasobject:
        made = draw(
            npst.arrays(dtype, shape, elements=st.none() | st.integers() | st.text(max_size=3), fill=st.none())
        )
    else:
        made = np.frombuffer(
            draw(st.randoms(use_true_random=False)).randbytes(dtype.itemsize * int(np.prod(shape)))
            if dtype.itemsize and np.prod(shape)
            else b"",
            np.uint8,
        )
        # Bytes of any kind are valid but for those of text.
        made = (
            np.zeros(shape, dtype)
            if not made.size
            or dtype.kind in "US"
            or (dtype.names and any(dtype[name].kind in "US" for name in dtype.names))
            else made.view(dtype).reshape(shape).copy()
            if dtype.subdtype is None
            else np.zeros(shape, dtype)
        )
    if draw(st.booleans()):
        made = np.asfortranarray(made)
    if draw(st.booleans()):
        made = made.T
    for axis in range(made.ndim):
        step = draw(st.sampled_from([1, 1, 1, 2, -1]))
        made = made[(slice(None),) * axis + (slice(None, None, step),)]
    if draw(st.booleans()):
        made.flags.writeable = False
    return made


memories = st.one_of(
    st.binary(max_size=60),
    st.binary(max_size=60).map(bytearray),
    st.binary(max_size=60).map(lambda data: array.array("B", data)),
    st.lists(st.integers(-9, 9), max_size=20).map(lambda numbers: array.array("i", numbers)),
)
leaves = arrays() | memories | memories.map(Exporter) | st.integers() | st.text(max_size=40)
values = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=3), inner, max_size=3)
        | st.builds(Pair, inner, inner)
    ),
    max_leaves=4,
)


def same(one: Any, other: Any) -> bool:
    """Whether nobody could tell one value from the other."""
    if type(one) is not type(other):
        return False
    if isinstance(one, np.ndarray):
        flags: Any = ("C_CONTIGUOUS", "F_CONTIGUOUS", "WRITEABLE")
        if (one.dtype, one.shape) != (other.dtype, other.shape) or any(
            one.flags[f] != other.flags[f] for f in flags
        ):
            return False
        return one.tolist() == other.tolist() if one.dtype.hasobject else one.tobytes() == other.tobytes()
    if isinstance(one, Pair):
        return same(one.first, other.first) and same(one.second, other.second)
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def through_memory(large: Large) -> Any:
    """The value as it is seen where its parts were copied to, as writable as they were."""
    bank = Bank(1 << 22)
    stored = bank.store(large.parts)
    assert stored is not None
    offsets, _ = layout(stored.place.lengths)
    descriptor, _ = bank.descriptor(stored.place.segment)
    memory = memoryview(bytearray(os.pread(descriptor, stored.place.size, stored.place.offset)))
    bank.close()
    return loads_parts(
        [memory[at : at + length] for at, length in zip(offsets, stored.place.lengths, strict=True)]
    )


@settings(max_examples=200)
@given(values, st.booleans())
def test_values_round_trip(value: Any, seen: bool) -> None:
    """Whichever way a value goes, and whatever went before, it comes back as from one plain pickle."""
    payload._has_seen_large = seen
    expected = pickle.loads(pickle.dumps(value, protocol=5))
    sent = packed(value)
    if isinstance(sent, bytes):
        assert same(loads(sent), expected) and len(sent) < SMALL
        return
    assert isinstance(sent, Large)
    assert all(part.contiguous and part.ndim == 1 and part.itemsize == 1 for part in pieces_of(sent))
    assert len(sent.parts) == 1 + large_buffers(value)
    assert all(part.nbytes >= SMALL for part in sent.parts[1:])
    assert same(loads_parts(sent.parts), expected)
    assert same(through_memory(sent), expected)
    assert same(loads(whole(sent)), expected)
    assert same(loads(dumps(value)), expected)


@settings(max_examples=50)
@given(arrays())
def test_closures_and_what_they_hold(made: np.ndarray) -> None:
    """What goes by value has its buffers left where they are, each once."""
    sent = packed([lambda: made] * 2)
    plain = pickle.loads(pickle.dumps(made, protocol=5))
    assert isinstance(sent, Large) and len(sent.parts) == 1 + large_buffers(made)
    for back in (loads_parts(sent.parts), through_memory(sent), loads(whole(sent))):
        assert same(back[0](), plain) and back[0] is back[1]


@settings(max_examples=50)
@given(st.lists(arrays(), max_size=3), st.booleans())
def test_a_second_attempt_begins_anew(made: list[np.ndarray], seen: bool) -> None:
    """Where pickling by name fails midway, or its result is not to be used, no buffer is there twice."""
    payload._has_seen_large = seen
    many = [*made, np.arange(SMALL)]
    large = large_buffers(many)
    for last in (lambda: 0, "__main__", "__mp_main__"):
        sent = packed([*many, last])
        assert isinstance(sent, Large) and len(sent.parts) == 1 + large
        back = loads_parts(sent.parts)
        assert same(back[:-1], [pickle.loads(pickle.dumps(each, protocol=5)) for each in many])


@pytest.mark.parametrize("seen", [False, True])
def test_pieces_of_a_first_attempt_are_gone(monkeypatch: pytest.MonkeyPatch, seen: bool) -> None:
    """Even those that were handed over before it failed."""
    monkeypatch.setattr(payload, "LARGE", LARGE)
    payload._has_seen_large = seen
    made = np.arange(LARGE)
    sent = packed([b"a" * (2 * LARGE), made, lambda: 5, b"b"])
    assert isinstance(sent, Large) and len(sent.parts) == 2
    for back in (loads_parts(sent.parts), through_memory(sent), loads(whole(sent))):
        assert (back[0], back[2](), back[3]) == (b"a" * (2 * LARGE), 5, b"b") and same(back[1], made)


SCRIPT = """
import numpy as np
from dataclasses import dataclass

TABLE = np.arange(20)

@dataclass
class Held:
    data: object

def function(n):
    return TABLE[n]
"""


def test_a_script_goes_by_value(monkeypatch: pytest.MonkeyPatch) -> None:
    """Functions of a script with the arrays that they use, and values of its classes."""
    main = types.ModuleType("__main__")
    monkeypatch.setitem(sys.modules, "__main__", main)
    exec(SCRIPT, main.__dict__)
    function, held = packed(main.function), packed(main.Held(main.TABLE))
    monkeypatch.setitem(sys.modules, "__main__", types.ModuleType("__main__"))
    for large in (function, held):
        assert isinstance(large, Large) and len(large.parts) == 2 and large.parts[1].nbytes == main.TABLE.nbytes
    assert loads_parts(function.parts)(7) == loads(whole(function))(7) == 7
    assert (loads_parts(held.parts).data == main.TABLE).all()
    assert (loads(whole(held)).data == main.TABLE).all()


def test_buffers_are_not_copied() -> None:
    """They lie where they lay, even those of several arrays in one value; an array that is there twice goes once."""
    one, two = np.arange(10), np.zeros((5, 6), order="F")
    sent = packed({"a": one, "b": (two, one)})
    assert isinstance(sent, Large) and len(sent.parts) == 3
    for part, made in zip(sent.parts[1:], (one, two), strict=True):
        assert np.shares_memory(np.frombuffer(part, np.uint8), made) and part.nbytes == made.nbytes
    back = loads_parts(sent.parts)
    assert back["a"] is back["b"][1] and np.shares_memory(back["a"], one)


@pytest.mark.parametrize("size", [SMALL - 1, SMALL, SMALL + 1])
def test_what_is_large(size: int) -> None:
    """Buffers of so many bytes are, and smaller ones go with the pickle."""
    sent = packed(np.zeros(size, np.uint8))
    assert isinstance(sent, Large) and len(sent.parts) == (2 if size >= SMALL else 1)


@pytest.mark.parametrize("seen", [False, True])
def test_pickles_may_be_large(monkeypatch: pytest.MonkeyPatch, seen: bool) -> None:
    """One without buffers is, too, in one piece or in some."""
    monkeypatch.setattr(payload, "LARGE", LARGE)
    for text in ("a" * LARGE, b"a" * LARGE, [b"a" * LARGE, 1, b"b" * LARGE], bytearray(LARGE)):
        payload._has_seen_large = seen
        sent = packed(text)
        assert isinstance(sent, Large) and len(sent.parts) == 1 and payload._has_seen_large
        assert sum(piece.nbytes for piece in pieces_of(sent)) >= LARGE
        assert loads(whole(sent)) == loads_parts(sent.parts) == through_memory(sent) == text
    assert type(packed("a" * (LARGE // 2))) is bytes and loads(packed("a" * 100)) == "a" * 100


def test_long_texts_travel_alone() -> None:
    """Those that are large by themselves, and no others."""
    text = "a" * LARGE
    assert is_long(text) and is_long(text.encode()) and not is_long(text[1:]) and not is_long(bytearray(LARGE))
    assert atomic(["a", 1]) and not atomic([text, 1]) and not atomic([(1, text)]) and atomic([(1, text[1:])])


def test_what_is_read_only_stays_so() -> None:
    """An array that lies in memory that may not be written to can't be."""
    sent = packed(np.arange(10))
    assert isinstance(sent, Large)
    back = loads_parts([part.toreadonly() for part in sent.parts])
    assert not back.flags.writeable and back.tolist() == list(range(10))
    with pytest.raises(ValueError, match="read-only"):
        back[0] = 1
    assert not loads(whole(Large([part.toreadonly() for part in sent.parts]))).flags.writeable


def test_what_can_not_be_pickled_raises() -> None:
    """The caller hears why, whatever was packed before."""
    with pytest.raises(TypeError, match="generator"):
        packed([np.arange(100), (number for number in ())])


# -- parcels ----------------------------------------------------------------------------------------------------


@settings(max_examples=50)
@given(st.lists(st.tuples(arrays(), st.booleans()), min_size=1, max_size=6), st.data())
def test_pieces_with_stored_values(drawn: list[tuple[np.ndarray, bool]], data: st.DataObject) -> None:
    """Any piece holds its values and no others: pickles, and the places of those that are stored."""
    bank = Bank(1 << 20)
    made: list[Any] = []
    for value, in_memory in drawn:
        sent = packed(value)
        blob = sent if isinstance(sent, bytes) else whole(sent)
        stored = bank.store([memoryview(blob)]) if in_memory else None
        made.append(stored or blob)
    parcel = Parcel(made, STORED)
    assert len(parcel) == len(made)
    begin = data.draw(st.integers(0, len(made) - 1))
    end = data.draw(st.integers(begin + 1, len(made)))
    lie = [position for position in range(begin, end) if isinstance(made[position], Stored)]
    assert list(parcel.stored(begin, end)) == [(position, made[position]) for position in lie]
    form, body = parcel.piece(begin, end)
    assert form == (STORED if lie else EACH)
    got, pickled = unpack(form, bytearray(body))
    assert pickled
    assert got == [value.place if isinstance(value, Stored) else value for value in made[begin:end]]
    assert bank.used == sum(isinstance(value, Stored) for value in made)
    bank.close()


def test_only_parcels_of_stored_values_have_such() -> None:
    """Another has none, and a single pickle is not packed twice."""
    parcel = Parcel([b"one", b"two"], EACH)
    assert list(parcel.stored(0, 2)) == [] and parcel.piece(0, 1) == (ONE, b"one")

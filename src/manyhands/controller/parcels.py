"""Values that wait to be sent to a worker, and that may lie in shared memory meanwhile."""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any, Final

from manyhands.memory.bank import Stored
from manyhands.workers.parcel import ATOMIC, EACH, ONE, STORED
from manyhands.workers.payload import LARGE

_LONG: Final = frozenset({str, bytes})


def atomic(values: Sequence[Any]) -> bool:
    """Whether the values may travel as one pickle: none runs a user's code, all are immutable, and none is large."""
    try:
        kinds = set(map(type, values))
        if kinds == {tuple}:
            kinds = set(map(type, chain.from_iterable(values)))
            long = not kinds.isdisjoint(_LONG) and any(map(is_long, chain.from_iterable(values)))
        else:
            long = not kinds.isdisjoint(_LONG) and any(map(is_long, values))
        return kinds <= ATOMIC and not long
    except (
        Exception,
        SystemExit,
    ):  # a metaclass of the user's, which may do anything when it is asked for its hash
        return False


def is_long(value: Any) -> bool:
    """Whether it is a text or a byte string that is large by itself."""
    return type(value) in _LONG and len(value) >= LARGE


class Parcel:
    """Values that wait to be sent, in pieces of any size; to make a piece runs no code of the user's.

    Args:
        values: of ``ATOMS``, the values; of ``EACH``, their pickles; of ``STORED``, some lie in shared memory.
        form: one of the three.
    """

    __slots__ = ("_form", "_values")

    def __init__(self, values: Sequence[Any], form: int) -> None:
        self._values = values
        self._form = form

    def __len__(self) -> int:
        return len(self._values)

    def piece(self, begin: int, end: int) -> tuple[int, bytes]:
        """Form and body of some of the values."""
        if self._form == EACH and end - begin == 1:
            return ONE, self._values[begin]
        values = self._values[begin:end]
        if self._form == STORED:
            if any(type(value) is Stored for value in values):
                return STORED, pickle.dumps(
                    [value.place if type(value) is Stored else value for value in values], protocol=5
                )
            return EACH, pickle.dumps(values, protocol=5)
        return self._form, pickle.dumps(values, protocol=5)

    def stored(self, begin: int, end: int) -> Iterator[tuple[int, Stored]]:
        """Positions of those of the values that lie in shared memory, and where."""
        if self._form == STORED:
            for position in range(begin, end):
                if isinstance(value := self._values[position], Stored):
                    yield position, value

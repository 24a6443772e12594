"""Many values in one body: together where that can't be told from one by one, else each pickled on its own.

Numbers, texts and the like, and tuples of them, go as one pickle, which costs some ten nanoseconds each. Anything
else is pickled by itself: so one value that can't be pickled, or not be unpickled, harms no other, and two values
that share a mutable part do not share it afterwards just because they travelled together.
"""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from itertools import chain
from typing import Any, Final

ATOMS: Final = 0
"""The body is the pickle of a list of values, or of a range."""
EACH: Final = 1
"""The body is the pickle of a list of pickles."""
ONE: Final = 2
"""The body is the pickle of a single value."""

ATOMIC: Final = frozenset({int, float, complex, str, bytes, bool, type(None)})
"""Types whose values run no code of the user's when they are pickled, and never change."""


def atomic(values: Sequence[Any]) -> bool:
    """Whether the values may travel as one pickle: none runs a user's code, and all are immutable."""
    try:
        kinds = set(map(type, values))
        return kinds <= ATOMIC or (kinds == {tuple} and set(map(type, chain.from_iterable(values))) <= ATOMIC)
    except (
        Exception,
        SystemExit,
    ):  # a metaclass of the user's, which may do anything when it is asked for its hash
        return False


class Parcel:
    """Values that wait to be sent, in pieces of any size; to make a piece runs no code of the user's.

    Args:
        values: of ``ATOMS``, the values; of ``EACH``, their pickles.
        form: one of the two.
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
        return self._form, pickle.dumps(self._values[begin:end], protocol=5)


def unpack(form: int, body: bytes | bytearray) -> tuple[Any, bool]:
    """The values of a body, a list or a range, and whether each is a pickle still."""
    if form == ONE:
        return [body], True
    return pickle.loads(body), form == EACH

"""Many values in one body: together where that can't be told from one by one, else each pickled on its own.

Numbers, texts and the like, and tuples of them, go as one pickle, which costs some ten nanoseconds each. Anything
else is pickled by itself: so one value that can't be pickled, or not be unpickled, harms no other, and two values
that share a mutable part do not share it afterwards just because they travelled together.
"""

from __future__ import annotations

import pickle
from typing import Any, Final

ATOMS: Final = 0
"""The body is the pickle of a list of values, or of a range."""
EACH: Final = 1
"""The body is the pickle of a list of pickles."""
ONE: Final = 2
"""The body is the pickle of a single value."""
STORED: Final = 3
"""The body is the pickle of a list of pickles, and of places in shared memory where such lie."""

ATOMIC: Final = frozenset({int, float, complex, str, bytes, bool, type(None)})
"""Types whose values run no code of the user's when they are pickled, and never change."""


def unpack(form: int, body: bytes | bytearray) -> tuple[Any, bool]:
    """The values of a body, a list or a range, and whether each is a pickle still."""
    if form == ONE:
        return [body], True
    return pickle.loads(body), form != ATOMS

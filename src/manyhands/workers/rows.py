"""The work of ``map_blocks``: a function over some rows of arrays, in blocks that stay in the cache.

numpy is imported by who uses arrays, not by this module.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from manyhands.calls import add_note, qualified_name
from manyhands.errors import InvalidResult

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Canvas:
    """The result, to be filled in row by row.

    Args:
        array: the result itself, or a view of the memory that it lies in.
        segment: the number of that memory, through which another process finds it; None: it stays in this one.
    """

    def __init__(self, array: NDArray[Any], segment: int | None = None) -> None:
        self.array = array
        self._segment = segment

    def __reduce__(self) -> Any:
        assert self._segment is not None, "it stays in its process"
        return _found, (self._segment, self.array.shape, self.array.dtype)


def _found(segment: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Canvas:
    """In a worker: the canvas of its parent."""
    from manyhands.workers import shared

    assert shared.of_this_process is not None
    return Canvas(on_memory(shared.of_this_process.memory(segment), shape, dtype), segment)


def on_memory(memory: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """An array on a buffer that is large enough."""
    import numpy as np

    return np.ndarray(shape, dtype, buffer=memory)


class Blocks:
    """Calls a function with blocks of a span of rows.

    Args:
        function: takes as many arrays as there are inputs, and returns an array with as many rows.
        name: its name, for messages.
        rows: of a block.
        args, kwargs: what the function gets after the arrays.
        canvas: where its results go; None: they are returned.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        name: str,
        rows: int,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        canvas: Canvas | None = None,
    ) -> None:
        self._function = function
        self._name = name
        self._rows = rows
        self._args = args
        self._kwargs = kwargs
        self._canvas = canvas
        self.__name__ = self.__qualname__ = name  # what messages of the map say

    def __call__(self, start: int, *inputs: NDArray[Any]) -> Any:
        """The function over the rows from ``start`` on; returns how many these are, or their results."""
        import numpy as np

        length = len(inputs[0])
        pieces = []
        for at in range(0, max(length, 1), self._rows):
            stop = min(at + self._rows, length)
            try:
                piece = self._function(*[rows[at:stop] for rows in inputs], *self._args, **self._kwargs)
            except Exception as error:
                if length > self._rows:  # else the map says that
                    add_note(error, f"in {self._name}, the block of rows {start + at} to {start + stop}")
                raise
            if self._canvas is None:
                pieces.append(np.ascontiguousarray(self._checked(piece, start + at, start + stop)))
            else:
                self._put(piece, start + at, start + stop, self._canvas.array)
        return length if self._canvas is not None else pieces

    def _put(self, piece: Any, start: int, stop: int, result: NDArray[Any]) -> None:
        piece = self._checked(piece, start, stop)
        check_piece(self._name, piece, start, stop, result)
        result[start:stop] = piece

    def _checked(self, piece: Any, start: int, stop: int) -> NDArray[Any]:
        import numpy as np

        if piece is None or isinstance(piece, tuple) or is_special(piece):
            raise InvalidResult(
                f"{self._name} returned a {qualified_name(type(piece))} for the rows {start} to {stop}; in map_blocks "
                f"it must return a plain array with one row for each"
            )
        array = np.asarray(piece)
        if array.shape[:1] != (stop - start,):
            raise InvalidResult(
                f"{self._name} returned {kind_of(array)} for the rows {start} to {stop}; in map_blocks it must "
                f"return an array with one row for each, {stop - start} here"
            )
        return array


def is_special(value: Any) -> bool:
    """Whether it is an array of a type that says more than its numbers: a masked one, say, or a matrix."""
    import numpy as np

    return isinstance(value, np.ndarray) and type(value) not in (np.ndarray, np.memmap)


def check_piece(name: str, piece: NDArray[Any], start: int, stop: int, result: NDArray[Any]) -> None:
    """Raises InvalidResult unless a piece is of the kind that the first one was."""
    if piece.dtype != result.dtype or piece.shape[1:] != result.shape[1:]:
        raise InvalidResult(
            f"{name} returned {kind_of(piece)} for the rows {start} to {stop}, but rows of {result.dtype}, each of "
            f"shape {result.shape[1:]}, for the first ones; in map_blocks all must be alike"
        )


def kind_of(array: NDArray[Any]) -> str:
    """Type and shape of an array, in words."""
    return f"an array of {array.dtype}, of shape {array.shape}"

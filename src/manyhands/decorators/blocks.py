"""``map_blocks``: a function over arrays, in blocks of rows, into one result.

The first block is run by itself: it tells what the result is like. Then spans of many blocks go to workers, through
shared memory that is used again and again, and each worker writes its rows where they belong: nothing is joined.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from operator import index
from typing import TYPE_CHECKING, Any, Final

from manyhands.calls import qualified_name, short_repr
from manyhands.decorators.decorated import Decorated, ParallelFunction
from manyhands.decorators.mapping import open_pool, packed_work, start_map
from manyhands.decorators.task import Task
from manyhands.decorators.work import Work
from manyhands.errors import TaskTimeout, WorkerDied
from manyhands.handler.progress import Meter, meter_for
from manyhands.handler.runner import Runner
from manyhands.outcome import Failure
from manyhands.policies.parameters import name_of
from manyhands.policies.star import StarRule, checked_keywords
from manyhands.settings import MapOptions, check_positive, current_rehearsal, is_foreign, resolve_workers
from manyhands.workers.place import in_task
from manyhands.workers.rows import Blocks, Canvas, check_piece, is_special, on_memory

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from manyhands.controller.dispatcher import Dispatcher
    from manyhands.memory.bank import Bank
    from manyhands.memory.segment import Segment

BLOCK_BYTES: Final = 1 << 18
"""Of the inputs in a block: it, what the function makes on its way, and the result stay in a core's cache."""

SPAN_BYTES: Final = 1 << 22
"""Of the inputs in what is sent to a worker at once: long beside the cost of sending it."""

PRIVATE_BYTES: Final = 1 << 20
"""A smaller result is in private memory, as that of any function is."""

MOST_SHARED: Final = 64
"""So are others while so many results are alive that are not: each of these keeps a descriptor open."""

_FRAMES: Final = frozenset({"pandas", "polars", "pyarrow"})
"""Libraries of tables, and of columns that know what is missing."""

_RULE: Final = StarRule(star=True)
_shared: weakref.WeakSet[Any] = weakref.WeakSet()  # the memory of the results that are alive


def map_blocks(
    function: Decorated[..., Any],
    arrays: Sequence[Any],
    rows: int | None,
    args: Sequence[Any],
    kwargs: Mapping[str, Any] | None,
    options: MapOptions,
) -> NDArray[Any]:
    """See ``ParallelFunction.map_blocks``."""
    name = name_of(function)
    if function.task.claim is not None:
        raise TypeError(f"{name} writes files, as @claimed_output says: it can't be used with map_blocks")
    if options.on_error != "raise":
        raise ValueError(
            f"on_error must be 'raise' in map_blocks, not {options.on_error!r}: no row can be left out"
        )
    length = _length(name, arrays)
    if rows is not None:
        rows = index(rows) if hasattr(type(rows), "__index__") else rows  # numpy's numbers too
        check_positive("rows", rows)
    if isinstance(args, str | bytes) or not isinstance(args, Sequence):
        raise TypeError(f"args must be a tuple of positional arguments, not {short_repr(args)}")
    rows_shown = resolve_workers(options.workers) * options.threads if options.worker_bars else 0
    meter = meter_for(options.progress, name, length, rows=rows_shown, unit="row", weigh=_rows_of, lasts=True)
    fixed = tuple(args), checked_keywords(kwargs, "kwargs")
    try:
        return _Plan(function, name, arrays, length, rows, fixed, options, meter).run()
    finally:
        if meter is not None:
            meter.finish()


def _rows_of(values: Sequence[Any]) -> int:
    """How many rows are in what spans returned: each their number, or pieces of the result."""
    return sum(value if isinstance(value, int) else sum(map(len, value)) for value in values)


class _SharedCanvas(Canvas):
    """In memory that workers write to."""

    def __init__(self, bank: Bank, segment: int, shape: tuple[int, ...], dtype: Any) -> None:
        super().__init__(on_memory(bank.memory(segment), shape, dtype), segment)
        self._bank = bank
        self._number = segment

    def close(self) -> Segment:
        """The memory, which nobody is to write to any more; who takes it closes it."""
        self.array = self.array[:0].copy()  # what refers to this, a traceback say, keeps no memory
        return self._bank.close_canvas(self._number)


class _Plan:
    """One call of ``map_blocks``."""

    def __init__(
        self,
        function: Decorated[..., Any],
        name: str,
        arrays: Sequence[Any],
        length: int,
        rows: int | None,
        fixed: tuple[tuple[Any, ...], dict[str, Any]],
        options: MapOptions,
        meter: Meter | None,
    ) -> None:
        row_bytes = max(1, sum(map(_row_bytes, arrays)))
        self._name = name
        self._arrays = arrays
        self._length = length
        self._rows = rows or max(1, BLOCK_BYTES // row_bytes)
        # What is limited in time, or tried again, is the call: then it goes alone.
        alone = options.timeout is not None or bool(function.task.retries)
        self._span = self._rows * (1 if alone else max(1, SPAN_BYTES // (self._rows * row_bytes)))
        self._fixed = fixed
        self._options = replace(options, progress=False, ordered=True)
        self._meter = meter
        self._retries = function.task.retries
        self._body = _once(function)

    def run(self) -> NDArray[Any]:
        """The result."""
        import numpy as np

        ((first,),) = self._map(self._blocks(None), self._spans(0, min(self._rows, self._length)))
        done = len(first)
        if done >= self._length:
            return np.array(first, order="C")
        if self._options.backend in ("inline", "threads") or in_task() or current_rehearsal() is not None:
            canvas = Canvas(self._begun(np.empty((self._length, *first.shape[1:]), first.dtype), first))
            for _ in self._map(self._blocks(canvas), self._spans(done, self._length)):
                pass
            return canvas.array
        if is_foreign(self._options.backend):
            array = np.empty((self._length, *first.shape[1:]), first.dtype)
            return self._by_value(self._blocks(None), None, array, first)
        return self._in_workers(first)

    def _in_workers(self, first: NDArray[Any]) -> NDArray[Any]:
        import numpy as np

        shape = (self._length, *first.shape[1:])
        size = int(np.prod(shape, dtype=object)) * first.dtype.itemsize
        wanted = 0 if first.dtype.hasobject else size
        canvas, work, runner = open_pool(
            self._options, lambda pool: self._opened(pool, wanted, shape, first.dtype)
        )
        if canvas is None:
            return self._by_value(work, runner, np.empty(shape, first.dtype), first)
        try:
            self._begun(canvas.array, first)
            for _ in self._map(work, self._spans(len(first), self._length), runner):
                pass
        except BaseException:
            canvas.close().close()
            raise
        with canvas.close() as segment:
            if size < PRIVATE_BYTES or len(_shared) >= MOST_SHARED:
                return np.array(on_memory(segment.memory, shape, first.dtype))
            memory = segment.seen()
        _shared.add(memory)
        return on_memory(memory, shape, first.dtype)

    def _opened(
        self, pool: Dispatcher, size: int, shape: tuple[int, ...], dtype: Any
    ) -> tuple[_SharedCanvas | None, Decorated[..., Any], Runner]:
        """What the workers of a pool need: the memory of the result, if there can be any, the work, and a share."""
        from manyhands.controller.session import CallForm

        number = pool.memory.open_canvas(size) if size else None
        canvas = None if number is None else _SharedCanvas(pool.memory.bank, number, shape, dtype)
        try:
            work = self._blocks(canvas)
            packed = packed_work(work, Work(work, rule=_RULE))
            form = CallForm(self._options.readonly)
            keeps = canvas is not None
            runner = pool.open_session(
                packed, None, self._options.timeout, keeps, canvas=number, form=form, name=self._name
            )
        except BaseException:
            if canvas is not None:
                canvas.close().close()
            raise
        return canvas, work, runner

    def _by_value(
        self, work: Decorated[..., Any], runner: Runner | None, array: NDArray[Any], first: NDArray[Any]
    ) -> NDArray[Any]:
        """Where there is no shared memory for the result."""
        self._begun(array, first)
        at = len(first)
        for pieces in self._map(work, self._spans(at, self._length), runner):
            for piece in pieces:
                check_piece(self._name, piece, at, at + len(piece), array)
                array[at : at + len(piece)] = piece
                at += len(piece)
        return array

    def _map(
        self, work: Decorated[..., Any], spans: Iterator[tuple[Any, ...]], runner: Runner | None = None
    ) -> Iterator[Any]:
        with start_map(work, spans, _RULE, self._options, None, runner, self._meter, self._naming) as results:
            yield from results

    def _naming(self, failure: Failure) -> str:
        """What an error's note says. One that has the item gets its rows in place of what is in them."""
        start, block, *_ = failure.item
        rows, error = range(start, start + len(block)), failure.error
        if isinstance(error, WorkerDied | TaskTimeout) and error.item is failure.item:
            error.index, error.item = start, rows
        return f"in {self._name}.map_blocks, rows {rows.start} to {rows.stop}"

    def _blocks(self, canvas: Canvas | None) -> Decorated[..., Any]:
        blocks = Blocks(self._body, self._name, self._rows, *self._fixed, canvas)
        return ParallelFunction(blocks, Task(self._options, retries=self._retries))

    def _spans(self, begin: int, end: int) -> Iterator[tuple[Any, ...]]:
        import numpy as np

        for start in range(begin, max(end, 1), self._span):
            stop = min(start + self._span, end)
            # Contiguous: of others numpy pickles a copy, and not always of the same byte order.
            yield start, *[np.ascontiguousarray(array[start:stop]) for array in self._arrays]

    @staticmethod
    def _begun(array: NDArray[Any], first: NDArray[Any]) -> NDArray[Any]:
        array[: len(first)] = first
        return array


def _once(function: Decorated[..., Any]) -> Callable[..., Any]:
    """What is called for each block, without retries: those are the map's."""
    if function.task.validation is None and not function._prefix:
        return function._body
    copy = function._copy()
    copy.task = replace(function.task, retries=())
    return copy


def _length(name: str, arrays: Sequence[Any]) -> int:
    """How many rows the arrays have."""
    if not arrays:
        raise TypeError(f"{name}.map_blocks takes one array or more")
    lengths = []
    for place, array in enumerate(arrays):
        if _is_frame(array):
            raise TypeError(
                f"{name}.map_blocks takes plain arrays; argument {place} is a {qualified_name(type(array))}: give what "
                f"to_numpy() makes of it, or of each of its columns"
            )
        shape = getattr(array, "shape", None)
        if not isinstance(shape, tuple) or not shape:
            raise TypeError(
                f"{name}.map_blocks takes arrays of one dimension or more; argument {place} is {short_repr(array)}"
            )
        if is_special(array):
            raise TypeError(
                f"{name}.map_blocks takes plain arrays; argument {place} is a {qualified_name(type(array))}, and what "
                f"that has beside its numbers would be lost: give numpy.asarray of it, or several arrays"
            )
        lengths.append(shape[0])
    if len(set(lengths)) > 1:
        raise ValueError(f"{name}.map_blocks takes arrays with the same number of rows; they have {lengths}")
    return int(lengths[0])


def _is_frame(value: Any) -> bool:
    """Whether its rows have labels or columns have types of their own: numpy would make an array of it, but another."""
    return not _FRAMES.isdisjoint(kind.__module__.partition(".")[0] for kind in type(value).__mro__)


def _row_bytes(array: Any) -> int:
    count = 1
    for extent in array.shape[1:]:
        count *= extent
    return int(count * getattr(getattr(array, "dtype", None), "itemsize", 8))

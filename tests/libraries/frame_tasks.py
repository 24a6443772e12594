"""Functions for the tests of tables; a module of its own, so that workers import nothing else."""

from __future__ import annotations

import os
import pickle
import signal
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from manyhands import WorkerDied, parallel, retry_on
from tests.helpers import tell, wait_for

pd: Any = import_module("pandas")
pa: Any = import_module("pyarrow")
# mypy is to say the same whether they are installed or not.

kept: Any = None
"""What a worker keeps of its calls."""


# -- what two values have in common -----------------------------------------------------------------------------


def assert_same(left: Any, right: Any) -> None:
    """Fails unless they are equal in all that is to be told of them: values, types, names, order, chunks."""
    assert type(left) is type(right)
    if isinstance(left, pd.DataFrame):
        assert left.attrs == right.attrs
        pd.testing.assert_series_equal(left.dtypes, right.dtypes)
        if left.shape[1] > len(left):  # pandas compares column by column
            left, right = left.T, right.T
        pd.testing.assert_frame_equal(
            left, right, check_exact=True, check_index_type=True, check_column_type=True, check_freq=True
        )
    elif isinstance(left, pd.Series):
        assert left.attrs == right.attrs
        pd.testing.assert_series_equal(left, right, check_exact=True, check_index_type=True, check_freq=True)
    elif isinstance(left, pd.Index):
        pd.testing.assert_index_equal(left, right, exact=True, check_exact=True)
        assert getattr(left, "freq", None) == getattr(right, "freq", None)
    elif isinstance(left, pd.api.extensions.ExtensionArray):
        pd.testing.assert_extension_array_equal(left, right, check_exact=True)
    else:
        right.validate(full=True)
        assert wired(left) == wired(right)
        assert chunks(left) == chunks(right)


def wired(value: Any) -> bytes:
    """What Arrow would send: types, metadata, validity and values, without what lies beside a slice."""
    if isinstance(value, pa.Array):
        value = pa.record_batch([value], ["array"])
    elif isinstance(value, pa.ChunkedArray):
        value = pa.table([value], ["array"])
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, value.schema) as writer:
        writer.write(value)
    return bytes(sink.getvalue())


def chunks(value: Any) -> list[int]:
    """How long the chunks are of what has some."""
    columns = value.columns if isinstance(value, pa.Table) else [value]
    return [len(chunk) for column in columns for chunk in getattr(column, "chunks", ())]


# -- tasks ------------------------------------------------------------------------------------------------------


@parallel
def same(value: Any) -> Any:
    """What it got."""
    return value


@parallel
def same_as(value: Any, plain: bytes) -> Any:
    """What it got, which must be what this pickle holds."""
    assert_same(pickle.loads(plain), value)
    return value


@parallel
def keep(value: Any) -> None:
    """The worker keeps its input."""
    global kept
    kept = value


@parallel
def done(value: Any, function: Callable[[Any], Any]) -> Any:
    """What the function returns, or the error as text."""
    try:
        return function(value)
    except ValueError as error:
        return str(error)


@parallel
def makes(number: int, kind: str, rows: int) -> Any:
    """A table that is made in the worker."""
    numbers = np.full(rows, number)
    if kind == "arrow":
        return pa.table({"number": numbers, "text": [str(number)] * rows})
    return pd.DataFrame({"number": numbers, "half": numbers / 2, "text": [str(number)] * rows})


@parallel
def of_fixed(number: int, frame: Any, *, table: Any) -> tuple[int, str]:
    """One value of each of two fixed arguments."""
    return int(frame["number"].iloc[number]), table.column("text")[number].as_py()


@parallel
@retry_on(OSError, WorkerDied, attempts=2, wait=0)
def spoil_once(frame: Any, marks: str, ends: bool) -> float:
    """Overwrites its input and fails, or ends its worker, the first time; returns what it saw."""
    saw = float(frame.iloc[0, 0])
    frame.iloc[:, 0] = -1.0
    mark = Path(marks) / "failed"
    if not mark.exists():
        mark.touch()
        if ends:
            os.kill(os.getpid(), signal.SIGKILL)
        raise OSError("the first time")
    return saw


@parallel
def writes_or_looks(which: str, frame: Any, begun: str, gate: str) -> str:
    """One writes to the fixed argument, and says so; the other looks at it when that is done."""
    if which == "writes":
        by_place(frame)
        tell(begun, "written")
    wait_for(gate)
    return str(frame.iloc[0, 0])


# -- what may be written to a frame -----------------------------------------------------------------------------


def by_place(frame: Any) -> Any:
    """One element."""
    frame.iloc[0, 0] = frame.iloc[5, 0]
    return frame


def by_label(frame: Any) -> Any:
    """A part of a column."""
    frame.loc[frame.index[:3], frame.columns[0]] = frame.iloc[5, 0]
    return frame


def column(frame: Any) -> Any:
    """A column, and one that was not there."""
    frame["new"] = range(len(frame))
    frame[frame.columns[0]] = frame[frame.columns[0]].shift(1)
    return frame


def in_array(frame: Any) -> Any:
    """An element of the array that a column lies in."""
    array = frame.iloc[:, 0].array
    array[0] = array[5]
    return frame


def nothing(frame: Any) -> Any:
    """Nothing at all: pandas looks for what is missing."""
    frame.fillna(frame.iloc[0, 0], inplace=True)
    return frame


WRITES: list[Callable[[Any], Any]] = [by_place, by_label, column, in_array]

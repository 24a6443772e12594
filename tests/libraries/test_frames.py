"""Tables and columns of pandas and Arrow go to workers and come back through shared memory, and nothing is lost."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

pytest.importorskip("pandas", minversion="3.0")
pytest.importorskip("pyarrow")

from manyhands import Controller, parallel
from manyhands.memory.exchange import Exchange
from manyhands.memory.places import Place
from tests.contract import array_tasks
from tests.helpers import Fifo, lines, started, tell, until, write_script
from tests.libraries import frame_tasks
from tests.libraries.frame_tasks import WRITES, assert_same, pa, pd

How = dict[str, Any]


@pytest.fixture(scope="module")
def pool() -> Iterator[Controller]:
    """Two workers for most of the tests here."""
    with Controller(2) as controller:
        yield controller


@pytest.fixture(scope="module")
def without() -> Iterator[Controller]:
    """One that has no shared memory."""
    with Controller(2, max_shared_memory=0) as controller:
        yield controller


@pytest.fixture(params=["pool", "without"])
def either(request: pytest.FixtureRequest) -> Controller:
    """Each of the two."""
    controller = request.getfixturevalue(request.param)
    assert isinstance(controller, Controller)
    return controller


def at_rest(pool: Controller) -> None:
    """Waits until no slot is used any more, neither of this process nor of one of its workers, which live on."""
    pool.submit(array_tasks.own_memory).result()
    workers = list(pool.dispatcher.handles)
    until(lambda: pool.dispatcher.memory.bank.used == 0, "all slots of the parent are free")
    until(lambda: pool.submit(array_tasks.own_memory).result()[0] == 0, "all slots of a worker are free")
    assert list(pool.dispatcher.handles) == workers, "slots are free since idle workers were ended"


def there_and_back(pool: Controller, value: Any) -> Any:
    """What comes back of it; the worker looks at what it got, and compares it with what a plain pickle gives."""
    plain = pickle.dumps(value, protocol=5)
    result = frame_tasks.same_as.options(backend=pool).submit(value, plain).result()
    assert_same(value, result)
    return result


# -- values of pandas -------------------------------------------------------------------------------------------

NUMBERS = [
    *("i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f4", "f8", "c8", "c16", "?"),
    *("M8[s]", "M8[ms]", "M8[us]", "M8[ns]", "m8[s]", "m8[ns]"),
]
"""Types of NumPy that pandas keeps."""


def texts(numbers: list[int | None]) -> list[str | None]:
    """A text for each, long and short, some of them not ASCII."""
    return [None if number is None else "ä" * (number % 5) + str(number) for number in numbers]


def days(numbers: list[int | None]) -> Any:
    """A day for each."""
    return pd.to_datetime(pd.Series(numbers, dtype="Float64"), unit="D").array


KINDS: dict[str, Callable[[list[int | None]], Any]] = {
    "objects": lambda ns: np.array([None if n is None else (n, str(n)) for n in ns] + [0], object)[:-1],
    "str": lambda ns: pd.array(texts(ns), dtype="str"),
    "str of python": lambda ns: pd.array(texts(ns), dtype=pd.StringDtype("python", na_value=np.nan)),
    "string of python": lambda ns: pd.array(texts(ns), dtype=pd.StringDtype("python")),
    "string of arrow": lambda ns: pd.array(texts(ns), dtype=pd.StringDtype("pyarrow")),
    "categories": lambda ns: pd.Categorical(texts(ns)),
    "ordered categories": lambda ns: pd.Categorical(ns, categories=range(300), ordered=True),
    "days": days,
    "days with a time zone": lambda ns: days(ns).tz_localize("UTC").tz_convert("Europe/Berlin"),
    "spans": lambda ns: days(ns) - pd.Timestamp(0),
    "periods": lambda ns: pd.array(days(ns).to_period("M")),
    "intervals": lambda ns: pd.arrays.IntervalArray.from_arrays(
        *2 * [np.array([n or 0 for n in ns], "f8")], closed="both"
    ),
    "sparse": lambda ns: pd.arrays.SparseArray([n or 0 for n in ns], dtype=pd.SparseDtype("i8", 0)),
    "Int64": lambda ns: pd.array(ns, dtype="Int64"),
    "UInt8": lambda ns: pd.array(ns, dtype="UInt8"),
    "Float32": lambda ns: pd.array(ns, dtype="Float32"),
    "boolean": lambda ns: pd.array([None if n is None else n % 2 == 0 for n in ns], dtype="boolean"),
    "arrow's numbers": lambda ns: pd.array(ns, dtype=pd.ArrowDtype(pa.int32())),
    "arrow's texts": lambda ns: pd.array(texts(ns), dtype=pd.ArrowDtype(pa.string())),
    "arrow's days": lambda ns: pd.array(ns, dtype=pd.ArrowDtype(pa.timestamp("ms", "Europe/Berlin"))),
    "arrow's lists": lambda ns: pd.array(
        [None if n is None else [n, n] for n in ns], dtype=pd.ArrowDtype(pa.list_(pa.int64()))
    ),
}
"""Arrays of each type that pandas knows, made of numbers between 0 and 255, some of them missing."""

MANY = 9000
"""Rows: those of 8 bytes take more than 64 KiB."""

rows = st.sampled_from([MANY, 5, 0, MANY + 1, 1, MANY + 7])
some_numbers = st.lists(st.integers(0, 255) | st.none(), min_size=1, max_size=5)


def repeated(values: list[Any], length: int) -> list[Any]:
    """So many of them, again and again the same."""
    return (values * (length // len(values) + 1))[:length]


@st.composite
def columns(draw: st.DrawFn, length: int) -> Any:
    """An array of so many values."""
    kind = draw(st.sampled_from([*KINDS, *["numbers"] * 6]))
    if kind != "numbers":
        return KINDS[kind](repeated(draw(some_numbers), length))
    dtype = np.dtype(draw(st.sampled_from(NUMBERS)))
    return np.resize(draw(hnp.arrays(dtype, st.integers(1, 5))), length).astype(dtype, copy=False)


@st.composite
def indexes(draw: st.DrawFn, length: int) -> Any:
    """One with or without names, of some type."""
    numbers = [number or 0 for number in repeated(draw(some_numbers), length)]
    name = draw(st.sampled_from([None, "name", 5, ("a", 1)]))
    match draw(st.sampled_from(["range", "any", "dates", "zone", "periods", "intervals", "several"])):
        case "range":
            return pd.RangeIndex(7, 7 + 3 * length, 3, name=name)
        case "dates":
            return pd.date_range("2020-02-28", periods=length, freq="D", name=name, unit="s")
        case "zone":
            return pd.date_range("2020-03-28", periods=length, freq="h", tz="Europe/Berlin", name=name)
        case "periods":
            return pd.period_range("2020-01", periods=length, freq="M", name=name)
        case "intervals":
            return pd.IntervalIndex.from_breaks(np.arange(length + 1.0), name=name)
        case "several":
            return pd.MultiIndex.from_arrays(
                [numbers, texts(numbers), np.arange(length) * 0.5], names=["one", None, name]
            )
    return pd.Index(draw(columns(length)), name=name)


def laid_out(frame: Any, layout: str) -> Any:
    """The frame as a view, or otherwise not what pandas makes at first."""
    match layout:
        case "transposed":  # of a short one: pandas compares them column by column
            return frame.head(40).T
        case "every other":
            return frame[::2]
        case "reversed":
            return frame[::-1]
        case "middle":
            return frame.iloc[1:-1]
        case "a column":
            return frame.iloc[:, -1:]
        case "together":
            return pd.concat([frame, frame])
        case "a copy":
            return frame.copy()
    return frame


LAYOUTS = ["plain", "transposed", "every other", "reversed", "middle", "a column", "together", "a copy"]


@st.composite
def frames(draw: st.DrawFn) -> Any:
    """Frames of any columns, small, empty, or with columns of more than 64 KiB."""
    length = draw(rows)
    number = draw(st.integers(0, 4))
    if draw(st.booleans()):
        dtype = draw(st.sampled_from(["f8", "i4", "?", "O"]))
        frame = pd.DataFrame(np.resize(np.arange(7).astype(dtype), (length, number)))
    else:
        frame = pd.DataFrame({f"c{place}": draw(columns(length)) for place in range(number)})
    if len(frame) == length:
        frame.index = draw(indexes(length))
    if number == 4 and draw(st.booleans()):
        frame.columns = pd.MultiIndex.from_product([["a", "b"], [1, 2]], names=["letter", None])
    frame.attrs = draw(st.sampled_from([{}, {"unit": "m"}]))
    return laid_out(frame, draw(st.sampled_from(LAYOUTS)))


@st.composite
def series(draw: st.DrawFn) -> Any:
    """Series, indexes, and the arrays that are in them."""
    length = draw(rows)
    found = pd.Series(
        draw(columns(length)), index=draw(indexes(length)), name=draw(st.sampled_from([None, "s"]))
    )
    found = found[:: draw(st.sampled_from([1, 2, -1]))]
    match draw(st.sampled_from(["series", "index", "array"])):
        case "index":
            return found.index
        case "array" if not isinstance(found.dtype, np.dtype):
            return found.array
    return found


@settings(max_examples=100)
@given(frame=frames())
def test_frames(pool: Controller, frame: Any) -> None:
    """A frame is the same in the worker, and again when it is back."""
    there_and_back(pool, frame)


@settings(max_examples=100)
@given(value=series())
def test_series(pool: Controller, value: Any) -> None:
    """So are series, indexes and extension arrays."""
    there_and_back(pool, value)


@settings(max_examples=20)
@given(value=frames() | series())
def test_without_shared_memory(without: Controller, value: Any) -> None:
    """All that is so, too, where there is none."""
    there_and_back(without, value)
    assert without.dispatcher.memory.bank.size == 0


# -- values of Arrow --------------------------------------------------------------------------------------------

ARROWS: dict[str, Callable[[list[int | None]], Any]] = {
    "nothing": lambda ns: pa.nulls(len(ns)),
    "bool": lambda ns: pa.array([None if n is None else n % 2 == 0 for n in ns], pa.bool_()),
    "int8": lambda ns: pa.array([None if n is None else n // 2 for n in ns], pa.int8()),
    "int64": lambda ns: pa.array(ns, pa.int64()),
    "float": lambda ns: pa.array([None if n is None else n / 7 for n in ns], pa.float64()),
    "decimal": lambda ns: pa.array(ns, pa.decimal128(10, 2)),
    "days": lambda ns: pa.array(ns, pa.int32()).cast(pa.date32()),
    "times": lambda ns: pa.array(ns, pa.timestamp("us", "Europe/Berlin")),
    "string": lambda ns: pa.array(texts(ns), pa.string()),
    "large string": lambda ns: pa.array(texts(ns), pa.large_string()),
    "string view": lambda ns: pa.array(
        [None if n is None else "longer than twelve" * (n % 3) for n in ns], pa.string_view()
    ),
    "bytes": lambda ns: pa.array([None if n is None else bytes(n % 5) for n in ns], pa.binary()),
    "fixed": lambda ns: pa.array([None if n is None else bytes([n] * 3) for n in ns], pa.binary(3)),
    "dictionary": lambda ns: pa.array(texts(ns), pa.string()).dictionary_encode(),
    "list": lambda ns: pa.array([None if n is None else [n, None] * (n % 3) for n in ns], pa.list_(pa.int32())),
    "fixed list": lambda ns: pa.array([None if n is None else [n, None] for n in ns], pa.list_(pa.int32(), 2)),
    "struct": lambda ns: pa.array(
        [None if n is None else {"number": n, "text": str(n)} for n in ns],
        pa.struct({"number": pa.int16(), "text": pa.string()}),
    ),
    "map": lambda ns: pa.array(
        [None if n is None else [("k", n)] * (n % 3) for n in ns], pa.map_(pa.string(), pa.int32())
    ),
    "extension": lambda ns: pa.array([None if n is None else bytes([n] * 16) for n in ns], pa.uuid()),
}
"""Arrays of the types that Arrow has."""


@st.composite
def arrow_arrays(draw: st.DrawFn, length: int) -> Any:
    """An array of so many values, which may be a part of a longer one."""
    before, after = draw(st.tuples(st.integers(0, 9), st.integers(0, 9)))
    numbers = repeated(draw(some_numbers), before + length + after)
    return ARROWS[draw(st.sampled_from(list(ARROWS)))](numbers).slice(before, length)


@st.composite
def chunked(draw: st.DrawFn, length: int) -> Any:
    """As a column of a table lies: cut somewhere, and what was cut is cut again."""
    whole = draw(arrow_arrays(length))
    cuts = sorted({0, length, *draw(st.lists(st.integers(0, length), max_size=3))})
    pieces = [whole.slice(begin, end - begin) for begin, end in pairwise(cuts)]
    return pa.chunked_array(pieces, whole.type)


@st.composite
def arrows(draw: st.DrawFn) -> Any:
    """Arrays, chunked ones, batches and tables, and slices of them."""
    length = draw(rows)
    names = ["a", "b", "c"][: draw(st.integers(1, 3))]  # without any, Arrow itself forgets how many rows
    match draw(st.sampled_from(["array", "chunked", "batch", "table"])):
        case "array":
            value = draw(arrow_arrays(length))
        case "chunked":
            value = draw(chunked(length))
        case "batch":
            value = pa.record_batch([draw(arrow_arrays(length)) for _ in names], names)
        case _:
            value = pa.table([draw(chunked(length)) for _ in names], names)
            value = value.replace_schema_metadata({"unit": "m"})
    return value.slice(3, 7) if draw(st.booleans()) else value


@settings(max_examples=100)
@given(value=arrows())
def test_arrow(pool: Controller, value: Any) -> None:
    """What is Arrow's is the same in the worker, valid, and again the same when it is back."""
    there_and_back(pool, value)


@settings(max_examples=20)
@given(value=arrows())
def test_arrow_without_shared_memory(without: Controller, value: Any) -> None:
    """All that is so, too, where there is none."""
    there_and_back(without, value)
    assert without.dispatcher.memory.bank.size == 0


@pytest.mark.parametrize("length", [3, MANY])
def test_each_type(either: Controller, length: int) -> None:
    """Each type is the same in the worker and when it is back, in columns with many values and with few."""
    numbers = repeated([5, None, 200, 0], length)
    for make in KINDS.values():
        there_and_back(either, pd.Series(make(numbers)))
    for make in ARROWS.values():
        there_and_back(either, pa.table({"column": make(numbers)}))


# -- which way they go ------------------------------------------------------------------------------------------

LENGTH = 140_000
COUNT = np.arange(LENGTH)
TEXTS = [f"text {number}" for number in range(LENGTH)]
SOME_TEXTS = TEXTS[:MANY]

SEEN: dict[str, Any] = {
    "frame": pd.DataFrame(np.ones((LENGTH, 4))),
    "transposed": pd.DataFrame(np.ones((4, LENGTH))).T,
    "row of columns": pd.DataFrame(np.ones((LENGTH // 1000, 4000))).T,
    "every other": pd.DataFrame(np.ones((LENGTH, 4)))[::2],
    "mixed": pd.DataFrame({"number": COUNT, "half": COUNT / 2, "odd": COUNT % 2 == 1, "text": TEXTS}),
    "series": pd.Series(COUNT),
    "str": pd.Series(TEXTS, dtype="str"),
    "string": pd.Series(TEXTS, dtype="string[pyarrow]"),
    "Int64": pd.Series(COUNT, dtype="Int64"),
    "periods": pd.Series(pd.period_range("2020", periods=LENGTH, freq="h")),
    "intervals": pd.Series(pd.interval_range(0.0, LENGTH / 2)),
    "categories": pd.Series(pd.Categorical.from_codes(COUNT, COUNT)),
    "sparse": pd.Series(pd.arrays.SparseArray(COUNT)),
    "arrow's": pd.Series(COUNT, dtype="int64[pyarrow]"),
    "arrow's texts": pd.Series(TEXTS, dtype=pd.ArrowDtype(pa.string())),
    "index": pd.Index(COUNT * 2.0),
    "several": pd.MultiIndex.from_arrays([COUNT, COUNT / 2]),
    "table": pa.table({"number": COUNT, "text": TEXTS}),
    "batch": pa.record_batch({"number": COUNT, "text": TEXTS}),
    "array": pa.array(COUNT),
    "chunked": pa.chunked_array([COUNT, COUNT]),
    "nested": pa.ListArray.from_arrays(np.arange(LENGTH + 1), COUNT),
}
"""What a worker sees where its sender has put it: buffers, of more than 1 MiB together."""

COPIED: dict[str, Any] = {
    "days": pd.Series(pd.date_range("2020", periods=MANY, freq="s")),
    "with a time zone": pd.Series(pd.date_range("2020", periods=MANY, freq="s", tz="Europe/Berlin")),
    "spans": pd.Series(pd.timedelta_range("1s", periods=MANY)),
    "days as index": pd.date_range("2020", periods=MANY, freq="s"),
    "str of python": pd.Series(SOME_TEXTS, dtype=pd.StringDtype("python", na_value=np.nan)),
    "string of python": pd.Series(SOME_TEXTS, dtype="string[python]"),
    "objects": pd.DataFrame(
        {"text": SOME_TEXTS, "tuple": list(zip(SOME_TEXTS, SOME_TEXTS, strict=True))}, dtype=object
    ),
}
"""What is pickled whole: it goes through a slot, and is copied out of it."""


def size(value: Any) -> int:
    """Bytes of all that numbers and texts take."""
    if not hasattr(value, "memory_usage"):
        return int(value.nbytes)
    return int(np.sum(value.memory_usage(index=False) if hasattr(value, "columns") else value.nbytes))


class Ways:
    """What goes through the shared memory of a pool with one worker: the lengths of pickles and their buffers."""

    def __init__(self, pool: Controller, patch: pytest.MonkeyPatch) -> None:
        self.pool = pool
        self.sent: list[tuple[int, ...]] = []
        self.returned: list[tuple[int, ...]] = []
        store, receive = pool.dispatcher.memory.bank.store, Exchange.received

        def stored(*args: Any) -> Any:
            found = store(*args)
            self.sent.append(found.place.lengths)
            return found

        def received(exchange: Exchange, place: Place) -> Any:
            self.returned.append(place.lengths)
            return receive(exchange, place)

        patch.setattr(pool.dispatcher.memory.bank, "store", stored)
        patch.setattr(Exchange, "received", received)

    @property
    def views(self) -> int:
        """How many results this process sees where the worker has put them."""
        (handle,) = self.pool.dispatcher.handles.values()
        return handle.exchange.views.alive


@pytest.fixture(scope="module")
def ways() -> Iterator[Ways]:
    """Those of one pool."""
    with Controller(1) as one, pytest.MonkeyPatch.context() as patch:
        yield Ways(one, patch)


@pytest.mark.parametrize("kind", [*SEEN, *COPIED])
def test_large_ones_go_through_shared_memory(ways: Ways, kind: str) -> None:
    """All that is large of them, both ways; and what has buffers is not copied out by its receiver."""
    value = SEEN[kind] if kind in SEEN else COPIED[kind]
    one = ways.pool
    at_rest(one)
    ways.sent.clear()
    ways.returned.clear()
    one.submit(frame_tasks.keep, value).result()
    kept = one.dispatcher.memory.bank.used
    result = one.submit(frame_tasks.same, value).result()
    views = ways.views
    assert_same(value, result)
    del result
    assert ways.views == 0
    one.submit(frame_tasks.keep, None).result()
    at_rest(one)
    assert len(ways.sent) == 2
    for pickled, *buffers in [*ways.sent, *ways.returned]:
        assert pickled + sum(buffers) >= size(value)
        if kind in SEEN:
            assert pickled < sum(buffers) / 4
        else:
            assert not buffers
    assert len(ways.returned) == 1
    assert (kept, views) == ((1, 1) if kind in SEEN else (0, 0))


SMALLER = {
    "frame": pd.DataFrame({"number": COUNT[:MANY]}),
    "series": pd.Series(COUNT[:MANY]),
    "table": pa.table({"number": COUNT[:MANY]}),
    "batch": pa.record_batch({"number": COUNT[:MANY]}),
    "array": pa.array(COUNT[:MANY]),
}


@pytest.mark.parametrize("kind", SMALLER)
def test_a_worker_sees_smaller_ones_where_they_lie(ways: Ways, kind: str) -> None:
    """What has 64 KiB is copied once on its way into a worker."""
    one = ways.pool
    at_rest(one)
    one.submit(frame_tasks.keep, SMALLER[kind]).result()
    assert one.dispatcher.memory.bank.used == 1
    one.submit(frame_tasks.keep, None).result()
    at_rest(one)


def test_each_start_method(processes: How) -> None:
    """The same whatever the workers come from: mapped in chunks, by threads, and submitted."""
    values = [*SEEN.values(), *COPIED.values()]
    results = frame_tasks.same.map(iter(values), threads=2, chunksize=3, **processes)
    for value, result in zip(values, results, strict=True):
        assert_same(value, result)
    some = values[::3]
    futures = [frame_tasks.same.options(**processes).submit(value) for value in some]
    for value, future in zip(some, futures, strict=True):
        assert_same(value, future.result())


def test_tables_inside_of_other_values(either: Controller) -> None:
    """Lists, dicts and tuples of them, and their parts, as pandas and Arrow hand them out."""
    frame, table = SEEN["mixed"], SEEN["table"]
    (result,) = frame_tasks.same.map([{"both": (frame, [table])}], backend=either)
    assert_same(frame, result["both"][0])
    assert_same(table, result["both"][1][0])
    groups = list(frame.groupby(frame["number"] // 40_000))
    for (key, group), (same_key, same_group) in zip(
        groups, frame_tasks.same.map(groups, backend=either), strict=True
    ):
        assert key == same_key
        assert_same(group, same_group)
    batches = table.to_batches(max_chunksize=40_000)
    for batch, same_batch in zip(batches, frame_tasks.same.map(batches, backend=either), strict=True):
        assert_same(batch, same_batch)


def test_fixed_arguments_and_closures(either: Controller) -> None:
    """A frame or a table that all calls have in common arrives right, and as it is when the map begins."""
    frame, table = SEEN["mixed"].copy(), SEEN["table"]
    fixed: How = {"args": (frame,), "kwargs": {"table": table}, "backend": either}
    found = frame_tasks.of_fixed.map(range(50), **fixed)
    assert list(found) == [(number, f"text {number}") for number in range(50)]

    @parallel(backend=either)
    def look_up(number: int) -> tuple[int, str]:
        return int(frame["number"].iloc[number]), table.column("text")[number].as_py()

    assert list(look_up.map(range(50))) == [(number, f"text {number}") for number in range(50)]
    frame.iloc[7, 0] = -1
    assert list(look_up.map([7])) == [(-1, "text 7")]
    assert look_up.submit(7).result() == (-1, "text 7")


# -- whose they are ---------------------------------------------------------------------------------------------


def writable(length: int) -> dict[str, Any]:
    """Frames whose first column may be written to, each in its way."""
    count = np.arange(length)
    return {
        "one array": pd.DataFrame(np.arange(3.0 * length).reshape(length, 3), columns=list("abc")),
        "by columns": pd.DataFrame({"a": count, "b": count / 2, "c": count % 2 == 0}),
        "text": pd.DataFrame({"a": [str(number) for number in count], "b": count}),
        "text of python": pd.DataFrame(
            {"a": pd.array([str(number) for number in count], dtype="string[python]"), "b": count}
        ),
        "days": pd.DataFrame({"a": pd.date_range("2020", periods=length, freq="s", tz="UTC")}),
        "Int64": pd.DataFrame({"a": pd.array(count, dtype="Int64")}),
        "arrow's": pd.DataFrame({"a": pd.array(count, dtype="int64[pyarrow]")}),
        "categories": pd.DataFrame({"a": pd.Categorical.from_codes(count, count)}),
        "index": pd.DataFrame({"a": count / 3}, index=pd.Index(count[::-1].copy())),
    }


LENGTHS = [10, 20_000, LENGTH]
"""So many rows go by pipes; by slots that are copied; and by slots that are looked into."""


@pytest.mark.parametrize("length", LENGTHS)
def test_a_call_may_write_to_its_frame(either: Controller, length: int) -> None:
    """What it makes of it is what it would be anywhere, and the frame of the parent stays as it is."""
    before, after, ours = writable(length), writable(length), writable(length)
    cases = list(product(ours, WRITES))
    pairs = [(ours[kind], write) for kind, write in cases]
    for _ in range(2):
        results = frame_tasks.done.map(pairs, star=True, backend=either)
        for (kind, write), result in zip(cases, results, strict=True):
            assert_same(write(after[kind].copy()), result)
    for kind, frame in ours.items():
        assert_same(before[kind], frame)


def test_what_a_worker_writes_no_other_sees(pool: Controller, begun: Fifo, gate: Fifo) -> None:
    """A frame that two workers see at the same place stays as it was for one when the other writes to it."""
    for kind, frame in writable(LENGTH).items():
        fixed = (frame, begun.path, gate.path)
        results = frame_tasks.writes_or_looks.map(["writes", "looks"], args=fixed, chunksize=1, backend=pool)
        begun.line()
        gate.let_go(2)
        assert list(results) == [str(frame.iloc[5, 0]), str(frame.iloc[0, 0])], kind


@pytest.mark.parametrize("ends", [False, True])
def test_the_next_attempt_has_the_original(pool: Controller, tmp_path: Path, ends: bool) -> None:
    """What is tried again, since it failed or its worker ended, gets its frame as it was."""
    frame = writable(LENGTH)["one array"] + 5
    spoil = frame_tasks.spoil_once.options(backend=pool)
    assert list(spoil.map([frame], args=(str(tmp_path), ends))) == [5.0]
    assert lines(tmp_path / "failed") == [] and (tmp_path / "failed").exists()
    assert frame.iloc[0, 0] == 5.0


@pytest.mark.parametrize(("length", "limit"), [*[(length, None) for length in LENGTHS], (20_000, 0)])
def test_results_outlive_their_pool(length: int, limit: int | None) -> None:
    """They stay as they are when it is closed, whatever it did meanwhile, and may be written to."""
    with Controller(2, max_shared_memory=limit) as own:
        before, expected = writable(length), writable(length)
        results = dict(zip(before, frame_tasks.same.map(before.values(), backend=own), strict=True))
        tables = list(frame_tasks.makes.map(range(6), args=("arrow", length), backend=own))
        for _ in range(3):
            list(frame_tasks.makes.map(range(100, 106), args=("pandas", length), backend=own))
    for kind, write in product(before, WRITES):
        assert_same(expected[kind], results[kind])
        expected[kind], results[kind] = write(expected[kind]), write(results[kind])
    for kind, result in results.items():
        assert_same(expected[kind], result)
    for number, table in enumerate(tables):
        table.validate(full=True)
        assert table == pa.table({"number": [number] * length, "text": [str(number)] * length})


IN_ARRAYS = {"one array", "by columns", "Int64", "categories", "index"}
"""The frames whose first column lies in an array that is shared."""


def test_readonly_frames(either: Controller) -> None:
    """To write where arrays are shared raises; what pandas has no array for, or copies, works as ever."""
    before, ours = writable(LENGTH), writable(LENGTH)
    cases = list(product(ours, [*WRITES, frame_tasks.nothing]))
    pairs = [(ours[kind], write) for kind, write in cases]
    results = frame_tasks.done.map(pairs, star=True, readonly=True, backend=either)
    for (kind, write), result in zip(cases, results, strict=True):
        if isinstance(result, str):
            assert "read-only" in result
        else:
            assert_same(write(before[kind].copy()), result)
        if write is not frame_tasks.nothing:  # which pandas may refuse
            assert isinstance(result, str) == (kind in IN_ARRAYS and write is not frame_tasks.column)
    for kind, frame in ours.items():
        assert_same(before[kind], frame)


def test_readonly_frames_that_come_back(pool: Controller) -> None:
    """What a call returns of one can't be written to; a copy can."""
    (result,) = frame_tasks.same.map([SEEN["frame"]], readonly=True, backend=pool)
    with pytest.raises(ValueError, match="read-only"):
        result.iloc[0, 0] = 5.0
    assert_same(SEEN["frame"], result)
    copy = result.copy()
    copy.iloc[0, 0] = 5.0
    assert copy.iloc[0, 0] == 5.0


# -- what is left -----------------------------------------------------------------------------------------------


def test_slots_come_back() -> None:
    """After many frames and tables, kept for a while or failed on, no slot is used on either side."""

    def fails(value: Any) -> None:
        text = str(value)
        raise LookupError(text)

    values = [*SEEN.values(), *COPIED.values()]
    with Controller(1) as one:
        for _ in range(2):
            kept = list(frame_tasks.same.map(values, backend=one))
            assert list(parallel(len).map(kept, backend=one)) == [len(value) for value in values]
            outcome = parallel(fails).map(values, on_error="return", backend=one).collect()
            assert [failure.item is value for failure, value in zip(outcome[1], values, strict=True)] == [
                True
            ] * len(values)
            del kept, outcome
            at_rest(one)
        (handle,) = one.dispatcher.handles.values()
        assert handle.exchange.views.alive == 0
        until(lambda: one.dispatcher.memory.bank.size == 0, "the memory for arguments is given back")
        assert one.submit(array_tasks.own_memory).result() == (0, 0)


def test_a_part_keeps_the_whole() -> None:
    """A column, a view of its array or a slice of a table is enough for memory to stay as it is; then it goes."""
    with Controller(1) as one:
        parts: list[Any] = [
            one.submit(frame_tasks.makes, 1, "pandas", LENGTH).result()["half"],
            one.submit(frame_tasks.makes, 2, "pandas", LENGTH).result()["half"].to_numpy()[5:100],
            one.submit(frame_tasks.makes, 3, "arrow", LENGTH).result().column("number").slice(5, 100),
        ]
        for _ in range(5):
            list(frame_tasks.makes.map(range(100, 106), args=("pandas", LENGTH), backend=one))
        assert set(parts[0]) == {0.5} and set(parts[1]) == {1.0} and set(parts[2].to_pylist()) == {3}
        assert one.submit(array_tasks.own_memory).result()[0] >= 3
        del parts
        at_rest(one)


def test_the_end_of_a_program(tmp_path: Path) -> None:
    """Frames and tables that the parent and its workers keep hold up no exit, and the exit is a quiet one."""
    script = write_script(
        tmp_path / "script.py",
        """
        from manyhands import parallel
        from tests.libraries import frame_tasks

        kept = [*frame_tasks.makes.map(range(4), args=("arrow", 200_000), workers=2)]
        kept += frame_tasks.makes.map(range(4), args=("pandas", 200_000), workers=2)
        list(frame_tasks.keep.map(kept, workers=2))

        @parallel(workers=2)
        def total(number):
            return int(kept[number]["number"].to_numpy().sum())

        print(list(total.map(range(8))))
        future = frame_tasks.makes.options(workers=2).submit(5, "arrow", 200_000)
        """,
    )
    expected = [200_000 * number for number in [0, 1, 2, 3] * 2]
    with started(script) as process:
        out, err = process.communicate(timeout=90)
    assert (out, err, process.returncode) == (f"{expected}\n", "", 0)


# -- map_blocks -------------------------------------------------------------------------------------------------

TABLES: dict[str, Any] = {
    "pandas.DataFrame": pd.DataFrame({"a": [1.0, 2.0], "b": [3.0, 4.0]}),
    "pandas.Series": pd.Series([1.0, 2.0], index=[0.5, 1.5]),
    "pandas.Index": pd.Index([1, 2]),
    "pandas.arrays.IntegerArray": pd.array([1, None], dtype="Int64"),
    "pyarrow.lib.Table": pa.table({"a": [1, 2]}),
    "pyarrow.lib.RecordBatch": pa.record_batch({"a": [1, 2]}),
    "pyarrow.lib.ChunkedArray": pa.chunked_array([[1, 2]]),
    "pyarrow.lib.Int64Array": pa.array([1, 2]),
}


class Measured(pd.DataFrame):  # type: ignore[misc]
    """A user's frame."""


@pytest.mark.parametrize("how", [{"backend": "inline"}, {"workers": 2}], ids=str)
def test_map_blocks_takes_no_tables(tmp_path: Path, how: How) -> None:
    """It would call the function with plain arrays: so it says what to give, before anything is called."""

    @parallel
    def first(block: Any, *_: Any) -> Any:
        tell(tmp_path / "called", "called")
        return block

    for name, value in TABLES.items():
        with pytest.raises(TypeError, match=rf"first.map_blocks .* argument 0 is a {name}: .*to_numpy\(\)"):
            first.map_blocks(value, **how)
        with pytest.raises(TypeError, match=rf"first.map_blocks .* argument 1 is a {name}: .*to_numpy\(\)"):
            first.map_blocks(np.arange(2), value, **how)
    with pytest.raises(TypeError, match=r"argument 0 is a .*Measured: "):
        first.map_blocks(Measured({"a": [1]}), **how)
    assert lines(tmp_path / "called") == []


def test_map_blocks_of_what_to_numpy_gives(pool: Controller) -> None:
    """A frame's array, and the columns of a frame or of a table, are split as any."""
    frame, table = SEEN["mixed"][["number", "half"]], SEEN["table"]

    @parallel(backend=pool)
    def added(block: np.ndarray) -> np.ndarray:
        return block.sum(axis=1)

    @parallel(backend=pool)
    def product(left: np.ndarray, right: np.ndarray) -> np.ndarray:
        return left * right

    assert (added.map_blocks(frame.to_numpy()) == COUNT * 1.5).all()
    columns = frame["half"].to_numpy(), table.column("number").to_numpy()
    assert (product.map_blocks(*columns, rows=1000) == COUNT * COUNT / 2).all()

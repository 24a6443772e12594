"""``map_blocks``: the function of blocks of rows is the function of the whole, wherever the blocks are run."""

from __future__ import annotations

import gc
import os
import pickle
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from manyhands import (
    Controller,
    InvalidResult,
    PoolClosed,
    RemoteError,
    TaskTimeout,
    WorkerDied,
    claimed_output,
    parallel,
    retry_on,
)
from manyhands.decorators import blocks
from tests.contract import array_tasks
from tests.contract.array_tasks import KIB, MIB, descriptors, seen
from tests.contract.conftest import METHODS
from tests.helpers import Fifo, ends_of, lines, tell, until, wait_for

How = dict[str, Any]

as_it_is = parallel(array_tasks.as_it_is)
doubled = parallel(array_tasks.doubled)
tall = parallel(array_tasks.tall)
wrong = parallel(array_tasks.wrong)
linear = parallel(array_tasks.linear)


@pytest.fixture(params=["inline", "threads", *METHODS, "controller"])
def how(request: pytest.FixtureRequest) -> How:
    """Options that say where the blocks run."""
    if request.param in ("inline", "threads"):
        return {"backend": request.param, "workers": 2}
    if request.param == "controller":
        return {"backend": request.getfixturevalue("pool")}
    return {"workers": 2, "start_method": request.param}


@pytest.fixture(scope="module")
def pool() -> Iterator[Controller]:
    """Two workers for most of the tests here."""
    with Controller(2) as controller:
        yield controller


@pytest.fixture(params=["pool", "pool without shared memory", "threads", "inline"], scope="module")
def place(request: pytest.FixtureRequest) -> Iterator[How]:
    """The kinds of places where blocks run, for many examples each, with spans of some rows and no small results."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "SPAN_BYTES", 100)
        patch.setattr(blocks, "PRIVATE_BYTES", 1)
        if request.param.startswith("pool"):
            with Controller(2, max_shared_memory=None if request.param == "pool" else 0) as controller:
                yield {"backend": controller}
        else:
            yield {"backend": request.param, "workers": 2}


@pytest.fixture
def long_spans(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spans as long as they are for users, also among the tests that use ``place``."""
    monkeypatch.setattr(blocks, "SPAN_BYTES", 1 << 22)


def same(result: np.ndarray, expected: np.ndarray) -> None:
    """Equal in type, shape and bytes; and nobody else's."""
    assert (result.dtype, result.shape) == (expected.dtype, expected.shape)
    if expected.dtype.hasobject:
        assert result.tolist() == expected.tolist()
    else:
        assert result.tobytes() == expected.tobytes()
    assert result.flags.writeable


def at_rest(pool: Controller) -> None:
    """Waits until nothing is used any more of what this process has for its workers."""
    until(
        lambda: doubled.map([1, 2, 3, 4], backend=pool).collect() and pool.dispatcher.memory.bank.used == 0,
        "slots are free",
    )
    until(lambda: not pool.dispatcher.memory.bank._segments, "no memory is held")


# -- values -----------------------------------------------------------------------------------------------------


@st.composite
def inputs(draw: st.DrawFn) -> tuple[np.ndarray, int | None]:
    """An array of some rows, as it lies in memory or as a view, and how many rows a block is to have."""
    scalars = hnp.scalar_dtypes()
    dtype = draw(scalars | hnp.array_dtypes(scalars, max_size=3))
    shape = draw(hnp.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=5))
    array = draw(hnp.arrays(dtype, shape))
    if len(array) and draw(st.booleans()):
        array = np.resize(array, (draw(st.integers(1, 60)), *array.shape[1:]))
    match draw(st.sampled_from(["plain", "fortran", "strided", "reversed", "transposed", "read-only"])):
        case "fortran":
            array = np.asfortranarray(array)
        case "strided":
            array = array[::3]
        case "reversed":
            array = array[::-1]
        case "transposed":
            array = array.T
        case "read-only":
            array.flags.writeable = False
    if pickle.loads(pickle.dumps(np.ascontiguousarray(array), protocol=5)).dtype != array.dtype:
        array = array.astype(array.dtype.newbyteorder("="))  # numpy pickles dates in this order only
    return array, draw(st.none() | st.integers(1, len(array) + 3))


@settings(max_examples=40)
@given(given_=inputs(), function=st.sampled_from([as_it_is, tall, parallel(array_tasks.first_byte)]))
def test_blocks_make_up_the_whole(place: How, given_: tuple[np.ndarray, int | None], function: Any) -> None:
    """Whatever the array, its type and its order, and however many rows a block has; the array stays as it is."""
    array, rows = given_
    before = seen(array)
    same(function.map_blocks(array, rows=rows, **place), function(array))
    assert seen(array) == before


@settings(max_examples=25)
@given(
    x=hnp.arrays(np.float64, st.integers(0, 50), elements=st.floats(-1e9, 1e9)),
    rows=st.none() | st.integers(1, 60),
    factor=st.floats(-5, 5),
)
def test_several_arrays(place: How, x: np.ndarray, rows: int | None, factor: float) -> None:
    """They are split together, and fixed arguments come after them."""
    y = x[::-1].astype(np.float32)
    result = linear.map_blocks(x, y, rows=rows, args=(factor,), kwargs={"shift": 1.0}, **place)
    same(result, linear(x, y, factor, shift=1.0))


CASES: dict[str, np.ndarray] = {
    "numbers": np.arange(300_000.0),
    "rows": np.arange(400_000, dtype=np.int16).reshape(1000, 400),
    "fortran": np.asfortranarray(np.arange(400_000).reshape(1000, 400)),
    "strided": np.arange(800_000).reshape(2000, 400)[::2, ::5],
    "bool": np.arange(300_000) % 3 == 0,
    "complex": np.arange(100_000) * 1j,
    "structured": np.array([(i, i / 2, str(i)) for i in range(5000)], [("a", "i4"), ("b", "f8"), ("c", "U5")]),
    "swapped": np.arange(100_000).astype(">u4"),
    "dates": np.arange(50_000).astype("M8[s]"),
    "texts": np.arange(20_000).astype(str),
    "one row": np.arange(5).reshape(1, 5),
    "no rows": np.zeros((0, 5), np.int8),
    "nothing in rows": np.zeros((3000, 0)),
    "wide": np.arange(3 * MIB, dtype=np.uint8).reshape(3, MIB),
}


@pytest.mark.parametrize("rows", [None, 100])
def test_each_way_to_run(how: How, rows: int | None) -> None:
    """Large arrays of many types, in workers of each kind."""
    for array in CASES.values():
        same(as_it_is.map_blocks(array, rows=rows, **how), np.ascontiguousarray(array))
        same(tall.map_blocks(array, rows=rows, **how), tall(array))


def test_many_spans(how: How) -> None:
    """More than is sent to a worker at once, of several arrays."""
    x = np.arange(2 * MIB, dtype=np.float64)
    y = np.arange(2 * MIB, dtype=np.float32)[::-1]
    same(linear.map_blocks(x, y, args=(3.0,), kwargs={"shift": -1.0}, **how), linear(x, y, 3.0, shift=-1.0))


def test_blocks_of_one_row(how: How) -> None:
    """As small as can be."""
    array = np.arange(500).reshape(250, 2)
    same(doubled.map_blocks(array, rows=1, **how), 2 * array)


def test_blocks_have_as_many_rows_as_said(how: How, tmp_path: Path) -> None:
    """And the last one what is left; each row is in one block."""
    sizes = tmp_path / "sizes"

    @parallel
    def note(block: np.ndarray, file: str) -> np.ndarray:
        tell(file, f"{int(block[0])} {len(block)}")
        return block

    note.map_blocks(np.arange(105), rows=10, args=(str(sizes),), **how)
    assert sorted(tuple(map(int, line.split())) for line in lines(sizes)) == [
        *[(10 * i, 10) for i in range(10)],
        (100, 5),
    ]


def test_a_memory_mapped_file(how: How, tmp_path: Path) -> None:
    """An array in a file is read block by block, and is no other for that."""
    array = np.arange(600_000).reshape(1200, 500)
    array.tofile(tmp_path / "data")
    mapped = np.memmap(tmp_path / "data", dtype=array.dtype, mode="r", shape=array.shape)
    result = doubled.map_blocks(mapped, **how)
    same(result, 2 * array)
    assert type(result) is np.ndarray


class Lazy:
    """What is no array, but has rows."""

    shape = (1000, 3)

    def __init__(self) -> None:
        self.most = 0

    def __getitem__(self, rows: slice) -> np.ndarray:
        assert rows.step is None
        self.most = max(self.most, rows.stop - rows.start)
        return np.arange(3 * rows.start, 3 * rows.stop).reshape(-1, 3)


def test_what_has_a_shape_and_gives_blocks(place: How) -> None:
    """It need not be a numpy array, and is asked for no more than a span at a time."""
    lazy = Lazy()
    same(doubled.map_blocks(lazy, rows=7, **place), 2 * np.arange(3000).reshape(1000, 3))
    assert lazy.most <= 7


def test_objects(how: How) -> None:
    """What can't lie in shared memory is a result all the same, and so is what has no bytes."""
    array = np.arange(3000)
    same(parallel(array_tasks.objects).map_blocks(array, rows=100, **how), array_tasks.objects(array))
    same(parallel(array_tasks.no_bytes).map_blocks(array, rows=100, **how), np.zeros((3000, 0, 3)))
    objects = np.array([{"a": i} for i in range(500)], object)
    same(as_it_is.map_blocks(objects, rows=7, **how), objects)


@pytest.mark.parametrize("limit", [0, 4 * KIB, 300 * KIB])
def test_with_little_shared_memory(limit: int) -> None:
    """Through pipes, if need be, with the same result."""
    with Controller(2, max_shared_memory=limit) as own:
        for array in CASES.values():
            same(as_it_is.map_blocks(array, backend=own), np.ascontiguousarray(array))
        x = np.arange(MIB)
        same(tall.map_blocks(x, backend=own), tall(x))
        wanted = {"dtype": InvalidResult, "error": LookupError, "longer": InvalidResult}
        for kind, error in wanted.items():
            with pytest.raises(error):
                wrong.map_blocks(np.arange(1000), rows=10, args=(kind, 505), backend=own)
        assert limit or own.dispatcher.memory.bank.size == 0


def test_blocks_may_be_written_to(place: How) -> None:
    """The input is not changed by it, where blocks go to other processes."""
    array = np.arange(200_000)
    given_ = array.copy()
    result = parallel(array_tasks.in_place).map_blocks(given_, **place)
    same(result, 2 * array)
    if isinstance(place["backend"], Controller):
        assert (given_ == array).all()


def test_both_workers_have_blocks(pool: Controller) -> None:
    """One worker does not do all."""
    places = parallel(array_tasks.where).map_blocks(np.arange(4 * MIB), backend=pool)
    assert len(set(places.tolist())) == 2
    assert os.getpid() not in places


def test_lists_for_results(how: How) -> None:
    """What numpy takes for an array is one."""
    as_list = parallel(lambda block: [2 * int(each) for each in block])
    same(as_list.map_blocks(np.arange(100), rows=9, **how), 2 * np.arange(100))


# -- the result -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [10_000, MIB])
def test_the_result_belongs_to_the_caller(size: int) -> None:
    """It may be written to; no later map changes it, nor is it changed by an end of the workers or of the pool."""
    with Controller(2) as own:
        array = np.arange(size)
        results = [doubled.map_blocks(array + number, backend=own) for number in range(5)]
        results[0][:] = -1
        for _ in range(3):
            doubled.map_blocks(array + 77, backend=own)
        workers = set(parallel(array_tasks.where).map_blocks(np.arange(4 * MIB), backend=own).tolist())
        with ends_of(workers) as wait:
            for worker in workers:
                os.kill(worker, signal.SIGKILL)
            wait()
    assert (results[0] == -1).all()
    for number in range(1, 5):
        assert (results[number] == 2 * (array + number)).all()
        results[number] += 1
        assert (results[number] == 2 * (array + number) + 1).all()


def test_many_kept_results(pool: Controller) -> None:
    """However many large results are kept, they use no more than so many descriptors; dropped, none."""
    x = np.zeros(140_000)
    doubled.map_blocks(x, rows=20_000, backend=pool)
    before = descriptors()
    results = [doubled.map_blocks(x + number, rows=20_000, backend=pool) for number in range(150)]
    assert descriptors() <= before + 70
    assert [set(np.unique(result)) for result in results] == [{2.0 * number} for number in range(150)]
    results.clear()
    assert descriptors() <= before + 1


def test_a_forked_child_has_a_result_of_its_own(pool: Controller) -> None:
    """What it writes there the parent does not see, nor the other way round."""
    result = doubled.map_blocks(np.ones(300_000), backend=pool)
    ours, theirs = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.close(theirs)
            os.read(ours, 1)  # until the parent has written to its own
            right = (result == 2).all()
            result[:] = 5
            status = 0 if right else 2
        finally:
            os._exit(status)
    os.close(ours)
    result[:1000] = 7
    os.close(theirs)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert (result[:1000] == 7).all()
    assert (result[1000:] == 2).all()


# -- what can't be ----------------------------------------------------------------------------------------------

X = np.arange(1000)


@pytest.mark.parametrize("at", [5, 505], ids=["first block", "later block"])
@pytest.mark.parametrize("kind", ["longer", "shorter", "scalar", "none"])
def test_a_wrong_number_of_rows(how: How, kind: str, at: int) -> None:
    """A result with more or fewer rows than its block is refused, and the error says which rows these are."""
    begin = at // 10 * 10
    with pytest.raises(InvalidResult, match=f"wrong returned .* for the rows {begin} to {begin + 10}"):
        wrong.map_blocks(X, rows=10, args=(kind, at), **how)


@pytest.mark.parametrize("kind", ["dtype", "shape"])
def test_results_that_are_not_alike(how: How, kind: str) -> None:
    """One of another type, or another shape of rows, than the first is refused, and the error says which rows."""
    with pytest.raises(InvalidResult, match=r"for the rows 500 to 510.* all must be alike"):
        wrong.map_blocks(X, rows=10, args=(kind, 505), **how)
    whole = wrong.map_blocks(X[:8], rows=10, args=(kind, 5), **how)  # the first tells what it is to be
    assert len(whole) == 8


@pytest.mark.parametrize("at", [5, 505, 999])
def test_an_error_of_the_function(how: How, at: int, long_spans: None) -> None:
    """It is raised as it is, with a note that says for which rows."""
    begin = at // 10 * 10
    with pytest.raises(LookupError, match="not this one") as caught:
        wrong.map_blocks(X, rows=10, args=("error", at), **how)
    span, *block = reversed(caught.value.__notes__)
    if at < 10:
        assert not block and "in wrong.map_blocks, rows 0 to 10" in span
    else:
        assert block == [f"in wrong, the block of rows {begin} to {begin + 10}"]
        assert "in wrong.map_blocks, rows 10 to 1000" in span


@pytest.mark.parametrize(
    ("arrays", "keywords", "error", "match"),
    [
        ([], {}, TypeError, "one array or more"),
        ([np.float64(5.0)], {}, TypeError, "one dimension or more"),
        ([np.array(5)], {}, TypeError, "one dimension or more"),
        ([[1, 2, 3]], {}, TypeError, "argument 0 is"),
        ([X, [1, 2, 3]], {}, TypeError, "argument 1 is"),
        ([X, "text"], {}, TypeError, "argument 1 is"),
        ([X, X[1:]], {}, ValueError, "same number of rows.*1000, 999"),
        ([X], {"rows": 0}, ValueError, "rows"),
        ([X], {"rows": -1}, ValueError, "rows"),
        ([X], {"rows": 2.5}, (TypeError, ValueError), "rows"),
        ([X], {"args": "text"}, TypeError, "args"),
        ([X], {"args": 5}, TypeError, "args"),
        ([X], {"kwargs": [1]}, TypeError, "kwargs"),
        ([X], {"on_error": "skip"}, ValueError, "on_error"),
        ([X], {"on_error": "return"}, ValueError, "on_error"),
        ([X], {"workers": 0}, ValueError, "workers"),
        ([X], {"columns": 0}, TypeError, "columns"),
    ],
)
def test_what_is_refused(how: How, tmp_path: Path, arrays: Any, keywords: How, error: Any, match: str) -> None:
    """It is told before anything is called."""
    mark = tmp_path / "called"

    @parallel
    def write(*given_: Any) -> Any:
        tell(mark, "called")
        return given_[0]

    with pytest.raises(error, match=match):
        write.map_blocks(*arrays, **{**how, **keywords})
    assert not mark.exists()


def test_functions_with_files_are_refused(how: How, tmp_path: Path) -> None:
    """What claims outputs has none here."""
    claimed = parallel(
        claimed_output(str(tmp_path / "{block}.npy"), save=np.save, load=np.load)(array_tasks.doubled)
    )
    with pytest.raises(TypeError, match="claimed_output"):
        claimed.map_blocks(X, **how)


def test_functions_that_can_not_be_sent(pool: Controller) -> None:
    """TypeError, as in a map."""
    lock = threading.Lock()

    @parallel
    def locked(block: np.ndarray) -> np.ndarray:
        with lock:
            return block

    with pytest.raises(TypeError, match="locked can't be sent"):
        locked.map_blocks(X, backend=pool)
    same(locked.map_blocks(X, backend="threads", workers=2), X)


def test_results_that_are_looked_at(how: How) -> None:
    """A function with ``@validated`` refuses results of blocks as of any call."""
    array = np.arange(1000)
    same(array_tasks.only_positive.map_blocks(array, rows=10, **how), array)
    array[500] = -5
    with pytest.raises(InvalidResult):
        array_tasks.only_positive.map_blocks(array, rows=10, **how)


# -- ends -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", [5, 50_505], ids=["first block", "later block"])
@pytest.mark.parametrize(("kind", "status"), [("exit", 7), ("kill", -signal.SIGKILL)])
def test_a_worker_that_dies(kind: str, status: int, at: int, long_spans: None) -> None:
    """WorkerDied is raised, the pool goes on, and no slot and no memory is held for what did not become a result."""
    x = np.arange(300_000)
    with Controller(2) as own:
        same(doubled.map_blocks(x, rows=1000, backend=own), 2 * x)
        with pytest.raises(WorkerDied) as caught:
            wrong.map_blocks(x, rows=1000, args=(kind, at), backend=own)
        error = caught.value
        assert error.exitcode == status
        assert isinstance(error.item, range) and at in error.item and error.index == error.item.start
        assert len(error.item) == 1000 if at < 1000 else len(error.item) > 1000
        assert error.__notes__[0].startswith(
            f"in wrong.map_blocks, rows {error.item.start} to {error.item.stop}, worker "
        )
        same(doubled.map_blocks(x, rows=1000, backend=own), 2 * x)
        at_rest(own)


def test_limits_and_attempts_are_those_of_a_block(pool: Controller, tmp_path: Path) -> None:
    """Not of all that a worker is sent at once: many blocks may take longer together, or fail once each."""

    def fails_once(block: np.ndarray, marks: str) -> np.ndarray:
        mark = Path(marks) / str(block[0])
        if not mark.exists():
            mark.touch()
            raise OSError("once")
        return block

    x = np.arange(200)
    again = retry_on(OSError, attempts=2, wait=0)(parallel(fails_once))
    assert (again.map_blocks(x, rows=10, args=(str(tmp_path),), backend=pool) == x).all()
    assert len(os.listdir(tmp_path)) == 20


@pytest.mark.parametrize("special", [np.ma.masked_less(np.arange(9), 3), np.arange(9).view(np.recarray)])
def test_what_is_more_than_its_numbers(special: Any) -> None:
    """A masked array, say, is refused as an input and as a result, rather than robbed of its mask."""
    with pytest.raises(TypeError, match="argument 0 is a numpy"):
        doubled.map_blocks(special, backend="inline")
    with pytest.raises(InvalidResult, match="returned a numpy"):
        parallel(lambda block: np.ma.masked_less(block, 3)).map_blocks(np.arange(9), backend="inline")


@pytest.mark.parametrize(("result", "named"), [(None, "NoneType"), ((1, 2), "tuple")])
def test_a_result_that_is_no_array(result: Any, named: str) -> None:
    """It is named, even if numpy would make an array of it."""
    with pytest.raises(InvalidResult, match=f"returned a {named} for the rows 0 to 2"):
        parallel(lambda block: result).map_blocks(np.arange(4), rows=np.int64(2), backend="inline")


def test_nothing_grows(pool: Controller) -> None:
    """Over many calls parent and workers open no more files, and hold no slot."""

    def some(number: int) -> None:
        for each in range(number):
            x = np.arange(150_000) + each
            assert (doubled.map_blocks(x, rows=10_000, backend=pool) == 2 * x).all()

    some(5)
    before, theirs = descriptors(), set(array_tasks.worker_descriptors.map(range(8), backend=pool))
    some(100)
    assert max(array_tasks.worker_descriptors.map(range(8), backend=pool)) <= max(theirs) + 10
    assert descriptors() <= before + 10  # another segment or two at a busy moment
    at_rest(pool)


def test_a_span_that_takes_too_long(gate: Fifo) -> None:
    """``timeout`` is that of what is sent to a worker at once."""

    def stuck(block: np.ndarray, gate: str) -> np.ndarray:
        wait_for(gate)
        return block

    with Controller(1) as own:
        with pytest.raises(TaskTimeout, check=lambda error: error.item == range(500)):
            parallel(stuck).map_blocks(X, rows=500, args=(gate.path,), timeout=0.3, backend=own)
        same(doubled.map_blocks(X, backend=own), 2 * X)


def test_a_pool_that_is_closed_meanwhile(begun: Fifo, gate: Fifo) -> None:
    """Its end is the error that is raised."""
    errors: list[BaseException] = []
    own = Controller(1)

    def stuck(block: np.ndarray) -> np.ndarray:
        if block[0] >= 500:
            tell(begun.path, "begun")
            wait_for(gate.path)
        return block

    def run() -> None:
        try:
            parallel(stuck).map_blocks(X, rows=500, backend=own)
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    begun.line()
    own.close(kill=True)
    thread.join()
    assert len(errors) == 1
    assert isinstance(errors[0], WorkerDied | PoolClosed)
    with pytest.raises(PoolClosed):
        doubled.map_blocks(X, backend=own)


@pytest.mark.parametrize("kind", ["error", "exit", "kill"])
def test_tried_again(processes: How, tmp_path: Path, kind: str) -> None:
    """With ``@retry_on`` what failed is called again, with rows that nobody has written to."""
    result = array_tasks.wrong_once.map_blocks(X.copy(), rows=10, args=(kind, 505, str(tmp_path)), **processes)
    same(result, 2 * X)
    assert (tmp_path / "mark").exists()
    assert lines(tmp_path / "calls").count("500 10") == 2


def test_tried_again_is_no_endless_thing(how: How) -> None:
    """When all attempts have failed, the last error is raised."""
    from manyhands import retry_on

    stubborn = parallel(retry_on(LookupError, attempts=3, wait=0)(array_tasks.wrong))
    with pytest.raises(LookupError, match="not this one"):
        stubborn.map_blocks(X, rows=10, args=("error", 505), **how)


def test_errors_that_can_not_be_pickled(pool: Controller) -> None:
    """They arrive as in any map."""

    class Mute(Exception):
        def __reduce__(self) -> Any:
            raise TypeError("not this one")

    def silent(block: np.ndarray) -> np.ndarray:
        if block[0] >= 500:
            raise Mute("nothing")
        return block

    with pytest.raises(RemoteError):
        parallel(silent).map_blocks(X, rows=10, backend=pool)


def test_what_fails_keeps_no_descriptor() -> None:
    """The memory of a result that will not be is let go of at once."""
    x = np.arange(100_000)
    with Controller(2) as own:
        wrong = parallel(array_tasks.wrong).options(backend=own)
        with pytest.raises(LookupError):
            wrong.map_blocks(x, rows=1000, args=("error", 50_000))
        gc.collect()
        before = descriptors()
        for _ in range(10):
            with pytest.raises(LookupError):
                wrong.map_blocks(x, rows=1000, args=("error", 50_000))
        gc.collect()
        assert descriptors() <= before + 1


def test_what_the_function_raised_is_no_reason_to_begin_again(tmp_path: Path) -> None:
    """PoolClosed from inside of the function is its error as any other."""
    marks = tmp_path / "calls"

    def uses_closed_pool(block: np.ndarray) -> np.ndarray:
        if block[0] >= 500:
            tell(marks, block[0])
            if lines(marks).count("500.0") > 5:
                raise LookupError("that goes on for ever")
            raise PoolClosed("one of its own")
        return block

    with pytest.raises(PoolClosed, match="one of its own"):
        parallel(uses_closed_pool).map_blocks(np.arange(1000.0), rows=100, workers=1)
    assert lines(marks).count("500.0") == 1


@pytest.mark.parametrize("rows", [4, 10], ids=["several blocks", "one block"])
def test_views_in_the_other_byte_order(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every second row of a big-endian array (of a FITS file, say) has the type that it has, in each block."""
    monkeypatch.setattr(blocks, "SPAN_BYTES", 1)  # so that each block is sent by itself, the last of one row
    array = np.arange(18).astype(">i2")[::2]
    with Controller(1) as one:
        result = parallel(array_tasks.as_it_is).map_blocks(array, rows=rows, backend=one)
    assert result.tolist() == array.tolist()
    assert result.dtype == array.dtype


def test_errors_name_the_function() -> None:
    """Not the class that it is wrapped in."""
    lock = threading.Lock()

    @parallel(workers=1)
    def locked(block: np.ndarray) -> np.ndarray:
        with lock:
            return block

    with pytest.raises(TypeError, match="locked can't be sent"):
        locked.map_blocks(np.arange(1000))
    with pytest.raises(LookupError) as caught:
        parallel(array_tasks.wrong).map_blocks(np.arange(1000), rows=10, args=("error", 505), workers=1)
    assert not any("ParallelFunction" in note for note in caught.value.__notes__)


# -- other things -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [None, 7, 1000])
def test_progress_counts_rows(
    how: How, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, rows: int | None
) -> None:
    """The bar goes to the number of rows, whatever the blocks, and has the function's name or the label given."""
    monkeypatch.setattr(blocks, "SPAN_BYTES", 4000)
    monkeypatch.setenv("MANYHANDS_PROGRESS", "1")
    x = np.arange(12_345)
    same(doubled.map_blocks(x, rows=rows, progress=True, **how), 2 * x)
    err = capsys.readouterr().err
    assert "12345/12345" in err
    assert "doubled" in err
    assert "row" in err
    same(
        parallel(array_tasks.objects).map_blocks(x, rows=rows, progress="the label", **how),
        array_tasks.objects(x),
    )
    err = capsys.readouterr().err
    assert "12345/12345" in err
    assert "the label" in err


def test_progress_of_no_rows(
    how: How, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is nothing to count."""
    monkeypatch.setenv("MANYHANDS_PROGRESS", "1")
    same(doubled.map_blocks(np.zeros(0), progress=True, **how), np.zeros(0))
    assert "0" in capsys.readouterr().err


def test_within_a_worker(processes: How) -> None:
    """There it runs right there."""
    for number, (total, right, there) in enumerate(array_tasks.blocks_within.map(range(3), **processes)):
        assert (total, right, there) == (2 * sum(range(1000)) + 2000 * number, True, True)


def test_options_of_the_decorator(tmp_path: Path) -> None:
    """They hold here too, and those that mean nothing here do no harm."""
    options = {"ordered": False, "chunksize": 3, "buffersize": 1, "threads": 2, "workers": 2}
    x = np.arange(MIB)
    same(doubled.options(**options).map_blocks(x, rows=1000), 2 * x)
    assert os.listdir(tmp_path) == []


def test_bound_methods(how: How) -> None:
    """A method of a local class, with what its object holds."""

    class Scale:
        def __init__(self, factors: np.ndarray) -> None:
            self.factors = factors

        @parallel
        def scaled(self, block: np.ndarray) -> np.ndarray:
            return block * self.factors

    factors = np.arange(20_000.0)
    x = np.ones((30, 20_000))
    same(Scale(factors).scaled.map_blocks(x, rows=4, **how), x * factors)


def test_maps_of_blocks_in_several_threads(pool: Controller) -> None:
    """At the same time on one pool, each has its own result."""
    right: list[bool] = []

    def run(number: int) -> None:
        x = np.arange(300_000) + number
        right.append(bool((doubled.map_blocks(x, backend=pool) == 2 * x).all()))

    threads = [threading.Thread(target=run, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert right == [True] * 6


def test_map_blocks_on_a_pool_that_is_closed_before_it_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """The end of the pool is the error, also when all its memory is gone before the map notices."""
    own = Controller(1)
    entered, closed = threading.Event(), threading.Event()
    close_canvas = own.dispatcher.memory.bank.close_canvas

    def close_late(number: int) -> object:
        entered.set()
        assert closed.wait(90)
        return close_canvas(number)

    monkeypatch.setattr(own.dispatcher.memory.bank, "close_canvas", close_late)
    errors: list[BaseException] = []

    def run() -> None:
        try:
            parallel(array_tasks.wrong).map_blocks(np.arange(1000), rows=10, args=("error", 505), backend=own)
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    assert entered.wait(90)
    own.close()
    closed.set()
    thread.join()
    assert [type(error) for error in errors] in ([LookupError], [WorkerDied], [PoolClosed])

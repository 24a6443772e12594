"""Large data goes to workers and comes back as small data does, whatever way it takes."""

from __future__ import annotations

import asyncio
import errno
import os
import pickle
import signal
import threading
from array import array as machine_array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from manyhands import Controller, PoolClosed, WorkerDied, parallel, retry_on
from manyhands.controller import session
from manyhands.controller.pool import close_shared
from manyhands.memory import segment
from manyhands.memory.bank import Bank
from tests.contract import array_tasks, tasks
from tests.contract.array_tasks import KIB, MIB, STAGES, Counted, Picture, checksum, descriptors, seen
from tests.helpers import (
    DEADLINE,
    Fifo,
    descendants,
    ends_of,
    lines,
    names,
    run_script,
    started,
    tell,
    until,
    wait_for,
    write_script,
)

How = dict[str, Any]


@pytest.fixture(scope="module")
def pool() -> Iterator[Controller]:
    """Two workers for most of the tests here."""
    with Controller(2) as controller:
        yield controller


def numbered(number: int, size: int = 100 * KIB) -> np.ndarray:
    """An array that can be told from others by its elements."""
    return np.full(size, number, np.uint8)


def at_rest(pool: Controller) -> None:
    """Waits until nothing is used any more of what this process has for its workers."""
    until(lambda: pool.dispatcher.memory.bank.used == 0, "all slots are free")


# -- values -----------------------------------------------------------------------------------------------------

LAYOUTS = ["plain", "fortran", "transposed", "strided", "reversed", "read-only", "column"]


def laid_out(array: np.ndarray, layout: str) -> np.ndarray:
    """The array as a view, or in another order."""
    match layout:
        case "fortran":
            return np.asfortranarray(array)
        case "transposed":
            return array.T
        case "strided":
            return array[::2]
        case "reversed":
            return array[::-1]
        case "read-only":
            array.flags.writeable = False
        case "column":
            return array[..., :1]
    return array


@st.composite
def arrays(draw: st.DrawFn) -> np.ndarray:
    """Arrays of any type, small, empty, or of more than 64 KiB."""
    scalars = hnp.scalar_dtypes()
    dtype = draw(scalars | hnp.array_dtypes(scalars, max_size=3, allow_subarrays=True))
    small = draw(hnp.arrays(dtype, hnp.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=4)))
    if small.size and draw(st.booleans()):
        rows = -(-70 * KIB // max(1, small[:1].nbytes)) if small[:1].nbytes else 1
        small = np.resize(small, (2 * rows, *small.shape[1:]))
    return laid_out(small, draw(st.sampled_from(LAYOUTS)))


large_texts = st.builds(lambda text, size: text * size, st.sampled_from(["x", "ä€", "\0"]), st.just(70 * KIB))
large_bytes = st.builds(lambda data, size: data * size, st.binary(min_size=1, max_size=3), st.just(70 * KIB))
leaves = (
    arrays()
    | large_bytes
    | large_bytes.map(bytearray)
    | large_texts
    | st.just(machine_array("d", [0.5]) * (9 * KIB))
    | st.just(np.array([None, "text", 5, (1, 2)] * (3 * KIB), object).reshape(2, -1))
    | st.integers()
    | st.none()
)
containers = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=3), inner, max_size=3)
        | st.tuples(inner, inner)
        | st.builds(Picture, st.just("name"), arrays(), st.dictionaries(st.text(max_size=3), inner, max_size=2))
    ),
    max_leaves=5,
)


@settings(max_examples=100)
@given(array=arrays())
def test_arrays_are_what_plain_pickles_would_be(pool: Controller, array: np.ndarray) -> None:
    """Value, type, shape, order and whether it may be written to, after the way there and back."""
    expected = seen(pickle.loads(pickle.dumps(array, protocol=5)))
    (result,) = array_tasks.same.map([array], backend=pool)
    assert seen(result) == expected


@settings(max_examples=40)
@given(value=containers)
def test_whatever_holds_large_data(pool: Controller, value: Any) -> None:
    """Lists, dicts and objects with arrays, texts and byte strings somewhere in them."""
    expected = seen(pickle.loads(pickle.dumps(value, protocol=5)))
    (result,) = array_tasks.same.map([value], backend=pool)
    assert seen(result) == expected
    assert seen(pool.submit(array_tasks.same, value).result()) == expected


CASES: dict[str, Any] = {
    "array": np.arange(50_000.0),
    "fortran": np.asfortranarray(np.arange(60_000).reshape(200, 300)),
    "view": np.arange(100_000.0)[::3],
    "structured": np.zeros(9000, [("a", "i4"), ("b", "U3"), ("c", "f8", (2,))]),
    "dates": np.arange(20_000).astype("M8[s]"),
    "objects": np.array([{"x": i} for i in range(9000)], object),
    "empty": np.zeros((0, 5)),
    "bytes": b"bytes" * (20 * KIB),
    "bytearray": bytearray(b"array" * (20 * KIB)),
    "text": "täxt" * (20 * KIB),
    "array.array": machine_array("i", range(30_000)),
    "nested": {"a": [np.arange(50_000), (np.arange(5), b"b" * (70 * KIB))], "c": None},
    "object": Picture("p", np.ones((300, 300)), {"mask": np.zeros(70 * KIB, bool), "small": np.zeros(3)}),
}


def test_each_start_method(processes: How) -> None:
    """The same whatever the workers come from: mapped from a list, from a generator, and submitted."""
    values = list(CASES.values())
    expected = [seen(value) for value in pickle.loads(pickle.dumps(values, protocol=5))]
    assert list(map(seen, array_tasks.same.map(values, **processes))) == expected
    assert list(map(seen, array_tasks.same.map(iter(values), **processes))) == expected
    futures = [array_tasks.same.options(**processes).submit(value) for value in values]
    assert [seen(future.result()) for future in futures] == expected


@pytest.mark.parametrize(
    "options", [{"threads": 2}, {"chunksize": 5}, {"ordered": False}, {"buffersize": 1}], ids=str
)
def test_each_way_to_map(options: How) -> None:
    """Threads, chunks, order and bounds change nothing of the values."""
    values = list(CASES.values()) * 2
    expected = [seen(pickle.loads(pickle.dumps(value, protocol=5))) for value in values]
    outcomes = array_tasks.same.map(values, workers=2, **options).outcomes()
    found = {outcome.index: seen(outcome.value) for outcome in outcomes}
    assert [found[index] for index in range(len(values))] == expected


@pytest.mark.parametrize("chunksize", [1, 4])
def test_maps_of_a_controller(pool: Controller, chunksize: int) -> None:
    """``Controller.map`` takes large data from several iterables, and by chunks."""
    values = list(CASES.values())
    expected = [
        seen(pickle.loads(pickle.dumps((value, index), protocol=5))) for index, value in enumerate(values)
    ]
    pairs = pool.map(lambda value, index: (value, index), values, range(len(values)), chunksize=chunksize)
    assert list(map(seen, pairs)) == expected


VIEWS = {
    "bytes": memoryview(b"abc"),
    "writable": memoryview(bytearray(b"abc")),
    "of an array": memoryview(machine_array("h", [1, -2])),
    "large": memoryview(np.arange(9.0 * KIB)),
    "rows": memoryview(np.arange(18.0 * KIB).reshape(2, -1)),
    "columns": memoryview(np.arange(18.0 * KIB).reshape(2, -1).T),
    "large columns, read-only": memoryview(np.arange(18.0 * KIB).reshape(2, -1).T).toreadonly(),
    "strided": memoryview(np.arange(12)[::2]),
    "no axis": memoryview(np.array(3.0)),
    "empty": memoryview(b""),
    "no rows": memoryview(np.zeros((0, 3))),
    "a foreign order": memoryview(np.arange(12.0).astype(">f8")),
}


@pytest.mark.parametrize("name", VIEWS)
def test_views_of_memory(pool: Controller, name: str) -> None:
    """Arrive and come back with their format and shape, as far as Python can have it, writable or not."""
    view = VIEWS[name]
    form, shape, here = array_tasks.described_view.map([view], backend=pool).collect()[0][0]
    (back,) = array_tasks.same.map([[view]], backend=pool)
    assert type(back[0]) is memoryview
    assert (back[0].format, back[0].shape, back[0].readonly, back[0].tobytes()) == (
        form,
        shape,
        here,
        view.tobytes(),
    )
    assert here == view.readonly
    if name == "no rows":
        assert (form, shape) == ("d", (0,))
    elif name == "a foreign order":
        assert (form, shape) == ("B", (96,))
    else:
        assert (form, shape) == (view.format, view.shape)


def test_an_array_that_comes_twice_is_one_array(pool: Controller) -> None:
    """What is one object in a value is one object in its copy, as in any pickle."""
    array = np.arange(50_000.0)
    one, two = pool.submit(lambda pair: (pair[0] is pair[1], pair), (array, array)).result()
    assert one
    assert two[0] is two[1]


def test_with_asyncio() -> None:
    """Awaited results are the same."""

    async def main() -> list[Any]:
        first = await array_tasks.same.asubmit(CASES["array"])
        return [first, *[value async for value in array_tasks.same.map([CASES["nested"]] * 3)]]

    found = asyncio.run(main())
    assert list(map(seen, found)) == [seen(CASES["array"]), *[seen(CASES["nested"])] * 3]


def test_large_data_goes_through_shared_memory(pool: Controller) -> None:
    """Both ways: what is 64 KiB or more lies in slots, and what is smaller in none."""
    with Controller(1) as fresh:
        assert fresh.submit(array_tasks.same, numbered(1, 60 * KIB)).result()[0] == 1
        assert fresh.dispatcher.memory.bank.size == fresh.submit(array_tasks.own_memory).result()[1] == 0
        future = fresh.submit(array_tasks.check, numbered(1, 64 * KIB))
        assert future.result() == checksum(numbered(1, 64 * KIB))
        assert fresh.dispatcher.memory.bank.size > 0
        assert fresh.submit(array_tasks.own_memory).result()[1] == 0
        array = fresh.submit(array_tasks.fill, 2, 64 * KIB).result()
        assert (array == 2).all()
        assert fresh.submit(array_tasks.own_memory).result()[1] > 0


def test_functions_that_are_not_plain(pool: Controller) -> None:
    """Validation of arguments and of results sees large ones as they are, and keeps the others."""
    items = [numbered(number) for number in (1, 9, 2, 8, 3)]
    good = array_tasks.validated_add_one.map([*items, numbered(9)], backend=pool)
    assert [int(array[0]) for array in good] == [2, 3, 9, 4]
    assert good.counts.discarded == 2
    future = array_tasks.validated_add_one.options(backend=pool).submit(numbered(200, 2 * MIB))
    assert seen(future.result()) == seen(numbered(201, 2 * MIB))


# -- whose it is ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [100 * KIB, 3 * MIB])
def test_a_changed_input_is_a_result(pool: Controller, size: int) -> None:
    """A call may change its input in place and return it; the input of the parent stays as it is."""
    items = [numbered(number, size) for number in range(20)]
    results = list(array_tasks.add_one.map(items, backend=pool))
    assert [seen(array) for array in results] == [seen(numbered(number + 1, size)) for number in range(20)]
    assert [seen(array) for array in items] == [seen(numbered(number, size)) for number in range(20)]


def test_what_a_worker_writes_no_other_call_sees(processes: How) -> None:
    """One array sent a hundred times arrives fresh each time, in one worker and in several."""
    array = np.arange(80 * KIB, dtype=np.uint8)
    expected = checksum(array), checksum(numbered(255, 80 * KIB))
    assert set(array_tasks.spoil.map([array] * 100, **processes)) == {expected}
    assert set(array_tasks.spoil.map(iter([array] * 20), **processes, threads=2, chunksize=4)) == {expected}
    assert checksum(array) == expected[0]


@pytest.mark.parametrize("size", [10, 100 * KIB])
def test_a_generator_may_use_its_array_again(pool: Controller, size: int) -> None:
    """An item is what it was when it was drawn, however many are drawn and sent together."""

    def items() -> Iterator[np.ndarray]:
        array = numbered(0, size)
        for number in range(200):
            array[...] = number
            yield array

    expected = [checksum(numbered(number, size)) for number in range(200)]
    list(array_tasks.check.map([numbered(1, size)] * 1000, backend=pool))  # it is known to be quick
    for _ in range(5):
        assert list(array_tasks.check.map(items(), backend=pool)) == expected


def test_a_submitted_array_may_be_changed_at_once(pool: Controller) -> None:
    """A call has what it was submitted with."""
    array = numbered(0)
    futures = []
    for number in range(30):
        array[...] = number
        futures.append(pool.submit(array_tasks.check, array))
    assert [future.result() for future in futures] == [checksum(numbered(n)) for n in range(30)]


@pytest.mark.parametrize("size", [100 * KIB, 2 * MIB])
def test_what_a_worker_keeps_stays_as_it_was(size: int) -> None:
    """An input in a global of the worker is not touched by the calls after it, nor by an idle time."""
    with Controller(1) as one:
        first = np.arange(size, dtype=np.uint8)
        assert list(array_tasks.keep.map([first], backend=one)) == [checksum(first)]
        for round_number in range(20):
            items = [numbered(round_number + number, size) for number in range(5)]
            list(array_tasks.add_one.map(items, backend=one))
            assert list(array_tasks.look_at_kept.map([0], backend=one)) == [checksum(first)]
        assert one.dispatcher.memory.bank.used == 1
        assert list(array_tasks.spoil_kept.map([0], backend=one)) == [checksum(numbered(77, size))]
        list(array_tasks.spoil.map([first] * 5, backend=one))
        assert list(array_tasks.look_at_kept.map([0], backend=one)) == [checksum(numbered(77, size))]
        list(array_tasks.keep.map([np.zeros(1)], backend=one))
        at_rest(one)


def test_what_a_worker_keeps_survives_an_idle_time() -> None:
    """Memory that is given back is not what a worker still looks at."""
    with Controller(1) as one:
        first = np.arange(2 * MIB, dtype=np.uint8)
        items = [first, *[numbered(n, 40 * MIB) for n in range(2)]]
        list(array_tasks.keep.map(items[:1], backend=one))
        list(array_tasks.check.map(items[1:], backend=one))
        large = one.dispatcher.memory.bank.size
        until(lambda: one.dispatcher.memory.bank.size < large, "memory is given back")
        assert list(array_tasks.look_at_kept.map([0], backend=one)) == [checksum(first)]


def test_results_outlive_their_pool_and_its_workers() -> None:
    """Kept results are right after all their workers have been killed, and may be written to."""
    with Controller(2) as own:
        results = list(array_tasks.fill.map(range(200), args=(MIB,), backend=own))
        workers = set(tasks.process_id.map(range(20), backend=own))
        with ends_of(workers) as wait:
            for worker in workers:
                os.kill(worker, signal.SIGKILL)
            wait()
        assert list(tasks.double.map([1, 2], backend=own)) == [2, 4]
    for number, array in enumerate(results):
        assert (array == number).all()
        array[...] = (number + 1) % 256
    for number, array in enumerate(results):
        assert (array == (number + 1) % 256).all()


def test_results_are_not_touched_by_later_calls(pool: Controller) -> None:
    """What a call returned stays as it is, or as the receiver has changed it, whatever workers return later."""
    kept = list(array_tasks.fill.map(range(6), args=(2 * MIB,), backend=pool))
    kept[0][...] = 99
    for _ in range(5):
        list(array_tasks.fill.map(range(100, 120), args=(2 * MIB,), backend=pool))
    assert [set(np.unique(array)) for array in kept] == [{99}, {1}, {2}, {3}, {4}, {5}]
    part = kept[1][5:100]  # a view is enough
    del kept
    for _ in range(5):
        list(array_tasks.fill.map(range(100, 120), args=(2 * MIB,), backend=pool))
    assert set(part) == {1}


def test_results_that_are_dropped_and_kept_in_turn(pool: Controller) -> None:
    """Whatever is kept for a while among results that are not, all are right when they are looked at last."""
    kept: dict[int, np.ndarray] = {}
    for number, array in enumerate(array_tasks.fill.map(range(250), args=(MIB + KIB,), backend=pool)):
        kept[number] = array
        late = number - number % 7
        if late != number and late in kept:
            assert (kept.pop(late) == late).all()
    assert all((array == number).all() for number, array in kept.items())


def test_thousands_of_kept_results_use_no_descriptors(pool: Controller) -> None:
    """So many results of 100 KB are so many pieces of memory, not of what a process may have only a thousand of."""
    list(array_tasks.fill.map(range(4), args=(100_000,), backend=pool))
    before = descriptors()
    results = list(array_tasks.fill.map(range(1500), args=(100_000,), backend=pool))
    assert descriptors() <= before + 50
    assert all((array == number % 256).all() for number, array in enumerate(results))


def test_a_forked_parent(pool: Controller) -> None:
    """What a child of the parent writes into the results that both hold, the parent does not see."""
    results = list(array_tasks.fill.map(range(5), args=(2 * MIB,), backend=pool))
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            right = all((array == number).all() for number, array in enumerate(results))
            for array in results:
                array[...] = 255
            status = 0 if right else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert all((array == number).all() for number, array in enumerate(results))
    again = list(array_tasks.fill.map(range(20), args=(2 * MIB,), backend=pool))
    assert all((array == number).all() for number, array in enumerate(results + again[5:]))


@pytest.mark.parametrize("limit", [None, 0])
def test_read_only_arguments(limit: int | None) -> None:
    """With ``readonly`` what is large arrives as views that can't be written to, right as ever; results may be."""
    with Controller(2, max_shared_memory=limit) as own:
        options: How = {"backend": own, "readonly": True}
        items = [numbered(number) for number in range(20)]
        assert list(array_tasks.is_writeable.map(items, **options)) == [False] * 20
        assert list(array_tasks.is_writeable.map([numbered(1, 10)], **options)) == [True]
        assert array_tasks.is_writeable.options(**options).submit(numbered(1)).result() is False
        assert list(array_tasks.is_writeable.map(items, backend=own)) == [True] * 20
        failures = array_tasks.add_one.map(items, on_error="return", **options).collect()[1]
        assert [type(failure.error) for failure in failures] == [ValueError] * 20
        results = list(array_tasks.same.map([[item] for item in items], **options))
        assert all((result[0] == number).all() for number, result in enumerate(results))
        failing = array_tasks.spoil_fixed.map([1], args=(numbered(5),), on_error="return", **options)
        assert isinstance(failing.collect()[1][0].error, ValueError)
        results = list(array_tasks.fill.map(range(5), args=(MIB,), **options))
        assert [result.flags.writeable for result in results] == [True] * 5
        for _ in range(3):
            assert list(array_tasks.check.map(items, **options)) == [checksum(item) for item in items]
            assert {before for before, _ in array_tasks.spoil.map(items[:1] * 5, backend=own)} == {
                checksum(items[0])
            }


def test_results_in_a_forked_child_stay_as_they_are(begun: Fifo, gate: Fifo) -> None:
    """What a forked child has inherited it keeps, also when the parent has let go of its own and goes on."""
    with Controller(1) as one:
        (result,) = array_tasks.fill.map([5], args=(2 * MIB,), backend=one)
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                tell(begun.path, "holds it")
                wait_for(gate.path)
                status = 0 if (result == 5).all() else 2
            finally:
                os._exit(status)
        assert begun.line() == "holds it"
        del result
        for number in range(60, 90):
            list(array_tasks.fill.map([number], args=(2 * MIB,), backend=one))
        gate.let_go()
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


# -- fixed arguments and closures -------------------------------------------------------------------------------


def test_fixed_arguments(how: How) -> None:
    """Large ones arrive right, beside items that are large and that are not."""
    other, third = np.arange(90_000.0), np.asfortranarray(np.arange(60_000).reshape(300, 200))
    items = [numbered(number) for number in range(20)]
    expected = [[checksum(item), checksum(other), checksum(third)] for item in items]
    fixed = {"args": (other,), "kwargs": {"third": third}}
    assert list(array_tasks.both.map(items, **fixed, **how)) == expected
    assert list(array_tasks.both.map([numbered(1, 10)] * 20, **fixed, **how))[19][1:] == expected[0][1:]


@pytest.mark.parametrize(
    "function", [array_tasks.of_fixed, array_tasks.of_fixed_tried], ids=["plain", "retried"]
)
def test_fixed_arguments_travel_once(tmp_path: Path, function: Any) -> None:
    """They are pickled once for a map, and unpickled once in each worker."""
    with Controller(2) as own:
        fixed = Counted(str(tmp_path), numbered(5, 3 * MIB))
        assert list(function.map(range(300), args=(fixed,), backend=own)) == list(range(5, 305))
        assert lines(tmp_path / "pickled") == [str(os.getpid())]
        places = lines(tmp_path / "unpickled")
        assert len(places) == len(set(places)) <= 2
        assert str(os.getpid()) not in places


def test_fixed_arguments_belong_to_their_map() -> None:
    """What a worker writes into one, its later calls in that map see, as ever; the parent and other maps don't."""
    with Controller(1) as one:
        fixed = numbered(200, MIB)
        assert list(array_tasks.spoil_fixed.map(range(1, 6), args=(fixed,), backend=one)) == [200, 1, 2, 3, 4]
        assert list(array_tasks.spoil_fixed.map(range(1, 6), args=(fixed,), backend=one)) == [200, 1, 2, 3, 4]
        assert (fixed == 200).all()


def test_closures(how: How) -> None:
    """A function that closes over large data has it in its workers, as it is when the map begins."""
    table = np.arange(100_000.0)
    text = "text" * (30 * KIB)

    @parallel
    def look_up(index: int) -> tuple[float, str]:
        return float(table[index]), text[:4]

    assert list(look_up.map(range(50), **how)) == [(float(index), "text") for index in range(50)]
    table *= 2
    assert list(look_up.map([7], **how)) == [(14.0, "text")]
    table = table + 1
    assert list(look_up.map([7], **how)) == [(15.0, "text")]


def test_closures_that_are_submitted(pool: Controller) -> None:
    """So does one that is submitted, or mapped by the pool itself."""
    table = np.arange(100_000.0)
    look_up = parallel(lambda index: float(table[index])).options(backend=pool)
    assert [look_up.submit(index).result() for index in (5, 6)] == [5.0, 6.0]
    assert list(pool.map(lambda index: float(table[index]), range(5))) == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert pool.submit(lambda: float(table.sum())).result() == table.sum()


def test_a_submitted_function_sees_what_it_closes_over_as_it_is() -> None:
    """Large data that was changed in place between two calls arrives changed."""
    table = np.arange(100_000.0)
    look_up = parallel(lambda index: float(table[index])).options(workers=1)
    assert look_up.submit(7).result() == 7.0
    table *= 2
    assert look_up.submit(7).result() == 14.0


def test_a_submitted_function_with_large_data_finds_a_new_pool() -> None:
    """When the shared pool has ended meanwhile, the next call opens another, as with small data."""
    table = np.arange(100_000.0)
    look_up = parallel(lambda array: float(table[int(array[0])])).options(workers=1)
    assert look_up.submit(numbered(7)).result() == 7.0
    close_shared()
    assert look_up.submit(numbered(8)).result() == 8.0


def test_a_closed_pool_says_so_for_large_data() -> None:
    """PoolClosed, as for small data."""
    table = np.arange(100_000.0)
    look_up = parallel(lambda array: float(table[int(array[0])]))
    with Controller(1) as own:
        assert list(look_up.map([numbered(7)], backend=own)) == [7.0]
    with pytest.raises(PoolClosed):
        list(look_up.map([numbered(7)], backend=own))
    with pytest.raises(PoolClosed):
        look_up.options(backend=own).submit(numbered(7))
    with pytest.raises(PoolClosed):
        parallel(array_tasks.doubled).map_blocks(np.arange(1000.0), rows=10, backend=own)


# -- what is left -----------------------------------------------------------------------------------------------


def test_nothing_grows_over_many_maps() -> None:
    """After 300 maps parent and workers have as many files open as after three, and no slot is in use."""
    with Controller(2) as own:

        def some_maps(number: int) -> None:
            for each in range(number):
                items = [numbered(each), numbered(each, 10)]
                expected = [seen(item) for item in items]
                assert list(map(seen, array_tasks.same.map(items, args=(), backend=own))) == expected
                table = numbered(each)
                assert list(parallel(lambda index, t=table: int(t[index])).map([1], backend=own)) == [
                    each % 256
                ]

        some_maps(5)
        before, theirs = descriptors(), set(array_tasks.worker_descriptors.map(range(8), backend=own))
        some_maps(150)
        until(
            lambda: list(tasks.double.map(range(8), backend=own)) and own.dispatcher.memory.bank.used == 0,
            "all slots are free, as workers tell with what they say next",
        )
        assert descriptors() <= before + 2
        assert max(array_tasks.worker_descriptors.map(range(8), backend=own)) <= max(theirs) + 2


def test_memory_is_given_back_when_idle() -> None:
    """A while after the last call neither side holds shared memory that it does not use."""
    with Controller(1) as one:
        workers = list(tasks.process_id.map([0], backend=one))
        items = [numbered(number, 3 * MIB) for number in range(12)]
        results = array_tasks.add_one.map(items, backend=one)
        assert [int(array[0]) for array in results] == list(range(1, 13))
        del results
        assert one.dispatcher.memory.bank.size > 0
        until(lambda: one.dispatcher.memory.bank.size == 0, "the memory for arguments is given back")
        assert list(array_tasks.own_memory.map([0], backend=one)) == [(0, 0)]
        assert list(tasks.process_id.map([0], backend=one)) == workers  # not since they had ended
        assert [int(array[0]) for array in array_tasks.add_one.map(items, backend=one)] == list(range(1, 13))


def test_memory_for_fixed_arguments_is_given_back_when_idle() -> None:
    """A while after the map their slot is free, and not only when the idle workers are ended."""
    with Controller(1) as one:
        workers = list(tasks.process_id.map([0], backend=one))
        assert list(array_tasks.spoil_fixed.map([1], args=(numbered(5, MIB),), backend=one)) == [5]
        until(lambda: one.dispatcher.memory.bank.used == 0, "the slot is free")
        until(lambda: one.dispatcher.memory.bank.size == 0, "the memory is given back")
        assert list(tasks.process_id.map([0], backend=one)) == workers


def test_memory_is_used_again() -> None:
    """A thousand large arguments, one after the other, take no more memory than some of them."""
    with Controller(2) as own:
        array = numbered(3, MIB)
        results = array_tasks.add_one.map((array for _ in range(1000)), backend=own)
        assert all(result[0] == 4 for result in results)
        assert own.dispatcher.memory.bank.size <= 256 * MIB
        sizes = [size for _, size in array_tasks.own_memory.map(range(4), backend=own)]
        assert max(sizes) <= 256 * MIB


@pytest.mark.parametrize("workers", [1, 2])
def test_quick_calls_take_turns_in_few_slots(monkeypatch: pytest.MonkeyPatch, workers: int) -> None:
    """While all workers are at work, the next item waits for memory that was used before."""
    monkeypatch.setattr(session, "_MOST_PATIENCE", DEADLINE)
    monkeypatch.setattr(session, "_TOUCH_SECONDS", DEADLINE)
    places = set()

    def noted(self: Bank, parts: Any, readonly: bool = False, store: Any = Bank.store) -> Any:
        stored = store(self, parts, readonly)
        places.add((stored.place.segment, stored.place.offset))
        return stored

    monkeypatch.setattr(Bank, "store", noted)
    for kind in (list, iter):
        with Controller(workers) as own:
            places.clear()
            items = [numbered(number) for number in range(60)]
            results = array_tasks.add_one.map(kind(items), backend=own)
            assert [int(result[0]) for result in results] == list(range(1, 61))
            assert len(places) == workers
            at_rest(own)


def test_no_worker_waits_for_used_memory(begun: Fifo, gate: Fifo, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does an item wait for long while all of them are at slow calls."""
    asked = []
    monkeypatch.setattr(Bank, "is_warm", lambda self, size: asked.append(size))
    with Controller(2) as own:
        items = [numbered(number) for number in range(2)]
        results = array_tasks.meet_with.map(items, args=(begun.path, gate.path), backend=own)
        begun.line(), begun.line()
        gate.let_go(2)
        assert len(list(results)) == 2
        assert asked == []
        items = [numbered(number) for number in range(4)]
        results = array_tasks.meet_with.map(items, args=(begun.path, gate.path), backend=own)
        begun.line(), begun.line()
        gate.let_go(4)
        assert len(list(results)) == 4
        assert set(asked) >= {items[0].nbytes + len(pickle.dumps(items[0], 5, buffer_callback=lambda _: False))}


def test_slots_of_items_that_nobody_takes_are_free() -> None:
    """A map that is closed early, one whose items fail, and cancelled calls leave no slot in use."""
    with Controller(2) as own:
        items = [numbered(number) for number in range(100)]
        with array_tasks.add_one.map(iter(items), backend=own) as results:
            next(results)
        failing = parallel(lambda array: 1 // 0)
        assert len(failing.map(items, on_error="return", backend=own).collect()[1]) == 100
        with pytest.raises(ZeroDivisionError):
            list(failing.map(items, backend=own))
        futures = [own.submit(array_tasks.add_one, item) for item in items]
        for future in futures[::2]:
            future.cancel()
        assert all(int(future.result()[0]) for future in futures[1::2])
        del results, futures, future
        at_rest(own)
        assert set(array_tasks.own_memory.map([0], backend=own))


def test_results_that_nobody_looks_at_are_free() -> None:
    """The worker's memory is free again when futures are dropped, or a map only counted."""
    with Controller(1) as one:
        array_tasks.fill.map(range(20), args=(2 * MIB,), backend=one).wait()
        futures = [one.submit(array_tasks.fill, number, 2 * MIB) for number in range(20)]
        assert one.submit(tasks.double, 2).result() == 4
        del futures
        list(array_tasks.check.map([numbered(1)], backend=one))
        until(lambda: one.dispatcher.memory.bank.size == 0, "the pool rests")
        assert one.submit(array_tasks.own_memory).result() == (0, 0)


# -- without shared memory --------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [0, 4 * KIB, 200 * KIB, 3 * MIB])
def test_any_limit_will_do(limit: int) -> None:
    """Whatever shared memory there may be, and if there is to be none, everything works all the same."""
    values = list(CASES.values())
    expected = [seen(pickle.loads(pickle.dumps(value, protocol=5))) for value in values]
    with Controller(2, max_shared_memory=limit) as own:
        table = np.arange(100_000.0)
        assert list(map(seen, array_tasks.same.map(values, backend=own))) == expected
        assert [seen(own.submit(array_tasks.same, value).result()) for value in values] == expected
        assert [int(a[0]) for a in array_tasks.add_one.map([numbered(1, MIB)] * 30, backend=own)] == [2] * 30
        assert list(parallel(lambda index: float(table[index])).map([1, 2], backend=own)) == [1.0, 2.0]
        kept = list(array_tasks.fill.map(range(30), args=(MIB,), backend=own))
        assert [set(np.unique(array)) for array in kept] == [{number} for number in range(30)]
        assert own.dispatcher.memory.bank.size <= limit
        sizes = [size for _, size in array_tasks.own_memory.map(range(6), backend=own)]
        assert max(sizes) <= limit
        at_rest(own)


def test_options_have_a_limit_too() -> None:
    """``max_shared_memory`` of a map is that of its pool."""
    assert [int(a[0]) for a in array_tasks.add_one.map([numbered(1)] * 5, workers=2, max_shared_memory=0)] == [
        2
    ] * 5
    assert list(array_tasks.own_memory.map([0], workers=2, max_shared_memory=0)) == [(0, 0)]
    with pytest.raises(ValueError, match="max_shared_memory"):
        array_tasks.same.map([1], max_shared_memory=-1)


@pytest.mark.parametrize("method", ["forkserver", "fork"])
def test_a_system_that_gives_none(monkeypatch: pytest.MonkeyPatch, method: Any) -> None:
    """Where no shared memory can be had, for the parent or (forked from it) its workers, pipes are used."""

    def none_left(name: str, size: int) -> int:
        raise OSError(errno.ENOMEM, "no memory")

    with Controller(2, start_method=method) as own:
        list(tasks.double.map(range(10), backend=own))  # its workers have what they need to start
        monkeypatch.setattr(segment, "anonymous", none_left)
        values = list(CASES.values())
        expected = [seen(pickle.loads(pickle.dumps(value, protocol=5))) for value in values]
        assert list(map(seen, array_tasks.same.map(values, backend=own))) == expected
        assert own.dispatcher.memory.bank.size == own.dispatcher.memory.bank.used == 0


# -- ends -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [1, 2])
def test_a_worker_that_is_killed_in_a_call(threads: int) -> None:
    """Only its item fails; all others have their results, from inputs that nobody has written to before."""
    with Controller(2, threads=threads) as own:
        outcomes = list(
            array_tasks.die_if.map([numbered(n) for n in range(60)], args=(33,), backend=own).outcomes()
        )
        assert [outcome.index for outcome in outcomes if not outcome.ok] == [33]
        assert isinstance(outcomes[33].failure.error, WorkerDied)
        assert seen(outcomes[33].failure.item) == seen(numbered(33))  # the parent's own
        good = [seen(outcome.value) for outcome in outcomes if outcome.ok]
        assert good == [seen(numbered(number + 1)) for number in range(60) if number != 33]
        at_rest(own)


def test_who_runs_again_has_its_input_again(tmp_path: Path, begun: Fifo, gate: Fifo) -> None:
    """A call that has overwritten its input when a thread beside it ends the worker runs again with the original."""
    sign = Fifo(tmp_path / "sign")
    fresh = {"mate": str(checksum(numbered(2))), "victim": str(checksum(numbered(1)))}
    with Controller(1, threads=2) as one:
        fixed = (begun.path, gate.path, sign.path)
        results = array_tasks.mate_or_victim.map(
            [numbered(2), numbered(1)], args=fixed, chunksize=1, backend=one
        )
        first = [begun.line(), begun.line()]
        sign.let_go(2)
        again = begun.line()
        gate.let_go(2)
        outcomes = list(results.outcomes())
        said = [*first, again]
        while not begun.empty():
            said.append(begun.line())
        assert {line.split()[0] for line in said} == {"mate", "victim"}
        assert len(said) == 4
        assert all(fresh[who] == saw for who, saw in map(str.split, said))
        assert [outcome.ok for outcome in outcomes] == [True, False]
        assert outcomes[0].value == checksum(numbered(2))
        at_rest(one)
    sign.close()


def test_the_next_attempt_has_the_original(processes: How, tmp_path: Path) -> None:
    """What is tried again gets its input as it was, though the attempts before have written into it."""
    items = [numbered(number) for number in range(3)]
    expected = [(3, checksum(item)) for item in items]
    assert list(array_tasks.spoil_and_fail.map(items, args=(str(tmp_path),), **processes)) == expected
    for number, item in enumerate(items):
        assert lines(tmp_path / str(number)) == [str(checksum(item))] * 3
        assert seen(item) == seen(numbered(number))
    futures = array_tasks.spoil_and_fail.options(**processes).submit(numbered(50), str(tmp_path))
    assert futures.result() == (3, checksum(numbered(50)))


def test_the_next_attempt_after_a_death_has_the_original(pool: Controller, tmp_path: Path) -> None:
    """So does what is tried again since its worker ended."""
    (saw,) = array_tasks.spoil_and_die.map([numbered(4)], args=(str(tmp_path),), backend=pool)
    assert saw == checksum(numbered(4))
    assert names(tmp_path) == ["died"]


@pytest.mark.parametrize("size", [100, 100 * KIB])
@pytest.mark.parametrize("way", ["plain", "checked", "star", "keywords", "claimed"])
def test_the_next_attempt_has_what_was_drawn(
    pool: Controller, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str, size: int
) -> None:
    """Though the input uses one array for all its items."""
    monkeypatch.chdir(tmp_path)
    marks = tmp_path / "marks"
    marks.mkdir()

    def items() -> Iterator[Any]:
        array = numbered(0, size)
        for number in range(40):
            array[...] = number
            yield {"star": (array,), "keywords": {"array": array}, "claimed": (number, array)}.get(way, array)
        array[...] = 77

    expected = [checksum(numbered(number, size)) for number in range(40)]
    rules = {"star": {"star": True}, "keywords": {"star": None, "kwstar": True}, "claimed": {"star": True}}
    functions = {"checked": array_tasks.looked_at, "claimed": array_tasks.written_again}
    function, rule = functions.get(way, array_tasks.tried_again), rules.get(way, {})
    found = list(function.map(items(), kwargs={"marks": str(marks)}, backend=pool, **rule))
    if way == "claimed":
        found = [int(path.read_text().split()[1]) for path in found]
    assert found == expected
    at_rest(pool)


def test_a_pool_that_is_closed_before_the_next_attempt(tmp_path: Path) -> None:
    """Is the error, wherever what was drawn lies."""
    for size in (100, 100 * KIB):
        own = Controller(1)
        items = iter([numbered(size % 7, size)])
        results = array_tasks.tried_again.map(items, args=(str(tmp_path),), backend=own)
        until(lambda size=size: f"mark {size % 7}" in names(tmp_path), "it was tried")
        own.close()
        with pytest.raises(PoolClosed):
            list(results)


@pytest.mark.parametrize("stage", STAGES)
def test_a_worker_that_is_killed_as_it_sends(stage: str) -> None:
    """Wherever it was with its result: that item fails, others don't, and the pool goes on."""
    with Controller(2) as own:
        task = array_tasks.die_sending.options(backend=own, chunksize=1)
        kept = list(task.map(range(4), args=(MIB, -1, stage)))
        list(array_tasks.spoil.map([numbered(1)] * 3, backend=own))
        files = descriptors()
        outcomes = list(task.map(range(20), args=(2 * MIB, 11, stage)).outcomes())
        assert [outcome.index for outcome in outcomes if not outcome.ok] == [11]
        assert isinstance(outcomes[11].failure.error, WorkerDied)
        assert all((outcome.value == outcome.index).all() for outcome in outcomes if outcome.ok)
        assert all((array == number).all() for number, array in enumerate(kept))
        assert {before for before, _ in array_tasks.spoil.map([numbered(1)] * 3, backend=own)} == {
            checksum(numbered(1))
        }
        at_rest(own)
        assert descriptors() <= files + 4


def test_killed_calls_and_late_ones(begun: Fifo, gate: Fifo) -> None:
    """A call with large data that is killed, or takes too long, leaves its slot free and its pool whole."""
    with Controller(2) as own:
        future = own.submit(array_tasks.meet_with, numbered(1), begun.path, gate.path)
        begun.line()
        assert own.kill(future)
        assert isinstance(future.exception(), WorkerDied)
        late = array_tasks.meet_with.map([numbered(2)], args=(begun.path, gate.path), timeout=0.2, backend=own)
        assert not next(late.outcomes()).ok
        assert [int(a[0]) for a in array_tasks.add_one.map([numbered(1)] * 5, backend=own)] == [2] * 5
        at_rest(own)


SCRIPT = """
import sys
import numpy as np
from tests.contract import array_tasks

method, begun, gate = sys.argv[1:]
options = {"workers": 2, "start_method": method}
kept = list(array_tasks.fill.map(range(8), args=(1 << 21,), **options))
items = (np.full(3 << 20, number, np.uint8) for number in range(100))
list(array_tasks.meet_with.map(items, args=(begun, gate), **options))
"""


@pytest.mark.parametrize("whom", ["the parent", "all"])
def test_nothing_is_left_after_sigkill(tmp_path: Path, method: str, begun: Fifo, gate: Fifo, whom: str) -> None:
    """The memory has no name anywhere, so when its processes are gone, nothing is there of it."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    script = write_script(tmp_path / "script.py", SCRIPT)
    environment = {**os.environ, "TMPDIR": str(temporary)}
    with started(script, method, begun.path, gate.path, env=environment) as parent:
        workers = {int(begun.line().split()[1]) for _ in range(2)}
        everybody = descendants(parent.pid)
        assert workers <= set(everybody)
        for pid in (parent.pid, *workers):
            mapped = [line.split(maxsplit=5)[5:] for line in Path(f"/proc/{pid}/maps").read_text().splitlines()]
            shared = {path for (path,) in filter(None, mapped) if "manyhands" in path and ".py" not in path}
            assert any(path.startswith("/memfd:") for path in shared), f"no shared memory: {mapped}"
            assert not any(path.startswith(("/dev/shm", str(temporary))) for (path,) in filter(None, mapped))
        with ends_of(everybody) as wait:
            parent.kill()
            for pid in everybody if whom == "all" else ():
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            wait()
    assert names(temporary) == []


def test_the_end_of_a_program(tmp_path: Path) -> None:
    """Results, and what workers keep, hold up no exit, and the exit is a quiet one."""
    script = write_script(
        tmp_path / "script.py",
        """
        import numpy as np
        from manyhands import parallel
        from tests.contract import array_tasks

        kept = list(array_tasks.fill.map(range(8), args=(1 << 21,), workers=2))
        list(array_tasks.keep.map(kept, workers=2))
        table = np.arange(100_000.0)

        @parallel(workers=2)
        def look_up(index):
            return np.full(100_000, table[index])

        print(sum(float(array[0]) for array in look_up.map(range(5))), all((a == n).all() for n, a in enumerate(kept)))
        future = look_up.submit(3)
        """,
    )
    with started(script) as process:
        out, err = process.communicate(timeout=90)
        assert (out, err, process.returncode) == ("10.0 True\n", "", 0)


def test_too_many_open_files(tmp_path: Path) -> None:
    """A result whose memory can't be opened for that is its call's failure; when there is room again, all is well."""
    script = write_script(
        tmp_path / "script.py",
        """
        import os
        import resource
        from manyhands import Controller
        from tests.contract import array_tasks, tasks

        with Controller(1) as pool:
            print(list(tasks.double.map([1], backend=pool)))
            resource.setrlimit(resource.RLIMIT_NOFILE, (200, 200))
            files = []
            while True:
                try:
                    files.append(os.open("/dev/null", os.O_RDONLY))
                except OSError:
                    break
            failures = array_tasks.fill.map(range(5), args=(1 << 20,), backend=pool, on_error="return").collect()[1]
            print({type(failure.error).__name__ for failure in failures}, len(failures))
            print(list(tasks.double.map([2], backend=pool)))
            for file in files:
                os.close(file)
            print([int(array[0]) for array in array_tasks.fill.map(range(5), args=(1 << 20,), backend=pool)])
        """,
    )
    assert run_script(script).splitlines() == ["[2]", "{'OSError'} 5", "[4]", "[0, 1, 2, 3, 4]"]


def test_several_threads_of_the_parent(pool: Controller) -> None:
    """Threads that map and submit large data on one pool at the same time get their own results."""
    wrong: list[object] = []

    def work(number: int) -> None:
        for each in range(10):
            value = 20 * number + each
            arrays = list(array_tasks.add_one.map([numbered(value, MIB + KIB)] * 4, backend=pool))
            arrays.append(pool.submit(array_tasks.add_one, numbered(value)).result())
            wrong.extend(array for array in arrays if not (array == value + 1).all())

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_arrays_in_nested_calls(pool: Controller) -> None:
    """A worker may open a pool of its own, and pass large data on and back."""

    def nested(array: np.ndarray) -> list[np.ndarray]:
        with Controller(1) as inner:
            return [
                *inner.map(array_tasks.add_one, [array] * 3),
                inner.submit(array_tasks.same, array).result(),
            ]

    result = pool.submit(nested, numbered(1, 2 * MIB)).result()
    assert [int(array[0]) for array in result] == [2, 2, 2, 1]
    assert all((array == array[0]).all() for array in result)


def test_results_in_a_forked_worker_stay_as_they_are() -> None:
    """A worker that was forked has the results that its parent held then, whatever becomes of them there."""
    expected = checksum(numbered(5, 2 * MIB))
    with Controller(1) as one, Controller(1, start_method="fork") as forked:
        (array_tasks.kept,) = array_tasks.fill.map([5], args=(2 * MIB,), backend=one)
        assert list(array_tasks.look_at_kept.map([0], backend=forked)) == [expected]
        array_tasks.kept = None
        for number in range(60, 90):
            list(array_tasks.fill.map([number], args=(2 * MIB,), backend=one))
        assert list(array_tasks.look_at_kept.map([0], backend=forked)) == [expected]


def test_a_failed_call_keeps_no_arguments() -> None:
    """What a call raised leads to its arguments, but not to itself: a worker lets go of both without a collection."""
    failing = retry_on(KeyError)(array_tasks.raises)
    with Controller(1) as one:
        assert list(tasks.process_id.map([0], backend=one))
        for _ in range(3):
            with pytest.raises(LookupError):
                failing.options(backend=one).submit(numbered(1)).result()
            with pytest.raises(LookupError):
                list(failing.map([(numbered(1),)], backend=one, kwstar=False, star=True))
        assert one.submit(array_tasks.views_alive).result() == 0


def test_results_that_are_dropped_while_nothing_runs() -> None:
    """Their memory goes back, too, though nobody calls anything."""
    with Controller(1) as one:
        (result,) = array_tasks.fill.map([5], args=(4 * MIB,), backend=one)
        (handle,) = one.dispatcher.handles.values()
        until(lambda: one.dispatcher.caretaker._rests, "the pool rests")
        assert handle.exchange.views.alive == 1 and (result == 5).all()
        del result
        until(lambda: not handle.exchange.views._maps, "the worker has given its memory back")


def test_an_idle_worker_collects_what_holds_memory() -> None:
    """A cycle of the user's in a worker keeps shared memory no longer than until there is nothing to do."""
    with Controller(1) as one:
        assert list(array_tasks.makes_a_cycle.map([numbered(1)], backend=one)) == [1]
        until(lambda: one.dispatcher.memory.bank.used == 0, "the slot is free")

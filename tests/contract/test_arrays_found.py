"""What the tests of large data have found, and what does not hold yet."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from manyhands import Controller, PoolClosed, parallel
from manyhands.controller.pool import close_shared
from tests.contract import array_tasks, tasks
from tests.contract.array_tasks import KIB, MIB, checksum, descriptors
from tests.contract.test_arrays import numbered
from tests.helpers import Fifo, lines, tell, until, wait_for

How = dict[str, Any]


def test_a_generator_may_use_its_array_again() -> None:
    """An item is what it was when it was drawn, however many are drawn together."""

    def items() -> Iterator[np.ndarray]:
        array = numbered(0)
        for number in range(50):
            array[...] = number
            yield array

    with Controller(2) as own:
        found = list(array_tasks.check.map(items(), backend=own))
    assert found == [checksum(numbered(number)) for number in range(50)]


def test_memory_for_fixed_arguments_is_given_back_when_idle() -> None:
    """A while after the map their slot is free, and not only when the idle workers are ended."""
    with Controller(1) as one:
        workers = list(tasks.process_id.map([0], backend=one))
        assert list(array_tasks.spoil_fixed.map([1], args=(numbered(5, MIB),), backend=one)) == [5]
        until(lambda: one.dispatcher.bank.used == 0, "the slot is free")
        until(lambda: one.dispatcher.bank.size == 0, "the memory is given back")
        assert list(tasks.process_id.map([0], backend=one)) == workers


@pytest.mark.parametrize("kind", ["fork of the parent", "forked worker"])
def test_results_in_a_forked_child_stay_as_they_are(begun: Fifo, gate: Fifo, kind: str) -> None:
    """What a forked child has inherited it keeps, also when the parent has let go of its own and goes on."""
    with Controller(1) as one:
        (result,) = array_tasks.fill.map([5], args=(2 * MIB,), backend=one)
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                if kind == "forked worker":
                    with Controller(1, start_method="fork") as own:
                        looked = own.submit(lambda: result)
                        assert (looked.result() == 5).all()
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


def test_map_blocks_that_fails_keeps_no_descriptor() -> None:
    """The memory of a result that will not be is let go of at once."""
    x = np.arange(100_000)
    with Controller(2) as own:
        wrong = parallel(array_tasks.wrong).options(backend=own)
        with pytest.raises(LookupError):
            wrong.map_blocks(x, rows=1000, args=("error", 50_000))
        before = descriptors()
        for _ in range(10):
            with pytest.raises(LookupError):
                wrong.map_blocks(x, rows=1000, args=("error", 50_000))
        assert descriptors() <= before + 1


def test_map_blocks_does_not_begin_again_for_what_the_function_raised(tmp_path: Path) -> None:
    """PoolClosed from inside of the function is its error as any other."""
    marks = tmp_path / "calls"

    def uses_closed_pool(block: np.ndarray) -> np.ndarray:
        if block[0] >= 500:
            tell(marks, block[0])
            if len(lines(marks)) > 5:
                raise LookupError("that goes on for ever")
            raise PoolClosed("one of its own")
        return block

    with pytest.raises(PoolClosed, match="one of its own"):
        parallel(uses_closed_pool).map_blocks(np.arange(1000.0), rows=100, workers=1)
    assert len(lines(marks)) == 1


def test_map_blocks_on_a_pool_that_is_closed_meanwhile(begun: Fifo, gate: Fifo) -> None:
    """PoolClosed, and nothing else."""
    import threading

    errors: list[BaseException] = []
    own = Controller(1)

    def block_function(block: np.ndarray) -> np.ndarray:
        if block[0] >= 500:
            tell(begun.path, "begun")
            wait_for(gate.path)
        return block

    def run() -> None:
        try:
            parallel(block_function).map_blocks(np.arange(1000.0), rows=500, backend=own)
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    begun.line()
    own.close(kill=True)
    thread.join()
    assert [type(error) for error in errors] == [PoolClosed]


__all__ = ["KIB"]

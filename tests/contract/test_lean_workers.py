"""What a worker loads: what its calls need, and the rest of the library when the user's code asks for it."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

import manyhands
from manyhands import Controller, parallel, retry_on
from manyhands.settings import StartMethod
from tests.contract.plain_tasks import loaded
from tests.helpers import Fifo, tell, until, wait_for


def names_of_the_face(_: object) -> list[str]:
    import manyhands as inside

    assert not hasattr(inside, "no_such_name")
    assert not hasattr(inside, "__wrapped__")
    return [name for name in inside.__all__ if getattr(inside, name) is not None]


def star_import(_: object) -> int:
    names: dict[str, Any] = {}
    exec("from manyhands import *", names)
    inner = names["parallel"](math.factorial)
    return sum(inner.map([1, 2, 3]))


@pytest.fixture(params=["spawn", "forkserver"])
def pool(request: pytest.FixtureRequest) -> Any:
    method: StartMethod = request.param
    with Controller(1, start_method=method) as opened:
        yield opened


def test_a_plain_function_loads_no_face(pool: Controller) -> None:
    """Nor what policies need, so that its worker starts soon."""
    (modules,) = parallel(loaded).map([0], backend=pool)
    assert "manyhands.workers.plain" in modules
    assert not modules & {"manyhands.face", "manyhands.decorators.decorated", "manyhands.outcome"}


def test_a_function_with_policies_loads_what_they_need(pool: Controller) -> None:
    """And still not the engine of the pools."""
    (modules,) = parallel(retry_on(OSError)(loaded)).map([0], backend=pool)
    assert "manyhands.decorators.work" in modules
    assert not modules & {"manyhands.face", "manyhands.controller.dispatcher"}


def test_the_face_is_there_for_those_who_ask(pool: Controller) -> None:
    """Each public name, and no other; a map within a task, too."""
    (names,) = parallel(names_of_the_face).map([0], backend=pool)
    assert sorted(names) == sorted(manyhands.__all__)
    assert list(parallel(star_import).map([0], backend=pool)) == [1 + 2 + 6]


class Farewell:
    """Says so when it is let go of in another process than the one that made it."""

    def __init__(self, fifo: Path) -> None:
        self.fifo = fifo
        self.home = os.getpid()
        self.ballast = b""

    def __del__(self) -> None:
        if os.getpid() != self.home:
            tell(self.fifo, "gone")


def taken(item: Farewell) -> int:
    return len(item.ballast)


def waits_if_told(fifos: tuple[Path, Path] | None) -> None:
    if fifos is not None:
        begun, gate = fifos
        tell(begun, "begun")
        wait_for(gate)


def beside(_: Farewell, item: int) -> int:
    return item


@pytest.fixture
def farewells(tmp_path: Path) -> Iterator[Fifo]:
    fifo = Fifo(tmp_path / "farewells")
    yield fifo
    fifo.close()


def test_what_came_with_a_function_goes_with_its_map(pool: Controller, farewells: Fifo) -> None:
    """No other map is needed for that."""
    kept = Farewell(farewells.path)
    assert list(parallel(partial(beside, kept)).map([1, 2], backend=pool)) == [1, 2]
    assert farewells.line() == "gone"


def test_what_came_with_a_function_goes_when_the_pool_has_dozed_off(pool: Controller, farewells: Fifo) -> None:
    """A map may be closed long after its last call."""
    kept = Farewell(farewells.path)
    with parallel(partial(beside, kept)).map([1, 2], backend=pool) as results:
        until(lambda: pool.dispatcher.caretaker.sleeps, "the caretaker sleeps")
        assert next(results) == 1
    assert farewells.line() == "gone"


def resident(pid: int) -> int:
    """Bytes of memory that a process holds."""
    return int(psutil.Process(pid).memory_info().rss)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("way", ["map", "submit"])
def test_an_item_goes_with_its_call(threads: int, way: str, farewells: Fifo) -> None:
    """What was sent is let go of, pickled or not, though nothing else comes."""
    with Controller(1, threads=threads) as pool:
        pid = pool.submit(os.getpid).result()
        before = resident(pid)
        item = Farewell(farewells.path)
        item.ballast = bytes(100_000_000)
        if way == "map":
            assert list(parallel(taken).map([item], backend=pool)) == [100_000_000]
        else:
            assert pool.submit(taken, item).result() == 100_000_000
        assert farewells.line() == "gone"
        until(lambda: resident(pid) < before + 50_000_000, "the pickle has gone, too")


def test_calls_that_are_slow_after_a_quick_map_do_not_wait_for_one_another(tmp_path: Path) -> None:
    """What the last map measured is no promise: each gets a worker soon."""
    begun, gate = Fifo(tmp_path / "begun"), Fifo(tmp_path / "gate")
    waits = parallel(waits_if_told)
    with Controller(2) as pool:
        assert list(waits.map([None] * 30, backend=pool)) == [None] * 30
        results = waits.map([(begun.path, gate.path)] * 2, backend=pool)
        assert begun.line() == begun.line() == "begun"  # both, before either goes on
        gate.let_go(2)
        assert list(results) == [None, None]
    begun.close()
    gate.close()

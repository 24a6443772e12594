"""What a worker loads: what its calls need, and the rest of the library when the user's code asks for it."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import manyhands
from manyhands import Controller, parallel, retry_on
from manyhands.settings import StartMethod
from tests.contract.plain_tasks import loaded
from tests.helpers import Fifo, tell, until


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

    def __del__(self) -> None:
        if os.getpid() != self.home:
            tell(self.fifo, "gone")


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

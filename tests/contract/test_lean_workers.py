"""What a worker loads: what its calls need, and the rest of the library when the user's code asks for it."""

from __future__ import annotations

import math
from typing import Any

import pytest

import manyhands
from manyhands import Controller, parallel, retry_on
from manyhands.settings import StartMethod
from tests.contract.plain_tasks import loaded


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

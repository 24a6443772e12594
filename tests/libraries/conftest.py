"""Fixtures of the tests with other libraries: every way to run a map, theirs among them."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from typing import Any

import pytest

from tests.contract.conftest import controller, how, method, processes
from tests.helpers import DEADLINE
from tests.libraries.clusters import dask_cluster

__all__ = ["controller", "how", "method", "processes"]


BACKENDS = ("inline", "threads", "processes", "ThreadPoolExecutor", "ProcessPoolExecutor", "dask", "Client")
FAR = ("processes", "ProcessPoolExecutor", "dask", "Client")
"""Those whose calls run in other processes."""


@pytest.fixture(scope="session")
def thread_pool() -> Iterator[Executor]:
    """The standard library's, of two threads."""
    with ThreadPoolExecutor(2) as pool:
        yield pool


@pytest.fixture(scope="session")
def process_pool() -> Iterator[Executor]:
    """The standard library's, of two processes."""
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        yield pool


@pytest.fixture(scope="session")
def dask_scheduler(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Any]]:
    """Its address and a client; it has two workers, and gives a task up when its worker has ended."""
    from distributed import Client

    from manyhands.handler.dask import close_clients

    with dask_cluster(tmp_path_factory.mktemp("dask"), failures=0) as (address, _):
        with Client(address.replace("dask://", "tcp://"), set_as_default=False) as client:
            yield address, client
        close_clients()


@pytest.fixture
def dask_client(dask_scheduler: tuple[str, Any]) -> Any:
    """A client of a scheduler with two workers: those that were killed have been replaced."""
    dask_scheduler[1].wait_for_workers(2, timeout=DEADLINE)
    return dask_scheduler[1]


@pytest.fixture
def dask_address(dask_scheduler: tuple[str, Any], dask_client: Any) -> str:
    """The address of that scheduler."""
    return dask_scheduler[0]


@pytest.fixture(params=BACKENDS)
def place(request: pytest.FixtureRequest) -> str:
    """The name of each way to run a map."""
    return str(request.param)


@pytest.fixture
def backend(place: str, request: pytest.FixtureRequest) -> dict[str, Any]:
    """Options that say that a map runs there, two calls at a time but for inline."""
    if place in ("inline", "threads"):
        return {"backend": place, "workers": 2}
    fixture = {
        "processes": "controller",
        "ThreadPoolExecutor": "thread_pool",
        "ProcessPoolExecutor": "process_pool",
        "dask": "dask_address",
        "Client": "dask_client",
    }[place]
    return {"backend": request.getfixturevalue(fixture)}

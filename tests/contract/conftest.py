"""Fixtures of the contract tests: every way to run a map, FIFOs, files that count."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))

from manyhands import Controller
from tests.helpers import Fifo

METHODS = ("fork", "spawn", "forkserver")


def pytest_configure(config: pytest.Config) -> None:
    """Markers and warnings that these tests know of."""
    config.addinivalue_line("markers", "slow: takes more than five seconds")
    # Whoever asks for "fork" takes its risk; newer interpreters say so at each fork.
    config.addinivalue_line("filterwarnings", "ignore:.*multi-threaded.*:DeprecationWarning")


@pytest.fixture(scope="session")
def controller() -> Iterator[Controller]:
    """One pool of its own for the session."""
    with Controller(2) as pool:
        yield pool


@pytest.fixture(params=["inline", *METHODS, "controller"])
def how(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Options that say where a map runs, one after the other."""
    if request.param == "inline":
        return {"backend": "inline"}
    if request.param == "controller":
        return {"backend": request.getfixturevalue("controller")}
    return {"workers": 2, "start_method": request.param}


@pytest.fixture(params=METHODS)
def method(request: pytest.FixtureRequest) -> str:
    """Each start method."""
    return str(request.param)


@pytest.fixture
def processes(method: str) -> dict[str, Any]:
    """Options that say with which kind of worker processes a map runs, one after the other."""
    return {"workers": 2, "start_method": method}


@pytest.fixture
def begun(tmp_path: Path) -> Iterator[Fifo]:
    """Where tasks say that they have begun."""
    fifo = Fifo(tmp_path / "begun")
    yield fifo
    fifo.close()


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Fifo]:
    """What tasks wait at; at the end all are let go."""
    fifo = Fifo(tmp_path / "gate")
    yield fifo
    fifo.let_go(1000)
    fifo.close()

"""Fixtures of the contract tests: every way to run a map, FIFOs, files that count."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from manyhands import Controller

METHODS = ("fork", "spawn", "forkserver")


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

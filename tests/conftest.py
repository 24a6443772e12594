"""For all tests: Hypothesis' profiles, and a look, when the last test has run, that nothing is left of them."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from multiprocessing import resource_tracker
from pathlib import Path

import psutil
import pytest
from hypothesis import HealthCheck, settings

from tests.helpers import Fifo

ROOT = Path(__file__).parents[1]
LINGER_SECONDS = 10.0
"""How long what was told to end may take to do so."""

# Where tests run for others: the same examples every time, and failures that their output lets repeat.
settings.register_profile(
    "ci", deadline=None, derandomize=True, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
# At a desk: new examples every time, remembered when they fail.
settings.register_profile("dev", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dev"))


def visible_files() -> set[Path]:
    """What lies at the top of this checkout and where the tests were started, but for hidden names."""
    return {path for folder in (ROOT, Path.cwd()) for path in folder.iterdir() if not path.name.startswith(".")}


def shared_memory() -> set[Path]:
    """The shared-memory segments that belong to this library."""
    return set(Path("/dev/shm").glob("*manyhands*"))


def children() -> list[psutil.Process]:
    """The processes that this one, or one of its own, has started and that live."""
    alive = []
    for process in psutil.Process().children(recursive=True):
        try:
            if process.status() != psutil.STATUS_ZOMBIE:
                alive.append(process)
        except psutil.NoSuchProcess:
            continue
    return alive


def described(process: psutil.Process) -> str:
    """A process as a person knows it."""
    try:
        return f"process {process.pid}: {' '.join(process.cmdline())}"
    except psutil.Error:
        return f"process {process.pid}"


@pytest.fixture(scope="session", autouse=True)
def nothing_is_left() -> Iterator[None]:
    """After the last test, once the shared pools are closed, no process, file or segment of ours is left."""
    started = {process.pid for process in children()}
    files = visible_files() | shared_memory()
    yield
    from manyhands.controller.pool import close_shared
    from manyhands.workers.guard import guard
    from manyhands.workers.launch import fork_server

    gc.collect()  # results that were dropped unfinished say so now, and let go of their pools
    close_shared()
    guard.close()
    fork_server.close()
    # The standard library's resource tracker ends as this process does: it waits for all who could tell it things.
    started.add(resource_tracker._resource_tracker._pid)  # type: ignore[attr-defined]
    ours = [process for process in children() if process.pid not in started]
    _, alive = psutil.wait_procs(ours, timeout=LINGER_SECONDS)
    left = [described(process) for process in alive]
    left += [f"file {path}" for path in sorted((visible_files() | shared_memory()) - files)]
    assert not left, "tests left behind:\n" + "\n".join(left)


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

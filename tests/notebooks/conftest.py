"""Kernels for notebooks, whose files go to a directory of the test and which end with it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from tests.helpers import DEADLINE, Fifo

if TYPE_CHECKING:
    from jupyter_client.blocking.client import BlockingKernelClient
    from jupyter_client.manager import KernelManager

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def own_directories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels write their history, settings and connections there, and find the tests."""
    for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR"):
        (tmp_path / name).mkdir()
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    )


@pytest.fixture(params=["forkserver", "spawn", "fork"])
def method(request: pytest.FixtureRequest) -> str:
    """Each start method."""
    return str(request.param)


class Kernel:
    """A kernel that runs cells one by one.

    Attributes:
        manager: ends, restarts and interrupts it.
    """

    def __init__(self, manager: KernelManager, client: BlockingKernelClient) -> None:
        self.manager = manager
        self._client = client

    def send(self, cell: str) -> str:
        """Has it begin a cell, and goes on."""
        return str(self._client.execute(cell))

    def shown(self, sent: str) -> list[dict[str, Any]]:
        """What a cell has shown, when it has ended: the contents of its messages."""
        shown: list[dict[str, Any]] = []
        while True:
            message = self._client.get_iopub_msg(timeout=DEADLINE)
            if message["parent_header"].get("msg_id") != sent:
                continue
            shown.append({"type": message["msg_type"], **message["content"]})
            if shown[-1].get("execution_state") == "idle":
                return shown

    def run(self, cell: str) -> list[dict[str, Any]]:
        """What the cell shows."""
        return self.shown(self.send(cell))

    def value(self, cell: str) -> str:
        """The text of the cell's value; it must not fail."""
        shown = self.run(cell)
        errors = [message["evalue"] for message in shown if message["type"] == "error"]
        assert not errors, errors
        (value,) = (message["data"]["text/plain"] for message in shown if message["type"] == "execute_result")
        return str(value)

    def wait(self) -> None:
        """Until it takes cells, after a restart."""
        self._client.wait_for_ready(timeout=DEADLINE)

    def workers(self) -> list[psutil.Process]:
        """The processes that it has started, and theirs."""
        if not self.manager.has_kernel or self.manager.provisioner.process is None:
            return []
        return psutil.Process(self.manager.provisioner.pid).children(recursive=True)


@pytest.fixture
def kernel() -> Iterator[Kernel]:
    """One, which is ended with all that it has started."""
    from jupyter_client.manager import start_new_kernel

    manager, client = start_new_kernel(kernel_name="python3", startup_timeout=DEADLINE)
    kernel = Kernel(manager, client)
    try:
        yield kernel
    finally:
        left = kernel.workers()
        client.stop_channels()
        manager.shutdown_kernel(now=True)
        manager.cleanup_resources()
        _, alive = psutil.wait_procs(left, timeout=DEADLINE)
        manager.context.destroy()
        assert not alive


class Calls:
    """Calls in kernels that say that they have begun, and wait for ever."""

    def __init__(self, fifo: Fifo) -> None:
        self._fifo = fifo

    def cell(self, method: str) -> str:
        """Defines ``block``, which is mapped by two workers."""
        return f"""
            import os, time
            from manyhands import configure, parallel
            from tests.helpers import tell
            configure(workers=2, start_method={method!r})

            @parallel
            def block(number):
                tell({str(self._fifo.path)!r}, os.getpid())
                while True:
                    time.sleep(1000)
        """

    def begun(self, number: int) -> list[psutil.Process]:
        """The workers of so many that have."""
        return [psutil.Process(int(self._fifo.line())) for _ in range(number)]


@pytest.fixture
def calls(begun: Fifo) -> Calls:
    """Of this test."""
    return Calls(begun)

"""What the contract and end-to-end tests share: scripts run for real, FIFOs to wait on, ends of processes.

Nothing here sleeps while there is an event to wait for; every wait has a deadline, long for a busy machine.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import textwrap
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

DEADLINE = 90.0
"""Seconds after which a test gives up waiting; nothing is expected to take nearly as long."""


class Fifo:
    """A named pipe: tasks in other processes say that they have begun, or wait to be let go.

    Both ends stay open here, so that opening it never blocks anybody and nobody reads an end of file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        os.mkfifo(path)
        self._end = os.open(path, os.O_RDWR | os.O_NONBLOCK)
        self._rest = b""

    def line(self) -> str:
        """The next line that somebody has written with ``tell``."""
        deadline = time.monotonic() + DEADLINE
        while b"\n" not in self._rest:
            ready, _, _ = select.select([self._end], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"nobody wrote to {self.path.name} in time"
            self._rest += os.read(self._end, 4096)
        line, _, self._rest = self._rest.partition(b"\n")
        return line.decode()

    def empty(self) -> bool:
        """Whether nothing has been written that was not read."""
        ready, _, _ = select.select([self._end], [], [], 0)
        return not ready and not self._rest

    def let_go(self, number: int = 1) -> None:
        """Lets ``number`` calls of ``wait_for`` return."""
        os.write(self._end, b"." * number)

    def close(self) -> None:
        """Closes this end."""
        os.close(self._end)


def tell(fifo: str | os.PathLike[str], text: object) -> None:
    """Writes a line, whole, to a FIFO or to the end of a file."""
    end = os.open(fifo, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(end, f"{text}\n".encode())
    os.close(end)


def wait_for(fifo: str | os.PathLike[str]) -> None:
    """Blocks until ``Fifo.let_go``."""
    end = os.open(fifo, os.O_RDONLY)
    os.read(end, 1)
    os.close(end)


def lines(path: Path) -> list[str]:
    """The lines of a file, none if it is not there."""
    return path.read_text().splitlines() if path.exists() else []


def shown(error: BaseException | None) -> str:
    """The error as Python would show it if nobody caught it."""
    return "".join(traceback.format_exception(error))


def names(directory: Path | str) -> list[str]:
    """What is in a directory, hidden or not, sorted."""
    return sorted(os.listdir(directory)) if os.path.exists(directory) else []


# -- scripts --------------------------------------------------------------------------------------------------


def write_script(path: Path, text: str) -> Path:
    """A script that can import what the tests can."""
    head = f"import sys; sys.path.insert(0, {str(Path(__file__).parents[1])!r})\n"
    path.write_text(head + textwrap.dedent(text), encoding="utf-8")
    return path


@contextmanager
def started(script: Path, *arguments: object, **options: object) -> Iterator[subprocess.Popen[str]]:
    """The script as a process, which is killed at the end if it still runs."""
    command = [sys.executable, str(script), *map(str, arguments)]
    process = subprocess.Popen(  # type: ignore[call-overload]
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def finish(process: subprocess.Popen[str], status: int | None = 0) -> str:
    """What the process has printed when it has ended; its exit status must be ``status``."""
    out, err = process.communicate(timeout=DEADLINE)
    assert status is None or process.returncode == status, f"exit status {process.returncode}\n{out}\n{err}"
    return out


def run_script(script: Path, *arguments: object, status: int | None = 0, **options: object) -> str:
    """Runs the script to its end and returns what it has printed."""
    with started(script, *arguments, **options) as process:
        return finish(process, status)


# -- processes ------------------------------------------------------------------------------------------------


def descendants(pid: int) -> list[int]:
    """The ids of everything that the process has started and that lives."""
    return [child.pid for child in psutil.Process(pid).children(recursive=True)]


@contextmanager
def ends_of(pids: Iterable[int]) -> Iterator[Callable[[], None]]:
    """Call what it yields to wait until all these processes have ended; opened now, so no id is reused."""
    watches = {os.pidfd_open(pid): pid for pid in pids}

    def wait() -> None:
        deadline = time.monotonic() + DEADLINE
        running = dict(watches)
        while running:
            ready, _, _ = select.select(list(running), [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"these did not end in time: {sorted(running.values())}"
            for watch in ready:
                del running[watch]

    try:
        yield wait
    finally:
        for watch, pid in watches.items():
            if not select.select([watch], [], [], 0)[0]:
                os.kill(pid, signal.SIGKILL)
            os.close(watch)


def until(condition: Callable[[], object], what: str) -> None:
    """Looks again and again until ``condition()`` is true: only for what nobody tells of."""
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, f"never came true: {what}"
        time.sleep(0.01)

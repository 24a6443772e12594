"""A signal that does not end the wait that it comes in: because it came just before, or to another thread."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.helpers import Fifo, descendants, ends_of, started, write_script

SCRIPT = """
import signal
import threading
from manyhands import Controller, Handler, parallel, retry_on
from manyhands.compat.parmapper import ReturnProcess
from tests.contract import tasks
from tests.helpers import tell

begun, gate, how = sys.argv[1:]

# From here on it is another thread that gets a signal from outside, and no wait of the main thread is broken by it.
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})

def take_signals():
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    threading.Event().wait()

threading.Thread(target=take_signals, daemon=True).start()

def meet(x):
    return tasks.meet(x, begun, gate)

def fails(x):
    tell(begun, "fails")
    raise ValueError(x)

def follow():
    future = pool.submit(meet, 1)
    # Not result: what a thread prints while the program ends can make Python exit with 1 in place of the signal.
    threading.Thread(target=future.exception, daemon=True).start()
    pool.submit(meet, 2).result()

def handle():
    with Handler(meet, workers=1) as handler:
        handler.add(1)
        for value in handler.results():
            print(value)

def add():
    with Handler(meet, workers=1, buffersize=1) as handler:
        handler.add(1)
        handler.add(2)

with Controller(2) as pool:
    {
        "map": lambda: list(parallel(meet).map([1], workers=1)),
        "threads": lambda: list(parallel(meet).map([1], backend="threads")),
        "one waits": lambda: pool.submit(meet, 1).result(),
        "two wait": follow,
        "inline": lambda: list(retry_on(ValueError, attempts=2, wait=1000)(parallel(fails)).map([1], backend="inline")),
        "handler": handle,
        "room": add,
        "own future": lambda: parallel(retry_on(ValueError)(meet)).submit(1).result(),
        "process": lambda: ReturnProcess(meet, args=[1]).start().join(),
    }[how]()
"""


@pytest.mark.parametrize(
    "how",
    ["map", "threads", "one waits", "two wait", "inline", "handler", "room", "own future", "process"],
)
def test_an_interrupt_is_noticed_amid_any_wait(tmp_path: Path, begun: Fifo, gate: Fifo, how: str) -> None:
    """Ctrl-C ends the program though its wait would go on for ever."""
    script = write_script(tmp_path / "program.py", SCRIPT)
    with started(script, begun.path, gate.path, how) as program:
        begun.line()
        with ends_of(descendants(program.pid)) as wait:
            program.send_signal(signal.SIGINT)
            wait()
        assert program.wait(90) == -signal.SIGINT

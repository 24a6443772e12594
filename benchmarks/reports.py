"""T: taking down 100,000 tasks one by one, and the page, the trace and the figures of them."""

from __future__ import annotations

import os
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.measure import Measure, Note

if TYPE_CHECKING:
    from manyhands.reporting.recording import Recording, Taker
    from manyhands.reporting.spans import Status

TASKS = 100_000
MAX_WORKERS = 8
HOST = "host"


def tell(recorder: Taker) -> float:
    """A made-up run, each task a span of its own; returns the seconds that this took."""
    start = time.perf_counter()
    for number in range(TASKS):
        worker = number % MAX_WORKERS
        status: Status = "value" if number % 100 else "failed"
        recorder.span(
            f"{HOST}:{worker}", number * 1e-3, 6e-3 + number % 97 * 1e-5, 1, 0.0, status, number, number
        )
    return time.perf_counter() - start


def recording() -> Recording:
    """Of that run, with some failures."""
    from manyhands.reporting.recording import Recording

    found = Recording("tasks.simulate", 1.7e9, MAX_WORKERS, TASKS, HOST)
    tell(found)
    for number in range(0, TASKS, 100):
        text = f'Traceback (most recent call last):\n  File "tasks.py", line {number % 7}, in simulate\nValueError\n'
        found.failed(number, number, "builtins.ValueError", "no", text, 1, f"{HOST}:1")
    found.ended(TASKS * 1e-3)
    return found


def record(note: Note) -> None:
    """Notes what it costs to tell a recording of a task, and a journal."""
    from manyhands.reporting.journal import Writer
    from manyhands.reporting.recording import Recording

    taken = tell(recorded := Recording("f", 1.7e9, MAX_WORKERS, TASKS))
    start = time.perf_counter()
    assert sum(recorded.by_status.values()) == TASKS
    taken += time.perf_counter() - start
    written = Writer(".", "f", 1.7e9, MAX_WORKERS, TASKS)
    note(**{"us a span": taken / TASKS * 1e6, "us in a journal": tell(written) / TASKS * 1e6})
    written.close()


def page(from_journal: bool, note: Note) -> None:
    """Notes the seconds to write the page, of a recording or of a journal that is read first, and its size."""
    from manyhands.reporting.journal import Writer, read
    from manyhands.reporting.page import write_page

    told = recording()
    if from_journal:
        writer = Writer(".", "f", 1.7e9, MAX_WORKERS, TASKS)
        tell(writer)
        writer.close()
    start = time.perf_counter()
    write_page("run.html", read(".") if from_journal else [told])
    note(seconds=time.perf_counter() - start, MB=os.path.getsize("run.html") / 1e6)


def trace(note: Note) -> None:
    """Notes the seconds to write the trace, and its size."""
    from manyhands.reporting.trace import write_trace

    told = recording()
    start = time.perf_counter()
    write_trace(Path("run.json"), [told])
    note(seconds=time.perf_counter() - start, MB=os.path.getsize("run.json") / 1e6)


MEASURES = [
    Measure(
        "T",
        f"{TASKS:,} tasks of which a report is written, each a span of its own, in s",
        {
            "page": partial(page, False),
            "page, from a journal": partial(page, True),
            "trace": trace,
        },
        ("seconds", "MB"),
    ),
    Measure(
        "T",
        f"{TASKS:,} tasks that are taken down one by one, in us",
        {"recording": record},
        ("us a span", "us in a journal"),
    ),
]

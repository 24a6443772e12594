"""I: how far the input is read ahead of a consumer that takes a few results and then idles."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial

from benchmarks import contestants, tasks
from benchmarks.contestants import Open
from benchmarks.measure import Measure, Note

ENDLESS = 20_000
"""Where the input ends after all, for those who would read on until the memory is full."""


def read_ahead(open_pool: Open, stated: int | None, note: Note) -> None:
    """Notes the items read ahead of the results taken, at the most; and the bound that was asked for."""
    read = 0

    def source() -> Iterator[int]:
        nonlocal read
        while read < ENDLESS:
            read += 1
            yield read

    note(**{"asked for": stated or "-", "read ahead": f"{ENDLESS:,}, all"})
    ahead = 0
    with open_pool() as opened:
        results = iter(opened.map(tasks.add_one, source()))
        for taken in range(1, 201):
            assert next(results) == taken + 1
            ahead = max(ahead, read - taken)
            time.sleep(0.5 if taken == 10 else 0.001)
            ahead = max(ahead, read - taken)
        if ahead < ENDLESS - 200:
            note(**{"read ahead": ahead})
        getattr(results, "close", int)()


MEASURES = [
    Measure(
        "I",
        f"items read ahead of an idle consumer, of an input of {ENDLESS:,}",
        {
            "manyhands": partial(read_ahead, contestants.manyhands, None),
            "manyhands, buffersize=100": partial(
                read_ahead, partial(contestants.manyhands, buffersize=100), 100
            ),
            "manyhands, buffersize=1000": partial(
                read_ahead, partial(contestants.manyhands, buffersize=1000), 1000
            ),
            "Pool.imap": partial(read_ahead, contestants.pool, None),
            "Executor.map": partial(read_ahead, contestants.executor, None),
        },
        ("read ahead", "asked for"),
        once=True,
    )
]

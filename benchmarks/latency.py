"""J: one task at a time, there and back."""

from __future__ import annotations

import time
from functools import partial
from statistics import quantiles

from benchmarks import contestants, tasks
from benchmarks.contestants import Open
from benchmarks.measure import Measure, Note

TRIPS = 5000


def trips(open_pool: Open, note: Note) -> None:
    """Notes the median and the 99th percentile of a round trip, in us."""
    times = []
    with open_pool() as opened:
        for number in range(TRIPS + 100):
            start = time.perf_counter()
            result = opened.submit(tasks.add_one, number)()
            times.append((time.perf_counter() - start) * 1e6)
            assert result == number + 1
    percentiles = quantiles(times[100:], n=100)  # the first ones started the workers
    note(median=percentiles[49], p99=percentiles[98])


MEASURES = [
    Measure(
        "J",
        f"round trip of one task, {TRIPS:,} times, in us",
        {
            "floor": partial(trips, contestants.floor),
            "manyhands": partial(trips, contestants.manyhands),
            "Pool.apply_async": partial(trips, contestants.pool),
            "Executor.submit": partial(trips, contestants.executor),
        },
        ("median", "p99"),
        base="floor",
    )
]

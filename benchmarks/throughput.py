"""A: tasks so small that only the way there and back counts. B, C: work of mixed and of even lengths.

The peers get the chunk size that a patient user would find; this library gets none.
"""

from __future__ import annotations

import math
import random
import time
from functools import partial

from benchmarks import contestants, tasks
from benchmarks.contestants import WORKERS, Open
from benchmarks.measure import Measure, Note

COUNT = 200_000
BATCH = 4096
"""Tiny tasks at once: about the best for everybody who needs to be told."""

FEW = 16
"""Tasks at once where they are of 10 us to 5 ms."""


def tiny(open_pool: Open, ordered: bool, chunk: int, note: Note) -> None:
    """Notes what one task costs, and how many are done in a second."""
    with open_pool() as opened:
        list(opened.map(tasks.add_one, range(10), ordered=ordered))
        start = time.perf_counter()
        results = list(opened.map(tasks.add_one, range(COUNT), ordered=ordered, chunk=chunk))
        seconds = time.perf_counter() - start
    assert (results if ordered else sorted(results)) == list(range(1, COUNT + 1))
    note(**{"us per task": seconds / COUNT * 1e6, "tasks/s": COUNT / seconds})


def mixed() -> list[float]:
    """20,000 lengths in seconds, from 10 us to 5 ms, half of them below 150 us; always the same."""
    pick = random.Random(20_000)
    return [min(5e-3, max(10e-6, pick.lognormvariate(math.log(150e-6), 1.3))) for _ in range(20_000)]


def even() -> list[float]:
    """400 lengths of 5 ms."""
    return [5e-3] * 400


LENGTHS = {"B": mixed, "C": even}


def work(open_pool: Open, letter: str, chunk: int, note: Note) -> None:
    """Notes the seconds that it took."""
    lengths = LENGTHS[letter]()
    with open_pool() as opened:
        list(opened.map(tasks.busy, [1e-3] * 10))
        start = time.perf_counter()
        results = list(opened.map(tasks.busy, lengths, chunk=chunk))
        seconds = time.perf_counter() - start
    assert results == lengths
    note(seconds=seconds)


def ideal(letter: str, note: Note) -> None:
    """Notes the seconds that the work takes if nothing else does."""
    note(seconds=sum(LENGTHS[letter]()) / WORKERS)


def _tiny(ordered: bool) -> Measure:
    rows = {
        "floor": partial(tiny, contestants.floor, ordered, BATCH),
        "manyhands": partial(tiny, contestants.manyhands, ordered, 1),
        f"Pool.imap{'' if ordered else '_unordered'}, chunks of {BATCH}": partial(
            tiny, contestants.pool, ordered, BATCH
        ),
    }
    if ordered:
        rows["Pool.map, chunks of its own"] = partial(tiny, contestants.pool_map, True, 1)
        rows[f"Executor.map, chunks of {BATCH}"] = partial(tiny, contestants.executor, True, BATCH)
    return Measure(
        "A",
        f"{COUNT:,} tiny tasks, {'ordered' if ordered else 'unordered'}",
        rows,
        ("us per task", "tasks/s"),
        base="floor",
    )


def _work(letter: str, title: str, chunk: int) -> Measure:
    chunks = f", chunks of {chunk}" if chunk > 1 else ""
    return Measure(
        letter,
        title,
        {
            "ideal": partial(ideal, letter),
            "manyhands": partial(work, contestants.manyhands, letter, 1),
            f"Pool.imap{chunks}": partial(work, contestants.pool, letter, chunk),
            "Pool.map, chunks of its own": partial(work, contestants.pool_map, letter, 1),
            f"Executor.map{chunks}": partial(work, contestants.executor, letter, chunk),
        },
        ("seconds",),
        base="ideal",
    )


MEASURES = [
    _tiny(ordered=True),
    _tiny(ordered=False),
    _work("B", "20,000 mixed tasks of 10 us to 5 ms, ordered; the ideal is half their work", FEW),
    _work("C", "400 tasks of 5 ms; the ideal is half their work", 1),
]

"""H: from nothing to the first result, to ten, the same again on the open pool, and the end."""

from __future__ import annotations

import importlib
import time
from functools import partial

from benchmarks import contestants, tasks
from benchmarks.contestants import Method, Open
from benchmarks.measure import Measure, Note


def start(open_pool: Open, module: str, method: Method, note: Note) -> None:
    """Notes milliseconds: the import, then from opening to the first and the tenth result, and so on."""
    begin = time.perf_counter()
    importlib.import_module(module)
    note(**{"import": milliseconds(begin)})
    begin = time.perf_counter()
    with open_pool(method) as opened:
        results = iter(opened.map(tasks.add_one, range(10)))
        values = [next(results)]
        note(first=milliseconds(begin))
        values += results
        ten = milliseconds(begin)
        begin = time.perf_counter()
        again = list(opened.map(tasks.add_one, range(10)))
        note(ten=ten, second=milliseconds(begin))
        begin = time.perf_counter()
    close = milliseconds(begin)
    assert values == again == list(range(1, 11))
    note(all=ten + close, close=close)


def milliseconds(begin: float) -> float:
    """Since ``begin``."""
    return (time.perf_counter() - begin) * 1000


def _measure(method: Method) -> Measure:
    rows = {
        "manyhands": partial(start, contestants.manyhands, "manyhands", method),
        "Pool": partial(start, contestants.pool, "multiprocessing.pool", method),
        "Executor": partial(start, contestants.executor, "concurrent.futures.process", method),
    }
    if method != "forkserver":  # which is a detour that the floor has no use for
        rows = {"floor": partial(start, contestants.floor, "benchmarks.floor", method), **rows}
    return Measure(
        "H",
        f"open, ten tasks, close by {method}, in ms; the import and a second call of ten apart",
        rows,
        ("all", "import", "first", "ten", "second", "close"),
        base="Pool" if method == "forkserver" else "floor",
    )


MEASURES = [_measure(method) for method in ("fork", "spawn", "forkserver")]

"""L: functions that can't be found by their name."""

from __future__ import annotations

from functools import partial

from benchmarks import contestants
from benchmarks.contestants import Method, Open
from benchmarks.measure import Measure, Note


def functions(open_pool: Open, method: Method, note: Note) -> None:
    """Notes, for a lambda and a closure, whether it can be mapped; or the type of the error."""
    step = 1

    def closure(number: int) -> int:
        return number + step

    for name, function in {"lambda": lambda number: number + 1, "closure": closure}.items():
        with open_pool(method) as opened:
            try:
                right = list(opened.map(function, range(10))) == list(range(1, 11))
            except Exception as error:
                note(**{name: type(error).__name__})
            else:
                note(**{name: "yes" if right else "wrong"})


METHODS: tuple[Method, ...] = ("fork", "spawn", "forkserver")

MEASURES = [
    Measure(
        "L",
        "a lambda and a closure, by each start method",
        {
            f"{name}, {method}": partial(functions, open_pool, method)
            for name, open_pool in {
                "manyhands": contestants.manyhands,
                "Pool": contestants.pool,
                "Executor": contestants.executor,
            }.items()
            for method in METHODS
        },
        ("lambda", "closure"),
        once=True,
        limit=20.0,
    )
]

"""K: one of 200 tasks ends its worker by SIGKILL; what the caller gets of the others, and sees of this one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

from benchmarks import contestants, tasks
from benchmarks.contestants import Open, Opened
from benchmarks.measure import Measure, Note

COUNT = 200


def by_map(opened: Opened) -> list[Callable[[], Any]]:
    """What waits for each result of one map."""
    results = iter(opened.map(tasks.busy_or_die, range(COUNT)))
    return [partial(next, results)] * COUNT


def by_submit(opened: Opened) -> list[Callable[[], Any]]:
    """What waits for the result of each of many calls."""
    return [opened.submit(tasks.busy_or_die, number) for number in range(COUNT)]


def die(open_pool: Open, calls: Callable[[Opened], list[Callable[[], Any]]], note: Note) -> None:
    """Notes, after each result, how many of the others have not come, and what stood in their places."""
    obtained = 0
    seen: Counter[str] = Counter()
    note(missing=COUNT - 1)
    with open_pool() as opened:
        for wait in calls(opened):
            try:
                value = wait()
            except StopIteration:
                break  # a map is over once it has raised
            except Exception as error:
                value = error
            if isinstance(value, int):
                obtained += 1
            else:  # raised, or handed over in the place of the result
                seen[type(getattr(value, "error", value)).__name__] += 1
            sees = ", ".join(f"{count} {name}" for name, count in seen.items())
            note(missing=COUNT - 1 - obtained, sees=sees or "nothing")


def _measure(way: str, calls: Callable[[Opened], list[Callable[[], Any]]]) -> Measure:
    mine = partial(contestants.manyhands, on_error="return") if calls is by_map else contestants.manyhands
    return Measure(
        "K",
        f"{COUNT} tasks by {way}, one ends its worker: results missing of the other {COUNT - 1}",
        {
            "manyhands": partial(die, mine, calls),
            "Pool": partial(die, contestants.pool, calls),
            "Executor": partial(die, contestants.executor, calls),
        },
        ("missing", "sees"),
        once=True,
        limit=10.0,
    )


MEASURES = [_measure("map", by_map), _measure("submit", by_submit)]

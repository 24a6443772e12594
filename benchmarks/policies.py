"""V: what checks and retries add to tiny tasks. R: failed tasks that wait before they are tried again."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import TYPE_CHECKING, Any

from benchmarks import contestants, tasks
from benchmarks.contestants import WORKERS
from benchmarks.measure import Measure, Note

if TYPE_CHECKING:
    from manyhands import Failure

COUNT = 200_000
TIMES = 11
"""Maps of each kind, in turn, in one process: two processes differ more than what is looked for."""

LATE = 10_000
"""Tasks whose first attempt fails, and is repeated after a second."""


def positive(value: int) -> bool:
    """What results are checked by."""
    return value > 0


def natural(number: int) -> bool:
    """What arguments are checked by."""
    return number >= 0


def add_one_checked(number: int) -> int:
    """The task, which looks after its result itself."""
    value = number + 1
    if not positive(value):
        raise ValueError(value)
    return value


def add_one_natural(number: int) -> int:
    """The task, which looks after its argument itself."""
    if not natural(number):
        raise ValueError(number)
    return number + 1


def tiny(
    own: Callable[[int], int],
    decorate: Callable[[Any], Any],
    predicate: Callable[[int], bool] | None,
    processes: int,
    note: Note,
) -> None:
    """Notes what a checked task costs: beside one that is not, and one that checks itself.

    And what is left when the predicate's own time, in so many processes at once, is taken off: the library's part.
    """
    from manyhands import Controller, parallel

    kinds = [parallel(tasks.add_one), parallel(own), parallel(decorate(tasks.add_one))]
    seconds: list[list[float]] = []
    with Controller(WORKERS, start_method="fork") as pool:
        for _ in range(1 + TIMES):
            seconds.append([])
            start = time.perf_counter()
            for _ in map(predicate, range(COUNT)) if predicate else ():
                pass
            seconds[-1].append((time.perf_counter() - start) / processes)
            for function in kinds:
                start = time.perf_counter()
                found = list(function.map(range(COUNT), backend=pool))
                seconds[-1].append(time.perf_counter() - start)
                assert found == list(range(1, COUNT + 1))
    seconds = seconds[1:]
    note(
        **{
            "x plain": median(mine / plain for _, plain, _, mine in seconds),
            "less the predicate": median((mine - asked) / plain for asked, plain, _, mine in seconds),
            "x checked by itself": median(mine / own for _, _, own, mine in seconds),
            "us per task": median(mine for *_, mine in seconds) / COUNT * 1e6,
        }
    )


def itself(function: Any) -> Any:
    """The function as it checks its result: what the others are compared with."""
    return add_one_checked


def retried(function: Any) -> Any:
    """With a budget that is not needed."""
    from manyhands import retry_on

    return retry_on(OSError)(function)


def validated_result(function: Any) -> Any:
    """Its results are checked by the library; and a budget."""
    from manyhands import retry_on, validated

    return retry_on(OSError)(validated(result=positive)(function))


def validated_arguments(function: Any) -> Any:
    """Its arguments are checked by the library, in this process; and a budget."""
    from manyhands import retry_on, validated

    return retry_on(OSError)(validated(arguments=natural)(function))


def validated_arguments_there(function: Any) -> Any:
    """Its arguments are checked by the library, in the workers; and a budget."""
    from manyhands import retry_on, validated

    return retry_on(OSError)(validated(arguments=natural, arguments_in="worker")(function))


def fail_first(number: int) -> int:
    """Fails for a natural number; its opposite is what it is tried with again."""
    if number >= 0:
        raise ValueError(number)
    return ~number


def again(failure: Failure) -> Any:
    """In a second, with other arguments."""
    from manyhands import Retry

    return Retry(~failure.item, wait=1.0)


def late(note: Note) -> None:
    """Notes the seconds of a map whose tasks all fail once, and wait for a second."""
    from manyhands import Controller, parallel, retry_on

    function = parallel(retry_on(ValueError, handle_error=again)(fail_first))
    with Controller(WORKERS, start_method="fork") as pool:
        list(parallel(tasks.add_one).map(range(10), backend=pool))
        start = time.perf_counter()
        found = list(function.map(range(LATE), backend=pool, buffersize=2 * LATE))
        note(seconds=time.perf_counter() - start)
    assert found == list(range(LATE))


def failing(note: Note) -> None:
    """Notes a second, and the seconds of maps with the same calls: those that fail, and those that don't."""
    from manyhands import Controller, parallel

    with Controller(WORKERS, start_method="fork") as pool:
        function = parallel(fail_first)
        list(parallel(tasks.add_one).map(range(10), backend=pool))
        start = time.perf_counter()
        failures = list(function.map(range(LATE), backend=pool, on_error="return"))
        values = list(function.map(range(-LATE, 0), backend=pool))
        note(seconds=1.0 + time.perf_counter() - start)
    assert len(failures) == len(values) == LATE


def in_place(note: Note) -> None:
    """Notes what workers that sleep before they try again would take for as many; measured with a few."""
    few = 4

    with contestants.executor() as opened:
        list(opened.map(tasks.add_one, range(10)))
        start = time.perf_counter()
        list(opened.map(sleep_and_try, range(few)))
        note(seconds=(time.perf_counter() - start) * LATE / few)


def sleep_and_try(number: int) -> int:
    """As libraries for retries do it."""
    try:
        return fail_first(number)
    except ValueError:
        time.sleep(1.0)
        return fail_first(~number)


MEASURES = [
    Measure(
        "V",
        f"{COUNT:,} tiny tasks with checks and retries",
        {
            "itself": partial(tiny, add_one_checked, itself, positive, WORKERS),
            "@retry_on": partial(tiny, add_one_checked, retried, None, 1),
            "@validated(result), @retry_on": partial(
                tiny, add_one_checked, validated_result, positive, WORKERS
            ),
            "@validated(arguments) in workers, @retry_on": partial(
                tiny, add_one_natural, validated_arguments_there, natural, WORKERS
            ),
            "@validated(arguments), @retry_on": partial(tiny, add_one_natural, validated_arguments, natural, 1),
        },
        ("x plain", "less the predicate", "x checked by itself", "us per task"),
    ),
    Measure(
        "R",
        f"{LATE:,} tasks that fail, wait for 1 s and are tried again with other arguments",
        {
            "the same calls, and 1 s": failing,
            "manyhands": late,
            "sleeping in the worker, from four of them": in_place,
        },
        ("seconds",),
        base="the same calls, and 1 s",
    ),
]

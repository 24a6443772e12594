"""The process of the pool storm: plays the maps of a schedule, one after the other, then one that must go well.

Usage: python pool_process.py REPORT

The schedule is in its directory. It writes a line of JSON per map, with what each outcome was; then makes a file to
say so, waits until its standard input is closed, and writes the last map's.
"""

import concurrent.futures
import contextlib
import faulthandler
import json
import resource
import signal
import sys
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import CancelledError, Future
from pathlib import Path
from typing import Any

import storm_tasks
from schedule import ENDLESS, Map

from manyhands import Controller, Outcome, TaskTimeout, WorkerDied, parallel, retry_on
from manyhands.controller.caretaker import _living

PROBES = 9
SLOT_SECONDS = 15.0
TICK_SECONDS = 0.005
NOT_ASKED: dict[str, list[int]] = {"killed": [], "cancelled": [], "called": []}

faulthandler.register(signal.SIGUSR1)
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # segmentation faults are the daily business of this storm
report = Path(sys.argv[1])
room = storm_tasks.Room(Path.cwd())
schedule = room.schedule


def work(item: int | storm_tasks.Cargo) -> Any:
    """Does what is planned for the item; of the script, so that it travels by value."""
    return storm_tasks.run(item)


def probe(number: int) -> int:
    """What any pool can do that is of any use."""
    return number * number


# -- what came of an item, in plain values -------------------------------------------------------------------


def told(scope: int, index: int, value: Any, error: BaseException | None) -> dict[str, Any]:
    """A value, or an error."""
    plain: dict[str, Any] = {"index": index, "at": time.monotonic()}
    if error is None:
        right = storm_tasks.value(schedule.maps[scope].items[index].does, scope, index)
        return {**plain, "value": (type(value) is type(right) and value == right) or repr(value)[:200]}
    if isinstance(error, WorkerDied | TaskTimeout):
        plain |= {"pid": error.pid, "exitcode": getattr(error, "exitcode", None)}
    notes = getattr(error, "__notes__", [])
    return {**plain, "error": type(error).__name__, "text": str(error), "notes": notes}


def told_outcome(scope: int, outcome: Outcome[Any]) -> dict[str, Any]:
    """An outcome of a map."""
    first = schedule.offsets[scope]
    error = None if outcome.failure is None else outcome.failure.error
    if not (outcome.ok or error) or outcome.index >= len(schedule.maps[scope].items):
        return {"index": outcome.index, "at": time.monotonic(), "strange": repr(outcome)}
    plain = told(scope, outcome.index, outcome.value if outcome.ok else None, error)
    ends = [
        [attempt.type_name.rpartition(".")[2], int(attempt.worker.rpartition(":")[2] or 0)]
        for attempt in outcome.attempts
    ]
    number = outcome.item.number if isinstance(outcome.item, storm_tasks.Cargo) else outcome.item
    return {**plain, "item": number - first, "attempts": ends}


def told_future(scope: int, index: int, future: "Future[Any]") -> dict[str, Any]:
    """A future; waits until it is done."""
    try:
        error = future.exception()
    except CancelledError:
        return {"index": index, "item": index, "at": time.monotonic(), "cancelled": True, "attempts": []}
    plain = told(scope, index, None if error else future.result(), error)
    ended = [[plain["error"], plain["pid"]]] if "pid" in plain else []
    return {**plain, "item": index, "attempts": ended}


# -- maps ----------------------------------------------------------------------------------------------------


class Input:
    """The items of a map, and how far they were drawn beyond what the consumer has got.

    Attributes:
        given: how many outcomes the consumer has got.
        ahead: by how many items the input was ahead of that, at most.
    """

    def __init__(self, items: Iterable[Any]) -> None:
        self.given = self.ahead = 0
        self._items = items

    def __iter__(self) -> Iterator[Any]:
        for drawn, item in enumerate(self._items, 1):
            self.ahead = max(self.ahead, drawn - self.given)
            yield item


def items_of(scope: int, one: Map) -> Iterator[int | storm_tasks.Cargo]:
    """What the function is called with."""
    for number in range(schedule.offsets[scope], schedule.offsets[scope + 1]):
        yield storm_tasks.Cargo.of(number, one.cargo) if one.cargo else number


def play_map(scope: int, one: Map, pool: dict[str, Any]) -> dict[str, Any]:
    """One map."""
    function = parallel(work)
    if one.attempts > 1:
        function = retry_on(WorkerDied, TaskTimeout, attempts=one.attempts, wait=0.01)(function)
    drawn = Input(items_of(scope, one))
    source: Iterable[Any] = list(items_of(scope, one)) if one.source == "list" else iter(drawn)
    pauses = {pause.after: pause.ms for pause in one.pauses}
    got: list[dict[str, Any]] = []
    with function.map(source, **options_of(one), **pool) as results:
        outcomes = results.outcomes()
        while one.take is None or len(got) < one.take:
            time.sleep(pauses.pop(len(got), 0) / 1000)
            outcome = next(outcomes, None)
            if outcome is None:
                break
            drawn.given += 1
            got.append(told_outcome(scope, outcome))
    late = [told_outcome(scope, outcome) for outcome in outcomes]
    return {"map": scope, "outcomes": got, "late": late, "ahead": drawn.ahead, **NOT_ASKED}


def options_of(one: Map) -> dict[str, Any]:
    """The options of a map, without those that make the pool."""
    return {
        "ordered": one.ordered,
        "chunksize": one.chunksize,
        "buffersize": one.buffersize,
        "timeout": None if one.timeout is None else one.timeout / 1000,
    }


# -- single calls --------------------------------------------------------------------------------------------


def play_calls(scope: int, one: Map, pool: dict[str, Any]) -> dict[str, Any]:
    """The items as single calls."""
    controller: Controller | None = pool.get("backend")
    futures: list[Future[Any]]
    if controller is not None and one.timeout is None:
        futures = [controller.submit(work, item) for item in items_of(scope, one)]
    else:
        controller = None  # it can't kill what came to it in another way
        function = parallel(work).options(timeout=options_of(one)["timeout"], **pool)
        futures = [function.submit(item) for item in items_of(scope, one)]
    called: list[Future[Any]] = []
    if one.calls_back:
        for future in futures:
            future.add_done_callback(called.append)
    killed, cancelled = ask(one, schedule.offsets[scope], futures, controller)
    if not one.ordered:
        concurrent.futures.wait(futures)
    got = [told_future(scope, index, future) for index, future in enumerate(futures)]
    while one.calls_back and len(called) < len(futures):
        time.sleep(TICK_SECONDS)  # they are called after those who wait are woken
    calls = [called.count(future) for future in futures]
    asked = {"killed": killed, "cancelled": cancelled}
    return {"map": scope, "outcomes": got, "late": [], "ahead": 0, **asked, "called": calls}


def ask(
    one: Map, first: int, futures: list["Future[Any]"], controller: Controller | None
) -> tuple[list[int], list[int]]:
    """Kills and cancels futures as planned, and kills those that nothing else would end; returns which."""
    begin = time.monotonic()
    killed, cancelled = set(), set()
    planned = sorted(one.asks, key=lambda ask: -ask.ms)
    endless = set()
    if controller is not None:
        endless = {index for index, step in enumerate(one.items) if step.does in ENDLESS}
    while planned or endless:
        while planned and time.monotonic() - begin >= planned[-1].ms / 1000:
            due = planned.pop()
            if controller is not None and due.what == "kill":
                killed.add(due.index)
                controller.kill(futures[due.index])
            else:
                cancelled.add(due.index)
                futures[due.index].cancel()
        endless = {index for index in endless if not futures[index].done()}
        for index in endless:
            if controller is not None and room.begun(first + index):
                killed.add(index)
                controller.kill(futures[index])
        time.sleep(TICK_SECONDS)
    return sorted(killed), sorted(cancelled)


def slots_left() -> int:
    """Slots of shared memory that are not free when nothing runs; waits for that."""
    deadline = time.monotonic() + SLOT_SECONDS
    while True:
        left = sum(dispatcher.memory.bank.used for dispatcher in list(_living) if dispatcher.usable)
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(TICK_SECONDS)


# -- all of it -----------------------------------------------------------------------------------------------


def main() -> None:
    """Plays the schedule."""
    settings: dict[str, Any] = {
        "workers": schedule.workers,
        "threads": schedule.threads,
        "start_method": schedule.start_method,
        "max_tasks_per_worker": schedule.max_tasks,
    }
    with contextlib.ExitStack() as stack, open(report, "w") as file:
        pool = settings
        if schedule.own:
            pool = {"backend": stack.enter_context(Controller(**settings))}
        for scope, one in enumerate(schedule.maps):
            play = play_calls if one.submits else play_map
            print(json.dumps(play(scope, one, pool)), file=file, flush=True)
        Path(storm_tasks.PLAYED).touch()
        sys.stdin.read()  # until nothing happens to the workers any more
        outcomes = list(parallel(probe).map(range(PROBES), **pool).outcomes())
        plain = [outcome.value if outcome.ok else str(outcome.result) for outcome in outcomes]
        print(json.dumps({"slots": slots_left()}), file=file)
        print(json.dumps({"probe": plain == [probe(number) for number in range(PROBES)] or plain}), file=file)


main()

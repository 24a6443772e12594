"""The process of the pool storm: one map after the other, with options by chance, for some seconds.

Usage: python pool_process.py REPORT SEED SECONDS

It writes a line of JSON per map: the options, and what each outcome was.
"""

import contextlib
import faulthandler
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import tasks

from manyhands import Controller, Outcome, WorkerDied, parallel, retry_on

faulthandler.register(signal.SIGUSR1)
report, seed, seconds = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
journal = Path.cwd() / tasks.JOURNAL


def work(map_number: int, number: int) -> Any:
    """Does what chance has planned for the item."""
    tasks.note(journal, "b", map_number, number)
    action = tasks.action(seed, map_number, number)
    pace = tasks.luck(seed, "pace", map_number, number)
    tasks.idle_or_busy(pace.choice((0.0, 0.001, 0.01)), pace.random() < 0.5)
    if action == "exit":
        os._exit(tasks.EXIT_STATUS)
    if action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    tasks.note(journal, "e", map_number, number)
    if action == "raise":
        raise tasks.Boom(f"item {number}")
    return threading.Lock() if action == "unpicklable" else [map_number, number]


def told(outcome: Outcome[Any]) -> dict[str, Any]:
    """An outcome in plain values."""
    attempts = [[attempt.type_name, attempt.worker] for attempt in outcome.attempts]
    plain: dict[str, Any] = {"index": outcome.index, "item": outcome.item, "attempts": attempts}
    if outcome.ok:
        return {**plain, "value": outcome.value}
    if outcome.failure is None:
        return {**plain, "strange": repr(outcome)}
    error = outcome.failure.error
    if isinstance(error, WorkerDied):
        plain |= {"pid": error.pid, "exitcode": error.exitcode}
    notes = getattr(error, "__notes__", [])
    return {**plain, "error": type(error).__name__, "text": str(error), "notes": notes}


def play(map_number: int) -> dict[str, Any]:
    """One map."""
    chance = tasks.luck(seed, "map", map_number)
    attempts = chance.choice((1, 1, 2, 3))
    function = parallel(work)
    if attempts > 1:
        function = retry_on(WorkerDied, attempts=attempts, wait=chance.choice((0, 0.01)))(function)
    items = [(map_number, number) for number in range(chance.choice((1, 5, 20, 60, 100)))]
    options: dict[str, Any] = {
        "ordered": chance.random() < 0.5,
        "chunksize": chance.choice(("auto", 1, 3, 7, 7)),
        "buffersize": chance.choice((None, None, 1, 3, 20)),
    }
    methods = ("forkserver", "forkserver", "fork", "spawn")
    pool: dict[str, Any] = {
        "workers": chance.choice((1, 1, 2, 2, 3, 4)),
        "start_method": chance.choice(methods),
    }
    take = chance.randint(0, len(items)) if chance.random() < 0.15 else len(items)
    source = items if chance.random() < 0.5 else (item for item in items)
    began = time.monotonic()
    with contextlib.ExitStack() as stack:
        own = chance.random() < 0.3
        settings: dict[str, Any] = {"backend": stack.enter_context(Controller(**pool))} if own else pool
        results = stack.enter_context(function.map(source, star=True, **options, **settings))
        outcomes = results.outcomes()
        got = [told(next(outcomes)) for _ in range(take)]
        more = take == len(items) and next(outcomes, None) is not None
    told_of = {
        "map": map_number,
        "items": len(items),
        "take": take,
        "attempts": attempts,
        "own": own,
        "more": more,
    }
    return {**told_of, **options, **pool, "seconds": round(time.monotonic() - began, 3), "outcomes": got}


end = time.monotonic() + seconds
map_number = 0
with open(report, "w") as file:
    while time.monotonic() < end:
        print(json.dumps(play(map_number)), file=file, flush=True)
        map_number += 1

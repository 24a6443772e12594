"""The process of the storm of handlers: plays all flows of a storm at the same time.

Usage: python handler_process.py REPORT

The storm is in its directory. It writes a line of JSON per flow, with what each outcome was.
"""

import asyncio
import concurrent.futures
import contextlib
import faulthandler
import json
import resource
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import handler_streams
import handler_tasks
import storm_tasks
from handler_schedule import LATER, Budget, Flow, loads
from handler_tasks import GaveUp, Item, Trouble, Undecided, Worse, is_broken, is_valid, keeps
from handler_told import told_future, told_outcome

from manyhands import (
    Controller,
    Failure,
    GiveUp,
    Handler,
    InvalidResult,
    Outcome,
    PoolClosed,
    Replace,
    Retry,
    TaskTimeout,
    WorkerDied,
    parallel,
    retry_on,
    validated,
)

NAMED: Final[dict[str, Any]] = {
    "Trouble": Trouble,
    "Worse": Worse,
    "Broken": handler_tasks.Broken,
    "is_broken": is_broken,
    "OSError": OSError,
    "ConnectionError": ConnectionError,
    "InvalidResult": InvalidResult,
    "WorkerDied": WorkerDied,
    "TaskTimeout": TaskTimeout,
    "Exception": Exception,
}

faulthandler.register(signal.SIGUSR1)
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
report = Path(sys.argv[1])
storm = loads(Path(storm_tasks.SCHEDULE).read_text())


def work(item: Item) -> Any:
    """Does what is planned for the item; of the script, so that it travels by value."""
    return handler_tasks.run(item)


class Play:
    """One flow."""

    def __init__(self, number: int, pool: dict[str, Any]) -> None:
        self.number = number
        self.flow: Flow = storm.flows[number]
        flow = self.flow
        self._options: dict[str, Any] = {
            **pool,
            "ordered": flow.ordered,
            "chunksize": flow.chunksize,
            "buffersize": flow.buffersize,
            "timeout": None if flow.timeout is None else flow.timeout / 1000,
        }
        self._lock = threading.Lock()
        self._taken = self._added = 0
        self._is_ended = False
        self.told: dict[str, Any] = {
            "flow": number, "added": [], "refused": 0, "outcomes": [], "asked": [], "ahead": 0, "cancelled": None,
        }  # fmt: skip

    def play(self) -> None:
        """All of it; what came of it is in ``told``."""
        if self.flow.how == "handler":
            self._play_handler()
        elif self.flow.how == "map":
            self._play_map()
        else:
            self._play_calls()

    def _function(self) -> Any:
        function: Any = parallel(work)
        if self.flow.invalid is not None and self.flow.checked_by == "function":
            function = validated(arguments=keeps, result=is_valid, invalid=self.flow.invalid)(function)
        for budget in self.flow.budgets:
            function = retry_on(*(NAMED[name] for name in budget.names), **self._policy(budget))(function)
        return function

    def _policy(self, budget: Budget) -> dict[str, Any]:
        policy = {"attempts": budget.attempts, "wait": budget.wait / 1000}
        return {**policy, "handle_error": self._answer} if budget.asks else policy

    def _answer(self, failure: Failure) -> Any:
        """What the plan says to a failure."""
        flow, number, variant = failure.arguments
        asked = [number, failure.attempt, type(failure.error).__name__, variant]
        with self._lock:
            self.told["asked"].append(asked)
        match self.flow.items[number].answer(failure.attempt):
            case "retry":
                return Retry()
            case "retry other":
                return Retry((flow, number, variant + 1))
            case "retry later":
                return Retry(wait=LATER / 1000)
            case "give up":
                return GiveUp()
            case "give up other":
                return GiveUp(GaveUp(f"at attempt {failure.attempt}"))
            case "replace":
                return Replace(["replaced", flow, number, failure.attempt, variant])
            case "raise":
                raise Undecided(f"at attempt {failure.attempt}")
        return "nonsense"

    # -- a handler ---------------------------------------------------------------------------------------------

    def _play_handler(self) -> None:
        flow, own = self.flow, dict[str, Any]()
        if flow.invalid is not None and flow.checked_by == "handler":
            own = {"arguments": keeps, "result": is_valid, "invalid": flow.invalid}
        if flow.own is not None:
            own |= self._policy(flow.own)
        handler: Handler[Any] = Handler(self._function(), **own, **self._options)
        if flow.is_async:
            asyncio.run(handler_streams.in_coroutines(self, handler))
        else:
            handler_streams.in_threads(self, handler)
        counts = handler.counts
        self.told |= {
            "late": [told_outcome(outcome) for outcome in handler.results()],
            "counts": [counts.values, counts.failures, counts.discarded, counts.elsewhere],
            "pending": handler.pending,
        }
        try:
            self.told["late add"] = handler.add((self.number, 0, 0))
        except PoolClosed:
            self.told["late add"] = None

    def items_of(self, producer: int) -> Iterator[Item]:
        """What one of the producers adds."""
        for number in range(producer, len(self.flow.items), self.flow.producers):
            yield self.number, number, 0

    def note_added(self, index: int, item: Item) -> None:
        """An item was added."""
        with self._lock:
            self._added += 1
            self.told["ahead"] = max(self.told["ahead"], self._added - self._taken)
            self.told["added"].append([index, item[1]])

    def note_refused(self) -> None:
        """An item was not, since the input was closed."""
        with self._lock:
            self.told["refused"] += 1

    def is_to_end(self) -> bool:
        """Whether this consumer is to end the flow, now."""
        with self._lock:
            is_time = len(self.told["outcomes"]) >= self.flow.after and not self._is_ended
            self._is_ended |= is_time
            return is_time

    def note_taking(self, times: int = 1) -> None:
        """So many outcomes are about to be taken."""
        with self._lock:
            self._taken += times

    def note(self, outcome: Outcome[Any]) -> None:
        """One was."""
        told = told_outcome(outcome)
        with self._lock:
            self.told["outcomes"].append(told)

    def cancel(self, handler: Handler[Any]) -> None:
        """With an end of what runs, or without."""
        self.told["cancelled"] = time.monotonic()
        handler.cancel(kill=self.flow.ending == "kill")
        self.told["was cancelled"] = time.monotonic()

    # -- maps and calls ----------------------------------------------------------------------------------------

    def _items(self) -> Iterator[Item]:
        for number in range(len(self.flow.items)):
            self.told["added"].append([number, number])
            yield self.number, number, 0

    def _play_map(self) -> None:
        with self._function().map(self._items(), **self._options) as results:
            for outcome in results.outcomes():
                self.note(outcome)
                time.sleep(self.flow.pause / 1000)
            counts = results.counts
        self.told["counts"] = [counts.values, counts.failures, counts.discarded, counts.elsewhere]

    def _play_calls(self) -> None:
        for name in ("ordered", "chunksize", "buffersize"):
            del self._options[name]
        function = self._function().options(**self._options)
        futures = [function.submit(item) for item in self._items()]
        for number, future in enumerate(futures):
            told = {**told_future(future), "index": number, "item": [self.number, number, 0]}
            self.told["outcomes"].append({**told, "at": time.monotonic()})


def main() -> None:
    """Plays the storm."""
    settings: dict[str, Any] = {"backend": storm.backend, "workers": storm.workers, "threads": storm.threads}
    if storm.backend == "inline":
        settings = {"backend": "inline"}
    with contextlib.ExitStack() as stack:
        if storm.backend == "processes":
            del settings["backend"]
            settings["start_method"] = storm.start_method
            if storm.own:
                settings = {"backend": stack.enter_context(Controller(**settings))}
        plays = [Play(number, settings) for number in range(len(storm.flows))]
        with concurrent.futures.ThreadPoolExecutor(len(plays)) as threads:
            list(threads.map(Play.play, plays))
        report.write_text("".join(json.dumps(play.told) + "\n" for play in plays))


main()

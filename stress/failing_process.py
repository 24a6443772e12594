"""A process of the failing items: waits for the start, maps over the list, reports what each item came to.

Usage: python failing_process.py REPORT SEED ITEMS ATTEMPTS MODE
"""

import faulthandler
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any, Literal, cast

import tasks

from manyhands import OUTPUT, FailedElsewhere, Outcome, claimed_output, parallel, retry_on, validated

faulthandler.register(signal.SIGUSR1)
report, seed, items, attempts = Path(sys.argv[1]), *map(int, sys.argv[2:5])
mode = cast("Literal['retry', 'report']", sys.argv[5])
room = Path.cwd()


def is_valid(output: Path) -> bool:
    """Sorts out what the plan calls invalid."""
    return "invalid" not in output.read_text()


@parallel(workers=2, on_error="return")
@claimed_output("outputs/{number}.txt", failed=mode)
@retry_on(tasks.Boom, attempts=attempts, wait=0.03)
@validated(result=is_valid)
def flaky(number: int, output: Path = OUTPUT) -> None:
    """Fails as often as planned."""
    tasks.note(room / tasks.JOURNAL, "b", int(os.environ[tasks.MEMBER]), number)
    call = tasks.count_call(room / "calls" / str(number))
    failures = tasks.planned_failures(seed, number, attempts)
    if failures is None:
        output.write_text("invalid")
    elif failures < 0 or call <= failures:
        raise tasks.Boom(f"call {call} of item {number}")
    else:
        output.write_text(f"item {number}")


def told(outcome: Outcome[Path]) -> list[Any]:
    """What an item came to, in words that are the same in every process."""
    if outcome.ok:
        return [outcome.index, "value", str(outcome.value)]
    if outcome.discarded is not None:
        return [outcome.index, "discarded", outcome.discarded.reason]
    if outcome.failure is None:
        return [outcome.index, "strange", repr(outcome)]
    error = outcome.failure.error
    if isinstance(error, FailedElsewhere):
        return [outcome.index, error.type_name, str(error).rpartition(f"{error.type_name}: ")[2]]
    return [outcome.index, f"{type(error).__module__}.{type(error).__qualname__}", str(error)]


print("ready", flush=True)
sys.stdin.readline()
outcomes = [told(outcome) for outcome in flaky.map(range(items)).outcomes()]
report.write_text(json.dumps(outcomes))

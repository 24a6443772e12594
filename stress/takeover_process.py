"""A process of the takeover storm: asks for every output until all are there, and tells what became of its claims.

Usage: python takeover_process.py REPORT SEED ITEMS LEASE

It works on ``manyhands.claims`` itself, so that it can tell each takeover, each claim that was lost, and each output
that it has published for another, at the moment when that happened: in the journal, which survives its own end.
"""

from __future__ import annotations

import faulthandler
import json
import os
import random
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import tasks

from manyhands.claims import Busy, Claims, Decision, Fenced, Finished, Log, Mine, Wait
from manyhands.claims import filesystem as fs
from manyhands.claims.filesystem import LocalFileSystem, Operation
from manyhands.claims.names import StagingName, parse
from manyhands.testing import History, RecordedClaims, point_of

BACKOFF_SECONDS = 0.01
IDLE_SECONDS = 0.01
TOGETHER = 50
"""Items that the processes are at, about."""
POINTS = ("claim", "second look", "sync", "commit", "publish", "drop staging", "sweep")
STANDS_STILL = 0.03
"""At so many of these points it does; a nemesis outside would hardly ever find one of them."""
CRASHES_MAX = 100_000
"""It is the nemesis that ends owners, not what they compute."""


def told(kind: str, number: int) -> None:
    """Note in the journal what has just happened to an output."""
    tasks.note(Path(tasks.JOURNAL), kind, int(os.environ[tasks.MEMBER]), number)


class Unlucky(LocalFileSystem):
    """The real filesystem; now and then its process stands still at a point of the protocol.

    It tells when the staging of another claimant gets its output's name.
    """

    claims: Claims

    def __init__(self, luck: random.Random) -> None:
        self._luck = luck

    def perform(self, operation: Operation, /) -> Any:
        """The reply; raises OSError."""
        if point_of(operation) in POINTS and self._luck.random() < STANDS_STILL:
            told("stands", -1)  # so that the nemesis knows whom to continue
            signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)
        reply = super().perform(operation)
        if isinstance(operation, fs.Link | fs.Rename) and parse(Path(operation.target).name) is None:
            staging = parse(Path(operation.source).name)
            if isinstance(staging, StagingName) and staging.token != self.claims.claimant.token:
                told("helped", tasks.output_number(Path(operation.target).name))
        return reply


def was_taken_over(mine: Mine) -> bool:
    """Whether the slot below is a CLAIM, of somebody who was superseded."""
    return mine.slot > 0 and json.loads(Path(mine.log.slot(mine.slot - 1)).read_bytes())["kind"] == "CLAIM"


def compute(claims: RecordedClaims, history: History, seed: int, number: int, mine: Mine) -> None:
    """One attempt; the first one of some items fails."""
    if was_taken_over(mine):
        told("takeover", number)
    with history.body(mine.staging):
        tasks.write_signed(seed, number, mine.token, mine.staging)
    if mine.attempt == 1 and tasks.stumbles(seed, number):
        answer: object = claims.fail(mine, type_name="tasks.Boom", backoff=BACKOFF_SECONDS)
    else:
        answer = claims.commit(mine)
    if isinstance(answer, Fenced):
        told("fenced", number)


def run(report: Path, seed: int, items: int, lease: float) -> None:
    """Until all outputs are there."""
    history = History("history")
    unlucky = Unlucky(tasks.luck(seed, os.environ[tasks.MEMBER], "points"))
    unlucky.claims = Claims(lease=lease, max_crashes=CRASHES_MAX, filesystem=unlucky)
    luck = tasks.luck(seed, os.environ[tasks.MEMBER], "order")
    # All go through the list together, each in an order of its own: so they meet.
    left = sorted(range(items), key=lambda number: number + luck.uniform(0, TOGETHER), reverse=True)
    waiting: dict[int, Decision] = {}
    with RecordedClaims(history, unlucky.claims) as claims:
        while left or waiting:
            # After each new output all are asked for that others were at: who stands still is soon found out.
            for number in [*waiting, *([left.pop()] if left else [])]:
                last = waiting.pop(number, None)
                seen = last.memo if isinstance(last, Wait) else None
                watch = last.memo if isinstance(last, Busy) else None
                decision = claims.acquire(
                    Log.of(f"outputs/{tasks.output_name(number)}"), seen=seen, watch=watch
                )
                if isinstance(decision, Mine):
                    compute(claims, history, seed, number, decision)
                if not isinstance(decision, Finished):
                    waiting[number] = decision
            if not left:
                time.sleep(IDLE_SECONDS)
    report.write_text(json.dumps("all"))


if __name__ == "__main__":
    faulthandler.register(signal.SIGUSR1)
    run(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]))

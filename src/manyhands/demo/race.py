"""Independent processes that run the same function over the same tiles, and one bar for all of them.

The processes share a directory and nothing else. With ``kill=True`` two of them are ended by SIGKILL half-way
and two others take their place.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

LOOK = 0.1  # seconds between two looks at the directory of results
GRACE = 5.0  # seconds from SIGTERM to SIGKILL


class RaceFailed(RuntimeError):
    """A process of the race ended with an error; the message has the end of what it wrote."""


@dataclass(frozen=True)
class Share:
    """What one process did.

    Attributes:
        number: which process it was, from 1.
        pid: its process id.
        seconds: from its start to its end, to a tenth of a second.
        computed: names of the tables that it computed; None if it was killed and could not tell.
    """

    number: int
    pid: int
    seconds: float
    computed: frozenset[str] | None


@dataclass(frozen=True)
class Race:
    """A race that is over: every process's share, in order of their start, and the seconds of the whole."""

    shares: tuple[Share, ...]
    seconds: float


@dataclass(frozen=True)
class Plan:
    """What a race is to be.

    Attributes:
        total: the number of tiles, for the bar and for knowing when it is half-way.
        processes: how many processes start at once.
        workers: how many workers each of them has.
        kill: whether to kill two of them half-way and to start as many others.
    """

    total: int
    processes: int = 4
    workers: int = 1
    kill: bool = False


@dataclass
class _Runner:
    number: int
    process: subprocess.Popen[bytes]
    report: Path
    log: Path
    started: float
    ended: float | None = None
    intended: bool = False  # we ended it

    def look(self) -> bool:
        """Whether it still runs; notes when it ended."""
        if self.process.poll() is None:
            return True
        self.ended = self.ended or time.monotonic()
        return False

    @property
    def failed(self) -> bool:
        """Whether it ended of itself and not well."""
        return not self.intended and self.process.returncode not in (None, 0)

    def end(self, *, force: bool) -> None:
        """Ask it to end, or make it."""
        if self.look():
            self.intended = True
            (self.process.kill if force else self.process.terminate)()

    def share(self) -> Share:
        """What it did; raises RaceFailed if it failed."""
        seconds = (self.ended or time.monotonic()) - self.started
        if self.intended:
            return Share(self.number, self.process.pid, seconds, None)
        if self.failed:
            last = self.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-8:]
            status = f"process {self.number} of the demo ended with status {self.process.returncode}"
            raise RaceFailed("\n".join([status, *last]))
        told = json.loads(self.report.read_text(encoding="utf-8"))
        return Share(self.number, self.process.pid, seconds, frozenset(told["computed"]))


def finished(results: Path) -> int:
    """How many tables are finished in ``results``."""
    with os.scandir(results) as entries:
        return sum(1 for e in entries if e.name.endswith(".csv") and not e.name.startswith("."))


def race(
    plan: Plan, tiles: Path, results: Path, reports: Path, *, title: str = "", progress: bool = True
) -> Race:
    """Run the processes of ``plan`` over ``tiles`` and wait for all of them.

    However it ends, no process started here is left. Raises RaceFailed when a process fails; one that was
    killed on purpose does not count.
    """
    from tqdm import tqdm

    def start(number: int) -> _Runner:
        return _start(number, tiles, results, reports, plan.workers)

    began = time.monotonic()
    runners: list[_Runner] = []
    kill = plan.kill
    try:
        runners.extend(start(number) for number in range(1, plan.processes + 1))
        with tqdm(total=plan.total, desc=title, unit="tile", disable=not progress) as bar:
            while running := [runner for runner in runners if runner.look()]:
                with suppress(subprocess.TimeoutExpired):
                    running[0].process.wait(LOOK)
                done = finished(results)
                bar.update(done - bar.n)
                if kill and 2 * done >= plan.total:
                    kill = False
                    doomed = [runner for runner in runners if runner.look()][:2]
                    for runner in doomed:
                        runner.end(force=True)
                        runners.append(start(len(runners) + 1))
                    bar.set_postfix_str(f"{len(doomed)} killed, {len(doomed)} started")
                if any(runner.failed for runner in runners):
                    break  # it fails now rather than when the others are through
            bar.update(finished(results) - bar.n)
    finally:
        _end(runners)
    seconds = time.monotonic() - began
    for runner in runners:
        if runner.failed:
            runner.share()  # raises
    return Race(tuple(runner.share() for runner in runners), seconds)


def _start(number: int, tiles: Path, results: Path, reports: Path, workers: int) -> _Runner:
    report, log = reports / f"process{number}.json", reports / f"process{number}.log"
    command: list[str | Path] = [
        sys.executable,
        "-m",
        "manyhands.demo.worker",
        tiles,
        results,
        report,
        "--workers",
        str(workers),
    ]
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT)
    return _Runner(number, process, report, log, time.monotonic())


def _end(runners: Sequence[_Runner]) -> None:
    """End what still runs, first by asking."""
    for runner in runners:
        runner.end(force=False)
    deadline = time.monotonic() + GRACE
    for runner in runners:
        try:
            runner.process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            runner.end(force=True)
            runner.process.wait()
        runner.look()

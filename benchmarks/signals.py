"""M: what is left of a program whose workers are busy after Ctrl-C, and after its sudden death."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from benchmarks import contestants, processes, tasks
from benchmarks.measure import Measure, Note

AFTER, PATIENCE = 1.0, 8.0
"""Seconds after which processes are counted, and after which we no longer wait for the last one."""

WAYS = {"manyhands": contestants.manyhands, "Pool.imap": contestants.pool, "Executor.map": contestants.executor}


def program(way: str, sign: str) -> None:
    """What is interrupted: a map that would take minutes."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background it would be ignored
    with WAYS[way]() as opened:
        for _ in opened.map(tasks.busy_with_sign, [sign] * 10_000):
            pass


def interrupt(way: str, number: signal.Signals, note: Note) -> None:
    """Notes the processes left after a second, the seconds until there were none, and how it ended."""
    with tempfile.TemporaryDirectory() as directory:
        sign, errors = Path(directory, "sign"), Path(directory, "errors")
        code = f"from benchmarks.signals import program; program({way!r}, {str(sign)!r})"
        mark, environment = processes.marked_environment()
        with open(errors, "wb") as stderr:
            process = subprocess.Popen(
                [sys.executable, "-c", code], env=environment, stderr=stderr, start_new_session=True
            )
        try:
            while not sign.exists():
                assert process.poll() is None, errors.read_text()
                time.sleep(0.01)
            time.sleep(0.3)  # all workers are at it now
            start = time.monotonic()
            if number == signal.SIGINT:
                os.killpg(process.pid, number)  # as the terminal does it
            else:
                process.send_signal(number)
            watch(process, mark, start, note)
            ended = process.poll()  # a negative one names the signal
            note(status="none" if ended is None else str(ended))
            note(**{"lines on stderr": len(errors.read_text().splitlines())})
        finally:
            processes.end(mark)
            process.wait()


def watch(process: subprocess.Popen[bytes], mark: str, start: float, note: Note) -> None:
    """Looks again and again, until nothing is left or patience is."""
    note(**{"until none": f"> {PATIENCE:g} s"})
    counted = False
    while (passed := time.monotonic() - start) < PATIENCE:
        process.poll()  # so that it is no zombie
        left = len(processes.marked(mark))
        if not counted and (not left or passed >= AFTER):
            note(left=left)
            counted = True
        if not left:
            note(**{"until none": f"{passed:.2f} s"})
            return
        time.sleep(0.02)


def _measure(number: signal.Signals, title: str) -> Measure:
    return Measure(
        "M",
        f"{title}: processes left after {AFTER:g} s",
        {way: partial(interrupt, way, number) for way in WAYS},
        ("left", "until none", "status", "lines on stderr"),
        once=True,
        limit=30.0,
    )


MEASURES = [
    _measure(signal.SIGINT, "SIGINT to the process group amid a map"),
    _measure(signal.SIGKILL, "SIGKILL to the parent amid a map"),
]

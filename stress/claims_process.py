"""A process of the claims storm: maps over the whole list and reports what it got.

Usage: python claims_process.py REPORT SEED ITEMS
"""

import errno
import faulthandler
import json
import os
import signal
import sys
from pathlib import Path

import tasks

from manyhands import OUTPUT, WorkerDied, claimed_output, parallel, retry_on

faulthandler.register(signal.SIGUSR1)
report, seed, items = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
room = Path.cwd()


@parallel(workers=2)
@claimed_output("outputs/{name}", lease=float(os.environ.get(tasks.LEASE, "120")), max_crashes=1000)
@retry_on(WorkerDied, OSError, attempts=1000, wait=0.01)
def write(name: str, number: int, output: Path = OUTPUT) -> None:  # noqa: ARG001  # the template uses the name
    """Write one output, noting begin and end; some fail once, some keep their first caller."""
    member = int(os.environ[tasks.MEMBER])
    tasks.note(room / tasks.JOURNAL, "b", member, number)
    if tasks.stumbles(seed, number) and tasks.first_time(room / "stumbled" / str(number)):
        tasks.note(room / tasks.JOURNAL, "f", member, number)
        raise OSError(errno.EIO, "a planned failure")
    if tasks.is_trap(number) and tasks.first_time(room / "trapped" / str(number)):
        tasks.note(room / tasks.JOURNAL, "t", member, number)
        while True:
            signal.pause()
    tasks.write_output(seed, number, output)
    tasks.note(room / tasks.JOURNAL, "e", member, number)


# No main guard on purpose: workers must never run this file.
todo = [(tasks.output_name(number), number) for number in range(items)]
paths = [str(path) for path in write.map(todo, star=True)]
report.write_text(json.dumps(paths))

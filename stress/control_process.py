"""A process of a contestant, in the round's directory.

Usage: python control_process.py REPORT CONTESTANT JOB DEED

The deed is "work" on the whole list, as far as others don't; "heal" or "clean", as its documents say; or "judge"
what there is. It says "ready", and begins when it is told anything.
"""

import faulthandler
import json
import signal
import sys
from pathlib import Path

import tasks
from controls.contestant import OUTPUTS, Contestant, Job
from controls.contestants import find
from judging import end_state


def judge(contestant: Contestant, job: Job) -> dict[str, list[str]]:
    """What is missing, what is not whole, and what is there beside the outputs."""
    paths = contestant.paths(job)
    expected = {str(path): tasks.content(job.seed, number) for number, path in enumerate(paths)}
    found = {str(path): contestant.decoded(path.read_bytes()) for path in paths if path.exists()}
    state = end_state(expected, found)
    left = sorted(str(path) for path in OUTPUTS.rglob("*") if path.is_file() and str(path) not in expected)
    return {"missing": state.missing, "torn": state.differing, "left": left}


faulthandler.register(signal.SIGUSR1)
report, name, text, deed = sys.argv[1:]
contestant, job = find(name), Job.from_json(text)
print("ready", flush=True)
sys.stdin.readline()
match deed:
    case "work":
        contestant.work(job)
    case "heal":
        contestant.heal(job)
    case "clean":
        contestant.clean(job)
    case _:
        Path(report).write_text(json.dumps(judge(contestant, job)))

"""The reader of the claims storm: looks at the outputs while they are made, until its standard input ends.

Usage: python reader.py REPORT SEED ITEMS [CONTESTANT | signed]

A contestant of the controls says where its outputs are, and what is in them; without one they lie in "outputs". Those
that are signed tell who wrote them.

With MANYHANDS_STRESS_BY_NAME in its environment a file is told by its name alone: its inode may change its number on
this filesystem. Names are also tried that the directory does not show, since that may be shown late.

It knows nothing of manyhands. An output must be whole whenever it can be seen, and must never change after.
"""

import json
import os
import random
import select
import sys
from collections import defaultdict
from pathlib import Path

import tasks
from controls.contestant import Contestant, Job
from controls.contestants import find

MOST_TOLD = 100

report, seed, items = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
is_signed = sys.argv[4:] == ["signed"]
contestant: Contestant | None = find(sys.argv[4]) if len(sys.argv) > 4 and not is_signed else None
by_inode = tasks.BY_NAME not in os.environ
names = {tasks.output_name(number): number for number in range(items)}
outputs = Path("outputs")
if contestant is None:
    paths = {name: outputs / name for name in names}
else:
    paths = dict(zip(names, contestant.paths(Job(seed, items)), strict=True))
seen: dict[str, int] = {}
wrong: list[str] = []
kinds: dict[str, set[str]] = defaultdict(set)
looks = 0


def blame(kind: str, name: str, problem: str) -> None:
    """Note what is wrong with an output."""
    kinds[kind].add(name)
    if len(wrong) <= MOST_TOLD:
        wrong.append(f"the output {name!r} {problem}")


def look(name: str) -> None:
    """Read one output and judge it."""
    global looks
    looks += 1
    try:
        with open(paths[name], "rb") as file:
            inode, data = os.fstat(file.fileno()).st_ino, file.read()
    except FileNotFoundError:
        if by_inode or name in seen:
            blame("gone", name, "was there and is gone")
        return
    if contestant is not None:
        data = contestant.decoded(data)
    number = names[name]
    if not tasks.is_signed(seed, number, data) if is_signed else data != tasks.content(seed, number):
        blame("torn", name, f"was not whole when it could be seen: {len(data)} bytes")
    if seen.setdefault(name, inode) != inode and by_inode:
        blame("replaced", name, "was replaced after it was published")
        seen[name] = inode


def visible() -> list[str]:
    """The outputs that can be seen."""
    if contestant is not None:
        return [name for name, path in paths.items() if path.exists()]
    found = [name for name in os.listdir(outputs) if not name.startswith(".")]
    wrong.extend(f"a file that is no output: {name!r}" for name in found if name not in names)
    return [name for name in found if name in names]


while not select.select([0], [], [], 0.005)[0]:
    for name in visible():
        if name not in seen:
            look(name)
    for name in random.sample(tried := sorted(seen if by_inode else names), min(5, len(tried))):
        look(name)
    if contestant is None and len(wrong) > MOST_TOLD:
        break
for name in sorted(seen):  # once more, when all is over: what was replaced and not looked at since
    look(name)
told = {"looks": looks, "wrong": wrong, "kinds": {kind: sorted(found) for kind, found in kinds.items()}}
report.write_text(json.dumps(told))

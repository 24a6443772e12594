"""The reader of the claims storm: looks at the outputs while they are made, until its standard input ends.

Usage: python reader.py REPORT SEED ITEMS [names]

With "names" a file is told by its name alone, since its inode's number may change on this filesystem, and names are
also tried that the directory does not show, since that may be shown late.

The reader knows nothing of manyhands. An output must be whole whenever it can be seen, and must never change after.
"""

import json
import os
import random
import select
import sys
from pathlib import Path

import tasks

report, seed, items = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
by_inode = sys.argv[4:] != ["names"]
names = {tasks.output_name(number): number for number in range(items)}
outputs = Path("outputs")
seen: dict[str, int] = {}
wrong: list[str] = []
looks = 0


def look(name: str) -> None:
    """Read one output and judge it."""
    global looks
    looks += 1
    try:
        with open(outputs / name, "rb") as file:
            inode, data = os.fstat(file.fileno()).st_ino, file.read()
    except FileNotFoundError:
        if by_inode or name in seen:
            wrong.append(f"the output {name!r} was there and is gone")
        return
    if data != tasks.content(seed, names[name]):
        wrong.append(f"the output {name!r} was not whole when it could be seen: {len(data)} bytes")
    if seen.setdefault(name, inode) != inode and by_inode:
        wrong.append(f"the output {name!r} was replaced after it was published")


while not select.select([0], [], [], 0.005)[0]:
    visible = [name for name in os.listdir(outputs) if not name.startswith(".")]
    for name in visible:
        if name not in names:
            wrong.append(f"a file that is no output: {name!r}")
        elif name not in seen:
            look(name)
    for name in random.sample(
        sorted(seen if by_inode else names), min(5, len(seen) if by_inode else len(names))
    ):
        look(name)
    if len(wrong) > 100:
        break
report.write_text(json.dumps({"looks": looks, "wrong": wrong}))

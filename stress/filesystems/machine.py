"""One machine of the storm on NFS, all of it; a script that runs in a kernel of its own.

Usage: python machine.py REPORT NUMBER SEED ITEMS PROCESSES LEASE OUTPUTS

Its processes map over the list of all machines, while it kills and stops some of them, until every output is there.
The report says in JSON what it found wrong, and its figures; who writes none was killed.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import claims_storm
import tasks
from arena import Arena, Figures, Member, Nemesis, Stuck, listing

from filesystems.inspector import probe

DEEDS = {"kill parent": 10, "kill worker": 45, "stop parent": 15, "stop worker": 30}
SECONDS = 540.0
MOST_STARTS = 60


def play(arena: Arena, outputs: Path, items: int, processes: int, lease: float) -> Figures:
    """Until all is there; violations go to ``arena.wrong``."""
    (arena.directory / "outputs").symlink_to(outputs)
    for marks in ("stumbled", "trapped"):
        (arena.directory / marks).mkdir()
    names = {tasks.output_name(number) for number in range(items)}
    nemesis = Nemesis(arena, DEEDS, (0.5, 3.0))  # such a machine is slow
    trapped = claims_storm.Trapped(arena)

    def start() -> Member:
        return arena.start("claims_process.py", arena.seed, items, environment={tasks.LEASE: str(lease)})

    def each() -> None:
        nemesis.step()
        trapped.step()
        for _ in range(processes - sum(member.alive for member in arena.members)):
            if len(arena.members) < MOST_STARTS:
                start()

    try:
        arena.until(lambda: names <= listing(outputs), each, tick=0.1)
    finally:
        nemesis.rest()
    start()
    arena.until(lambda: not any(member.alive for member in arena.members), tick=0.1)
    arena.check_orphans(wait=True)
    arena.check_nobody_left()
    expected = [str(arena.directory / "outputs" / tasks.output_name(number)) for number in range(items)]
    survivors = claims_storm.check_survivors(arena, arena.members, expected)
    return {
        "processes": len(arena.members),
        "survivors": survivors,
        "parents killed": sum(member.killed for member in arena.members),
        **nemesis.figures,
        **claims_storm.check_journal(arena, nemesis.killed_workers, 0),
    }


def main() -> None:
    report, number, seed, items, processes, lease, outputs = sys.argv[1:]
    # Chance differs from machine to machine, what the items come to does not.
    arena = Arena(f"machine {number}", int(seed), seconds=SECONDS, parent=Path(os.environ["TMPDIR"]))
    arena.luck = tasks.luck(int(seed), "machine", number)
    figures: Figures = {}
    primitive = ""
    try:
        apart = Path(outputs).parent / f"probe-{number}"
        apart.mkdir()
        primitive = probe(apart)
        figures = play(arena, Path(outputs), int(items), int(processes), float(lease))
    except Stuck as stuck:
        arena.wrong(str(stuck))
    except Exception:
        arena.wrong(traceback.format_exc())
    finally:
        arena.close(keep=False)
    told = Path(f"{report}.new")
    told.write_text(json.dumps({"figures": figures, "primitive": primitive, "problems": arena.problems}))
    told.rename(report)


if __name__ == "__main__":
    main()

"""The claims protocol on a model filesystem, in orders that are drawn: more workers, more outputs, all faults.

No process is started. A round is some schedules, each from a seed of its own, which draws the world as well; or it
is all orders in one world that is too large for the tests.
"""

from __future__ import annotations

import errno
import random
from collections import Counter
from typing import TYPE_CHECKING

from manyhands.claims import Log
from manyhands.testing.explorer import Choices, Explorer, Faults, Knobs, Violation, Wanderer, shrunk
from manyhands.testing.programs import collect, compute

if TYPE_CHECKING:
    from arena import Arena, Figures

SCHEDULES = 20
STATES_MAX = 5_000_000
ERRNOS = (errno.EIO, errno.ESTALE, errno.ENOSPC, errno.EPERM, errno.EDQUOT)

BARE = Knobs(links=False, moves=False)
ELSEWHERE = (Log.of("/d/a.csv", "/t/a", parts=["/d/a.png"]),)
SEVERAL = (Log.of("/d/a.csv", parts=["/d/a.png"]),)

LARGE = {
    "gc beside two": lambda: Explorer(others=(collect(),), quick=True),
    "torn records": lambda: Explorer(faults=Faults(torn=1), knobs=BARE, liveness=True),
    "torn slots that end with a lease": lambda: Explorer(
        faults=Faults(torn=1), knobs=BARE, clocks=True, quick=True, liveness=True
    ),
    "torn slots, and a crash": lambda: Explorer(
        faults=Faults(torn=1, crashes=1), knobs=BARE, clocks=True, quick=True
    ),
    "three, one of which dies": lambda: Explorer(
        workers=3, faults=Faults(crashes=1), program=compute(local=True), quick=True
    ),
    "late effects, and a crash": lambda: Explorer(
        faults=Faults(delays=1, crashes=1, suspicions=1), quick=True, liveness=True
    ),
    "two files, and power": lambda: Explorer(
        faults=Faults(powers=1),
        knobs=Knobs(volatile=True),
        logs=SEVERAL,
        program=compute(durable=True),
        quick=True,
    ),
    "two files elsewhere, names remembered, and a removal": lambda: Explorer(
        faults=Faults(stale_looks=1, removals=1), logs=ELSEWHERE, knobs=Knobs(caches=True), quick=True
    ),
    "two files, names remembered, and a removal": lambda: Explorer(
        faults=Faults(stale_looks=1, removals=1), logs=SEVERAL, knobs=Knobs(caches=True), quick=True
    ),
}


def world(seed: int, workers: int) -> Wanderer:
    """The world of a schedule: all of it follows from the seed."""
    draw = random.Random(f"world {seed}")
    logs = tuple(
        Log.of(f"/d/{name}.csv", parts=[f"/d/{name}.png"] if draw.random() < 0.3 else ())
        for name in "abc"[: draw.randint(1, 3)]
    )
    clocks, volatile = draw.random() < 0.3, draw.random() < 0.2
    links, moves, caches = draw.random() < 0.7, draw.random() < 0.7, draw.random() < 0.5
    local = links and moves and not caches and draw.random() < 0.7
    faults = Faults(
        crashes=draw.randint(0, workers // 2),
        suspicions=0 if clocks else draw.randint(0, 4),
        lost_replies=draw.randint(0, 2),
        stale_looks=0 if local else draw.randint(0, 4),
        removals=draw.randint(0, 2 if links else 1),  # see "what it can't do" in docs/claims.md
        delays=draw.randint(0, 2),
        errors=draw.randint(0, 2),
        torn=draw.randint(0, 1),
        powers=draw.randint(0, 1) if volatile else 0,
        stops=draw.randint(0, 3) if clocks else 0,
        missed_beats=draw.randint(0, 2) if clocks else 0,
        ticks=draw.randint(0, 12) if clocks else 0,
    )
    knobs = Knobs(
        links=links,
        moves=moves,
        taken=errno.EPERM if draw.random() < 0.2 else errno.EEXIST,
        caches=caches,
        volatile=volatile,
        grain=draw.choice([1, 1, 2]),
        skews=tuple(draw.randint(-5, 5000) for _ in range(workers + 1)),
        by_client=draw.random() < 0.5,
    )
    program = compute(
        first=draw.choice(["commit", "fail", "release"]),
        attempts=draw.randint(2, 3),
        reopen=draw.choice([-1, -1, 3]),
        durable=volatile,
        local=local,
    )
    others = (collect(),) if draw.random() < 0.4 else ()
    return Wanderer(
        workers=workers,
        faults=faults,
        knobs=knobs,
        logs=logs,
        program=program,
        others=others,
        clocks=clocks,
        errnos=ERRNOS,
        rarely=draw.choice([6, 12, 25]),
    )


def play(arena: Arena, workers: int) -> Figures:
    """So many schedules."""
    figures: Counter[str] = Counter(schedules=SCHEDULES)
    for number in range(SCHEDULES):
        seed = arena.seed * SCHEDULES + number
        wanderer = world(seed, workers)
        try:
            wanderer.wander(Choices(seed=seed))
        except Violation as violation:
            tell(arena, violation, seed, workers)
        figures.update({name.replace("_", " "): count for name, count in wanderer.counts.items()})
    return dict(figures)


def play_all_orders(arena: Arena) -> Figures:
    """One of the large worlds, which the seed chooses."""
    name = random.Random(arena.seed).choice(list(LARGE))
    explorer = LARGE[name]()
    explorer.states_max = STATES_MAX
    try:
        return {name: explorer.explore()}
    except Violation as violation:
        arena.wrong(f"{name}: {violation}")
        return {}


def tell(arena: Arena, violation: Violation, seed: int, workers: int) -> None:
    """The shortest way to the broken promise that is found."""
    smaller = shrunk(violation, lambda: world(seed, workers))
    arena.wrong(f"schedule {seed}: {smaller}\nthe choices that lead there: {smaller.choices}")

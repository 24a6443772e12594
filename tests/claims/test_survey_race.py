"""Surveys while threads claim, finish, fail and leave: what is told was so at some moment."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import pytest

from manyhands.claims import Claims, Log, Mine, gc
from manyhands.claims.survey import Survey

ITEMS = 12
WRITERS = 3
TURNS = 60
ALLOWED = {
    "good": {"running", "committed", "open"},  # open: given up when it was found to be done
    "bad": {"running", "failed", "open"},
    "late": {"running", "committed", "open", "waiting"},
}
"""States in which outputs may ever be seen, by their names; not stale, since nobody dies, nor unreadable."""


def write(directory: Path, seed: int, was_seen: Event) -> None:
    """Goes through the outputs again and again, each time as somebody new; removes some that are finished."""
    draw = random.Random(seed)
    for turn in range(TURNS):
        if turn == TURNS // 2:
            was_seen.wait()
        with Claims(durable=False) as claims:
            for _ in range(3):
                name = f"{draw.choice(sorted(ALLOWED))}-{draw.randrange(ITEMS)}"
                log = Log.of(directory / name)
                if draw.random() < 0.2:
                    Path(log.final).unlink(missing_ok=True)
                mine = claims.acquire(log)
                if not isinstance(mine, Mine):
                    continue
                if name.startswith("bad"):
                    claims.fail(mine, type_name="E", message=name, backoff=None)
                elif name.startswith("late") and mine.attempt == 1:
                    claims.fail(mine, type_name="E", message=name, backoff=0.0)
                elif draw.random() < 0.1:
                    claims.release(mine)
                else:
                    mine.staging.write_text(name)
                    claims.commit(mine)


@pytest.mark.parametrize("seed", range(3))
def test_writers_and_readers(tmp_path: Path, seed: int) -> None:
    """A reader meets no error, and sees no output in a state in which it never was, nor one owner at two outputs."""
    with ThreadPoolExecutor(WRITERS) as pool:
        was_seen = Event()
        writers = [pool.submit(write, tmp_path, 100 * seed + writer, was_seen) for writer in range(WRITERS)]
        looks, is_over = 0, False
        while not is_over:
            is_over = all(writer.done() for writer in writers)  # so the last look is at what is left
            look = Survey(tmp_path)
            try:
                for found in look.read():
                    assert found.state in ALLOWED[found.name.partition("-")[0]], found
                    assert found.failure is None or found.failure.message == found.name
            finally:
                was_seen.set()
            looks += 1
        assert [writer.result() for writer in writers] == [None] * WRITERS
    assert looks > 1
    assert set(look.counts) <= {"failed", "open", "waiting", "done"}, "nobody runs any more"
    assert look.done == sum(not path.name.startswith(".") for path in tmp_path.iterdir())
    gc(tmp_path, now=True)
    assert list(Survey(tmp_path).read()) == []

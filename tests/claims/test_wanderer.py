"""Longer ways through larger worlds, drawn by a seed: they find what is wrong, and tell how to come there again."""

from __future__ import annotations

import errno
from dataclasses import replace

import pytest

from manyhands.claims import filesystem as fs
from manyhands.claims import protocol
from manyhands.claims.names import Log
from manyhands.testing.explorer import Choices, Faults, Knobs, Violation, Wanderer, replayed, shrunk
from manyhands.testing.programs import collect, compute

LOGS = (Log.of("/d/a.csv"), Log.of("/d/b.csv", parts=["/d/b.png"]))
ALL = Faults(
    crashes=2,
    suspicions=3,
    lost_replies=2,
    stale_looks=3,
    removals=1,
    delays=1,
    errors=2,
    torn=1,
)


def crowd() -> Wanderer:
    """Five workers who look too early and are taken for dead."""
    return Wanderer(workers=5, faults=Faults(stale_looks=4, suspicions=2, crashes=1), rarely=5)


def no_second_look(log: Log, *, local: bool = False) -> fs.Steps[bool]:
    """Believe the first look."""
    return False
    yield


def first_found(seeds: range) -> tuple[int, Violation] | None:
    for seed in seeds:
        try:
            crowd().wander(Choices(seed=seed))
        except Violation as violation:
            return seed, violation
    return None


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
def test_no_way_breaks_a_promise(seed: int) -> None:
    """Whatever happens to four workers, two outputs and gc, each output is made once, and nothing is left over."""
    Wanderer(
        workers=4,
        faults=replace(ALL, stale_looks=0) if seed == 1 else ALL,
        knobs=Knobs(links=seed % 3 > 0, moves=seed % 2 > 0, caches=seed > 2),
        logs=LOGS,
        program=compute(first=("commit", "fail", "release")[seed % 3], local=seed == 1),
        others=(collect(),) * (seed % 2),
        errnos=(errno.EIO, errno.ENOSPC, errno.ESTALE, errno.EPERM, errno.EDQUOT),
        rarely=8,
    ).wander(Choices(seed=seed))


def test_what_is_found_is_found_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A seed tells the way; so do the choices; and fewer of them lead to the same broken promise."""
    assert first_found(range(20)) is None
    monkeypatch.setattr(protocol, "second_look", no_second_look)
    found = first_found(range(200))
    assert found is not None
    seed, violation = found
    with pytest.raises(Violation) as again:
        crowd().wander(Choices(seed=seed))
    assert again.value.trace == violation.trace
    other = replayed(violation.choices, crowd)
    assert other is not None and other.trace == violation.trace
    smaller = shrunk(violation, crowd)
    assert len(smaller.trace) < len(violation.trace)
    final = replayed(smaller.choices, crowd)
    assert final is not None and final.trace == smaller.trace


def test_what_is_left_over_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """After gc nothing but outputs may be there."""

    def left(*_: object, **__: object) -> fs.Steps[None]:
        return
        yield

    monkeypatch.setattr("manyhands.testing.explorer.gc_steps", left)
    with pytest.raises(Violation, match=r"left over: .*claim-record"):
        Wanderer().wander(Choices())


def test_choices_are_plain_when_they_are_used_up() -> None:
    """A prefix of a way goes on by the plainest steps."""
    choices = Choices([2, 9])
    assert [choices.among(3), choices.among(4), choices.among(5), choices.among(1)] == [2, 3, 0, 0]
    assert choices.drawn == [2, 3, 0]

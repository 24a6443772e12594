"""Directories in which claims were damaged, or can't be where they are put."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from manyhands import OUTPUT, ManyhandsError, OutputDirectoryError, claimed_output, gc, parallel
from manyhands.decorators import work


@parallel
@claimed_output("{name}.txt")
def write(name: str, output: Path = OUTPUT) -> None:
    """Writes the name."""
    output.write_text(name)


@pytest.mark.parametrize("damage", ['{"manyhands":2}', "no record at all", '{"kind": "CLAIM"}'])
def test_a_claim_that_cannot_be_read_is_told(here: Path, monkeypatch: pytest.MonkeyPatch, damage: str) -> None:
    """After some looks its item fails, naming the file; the others don't."""
    monkeypatch.setattr(work, "UNREADABLE_LOOKS", 2)
    slot = here / ".b.txt.claim-0"
    slot.write_text(damage)
    values, failures = write.map(["a", "b", "c"], backend="inline").collect()
    assert [path.name for path in values] == ["a.txt", "c.txt"]
    assert [type(failure.error) for failure in failures] == [ManyhandsError]
    assert str(slot) in str(failures[0].error)
    slot.unlink()
    assert [path.name for path in write.map(["b"], backend="inline")] == ["b.txt"]
    gc(here, now=True)
    assert sorted(os.listdir(here)) == ["a.txt", "b.txt", "c.txt"]


@pytest.mark.parametrize("torn", ["", '{"manyhands":1,"ki'])
def test_a_claim_that_somebody_died_over_ends_with_a_lease(here: Path, torn: str) -> None:
    """Where slots can't be made whole, the writer's death leaves one that is torn: the next one goes on."""
    (here / ".a.txt.claim-0").write_text(torn)
    written = claimed_output("{name}.txt", lease=0.2)(lambda name, output=OUTPUT: output.write_text(name))
    assert written("a").read_text() == "a"


def test_claims_on_another_filesystem_are_refused_before_any_work(here: Path) -> None:
    """``temp`` must lie where its files can be given the output's name."""
    elsewhere = Path("/dev/shm")
    if not elsewhere.is_dir() or elsewhere.stat().st_dev == here.stat().st_dev:
        pytest.skip("there is no second filesystem")
    before = set(elsewhere.iterdir())

    @parallel
    @claimed_output("{name}.txt", temp="/dev/shm/{name}")
    def never(name: str, output: Path = OUTPUT) -> None:
        raise AssertionError("it ran")

    with pytest.raises(OutputDirectoryError, match="temp"):
        list(never.map(["a"], backend="inline"))
    assert set(elsewhere.iterdir()) == before
    assert os.listdir(here) == []

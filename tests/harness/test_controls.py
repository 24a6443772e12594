"""The controls' checkers notice what is wrong: recipes that are known to fail are seen to fail."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

STRESS = Path(__file__).parents[2] / "stress"


def figures(text: str) -> dict[str, dict[str, int]]:
    """What the tables say: of each contestant, each figure that anybody has."""
    rows = [
        [cell.strip() for cell in line.strip("| ").split("|")]
        for line in text.splitlines()
        if line.startswith("|")
    ]
    (_, *columns), _, *contestants = rows
    return {name: dict(zip(columns, map(int, cells), strict=True)) for name, *cells in contestants}


def test_recipes_are_caught() -> None:
    """Who is killed when its output is nearly written leaves it missing, or torn, where nothing is claimed."""
    options = ["--scenes", "kill", "--items", "11", "--kills", "0", "--processes", "1", "--seed", "1"]
    run = subprocess.run(
        [sys.executable, "-m", "controls", "--only", "temp-file,in-place", *options],
        cwd=STRESS,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    found = figures(run.stdout)
    assert {name: row["killed"] for name, row in found.items()} == {"temp-file": 1, "in-place": 1}
    assert {name: row["missing"] for name, row in found.items()} == {"temp-file": 1, "in-place": 0}
    assert {name: row["torn in the end"] for name, row in found.items()} == {"temp-file": 0, "in-place": 1}
    assert found["temp-file"]["torn when seen"] == 0 < found["in-place"]["torn when seen"]
    assert {name: row["left"] for name, row in found.items()} == {"temp-file": 1, "in-place": 0}


@pytest.fixture
def judging(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """A module of stress/, which go by their bare names."""
    monkeypatch.syspath_prepend(STRESS)
    yield importlib.import_module("judging")
    for name in ("judging", "tasks"):
        sys.modules.pop(name, None)


def test_repeated_items_are_found(judging: ModuleType) -> None:
    """An item that is begun twice counts, unless the first one failed or its process was killed."""
    tasks = importlib.import_module("tasks")
    journal = ["b 0 70 1", "e 0 70 1", "b 1 71 1", "b 0 70 2", "f 0 70 2", "b 1 71 2", "b 2 72 3", "b 1 71 3"]
    entries = list(tasks.entries("\n".join(f"{line} 0.5" for line in journal)))
    assert judging.repeated(entries, lambda entry: entry.pid == 72) == {1: 2}
    assert judging.repeated(entries, lambda entry: False) == {1: 2, 3: 2}


def test_end_state_tells_missing_from_differing(judging: ModuleType) -> None:
    """An output that is there and not whole is not missing; files of other names are not looked at."""
    state = judging.end_state({"a": b"1", "b": b"22", "c": b"3"}, {"a": b"1", "b": b"2", "d": b"4"})
    assert (state.missing, state.differing) == (["c"], ["b"])

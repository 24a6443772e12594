"""The demo's processes and the example, run for real on a handful of small images."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest

pytest.importorskip("skimage")
pytest.importorskip("matplotlib")

import imageio.v3 as iio

import manyhands.demo
from manyhands.demo import folders, summary
from manyhands.demo.race import Plan, RaceFailed, race

EXAMPLE = Path(__file__).parents[2] / "examples" / "count_objects.py"


def images(directory: Path, number: int, names: str = "tile {n}.png") -> Path:
    """A new directory of images with one more disc in each."""
    directory.mkdir()
    y, x = np.mgrid[:40, : 40 * number]
    for n in range(number):
        image = np.full(y.shape, 30, np.uint8)
        for disc in range(n + 1):
            image[(y - 20) ** 2 + (x - 20 - 40 * disc) ** 2 <= 100] = 220
        iio.imwrite(directory / names.format(n=n), image)
    return directory


def example(*arguments: object, check: int = 0) -> subprocess.CompletedProcess[str]:
    """Run the example to its end; its exit status must be ``check``."""
    command = [sys.executable, str(EXAMPLE), *map(str, arguments)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert ran.returncode == check, ran.stderr
    return ran


@pytest.mark.parametrize("kill", [False, True])
def test_processes_share_the_tiles(tmp_path: Path, kill: bool) -> None:
    """Three processes write every table once, as one alone does, killed or not, and none is left."""
    tiles = images(tmp_path / "tiles", 8)
    together, alone, told = (folders.fresh(tmp_path / n) for n in ("together", "alone", "told"))
    shared = race(Plan(8, processes=3, kill=kill), tiles, together, told, progress=False)
    names = [path.name for path in summary.tables(together)]
    assert names == [f"tile {n}.png.csv" for n in range(8)]
    parts = summary.portions(shared, names)
    assert sum(len(part.tables) for part in parts) == 8
    assert len(shared.shares) == 3 + sum(share.computed is None for share in shared.shares)
    assert not any(psutil.pid_exists(share.pid) for share in shared.shares)
    race(Plan(8, processes=1), tiles, alone, told, progress=False)
    assert summary.differences(together, alone) == []


def test_a_process_that_fails_ends_the_race(tmp_path: Path) -> None:
    """An image that can't be read ends the race with an error that names it, and no process is left."""
    tiles = images(tmp_path / "tiles", 3)
    (tiles / "broken.png").write_bytes(b"nothing")
    results, told = folders.fresh(tmp_path / "results"), folders.fresh(tmp_path / "told")
    with pytest.raises(RaceFailed, match=r"broken\.png"):
        race(Plan(4, processes=2), tiles, results, told, progress=False)
    left = [child for child in psutil.Process().children() if "manyhands.demo.worker" in " ".join(_line(child))]
    assert left == []


def test_what_is_in_the_way_of_the_demo_stays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A directory of the user's with the name of one of the demo's is an error, and is left alone."""
    (tmp_path / "tiles").mkdir()
    (tmp_path / "tiles" / "mine").write_text("data")
    assert manyhands.demo.run(tmp_path, progress=False) == 1
    assert "is in the way" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["tiles"]
    assert (tmp_path / "tiles" / "mine").read_text() == "data"


def test_a_missing_extra_is_said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Without scikit-image the demo says how to install it."""
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert manyhands.demo.run() == 1
    assert 'pip install "manyhands[demo]"' in capsys.readouterr().out


@pytest.mark.parametrize("options", [{"processes": 0}, {"workers": 0}])
def test_the_demo_needs_hands(options: dict[str, int]) -> None:
    """No processes or no workers is an error before anything is written."""
    with pytest.raises(ValueError, match="at least 1"):
        manyhands.demo.run(**options)  # type: ignore[arg-type]


def test_the_example_counts_any_number_of_times(tmp_path: Path) -> None:
    """Awkward names, files that are no images, a missing directory of results; the second run says the same."""
    folder = images(tmp_path / "im {image} ü\nges", 3, names="a {{b}} ü\n{n}.PNG")
    (folder / "notes.txt").write_text("no image")
    (folder / "folder.png").mkdir()
    results = tmp_path / "deep" / "{results} of\nall"
    for _ in range(2):
        ran = example(folder, results, "--workers", 1, "--no-progress")
        assert ran.stdout == f"3 images, 6 objects, {results}\n"
        assert ran.stderr == ""
    assert sorted(os.listdir(results)) == [f"a {{b}} ü\n{n}.PNG.csv" for n in range(3)]


def test_the_example_names_what_is_wrong(tmp_path: Path) -> None:
    """No directory or no image is status 2, a broken image status 1, each with a message that names it."""
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "no image found" in example(empty, tmp_path / "results", check=2).stderr
    assert "missing" in example(tmp_path / "missing", tmp_path / "results", check=2).stderr
    assert not (tmp_path / "results").exists()
    folder = images(tmp_path / "images", 1)
    (folder / "broken.png").write_bytes(b"nothing")
    ran = example(folder, tmp_path / "results", "--no-progress", check=1)
    assert "broken.png" in ran.stderr
    assert "Traceback" not in ran.stderr.splitlines()[0]


def _line(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []

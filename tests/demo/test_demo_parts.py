"""The parts of the demo that need no processes: tiles, directories, sums, the picture."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("skimage")
pytest.importorskip("matplotlib")

import imageio.v3 as iio

from manyhands.demo import folders, outlines, picture, summary, tiles
from manyhands.demo.race import Race, Share


@settings(deadline=None)
@given(st.integers(1, 120), st.integers(1, 120), st.integers(1, 140))
def test_the_tiles_cover_an_image_once(height: int, width: int, size: int) -> None:
    """Every pixel lies in exactly one tile, none is too large, and unique names sort as the tiles lie."""
    covered = np.zeros((height, width), int)
    cut = list(tiles.grid(height, width, size))
    for tile in cut:
        assert tile.bottom <= height
        assert tile.right <= width
        assert 0 < tile.bottom - tile.top <= size
        assert 0 < tile.right - tile.left <= size
        covered[tile.top : tile.bottom, tile.left : tile.right] += 1
    assert (covered == 1).all()
    names = [tile.name("image") for tile in cut]
    assert len(set(names)) == len(names)
    assert sorted(names) == names


@pytest.mark.parametrize("size", [0, -1])
def test_a_tile_needs_a_size(size: int) -> None:
    """A size below one is an error."""
    with pytest.raises(ValueError, match="positive"):
        list(tiles.grid(10, 10, size))


def test_a_picture_is_the_sum_of_its_tiles(tmp_path: Path) -> None:
    """The files that are cut hold the picture's own pixels, each once."""
    path = tiles.pictures()["coins"]
    whole = tiles.read_picture(path)
    height, width = whole.shape[:2]
    files = tiles.cut(path, tmp_path, 128)
    assert sorted(tmp_path.iterdir()) == sorted(files)
    again = np.zeros_like(whole)
    for tile, file in zip(tiles.grid(height, width, 128), files, strict=True):
        again[tile.top : tile.bottom, tile.left : tile.right] = iio.imread(file)
    assert (again == whole).all()


def test_the_shipped_pictures_are_there() -> None:
    """The installed scikit-image has all the pictures of the demo."""
    assert len(tiles.pictures()) == len(tiles.PICTURES)


def test_a_fresh_directory_replaces_only_what_the_demo_made(tmp_path: Path) -> None:
    """A directory of the demo's own is emptied; anything else is an error and stays as it was."""
    made = folders.fresh(tmp_path / "tiles")
    (made / "old").write_text("old")
    assert [path.name for path in folders.fresh(tmp_path / "tiles").iterdir()] == [folders.MARK]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "precious").write_text("data")
    (tmp_path / "file").write_text("data")
    (tmp_path / "link").symlink_to(made)
    for name in ("mine", "file", "link"):
        with pytest.raises(FileExistsError, match=name):
            folders.fresh(tmp_path / name)
    assert (tmp_path / "mine" / "precious").read_text() == "data"
    assert (made / folders.MARK).is_file()


def test_what_nobody_reports_is_the_killed_processes() -> None:
    """Each table belongs to one portion; those of killed processes are what is left."""
    shares = (Share(1, 11, 2.0, None), Share(2, 12, 4.0, frozenset("ab")), Share(3, 13, 1.5, frozenset("c")))
    parts = summary.portions(Race(shares, 4.0), "abcde")
    assert [(part.label, sorted(part.tables)) for part in parts] == [
        ("process 2", ["a", "b"]),
        ("process 3", ["c"]),
        ("killed: 1", ["d", "e"]),
    ]


def test_a_table_that_two_report_is_counted_once() -> None:
    """The portions never overlap, and what nobody reports is shown even when nothing was killed."""
    shares = (Share(1, 11, 2.0, frozenset("ab")), Share(2, 12, 2.0, frozenset("bc")))
    parts = summary.portions(Race(shares, 2.0), "abcd")
    assert [sorted(part.tables) for part in parts] == [["a", "b"], ["c"], ["d"]]


def test_differences_are_found(tmp_path: Path) -> None:
    """A table that differs or is missing on either side is named; equal tables and hidden files are not."""
    one, other = tmp_path / "one", tmp_path / "other"
    for directory, content in ((one, {"a": "1", "b": "2", "c": "3"}), (other, {"a": "1", "b": "x", "d": "4"})):
        directory.mkdir()
        (directory / f".{directory.name}.csv").write_text(directory.name)
        for name, text in content.items():
            (directory / f"{name}.csv").write_text(text)
    assert summary.differences(one, other) == ["b.csv", "c.csv", "d.csv"]
    assert summary.differences(one, one) == []


@given(st.lists(st.floats(0.2, 5), min_size=1, max_size=6), st.floats(0, 0.5))
def test_images_of_a_row_fill_its_width(aspects: list[float], gap: float) -> None:
    """Images in a row keep their aspect, have one height, don't overlap and end at the row's width."""
    places = picture.justified(aspects, 15.0, gap)
    assert places[-1][0] + places[-1][1] == pytest.approx(15.0)
    for (left, width, height), aspect in zip(places, aspects, strict=True):
        assert left >= 0
        assert width / height == pytest.approx(aspect)
    for (left, width, _), (following, _, _) in pairwise(places):
        assert following - left - width == pytest.approx(gap, abs=1e-9)


def test_outlines_follow_the_object_and_not_the_edge(tmp_path: Path) -> None:
    """A whole object has a closed outline; one that the tile's edge cuts has none along the edge."""
    y, x = np.mgrid[:100, :100]
    image = np.full(y.shape, 20, np.uint8)
    image[(y - 50) ** 2 + (x - 50) ** 2 <= 15**2] = 200
    image[(y - 50) ** 2 + x**2 <= 15**2] = 200
    iio.imwrite(tmp_path / "tile.png", image)
    lines = sorted(outlines.outlines.__wrapped__(tmp_path / "tile.png"), key=lambda line: line[:, 0].mean())
    cut, whole = lines
    assert (whole[0] == whole[-1]).all()
    assert whole.mean(axis=0) == pytest.approx((50, 50), abs=1)
    assert (cut[:, 0] <= 0).sum() <= 4


@pytest.mark.parametrize("areas", [[], [30.0], [20.0, 400.0, 5000.0]])
def test_a_picture_is_drawn(tmp_path: Path, areas: list[float]) -> None:
    """The picture is written for any number of panels and areas, also for none."""
    panel = picture.Panel("one", np.zeros((20, 40)), [(np.array([[1, 1], [5, 5]]), 0)], 1)
    for panels in ([panel] * 5,) if areas else ([], [panel]):
        picture.draw(tmp_path / "picture.png", panels, areas, {"process 1, 9 tiles": 0}, "title")
        assert iio.improps(tmp_path / "picture.png").shape[1] == 3200

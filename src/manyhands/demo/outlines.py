"""From tiles and their tables to the panels of the picture."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from skimage import measure

from manyhands import parallel
from manyhands.demo.objects import find_objects, read_grey
from manyhands.demo.picture import Panel
from manyhands.demo.tiles import grid, pictures, read_picture


@parallel
def outlines(tile: Path) -> list[Any]:
    """The outlines of the objects of a tile, as arrays of (x, y) in the tile's pixels.

    Where the tile's edge cuts an object its outline is left open: that line is not the object's.
    """
    labels = np.pad(find_objects(*read_grey(tile)), 1, mode="edge")
    lines = []
    for label in range(1, labels.max() + 1):
        found = measure.find_contours((labels == label).astype(float), 0.5)
        lines += [np.clip(line - 1, -0.5, np.subtract(labels.shape, 2.5))[:, ::-1] for line in found]
    return lines


def areas(table: Path) -> list[float]:
    """The areas that a table lists."""
    with table.open(newline="", encoding="ascii") as file:
        return [float(row["area"]) for row in csv.DictReader(file)]


def panels(tiles: Path, results: Path, size: int, owners: Mapping[str, int], *, progress: bool) -> list[Panel]:
    """One panel per picture; ``owners`` gives the colour's number of each table's name.

    The objects are those in the tables in ``results``; their outlines are computed once more, on all cores.
    """
    paths = sorted(tiles.glob("*.png"))
    found = dict(zip((path.name for path in paths), outlines.map(paths, progress=progress), strict=True))
    made = []
    for name, path in pictures().items():
        pixels = read_picture(path)
        lines, objects = [], 0
        height, width = pixels.shape[:2]
        for tile in grid(height, width, size):
            file = tile.name(name)
            objects += len(areas(results / f"{file}.csv"))
            owner = owners[f"{file}.csv"]
            lines += [(line + np.array([tile.left, tile.top]), owner) for line in found[file]]
        made.append(Panel(name, pixels, lines, objects))
    return made

"""The demo's input: the pictures that scikit-image ships, cut into tiles.

Nothing is downloaded: the files lie in the installed package.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

PICTURES = (
    "coins.png",
    "ihc.png",
    "cell.png",
    "hubble_deep_field.jpg",
    "retina.jpg",
    "moon.png",
    "microaneurysms.png",
    "page.png",
)


class Tile(NamedTuple):
    """A rectangle of a picture: its row and column in the grid, and the pixels ``[top:bottom, left:right]``."""

    row: int
    column: int
    top: int
    bottom: int
    left: int
    right: int

    def name(self, picture: str) -> str:
        """The tile's file name, which sorts as the tile lies."""
        return f"{picture}_r{self.row:03d}_c{self.column:03d}.png"


def grid(height: int, width: int, size: int) -> Iterator[Tile]:
    """The tiles of at most ``size`` by ``size`` pixels that cover ``height`` by ``width`` exactly, row by row.

    Each direction is divided evenly, so that no sliver is left at an edge. Raises ValueError unless ``size`` is
    positive.
    """
    for row, (top, bottom) in enumerate(_cuts(height, size)):
        for column, (left, right) in enumerate(_cuts(width, size)):
            yield Tile(row, column, top, bottom, left, right)


def pictures() -> dict[str, Path]:
    """The shipped pictures that this scikit-image has, by name without suffix, in the order of the demo.

    Raises FileNotFoundError if it has none of them.
    """
    import skimage

    folder = Path(skimage.__file__).parent / "data"
    candidates = (folder / name for name in PICTURES)
    found = {path.stem: path for path in candidates if path.is_file()}
    if not found:
        raise FileNotFoundError(f"scikit-image has none of its pictures in {str(folder)!r}")
    return found


def read_picture(path: Path) -> Any:
    """The picture's pixels, (rows, columns) or (rows, columns, channels)."""
    from imageio.v3 import imread

    return imread(path)


def cut(path: Path, directory: Path, size: int) -> list[Path]:
    """Cut a picture into PNG files in ``directory``, which exists; the paths, row by row."""
    from imageio.v3 import imwrite

    pixels = read_picture(path)
    tiles = []
    height, width = pixels.shape[:2]
    for tile in grid(height, width, size):
        target = directory / tile.name(path.stem)
        imwrite(target, pixels[tile.top : tile.bottom, tile.left : tile.right])
        tiles.append(target)
    return tiles


def _cuts(length: int, size: int) -> list[tuple[int, int]]:
    """The even division of ``length`` into the fewest pieces of at most ``size``."""
    if size < 1:
        raise ValueError(f"the size of a tile must be positive, not {size}")
    pieces = -(-length // size)
    edges = [length * n // pieces for n in range(pieces + 1)] if pieces else []
    return list(pairwise(edges))

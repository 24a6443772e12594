"""The demo's function on images whose objects are known, and on images that are awkward."""

from __future__ import annotations

import ast
import csv
import runpy
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("skimage")
pytest.importorskip("matplotlib")

import imageio.v3 as iio

from manyhands.demo import objects

EXAMPLE = Path(__file__).parents[2] / "examples" / "count_objects.py"
SHARED = ("read_grey", "find_objects", "count_objects")
CENTRES = ((30, 30), (30, 95), (80, 60), (100, 110))
RADII = (9, 12, 15, 10)


def discs(dark: float = 0.1, bright: float = 0.9) -> Any:
    """Four bright discs apart from one another on a dark ground, values 0…1."""
    y, x = np.mgrid[:128, :140]
    image = np.full(y.shape, dark)
    for (row, column), radius in zip(CENTRES, RADII, strict=True):
        image[(y - row) ** 2 + (x - column) ** 2 <= radius**2] = bright
    return image


def table(image: Path, output: Path) -> list[dict[str, float]]:
    """What the bare function writes for ``image``, with every warning an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        objects.count_objects.__wrapped__(image, output=output)
    with output.open(newline="") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def sources(path: Path) -> dict[str, str]:
    """The source of each function of a module with its decorators, by name."""
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    found = {}
    for node in ast.parse(text).body:
        if isinstance(node, ast.FunctionDef):
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            found[node.name] = "\n".join(lines[first - 1 : node.end_lineno])
    return found


@pytest.mark.parametrize(("dark", "bright"), [(0.1, 0.9), (0.9, 0.1)])
def test_every_disc_is_found_where_it_is(tmp_path: Path, dark: float, bright: float) -> None:
    """Known discs, brighter or darker than the ground, are found with place, area, shape, brightness."""
    iio.imwrite(tmp_path / "discs.png", (255 * discs(dark, bright)).astype(np.uint8))
    rows = table(tmp_path / "discs.png", tmp_path / "discs.csv")
    assert [row["label"] for row in rows] == [1, 2, 3, 4]
    rows.sort(key=lambda row: (round(row["y"] / 10), row["x"]))
    for row, (y, x), radius in zip(rows, CENTRES, RADII, strict=True):
        assert (row["y"], row["x"]) == pytest.approx((y, x), abs=0.5)
        assert row["area"] == pytest.approx(np.pi * radius**2, rel=0.1)
        assert row["eccentricity"] < 0.25
        assert row["mean_intensity"] == pytest.approx(255 * bright, abs=12)


def test_touching_discs_are_two(tmp_path: Path) -> None:
    """The watershed parts two discs that overlap a little."""
    y, x = np.mgrid[:80, :120]
    near = ((y - 40) ** 2 + (x - 40) ** 2 <= 400) | ((y - 40) ** 2 + (x - 74) ** 2 <= 400)
    iio.imwrite(tmp_path / "two.png", np.where(near, 220, 20).astype(np.uint8))
    assert len(table(tmp_path / "two.png", tmp_path / "two.csv")) == 2


@pytest.mark.parametrize("channels", [None, 2, 3, 4])
@pytest.mark.parametrize(
    ("kind", "scale"),
    [("uint8", 255), ("uint16", 65535), ("uint16", 900), ("int32", 1e6), ("float32", 1), ("float64", 1e20)],
)
def test_the_kind_of_pixel_does_not_matter(
    tmp_path: Path, kind: str, scale: float, channels: int | None
) -> None:
    """The same four discs are found whatever the pixels' type, range and channels; alpha is ignored."""
    image = discs() * scale
    if channels is not None:
        image = np.stack([image] * channels, axis=-1)
        if channels in (2, 4):
            image[..., -1] = np.linspace(0, scale, image.shape[1])
    # Without this, an image of grey and alpha is written as a page for every row.
    grey_alpha = {"photometric": "minisblack", "planarconfig": "contig"} if channels == 2 else {}
    iio.imwrite(tmp_path / "discs.tif", image.astype(kind), **grey_alpha)
    assert len(table(tmp_path / "discs.tif", tmp_path / "discs.csv")) == 4


@pytest.mark.parametrize("mode", ["1", "P", "L", "I;16", "RGBA", "CMYK"])
def test_every_mode_of_an_image_is_read(tmp_path: Path, mode: str) -> None:
    """Bilevel, palette, grey, 16-bit, transparent and print images all show their four discs."""
    from PIL import Image

    grey = (255 * discs()).astype(np.uint8)
    wide = grey.astype(np.uint16) * 256
    image = Image.fromarray(wide) if mode == "I;16" else Image.fromarray(grey).convert("RGB").convert(mode)
    path = tmp_path / ("discs.tif" if mode in ("CMYK", "I;16") else "discs.png")
    image.save(path)
    expected = 4 if mode != "1" else pytest.approx(4, abs=4)  # dithering leaves specks
    assert len(table(path, tmp_path / "discs.csv")) == expected


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (2, 3), (1, 200), (40, 40), (40, 40, 3)])
@pytest.mark.parametrize("kind", ["uint8", "uint16", "float32"])
def test_an_image_without_objects_gives_an_empty_table(
    tmp_path: Path, shape: tuple[int, ...], kind: str
) -> None:
    """A constant image of any shape and level gives a table of its header alone."""
    for level in (0, 1, 100):
        iio.imwrite(tmp_path / "flat.tif", np.full(shape, level, kind))
        assert table(tmp_path / "flat.tif", tmp_path / "flat.csv") == []
        assert (tmp_path / "flat.csv").read_bytes() == b"label,area,y,x,eccentricity,mean_intensity\n"


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (2, 3), (3, 200), (50, 60, 4)])
def test_noise_and_what_is_not_a_number_do_no_harm(tmp_path: Path, shape: tuple[int, ...]) -> None:
    """Random pixels, NaN and infinities are read without an error."""
    image = np.random.default_rng(0).normal(size=shape)
    iio.imwrite(tmp_path / "noise.tif", image)
    table(tmp_path / "noise.tif", tmp_path / "noise.csv")
    image.flat[::2] = np.nan
    image.flat[0] = np.inf
    iio.imwrite(tmp_path / "noise.tif", image)
    table(tmp_path / "noise.tif", tmp_path / "noise.csv")


@pytest.mark.parametrize("name", ["broken.png", "broken.jpg", "broken.tif", "a {b}\nc.png"])
@pytest.mark.parametrize("content", [b"", b"no image at all", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", b"II*\0aaaa"])
@pytest.mark.filterwarnings("ignore")  # the function itself silences them
def test_a_broken_image_is_an_error_that_names_it(tmp_path: Path, name: str, content: bytes) -> None:
    """What can't be decoded raises ValueError with the file's name, which is no error of the disk."""
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ValueError, match="cannot read") as caught:
        objects.read_grey(path)
    assert repr(str(path)) in str(caught.value)


def test_a_missing_image_is_an_error_of_the_disk(tmp_path: Path) -> None:
    """OSError is what is worth another attempt."""
    with pytest.raises(FileNotFoundError):
        objects.read_grey(tmp_path / "missing.png")


def test_the_table_is_the_same_bytes_again(tmp_path: Path) -> None:
    """Two runs over one image write equal bytes."""
    rng = np.random.default_rng(1)
    noisy = np.clip(255 * discs() + rng.normal(0, 20, (128, 140)), 0, 255).astype(np.uint8)
    iio.imwrite(tmp_path / "discs.png", noisy)
    table(tmp_path / "discs.png", tmp_path / "one.csv")
    table(tmp_path / "discs.png", tmp_path / "two.csv")
    assert (tmp_path / "one.csv").read_bytes() == (tmp_path / "two.csv").read_bytes()


def test_the_example_shows_the_functions_of_the_demo() -> None:
    """The three functions read the same in the example and in the package, decorators included."""
    here, there = sources(Path(objects.__file__)), sources(EXAMPLE)
    assert {name: here[name] for name in SHARED} == {name: there[name] for name in SHARED}


def test_the_example_writes_the_bytes_of_the_demo(tmp_path: Path) -> None:
    """The example's function and the demo's write the same table."""
    iio.imwrite(tmp_path / "discs.png", (255 * discs()).astype(np.uint8))
    example = runpy.run_path(str(EXAMPLE))["count_objects"].__wrapped__
    example(tmp_path / "discs.png", output=tmp_path / "example.csv")
    table(tmp_path / "discs.png", tmp_path / "demo.csv")
    assert (tmp_path / "example.csv").read_bytes() == (tmp_path / "demo.csv").read_bytes()


def test_only_the_first_page_of_a_file_is_read(tmp_path: Path) -> None:
    """A file of several pages gives its first one, and colours that lie one after another are colours."""
    tifffile = pytest.importorskip("tifffile")
    page = np.zeros((60, 50), "u1")
    page[20:40, 10:30] = 200
    tifffile.imwrite(tmp_path / "stack.tif", np.stack([page] * 3), photometric="minisblack")
    planes = np.stack([page] * 3)
    tifffile.imwrite(tmp_path / "planes.tif", planes, photometric="rgb", planarconfig="separate")
    for name in ("stack.tif", "planes.tif"):
        grey, _ = objects.read_grey(tmp_path / name)
        assert np.array_equal(grey, page)

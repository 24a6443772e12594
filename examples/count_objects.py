"""Count the objects in every image of a directory: one table per image.

    python count_objects.py IMAGES RESULTS

Start it as often as you like, also several times at once or on several machines that share the directory:
the processes share the work, and whatever ends one of them, the next start goes on from what is done.
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from imageio.v3 import imread
from PIL import Image
from scipy import ndimage
from skimage import feature, filters, measure, restoration, segmentation

from manyhands import OUTPUT, claimed_output, parallel, retry_on

SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}


def read_grey(image: Path) -> tuple[Any, float]:
    """The image's first frame as one grey channel in its own units, and what counts as white there."""
    data = image.read_bytes()
    Image.MAX_IMAGE_PIXELS = None  # these images are the caller's own, however large
    try:
        first: Any = {"page": 0} if image.suffix.lower() in {".tif", ".tiff"} else {"index": 0}
        pixels = np.atleast_2d(imread(data, extension=image.suffix.lower(), **first))
        if pixels.ndim == 3 and pixels.shape[0] < 5 <= pixels.shape[-1]:
            pixels = np.moveaxis(pixels, 0, -1)  # its colours lay one after another
        pixels = pixels.reshape(*pixels.shape[:2], -1)
    except Exception as error:
        raise ValueError(f"cannot read {str(image)!r} as an image: {error}") from error
    if pixels.shape[-1] in (2, 4):
        pixels = pixels[..., :-1]  # without the alpha channel
    grey = np.clip(np.nan_to_num(pixels.astype(float)), -1e30, 1e30).mean(axis=-1)
    brightest = float(np.abs(grey).max(initial=0))
    return grey, 255.0 if pixels.dtype == np.uint8 and brightest > 1 else brightest or 1.0


def find_objects(grey: Any, white: float) -> Any:
    """Labels: 0 is background, 1, 2, … are the objects, which is what covers less of the image."""
    nothing = np.zeros(grey.shape, int)
    calm = restoration.denoise_nl_means(grey / white, h=0.02).reshape(grey.shape)
    smooth = filters.gaussian(calm, 1)
    if np.ptp(smooth) < 0.035:
        return nothing
    mask = smooth > filters.threshold_otsu(smooth)
    if abs(smooth[mask].mean() - smooth[~mask].mean()) < 0.035:  # noise, or a shadow
        return nothing
    mask = ndimage.binary_fill_holes(mask if mask.mean() <= 0.5 else ~mask)
    depth = filters.gaussian(ndimage.distance_transform_edt(mask), 2)
    pieces = measure.label(mask)
    peaks = feature.peak_local_max(depth, min_distance=7, labels=pieces, exclude_border=False)
    markers = nothing.copy()
    markers[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    labels = segmentation.watershed(-depth, markers, mask=mask)
    large = np.bincount(labels.ravel()) >= 20
    return segmentation.relabel_sequential(labels * large[labels])[0]


@parallel(progress=True)
@claimed_output("{image.name}.csv")
@retry_on(OSError, attempts=3)
def count_objects(image: Path, output: Path = OUTPUT) -> None:
    """Write one row per object of the image: where it is, how large, how round and how bright."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        grey, white = read_grey(image)
        objects = measure.regionprops(find_objects(grey, white), grey)
        rows = ["label,area,y,x,eccentricity,mean_intensity"]
        for one in objects:
            y, x = one.centroid
            rows.append(
                f"{one.label},{one.area:.0f},{y:.2f},{x:.2f},{one.eccentricity:.4f},{one.intensity_mean:.4f}"
            )
        output.write_text("\n".join(rows) + "\n", encoding="ascii", newline="\n")


def main() -> None:
    """Read the command line, count, and say what was found."""
    parser = argparse.ArgumentParser(description="Count the objects in every image of a directory.")
    parser.add_argument("images", type=Path, help="directory of the images")
    parser.add_argument("results", type=Path, help="directory of the tables, made if it is missing")
    parser.add_argument("--workers", type=int, help="processes to use (default: one per core)")
    parser.add_argument("--progress", action=argparse.BooleanOptionalAction, default=True, help="show a bar")
    options = parser.parse_args()
    if not options.images.is_dir():
        parser.error(f"{str(options.images)!r} is not a directory")
    files = sorted(options.images.resolve().iterdir())
    images = [file for file in files if file.suffix.lower() in SUFFIXES and file.is_file()]
    if not images:
        parser.error(f"no image found in {str(options.images)!r}")
    try:
        counting = count_objects.options(workers=options.workers, progress=options.progress)
    except ValueError as error:
        parser.error(str(error))
    try:
        options.results.mkdir(parents=True, exist_ok=True)
        os.chdir(options.results)  # where the template of the outputs starts
        tables = counting.map(images)
        objects = sum(len(table.read_text().splitlines()) - 1 for table in tables)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        sys.exit("\n".join([f"{type(error).__name__}: {error}", *getattr(error, "__notes__", [])]))
    said = f"{len(images)} images, {objects} objects, {options.results}\n"
    sys.stdout.buffer.write(os.fsencode(said))  # a name may hold what no encoding can print


if __name__ == "__main__":
    main()

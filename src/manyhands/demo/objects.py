"""The demo's function: find the objects of one image and write a table of them.

``examples/count_objects.py`` shows the same three functions as a script of its own; a test holds both equal.
Needs the extra ``demo`` (scikit-image and what comes with it).
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from imageio.v3 import imread
from PIL import Image
from scipy import ndimage
from skimage import feature, filters, measure, restoration, segmentation

from manyhands import OUTPUT, claimed_output, parallel, retry_on


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

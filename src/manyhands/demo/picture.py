"""The demo's picture: every image with the outlines that were found, and a histogram of the areas."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PAPER, INK, FAINT, BARS = "#10141a", "#f2efe6", "#8d97a5", "#b9c2cf"
COLOURS = ("#ffb000", "#40e0d0", "#ff6f91", "#a6e22e", "#b79cff", "#ff8c42", "#66b3ff", "#f7f06d")
WIDTH, MARGIN, GAP, CAPTION = 16.0, 0.5, 0.25, 0.36  # inches
HEADER, HISTOGRAM, FOOT = 1.25, 2.1, 0.75  # inches
PER_ROW = 4


@dataclass(frozen=True)
class Panel:
    """One image of the picture.

    Attributes:
        name: its caption.
        pixels: the image itself.
        outlines: lines in the image's pixel coordinates, each an array of (x, y), with its colour's number.
        objects: how many objects the tables of its tiles list.
    """

    name: str
    pixels: Any
    outlines: Sequence[tuple[Any, int]]
    objects: int


def justified(aspects: Sequence[float], width: float, gap: float) -> list[tuple[float, float, float]]:
    """Left edge, width and height of images of one height that fill ``width`` with ``gap`` between them.

    ``aspects`` are the images' widths divided by their heights.
    """
    height = (width - gap * (len(aspects) - 1)) / sum(aspects)
    places, left = [], 0.0
    for aspect in aspects:
        places.append((left, aspect * height, height))
        left += aspect * height + gap
    return places


def draw(
    path: Path, panels: Sequence[Panel], areas: Sequence[float], legend: Mapping[str, int], title: str
) -> None:
    """Write the picture to ``path`` as PNG.

    ``legend`` gives the meaning of the outlines' colours, as label and colour's number.
    """
    from matplotlib.figure import Figure

    inner = WIDTH - 2 * MARGIN
    rows = [panels[n : n + PER_ROW] for n in range(0, len(panels), PER_ROW)]
    placed = [(row, justified([_aspect(p.pixels) for p in row], inner, GAP)) for row in rows]
    height = HEADER + sum(CAPTION + places[0][2] + GAP for _, places in placed) + CAPTION + HISTOGRAM + FOOT
    figure = Figure(figsize=(WIDTH, height), facecolor=PAPER)

    def axes(left: float, top: float, wide: float, high: float) -> Any:
        return figure.add_axes((left / WIDTH, 1 - (top + high) / height, wide / WIDTH, high / height))

    _header(figure, height, title, legend)
    top = HEADER
    for row, places in placed:
        top += CAPTION
        for panel, (left, wide, high) in zip(row, places, strict=True):
            _image(axes(MARGIN + left, top, wide, high), panel)
        top += places[0][2] + GAP
    _histogram(axes(MARGIN + 0.35, top + CAPTION, inner - 0.35, HISTOGRAM), areas)
    figure.savefig(path, dpi=200, facecolor=PAPER)


def _aspect(pixels: Any) -> float:
    return float(pixels.shape[1] / pixels.shape[0])


def _header(figure: Any, height: float, title: str, legend: Mapping[str, int]) -> None:
    left, below = MARGIN / WIDTH, 1 - 1.02 / height
    figure.text(left, 1 - 0.5 / height, title, color=INK, fontsize=24, fontweight="bold", va="center")
    figure.text(left, below, "coloured by who found them", color=FAINT, fontsize=12, va="center")
    places = [0.55 + 0.088 * len(label) for label in legend]  # inches at 12 points
    position = MARGIN + 2.75
    shrink = min(1.0, (WIDTH - MARGIN - position) / sum(places, 0.01))
    for (label, number), wide in zip(legend.items(), places, strict=True):
        figure.text(position / WIDTH, below, "●", color=_colour(number), fontsize=13 * shrink, va="center")
        after = (position + 0.2 * shrink) / WIDTH
        figure.text(after, below, label, color=INK, fontsize=12 * shrink, va="center")
        position += wide * shrink


def _image(axes: Any, panel: Panel) -> None:
    from matplotlib.collections import LineCollection

    rows, columns = panel.pixels.shape[:2]
    axes.imshow(panel.pixels, cmap="gray", interpolation="bicubic", aspect="auto")
    lines = [line for line, _ in panel.outlines]
    colours = [_colour(number) for _, number in panel.outlines]
    axes.add_collection(
        LineCollection(lines, colors=colours, linewidths=1.0, capstyle="round", joinstyle="round")
    )
    axes.set(xlim=(-0.5, columns - 0.5), ylim=(rows - 0.5, -0.5), xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    said = f"{panel.objects:,} object" + ("" if panel.objects == 1 else "s")
    axes.set_title(panel.name.replace("_", " "), loc="left", color=INK, fontsize=12, fontweight="bold", pad=5)
    axes.set_title(said, loc="right", color=FAINT, fontsize=11, pad=5)


def _histogram(axes: Any, areas: Sequence[float]) -> None:
    import numpy as np
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

    largest = max(areas, default=100.0)
    smallest = min(areas, default=10.0)
    bins = np.geomspace(smallest, max(largest, 2 * smallest) * 1.001, 61)
    axes.hist(areas, bins=bins, color=BARS, edgecolor=PAPER, linewidth=0.8)
    axes.set_xscale("log")
    axes.set_xlim(bins[0], bins[-1])
    axes.set_facecolor(PAPER)
    axes.spines[:].set_visible(False)
    axes.spines["bottom"].set(visible=True, color=FAINT)
    axes.grid(axis="y", color=FAINT, alpha=0.2)
    axes.set_axisbelow(True)
    axes.tick_params(colors=FAINT, labelsize=10, which="both")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.set_title("How large they are", loc="left", color=INK, fontsize=12, fontweight="bold", pad=5)
    axes.set_xlabel("area in pixels, logarithmic", color=FAINT, fontsize=11)
    if areas:
        median = float(np.median(areas))
        axes.axvline(median, color=INK, linewidth=1)
        where: Any = ("data", "axes fraction")
        axes.set_ylim(top=axes.get_ylim()[1] * 1.18)  # room for the word above the bars
        axes.annotate(f" median {median:,.0f}", (median, 0.92), xycoords=where, color=INK, fontsize=11)


def _colour(number: int) -> str:
    return COLOURS[number % len(COLOURS)]

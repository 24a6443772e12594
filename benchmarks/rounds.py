"""The rounds: all rows in turn, each measurement in a fresh process, and what is shown of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

from benchmarks import processes
from benchmarks.measure import Measure, Value

ROOT = Path(__file__).parents[1]

Figures = dict[str, Value]


def run(measure: Measure, number: int, rounds: int) -> dict[str, list[Figures]]:
    """The figures of each row, one entry per round; each round begins with another row."""
    found: dict[str, list[Figures]] = {row: [] for row in measure.rows}
    rows = list(measure.rows)
    for turn in range(1 if measure.once else rounds):
        first = turn % len(rows)
        for row in rows[first:] + rows[:first]:
            found[row].append(one(measure, number, row))
    return found


def one(measure: Measure, number: int, row: str) -> Figures:
    """One measurement; what does not end in time, or at all, says so under ``remark``."""
    with tempfile.TemporaryDirectory() as directory:
        file, errors = Path(directory, "figures"), Path(directory, "errors")
        paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        mark, environment = processes.marked_environment(PYTHONPATH=paths)
        with open(errors, "wb") as stderr:
            process = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.measure", str(file), measure.letter, str(number), row],
                env=environment,
                cwd=directory,
                stdin=subprocess.DEVNULL,
                stderr=stderr,
                start_new_session=True,
            )
            remark = ""
            try:
                if process.wait(measure.limit):
                    remark = "failed"
            except subprocess.TimeoutExpired:
                remark = f"not done in {measure.limit:g} s"
            finally:
                processes.end(mark)
                process.wait()
        figures: Figures = json.loads(file.read_text()) if file.exists() else {}
        if remark == "failed":
            remark = (errors.read_text(errors="replace").splitlines() or [f"status {process.returncode}"])[-1]
        return {**figures, "remark": remark} if remark else figures


def show(measure: Measure, found: dict[str, list[Figures]]) -> str:
    """The table: medians, the range of the first figure, and the median of its ratios to the base."""
    main, *others = measure.figures
    heads = ["", main]
    heads += [] if measure.once else ["lowest … highest"]
    heads += [f"x {measure.base}"] if measure.base else []
    lines = [[*heads, *others, ""]]
    for row, rounds in found.items():
        line = [row, text(middle(rounds, main))]
        if not measure.once:
            values = numbers(rounds, main)
            line.append(f"{text(min(values))} … {text(max(values))}" if values else "")
        if measure.base:
            line.append(text(ratio(rounds, found[measure.base], main)))
        line += [text(middle(rounds, figure)) for figure in others]
        lines.append([*line, "; ".join(sorted({str(one["remark"]) for one in rounds if "remark" in one}))])
    return f"{measure.letter}: {measure.title}\n{aligned(lines)}\n"


def aligned(lines: list[list[str]]) -> str:
    """Cells below one another: names and remarks to the left, figures to the right."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    shown = []
    for name, *figures, remark in lines:
        cells = [cell.rjust(width) for cell, width in zip(figures, widths[1:-1], strict=True)]
        shown.append("  ".join([name.ljust(widths[0]), *cells, remark]).rstrip())
    return "\n".join(shown)


def numbers(rounds: list[Figures], figure: str) -> list[float]:
    """What was noted of a figure, where it is a number."""
    return [value for one in rounds if isinstance(value := one.get(figure), int | float)]


def middle(rounds: list[Figures], figure: str) -> Value | None:
    """The median of a figure; of texts the first."""
    texts = [value for one in rounds if isinstance(value := one.get(figure), str)]
    values = numbers(rounds, figure)
    return texts[0] if texts else median(values) if values else None


def ratio(rounds: list[Figures], base: list[Figures], figure: str) -> float | None:
    """How many times the base it is, within each round and then in the median."""
    ratios = [
        numbers([mine], figure)[0] / numbers([other], figure)[0]
        for mine, other in zip(rounds, base, strict=True)
        if numbers([mine], figure) and numbers([other], figure)
    ]
    return median(ratios) if ratios else None


def text(value: Value | None) -> str:
    """A cell: three digits, or all of a whole number."""
    if value is None or isinstance(value, str):
        return value or ""
    if value == int(value) or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"

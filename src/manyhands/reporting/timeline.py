"""The timeline of a page, as SVG: a row for each worker, with neighbours drawn as one where they are short. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, floor, log10
from typing import Any, Final

from manyhands.reporting.spans import STATUSES, Span
from manyhands.reporting.texts import counted, escaped, moment, number, percent, seconds, short
from manyhands.reporting.view import Host, Row, View

WIDTH: Final = 10_000
"""Units of a row's width."""

CELLS: Final = 16_000
"""About so many cells are drawn in all; so a page stays below two megabytes, whatever the map did."""

ROWS_MAX: Final = 1000
STRETCHES_MAX: Final = 12
_COMPACT: Final = 40
_HEIGHT: Final = 20
_STEPS: Final = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400)
_KINDS: Final = {
    "discarded": "discarded",
    "retried": "retried",
    "failed": "failed",
    "timeout": "failed",
    "died": "failed",
}


class Timeline:
    """What ran where and when: a row for each worker, an axis for each stretch of maps that ran together.

    Attributes:
        html: the drawing.
        cells: of each row, what is told of the cell that is pointed at: x and width in units, first item, busy
            seconds, and where it is not 1, 0, 0, 1: attempts, how many of them are bad, the worst status, attempt.
        lengths: of each row's axis, in seconds.
        left_out: how many stretches, the earliest, are not drawn.
    """

    def __init__(self, view: View) -> None:
        stretches = view.stretches()
        shown = stretches[-STRETCHES_MAX:]
        self.left_out = len(stretches) - len(shown)
        self.cells: list[list[list[Any]]] = []
        self.lengths: list[float] = []
        rows = sum(len(host.rows) for each in shown for host in each.hosts)
        drawn = ['<div class="timeline">']
        for each in shown:
            if len(stretches) > 1:
                drawn.append(
                    f'<h3 class="stretch">{moment(each.begun)} <small>for {seconds(each.seconds)}</small></h3>'
                )
            one = _Stretch(each, rows, ROWS_MAX - len(self.cells))
            self.cells += one.cells
            self.lengths += [each.seconds] * len(one.cells)
            drawn += one.drawn
        self.html = "\n".join([*drawn, "</div>"])


class _Stretch:
    """The drawing of maps that ran together, on a page with so many rows in all, of which there may be so many here."""

    def __init__(self, view: View, rows: int, rows_max: int) -> None:
        self.cells: list[list[list[Any]]] = []
        self._rows_max = rows_max
        self._seconds = view.seconds or 1.0
        self._resolution = self._seconds / min(1600, max(16, CELLS // max(1, rows)))
        self._ticks = ticks(self._seconds)
        self._grid = "".join(f"M{_units(at / self._seconds)} 0V{_HEIGHT}" for at in self._ticks if at)
        self.drawn = [self._axis()]
        for host in view.hosts:
            self.drawn += self._host(host, compact=rows > _COMPACT)
        self.drawn.append(self._axis())

    def _axis(self) -> str:
        unit = 3600.0 if self._seconds > 7200 else 60.0 if self._seconds > 180 else 1.0
        name = {3600.0: "h", 60.0: "min", 1.0: "s"}[unit]
        marks = []
        for at in self._ticks:
            share = at / self._seconds
            anchor = "start" if share < 0.03 else "end" if share > 0.97 else "middle"
            marks.append(f'<text x="{share:.2%}" y="13" text-anchor="{anchor}">{at / unit:g} {name}</text>')
        return (
            '<div class="row axis"><span></span><svg aria-hidden="true" height="18" width="100%">'
            f"{''.join(marks)}</svg><span></span></div>"
        )

    def _host(self, host: Host, compact: bool) -> list[str]:
        share = sum(row.busy for row in host.rows) / (self._seconds * len(host.rows))
        told = f"{counted(host.workers, 'worker')}, busy {percent(share)} of the time"
        kind = ' class="compact"' if compact else ""
        drawn = [f"<h3>{escaped(host.name)} <small>{told}</small></h3>", f"<div{kind}>"]
        drawn += map(self._row, host.rows[: self._rows_max - len(self.cells)])
        if len(self.cells) >= self._rows_max:
            drawn.append(
                f"<p>Rows beyond the first {number(ROWS_MAX)} are left out here; they count everywhere else.</p>"
            )
        return [*drawn, "</div>"]

    def _row(self, row: Row) -> str:
        cells = row.cells(self._resolution, self._seconds)
        self.cells.append([self._told(cell) for cell in cells])
        name = row.pids[0] if len(row.pids) == 1 else f"{number(len(row.pids))} in turn"
        share = row.busy / self._seconds
        told = f"{name}: {counted(row.calls, 'call')}, busy {percent(share)} of the time"
        if row.bad:
            told += f", {number(row.bad)} without a value"
        return (
            f'<div class="row"><span class="name">{escaped(name)}</span>'
            f'<svg class="track" role="img" viewBox="0 0 {WIDTH} {_HEIGHT}" preserveAspectRatio="none">'
            f"<title>{escaped(told)}</title>"
            f'<path class="grid" d="{self._grid}"/>{self._paths(cells)}</svg>'
            f'<span class="share">{percent(share)}</span></div>'
        )

    def _paths(self, cells: Sequence[Span]) -> str:
        paths: dict[str, list[str]] = {"value": []}
        for cell in cells:
            x, width = self._place(cell)
            long = cell.end - cell.begin
            used = min(1.0, cell.busy / long) if long > 0 else 1.0
            height = max(3, round(_HEIGHT * used))
            if cell.bad < cell.calls:
                paths["value"].append(_box(x, width, height))
            if cell.bad:
                kind = _KINDS[cell.status]
                part = max(6, round(height * cell.bad / cell.calls))
                paths.setdefault(kind, []).append(_box(x, max(width, 12), part))
        return "".join(f'<path class="{kind}" d="{"".join(found)}"/>' for kind, found in paths.items() if found)

    def _place(self, cell: Span) -> tuple[int, int]:
        x = min(_units(cell.begin / self._seconds), WIDTH - 1)
        return max(0, x), max(1, _units(cell.end / self._seconds) - x)

    def _told(self, cell: Span) -> list[Any]:
        told = [
            *self._place(cell),
            cell.first,
            float(f"{cell.busy:.3g}"),
            cell.calls,
            cell.bad,
            cell.code,
            cell.attempt,
        ]
        if cell.calls > 1:
            told[7] = 1
        usual = [None, None, None, None, 1, 0, 0, 1]
        while told[-1] == usual[len(told) - 1]:
            told.pop()
        return told


def _box(x: int, width: int, height: int) -> str:
    return f"M{x} {_HEIGHT}v-{height}h{width}v{height}z"


def _units(share: float) -> int:
    return round(share * WIDTH)


def ticks(until: float) -> list[float]:
    """Some five round moments from 0 to ``until`` seconds."""
    rough = until / 6
    if rough < 1:
        ten = 10.0 ** floor(log10(rough)) if rough > 0 else 1.0
        step = next(ten * factor for factor in (1, 2, 5, 10) if ten * factor >= rough * 0.999)
    elif rough <= _STEPS[-1]:
        step = next(each for each in _STEPS if each >= rough)
    else:
        step = 86400.0 * ceil(rough / 86400)
    return [round(count * step, 9) for count in range(int(until / step) + 1)]


def script_data(view: View, timeline: Timeline) -> dict[str, Any]:
    """What the page's script tells of the cell that is pointed at."""
    known = {cell[2] for row in timeline.cells for cell in row if len(cell) < 5 or cell[4] == 1}
    labels = {index: short(text, 90) for index, text in view.labels.items() if text and index in known}
    return {"lengths": timeline.lengths, "statuses": STATUSES, "labels": labels, "rows": timeline.cells}

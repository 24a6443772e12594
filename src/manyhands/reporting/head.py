"""The top of a page: what ran, and its figures. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from manyhands.reporting.charts import strip
from manyhands.reporting.texts import counted, escaped, moment, number, percent, seconds, size
from manyhands.reporting.view import View

_NAMES: Final = {
    "value": "values",
    "failed": "failures",
    "discarded": "discarded",
    "elsewhere": "computed elsewhere",
    "missing": "not ended",
}


def header(view: View, title: str) -> Iterator[str]:
    """The header, in pieces; ``title`` is escaped."""
    known = sum(view.outcomes.values())
    totals = [each.total for each in view.recordings]
    total = None if None in totals else sum(each or 0 for each in totals)
    hosts = ", ".join(escaped(host.name) for host in view.hosts[:4])
    where = f" on {hosts}{' and others' if len(view.hosts) > 4 else ''}" if hosts else ""
    yield f'<header>\n<p class="kind">manyhands report</p>\n<h1>{title}</h1>\n'
    until = f" to {moment(view.begun + view.seconds)}" if len(view.stretches()) > 1 else ""
    yield f'<p class="when">{moment(view.begun)}{until}{where}</p>\n'
    yield from _unfinished(view)
    yield f'<dl class="figures">\n{"".join(_figures(view, known, total))}</dl>\n'
    yield _outcomes(view, max(0, (total or 0) - known))
    if len(view.recordings) > 1:
        yield '<p class="soft">Each map counts its own items: what one has computed, others have found.</p>\n'
    yield "</header>\n"


def _unfinished(view: View) -> Iterator[str]:
    open_maps = sum(not each.is_over for each in view.recordings)
    if open_maps:
        what = (
            "This map was"
            if len(view.recordings) == 1
            else f"{open_maps} of {len(view.recordings)} maps {'was' if open_maps == 1 else 'were'}"
        )
        yield (
            f'<p class="note">{what} not over when this page was written, or ended with its process: '
            "what is here is what had been recorded.</p>\n"
        )


def _outcomes(view: View, missing: int) -> str:
    found = view.outcomes
    counts = (found["values"], found["failures"], found["discarded"], found["elsewhere"], missing)
    parts = list(zip(_NAMES, counts, strict=True))
    told = "".join(
        f'<li class="{kind}"><i></i>{_NAMES[kind]} {number(count)}</li>' for kind, count in parts if count
    )
    return f'{strip(parts)}\n<ul class="legend">{told}</ul>\n'


def _figures(view: View, known: int, total: int | None) -> Iterator[str]:
    calls, failures = sum(view.by_status.values()), view.outcomes["failures"]
    yield _figure("Items", number(known), f"of {number(total)}" if total is not None and total != known else "")
    yield _figure("Failures", number(failures), alarm=bool(failures))
    active = view.active
    rate = calls / active if active else 0.0
    told = f"{rate:,.3g}" if rate < 1000 else number(rate)
    yield _figure("Wall time", seconds(active), f"{told} calls/s" if calls else "")
    if (efficiency := view.efficiency) is not None:
        yield _figure("Efficiency", percent(efficiency), f"{seconds(view.busy)} busy")
    workers = sum(host.workers for host in view.hosts)
    yield _figure("Workers", number(workers), f"on {counted(len(view.hosts), 'host')}" if view.hosts else "")
    yield _figure("Retries", number(view.by_status.get("retried", 0)))
    if peaks := view.peaks:
        yield _figure("Peak memory", size(max(peaks.values())), "of one worker")


def _figure(name: str, value: str, more: str = "", *, alarm: bool = False) -> str:
    kind = ' class="alarm"' if alarm else ""
    below = f"<small>{more}</small>" if more else ""
    return f"<div><dt>{name}</dt><dd{kind}>{value}{below}</dd></div>\n"

"""One page that says what a run was: HTML that needs nothing from elsewhere, and no script but to tell of details."""

from __future__ import annotations

import hashlib
import json
import os
from base64 import b64encode
from collections.abc import Iterable, Iterator, Sequence
from importlib import resources
from typing import Final

from manyhands.reporting.charts import Timeline, bar, histogram, script_data, strip
from manyhands.reporting.files import write_whole
from manyhands.reporting.recording import FailureGroup, Recording
from manyhands.reporting.spans import STATUSES
from manyhands.reporting.texts import counted, escaped, moment, number, percent, seconds, short, size
from manyhands.reporting.view import View, split

GROUPS_MAX: Final = 50
EXAMPLES_MAX: Final = 20
TRACEBACK_MAX: Final = 6000
PEAKS_MAX: Final = 30
MAPS_MAX: Final = 200


def write_page(path: str | os.PathLike[str], recordings: Iterable[Recording]) -> None:
    """Writes the report of these maps to ``path``, an HTML file, in the place of what is there.

    Raises:
        ValueError: there are no recordings.
        OSError: it can't be written; names the file.
    """
    write_whole(path, page(View.of(recordings)))


def page(view: View) -> Iterator[str]:
    """The page, in pieces."""
    style, script = (
        resources.files("manyhands.reporting").joinpath(name).read_text(encoding="utf-8")
        for name in ("page.css", "page.js")
    )
    timeline = Timeline(view)
    data = json.dumps(script_data(view, timeline), separators=(",", ":")).replace("<", "\\u003c")
    title = escaped(short(", ".join(view.functions), 120))
    policy = f"default-src 'none'; style-src '{_digest(style)}'; script-src '{_digest(script)}'; base-uri 'none'; form-action 'none'"
    yield (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{title} – manyhands report</title>\n<style>{style}</style>\n</head>\n<body>\n"
    )
    yield from _header(view, title)
    yield "<main>\n"
    yield from _timeline(view, timeline)
    yield from _durations(view)
    yield from _slowest(view)
    yield from _failures(view)
    yield from _retries(view)
    yield from _memory(view)
    yield from _maps(view)
    yield "</main>\n"
    yield f"<footer>Written by manyhands. Times are wall times, as the clock of each host had them.</footer>\n"
    yield f'<div id="tip" role="status" hidden></div>\n<script type="application/json" id="cells">{data}</script>\n'
    yield f"<script>{script}</script>\n</body>\n</html>\n"


def _digest(text: str) -> str:
    return f"sha256-{b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _section(name: str, title: str, body: str) -> str:
    return f'<section id="{name}" aria-labelledby="{name}-title">\n<h2 id="{name}-title">{title}</h2>\n{body}\n</section>\n'


def _table(caption: str, heads: Sequence[str], rows: Iterable[str]) -> str:
    """A table; heads that begin with "#" stand over numbers."""
    cells = "".join(
        f'<th scope="col" class="n">{head[1:]}</th>' if head.startswith("#") else f'<th scope="col">{head}</th>'
        for head in heads
    )
    return (
        f'<div class="wide" tabindex="0" role="region" aria-label="{caption}"><table>'
        f"<thead><tr>{cells}</tr></thead><tbody>\n{''.join(rows)}</tbody></table></div>"
    )


def _header(view: View, title: str) -> Iterator[str]:
    outcomes = view.outcomes
    total = (
        None
        if any(each.total is None for each in view.recordings)
        else sum(each.total or 0 for each in view.recordings)
    )
    known = sum(outcomes.values())
    parts = [
        ("value", outcomes["values"]),
        ("failed", outcomes["failures"]),
        ("discarded", outcomes["discarded"]),
        ("elsewhere", outcomes["elsewhere"]),
        ("missing", max(0, (total or 0) - known)),
    ]
    hosts = ", ".join(escaped(host.name) for host in view.hosts[:4]) + (
        " and others" if len(view.hosts) > 4 else ""
    )
    yield f'<header>\n<p class="kind">manyhands report</p>\n<h1>{title}</h1>\n'
    yield f'<p class="when">{moment(view.begun)}{" on " + hosts if hosts else ""}</p>\n'
    if open_maps := [each for each in view.recordings if not each.is_over]:
        what = (
            "This map was"
            if len(view.recordings) == 1
            else f"{counted(len(open_maps), 'map')} of {len(view.recordings)} were"
        )
        yield f'<p class="note">{what} not over when this page was written, or ended with its process: figures are of what had been recorded.</p>\n'
    yield f'<dl class="figures">\n{"".join(_figures(view, known, total))}</dl>\n{strip(parts)}\n{_legend(parts)}</header>\n'


def _legend(parts: Sequence[tuple[str, int]]) -> str:
    names = {
        "value": "values",
        "failed": "failures",
        "discarded": "discarded",
        "elsewhere": "computed elsewhere",
        "missing": "not ended",
    }
    told = "".join(
        f'<li class="{kind}"><i></i>{names[kind]} {number(count)}</li>' for kind, count in parts if count
    )
    return f'<ul class="legend">{told}</ul>\n'


def _figures(view: View, known: int, total: int | None) -> Iterator[str]:
    calls, failures = sum(view.by_status.values()), view.outcomes["failures"]
    retried = view.by_status.get("retried", 0)
    workers = sum(host.workers for host in view.hosts)
    yield _figure("Items", number(known), f"of {number(total)}" if total is not None and total != known else "")
    yield _figure("Failures", number(failures), "", alarm=bool(failures))
    rate = (
        f"{calls / view.seconds:,.3g} calls a second"
        if view.seconds and calls / view.seconds < 1000
        else f"{number(calls / view.seconds)} calls a second"
        if view.seconds
        else ""
    )
    yield _figure("Wall time", seconds(view.seconds), rate)
    if (efficiency := view.efficiency) is not None:
        offered = sum(each.workers * each.seconds for each in view.recordings)
        yield _figure("Efficiency", percent(efficiency), f"busy {seconds(view.busy)} of {seconds(offered)}")
    yield _figure("Workers", number(workers), f"on {counted(len(view.hosts), 'host')}")
    yield _figure("Retries", number(retried), "")
    if peaks := view.peaks:
        yield _figure("Peak memory", size(max(peaks.values())), "of one worker")


def _figure(name: str, value: str, more: str, *, alarm: bool = False) -> str:
    kind = ' class="alarm"' if alarm else ""
    below = f"<small>{more}</small>" if more else ""
    return f"<div><dt>{name}</dt><dd{kind}>{value}{below}</dd></div>\n"


def _timeline(view: View, timeline: Timeline) -> Iterator[str]:
    if not view.hosts:
        yield _section("timeline", "Timeline", '<p class="soft">No call was recorded.</p>')
        return
    found = {"failed" if status in ("failed", "timeout", "died") else status for status in view.by_status}
    names = {
        "value": "running",
        "retried": "failed, and tried again",
        "failed": "failed, timed out or died",
        "discarded": "discarded",
    }
    legend = "".join(f'<li class="{kind}"><i></i>{name}</li>' for kind, name in names.items() if kind in found)
    told = "One row for each worker process; the share at its right is the time in which it ran something."
    if any(len(row.pids) > 1 for host in view.hosts for row in host.rows):
        told = "Workers that followed one another share a row; the share at its right is the time in which they ran something."
    if len(view.hosts) > 1:
        told += " Each host's times are by its own clock; they may differ."
    yield _section(
        "timeline", "Timeline", f'<p class="soft">{told}</p>\n<ul class="legend">{legend}</ul>\n{timeline.html}'
    )


def _durations(view: View) -> Iterator[str]:
    bins = view.histogram
    if not bins:
        return
    told = [(name, view.quantile(share)) for name, share in (("median", 0.5), ("90 %", 0.9), ("99 %", 0.99))]
    figures = [(name, f"≈ {seconds(float(f'{value:.2g}'))}") for name, value in told if value is not None]
    if slowest := view.slowest:
        figures.append(("longest", seconds(slowest[0][1].seconds)))
    terms = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in figures)
    yield _section("durations", "Durations of attempts", f'<dl class="inline">{terms}</dl>\n{histogram(bins)}')


def _slowest(view: View) -> Iterator[str]:
    slowest = view.slowest
    if not slowest:
        return
    longest = slowest[0][1].seconds or 1.0
    rows = []
    for recording, slow in slowest:
        host, pid = split(slow.worker)
        what = "" if slow.status == "value" else f" <small>{slow.status}</small>"
        again = f" <small>attempt {slow.attempt}</small>" if slow.attempt > 1 else ""
        rows.append(
            f'<tr><td class="n">{_index(slow.index)}</td><td class="text code">{escaped(short(slow.item, 120))}{again}{what}</td>'
            f'<td class="n">{seconds(slow.seconds)}</td>'
            f"<td>{bar(slow.seconds / longest, seconds(slow.seconds))}</td>"
            f'<td class="n">{seconds(recording.begun - view.begun + slow.begin)}</td><td>{escaped(host)}:{escaped(pid)}</td></tr>\n'
        )
    table = _table("Slowest items", ("#Item", "", "#Took", "", "#Began at", "Worker"), rows)
    yield _section("slowest", "Slowest items", table)


def _index(index: int) -> str:
    return number(index) if index >= 0 else "–"


def _failures(view: View) -> Iterator[str]:
    groups = view.groups
    if not groups:
        return
    shown = "\n".join(_group(group) for group in groups[:GROUPS_MAX])
    if len(groups) > GROUPS_MAX:
        rest = sum(group.count for group in groups[GROUPS_MAX:])
        shown += f'\n<p class="soft">And {counted(rest, "item")} in {counted(len(groups) - GROUPS_MAX, "group")} more.</p>'
    told = f"{counted(view.outcomes['failures'], 'item')} failed for good, by exception and place."
    yield _section("failures", "Failures", f'<p class="soft">{told}</p>\n<div>{shown}</div>')


def _group(group: FailureGroup) -> str:
    rows = [
        f'<tr><td class="n">{_index(each.index)}</td><td class="text code">{escaped(short(each.item, 120))}</td>'
        f'<td class="text code">{escaped(short(each.text, 300))}</td><td class="n">{number(each.attempts)}</td>'
        f"<td>{escaped(each.worker)}</td></tr>\n"
        for each in group.kept[:EXAMPLES_MAX]
    ]
    first = escaped(short(group.kept[0].text.strip().partition("\n")[0], 160)) if group.kept else ""
    traceback = group.traceback
    if len(traceback) > TRACEBACK_MAX:
        traceback = f"…\n{traceback[-TRACEBACK_MAX:]}"
    inside = f'<pre tabindex="0">{escaped(traceback.strip())}</pre>\n' if traceback.strip() else ""
    if rows:
        inside += _table("Items that failed so", ("#Item", "", "Message", "#Attempts", "Worker"), rows)
    if group.count > len(rows):
        inside += f'<p class="soft">And {counted(group.count - len(rows), "item")} more.</p>'
    return (
        f'<details><summary><span><b>{escaped(group.error_type)}</b> <span class="code">{first}</span></span>'
        f"<span>{counted(group.count, 'item')}</span></summary>\n{inside}</details>"
    )


def _retries(view: View) -> Iterator[str]:
    attempts = view.attempts
    numbers = sorted({attempt for attempt, _ in attempts})
    if not numbers or numbers[-1] < 2:
        return
    statuses = [status for status in STATUSES if any((attempt, status) in attempts for attempt in numbers)]
    names = {"value": "value", "retried": "tried again", "timeout": "timed out"}
    rows = [
        f'<tr><th scope="row" class="n">{attempt}</th>'
        + "".join(f'<td class="n">{number(attempts.get((attempt, status), 0))}</td>' for status in statuses)
        + "</tr>\n"
        for attempt in numbers
    ]
    table = _table("Attempts", ("#Attempt", *(f"#{names.get(each, each)}" for each in statuses)), rows)
    told = "How many attempts came to what: the first of each item, the second of those that were tried again, and so on."
    yield _section("retries", "Retries", f'<p class="soft">{told}</p>\n{table}')


def _memory(view: View) -> Iterator[str]:
    peaks = view.peaks
    if not peaks:
        return
    most = max(peaks.values()) or 1
    rows = [
        f'<tr><th scope="row">{escaped(worker)}</th><td class="n">{size(peak)}</td>'
        f'<td class="meter-cell">{bar(peak / most, size(peak))}</td></tr>\n'
        for worker, peak in list(peaks.items())[:PEAKS_MAX]
    ]
    told = "The most resident memory that each worker was seen with."
    if len(peaks) > PEAKS_MAX:
        told += f" The {PEAKS_MAX} with most of {number(len(peaks))}."
    yield _section(
        "memory",
        "Peak memory",
        f'<p class="soft">{told}</p>\n{_table("Peak memory", ("Worker", "#Peak", ""), rows)}',
    )


def _maps(view: View) -> Iterator[str]:
    if len(view.recordings) < 2:
        return
    rows = []
    for each in view.recordings[:MAPS_MAX]:
        outcomes = each.outcomes
        rows.append(
            f'<tr><th scope="row">{escaped(short(each.function, 80))}</th><td>{escaped(each.host)}</td><td>{moment(each.begun)}</td>'
            f'<td class="n">{seconds(each.seconds)}</td><td class="n">{number(each.workers)}</td>'
            f'<td class="n">{number(sum(outcomes.values()))}</td><td class="n">{number(outcomes["failures"])}</td>'
            f"<td>{'over' if each.is_over else 'not over'}</td></tr>\n"
        )
    heads = ("Function", "Host", "Began", "#Wall time", "#Workers", "#Items", "#Failures", "")
    yield _section("maps", "Maps", _table("Maps", heads, rows))

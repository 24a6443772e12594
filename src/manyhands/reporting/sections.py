"""The parts of a page, each a section, or nothing where there is nothing to say. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from manyhands.reporting.charts import bar, histogram
from manyhands.reporting.labels import FailureGroup, last_frame
from manyhands.reporting.markup import section, table
from manyhands.reporting.recording import Slow
from manyhands.reporting.spans import STATUSES, Status
from manyhands.reporting.texts import counted, escaped, moment, number, seconds, short, size
from manyhands.reporting.timeline import Timeline
from manyhands.reporting.view import View, split

GROUPS_MAX: Final = 50
EXAMPLES_MAX: Final = 20
TRACEBACK_MAX: Final = 6000
PEAKS_MAX: Final = 30
MAPS_MAX: Final = 200
SLOWEST_SHOWN: Final = 12

NAMES: Final = {"retried": "tried again", "timeout": "timed out"}
"""How statuses are called where they are not by their own names."""


def timeline(view: View, drawn: Timeline) -> Iterator[str]:
    """What ran where and when."""
    if not view.hosts:
        yield section("timeline", "Timeline", '<p class="soft">No call was recorded.</p>')
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
        told = (
            "Workers that followed one another share a row; at its right, the time in which they ran something."
        )
    if any(" (" in row.pids[0] for host in view.hosts for row in host.rows):
        told += " A worker that ran several calls at a time has several rows."
    if drawn.left_out:
        told += (
            f" {counted(drawn.left_out, 'earlier run')} left out here; all else on this page is of all runs."
        )
    if len(view.hosts) > 1:
        told += " Each host's times are by its own clock; they may differ."
    yield section(
        "timeline", "Timeline", f'<p class="soft">{told}</p>\n<ul class="legend">{legend}</ul>\n{drawn.html}'
    )


def durations(view: View) -> Iterator[str]:
    """How long attempts took."""
    bins = view.histogram
    if not bins:
        return
    told = [(name, view.quantile(share)) for name, share in (("median", 0.5), ("90 %", 0.9), ("99 %", 0.99))]
    figures = [(name, f"≈ {seconds(float(f'{value:.2g}'))}") for name, value in told if value is not None]
    if slowest := view.slowest:
        figures.append(("longest", seconds(slowest[0][1].seconds)))
    terms = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in figures)
    yield section("durations", "Durations of attempts", f'<dl class="inline">{terms}</dl>\n{histogram(bins)}')


def slowest(view: View) -> Iterator[str]:
    """The slowest attempts that are known one by one."""
    slowest = view.slowest
    if not slowest:
        return
    longest = slowest[0][1].seconds or 1.0
    apart = len(view.stretches()) > 1
    rows = []
    for recording, slow in slowest:
        begin = recording.begun - view.begun + slow.begin
        rows.append(_slow(slow, moment(view.begun + begin) if apart else seconds(begin), longest))
    heads = ("#Index", "Item", "#Took", "", "#Began at", "Worker")
    body = table("Slowest items", heads, rows[:SLOWEST_SHOWN], "slowest")
    if more := rows[SLOWEST_SHOWN:]:
        rest = table("The next slowest items", heads, more, "slowest")
        body += f"<details><summary><span>{counted(len(more), 'item')} more</span></summary>{rest}</details>"
    yield section("slowest", "Slowest items", body)


def _slow(slow: Slow, begin: str, longest: float) -> str:
    host, pid = split(slow.worker)
    label = "" if slow.item == str(slow.index) else escaped(short(slow.item, 120))
    if slow.status != "value":
        label += f" <small>{NAMES.get(slow.status, slow.status)}</small>"
    if slow.attempt > 1:
        label += f" <small>attempt {slow.attempt}</small>"
    return (
        f'<tr><td class="n">{_index(slow.index)}</td><td class="text code">{label}</td>'
        f'<td class="n">{seconds(slow.seconds)}</td>'
        f'<td class="meter-cell">{bar(slow.seconds / longest, seconds(slow.seconds))}</td>'
        f'<td class="n">{begin}</td><td>{escaped(host)}:{escaped(pid)}</td></tr>\n'
    )


def _index(index: int) -> str:
    return number(index) if index >= 0 else "?"


def failures(view: View) -> Iterator[str]:
    """Items that failed for good, by exception and place."""
    groups = view.groups
    if not groups:
        return
    shown = "\n".join(_group(group) for group in groups[:GROUPS_MAX])
    if len(groups) > GROUPS_MAX:
        rest = counted(sum(group.count for group in groups[GROUPS_MAX:]), "item")
        shown += f'\n<p class="soft">And {rest} in {counted(len(groups) - GROUPS_MAX, "group")} more.</p>'
    told = f"{counted(view.outcomes['failures'], 'item')} failed for good, by exception and place."
    yield section("failures", "Failures", f'<p class="soft">{told}</p>\n<div>{shown}</div>')


def _group(group: FailureGroup) -> str:
    rows = [
        f'<tr><td class="n">{_index(each.index)}</td><td class="text code">{escaped(short(each.item, 120))}</td>'
        f'<td class="text code">{escaped(short(each.text, 300))}</td><td class="n">{number(each.attempts)}</td>'
        f"<td>{escaped(each.worker)}</td></tr>\n"
        for each in group.kept[:EXAMPLES_MAX]
    ]
    message = group.kept[0].text.strip().partition("\n")[0] if group.kept else ""
    traceback = group.traceback
    if len(traceback) > TRACEBACK_MAX:
        traceback = f"…\n{traceback[-TRACEBACK_MAX:]}"
    inside = f'<pre tabindex="0">{escaped(traceback.strip())}</pre>\n' if traceback.strip() else ""
    if rows:
        inside += table("Items that failed so", ("#Index", "Item", "Message", "#Attempts", "Worker"), rows)
    if group.count > len(rows):
        inside += f'<p class="soft">And {counted(group.count - len(rows), "item")} more.</p>'
    name = escaped(group.error_type.removeprefix("builtins.").removeprefix("manyhands.errors."))
    where = (
        f"<small>{escaped(short(raised_at, 80))}</small> " if (raised_at := last_frame(group.traceback)) else ""
    )
    return (
        f'<details><summary><span><b>{name}</b> {where}<span class="code">{escaped(short(message, 160))}</span></span>'
        f"<span>{counted(group.count, 'item')}</span></summary>\n{inside}</details>"
    )


def retries(view: View) -> Iterator[str]:
    """How many attempts came to what, by their number."""
    attempts = view.attempts
    numbers = sorted({attempt for attempt, _ in attempts})
    if not numbers or numbers[-1] < 2:
        return
    statuses: list[Status] = [
        each for each in STATUSES if any((attempt, each) in attempts for attempt in numbers)
    ]
    rows = [
        f'<tr><th scope="row" class="n">{attempt}</th>'
        + "".join(f'<td class="n">{number(attempts.get((attempt, status), 0))}</td>' for status in statuses)
        + "</tr>\n"
        for attempt in numbers
    ]
    rest = table("Attempts", ("#Attempt", *(f"#{NAMES.get(each, each)}" for each in statuses)), rows, "narrow")
    told = (
        "What attempts came to: the first of each item, the second of those that were tried again, and so on."
    )
    yield section("retries", "Retries", f'<p class="soft">{told}</p>\n{rest}')


def memory(view: View) -> Iterator[str]:
    """The most memory that each worker was seen with."""
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
    yield section(
        "memory",
        "Peak memory",
        f'<p class="soft">{told}</p>\n{table("Peak memory", ("Worker", "#Peak", ""), rows, "peaks")}',
    )


def maps(view: View) -> Iterator[str]:
    """What maps there are, if there are several."""
    if len(view.recordings) < 2:
        return
    rows = []
    for each in view.recordings[-MAPS_MAX:]:
        outcomes = each.outcomes
        rows.append(
            f'<tr><th scope="row">{escaped(short(each.function, 80))}</th>'
            f"<td>{escaped(each.host)}</td><td>{moment(each.begun)}</td>"
            f'<td class="n">{seconds(each.seconds)}</td><td class="n">{number(each.workers)}</td>'
            f'<td class="n">{number(sum(outcomes.values()))}</td><td class="n">{number(outcomes["failures"])}</td>'
            f"<td>{'over' if each.is_over else 'not over'}</td></tr>\n"
        )
    heads = ("Function", "Host", "Began", "#Wall time", "#Workers", "#Items", "#Failures", "")
    body = table("Maps", heads, rows)
    if len(view.recordings) > MAPS_MAX:
        body = f'<p class="soft">The last {MAPS_MAX} of {number(len(view.recordings))}.</p>\n{body}'
    yield section("maps", "Maps", body)

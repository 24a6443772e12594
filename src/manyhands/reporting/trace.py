"""A recording as a trace that Perfetto and chrome://tracing open: the Trace Event Format, in JSON.

Hosts are the processes of the trace, workers its threads, one more for each further call that a worker runs at a time:
in a thread spans may not overlap. The maps are a process, too. Times are in microseconds since the first map began.
"""

from __future__ import annotations

import json
import os
from array import array
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Any, Final

from manyhands.reporting.files import write_whole
from manyhands.reporting.recording import Recording
from manyhands.reporting.spans import Span, lanes, new_track, spans
from manyhands.reporting.texts import visible
from manyhands.reporting.view import View, split

# In UTF-8: Perfetto does not read the pairs of escapes that other characters than those of the first plane would need.
_encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode

_MAPS: Final = 1
"""The number of the process that stands for the maps; those of hosts follow."""

_NO_PID: Final = 1 << 30
"""The numbers of threads that are no process's begin here."""

_TOLERANCE: Final = 2e-7
"""Seconds by which spans may overlap by rounding."""


def write_trace(path: str | os.PathLike[str], recordings: Iterable[Recording]) -> None:
    """Writes these maps to ``path`` as a trace, in the place of what is there.

    Raises:
        ValueError: there are no recordings.
        OSError: it can't be written; names the file.
    """
    view = View.of(recordings)
    write_whole(path, _lines(view))


def _lines(view: View) -> Iterator[str]:
    about = {"function": visible(", ".join(view.functions)), "begun": view.begun, "seconds": view.seconds}
    yield f'{{"displayTimeUnit":"ms","otherData":{_encode(about)},"traceEvents":[\n'
    separator = ""
    for event in events(view):
        yield f"{separator}{_encode(event)}"
        separator = ",\n"
    yield "\n]}\n"


def events(view: View) -> Iterator[dict[str, Any]]:
    """The events of the trace: names, maps, spans, and counters of memory where it is known."""
    yield from _maps(view)
    threads: dict[tuple[str, int], tuple[int, int]] = {}  # by worker and lane
    hosts: dict[str, int] = {}
    begins: dict[str, float] = {}
    labels = [recording.labels for recording in view.recordings]
    names = [visible(recording.function) for recording in view.recordings]
    for worker, found in _by_worker(view).items():
        track = new_track()
        for place, (_, shift, span) in enumerate(found):
            track.extend((span.begin + shift, span.end + shift, 0, 1, 0, 0, place, 1))
        for number, lane in enumerate(lanes(track, _TOLERANCE)):
            yield from _named(worker, number, threads, hosts)
            begins.setdefault(worker, lane[0])
            for begin, until, place in _one_by_one(lane):
                which, _, span = found[place]
                label = visible(labels[which].get(span.first, ""))
                yield _complete(names[which], span, begin, until, label, *threads[worker, number])
    for worker, peak in view.peaks.items():
        for seconds in (begins[worker], view.seconds) if worker in begins else ():  # a line, not a point
            process, thread_number = threads[worker, 0]
            yield {
                "name": visible(f"peak memory of worker {split(worker)[1]}"),
                "ph": "C",
                "ts": _micros(seconds),
                "pid": process,
                "tid": thread_number,
                "args": {"bytes": peak},
            }


def _maps(view: View) -> Iterator[dict[str, Any]]:
    """The maps as spans of a process of their own: so the time in which nothing ran is there as well."""
    track = new_track()
    for place, recording in enumerate(view.recordings):
        begin = recording.begun - view.begun
        track.extend((begin, begin + recording.seconds, 0, 1, 0, 0, place, 1))
    for number, lane in enumerate(lanes(track, 0.0), 1):
        if number == 1:
            yield _name("process_name", _MAPS, number, "maps")
        yield _name("thread_name", _MAPS, number, "maps" if number == 1 else f"maps ({number})")
        for span in spans(lane):
            recording = view.recordings[span.first]
            begin = _micros(span.begin)
            yield {
                "name": visible(recording.function),
                "cat": "map",
                "ph": "X",
                "ts": begin,
                "dur": round(_micros(span.end) - begin, 3),
                "pid": _MAPS,
                "tid": number,
                "args": {"workers": recording.workers, "items": dict(recording.outcomes)},
            }


def _named(
    worker: str, lane: int, threads: dict[tuple[str, int], tuple[int, int]], hosts: dict[str, int]
) -> Iterator[dict[str, Any]]:
    """The names of a new thread: of a worker, or of one more call that it runs at the same time."""
    host, pid = split(worker)
    is_new = host not in hosts
    process = hosts.setdefault(host, _MAPS + 1 + len(hosts))
    own = not lane and pid.isdecimal() and len(pid) < 10
    thread = threads[worker, lane] = process, int(pid) if own else _NO_PID + len(threads)
    if is_new:
        yield _name("process_name", *thread, host)
    yield _name("thread_name", *thread, f"worker {pid}" if not lane else f"worker {pid} ({lane + 1})")


def _by_worker(view: View) -> dict[str, list[tuple[int, float, Span]]]:
    """What each worker did: which recording's, how much later that began than the first one, and the span."""
    found: dict[str, list[tuple[int, float, Span]]] = {}
    for which, recording in enumerate(view.recordings):
        shift = recording.begun - view.begun
        for worker, track in recording.tracks().items():
            found.setdefault(worker, []).extend([(which, shift, span) for span in track])
    return found


def _one_by_one(track: array[float]) -> Iterator[tuple[float, float, int]]:
    """Begin, end and place of each, by their begin; none ends after the next one begins, by a rounding of clocks."""
    found = spans(track)
    for span, after in pairwise(found):
        overlap = span.end - after.begin
        yield span.begin, after.begin if 0 < overlap <= _TOLERANCE else span.end, span.first
    if found:
        yield found[-1].begin, found[-1].end, found[-1].first


def _micros(seconds: float) -> float:
    return round(seconds * 1e6, 3)


def _name(kind: str, host: int, thread: int, name: str) -> dict[str, Any]:
    return {"name": kind, "ph": "M", "pid": host, "tid": thread, "args": {"name": visible(name)}}


def _complete(
    name: str, span: Span, begin: float, until: float, label: str, host: int, thread: int
) -> dict[str, Any]:
    told: dict[str, Any] = {"index": span.first, "status": span.status, "attempt": span.attempt}
    if span.calls > 1:
        told |= {"calls": span.calls, "bad": span.bad, "busy_seconds": round(span.busy, 9)}
    elif label:
        told["item"] = label
    start = _micros(begin)
    return {
        "name": name,
        "cat": span.status,
        "ph": "X",
        "ts": start,
        "dur": round(_micros(until) - start, 3),  # so that it ends where the next one begins
        "pid": host,
        "tid": thread,
        "args": told,
    }

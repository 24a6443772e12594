"""A recording as a trace that Perfetto and chrome://tracing open: the Trace Event Format, in JSON.

Hosts are the processes of the trace, workers its threads; times are in microseconds since the first map began.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from typing import Any

from manyhands.reporting.files import write_whole
from manyhands.reporting.recording import Recording
from manyhands.reporting.spans import Span
from manyhands.reporting.texts import visible
from manyhands.reporting.view import View, split

_encode = json.JSONEncoder(separators=(",", ":")).encode


def write_trace(path: str | os.PathLike[str], recordings: Iterable[Recording]) -> None:
    """Writes these maps to ``path`` as a trace, in the place of what is there.

    Raises:
        ValueError: there are no recordings.
        OSError: it can't be written; names the file.
    """
    view = View.of(recordings)
    write_whole(path, _lines(view))


def _lines(view: View) -> Iterator[str]:
    about = {"function": ", ".join(view.functions), "begun": view.begun, "seconds": view.seconds}
    yield f'{{"displayTimeUnit":"ms","otherData":{_encode(about)},"traceEvents":[\n'
    separator = ""
    for event in events(view):
        yield f"{separator}{_encode(event)}"
        separator = ",\n"
    yield "\n]}\n"


def events(view: View) -> Iterator[dict[str, Any]]:
    """The events of the trace: names, spans, and counters of memory where it is known."""
    hosts: dict[str, int] = {}
    threads: dict[str, tuple[int, int]] = {}
    for recording in view.recordings:
        for worker in recording.raw_tracks():
            if worker in threads:
                continue
            host, pid = split(worker)
            if host not in hosts:
                hosts[host] = len(hosts) + 1
                yield _name("process_name", hosts[host], 0, host)
            number = int(pid) if pid.isdecimal() and len(pid) < 10 else len(threads) + 1
            threads[worker] = (hosts[host], number)
            yield _name("thread_name", *threads[worker], f"worker {pid}")
    for recording in view.recordings:
        shift, name, labels = recording.begun - view.begun, visible(recording.function), recording.labels
        for worker, track in recording.tracks().items():
            for span in track:
                yield _complete(name, span, shift, visible(labels.get(span.first, "")), *threads[worker])
    for worker, peak in view.peaks.items():
        if worker in threads:
            process, thread = threads[worker]
            yield {
                "name": f"peak memory of worker {split(worker)[1]}",
                "ph": "C",
                "ts": round(view.seconds * 1e6, 3),
                "pid": process,
                "tid": thread,
                "args": {"bytes": peak},
            }


def _name(kind: str, host: int, thread: int, name: str) -> dict[str, Any]:
    return {"name": kind, "ph": "M", "pid": host, "tid": thread, "args": {"name": visible(name)}}


def _complete(name: str, span: Span, shift: float, label: str, host: int, thread: int) -> dict[str, Any]:
    told: dict[str, Any] = {"index": span.first, "status": span.status, "attempt": span.attempt}
    if span.calls > 1:
        told |= {"calls": span.calls, "bad": span.bad, "busy_seconds": round(span.busy, 9)}
    elif label:
        told["item"] = label
    return {
        "name": name,
        "cat": span.status,
        "ph": "X",
        "ts": round((span.begin + shift) * 1e6, 3),
        "dur": round((span.end - span.begin) * 1e6, 3),
        "pid": host,
        "tid": thread,
        "args": told,
    }

"""The figures of a report as data, for machines. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from manyhands.reporting.recording import Recording
from manyhands.reporting.view import View


def figures(recordings: Iterable[Recording]) -> dict[str, Any]:
    """What a page of these maps says, as JSON can hold it: times in seconds, sizes in bytes.

    Raises:
        ValueError: there are no recordings.
    """
    view = View.of(recordings)
    return {
        "functions": view.functions,
        "begun": view.begun,
        "seconds": view.active,
        "over": all(each.is_over for each in view.recordings),
        "items": view.outcomes,
        "attempts": view.by_status,
        "efficiency": view.efficiency,
        "busy_seconds": view.busy,
        "hosts": {host.name: {"workers": host.workers} for host in view.hosts},
        "seconds_quantiles": {str(share): view.quantile(share) for share in (0.5, 0.9, 0.99)},
        "slowest": [
            {
                "index": slow.index,
                "item": slow.item,
                "seconds": slow.seconds,
                "worker": slow.worker,
                "status": slow.status,
            }
            for _, slow in view.slowest
        ],
        "failures": [
            {
                "type": group.error_type,
                "count": group.count,
                "traceback": group.traceback,
                "indexes": [each.index for each in group.kept],
            }
            for group in view.groups
        ],
        "peak_bytes": view.peaks,
        "maps": [
            {
                "function": each.function,
                "host": each.host,
                "begun": each.begun,
                "seconds": each.seconds,
                "workers": each.workers,
                "total": each.total,
                "items": each.outcomes,
                "over": each.is_over,
            }
            for each in view.recordings
        ],
    }

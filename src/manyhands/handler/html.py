"""What a notebook shows of results: a small table, whose texts may hold anything."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from manyhands.calls import short_repr
from manyhands.outcome import Counts, Failure

MOST_TOLD: Final = 5
"""Failures of which something is said, the first."""


def told(failure: Failure) -> tuple[int, str, str]:
    """What is to be said of a failure: its index, item and error; as texts, which keep nothing else alive."""
    last = failure.attempts[-1] if failure.attempts else None
    error = f"{last.type_name}: {last.text}" if last is not None else short_repr(failure.error)
    return failure.index, short_repr(failure.item), error


def results_table(
    name: str,
    state: str,
    total: int | None,
    counts: Counts,
    seconds: float,
    failures: Sequence[tuple[int, str, str]],
) -> str:
    """The state of results, as HTML.

    Args:
        name: of the function.
        state: "running" or "ended".
        total: how many items there are; None: nobody knows.
        counts: of the items that were taken.
        seconds: since the map began, or that it took.
        failures: the first: index, item and error.
    """
    rows = [("taken", f"{counts.total:,} of {'?' if total is None else format(total, ',')}, {state}")]
    parts = {
        "values": counts.values,
        "failures": counts.failures,
        "discarded": counts.discarded,
        "elsewhere": counts.elsewhere,
    }
    rows += [(what, f"{count:,}") for what, count in parts.items() if count or what == "values"]
    if counts.total and seconds > 0:
        rows.append(("time", f"{_number(seconds)} s, {_number(counts.total / seconds)} items/s"))
    rows += [(f"item {index}: {item}", error) for index, item, error in failures]
    if counts.failures > len(failures) > 0:
        rows.append(("…", f"and {counts.failures - len(failures):,} more failures"))
    return _table(f"Results of {name}", rows)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _table(title: str, rows: Sequence[tuple[str, str]]) -> str:
    from html import escape  # only notebooks ask for it

    cells = "".join(
        f'<tr><th style="text-align: left">{escape(what)}</th><td style="text-align: left">{escape(text)}</td></tr>'
        for what, text in rows
    )
    return f'<table><caption style="text-align: left">{escape(title)}</caption>{cells}</table>'

"""What a notebook shows of results: their state, without taking anything of them, whatever stands in it."""

from __future__ import annotations

import gc
import re
import weakref
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

import pytest

from manyhands import parallel
from manyhands.handler import results as module
from tests.contract.fate_tasks import Hostile


class Cells(HTMLParser):
    """The texts of a table's cells; tags must be balanced, and only those of a table."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.caption = ""
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        assert tag in ("table", "caption", "tr", "th", "td")
        self._open.append(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("th", "td"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open[-1] == "caption":
            self.caption += data
        else:
            self.rows[-1][-1] += data


def fails(item: Any) -> Any:
    if item == "good":
        return item
    raise ValueError(f"no <b>{item}</b>")


def shown(results: Any) -> list[list[str]]:
    return Cells(results._repr_html_()).rows


def test_its_state() -> None:
    """How many were taken and what they came to, at any time, with the first failures; nothing is consumed."""
    items = ["good"] * 1000 + ["<script>"] * 7 + ["good"]
    results = parallel(fails).map(items, backend="inline", on_error="return")
    assert Cells(results._repr_html_()).caption == "Results of fails"
    assert shown(results) == [["taken", "0 of 1,008, running"], ["values", "0"]]
    assert next(results) == "good"
    assert shown(results)[:2] == [["taken", "1 of 1,008, running"], ["values", "1"]]
    assert len(list(results)) == 1007
    rows = shown(results)
    assert rows[:3] == [["taken", "1,008 of 1,008, ended"], ["values", "1,001"], ["failures", "7"]]
    assert re.fullmatch(r"[\d.,]+ s, [\d.,]+ items/s", rows[3][1])
    assert rows[4:9] == [
        [f"item {index}: '<script>'", "ValueError: no <b><script></b>"] for index in range(1000, 1005)
    ]
    assert rows[9:] == [["…", "and 2 more failures"]]
    assert results._repr_html_() == results._repr_html_()


def test_of_unknown_length() -> None:
    """It says so."""
    with parallel(fails).map(iter(["good"]), backend="inline") as results:
        assert shown(results)[0] == ["taken", "0 of ?, running"]


def test_hostile_items_and_errors() -> None:
    """Items and errors that can't be shown don't matter."""

    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    def mute(item: Any) -> None:
        raise Mute

    results = parallel(mute).map([Hostile(), Hostile()], backend="inline", on_error="return")
    assert len(list(results)) == 2
    assert len(shown(results)) == 6


def test_it_never_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    """The text is shown instead."""

    def broken(*_: object) -> str:
        raise LookupError

    monkeypatch.setattr(module, "results_table", broken)
    with parallel(fails).map([], backend="inline") as results:
        assert results._repr_html_() is None


def test_nothing_is_kept_alive() -> None:
    """What has failed is forgotten as it is given out."""

    class Item:
        pass

    gone = []

    def items() -> Iterator[Any]:
        item = Item()
        gone.append(weakref.ref(item))
        yield item
        del item
        yield from ("good", "good")

    with parallel(fails).map(items(), backend="inline", on_error="return") as results:
        next(results)
        next(results)
        next(results)
        gc.collect()
        assert gone[0]() is None
        assert len(shown(results)) == 5

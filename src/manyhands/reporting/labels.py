"""What is kept of items and failures: short texts, of which there are few. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Final, cast

from manyhands.calls import short_repr

REPRS_MAX: Final = 500
"""Items that are neither numbers nor texts and that are asked for their repr, which may take long."""

TEXT_MAX: Final = 2000
TRACEBACK_MAX: Final = 20_000
_LIBRARY: Final = re.compile(r"[/\\](?:site-packages|dist-packages|lib[/\\]python3\.\d+)[/\\]|^<frozen ")
_FRAME: Final = re.compile(r'^  File "(.+)", line ([0-9]+)(?:, in (.+))?$', re.MULTILINE)
SHORT: Final = 200
_SMALL: Final = (int, float, bool, type(None))
_PLAIN: Final = (str, bytes, int, float, complex, bool, type(None))


class Label(str):
    """An item's text that was made before: taken as it is."""

    __slots__ = ()


class Labels:
    """Makes labels of items, of few where that may take long."""

    def __init__(self) -> None:
        self._asked = 0

    def of(self, item: object) -> str:
        """A short repr; of the type alone, if too many were asked that are neither numbers nor texts; "" for None."""
        if isinstance(item, Label):
            return item
        if item is None:
            return ""
        if not is_plain(item):
            if self._asked >= REPRS_MAX:
                return f"<{type(item).__qualname__}>"
            self._asked += 1
        return short_repr(item)

    def kept(self, item: object) -> object:
        """What a label can be made of later: the item, if it is small and can't change, or else its label."""
        if type(item) in _SMALL or (type(item) is str and len(item) <= SHORT):
            return item
        return Label(self.of(item))


@dataclass(frozen=True, slots=True)
class Failed:
    """An item that failed for good; see ``Recording.failed``."""

    index: int
    item: str
    text: str
    attempts: int
    worker: str


class FailureGroup:
    """Failures of one type at one place.

    Attributes:
        error_type: qualified name of the exception.
        traceback: of the first of them.
        count: all of them.
        kept: the first of them, as a whole.
    """

    __slots__ = ("count", "error_type", "kept", "traceback")

    def __init__(self, error_type: str, traceback: str) -> None:
        self.error_type = error_type
        self.traceback = traceback
        self.count = 0
        self.kept: list[Failed] = []


def place(traceback: str) -> str:
    """What of a traceback says where it was raised: without the message, which may name the item."""
    return "\n".join(line for line in traceback.splitlines() if line.startswith("  "))


def last_frame(traceback: str) -> str:
    """Where a traceback ends in what is no installed library, as ``photos.py:12 in label``; "" if it does not say."""
    found = _FRAME.findall(traceback)
    if not found:
        return ""
    # What a library was in the middle of says less than where it was called.
    own = [one for one in found if not _LIBRARY.search(one[0])]
    path, line, function = (own or found)[-1]
    return f"{PurePath(path).name}:{line}" + (f" in {function}" if function else "")


def cut(text: str, most: int) -> str:
    """A text, or its two ends where it is too long."""
    return text if len(text) <= most else f"{text[: most // 4]}\n…\n{text[-(3 * most // 4) :]}"


def is_plain(item: object) -> bool:
    """Whether the item's repr is quick: a number, a text, a path, or a few of them."""
    if type(item) in _PLAIN or isinstance(item, PurePath | Label):
        return True
    return type(item) in (tuple, list) and all(
        type(each) in _PLAIN for each in cast("Sequence[object]", item)[:7]
    )

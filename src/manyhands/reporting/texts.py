"""How a report says numbers, times and other people's texts. Pure."""

from __future__ import annotations

import html
import re
from datetime import UTC, datetime
from typing import Final

_UNSAFE: Final = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]"
)
_UNITS: Final = ((1e-6, "µs"), (1e-3, "ms"), (1.0, "s"))


def escaped(text: object) -> str:
    """A text for HTML, within quotes too; characters that can't be shown, or turn others around, by their codes."""
    return html.escape(visible(str(text)))


def visible(text: str) -> str:
    """A text in which characters that can't be shown, or turn others around, stand by their codes."""
    return _UNSAFE.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), text)


def short(text: str, most: int) -> str:
    """A text of at most so many characters."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def number(value: float) -> str:
    """A whole number with its thousands apart."""
    return f"{value:,.0f}"


def counted(value: int, noun: str) -> str:
    """``3 workers``."""
    return f"{number(value)} {noun}{'' if value == 1 else 's'}"


def seconds(value: float) -> str:
    """A duration with three digits: ``412 µs``, ``1.25 s``, ``3 min 20 s``, ``2 h 05 min``."""
    if value >= 7200:
        minutes = round(value / 60)
        return f"{number(minutes // 60)} h {minutes % 60:02d} min"
    if value >= 120:
        whole = round(value)
        return f"{whole // 60} min {whole % 60:02d} s"
    if value <= 0:
        return "0 s"
    for unit, name in _UNITS:
        scaled = value / unit
        if scaled < 999.5 or name == "s":
            digits = 2 if scaled < 9.995 else 1 if scaled < 99.95 else 0
            return f"{scaled:.{digits}f} {name}"
    raise AssertionError(value)


def size(value: float) -> str:
    """Bytes: ``412 MiB``."""
    for name in ("B", "KiB", "MiB", "GiB"):
        if value < 1023.5:
            return f"{value:.0f} {name}" if name == "B" or value >= 99.5 else f"{value:.1f} {name}"
        value /= 1024
    return f"{value:,.1f} TiB"


def percent(share: float) -> str:
    """A share of one, rounded down where it is not quite all."""
    return f"{min(share * 100, 99.9):.1f} %" if share < 1 else f"{share * 100:.0f} %"


def moment(unix: float) -> str:
    """A unix time, in UTC."""
    try:
        return datetime.fromtimestamp(unix, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (OverflowError, OSError, ValueError):
        return "at an unknown time"

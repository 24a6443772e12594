"""The drawings of a page, as SVG: widths in percent, so that texts keep their size on screens of any width. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from manyhands.reporting.spans import bin_edge
from manyhands.reporting.texts import counted, escaped, number, seconds


def histogram(bins: dict[int, int]) -> str:
    """How many attempts took how long, on a logarithmic axis."""
    first, last = min(bins), max(bins)
    spare = max(0, 14 - (last - first + 1))
    first, last = first - spare // 2, last + spare - spare // 2
    width, most, high, low = 100 / (last - first + 1), max(bins.values()), 26, 190
    drawn = [
        f'<line class="rule" x1="0" x2="100%" y1="{high}" y2="{high}"/>',
        f'<text x="0" y="{high - 7}">{counted(most, "attempt")}</text>',
    ]
    for place in range(first, last + 1):
        x, count = (place - first) * width, bins.get(place, 0)
        if count:
            height = max(1.5, (low - high) * count / most)
            told = f"{seconds(bin_edge(place))} to {seconds(bin_edge(place + 1))}: {counted(count, 'attempt')}"
            drawn.append(
                f'<rect class="bar" x="{x:.3f}%" width="{width * 0.88:.3f}%" y="{low - height:.1f}" '
                f'height="{height:.1f}"><title>{told}</title></rect>'
            )
        if place % 10 in ((0,) if last - first > 32 else (0, 3, 7)):
            anchor = "start" if x < 4 else "end" if x > 94 else "middle"
            label = seconds(float(f"{bin_edge(place):.1g}")).replace(".00", "").replace(".0", "")
            drawn.append(f'<line class="tick" x1="{x:.3f}%" x2="{x:.3f}%" y1="{low}" y2="{low + 5}"/>')
            kind = "" if place % 10 == 0 else ' class="minor"'
            drawn.append(f'<text{kind} x="{x:.3f}%" y="{low + 19}" text-anchor="{anchor}">{label}</text>')
    reach = f"{seconds(bin_edge(min(bins)))} to {seconds(bin_edge(max(bins) + 1))}"
    told = f"{counted(sum(bins.values()), 'attempt')}, from {reach}"
    return (
        f'<svg class="histogram" role="img" aria-labelledby="histogram-title" width="100%" height="{low + 24}">'
        f'<title id="histogram-title">Distribution of durations: {told}</title>'
        f"{''.join(drawn)}"
        f'<line class="base" x1="0" x2="100%" y1="{low}" y2="{low}"/></svg>'
    )


def bar(share: float, told: str) -> str:
    """A bar in a table, of its full length if ``share`` is 1."""
    return (
        f'<svg class="meter" role="img" width="100%" height="10"><title>{escaped(told)}</title>'
        '<rect class="room" width="100%" height="10" rx="2"/>'
        f'<rect class="bar" width="{share:.2%}" height="10" rx="2"/></svg>'
    )


def strip(parts: Sequence[tuple[str, int]]) -> str:
    """Parts of a whole, side by side; each a class and a number."""
    whole, x, drawn = sum(count for _, count in parts) or 1, 0.0, []
    for kind, count in parts:
        if count:
            width = max(0.4, 100 * count / whole)
            drawn.append(
                f'<rect class="{kind}" x="{min(x, 100 - width):.3f}%" width="{width:.3f}%" height="8"/>'
            )
            x += width
    told = ", ".join(f"{kind} {number(count)}" for kind, count in parts if count)
    return f'<svg class="strip" role="img" width="100%" height="8"><title>{escaped(told)}</title>{"".join(drawn)}</svg>'

"""The few shapes that the parts of a page are made of. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def section(name: str, title: str, body: str) -> str:
    """A part of the page, with its heading."""
    head = f'<section id="{name}" aria-labelledby="{name}-title">\n<h2 id="{name}-title">{title}</h2>'
    return f"{head}\n{body}\n</section>\n"


def table(caption: str, heads: Sequence[str], rows: Iterable[str], kind: str = "") -> str:
    """A table; heads that begin with "#" stand over numbers."""
    cells = "".join(
        f'<th scope="col" class="n">{head[1:]}</th>' if head.startswith("#") else f'<th scope="col">{head}</th>'
        for head in heads
    )
    return (
        f'<div class="wide" tabindex="0" role="region" aria-label="{caption}"><table class="{kind}">'
        f"<thead><tr>{cells}</tr></thead><tbody>\n{''.join(rows)}</tbody></table></div>"
    )

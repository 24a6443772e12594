"""One page that says what a run was: HTML that needs nothing from elsewhere, and a script only to tell of details."""

from __future__ import annotations

import hashlib
import json
import os
from base64 import b64encode
from collections.abc import Iterable, Iterator
from importlib import resources

from manyhands.reporting import sections
from manyhands.reporting.files import write_whole
from manyhands.reporting.head import header
from manyhands.reporting.recording import Recording
from manyhands.reporting.texts import escaped, short
from manyhands.reporting.timeline import Timeline, script_data
from manyhands.reporting.view import View


def write_page(path: str | os.PathLike[str], recordings: Iterable[Recording]) -> None:
    """Writes the report of these maps to ``path``, an HTML file, in the place of what is there.

    Raises:
        ValueError: there are no recordings.
        OSError: it can't be written; names the file.
    """
    write_whole(path, page(View.of(recordings)))


def page(view: View) -> Iterator[str]:
    """The page, in pieces."""
    style, script = (
        resources.files("manyhands.reporting").joinpath(name).read_text(encoding="utf-8")
        for name in ("page.css", "page.js")
    )
    timeline = Timeline(view)
    data = json.dumps(script_data(view, timeline), separators=(",", ":")).replace("<", "\\u003c")
    title = escaped(short(", ".join(view.functions), 120))
    policy = (
        f"default-src 'none'; style-src '{_digest(style)}'; script-src '{_digest(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    yield (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{title}: manyhands report</title>\n<style>{style}</style>\n</head>\n<body>\n"
    )
    yield from header(view, title)
    yield "<main>\n"
    yield from sections.timeline(view, timeline)
    yield from sections.failures(view)
    yield from sections.retries(view)
    yield from sections.durations(view)
    yield from sections.slowest(view)
    yield from sections.memory(view)
    yield from sections.maps(view)
    yield "</main>\n"
    yield "<footer>Written by manyhands. Times are wall times, as the clock of each host had them.</footer>\n"
    yield f'<div id="tip" role="status" hidden></div>\n<script type="application/json" id="cells">{data}</script>\n'
    yield f"<script>{script}</script>\n</body>\n</html>\n"


def _digest(text: str) -> str:
    return f"sha256-{b64encode(hashlib.sha256(text.encode()).digest()).decode()}"

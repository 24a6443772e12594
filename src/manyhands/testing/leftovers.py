"""What claims have left behind."""

from __future__ import annotations

import os
from pathlib import Path

from manyhands.claims import gc
from manyhands.claims.names import parse


def left_by_claims(directory: str | os.PathLike[str]) -> list[str]:
    """Collects what nobody needs in ``directory`` and below; returns what files of claims there still are, by path.

    Nobody may be at work there. What may be left is an output that was committed and can't be published, or a file of
    somebody else's with the name of a claim's.
    """
    left = []
    for here, _, _ in os.walk(directory):
        gc(here, now=True)
        left += [
            os.path.relpath(path, directory) for path in Path(here).iterdir() if parse(path.name) is not None
        ]
    return sorted(left)

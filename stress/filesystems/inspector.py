"""What a client sees when all is done; a script.

Usage: python inspector.py probe DIRECTORY     how slots are created there: prints a word
       python inspector.py final DIRECTORY     after gc(directory, now=True): prints {name: digest of its bytes} in JSON
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any

from manyhands import gc
from manyhands.claims import Claims, Log, Mine
from manyhands.claims.filesystem import Link, LocalFileSystem, Operation, RenameNew, WriteNew

WORDS: dict[type, str] = {Link: "link", RenameNew: "rename without replacing", WriteNew: "exclusive creation"}


class Watching(LocalFileSystem):
    """Remembers by which operation files that are wanted came to be."""

    def __init__(self) -> None:
        self.by: dict[str, str] = {}

    def perform(self, operation: Operation, /) -> Any:
        reply = super().perform(operation)
        match operation:
            case Link(_, path) | RenameNew(_, path) | WriteNew(path):
                self.by[os.path.basename(path)] = WORDS[type(operation)]
        return reply


def probe(directory: Path) -> str:
    """The primitive by which a CLAIM is created there."""
    filesystem, log = Watching(), Log.of(directory / "probe")
    with Claims(filesystem=filesystem) as claims:
        mine = claims.acquire(log)
        assert isinstance(mine, Mine), mine
        mine.staging.write_text("probe")
        claims.commit(mine)
    Path(log.final).unlink()
    gc(directory, now=True)
    return filesystem.by[os.path.basename(log.slot(0))]


def final(directory: Path) -> dict[str, str]:
    """What is there after gc."""
    gc(directory, now=True)
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in directory.iterdir()}


if __name__ == "__main__":
    order, place = sys.argv[1], Path(sys.argv[2])
    print(probe(place) if order == "probe" else json.dumps(final(place)))

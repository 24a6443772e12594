"""The demo's own directories, which it may remove because it made them: each holds a file that says so."""

from __future__ import annotations

import shutil
from pathlib import Path

MARK = ".made-by-manyhands-demo"


def fresh(directory: Path) -> Path:
    """Make ``directory`` anew and empty but for its mark; its absolute path.

    Raises FileExistsError if something is there that the demo did not make.
    """
    if directory.is_symlink() or directory.exists():
        if directory.is_symlink() or not (directory / MARK).is_file():
            raise FileExistsError(f"{str(directory)!r} is in the way: the demo did not make it")
        shutil.rmtree(directory)
    directory.mkdir(parents=True)
    (directory / MARK).write_text("The next run of the demo removes this directory.\n", encoding="utf-8")
    return directory.resolve()

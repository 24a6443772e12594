"""Waiting for files that others make."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Final

from manyhands.claims.filesystem import Exists, LocalFileSystem, RefreshDirectory

FIRST_LOOK: Final = 0.01
LAST_LOOK: Final = 1.0
"""Seconds between two looks: at first, and at most."""


def wait_for(path: str | os.PathLike[str], timeout: float | None = None) -> Path:
    """As ``manyhands.wait_for``, which says what it does."""
    wanted, filesystem = Path(path), LocalFileSystem()
    _check(wanted)
    end = None if timeout is None else time.monotonic() + timeout
    pause = FIRST_LOOK
    while True:
        try:
            filesystem.perform(RefreshDirectory(str(wanted.parent)))
            if filesystem.perform(Exists(str(wanted))):
                return wanted
        except (FileNotFoundError, NotADirectoryError):
            pass  # its directory may come yet
        left = None if end is None else end - time.monotonic()
        if left is not None and left <= 0:
            raise TimeoutError(f"{str(wanted)!r} did not appear within {timeout:g} s")
        time.sleep(pause if left is None else min(pause, left))
        pause = min(LAST_LOOK, 1.5 * pause)


def _check(wanted: Path) -> None:
    try:
        is_name = b"\0" not in os.fsencode(wanted)
    except UnicodeEncodeError:
        is_name = False
    if not is_name:
        raise ValueError(f"path must be a name that a file can have, not {str(wanted)!r}")

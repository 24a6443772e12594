"""A disk that a scene may fill."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SIZE = "48m"


@contextmanager
def small_disk(directory: Path) -> Iterator[bool]:
    """A tmpfs on the directory until the end of the block; False, and nothing is done, where only others may mount."""
    if sys.platform != "linux" or os.geteuid() != 0:
        yield False
        return
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(directory)]
    if subprocess.run(mount, check=False).returncode != 0:
        yield False
        return
    try:
        yield True
    finally:
        subprocess.run(["umount", "-l", str(directory)], check=True)  # also from under whoever is left

"""Files that are there as a whole, or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path


def write_whole(path: str | os.PathLike[str], pieces: Iterable[str]) -> None:
    """Writes a text in UTF-8 to ``path``, in the place of what is there; if that fails, what is there stays.

    Raises:
        OSError: it can't be written; names the file.
    """
    target = Path(path)
    part = target.with_name(f".{target.name[:200]}.{os.urandom(6).hex()}.part")
    try:
        with part.open("x", encoding="utf-8", newline="\n") as file:
            file.writelines(pieces)
        part.replace(target)
    except OSError as error:
        raise type(error)(error.errno, error.strerror, str(target)) from error
    finally:
        part.unlink(missing_ok=True)

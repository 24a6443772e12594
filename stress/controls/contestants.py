"""All contestants, by name. A module is imported only for the contestants that are asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from controls.contestant import Contestant


def _temp_file() -> Contestant:
    from controls.recipes import TempFile

    return TempFile()


def _in_place() -> Contestant:
    from controls.recipes import InPlace

    return InPlace()


def _jug() -> Contestant:
    from controls.with_jug import Jug

    return Jug()


def _filelock_exists() -> Contestant:
    from controls.with_filelock import LockAndExists

    return LockAndExists()


def _filelock_replace() -> Contestant:
    from controls.with_filelock import LockAndReplace

    return LockAndReplace()


def _filelock_lease() -> Contestant:
    from controls.with_filelock import LeaseAndReplace

    return LeaseAndReplace()


def _manyhands() -> Contestant:
    from controls.with_manyhands import Manyhands

    return Manyhands()


ALL: Final[dict[str, Callable[[], Contestant]]] = {
    "temp-file": _temp_file,
    "in-place": _in_place,
    "jug": _jug,
    "filelock-exists": _filelock_exists,
    "filelock-replace": _filelock_replace,
    "filelock-lease": _filelock_lease,
    "manyhands": _manyhands,
}


def find(name: str) -> Contestant:
    """A contestant; none of these needs what it plays with before it is at work."""
    return ALL[name]()

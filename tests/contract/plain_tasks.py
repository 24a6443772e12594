"""Functions of a module that knows nothing of the library."""

from __future__ import annotations

import sys


def loaded(_: object) -> set[str]:
    """The modules of the library that this process has."""
    return {name for name in sys.modules if name.startswith("manyhands.")}

"""Decorators that map plain functions over all cores, and over machines that share a directory.

``@parallel`` maps, ``@claimed_output`` makes results files that are computed once, ``@validated`` sorts out,
``@retry_on`` tries again. See the documentation for how they work together.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING or not hasattr(sys, "_manyhands_worker"):
    from manyhands.face import *  # noqa: F403
    from manyhands.face import __all__ as __all__
else:

    def __getattr__(name: str) -> object:
        """A worker loads the face only if the user's code asks for it: so it starts sooner."""
        if name.startswith("__") and name != "__all__":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module("manyhands.face"), name)

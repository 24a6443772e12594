"""What keeps a function from being sent to another process."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from manyhands.calls import qualified_name
from manyhands.policies.parameters import innermost


def culprit(function: Callable[..., Any], dumps: Callable[[Any], object]) -> str:
    """The first of the values that a function brings along which can't be pickled, in words; "" if there is none.

    Args:
        function: that could not be pickled.
        dumps: pickles, or raises.
    """
    try:
        bound = getattr(function, "__self__", None)
        names = inspect.getclosurevars(innermost(function))
        used: dict[str, Any] = {"self": bound} if bound is not None else {}
        used |= {**names.nonlocals, **names.globals}
    except (TypeError, ValueError):  # not of Python
        return ""
    for name, value in used.items():
        try:
            dumps(value)
        except Exception:
            kind = qualified_name(type(value))
            return f"it refers to {name!r}, a {kind}; make that within the function, or in an initializer"
    return ""

"""Tasks that look at context variables, in a module that workers import."""

from __future__ import annotations

import contextvars
from typing import Any

request = contextvars.ContextVar("request", default="nobody")
lock: contextvars.ContextVar[Any] = contextvars.ContextVar("lock", default=None)


def ask(x: int) -> str:
    """What is set."""
    name = request.get()
    if name == f"raise {x}":
        raise ValueError(name)
    return name


def set_again(x: int) -> str:
    """What is set, before this call has set another."""
    name = request.get()
    request.set(f"by {x}")
    return name

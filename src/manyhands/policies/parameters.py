"""A function's public parameters, and a call's arguments by their names.

The parameter whose default is ``OUTPUT`` is not public: the library fills it in.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final, cast

from decorator import fix

from manyhands.outcome import Call


class _Output:
    """The type of ``OUTPUT``."""

    def __repr__(self) -> str:
        return "OUTPUT"

    def __reduce__(self) -> str:
        return "OUTPUT"  # one object in every process, so that ``is`` tells it


OUTPUT: Final[Path] = cast("Path", _Output())
"""The default that marks the parameter through which a function gets the path to write its output to."""


@dataclass(frozen=True)
class Parameters:
    """What the decorators know of a body's signature.

    Attributes:
        signature: the public signature, or None for callables that don't tell theirs (some builtins).
        output: the name of the parameter that declares ``OUTPUT``, or None.
    """

    signature: inspect.Signature | None
    output: str | None

    @classmethod
    def of(cls, body: Callable[..., Any]) -> Parameters:
        """Reads them off ``body``; raises TypeError if more than one parameter declares OUTPUT."""
        try:
            signature = inspect.signature(body)
        except (ValueError, TypeError):
            return cls(None, None)
        outputs = [name for name, parameter in signature.parameters.items() if parameter.default is OUTPUT]
        if len(outputs) > 1:
            raise TypeError(f"{name_of(body)} declares OUTPUT twice: {', '.join(outputs)}; one is enough")
        if not outputs:
            return cls(signature, None)
        if signature.parameters[outputs[0]].kind is inspect.Parameter.POSITIONAL_ONLY:
            raise TypeError(f"{name_of(body)}: the parameter {outputs[0]!r} declares OUTPUT, so it can't be positional-only")
        public = [parameter for name, parameter in signature.parameters.items() if name != outputs[0]]
        try:
            return cls(signature.replace(parameters=public), outputs[0])
        except ValueError:
            raise TypeError(
                f"{name_of(body)}: the parameter {outputs[0]!r} declares OUTPUT, so parameters with defaults must "
                f"not stand before others without"
            ) from None

    @cached_property
    def names(self) -> frozenset[str]:
        """The names of the public parameters."""
        return frozenset(self.signature.parameters) if self.signature else frozenset()

    def bind(self, call: Call) -> dict[str, Any]:
        """The arguments by parameter name, defaults applied; raises TypeError like a call would."""
        if self.signature is None:
            raise TypeError("the function does not tell its parameters, so they can't be named")
        args, kwargs = fix(call.args, call.kwargs, self.signature)
        return self.signature.bind(*args, **kwargs).arguments


def name_of(function: Callable[..., Any]) -> str:
    """What to call a function in a message."""
    return getattr(function, "__qualname__", None) or type(function).__qualname__

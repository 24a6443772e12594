"""A function's public parameters, and a call's arguments by their names.

The parameter whose default is ``OUTPUT`` is not public: the library fills it in.
"""

from __future__ import annotations

import functools
import inspect
import sys
import types
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from decorator import fix

from manyhands.calls import Call


class _Output:
    """The type of ``OUTPUT``."""

    def __repr__(self) -> str:
        return "OUTPUT"

    def __reduce__(self) -> str:
        return "OUTPUT"  # one object in every process, so that ``is`` tells it


OUTPUT: Final[Any] = _Output()
"""The default that marks the parameter through which a function gets the path to write its output to, or the paths."""


@dataclass(frozen=True)
class Parameters:
    """What the decorators know of a body's signature.

    Attributes:
        signature: the public signature, or None for callables that don't tell theirs (some builtins).
        output: the name of the parameter that declares ``OUTPUT``, or None.
        position: where that parameter stands among the positional ones; None if it is keyword-only.
    """

    signature: inspect.Signature | None
    output: str | None
    position: int | None = None

    @classmethod
    def of(cls, body: Callable[..., Any]) -> Parameters:
        """Reads them off ``body``; raises TypeError if more than one parameter declares OUTPUT."""
        signature = signature_of(body)
        if signature is None:
            return cls(None, None)
        outputs = [name for name, parameter in signature.parameters.items() if parameter.default is OUTPUT]
        if len(outputs) > 1:
            raise TypeError(f"{name_of(body)} declares OUTPUT twice: {', '.join(outputs)}; one is enough")
        if not outputs:
            return cls(signature, None)
        if signature.parameters[outputs[0]].kind is inspect.Parameter.POSITIONAL_ONLY:
            raise TypeError(
                f"{name_of(body)}: the parameter {outputs[0]!r} declares OUTPUT, so it can't be positional-only"
            )
        public = [parameter for name, parameter in signature.parameters.items() if name != outputs[0]]
        try:
            return cls(signature.replace(parameters=public), outputs[0], _position(signature, outputs[0]))
        except ValueError:
            raise TypeError(
                f"{name_of(body)}: the parameter {outputs[0]!r} declares OUTPUT, so parameters with defaults "
                f"must not stand before others without"
            ) from None

    @cached_property
    def names(self) -> frozenset[str]:
        """The names of the public parameters."""
        return frozenset(self.signature.parameters) if self.signature else frozenset()

    @cached_property
    def _plain(self) -> tuple[tuple[str, ...], dict[str, Any]] | None:
        """The names of the parameters in their order, and the defaults of some; None if not all go by position too."""
        parameters = self.signature.parameters.values() if self.signature else ()
        if any(parameter.kind is not inspect.Parameter.POSITIONAL_OR_KEYWORD for parameter in parameters):
            return None
        names = tuple(parameter.name for parameter in parameters)
        return names, {
            parameter.name: parameter.default
            for parameter in parameters
            if parameter.default is not inspect.Parameter.empty
        }

    def with_output(self, call: Call, path: Path | tuple[Path, ...]) -> Call:
        """The call as the body takes it, with the path to write its output to, or the paths."""
        assert self.output is not None
        assert self.signature is not None
        args, kwargs = call.args, call.kwargs
        if kwargs or self._plain is None or len(args) != len(self._plain[0]):
            args, kwargs = fix(args, kwargs, self.signature)  # every positional parameter is in args now
        if self.position is None:
            return Call(args, {**kwargs, self.output: path})
        return Call((*args[: self.position], path, *args[self.position :]), kwargs)

    def bind(self, call: Call) -> dict[str, Any]:
        """The arguments by parameter name, defaults applied; raises TypeError like a call would."""
        if self.signature is None:
            raise TypeError("the function does not tell its parameters, so they can't be named")
        if self._plain is not None:
            names, defaults = self._plain
            given = names[: len(call.args)]
            arguments = {**defaults, **dict(zip(given, call.args, strict=False)), **call.kwargs}
            if (
                len(given) == len(call.args)
                and arguments.keys() == self.names
                and call.kwargs.keys().isdisjoint(given)
            ):
                return arguments
        args, kwargs = fix(call.args, call.kwargs, self.signature)
        bound = self.signature.bind(*args, **kwargs)
        bound.apply_defaults()  # an empty ``*args`` or ``**kwargs`` got lost on the way
        return bound.arguments


def signature_of(function: Callable[..., Any]) -> inspect.Signature | None:
    """The signature, with annotations as written where they can't be evaluated; None if there is none."""
    try:
        if sys.version_info >= (3, 14):
            import annotationlib

            return inspect.signature(function, annotation_format=annotationlib.Format.FORWARDREF)
        return inspect.signature(function)
    except (ValueError, TypeError):  # some builtins don't tell theirs
        return None


def _position(signature: inspect.Signature, name: str) -> int | None:
    if signature.parameters[name].kind is inspect.Parameter.KEYWORD_ONLY:
        return None
    return list(signature.parameters).index(name)


def innermost(function: Any) -> Any:
    """What a call of ``function`` calls in the end: without partials, and the ``__call__`` of an object."""
    while isinstance(function, functools.partial):
        function = function.func
    if isinstance(function, types.FunctionType | types.MethodType | type):
        return function
    method = inspect.getattr_static(type(function), "__call__", None)
    return method if isinstance(method, types.FunctionType) else function


def name_of(function: Callable[..., Any]) -> str:
    """What to call a function in a message."""
    return getattr(function, "__qualname__", None) or type(function).__qualname__

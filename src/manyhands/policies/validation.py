"""Predicates over a call's arguments and its result."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from manyhands.calls import add_note
from manyhands.errors import InvalidArguments, InvalidResult
from manyhands.policies.parameters import Parameters, name_of, signature_of
from manyhands.policies.star import short_repr

Invalid = Literal["discard", "raise"]


@dataclass(frozen=True)
class Validation:
    """One ``@validated``.

    Attributes:
        arguments: gets those of the call's arguments that it names; True keeps the item. None: not checked.
        result: gets the value, or the path of the output where the body writes one. None: not checked.
        invalid: what becomes of an item that was not kept.
    """

    arguments: Callable[..., bool] | None = None
    result: Callable[[Any], bool] | None = None
    invalid: Invalid = "discard"

    def fits(self, parameters: Parameters, function: str) -> None:
        """Raises TypeError if the predicate for arguments names a parameter that ``function`` does not have."""
        if self.arguments is None:
            return
        wanted, takes_all = _wanted(self.arguments)
        if parameters.signature is None and (wanted or takes_all):
            raise TypeError(
                f"@validated: {function} does not tell its parameters, so its arguments can't be checked"
            )
        unknown = [name for name in wanted if name not in parameters.names]
        if unknown:
            raise TypeError(
                f"@validated(arguments=…) of {function}: the predicate asks for {', '.join(unknown)}, but the "
                f"function's parameters are {', '.join(sorted(parameters.names)) or 'none'}"
            )

    def check_arguments(self, arguments: Mapping[str, Any]) -> None:
        """Raises InvalidArguments if the predicate does not keep them; what it raises itself gets a note."""
        if self.arguments is None:
            return
        wanted, takes_all = _wanted(self.arguments)
        chosen = (
            dict(arguments) if takes_all else {name: arguments[name] for name in wanted if name in arguments}
        )
        try:
            keep = bool(self.arguments(**chosen))  # of an array, say, it raises
        except Exception as error:
            add_note(error, f"raised by the predicate {name_of(self.arguments)} of @validated(arguments=…)")
            raise
        if not keep:
            listed = ", ".join(f"{name}={short_repr(value)}" for name, value in chosen.items())
            raise InvalidArguments(f"invalid arguments: {listed}")

    def check_result(self, value: Any) -> None:
        """Raises InvalidResult if the predicate does not keep ``value``; what it raises gets a note."""
        if self.result is None:
            return
        try:
            keep = bool(self.result(value))
        except Exception as error:
            add_note(error, f"raised by the predicate {name_of(self.result)} of @validated(result=…)")
            raise
        if not keep:
            raise InvalidResult(f"invalid result: {short_repr(value)}")


def _wanted(predicate: Callable[..., bool]) -> tuple[list[str], bool]:
    """The parameter names of a predicate, and whether it takes any keyword."""
    signature = signature_of(predicate)
    if signature is None:
        raise TypeError(
            f"@validated(arguments=…): {name_of(predicate)} does not tell its parameters; wrap it in a lambda"
        )
    parameters = signature.parameters.values()
    for parameter in parameters:
        if parameter.kind is inspect.Parameter.POSITIONAL_ONLY and parameter.default is inspect.Parameter.empty:
            raise TypeError(
                f"@validated(arguments=…): {name_of(predicate)} takes {parameter.name!r} by its position only, "
                f"but arguments are given by name"
            )
    takes_all = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters)
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return [parameter.name for parameter in parameters if parameter.kind in named], takes_all

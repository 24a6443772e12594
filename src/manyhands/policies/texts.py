"""Texts from a command line become arguments, by the annotations of the parameters they are for."""

from __future__ import annotations

import datetime as dt
import enum
import inspect
import types
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from difflib import get_close_matches
from pathlib import Path, PurePath
from typing import Annotated, Any, Final, Literal, Self, Union, get_args, get_origin, get_type_hints

from manyhands.policies.parameters import innermost, name_of, signature_of

_POSITIONAL: Final = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_BOOLS: Final = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}

_READERS: Final[dict[Any, Callable[[str], Any]]] = {
    **{kind: kind for kind in (int, float, complex, Path, PurePath, Decimal)},
    **{kind: lambda text: text for kind in (str, Any, object, inspect.Parameter.empty)},
    bool: lambda text: _BOOLS[text.lower()],
    dt.date: dt.date.fromisoformat,
    dt.datetime: dt.datetime.fromisoformat,
}


def from_text(text: str, annotation: Any) -> Any:
    """What a text says, for a parameter with this annotation.

    Numbers, ``bool`` (true, yes, 1; false, no, 0), paths, dates and times in ISO format, members of an ``Enum`` by
    their names or values, and of a ``Literal``; of a union the first that takes it. Without an annotation it stays
    as it is.

    Raises:
        ValueError: it says no such thing.
        TypeError: the annotation is none of these.
    """
    origin = get_origin(annotation)
    if origin is Annotated:
        return from_text(text, get_args(annotation)[0])
    if origin is Literal:
        return _chosen(text, {str(value): value for value in get_args(annotation)})
    if origin in (Union, types.UnionType):
        return _first(text, [one for one in get_args(annotation) if one is not types.NoneType], annotation)
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        by_value = {str(one.value): one for one in annotation}
        return _chosen(text, by_value | {one.name: one for one in annotation})
    read = _READERS.get(annotation) if origin is None else None
    if read is None:
        raise TypeError(f"a text can't become {_name(annotation)}: only plain values can be given so")
    try:
        return read(text)
    except (ValueError, ArithmeticError, KeyError):
        raise ValueError(f"{text!r} is no {_name(annotation)}") from None


def _chosen(text: str, choices: dict[str, Any]) -> Any:
    if text not in choices:
        raise ValueError(f"{text!r} is none of {', '.join(map(repr, choices))}")
    return choices[text]


def _first(text: str, kinds: list[Any], annotation: Any) -> Any:
    for kind in kinds:
        try:
            return from_text(text, kind)
        except ValueError:
            continue
    raise ValueError(f"{text!r} is no {_name(annotation)}")


def _name(annotation: Any) -> str:
    return annotation.__name__ if isinstance(annotation, type) else str(annotation)


@dataclass(frozen=True)
class Texts:
    """How texts become the positional arguments of a function.

    Attributes:
        function: its name.
        parameters: name and annotation of each.
        more: the same of ``*args``; None: it has none.
        required: how many of the parameters have no default.
        keyword_only: name and annotation of each parameter that goes by its name alone.
    """

    function: str
    parameters: tuple[tuple[str, Any], ...]
    more: tuple[str, Any] | None
    required: int
    keyword_only: tuple[tuple[str, Any], ...] = ()

    @classmethod
    def of(cls, function: Callable[..., Any]) -> Self:
        """Reads them off a function; raises TypeError if its annotations can't be evaluated."""
        signature, name = signature_of(function), name_of(function)
        if signature is None:
            return cls(name, (), ("args", inspect.Parameter.empty), 0)
        try:
            hints = get_type_hints(inspect.unwrap(innermost(inspect.unwrap(function))), include_extras=True)
        except Exception as error:  # what is written there may be anything
            raise TypeError(f"the annotations of {name} can't be evaluated: {error}") from error
        parameters = signature.parameters.values()

        def known(*kinds: object) -> tuple[tuple[str, Any], ...]:
            found = [parameter.name for parameter in parameters if parameter.kind in kinds]
            return tuple((name, hints.get(name, inspect.Parameter.empty)) for name in found)

        more = known(inspect.Parameter.VAR_POSITIONAL)
        required = sum(each.default is each.empty for each in parameters if each.kind in _POSITIONAL)
        by_name = known(inspect.Parameter.KEYWORD_ONLY)
        return cls(name, known(*_POSITIONAL), more[0] if more else None, required, by_name)

    @property
    def names(self) -> list[str]:
        """Of all parameters but ``*args`` and ``**kwargs``."""
        return [name for name, _ in (*self.parameters, *self.keyword_only)]

    def without(self, names: Collection[str]) -> Self:
        """The same for a function whose parameters with these names have their arguments already."""
        left = tuple(each for each in self.parameters if each[0] not in names)
        required = sum(name not in names for name, _ in self.parameters[: self.required])
        return replace(self, parameters=left, required=required)

    def arguments(self, texts: Sequence[str]) -> tuple[Any, ...]:
        """The arguments that texts stand for, in order; raises ValueError or TypeError, which names the parameter."""
        most = "" if self.more else f", not {len(texts)}"
        if len(texts) < self.required or (len(texts) > len(self.parameters) and self.more is None):
            names = ", ".join(name for name, _ in self.parameters) or "none"
            raise ValueError(
                f"{self.function} takes the arguments {names}{most or ' and more'}; got {list(texts)!r}"
            )
        found = []
        for position, text in enumerate(texts):
            named = self.parameters[position] if position < len(self.parameters) else self.more
            assert named is not None
            found.append(self._value(*named, text))
        return tuple(found)

    def keywords(self, names: Sequence[str], texts: Sequence[str]) -> dict[str, Any]:
        """The arguments with these names that texts stand for; raises as ``arguments``."""
        if len(texts) != len(names):
            raise ValueError(f"there are {len(names)} columns, {', '.join(names)}; got {list(texts)!r}")
        missing = [name for name, _ in self.parameters[: self.required] if name not in names]
        if missing:
            raise ValueError(f"{self.function} needs {missing[0]!r}; the columns are {', '.join(names)}")
        return {name: self.argument(name, text) for name, text in zip(names, texts, strict=True)}

    def argument(self, name: str, text: str) -> Any:
        """The argument of this name that a text stands for; raises as ``arguments``."""
        known = dict((*self.parameters, *self.keyword_only))
        if name not in known:
            near = get_close_matches(name, known, 1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; it takes {', '.join(known) or 'none'}"
            raise ValueError(f"{self.function} has no parameter {name!r}{hint}")
        return self._value(name, known[name], text)

    def _value(self, name: str, annotation: Any, text: str) -> Any:
        try:
            return from_text(text, annotation)
        except (ValueError, TypeError) as error:
            raise type(error)(f"argument {name!r} of {self.function}: {error}") from None

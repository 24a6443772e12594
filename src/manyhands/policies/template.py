"""Templates of output paths: ``"results/{image.stem}_objects.csv"``.

A field names a parameter of the function, then public attributes or items of it. The path is relative to the
caller's directory, or absolute; whatever the arguments are, it stays below the directory that the template
names before its first field.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from string import Formatter
from typing import Any

from manyhands.calls import error_text, short_repr
from manyhands.errors import TemplateError
from manyhands.spelling import suggestion


class _PublicFormatter(Formatter):
    """``str.format`` that puts no method into a path; that its fields are public, ``Template`` has checked."""

    def get_field(self, field_name: str, args: Any, kwargs: Mapping[str, Any]) -> tuple[Any, str]:
        value, first = super().get_field(field_name, args, kwargs)
        if callable(value) and not isinstance(value, type):
            raise TypeError(f"{field_name!r} is a method, not a value")
        return value, str(first)


_formatter = _PublicFormatter()

_plain_path = re.compile(r"(?:(?!\.{1,2}(?:/|\Z))[^/\0]+(?:/|\Z))+(?<!/)\Z")
"""A relative path that names no directory twice, nor by a detour."""


@dataclass(frozen=True)
class Template:
    """A path with fields; ``text`` is checked when the object is made."""

    text: str

    def __post_init__(self) -> None:
        if not self.text.strip(f"/{os.sep}"):
            raise TemplateError(f"the template {self.text!r} names no file")
        if "\0" in self.text:
            raise TemplateError(f"the template {self.text!r} contains a NUL character")
        self.fields  # noqa: B018  # parsed now, so that a malformed template is told at decoration
        if ".." in Path(self._literal).parts:
            raise TemplateError(
                f"the template {self.text!r} must not contain '..': it can't leave its directory"
            )

    @property
    def is_directory(self) -> bool:
        """Whether it names a directory, by the slash at its end."""
        return self.text.endswith(("/", os.sep))

    @cached_property
    def _pieces(self) -> list[tuple[str, str | None, str | None, str | None]]:
        try:
            return list(_formatter.parse(self.text))
        except ValueError as error:
            raise TemplateError(f"the template {self.text!r} is malformed: {error}") from None

    @cached_property
    def _literal(self) -> str:
        return "".join(literal + ("x" if name is not None else "") for literal, name, *_ in self._pieces)

    @cached_property
    def fields(self) -> tuple[str, ...]:
        """The names of the parameters that the fields start with."""
        names = []
        for _, name, spec, _ in self._pieces:
            if name is None:
                continue
            first = name.partition(".")[0].partition("[")[0]
            if not first.isidentifier():
                raise TemplateError(
                    f"the template {self.text!r} has the field {{{name}}}; a field must start with a "
                    f"parameter's name (write {{{{ and }}}} for plain braces)"
                )
            if spec and "{" in spec:
                raise TemplateError(f"the template {self.text!r} has a field within the field {{{name}}}")
            if any(part.startswith("_") for part in name.replace("[", ".").split(".")):
                raise TemplateError(f"the template {self.text!r} has the field {{{name}}}, which is not public")
            names.append(first)
        return tuple(names)

    @cached_property
    def base(self) -> str:
        """The directory that the template names before its first field; may be empty."""
        before = ""
        for literal, name, *_ in self._pieces:  # an escaped brace ends a piece, too
            before += literal
            if name is not None:
                break
        return before[: before.rfind("/") + 1]

    def fits(self, names: frozenset[str], what: str) -> None:
        """Raises TemplateError if a field starts with no name of ``names``; ``what`` is for the message."""
        unknown = [name for name in self.fields if name not in names]
        if unknown:
            raise TemplateError(
                f"{what}: the template {self.text!r} has the field {{{unknown[0]}}}, but the function's "
                f"parameters are {', '.join(sorted(names)) or 'none'}{suggestion(unknown[0], names)}"
            )

    def fill(self, arguments: Mapping[str, Any], directory: Path) -> Path:
        """The absolute path for ``arguments``, from ``directory``; raises TemplateError if it leaves that."""
        return Path(self.fill_text(arguments, str(directory)))

    def fill_text(self, arguments: Mapping[str, Any], directory: str) -> str:
        """As ``fill``, from and to texts."""
        text = self._filled(arguments)
        inside = text[:-1] if self.is_directory else text
        if os.sep == "/" and _plain_path.match(inside[1:] if self._is_absolute else inside):
            return inside if self._is_absolute else f"{directory.rstrip('/')}/{inside}"
        return str(self._checked(text, Path(directory)))

    def filler(self, parameter: str, arguments: Mapping[str, Any], directory: str) -> Callable[[Any], str]:
        """``fill_text`` as a function of one argument, with all others given."""
        filled = dict(arguments)

        def fill(value: Any) -> str:
            filled[parameter] = value
            return self.fill_text(filled, directory)

        first, *more = self._pieces
        last = more[0][0] if more else ""
        only = (first[1:], [piece[1] for piece in more]) == ((parameter, "", None), [None] * bool(more))
        if not only or self.is_directory or not _plain_path.match(f"{first[0].removeprefix('/')}x{last}"):
            return fill
        start = first[0] if self._is_absolute else f"{directory.rstrip('/')}/{first[0]}"

        def fill_quickly(value: Any) -> str:
            if (
                type(value) is str
                and value.isascii()
                and value.strip(".")
                and "/" not in value
                and "\0" not in value
            ):
                return f"{start}{value}{last}"
            return fill(value)

        return fill_quickly if os.sep == "/" else fill

    @cached_property
    def _is_absolute(self) -> bool:
        return self._literal.startswith("/")

    def _filled(self, arguments: Mapping[str, Any]) -> str:
        parts = []
        try:
            for literal, name, spec, conversion in self._pieces:
                parts.append(literal)
                if name is None:
                    continue
                value = arguments.get(name)
                if type(value) is not str or spec or conversion:
                    value, _ = _formatter.get_field(name, (), arguments)
                    value = _formatter.format_field(_formatter.convert_field(value, conversion), spec or "")
                parts.append(value)
        except Exception as error:  # attributes and formats are the user's objects': anything may be raised
            listed = ", ".join(
                f"{name}={short_repr(arguments.get(name))}" for name in dict.fromkeys(self.fields)
            )
            raise TemplateError(
                f"the template {self.text!r} can't be filled from {listed}: "
                f"{type(error).__name__}: {error_text(error)}"
            ) from error
        text = "".join(parts)
        if not text.isascii():
            try:
                os.fsencode(text)
            except UnicodeEncodeError as error:
                raise TemplateError(
                    f"the template {self.text!r} gives {text!r}, which no file can be called: {error.reason}"
                ) from None
        return text

    def _checked(self, text: str, directory: Path) -> Path:
        base = directory / self.base
        path = directory / text
        inside = path.parts[len(base.parts) :]
        if "\0" in text or path.parts[: len(base.parts)] != base.parts or not inside or ".." in inside:
            raise TemplateError(
                f"the template {self.text!r} gives {text!r}, which is not a file below its "
                f"directory {str(base)!r}"
            )
        if self.is_directory:
            text = text[:-1]
        if text.rsplit("/", 1)[-1] in ("", "."):
            raise TemplateError(f"the template {self.text!r} gives {text!r}, which names no file")
        return path


def folded(path: str) -> str:
    """Paths that some filesystem may take for the same become the same."""
    return path.lower() if path.isascii() else unicodedata.normalize("NFC", path.casefold())

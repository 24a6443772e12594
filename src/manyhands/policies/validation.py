"""What ``@validated`` checks of a call's arguments and of its result: predicates, and where they run."""

from __future__ import annotations

import functools
import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Generator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, Literal

from manyhands.calls import add_note, short_repr
from manyhands.errors import InvalidArguments, InvalidResult
from manyhands.policies.parameters import Parameters, innermost, name_of, signature_of
from manyhands.spelling import suggestion

if TYPE_CHECKING:
    from manyhands.policies.star import StarRule

Invalid = Literal["discard", "raise"]
Place = Literal["parent", "worker"]

_ARGUMENTS: Final = "@validated(arguments=…)"
_RESULT: Final = "@validated(result=…)"


class Refused(Exception):
    """Carries the error of what a check did not keep, past whatever else a check, or the function, may raise.

    It never reaches the user.
    """

    def __init__(self, error: InvalidArguments | InvalidResult) -> None:
        super().__init__(error)
        self.error = error


@dataclass(frozen=True, slots=True)
class Check(ABC):
    """A predicate of one value, and what it means that it does not say True."""

    predicate: Callable[[Any], Any]

    def __call__(self, value: Any) -> None:
        """Raises Refused if the predicate does not keep ``value``; what it raises gets a note."""
        try:
            answer = self.predicate(value)
        except Exception as error:
            self.explain(error)
            raise
        if answer is not True:
            self.judge(value, answer)

    @abstractmethod
    def judge(self, value: Any, answer: Any) -> None:
        """Raises Refused, unless the answer is as good as True; TypeError if it is neither true nor false."""

    @abstractmethod
    def explain(self, error: Exception) -> None:
        """Says in a note of what the predicate raised where that was."""


@dataclass(frozen=True, slots=True)
class ResultCheck(Check):
    """The predicate for results."""

    def judge(self, value: Any, answer: Any) -> None:
        """As every check."""
        if not _is_true(answer, self.predicate, _RESULT):
            raise Refused(InvalidResult(f"invalid result: {short_repr(value)}"))

    def explain(self, error: Exception) -> None:
        """As every check."""
        _say_where(error, self.predicate, _RESULT)


@dataclass(frozen=True, slots=True)
class ItemCheck(Check):
    """The predicate for arguments, asked of an item of a map.

    Attributes:
        validation: whose short form the predicate is.
        arguments: those of an item's call, by name.
    """

    validation: Validation
    arguments: Callable[[Any], Mapping[str, Any]]

    def judge(self, value: Any, answer: Any) -> None:
        """As every check."""
        self.validation.judge_arguments(answer, lambda: self.arguments(value))

    def explain(self, error: Exception) -> None:
        """As every check."""
        self.validation.explain_arguments(error)


@dataclass(frozen=True)
class Validation:
    """One ``@validated``.

    Attributes:
        arguments: gets those of the call's arguments that it names; True keeps the item. None: not checked.
        result: gets the value, or the path of the output where the body writes one. None: not checked.
        invalid: what becomes of an item that was not kept.
        annotations: whether arguments and values are checked, and converted, by the function's annotations first.
        arguments_in: where arguments are checked.
        result_in: where results are checked.
    """

    arguments: Callable[..., bool] | None = None
    result: Callable[[Any], bool] | None = None
    invalid: Invalid = "discard"
    annotations: bool = False
    arguments_in: Place = "parent"
    result_in: Place = "worker"

    def text(self) -> str:
        """As it is written, but for what is as by default: ``validated(result=is_small, invalid='raise')``."""
        parts = [
            f"{name}={name_of(each)}"
            for name, each in (("arguments", self.arguments), ("result", self.result))
            if each is not None
        ]
        parts += ["annotations=True"] * (self.annotations and bool(parts))
        for name, default in (("invalid", "discard"), ("arguments_in", "parent"), ("result_in", "worker")):
            parts += [f"{name}={getattr(self, name)!r}"] * (getattr(self, name) != default)
        return f"validated({', '.join(parts)})"

    def fits(self, parameters: Parameters, function: str) -> None:
        """Raises TypeError if ``function`` does not have what is to be checked."""
        if self.annotations:
            _check_annotated(parameters, function, alone=self.arguments is None and self.result is None)
        if self.arguments is None:
            return
        wanted, takes_all = self._wanted
        if parameters.signature is None and (wanted or takes_all):
            raise TypeError(
                f"@validated: {function} does not tell its parameters, so its arguments can't be checked"
            )
        unknown = [name for name in wanted if name not in parameters.names]
        if unknown:
            raise TypeError(
                f"{_ARGUMENTS} of {function}: the predicate asks for {', '.join(unknown)}, but the "
                f"function's parameters are {', '.join(sorted(parameters.names)) or 'none'}"
                f"{suggestion(unknown[0], parameters.names)}"
            )

    def checks_arguments(self, place: Place) -> bool:
        """Whether arguments are checked there."""
        return self.arguments_in == place and (self.annotations or self.arguments is not None)

    def checks_result(self, place: Place) -> bool:
        """Whether results are checked there."""
        return self.result_in == place and (self.annotations or self.result is not None)

    def check_arguments(self, arguments: Mapping[str, Any]) -> None:
        """Raises Refused if the predicate does not keep them; what it raises itself gets a note."""
        if self.arguments is None:
            return
        answer: Any
        try:
            answer = self.arguments(**self._chosen(arguments))
        except Exception as error:
            answer = Raised(error)
        if answer is not True:
            self.judge_arguments(answer, lambda: arguments)

    def check_result(self, value: Any) -> None:
        """Raises Refused if the predicate does not keep ``value``; what it raises gets a note."""
        if self.result is not None:
            ResultCheck(self.result)(value)

    def judge_arguments(self, answer: Any, arguments: Callable[[], Mapping[str, Any]]) -> None:
        """Raises, unless that answer of the predicate for arguments is as good as True.

        Args:
            answer: what it said, or ``Raised``.
            arguments: gives those it was about, by name.

        Raises:
            Refused: it is a no.
            TypeError: it is neither true nor false.
            Exception: what the predicate raised, with a note.
        """
        assert self.arguments is not None
        if isinstance(answer, Raised):
            self.explain_arguments(answer.error)
            raise answer.error
        if not _is_true(answer, self.arguments, _ARGUMENTS):
            raise self._refused(arguments())

    def explain_arguments(self, error: Exception) -> None:
        """Says in a note of what the predicate for arguments raised where that was."""
        assert self.arguments is not None
        _say_where(error, self.arguments, _ARGUMENTS)

    def item_check(
        self, rule: StarRule, parameters: Parameters, prefix: tuple[Any, ...] = ()
    ) -> Callable[[Any], Any] | None:
        """A short form of ``check_arguments``, for maps whose items are each the first argument.

        Args:
            rule: of the map.
            parameters: those of the function.
            prefix: what comes before the item: the instance that a method is bound to.

        Returns:
            What the predicate answers for the call of an item; ``check_arguments`` would ask it the same. If it raises,
            or answers anything but True, ``judge_arguments`` says what that means.
            None: there is no short form, or no predicate for arguments, or annotations come before it.
        """
        predicate, signature = self.arguments, parameters.signature
        if predicate is None or self.annotations or signature is None:
            return None
        if rule.star is not False or rule.kwstar:
            return None
        item = object()
        try:
            bound = signature.bind(*prefix, item, *rule.args, **rule.kwargs)
        except TypeError:
            return None  # which each item is told by itself
        bound.apply_defaults()
        places = [name for name, value in bound.arguments.items() if value is item]
        if len(places) != 1:
            return None  # it is among those of ``*args``
        chosen = self._chosen(bound.arguments)
        if chosen.pop(places[0], None) is not item:
            return lambda _: predicate(**chosen)
        if places[0] == _first_of(predicate):
            return functools.partial(predicate, **chosen) if chosen else predicate
        return lambda item: predicate(**chosen, **{places[0]: item})

    @cached_property
    def _wanted(self) -> tuple[list[str], bool]:
        """The parameter names of the predicate for arguments, and whether it takes any keyword."""
        assert self.arguments is not None
        return _wanted(self.arguments)

    def _refused(self, arguments: Mapping[str, Any]) -> Refused:
        listed = ", ".join(f"{name}={short_repr(value)}" for name, value in self._chosen(arguments).items())
        return Refused(InvalidArguments(f"invalid arguments: {listed}"))

    def _chosen(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        wanted, takes_all = self._wanted
        if takes_all:
            return dict(arguments)
        return {name: arguments[name] for name in wanted if name in arguments}


def check_predicate(predicate: Any, name: str) -> None:
    """Raises TypeError if this can't be the predicate of that name."""
    if not callable(predicate):
        raise TypeError(f"@validated: {name} must be a function, not {short_repr(predicate)}")
    inner = innermost(predicate)
    if (
        inspect.iscoroutinefunction(inner)
        or inspect.isasyncgenfunction(inner)
        or inspect.isgeneratorfunction(inner)
    ):
        raise TypeError(
            f"@validated({name}=…): {name_of(predicate)} is an async or a generator function, "
            f"but a predicate returns True or False"
        )


def _is_true(answer: Any, predicate: Callable[..., Any], which: str) -> bool:
    """Whether an answer is; raises TypeError for one that is neither true nor false."""
    if answer is False:
        return False
    why: Exception | None = None
    if isinstance(answer, Coroutine | Generator):
        answer.close()  # or Python complains that nobody awaited it
    else:
        try:
            return bool(answer)
        except Exception as error:  # an array's, say
            why = error
    raise TypeError(
        f"the predicate {name_of(predicate)} of {which} returned {short_repr(answer)}, "
        f"which is neither true nor false"
    ) from why


def _say_where(error: Exception, predicate: Callable[..., Any], which: str) -> None:
    add_note(error, f"raised by the predicate {name_of(predicate)} of {which}")


def _check_annotated(parameters: Parameters, function: str, alone: bool) -> None:
    signature = parameters.signature
    if signature is None:
        raise TypeError(
            f"@validated: {function} does not tell its parameters, so its annotations can't be checked"
        )
    found = [parameter.annotation for parameter in signature.parameters.values()]
    if all(annotation is inspect.Signature.empty for annotation in [*found, signature.return_annotation]):
        instead = "; name a predicate: arguments=… or result=…" if alone else ""
        raise TypeError(f"@validated: {function} has no annotations that could be checked{instead}")


def _first_of(predicate: Callable[..., Any]) -> str | None:
    """The name of a predicate's first parameter, if that can be given by its position."""
    signature = signature_of(predicate)
    for parameter in signature.parameters.values() if signature is not None else ():
        return parameter.name if parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD else None
    return None


def _wanted(predicate: Callable[..., bool]) -> tuple[list[str], bool]:
    """The parameter names of a predicate, and whether it takes any keyword."""
    signature = signature_of(predicate)
    if signature is None:
        raise TypeError(f"{_ARGUMENTS}: {name_of(predicate)} does not tell its parameters; wrap it in a lambda")
    parameters = signature.parameters.values()
    for parameter in parameters:
        if parameter.kind is inspect.Parameter.POSITIONAL_ONLY and parameter.default is inspect.Parameter.empty:
            raise TypeError(
                f"{_ARGUMENTS}: {name_of(predicate)} takes {parameter.name!r} by its position only, "
                f"but arguments are given by name"
            )
    takes_all = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters)
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return [parameter.name for parameter in parameters if parameter.kind in named], takes_all


def checked(
    step: Callable[[Any], Any], before: Check | None = None, after: Check | None = None
) -> Callable[[Any], Any]:
    """``step``, of whose items the one check is asked before, and of whose values the other is asked after."""
    if before is None and after is None:
        return step

    def call(item: Any) -> Any:
        if before is not None:
            before(item)
        value = step(item)
        if after is not None:
            after(value)
        return value

    return call


@dataclass(frozen=True, slots=True)
class Raised:
    """In place of what a predicate says: it raised this."""

    error: Exception


def answers(check: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
    """What a predicate says of each of these items, or ``Raised``; it is asked once."""
    told: list[Any] = []
    source = iter(items)
    while len(told) < len(items):
        try:
            told.extend(map(check, source))
        except Exception as error:  # of the next one, and those before it are told already
            told.append(Raised(error))
    return told

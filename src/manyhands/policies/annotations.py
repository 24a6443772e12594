"""A function's annotations, checked by pydantic: what bare ``@validated`` does.

Arguments and values are converted as pydantic converts them. Its compiled validators stay in the process that made
them, from the annotations, when they were first needed; and so do its errors, of which text and plain data travel.
"""

from __future__ import annotations

import inspect
import sys
import types
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final, TypeVar, get_type_hints

from manyhands.calls import Call, add_note, short_repr
from manyhands.errors import InvalidArguments, InvalidResult
from manyhands.policies.parameters import Parameters, innermost, name_of
from manyhands.policies.validation import Refused

if TYPE_CHECKING:
    from pydantic import ValidationError

E = TypeVar("E", InvalidArguments, InvalidResult)

MOST_ERRORS: Final = 20
"""So many of pydantic's errors are told, of what may be a long list of wrong values."""

_POSITIONAL: Final = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_EMPTY: Final = inspect.Parameter.empty

_MISSING: Final = (
    "@validated checks annotations with pydantic, 2.6 or later; install it with "
    "pip install 'manyhands[pydantic]'"
)


def check_installed() -> None:
    """Raises ImportError if pydantic is not installed; does not import it, which takes a while."""
    import importlib.util

    if "pydantic" not in sys.modules and importlib.util.find_spec("pydantic") is None:
        raise ImportError(_MISSING, name="pydantic")


class Annotations:
    """Those of one function.

    Args:
        body: the function.
        parameters: its public parameters, which are known.
        hints: what its annotations were in another process; None: they are to be evaluated here.
    """

    def __init__(
        self, body: Callable[..., Any], parameters: Parameters, hints: dict[str, Any] | None = None
    ) -> None:
        assert parameters.signature is not None
        self._body = body
        self._signature = parameters.signature
        self._hints = hints
        self._checkers: dict[int, Callable[..., tuple[tuple[Any, ...], dict[str, Any]]] | None] = {}
        self._result: Callable[[Any], Any] | None = None
        self._has_result = False
        self._error: type[ValidationError]  # known when something was compiled

    def compile(self, bound: int = 0) -> None:
        """Makes what checks them.

        Args:
            bound: as in ``checked``.

        Raises:
            ImportError: there is no pydantic, or an old one.
            TypeError: an annotation can't be resolved, or is nothing that pydantic can check.
        """
        if bound not in self._checkers:
            self._checkers[bound] = self._arguments_checker(bound)
        self._compile_result()

    def _compile_result(self) -> None:
        if not self._has_result:
            self._result = self._result_checker()
            self._has_result = True

    def checked(self, call: Call, bound: int = 0) -> Call:
        """The call with what pydantic makes of its arguments.

        Args:
            call: what is in it besides stays as it is.
            bound: so many first parameters are not the call's: 1 for the ``self`` of a bound method.

        Raises:
            Refused: they are not what the annotations say, or don't fit the parameters.
            Exception: what a validator of the user's raised, if it is no ValueError.
        """
        if bound not in self._checkers:
            self.compile(bound)
        check = self._checkers[bound]
        if check is None:
            return call
        try:
            args, kwargs = check(*call.args, **call.kwargs)
            args = tuple(map(_listed, args, call.args + args[len(call.args) :]))
            if kwargs:
                kwargs = {name: _listed(value, call.kwargs.get(name)) for name, value in kwargs.items()}
                kwargs = self._without_defaults(kwargs, call.kwargs)
        except self._error as error:
            raise Refused(_told(InvalidArguments, "arguments", error, self._places(bound))) from None
        except Exception as error:
            self._say_where(error)
            raise
        return Call(args, kwargs, call.memo)

    def checked_result(self, value: Any) -> Any:
        """What pydantic makes of a value; raises as ``checked``."""
        self._compile_result()
        check = self._result
        if check is None:
            return value
        try:
            return _listed(check(value), value)
        except self._error as error:
            raise Refused(_told(InvalidResult, "result", error, lambda key: (key,))) from None
        except Exception as error:
            self._say_where(error)
            raise

    @property
    def hints(self) -> dict[str, Any]:
        """The annotations by name, those that were written as text evaluated; raises TypeError.

        What they name may be known only where the function was made: where that travels by value, so do these.
        """
        if self._hints is None:
            self._hints = self._evaluated()
        return self._hints

    # -- inside -----------------------------------------------------------------------------------------------

    def _evaluated(self) -> dict[str, Any]:
        inner = inspect.unwrap(innermost(self._body))
        module = sys.modules.get(getattr(inner, "__module__", None) or "")
        names = getattr(inner, "__globals__", None) or getattr(module, "__dict__", {})
        local = {parameter.__name__: parameter for parameter in getattr(inner, "__type_params__", ())}
        if isinstance(inner, types.FunctionType):
            for name, cell in zip(inner.__code__.co_freevars, inner.__closure__ or (), strict=False):
                try:
                    local[name] = cell.cell_contents
                except ValueError:  # it is bound later
                    pass
        holder: Any = _nothing()
        holder.__annotations__ = {
            name: parameter.annotation
            for name, parameter in self._signature.parameters.items()
            if parameter.annotation is not _EMPTY
        }
        if self._signature.return_annotation is not inspect.Signature.empty:
            holder.__annotations__["return"] = self._signature.return_annotation
        try:
            return get_type_hints(holder, names, local, include_extras=True)
        except Exception as error:  # what is written there may be anything
            raise TypeError(
                f"@validated: the annotations of {name_of(self._body)} can't be evaluated: {error}; they are looked "
                f"up in its module, as it is when the program runs"
            ) from error

    def _arguments_checker(self, bound: int) -> Callable[..., tuple[tuple[Any, ...], dict[str, Any]]] | None:
        hints = self.hints
        taken = self._parameters(bound)
        if all(parameter.name not in hints for parameter in taken):
            return None

        def given(*args: Any, **kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
            return args, kwargs

        parameters = [parameter.replace(annotation=hints.get(parameter.name, _EMPTY)) for parameter in taken]
        given.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        given.__annotations__ = {
            parameter.name: hints[parameter.name] for parameter in taken if parameter.name in hints
        }
        return self._compiled(given, result=False)

    def _result_checker(self) -> Callable[[Any], Any] | None:
        hints = self.hints
        if "return" not in hints or hints["return"] is Any:
            return None

        def returned(value: Any) -> Any:
            return value

        returned.__annotations__ = {"return": hints["return"]}
        return self._compiled(returned, result=True)

    def _compiled(self, function: Callable[..., Any], result: bool) -> Callable[..., Any]:
        """A stand-in for the body, called through pydantic."""
        try:
            from pydantic import ConfigDict, ValidationError, validate_call
        except ImportError as error:
            raise ImportError(_MISSING, name="pydantic") from error
        self._error = ValidationError
        function.__name__ = function.__qualname__ = name_of(self._body)
        function.__module__ = getattr(self._body, "__module__", None) or __name__
        try:
            # Arrays and the like are known by their classes alone.
            return validate_call(config=ConfigDict(arbitrary_types_allowed=True), validate_return=result)(
                function
            )
        except Exception as error:
            raise TypeError(
                f"@validated: the annotations of {name_of(self._body)} can't be checked by pydantic: {error}"
            ) from error

    def _parameters(self, bound: int) -> list[inspect.Parameter]:
        parameters = list(self._signature.parameters.values())
        while bound and parameters and parameters[0].kind in _POSITIONAL:
            parameters.pop(0)
            bound -= 1
        return parameters

    def _places(self, bound: int) -> Callable[[str | int], tuple[str | int, ...]]:
        """What tells an argument: of one that was given by its position, its parameter's name."""
        parameters = self._parameters(bound)
        names = [parameter.name for parameter in parameters if parameter.kind in _POSITIONAL]
        rest = [
            parameter.name for parameter in parameters if parameter.kind is inspect.Parameter.VAR_POSITIONAL
        ]

        def place(key: str | int) -> tuple[str | int, ...]:
            if isinstance(key, str):
                return (key,)
            return (names[key],) if key < len(names) else (*rest, key - len(names))

        return place

    def _without_defaults(self, kwargs: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
        """Defaults that pydantic has filled in are the body's own: they need not travel."""
        parameters = self._signature.parameters
        return {
            name: value
            for name, value in kwargs.items()
            if name in given or name not in parameters or value is not parameters[name].default
        }

    def _say_where(self, error: Exception) -> None:
        add_note(error, f"raised as @validated checked the annotations of {name_of(self._body)}")


def _nothing() -> Callable[[], None]:
    def nothing() -> None:
        pass

    return nothing


def _listed(value: Any, given: Any) -> Any:
    """What pydantic would check as it is iterated over, checked now: else it could not be sent.

    What was given as an iterator stays one, since it may have no end.
    """
    if type(value).__name__ == "ValidatorIterator" and not isinstance(given, Iterator):
        return list(value)
    return value


def _told(
    kind: type[E], what: str, error: ValidationError, place: Callable[[str | int], tuple[str | int, ...]]
) -> E:
    """What pydantic found, as an error of ours: its messages, with the names of parameters, and plain data."""
    count = error.error_count()
    lines = [f"invalid {what}: {count} validation error{'s' * (count > 1)} for {error.title}"]
    plain: list[dict[str, Any]] = []
    for one in error.errors(include_url=False)[:MOST_ERRORS]:
        loc: tuple[str | int, ...] = one["loc"]
        loc = (*place(loc[0]), *loc[1:]) if loc else ()
        plain.append({"type": one["type"], "loc": loc, "msg": one["msg"]})
        if loc:
            lines.append(".".join(map(str, loc)))
        given = f"input_value={short_repr(one['input'])}, input_type={type(one['input']).__name__}"
        lines.append(f"  {one['msg']} [type={one['type']}, {given}]")
    if count > len(plain):
        lines.append(f"… and {count - len(plain)} more")
    told = kind("\n".join(lines))
    told.errors = tuple(plain)
    return told

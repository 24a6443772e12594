"""Context variables (``contextvars``) on their way to workers: calls see what they are set to where a map begins.

A variable that an importable module holds is the same one in a worker that has imported that module. One of a script,
a notebook or a function travels with the functions that use it. What can't be pickled stays behind, as do variables
that no module holds: a worker can't find those.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextvars import Context, ContextVar, copy_context
from importlib import import_module
from types import ModuleType
from typing import Any, Final, NamedTuple

from manyhands.calls import Answer, Failed

SCRIPTS: Final = ("__main__", "__mp_main__")
"""Modules that workers don't import."""


Places = tuple[tuple[str, str], ...]
"""Modules that hold a variable, each with its name there."""


class Setting(NamedTuple):
    """What one variable is set to.

    Attributes:
        places: where it is.
        key: which of those that have travelled it is; "": none.
        value: pickled.
    """

    places: Places
    key: str
    value: bytes


def captured() -> tuple[Setting, ...]:
    """What the variables of this context are set to, as far as it can be sent."""
    context = copy_context()
    return tuple(_settings(context)) if len(context) else ()


def _settings(context: Context) -> list[Setting]:
    from manyhands.workers.payload import dumps

    found = []
    for variable, value in context.items():
        places, key = _places_of(variable), _keys.get(variable, "")
        if places or key:
            try:
                found.append(Setting(places, key, dumps(value)))
            except Exception:  # noqa: S112  # it has no meaning in another process
                continue
    return found


def reduced(variable: ContextVar[Any]) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """How a variable is pickled that a function uses."""
    places = _places_of(variable)
    if places:
        return _found, (places,)
    key = _keys.setdefault(variable, os.urandom(8).hex())
    default: tuple[Any, ...] = ()
    try:
        default = (Context().run(variable.get),)
    except LookupError:
        pass
    return _travelled, (key, variable.name, default)


_places: dict[ContextVar[Any], Places] = {}
_keys: dict[ContextVar[Any], str] = {}
_arrived: dict[str, ContextVar[Any]] = {}


def _places_of(variable: ContextVar[Any]) -> Places:
    if variable not in _places:
        _places[variable] = tuple(_search(variable))
    return _places[variable]


def _search(variable: ContextVar[Any]) -> Iterator[tuple[str, str]]:
    for module_name, module in list(sys.modules.items()):
        if module_name not in SCRIPTS and isinstance(module, ModuleType):
            for name, value in list(vars(module).items()):
                if value is variable:
                    yield module_name, name


def _loaded(places: Places) -> ContextVar[Any] | None:
    """The variable, if one of the modules is there."""
    for module, name in places:
        found = getattr(sys.modules.get(module), name, None)
        if isinstance(found, ContextVar):
            return found
    return None


def _found(places: Places) -> Any:
    # Who imports a name comes before the module that it is from.
    return _loaded(places) or getattr(import_module(places[-1][0]), places[-1][1])


def _travelled(key: str, name: str, default: tuple[Any, ...]) -> ContextVar[Any]:
    if key not in _arrived:
        # A worker has one of each, as its parent has: they are few, and stay for good.
        _arrived[key] = ContextVar(name, default=default[0]) if default else ContextVar(name)
    return _arrived[key]


class InContext:
    """A work whose calls run in a context: each in a copy of its own.

    Args:
        work: the work.
        settings: what was captured, for others than the process that it was captured in.
        context: the context, where it is at hand.
    """

    unchecked: Final = None

    def __init__(self, work: Any, settings: tuple[Setting, ...] = (), context: Context | None = None) -> None:
        self._work = work
        self._settings = settings
        self._context = context or Context()
        self.plain = None if work.plain is None else self._plain

    def __reduce__(self) -> Any:
        return _restored, (self._work, self._settings)

    def _plain(self, item: Any) -> Any:
        return self._context.copy().run(self._work.plain, item)

    def __call__(self, call: Any) -> Answer:
        """One attempt."""
        answer: Answer = self._context.copy().run(self._work, call)
        return answer

    def failed(self, error: Exception) -> Failed:
        """What was raised, as an answer."""
        failed: Failed = self._work.failed(error)
        return failed

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self._work, name)


def within_context(work: Any) -> Any:
    """The work, for other threads of this process: with the context that this is called in."""
    context = copy_context()
    return InContext(work, context=context) if len(context) else work


def _restored(work: Any, settings: tuple[Setting, ...]) -> Any:
    """In a worker, which has loaded what the work needs: the work, with those variables set that it may look at."""
    context = _context_of(settings)
    return InContext(work, settings, context) if len(context) else work


def carrying(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, for workers: its calls see what the variables of this context are set to."""
    context = copy_context()
    return _Carrying(function, context) if len(context) else function


class _Carrying:
    """A function on its way to workers."""

    def __init__(self, function: Callable[..., Any], context: Context) -> None:
        self._function = function
        self._context = context

    def __reduce__(self) -> Any:
        return _carried, (self._function, _Settings(self._context))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Not used: it is called where it arrives."""
        raise AssertionError("it was not sent")


class _Settings:
    """Those of a context, once the function is pickled: which variables travel with it is not known before."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def __reduce__(self) -> Any:
        return tuple, (_settings(self._context),)


def _carried(function: Callable[..., Any], settings: tuple[Setting, ...]) -> Callable[..., Any]:
    """In a worker, which has loaded the function."""
    context = _context_of(settings)

    def in_context(*args: Any, **kwargs: Any) -> Any:
        return context.copy().run(function, *args, **kwargs)

    return in_context if len(context) else function


def _context_of(settings: tuple[Setting, ...]) -> Context:
    from manyhands.workers.payload import loads

    context = Context()
    for places, key, value in settings:
        variable = _arrived.get(key) or _loaded(places)
        if variable is not None:
            try:
                context.run(variable.set, loads(value))
            except Exception:  # noqa: S112  # as if it could not be sent
                continue
    return context

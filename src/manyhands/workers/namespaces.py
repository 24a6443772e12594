"""The global names of a script in its workers.

Functions of a script or a notebook travel by value, with the globals that they use. In a worker all of them live in
one namespace, so that one finds what another has set: an initializer, say. A name that code in the worker has bound
anew stays as it is; any other is what it is in the parent, each time a function that uses it arrives.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from types import FunctionType
from typing import Any, Final

_SCRIPTS: Final = ("__main__", "__mp_main__")
_ATTRIBUTES: Final = ("__name__", "__package__", "__path__", "__file__")

_shared: dict[str, dict[str, Any]] | None = None
_brought: dict[str, dict[str, Any]] = {}


class Globals(dict[str, Any]):
    """Stands for the namespace of a script while a function of it is pickled."""

    def __init__(self, name: str, namespace: dict[str, Any]) -> None:
        super().__init__({key: namespace[key] for key in _ATTRIBUTES if key in namespace})
        self.name = name


def share() -> None:
    """This process is a worker: from now on functions of one script share their globals here."""
    global _shared
    _shared = {}


def stand_ins() -> Iterator[tuple[int, Globals]]:
    """What stands for each namespace that functions may be of, with its ``id``."""
    for name in _SCRIPTS:
        module = sys.modules.get(name)
        if module is not None:
            yield id(module.__dict__), Globals(name, module.__dict__)
    for name, namespace in (_shared or {}).items():
        yield id(namespace), Globals(name, namespace)


def reduced(stand_in: Globals) -> tuple[Any, ...]:
    """How it is pickled."""
    return _namespace, (stand_in.name, dict(stand_in))


def _namespace(name: str, attributes: dict[str, Any]) -> dict[str, Any]:
    if _shared is None:
        return attributes  # whoever gets a function back keeps its own names to itself
    return _shared.setdefault(name, attributes)


def sharing(setter: Callable[..., Any]) -> Callable[..., Any]:
    """Given what sets the state of a function with its globals, one that leaves alone what was bound here."""
    return _Merge(setter)


class _Merge:
    def __init__(self, setter: Callable[..., Any]) -> None:
        self._setter = setter

    def __reduce__(self) -> tuple[Any, ...]:
        return _Merge, (self._setter,)

    def __call__(self, function: FunctionType, state: tuple[dict[str, Any], dict[str, Any]]) -> Any:
        namespace = function.__globals__
        name = str(namespace.get("__name__"))
        if _shared is not None and _shared.get(name) is namespace:
            brought = _brought.setdefault(name, {})
            state[1]["__globals__"] = new = {
                key: value
                for key, value in state[1]["__globals__"].items()
                if key not in namespace or (key in brought and namespace[key] is brought[key])
            }
            brought.update(new)
        return self._setter(function, state)

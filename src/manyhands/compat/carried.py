"""Functions on their way to workers: with fixed arguments, and those that can't be pickled at all."""

from __future__ import annotations

import itertools
import multiprocessing
import weakref
from collections.abc import Callable, Mapping
from typing import Any

from manyhands.policies.parameters import name_of

_forking = False


class Bound:
    """A function with fixed arguments after those of the call, and keywords that the call's own win over.

    They travel with the function, once to a worker; as arguments of a map they would with every item.
    """

    def __init__(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        self.__qualname__ = name_of(function)  # for messages
        self._whole = (function, args, kwargs)

    def __call__(self, *values: Any, **own: Any) -> Any:
        """Calls the function with all of them."""
        function, args, kwargs = self._whole
        return function(*values, *args, **{**kwargs, **own})


class Inherited:
    """A function that is not pickled: workers that are forked while it lives have it in their own memory."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.__qualname__ = name_of(function)
        self._function = function
        self._number = next(_numbers)
        _living[self._number] = self

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Calls the function."""
        return self._function(*args, **kwargs)

    def __reduce__(self) -> tuple[Any, ...]:
        return _find, (self._number,)


_numbers = itertools.count()
_living: weakref.WeakValueDictionary[int, Inherited] = weakref.WeakValueDictionary()


def _find(number: int) -> Inherited:
    return _living[number]


def forks_always() -> bool:
    """Whether ``fork_always`` was called: workers are to have the program's memory as it is."""
    return _forking


def fork_always() -> None:
    """Makes "fork" the start method, of multiprocessing and of all maps of these faces from now on.

    Raises:
        RuntimeError: multiprocessing has another start method already.
    """
    global _forking
    if multiprocessing.get_start_method(allow_none=True) != "fork":
        try:
            multiprocessing.set_start_method("fork")
        except RuntimeError as error:
            raise RuntimeError(
                "set_start_method comes too late: multiprocessing has another start method already"
            ) from error
    _forking = True

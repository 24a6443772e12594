"""How an item of a map becomes the arguments of a call: the six star rules.

=========  ========  =================  =============================================
star       kwstar    an item is         the call
=========  ========  =================  =============================================
False      False     val                ``f(val, *args, **kwargs)``
True       False     vals               ``f(*vals, *args, **kwargs)``
None       False     ignored            ``f(*args, **kwargs)``
None       True      kwvals             ``f(*args, **{**kwargs, **kwvals})``
False      True      (val, kwvals)      ``f(val, *args, **{**kwargs, **kwvals})``
True       True      (vals, kwvals)     ``f(*vals, *args, **{**kwargs, **kwvals})``
=========  ========  =================  =============================================
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any, Final, Self

from manyhands.calls import Call, short_repr
from manyhands.errors import ItemError
from manyhands.policies.parameters import name_of

_SMALL: Final = frozenset({int, float, complex, bool, type(None)})


class CallText:
    """Tells in messages what was called; holds no argument that might be large, only its type.

    Args:
        function: what is called; its name is held.
        args, kwargs: with what.
    """

    def __init__(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        self._name = name_of(function)
        self._args = tuple(map(_brief, args))
        self._kwargs = {name: _brief(value) for name, value in kwargs.items()} if kwargs else {}

    def __str__(self) -> str:
        """``f(3, key='x', image=<ndarray>)``."""
        parts = [*map(short_repr, self._args), *(f"{k}={short_repr(v)}" for k, v in self._kwargs.items())]
        return f"{self._name}({', '.join(parts)})"


class _Kind:
    """Stands for an argument that is not held."""

    def __init__(self, value: object) -> None:
        self._name = type(value).__qualname__

    def __repr__(self) -> str:
        return f"<{self._name}>"


def _brief(value: Any) -> Any:
    kind = type(value)
    if kind in _SMALL or (kind is str and len(value) <= 200) or isinstance(value, PurePath):
        return value
    return _Kind(value)


class _WholeCall(Call):
    """A call that was not shortened among others that were."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _WholeCall, tuple(self)


@dataclass(frozen=True)
class StarRule:
    """One of the six rules, with the fixed ``args`` and ``kwargs`` of a map."""

    star: bool | None = False
    kwstar: bool = False
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not (self.star is None or isinstance(self.star, bool)):
            raise TypeError(f"star must be True, False or None, not {short_repr(self.star)}")
        if not isinstance(self.kwstar, bool):
            raise TypeError(f"kwstar must be True or False, not {short_repr(self.kwstar)}")
        if isinstance(self.args, str | bytes) or not isinstance(self.args, Iterable):
            raise TypeError(f"args must be a tuple of positional arguments, not {short_repr(self.args)}")
        object.__setattr__(self, "args", tuple(self.args))
        object.__setattr__(self, "kwargs", checked_keywords(self.kwargs, "kwargs"))

    @property
    def trivial(self) -> bool:
        """Whether every item fits, so that there is nothing to check."""
        return not self.star and not self.kwstar

    def uses_up(self, item: Any) -> bool:
        """Whether making a call of the item consumes it, so that it can be made only once."""
        if self.kwstar and self.star is not None and isinstance(item, tuple | list) and item:
            item = item[0]
        return bool(self.star) and isinstance(item, Iterator)

    def call(self, index: int, item: Any) -> Call:
        """The call for ``item``; raises ItemError, naming item and rule, if it does not fit."""
        kwargs = self.kwargs
        values: Any
        if self.kwstar:
            if self.star is None:
                values, item_kwargs = (), item
            else:
                values, item_kwargs = self._pair(index, item)
            if not isinstance(item_kwargs, Mapping):
                raise self._misfit(index, item, "the keywords must be a mapping")
            for name in item_kwargs:
                if not isinstance(name, str):
                    raise self._misfit(index, item, f"the keyword {short_repr(name)} is not a str")
            kwargs = {**kwargs, **item_kwargs}
        elif self.star is None:
            values = ()
        else:
            values = item if self.star else (item,)
        if self.star:
            # A str would be taken apart into characters, which nobody means.
            if isinstance(values, str | bytes) or (iterator := _iterator(values)) is None:
                raise self._misfit(index, item, "the values must be a sequence of arguments")
            values = tuple(iterator)
        return Call((*values, *self.args), dict(kwargs))

    @classmethod
    def of_call(cls, call: Call) -> tuple[Any, Self]:
        """A call as an item: its only argument, its arguments, or those and its keywords; and the rule that fits."""
        if call.kwargs:
            return (call.args, call.kwargs), cls(star=True, kwstar=True)
        if len(call.args) == 1:
            return call.args[0], cls()
        return call.args, cls(star=True)

    @property
    def has_fixed(self) -> bool:
        """Whether all calls have arguments in common."""
        return bool(self.args or self.kwargs)

    def shortened(self, call: Call) -> Call:
        """The call without what all have in common; see ``completed``.

        One whose arguments were converted, so that it has others in their place, stays as it is.
        """
        own = len(call.args) - len(self.args)
        if any(value is not fixed for value, fixed in zip(call.args[own:], self.args, strict=False)):
            return _WholeCall(*call)
        kwargs = call.kwargs
        if self.kwargs:
            fixed = self.kwargs
            kwargs = {
                name: value for name, value in kwargs.items() if name not in fixed or value is not fixed[name]
            }
        return Call(call.args[:own], kwargs, call.memo)

    def completed(self, call: Call) -> Call:
        """A call that was shortened, whole again."""
        if type(call) is _WholeCall:
            return call
        return Call((*call.args, *self.args), {**self.kwargs, **call.kwargs}, call.memo)

    def _pair(self, index: int, item: Any) -> tuple[Any, Any]:
        if isinstance(item, tuple | list) and len(item) == 2:
            return ((item[0],) if self.star is False else item[0]), item[1]
        raise self._misfit(index, item, "it must be a tuple of two")

    def _misfit(self, index: int, item: Any, why: str) -> ItemError:
        expected = {
            (True, False): "vals, called as f(*vals)",
            (None, True): "kwvals, called as f(**kwvals)",
            (False, True): "(val, kwvals), called as f(val, **kwvals)",
            (True, True): "(vals, kwvals), called as f(*vals, **kwvals)",
        }[self.star, self.kwstar]
        return ItemError(
            f"item {index} ({short_repr(item)}) does not fit star={self.star}, kwstar={self.kwstar}: "
            f"an item must be {expected}; {why}"
        )


def _iterator(values: Any) -> Iterator[Any] | None:
    try:
        iterator: Iterator[Any] = iter(values)
    except TypeError:  # an array without dimensions has __iter__ and raises as well
        return None
    return iterator


def checked_keywords(kwargs: Any, name: str) -> dict[str, Any]:
    """``kwargs`` as a dict; raises TypeError if it is no mapping of str."""
    if kwargs is None:
        return {}
    if not isinstance(kwargs, Mapping) or not all(isinstance(key, str) for key in kwargs):
        raise TypeError(f"{name} must be a mapping of parameter names to values, not {short_repr(kwargs)}")
    return dict(kwargs)

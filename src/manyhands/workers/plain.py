"""The work of a function of which nothing is asked but to be called.

It stands in for the full order of meaning (see ``decorators/work.py``) where nothing is validated, claimed or retried:
so a worker for such a function starts without loading any of that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from manyhands.calls import Answer, Call, Done, Failed, traceback_text


class Plain:
    """Calls a function.

    Args:
        function: what is called.
        args, kwargs: what it gets beside each item, or beside what is in each call.
        star: whether items are taken apart; None: there are no items, only ``Call`` objects.

    Attributes:
        plain: called with an item, it returns what the function does; None: there are no items.
        unchecked: None: nothing looks at items or results.
    """

    unchecked: Final = None

    def __init__(
        self,
        function: Callable[..., Any],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
        star: bool | None = None,
    ) -> None:
        self._function = function
        self._args = args
        self._kwargs = kwargs or {}
        self._star = star
        self.plain = None if star is None else calling(function, args, self._kwargs, star)

    def __reduce__(self) -> tuple[Any, ...]:
        return Plain, (self._function, self._args, self._kwargs, self._star)

    def __call__(self, call: Call) -> Answer:
        """One attempt."""
        try:
            return Done(self._function(*call.args, *self._args, **{**self._kwargs, **call.kwargs}))
        except Exception as error:
            return self.failed(error)

    def failed(self, error: Exception) -> Failed:
        """What the function raised, as an answer."""
        return Failed(error, traceback_text(error))


def calling(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], star: bool
) -> Callable[[Any], Any]:
    """What to call with each item; ``args`` and ``kwargs`` are the same for all."""
    if star:
        return lambda item: function(*item, *args, **kwargs)
    return (lambda item: function(item, *args, **kwargs)) if args or kwargs else function

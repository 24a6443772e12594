"""The results of ``parmap``: an iterator that starts a map, keeps its errors apart and ends it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar, cast

from manyhands import Controller, Outcome, Results, parallel
from manyhands.compat.carried import Inherited, forks_always
from manyhands.compat.checks import OnException
from manyhands.policies.parameters import name_of

R = TypeVar("R")


class Values(Iterator[R]):
    """What ``parmap`` returns: an iterator of results. Nothing runs before the first is asked for.

    Closing it, or dropping it, ends the map; so does an error that it raises.

    Args:
        function: called for each item.
        items: not touched before the first result is asked for.
        exception: whether errors are returned; "proc" is the same as "raise".
        where: the options of a map that say where it runs.
        how: its other options.
    """

    def __init__(
        self,
        function: Callable[..., R],
        items: Iterable[Any],
        exception: OnException,
        where: dict[str, Any],
        how: dict[str, Any],
    ) -> None:
        self._function = function
        self._items = items
        self._exception = exception
        self._where = where
        self._how = how
        self._results: Results[Any] | None = None
        self._outcomes: Iterator[Outcome[R]] | None = None
        self._pool: Controller | None = None
        self._ended = False

    def __next__(self) -> R:
        while (outcome := self._next_outcome()) is not None:
            if outcome.ok:
                return outcome.value
            if outcome.failure is not None:
                return self._failed(outcome, outcome.failure.error)
        raise StopIteration

    def close(self) -> None:
        """Ends the map: what has not started never does. May be called more than once."""
        self._end(kill=True)

    def __repr__(self) -> str:
        state = "ended" if self._ended else "not started" if self._results is None else "running"
        return f"<Values of {name_of(self._function)}: {state}>"

    def _next_outcome(self) -> Outcome[R] | None:
        if self._ended:
            return None
        try:
            if self._outcomes is None:
                self._results = self._start()
                self._outcomes = self._results.outcomes()
            outcome = next(self._outcomes, None)
        except BaseException:
            self._end(kill=True)
            raise
        if outcome is None:
            self._end(kill=False)
        return outcome

    def _start(self) -> Results[Any]:
        here = "backend" in self._where
        if here or not forks_always():
            try:
                return parallel(self._function).map(self._items, **self._where, **self._how)
            except TypeError:  # it can't be pickled; or it is something that comes again below
                if here:
                    raise
        self._function = Inherited(self._function)  # held here, so that workers find it when they are forked
        self._pool = Controller(start_method="fork", **self._where)
        return parallel(self._function).map(self._items, backend=self._pool, **self._how)

    def _failed(self, outcome: Outcome[R], error: BaseException) -> R:
        try:
            error.seq_index = outcome.index  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
        except Exception:  # noqa: S110  # a frozen dataclass, say: the error matters, not its index
            pass
        if self._exception == "return" and outcome.attempts:  # without an attempt the item did not fit star
            return cast("R", error)
        self._end(kill=True)
        if isinstance(error, StopIteration):  # would end the loop as if there were no more results
            raise RuntimeError("the function raised StopIteration") from error  # noqa: TRY004
        raise error

    def _end(self, kill: bool) -> None:
        results, pool = self._results, self._pool
        self._ended, self._results, self._outcomes, self._pool = True, None, None, None
        try:
            if results is not None:
                results.close()
        finally:
            if pool is not None:
                pool.close(kill=kill)

"""The face of the library parmapper: ``import manyhands.compat.parmapper as parmapper`` and go on as before.

``parmap`` maps over processes and threads, ``ReturnProcess`` runs one function in the background, ``ParEval``
splits an array. What differs, and why, stands in docs/compat.md.
"""

from __future__ import annotations

import math
import os
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping, Sized
from typing import Any, Final, TypeVar

from manyhands.calls import short_repr
from manyhands.compat.carried import Bound, fork_always
from manyhands.compat.checks import OnException, a_function, is_parallel, on_exception, whole_number
from manyhands.compat.parmapper_process import ReturnProcess
from manyhands.compat.parmapper_values import Values
from manyhands.policies.star import StarRule
from manyhands.settings import available_cores

__all__ = ["CPU_COUNT", "ParEval", "ReturnProcess", "parmap", "parmapper", "set_start_method"]

R = TypeVar("R")

CPU_COUNT = available_cores()
"""What ``N=None`` stands for: the cores this process may use. A program may set another number here."""


class _Parmap:
    """The type of ``parmap``, which is also called as a pool's ``map`` and ``imap``."""

    def __call__(
        self,
        fun: Callable[..., R],
        seq: Iterable[Any],
        N: int | None = None,  # noqa: N803
        Nt: int = 1,  # noqa: N803
        chunksize: int = 1,
        ordered: bool = True,
        daemon: bool = True,
        progress: bool | str | None = False,
        total: int | None = None,
        args: Iterable[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        star: bool | None = False,
        kwstar: bool = False,
        exception: OnException | None = None,
    ) -> Values[R]:
        """Maps ``fun`` over ``seq`` in ``N`` processes of ``Nt`` threads each; lambdas and closures too.

        Args:
            fun: called for each item.
            seq: any iterable, finite or not; it is advanced in the thread that asks for results.
            N: worker processes; None: ``CPU_COUNT``. With ``N=1`` the calls run in this process: with ``Nt=1``
                one by one, each when its result is asked for.
            Nt: threads in each worker process; with ``N=1``, in this one.
            chunksize: items sent to a worker at once; -1: all items in one round, where their number is known.
            ordered: results in the order of the items, or as they finish.
            daemon: accepted and of no effect: workers never outlive this process, and tasks may map again.
            progress: True for a bar, a text for a bar with that label.
            total: the number of items, where ``len(seq)`` does not tell.
            args: fixed positional arguments, after those of the item.
            kwargs: fixed keyword arguments; the item's own win over them.
            star: True: an item is the positional arguments; False: it is the first one; None: it is none.
            kwstar: items are pairs whose second is a mapping of keywords; with ``star=None``, that alone.
            exception: "raise" the first error, which is the default; "return" errors in their items' places;
                "proc", which is here the same as "raise".

        Returns:
            Values: an iterator with ``close()``. Errors carry the item's index as ``seq_index``.

        Raises:
            TypeError, ValueError: an argument is of a wrong type or out of range; at once, not when iterated.
        """
        a_function("fun", fun)
        if not isinstance(seq, Iterable):
            raise TypeError(f"seq must be an iterable of items, not {short_repr(seq)}")
        exception = on_exception("raise" if exception is None else exception)
        processes = whole_number("N", CPU_COUNT if N is None else N)
        threads = whole_number("Nt", Nt)
        if total is not None:
            total = whole_number("total", total, least=0)
        elif isinstance(seq, Sized):
            total = len(seq)
        if not isinstance(progress, bool | str | None):
            raise TypeError(f"progress must be True, False or a text, not {progress!r}")
        rule = StarRule(None if star is None else bool(star), bool(kwstar), args, kwargs)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        where: dict[str, Any] = {"workers": processes, "threads": threads}
        if processes == 1:
            where["backend"] = "threads" if threads > 1 else "inline"
        how = {
            "star": rule.star,
            "kwstar": rule.kwstar,
            "total": total,
            "chunksize": _chunksize(chunksize, total, processes * threads),
            "ordered": bool(ordered),
            "progress": "parmap" if progress is True else progress or False,
            "on_error": "return",
        }
        return Values(_bound(fun, rule), seq, exception, where, how)

    map = imap = __call__

    def close(self, *args: Any, **kwargs: Any) -> None:
        """Does nothing: it is here because pools have it."""

    def __repr__(self) -> str:
        return "<parmap: maps a function over processes and threads>"


parmap: Final = _Parmap()
parmapper = parmap


def _bound(function: Callable[..., R], rule: StarRule) -> Callable[..., R]:
    if rule.args or rule.kwargs or is_parallel(function):  # whose options don't count here
        return Bound(function, rule.args, rule.kwargs)
    return function


def _chunksize(chunksize: int, total: int | None, hands: int) -> int:
    if chunksize != -1:
        return whole_number("chunksize", chunksize)
    if total is None:
        warnings.warn("chunksize=-1 needs the number of items: give total; 1 is used", stacklevel=3)
        return 1
    return max(1, math.ceil(total / hands))


# -- arrays ---------------------------------------------------------------------------------------------------


class ParEval:
    """``ParEval(fun)(X)``: ``fun(X)`` in parts of the array ``X`` along its first axis, in parallel.

    Args:
        fun: takes an array of any length and returns one of that length.
        n_chunks: number of parts; ``CPU_COUNT`` if neither this nor ``n_eval`` is given.
        n_eval: most rows of a part, instead of ``n_chunks``.
        n_min: fewest rows of a part; goes before both. There is always at least one part, and no empty one
            unless X is empty.
        keywords: those of ``parmap``; ``chunksize`` and ``ordered`` have no effect here.

    Raises:
        TypeError, ValueError: an argument is of a wrong type or out of range, or both ``n_chunks`` and
            ``n_eval`` are given.
    """

    def __init__(
        self,
        fun: Callable[..., Any],
        n_chunks: int | None = None,
        n_eval: int | None = None,
        n_min: int = 0,
        **keywords: Any,
    ) -> None:
        if n_chunks is not None and n_eval is not None:
            raise ValueError("n_chunks and n_eval can't both be given")
        keywords |= {"chunksize": 1, "ordered": True}
        parmap(fun, (), **keywords)  # says what is wrong with them, and starts nothing
        if keywords.get("exception") == "return":
            raise ValueError("exception can't be 'return' here: exceptions can't be joined to an array")
        self.fun = fun
        self.n_chunks = None if n_chunks is None else whole_number("n_chunks", n_chunks)
        self.n_eval = None if n_eval is None else whole_number("n_eval", n_eval)
        self.n_min = whole_number("n_min", n_min, least=0)
        self.keywords = keywords

    def __call__(self, X: Any) -> Any:  # noqa: N803
        """The array that ``fun(X)`` returns; raises what ``fun`` does."""
        import numpy as np

        rows = np.atleast_1d(X)
        parts = np.array_split(rows, self._parts(len(rows)))
        return _joined([len(part) for part in parts], parmap(self.fun, parts, **self.keywords))

    def _parts(self, rows: int) -> int:
        parts = self.n_chunks or CPU_COUNT
        if self.n_eval is not None:
            parts = math.ceil(rows / self.n_eval)
        if rows // max(parts, 1) < self.n_min:
            parts = rows // self.n_min
        return max(1, min(parts, rows))


def _joined(lengths: list[int], pieces: Iterable[Any]) -> Any:
    """The pieces as one array. Each goes to its place as it comes, if it has as many rows as its part."""
    import numpy as np

    result: Any = None
    others: list[Any] = []
    at = 0
    for length, piece in zip(lengths, pieces, strict=True):
        fits = not others and np.shape(piece)[:1] == (length,)
        if fits and result is None:
            result = np.empty((sum(lengths), *np.shape(piece)[1:]), np.asarray(piece).dtype)
        if fits and np.asarray(piece).dtype == result.dtype and np.shape(piece)[1:] == result.shape[1:]:
            result[at : at + length] = piece
            at += length
        else:
            others.append(piece)
    return result if not others else np.concatenate([*([] if result is None else [result[:at]]), *others])


# -- start methods --------------------------------------------------------------------------------------------


def set_start_method() -> None:
    """Makes "fork" the start method, of multiprocessing and of all maps here from now on.

    No map needs this. After it each one forks workers of its own, which see the program's memory as it is at
    that moment; Python and macOS warn of forks in programs that have threads.

    Raises:
        RuntimeError: multiprocessing has another start method already.
    """
    fork_always()


def _set_if_asked(environment: Mapping[str, str], platform: str) -> None:
    if platform == "darwin" and environment.get("PYTOOLBOX_SET_START", "").lower() == "true":
        set_start_method()


_set_if_asked(os.environ, sys.platform)

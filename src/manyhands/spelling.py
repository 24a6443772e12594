"""Names that were meant: what messages suggest in the place of an argument or a value that there is not."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Collection, Iterable
from typing import Final, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

_ELSEWHERE: Final = {
    **dict.fromkeys(
        (
            "processes",
            "n_jobs",
            "jobs",
            "n_workers",
            "num_workers",
            "max_workers",
            "nprocs",
            "procs",
            "cores",
            "cpus",
        ),
        ("workers",),
    ),
    **dict.fromkeys(("retries", "tries", "max_attempts", "max_retries", "max_tries"), ("attempts",)),
    **dict.fromkeys(("delay", "backoff", "sleep"), ("wait",)),
    **dict.fromkeys(("template", "path", "file", "filename", "target"), ("final",)),
    **dict.fromkeys(("desc", "description", "bar", "verbose", "tqdm"), ("progress",)),
    **dict.fromkeys(("executor", "pool", "client"), ("backend",)),
    **dict.fromkeys(("context", "mp_context", "method"), ("start_method",)),
    **dict.fromkeys(("errors", "raise_errors", "return_exceptions", "on_failure"), ("on_error",)),
    **dict.fromkeys(("batch_size", "chunk_size", "chunk"), ("chunksize", "rows")),
    **dict.fromkeys(("predicate", "validate", "check", "condition"), ("arguments",)),
    **dict.fromkeys(("max_tasks_per_child", "maxtasksperchild"), ("max_tasks_per_worker",)),
    **dict.fromkeys(("stale_after", "ttl"), ("lease",)),
    **dict.fromkeys(("length", "len"), ("total",)),
    **dict.fromkeys(("ignore", "suppress"), ("skip",)),
}
"""What other libraries call it, and what it may be here."""


def suggestion(given: object, known: Collection[str]) -> str:
    """`` (did you mean 'workers'?)``, or "" where nothing known is near."""
    if not isinstance(given, str):
        return ""
    near = [name for name in _ELSEWHERE.get(given.lower(), ()) if name in known]
    if not near:
        from difflib import get_close_matches  # slow to import, and seldom needed

        near = get_close_matches(given.lower(), known, 1)
    return f" (did you mean {near[0]!r}?)" if near else ""


def check_names(given: Iterable[str], known: Collection[str], who: str = "") -> None:
    """Raises TypeError, which suggests the nearest known one, for a name of an option that is not known.

    Args:
        given: the names.
        known: all that there are.
        who: takes them; "": any map.
    """
    unknown = sorted(set(given).difference(known))
    if not unknown:
        return
    whose = f"the options of {who} are" if who else "the options are"
    raise TypeError(
        f"unknown option {unknown[0]!r}{suggestion(unknown[0], known)}; {whose} {', '.join(sorted(known))}"
    )


def suggesting(who: str, *, example: str = "") -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Has a function say more than Python does of arguments that it does not take; else it is as it was.

    Args:
        who: what it is called in messages.
        example: of how to give what was given by position, and can't be.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        parameters = inspect.signature(function).parameters.values()
        own = [each.name for each in parameters if each.name != "self"]
        named = [each.name for each in parameters if each.kind in _BY_NAME and each.name != "self"]
        by_position = [each for each in parameters if each.kind in _BY_POSITION]
        most = len(by_position) if not any(each.kind is each.VAR_POSITIONAL for each in parameters) else None
        takes = len(by_position) - (len(own) < len(parameters))
        open_ended = any(each.kind is each.VAR_KEYWORD for each in parameters)

        @functools.wraps(function)
        def checked(*args: P.args, **kwargs: P.kwargs) -> R:
            if kwargs and not open_ended and not kwargs.keys() <= set(named):
                check_names(kwargs, named, who)
            if most is not None and len(args) > most:
                what = (
                    f"{takes} argument{'s' * (takes != 1)} by position" if takes else "no arguments by position"
                )
                how = f"; give others by name: {example}" if example else ""
                raise TypeError(f"{who} takes {what}, not {len(args) - most + takes}{how}")
            return function(*args, **kwargs)

        return checked

    return decorate


_BY_NAME: Final = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
_BY_POSITION: Final = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.POSITIONAL_ONLY)

"""What ``manyhands run`` prints of outcomes: values on stdout, failures and the summary on stderr."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from functools import cached_property
from numbers import Number
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, Final

from manyhands.calls import error_text, qualified_name
from manyhands.cli.signals import Unwritten
from manyhands.errors import RemoteError
from manyhands.handler.bars import write_above
from manyhands.outcome import Counts, Failure, Outcome

if TYPE_CHECKING:
    from rich.console import Console

_AS_IT_IS: Final = (str, Number, PurePath)
_LONGEST: Final = 400
"""Characters of an error in a line; the rest is in ``--json`` and ``--traceback``."""


# -- what is printed: no file, no clock -----------------------------------------------------------------------


def lines_of(value: Any, is_claimed: bool) -> list[str]:
    """The lines that stand for a value: none for None, one for each path of an output, one for anything else."""
    if value is None:
        return []
    if is_claimed and isinstance(value, tuple):
        return [shown(path) for path in value]
    return [shown(value) if isinstance(value, _AS_IT_IS) else repr(value)]


def shown(value: Any) -> str:
    """A value as text; a path below the current directory is told from there."""
    if isinstance(value, PurePath) and value.is_relative_to(here := Path.cwd()):
        return str(value.relative_to(here))
    return str(value)


def error_line(error: BaseException) -> str:
    """Type and text of an exception, in one line."""
    text = " ".join(error_text(error).split())
    if not isinstance(error, RemoteError):  # which begins with the type already
        name = type(error).__qualname__
        text = f"{name}: {text}" if text else name
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def as_json(outcome: Outcome[Any], text: str) -> str:
    """One line of JSON: what an input came to."""
    told: dict[str, Any] = {"index": outcome.index, "input": text}
    if outcome.ok:
        told |= {"status": "ok", "value": outcome.value}
    elif outcome.failure is not None:
        told |= {"status": "failed", "error": _error(outcome.failure)}
    elif outcome.discarded is not None:
        told |= {"status": "discarded", "reason": outcome.discarded.reason}
    elif outcome.elsewhere is not None:
        told |= {"status": "elsewhere", "path": shown(outcome.elsewhere.path)}
    told |= {"attempts": len(outcome.attempts) + (outcome.ok and outcome.worker != "")}
    told |= {"seconds": round(outcome.seconds, 6), "worker": outcome.worker}
    try:
        return json.dumps(told, default=_plain, allow_nan=False)
    except (TypeError, ValueError):  # keys of a dict that are no texts, what holds itself, or no number
        return json.dumps({**told, "value": _without_nan(told["value"])}, default=_plain)


def _error(failure: Failure) -> dict[str, str]:
    error = failure.error
    name = error.type_name if isinstance(error, RemoteError) else qualified_name(type(error))
    name = name.removeprefix("__mp_main__.")  # a script that was imported: the name says nothing
    return {"type": name, "message": error_text(error), "traceback": failure.traceback}


def _without_nan(value: Any) -> Any:
    """A value that JSON can't say as it is: with null for what is no number, or else its ``repr``."""

    def finite(part: Any) -> Any:
        if isinstance(part, float):
            return part if math.isfinite(part) else None
        if isinstance(part, list | tuple):
            return [finite(one) for one in part]
        if isinstance(part, dict):
            return {name: finite(one) for name, one in part.items()}
        return part

    try:
        plain = json.loads(json.dumps(value, default=_plain))
    except (TypeError, ValueError, RecursionError):
        return repr(value)
    return finite(plain)


def _plain(value: Any) -> Any:
    """What JSON has no word for: paths as texts, arrays and their numbers as lists and numbers."""
    if isinstance(value, PurePath):
        return shown(value)
    if isinstance(value, set | frozenset):
        return list(value)
    return value.tolist() if callable(getattr(value, "tolist", None)) else repr(value)


def summary(counts: Counts, found: int, total: int, seconds: float, is_claimed: bool) -> str:
    """How many inputs came to what.

    Args:
        counts: of what has ended.
        found: how many of the values were there, or came from others.
        total: inputs that were given.
        seconds: since the start.
        is_claimed: whether the values are claimed outputs.
    """
    done = {"done": counts.values}
    if is_claimed:
        done = {"computed here": counts.values - found, "there already or computed elsewhere": found}
    parts = done | {
        "failed": counts.failures,
        "discarded": counts.discarded,
        "being computed elsewhere": counts.elsewhere,
        "not done": total - counts.total,
    }
    told = ", ".join(f"{number:,} {what}" for what, number in parts.items() if number) or "nothing to do"
    return f"{total:,} input{'s' * (total != 1)} in {seconds:.1f} s: {told}"


# -- printing -------------------------------------------------------------------------------------------------


class Teller:
    """Prints outcomes as they come, to what standard output is when this is made.

    Args:
        texts: the inputs as they were given.
        is_claimed: whether values are claimed outputs.
        wants_json: whether each outcome is a line of JSON.
        wants_failures: whether each failure is told on stderr.
        wants_traceback: with where it was raised.
    """

    def __init__(
        self,
        texts: Sequence[str],
        *,
        is_claimed: bool,
        wants_json: bool,
        wants_failures: bool,
        wants_traceback: bool,
    ) -> None:
        self._texts = texts
        self._out = sys.stdout
        self._is_claimed = is_claimed
        self._wants_json = wants_json
        self._wants_failures = wants_failures
        self._wants_traceback = wants_traceback

    @cached_property
    def _errors(self) -> Console:
        from rich.console import Console  # slow to import; workers are busy by now

        return Console(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True)

    def tell(self, outcome: Outcome[Any]) -> None:
        """Prints one."""
        text = self._texts[outcome.index]
        if self._wants_json:
            self._put([as_json(outcome, text)])
        elif outcome.ok:
            self._put(lines_of(outcome.value, self._is_claimed))
        if outcome.failure is not None and self._wants_failures:
            self._fail(text, outcome.failure)

    def say(self, text: str, style: str = "") -> None:
        """Prints a line on stderr."""
        self._errors.print(text, style=style or None)

    def _put(self, lines: list[str]) -> None:
        if lines:
            write_above("".join(f"{line}\n" for line in lines), self._out)
            try:
                self._out.flush()
            except BrokenPipeError:
                raise
            except OSError as error:
                raise Unwritten(error.strerror or str(error)) from error

    def _fail(self, text: str, failure: Failure) -> None:
        with self._errors.capture() as told:
            self._errors.print("failed", style="bold red", end=": ")
            self._errors.print(f"{text}: {error_line(failure.error)}")
            if self._wants_traceback and failure.traceback:
                self._errors.print(failure.traceback.rstrip(), style="dim")
        write_above(told.get(), sys.stderr)

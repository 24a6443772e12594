"""``@claimed_output``: a function whose results are files, each computed once by whoever comes first."""

from __future__ import annotations

import inspect
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Generic, ParamSpec, TypedDict, TypeVar, Unpack, get_args, overload

from manyhands.calls import short_repr
from manyhands.decorators.decorated import (
    ClaimedFunction,
    ParallelClaimedFunction,
    ParallelFunction,
    Unapplied,
    decorated,
    unwrapped,
)
from manyhands.decorators.task import ClaimPolicy, OnFailed
from manyhands.errors import TemplateError
from manyhands.policies.parameters import Parameters, name_of
from manyhands.policies.template import Template
from manyhands.settings import LEASE, MAX_CRASHES
from manyhands.spelling import suggesting

P = ParamSpec("P")
R = TypeVar("R")
L = TypeVar("L")


class ClaimDecorator(Unapplied, Generic[L]):
    """``@claimed_output`` with its options; calls of what it decorates return an ``L``."""

    def __init__(self, claim: ClaimPolicy) -> None:
        self._claim = claim

    @overload
    def __call__(self, function: ParallelFunction[P, Any], /) -> ParallelClaimedFunction[P, L]: ...
    @overload
    def __call__(self, function: staticmethod[P, Any], /) -> ClaimedFunction[P, L]: ...
    @overload
    def __call__(self, function: classmethod[Any, P, Any], /) -> ClaimedFunction[P, L]: ...
    @overload
    def __call__(self, function: Callable[P, Any], /) -> ClaimedFunction[P, L]: ...
    def __call__(self, function: Any, /) -> Any:
        """Decorates ``function``; raises TypeError or TemplateError if the two don't fit."""
        body, task, kind = unwrapped(function, "@claimed_output")
        if task.claim is not None:
            raise TypeError(f"@claimed_output is applied twice to {name_of(body)}; a function has one output")
        parameters, claim, name = Parameters.of(body), self._claim, name_of(body)
        if parameters.output is None and claim.save is None:
            raise TypeError(
                f"@claimed_output: {name} must either declare a parameter 'output: Path = OUTPUT' and write "
                f"its result there, or return a value that save=… writes"
            )
        if parameters.output is not None and claim.save is not None:
            raise TypeError(
                f"@claimed_output: {name} declares {parameters.output!r} as OUTPUT and has save=…; "
                f"give one of the two"
            )
        for template in (*claim.finals, claim.temp):
            if template is not None:
                if parameters.signature is None and template.fields:
                    raise TypeError(
                        f"@claimed_output: {name} does not tell its parameters, so no template fits it"
                    )
                template.fits(parameters.names, f"@claimed_output of {name}")
        return decorated(body, replace(task, claim=claim), kind)

    def __repr__(self) -> str:
        return f"<@{self._claim.text()}>"


class ClaimOptions(TypedDict, total=False):
    """What ``@claimed_output`` takes beside what decides the type of calls; see there."""

    wait: bool
    failed: OnFailed
    durable: bool
    lease: float
    max_crashes: int
    fingerprint: str | Mapping[str, Any] | None


@overload
def claimed_output(
    final: str | os.PathLike[str],
    temp: str | os.PathLike[str] | None = None,
    *,
    save: Callable[[Any, Path], object] | None = None,
    load: None = None,
    **options: Unpack[ClaimOptions],
) -> ClaimDecorator[Path]: ...
@overload
def claimed_output(
    final: str | os.PathLike[str],
    temp: str | os.PathLike[str] | None = None,
    *,
    save: Callable[[Any, Path], object] | None = None,
    load: Callable[[Path], L],
    **options: Unpack[ClaimOptions],
) -> ClaimDecorator[L]: ...
@overload
def claimed_output(
    final: tuple[str | os.PathLike[str], ...] | list[str | os.PathLike[str]],
    temp: str | os.PathLike[str] | None = None,
    *,
    save: Callable[[Any, tuple[Path, ...]], object] | None = None,
    load: None = None,
    **options: Unpack[ClaimOptions],
) -> ClaimDecorator[tuple[Path, ...]]: ...
@overload
def claimed_output(
    final: tuple[str | os.PathLike[str], ...] | list[str | os.PathLike[str]],
    temp: str | os.PathLike[str] | None = None,
    *,
    save: Callable[[Any, tuple[Path, ...]], object] | None = None,
    load: Callable[[tuple[Path, ...]], L],
    **options: Unpack[ClaimOptions],
) -> ClaimDecorator[L]: ...
@suggesting("@claimed_output", example="@claimed_output('{x}.txt', save=write)")
def claimed_output(
    final: Any,
    temp: str | os.PathLike[str] | None = None,
    *,
    save: Callable[[Any, Any], object] | None = None,
    load: Callable[[Any], Any] | None = None,
    wait: bool = True,
    failed: OnFailed = "retry",
    durable: bool = True,
    lease: float = LEASE,
    max_crashes: int = MAX_CRASHES,
    fingerprint: str | Mapping[str, Any] | None = None,
) -> Any:
    """Makes a function's result a file that is computed once, among all processes that share its directory.

    The body either declares ``output: Path = OUTPUT`` and writes to the path it gets there, or returns a value
    that ``save(value, path)`` writes. The file appears under its final name only when it is complete. A call
    returns the final path, or ``load(path)``; if the file is there, nothing is computed.

    Args:
        final: template of the output's path, ``"results/{image.stem}.csv"``. Fields are the function's
            parameters and their public attributes or items. Relative to the directory that the caller is in;
            missing directories are made. The filled-in path can't leave the directory before the first field.
            If it ends with a slash the output is a directory: the body gets an empty one, and fills it.
            Several templates, for outputs of several files: the body gets as many paths, and calls return them. They
            appear in that order, so if the last one is there the others are too; it is what tells that an output is
            finished.
        temp: template of the claim's path, on the same filesystem; default ``.<name>.claim`` beside the output, or the
            last of them.
        save: writes a returned value to a path.
        load: reads back what calls return.
        wait: True: an output that another process is computing is waited for, and taken over if its process
            on this machine has died. False: a map yields ``Elsewhere`` for it, a call raises ClaimedElsewhere.
        failed: "retry": failures that were recorded before the map (or call) began are tried once more, those
            recorded since are believed. "report": all are believed.
        durable: True: an output is on the disk (fsync) before it counts as done. False: sooner done, but a loss of
            power may leave outputs that are empty or torn.
        lease: seconds. An owner on this machine is known to be dead when its process is gone; any other, or one that
            is stopped, is taken for dead when there was no sign of it for so long. Of use is no less than twice the
            time for which the directory's filesystem may show what is old: 120 on NFS. Doubled, up to 64 times, for
            each owner in a row that was.
        max_crashes: an output whose owners have died so often in a row has failed, for all: one input that takes all
            memory must not end one machine after the other.
        fingerprint: parameters that outputs depend on and their names don't tell, as a text or as a mapping that JSON
            can hold: ``{"threshold": 0.5, "version": 3}``. The first who computes writes them into the directory that
            the template names before its first field; others with another fingerprint are refused there before any
            work (see ``claims.recompute``).

    Raises:
        TypeError: the function neither declares OUTPUT nor has ``save``, or both; it is decorated so already.
        TemplateError: a template is malformed, leaves its directory, or has a field the function has not.
        ValueError: ``failed`` is neither of the two; ``lease`` or ``max_crashes`` is out of range.
    """
    for name, function in (("save", save), ("load", load)):
        if function is not None and not callable(function):
            raise TypeError(f"@claimed_output: {name} must be a function, not {short_repr(function)}")
    if failed not in get_args(OnFailed):
        raise ValueError(f"@claimed_output: failed must be 'retry' or 'report', not {short_repr(failed)}")
    if not isinstance(wait, bool):
        raise TypeError(f"@claimed_output: wait must be True or False, not {short_repr(wait)}")
    if not isinstance(durable, bool):
        raise TypeError(f"@claimed_output: durable must be True or False, not {short_repr(durable)}")
    _check_number("lease", lease, (int, float), 0.0, "a number of seconds above 0")
    _check_number("max_crashes", max_crashes, (int,), 0, "a whole number of 1 or more")
    finals = _finals(final)
    return ClaimDecorator(
        ClaimPolicy(
            finals,
            not isinstance(final, str | os.PathLike),
            None if temp is None else _file_template("temp", temp),
            save,
            load,
            wait,
            failed,
            durable,
            float(lease),
            max_crashes,
            None if fingerprint is None else _fingerprint(fingerprint),
        )
    )


def _fingerprint(value: Any) -> str:
    from manyhands.claims import fingerprint_text

    try:
        return fingerprint_text(value)
    except (TypeError, ValueError) as error:
        raise type(error)(f"@claimed_output: {error}") from None


def _finals(final: Any) -> tuple[Template, ...]:
    if callable(final) or isinstance(final, str | os.PathLike) or not isinstance(final, Sequence):
        return (_template("final", final),)
    if not final:
        raise TypeError("@claimed_output: final names no file; give a template, or several")
    return tuple(_file_template("final", one) for one in final)


def _check_number(name: str, value: Any, kinds: tuple[type, ...], above: float, wanted: str) -> None:
    if type(value) not in kinds:
        raise TypeError(f"@claimed_output: {name} must be {wanted}, not {short_repr(value)}")
    if not above < value < math.inf:
        raise ValueError(f"@claimed_output: {name} must be {wanted}, not {short_repr(value)}")


def _file_template(name: str, value: object) -> Template:
    template = _template(name, value)
    if template.is_directory:
        raise TemplateError(
            f"@claimed_output: {name} names a directory, {template.text!r}, where only a file can be"
        )
    return template


def _template(name: str, value: object) -> Template:
    if callable(value) or inspect.isclass(value) or not isinstance(value, str | os.PathLike):
        raise TypeError(
            f"@claimed_output needs a template as its argument {name!r}, a str or a path, as in "
            f"@claimed_output('results/{{x}}.txt'); not {name_of(value) if callable(value) else short_repr(value)}"
        )
    text = os.fspath(value)
    if not isinstance(text, str):
        raise TypeError(f"@claimed_output: {name} must be a str or a path of str, not {short_repr(value)}")
    return Template(text)

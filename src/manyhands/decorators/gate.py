"""The parent's side of claims: names outputs, finds duplicates, says when to look again."""

from __future__ import annotations

import errno
import os
import random
import signal
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from manyhands.calls import Call, Done, Failed, Later, error_text, qualified_name
from manyhands.claims import (
    LOOKS_MIN,
    Claims,
    Log,
    agree,
    check_directory,
    failures_before,
    fingerprint_file,
    highest_slots,
    is_one_name,
    remove_output,
)
from manyhands.decorators.decorated import Decorated
from manyhands.decorators.task import ClaimPolicy
from manyhands.decorators.work import Entry, code_hash
from manyhands.errors import (
    DuplicateOutput,
    FingerprintMismatch,
    ManyhandsError,
    OutputDirectoryError,
    TaskTimeout,
    TemplateError,
    WorkerDied,
)
from manyhands.handler.gate import Away, Pass
from manyhands.policies.parameters import name_of
from manyhands.policies.retry import budget_of
from manyhands.policies.template import Template, folded
from manyhands.policies.validation import Refused

FIRST_LOOK: Final = 0.02
LAST_LOOK: Final = 1.0
"""Seconds after which an output that is claimed elsewhere is looked at again: at first, and at most."""


def output_paths(function: Decorated[..., Any], call: Call, directory: Path) -> tuple[Path, ...]:
    """Where the files of the output of a call lie; raises TemplateError, or TypeError if the arguments don't fit.

    Raises InvalidArguments if ``@validated`` checks annotations in the parent, and these are not as they say.
    """
    validation = function.task.validation
    if validation is not None and validation.checks_arguments("parent"):
        try:
            call = function.converted(call)
        except Refused as refused:
            raise refused.error from None
    return tuple(map(Path, _filled(_claim(function), function.bind_arguments(call), directory)))


def output_log(function: Decorated[..., Any], call: Call, directory: Path) -> Log:
    """The output of a call and its log; raises like ``output_path``."""
    claim = _claim(function)
    arguments = function.bind_arguments(call)
    *parts, final = _filled(claim, arguments, directory)
    return Log.of(final, None if claim.temp is None else claim.temp.fill(arguments, directory), parts)


def _filled(claim: ClaimPolicy, arguments: dict[str, Any], directory: Path) -> tuple[str, ...]:
    paths = tuple(template.fill_text(arguments, str(directory)) for template in claim.finals)
    if len(set(paths)) < len(paths):
        texts = ", ".join(repr(template.text) for template in claim.finals)
        raise TemplateError(f"the templates {texts} give the same file, {paths[-1]!r}, for several outputs")
    return paths


def remove_outputs(function: Decorated[..., Any], calls: list[Call], directory: Path) -> list[Path]:
    """Removes the outputs of calls, with their logs, and then the fingerprint; returns the outputs that were there."""
    claim, removed = _claim(function), []
    for log in [output_log(function, call, directory) for call in calls]:
        removed += remove_output(log)
    fingerprint_file(*fingerprinted(claim, directory)).unlink(missing_ok=True)
    return removed


class ClaimGate:
    """The gate of one map of a claimed function.

    Args:
        function: the function.
        directory: what templates are relative to.
    """

    def __init__(self, function: Decorated[..., Any], directory: Path) -> None:
        self._function = function
        self._claim = _claim(function)
        self.directory = directory
        self.has_met_others = False
        self.are_distinct = False  # once no two items are known to have the same output
        self.brings_value: Callable[[int], bool] = lambda _: True
        self.missed: tuple[int, str] = (-1, "")  # the item whose output was just looked for in vain, and where
        # By what some filesystems take for the same path.
        self._owners: dict[str, tuple[tuple[int, str], ...]] = {}
        self._has_agreed = self._claim.fingerprint is None
        self._before: dict[str, dict[str, int]] = {}
        self._checked: set[str] = set()
        self._same_device: set[tuple[str, ...]] = set()
        self._random = random.Random()  # the user's own sequence is left alone
        # To give verdicts for workers that have ended; it claims nothing.
        self._claims: Claims = (self._claim.claims or Claims)()

    def log(self, index: int, call: Call) -> Log:
        """The output of an item; raises DuplicateOutput and what ``output_log`` raises."""
        if index == self.missed[0] and self._claim.temp is None:
            return Log.of(self.missed[1])
        log = output_log(self._function, call, self.directory)
        if self.are_distinct:
            return log
        for path, template in zip(log.finals, self._claim.finals, strict=True):
            key = folded(path)
            owners = self._owners.get(key, ())
            for first, other in owners:
                if first != index and self._is_same(path, other):
                    raise DuplicateOutput(
                        f"items {first} and {index} of {name_of(self._function)} have the same output, "
                        f"{path!r}; the template {template.text!r} must tell them apart"
                    )
            if (index, path) not in owners:
                self._owners[key] = (*owners, (index, path))
        return log

    def _is_same(self, one: str, another: str) -> bool:
        """Whether they are one, also if they differ in case, or in how an accent is written."""
        if one == another:
            return True
        path, other = Path(one), Path(another)
        self._prepare(str(path.parent))
        self._prepare(str(other.parent))
        if not path.parent.samefile(other.parent):
            return False
        return path.name == other.name or is_one_name(path.parent, path.name, other.name)

    def refusal(self, index: int, call: Call) -> Exception | None:
        """Why the item can't have an output of its own, or None."""
        try:
            self.log(index, call)
        except (ManyhandsError, TypeError) as error:
            return error
        return None

    def order(self, due: list[int]) -> list[int]:
        """Each process has its own, once it has met another: so that they do not go after the same outputs together."""
        if self.has_met_others:
            self._random.shuffle(due)
        return due

    def enter(self, index: int, call: Call) -> Pass | Done[Any] | Failed:
        """A finished output needs no worker; else the directory must be usable, and the item passes."""
        entry = call.memo if isinstance(call.memo, Entry) else None
        try:
            self._agree()
            log = self.log(index, call) if entry is None else entry.log
            loads = self._claim.load is not None and self.brings_value(index)
            if index != self.missed[0] and Path(log.final).exists():
                if loads:
                    return Pass((entry or Entry(log))._replace(is_there=True))
                return Done(self.answer(log.finals), computed=False)
            if entry is None:
                self._ready(log)
            self.missed = (-1, "")
        except (OutputDirectoryError, FingerprintMismatch) as error:
            return Failed(error, halts=True)
        except (ManyhandsError, OSError, TypeError) as error:
            return Failed(error)
        return Pass(entry._replace(is_there=False) if entry else Entry(log, self._reopen(log), loads))

    def later(self, index: int, answer: Later, looks: int) -> float | Away:
        """Soon at first, then less and less often, with jitter so that processes fall out of step."""
        self.has_met_others = self.has_met_others or answer.failed is None
        if answer.wait is not None:
            return answer.wait
        if not self._claim.wait:
            return Away(answer.where)
        # An owner that is watched must be seen to be quiet some times within its lease.
        last: float = min(LAST_LOOK, self._claim.lease / LOOKS_MIN)
        seconds: float = min(last, FIRST_LOOK * 1.5 ** min(looks, 20))
        return seconds * self._random.uniform(0.5, 1.0)

    def died(self, index: int, call: Call, error: WorkerDied | TaskTimeout) -> Failed | Later | None:
        """For a claim that the worker held, this process gives the verdict, so that all others hear of it."""
        entry = call.memo
        if not isinstance(entry, Entry) or (
            isinstance(error, WorkerDied) and error.exitcode == -signal.SIGTERM
        ):
            return None  # it was asked to end, and its guard has given the claim up
        code = self._code_hash
        orphan = self._claims.orphaned(entry.log, error.pid, reopen=entry.reopen, code_hash=code)
        if orphan is None:
            return None
        retries = self._function.task.retries
        budget = budget_of(retries, error)
        again = None if budget is None else retries[budget].next_wait(orphan.attempt, error=error)
        recorded = self._claims.bury(
            orphan,
            type_name=qualified_name(type(error)),
            message=error_text(error),
            backoff=again,
            code_hash=code,
        )
        if not recorded:
            return Later(0.0, entry, where=entry.log.final)
        failed = Failed(error)
        return failed if again is None else Later(again, entry, failed, entry.log.final)

    def close(self) -> None:
        """No claim is held here."""
        self._claims.close()

    # -- inside -----------------------------------------------------------------------------------------------

    @cached_property
    def _code_hash(self) -> str:
        return code_hash(self._function)

    def _agree(self) -> None:
        """All use the same parameters here, before any of them computes anything."""
        if self._has_agreed:
            return
        directory, template = fingerprinted(self._claim, self.directory)
        if not fingerprint_file(directory, template).exists():
            self._prepare(str(directory))
        agree(directory, template, self._claim.fingerprint or "")
        self._has_agreed = True

    def was_listed(self, directory: str, names: Iterable[str]) -> None:
        """These names are all in there that may be of claims, as the map begins."""
        self._before.setdefault(directory, highest_slots(names))

    def has_agreed(self) -> bool:
        """Whether what is there was computed with the parameters of this map, as far as these are told."""
        try:
            self._agree()
        except (OutputDirectoryError, FingerprintMismatch):
            return False  # it is told when an item asks to enter
        return True

    @property
    def loads(self) -> bool:
        """Whether the value of a finished output is to be loaded."""
        return self._claim.load is not None

    @property
    def template(self) -> Template:
        """Of the last file of an output."""
        return self._claim.final

    @property
    def has_one_file(self) -> bool:
        """Whether each output is one file."""
        return not self._claim.is_several

    def answer(self, finals: Sequence[str]) -> Any:
        """What stands for a finished output that needs no loading."""
        return self._claim.answer(finals)

    def _ready(self, log: Log) -> None:
        """The log's directories can be written, and are on one filesystem."""
        directories = (log.directory, log.home, *map(os.path.dirname, log.parts))
        if directories not in self._same_device:
            for directory in directories:
                self._prepare(directory)
            _check_filesystem(log)
            self._same_device.add(directories)

    def _prepare(self, directory: str) -> None:
        if directory not in self._checked:
            if directory not in self._before:
                self._before[directory] = failures_before(directory)
            check_directory(directory)
            self._checked.add(directory)

    def _reopen(self, log: Log) -> int:
        if self._claim.failed == "report" or not any(self._before.values()):
            return -1
        return self._before.get(log.directory, {}).get(log.stem, -1)


def fingerprinted(claim: ClaimPolicy, directory: Path) -> tuple[Path, str]:
    """The directory that holds the outputs' fingerprint, and what tells them from others there."""
    return directory / claim.final.base, claim.final.text[len(claim.final.base) :]


def _check_filesystem(log: Log) -> None:
    """Raises OutputDirectoryError if the output can't be moved from where its claim lies."""
    there = log.directory
    for here in dict.fromkeys(map(os.path.dirname, log.finals)):
        if here != there and os.stat(here).st_dev != os.stat(there).st_dev:
            raise OutputDirectoryError(
                errno.EXDEV,
                f"temp, or the last of several templates, puts the claim into {there!r}, on another filesystem "
                f"than {here!r}",
            )


def _claim(function: Decorated[..., Any]) -> ClaimPolicy:
    claim = function.task.claim
    if claim is None:
        raise TypeError(f"{name_of(function)} has no @claimed_output")
    return claim

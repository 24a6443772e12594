"""Everything public: what ``from manyhands import …`` finds."""

from __future__ import annotations

import os
from pathlib import Path

import manyhands.decorators.mapping  # noqa: F401  # what the first map needs; functions import it when they are mapped
from manyhands.controller.pool import Controller
from manyhands.decorators.claimed import claimed_output
from manyhands.decorators.handler import Handler, HandlerResults
from manyhands.decorators.parallel import parallel
from manyhands.decorators.retry import retry_on
from manyhands.decorators.validated import validated
from manyhands.errors import (
    ClaimedElsewhere,
    DuplicateOutput,
    FailedElsewhere,
    FingerprintMismatch,
    InvalidArguments,
    InvalidResult,
    ItemError,
    ManyhandsError,
    OutputDirectoryError,
    OutputMissing,
    PoolBroken,
    PoolClosed,
    RemoteError,
    TaskTimeout,
    TemplateError,
    WorkerDied,
)
from manyhands.handler.results import Results
from manyhands.outcome import Counts, Discarded, Elsewhere, Failure, Outcome, Progress
from manyhands.policies.parameters import OUTPUT
from manyhands.policies.verdict import GiveUp, Replace, Retry
from manyhands.settings import configure
from manyhands.spelling import suggesting
from manyhands.workers.place import WorkerInfo, worker_info

__all__ = [
    "OUTPUT",
    "ClaimedElsewhere",
    "Controller",
    "Counts",
    "Discarded",
    "DuplicateOutput",
    "Elsewhere",
    "FailedElsewhere",
    "Failure",
    "FingerprintMismatch",
    "GiveUp",
    "Handler",
    "HandlerResults",
    "InvalidArguments",
    "InvalidResult",
    "ItemError",
    "ManyhandsError",
    "Outcome",
    "OutputDirectoryError",
    "OutputMissing",
    "PoolBroken",
    "PoolClosed",
    "Progress",
    "RemoteError",
    "Replace",
    "Results",
    "Retry",
    "TaskTimeout",
    "TemplateError",
    "WorkerDied",
    "WorkerInfo",
    "claimed_output",
    "configure",
    "gc",
    "parallel",
    "retry_on",
    "validated",
    "wait_for",
    "worker_info",
]


@suggesting("wait_for", example="wait_for(path, 60)")
def wait_for(path: str | os.PathLike[str], timeout: float | None = None) -> Path:
    """Waits until a file is there that another process makes, the output of a claimed function, say.

    Args:
        path: the file; neither it nor its directory need be there yet.
        timeout: seconds; None: as long as it takes.

    Returns:
        Path: of the file.

    Raises:
        TimeoutError: it did not come.
        OSError: its directory can't be looked at.
    """
    from manyhands.claims import wait_for as wait

    _check_path("wait_for: path", path)
    if timeout is not None:
        is_number = isinstance(timeout, int | float) and not isinstance(timeout, bool)
        if not is_number or not timeout >= 0:
            raise (ValueError if is_number else TypeError)(
                f"wait_for: timeout must be a number of seconds, 0 or more, or None; not {timeout!r}"
            )
    return wait(path, timeout)


@suggesting("gc", example="gc(directory, now=True)")
def gc(directory: str | os.PathLike[str], now: bool = False) -> list[Path]:
    """Remove what nobody needs of the claims in ``directory``; not in those below it.

    Outputs that were committed and not yet published are published first. Files of others are not touched, nor
    links followed.

    Args:
        directory: where the slots are: the outputs' own, or the one that ``temp`` names.
        now: you vouch that no process works on these outputs. Then nothing but the outputs stays, and failures
            are forgotten. (Only an output that was committed but not published, and whose place can't be told
            from its staging's name, is kept with its log: its name is very long or it belongs in another
            directory. The next run publishes it.) Otherwise only what the dead have left goes; failures stay.

    Returns:
        list[Path]: what was removed.

    Raises:
        FileNotFoundError: there is no such directory.
        OSError: it can't be read, or something can't be removed.
    """
    from manyhands.claims import gc as collect  # slow to import, and most programs have no claims

    _check_path("gc: directory", directory)
    return collect(directory, now)


def _check_path(name: str, path: object) -> None:
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"{name} must be a str or a path, not {path!r}")

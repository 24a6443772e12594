"""Decorators that map plain functions over all cores, and over machines that share a directory.

``@parallel`` maps, ``@claimed_output`` makes results files that are computed once, ``@validated`` sorts out,
``@retry_on`` tries again. See the documentation for how they work together.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from manyhands.decorators.claimed import claimed_output
from manyhands.decorators.parallel import parallel
from manyhands.decorators.retry import retry_on
from manyhands.decorators.validated import validated
from manyhands.errors import (
    ClaimedElsewhere,
    DuplicateOutput,
    FailedElsewhere,
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
from manyhands.outcome import Counts, Discarded, Elsewhere, Failure, Outcome
from manyhands.policies.parameters import OUTPUT
from manyhands.settings import configure
from manyhands.workers.child import WorkerInfo, worker_info

if TYPE_CHECKING:
    from manyhands.claims import gc
    from manyhands.controller.pool import Controller

__version__ = "0.1.0"

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
    "InvalidArguments",
    "InvalidResult",
    "ItemError",
    "ManyhandsError",
    "Outcome",
    "OutputDirectoryError",
    "OutputMissing",
    "PoolBroken",
    "PoolClosed",
    "RemoteError",
    "Results",
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
    "worker_info",
]


_LATER = {"Controller": "manyhands.controller.pool", "gc": "manyhands.claims"}


def __getattr__(name: str) -> Any:
    """What workers don't need is imported when it is asked for, so that they start sooner."""
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(_LATER[name]), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

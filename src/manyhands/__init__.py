"""Decorators that map plain functions over all cores, and over machines that share a directory.

``@parallel`` maps, ``@claimed_output`` makes results files that are computed once, ``@validated`` sorts out,
``@retry_on`` tries again. See the documentation for how they work together.
"""

from __future__ import annotations

from manyhands.claims import gc
from manyhands.controller.pool import Controller
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

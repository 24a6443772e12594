"""Who may compute an output, agreed upon by processes that share nothing but its directory.

log = Log.of("results/a.csv")
with Claims() as claims:
    match claims.acquire(log):
        case Mine() as mine:
            mine.staging.write_text(…)
            claims.commit(mine)
"""

from __future__ import annotations

from manyhands.claims.decisions import (
    Busy,
    Decision,
    FailedBefore,
    Fenced,
    Finished,
    Mine,
    Orphan,
    Published,
    Recorded,
    Seen,
    Wait,
)
from manyhands.claims.engine import Claims, check_directory, failures_before
from manyhands.claims.gc import gc
from manyhands.claims.names import Log
from manyhands.claims.record import Claimant, Fail
from manyhands.claims.watch import LOOKS_MIN, Watch

__all__ = [
    "LOOKS_MIN",
    "Busy",
    "Claimant",
    "Claims",
    "Decision",
    "Fail",
    "FailedBefore",
    "Fenced",
    "Finished",
    "Log",
    "Mine",
    "Orphan",
    "Published",
    "Recorded",
    "Seen",
    "Wait",
    "Watch",
    "check_directory",
    "failures_before",
    "gc",
]

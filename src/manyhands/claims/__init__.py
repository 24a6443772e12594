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
from manyhands.claims.directory import (
    agree,
    check_directory,
    failures_before,
    fingerprint_file,
    fingerprint_text,
    highest_slots,
    is_one_name,
    others_at_work,
)
from manyhands.claims.engine import Claims
from manyhands.claims.gc import gc, remove_output, why_unreadable
from manyhands.claims.names import Log, is_plain
from manyhands.claims.record import Claimant, Fail
from manyhands.claims.waiting import wait_for
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
    "agree",
    "check_directory",
    "failures_before",
    "fingerprint_file",
    "fingerprint_text",
    "gc",
    "highest_slots",
    "is_one_name",
    "is_plain",
    "others_at_work",
    "remove_output",
    "wait_for",
    "why_unreadable",
]

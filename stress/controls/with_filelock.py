"""filelock, as its tutorial has it, as its how-to has it, and with its lease."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from controls.contestant import OUTPUTS, Contestant, Job


class _Filelock(Contestant):
    distribution = "filelock"
    litter_by_design = "one lock file for each output"


class LockAndExists(_Filelock):
    """Look and write, both under the lock."""

    name = "filelock-exists"

    def work(self, job: Job) -> None:
        from filelock import FileLock

        for number in job.in_own_order():
            final = job.path(number)
            with FileLock(f"{final}.lock"):
                if not final.exists():
                    job.produce(number, final)


class LockAndReplace(_Filelock):
    """The lock spares work; that outputs are whole is for ``os.replace``. Whoever can't have the lock goes without."""

    name = "filelock-replace"

    def work(self, job: Job) -> None:
        from filelock import FileLock, Timeout

        for number in job.in_own_order():
            final = job.path(number)
            try:
                with FileLock(f"{final}.lock").acquire(timeout=job.lease):
                    _populate(job, number)
            except Timeout:
                _populate(job, number)


class LeaseAndReplace(_Filelock):
    """The same under a lease, which a silent owner loses."""

    name = "filelock-lease"
    litter_by_design = ""

    def work(self, job: Job) -> None:
        from filelock import SoftFileLease

        for number in job.in_own_order():
            final = job.path(number)
            with SoftFileLease(f"{final}.lock", lease_duration=job.lease):
                _populate(job, number)


def _populate(job: Job, number: int) -> None:
    final = job.path(number)
    if final.exists():
        return
    handle, temp = tempfile.mkstemp(dir=OUTPUTS)
    os.close(handle)
    try:
        job.produce(number, Path(temp))
        Path(temp).chmod(0o644)
        os.replace(temp, final)
    except BaseException:
        os.unlink(temp)
        raise

"""Recipes in plain Python, as many scripts have them."""

from __future__ import annotations

from pathlib import Path

from controls.contestant import Contestant, Job


class TempFile(Contestant):
    """Skip what is there, or begun; make a temporary file, compute, rename."""

    name = "temp-file"

    def work(self, job: Job) -> None:
        for number in range(job.items):
            final = job.path(number)
            temp = Path(f"{final}.temp")
            if final.exists() or temp.exists():
                continue
            temp.touch()
            job.produce(number, temp)
            temp.rename(final)


class InPlace(Contestant):
    """Skip what is there, or begun; write the output in its place."""

    name = "in-place"

    def work(self, job: Job) -> None:
        for number in range(job.items):
            final = job.path(number)
            if not final.exists():
                job.produce(number, final)

"""manyhands, by its own interface."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import tasks

from controls.contestant import OUTPUTS, Contestant, Job


class Manyhands(Contestant):
    """One map over the list in each process, with one worker."""

    name = "manyhands"
    distribution = "manyhands"
    deeds: ClassVar = {"kill parent": 25, "kill worker": 25, "stop parent": 25, "stop worker": 25}

    def version(self) -> str:
        from manyhands import __version__

        return __version__

    def work(self, job: Job) -> None:
        from manyhands import OUTPUT, WorkerDied, claimed_output, parallel, retry_on

        @parallel(workers=1)
        @claimed_output("outputs/{name}", lease=job.lease)
        @retry_on(WorkerDied, attempts=1000, wait=0.01)
        def write(name: str, number: int, output: Path = OUTPUT) -> None:  # noqa: ARG001  # the template uses the name
            job.produce(number, output)

        for _ in write.map([(tasks.output_name(number), number) for number in range(job.items)], star=True):
            pass

    def clean(self, job: Job) -> None:
        from manyhands import gc

        gc(OUTPUTS, now=True)

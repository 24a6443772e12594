"""The jugfile: one task for each item."""

import os

from jug import TaskGenerator

from controls.contestant import Job
from controls.with_jug import JOB

job = Job.from_json(os.environ[JOB])


@TaskGenerator  # type: ignore[untyped-decorator]  # jug has no types
def output(number: int) -> bytes:
    """The output of an item."""
    return job.produced(number)


results = [output(number) for number in range(job.items)]

"""The jugfile: one task for each item."""

import os

from controls.contestant import Job
from controls.with_jug import JOB
from jug import TaskGenerator

job = Job.from_json(os.environ[JOB])


@TaskGenerator
def output(number: int) -> bytes:
    """The output of an item."""
    return job.produced(number)


results = [output(number) for number in range(job.items)]

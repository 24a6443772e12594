"""jug with its file store: several ``jug execute``, and ``jug cleanup`` where its documents say so."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from controls.contestant import OUTPUTS, Contestant, Job

JOB = "MANYHANDS_STRESS_JOB"
JUGFILE = Path(__file__).with_name("jugfile.py")


class Jug(Contestant):
    """One ``jug execute`` for each process, over one jugfile."""

    name = "jug"
    distribution = "jug"
    remedy = "jug cleanup --locks-only"

    def work(self, job: Job) -> None:
        os.execve(sys.executable, _command("execute"), _environment(job))

    def paths(self, job: Job) -> Sequence[Path]:
        """Files of its store, each named after the hash of its task."""
        import jug

        os.environ.update(_environment(job))
        _, space = jug.init(str(JUGFILE), str(OUTPUTS))
        names = [task.hash().decode() for task in space["results"]]
        return [OUTPUTS / name[:2] / name[2:] for name in names]

    def decoded(self, data: bytes) -> bytes:
        from jug.backends.encode import decode_from

        try:
            value = decode_from(io.BytesIO(data))
        except Exception:
            return b"not whole"
        return value if isinstance(value, bytes) else b"another value"

    def heal(self, job: Job) -> None:
        _run(job, "cleanup", "--locks-only")

    def clean(self, job: Job) -> None:
        _run(job, "cleanup")


def _command(*arguments: str) -> list[str]:
    """``jug SUBCOMMAND JUGFILE --jugdir DIRECTORY``, by this interpreter."""
    subcommand, *options = arguments
    main = "import sys; from jug.jug import main; sys.exit(main())"
    return [sys.executable, "-c", main, subcommand, str(JUGFILE), "--jugdir", str(OUTPUTS), *options]


def _environment(job: Job) -> dict[str, str]:
    return {**os.environ, JOB: job.to_json(), "PYTHONPATH": str(Path(__file__).parents[1])}


def _run(job: Job, *arguments: str) -> None:
    subprocess.run(_command(*arguments), env=_environment(job), check=True, stdout=subprocess.DEVNULL)

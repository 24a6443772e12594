"""A Dask scheduler with two worker processes on loopback, in a process of their own, for the contract tests."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]

_SCRIPT = """
import sys
import dask
from distributed import LocalCluster

if __name__ == "__main__":
    # A task whose worker ended is not run again more than so often.
    dask.config.set({"distributed.scheduler.allowed-failures": int(sys.argv[1])})
    # A worker whose successor is slow to come is not taken for lost.
    dask.config.set({"distributed.deploy.lost-worker-timeout": "10 minutes"})
    with LocalCluster(n_workers=2, threads_per_worker=1, processes=True, host="127.0.0.1", dashboard_address=":0",
                      local_directory=sys.argv[2], silence_logs=50) as cluster:
        print(cluster.scheduler_address, flush=True)
        sys.stdin.read()
"""


@contextmanager
def dask_cluster(directory: Path, failures: int) -> Iterator[tuple[str, int]]:
    """Its address as ``backend`` takes it, and the process id of the scheduler; what it leaves is in the directory."""
    script = directory / "cluster.py"
    script.write_text(_SCRIPT, encoding="utf-8")
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    errors = (directory / "errors").open("wb")
    process = subprocess.Popen(
        [sys.executable, str(script), str(failures), str(directory)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=errors,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        address = process.stdout.readline().strip()
        assert address, (directory / "errors").read_text()
        yield address.replace("tcp://", "dask://"), process.pid
    finally:
        errors.close()
        process.stdin.close()
        process.stdout.close()
        process.wait()

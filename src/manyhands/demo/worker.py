"""One process of the demo: ``python -m manyhands.demo.worker TILES RESULTS REPORT [--workers N]``.

Runs the decorated function over all tiles, then writes which tables its own workers computed. It knows nothing
of the other processes.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

from manyhands.demo.objects import count_objects


def main() -> None:
    """Count the objects of every tile of TILES into RESULTS, and write the file REPORT at the end."""
    parser = argparse.ArgumentParser(prog="python -m manyhands.demo.worker")
    parser.add_argument("tiles", type=Path)
    parser.add_argument("results", type=Path)
    parser.add_argument("report", type=Path)
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    tiles = sorted(options.tiles.resolve().glob("*.png"))
    report = options.report.resolve()
    os.chdir(options.results)  # where the template of the outputs starts
    computed = []
    for outcome in count_objects.map(tiles, workers=options.workers, progress=False).outcomes():
        if outcome.failure is not None:
            raise outcome.failure.error
        if outcome.worker:  # empty if the table was there or came from another process
            computed.append(outcome.value.name)
    unfinished = report.with_name(f".{report.name}")
    unfinished.write_text(json.dumps({"computed": computed}), encoding="utf-8")
    unfinished.replace(report)


if __name__ == "__main__":
    main()

"""Finding and ending the processes of one measurement, by a mark in the environment that all inherit."""

from __future__ import annotations

import os
import time
import uuid

import psutil

MARK = "MANYHANDS_BENCHMARK"


def marked_environment(**more: str) -> tuple[str, dict[str, str]]:
    """A new mark, and an environment that carries it; it goes on from the one that we have, if we do."""
    mark = f"{os.environ.get(MARK, '')}/{uuid.uuid4().hex}"
    return mark, {**os.environ, MARK: mark, **more}


def marked(mark: str) -> list[psutil.Process]:
    """The processes that run with this mark, whoever their parent is by now; zombies don't count."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK, "").startswith(mark):
                found.append(process)
        except (psutil.Error, OSError):
            pass  # gone, a zombie, or somebody else's
    return found


def end(mark: str) -> None:
    """Kills what is left of a measurement."""
    while left := marked(mark):
        for process in left:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                pass
        time.sleep(0.02)

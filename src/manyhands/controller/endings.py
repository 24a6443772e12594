"""How workers end, in words."""

from __future__ import annotations

import signal

from manyhands.errors import TaskTimeout, WorkerDied


def died(pid: int, exitcode: int | None, ended_by: str = "", seconds: float = 0.0) -> WorkerDied:
    """The error of a call whose worker ended, after so many seconds."""
    how = ended_by or how_it_ended(exitcode)
    error = WorkerDied(f"the worker process {pid} {how} while it ran this item")
    error.pid, error.exitcode, error.seconds = pid, exitcode, seconds
    return error


def ended_before_it_ran_again() -> WorkerDied:
    """The error of a call that was to be ended while no worker had it, after one that had it ended."""
    return WorkerDied(
        "was ended on request, as it waited to run again: the worker that ran it had ended before"
    )


def timed_out(pid: int, limit: float) -> TaskTimeout:
    """The error of a call that ran for too long."""
    error = TaskTimeout(
        f"the item ran for more than {limit:g} s, so it was ended, with its worker process {pid}"
    )
    error.pid, error.timeout, error.seconds = pid, limit, limit
    return error


def how_it_ended(exitcode: int | None) -> str:
    """An exit status in words: ``was ended by SIGKILL``."""
    if exitcode is None:
        return "ended"
    if exitcode >= 0:
        return f"ended with exit status {exitcode}"
    try:
        name = signal.Signals(-exitcode).name
    except ValueError:
        name = f"signal {-exitcode}"
    hint = " (out of memory, perhaps)" if name == "SIGKILL" else ""
    return f"was ended by {name}{hint}"

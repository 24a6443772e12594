"""The processes of a storm: they are started, heard, replaced and, at the end, looked for.

Each carries a tag in its environment, and so does all that it starts. So what is left over is found without asking
who started it.
"""

from __future__ import annotations

import os
import select
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, Self

from manyhands.testing.racer import ERROR, READY
from manyhands.testing.races import Racer, packed

if TYPE_CHECKING:
    import psutil

TAG: Final = "MANYHANDS_STORM"
"""The variable that holds the tag."""

TICK: Final = 0.01
"""Seconds between two looks at what nobody tells."""


@dataclass
class Member:
    """A process of the storm.

    Attributes:
        racer: the process.
        is_ready: whether it has said so.
        value: what its function returned.
        error: what it raised.
        has_answered: whether it did either.
        has_ended: whether its process has, and all that it said was heard.
    """

    racer: Racer
    is_ready: bool = False
    value: Any = None
    error: BaseException | None = None
    has_answered: bool = False
    has_ended: bool = False

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.racer.pid


class Crew:
    """Processes that run the same few functions.

    Args:
        log: the file that gets all that they print.
    """

    def __init__(self, log: Path) -> None:
        self._tag = uuid.uuid4().hex
        self._born = time.time() - 5.0  # of what is older nothing is ours; clocks may be a little apart
        self._open = ExitStack()
        self._log = self._open.enter_context(log.open("ab"))
        self.members: list[Member] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def program(self, function: Callable[[int, int], object], written: object) -> IO[bytes]:
        """A function, as members get it; ``written`` is what its module is that of."""
        file = self._open.enter_context(tempfile.TemporaryFile())  # noqa: SIM115  # so it is
        file.write(packed(function, written))
        file.flush()
        return file

    def start(self, program: IO[bytes], gate: int | None = None) -> Member:
        """One more process. It waits at the end of a pipe, or goes at once."""
        environment = {**os.environ, TAG: self._tag}
        member = Member(Racer(len(self.members), program, environment, self._log))
        self.members.append(member)
        if gate is not None:
            member.racer.prepare(0, gate)
            return member
        gate, start = os.pipe()
        os.close(start)
        try:
            member.racer.prepare(0, gate)
        finally:
            os.close(gate)
        return member

    def look(self, seconds: float = TICK) -> None:
        """Hears what members have to say, for so long at most; who has answered may end."""
        waiting = [member for member in self.members if not member.has_answered and not member.has_ended]
        if waiting:
            select.select([member.racer.socket for member in waiting], [], [], seconds)
        else:
            time.sleep(seconds)
        for member in self.members:
            if not member.has_ended:
                ended = member.racer.status() is not None  # before it is heard for the last time
                self._hear(member)
                member.has_ended = ended

    @staticmethod
    def _hear(member: Member) -> None:
        while not member.has_answered and (answer := member.racer.read()) is not None:
            kind, value = answer
            if kind == READY:
                member.is_ready = True
                continue
            member.has_answered = True
            member.value, member.error = (None, value) if kind == ERROR else (value, None)
            member.racer.let_go()

    def alive(self) -> list[Member]:
        """Those that run, or are stopped."""
        return [member for member in self.members if not member.has_ended]

    def has(self, pid: int) -> bool:
        """Whether that is a process of this crew, which has not ended."""
        import psutil

        try:
            return self._carries_tag(psutil.Process(pid))
        except psutil.NoSuchProcess:
            return False

    def _carries_tag(self, process: psutil.Process) -> bool:
        import psutil

        try:
            if process.create_time() < self._born or process.environ().get(TAG) != self._tag:
                return False
            return process.status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
        except (psutil.Error, OSError):
            return False

    def left(self, seconds: float) -> list[str]:
        """What still runs of all that was started, in words, after so many seconds of patience."""
        import psutil

        deadline = time.monotonic() + seconds
        while True:
            for member in self.members:
                member.racer.status()  # a zombie is nobody
            found = [process for process in psutil.process_iter() if self._carries_tag(process)]
            if not found or time.monotonic() > deadline:
                return [_described(process) for process in found]
            time.sleep(10 * TICK)

    def close(self) -> None:
        """Kills all that there is of it."""
        import psutil

        for member in self.members:
            member.racer.end()
        while found := [process for process in psutil.process_iter() if self._carries_tag(process)]:
            for process in found:
                try:
                    process.kill()
                except psutil.Error:
                    pass
            psutil.wait_procs(found, 10 * TICK)
        self._open.close()


def absolute_path() -> None:
    """Makes Python find modules where it has found them, wherever this process goes."""
    sys.path[:] = [os.path.abspath(place) for place in sys.path]  # noqa: PTH100  # links stay


def _described(process: psutil.Process) -> str:
    import psutil

    try:
        return f"process {process.pid}, {process.status()}: {' '.join(process.cmdline())[-200:]!r}"
    except psutil.Error:
        return f"process {process.pid}"

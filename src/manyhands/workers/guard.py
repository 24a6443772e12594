"""The parent's handle on its guard process; see ``guard_process`` for what the guard does."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

from manyhands.workers import launch

_PROGRAM = Path(__file__).with_name("guard_process.py")


class Guard:
    """One guard per parent process, started when the first worker is."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def watch(self, group: int) -> None:
        """Ends this process group if this process dies."""
        self._tell(b"+%d\n" % group)

    def forget(self, group: int) -> None:
        """The process group has ended."""
        self._tell(b"-%d\n" % group)

    def abandon(self) -> None:
        """In a forked child: the guard is the parent's."""
        process, self._process = self._process, None
        self._lock = threading.Lock()
        if process is not None and process.stdin is not None:
            process.stdin.close()
            process.returncode = 0  # it is not this process's child, so nobody here may wait for it

    def close(self) -> None:
        """Ends the guard; the workers must have ended before."""
        with self._lock:
            process, self._process = self._process, None
        if process is not None and process.stdin is not None:
            process.stdin.close()
            process.wait()

    def _tell(self, line: bytes) -> None:
        with self._lock:
            if self._process is None:
                self._process = _start()
            assert self._process.stdin is not None
            try:
                os.write(self._process.stdin.fileno(), line)
            except OSError:  # somebody ended the guard; the workers notice a dead parent themselves, if later
                self._process.stdin.close()
                self._process.wait()
                self._process = None


def _start() -> subprocess.Popen[bytes]:
    # -I -S: neither the user's environment nor site-packages can slow it down or change it. A session of its
    # own keeps Ctrl-C and a closing terminal away from it.
    with launch.starting:
        return subprocess.Popen(
            [sys.executable, "-I", "-S", str(_PROGRAM), str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            cwd="/",
            start_new_session=True,
        )


guard = Guard()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=guard.abandon)

"""Machines that are made of Linux namespaces: each has a host name, a boot id and process ids of its own."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil

_INSIDE = (
    "hostname {name}; mount --bind {boot} /proc/sys/kernel/random/boot_id; echo up; while sleep 1; do :; done"
)


def why_not() -> str:
    """Why there can be no machines here; "" if there can."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "only root may make namespaces, and only on Linux"
    if shutil.which("unshare") is None:
        return "unshare is not installed"
    probe = ["unshare", "-u", "-p", "-m", "-f", "--mount-proc", "true"]
    return (
        "namespaces are not allowed here"
        if subprocess.run(probe, capture_output=True, check=False).returncode
        else ""
    )


class Host:
    """A machine; ``environment`` is that of its first process.

    Args:
        name: its host name.
        room: a directory where its boot id may be kept.
    """

    def __init__(self, name: str, room: Path, environment: dict[str, str]) -> None:
        boot = room / f"boot-{name}"
        boot.write_text(f"{uuid.uuid4()}\n")
        inside = _INSIDE.format(name=shlex.quote(name), boot=shlex.quote(str(boot)))
        with open(room / f"stderr-{name}", "wb") as stderr:
            self._unshare = subprocess.Popen(
                ["unshare", "-u", "-p", "-m", "-f", "--mount-proc", "--kill-child", "sh", "-c", inside],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                env=environment,
            )
        assert self._unshare.stdout is not None
        if self._unshare.stdout.readline() != "up\n":
            raise OSError(f"the host {name!r} did not come up")
        (self._first,) = psutil.Process(self._unshare.pid).children()

    def command(self, command: Sequence[str]) -> list[str]:
        """What runs ``command`` there, as the only child of the process that is started with it here."""
        return [
            sys.executable,
            "-I",
            "-S",
            str(Path(__file__).with_name("enter.py")),
            str(self._first.pid),
            *command,
        ]

    def lose(self) -> None:
        """All of it is gone at once: nobody is left to say so."""
        # The kernel ends everything in a pid namespace whose first process ends; but a guard might outrun it.
        for process in self._all():
            if process != self._first:
                _quietly(process.suspend)
        _quietly(self._first.kill)
        self._unshare.wait()
        if self._unshare.stdout is not None:
            self._unshare.stdout.close()

    def _all(self) -> list[psutil.Process]:
        space = os.stat(f"/proc/{self._first.pid}/ns/pid").st_ino
        found = []
        for process in psutil.process_iter():
            try:
                if os.stat(f"/proc/{process.pid}/ns/pid").st_ino == space:
                    found.append(process)
            except OSError:
                pass
        return found


def _quietly(deed: Callable[[], object]) -> None:
    try:
        deed()
    except psutil.Error:
        pass

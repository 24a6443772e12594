"""The guard: ends the process groups of a parent's workers when the parent dies, however it dies.

Runs as a program of its own, with nothing imported that it does not need. It is told on its standard input,
a line each: ``+<group>`` watch, ``-<group>`` forget. When that ends, or the parent is gone, it kills all
groups it watches and ends. A pipe's end alone is not enough: a process that the user forked off the parent
holds it open.
"""

import os
import select
import signal
import sys


def main(parent: int) -> None:
    """Watches until the parent, the process with this id, is gone."""
    try:
        watched = os.pidfd_open(parent)
    except (AttributeError, OSError):
        watched = -1
    groups: set[int] = set()
    text = b""
    while True:
        ready, _, _ = select.select(
            [0, watched] if watched >= 0 else [0], [], [], None if watched >= 0 else 0.5
        )
        if 0 in ready:
            data = os.read(0, 65536)
            if not data:
                break
            *lines, text = (text + data).split(b"\n")
            for line in lines:
                (groups.add if line[:1] == b"+" else groups.discard)(int(line[1:]))
        elif watched in ready or os.getppid() != parent:
            break
    for group in groups:
        try:
            os.killpg(group, signal.SIGKILL)
        except OSError:
            pass  # it has ended by itself


if __name__ == "__main__":
    main(int(sys.argv[1]))

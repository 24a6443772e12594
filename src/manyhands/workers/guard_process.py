"""The guard: ends the process groups of a parent's workers when the parent dies, however it dies.

Runs as a program of its own, with nothing imported that it does not need. It is told on its standard input,
a line each: ``+<group>`` watch, ``-<group>`` forget. When that ends, or the parent is gone, it kills all
groups it watches and ends. A pipe's end alone is not enough: a process that the user forked off the parent
holds it open.

Where workers are forked, the guard is at first, too: to start a program takes as long as all the rest. It becomes
the program when there is nothing else to do, and lets go of the parent's memory thereby.
"""

import os
import select
import signal
import sys

_QUIET_SECONDS = 0.5


def main(parent: int, groups: set[int], forked: bool = False) -> None:
    """Watches until the parent, the process with this id, is gone."""
    try:
        watched = os.pidfd_open(parent)
    except (AttributeError, OSError):
        watched = -1
    text = b""
    while True:
        gone = os.getppid() != parent  # perhaps before this process began
        patience = 0 if gone else _QUIET_SECONDS if forked or watched < 0 else None
        ready, _, _ = select.select([0, watched] if watched >= 0 else [0], [], [], patience)
        if 0 in ready:  # first: it may say what is to be ended
            data = os.read(0, 65536)
            if not data:
                break
            *lines, text = (text + data).split(b"\n")
            for line in lines:
                (groups.add if line[:1] == b"+" else groups.discard)(int(line[1:]))
        elif gone or watched in ready:
            break
        elif forked and not text:
            try:
                os.execv(sys.executable, command(parent, groups))  # noqa: S606
            except OSError:
                forked = False  # no memory, say: it goes on as it is
    for group in groups:
        try:
            os.killpg(group, signal.SIGKILL)
        except OSError:
            pass  # it has ended by itself


def command(parent: int, groups: set[int]) -> list[str]:
    """What starts the guard of this parent as a program, with groups that it watches from the beginning."""
    # -I -S: neither the user's environment nor site-packages can slow it down or change it.
    return [sys.executable, "-I", "-S", __file__, str(parent), *map(str, groups)]


def become(parent: int, end: int) -> None:
    """The whole life of a process that was forked to be the guard, told what to do through the descriptor ``end``."""
    os.setsid()  # a session of its own keeps Ctrl-C and a closing terminal away from it
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals():
        if callable(signal.getsignal(number)):
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    null = os.open(os.devnull, os.O_RDWR)
    for here, there in ((end, 0), (null, 1), (null, 2)):
        os.dup2(here, there)
        os.set_inheritable(there, True)  # if it was that one already, too
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    os.chdir("/")
    main(parent, set(), forked=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), set(map(int, sys.argv[2:])))

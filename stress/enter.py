"""Runs a command on a host that is made of namespaces, and ends as it does.

Usage: python enter.py PID COMMAND…

PID: the host's first process. ``nsenter`` does the same, but stops itself when the command is stopped; then who
continues the command would have to find out whether it has done so yet.
"""

import ctypes
import os
import sys

first, command, directory = sys.argv[1], sys.argv[2:], os.getcwd()
library = ctypes.CDLL(None, use_errno=True)
spaces = [os.open(f"/proc/{first}/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC) for kind in ("uts", "pid", "mnt")]
for space in spaces:
    if library.setns(space, 0):
        raise OSError(ctypes.get_errno(), "setns", first)
os.chdir(directory)  # a process that enters a mount namespace is at its root
child = os.fork()  # the first one that is in the pid namespace
if not child:
    os.execv(command[0], command)
for end in (0, 1, 2):
    os.close(end)  # they are the command's
status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
os._exit(status if status >= 0 else 128 - status)

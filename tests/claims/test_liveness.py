"""Who is said to be dead: only what surely has ended."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from manyhands.claims import liveness
from manyhands.claims.names import record_file


@pytest.mark.parametrize("pid", [0, -1, 2**31, 10**4000])
def test_what_is_no_pid(pid: int) -> None:
    """A number that no process can have says nothing, and is no error."""
    assert liveness.life(liveness.identity("f" * 24)._replace(pid=pid)) == "unknown"


def test_processes_that_cant_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system shows no processes of other users, theirs are not taken for gone."""
    me = liveness.identity("f" * 24)
    other = me._replace(pid=2**22 + 1)  # more than Linux gives
    assert liveness.life(me) == "unknown"
    assert liveness.life(me._replace(start_ticks=1)) == "dead"
    assert liveness.life(other) == "dead"

    def hide(pid: int, signum: int) -> None:
        raise PermissionError

    with monkeypatch.context() as patch:
        patch.setattr(liveness.os, "kill", hide)  # /proc mounted with hidepid=2
        assert liveness.life(other) == "unknown"
        with subprocess.Popen([sys.executable, "-c", ""]) as zombie:
            os.waitid(
                os.P_PID, zombie.pid, os.WEXITED | os.WNOWAIT
            )  # another user's, say: it is seen to have ended
            assert liveness.life(me._replace(pid=zombie.pid)) == "dead"

    def refuse(pid: int) -> None:
        raise PermissionError

    with monkeypatch.context() as patch:
        patch.setattr(liveness, "_started", refuse)  # hidepid=1
        assert liveness.life(other) == "unknown"
    with monkeypatch.context() as patch:
        patch.setattr(liveness.os, "readlink", lambda path: "1")  # another namespace's /proc
        assert liveness.life(me._replace(start_ticks=1)) == "unknown"


def test_who_was_marked_dead_leaves_nothing(tmp_path: Path) -> None:
    """A guard removes the record that counts; who finds that takes the others away."""
    me = liveness.identity("a" * 24)
    here = str(tmp_path)
    for path in (record_file(here, me.token, "commit"), record_file(here, me.token, "verdict")):
        Path(path).touch()
    assert liveness.judge(me, here) == "dead"
    assert list(tmp_path.iterdir()) == []

"""The marker: what a worker notes is what its parent reads."""

from __future__ import annotations

import socket

from manyhands.workers.marker import receive_marker, send_marker


def test_the_parent_reads_what_the_worker_notes() -> None:
    """Nothing is begun at first; then the call that was noted last is, and while loading every call is."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        parent, worker = send_marker(ours), receive_marker(theirs)
    assert not parent.has_begun(0)
    worker.begin(0)
    assert parent.has_begun(0)
    assert not parent.has_begun(1)
    worker.load()
    assert parent.has_begun(0)
    assert parent.has_begun(1)
    worker.begin(1)
    assert not parent.has_begun(0)
    parent.close()
    worker.close()

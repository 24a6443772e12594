"""The marker: what a worker notes is what its parent reads, and the other way about."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from manyhands.workers.marker import LOADING, NOTHING, Marker, receive_marker, send_marker


def both(threads: int) -> tuple[Marker, Marker]:
    """Both sides of a marker."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        marker = send_marker(ours, threads, ours)
        received, side = receive_marker(theirs)
        side.close()
        return marker, received


@pytest.fixture
def sides() -> Iterator[tuple[Marker, Marker]]:
    """Those of a worker with one thread."""
    parent, worker = both(1)
    yield parent, worker
    parent.close()
    worker.close()


def note(worker: Marker, lane: int, ticket: int, position: int = 0) -> None:
    """What a thread writes."""
    worker.numbers[2 * lane + 3] = position
    worker.numbers[2 * lane + 2] = ticket


def test_the_parent_reads_what_the_worker_notes(sides: tuple[Marker, Marker]) -> None:
    """Nothing at first, then each call that is noted, until nothing is again."""
    parent, worker = sides
    assert parent.running() == worker.running() == []
    note(worker, 0, 5, 7)
    assert parent.running() == [(5, 7)]
    worker.numbers[3] = 8
    assert parent.running() == [(5, 8)]
    note(worker, 0, 0, 0)
    assert parent.running() == [(0, 0)]
    worker.numbers[2] = NOTHING
    assert parent.running() == []


def test_the_worker_sees_that_it_is_guarded(sides: tuple[Marker, Marker]) -> None:
    """Not at first; then for good, whatever else is noted."""
    parent, worker = sides
    assert not worker.guarded
    note(worker, 0, -1, -1)
    parent.recall()
    worker.loads(True)
    assert not worker.guarded
    parent.guarded = True
    assert worker.guarded and worker.running() == [(LOADING, 0)]


def test_the_first_note_of_all_is_no_recall(sides: tuple[Marker, Marker]) -> None:
    """The epoch is 0 until the parent recalls, and each recall raises it where the worker sees it."""
    parent, worker = sides
    note(worker, 0, 5, 7)
    worker.loads(True)
    assert worker.numbers[0] == 0
    assert [parent.recall(), parent.recall()] == [1, 2]
    assert worker.numbers[0] == 2
    assert parent.running() == [(5, 7), (LOADING, 0)]


def test_loading_is_no_call(sides: tuple[Marker, Marker]) -> None:
    """It is shown beside the calls that run, while it goes on."""
    parent, worker = sides
    worker.loads(True)
    assert parent.running() == [(LOADING, 0)]
    note(worker, 0, 5, 7)
    assert parent.running() == [(5, 7), (LOADING, 0)]
    worker.loads(False)
    assert parent.running() == [(5, 7)]


@given(st.lists(st.none() | st.tuples(st.integers(0, 2**62), st.integers(0, 2**62)), min_size=1, max_size=9))
def test_each_thread_has_a_place(calls: list[tuple[int, int] | None]) -> None:
    """Threads that run nothing are left out, and none writes over another."""
    parent, worker = both(len(calls))
    assert parent.threads == worker.threads == len(calls)
    assert parent.running() == []
    for lane, call in enumerate(calls):
        if call is not None:
            note(worker, lane, *call)
    assert parent.running() == [call for call in calls if call is not None]
    parent.close()
    worker.close()


def test_a_marker_outlives_the_other_side(sides: tuple[Marker, Marker]) -> None:
    """What a dead worker was at can be read still."""
    parent, worker = sides
    note(worker, 0, 5, 7)
    worker.close()
    assert parent.running() == [(5, 7)]


def test_no_descriptor_is_kept() -> None:
    """Only the memory is: a pool may have many workers."""
    before = psutil.Process().num_fds()
    parent, worker = both(2)
    assert psutil.Process().num_fds() <= before + 2  # what a mapping holds is its own
    parent.close()
    worker.close()
    assert psutil.Process().num_fds() == before


def test_a_parent_that_is_gone_is_told() -> None:
    """A worker that finds no marker raises, rather than to go on without."""
    ours, theirs = socket.socketpair()
    ours.close()
    with theirs, pytest.raises(EOFError):
        receive_marker(theirs)

"""A future of a pool, told by hand what its dispatcher would tell it."""

from __future__ import annotations

from concurrent.futures import wait
from types import SimpleNamespace
from typing import Any

import pytest

from manyhands.controller.futures import PoolFuture
from manyhands.controller.share import Dropped
from manyhands.errors import PoolClosed, WorkerDied


class Desk:
    """Takes every call for one that a worker has."""

    is_quick = False

    def __init__(self) -> None:
        self.called: list[Any] = []
        self.asked: list[int] = []
        self.dispatcher = SimpleNamespace(
            cancel=self.asked.append,
            caretaker=SimpleNamespace(hurry=lambda: None, call_back=lambda callback: callback()),
            reader=SimpleNamespace(ring=lambda: None, wait=lambda ready, timeout, spin: ready()),
        )

    def knows(self, ticket: int) -> bool:
        return True


@pytest.fixture
def desk() -> Any:
    return Desk()


def test_a_call_that_was_asked_back_is_cancelled_when_it_comes(desk: Any) -> None:
    """Even if it was taken for begun meanwhile: it never ran, and nobody wants it."""
    for begins in (False, True):
        future: PoolFuture[int] = PoolFuture(desk)
        future.add_done_callback(desk.called.append)
        assert not future.cancel()
        if begins:
            future.set_running_or_notify_cancel()
        future.settle(Dropped(), "")
        assert future.cancelled() and wait([future], 0).done == {future}
        assert desk.called.pop() is future and not desk.called
    assert len(desk.asked) == 2


def test_a_call_that_runs_is_not_asked_back(desk: Any) -> None:
    """And if its pool closes before it can run again, it says so."""
    future: PoolFuture[int] = PoolFuture(desk)
    future.set_running_or_notify_cancel()
    assert not future.cancel() and not desk.asked
    future.settle(Dropped(), "")
    with pytest.raises(PoolClosed, match="run again"):
        future.result(0)


def test_a_call_that_is_killed_before_it_runs_again(desk: Any) -> None:
    """It is told that, since it can't be cancelled any more."""
    future: PoolFuture[int] = PoolFuture(desk)
    future.set_running_or_notify_cancel()
    future._is_killed = True
    future.settle(Dropped(), "")
    with pytest.raises(WorkerDied, match="on request"):
        future.result(0)

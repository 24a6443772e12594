"""Who reads what the workers send: whoever waits for it.

One thread at a time leads: it waits for all the workers of a pool, takes in what they say and tells whom it concerns.
Others that wait meanwhile follow: each sleeps on a bell of its own. A leader that has got what it wanted rings one of
them, which leads then. The pool's own thread, the caretaker, leads only when nobody waits. So an answer goes straight
to the thread that waits for it, without a hop through another.

An interrupt (Ctrl-C, say) may hit a leader anywhere. It marks where it is in the middle of a change, and the next
thread that finds the mark has the pool rebuilt.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final

from manyhands.controller.poller import Poller
from manyhands.waiting import noticing
from manyhands.workers.inlet import inlet
from manyhands.workers.spin import Spin

if TYPE_CHECKING:
    from manyhands.controller.dispatcher import Dispatcher

CARETAKER: Final = -1


class Reader:
    """The reading side of one pool.

    Attributes:
        leader: the thread that reads, by its id; CARETAKER; or None. Changed under the dispatcher's lock, except that a
            leader may always step down.
        led: whether anybody but the caretaker has led since it last looked.
    """

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher
        self.poller = Poller()
        self.leader: int | None = None
        self.led = False
        self.closed = False
        self._bells: set[threading.Event] = set()
        self._spin = Spin()
        self._woken, self._wake_end = os.pipe()
        for end in (self._woken, self._wake_end):
            os.set_blocking(end, False)
        self.poller.add(self._woken)

    @property
    def has_followers(self) -> bool:
        """Whether threads wait for somebody to read."""
        return bool(self._bells)

    def wait(self, ready: Callable[[], bool], timeout: float | None = None, spin: bool = False) -> None:
        """Returns when ``ready`` (called without a lock) or after ``timeout`` seconds; reads meanwhile, or follows.

        Args:
            ready: whether what is waited for has come.
            timeout: seconds; None: for ever.
            spin: it is likely to come within ``SPIN_SECONDS``.
        """
        me = threading.get_ident()
        deadline = None if timeout is None else time.monotonic() + timeout
        try:
            while not ready() and not self.closed:
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    return
                self._take_lead(me)
                if self.leader == me:
                    self.led = True
                    if spin:
                        self._spin.until(partial(self._look_for, ready))
                    self._lead(ready, deadline)
                    return
                self._follow(ready, left)
        finally:
            if self.leader == me:
                self._step_down()
            elif self.leader is None:
                self.ring_one()  # this thread was rung to lead, perhaps, and goes without

    def _take_lead(self, me: int) -> None:
        """This thread leads if nobody does, or only the caretaker: should that be reading just now, no harm is done."""
        with self._dispatcher.lock:
            before = self.leader
            if before in (None, CARETAKER) and not self.closed:
                self.leader = me
        if before == CARETAKER:
            self._dispatcher.caretaker.wake()  # it sleeps until something arrives, and has other things to look after

    def _step_down(self) -> None:
        self.leader = None
        self.ring_one()
        if self.closed:
            self.close()

    def _look_for(self, ready: Callable[[], bool]) -> bool:
        if not ready() and not self.closed:
            self.step(0.0)
        return ready() or self.closed

    def _lead(self, ready: Callable[[], bool], deadline: float | None) -> None:
        while not ready() and not self.closed:  # it may have become so just before this thread began to lead
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            self.step(noticing(left))
            if left == 0:
                return

    def _follow(self, ready: Callable[[], bool], left: float | None) -> None:
        bell = threading.Event()
        self._bells.add(bell)
        try:
            if self.leader in (None, CARETAKER):
                return
            if not ready():
                bell.wait(noticing(left))
        finally:
            self._bells.discard(bell)

    def look(self) -> None:
        """Takes in what has arrived, if nobody else is at it; does not wait."""
        me = threading.get_ident()
        try:
            self._take_lead(me)
            if self.leader == me:
                self.led = True
                self.step(0.0)
        finally:
            if self.leader == me:
                self._step_down()

    def step(self, timeout: float | None) -> None:
        """Waits once and takes in what has arrived; the leader's."""
        dispatcher = self._dispatcher
        most = dispatcher.sample_interval
        if most is not None:
            timeout = most if timeout is None else min(timeout, most)
        descriptors = self.poller.poll(timeout)
        if self._woken in descriptors:
            descriptors.remove(self._woken)
            try:
                os.read(self._woken, 4096)
            except BlockingIOError:
                pass
        if descriptors or most is not None:
            dispatcher.take_in(descriptors)
            inlet.hold_back()

    def ring_one(self) -> None:
        """Nobody leads: somebody who waits is to."""
        for bell in list(self._bells):
            if not bell.is_set():
                bell.set()
                return

    def ring_all(self) -> None:
        """Something has arrived that may concern those who follow."""
        for bell in list(self._bells):
            bell.set()

    def ring(self) -> None:
        """Something has happened that the workers did not send: all who wait look."""
        self.ring_all()
        if self.leader not in (None, CARETAKER):
            self.nudge()

    def nudge(self) -> None:
        """Ends the leader's wait."""
        try:
            os.write(self._wake_end, b"\0")
        except OSError:
            pass  # it is awake, or the pool has ended

    def retire(self) -> None:
        """Nobody is to read any more. Under the lock."""
        self.closed = True
        self.ring()
        if self.leader is None:
            self.close()

    def disown(self) -> None:
        """In a forked child: nobody reads here, and nobody but this thread waits."""
        self.leader = None
        for bell in self._bells:
            # Another thread may have held its lock.
            bell._at_fork_reinit()  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
        self.close()

    def close(self) -> None:
        """Lets go of the descriptors; nobody leads."""
        self.closed = True
        self.poller.close()
        ends, self._woken, self._wake_end = (self._woken, self._wake_end), -1, -1
        for end in ends:
            if end >= 0:
                os.close(end)
        self.ring_all()

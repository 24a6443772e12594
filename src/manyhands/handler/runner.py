"""What runs calls, as the stream sees it: submit, cancel, kill, events.

One runner serves one map and ends with it; pools lend a runner per map. The controller's sessions satisfy
this protocol, and so does ``InlineRunner`` here.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeGuard

from manyhands.calls import Answer, Call
from manyhands.outcome import Answered, Cancelled, Event
from manyhands.waiting import noticing


class Runner(Protocol):
    """Runs calls somewhere. Every submitted ticket is in exactly one event that follows, in any order."""

    @property
    def capacity(self) -> int:
        """How many calls can run at the same time."""
        ...

    @property
    def batches(self) -> bool:
        """Whether it takes blocks: then it is a ``BlockRunner``."""
        ...

    @property
    def chunk(self) -> int:
        """How many items it would send at once, going by how long the last ones took."""
        ...

    @property
    def horizon(self) -> int:
        """How many items its workers get through in about a second; 0 as long as that is not known."""
        ...

    @property
    def has_room(self) -> bool:
        """Whether it wants more than what is out; if not, something is out."""
        ...

    def submit(self, ticket: int, call: Call) -> None:
        """Takes a call; one that can't be sent comes back as ``Answered`` with ``Failed``, not as an error."""
        ...

    def promise(self, pending: Callable[[], bool]) -> None:
        """Calls will come, whose answers somebody was promised, for as long as ``pending`` is true."""
        ...

    def cancel(self, ticket: int) -> None:
        """Drops the call if it has not started; otherwise does nothing."""
        ...

    def kill(self, ticket: int) -> None:
        """Drops the call, ending its worker if it is running there; then its event is ``Died``."""
        ...

    def events(self, timeout: float | None) -> list[Event]:
        """What has happened since; waits for something to happen, at most ``timeout`` seconds (None: for ever).

        Returns an empty list when the time is over or ``wake`` was called.
        """
        ...

    def wake(self) -> None:
        """Ends a wait in ``events``, now or the next one; may be called from any thread."""
        ...

    def close(self, kill: bool = False, wait: bool = True) -> None:
        """Cancels what has not started. What runs is finished and forgotten or, with ``kill``, ended.

        With ``wait``, returns when the workers that are idle have let go of what they kept for the calls;
        without, it takes no lock and may be called from a finaliser.
        """
        ...


class BlockRunner(Runner, Protocol):
    """A runner that takes items together, too."""

    def submit_block(self, ticket: int, items: Sequence[Any]) -> int:
        """Takes items at hand, with tickets from this one on; they are told of in ``Returned`` and the other events.

        Returns how many it has taken: one at least.
        """
        ...

    def hold(self, item: Any) -> Any:
        """The item as it is now, whatever is done to it later: itself if it can't change, else a ``Held``."""
        ...

    def opened(self, held: Any) -> Any:
        """The item that a ``Held`` holds, as it was, nobody else's; raises what unpickling it raises."""
        ...

    def submit_held(self, ticket: int, held: Sequence[Any]) -> None:
        """As ``submit_block``, of what ``hold`` gave for each item; takes all."""
        ...


def takes_blocks(runner: Runner) -> TypeGuard[BlockRunner]:
    """Whether the runner is one that does."""
    return runner.batches


class InlineRunner:
    """Runs each call in the thread that asks for events, one per question."""

    capacity = 1
    batches = False
    chunk = 1
    horizon = 0
    has_room = True

    def __init__(
        self, work: Callable[[Call], Answer], sleep: Callable[[float], object] | None = None, name: str = ""
    ) -> None:
        self._work = work
        self._woken = threading.Event()
        self._sleep = sleep or self._nap
        self._name = name
        self._calls: deque[tuple[int, Call]] = deque()
        self._cancelled: list[Event] = []

    def submit(self, ticket: int, call: Call) -> None:
        """Takes a call; it runs at a later ``events``."""
        self._calls.append((ticket, call))

    def promise(self, pending: Callable[[], bool]) -> None:
        """Nothing here ends before its caller does."""

    def cancel(self, ticket: int) -> None:
        """Drops the call if it waits still."""
        for waiting in self._calls:
            if waiting[0] == ticket:
                self._calls.remove(waiting)
                self._cancelled.append(Cancelled(ticket))
                return

    def kill(self, ticket: int) -> None:
        """Nothing runs between two questions, so this is ``cancel``."""
        self.cancel(ticket)

    def events(self, timeout: float | None) -> list[Event]:
        """Runs the next call, or sleeps, until the time is over at most."""
        if self._cancelled:
            events, self._cancelled = self._cancelled, []
            return events
        if not self._calls:
            if timeout:
                self._sleep(timeout)
                self._woken.clear()
            return []
        ticket, call = self._calls.popleft()
        start = time.perf_counter()
        answer = self._work(call)
        end = time.perf_counter()
        return [Answered(ticket, answer, end - start, self._name, end)]

    def _nap(self, seconds: float) -> None:
        self._woken.wait(noticing(seconds))

    def wake(self) -> None:
        """Ends a sleep in ``events``: the thread's that asks for them, while others add or cancel."""
        self._woken.set()

    def close(self, kill: bool = False, wait: bool = True) -> None:
        """Forgets the calls that wait."""
        self._calls.clear()
        self._cancelled.clear()
        close = getattr(self._work, "close", None)
        if close is not None:
            close()

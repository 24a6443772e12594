"""A future that raises what its call raised with no frames but the user's."""

from __future__ import annotations

import time
from concurrent.futures import Future
from types import TracebackType
from typing import TypeVar

from manyhands.traces import hide_frames
from manyhands.waiting import NOTICE_SECONDS, noticing

T = TypeVar("T")


class CallFuture(Future[T]):
    """As ``concurrent.futures`` has it; asked again, it raises the same with no more frames than at first.

    Args:
        called: its ``str`` tells in messages what is called.
    """

    def __init__(self, called: object = "a function") -> None:
        super().__init__()
        self._called = called
        self._raised = False
        self._frames: TracebackType | None = None

    def __repr__(self) -> str:
        return f"<{self._word()} call of {self._called}>"

    def _word(self) -> str:
        if self.cancelled():
            return "cancelled"
        if not self.done():
            return "running" if self.running() else "pending"
        return "failed" if self._exception is not None else "finished"

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """What the call raised, or None; raises TimeoutError after ``timeout`` seconds."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            left = None if deadline is None else deadline - time.monotonic()
            try:
                return super().exception(noticing(left))
            except TimeoutError:
                if left is not None and left <= NOTICE_SECONDS:
                    raise

    def result(self, timeout: float | None = None) -> T:
        """What the call returned; raises what it raised, or TimeoutError after ``timeout`` seconds."""
        try:
            error = self.exception(timeout)
        except KeyboardInterrupt as interrupt:
            hide_frames(interrupt)
            raise
        if error is None:
            return super().result(0)
        if not self._raised:
            self._raised, self._frames = True, error.__traceback__
        try:
            raise error
        except BaseException:
            error.with_traceback(self._frames)  # without this frame
            raise
        finally:
            del self, error  # or they would hold each other

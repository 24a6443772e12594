"""A future that raises what its call raised with no frames but the user's."""

from __future__ import annotations

from concurrent.futures import Future
from types import TracebackType
from typing import TypeVar

T = TypeVar("T")


class CallFuture(Future[T]):
    """As ``concurrent.futures`` has it; asked again, it raises the same with no more frames than at first."""

    _raised = False
    _frames: TracebackType | None

    def result(self, timeout: float | None = None) -> T:
        """What the call returned; raises what it raised, or TimeoutError after ``timeout`` seconds."""
        error = self.exception(timeout)
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

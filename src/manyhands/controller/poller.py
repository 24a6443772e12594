"""Waiting for many descriptors, to which other threads may add while one waits."""

from __future__ import annotations

import select
import sys
from typing import Any, Final

if sys.platform == "linux":

    class Poller:
        """Descriptors to read from, and some to write to."""

        def __init__(self) -> None:
            self._poll = select.epoll()

        def add(self, descriptor: int) -> None:
            """Watches for something to read."""
            self._poll.register(descriptor, select.EPOLLIN)

        def watch_writing(self, descriptor: int, writing: bool) -> None:
            """Watches for room to write too, or no longer."""
            self._poll.modify(descriptor, select.EPOLLIN | (select.EPOLLOUT if writing else 0))

        def remove(self, descriptor: int) -> None:
            """No longer watches."""
            try:
                self._poll.unregister(descriptor)
            except (OSError, ValueError):
                pass  # it was removed before

        def poll(self, timeout: float | None) -> list[int]:
            """The descriptors with something to do, within ``timeout`` seconds."""
            return [descriptor for descriptor, _ in self._poll.poll(timeout)]

        def fileno(self) -> int:
            """Readable when ``poll`` would return at once."""
            return self._poll.fileno()

        def close(self) -> None:
            """Ends it."""
            self._poll.close()

else:
    _EVENTS: Final = 64

    class Poller:
        """Descriptors to read from, and some to write to."""

        def __init__(self) -> None:
            self._poll: Any = select.kqueue()

        def add(self, descriptor: int) -> None:
            """Watches for something to read."""
            self._change(descriptor, select.KQ_FILTER_READ, select.KQ_EV_ADD)

        def watch_writing(self, descriptor: int, writing: bool) -> None:
            """Watches for room to write too, or no longer."""
            self._change(
                descriptor, select.KQ_FILTER_WRITE, select.KQ_EV_ADD if writing else select.KQ_EV_DELETE
            )

        def remove(self, descriptor: int) -> None:
            """No longer watches."""
            for kind in (select.KQ_FILTER_READ, select.KQ_FILTER_WRITE):
                self._change(descriptor, kind, select.KQ_EV_DELETE)

        def poll(self, timeout: float | None) -> list[int]:
            """The descriptors with something to do, within ``timeout`` seconds."""
            return [event.ident for event in self._poll.control(None, _EVENTS, timeout)]

        def fileno(self) -> int:
            """Readable when ``poll`` would return at once."""
            return int(self._poll.fileno())

        def close(self) -> None:
            """Ends it."""
            self._poll.close()

        def _change(self, descriptor: int, kind: int, flags: int) -> None:
            try:
                self._poll.control([select.kevent(descriptor, kind, flags)], 0)
            except OSError:
                pass  # it was not watched, or is closed

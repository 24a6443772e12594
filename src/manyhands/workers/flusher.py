"""Looks after what waits behind a slow call: sends what the calls before it returned, and hands the rest back."""

from __future__ import annotations

import _thread
import threading
import time
from collections.abc import Callable
from time import perf_counter as clock
from typing import NamedTuple

from manyhands.workers.channel import Frame
from manyhands.workers.lane import FLUSH_SECONDS, SLOW_SECONDS, Lane, handed_back


class _Seen(NamedTuple):
    """What the flusher saw of a lane: what runs there and since when, how often it has sent, and since when not."""

    stretch: tuple[int, int]
    since: float
    sends: int
    quiet: float


class Flusher:
    """A thread that looks, once in ``FLUSH_SECONDS``, whether something waits behind a call that goes on.

    It starts with the first piece that may need it, and sleeps while there is none. It runs while a call does, so it
    can do nothing behind one that holds the GIL all the time.

    Args:
        unbegun: takes the RUN frames away that have arrived and that no lane has begun.
        send: sends frames.
    """

    def __init__(self, unbegun: Callable[[], list[Frame]], send: Callable[..., None]) -> None:
        self._unbegun = unbegun
        self._send = send
        self._lanes: list[Lane] = []
        self._runs = False
        self._wanted = threading.Event()
        self._awake = False
        self._seen: dict[Lane, _Seen] = {}

    def watch(self, lane: Lane) -> None:
        """Looks after this one too."""
        self._lanes.append(lane)

    def attend(self) -> None:
        """There may be something to look after."""
        if self._awake:
            return
        self._awake = True
        if not self._runs:
            try:
                # No ``Thread``: that would wait for the other to begin, and the first call with it.
                _thread.start_new_thread(self._serve, ())
            except RuntimeError:  # no more threads: what waits behind a slow call waits for it, then
                self._awake = False
                return
            self._runs = True
        self._wanted.set()

    def look(self, now: float) -> bool:
        """Looks once; returns whether any call runs."""
        running = [(lane, stretch) for lane in self._lanes if (stretch := lane.stretch) is not None]
        seen = {}
        slow = 0
        for lane, stretch in running:
            before = self._seen.get(lane)
            if before is None or before.stretch != stretch:
                seen[lane] = _Seen(stretch, now, lane.sends, now)
                continue
            quiet = before.quiet if before.sends == lane.sends else now
            if now - quiet >= 0.9 * FLUSH_SECONDS * lane.part:  # and the lane, which began before, has not
                lane.flush_for()  # it is at a slow call, or does not look at the clock, for it takes them for tiny
            seen[lane] = _Seen(stretch, before.since, lane.sends, quiet)
            if now - before.since >= SLOW_SECONDS * lane.part:
                lane.give_back()
                slow += 1
        self._seen = seen
        if slow and slow == len(self._lanes):
            frames = [handed_back(piece, piece.begin) for piece in self._unbegun()]
            if frames:
                self._send(*frames)
        return bool(running)

    def _serve(self) -> None:
        try:
            while True:
                self._wanted.wait()
                self._wanted.clear()
                while self._awake:
                    time.sleep(FLUSH_SECONDS * min(lane.part for lane in self._lanes))
                    self._awake = False  # who comes from now on says so
                    self._awake = self.look(clock()) or self._awake
        except OSError:
            pass  # the parent is gone

"""What a schedule has happen to workers from outside, and what is known of it afterwards."""

from __future__ import annotations

import signal
import time
from collections import Counter
from typing import TYPE_CHECKING

import psutil
from arena import Arena, ended
from processor import Processor

if TYPE_CHECKING:
    from schedule import Event


class Outside:
    """Kills, stops and continues workers as the events say.

    Attributes:
        killed, stopped: the process ids of those it has killed and stopped.
        figures: how often it did what.
        lag: seconds between two looks of this process at most: how long the machine may have kept others waiting.
        processor: tells for how long it kept each of them waiting.
    """

    def __init__(self, arena: Arena, events: tuple[Event, ...], root: int) -> None:
        self.killed: set[int] = set()
        self.stopped: set[int] = set()
        self.figures: Counter[str] = Counter(kills=0, stops=0)
        self.lag = 0.0
        self.processor = Processor(root)
        self._arena = arena
        self._events = sorted(events, key=lambda event: event.begun)
        self._due: list[tuple[float, Event]] = []
        self._pauses: list[tuple[float, psutil.Process]] = []
        self._read = self._begun = 0
        self._workers: dict[int, psutil.Process] = {}
        self._at: dict[int, int] = {}  # how many items each of them is at
        self._looked = time.monotonic()

    def step(self) -> None:
        """Does what is due."""
        now = time.monotonic()
        self.lag = max(self.lag, now - self._looked)
        self._looked = now
        self.processor.look()
        self._continue(now)
        self._take_in()
        while self._events and self._events[0].begun <= self._begun:
            event = self._events.pop(0)
            self._due.append((now + event.wait / 1000, event))
        for due in [due for due in self._due if due[0] <= now]:
            self._due.remove(due)
            self._do(due[1], now)

    def rest(self) -> None:
        """Continues whom it has stopped, and does nothing more."""
        self._events, self._due = [], []
        self._continue(float("inf"))

    def _take_in(self) -> None:
        entries = self._arena.look()
        for entry in entries[self._read :]:
            if entry.kind == "b":
                self._begun += 1
                self._at[entry.pid] = self._at.get(entry.pid, 0) + 1
                if entry.pid not in self._workers:
                    try:
                        self._workers[entry.pid] = psutil.Process(entry.pid)
                    except psutil.Error:
                        pass  # it has ended
            elif entry.kind == "e":
                self._at[entry.pid] -= 1
        self._read = len(entries)

    def _do(self, event: Event, now: float) -> None:
        living = [process for _, process in sorted(self._workers.items()) if not ended(process)]
        busy = [process for process in living if self._at[process.pid]] if event.busy else []
        chosen = busy or living
        if not chosen:
            return
        process = chosen[event.pick % len(chosen)]
        if event.deed == "kill":
            self.killed.add(process.pid)  # before: whoever sees it dead must find it here
            self._signal(process, signal.SIGKILL, "kills")
        else:
            self.stopped.add(process.pid)
            self._signal(process, signal.SIGSTOP, "stops")
            self._pauses.append((now + event.ms / 1000, process))

    def _continue(self, now: float) -> None:
        for pause in [pause for pause in self._pauses if pause[0] <= now]:
            self._pauses.remove(pause)
            self._signal(pause[1], signal.SIGCONT)

    def _signal(self, process: psutil.Process, number: signal.Signals, figure: str | None = None) -> None:
        try:
            process.send_signal(number)  # which sees to it that the process id is still this process's
        except psutil.Error:
            return
        if figure is not None:
            self.figures[figure] += 1

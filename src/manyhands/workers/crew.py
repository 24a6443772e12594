"""The threads of a worker that runs several calls at a time."""

from __future__ import annotations

import os
import queue
import threading
import traceback
from typing import TYPE_CHECKING

from manyhands.workers.channel import RUN, Frame, WorkerChannel, message_of
from manyhands.workers.flusher import Flusher
from manyhands.workers.marker import Marker
from manyhands.workers.place import here

if TYPE_CHECKING:
    from manyhands.workers.child import Child


class Crew:
    """Its main thread reads, the lanes run."""

    def __init__(self, marker: Marker, channel: WorkerChannel, child: Child) -> None:
        self._channel = channel
        self._child = child
        self._flusher = Flusher(self._take_unbegun, child.send_frames)
        self._pieces: queue.SimpleQueue[Frame | None] = queue.SimpleQueue()
        self._threads = [
            threading.Thread(
                target=self._run, args=(number, marker), name=f"manyhands-lane-{number}", daemon=True
            )
            for number in range(marker.threads)
        ]

    def work(self) -> None:
        """Until the parent says stop, or is gone."""
        for thread in self._threads:
            thread.start()
        while True:
            frame = self._channel.receive()
            if frame.kind == RUN:
                self._pieces.put(frame)
            elif not self._child.take(message_of(frame)):
                break
            del frame
        for _ in self._threads:
            self._pieces.put(None)
        for thread in self._threads:
            thread.join()

    def _take_unbegun(self) -> list[Frame]:
        taken = []
        try:
            while True:
                piece = self._pieces.get_nowait()
                if piece is None:
                    self._pieces.put(None)  # the end; nothing comes after it
                    break
                taken.append(piece)
        except queue.Empty:
            pass
        return taken

    def _run(self, number: int, marker: Marker) -> None:
        here.lane = number
        lane = self._child.new_lane(number, marker, self._flusher)
        try:
            while (piece := self._pieces.get()) is not None:
                self._child.run(lane, piece)
                lane.push()
                self._child.look_at_memory()
                del piece  # it may be large, and nothing may come for long
        except OSError:
            os._exit(1)  # the parent is gone
        except BaseException:
            traceback.print_exc()
            os._exit(1)  # nobody must wait for a lane that is gone

"""What the machine allows: whole pickles over socket pairs, nothing else.

No errors, no workers that die, no interrupts, no threads, and batches that socket buffers hold; a limit and
not a way to work.
"""

from __future__ import annotations

import os
import pickle
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import cycle, islice
from typing import Any


class End:
    """One end of a socket pair; a pickle says itself where it stops, so messages need no frame."""

    def __init__(self, end: socket.socket) -> None:
        self._socket = end
        self._reader = end.makefile("rb", 1 << 18)

    def send(self, message: object) -> None:
        self._socket.sendall(pickle.dumps(message, 5))

    def receive(self) -> Any:
        return pickle.load(self._reader)

    def close(self) -> None:
        self._reader.close()
        self._socket.close()


def serve(end: socket.socket) -> None:
    """A worker: batches in, lists of results out, until the other end is closed."""
    wire = End(end)
    while True:
        try:
            function, items = wire.receive()
        except EOFError:
            return
        wire.send([function(item) for item in items])


class Floor:
    """Workers on socket pairs, made by fork or as fresh interpreters."""

    def __init__(self, workers: int, method: str) -> None:
        self._ends: list[End] = []
        self._waits: list[Callable[[], object]] = []
        for _ in range(workers):
            ours, theirs = socket.socketpair()
            self._waits.append(self._fork(ours, theirs) if method == "fork" else _spawn(theirs))
            theirs.close()
            self._ends.append(End(ours))

    def _fork(self, ours: socket.socket, theirs: socket.socket) -> Callable[[], object]:
        process = os.fork()
        if process:
            return lambda: os.waitpid(process, 0)
        try:
            ours.close()
            for end in self._ends:  # else it would keep its elder from seeing the end of the work
                end.close()
            serve(theirs)
        finally:
            os._exit(0)

    def map(self, function: Callable[[Any], Any], items: Iterable[Any], chunk: int) -> Iterator[Any]:
        """Deals batches to the workers in turn, two ahead for each, and takes the answers in that order."""
        source = iter(items)
        batches = zip(cycle(self._ends), iter(lambda: list(islice(source, chunk)), []), strict=False)
        under_way: deque[End] = deque()

        def send(count: int) -> None:
            for end, batch in islice(batches, count):
                end.send((function, batch))
                under_way.append(end)

        send(2 * len(self._ends))
        while under_way:
            answer = under_way.popleft().receive()
            send(1)
            yield from answer

    def submit(self, function: Callable[[Any], Any], item: Any) -> Callable[[], Any]:
        """One call to the first worker; returns what waits for its result."""
        self._ends[0].send((function, [item]))
        return lambda: self._ends[0].receive()[0]

    def close(self) -> None:
        for end in self._ends:
            end.close()
        for wait in self._waits:
            wait()


def _spawn(theirs: socket.socket) -> Callable[[], object]:
    number = theirs.fileno()
    code = f"import socket; from benchmarks.floor import serve; serve(socket.socket(fileno={number}))"
    return subprocess.Popen([sys.executable, "-c", code], pass_fds=[number]).wait

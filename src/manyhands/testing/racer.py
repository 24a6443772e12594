"""A process of a race: gets ready, waits for the start, runs, answers; as often as it is asked."""

from __future__ import annotations

import os
import pickle
import socket
import struct
from typing import Any, Final

NUMBERS: Final = struct.Struct("!ii")
"""What a racer is told before a round: its number, and the racer's."""

SIZE: Final = struct.Struct("!cQ")
"""What stands before an answer: which kind, and how many bytes of a pickle follow."""

READY, VALUE, ERROR = b"r", b"v", b"e"


def main(descriptor: int, program: int) -> None:
    """The life of a racer.

    Args:
        descriptor: of the socket that leads to who holds the race; the end of that one is the end of this process.
        program: of a file that holds the pickled function.
    """
    end = socket.socket(fileno=descriptor)
    for inherited in (descriptor, program):
        os.set_inheritable(inherited, False)
    function, problem = _loaded(program)
    while True:
        told, gates, _, _ = socket.recv_fds(end, NUMBERS.size, 1)
        if not gates:
            return
        gate = gates[0]
        os.set_inheritable(gate, False)
        if problem:
            _answer(end, ERROR, problem)
            return
        _answer(end, READY, b"")
        os.read(gate, 1)  # the end of the pipe, which all see at once
        os.close(gate)
        _answer(end, *_ran(function, *NUMBERS.unpack(told)))


def _loaded(program: int) -> tuple[Any, bytes]:
    """The function, or what went wrong with it."""
    with open(program, "rb") as file:
        file.seek(0)  # all racers have the same one
        data = os.pread(file.fileno(), os.fstat(file.fileno()).st_size, 0)
    try:
        return pickle.loads(data), b""
    except BaseException as error:
        return None, _pickled(error)[1]


def _ran(function: Any, number: int, racer: int) -> tuple[bytes, bytes]:
    try:
        value = function(number, racer)
    except BaseException as error:  # sys.exit too: it says nothing about the next round
        return _pickled(error)
    try:
        return VALUE, _dumps(value)
    except BaseException as error:
        error.add_note(f"the result of racer {racer}, a {type(value).__qualname__}, can't be sent back")
        return _pickled(error)


def _pickled(error: BaseException) -> tuple[bytes, bytes]:
    """An error, with its traceback as a note; what can't be sent comes as a RemoteError that tells it."""
    from manyhands.calls import Failed, traceback_text
    from manyhands.workers import payload

    kept = payload.harmless(error)
    if isinstance(error, Exception):
        kept.add_note(f"raised in a racer:\n{traceback_text(error)}")
    for candidate in (kept, payload.carried(kept)):
        try:
            candidate.__cause__ = candidate.__context__ = candidate.__traceback__ = None
            data = _dumps(Failed(candidate))
            payload.loads(data)  # an exception with an __init__ of its own often pickles but does not unpickle
        except Exception:  # noqa: S112  # then the other one
            continue
        return ERROR, data
    raise AssertionError("a RemoteError can be sent")


def _dumps(value: object) -> bytes:
    from manyhands.workers import payload

    return payload.dumps(value)


def _answer(end: socket.socket, kind: bytes, data: bytes) -> None:
    end.sendall(SIZE.pack(kind, len(data)) + data)

"""What goes over a log server's connections: records, each with its length before it. No clock, socket or file.

A record is four bytes, its length as an unsigned number, most significant byte first, and so many bytes of UTF-8:
one JSON object. A server sends nothing; that it closes its side tells the client that it takes no more.

What holds, and is tested with random bytes:

- What is fed in any pieces gives the same lines as what is fed at once.
- A line is one JSON object, without a line break.
- After the first violation nothing is taken for a record any more: nobody knows where the next would begin.
- No more is kept than one record of ``max_record`` bytes and the last piece.
"""

from __future__ import annotations

import json
import struct
from typing import Final

HEADER: Final = struct.Struct(">I")

MAX_RECORD: Final = 1 << 20
"""Bytes of a record that servers take and clients send, unless told otherwise."""


def frame(body: bytes) -> bytes:
    """A record as it is sent."""
    return HEADER.pack(len(body)) + body


def line_of(body: bytes) -> bytes:
    """A record as one line of a file, without the line break at its end.

    Raises:
        ValueError: it is no JSON object in UTF-8.
    """
    try:
        value = json.loads(str(body, "utf-8"))  # not json.loads(bytes), which would take UTF-16, too
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(value, dict):
        raise ValueError("no JSON object")  # noqa: TRY004  # of the bytes
    if b"\n" in body or b"\r" in body:  # between its parts, where JSON lets them be
        return json.dumps(value).encode()
    return body


class Decoder:
    """Cuts the bytes of one connection into records.

    Args:
        max_record: bytes that a record may have.

    Attributes:
        violation: what was wrong, None as long as nothing was.
    """

    def __init__(self, max_record: int = MAX_RECORD) -> None:
        self._max_record = max_record
        self._rest = bytearray()
        self.violation: str | None = None

    @property
    def partial(self) -> bool:
        """Whether a record has begun to arrive, and is not whole."""
        return bool(self._rest)

    def feed(self, data: bytes) -> list[bytes]:
        """The lines of the records that are whole with this piece, in order."""
        rest = self._rest
        rest += data
        lines: list[bytes] = []
        start = 0
        while self.violation is None and len(rest) - start >= HEADER.size:
            (length,) = HEADER.unpack_from(rest, start)
            begin = start + HEADER.size
            if length > self._max_record:
                self.violation = f"a record of {length} bytes, more than {self._max_record}"
            elif begin + length > len(rest):
                break
            else:
                start = begin + length
                try:
                    lines.append(line_of(bytes(rest[begin:start])))
                except ValueError as error:
                    self.violation = f"a record that is no JSON object: {error}"
        del rest[: start if self.violation is None else len(rest)]
        return lines

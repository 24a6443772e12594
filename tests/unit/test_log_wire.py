"""The log server's pure core: bytes in any pieces become lines, or a violation."""

from __future__ import annotations

import json
import socket
import struct
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manyhands.logs.connection import Connection
from manyhands.logs.wire import HEADER, Decoder, frame, line_of

VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)
OBJECTS = st.dictionaries(st.text(max_size=6), VALUES, max_size=4)


def body(value: object, pretty: bool = False) -> bytes:
    return json.dumps(value, ensure_ascii=False, indent=2 if pretty else None).encode("utf-8", "surrogatepass")


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[start:end] for start, end in pairwise(edges)]


@given(st.lists(st.tuples(OBJECTS, st.booleans()), max_size=5), st.lists(st.integers(0, 1000), max_size=8))
def test_records_in_any_pieces(records: list[tuple[dict[str, Any], bool]], cuts: list[int]) -> None:
    """Each record is one line with its value, in order, however its bytes arrive; between records nothing is kept."""
    data = b"".join(frame(body(value, pretty)) for value, pretty in records)
    decoder = Decoder()
    lines = [line for piece in pieces(data, cuts) for line in decoder.feed(piece)]
    assert [json.loads(line) for line in lines] == [value for value, _ in records]
    assert all(b"\n" not in line and b"\r" not in line for line in lines)
    assert decoder.violation is None and not decoder.partial


@given(
    st.lists(
        st.binary(max_size=12)
        | st.integers(0, 40).map(struct.Struct(">I").pack)
        | OBJECTS.map(lambda value: frame(body(value)))
        | st.binary(max_size=12).map(frame),
        max_size=8,
    ),
    st.lists(st.integers(0, 1000), max_size=8),
)
def test_garbage(parts: list[bytes], cuts: list[int]) -> None:
    """Whatever arrives, in whatever pieces: lines are JSON objects, the same ones, and little is kept."""
    data = b"".join(parts)
    whole, cut = Decoder(max_record=32), Decoder(max_record=32)
    expected = whole.feed(data)
    lines = []
    for piece in pieces(data, cuts):
        lines += cut.feed(piece)
        assert len(cut._rest) <= 32 + HEADER.size
    assert lines == expected and cut.violation == whole.violation and cut.partial == whole.partial
    for line in lines:
        assert isinstance(json.loads(line.decode()), dict) and b"\n" not in line and len(line) <= 64
    if cut.violation is not None:
        assert cut.feed(frame(b"{}")) == [] and not cut.partial


@pytest.mark.parametrize(
    ("record", "why"),
    [
        (b"", "no JSON object"),
        (b"[1]", "no JSON object"),
        (b'"text"', "no JSON object"),
        (b"{}{}", "no JSON object"),
        (b'{"a": 1', "no JSON object"),
        (b'{"a": "\n"}', "no JSON object"),
        (b'{"a": "\xff"}', "no JSON object"),
        (b"\xef\xbb\xbf{}", "no JSON object"),
        ("{}".encode("utf-16"), "no JSON object"),
        (b'{"a": ' + b"[" * 50_000, "nested too deeply"),
        (b'{"a": ' + b"9" * 5000 + b"}", "no JSON object"),
        (b"\x80\x04}.", "no JSON object"),
        (b"{" + b" " * 100_000 + b"}", "100002 bytes, more than 100000"),
    ],
)
def test_violations(record: bytes, why: str) -> None:
    """What is no record of JSON is told as such; those before it are lines, those after it are not."""
    decoder = Decoder(max_record=100_000)
    assert decoder.feed(frame(b'{"a": 1}') + frame(record) + frame(b"{}")) == [b'{"a": 1}']
    assert decoder.violation is not None and why in decoder.violation


def test_too_long_is_told_at_once() -> None:
    """A record that would be too long is not waited for: its length is enough."""
    decoder = Decoder(max_record=10)
    assert decoder.feed(HEADER.pack(11)) == [] and decoder.violation == "a record of 11 bytes, more than 10"
    assert Decoder(max_record=10).feed(frame(b'{"a":   1}')) == [b'{"a":   1}']


@pytest.mark.parametrize("space", ["\n", "\r", "\r\n"])
def test_line_breaks(space: str) -> None:
    """No line break of any kind stays in a line."""
    assert line_of(f'{{{space}"a": "\\n"}}'.encode()) == b'{"a": "\\n"}'


def test_lines_are_as_they_came() -> None:
    """What has no line break in it is not written anew: neither its order, nor its numbers, change."""
    text = '{"b": 1.10, "a": "é\u2028", "b": 1e400}'.encode()
    assert line_of(text) == text


def test_when_a_client_was_heard() -> None:
    """Silence is counted from the first byte of a record that is not whole, or from the last whole one."""
    ours, end = socket.socketpair()
    with ours, end:
        connection = Connection(end, 100, now=1.0)
        data = frame(b"{}")
        heard = []
        for now, piece in enumerate([data, data[:1], data[1:3], data[3:], data + data[:2], data[2:4]], start=2):
            ours.send(piece)
            connection.read(float(now))
            heard.append((connection.heard, connection.is_partial))
        assert heard == [(2.0, False), (3.0, True), (3.0, True), (5.0, False), (6.0, True), (6.0, True)]
        assert connection.read(9.0) == [] and not connection.is_over  # nothing has come
        ours.close()
        assert connection.read(10.0) == [] and connection.is_over and connection.is_guilty

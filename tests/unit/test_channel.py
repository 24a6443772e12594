"""Frames between parent and worker, however the bytes arrive."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manyhands.workers.channel import Frame, Inbox, ParentChannel, WorkerChannel, encode
from manyhands.workers.messages import Answers, Forget, Load, Message, Ready, Run, Setup, Stop

messages: st.SearchStrategy[Message] = st.one_of(
    st.builds(Setup, st.text(max_size=5)),
    st.builds(Load, st.integers(), st.text(max_size=5), st.lists(st.text(max_size=5), max_size=3).map(tuple)),
    st.builds(Run, st.integers(), st.lists(st.integers(), max_size=5).map(tuple)),
    st.builds(Answers, st.integers(), st.floats(allow_nan=False)),
    st.builds(Stop),
)
blobs = st.binary(max_size=30) | st.just(b"") | st.integers(0, 1000).map(bytes)
frames = st.lists(st.tuples(messages, st.lists(blobs, max_size=6)), max_size=6)


def cut(data: bytes, sizes: Iterator[int]) -> Iterator[bytes]:
    """``data`` in pieces of these sizes, the last one of what is left."""
    while data:
        size = next(sizes, len(data))
        yield data[:size]
        data = data[size:]


@settings(max_examples=300)
@given(frames, st.lists(st.integers(1, 40) | st.integers(1, 2000), max_size=200))
def test_frames_survive_any_chunking(sent: list[Frame], sizes: list[int]) -> None:
    """Whatever the pieces that arrive, each frame comes once, whole, in order and as soon as it can."""
    inbox = Inbox()
    got: list[Frame] = []
    fed = 0
    ends: list[int] = []
    data = b""
    for message, parts in sent:
        data += b"".join(encode(message, tuple(parts)))
        ends.append(len(data))
    for piece in cut(data, iter(sizes)):
        got += inbox.feed(piece)
        fed += len(piece)
        assert len(got) == sum(end <= fed for end in ends)
    assert got == sent


@pytest.mark.parametrize("number", [0, 1, 5000])
@pytest.mark.parametrize("size", [0, 1, 100])
def test_many_parts(number: int, size: int) -> None:
    """A frame has any number of parts, empty ones among them, byte by byte or at once."""
    parts = [bytes([n % 256]) * size for n in range(number)]
    data = b"".join(encode(Stop(), tuple(parts)))
    assert list(Inbox().feed(data)) == [(Stop(), parts)]
    inbox = Inbox()
    assert list(inbox.feed(data[:-1])) == []
    assert list(inbox.feed(data[-1:])) == [(Stop(), parts)]


@pytest.fixture
def ends() -> Iterator[tuple[ParentChannel, WorkerChannel]]:
    """Both sides of a channel."""
    ours, theirs = socket.socketpair()
    parent, worker = ParentChannel(ours), WorkerChannel(theirs)
    yield parent, worker
    parent.close()
    worker.close()


BIG = [b"", b"a" * (3 << 20), b"", b"b" * (1 << 20), b"c"]


def test_big_frames_to_the_worker(ends: tuple[ParentChannel, WorkerChannel]) -> None:
    """What the socket does not take at once waits, the parent never does, and nothing is lost or mixed."""
    parent, worker = ends
    got: list[Frame] = []
    parent.send(Load(1, "", ()), *BIG)
    parent.send(Stop())
    assert parent.wants_to_send
    reader = threading.Thread(target=lambda: got.extend([worker.receive(), worker.receive()]))
    reader.start()
    while parent.wants_to_send:
        parent.flush()
    reader.join()
    assert got == [(Load(1, "", ()), BIG), (Stop(), [])]


def test_big_frames_from_the_worker(ends: tuple[ParentChannel, WorkerChannel]) -> None:
    """The parent takes in what there is, whenever it asks, and has whole frames only."""
    parent, worker = ends

    def send_all() -> None:
        for n in range(3):
            worker.send(Answers(n, 0.5), *BIG)

    writer = threading.Thread(target=send_all)
    writer.start()
    got: list[Frame] = []
    while len(got) < 3:
        got += parent.read()
    writer.join()
    assert got == [(Answers(n, 0.5), BIG) for n in range(3)]
    assert parent.read() == [] and not parent.at_end


def test_nothing_to_read_is_no_end(ends: tuple[ParentChannel, WorkerChannel]) -> None:
    """A silent worker is not one that is gone."""
    parent, worker = ends
    assert parent.read() == [] and not parent.at_end
    worker.send(Ready(7))
    assert parent.read() == [(Ready(7), [])] and not parent.at_end


def test_the_workers_end_is_noticed(ends: tuple[ParentChannel, WorkerChannel]) -> None:
    """Its last words are read, then the end; sending to it raises nothing and piles up nothing."""
    parent, worker = ends
    worker.send(Answers(1, 0.0), b"last")
    worker.close()
    got: list[Frame] = []
    while not parent.at_end:
        got += parent.read()
    assert got == [(Answers(1, 0.0), [b"last"])]
    parent.send(Forget(1), *BIG)
    parent.send(Stop())
    assert not parent.wants_to_send


def test_a_torn_last_frame_is_dropped(ends: tuple[ParentChannel, WorkerChannel]) -> None:
    """Who died as it wrote said nothing."""
    parent, worker = ends
    worker._end.sendall(b"".join(encode(Answers(1, 0.0), (b"half",)))[:-1])
    worker.close()
    got: list[Frame] = []
    while not parent.at_end:
        got += parent.read()
    assert got == []


def test_the_parents_end_is_noticed(ends: tuple[ParentChannel, WorkerChannel]) -> None:
    """A worker hears of its parent's end, also in the middle of a frame."""
    parent, worker = ends
    parent._end.sendall(b"".join(encode(Stop(), (b"half",)))[:-1])
    parent.close()
    assert parent.fileno() == -1
    with pytest.raises(EOFError):
        worker.receive()

"""Frames between parent and worker, however the bytes arrive."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manyhands.workers.channel import (
    ANSWERED,
    CALLS,
    CONTROL,
    HANDED_BACK,
    RETURNED,
    RUN,
    TOLD,
    WHOLE,
    Frame,
    Inbox,
    ParentChannel,
    WorkerChannel,
    control,
    encode,
    message_of,
)
from manyhands.workers.messages import Forget, Forgotten, Full, Load, Message, Ready, Setup, Stop, Unready

LARGE = 1 << 16
"""From here on a body is kept apart from its header."""

numbers = st.integers(-(2**63), 2**63 - 1)
seconds = st.floats(allow_nan=False)
blobs = (
    st.binary(max_size=30)
    | st.integers(0, 1000).map(bytes)
    | st.integers(LARGE - 2, LARGE + 2).map(lambda size: b"\7" * size)
)
frames = st.builds(
    Frame,
    st.sampled_from([CONTROL, RUN, RETURNED, ANSWERED, HANDED_BACK, TOLD]),
    st.integers(0, 255),
    st.sampled_from([0, CALLS, WHOLE, CALLS | WHOLE]),
    st.integers(0, 2**32 - 1),
    numbers,
    numbers,
    numbers,
    numbers,
    seconds,
    seconds,
    seconds,
    blobs,
)


def data_of(sent: list[Frame]) -> list[bytes]:
    """Each frame as the bytes that go over the wire."""
    return [b"".join(encode(frame)) for frame in sent]


def cut(data: bytes, sizes: Iterator[int]) -> Iterator[bytes]:
    """``data`` in pieces of these sizes, the last one of what is left."""
    while data:
        size = next(sizes, len(data))
        yield data[:size]
        data = data[size:]


@settings(max_examples=300)
@given(
    st.lists(frames, max_size=6),
    st.lists(st.integers(1, 40) | st.integers(1, 2000) | st.integers(1, 3 * LARGE), max_size=200),
)
def test_frames_survive_any_chunking(sent: list[Frame], sizes: list[int]) -> None:
    """Whatever the pieces that arrive, each frame comes once, whole, in order and as soon as it can."""
    inbox = Inbox()
    got: list[Frame] = []
    fed = 0
    ends: list[int] = []
    whole = data_of(sent)
    for data in whole:
        ends.append(len(data) + (ends[-1] if ends else 0))
    for piece in cut(b"".join(whole), iter(sizes)):
        got += inbox.feed(piece)
        fed += len(piece)
        assert len(got) == sum(end <= fed for end in ends)
        assert inbox.empty == (fed in ends)
    assert got == sent


@settings(max_examples=100)
@given(st.lists(frames, max_size=4), st.lists(st.integers(1, 3 * LARGE), max_size=20))
def test_frames_survive_any_reads(sent: list[Frame], sizes: list[int]) -> None:
    """The same, from a socket; at its end the inbox says so."""
    ours, theirs = socket.socketpair()
    inbox = Inbox()
    got: list[Frame] = []
    with ours, theirs:
        ours.setblocking(False)
        for piece in cut(b"".join(data_of(sent)), iter(sizes)):
            left = memoryview(piece)
            while left:  # both ends are here: send what fits, and read it
                left = left[ours.send(left[:LARGE]) :]
                got += inbox.receive(theirs)
        theirs.setblocking(False)
        while True:
            try:
                got += inbox.receive(theirs)
            except BlockingIOError:
                break
        ours.close()
        with pytest.raises(EOFError):
            inbox.receive(theirs)
    assert got == sent


@pytest.mark.parametrize("size", [0, 1, LARGE, LARGE + 1, 1 << 20])
def test_a_frame_that_comes_byte_by_byte_or_at_once(size: int) -> None:
    """Neither its first nor its last byte is lost, and the bytes of the next frame aren't its own."""
    frame, after = Frame(RUN, ticket=5, body=b"x" * size), Frame(RUN, ticket=6)
    data = b"".join(encode(frame))
    assert Inbox().feed(data) == [frame]
    inbox = Inbox()
    assert inbox.feed(data[:-1]) == []
    assert not inbox.empty
    assert inbox.feed(data[-1:] + b"".join(encode(after))) == [frame, after]
    inbox = Inbox()
    head = len(data) - size
    got = [new for place in range(head) for new in inbox.feed(data[place : place + 1])]
    assert got + inbox.feed(data[head:]) == [frame] if size else got == [frame]


def test_several_frames_and_a_half_at_once() -> None:
    """What follows whole frames waits for its rest."""
    inbox = Inbox()
    data = b"".join(data_of([Frame(RUN, ticket=number, body=b"abc") for number in range(3)]))
    assert [frame.ticket for frame in inbox.feed(data + data[:60])] == [0, 1, 2]
    assert [frame.ticket for frame in inbox.feed(data[60:])] == [0, 1, 2]


@pytest.mark.parametrize(
    "message",
    [
        Setup("host", 3, 2, b"begin", b"end", 10, 20, {"A": "b"}, {"C": "d"}, "/", ["a"]),
        Load(1, "/", ["a", "b"], b"work"),
        Forget(1, tell=True),
        Stop(),
        Ready(),
        Unready("why"),
        Forgotten(1),
        Full(),
    ],
)
def test_messages(message: Message) -> None:
    """A message arrives as what it was."""
    (frame,) = Inbox().feed(b"".join(encode(control(message))))
    assert frame.kind == CONTROL
    got = message_of(frame)
    assert got == message and type(got) is type(message)


# -- both sides -------------------------------------------------------------------------------------------


@pytest.fixture
def ends() -> Iterator[tuple[ParentChannel, WorkerChannel]]:
    """Both sides of a channel."""
    ours, theirs = socket.socketpair()
    parent, worker = ParentChannel(ours), WorkerChannel(theirs)
    yield parent, worker
    parent.close()
    worker.close()


SIZES = [0, 3 << 20, 1, 1 << 20, LARGE, LARGE + 1]
BIG = [Frame(RUN, ticket=number, body=b"%d" % number * size) for number, size in enumerate(SIZES)]


def test_big_frames_to_the_worker(ends: tuple[ParentChannel, WorkerChannel]) -> None:
    """What the socket does not take at once waits, the parent never does, and nothing is lost or mixed."""
    parent, worker = ends
    got: list[Frame] = []
    parent.send(BIG)
    parent.send([control(Stop())])
    assert parent.wants_to_send
    reader = threading.Thread(target=lambda: got.extend(worker.receive() for _ in range(len(BIG) + 1)))
    reader.start()
    while parent.wants_to_send:
        parent.flush()
    reader.join()
    assert got == [*BIG, control(Stop())]
    assert not worker.has_frame


def test_big_frames_from_the_worker(ends: tuple[ParentChannel, WorkerChannel]) -> None:
    """The parent takes in what there is, whenever it asks, and has whole frames only."""
    parent, worker = ends

    def send_all() -> None:
        worker.send(*BIG)
        for frame in BIG:
            worker.send(frame)

    writer = threading.Thread(target=send_all)
    writer.start()
    got: list[Frame] = []
    while len(got) < 2 * len(BIG):
        got += parent.read()
    writer.join()
    assert got == BIG + BIG
    assert parent.read() == [] and not parent.at_end


def test_small_frames_arrive_together(ends: tuple[ParentChannel, WorkerChannel]) -> None:
    """What was sent at once is there at once, both ways, and no reader waits for more."""
    parent, worker = ends
    small = [Frame(RETURNED, ticket=number, body=b"abc") for number in range(100)]
    worker.send(*small)
    assert parent.read() == small
    parent.send(small)
    assert not parent.wants_to_send
    assert worker.receive() == small[0]
    assert worker.has_frame
    assert [worker.receive() for _ in small[1:]] == small[1:]
    assert not worker.has_frame


def test_a_reader_does_not_stop_within_a_frame(ends: tuple[ParentChannel, WorkerChannel]) -> None:
    """One look takes in what has arrived, up to the end of a frame."""
    parent, worker = ends
    frame = Frame(RETURNED, body=b"x" * (LARGE + 5))
    data = b"".join(encode(frame))
    worker._end.sendall(data + data[:100])
    assert parent.read() == [frame]
    worker._end.sendall(data[100:])
    assert parent.read() == [frame]


def test_what_is_held_goes_before_what_is_sent_next(ends: tuple[ParentChannel, WorkerChannel]) -> None:
    """Or by itself, when there is time for that."""
    parent, worker = ends
    parent.hold(control(Forget(1)))
    parent.hold(control(Forget(2)))
    assert parent.holds and worker.take_unbegun() == []
    parent.send([Frame(RUN, ticket=1)])
    assert not parent.holds
    assert [message_of(worker.receive()) for _ in range(2)] == [Forget(1), Forget(2)]
    assert worker.receive() == Frame(RUN, ticket=1)
    parent.hold(control(Forget(3)))
    parent.send([])
    assert message_of(worker.receive()) == Forget(3) and not parent.holds


def test_unbegun_frames_can_be_taken_away(ends: tuple[ParentChannel, WorkerChannel]) -> None:
    """Those that have arrived, read or not; messages stay, and so does the order of what comes later."""
    parent, worker = ends
    runs = [Frame(RUN, ticket=number) for number in range(4)]
    parent.send([runs[0], runs[1], control(Forget(1))])
    assert worker.receive() == runs[0]
    parent.send([runs[2]])
    assert worker.take_unbegun() == [runs[1], runs[2]]
    parent.send([runs[3]])
    assert message_of(worker.receive()) == Forget(1)
    assert worker.receive() == runs[3]
    assert worker.take_unbegun() == []


def test_frames_are_not_taken_from_who_waits_for_them(ends: tuple[ParentChannel, WorkerChannel]) -> None:
    """A thread that receives has them; so the other one must not wait for it."""
    parent, worker = ends
    with worker._receiving:
        parent.send([Frame(RUN, ticket=1)])
        assert worker.take_unbegun() == []
    assert worker.receive() == Frame(RUN, ticket=1)


def test_frames_can_be_taken_at_the_parents_end(ends: tuple[ParentChannel, WorkerChannel]) -> None:
    """What it sent last is there; the end itself is told to who receives."""
    parent, worker = ends
    parent.send([Frame(RUN, ticket=1)])
    parent.close()
    assert worker.take_unbegun() == [Frame(RUN, ticket=1)]
    with pytest.raises(EOFError):
        worker.receive()


# -- the end ----------------------------------------------------------------------------------------------


def test_nothing_to_read_is_no_end(ends: tuple[ParentChannel, WorkerChannel]) -> None:
    """A silent worker is not one that is gone."""
    parent, worker = ends
    assert parent.read() == [] and not parent.at_end
    worker.send(control(Ready()))
    assert parent.read() == [control(Ready())] and not parent.at_end


def test_the_workers_end_is_noticed(ends: tuple[ParentChannel, WorkerChannel]) -> None:
    """Its last words are read, then the end; sending to it raises nothing and piles up nothing."""
    parent, worker = ends
    worker.send(Frame(RETURNED, body=b"last"))
    worker.close()
    got: list[Frame] = []
    while not parent.at_end:
        got += parent.read()
    assert got == [Frame(RETURNED, body=b"last")]
    assert parent.read() == []
    parent.send(BIG)
    parent.send([control(Stop())])
    assert not parent.wants_to_send


def test_a_worker_that_ends_with_the_outbox_full(ends: tuple[ParentChannel, WorkerChannel]) -> None:
    """What waits for it is dropped, and nothing is raised."""
    parent, worker = ends
    parent.send(BIG)
    assert parent.wants_to_send
    worker.close()
    parent.flush()
    assert not parent.wants_to_send
    parent.read()
    assert parent.at_end


@pytest.mark.parametrize("size", [4, LARGE + 1])
def test_a_torn_last_frame_is_dropped(ends: tuple[ParentChannel, WorkerChannel], size: int) -> None:
    """Who died as it wrote said nothing."""
    parent, worker = ends
    worker._end.sendall(b"".join(encode(Frame(RETURNED, body=b"x" * size)))[:-1])
    worker.close()
    got: list[Frame] = []
    while not parent.at_end:
        got += parent.read()
    assert got == []


@pytest.mark.parametrize("size", [4, LARGE + 1])
def test_the_parents_end_is_noticed(ends: tuple[ParentChannel, WorkerChannel], size: int) -> None:
    """A worker hears of its parent's end, also in the middle of a frame."""
    parent, worker = ends
    parent._end.sendall(b"".join(encode(Frame(RUN, body=b"x" * size)))[:-1])
    parent.close()
    assert parent.fileno() == -1
    with pytest.raises(EOFError):
        worker.receive()
    with pytest.raises(OSError):
        worker.send(Frame(RETURNED))

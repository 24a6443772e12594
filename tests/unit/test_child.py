"""What a worker keeps of a function's work, and when it says that it has let go of it."""

from __future__ import annotations

import os
import sys
from typing import Any, cast

import pytest

from manyhands.workers.channel import RUN, TOLD, Frame, message_of
from manyhands.workers.child import Child
from manyhands.workers.messages import Forget, Forgotten, Load


class Work:
    """Notes when it is closed."""

    closed = False

    def close(self) -> None:
        """Closes it."""
        self.closed = True


class Stub:
    """Channel, marker and shared memory, as far as they are needed here; notes what is sent."""

    threads = 2
    limit = 0
    guarded = True
    is_left = False

    def __init__(self) -> None:
        self.sent: list[object] = []

    def send(self, *frames: Frame) -> None:
        """To the parent."""
        self.sent += [message_of(frame) for frame in frames]

    def is_of_this_process(self) -> None: ...

    def pin(self) -> None: ...

    def news(self) -> None: ...

    def loads(self, begins: bool) -> None: ...

    def get(self, blob: object, kept: bool) -> object:
        """What was stored."""
        return blob


class Lane:
    """Runs calls; what it does comes from the test."""

    def __init__(self, does: Any) -> None:
        self.run = lambda piece, work: does()


def test_it_says_so_when_nobody_uses_it_any_more() -> None:
    """The parent may ask before the lane that has sent the last answer has got out of the work."""
    stub, work = Stub(), Work()
    child = Child(cast("Any", stub), cast("Any", stub), cast("Any", stub))
    child.take(Load(7, os.getcwd(), list(sys.path), cast("Any", work)))

    def answered() -> None:
        child.take(Forget(7, tell=True))
        assert not work.closed and not stub.sent

    child.run(cast("Any", Lane(answered)), Frame(RUN, work=7))
    assert work.closed and stub.sent == [Forgotten(7)]


class Unguarded(Stub):
    """One that is guarded, or whose parent is gone, once it was asked so often."""

    def __init__(self, looks: int, parent_lives: bool) -> None:
        super().__init__()
        self.looks = looks
        self.parent_lives = parent_lives
        self.loaded: list[object] = []

    @property
    def guarded(self) -> bool:  # type: ignore[override]  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether it may begin."""
        self.looks -= 1
        return self.looks < 0 and self.parent_lives

    @property
    def is_left(self) -> bool:  # type: ignore[override]  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether nobody is there who could have it guarded."""
        return self.looks < 0 and not self.parent_lives

    def get(self, blob: object, kept: bool) -> object:
        """Notes that the user's code was loaded."""
        self.loaded.append(blob)
        assert self.looks < 0
        return blob


@pytest.mark.parametrize("looks", [0, 1, 5])
def test_nothing_is_loaded_before_it_is_guarded(looks: int) -> None:
    """The user's code may start what only a guard would end. Without a parent, nobody will ever guard it."""
    stub, work = Unguarded(looks, parent_lives=True), Work()
    child = Child(cast("Any", stub), cast("Any", stub), cast("Any", stub))
    child.take(Load(7, os.getcwd(), list(sys.path), cast("Any", work)))
    assert stub.loaded == [work]
    left = Unguarded(looks, parent_lives=False)
    child = Child(cast("Any", left), cast("Any", left), cast("Any", left))
    with pytest.raises(EOFError):
        child.take(Load(7, os.getcwd(), list(sys.path), cast("Any", work)))
    assert left.loaded == []


def test_it_says_so_at_once_if_nobody_uses_it() -> None:
    """Also of what it never had; and nothing if it is not asked."""
    stub, work = Stub(), Work()
    child = Child(cast("Any", stub), cast("Any", stub), cast("Any", stub))
    child.take(Load(7, os.getcwd(), list(sys.path), cast("Any", work)))
    child.take(Forget(7, tell=True))
    child.take(Forget(8, tell=True))
    assert work.closed and stub.sent == [Forgotten(7), Forgotten(8)]
    child.take(Load(9, os.getcwd(), list(sys.path), cast("Any", Work())))
    child.take(Forget(9))
    assert len(stub.sent) == 2


def test_what_is_printed_in_the_middle_of_a_frame_comes_after_it() -> None:
    """A finaliser may run at any moment; a frame in a frame would end the channel."""

    class Interrupted(Stub):
        depth = 0

        def send(self, *frames: Frame) -> None:
            self.depth += 1
            assert self.depth == 1
            if frames[0].kind == RUN:
                child._tell(Frame(TOLD))
            self.sent += [frame.kind for frame in frames]
            self.depth -= 1

    stub = Interrupted()
    child = Child(cast("Any", stub), cast("Any", stub), cast("Any", stub))
    child.send_frames(Frame(RUN))
    child._tell(Frame(TOLD))
    assert stub.sent == [RUN, TOLD, TOLD]

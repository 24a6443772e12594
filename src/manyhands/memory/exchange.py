"""The memory that two processes show each other: each stores in its own segments, and sees the other's.

The descriptors of segments go over a socket of their own, in packets of one each, before anything over the channel
speaks of what lies in them. So who hears of a segment for the first time finds its descriptor there.
"""

from __future__ import annotations

import array
import errno
import mmap
import socket
import struct
import sys
from typing import Final, NamedTuple

from manyhands.memory.bank import Bank, Stored
from manyhands.memory.places import Place
from manyhands.memory.views import Views

_PACKET: Final = struct.Struct("<qq?")
_NO_WAIT: Final = socket.MSG_DONTWAIT if hasattr(socket, "MSG_DONTWAIT") else 0
_CLOSED_ON_EXEC: Final = socket.MSG_CMSG_CLOEXEC if hasattr(socket, "MSG_CMSG_CLOEXEC") else 0

VIEW_BYTES: Final = 1 << 20
"""Smaller values are copied out of the slot at once: that costs no more than to see them there."""


class Noted(NamedTuple):
    """What is to be told to the other side before anything else.

    Attributes:
        kept: numbers of the other's values that are open here.
        let_go: of those that are not any more.
        dropped: segments of this side that were given back.
        unseen: segments of the other side whose descriptors did not come through.
        rests: there will be nothing to do for a while: memory that is not used is to be given back.
    """

    kept: tuple[int, ...] = ()
    let_go: tuple[int, ...] = ()
    dropped: tuple[int, ...] = ()
    unseen: tuple[int, ...] = ()
    rests: bool = False


class Received:
    """A value that lies in the other process's memory until it is looked at, or nobody is to look at it any more."""

    __slots__ = ("_place", "_views")

    def __init__(self, place: Place, views: Views) -> None:
        self._place: Place | None = place
        self._views = views

    def open(self, copies: bool = True) -> list[memoryview]:
        """Its byte strings, once. Raises OSError if this process can't see them.

        Args:
            copies: small ones are copied, and others where much is open already; else all are seen as they lie there.
        """
        place = self._place
        assert place is not None, "it was opened before"
        if not self._views.has(place.segment):
            raise out_of_sight()
        self._place = None
        views = self._views
        # Of a lone pickle nothing will be left that looks into the slot.
        if copies and len(place.lengths) > 1 and (place.size < VIEW_BYTES or not views.has_room(place)):
            return views.copy(place)
        return views.view(place)

    def __len__(self) -> int:
        return 0 if self._place is None else sum(self._place.lengths)

    def __del__(self) -> None:
        if self._place is not None:
            self._views.drop(self._place)


class Exchange:
    """One side. Its owner sees to it that no two threads are in it at once, except for ``Received``.

    Args:
        side: the socket for descriptors.
        bank: where this side stores.
        most_open: bytes of the other side's values that are to be open here at a time, at most; of what is opened
            beyond that, copies are made, so that the other side has room for more.

    Attributes:
        is_used: whether anything was ever shown, either way.
    """

    def __init__(self, side: socket.socket, bank: Bank, most_open: int = sys.maxsize) -> None:
        self.is_used = False
        self._side = side
        self.bank = bank
        self.views = Views(most_open)
        self._shown: set[int] = set()
        self._version = bank.version
        self._lost: set[int] = set()  # segments whose descriptors did not come through
        self._unseen: set[int] = set()  # of those, the ones that the other side is not told of yet
        self._told: set[int] = set()

    def show(self, stored: Stored) -> Place:
        """The other side is about to be told of a value, and has it lent; raises OSError if it can't be shown."""
        place = stored.place
        self.show_segment(place.segment)
        self.bank.lend(place.number)
        return place

    def show_segment(self, segment: int, writable: bool = False) -> None:
        """The other side is about to be told of a segment; raises OSError if it can't be shown."""
        if segment not in self._shown:
            self.is_used = True
            descriptor, size = self.bank.descriptor(segment)
            socket.send_fds(self._side, [_PACKET.pack(segment, size, writable)], [descriptor])
            self._shown.add(segment)

    def received(self, place: Place) -> Received:
        """What the other side has shown."""
        self._find(place.segment)
        return Received(place, self.views)

    def memory(self, segment: int) -> mmap.mmap:
        """A segment that the other side has shown to be written to; raises OSError if it can't be seen."""
        self._find(segment)
        if not self.views.has(segment):
            raise out_of_sight()
        return self.views.memory(segment)

    def _find(self, segment: int) -> None:
        self.is_used = True
        while not self.views.has(segment) and self._fetch(wait=segment not in self._lost):
            pass

    def tell_kept(self, number: int) -> None:
        """The other side knows that this value is open here."""
        self._told.add(number)

    @property
    def has_news(self) -> bool:
        """Whether ``news`` may have something to say."""
        return not self.views.is_quiet or bool(self._unseen) or self._version != self.bank.version

    def news(self, all_ends: bool) -> Noted | None:
        """What has changed since it was asked last, if anything.

        Args:
            all_ends: tell of all values that were let go of, not of those alone that were told to be open.
        """
        ended = self.views.settle()
        kept: list[int] = []
        if not all_ends:
            kept = [number for number in self.views.numbers() if number not in self._told]
            ended = [number for number in ended if number in self._told]
            self._told.update(kept)
            self._told.difference_update(ended)
        dropped: list[int] = []
        if self._version != self.bank.version:
            self._version = self.bank.version
            dropped = [segment for segment in self._shown if not self.bank.has(segment)]
            self._shown.difference_update(dropped)
        unseen, self._unseen = self._unseen, set()
        if not (kept or ended or dropped or unseen):
            return None
        return Noted(tuple(kept), tuple(ended), tuple(dropped), tuple(unseen))

    def take_in(self, noted: Noted) -> None:
        """The other side has told this; what it keeps and has let go of is for the owner to note."""
        for segment in noted.dropped:
            while not self.views.has(segment) and self._fetch(wait=False):
                pass  # nobody here has looked for it, and nobody will
            self.views.detach(segment)
        self._shown.difference_update(noted.unseen)

    def close(self) -> None:
        """Lets go of the socket."""
        self._side.close()

    def _fetch(self, wait: bool) -> bool:
        """Takes the next descriptor in; returns whether there was one."""
        try:
            data, descriptors = _receive(self._side, wait)
        except BlockingIOError:
            return False
        if len(data) < _PACKET.size:
            raise EOFError("the other side is gone")
        segment, size, writable = _PACKET.unpack(data)
        try:
            if not descriptors:
                raise OSError("this process has too many files open")
            self.views.attach(segment, descriptors[0], size, writable)
        except (OSError, ValueError, OverflowError, MemoryError):
            self._lost.add(segment)
            self._unseen.add(segment)  # it is to be shown again, when there is need of it
        else:
            self._lost.discard(segment)
        return True


def _receive(side: socket.socket, wait: bool) -> tuple[bytes, list[int]]:
    """A packet, and the descriptors that came with it."""
    # Not by socket.recv_fds, which takes flags and leaves them aside.
    numbers = array.array("i")
    flags = _CLOSED_ON_EXEC if wait else _CLOSED_ON_EXEC | _NO_WAIT
    data, ancillary, _, _ = side.recvmsg(_PACKET.size, socket.CMSG_LEN(numbers.itemsize), flags)
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            numbers.frombytes(content[: len(content) // numbers.itemsize * numbers.itemsize])
    return data, list(numbers)


def out_of_sight() -> OSError:
    """The error of who is to look at memory that could not be mapped."""
    return OSError(errno.EMFILE, "the shared memory that holds it could not be opened: too many files are open")


def sockets() -> tuple[socket.socket, socket.socket]:
    """Two connected sockets for descriptors, one for each side."""
    kind = getattr(socket, "SOCK_SEQPACKET", socket.SOCK_STREAM)
    try:
        return socket.socketpair(socket.AF_UNIX, kind)
    except OSError:  # not every system has them for local sockets
        return socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)

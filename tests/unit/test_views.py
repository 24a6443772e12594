"""Views and exchanges: what one side has stored, the other sees as it was, and may write to for itself alone."""

from __future__ import annotations

import errno
import gc
import mmap
import os
import socket
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from manyhands.controller.handles import Handle
from manyhands.memory import bank as bank_module
from manyhands.memory import exchange as exchange_module
from manyhands.memory.bank import Bank, Stored
from manyhands.memory.exchange import _PACKET, Exchange, Noted, Received, sockets
from manyhands.memory.places import Place, layout
from manyhands.memory.slots import PAGE
from manyhands.workers.channel import RETURNED, Frame

PATTERN = bytes(number % 251 for number in range(5 * PAGE))
LIMIT = 24 * PAGE
REAL_RECV_FDS = socket.recv_fds

parts = st.lists(
    st.tuples(st.integers(0, 250), st.sampled_from([0, 1, 64, 4096]) | st.integers(0, 2 * PAGE)), max_size=3
).map(lambda drawn: [PATTERN[begin : begin + length] for begin, length in drawn])


def seen(values: list[bytes]) -> list[memoryview]:
    return [memoryview(value) for value in values]


def read(bank: Bank, place: Place) -> list[bytes]:
    """What lies there, as its owner sees it."""
    descriptor, _ = bank.descriptor(place.segment)
    offsets, _ = layout(place.lengths)
    return [
        os.pread(descriptor, length, place.offset + at)
        for at, length in zip(offsets, place.lengths, strict=True)
    ]


def memory_of(descriptor: int) -> tuple[int, int]:
    found = os.fstat(descriptor)
    return found.st_dev, found.st_ino


def open_here() -> list[tuple[int, int]]:
    """What the descriptors of this process lead to, with those that mappings keep."""
    found = []
    for name in os.listdir("/dev/fd"):
        try:
            found.append(memory_of(int(name)))
        except OSError:
            pass  # that of the directory
    return found


@dataclass
class Kept:
    """A value that is open.

    Attributes:
        place: where it lies.
        views: its parts, or what was made of them.
        reads: what must be found there.
    """

    place: Place
    views: list[Any]
    reads: list[bytes]


@dataclass
class Side:
    """One process.

    Attributes:
        values: what it has stored, by number, as long as the slot may not be used again.
        held: of these, the ones that it needs itself.
        shown: segments of which it thinks that the other has them.
        inbox: what the other has sent it and it has not read.
        waiting: values of the other that it has heard of and not opened.
        open: values of the other that are open here.
        lost: segments of the other whose descriptor did not come through.
        failures: so many of the next descriptors do not come through.
        inodes: of its segments.
    """

    socket: socket.socket
    exchange: Exchange
    values: dict[int, tuple[Place, list[bytes]]] = field(default_factory=dict)
    held: dict[int, Stored] = field(default_factory=dict)
    shown: set[int] = field(default_factory=set)
    inbox: deque[Any] = field(default_factory=deque)
    waiting: dict[int, Received] = field(default_factory=dict)
    open: dict[int, Kept] = field(default_factory=dict)
    lost: set[int] = field(default_factory=set)
    failures: int = 0
    inodes: set[tuple[int, int]] = field(default_factory=set)


class TwoSides(RuleBasedStateMachine):
    """A parent and a worker in one process, whose messages go one after the other each way, however late.

    The parent lends a value for a call and, if the worker says that it keeps it, until that says more. A worker lends
    an answer until the parent has let go of it. The bookkeeping of the parent is the real one.
    """

    def __init__(self) -> None:
        super().__init__()
        self.patches = [
            mock.patch.object(bank_module, "ARENA", 6 * PAGE),
            mock.patch.object(exchange_module, "VIEW_BYTES", 2 * PAGE),
            mock.patch.object(exchange_module, "MOST_VIEWS", 2),
            mock.patch.object(socket, "recv_fds", self.recv_fds),
        ]
        for patch in self.patches:
            patch.start()
        first, second = sockets()
        self.parent = Side(first, Exchange(first, Bank(LIMIT)))
        self.worker = Side(second, Exchange(second, Bank(LIMIT)))
        self.sides = (self.parent, self.worker)
        self.handle = Handle(None, None, self.parent.exchange)
        self.calls: dict[
            int, int
        ] = {}  # the numbers of those that the worker has, and of what was lent to them
        self.tickets = 0
        self.told: set[int] = set()  # of the parent's values, those that it is told are open

    def recv_fds(self, side: socket.socket, *args: Any) -> Any:
        """As the system does it, unless there is no room for another descriptor."""
        data, descriptors, flags, address = REAL_RECV_FDS(side, *args)
        (me,) = [each for each in self.sides if each.socket is side]
        (segment, _, _) = _PACKET.unpack(data)
        if me.failures:
            me.failures -= 1
            me.lost.add(segment)
            for descriptor in descriptors:
                os.close(descriptor)
            return data, [], flags, address
        me.lost.discard(segment)
        return data, descriptors, flags, address

    def other(self, side: Side) -> Side:
        return self.worker if side is self.parent else self.parent

    either = st.integers(0, 1)

    # -- what an owner does

    @rule(which=either, values=parts, readonly=st.booleans())
    def store(self, which: int, values: list[bytes], readonly: bool) -> None:
        """No slot that is used, here or there, is taken."""
        side = self.sides[which]
        stored = side.exchange.bank.store(seen(values), readonly)
        if stored is None:
            return
        place = stored.place
        for other, _ in side.values.values():
            if other.segment == place.segment:
                assert place.offset + place.size <= other.offset or other.offset + other.size <= place.offset
        for kept in self.other(side).open.values():
            other = kept.place
            if other.segment == place.segment:
                assert place.offset + place.size <= other.offset or other.offset + other.size <= place.offset
        side.values[place.number] = place, values
        side.held[place.number] = stored
        side.inodes.add(memory_of(side.exchange.bank.descriptor(place.segment)[0]))

    @precondition(lambda self: any(side.held for side in self.sides))
    @rule(data=st.data())
    def drop(self, data: st.DataObject) -> None:
        """The owner does not need it any more."""
        side = data.draw(st.sampled_from([side for side in self.sides if side.held]).map(lambda side: side))
        del side.held[data.draw(st.sampled_from(sorted(side.held)))]

    @precondition(lambda self: self.parent.held.keys() - self.worker.open.keys() - self.worker.waiting.keys())
    @rule(data=st.data())
    def call(self, data: st.DataObject) -> None:
        """The parent sends the worker a call, whose argument lies there, maybe not for the first time."""
        here = (
            self.parent.held.keys()
            - self.worker.open.keys()
            - self.worker.waiting.keys()
            - set(self.calls.values())
        )
        if here:
            number = data.draw(st.sampled_from(sorted(here)))
            self.note_shown(self.parent, number)
            self.handle.lend(self.tickets, [(0, self.parent.held[number])])
            self.calls[self.tickets] = number
            self.worker.inbox.append((self.tickets, self.parent.held[number].place))
            self.tickets += 1

    @precondition(lambda self: self.worker.held)
    @rule(data=st.data())
    def answer(self, data: st.DataObject) -> None:
        """The worker sends an answer, and needs it no longer."""
        number = data.draw(st.sampled_from(sorted(self.worker.held)))
        stored = self.worker.held.pop(number)
        self.note_shown(self.worker, number)
        self.parent.inbox.append((None, self.worker.exchange.show(stored)))

    def note_shown(self, side: Side, number: int) -> None:
        side.shown.add(side.values[number][0].segment)

    @rule(which=either)
    def trim(self, which: int) -> None:
        """Idle memory goes, and no other."""
        self.sides[which].exchange.bank.trim()

    # -- what goes to and fro

    @rule(which=either)
    def tell(self, which: int) -> None:
        """One side says what it has to say, at any time."""
        side = self.sides[which]
        noted = side.exchange.news(all_ends=side is self.parent)
        if side is self.worker and noted is not None:
            assert not self.told & set(noted.kept) and self.told >= set(noted.let_go)
            self.told |= set(noted.kept)
            self.told -= set(noted.let_go)
            assert self.told <= set(self.worker.open)
        if noted is not None:
            assert any(noted) and noted.kept == () or side is self.worker
            side_drops = set(noted.dropped)
            assert side_drops <= side.shown
            assert not any(side.exchange.bank.has(segment) for segment in side_drops)
            side.shown -= side_drops
            self.other(side).inbox.append(noted)

    @precondition(lambda self: any(side.inbox for side in self.sides))
    @rule(data=st.data())
    def hear(self, data: st.DataObject) -> None:
        """One side reads what came first."""
        self.read_one(data.draw(st.sampled_from([which for which in (0, 1) if self.sides[which].inbox])))

    def read_one(self, which: int) -> None:
        side = self.sides[which]
        match side.inbox.popleft():
            case Noted() as noted:
                side.shown -= set(noted.unseen)
                if side is self.parent:
                    self.handle.take_in(noted)
                else:
                    side.exchange.take_in(noted)
                    side.exchange.bank.take_back(noted.let_go)
            case Frame() as frame:
                self.handle.hear(frame)
            case None, place:
                side.waiting[place.number] = side.exchange.received(place)
            case ticket, place:
                side.waiting[place.number] = side.exchange.received(place)

    @precondition(lambda self: self.calls)
    @rule(data=st.data())
    def end_call(self, data: st.DataObject) -> None:
        """A call that has come is done with, opened or not; what the worker keeps of it, it says before."""
        arrived = [ticket for ticket in self.calls if not any(said[0] == ticket for said in self.sent())]
        if arrived:
            ticket = data.draw(st.sampled_from(arrived))
            number = self.calls.pop(ticket)
            self.worker.waiting.pop(number, None)
            self.tell(1)
            self.parent.inbox.append(Frame(RETURNED, ticket=ticket, begin=0, end=1))

    def sent(self) -> list[Any]:
        return [said for said in self.worker.inbox if not isinstance(said, Noted)]

    # -- what is done with values

    @precondition(lambda self: any(side.waiting for side in self.sides))
    @rule(data=st.data(), made=st.sampled_from(["views", "arrays", "ends"]))
    def open(self, data: st.DataObject, made: str) -> None:
        """A value reads as it was stored, or its segment did not come through, which is said."""
        side = self.sides[data.draw(st.sampled_from([which for which in (0, 1) if self.sides[which].waiting]))]
        number = data.draw(st.sampled_from(sorted(side.waiting)))
        place, values = self.other(side).values[number]
        received = side.waiting.pop(number)
        assert len(received) == sum(map(len, values))
        if place.segment in side.lost:
            with pytest.raises(OSError) as caught:
                received.open(copies=side is self.parent)
            assert caught.value.errno == errno.EMFILE
            del caught
            return
        views: list[Any] = list(received.open(copies=side is self.parent))
        assert [bytes(view) for view in views] == values
        assert all(view.readonly == place.readonly for view in views)
        assert len(received) == 0
        if made != "views":
            views = [np.frombuffer(view, np.uint8) for view in views]
        if made == "ends":
            views = [view[len(view) // 2 :] for view in views]
            values = [value[len(value) // 2 :] for value in values]
        side.open[number] = Kept(place, views, list(values))

    @precondition(lambda self: any(side.waiting for side in self.sides))
    @rule(data=st.data())
    def ignore(self, data: st.DataObject) -> None:
        """Nobody looks at a value."""
        side = self.sides[data.draw(st.sampled_from([which for which in (0, 1) if self.sides[which].waiting]))]
        side.waiting.pop(data.draw(st.sampled_from(sorted(side.waiting))))

    @precondition(lambda self: any(side.open for side in self.sides))
    @rule(data=st.data(), fill=st.integers(0, 255))
    def write(self, data: st.DataObject, fill: int) -> None:
        """Who has it open writes to it, if that may be."""
        side = self.sides[data.draw(st.sampled_from([which for which in (0, 1) if self.sides[which].open]))]
        kept = side.open[data.draw(st.sampled_from(sorted(side.open)))]
        for number, view in enumerate(kept.views):
            if kept.place.readonly:
                with pytest.raises((TypeError, ValueError)):
                    view[:] = bytes(len(view))
            else:
                reads = bytes([fill]) * len(view)
                view[:] = reads if isinstance(view, memoryview) else fill
                kept.reads[number] = reads

    @precondition(lambda self: any(side.open for side in self.sides))
    @rule(data=st.data(), number=st.integers(0, 2))
    def close(self, data: st.DataObject, number: int) -> None:
        """Some or all of what was made of a value goes."""
        side = self.sides[data.draw(st.sampled_from([which for which in (0, 1) if self.sides[which].open]))]
        value = data.draw(st.sampled_from(sorted(side.open)))
        kept = side.open[value]
        if number < len(kept.views) > 1:
            del kept.views[number], kept.reads[number]
        else:
            del side.open[value]

    @rule(which=either, number=st.integers(1, 2))
    def fail(self, which: int, number: int) -> None:
        """One side has no room for descriptors for a while."""
        self.sides[which].failures = number

    @rule()
    def talk(self) -> None:
        """All that is to be said is said, and heard; then memory that did not come through is shown again."""
        for side in self.sides:
            side.failures = 0
        while any(side.inbox for side in self.sides):
            for which in (0, 1):
                while self.sides[which].inbox:
                    self.read_one(which)
                self.tell(which)
        for which in (0, 1):
            self.tell(which)
        for side in self.sides:
            while side.inbox:
                self.read_one(self.sides.index(side))
        assert all(side.exchange.news(all_ends=True) is None for side in self.sides[:1])
        assert all(segment not in self.other(side).shown for side in self.sides for segment in side.lost)

    # -- what holds

    @invariant()
    def views_stay(self) -> None:
        """What is open reads as before, whatever else happens, but for what was written to it right here."""
        for side in self.sides:
            for kept in side.open.values():
                assert [bytes(view) for view in kept.views] == kept.reads

    @invariant()
    def nothing_shows_at_the_owner(self) -> None:
        """What a bank holds is as it was stored, whoever has written to it."""
        for side in self.sides:
            for number in side.held:
                place, values = side.values[number]
                assert read(side.exchange.bank, place) == values
            used = side.held.keys() | self.other(side).open.keys()
            if side is self.worker:
                used = side.held.keys()  # the parent's copies do not count, nor do slots that it sees
            assert side.exchange.bank.used >= len(used) or side is self.parent

    def teardown(self) -> None:
        """When all is closed and said, all slots are free, and all memory can be given back, on both sides."""
        try:
            for side in self.sides:
                side.held.clear()
                side.open.clear()
            self.talk()
            for side in self.sides:
                side.waiting.clear()
            for ticket in list(self.calls):
                self.tell(1)
                self.parent.inbox.append(Frame(RETURNED, ticket=ticket, begin=0, end=1))
                del self.calls[ticket]
            self.talk()
            assert [side.exchange.bank.used for side in self.sides] == [0, 0]
            assert not self.handle.lent and not self.handle.kept and not self.told
            self.trim(0)
            self.trim(1)
            self.talk()
            here = set(open_here())
            for side in self.sides:
                assert side.exchange.bank.size == 0
                assert here.isdisjoint(side.inodes)
                assert side.exchange.views.is_empty and not side.exchange.is_used
        finally:
            for side in self.sides:
                side.exchange.close()
                side.exchange.bank.close()
            for patch in self.patches:
                patch.stop()


TwoSides.TestCase.settings = settings(max_examples=100, stateful_step_count=60)
TestTwoSides = TwoSides.TestCase

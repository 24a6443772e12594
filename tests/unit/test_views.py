"""Views and exchanges: what one side has stored, the other sees as it was, and may write to for itself alone."""

from __future__ import annotations

import errno
import mmap
import os
import resource
import socket
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
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
from manyhands.memory.exchange import Exchange, Noted, Received, sockets
from manyhands.memory.places import Place
from manyhands.memory.slots import PAGE
from manyhands.workers.channel import RETURNED, Frame
from tests.helpers import DEADLINE
from tests.memory_helpers import memory_of, open_here, read, seen

PATTERN = bytes(number % 251 for number in range(5 * PAGE))
LIMIT = 24 * PAGE
MOST_OPEN = 8 * PAGE

parts = st.lists(
    st.tuples(st.integers(0, 250), st.sampled_from([0, 1, 64, 4096]) | st.integers(0, 2 * PAGE)), max_size=3
).map(lambda drawn: [PATTERN[begin : begin + length] for begin, length in drawn])


@dataclass
class Kept:
    """A value that is open.

    Attributes:
        place: where it lies.
        views: its parts, or what was made of them.
        reads: what must be found there.
        copied: whether it lies there no more.
    """

    place: Place
    views: list[Any]
    reads: list[bytes]
    copied: bool


@dataclass
class Side:
    """One process.

    Attributes:
        values: what it has stored, by number, ever.
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
        ]
        for patch in self.patches:
            patch.start()
        first, second = sockets()
        self.parent = Side(first, Exchange(first, Bank(LIMIT), MOST_OPEN))
        self.worker = Side(second, Exchange(second, Bank(LIMIT)))
        self.sides = (self.parent, self.worker)
        for side in self.sides:
            self.may_fail(side)
        self.handle = Handle(None, None, self.parent.exchange)
        self.calls: dict[
            int, int
        ] = {}  # the numbers of those that the worker has, and of what was lent to them
        self.opened: set[int] = set()  # the parent's values that the worker has looked at
        self.tickets = 0
        self.told: set[int] = set()  # of the parent's values, those that it is told are open

    def may_fail(self, side: Side) -> None:
        """From now on descriptors come through to this side only if there is room for them."""
        attach = side.exchange.views.attach

        def attach_or_not(segment: int, descriptor: int, size: int, writable: bool = False) -> None:
            if side.failures:
                side.failures -= 1
                side.lost.add(segment)
                os.close(descriptor)
                raise OSError(errno.EMFILE, "too many open files")
            side.lost.discard(segment)
            attach(segment, descriptor, size, writable)

        side.exchange.views.attach = attach_or_not  # type: ignore[method-assign]

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
        for number in self.used_of(side):
            other, _ = side.values[number]
            if other.segment == place.segment:
                assert place.offset + place.size <= other.offset or other.offset + other.size <= place.offset
        side.values[place.number] = place, values
        side.held[place.number] = stored
        side.inodes.add(memory_of(side.exchange.bank.descriptor(place.segment)[0]))

    @precondition(lambda self: any(side.held for side in self.sides))
    @rule(data=st.data())
    def drop(self, data: st.DataObject) -> None:
        """The owner does not need it any more."""
        side = self.sides[data.draw(st.sampled_from([which for which in (0, 1) if self.sides[which].held]))]
        del side.held[data.draw(st.sampled_from(sorted(side.held)))]

    @precondition(lambda self: self.free_to_call())
    @rule(data=st.data())
    def call(self, data: st.DataObject) -> None:
        """The parent sends the worker a call, whose argument lies there; one that was not begun may go again."""
        number = data.draw(st.sampled_from(sorted(self.free_to_call())))
        stored = self.parent.held[number]
        self.parent.shown.add(stored.place.segment)
        self.handle.lend(self.tickets, [(0, stored)])
        self.calls[self.tickets] = number
        self.worker.inbox.append((self.tickets, stored.place))
        self.tickets += 1

    def free_to_call(self) -> set[int]:
        return self.parent.held.keys() - self.opened - set(self.calls.values())

    @precondition(lambda self: self.worker.held)
    @rule(data=st.data())
    def answer(self, data: st.DataObject) -> None:
        """The worker sends an answer, and needs it no longer."""
        number = data.draw(st.sampled_from(sorted(self.worker.held)))
        stored = self.worker.held.pop(number)
        self.worker.shown.add(stored.place.segment)
        self.parent.inbox.append((None, self.worker.exchange.show(stored)))

    @rule(which=either)
    def trim(self, which: int) -> None:
        """Idle memory goes, and no other."""
        self.sides[which].exchange.bank.trim()

    def used_of(self, side: Side) -> set[int]:
        """The values of one side that it needs, or the other may look at, now or when it hears of them."""
        other = self.other(side)
        seen_there = {number for number, kept in other.open.items() if kept.views and not kept.copied}
        used = {*side.held, *seen_there, *other.waiting}
        return used | (set(self.calls.values()) if side is self.parent else self.answers())

    def answers(self) -> set[int]:
        """Those that the parent has not heard of yet."""
        return {said[1].number for said in self.parent.inbox if type(said) is tuple}

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
            assert any(noted) and (side is self.worker or not noted.kept)
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
            case _, place:
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
        if side is self.worker:
            self.opened.add(number)
        assert len(received) == sum(map(len, values))
        if place.segment in side.lost:
            with pytest.raises(OSError) as caught:
                received.open(copies=side is self.parent)
            assert caught.value.errno == errno.EMFILE
            del caught
            return
        views: list[Any] = list(received.open(copies=side is self.parent))
        copied = number not in side.exchange.views._watches
        assert side is self.parent or not copied
        assert [bytes(view) for view in views] == values
        assert all(view.readonly == place.readonly for view in views)
        assert len(received) == 0
        if made != "views":
            views = [np.frombuffer(view, np.uint8) for view in views]
        if made == "ends":
            views = [view[len(view) // 2 :] for view in views]
            values = [value[len(value) // 2 :] for value in values]
        side.open[number] = Kept(place, views, list(values), copied)

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
            assert side.exchange.bank.used >= len(side.held)

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
                assert not side.exchange.views._maps and not side.exchange._shown
        finally:
            for side in self.sides:
                side.exchange.close()
                side.exchange.bank.close()
            for patch in self.patches:
                patch.stop()


TwoSides.TestCase.settings = settings(max_examples=100, stateful_step_count=50)
TestTwoSides = TwoSides.TestCase


@pytest.fixture
def pair() -> Iterator[tuple[Exchange, Exchange]]:
    """Two sides, of which none ever waits: all that is looked for was sent before."""
    ends = sockets()
    first, second = Exchange(ends[0], Bank(1 << 26)), Exchange(ends[1], Bank(1 << 26))
    yield first, second
    for exchange in (first, second):
        exchange.close()
        exchange.bank.close()


def stored_by(exchange: Exchange, *values: bytes, readonly: bool = False) -> Stored:
    stored = exchange.bank.store(seen(list(values)), readonly)
    assert stored is not None
    return stored


@contextmanager
def no_more_files() -> Iterator[None]:
    """This process can't open anything."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def no_memory(*args: object, **options: object) -> mmap.mmap:
    raise OSError(errno.ENOMEM, "no memory")


@pytest.mark.parametrize("reason", ["files", "memory"])
def test_what_did_not_come_through_is_shown_again(
    pair: tuple[Exchange, Exchange], monkeypatch: pytest.MonkeyPatch, reason: str
) -> None:
    """Who can't see a value says so, to who opens it and to its owner; the next value there can be seen again."""
    owner, reader = pair
    first, second = stored_by(owner, b"first", b"value"), stored_by(owner, b"second", b"value")
    place, later = owner.show(first), owner.show(second)
    with monkeypatch.context() as patch, no_more_files() if reason == "files" else nullcontext():
        if reason == "memory":
            patch.setattr(mmap, "mmap", no_memory)
        received = reader.received(place)
        assert len(received) == len(b"firstvalue")
    for _ in range(2):  # it stays as it is until the owner knows of it
        with pytest.raises(OSError) as caught:
            received.open()
        assert caught.value.errno == errno.EMFILE
    del caught
    assert not reader.views.has(place.segment) and reader.has_news
    with pytest.raises(OSError, match="too many files"):
        reader.received(later).open()
    del received
    noted = reader.news(all_ends=True)
    assert noted == Noted(let_go=(later.number, place.number), unseen=(place.segment,))
    assert reader.news(all_ends=True) is None
    owner.take_in(noted)
    owner.bank.take_back(noted.let_go)
    assert [bytes(part) for part in reader.received(owner.show(second)).open()] == [b"second", b"value"]
    assert owner.bank.used == 2


def test_a_canvas_that_did_not_come_through(pair: tuple[Exchange, Exchange]) -> None:
    """Who is to write to it hears of it; what is written to one that did come is seen by its owner."""
    owner, writer = pair
    lost, found = owner.bank.open_canvas(PAGE), owner.bank.open_canvas(PAGE)
    owner.show_segment(lost, writable=True)
    with no_more_files(), pytest.raises(OSError) as caught:
        writer.memory(lost)
    assert caught.value.errno == errno.EMFILE
    owner.show_segment(found, writable=True)
    writer.memory(found)[:5] = b"drawn"
    assert owner.bank.memory(found)[:5] == b"drawn"
    owner.bank.close_canvas(found).close()
    noted = owner.news(all_ends=False)
    assert noted == Noted(dropped=(found,))
    writer.take_in(noted)
    assert not writer.views.has(found)
    owner.bank.close_canvas(lost).close()


def test_descriptors_go_once(pair: tuple[Exchange, Exchange]) -> None:
    """However many values of a segment are shown, and looked for in whatever order of segments."""
    owner, reader = pair
    canvas = owner.bank.open_canvas(PAGE)
    kept = [stored_by(owner, bytes([number]), b"value") for number in range(3)]
    owner.show_segment(canvas, writable=True)
    places = [owner.show(stored) for stored in kept]
    got = [reader.received(place).open() for place in reversed(places)]
    assert [bytes(first) for first, _ in got] == [b"\2", b"\1", b"\0"]
    assert reader.views.has(canvas) and reader.memory(canvas)[:1] == b"\0"
    with pytest.raises(BlockingIOError):
        reader._side.recv(100, socket.MSG_DONTWAIT)
    assert owner.is_used and reader.is_used


def test_the_other_side_is_gone(pair: tuple[Exchange, Exchange]) -> None:
    """What it has not shown does not come any more, which is said; and nothing can be shown to it."""
    owner, reader = pair
    stored = stored_by(owner, b"value")
    owner.close()
    with pytest.raises(EOFError):
        reader.received(stored.place)
    with pytest.raises(OSError):
        reader.show(stored_by(reader, b"value"))


def test_nothing_is_told_of_what_is_over(pair: tuple[Exchange, Exchange]) -> None:
    """Of values that were opened and closed meanwhile a worker says nothing; of others it says both, once."""
    owner, reader = pair
    kept = [stored_by(owner, b"value") for _ in range(3)]
    places = [owner.show(stored) for stored in kept]
    assert not reader.has_news
    views = reader.received(places[0]).open(copies=False)
    assert reader.has_news and reader.views.alive == 1
    del views
    reader.received(places[1])
    assert reader.views.alive == 0
    assert reader.news(all_ends=False) is None and not reader.has_news
    views = reader.received(places[2]).open(copies=False)
    assert reader.news(all_ends=False) == Noted(kept=(places[2].number,))
    assert reader.news(all_ends=False) is None
    (part,) = views
    del views
    array = np.frombuffer(part, np.uint8)[1:]
    del part
    assert reader.news(all_ends=False) is None and bytes(array) == b"alue"
    del array
    assert reader.news(all_ends=False) == Noted(let_go=(places[2].number,))
    assert reader.news(all_ends=False) is None


@pytest.mark.parametrize("looked_at", [False, True])
def test_what_is_known_to_be_open(pair: tuple[Exchange, Exchange], looked_at: bool) -> None:
    """Is not told to be, and its end is, even if it was never looked at."""
    owner, reader = pair
    stored = stored_by(owner, b"value")
    received = reader.received(owner.show(stored))
    reader.tell_kept(stored.place.number)
    views = received.open(copies=False) if looked_at else [memoryview(b"value")]
    del received
    if looked_at:
        assert reader.news(all_ends=False) is None and bytes(views[0]) == b"value"
    views.clear()
    assert reader.news(all_ends=False) == Noted(let_go=(stored.place.number,))


def test_what_was_written_is_gone_with_the_view(pair: tuple[Exchange, Exchange]) -> None:
    """The next value in the same slot reads as it was stored, before and behind the end of the first."""
    owner, reader = pair
    for size in (3 * PAGE, 2 * PAGE + 1, 3 * PAGE, PAGE):
        stored = stored_by(owner, PATTERN[:size], b"value")
        views = reader.received(owner.show(stored)).open(copies=False)
        assert stored.place.offset == 0 and [bytes(view) for view in views] == [PATTERN[:size], b"value"]
        for view in views:
            view[:] = bytes(len(view))
        assert read(owner.bank, stored.place) == [PATTERN[:size], b"value"]
        del views, view, stored
        noted = reader.news(all_ends=True)
        assert noted is not None
        owner.bank.take_back(noted.let_go)
        assert owner.bank.used == 0


def test_what_was_written_stays_beside_what_is_gone(pair: tuple[Exchange, Exchange]) -> None:
    """That the value before and the one behind have ended changes nothing."""
    owner, reader = pair
    kept = [stored_by(owner, PATTERN[: 2 * PAGE]) for _ in range(3)]
    views = [reader.received(owner.show(stored)).open(copies=False) for stored in kept]
    for (part,) in views:
        part[:] = b"!" * (2 * PAGE)
    del part, views[2], views[0]
    noted = reader.news(all_ends=True)
    assert noted is not None and sorted(noted.let_go) == [kept[0].place.number, kept[2].place.number]
    assert bytes(views[0][0]) == b"!" * (2 * PAGE)


@pytest.mark.parametrize("copies", [False, True])
def test_values_outlive_all(copies: bool) -> None:
    """What is open stays as it is when both sides are closed, and bank and sockets are gone."""
    ends = sockets()
    owner, reader = Exchange(ends[0], Bank(1 << 26)), Exchange(ends[1], Bank(0))
    stored = stored_by(owner, b"value", PATTERN)
    memory = memory_of(owner.bank.descriptor(0)[0])
    views = reader.received(owner.show(stored)).open(copies=copies)
    array = np.frombuffer(views[1], np.uint8)
    for exchange in (owner, reader):
        exchange.close()
        exchange.bank.close()
    del owner, reader, exchange, stored, ends
    assert bytes(views[0]) == b"value" and bytes(array) == PATTERN
    array[:] = 0
    del views
    assert not array.any() and (memory in open_here()) == (not copies)
    del array
    assert memory not in open_here()


@pytest.mark.parametrize("copies", [False, True])
@pytest.mark.parametrize("readonly", [False, True])
def test_read_only_values_stay_so(pair: tuple[Exchange, Exchange], copies: bool, readonly: bool) -> None:
    """Seen where they lie or copied; others may be written to."""
    owner, reader = pair
    stored = stored_by(owner, b"value", b"more", readonly=readonly)
    views = reader.received(owner.show(stored)).open(copies=copies)
    assert [view.readonly for view in views] == [readonly, readonly]
    assert np.frombuffer(views[0], np.uint8).flags.writeable != readonly


def test_copies_let_go_at_once(pair: tuple[Exchange, Exchange], monkeypatch: pytest.MonkeyPatch) -> None:
    """Small values are copied, and large ones where much is open; a lone pickle is looked at where it lies."""
    monkeypatch.setattr(exchange_module, "VIEW_BYTES", 2 * PAGE)
    owner, reader = pair
    monkeypatch.setattr(reader.views, "_most", 6 * PAGE)
    small, lone = stored_by(owner, b"value", b"more"), stored_by(owner, b"value")
    larges = [stored_by(owner, b"value", PATTERN[: 2 * PAGE]) for _ in range(4)]
    views = [reader.received(owner.show(small)).open()]
    assert reader.views.alive == 0 and reader.has_news
    assert reader.news(all_ends=True) == Noted(let_go=(small.place.number,)) and not reader.has_news
    for count, stored in enumerate(larges[:3], 1):
        views.append(reader.received(owner.show(stored)).open())
        assert reader.views.alive == min(count, 2) and bytes(views[-1][1]) == PATTERN[: 2 * PAGE]
    views.append(reader.received(owner.show(lone)).open())
    assert reader.views.alive == 3
    views.append(reader.received(owner.show(larges[3])).open(copies=False))
    assert reader.views.alive == 4
    assert reader.news(all_ends=True) == Noted(let_go=(larges[2].place.number,))
    views.clear()
    assert reader.news(all_ends=True) is not None
    again = stored_by(owner, b"value", PATTERN[:PAGE])
    views.append(reader.received(owner.show(again)).open())
    assert reader.views.alive == 1  # what was let go of made room


def test_a_finaliser_may_tell_in_the_middle(pair: tuple[Exchange, Exchange]) -> None:
    """Of opening a value: it runs where it runs, and may call something, which tells what has changed."""
    owner, reader = pair
    news: list[Noted | None] = []

    class Watches(dict[int, Any]):
        def __setitem__(self, number: int, watch: Any) -> None:
            super().__setitem__(number, watch)
            news.append(reader.news(all_ends=True))

    reader.views._watches = Watches()
    received = reader.received(owner.show(stored_by(owner, b"value")))
    opener = threading.Thread(target=lambda: received.open(copies=False), daemon=True)
    opener.start()
    opener.join(DEADLINE)
    assert not opener.is_alive() and news == [None]


def test_values_may_end_at_any_moment(pair: tuple[Exchange, Exchange]) -> None:
    """Even while this side notes what has ended: a finaliser runs where it runs."""
    owner, reader = pair
    places = [owner.show(stored_by(owner, b"value")) for _ in range(2)]
    held: list[Any] = [reader.received(places[0]).open(copies=False), reader.received(places[1])]

    def end() -> None:
        with reader.views._lock:
            held.clear()

    thread = threading.Thread(target=end, daemon=True)
    thread.start()
    thread.join(DEADLINE)
    noted = reader.news(all_ends=True)
    assert not thread.is_alive() and noted is not None
    assert sorted(noted.let_go) == [place.number for place in places]

"""The bank: what is stored stays what it was until nobody needs it, and its memory is used again, or given back."""

from __future__ import annotations

import errno
import mmap
import os
import threading
from collections.abc import Callable, Iterator
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from manyhands.memory import bank as bank_module
from manyhands.memory import segment as segment_module
from manyhands.memory.bank import Bank, Stored
from manyhands.memory.places import ALIGNMENT, Place, layout
from manyhands.memory.segment import Segment, anonymous
from manyhands.memory.slots import PAGE, rounded
from tests.helpers import DEADLINE
from tests.memory_helpers import Memory, memory_of, open_here, read, seen

PATTERN = bytes(number % 251 for number in range(8 * PAGE))
ARENA = 6 * PAGE
"""Of the tests, so that there are several segments."""

parts = st.lists(
    st.tuples(
        st.integers(0, 250), st.sampled_from([0, 1, 63, 64, 65, 4095, 4096, 4097]) | st.integers(0, 3 * PAGE)
    ),
    max_size=4,
).map(lambda drawn: [PATTERN[begin : begin + length] for begin, length in drawn])


class AnyOrder(RuleBasedStateMachine):
    """Stores, lends, takes back, drops and trims in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.small = [
            mock.patch.object(bank_module, "ARENA", ARENA),
            mock.patch.object(segment_module, "_PART", 1000),
        ]
        for patch in self.small:
            patch.start()
        self.bank = Bank(0)
        self.limit = 0
        self.held: dict[int, Stored] = {}
        self.lent: dict[int, int] = {}
        self.places: dict[int, tuple[Place, list[bytes]]] = {}  # of slots that are used
        self.segments: dict[int, Memory] = {}  # all that were ever seen
        self.canvases: dict[int, bytes] = {}
        self.numbers = 0

    @initialize(limit=st.integers(0, 40 * PAGE), is_reused=st.booleans())
    def begin(self, limit: int, is_reused: bool) -> None:
        """There is a limit, not always of whole pages."""
        self.limit = limit
        self.bank = Bank(limit, is_reused)

    @rule(values=parts, readonly=st.booleans())
    def store(self, values: list[bytes], readonly: bool) -> None:
        """There is a place for it, beside all others, unless there can't be."""
        stored = self.bank.store(seen(values), readonly)
        _, size = layout([len(value) for value in values])
        if stored is None:
            kept = {place.segment: self.bank.descriptor(place.segment)[1] for place, _ in self.places.values()}
            assert rounded(size) > self.limit - sum(kept.values())
            assert all(stretch < rounded(size) for segment in kept for stretch in self.stretches(segment))
            return
        place = stored.place
        assert place.number not in self.places and place.number >= self.numbers  # never one of before
        assert place.lengths == tuple(map(len, values)) and place.readonly == readonly
        assert place.size == rounded(size) and place.offset % PAGE == 0
        self.numbers = place.number + 1
        self.places[place.number] = place, values
        self.held[place.number] = stored
        if place.segment not in self.segments:
            self.segments[place.segment] = memory_of(self.bank.descriptor(place.segment)[0])

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def drop(self, data: st.DataObject) -> None:
        """It is not needed here any more."""
        number = data.draw(st.sampled_from(sorted(self.held)))
        del self.held[number]
        self.forget(number)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def lend(self, data: st.DataObject) -> None:
        """Somebody is told of it, maybe not the first."""
        number = data.draw(st.sampled_from(sorted(self.held)))
        self.bank.lend(number)
        self.lent[number] = self.lent.get(number, 0) + 1

    @rule(data=st.data())
    def take_back(self, data: st.DataObject) -> None:
        """Who was lent it has let go; of what was not lent, or is long gone, nothing is taken back."""
        numbers = data.draw(st.lists(st.integers(0, self.numbers + 1), max_size=5))
        if self.lent:
            numbers += data.draw(st.lists(st.sampled_from(sorted(self.lent)), min_size=1, max_size=3))
        self.bank.take_back(numbers)
        for number in numbers:
            if self.lent.get(number):
                self.lent[number] -= 1
                self.forget(number)

    @rule()
    def trim(self) -> None:
        """Segments of which nothing is used are given back, descriptors and all; of others, what is not used."""
        version = self.bank.version
        before = {segment for segment in self.segments.keys() - self.canvases.keys() if self.bank.has(segment)}
        self.bank.trim()
        used = {place.segment for place, _ in self.places.values()}
        assert {segment for segment in before if self.bank.has(segment)} == used
        assert (self.bank.version != version) == (before != used)
        for segment in used:
            size = sum(place.size for place, _ in self.places.values() if place.segment == segment)
            assert resident(self.bank, segment) <= size
        self.no_other_is_open(used)

    @rule(pages=st.integers(1, 50), fill=st.binary(min_size=1, max_size=10))
    def open_canvas(self, pages: int, fill: bytes) -> None:
        """There is always room for one."""
        number = self.bank.open_canvas(pages * PAGE)
        descriptor, size = self.bank.descriptor(number)
        assert (
            size == pages * PAGE
            and number not in self.segments
            and not os.pread(descriptor, size, 0).strip(b"\0")
        )
        self.segments[number] = memory_of(descriptor)
        os.pwrite(descriptor, fill, size - len(fill))
        self.canvases[number] = fill

    @precondition(lambda self: self.canvases)
    @rule(data=st.data())
    def close_canvas(self, data: st.DataObject) -> None:
        """It is not to be shown any more, and what lies there is for who has closed it."""
        number = data.draw(st.sampled_from(sorted(self.canvases)))
        version = self.bank.version
        fill = self.canvases.pop(number)
        assert self.bank.memory(number)[-len(fill) :] == fill
        with self.bank.close_canvas(number) as segment:
            assert self.bank.version != version and not self.bank.has(number)
            assert segment.memory[-len(fill) :] == segment.seen()[-len(fill) :] == fill
        assert self.segments[number] not in open_here()

    def forget(self, number: int) -> None:
        if number not in self.held and not self.lent.get(number):
            del self.places[number]
            self.lent.pop(number, None)

    def stretches(self, segment: int) -> list[int]:
        """The sizes of the free stretches of a segment."""
        found = []
        at = 0
        taken = [(place.offset, place.size) for place, _ in self.places.values() if place.segment == segment]
        for offset, size in sorted(taken):
            found.append(offset - at)
            at = offset + size
        return [*found, self.bank.descriptor(segment)[1] - at]

    def no_other_is_open(self, segments: set[int]) -> None:
        """Of the segments and canvases that were here, these are, and the rest is gone."""
        segments = segments | set(self.canvases)
        here = open_here()
        assert {segment for segment, memory in self.segments.items() if memory in here} == segments

    @invariant()
    def contents_stay(self) -> None:
        """All that is used lies apart from all others and is what was stored."""
        for place, values in self.places.values():
            assert read(self.bank, place) == values
        for segment in {place.segment for place, _ in self.places.values()}:
            assert min(self.stretches(segment)) >= 0
        assert self.bank.used == len(self.places)

    @invariant()
    def limit_holds(self) -> None:
        """All segments together are no larger than they may be; canvases do not count."""
        sizes = [
            self.bank.descriptor(segment)[1]
            for segment in self.segments.keys() - self.canvases.keys()
            if self.bank.has(segment)
        ]
        assert self.bank.size == sum(sizes) <= self.limit
        assert not any(size % PAGE for size in sizes)

    def teardown(self) -> None:
        """When all is let go of, all is free, and nothing is left of it."""
        try:
            self.held.clear()
            self.bank.take_back([number for number, lent in self.lent.items() for _ in range(lent)])
            assert self.bank.used == 0
            self.places.clear()
            self.trim()
            assert self.bank.size == 0
            self.bank.close()
            self.no_other_is_open(set())
            for number in self.canvases:
                self.bank.close_canvas(number).close()
            self.canvases.clear()
            self.no_other_is_open(set())
        finally:
            for patch in self.small:
                patch.stop()


AnyOrder.TestCase.settings = settings(max_examples=150, stateful_step_count=40)
TestAnyOrder = pytest.mark.slow(AnyOrder.TestCase)


@pytest.fixture
def bank() -> Iterator[Bank]:
    """One that has room."""
    made = Bank(1 << 26)
    yield made
    made.close()


def resident(bank: Bank, segment: int) -> int:
    """Bytes of memory that a segment takes."""
    return 512 * os.fstat(bank.descriptor(segment)[0]).st_blocks


def no_memory(*args: object) -> int:
    raise OSError(errno.ENOSPC, "no memory")


@given(parts, st.integers(1, 5000))
def test_pieces_of_any_size_are_written(values: list[bytes], most: int) -> None:
    """Where nothing was before and where something was, however few bytes the system takes at once."""
    with (
        mock.patch.object(
            os, "pwrite", lambda file, part, offset, write=os.pwrite: write(file, part[:most], offset)
        ),
        mock.patch.object(segment_module, "_PART", most + 7),
    ):
        bank = Bank(1 << 20)
        first = bank.store(seen([PATTERN[: PAGE + 1]]))
        stored = bank.store(seen(values))
        assert first is not None and stored is not None
        place = stored.place
        for again in (values, [value[::-1] for value in values]):
            assert stored is not None and stored.place[1:] == place[1:]
            del stored
            stored = bank.store(seen(again))
            assert stored is not None and read(bank, stored.place) == again
        assert read(bank, first.place) == [PATTERN[: PAGE + 1]]
        bank.close()


@given(st.lists(parts, max_size=3))
def test_parts_in_pieces(values: list[list[bytes]]) -> None:
    """A part may come in pieces, one after the other without a gap."""
    bank = Bank(1 << 20)
    stored = bank.store([seen(pieces) for pieces in values])
    assert stored is not None and stored.place.lengths == tuple(len(b"".join(pieces)) for pieces in values)
    assert read(bank, stored.place) == [b"".join(pieces) for pieces in values]
    bank.close()


def test_parts_of_no_bytes(bank: Bank) -> None:
    """They, and values of no parts, have places of their own, too."""
    values = [[], [b""], [b"", b""], [b"a", b"", b"b", b""]]
    kept = [bank.store(seen(value)) for value in values]
    for stored, value in zip(kept, values, strict=True):
        assert stored is not None and stored.place.lengths == tuple(map(len, value))
        assert stored.place.size == PAGE and read(bank, stored.place) == value
    assert len({stored.place.offset for stored in kept if stored is not None}) == len(values)


@given(st.lists(st.integers(0, 300)))
def test_parts_begin_at_lines(lengths: list[int]) -> None:
    """Each begins at the first line after the one before."""
    offsets, size = layout(lengths)
    end = 0
    for offset, length in zip(offsets, lengths, strict=True):
        assert offset % ALIGNMENT == 0 and 0 <= offset - end < ALIGNMENT
        end = offset + length
    assert len(offsets) == len(lengths) and 0 <= size - end < ALIGNMENT


@pytest.mark.parametrize("limit", [0, 1, PAGE - 1])
@pytest.mark.parametrize("value", [[], [b""], [b"a"]])
def test_no_room_at_all(limit: int, value: list[bytes]) -> None:
    """Where there is to be less than a page, nothing is stored, and no segment is made; canvases still are."""
    bank = Bank(limit)
    assert bank.store(seen(value)) is None
    assert bank.used == bank.size == 0 and not bank.has(0)
    bank.close_canvas(bank.open_canvas(PAGE)).close()


def test_what_does_not_fit_costs_nothing() -> None:
    """A value for which there is no room leaves all as it is, and one that fits is stored the next time."""
    bank = Bank(3 * PAGE)
    kept = [bank.store(seen([PATTERN[number : number + PAGE]])) for number in range(3)]
    assert None not in kept and bank.store(seen([b"more"])) is None
    assert bank.used == 3 and bank.size == 3 * PAGE
    del kept[1]
    assert bank.store(seen([PATTERN[: PAGE + 1]])) is None  # no two pages are beside each other
    assert [read(bank, stored.place) for stored in kept if stored] == [
        [PATTERN[:PAGE]],
        [PATTERN[2 : 2 + PAGE]],
    ]
    again = bank.store(seen([b"more"]))
    assert again is not None and read(bank, again.place) == [b"more"]
    bank.close()


def test_idle_segments_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before a value is turned away, memory that is not used is given back for it, and told to be."""
    monkeypatch.setattr(bank_module, "ARENA", 4 * PAGE)
    bank = Bank(8 * PAGE)
    small = [bank.store(seen([bytes(PAGE)])) for _ in range(8)]
    assert None not in small and bank.size == 8 * PAGE
    small.clear()
    large = bank.store(seen([PATTERN[: 7 * PAGE]]))
    assert large is not None and read(bank, large.place) == [PATTERN[: 7 * PAGE]]
    assert bank.version > 0 and not bank.has(0) and not bank.has(1) and bank.size == 8 * PAGE
    bank.close()


@pytest.mark.parametrize("error", [OSError(errno.ENOMEM, "no memory"), OverflowError(), MemoryError()])
def test_no_memory_for_a_segment(bank: Bank, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """Then nothing is stored and nothing is lost; when there is some again, it is used."""

    def fails(*args: object) -> Segment:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(bank_module, "Segment", fails)
        assert bank.store(seen([b"value"])) is None
        assert bank.used == bank.size == 0
        with pytest.raises(type(error)):
            bank.open_canvas(PAGE)
    stored = bank.store(seen([b"value"]))
    assert stored is not None and read(bank, stored.place) == [b"value"]


def test_no_memory_for_a_value(bank: Bank, monkeypatch: pytest.MonkeyPatch) -> None:
    """A value that could be written in part only is not stored; its slot is free again, others are as they were."""
    first = bank.store(seen([PATTERN[:PAGE]]))
    assert first is not None
    written = []

    def some(file: int, part: memoryview, offset: int, write: Callable[..., int] = os.pwrite) -> int:
        if written:
            no_memory()
        written.append(offset)
        return write(file, part[:100], offset)

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", some)
        assert bank.store(seen([PATTERN[: 2 * PAGE], b"more"])) is None
    assert written == [PAGE] and bank.used == 1 and read(bank, first.place) == [PATTERN[:PAGE]]
    again = bank.store(seen([PATTERN[PAGE:]]))
    assert again is not None and again.place.offset == PAGE and read(bank, again.place) == [PATTERN[PAGE:]]


@pytest.mark.parametrize("step", ["ftruncate", "mmap"])
def test_a_segment_that_fails_leaves_nothing(step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its descriptor is closed."""
    made = []

    def fails(descriptor: int, *args: object, **options: object) -> int:
        made.append(memory_of(descriptor))
        return no_memory()

    monkeypatch.setattr(*((os, "ftruncate") if step == "ftruncate" else (mmap, "mmap")), fails)
    with pytest.raises(OSError, match="no memory"):
        Segment(PAGE)
    assert len(made) == 1 and made[0] not in open_here()


def test_memory_is_of_this_process_alone() -> None:
    """It is all zeros, has no name among files, and no program that is started inherits it."""
    descriptor = anonymous("manyhands", 3 * PAGE)
    try:
        assert os.pread(descriptor, 4 * PAGE, 0) == bytes(3 * PAGE)
        assert not os.get_inheritable(descriptor) and os.fstat(descriptor).st_nlink == 0
    finally:
        os.close(descriptor)


def test_the_same_memory_is_used_again(bank: Bank) -> None:
    """Values of which one is there at a time take one slot, in one segment."""
    places = set()
    for number in range(20):
        stored = bank.store(seen([bytes([number]) * (3 * PAGE)]))
        assert stored is not None and read(bank, stored.place) == [bytes([number]) * (3 * PAGE)]
        places.add(stored.place[1:])
        del stored
    assert len(places) == 1 and bank.version == 0


def test_a_value_may_be_lent_to_many(bank: Bank) -> None:
    """Its slot is free when the last of them has let go of it, and nobody needs it here."""
    stored = bank.store(seen([b"value"]))
    assert stored is not None
    number = stored.place.number
    for _ in range(3):
        bank.lend(number)
    del stored
    for used in (1, 1, 0, 0):
        bank.take_back([number])
        assert bank.used == used


def test_fresh_memory_is_asked_for(bank: Bank, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the system, which says if there is none; what is there already is written to without."""
    written = []

    def noted(file: int, part: memoryview, offset: int, write: Callable[..., int] = os.pwrite) -> int:
        written.append((offset, part.nbytes))
        return write(file, part, offset)

    monkeypatch.setattr(os, "pwrite", noted)
    for size in (PAGE, PAGE, 2 * PAGE, 2 * PAGE, 1):
        bank.store(seen([PATTERN[:size]]))
    assert written == [(0, PAGE), (0, 2 * PAGE)]


def test_what_was_given_back_is_fresh_again(bank: Bank, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside what is used: its memory goes, and more is asked for when something comes there again."""
    first, second, third = (bank.store(seen([PATTERN[:PAGE]])) for _ in range(3))
    assert first and second and third
    again = bank.store(seen([PATTERN[:PAGE]]))  # from here on, too
    del first, again
    bank.trim()
    assert resident(bank, 0) == 2 * PAGE
    written = []

    def noted(file: int, part: memoryview, offset: int, write: Callable[..., int] = os.pwrite) -> int:
        written.append(offset)
        return write(file, part, offset)

    monkeypatch.setattr(os, "pwrite", noted)
    kept = [bank.store(seen([PATTERN[PAGE : 2 * PAGE]])) for _ in range(3)]
    assert written == [0, 3 * PAGE, 4 * PAGE]
    assert [read(bank, stored.place) for stored in kept if stored] == 3 * [[PATTERN[PAGE : 2 * PAGE]]]
    assert [read(bank, stored.place) for stored in (second, third)] == 2 * [[PATTERN[:PAGE]]]


def test_copies(bank: Bank) -> None:
    """They stay when the slot is used for something else, and can be written to."""
    stored = bank.store(seen([PATTERN[: 2 * PAGE], b"", PATTERN[:7]]))
    assert stored
    parts = bank.copy(stored)
    del stored
    bank.store(seen([b"x" * 3 * PAGE]))
    assert parts == [PATTERN[: 2 * PAGE], b"", PATTERN[:7]]
    assert not any(part.readonly for part in parts)


def test_warm_is_where_others_have_lain(bank: Bank) -> None:
    """As long as that is free, and was not given back."""
    assert not bank.is_warm(PAGE)
    first = bank.store(seen([PATTERN[: 2 * PAGE]]))
    assert not bank.is_warm(PAGE)
    second = bank.store(seen([PATTERN[:PAGE]]))
    assert not bank.is_warm(PAGE)
    del first
    assert bank.is_warm(PAGE)
    assert bank.is_warm(2 * PAGE - 1)
    assert not bank.is_warm(3 * PAGE)
    del second
    assert bank.is_warm(3 * PAGE)
    assert not bank.is_warm(3 * PAGE + 1)
    bank.trim()
    assert not bank.is_warm(PAGE)


@pytest.mark.parametrize("is_reused", [False, True])
def test_what_will_be_written_to_is_mapped(is_reused: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """All at once, before it is; where it is sure to be, with the first value already. Not twice."""
    mapped: list[tuple[int, int]] = []
    monkeypatch.setattr(segment_module, "populate", lambda memory, begin, end: mapped.append((begin, end)))
    bank = Bank(1 << 26, is_reused)
    for expected in ([(0, 2 * PAGE)] if is_reused else [], [(0, 2 * PAGE)], [(0, 2 * PAGE)]):
        bank.store(seen([PATTERN[: 2 * PAGE]]))
        assert mapped == expected
    bank.close()


def test_what_was_given_back_is_mapped_again(bank: Bank, monkeypatch: pytest.MonkeyPatch) -> None:
    """From where it begins."""
    mapped: list[tuple[int, int]] = []
    monkeypatch.setattr(segment_module, "populate", lambda memory, begin, end: mapped.append((begin, end)))
    kept = bank.store(seen([PATTERN[:PAGE]]))
    for expected in ([(0, 3 * PAGE)], [(0, 3 * PAGE), (PAGE, 3 * PAGE)]):
        for _ in range(3):
            bank.store(seen([PATTERN[: 2 * PAGE]]))
        assert mapped == expected
        bank.trim()
    assert kept is not None


def test_huge_values_are_not_mapped_for_a_second_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may never come, and to map takes time."""
    mapped: list[tuple[int, int]] = []
    monkeypatch.setattr(segment_module, "populate", lambda memory, begin, end: mapped.append((begin, end)))
    monkeypatch.setattr(segment_module, "_FEW", PAGE)
    bank = Bank(1 << 26, is_reused=True)
    bank.store(seen([PATTERN[: 2 * PAGE]]))
    assert mapped == []
    bank.store(seen([PATTERN[: 2 * PAGE]]))
    assert mapped == [(0, 2 * PAGE)]
    bank.close()


def test_much_is_mapped_piece_by_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    """From the page on where it begins; whoever can't do it all at once does it page by page."""
    monkeypatch.setattr(segment_module, "_PART", 2 * PAGE)
    memory = mock.Mock()
    segment_module.populate(memory, PAGE + 1, 6 * PAGE)
    assert [call.args[1:] for call in memory.madvise.mock_calls] == [
        (PAGE, 2 * PAGE),
        (3 * PAGE, 2 * PAGE),
        (5 * PAGE, PAGE),
    ]
    memory.madvise.side_effect = OSError(errno.EINVAL, "an older kernel")
    segment_module.populate(memory, 0, PAGE)


def test_segments_are_few(bank: Bank, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is made for a large value has room for some more like it; where there is much, it is larger."""
    monkeypatch.setattr(bank_module, "ARENA", PAGE)
    kept = [bank.store(seen([PATTERN[: 5 * PAGE]])) for _ in range(4)]
    assert {stored.place.segment for stored in kept if stored} == {0}
    kept += [bank.store(seen([b"value"])) for _ in range(2000)]
    assert None not in kept
    assert max(stored.place.segment for stored in kept if stored) < 40


def test_a_value_may_end_at_any_moment(bank: Bank) -> None:
    """Even while its bank is in use in the same thread: a finaliser runs where it runs."""
    stored = [bank.store(seen([b"value"]))]

    def end() -> None:
        with bank._lock:
            stored.clear()

    thread = threading.Thread(target=end, daemon=True)
    thread.start()
    thread.join(DEADLINE)
    assert not thread.is_alive() and bank.used == 0


def test_who_has_a_segment_keeps_it(bank: Bank) -> None:
    """When the bank is closed, even twice, its descriptors are; what is mapped elsewhere can be read all the same."""
    stored = bank.store(seen([b"value"]))
    assert stored is not None
    memory = memory_of(bank.descriptor(0)[0])
    mapped = bank._segments[0].seen()
    view = memoryview(bank._segments[0].memory)
    bank.close()
    bank.close()
    assert mapped[:5] == view[:5] == b"value"
    mapped.close()
    view.release()
    assert memory not in open_here() and not bank.has(0)
    assert bank.store(seen([b"more"])) is None
    bank.take_back([stored.place.number])
    del stored
    assert bank.used == bank.size == 0


def test_who_opens_a_canvas_closes_it(bank: Bank) -> None:
    """Before the bank is closed, or after; what is seen of it then can be read all the same."""
    canvases = [bank.open_canvas(PAGE) for _ in range(2)]
    memories = [memory_of(bank.descriptor(canvas)[0]) for canvas in canvases]
    view = memoryview(bank.memory(canvases[0]))
    bank.close_canvas(canvases[0]).close()
    bank.close()
    assert bytes(view) == bytes(PAGE) and set(memories) <= set(open_here())
    view.release()
    assert memories[0] not in open_here()
    bank.close_canvas(canvases[1]).close()
    assert memories[1] not in open_here()


def test_what_is_mapped_privately_stays_private(bank: Bank) -> None:
    """Who writes there writes for itself."""
    stored = bank.store(seen([b"value"]))
    assert stored is not None
    with bank._segments[0].seen() as mapped:
        mapped[:5] = b"other"
        assert read(bank, stored.place) == [b"value"] and mapped[:5] == b"other"


def test_a_forked_child_lets_go(bank: Bank) -> None:
    """Of the parent's segments, whoever of the parent's threads was at them."""
    stored = bank.store(seen([b"value"]))
    assert stored is not None
    memories = {memory_of(bank.descriptor(number)[0]) for number in (0, bank.open_canvas(PAGE))}

    def disown() -> None:
        bank._lock.acquire()  # as another thread had it at the fork
        bank.disown()

    thread = threading.Thread(target=disown, daemon=True)
    thread.start()
    thread.join(DEADLINE)
    assert not thread.is_alive() and memories.isdisjoint(open_here())

"""A lane of a worker: what runs, what is said of it and when, and what its marker shows meanwhile."""

from __future__ import annotations

import _thread
import pickle
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import FrameType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manyhands.calls import Answer, Call, Done, Failed, Later
from manyhands.controller.parcels import Parcel
from manyhands.errors import RemoteError
from manyhands.workers import lane as lane_module
from manyhands.workers.channel import ANSWERED, CALLS, HANDED_BACK, PROMPT, RETURNED, RUN, WATCH, WHOLE, Frame
from manyhands.workers.flusher import Flusher
from manyhands.workers.lane import FLUSH_SECONDS, PROMPT_PART, SLOW_SECONDS, Lane
from manyhands.workers.marker import Marker, receive_marker, send_marker
from manyhands.workers.parcel import ATOMS, EACH, unpack

TICKET = 7
SHORT = FLUSH_SECONDS / 1000
LONG = FLUSH_SECONDS * 1.5
VERY_LONG = SLOW_SECONDS * 1.5

BACK = "handed back"


class Clock:
    """Seconds that pass only when a test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Task:
    """A work whose function is ``step``, called with items, or with calls of one argument.

    ``unchecked``: a step and two checks that come to the same together.
    """

    def __init__(
        self, step: Callable[[Any], Any], unchecked: tuple[Callable[[Any], Any], Any, Any] | None = None
    ) -> None:
        self.plain = step
        self.unchecked = unchecked

    def __call__(self, call: Call) -> Answer:
        try:
            value = self.plain(*call.args)
        except Exception as error:
            return self.failed(error)
        return value if isinstance(value, Done | Failed | Later) else Done(value)

    def failed(self, error: Exception) -> Failed:
        return Failed(error, "as the work says it")


class Unpicklable:
    def __reduce__(self) -> Any:
        raise TypeError("not this one")


class Unloadable:
    """As an item: pickles, but does not unpickle."""

    def __reduce__(self) -> Any:
        return int, ("no number",)


class Exits:
    """As a result: its pickling ends the program."""

    def __reduce__(self) -> Any:
        raise SystemExit(3)


class Strict(Exception):
    """Pickles, but does not unpickle."""

    def __init__(self, first: int, second: int) -> None:
        super().__init__(first + second)


class Bench:
    """A lane with all that is around it.

    ``sent`` are the frames that it and its flusher have sent. While it sends, it is at no call.
    """

    def __init__(self, threads: int = 1, number: int = 0) -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            self.parent: Marker = send_marker(ours, threads, ours)
            self.marker, side = receive_marker(theirs)
            side.close()
        self.clock = Clock()
        self.sent: list[Frame] = []
        self.sends = 0
        self.in_look = False
        self.unbegun: list[Frame] = []
        self.flusher = Flusher(self.take_unbegun, self.send)
        self.lane = Lane(number, self.marker, self.send)
        self.flusher.watch(self.lane)

    def take_unbegun(self) -> list[Frame]:
        taken, self.unbegun = self.unbegun, []
        return taken

    def send(self, *frames: Frame) -> None:
        assert frames
        self.sends += 1
        self.sent += frames
        assert self.in_look or self.parent.running() == []

    def look(self, seconds: float = 0.0) -> bool:
        """Has the flusher look, after some seconds."""
        self.clock.now += seconds
        self.in_look = True
        runs = self.flusher.look(self.clock.now)
        self.in_look = False
        return runs

    def fates(self) -> dict[int, Any]:
        """What was said of each position of the ticket, which must not be said twice."""
        fates: dict[int, Any] = {}
        for frame in self.sent:
            assert frame.ticket == TICKET and frame.begin < frame.end
            if frame.kind == HANDED_BACK:
                news: list[Any] = [BACK] * (frame.end - frame.begin)
            elif frame.kind == ANSWERED:
                news = [pickle.loads(frame.body)]
            else:
                assert frame.kind == RETURNED
                values, pickled = unpack(frame.form, frame.body)
                news = [Done(pickle.loads(value) if pickled else value) for value in values]
            assert len(news) == frame.end - frame.begin
            for position, fate in zip(range(frame.begin, frame.end), news, strict=True):
                assert position not in fates
                fates[position] = fate
        return dict(sorted(fates.items()))

    def values(self) -> dict[int, Any]:
        """The results, of positions that returned."""
        return {position: fate.value for position, fate in self.fates().items() if isinstance(fate, Done)}

    @property
    def seconds(self) -> float:
        """What the calls took together, as they say."""
        return sum(frame.seconds + frame.last for frame in self.sent)

    def close(self) -> None:
        """Lets go of the marker."""
        self.parent.close()
        self.marker.close()


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """A lane with a clock of its own."""
    bench = Bench()
    monkeypatch.setattr(lane_module, "clock", bench.clock)
    yield bench
    bench.close()


def piece(items: list[Any], flags: int = 0, begin: int = 0, epoch: int = 0, form: int = ATOMS) -> Frame:
    """A RUN frame of these items; as pickles, where ``form`` says so."""
    if flags & CALLS:
        items, form = [Call((item,)) for item in items], EACH
    requests = [pickle.dumps(item) for item in items] if form == EACH else items
    form, body = Parcel(requests, form).piece(0, len(items))
    return Frame(RUN, form, flags, epoch, 3, TICKET, begin, begin + len(items), body=body)


# -- any piece --------------------------------------------------------------------------------------------

RETURNS = ["atom", "kept", "fit", "tuple", "list", "large", "looked at"]
RAISES = ["error", "index", "stop", "strict", "locked", "exit", "interrupt", "unsendable", "exits as a result"]
RAISES += ["refused", "doubtful"]  # by the check of results
UNFIT = ["unfit", "suspect"]  # by the check of items: these are not called
DURATIONS = st.sampled_from([0.0, 0.0, SHORT, LONG, VERY_LONG])


@dataclass(frozen=True)
class Plan:
    """What a call does: it takes some time, which the flusher may cut in pieces by its looks, and ends."""

    kind: str
    looks: tuple[float, ...]
    seconds: float

    @property
    def total(self) -> float:
        return sum(self.looks) + self.seconds

    @property
    def is_seen_to_be_slow(self) -> bool:
        """The flusher has seen it twice, with long enough between."""
        return sum(self.looks[1:]) >= SLOW_SECONDS

    def result(self, item: int, look: Callable[[], object]) -> Any:
        """Returns or raises what is planned."""
        match self.kind:
            case "atom" | "kept" | "fit" | "refused" | "doubtful":
                return item
            case "tuple":
                return item, item
            case "list":
                return [item]
            case "large":
                return bytearray(b"%d " % item) * 40_000
            case "looked at":
                return LookedAt(item, look)
            case "unsendable":
                return Unpicklable()
            case "exits as a result":
                return Exits()
            case "error":
                raise ValueError(item)
            case "index":
                raise IndexError(item)
            case "stop":
                raise StopIteration(item)
            case "strict":
                raise Strict(item, 0)
            case "locked":
                raise ValueError(item, threading.Lock())
            case "exit":
                raise SystemExit(item)
        raise KeyboardInterrupt(item)

    def check(self, item: int, fate: Any) -> None:
        """What was said is what was planned."""
        match self.kind:
            case "looked at":
                assert fate == Done(item)
            case kind if kind in RETURNS:
                assert fate == Done(self.result(item, lambda: None))
            case "unsendable" | "exits as a result":
                assert type(fate.error) is (TypeError if self.kind == "unsendable" else RemoteError)
                assert "can't be sent back" in fate.error.__notes__[0]
            case "error" | "index" | "stop":
                wanted = {"error": ValueError, "index": IndexError, "stop": StopIteration}[self.kind]
                assert type(fate.error) is wanted and fate.error.args == (item,)
                assert fate.traceback == "as the work says it"
            case "refused" | "unfit":
                assert type(fate.error) is ValueError and fate.error.args == (item, False)
            case "doubtful" | "suspect":
                assert type(fate.error) is KeyError and fate.error.__notes__ == ["explained"]
            case _:
                assert isinstance(fate.error, RemoteError) and str(item) in fate.error.args[0]


@dataclass
class LookedAt:
    """The flusher looks while this is pickled; it unpickles as its item."""

    item: int
    look: Callable[[], object]

    def __reduce__(self) -> Any:
        self.look()
        return int, (self.item,)


plans = st.lists(
    st.builds(
        Plan,
        st.sampled_from(RETURNS) | st.sampled_from(RETURNS + RAISES),
        st.just(()) | st.lists(DURATIONS, max_size=3).map(tuple),
        DURATIONS,
    )
    | st.builds(Plan, st.sampled_from(UNFIT), st.just(()), st.just(0.0)),
    min_size=1,
    max_size=50,
)


@dataclass
class Check:
    """What a lane asks of each item, or of each result."""

    predicate: Callable[[Any], Any]

    def __call__(self, value: Any) -> None:
        try:
            answer = self.predicate(value)
        except KeyError as error:
            self.explain(error)
            raise
        if answer is not True:
            self.judge(value, answer)

    def judge(self, value: Any, answer: Any) -> None:
        assert answer is not True
        if not answer:
            raise ValueError(value, answer)

    def explain(self, error: Exception) -> None:
        error.add_note("explained")


class Played:
    """A lane runs a plan, in pieces, while its flusher looks as planned; the items are the positions.

    Items and results are checked as it is planned too.
    """

    def __init__(
        self, pieces: list[list[Plan]], flags: int, form: int, apart: tuple[bool, bool], tiny: bool
    ) -> None:
        self.bench = Bench()
        if tiny:
            self.bench.lane._several = lane_module._SEVERAL  # as after a piece of such calls
        self.ran: list[int] = []
        self.plan = [plan for some in pieces for plan in some]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(lane_module, "clock", self.bench.clock)
            begin = 0
            for some in pieces:
                items = list(range(begin, begin + len(some)))
                self.bench.lane.run(
                    piece(items, flags, begin, form=form),
                    self.task(*apart),
                )
                assert self.bench.parent.running() == []
                begin += len(some)
            self.bench.lane.push()
        self.fates = self.bench.fates()
        self.bench.close()

    def task(self, before_apart: bool, after_apart: bool) -> Task:
        """Its checks are within its step, or apart from it."""
        before, after = Check(self.fits), Check(self.keeps)

        def whole(item: int) -> Any:
            before(item)
            value = self.step(item)
            after(value)
            return value

        def fitting(item: int) -> Any:
            before(item)
            return self.step(item)

        def kept(item: int) -> Any:
            value = self.step(item)
            after(value)
            return value

        match before_apart, after_apart:
            case True, True:
                return Task(whole, (self.step, before, after))
            case True, False:
                return Task(whole, (kept, before, None))
            case False, True:
                return Task(whole, (fitting, None, after))
        return Task(whole)

    def fits(self, item: int) -> Any:
        assert self.bench.parent.running() == [(TICKET, item)]
        self.ran.append(item)
        match self.plan[item].kind:
            case "fit":
                return 1
            case "unfit":
                return False
            case "suspect":
                raise KeyError(item)
        return True

    def keeps(self, value: Any) -> Any:
        item = self.ran[-1]
        assert self.bench.parent.running() == [(TICKET, item)]
        match self.plan[item].kind:
            case "kept":
                return 1
            case "refused":
                return False
            case "doubtful":
                raise KeyError(item)
        return True

    def step(self, item: int) -> Any:
        assert self.bench.parent.running() == [(TICKET, item)]
        plan = self.plan[item]
        assert self.ran[-1] == item
        for seconds in plan.looks:
            assert self.bench.look(seconds)
        if sum(plan.looks[1:]) >= FLUSH_SECONDS:
            told = self.bench.fates()
            assert all(before in told for before in self.ran[:-1])
        self.bench.clock.now += plan.seconds
        return plan.result(item, self.bench.look)


@settings(max_examples=200)
@given(
    pieces=st.lists(plans, min_size=1, max_size=3),
    flags=st.sampled_from([0, WHOLE, CALLS, CALLS | WHOLE]),
    form=st.sampled_from([ATOMS, EACH]),
    apart=st.tuples(st.booleans(), st.booleans()),
    tiny=st.booleans(),
)
def test_any_pieces(
    pieces: list[list[Plan]], flags: int, form: int, apart: tuple[bool, bool], tiny: bool
) -> None:
    """Each call runs once, in order, and is answered as it came to be; or it is handed back, and never ran."""
    played = Played(pieces, flags, form, apart, tiny)
    fates, ran = played.fates, played.ran
    assert list(fates) == list(range(len(played.plan)))
    assert ran == [item for item in fates if fates[item] != BACK]
    for item in ran:
        played.plan[item].check(item, fates[item])
    begin = 0
    for some in pieces:
        end = begin + len(some)
        first_back = next((item for item in range(begin, end) if fates[item] == BACK), end)
        assert all(fates[item] == BACK for item in range(first_back, end))
        assert first_back == end or not flags & WHOLE
        assert first_back == end or sum(plan.total for plan in some[: first_back - begin]) >= SLOW_SECONDS
        for item in range(begin, end - 1):
            if played.plan[item].is_seen_to_be_slow and not flags & WHOLE:
                assert fates[item + 1] == BACK
        begin = end
    for frame in played.bench.sent:
        assert len(frame.body) <= 1 << 16 or frame.end == frame.begin + 1
    if not any(plan.looks for plan in played.plan):
        assert played.bench.seconds == pytest.approx(sum(played.plan[item].total for item in ran))


def test_time_is_told_once(bench: Bench) -> None:
    """While a result is pickled, the flusher sends what tiny calls returned before it, one of which was slow."""
    bench.lane._several = lane_module._SEVERAL  # as after a piece of such calls
    slow = takes(bench, {1: 0.06}, rest=0.0)

    def step(item: int) -> Any:
        return slow(item) if item == 1 else LookedAt(slow(item), bench.look)

    bench.lane.run(piece([0, 1, 2]), Task(step))
    bench.lane.push()
    assert bench.values() == {0: 0, 1: 1, 2: 2}
    assert bench.seconds == pytest.approx(0.06)


# -- when answers are sent --------------------------------------------------------------------------------


def takes(bench: Bench, seconds: dict[int, float], rest: float = SHORT) -> Callable[[int], int]:
    """A function of items that take so long, and are returned."""

    def step(item: int) -> int:
        bench.clock.now += seconds.get(item, rest)
        return item

    return step


def test_fast_calls_are_answered_together(bench: Bench) -> None:
    """Nothing is sent before it is asked for, and then all at once, of several pieces too."""
    for begin in (0, 10):
        bench.lane.run(piece(list(range(begin, begin + 10)), begin=begin), Task(takes(bench, {})))
    assert bench.sends == 0
    bench.lane.push()
    assert bench.sends == 1
    assert bench.values() == {n: n for n in range(20)}
    bench.lane.push()
    assert bench.sends == 1


def test_slow_calls_are_answered_as_they_end(bench: Bench) -> None:
    """After each of them all that has ended is sent, failures too, with the time of the last by itself."""
    seen: list[int] = []

    def step(item: int) -> int:
        seen.append(len(bench.fates()))
        bench.clock.now += LONG
        if item == 1:
            raise ValueError
        return item

    bench.lane.run(piece([0, 1, 2, 3], WHOLE), Task(step))
    assert seen == [0, 1, 2, 3]
    assert [(frame.seconds, frame.last) for frame in bench.sent] == [(0.0, pytest.approx(LONG))] * 4


def test_slow_results_that_are_pickled_say_what_they_took(bench: Bench) -> None:
    """What took so long that it is sent at once is the last of its run with all of its time, whatever it returned."""

    def step(item: int) -> list[int]:
        bench.clock.now += LONG if item == 2 else SHORT
        return [item]

    bench.lane.run(piece([0, 1, 2], WHOLE), Task(step))
    (frame,) = bench.sent
    assert (frame.seconds, frame.last) == (pytest.approx(2 * SHORT), pytest.approx(LONG))
    assert frame.at == bench.clock.now


def test_times_of_a_run(bench: Bench) -> None:
    """What a slow call took is told apart from what those before it took."""
    bench.lane.run(piece(list(range(10))), Task(takes(bench, {9: LONG})))
    (frame,) = bench.sent
    assert frame.seconds == pytest.approx(9 * SHORT)
    assert frame.last == pytest.approx(LONG)


def test_times_of_a_short_run(bench: Bench) -> None:
    """Of calls that are short together, each had the same share."""
    bench.lane.run(piece(list(range(10))), Task(takes(bench, {3: 5 * SHORT}, rest=0.0)))
    bench.lane.push()
    (frame,) = bench.sent
    assert frame.last == pytest.approx(0.5 * SHORT)
    assert frame.seconds == pytest.approx(4.5 * SHORT)


def test_results_wait_over_pieces_no_longer_than_in_one(bench: Bench) -> None:
    """What was due in an earlier piece is sent from the next, as soon as it is due."""
    bench.lane.run(piece([0]), Task(takes(bench, {0: FLUSH_SECONDS * 0.7})))
    assert bench.sends == 0
    bench.lane.run(piece([1, 2], begin=1), Task(takes(bench, {1: FLUSH_SECONDS * 0.7})))
    assert bench.sends == 1
    assert list(bench.values()) == [0, 1]


def test_results_that_are_waited_for_singly_are_sent_sooner(bench: Bench) -> None:
    """And the flusher looks after them more often, as long as such a piece runs."""
    step = takes(bench, {0: FLUSH_SECONDS * PROMPT_PART * 1.1})
    bench.lane.run(piece([0, 1], flags=PROMPT), Task(step))
    assert bench.sends == 1
    assert bench.lane.part == PROMPT_PART
    bench.lane.push()
    bench.lane.run(piece([2, 3], begin=2), Task(takes(bench, {2: FLUSH_SECONDS * PROMPT_PART * 1.1})))
    assert bench.sends == 2
    assert bench.lane.part == 1.0


def test_the_clock_is_read_less_often_for_tiny_calls(bench: Bench) -> None:
    """After a piece of them, and then a slow piece is noticed all the same, after some calls."""
    bench.lane.run(piece(list(range(200))), Task(takes(bench, {}, rest=0.0)))
    bench.lane.push()
    bench.lane.run(piece(list(range(200, 400)), begin=200), Task(takes(bench, {}, rest=VERY_LONG)))
    fates = bench.fates()
    assert list(fates) == list(range(400))
    assert 1 <= 200 - list(fates.values()).count(BACK) <= 128


def test_large_results_go_at_once_and_alone(bench: Bench) -> None:
    """A large result waits for nothing, and what was before it goes with it, in order."""
    sends: list[int] = []

    def step(item: int) -> Any:
        sends.append(bench.sends)
        return bytearray(100_000) if item == 2 else [item]

    bench.lane.run(piece([0, 1, 2, 3]), Task(step))
    assert sends == [0, 0, 0, 1]
    assert [(frame.begin, frame.end) for frame in bench.sent] == [(0, 2), (2, 3)]
    bench.lane.push()
    assert bench.values() == {0: [0], 1: [1], 2: bytearray(100_000), 3: [3]}


# -- what comes back --------------------------------------------------------------------------------------


def test_a_result_is_as_it_was_returned(bench: Bench) -> None:
    """Later calls that change what an earlier one returned change nothing in the caller's results."""
    shared: list[int] = []

    def step(item: int) -> Any:
        shared.append(item)
        return (shared,) if item % 2 else shared

    bench.lane.run(piece([0, 1, 2]), Task(step))
    bench.lane.push()
    assert bench.values() == {0: [0], 1: ([0, 1],), 2: [0, 1, 2]}


def test_an_item_that_can_not_be_loaded_fails_alone(bench: Bench) -> None:
    """Unpickling an item is the call's affair: the others run."""
    items = [1, Unloadable(), 3]
    bench.lane.run(piece(items, form=EACH), Task(lambda item: item * 2))
    bench.lane.push()
    assert bench.values() == {0: 2, 2: 6}
    assert type(bench.fates()[1].error) is ValueError
    assert bench.fates()[1].traceback == "as the work says it"


def test_a_work_that_can_not_be_loaded_fails_all(bench: Bench) -> None:
    """Each call is told why."""
    bench.lane.run(piece([1, 2, 3], begin=4), Failed(ImportError("no such module")))
    bench.lane.push()
    fates = bench.fates()
    assert list(fates) == [4, 5, 6]
    assert all(type(fate.error) is ImportError for fate in fates.values())
    assert bench.parent.running() == []


def test_answers_of_calls(bench: Bench) -> None:
    """What a call came to arrives as it is, unless it returned: then its value travels with others."""
    answers = [Done(1), Done(2, computed=False), Later(0.5, "memo"), Failed(ValueError(3)), Done(4), Done([5])]
    bench.lane.run(piece(list(range(6)), CALLS), Task(lambda item: answers[item]))
    bench.lane.push()
    kinds = {frame.begin: frame.kind for frame in bench.sent}
    assert kinds == {0: RETURNED, 1: ANSWERED, 2: ANSWERED, 3: ANSWERED, 4: RETURNED, 5: RETURNED}
    fates = bench.fates()
    assert [fates[place] for place in (0, 1, 2, 4, 5)] == [answers[place] for place in (0, 1, 2, 4, 5)]
    assert fates[3].error.args == (3,)


def test_a_done_that_is_a_result_stays_one(bench: Bench) -> None:
    """A plain function may return anything, our own answers too."""
    bench.lane.run(piece([0, 1]), Task(lambda item: [Done(1), Failed(ValueError())][item]))
    bench.lane.push()
    assert type(bench.values()[0]) is Done and type(bench.values()[1]) is Failed


def test_slow_calls_where_tiny_ones_were_expected(bench: Bench) -> None:
    """The lane does not look at the clock for many calls; the flusher sends what is there, and hands back the rest."""
    bench.lane.run(piece(list(range(100))), Task(takes(bench, {}, rest=0.0)))
    bench.lane.push()
    seen = []

    def step(item: int) -> int:
        bench.clock.now += FLUSH_SECONDS * 0.4
        if item % 3 == 0:
            bench.look()
            seen.append(len(bench.values()))
        return item

    bench.lane.run(piece(list(range(100, 150)), begin=100, flags=WATCH), Task(step))
    bench.lane.push()
    fates = bench.fates()
    assert seen[2] > 100, "results wait for the lane to look at the clock"
    assert BACK in fates.values()
    assert sorted(fates) == list(range(150))


# -- what goes back ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("flags", "part"), [(0, 1.0), (PROMPT, PROMPT_PART)])
@pytest.mark.parametrize("fails", [False, True])
def test_the_rest_of_a_slow_piece_goes_back(bench: Bench, fails: bool, flags: int, part: float) -> None:
    """As soon as it has run for long, whether its calls return or raise; nothing of it is kept back."""

    def step(item: int) -> int:
        bench.clock.now += SLOW_SECONDS * part * 0.4
        if fails:
            raise ValueError
        return item

    bench.lane.run(piece(list(range(10)), begin=10, flags=flags), Task(step))
    fates = bench.fates()
    assert list(fates.values())[3:] == [BACK] * 7
    assert BACK not in list(fates.values())[:3]
    assert bench.sent[-1] == Frame(HANDED_BACK, ticket=TICKET, begin=13, end=20)


def test_a_slow_piece_that_is_at_its_end_has_nothing_to_hand_back(bench: Bench) -> None:
    """Its last call may take as long as it will."""
    bench.lane.run(piece([0, 1]), Task(takes(bench, {1: VERY_LONG})))
    assert bench.values() == {0: 0, 1: 1}


def test_a_recalled_piece_goes_back_unbegun(bench: Bench) -> None:
    """What was sent before the recall is not run; what was sent after it is."""
    bench.lane.run(piece([0]), Task(takes(bench, {})))
    epoch = bench.parent.recall()
    bench.lane.run(piece([1, 2], WHOLE, begin=1), Task(takes(bench, {})))
    bench.lane.run(piece([3], begin=3, epoch=epoch), Task(takes(bench, {})))
    bench.lane.push()
    assert bench.fates() == {0: Done(0), 1: BACK, 2: BACK, 3: Done(3)}


@pytest.mark.parametrize("why", ["recalled", "full"])
def test_a_piece_is_left_when_it_is_recalled(bench: Bench, why: str) -> None:
    """The rest of a recalled piece goes back, and that of a full worker, even if it was to stay whole."""

    def step(item: int) -> int:
        bench.clock.now += LONG
        if item == 1 and why == "full":
            bench.marker.full = True
        elif item == 1:
            bench.parent.recall()
        return item

    bench.lane.run(piece([0, 1, 2, 3], WHOLE), Task(step))
    assert bench.fates() == {0: Done(0), 1: Done(1), 2: BACK, 3: BACK}


def test_a_full_worker_begins_nothing(bench: Bench) -> None:
    """Every piece that it still gets goes back, after what it has to say."""
    bench.lane.run(piece([0]), Task(takes(bench, {})))
    bench.marker.full = True
    bench.lane.run(piece([1, 2], begin=1), Task(takes(bench, {})))
    assert bench.fates() == {0: Done(0), 1: BACK, 2: BACK}
    assert [frame.kind for frame in bench.sent] == [RETURNED, HANDED_BACK]


# -- the marker -------------------------------------------------------------------------------------------


def test_lanes_mark_their_own_places() -> None:
    """A parent sees what each thread of a worker is at."""
    bench = Bench(threads=2, number=1)
    other = Lane(0, bench.marker, bench.send)
    seen: list[Any] = []

    def outer(item: int) -> int:
        other.run(piece([5], begin=5), Task(inner))
        return item

    def inner(item: int) -> int:
        seen.append(bench.parent.running())
        return item

    bench.lane.run(piece([2], begin=2), Task(outer))
    assert seen == [[(TICKET, 5), (TICKET, 2)]]
    assert bench.parent.running() == []
    bench.close()


def test_what_is_loaded_for_a_call_is_its_own() -> None:
    """From the moment a piece is opened, its first call is the one that is shown."""
    bench = Bench()
    seen: list[Any] = []

    class Shown(Task):
        @property
        def plain(self) -> Callable[[Any], Any]:
            seen.append(bench.parent.running())
            return lambda item: item

        @plain.setter
        def plain(self, step: Callable[[Any], Any]) -> None:
            pass

    for begin in (0, 40):
        bench.lane.run(piece([0, 1, 2], begin=begin), Shown(len))
    assert seen == [[(TICKET, 0)], [(TICKET, 40)]]
    bench.close()


def test_a_result_is_pickled_under_its_calls_mark(bench: Bench) -> None:
    """To pickle a result may take long, or be the end: then it is that call's."""
    seen: list[Any] = []

    class Looks:
        def __reduce__(self) -> Any:
            seen.append(bench.parent.running())
            return int, ()

    bench.lane.run(piece([0, 1, 2]), Task(lambda item: Looks()))
    bench.lane.push()
    assert seen == [[(TICKET, 0)], [(TICKET, 1)], [(TICKET, 2)]]


# -- the flusher ------------------------------------------------------------------------------------------


def looks(bench: Bench, at: int, times: list[float], then: Callable[[], None]) -> Callable[[int], int]:
    """A function during whose call ``at`` the flusher looks after so many seconds each."""

    def step(item: int) -> int:
        bench.clock.now += SHORT
        if item == at:
            for seconds in times:
                assert bench.look(seconds)
            then()
        return item

    return step


def test_what_waits_behind_a_slow_call_is_sent(bench: Bench) -> None:
    """At the second look at the same call, all that calls returned before it goes out."""
    seen: list[Any] = []

    def step(item: int) -> Any:
        if item == 3:
            for _ in range(2):
                assert bench.look(FLUSH_SECONDS)
                seen.append(list(bench.fates()))
        return [item] if item == 1 else item

    bench.lane.run(piece(list(range(6))), Task(step))
    bench.lane.push()
    assert seen == [[], [0, 1, 2]]
    assert bench.values() == {0: 0, 1: [1], 2: 2, 3: 3, 4: 4, 5: 5}


@pytest.mark.parametrize("result", [int, list], ids=["as it is", "pickled"])
def test_what_is_sent_meanwhile_says_nothing_of_the_call_that_runs(bench: Bench, result: type) -> None:
    """What is sent while the next call runs says what it took itself, and when it ended; and so does that call."""
    ended = []

    def step(item: int) -> Any:
        bench.clock.now += SHORT
        if item == 2:
            for _ in range(2):
                assert bench.look(FLUSH_SECONDS)
        ended.append(bench.clock.now)
        return item if result is int else [item]

    bench.lane.run(piece([0, 1, 2], WATCH), Task(step))
    bench.lane.push()
    first, second = bench.sent
    assert first.seconds + first.last == pytest.approx(2 * SHORT)
    assert first.last == pytest.approx(SHORT)
    assert second.last == pytest.approx(SHORT + 2 * FLUSH_SECONDS)
    assert [first.at, second.at] == [pytest.approx(ended[1]), pytest.approx(ended[2])]


def test_what_follows_a_very_slow_call_goes_back(bench: Bench) -> None:
    """The rest of its piece, and the pieces that nobody has begun; not the call itself."""
    seen: list[Any] = []
    bench.unbegun = [piece([20, 21], begin=20), piece([30], begin=30)]
    step = looks(bench, 2, [0.0, VERY_LONG], lambda: seen.append(dict(bench.fates())))
    bench.lane.run(piece(list(range(6))), Task(step))
    bench.lane.push()
    gone = dict.fromkeys([3, 4, 5, 20, 21, 30], BACK)
    assert seen == [{0: Done(0), 1: Done(1), **gone}]
    assert bench.fates() == {0: Done(0), 1: Done(1), 2: Done(2), **gone}


def test_whole_pieces_stay_whole(bench: Bench) -> None:
    """Of a piece whose calls stay together, none goes back behind a slow one."""
    bench.lane.run(piece(list(range(4)), WHOLE), Task(looks(bench, 1, [0.0, VERY_LONG], lambda: None)))
    bench.lane.push()
    assert bench.values() == {n: n for n in range(4)}


def test_two_calls_of_some_length_are_not_one_slow_call(bench: Bench) -> None:
    """Nothing goes back while calls end between looks."""

    def step(item: int) -> int:
        bench.look()
        bench.clock.now += SLOW_SECONDS * 0.9 if item < 2 else SHORT
        return item

    bench.unbegun = [piece([20], begin=20)]
    bench.lane.run(piece([0, 1, 2], WHOLE), Task(step))
    bench.lane.push()
    assert bench.values() == {0: 0, 1: 1, 2: 2}
    assert bench.unbegun


def test_unbegun_pieces_stay_while_a_lane_is_free(bench: Bench) -> None:
    """They go back only if every lane is at a slow call."""
    bench.flusher.watch(Lane(0, bench.marker, bench.send))
    bench.unbegun = [piece([20], begin=20)]
    bench.lane.run(piece([0, 1]), Task(looks(bench, 0, [0.0, VERY_LONG], lambda: None)))
    assert bench.unbegun
    assert bench.fates()[1] == BACK


def test_unbegun_pieces_go_back_when_every_lane_is_slow() -> None:
    """Also those whose calls stay together: they have not begun."""
    bench = Bench(threads=2)
    other = Lane(1, bench.marker, bench.send)
    bench.flusher.watch(other)
    bench.unbegun = [piece([20, 21], WHOLE, begin=20)]
    inner = Task(looks(bench, 5, [0.0, VERY_LONG], lambda: None))
    bench.lane.run(piece([0]), Task(lambda item: other.run(piece([5], begin=5), inner)))
    bench.lane.push()
    other.push()
    assert bench.fates() == {0: Done(None), 5: Done(5), 20: BACK, 21: BACK}
    bench.close()


def test_the_flusher_rests_when_nothing_runs(bench: Bench) -> None:
    """It says so, and it sends nothing."""
    bench.lane.run(piece([0]), Task(takes(bench, {})))
    assert not bench.look(VERY_LONG)
    assert not bench.look(VERY_LONG)
    assert bench.sends == 0


class SlowMotion:
    """A look of the flusher in a thread of its own, which stops before its n-th line until it may go on.

    Args:
        bench: whose flusher.
        line: n, counted from 0 over the lines that it comes by in lane.py.
        within: counts only those of this function.
    """

    def __init__(self, bench: Bench, line: int, within: Callable[..., Any] | None) -> None:
        self.has_stopped = False
        self._bench, self._left, self._within = bench, line, within
        self._paused, self._go_on = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._look)

    def begin(self) -> None:
        """Returns when it has stopped, or has ended."""
        self._thread.start()
        self._paused.wait()

    def end(self) -> None:
        """Lets it go on to its end."""
        self._go_on.set()
        self._thread.join()

    def _look(self) -> None:
        sys.settrace(self._trace)
        try:
            self._bench.flusher.look(VERY_LONG + self._bench.clock.now)
        finally:
            sys.settrace(None)
            self._paused.set()

    def _trace(self, frame: FrameType, event: str, arg: object) -> Any:
        if frame.f_globals is not vars(lane_module):
            return None
        if event == "line" and self._within in (None, getattr(Lane, frame.f_code.co_name, None)):
            if not self._left:
                self.has_stopped = True
                self._paused.set()
                self._go_on.wait()
            self._left -= 1
        return self._trace


@pytest.mark.parametrize("leaves", [False, True], ids=["the lane goes on", "the lane leaves"])
@pytest.mark.parametrize("more", [1, 2, 9])
def test_the_flusher_takes_while_the_lane_goes_on(
    monkeypatch: pytest.MonkeyPatch, more: int, leaves: bool
) -> None:
    """Wherever the flusher is just then: each call is answered or handed back once, and ran if it is answered."""
    count = 12
    within = Lane.give_back if leaves else None  # while the flusher sends, a lane that leaves waits for it
    for line in range(10_000):
        bench = Bench()
        bench.in_look = True
        monkeypatch.setattr(lane_module, "clock", bench.clock)
        motion = SlowMotion(bench, line, within)
        ran: list[int] = []

        def step(item: int, bench: Bench = bench, motion: SlowMotion = motion, ran: list[int] = ran) -> Any:
            ran.append(item)
            if item == 2:
                bench.flusher.look(bench.clock.now)
                bench.clock.now += VERY_LONG if leaves else 0.0
                motion.begin()
            elif item == min(2 + more, count - 1):
                motion.end()
            return item or [item]

        bench.lane.run(piece(list(range(count))), Task(step))
        motion.end()
        bench.lane.push()
        fates = bench.fates()
        bench.close()
        assert list(fates) == list(range(count))
        assert ran == [item for item in fates if fates[item] != BACK]
        assert all(fates[item] == Done(item or [item]) for item in ran)
        if not motion.has_stopped:
            assert line >= 3
            return
    raise AssertionError("a look has no end")


class Ending(Flusher):
    """One whose thread says when it ends; and whether there was any."""

    ended: threading.Event | None = None

    def _serve(self) -> None:
        self.ended = threading.Event()
        try:
            super()._serve()
        finally:
            self.ended.set()


def test_the_flusher_is_a_thread() -> None:
    """A call that waits until what was before it is sent sees that sent; the thread ends with the parent."""
    bench = Bench()
    bench.in_look = True
    sent = threading.Event()

    def send(*frames: Frame) -> None:
        bench.send(*frames)
        if threading.current_thread() is not threading.main_thread():
            sent.set()
            raise BrokenPipeError

    flusher = Ending(list, send)
    lane = Lane(0, bench.marker, send, flusher)
    flusher.watch(lane)
    assert flusher.ended is None
    lane.run(piece([0, 1, 2], WATCH), Task(lambda item: item if item < 2 else sent.wait(60)))
    lane.push()
    assert flusher.ended is not None and flusher.ended.wait(60)
    assert bench.values() == {0: 0, 1: 1, 2: True}
    bench.close()


def test_a_lane_does_without_a_flusher(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no thread can be started, calls run, and the next piece tries again."""

    def never(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(_thread, "start_new_thread", never)
    bench.flusher.attend()
    bench.flusher.attend()
    assert not bench.flusher._runs and not bench.flusher._awake


def test_a_flusher_that_rested_is_there_again() -> None:
    """After a rest, what waits behind a call is sent all the same."""
    bench = Bench()
    bench.in_look = True
    sent, rested = threading.Event(), threading.Event()

    class Watched(Ending):
        def look(self, now: float) -> bool:
            runs = super().look(now)
            if not runs:
                rested.set()
            return runs

    def send(*frames: Frame) -> None:
        bench.send(*frames)
        if threading.current_thread() is not threading.main_thread():
            sent.set()
            if len(bench.fates()) > 3:
                raise BrokenPipeError

    flusher = Watched(list, send)
    lane = Lane(0, bench.marker, send, flusher)
    flusher.watch(lane)
    for begin in (0, 3):
        sent.clear()
        step = Task(lambda item: item if item % 3 < 2 else sent.wait(60))
        lane.run(piece(list(range(begin, begin + 3)), WATCH, begin=begin), step)
        lane.push()
        assert begin or rested.wait(60)
    assert flusher.ended is not None and flusher.ended.wait(60)
    assert bench.values() == {0: 0, 1: 1, 2: True, 3: 3, 4: 4, 5: True}
    bench.close()

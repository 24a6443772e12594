"""A lane of a worker: what runs, what is said of it and when, and what its marker shows meanwhile."""

from __future__ import annotations

import pickle
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from manyhands.errors import RemoteError
from manyhands.outcome import Answer, Call, Done, Failed, Later
from manyhands.workers import lane as lane_module
from manyhands.workers.channel import ANSWERED, CALLS, HANDED_BACK, RETURNED, RUN, WATCH, WHOLE, Frame
from manyhands.workers.lane import FLUSH_SECONDS, SLOW_SECONDS, Flusher, Lane
from manyhands.workers.marker import Marker, receive_marker, send_marker
from manyhands.workers.parcel import ATOMS, EACH, Parcel, unpack

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
    """A work whose function is ``step``, called with items, or with calls of one argument."""

    def __init__(self, step: Callable[[Any], Any]) -> None:
        self.plain = step

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


class Bench:
    """A lane with all that is around it.

    ``sent`` are the frames it has sent; ``at_send`` what the marker showed then.
    """

    def __init__(self, threads: int = 1, number: int = 0) -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            self.parent: Marker = send_marker(ours, threads)
            self.marker = receive_marker(theirs)
        self.clock = Clock()
        self.sent: list[Frame] = []
        self.sends = 0
        self.at_send: list[list[tuple[int, int]]] = []
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
        self.at_send.append(self.parent.running())

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


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """A lane with a clock of its own."""
    bench = Bench()
    monkeypatch.setattr(lane_module, "clock", bench.clock)
    yield bench
    bench.parent.close()
    bench.marker.close()


def piece(items: list[Any], flags: int = 0, begin: int = 0, epoch: int = 0, form: int = ATOMS) -> Frame:
    """A RUN frame of these items; as pickles, where ``form`` says so."""
    if flags & CALLS:
        items, form = [Call((item,)) for item in items], EACH
    requests = [pickle.dumps(item) for item in items] if form == EACH else items
    form, body = Parcel(requests, form).piece(0, len(items))
    return Frame(RUN, form, flags, epoch, 3, TICKET, begin, begin + len(items), body=body)


# -- any piece ----------------------------------------------------------------------------------------------

KINDS = ["atom", "list", "unsendable", "error", "exit", "interrupt", "index", "large", "tuple"]
DURATIONS = [0.0, SHORT, LONG, VERY_LONG]
plans = st.lists(st.tuples(st.sampled_from(KINDS), st.sampled_from(DURATIONS)), min_size=1, max_size=50)


def act_out(kind: str, item: int) -> Any:
    """Returns or raises what is planned."""
    match kind:
        case "atom":
            return item
        case "tuple":
            return item, item
        case "list":
            return [item]
        case "unsendable":
            return Unpicklable()
        case "large":
            return bytearray(b"%d " % item) * 40_000
        case "error":
            raise ValueError(item)
        case "index":
            raise IndexError(item)
        case "exit":
            raise SystemExit(item)
    raise KeyboardInterrupt(item)


def check_fate(kind: str, item: int, fate: Any) -> None:
    """What was said is what was planned."""
    match kind:
        case "atom" | "tuple" | "list" | "large":
            assert fate == Done(act_out(kind, item))
        case "unsendable":
            assert type(fate.error) is TypeError and "can't be sent back" in fate.error.__notes__[0]
        case "error" | "index":
            assert type(fate.error) is {"error": ValueError, "index": IndexError}[kind]
            assert fate.error.args == (item,)
        case _:
            assert isinstance(fate.error, RemoteError) and fate.error.args[0].endswith(f": {item}")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    plan=plans,
    more=plans,
    flags=st.sampled_from([0, WHOLE, CALLS, CALLS | WHOLE]),
    form=st.sampled_from([ATOMS, EACH]),
    begin=st.sampled_from([0, 5]),
)
def test_any_piece(plan: Any, more: Any, flags: int, form: int, begin: int) -> None:
    """Each call runs once, in order, and is answered as it came to be; or it is handed back, and did not run."""
    bench = Bench()
    ran: list[int] = []
    plan = plan + more

    def step(item: int) -> Any:
        assert bench.parent.running() == [(TICKET, item)]
        ran.append(item)
        kind, duration = plan[item - begin]
        bench.clock.now += duration
        return act_out(kind, item)

    items = list(range(begin, begin + len(plan)))
    middle = begin + len(plan) - len(more)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lane_module, "clock", bench.clock)
        for first, some in ((begin, items[: middle - begin]), (middle, items[middle - begin :])):
            bench.lane.run(piece(some, flags, first, form=form), Task(step))
            assert bench.parent.running() == []
        bench.lane.push()
        fates = bench.fates()
    bench.parent.close()
    bench.marker.close()
    assert list(fates) == items
    assert ran == [item for item in items if fates[item] != BACK]
    for item in ran:
        check_fate(plan[item - begin][0], item, fates[item])
    back = [item for item in items if fates[item] == BACK]
    assert not (flags & WHOLE and back)
    for first, last in ((begin, middle), (middle, begin + len(plan))):
        mine = [item for item in back if first <= item < last]
        assert mine == list(range(last - len(mine), last))
        assert not mine or sum(plan[item - begin][1] for item in range(first, last - len(mine))) > SLOW_SECONDS
    assert all(shown == [] for shown in bench.at_send)
    took = sum(plan[item - begin][1] for item in ran)
    assert bench.seconds == pytest.approx(took)
    for frame in bench.sent:
        if len(frame.body) > 1 << 16:
            assert frame.end == frame.begin + 1


# -- when answers are sent -------------------------------------------------------------------------------------


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


def test_the_clock_is_read_less_often_for_tiny_calls(bench: Bench) -> None:
    """After a piece of them, and then a slow piece is noticed all the same within sixteen calls."""
    bench.lane.run(piece(list(range(100))), Task(takes(bench, {}, rest=0.0)))
    bench.lane.push()
    bench.lane.run(piece(list(range(100, 200)), begin=100), Task(takes(bench, {}, rest=VERY_LONG)))
    fates = bench.fates()
    assert list(fates) == list(range(200))
    assert 1 <= 200 - list(fates.values()).count(BACK) - 100 <= 16


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


# -- what comes back ---------------------------------------------------------------------------------------------


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


# -- what goes back ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fails", [False, True])
def test_the_rest_of_a_slow_piece_goes_back(bench: Bench, fails: bool) -> None:
    """As soon as it has run for long, whether its calls return or raise; nothing of it is kept back."""

    def step(item: int) -> int:
        bench.clock.now += SLOW_SECONDS * 0.4
        if fails:
            raise ValueError
        return item

    bench.lane.run(piece(list(range(10)), begin=10), Task(step))
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
    """The rest of a recalled piece goes back, and so does that of a full worker, even if it was to stay whole."""

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


# -- the marker ----------------------------------------------------------------------------------------------------


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
    bench.parent.close()
    bench.marker.close()


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


# -- the flusher ----------------------------------------------------------------------------------------------------


def looks(bench: Bench, at: int, times: list[float], then: Callable[[], None]) -> Callable[[int], int]:
    """A function during whose call ``at`` the flusher looks after so many seconds each."""

    def step(item: int) -> int:
        bench.clock.now += SHORT
        if item == at:
            for seconds in times:
                bench.clock.now += seconds
                assert bench.flusher.look(bench.clock.now)
            then()
        return item

    return step


def test_what_waits_behind_a_slow_call_is_sent(bench: Bench) -> None:
    """At the second look at the same call, all that calls returned before it goes out."""
    seen: list[Any] = []

    def step(item: int) -> Any:
        if item == 3:
            for _ in range(2):
                bench.clock.now += FLUSH_SECONDS
                assert bench.flusher.look(bench.clock.now)
                seen.append(list(bench.fates()))
        return [item] if item == 1 else item

    bench.lane.run(piece(list(range(6))), Task(step))
    bench.lane.push()
    assert seen == [[], [0, 1, 2]]
    assert bench.values() == {0: 0, 1: [1], 2: 2, 3: 3, 4: 4, 5: 5}


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
        bench.flusher.look(bench.clock.now)
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


def test_the_flusher_rests_when_nothing_runs(bench: Bench) -> None:
    """It says so, and it sends nothing."""
    bench.lane.run(piece([0]), Task(takes(bench, {})))
    assert not bench.flusher.look(bench.clock.now)
    assert bench.sends == 0


def test_the_flusher_is_a_thread() -> None:
    """A call that waits for the answers of calls before it to be sent sees them sent; the thread ends with the parent."""
    bench = Bench()
    sent = threading.Event()

    def send(*frames: Frame) -> None:
        bench.send(*frames)
        if threading.current_thread() is not threading.main_thread():
            sent.set()
            raise BrokenPipeError

    flusher = Flusher(list, send)
    lane = Lane(0, bench.marker, send, flusher)
    flusher.watch(lane)
    lane.run(piece([0, 1, 2], WATCH), Task(lambda item: item if item < 2 else sent.wait(60)))
    lane.push()
    assert flusher._thread is not None
    flusher._thread.join()
    assert bench.values() == {0: 0, 1: 1, 2: True}
    bench.parent.close()
    bench.marker.close()

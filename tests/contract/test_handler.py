"""``Handler``: items are added while outcomes are taken, wherever calls run."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import CancelledError, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from manyhands import (
    Controller,
    Counts,
    Failure,
    GiveUp,
    InvalidArguments,
    Outcome,
    PoolClosed,
    Replace,
    Retry,
    TaskTimeout,
    WorkerDied,
    claimed_output,
    parallel,
    retry_on,
    validated,
)
from manyhands.decorators.handler import Handler
from manyhands.handler.bars import bar_class
from manyhands.handler.progress import meter_for
from manyhands.outcome import Returned
from manyhands.policies.verdict import Verdict
from tests.contract import fate_tasks, tasks
from tests.contract.conftest import METHODS
from tests.helpers import DEADLINE, Fifo, lines, tell, until, wait_for

Way = dict[str, Any]


@pytest.fixture(params=["inline", "threads", *METHODS, "controller"])
def way(request: pytest.FixtureRequest) -> Way:
    """Options that say where calls run, one after the other."""
    if request.param in ("inline", "threads"):
        return {"backend": request.param, "workers": 2}
    if request.param == "controller":
        return {"backend": request.getfixturevalue("controller")}
    return {"workers": 2, "start_method": request.param}


@pytest.fixture(params=["threads", *METHODS, "controller"])
def beside(request: pytest.FixtureRequest) -> Way:
    """Options with which calls run elsewhere than in the thread that takes their outcomes."""
    if request.param == "threads":
        return {"backend": "threads", "workers": 2}
    if request.param == "controller":
        return {"backend": request.getfixturevalue("controller")}
    return {"workers": 2, "start_method": request.param}


def halved(number: int) -> float:
    """Fails for odd numbers."""
    if number % 2:
        raise ValueError(f"{number} is odd")
    return number / 2


def by_index(outcomes: list[Outcome[Any]]) -> list[Outcome[Any]]:
    """The outcomes sorted; each index must be there once."""
    ranked = sorted(outcomes, key=lambda outcome: outcome.index)
    assert [outcome.index for outcome in ranked] == list(range(len(ranked)))
    return ranked


def in_thread(function: Callable[[], object]) -> Callable[[], None]:
    """Starts a thread; returns what waits for its end, and raises what it raised."""
    raised: list[BaseException] = []

    def guarded() -> None:
        try:
            function()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=guarded, daemon=True)
    thread.start()

    def wait() -> None:
        thread.join(DEADLINE)
        assert not thread.is_alive(), "the thread did not end"
        if raised:
            raise raised[0]

    return wait


# -- one producer, one consumer ---------------------------------------------------------------------------------


def test_added_and_taken(way: Way) -> None:
    """Each item is exactly one outcome, of each kind; what was taken is told in numbers."""

    def even(number: int) -> bool:
        return number < 90

    with Handler(halved, arguments=even, **way) as handler:
        assert [handler.add(number) for number in (0, 1, 2)] == [0, 1, 2]
        handler.extend([90, 4])
        outcomes = by_index(handler.drain())
        assert handler.pending == 0
        assert handler.counts == Counts(3, 1, 1)
        assert repr(handler).endswith(": 5 added, 0 pending, 5 taken, closed>")
    assert [outcome.item for outcome in outcomes] == [0, 1, 2, 90, 4]
    assert [outcome.value for outcome in outcomes if outcome.ok] == [0, 1, 2]
    failure = outcomes[1].failure
    assert failure is not None and "is odd" in str(failure.error) and "in halved" in failure.traceback
    assert any("in the handler of halved, item 1: 1" in note for note in failure.error.__notes__)
    assert outcomes[3].discarded is not None


def test_who_adds_and_iterates_alone_comes_to_an_end(way: Way) -> None:
    """Without closing the input; and may add more then."""
    with Handler(tasks.double, **way) as handler:
        for begin in (0, 5):
            handler.extend(range(begin, begin + 5))
            values = sorted(outcome.value for outcome in handler.results())
            assert values == [2 * x for x in range(begin, begin + 5)]
        assert repr(handler).endswith(": 10 added, 0 pending, 10 taken, open>")


def test_nothing_was_added(way: Way) -> None:
    """Then nothing comes out."""
    with Handler(tasks.double, **way) as handler:
        assert handler.drain() == [] and handler.counts == Counts()
    with Handler(tasks.double, **way) as handler:
        handler.extend([])
        assert list(handler.results()) == []


def test_add_in_the_loop_that_takes(way: Way) -> None:
    """A crawler: what was found leads to more."""
    with Handler(tasks.double, **way) as handler:
        handler.add(1)
        values = []
        for outcome in handler.results():
            values.append(outcome.value)
            if outcome.value < 100:
                handler.add(outcome.value)
    assert values == [2, 4, 8, 16, 32, 64, 128]


def test_add_in_handle_error(way: Way) -> None:
    """The thread that drives is nobody else: results end, if nobody else adds, when these have ended too."""

    def judge(failure: Failure) -> Verdict:
        handler.add(failure.item + 1)
        return GiveUp()

    with Handler(halved, handle_error=judge, **way) as handler:
        handler.extend([1, 2, 7])
        outcomes = by_index(list(handler.results()))
    assert sorted(outcome.item for outcome in outcomes) == [1, 2, 2, 7, 8]  # 2 may have been added before 7
    assert sorted((outcome.item, outcome.value) for outcome in outcomes if outcome.ok) == [
        (2, 1), (2, 1), (8, 4),
    ]  # fmt: skip


def test_add_in_a_call() -> None:
    """A crawler whose calls know of the handler: results end when all that they have found has ended."""

    def visit(number: int) -> None:
        if number < 20:
            handler.extend([2 * number, 2 * number + 1])

    for backend in ("inline", "threads"):
        with Handler(visit, backend=backend, workers=2) as handler:
            handler.add(1)
            outcomes = by_index(list(handler.results()))
        assert sorted(outcome.item for outcome in outcomes) == list(range(1, 40))


def test_who_has_added_is_not_mixed_up() -> None:
    """A thread, or a task, that comes after another has ended is not taken for it."""
    with Handler(tasks.double, backend="threads") as handler:
        threads = [threading.Thread(target=handler.add, args=(x,)) for x in (0, 1)]
        threads[0].start()
        threads[0].join(DEADLINE)
        ended = threading.Event()
        taken: list[Outcome[int]] = []

        def consume() -> None:
            taken.extend(handler.results())
            ended.set()

        consumer = threading.Thread(target=consume)
        consumer.start()  # with the number that the first had, as it goes
        until(lambda: taken or handler.counts.total, "the first has ended")
        threads[1].start()
        threads[1].join(DEADLINE)
        until(lambda: repr(handler).endswith("2 taken, open>"), "both are taken")
        assert not ended.is_set()
        handler.close_input()
        consumer.join(DEADLINE)
    assert len(by_index(taken)) == 2


def test_who_adds_when_the_results_have_ended() -> None:
    """They end when all of the only thread that has added is taken; what another adds then is not lost in silence."""
    with (
        pytest.warns(
            RuntimeWarning, match="2 outcomes of the handler of double were not taken: .* close_input"
        ),
        Handler(tasks.double, backend="threads") as handler,
    ):
        handler.add(1)
        assert [outcome.value for outcome in handler.results()] == [2]
        in_thread(lambda: handler.extend([2, 3]))()
    with Handler(tasks.double, backend="threads") as handler:
        handler.add(1)
        assert [outcome.value for outcome in handler.results()] == [2]
        in_thread(lambda: handler.extend([2, 3]))()
        assert sorted(outcome.value for outcome in handler.drain()) == [4, 6]


def test_methods_with_policies() -> None:
    """What is decorated in its class may be given bound, with more checks or without."""
    scaler = tasks.Scaler(3)
    for method in (scaler.scale, scaler.scale_valid, tasks.Scaler.scale_by_class, scaler.retried):
        with Handler(method, workers=1) as handler:
            handler.extend([1, 2])
            plain = sorted(outcome.value for outcome in handler.drain())
        with Handler(method, handle_error=lambda failure: GiveUp(), workers=1) as handler:
            handler.extend([1, 2])
            assert sorted(outcome.value for outcome in handler.drain()) == plain == [method(1), method(2)]


def test_who_adds_beside_others() -> None:
    """It does not come to an end by what it has added itself: others may add more."""
    with Handler(tasks.double, backend="threads") as handler:
        in_thread(lambda: handler.add(0))()
        taken: list[Outcome[int]] = []

        def consume() -> None:
            handler.add(1)
            taken.extend(handler.results())

        wait = in_thread(consume)
        for number in (2, 3):
            until(lambda number=number: f"{number} taken" in repr(handler), "all are taken")
            handler.add(number)
        until(lambda: "4 taken" in repr(handler), "all are taken")
        handler.close_input()
        wait()
    assert len(by_index(taken)) == 4


def test_in_the_order_of_the_items(beside: Way, begun: Fifo, gate: Fifo, tmp_path: Path) -> None:
    """With ``ordered``, later ones wait for the first; without, they don't."""

    def gated(number: int, begun: str, gate: str) -> int:
        if number == 0:
            wait_for(gate)
        return number

    for ordered in (True, False):
        with Handler(gated, ordered=ordered, args=(str(begun.path), str(gate.path)), **beside) as handler:
            handler.extend(range(5))
            results = handler.results()
            first = [] if ordered else [next(results).index for _ in range(4)]
            gate.let_go()
            order = first + [outcome.index for outcome in results]
        assert order == (list(range(5)) if ordered else [*first, 0])
        assert sorted(order) == list(range(5))


def test_arguments(way: Way) -> None:
    """Stars, and arguments that all calls share, as in a map."""
    cases: list[tuple[Way, list[Any], list[Any]]] = [
        ({"star": True}, [(2, 3), (3,)], [8, 9]),
        ({"kwstar": True}, [(2, {"exponent": 4}), (3, {"plus": 1})], [16, 10]),
        ({"star": True, "kwstar": True}, [((2, 3), {"plus": 1})], [9]),
        ({"star": None, "args": (3,)}, [None, 2], [9, 9]),
        ({"star": None, "kwstar": True}, [{"base": 2, "exponent": 4}], [16]),
        ({"args": (3,), "kwargs": {"plus": 5}}, [2], [13]),
    ]
    for rules, items, values in cases:
        with Handler(tasks.power, **rules, **way) as handler:
            handler.extend(items)
            assert [outcome.value for outcome in by_index(handler.drain())] == values, rules


def test_an_item_that_does_not_fit(way: Way) -> None:
    """It fails, and no other does."""
    with Handler(tasks.power, star=True, **way) as handler:
        handler.extend([(2, 3), 5, (1, 2, 3, 4), (3,)])
        outcomes = by_index(handler.drain())
    assert [outcome.ok for outcome in outcomes] == [True, False, False, True]
    assert all(isinstance(outcome.failure.error, TypeError) for outcome in outcomes if outcome.failure)


# -- judging ----------------------------------------------------------------------------------------------------


def test_the_way_of_an_item(way: Way) -> None:
    """Validated, run, judged, validated again, as often as is asked for and bounds allow."""

    def judge(failure: Failure) -> Verdict:
        number = failure.arguments
        if failure.attempt == 1:
            return Retry(number + 2, 0)
        if number == 7:
            return Retry(1000, 0)
        return Replace("given") if number == 9 else GiveUp(LookupError("no")) if number == 5 else Retry(wait=0)

    def small(number: int) -> bool:
        return number < 100

    with Handler(
        halved, arguments=small, result=lambda half: half != 4, handle_error=judge, attempts=4, **way
    ) as handler:
        handler.extend([2, 8, 3, 5, 7, 11, 1000])
        outcomes = by_index(handler.drain())
    assert outcomes[0].value == 1.0
    assert outcomes[1].value == 5.0, "its half was no valid result, and another was asked for"
    assert isinstance(outcomes[2].failure.error, LookupError)  # type: ignore[union-attr]
    assert outcomes[3].discarded is not None, "what it was tried with was no valid argument"
    assert outcomes[4].value == "given"
    assert "13 is odd" in str(outcomes[5].failure.error)  # type: ignore[union-attr]
    assert outcomes[6].discarded is not None
    assert [len(outcome.attempts) for outcome in outcomes] == [0, 1, 2, 2, 2, 4, 0]


def test_no_waiting_retry_blocks_a_worker(way: Way) -> None:
    """While an item waits, all others pass."""
    with Handler(tasks.reciprocal, handle_error=lambda failure: Retry(5, 3600), **way) as handler:
        handler.extend([0, *range(1, 20)])
        results = handler.results()
        outcomes = [next(results) for _ in range(19)]
        assert all(outcome.ok for outcome in outcomes)
        handler.cancel()
        assert len(by_index(outcomes + handler.drain())) == 20


def test_the_functions_own_policies(way: Way) -> None:
    """``@retry_on`` of the function is for its errors, ``handle_error`` for all others; so with ``@validated``."""
    asked: list[str] = []

    def judge(failure: Failure) -> Verdict:
        asked.append(type(failure.error).__name__)
        return GiveUp()

    def fails(number: int) -> int:
        if number < 3:
            raise (OSError, KeyError, ValueError)[number](number)
        return number

    own = retry_on(OSError, attempts=2, wait=0)(validated(arguments=lambda number: number >= 0)(fails))
    own = retry_on(lambda error: isinstance(error, KeyError), attempts=3, wait=0)(own)
    with Handler(own, handle_error=judge, **way) as handler:
        handler.extend([-1, 0, 1, 2, 3])
        outcomes = by_index(handler.drain())
    assert [len(outcome.attempts) for outcome in outcomes] == [0, 2, 3, 1, 0]
    assert outcomes[0].discarded is not None and outcomes[4].value == 3
    assert asked == ["ValueError"]


def test_handle_error_beside_an_own_retry_on_exception() -> None:
    """Nothing would be left for it, which is said."""
    for everything in (Exception, BaseException):
        own = retry_on(everything, OSError, attempts=2)(halved)
        with pytest.raises(
            TypeError,
            match=rf"handle_error would never .* halved has its own @retry_on\({everything.__name__}\)",
        ):
            Handler(own, handle_error=lambda failure: GiveUp())


def test_predicates_beside_an_own_validated() -> None:
    """A function has one set of them, and the message says that it is the function's."""
    own = validated(result=bool)(halved)
    for given in ({"arguments": bool}, {"result": bool}):
        with pytest.raises(TypeError, match=r"^Handler: halved has its own @validated, so arguments, result"):
            Handler(own, **given)
    for function in (own, halved):
        with pytest.raises(TypeError, match=r"^Handler: invalid is for arguments and result"):
            Handler(function, invalid="raise")


def test_wrong_names_of_options() -> None:
    """What is listed and suggested is what a handler takes, its own options and those of calls."""
    for wrong, right in (
        ("buffer_size", "buffersize"),
        ("handleerror", "handle_error"),
        ("wrokers", "workers"),
    ):
        with pytest.raises(
            TypeError, match=f"'{wrong}' .did you mean '{right}'.*of Handler are args, "
        ) as told:
            Handler(halved, **{wrong: 1})
        listed = str(told.value).partition(" are ")[2].split(", ")
        assert {"star", "invalid", "timeout"} < set(listed) and not {"on_error", "self"} & set(listed)
    with pytest.raises(TypeError, match="'xyzzy'; the options"):
        Handler(halved, xyzzy=1)  # type: ignore[call-arg]


@pytest.mark.parametrize("broken", [lambda failure: 1 / 0, lambda failure: None, lambda: Retry()])
def test_a_judge_that_is_of_no_use(way: Way, broken: Callable[..., Any]) -> None:
    """The item fails with what is wrong with it; others are not touched."""
    with Handler(halved, handle_error=broken, **way) as handler:
        handler.extend([2, 3, 4])
        outcomes = by_index(handler.drain())
    assert [outcome.ok for outcome in outcomes] == [True, False, True]
    assert type(outcomes[1].failure.error) in (ZeroDivisionError, TypeError)  # type: ignore[union-attr]


def test_predicates_that_raise(way: Way) -> None:
    """Of the arguments, in this process, or of the result, in the worker: the item fails with that."""

    def wants_arguments(number: int) -> bool:
        return bool(1 / number)

    def wants_result(half: float) -> bool:
        return bool(1 / (half - 2))

    with Handler(halved, arguments=wants_arguments, result=wants_result, **way) as handler:
        handler.extend([0, 2, 4])
        outcomes = by_index(handler.drain())
    assert [outcome.ok for outcome in outcomes] == [False, True, False]
    assert all(isinstance(outcome.failure.error, ZeroDivisionError) for outcome in outcomes if outcome.failure)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, GeneratorExit])
def test_predicates_that_want_to_end_everything(way: Way, error: type[BaseException]) -> None:
    """An exception that is no Exception ends the handler, and is what all that had not ended comes to."""

    def leaves(x: int) -> bool:
        if x == 1:
            raise error("from a predicate")
        return True

    handler: Handler[int] = Handler(tasks.double, arguments=leaves, **way)
    handler.add(0)
    taken = [next(handler.results())]
    added = 1
    with contextlib.suppress(PoolClosed):
        for number in (1, 2, 3):
            handler.add(number)
            added += 1
    with pytest.raises(error) if way.get("backend") == "inline" else contextlib.nullcontext():
        taken += handler.drain()
    taken += handler.drain()
    handler.close()
    assert len(by_index(taken)) == added and handler.pending == 0
    assert taken[0].value == 0
    assert all(isinstance(outcome.failure.error, error) for outcome in taken[1:])  # type: ignore[union-attr]


def test_invalid_raises(way: Way) -> None:
    """``invalid="raise"``: sorted out is failed."""
    with Handler(halved, arguments=lambda number: number > 0, invalid="raise", **way) as handler:
        handler.extend([0, 2])
        outcomes = by_index(handler.drain())
    assert isinstance(outcomes[0].failure.error, InvalidArguments)  # type: ignore[union-attr]


def test_claimed_outputs(way: Way, tmp_path: Path) -> None:
    """What is there already is not computed again."""

    def note(number: int) -> str:
        tell(tmp_path / "calls", number)
        return f"<{number}>"

    claimed = claimed_output(f"{tmp_path}/{{number}}.txt", save=lambda text, path: Path(path).write_text(text))(
        note
    )
    for _ in range(2):
        with Handler(claimed, **way) as handler:
            handler.extend(range(4))
            assert sum(outcome.ok for outcome in by_index(handler.drain())) == 4
    assert sorted(lines(tmp_path / "calls")) == ["0", "1", "2", "3"]


def test_bad_arguments() -> None:
    """They are refused where they are given, and nothing is started."""
    before = set(threading.enumerate())
    wrong: list[tuple[type[Exception], Way]] = [
        (TypeError, {"attempts": 3}),
        (TypeError, {"wait": 1}),
        (TypeError, {"handle_error": 3}),
        (TypeError, {"handle_error": print, "attempts": "3"}),
        (ValueError, {"handle_error": print, "attempts": 0}),
        (ValueError, {"handle_error": print, "wait": -1}),
        (ValueError, {"buffersize": 0}),
        (TypeError, {"arguments": 3}),
        (TypeError, {"result": 3}),
        (ValueError, {"backend": "fibres"}),
        (TypeError, {"backend": 3}),
        (TypeError, {"kwargs": {3: 4}}),
        (TypeError, {"on_error": "skip"}),
        (TypeError, {"args": "ab"}),
        (TypeError, {"args": 3}),
    ]
    for error, options in wrong:
        with pytest.raises(error):
            Handler(halved, **options)
    with pytest.raises(TypeError, match=r"^Handler takes a function, not 3"):
        Handler(3)  # type: ignore[arg-type]
    assert set(threading.enumerate()) <= before


# -- several producers, several consumers -----------------------------------------------------------------------


@pytest.mark.parametrize("consumers", [1, 3])
def test_several_producers_and_consumers(way: Way, consumers: int) -> None:
    """Nothing is lost, and nothing is given to two."""
    taken: list[list[Outcome[int]]] = [[] for _ in range(consumers)]
    with Handler(tasks.double, **way) as handler:

        def produce(offset: int) -> None:
            for number in range(offset, offset + 50):
                handler.add(number)

        waits = [in_thread(lambda mine=mine: mine.extend(handler.results())) for mine in taken]
        producers = [in_thread(lambda offset=offset: produce(offset)) for offset in (0, 100, 200)]
        for wait in producers:
            wait()
        handler.close_input()
        for wait in waits:
            wait()
    outcomes = by_index([outcome for mine in taken for outcome in mine])
    assert len(outcomes) == 150 and all(outcome.value == 2 * outcome.item for outcome in outcomes)
    assert handler.counts == Counts(values=150)


def test_who_waits_is_served_while_the_input_is_open(way: Way) -> None:
    """An item that another thread adds comes out, though it closes nothing; so again and again."""
    with Handler(tasks.double, **way) as handler:
        taken: list[int] = []
        news = threading.Semaphore(0)

        def consume() -> None:
            for outcome in handler.results():
                taken.append(outcome.value)
                news.release()

        wait = in_thread(consume)
        for number in range(5):
            handler.add(number)
            assert news.acquire(timeout=DEADLINE), f"item {number} did not come out"
        handler.close_input()
        wait()
    assert taken == [0, 2, 4, 6, 8]


@pytest.mark.parametrize("release", ["take", "close_input", "cancel"])
def test_a_producer_waits_for_room(beside: Way, release: str) -> None:
    """``buffersize`` bounds what is added and not taken; who waits goes on when there is room, or never will be."""
    with Handler(tasks.double, buffersize=2, **beside) as handler:
        handler.extend([0, 1])
        waiting = threading.Event()
        raised: list[PoolClosed] = []

        def produce() -> None:
            waiting.set()
            try:
                handler.extend([2, 3])
            except PoolClosed as error:
                raised.append(error)

        wait = in_thread(produce)
        assert waiting.wait(DEADLINE)
        assert handler.counts.total <= 2
        if release == "take":
            taken = [next(handler.results()) for _ in range(2)]
            wait()
            assert not raised and by_index(taken + handler.drain())[3].value == 6
        else:
            handler.close_input() if release == "close_input" else handler.cancel(kill=True)
            wait()
            assert "takes no more items" in str(raised[0])
            assert len(by_index(handler.drain())) == 2


def test_no_room_inline() -> None:
    """Nothing runs while a producer waits, which is said."""
    with Handler(tasks.double, buffersize=1, backend="inline") as handler:
        handler.add(0)
        with pytest.raises(RuntimeError, match="has no room"):
            handler.add(1)
        assert next(handler.results()).value == 0
        handler.add(1)
        assert [outcome.value for outcome in handler.drain()] == [2]


def test_waiting_inside_handle_error(way: Way) -> None:
    """Who drives would wait for itself, which is said: for room, for outcomes and for the end."""
    raised: list[str] = []

    def judge(failure: Failure) -> Verdict:
        for wait in (lambda: handler.add(2), handler.drain, handler.close):
            try:
                wait()
            except RuntimeError as error:
                raised.append(str(error))
        return GiveUp()

    with Handler(halved, handle_error=judge, buffersize=1, **way) as handler:
        handler.add(1)
        assert len(handler.drain()) == 1
    assert len(raised) == 3


# -- closing, cancelling ----------------------------------------------------------------------------------------


def test_closed(way: Way) -> None:
    """It takes no more, and says so; what was added has ended, and can be taken still."""
    handler: Handler[int] = Handler(tasks.double, **way)
    handler.extend([1, 2])
    handler.close()
    assert handler.pending == 0
    for _ in range(2):
        with pytest.raises(PoolClosed, match="double takes no more items: its input is closed"):
            handler.add(3)
    assert [outcome.value for outcome in by_index(handler.drain())] == [2, 4]
    handler.close()
    handler.cancel()
    assert handler.drain() == []


def test_entered_again() -> None:
    """A handler that was closed is refused by a block; one whose input is closed is not."""
    handler: Handler[int] = Handler(tasks.double, backend="inline")
    handler.add(1)
    handler.close_input()
    with handler:
        pass

    async def enter() -> None:
        async with handler:
            pass

    with pytest.raises(PoolClosed, match="the handler of double has been closed"), handler:
        pass
    with pytest.raises(PoolClosed):
        asyncio.run(enter())
    assert [outcome.value for outcome in handler.results()] == [2]


@pytest.mark.parametrize("kill", [False, True])
def test_cancelled(beside: Way, begun: Fifo, gate: Fifo, kill: bool) -> None:
    """What runs is finished or, with ``kill``, ended; nothing else begins."""
    threads = beside.get("backend") == "threads"
    with Handler(tasks.meet, args=(str(begun.path), str(gate.path)), chunksize=1, **beside) as handler:
        handler.extend(range(30))
        running = {int(begun.line().split()[0]) for _ in range(2)}
        handler.cancel(kill=kill)
        if threads or not kill:
            results = handler.results()
            cancelled = [next(results) for _ in range(20)]  # before those end that run
            gate.let_go(30)
            outcomes = by_index(cancelled + list(results))
        else:
            outcomes = by_index(handler.drain())
    kinds = Counter(type(outcome.failure.error) if outcome.failure else None for outcome in outcomes)
    if kill and not threads:
        assert kinds == {WorkerDied: 2, CancelledError: 28}
        assert {
            outcome.index for outcome in outcomes if isinstance(outcome.failure.error, WorkerDied)
        } == running  # type: ignore[union-attr]
    else:
        assert set(kinds) == {None, CancelledError}
        assert kinds[None] == 2 and {outcome.index for outcome in outcomes if outcome.ok} == running
    assert begun.empty()


def test_cancelled_while_it_waits_to_be_tried_again(beside: Way) -> None:
    """It fails at once, however long the wait."""
    asked = threading.Event()

    def judge(failure: Failure) -> Verdict:
        asked.set()
        return Retry(wait=3600)

    with Handler(halved, handle_error=judge, **beside) as handler:
        handler.extend([1])
        assert asked.wait(DEADLINE)
        handler.cancel()
        (outcome,) = handler.drain()
    assert isinstance(outcome.failure.error, CancelledError)  # type: ignore[union-attr]
    assert len(outcome.attempts) == 1 and "after 1" not in str(outcome.failure.error.__notes__)  # type: ignore[union-attr]


def test_cancelled_by_another_thread_inline() -> None:
    """So it is while the only thread there is waits for the next attempt."""
    asked = threading.Event()

    def judge(failure: Failure) -> Verdict:
        asked.set()
        return Retry(wait=3600)

    with Handler(halved, handle_error=judge, backend="inline") as handler:
        handler.add(1)
        outcomes: list[Outcome[float]] = []
        wait = in_thread(lambda: outcomes.extend(handler.drain()))
        assert asked.wait(DEADLINE)
        handler.cancel()
        wait()
    assert isinstance(outcomes[0].failure.error, CancelledError)  # type: ignore[union-attr]


def test_cancelled_inside_handle_error(way: Way) -> None:
    """What it asks for then is not granted."""

    def judge(failure: Failure) -> Verdict:
        handler.cancel()
        return Retry(wait=0)

    with Handler(halved, handle_error=judge, ordered=True, **way) as handler:
        handler.extend([1])
        (outcome,) = handler.drain()
    assert outcome.failure is not None and len(outcome.attempts) == 1


def test_nothing_begins_after_cancel(beside: Way, tmp_path: Path) -> None:
    """Not even what was added by others a moment before."""
    for round_ in range(5):
        calls = tmp_path / f"calls {round_}"
        with Handler(tasks.write_call, args=(str(calls),), buffersize=50, **beside) as handler:
            added = 0

            def produce(handler: Handler[int] = handler) -> None:
                nonlocal added
                try:
                    while True:
                        handler.add(added)
                        added += 1
                except PoolClosed:
                    pass

            wait = in_thread(produce)
            next(handler.results())
            handler.cancel()
            wait()
            outcomes = handler.drain()
            assert len(outcomes) + 1 == added
        ok = [outcome for outcome in outcomes if outcome.ok]
        assert len(lines(calls)) == len(ok) + 1


def test_a_block_that_ends_by_an_error(beside: Way, begun: Fifo, gate: Fifo) -> None:
    """What runs is ended, and the rest dropped; the outcomes can be taken still."""
    if beside.get("backend") == "threads":
        gate.let_go(20)
    with (
        pytest.raises(LookupError),
        Handler(tasks.meet, args=(str(begun.path), str(gate.path)), chunksize=1, **beside) as handler,
    ):
        handler.extend(range(20))
        begun.line()
        raise LookupError
    assert handler.pending == 0
    assert len(by_index(handler.drain())) == 20
    assert handler.counts.failures >= 18 or beside.get("backend") == "threads"


def test_outcomes_that_are_left(way: Way) -> None:
    """At the end of the block what was added has ended, and nothing is lost."""
    with Handler(tasks.double, **way) as handler:
        handler.extend(range(10))
        outcome = next(handler.results())
    assert handler.counts == Counts(values=10)
    assert len(by_index([outcome, *handler.results()])) == 10


# -- faults -----------------------------------------------------------------------------------------------------


def test_workers_that_die(controller: Controller) -> None:
    """Only the calls that they ran fail, or are judged."""
    for judge, values in (
        (None, [0, 1, 2, None, 4]),
        (lambda failure: Retry(failure.item + 10, 0), [0, 1, 2, 13, 4]),
    ):
        with Handler(
            tasks.die, kwargs={"victim": 3, "way": "exit"}, handle_error=judge, backend=controller
        ) as handler:
            handler.extend(range(5))
            outcomes = by_index(handler.drain())
        assert [outcome.value if outcome.ok else None for outcome in outcomes] == values
        assert all(isinstance(outcome.failure.error, WorkerDied) for outcome in outcomes if outcome.failure)
        assert len(outcomes[3].attempts) == 1


def test_calls_that_take_too_long(controller: Controller) -> None:
    """They end their worker, nothing else."""
    with Handler(fate_tasks.get_stuck, kwargs={"victims": (1,)}, timeout=1.0, backend=controller) as handler:
        handler.extend(range(4))
        outcomes = by_index(handler.drain())
    assert isinstance(outcomes[1].failure.error, TaskTimeout)  # type: ignore[union-attr]
    assert sum(outcome.ok for outcome in outcomes) == 3


def test_budgets_of_their_own(controller: Controller, tmp_path: Path) -> None:
    """Exception, invalid result, death and timeout are counted apart."""
    with Handler(fate_tasks.follow, args=(str(tmp_path),), timeout=1.0, backend=controller) as handler:
        handler.extend(["tdei.", "dd", "ee"])
        outcomes = by_index(handler.drain())
    assert outcomes[0].value == "." and len(outcomes[0].attempts) == 4
    assert isinstance(outcomes[1].failure.error, WorkerDied)  # type: ignore[union-attr]
    assert isinstance(outcomes[2].failure.error, LookupError)  # type: ignore[union-attr]


def test_a_pool_that_breaks(method: str) -> None:
    """All that was added fails with what is wrong; who waits learns of it; no more is taken."""
    handler: Handler[int] = Handler(
        tasks.double, initializer=tasks.broken_initializer, workers=2, start_method=method, buffersize=8
    )
    with handler:
        added = 0
        with pytest.raises(PoolClosed, match="takes no more items") as caught:
            while True:
                handler.add(added)
                added += 1
        assert 0 < added <= 8
        outcomes = by_index(handler.drain())
    assert len(outcomes) == added
    errors = {type(outcome.failure.error) for outcome in outcomes if outcome.failure}
    assert len(errors) == 1 and "no licence found" in _whole(outcomes[0].failure.error)  # type: ignore[union-attr]
    assert caught.value.__cause__ is outcomes[0].failure.error  # type: ignore[union-attr]
    assert len(getattr(outcomes[0].failure.error, "__notes__", [])) < 4, "one error, told once"  # type: ignore[union-attr]


def _whole(error: BaseException | None) -> str:
    text = ""
    while error is not None:
        text += f"{error!r} {getattr(error, '__notes__', '')}"
        error = error.__cause__
    return text


def test_a_controller_that_is_closed_meanwhile() -> None:
    """What had not ended fails, and the handler ends."""
    with Controller(1) as pool:
        handler: Handler[int] = Handler(tasks.double, backend=pool)
        handler.extend([1, 2])
        assert len(by_index([next(handler.results()), next(handler.results())])) == 2
        pool.close(kill=True)
        try:
            handler.add(3)
        except PoolClosed:
            pass
        outcomes = handler.drain()
        assert all(outcome.failure is not None for outcome in outcomes)
        handler.close()


def test_what_can_not_be_sent(processes: Way) -> None:
    """An item fails; a function is refused at once."""
    with Handler(tasks.double, **processes) as handler:
        handler.extend([1, threading.Lock(), 3])
        outcomes = by_index(handler.drain())
    assert [outcome.ok for outcome in outcomes] == [True, False, True]
    lock = threading.Lock()
    with pytest.raises(TypeError, match="can't be sent to a worker process"):
        Handler(lambda number: lock, **processes)


def test_hostile_items(way: Way) -> None:
    """Items that can't be shown are told of all the same."""
    with Handler(halved, **way) as handler:
        handler.extend([fate_tasks.Hostile(), 2, fate_tasks.Shy(3)])
        outcomes = by_index(handler.drain())
    assert [outcome.ok for outcome in outcomes] == [False, True, False]


def test_progress(way: Way, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A bar counts what has ended."""
    monkeypatch.setenv("MANYHANDS_PROGRESS", "1")
    with Handler(halved, progress="halving", **way) as handler:
        handler.extend(range(6))
        handler.drain()
    err = capfd.readouterr().err
    assert "halving: 6item" in err and "failed=3" in err


def test_a_bar_that_cannot_be_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """The work goes on without it, and no bar of another thread waits for it."""

    class Broken(io.StringIO):
        """Can't be written to from some moment on."""

        def write(self, text: str) -> int:
            if threading.current_thread() is not threading.main_thread():
                raise OSError("full")
            return super().write(text)

    monkeypatch.setattr("sys.stderr", Broken())
    monkeypatch.setenv("MANYHANDS_PROGRESS", "1")
    meter = meter_for("some", "", 9)
    assert meter is not None
    meter.happened(Returned(0, [1, 2, 3], 0.0, 0.0, ""))
    thread = threading.Thread(target=meter.finish)
    thread.start()
    thread.join()
    assert meter._display._bars is None
    lock = bar_class().get_lock()
    assert lock.acquire(blocking=False)
    lock.release()


def test_inside_a_task(way: Way) -> None:
    """A handler in a worker runs its calls there."""

    def nested(number: int) -> list[int]:
        from manyhands.decorators.handler import Handler

        with Handler(tasks.double) as inner:
            inner.extend([number, number + 1])
            return [outcome.value for outcome in inner.drain()]

    if way.get("backend") in ("inline", "threads"):
        pytest.skip("no worker process")
    with Handler(nested, **way) as handler:
        handler.extend([1, 5])
        assert [outcome.value for outcome in by_index(handler.drain())] == [[2, 4], [10, 12]]


def test_many_threads_at_once(way: Way) -> None:
    """As a target of an executor's map, with the input closed at the end."""
    with Handler(tasks.double, **way) as handler, ThreadPoolExecutor(4) as executor:
        assert sorted(executor.map(handler.add, range(40))) == list(range(40))
        assert len(by_index(handler.drain())) == 40


def test_methods_and_decorated_functions(way: Way) -> None:
    """Whatever a map takes."""
    functions: list[tuple[Any, int]] = [
        (tasks.Scaler(3).scale, 12), (tasks.Scaler.scale_by_class, 40), (tasks.Scaler.negate, -4), (abs, 4),
        (parallel(backend="inline")(abs), 4),
    ]  # fmt: skip
    for function, value in functions:
        with Handler(function, **way) as handler:
            handler.add(4)
            assert handler.drain()[0].value == value


def test_its_place(way: Way) -> None:
    """Calls run where the options say; handle_error and arguments here."""
    seen: list[int] = []

    def here(_: object) -> bool:
        seen.append(os.getpid())
        return True

    with Handler(tasks.process_id, arguments=here, **way) as handler:
        handler.extend([1, 2])
        pids = {outcome.value for outcome in handler.drain()}
    assert set(seen) == {os.getpid()}
    assert (os.getpid() in pids) == (way.get("backend") in ("inline", "threads"))

"""``parmap`` of manyhands.compat.parmapper: what parmapper's users rely on, in processes, in threads, serially."""

from __future__ import annotations

import gc
import itertools
import os
import threading
import traceback
import warnings
import weakref
from collections.abc import Iterator
from functools import partial
from typing import Any, Never

import pytest

from manyhands import RemoteError, WorkerDied, parallel
from manyhands.compat import parmapper
from manyhands.compat.parmapper import parmap
from tests.compat.tasks import Counted, Frozen, Scale, double, fail_at, report, where
from tests.conftest import children
from tests.helpers import Fifo, lines, shown, tell, wait_for

How = dict[str, int]

HOWS = {
    "serial": {"N": 1},
    "threads": {"N": 1, "Nt": 2},
    "processes": {"N": 2},
    "both": {"N": 2, "Nt": 2},
}


@pytest.fixture(params=HOWS.values(), ids=HOWS)
def how(request: pytest.FixtureRequest) -> How:
    """Here, in two threads, in two processes, or in two processes with two threads each."""
    return dict(request.param)


def drawn_from(source: Iterator[int], drawn: list[int]) -> Iterator[int]:
    """Notes what is drawn."""
    for item in source:
        drawn.append(item)
        yield item


# -- results --------------------------------------------------------------------------------------------------


def test_results_are_those_of_map(how: How) -> None:
    """The results are those of a plain map, in its order, whatever kind of iterable the items are in."""
    for items in (
        range(40),
        list(range(40)),
        iter(range(40)),
        (x for x in range(40)),
        dict.fromkeys(range(40)),
    ):
        assert list(parmap(double, items, **how)) == [2 * x for x in range(40)]


def test_it_has_the_names_of_a_pool(how: How) -> None:
    """``parmapper``, ``parmap.map`` and ``parmap.imap`` are parmap; ``parmap.close`` does nothing."""
    for function in (parmapper.parmap, parmapper.parmapper, parmap.map, parmap.imap):
        assert list(function(double, [1, 2], **how)) == [2, 4]
        endless = function(double, itertools.count(5), **how)
        assert next(endless) == 10
        endless.close()
    parmap.close()
    parmap.close(1, wait=True)
    assert list(parmap.map(double, [3], **how)) == [6]


def test_arguments_have_their_places(how: How) -> None:
    """All options may be given by position, in parmapper's order; items may be named ``seq``."""
    given = (how["N"], how.get("Nt", 1), 2, True, False, False, 3, (7,), {"k": 8}, True, True, "raise")
    assert list(parmap(report, [((1, 2), {"k": 9})] * 3, *given)) == [((1, 2, 7), {"k": 9})] * 3
    assert list(parmap(fun=double, seq=[1], **how)) == [2]


@pytest.mark.parametrize(
    ("star", "kwstar", "item", "expected"),
    [
        (False, False, (1, 2), (((1, 2), "a"), {"k": 0, "m": 5})),
        (True, False, (1, 2), ((1, 2, "a"), {"k": 0, "m": 5})),
        (None, False, (1, 2), (("a",), {"k": 0, "m": 5})),
        (None, True, {"k": 1}, (("a",), {"k": 1, "m": 5})),
        (False, True, (3, {"k": 1}), ((3, "a"), {"k": 1, "m": 5})),
        (True, True, ((3, 4), {"k": 1, "z": 2}), ((3, 4, "a"), {"k": 1, "m": 5, "z": 2})),
    ],
)
def test_star_table(how: How, star: Any, kwstar: Any, item: Any, expected: Any) -> None:
    """Items become calls by the six rules; fixed arguments follow, and the item's own keywords win."""
    given = {"args": ("a",), "kwargs": {"k": 0, "m": 5}}
    assert list(parmap(report, [item] * 3, star=star, kwstar=kwstar, **given, **how)) == [expected] * 3


def test_star_none_without_arguments(how: How) -> None:
    """With ``star=None`` and nothing given, the function is called with nothing."""
    assert list(parmap(report, range(3), star=None, **how)) == [((), {})] * 3


def test_an_item_that_does_not_fit(how: How) -> None:
    """An item that does not fit its rule is a TypeError with its index, after the results before it.

    That holds whatever ``exception`` says.
    """
    for exception in ("raise", "return", "proc", None):
        results = parmap(report, [(1,), (2,), 3, (4,)], star=True, exception=exception, **how)
        assert [next(results), next(results)] == [((1,), {}), ((2,), {})]
        with pytest.raises(TypeError, match="item 2") as caught:
            next(results)
        assert caught.value.seq_index == 2
        assert list(results) == []


def test_unordered_gives_what_is_finished(begun: Fifo, gate: Fifo) -> None:
    """Unordered, a result does not wait for an earlier item that is slow; ordered, it does."""

    def meet(x: Any) -> Any:
        if x == 0:
            tell(begun.path, x)
            wait_for(gate.path)
        return x

    results = parmap(meet, range(10), N=2, ordered=False)
    first = [next(results) for _ in range(9)]
    assert sorted(first) == list(range(1, 10))
    begun.line()
    gate.let_go()
    assert list(results) == [0]
    gate.let_go()
    assert list(parmap(meet, range(10), N=2, ordered=True)) == list(range(10))


# -- where it runs ------------------------------------------------------------------------------------------


def test_one_runs_here() -> None:
    """With ``N=1`` the calls run in this very thread; with more, in other processes, even a single one."""
    here = (os.getpid(), threading.get_ident())
    assert set(parmap(where, range(5), N=1)) == {here}
    assert os.getpid() not in {pid for pid, _ in parmap(where, range(5), N=2)}
    assert os.getpid() not in {pid for pid, _ in parmap(where, [1], N=2)}


def test_the_default_is_every_core(monkeypatch: pytest.MonkeyPatch) -> None:
    """``N=None`` means CPU_COUNT, which may be set."""
    assert parmapper.CPU_COUNT >= 1
    monkeypatch.setattr(parmapper, "CPU_COUNT", 1)
    assert {pid for pid, _ in parmap(where, range(3))} == {os.getpid()}
    monkeypatch.setattr(parmapper, "CPU_COUNT", 2)
    assert os.getpid() not in {pid for pid, _ in parmap(where, range(3))}


def test_threads_alone() -> None:
    """``N=1, Nt=3`` runs three calls at the same time, in three threads of this process; nothing is pickled."""
    barrier = threading.Barrier(3)

    def meet(x: Any) -> Any:
        barrier.wait(90)
        return where(x)

    done = set(parmap(meet, range(3), N=1, Nt=3))
    assert {pid for pid, _ in done} == {os.getpid()}
    assert len({thread for _, thread in done} | {threading.get_ident()}) == 4


@pytest.mark.parametrize("inherited", [False, True])
def test_threads_in_processes(begun: Fifo, gate: Fifo, inherited: bool) -> None:
    """``N=2, Nt=2`` runs four calls at the same time, in two threads of each of two processes.

    That goes for functions that can't be pickled, too.
    """
    lock = threading.Lock() if inherited else None

    def meet(x: Any) -> Any:
        assert lock is None or not lock.locked()
        tell(begun.path, x)
        wait_for(gate.path)
        return where(x)

    results = parmap(meet, range(5), N=2, Nt=2)
    taken: list[Any] = []
    taker = threading.Thread(target=lambda: taken.extend(results))
    taker.start()
    try:
        assert sorted(begun.line() for _ in range(4)) == ["0", "1", "2", "3"]
        assert begun.empty()
    finally:
        gate.let_go(5)
        taker.join()
    assert len(taken) == 5 and len(set(taken[:4])) == 4
    pids = [pid for pid, _ in taken[:4]]
    assert sorted(pids.count(pid) for pid in set(pids)) == [2, 2] and os.getpid() not in pids


@pytest.mark.parametrize("options", [{}, {"chunksize": 3}, {"ordered": False}, {"chunksize": -1}])
def test_options_change_nothing(how: How, options: Any) -> None:
    """The results are the same, ordered or not, in chunks or not; errors have their index."""
    assert sorted(parmap(double, range(30), **how, **options)) == [2 * x for x in range(30)]
    with pytest.raises(KeyError) as caught:
        list(parmap(fail_at, range(9), **how, **options))
    assert caught.value.seq_index == 3


# -- functions --------------------------------------------------------------------------------------------


def test_functions_of_all_kinds(how: How) -> None:
    """Lambdas, closures, partials, methods, callable objects, builtins and classes can be mapped."""
    factor = 3
    functions = (
        lambda x: 3 * x,
        lambda x: factor * x,
        partial(lambda k, x: k * x, 3),
        Scale(3).times,
        Scale(3),
        (3).__mul__,
        parallel(threads=3, backend="inline")(lambda x: 3 * x),
    )
    for function in functions:
        assert list(parmap(function, range(5), **how)) == [0, 3, 6, 9, 12]
    assert list(parmap(str, range(3), **how)) == ["0", "1", "2"]


def test_what_cannot_be_pickled_is_inherited(how: How) -> None:
    """A function, or a fixed argument, that can't be pickled is there as it is in the caller."""
    lock, memory = threading.RLock(), {"value": 5}
    kept = (lock, memory)

    def locked(x: Any) -> Any:
        with kept[0]:
            return x + kept[1]["value"]

    def given(x: Any, lock: Any, *, other: Any) -> Any:
        with lock, other:
            return x + 5

    for _ in range(2):
        assert list(parmap(locked, range(6), **how)) == [5, 6, 7, 8, 9, 10]
        assert list(parmap(given, range(6), args=(lock,), kwargs={"other": lock}, **how)) == [5, 6, 7, 8, 9, 10]
        with pytest.raises(ZeroDivisionError) as caught:
            list(parmap(lambda x, lock: 1 / (x - 2), range(6), args=(lock,), **how))
        assert caught.value.seq_index == 2


def test_inherited_functions_leave_nothing() -> None:
    """Workers that were forked for one map have ended when it is exhausted, closed or has raised."""
    lock = threading.Lock()

    def where(x: Any) -> Any:
        assert x < 1000
        return lock.locked() or os.getpid()

    closed = parmap(where, itertools.count(), N=2)
    workers = set(itertools.islice(closed, 20))
    closed.close()
    exhausted = parmap(where, range(20), N=2)
    workers |= set(exhausted)
    raising = parmap(where, range(990, 1010), N=2)
    workers |= {next(raising) for _ in range(10)}
    with pytest.raises(AssertionError):
        next(raising)
    spoilt = parmap(where, (1 // (9 - x) for x in range(10)), N=2)
    workers |= {next(spoilt) for _ in range(9)}
    with pytest.raises(ZeroDivisionError):
        next(spoilt)
    assert len(workers) >= 3 and not workers & {process.pid for process in children()}


def test_fixed_arguments_travel_with_the_function(tmp_path: Any) -> None:
    """Fixed arguments are pickled with the function, not again with every item."""
    counted = Counted(tmp_path / "pickled")
    results = list(parmap(lambda x, c: x, range(50), N=2, args=(counted,)))
    assert results == list(range(50))
    assert 0 < len(lines(counted.path)) < 10


def test_maps_may_be_nested(how: How) -> None:
    """A task may map again, daemon or not."""

    def inner(n: Any) -> Any:
        return sum(parmap(double, range(n), N=2))

    assert list(parmap(inner, range(4), daemon=True, **how)) == [0, 0, 2, 6]


# -- laziness -----------------------------------------------------------------------------------------------


def test_nothing_happens_before_the_first_result(how: How) -> None:
    """A map that nobody asks for draws nothing and runs nothing, closed or not."""
    drawn: list[int] = []
    results = parmap(double, drawn_from(itertools.count(), drawn), **how)
    assert iter(results) is results
    results.close()
    assert drawn == [] and list(results) == []


def test_serial_is_lazy() -> None:
    """With ``N=1`` an item is drawn, and its call made, when its result is asked for."""
    drawn: list[int] = []
    called: list[int] = []
    results = parmap(lambda x: called.append(x), drawn_from(itertools.count(), drawn), N=1)
    for number in range(1, 6):
        next(results)
        assert drawn == called == list(range(number))
    results.close()


def test_infinite_input_is_taken_lazily(how: How) -> None:
    """An infinite input is drawn no further than a bound beyond the results that were taken."""
    drawn: list[int] = []
    results = parmap(double, drawn_from(itertools.count(), drawn), **how)
    assert list(itertools.islice(results, 100)) == [2 * x for x in range(100)]
    ahead = len(drawn)
    assert 100 <= ahead < 100 + 70_000
    results.close()
    assert list(results) == [] and len(drawn) == ahead


def test_input_that_raises(how: How) -> None:
    """What the input raises surfaces after the results before it, and ends the map."""

    def items() -> Any:
        yield from (1, 2)
        raise OSError("no more")

    results = parmap(double, items(), **how)
    assert [next(results), next(results)] == [2, 4]
    with pytest.raises(OSError, match="no more"):
        next(results)
    assert list(results) == []


def test_a_map_that_is_dropped_ends() -> None:
    """Dropped unfinished, a map says so and lets go of its function."""

    class Held:
        pass

    held, gone = Held(), threading.Event()
    weakref.finalize(held, gone.set)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        results = parmap(lambda x, held=held: x, itertools.count(), N=1)
        assert next(results) == 0
        del results, held
        gc.collect()
    assert gone.is_set()


# -- errors -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("exception", [None, "raise", "proc"])
def test_the_first_error_is_raised(how: How, exception: Any) -> None:
    """The first error in order is raised, after the results before it, with its index; then the map is over."""
    results = parmap(fail_at, range(8), exception=exception, **how)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(KeyError) as caught:
        next(results)
    assert caught.value.args == (3,) and caught.value.seq_index == 3
    assert list(results) == []


@pytest.mark.parametrize("ordered", [True, False])
def test_the_index_is_that_of_the_item(how: How, ordered: Any) -> None:
    """``seq_index`` is the item's place in the input, ordered or not."""
    with pytest.raises(KeyError) as caught:
        list(parmap(fail_at, range(8), kwargs={"bad": 6}, ordered=ordered, **how))
    assert caught.value.seq_index == 6


def test_errors_are_returned(how: How) -> None:
    """With "return" errors stand in their items' places, with their indices, and the map goes on."""
    results = list(parmap(lambda x: 1 // (x % 3), range(7), exception="return", **how))
    assert [result for result in results if isinstance(result, int)] == [1, 0, 1, 0]
    errors = [result for result in results if isinstance(result, ZeroDivisionError)]
    assert [error.seq_index for error in errors] == [0, 3, 6]
    assert [results.index(error) for error in errors] == [0, 3, 6]


def test_exceptions_as_results_are_results(how: How) -> None:
    """An exception that the function returns is a result like others."""
    results = list(parmap(lambda x: ValueError(x), range(3), **how))
    assert [result.args for result in results] == [(0,), (1,), (2,)]
    assert not any(hasattr(result, "seq_index") for result in results)


@pytest.mark.parametrize("threads", [1, 2])
def test_errors_of_this_process_are_plain(threads: Any) -> None:
    """With ``N=1`` the error is the very object that was raised, with the frames of where it was."""
    error = ValueError("mine")

    def fails(_: Any) -> Never:
        raise error

    for exception in (None, "proc", "raise"):
        with pytest.raises(ValueError, match="mine") as caught:
            list(parmap(fails, [1], N=1, Nt=threads, exception=exception))
        assert caught.value is error
        assert "fails" in [frame.name for frame in traceback.extract_tb(error.__traceback__)]
        error.__traceback__ = None


def test_errors_from_processes_show_where_they_were() -> None:
    """An error from a process has the traceback it had there as its cause."""
    with pytest.raises(KeyError) as caught:
        list(parmap(fail_at, range(5), N=2))
    assert "in fail_at" in shown(caught.value)


def test_stop_iteration_is_no_end(how: How) -> None:
    """A StopIteration of the function does not pass for the end of the results."""

    def stops(x: Any) -> Any:
        if x == 2:
            raise StopIteration
        return x

    results = parmap(stops, range(5), **how)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(RuntimeError, match="StopIteration") as caught:
        next(results)
    assert caught.value.__cause__.seq_index == 2


def test_an_error_that_takes_no_attribute(how: How) -> None:
    """An exception that lets nothing be set is raised all the same."""

    def fails(_: Any) -> Never:
        raise Frozen("whole")

    with pytest.raises((Frozen, RemoteError), match="whole"):
        list(parmap(fails, [1], **how))


def test_a_dead_process_fails_its_item() -> None:
    """A process that dies fails the item it was at, with its index, and no other."""

    def dies(x: Any) -> Any:
        if x == 4:
            os._exit(7)
        return x

    results = list(parmap(dies, range(9), N=2, exception="return"))
    assert isinstance(results[4], WorkerDied) and results[4].seq_index == 4 and results[4].exitcode == 7
    assert results[:4] + results[5:] == [0, 1, 2, 3, 5, 6, 7, 8]


def test_errors_leave_the_workers_whole(how: How) -> None:
    """However many maps end by an error with calls still on their way, the next one runs."""
    for _ in range(20):
        with pytest.raises(KeyError):
            list(parmap(fail_at, range(9), chunksize=3, **how))
    assert list(parmap(double, range(9), **how)) == [2 * x for x in range(9)]


# -- chunks, progress -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunksize", [1, 7, 100, -1])
@pytest.mark.parametrize("items", [0, 1, 5, 23])
def test_chunks_change_nothing(how: How, chunksize: Any, items: Any) -> None:
    """Whatever the chunks, and however few the items, the results are the same."""
    assert list(parmap(double, range(items), chunksize=chunksize, **how)) == [2 * x for x in range(items)]


@pytest.mark.parametrize(("items", "hands", "chunk"), [(6, 2, 3), (7, 2, 4), (1, 3, 1), (0, 2, 1)])
def test_chunks_of_everything(items: Any, hands: Any, chunk: Any) -> None:
    """``chunksize=-1`` deals all items out in one round, among processes times threads."""
    for how in ({"N": hands}, {"N": 1, "Nt": hands}):
        assert parmap(double, range(items), chunksize=-1, **how)._how["chunksize"] == chunk


def test_chunks_of_an_unknown_number(how: How) -> None:
    """``chunksize=-1`` warns where the number of items is unknown; ``total`` tells it."""
    with pytest.warns(UserWarning, match="chunksize"):
        results = parmap(double, iter(range(5)), chunksize=-1, **how)
    assert list(results) == [0, 2, 4, 6, 8]
    assert list(parmap(double, iter(range(5)), chunksize=-1, total=5, **how)) == [0, 2, 4, 6, 8]


@pytest.mark.parametrize(("progress", "label"), [(True, "parmap"), ("my text", "my text")])
def test_progress(
    how: How, progress: Any, label: Any, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bar with its label and the number of items is drawn, and the results are the same."""
    monkeypatch.setenv("MANYHANDS_PROGRESS", "1")
    assert list(parmap(double, iter(range(5)), total=5, progress=progress, **how)) == [0, 2, 4, 6, 8]
    out, err = capfd.readouterr()
    assert f"{label}: 100%" in err and "5/5" in err and out == ""


@pytest.mark.parametrize("progress", [False, None, ""])
def test_no_progress(how: How, progress: Any, capfd: pytest.CaptureFixture[str]) -> None:
    """Without it nothing is drawn."""
    assert list(parmap(double, range(3), progress=progress, **how)) == [0, 2, 4]
    assert capfd.readouterr() == ("", "")


# -- bad arguments ------------------------------------------------------------------------------------------


async def waits(_: Any) -> None: ...


@pytest.mark.parametrize(
    ("name", "value", "kind"),
    [
        ("fun", 3, TypeError),
        ("fun", drawn_from, TypeError),
        ("fun", waits, TypeError),
        ("seq", 3, TypeError),
        ("N", 0, ValueError),
        ("N", -1, ValueError),
        ("N", 1.5, TypeError),
        ("Nt", 0, ValueError),
        ("Nt", None, TypeError),
        ("chunksize", 0, ValueError),
        ("chunksize", -2, ValueError),
        ("chunksize", "2", TypeError),
        ("total", -1, ValueError),
        ("total", "all", TypeError),
        ("progress", 3, TypeError),
        ("args", 3, TypeError),
        ("args", "text", TypeError),
        ("kwargs", [], TypeError),
        ("kwargs", {1: 2}, TypeError),
        ("exception", "ignore", ValueError),
    ],
)
def test_bad_arguments_are_named(name: Any, value: Any, kind: Any) -> None:
    """A bad argument is told at once, by its name."""
    with pytest.raises(kind, match=f"^{name} "):
        parmap(**{"fun": double, "seq": [1], name: value})


def test_unknown_arguments() -> None:
    """An unknown argument is a TypeError that names it."""
    with pytest.raises(TypeError, match="workers"):
        parmap(double, [1], workers=2)

"""``progress=`` of maps, wherever they run: functions are told, bars drawn, and only where they belong."""

from __future__ import annotations

import io
import logging
import os
import sys
import threading
from typing import Any

import pytest
from tqdm import tqdm

from manyhands import Controller, Handler, Progress, parallel, retry_on, worker_info
from tests.contract import tasks
from tests.helpers import Fifo
from tests.screen import Terminal

How = dict[str, Any]


def halved(number: int) -> float:
    if number % 5 == 4:
        raise ValueError(number)
    return number / 2


def test_a_function_is_told(how: How) -> None:
    """At first that nothing is done, at last what all came to, in the thread that consumes."""
    told: list[tuple[Progress, threading.Thread]] = []
    function = retry_on(ValueError, attempts=2)(halved)
    results = parallel(function).map(
        range(10), on_error="skip", progress=lambda now: told.append((now, threading.current_thread())), **how
    )
    assert len(list(results)) == 8
    first, last = told[0][0], told[-1][0]
    assert (first.total, first.done, first.ended) == (10, 0, False)
    assert last == Progress(10, 8, 2, retries=2, seconds=last.seconds, ended=True)
    assert last.seconds > 0
    assert [now.ended for now, _ in told].count(True) == 1
    dones = [now.done for now, _ in told]
    assert dones == sorted(dones)
    assert {thread for _, thread in told} == {threading.current_thread()}


def test_completions_are_counted(processes: How, begun: Fifo, gate: Fifo) -> None:
    """Not what was sent: of two calls that have begun, and one that may end, one is done when it is shown."""
    told: list[Progress] = []

    def note(progress: Progress) -> None:
        told.append(progress)
        if progress.done == 1:
            gate.let_go(1)

    with tasks.meet.map(
        [1, 2], args=(begun.path, gate.path), chunksize=1, progress=note, **processes
    ) as results:
        begun.line(), begun.line()
        assert [progress.done for progress in told] == [0]
        gate.let_go(1)
        assert len(list(results)) == 2
    assert 1 in [progress.done for progress in told]


def test_a_function_that_raises(how: How, caplog: pytest.LogCaptureFixture) -> None:
    """The map goes on."""

    def bad(progress: Progress) -> None:
        raise LookupError

    assert list(tasks.double.map([1, 2], progress=bad, **how)) == [2, 4]
    assert len(caplog.records) == 1


def test_a_map_that_is_ended(how: How) -> None:
    """By its consumer, or by an error: its end is told, with what was done."""
    for end in (lambda results: results.close(), lambda results: list(results)):
        told: list[Progress] = []
        results = parallel(halved).map([0, 4, *range(100)], progress=told.append, **how)
        next(results)
        try:
            end(results)
        except ValueError:
            pass
        assert told[-1].ended and told[-1].total == 102 and told[-1].done >= 1


def test_a_function_that_closes_its_map(how: How) -> None:
    """The map is over then."""
    made: list[Any] = []

    def enough(progress: Progress) -> None:
        if progress.done and not progress.ended:
            made[0].close()

    made.append(tasks.double.map(range(10**6), buffersize=1, progress=enough, **how))
    assert len(list(made[0])) < 10**6


def test_a_handler_tells_too(how: How) -> None:
    """It counts what has ended, and does not know how much there will be."""
    told: list[Progress] = []
    with Handler(parallel(halved), progress=told.append, **how) as handler:
        handler.extend(range(10))
        handler.drain()
    assert told[-1] == Progress(None, 8, 2, seconds=told[-1].seconds, ended=True)


def test_it_stays_in_its_process(processes: How) -> None:
    """What is told, or draws, need not travel."""
    lock = threading.Lock()

    class Bar(tqdm):  # type: ignore[type-arg]
        kept = lock

        def __init__(self, **options: Any) -> None:
            super().__init__(file=io.StringIO(), **options)

    for progress in (lambda progress: lock.locked(), Bar):
        function = parallel(progress=progress, **processes)(retry_on(OSError)(lambda x: x + len(os.sep)))
        assert list(function.map([1, 2])) == [2, 3]


# -- in a terminal --------------------------------------------------------------------------------------------


def nested(number: int) -> list[int]:
    return list(tasks.double.map(range(3), progress=f"inside {number}"))


def nested_and_told(number: int) -> int:
    told: list[Progress] = []
    list(tasks.double.map(range(3), progress=told.append))
    return len(told)


def test_maps_inside_of_tasks(processes: How, capfd: pytest.CaptureFixture[str]) -> None:
    """They draw no bar and tell nobody: they are part of an item of the outer map."""
    with Terminal() as terminal:
        terminal.attach()
        assert len(list(parallel(nested).map(range(4), progress="outer", **processes))) == 4
        (line,) = terminal.close()
    assert line.startswith("outer: 100%|") and "4/4" in line
    assert capfd.readouterr() == ("", "")
    assert list(parallel(nested_and_told).map(range(2), **processes)) == [0, 0]


def says(number: int) -> int:
    print(f"line {number}", file=sys.stderr)
    logging.getLogger("tests.progress").warning("record %d", number)
    return number


def test_what_workers_say_stands_above_the_bar(processes: How) -> None:
    """Whole lines, and one bar below them in the end."""
    logger = logging.getLogger("tests.progress")
    with Terminal(rows=60) as terminal:
        terminal.attach()
        handler = logging.StreamHandler(terminal.file)
        logger.addHandler(handler)
        logger.propagate = False
        try:
            list(parallel(says).map(range(12), progress="all", **processes))
        finally:
            logger.removeHandler(handler)
            logger.propagate = True
        lines = terminal.close()
    assert sorted(lines[:-1]) == sorted([f"line {n}" for n in range(12)] + [f"record {n}" for n in range(12)])
    assert lines[-1].startswith("all: 100%|") and "12/12" in lines[-1]


def test_maps_in_loops_over_maps(how: How) -> None:
    """One bar is left in the end."""
    with Terminal() as terminal:
        terminal.attach()
        for number in tasks.double.map(range(3), progress="outer", **how):
            list(tasks.double.map(range(3), progress=f"inner {number}", **how))
        lines = terminal.close()
    assert [line.partition(":")[0] for line in lines] == ["outer"]
    assert all(f"inner {number}" in terminal.written for number in (0, 2, 4))


def test_maps_in_threads(how: How) -> None:
    """Each has its line in the end, whole."""
    barrier = threading.Barrier(3)

    def run(number: int) -> None:
        barrier.wait()
        list(tasks.double.map(range(number), progress=f"map {number}", **how))

    with Terminal() as terminal:
        terminal.attach()
        threads = [threading.Thread(target=run, args=(10 * number,)) for number in (1, 2, 3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        lines = terminal.close()
    assert sorted(line.partition("%")[0] for line in lines) == [f"map {number}0: 100" for number in (1, 2, 3)]
    assert all(f"{line[4]}0/{line[4]}0" in line for line in lines)


def test_worker_bars(processes: How) -> None:
    """While the map runs, each worker has a line with what it has done; then they go."""
    with Terminal(rows=40) as terminal:
        terminal.attach()
        options = {**processes, "chunksize": 1, "max_tasks_per_worker": 2}
        names = {
            info.name for info in parallel(where).map(range(7), progress="all", worker_bars=True, **options)
        }
        lines = terminal.close()
    assert len(names) == 4
    assert [line.partition(":")[0] for line in lines] == ["all"]
    assert sum(name in terminal.written for name in names) >= 2


def where(number: int) -> Any:
    return worker_info()


def test_worker_bars_need_a_bar(how: How, capfd: pytest.CaptureFixture[str]) -> None:
    """Alone, they show nothing."""
    assert list(tasks.double.map(range(3), worker_bars=True, **how)) == [0, 2, 4]
    assert capfd.readouterr().err == ""


def test_nothing_where_nobody_sees_it(how: How, capfd: pytest.CaptureFixture[str]) -> None:
    """Not even a newline."""
    assert not sys.stderr.isatty()
    assert list(tasks.double.map(range(3), progress="unseen", worker_bars=True, **how)) == [0, 2, 4]
    assert capfd.readouterr() == ("", "")


def test_a_wrong_variable(how: How, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told before anything is started, and nothing is left running."""
    monkeypatch.setenv("MANYHANDS_PROGRESS", "often")
    with pytest.raises(ValueError, match="MANYHANDS_PROGRESS"):
        tasks.double.map(range(3), progress=True, **how)


def test_of_a_pool(controller: Controller) -> None:
    """Its number of workers is what bars of workers go by."""
    with Terminal() as terminal:
        terminal.attach()
        list(parallel(where).map(range(50), backend=controller, progress="all", worker_bars=True, chunksize=1))
        lines = terminal.close()
    assert [line.partition(":")[0] for line in lines] == ["all"]

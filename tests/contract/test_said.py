"""What calls in worker processes print, log and warn of arrives in the parent."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from typing import Any

import pytest

from manyhands import Controller, parallel
from manyhands.logs import TaskFilter
from manyhands.workers.inlet import MOST, Inlet, Said, inlet
from manyhands.workers.outlet import STDOUT
from tests.helpers import Fifo, tell, until, wait_for

log = logging.getLogger("tests.said")


class Kept(logging.Handler):
    """Keeps records."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@pytest.fixture
def kept() -> Iterator[list[logging.LogRecord]]:
    """The records that this process handles under the loggers of this module."""
    handler, level = Kept(), log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    yield handler.records
    log.removeHandler(handler)
    log.setLevel(level)


def logging_of(x: int) -> int:
    log.info("item %d", x, extra={"size": 10 * x})
    log.debug("not this")
    return x


def test_records_arrive_with_worker_item_and_task(processes: dict[str, Any], kept: Any) -> None:
    """All that the parent's loggers let pass, before the map ends; with the fields that the call gave."""
    assert list(parallel(logging_of, **processes).map(range(100, 140))) == list(range(100, 140))
    assert sorted((r.item, r.getMessage(), r.size) for r in kept) == [
        (at, f"item {100 + at}", 1000 + 10 * at) for at in range(40)
    ]
    host_and_pid = re.compile(rf"{re.escape(os.uname().nodename)}:[0-9]+")
    assert all(host_and_pid.fullmatch(r.worker) and r.worker.endswith(f":{r.process}") for r in kept)
    assert {(r.task, r.funcName, r.levelname, r.processName == r.worker) for r in kept} == {
        ("logging_of", "logging_of", "INFO", True)
    }


def test_records_of_a_worker_keep_their_order(processes: dict[str, Any], kept: Any) -> None:
    """Whatever the order of the items."""

    def many(x: int) -> None:
        for number in range(50):
            log.warning("%d", 50 * x + number)

    parallel(many, **processes).map(range(20), chunksize=1).wait()
    by_worker: dict[str, list[int]] = {}
    for record in kept:
        by_worker.setdefault(record.worker, []).append(int(record.getMessage()))
    assert sum(map(len, by_worker.values())) == 1000
    for numbers in by_worker.values():
        calls = [numbers[at : at + 50] for at in range(0, len(numbers), 50)]
        assert all(call == list(range(call[0], call[0] + 50)) for call in calls)


def test_levels_are_those_of_the_parent_when_the_map_begins(processes: dict[str, Any], kept: Any) -> None:
    """Also in workers that have run other maps, and for loggers that got their level later."""
    function = parallel(logging_of, **processes)
    function.map(range(4)).wait()
    log.setLevel(logging.ERROR)
    function.map(range(4)).wait()
    log.setLevel(logging.DEBUG)
    function.map(range(4)).wait()
    assert [record.getMessage() for record in kept].count("not this") == 4
    assert len(kept) == 12
    log.setLevel(logging.NOTSET)  # as the root logger's then, which is WARNING
    function.map(range(4)).wait()
    assert len(kept) == 12


def crash(x: int) -> None:
    print("before")
    log.error("the last words of %d", x)
    os.kill(os.getpid(), 9)


def test_the_last_words_before_a_crash_arrive(processes: dict[str, Any], kept: Any, capsys: Any) -> None:
    """What was said before the worker was killed is there when its item has failed."""
    failures = parallel(crash, **processes).map(range(3), on_error="return", chunksize=1)
    assert [type(failure.error).__name__ for failure in failures] == ["WorkerDied"] * 3
    assert sorted(record.getMessage() for record in kept) == [f"the last words of {x}" for x in range(3)]
    assert sorted(record.item for record in kept) == [0, 1, 2]
    assert capsys.readouterr().out == "before\n" * 3


class Odd:
    def __reduce__(self) -> Any:
        raise TypeError("not me")

    def __repr__(self) -> str:
        return "an odd one"


def test_exceptions_and_odd_values_in_records(processes: dict[str, Any], kept: Any) -> None:
    """A traceback arrives as text; what can't be sent as its repr; a record that can't be made harms nothing."""

    def odd(x: int) -> int:
        try:
            raise KeyError("lost")
        except KeyError:
            log.exception("so", extra={"odd": Odd(), "fine": [1], "worker": "mine"})
        log.info(Odd(), stack_info=True)
        log.info("%d", "no number")
        return x

    assert list(parallel(odd, **processes).map([1])) == [1]
    first, second = kept
    assert (first.odd, first.fine) == ("an odd one", [1])
    assert first.worker != "mine"
    assert "KeyError: 'lost'" in logging.Formatter().format(first)
    assert second.getMessage() == "an odd one"
    assert "Stack (most recent call last)" in logging.Formatter().format(second)


def test_submitted_calls_have_said_it_when_their_result_is_there(processes: dict[str, Any], kept: Any) -> None:
    """They are no items of a map."""
    assert parallel(logging_of, **processes).submit(7).result() == 7
    (record,) = kept
    assert (record.item, record.task, record.size) == (None, "logging_of", 70)


def test_submitted_calls_follow_the_level_of_the_root_logger(
    processes: dict[str, Any], kept: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also after the function was submitted before."""
    log.setLevel(logging.NOTSET)
    function = parallel(logging_of, **processes)
    for level, count in ((logging.ERROR, 0), (logging.INFO, 1), (logging.ERROR, 0)):
        monkeypatch.setattr(logging.root, "level", level)
        logging.root.manager._clear_cache()
        function.submit(7).result()
        assert len(kept) == count
        kept.clear()


def test_a_filter_gives_all_records_what_those_of_workers_have(processes: dict[str, Any], kept: Any) -> None:
    """So that a format may name it."""
    handler = log.handlers[-1]
    handler.addFilter(TaskFilter())
    handler.setFormatter(logging.Formatter("%(message)s [%(task)s %(item)s %(worker)s]"))
    log.info("here")
    parallel(logging_of, **processes).map([5]).wait()
    told = [handler.format(record) for record in kept]
    assert told == ["here [ None ]", f"item 5 [logging_of 0 {kept[1].worker}]"]


def test_threads_of_workers_say_which_item_it_was(kept: Any, method: str) -> None:
    """Several calls run in each worker."""
    function = parallel(logging_of, workers=2, threads=3, start_method=method)  # type: ignore[call-overload]
    function.map(range(60), chunksize=1).wait()
    assert sorted((record.item, record.getMessage()) for record in kept) == [
        (at, f"item {at}") for at in range(60)
    ]


def printing(x: int) -> int:
    print(f"out {x}")
    print("no", "end", x, end="", file=sys.stderr)
    print("ing", file=sys.stderr)
    sys.stdout.write("a part; ")
    print("the rest")
    return x


def test_prints_go_through_the_streams_of_the_parent(processes: dict[str, Any], capsys: Any) -> None:
    """As they are when it arrives: whole lines, whichever worker they are of."""
    parallel(printing, **processes).map(range(30)).wait()
    said = capsys.readouterr()
    assert sorted(said.out.splitlines()) == sorted([f"out {x}" for x in range(30)] + ["a part; the rest"] * 30)
    assert sorted(said.err.splitlines()) == sorted(f"no end {x}ing" for x in range(30))


def test_a_line_without_an_end_comes_before_the_result(processes: dict[str, Any], capsys: Any) -> None:
    """Or earlier, when it is flushed."""

    def partly(x: int) -> None:
        print("flushed", end="", flush=True)
        print(" and not", end="")

    with Controller(1, start_method=processes["start_method"]) as pool:
        parallel(partly).map([0], backend=pool).wait()
        assert capsys.readouterr().out == "flushed and not"


def test_a_thread_is_heard_while_its_worker_rests(kept: Any, gate: Fifo, method: str) -> None:
    """Nobody waits for anything then."""

    def begin(path: str) -> None:
        def wait() -> None:
            wait_for(path)
            log.info("from a thread")

        threading.Thread(target=wait).start()

    with Controller(1, start_method=method) as pool:  # type: ignore[arg-type]
        parallel(begin).map([str(gate.path)], backend=pool).wait()
        gate.let_go()
        until(lambda: bool(kept), "it is heard")
    assert [(record.item, record.task) for record in kept] == [(None, "")]


def test_streams_of_workers_behave_as_streams(processes: dict[str, Any]) -> None:
    """They have an encoding and a descriptor, and refuse bytes."""

    def look(_: int) -> tuple[Any, ...]:
        with pytest.raises(TypeError):
            sys.stdout.write(b"bytes")
        process = subprocess.run(["true"], stdout=sys.stderr.fileno(), check=True)
        return sys.stderr.encoding.lower(), sys.stdout.writable(), sys.stdout.readable(), process.returncode

    assert list(parallel(look, **processes).map([0])) == [("utf-8", True, False, 0)]


def test_warnings_arrive_as_records_or_on_stderr(
    processes: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """As with ``logging.captureWarnings``, since pytest has a handler."""

    def warn(x: int) -> None:
        warnings.simplefilter("always")
        warnings.warn(f"careful {x}", stacklevel=1)

    parallel(warn, **processes).map(range(2)).wait()
    records = [record for record in caplog.records if record.name == "py.warnings"]
    assert sorted(record.item for record in records) == [0, 1]
    assert all("UserWarning: careful" in record.getMessage() for record in records)
    assert all(record.pathname == __file__ for record in records)


def test_warnings_that_this_process_ignores(
    processes: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """By their text, kind, or place; those that every Python ignores at first are the worker's to decide."""

    def warn(x: int) -> None:
        warnings.simplefilter("always")
        warnings.warn(f"Careful {x}", stacklevel=1)
        warnings.warn(f"other {x}", FutureWarning, stacklevel=1)
        warnings.warn(f"old {x}", DeprecationWarning, stacklevel=1)

    def heard() -> set[str]:
        caplog.clear()
        parallel(warn, **processes).map([1]).wait()
        records = [record.getMessage() for record in caplog.records if record.name == "py.warnings"]
        return {word for word in ("Careful", "other", "old") for text in records if f": {word} 1" in text}

    with warnings.catch_warnings():
        warnings.resetwarnings()
        warnings.simplefilter("ignore", DeprecationWarning, append=True)  # as from the start
        assert heard() == {"Careful", "other", "old"}
        warnings.filterwarnings("ignore", "careful")
        assert heard() == {"other", "old"}
        warnings.filterwarnings("ignore", category=FutureWarning, module=".*test_said")
        assert heard() == {"old"}
        warnings.simplefilter("always", UserWarning)
        assert heard() == {"Careful", "old"}
        warnings.simplefilter("ignore")
        assert heard() == set()


HALF = """
import itertools, os, sys
from manyhands import parallel

numbers = itertools.count()

def write():  # as another thread may, just before a fork
    sys.stdout.write(f"<{next(numbers)}>")

os.register_at_fork(before=write)

def silent(x):
    print("worker", flush=True)
    return x

list(parallel(silent, workers=1, start_method="fork").map([1, 2]))
"""


def test_a_fork_does_not_write_what_its_parent_was_writing(tmp_path: Any) -> None:
    """Nor wait for who wrote it."""
    script = tmp_path / "script.py"
    script.write_text(HALF)
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    ran = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, check=True, env=buffered
    )
    found = re.findall("<[0-9]+>", ran.stdout)
    assert len(found) == len(set(found)) > 0 and ran.stdout.count("worker") == 2


def test_what_a_fork_of_a_worker_says_goes_to_the_real_streams(
    capfd: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The channel is the worker's alone."""
    told: list[Said] = []
    monkeypatch.setattr(inlet, "put", told.append)

    def forks(x: int) -> int:
        pid = os.fork()
        if not pid:
            print("in the fork")
            sys.stdout.flush()
            os._exit(0)
        os.waitpid(pid, 0)
        return x

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        with Controller(1, start_method="fork") as pool:  # others have the streams that were there first
            assert list(parallel(forks).map([3, 4], backend=pool)) == [3, 4]
    assert capfd.readouterr().out == "in the fork\n" * 2
    assert told == []


def test_a_finaliser_in_the_middle_of_a_send_may_print(capsys: Any) -> None:
    """Whenever garbage is collected, no thread waits for itself."""

    class Loud:
        def __init__(self) -> None:
            self.me = self

        def __del__(self) -> None:
            print("gone")

    def litter(x: int) -> list[int]:
        import gc

        gc.set_threshold(1)
        for _ in range(20):
            Loud()
        return [x] * 100

    with Controller(1) as pool:
        assert len(list(parallel(litter).map(range(50), backend=pool, chunksize=1))) == 50
    assert set(capsys.readouterr().out.splitlines()) == {"gone"}


def test_a_slow_handler_holds_workers_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """No more waits than so many things, and none is lost."""
    own = Inlet()
    most = seen = 0
    go = threading.Event()

    class Slow:
        def write(self, text: str) -> None:
            nonlocal most, seen
            go.wait(60)
            seen += 1
            most = max(most, len(own._waiting))

        def isatty(self) -> bool:
            return False

    monkeypatch.setattr(sys, "stdout", Slow())
    for number in range(3 * MOST):
        own.put(Said(STDOUT, b"x\n", "", None, ""))
        if number == MOST:
            go.set()
        own.hold_back()
    own.flush()
    assert seen == 3 * MOST and most <= MOST + 2


def test_a_handler_may_use_a_map_of_its_own(kept: Any) -> None:
    """The thread that handles records does not wait for itself."""
    results = []

    class Mapping(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            results.append(list(parallel(logging_of, workers=2).map([1], buffersize=1)))
            log.removeHandler(self)

    log.addHandler(Mapping())
    parallel(logging_of, workers=2).map([5]).wait()
    assert results == [[1]]
    inlet.flush()
    assert sorted(record.getMessage() for record in kept) == ["item 1", "item 5"]


def waits(gate: str, begun: str) -> int:
    log.info("it has begun")
    tell(begun, "here")
    wait_for(gate)
    return 1


def test_records_arrive_while_nobody_waits(kept: Any, begun: Fifo, gate: Fifo, method: str) -> None:
    """While a call runs, and the parent does other things."""
    future = parallel(waits, workers=1, start_method=method).submit(str(gate.path), str(begun.path))
    assert begun.line() == "here"
    until(lambda: bool(kept), "the record is there")
    assert not future.done()
    gate.let_go()
    assert future.result() == 1


SCRIPT = """
import logging, sys, warnings
from manyhands import parallel

@parallel(workers=2, start_method=sys.argv[1])
def f(x):
    logging.getLogger("some").warning("record %d", x)
    logging.getLogger("some").info("no")
    warnings.warn("careful")
    print("print", x)
    return x

print(list(f.map([1, 2], chunksize=1)))
"""


def test_without_any_settings_it_looks_as_in_one_process(method: str, tmp_path: Any) -> None:
    """Warnings and what is worse go to stderr, and prints to stdout, once each."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    ran = subprocess.run(
        [sys.executable, str(script), method], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    out, err = ran.stdout.splitlines(), ran.stderr.splitlines()
    assert sorted(out) == ["[1, 2]", "print 1", "print 2"]
    assert [line for line in err if line.startswith("record")] in (
        ["record 1", "record 2"],
        ["record 2", "record 1"],
    )
    assert "no" not in err and any("UserWarning: careful" in line for line in err)

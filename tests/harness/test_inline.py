"""Inline mode: users' tests run their functions here, in order, and wait for nothing."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from pathlib import Path

import numpy as np
import pytest

from manyhands import (
    OUTPUT,
    Controller,
    Handler,
    InvalidResult,
    OutputDirectoryError,
    claimed_output,
    parallel,
    retry_on,
    validated,
)
from manyhands.claims import Claims, Log, Mine
from manyhands.settings import current_rehearsal
from manyhands.testing import call_at, fail_at, inline
from tests.conftest import children
from tests.helpers import names

HOUR = 3600.0


@parallel(workers=2)
def where(item: int) -> tuple[int, int, int]:
    return item, os.getpid(), threading.get_ident()


def here(item: int) -> tuple[int, int, int]:
    return item, os.getpid(), threading.get_ident()


def test_maps_and_submits_run_here_in_order() -> None:
    """In this thread, one after the other, lazily; no process is started."""
    begun: list[int] = []

    @parallel(workers=4, chunksize=7, ordered=False, initializer=lambda: 1 / 0, timeout=5.0)
    def note(item: int) -> int:
        begun.append(item)
        return item

    before = len(children())
    with inline():
        assert list(where.map(range(3))) == [here(item) for item in range(3)]
        assert where.submit(4).result(0) == here(4)
        assert where.options(backend="threads").map([5]).collect()[0] == [here(5)]
        results = note.map(iter(range(10)))
        assert begun == []
        assert next(results) == 0
        assert begun == [0]
        assert list(results) == list(range(1, 10))
        assert begun == list(range(10))
        assert note.submit(11).done()
        assert asyncio.run(_awaited()) == here(12)
    assert len(children()) == before


async def _awaited() -> tuple[int, int, int]:
    return await where.asubmit(12)


def test_what_has_processes_of_its_own_runs_here_too() -> None:
    """Handlers, blocks of arrays, and maps on a pool that is open."""
    with Controller(workers=1) as pool, inline():
        assert list(where.options(backend=pool).map([1])) == [here(1)]
        assert pool.submit(os.getpid).result() != os.getpid()  # it is an executor of its own
        with Handler(where) as handler:
            handler.add(2)
            handler.add(3)
        assert [outcome.value for outcome in handler.results()] == [here(2), here(3)]
        pids: list[int] = []

        @parallel
        def add_one(block: np.ndarray) -> np.ndarray:
            pids.append(os.getpid())
            return block + 1

        assert (add_one.map_blocks(np.arange(10), rows=2) == np.arange(1, 11)).all()
        assert pids == [os.getpid()] * 5


def test_after_it_all_is_as_before() -> None:
    """Maps run in workers again."""
    with inline():
        pass
    assert next(where.map([1]))[1] != os.getpid()


def test_retries_wait_in_virtual_time() -> None:
    """An hour between two attempts takes no time, in maps, in submitted and in direct calls; the waits are listed."""
    calls: list[int] = []

    @parallel
    @retry_on(ValueError, attempts=3, wait=HOUR)
    def stumble(item: int) -> int:
        calls.append(item)
        if calls.count(item) < 3:
            raise ValueError("not yet")
        return item

    with inline() as time:
        assert list(stumble.map([1, 2])) == [1, 2]
        assert stumble.submit(3).result() == 3
        assert stumble(4) == 4
    assert calls.count(1) == calls.count(4) == 3
    # What 1 waits for is also waited for by 2, which comes after it.
    assert 6 * HOUR <= sum(time.waits) <= 8 * HOUR + 1
    assert repr(time) == f"<VirtualTime, {sum(time.waits):g} s in {len(time.waits)} waits>"


def test_claims_wait_in_virtual_time(tmp_path: Path) -> None:
    """The back-off of a failure that is recorded in the log takes no time either."""
    calls: list[str] = []

    @parallel(workers=2)
    @claimed_output(f"{tmp_path}/{{name}}.txt")
    @retry_on(ValueError, attempts=3, wait=HOUR)
    def write(name: str, output: Path = OUTPUT) -> None:
        calls.append(name)
        if calls.count(name) < 3:
            raise ValueError("not yet")
        output.write_text(name)

    with inline() as time:
        assert list(write.map(["a", "b"])) == [tmp_path / "a.txt", tmp_path / "b.txt"]
        assert write("c").read_text() == "c"
    assert [calls.count(name) for name in "abc"] == [3, 3, 3]
    assert sum(time.waits) >= 4 * HOUR
    assert [name for name in names(tmp_path) if not name.startswith(".")] == ["a.txt", "b.txt", "c.txt"]


def test_who_holds_a_claim_is_waited_for(tmp_path: Path) -> None:
    """A claim of somebody else's ends when that one ends it, not before."""
    entered, gate = threading.Event(), threading.Event()

    def other() -> None:
        with Claims() as claims:
            mine = claims.acquire(Log.of(tmp_path / "a.txt"))
            assert isinstance(mine, Mine)
            entered.set()
            gate.wait()
            mine.staging.write_text("by the other")
            claims.commit(mine)

    @claimed_output(f"{tmp_path}/{{name}}.txt")
    def write(name: str, output: Path = OUTPUT) -> None:
        raise AssertionError("it is claimed")

    thread = threading.Thread(target=other)
    thread.start()
    entered.wait()
    with inline(filesystem=call_at("after judge owner", gate.set, nth=3)):
        assert write("a").read_text() == "by the other"
    thread.join()


def test_all_else_is_as_it_is() -> None:
    """Validation and errors are those of maps in workers."""

    @parallel
    @validated(result=lambda value: value > 0, invalid="raise")
    def check(item: int) -> int:
        return item

    with inline():
        assert list(check.map([1, 2])) == [1, 2]
        with pytest.raises(InvalidResult) as caught:
            list(check.map([1, -2]))
        assert "item 1" in "".join(caught.value.__notes__)


def test_claims_meet_what_the_filesystem_does(tmp_path: Path) -> None:
    """A test of one's own function says what goes wrong at a point of the protocol."""

    @parallel
    @claimed_output(f"{tmp_path}/{{name}}.txt")
    def write(name: str, output: Path = OUTPUT) -> None:
        output.write_text(name)

    with inline(filesystem=fail_at("before claim", errno.ENOSPC)), pytest.raises(OutputDirectoryError):
        list(write.map(["a"]))
    with inline():
        assert list(write.map(["a"])) == [tmp_path / "a.txt"]


def test_it_may_be_nested_and_ends_by_errors_too() -> None:
    """The inner one is in force until it is left; then the outer one, then none."""
    with pytest.raises(ZeroDivisionError), inline() as outer:
        with pytest.raises(KeyError), inline() as inner:
            assert current_rehearsal().clock == inner.now
            raise KeyError
        assert current_rehearsal().clock == outer.now
        raise ZeroDivisionError
    assert current_rehearsal() is None


def test_threads_may_leave_in_any_order() -> None:
    """As long as one of them is in it, it is in force."""
    first, second = inline(), inline()
    with first as one:
        two = second.__enter__()
        assert current_rehearsal().clock == two.now
        where(1)
        assert one is not two
    assert current_rehearsal().clock == two.now  # the first has left before the second
    assert next(where.map([1])) == here(1)
    second.__exit__(None, None, None)
    assert current_rehearsal() is None


def test_other_threads_run_inline_too() -> None:
    """Code under test may map in threads of its own."""
    found: list[tuple[int, int, int]] = []
    with inline():
        thread = threading.Thread(target=lambda: found.extend(where.map([1, 2])))
        thread.start()
        thread.join()
    assert [each[1] for each in found] == [os.getpid()] * 2
    assert {each[2] for each in found} != {threading.get_ident()}

"""``asubmit``, ``await`` and ``async for``: an event loop goes on while workers work."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Coroutine, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any, TypeVar

import pytest

from manyhands import Failure, WorkerDied
from tests.contract import tasks
from tests.helpers import Fifo, lines

How = dict[str, Any]
T = TypeVar("T")

DEADLINE = 60.0


@pytest.fixture(params=["threads", "forkserver", "controller"])
def beside(request: pytest.FixtureRequest) -> How:
    """Options that say where calls run, other than in the thread of the loop."""
    if request.param == "threads":
        return {"backend": "threads", "workers": 2}
    if request.param == "controller":
        return {"backend": request.getfixturevalue("controller")}
    return {"workers": 2, "start_method": request.param}


def run(main: Coroutine[Any, Any, T]) -> T:
    """Runs it in a loop of its own, for so long at most."""
    return asyncio.run(asyncio.wait_for(main, DEADLINE))


def test_the_loop_goes_on_during_asubmit(beside: How, begun: Fifo, gate: Fifo) -> None:
    """The call returns only when another coroutine, which runs meanwhile, has let it go."""

    async def let_go() -> None:
        for _ in range(2):
            await asyncio.to_thread(begun.line)
        gate.let_go(2)

    async def main() -> list[int]:
        meet = tasks.meet.options(**beside)
        calls = [meet.asubmit(x, begun.path, gate.path) for x in (5, 6)]
        await let_go()
        return list(await asyncio.gather(*calls))

    assert run(main()) == [5, 6]


def test_the_loop_goes_on_during_a_map(beside: How, begun: Fifo, gate: Fifo) -> None:
    """Each item waits for a coroutine that runs while the results are iterated over."""

    async def let_go() -> None:
        for _ in range(12):
            await asyncio.to_thread(begun.line)
            gate.let_go()

    async def main() -> list[int]:
        helper = asyncio.create_task(let_go())
        values = [value async for value in tasks.meet.map(range(12), args=(begun.path, gate.path), **beside)]
        await helper
        return values

    assert run(main()) == list(range(12))


def test_async_for_gives_what_for_does(how: How) -> None:
    """Values in order, unordered and in bulk; failures in their places."""

    async def main() -> None:
        assert [v async for v in tasks.double.map(range(5000), **how)] == [2 * x for x in range(5000)]
        values = [v async for v in tasks.double.map(iter(range(99)), ordered=False, **how)]
        assert sorted(values) == [2 * x for x in range(99)]
        mixed = [v async for v in tasks.reciprocal.map([1, 0, 2], on_error="return", **how)]
        assert isinstance(mixed.pop(1), Failure)
        assert mixed == [1, 0.5]

    run(main())


def test_several_maps_at_once(beside: How) -> None:
    """Maps in one loop share their pool and don't mix."""

    async def one(offset: int) -> list[int]:
        return [value async for value in tasks.double.map(range(offset, offset + 200), **beside)]

    async def main() -> list[list[int]]:
        return list(await asyncio.gather(*map(one, (0, 1000, 2000))))

    assert run(main()) == [[2 * x for x in range(o, o + 200)] for o in (0, 1000, 2000)]


def test_errors_are_raised(how: How) -> None:
    """In their places, after the values before them; and the next map finds the pool in order."""

    async def main() -> None:
        values = []
        with pytest.raises(ZeroDivisionError) as caught:
            async for value in tasks.reciprocal.map([1, 2, 0, 4], **how):
                values.append(value)
        assert values == [1, 0.5]
        assert any("item 2: 0" in note for note in caught.value.__notes__)
        with pytest.raises(ZeroDivisionError):
            await tasks.reciprocal.options(**how).asubmit(0)
        assert await tasks.reciprocal.options(**how).asubmit(4) == 0.25

    run(main())


def test_dead_workers_are_told(processes: How) -> None:
    """WorkerDied is raised from ``await`` and ``async for``."""

    async def main() -> None:
        with pytest.raises(WorkerDied):
            await tasks.die.options(**processes).asubmit(1, 1, "kill")
        with pytest.raises(WorkerDied):
            async for value in tasks.die.map(range(9), args=(3, "exit"), **processes):
                assert value < 3

    run(main())


def test_a_stop_iteration_of_a_task(how: How) -> None:
    """It can't end the loop silently."""

    async def main() -> None:
        with pytest.raises(RuntimeError, match="StopIteration"):
            async for _ in tasks.stop_iteration.map([1], **how):
                pass

    run(main())


def test_an_input_that_raises(how: How) -> None:
    """It surfaces after the values before it."""

    def failing() -> Iterator[int]:
        yield from range(20)
        raise LookupError("no more tapes")

    async def main() -> None:
        values = []
        with pytest.raises(LookupError, match="no more tapes"):
            async for value in tasks.double.map(failing(), **how):
                values.append(value)
        assert values == [2 * x for x in range(20)]

    run(main())


def test_the_input_is_advanced_by_one_thread_at_a_time(beside: How) -> None:
    """Threads may take turns, but none comes in while another is there; nor does the loop's, after the start."""
    busy = threading.Lock()
    idents = []

    def count() -> Iterator[int]:
        for n in range(300):
            assert busy.acquire(blocking=False)
            idents.append(threading.get_ident())
            busy.release()
            yield n

    async def main() -> list[int]:
        results = tasks.double.map(count(), **beside)
        drawn = len(idents)
        values = [value async for value in results]
        assert threading.get_ident() not in idents[drawn:]
        return values

    assert run(main()) == [2 * x for x in range(300)]


def test_cancelling_the_task_ends_its_map(beside: How, begun: Fifo, gate: Fifo, tmp_path: Path) -> None:
    """It is cancelled at once while calls run; what has not begun never does, and no more input is drawn."""
    drawn = []

    def count() -> Iterator[int]:
        for n in itertools.count():
            drawn.append(n)
            yield n

    async def iterate() -> None:
        async for _ in tasks.meet.map(count(), args=(begun.path, gate.path), buffersize=20, **beside):
            raise AssertionError("nothing was let go")

    async def main() -> int:
        task = asyncio.create_task(iterate())
        for _ in range(2):
            await asyncio.to_thread(begun.line)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return len(drawn)

    seen = run(main())
    gate.let_go(2)
    calls = str(tmp_path / "calls")
    assert list(tasks.write_call.map(range(6), args=(calls,), **beside)) == list(range(6))
    assert begun.empty()
    assert len(drawn) == seen <= 20


def test_cancelling_a_call_that_waits(begun: Fifo, gate: Fifo, tmp_path: Path) -> None:
    """A call that is awaited and has not begun is dropped when its task is cancelled."""
    calls = tmp_path / "calls"
    beside: How = {"workers": 2}

    async def main() -> None:
        meet = tasks.meet.options(**beside)
        busy = [asyncio.ensure_future(meet.asubmit(x, begun.path, gate.path)) for x in range(2)]
        for _ in busy:
            await asyncio.to_thread(begun.line)
        late = asyncio.ensure_future(tasks.write_call.options(**beside).asubmit(7, str(calls)))
        await asyncio.sleep(0)
        late.cancel()
        with pytest.raises(asyncio.CancelledError):
            await late
        await asyncio.sleep(0)  # asyncio tells the pool in the next round of its loop
        gate.let_go(2)
        assert await asyncio.gather(*busy) == [0, 1]
        assert await tasks.write_call.options(**beside).asubmit(8, str(calls)) == 8

    run(main())
    assert lines(calls) == ["8"]


def test_leaving_the_loop_early(how: How) -> None:
    """``break`` and ``close`` end the map, and the pool works on."""

    async def main() -> None:
        with tasks.double.map(itertools.count(), **how) as results:
            async with aclosing(aiter(results)) as values:  # type: ignore[type-var]
                async for value in values:
                    if value == 100:
                        break
        assert list(results) == []
        assert [v async for v in tasks.double.map([1, 2], **how)] == [2, 4]

    run(main())


def test_asubmit_needs_a_loop() -> None:
    """Outside of a coroutine it is a RuntimeError, and nothing is submitted."""
    with pytest.raises(RuntimeError):
        tasks.double.asubmit(1)

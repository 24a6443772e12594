"""The async face of ``Handler``: an event loop goes on while items are added, run and taken."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import pytest

from manyhands import Counts, Outcome, PoolClosed
from manyhands.decorators.handler import Handler, HandlerResults
from tests.contract import tasks
from tests.contract.conftest import METHODS
from tests.helpers import DEADLINE, Fifo, until

Way = dict[str, Any]
T = TypeVar("T")


@pytest.fixture(params=["inline", "threads", *METHODS, "controller"])
def way(request: pytest.FixtureRequest) -> Way:
    """Options that say where calls run, one after the other."""
    if request.param in ("inline", "threads"):
        return {"backend": request.param, "workers": 2}
    if request.param == "controller":
        return {"backend": request.getfixturevalue("controller")}
    return {"workers": 2, "start_method": request.param}


@pytest.fixture(params=["threads", "forkserver"])
def beside(request: pytest.FixtureRequest) -> Way:
    """Options with which calls run elsewhere than in the thread of the loop."""
    return {"backend": "threads", "workers": 2} if request.param == "threads" else {"workers": 2}


def run(main: Coroutine[Any, Any, T]) -> T:
    """Runs it in a loop of its own, for so long at most."""
    return asyncio.run(asyncio.wait_for(main, DEADLINE))


def by_index(outcomes: list[Outcome[Any]]) -> list[Outcome[Any]]:
    """The outcomes sorted; each index must be there once."""
    ranked = sorted(outcomes, key=lambda outcome: outcome.index)
    assert [outcome.index for outcome in ranked] == list(range(len(ranked)))
    return ranked


def test_added_and_taken(way: Way) -> None:
    """As without a loop; who adds and iterates alone comes to an end."""

    async def main() -> None:
        async with Handler(tasks.double, **way) as handler:
            assert [await handler.aadd(x) for x in range(4)] == [0, 1, 2, 3]
            first = [outcome async for outcome in handler.results()]
            await handler.aadd(4)
            rest = await handler.adrain()
            with pytest.raises(PoolClosed):
                await handler.aadd(5)
            assert await handler.adrain() == []
        assert [outcome.value for outcome in by_index(first + rest)] == [0, 2, 4, 6, 8]

    run(main())


def test_several_tasks(way: Way) -> None:
    """With a small buffer between producers and consumers, in one loop."""

    async def main() -> None:
        async with Handler(tasks.double, buffersize=3, **way) as handler:
            taken: list[Outcome[int]] = []

            async def produce(offset: int) -> None:
                for x in range(offset, offset + 20):
                    await handler.aadd(x)

            async def consume() -> None:
                async for outcome in handler.results():
                    taken.append(outcome)

            consumers = [asyncio.create_task(consume()) for _ in range(2)]
            await asyncio.gather(*map(produce, (0, 100, 200)))
            handler.close_input()
            await asyncio.gather(*consumers)
            assert len(by_index(taken)) == 60 and all(o.value == 2 * o.item for o in taken)

    run(main())


@pytest.mark.parametrize("release", ["take", "close_input", "cancel"])
def test_waiting_for_room(way: Way, release: str) -> None:
    """The loop goes on; who waits goes on when there is room, or when there will be none."""

    async def main() -> None:
        async with Handler(tasks.double, buffersize=1, **way) as handler:
            await handler.aadd(0)
            waiting = asyncio.create_task(handler.aadd(1))
            for _ in range(5):
                await asyncio.sleep(0)
            assert not waiting.done()
            if release == "take":
                assert (await anext(aiter(handler.results()))).value == 0
                assert await waiting == 1
            else:
                handler.close_input() if release == "close_input" else handler.cancel()
                with pytest.raises(PoolClosed):
                    await waiting
            await handler.adrain()

    run(main())


def test_who_waits_does_not_turn(beside: Way, begun: Fifo, gate: Fifo, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither for outcomes after the input was closed, nor for room while there are outcomes that nobody takes."""
    turns = 0
    original = asyncio.BaseEventLoop.call_soon_threadsafe

    def counted(*args: Any, **kwargs: Any) -> Any:
        nonlocal turns
        turns += 1
        return original(*args, **kwargs)

    monkeypatch.setattr(asyncio.BaseEventLoop, "call_soon_threadsafe", counted)

    async def main() -> None:
        nonlocal turns
        options = {"args": (str(begun.path), str(gate.path)), "buffersize": 2, **beside}
        async with Handler(tasks.meet, **options) as handler:
            await handler.aadd(0)
            await handler.aadd(1)
            gate.let_go()
            await asyncio.to_thread(lambda: (begun.line(), begun.line()))
            await asyncio.to_thread(until, lambda: handler.counts.total, "it has ended")
            waits = [asyncio.create_task(handler.aadd(x)) for x in (2, 3)]
            turns = 0
            for _ in range(100):
                await asyncio.sleep(0)
            assert turns <= 10
            results = handler.results()
            taken = [await anext(results)]
            assert not waits[1].done()
            await waits[0]
            handler.close_input()
            with pytest.raises(PoolClosed):
                await waits[1]
            rest = asyncio.create_task(handler.adrain())
            turns = 0
            for _ in range(100):
                await asyncio.sleep(0)
            assert turns <= 10
            gate.let_go(2)
            assert len(by_index(taken + await rest)) == 3

    run(main())


@pytest.mark.parametrize("waits_for", ["room", "outcomes", "the end"])
def test_what_comes_just_before_a_wait(beside: Way, waits_for: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not waited for: room, an outcome, or the end of all."""

    async def main() -> None:
        async with Handler(tasks.double, buffersize=1, **beside) as handler:
            results = handler.results()
            flow = handler._flow
            news = flow.news
            happened = []

            async def late(is_there: Callable[[], bool]) -> None:
                if not happened:
                    happened.append(1)
                    if waits_for == "room":
                        next(results)
                    elif waits_for == "the end":
                        handler.close_input()
                    else:
                        await asyncio.to_thread(handler.add, 5)
                        await asyncio.to_thread(until, lambda: handler.counts.total, "it has ended")
                await news(is_there)

            monkeypatch.setattr(flow, "news", late)
            if waits_for == "room":
                await handler.aadd(0)
                assert await handler.aadd(1) == 1
            elif waits_for == "outcomes":
                assert (await anext(results)).value == 10
            else:
                assert [outcome async for outcome in results] == []
            assert happened

    run(main())


async def swallowed(awaitable: Awaitable[object]) -> None:
    """Waits for the end of what was cancelled."""
    with pytest.raises(asyncio.CancelledError):
        await awaitable


def test_a_consumer_that_is_cancelled(beside: Way, begun: Fifo, gate: Fifo) -> None:
    """It takes no outcome with it, at whatever moment."""

    async def main() -> None:
        taken: list[Outcome[int]] = []

        async def consume(results: HandlerResults[int]) -> None:
            async for outcome in results:
                taken.append(outcome)

        async with Handler(tasks.meet, args=(str(begun.path), str(gate.path)), **beside) as handler:
            handler.extend(range(20))
            for turns in range(8):
                consumer = asyncio.create_task(consume(handler.results()))
                for _ in range(turns):
                    await asyncio.sleep(0)
                gate.let_go()
                await asyncio.sleep(0)
                consumer.cancel()
                await swallowed(consumer)
            gate.let_go(20)
            for turns in range(40):
                consumer = asyncio.create_task(consume(handler.results()))
                await asyncio.sleep(0)
                if turns % 2:
                    await asyncio.sleep(0)
                consumer.cancel()
                await asyncio.wait([consumer])
            assert len(by_index(taken + await handler.adrain())) == 20

    run(main())


def test_a_producer_that_is_cancelled(beside: Way) -> None:
    """It has not added then."""

    async def main() -> None:
        async with Handler(tasks.double, buffersize=1, **beside) as handler:
            await handler.aadd(0)
            waiting = asyncio.create_task(handler.aadd(1))
            await asyncio.sleep(0)
            waiting.cancel()
            await swallowed(waiting)
            assert [outcome.item for outcome in await handler.adrain()] == [0]

    run(main())


def test_several_loops(beside: Way) -> None:
    """Each in a thread of its own, with a thread that has none."""
    taken: list[list[Outcome[int]]] = [[], [], []]
    with Handler(tasks.double, buffersize=4, **beside) as handler:

        async def consume(mine: list[Outcome[int]]) -> None:
            async for outcome in handler.results():
                mine.append(outcome)

        async def produce() -> None:
            for x in range(40):
                await handler.aadd(x)

        threads = [threading.Thread(target=run, args=(consume(mine),)) for mine in taken[1:]]
        threads += [threading.Thread(target=lambda: taken[0].extend(handler.results()))]
        for thread in threads:
            thread.start()
        producers = [threading.Thread(target=run, args=(produce(),)) for _ in range(2)]
        for thread in producers:
            thread.start()
        handler.extend(range(20))
        for thread in producers:
            thread.join(DEADLINE)
        handler.close_input()
        for thread in threads:
            thread.join(DEADLINE)
            assert not thread.is_alive()
    assert len(by_index([outcome for mine in taken for outcome in mine])) == 100
    assert handler.counts == Counts(values=100)


def test_a_loop_that_has_ended_while_it_waited(beside: Way) -> None:
    """It is told of nothing, and nobody minds."""
    with Handler(tasks.double, **beside) as handler:
        loop = asyncio.new_event_loop()
        pending = loop.create_task(_anext(handler.results()))
        loop.run_until_complete(asyncio.sleep(0))
        pending.cancel()
        loop.close()
        handler.add(1)
        assert handler.drain()[0].value == 2
        del pending


async def _anext(results: HandlerResults[T]) -> Outcome[T]:
    return await anext(results)


def test_cancelled_while_the_block_waits_for_its_end(begun: Fifo, gate: Fifo) -> None:
    """What runs is ended then: who cancels does not want to wait for it."""

    async def main() -> None:
        handler: Handler[int] = Handler(tasks.meet, args=(str(begun.path), str(gate.path)), workers=2)

        async def work() -> None:
            async with handler:
                handler.extend(range(6))

        task = asyncio.create_task(work())
        await asyncio.to_thread(begun.line)
        task.cancel()
        await swallowed(task)
        outcomes = by_index(await handler.adrain())
        assert len(outcomes) == 6 and not any(outcome.ok for outcome in outcomes)
        await asyncio.to_thread(handler.close)

    run(main())


def test_a_block_that_ends_by_an_error(begun: Fifo, gate: Fifo) -> None:
    """What runs is ended."""

    async def main() -> None:
        with pytest.raises(LookupError):
            async with Handler(tasks.meet, args=(str(begun.path), str(gate.path)), workers=2) as handler:
                handler.extend(range(6))
                await asyncio.to_thread(begun.line)
                raise LookupError
        assert handler.pending == 0 and handler.counts.failures == 6

    run(main())

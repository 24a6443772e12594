"""A handler of a storm: threads, or tasks of an event loop, add to it while others take."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING, Any

from manyhands import PoolClosed

if TYPE_CHECKING:
    from handler_process import Play

    from manyhands import Handler


def in_threads(play: Play, handler: Handler[Any]) -> None:
    """All of it."""
    flow = play.flow
    with handler:
        producers = [_started(_produce, play, handler, first) for first in range(flow.producers)]
        consumers = [_started(_consume, play, handler) for _ in range(flow.consumers)]
        for thread in producers:
            thread.join()
        if flow.ending == "results":
            handler.close_input()
        for thread in consumers:
            thread.join()


def _started(target: Any, *args: Any) -> threading.Thread:
    thread = threading.Thread(target=target, args=args)
    thread.start()
    return thread


def _produce(play: Play, handler: Handler[Any], first: int) -> None:
    for item in play.items_of(first):
        try:
            play.note_added(handler.add(item), item)
        except PoolClosed:
            play.note_refused()
            return
        time.sleep(play.flow.gap / 1000)


def _consume(play: Play, handler: Handler[Any]) -> None:
    results = handler.results()
    while True:
        if play.is_to_end():
            _end(play, handler)
            if play.flow.ending == "drain":
                play.note_taking(len(play.flow.items))
                for left in handler.drain():
                    play.note(left)
        play.note_taking()
        outcome = next(results, None)
        if outcome is None:
            return
        play.note(outcome)
        time.sleep(play.flow.pause / 1000)


def _end(play: Play, handler: Handler[Any]) -> None:
    if play.flow.ending == "close":
        handler.close_input()
    elif play.flow.ending in ("cancel", "kill"):
        play.cancel(handler)


async def in_coroutines(play: Play, handler: Handler[Any]) -> None:
    """The same."""
    flow = play.flow
    async with handler:
        consumers = [asyncio.create_task(_aconsume(play, handler)) for _ in range(flow.consumers)]
        await asyncio.gather(*(_aproduce(play, handler, first) for first in range(flow.producers)))
        if flow.ending == "results":
            handler.close_input()
        await asyncio.gather(*consumers)


async def _aproduce(play: Play, handler: Handler[Any], first: int) -> None:
    for item in play.items_of(first):
        try:
            play.note_added(await handler.aadd(item), item)
        except PoolClosed:
            play.note_refused()
            return
        await asyncio.sleep(play.flow.gap / 1000)


async def _aconsume(play: Play, handler: Handler[Any]) -> None:
    results = handler.results()
    while True:
        if play.is_to_end():
            _end(play, handler)
            if play.flow.ending == "drain":
                play.note_taking(len(play.flow.items))
                for left in await handler.adrain():
                    play.note(left)
        play.note_taking()
        outcome = await anext(results, None)
        if outcome is None:
            return
        play.note(outcome)
        await asyncio.sleep(play.flow.pause / 1000)

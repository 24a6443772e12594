"""A storm of the pool as plain data: what each item does, what happens to the workers, and how the pool is set up.

It goes to JSON and back, so that one that failed can be played again; knows nothing of manyhands.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Literal

EXIT_STATUS: Final = 7

VALUES: Final = ("quick", "boxed", "big", "slow", "busy", "hold")
"""Items that return: a number, a list, many bytes; after a sleep, work of the processor, a sleep that keeps the GIL."""

FAILURES: Final = ("raise", "leave", "interrupt", "unpicklable", "unloadable")
"""Items that fail, and their worker lives on: ``leave`` calls sys.exit."""

SUICIDES: Final = {"exit": EXIT_STATUS, "kill": -9, "segv": -11}
"""Items that end their worker, and how."""

ENDLESS: Final = ("hang", "stall")
"""Items that don't end by themselves; ``stall`` keeps the GIL."""

Does = Literal[
    "quick", "boxed", "big", "slow", "busy", "hold", "raise", "leave", "interrupt", "unpicklable", "unloadable",
    "exit", "kill", "segv", "hang", "stall",
]  # fmt: skip


@dataclass(frozen=True)
class Step:
    """Some items in a row that do the same, each after ``ms`` milliseconds."""

    does: Does
    times: int = 1
    ms: int = 0


@dataclass(frozen=True)
class Pause:
    """The consumer does nothing for ``ms`` milliseconds once it has got ``after`` outcomes."""

    after: int
    ms: int


@dataclass(frozen=True)
class Ask:
    """The future of an item is to be killed or cancelled, so many milliseconds after all were submitted."""

    index: int
    what: Literal["kill", "cancel"]
    ms: int


@dataclass(frozen=True)
class Map:
    """One map, or as many submitted calls.

    Attributes:
        steps: the items, in order.
        submits: calls are submitted one by one. Then ``asks`` and ``calls_back`` (whether callbacks are added to the
            futures) count, and of the options only ``timeout`` and ``ordered``: whether each is waited for in turn,
            or all of them before.
        chunksize, ordered, buffersize: as in ``@parallel``.
        source: whether the input is a list, or a generator that notes how far it was drawn.
        take: it is closed after so many outcomes; None: it is used up.
        timeout: milliseconds; None: none.
        attempts: of the retries after WorkerDied and TaskTimeout; 1: none.
        cargo: bytes that each item brings along, which its worker looks at and then overwrites; 0: none.
    """

    steps: tuple[Step, ...]
    submits: bool = False
    chunksize: int | Literal["auto"] = "auto"
    ordered: bool = True
    buffersize: int | None = None
    source: Literal["list", "generator"] = "list"
    take: int | None = None
    timeout: int | None = None
    attempts: int = 1
    cargo: int = 0
    pauses: tuple[Pause, ...] = ()
    asks: tuple[Ask, ...] = ()
    calls_back: bool = False

    @cached_property
    def items(self) -> list[Step]:
        """What each item does, by its index."""
        return [step for step in self.steps for _ in range(step.times)]


@dataclass(frozen=True)
class Event:
    """Something that happens to a worker, from outside.

    Attributes:
        begun: it happens once so many calls were begun,
        wait: and so many milliseconds after that.
        deed: SIGKILL; or SIGSTOP, and SIGCONT ``ms`` milliseconds later.
        pick: which of the living workers it hits, modulo their number,
        busy: of those that are at an item, if there are any.
    """

    begun: int
    wait: int
    deed: Literal["kill", "stop"]
    pick: int = 0
    busy: bool = True
    ms: int = 0


@dataclass(frozen=True)
class Schedule:
    """Maps, one after the other, on one pool, and what happens meanwhile.

    Attributes:
        own: whether the pool is a ``Controller`` or the one that maps share.
    """

    maps: tuple[Map, ...]
    events: tuple[Event, ...] = ()
    workers: int = 1
    threads: int = 1
    start_method: Literal["forkserver", "fork", "spawn"] = "forkserver"
    max_tasks: int | None = None
    own: bool = True

    @cached_property
    def offsets(self) -> list[int]:
        """The number of each map's first item, if all items are counted through; and of the one after the last."""
        numbers = [0]
        for one in self.maps:
            numbers.append(numbers[-1] + len(one.items))
        return numbers

    def places(self) -> Iterator[tuple[int, int]]:
        """Map and index of each item."""
        return ((number, index) for number, one in enumerate(self.maps) for index in range(len(one.items)))

    def dumps(self) -> str:
        """As one line of JSON, without what is as it is by default."""
        return json.dumps(plain(self))


def loads(text: str) -> Schedule:
    """The schedule again."""
    told = json.loads(text)
    maps = tuple(
        Map(
            **{
                **one,
                "steps": _made(Step, one["steps"]),
                "pauses": _made(Pause, one.get("pauses", ())),
                "asks": _made(Ask, one.get("asks", ())),
            }
        )
        for one in told["maps"]
    )
    return Schedule(**{**told, "maps": maps, "events": _made(Event, told.get("events", ()))})


def _made(kind: Any, told: Iterable[dict[str, Any]]) -> tuple[Any, ...]:
    return tuple(kind(**one) for one in told)


def plain(value: Any) -> Any:
    """A schedule, or a part of it, as JSON can say it, without what is as it is by default."""
    if isinstance(value, tuple):
        return [plain(one) for one in value]
    if not dataclasses.is_dataclass(value):
        return value
    pairs = ((field, getattr(value, field.name)) for field in dataclasses.fields(value))
    return {field.name: plain(kept) for field, kept in pairs if kept != field.default}

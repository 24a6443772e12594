"""A storm of handlers as plain data: what items do, what is said of their failures, who adds and takes.

It goes to JSON and back, so that one that failed can be played again; knows nothing of manyhands.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final, Literal

from schedule import Event, plain

RAISED: Final = {"trouble": "Trouble", "worse": "Worse", "broken": "Broken", "offline": "ConnectionError"}
"""Deeds that raise, and what."""

LETHAL: Final = ("exit", "kill")
"""Deeds that end their worker, with the statuses that ``schedule.SUICIDES`` has."""

Deed = Literal["return", "invalid", "trouble", "worse", "broken", "offline", "exit", "kill", "overtime"]

Answer = Literal[
    "retry", "retry other", "retry later", "give up", "give up other", "replace", "raise", "nonsense"
]

LATER: Final = 40
"""Milliseconds that "retry later" asks for, whatever the budget's wait is."""


@dataclass(frozen=True)
class Plan:
    """Some items in a row that are alike, but that each begins with the next of its deeds and answers, in turn.

    Attributes:
        does: what each beginning of the function does, in turn; those after them return.
        answers: what ``handle_error`` says to the item's failures, by their number; to those after them it gives up.
        refused: the arguments that are not kept: 0 those that were added, 1 those of the first "retry other", ...
        ms: how long each attempt takes.
    """

    does: tuple[Deed, ...] = ()
    answers: tuple[Answer, ...] = ()
    refused: int | None = None
    ms: int = 0
    times: int = 1

    def deed(self, number: int) -> Deed:
        """What the beginning with this number does, from 0."""
        return self.does[number] if number < len(self.does) else "return"

    def answer(self, attempt: int) -> Answer:
        """What is said to the failure of the attempt with this number, from 1."""
        return self.answers[attempt - 1] if attempt <= len(self.answers) else "give up"

    def turned(self, by: int) -> Plan:
        """The plan of one of them."""
        deeds, answers = by % max(1, len(self.does)), by % max(1, len(self.answers))
        return replace(
            self,
            does=self.does[deeds:] + self.does[:deeds],
            answers=self.answers[answers:] + self.answers[:answers],
            times=1,
        )


@dataclass(frozen=True)
class Budget:
    """One ``@retry_on``, or what a ``Handler`` has itself.

    Attributes:
        names: of exceptions; "is_broken" is a predicate that is true of Broken. A handler's own has none.
        attempts: None, if ``asks``: any number.
        wait: milliseconds.
        asks: whether there is a ``handle_error``.
    """

    names: tuple[str, ...] = ()
    attempts: int | None = 3
    wait: int = 0
    asks: bool = False


@dataclass(frozen=True)
class Flow:
    """One handler, or one map, or as many submitted calls.

    Attributes:
        invalid: what becomes of items that predicates don't keep; None: there are none.
        checked_by: whether the function is ``@validated`` or, of a handler, the handler does it.
        own: the ``handle_error`` of the handler with its bounds.
        producers, gap: how many threads add to the handler, with so many milliseconds between two items of each.
        consumers, pause: likewise, of those who take.
        is_async: these are no threads, but tasks of an event loop.
        ending: once ``after`` outcomes were taken the handler's input is closed, it is drained or cancelled, with or
            without an end of what runs; "results": it is closed when all was added.
        ordered, buffersize, chunksize: as in ``@parallel``.
        timeout: milliseconds.
    """

    plans: tuple[Plan, ...]
    how: Literal["handler", "map", "submit"] = "handler"
    invalid: Literal["discard", "raise"] | None = None
    checked_by: Literal["function", "handler"] = "function"
    budgets: tuple[Budget, ...] = ()
    own: Budget | None = None
    producers: int = 1
    gap: int = 0
    consumers: int = 1
    pause: int = 0
    is_async: bool = False
    ending: Literal["results", "close", "drain", "cancel", "kill"] = "results"
    after: int = 0
    ordered: bool = False
    buffersize: int | None = None
    chunksize: int | Literal["auto"] = "auto"
    timeout: int | None = None

    @cached_property
    def items(self) -> list[Plan]:
        """The plan of each item, by its number."""
        return [plan.turned(by) for plan in self.plans for by in range(plan.times)]


@dataclass(frozen=True)
class Storm:
    """Flows, all at the same time, and what happens to workers meanwhile.

    Attributes:
        own: whether the pool is a ``Controller`` or the one that maps share.
    """

    flows: tuple[Flow, ...]
    events: tuple[Event, ...] = ()
    workers: int = 1
    threads: int = 1
    backend: Literal["processes", "threads", "inline"] = "processes"
    start_method: Literal["forkserver", "spawn"] = "forkserver"
    own: bool = True

    @cached_property
    def offsets(self) -> list[int]:
        """The number of each flow's first item, if all items are counted through; and of the one after the last."""
        numbers = [0]
        for flow in self.flows:
            numbers.append(numbers[-1] + len(flow.items))
        return numbers

    def dumps(self) -> str:
        """As one line of JSON, without what is as it is by default."""
        return json.dumps(plain(self))


def loads(text: str) -> Storm:
    """The storm again."""
    told = json.loads(text)
    return Storm(
        **{**told, "flows": tuple(map(_flow, told["flows"])), "events": _made(Event, told.get("events", ()))}
    )


def _flow(told: dict[str, Any]) -> Flow:
    own = told.get("own")
    return Flow(
        **{
            **told,
            "plans": _made(Plan, told["plans"]),
            "budgets": _made(Budget, told.get("budgets", ())),
            "own": None if own is None else _made(Budget, (own,))[0],
        }
    )


def _made(kind: Any, told: Iterable[dict[str, Any]]) -> tuple[Any, ...]:
    return tuple(
        kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in one.items()})
        for one in told
    )

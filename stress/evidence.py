"""What is known of a schedule that was played, and what is found wrong with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from schedule import ENDLESS, SUICIDES, Map, Schedule, Step

if TYPE_CHECKING:
    from spans import Place, Span, Spans

KINDS: Final = ("lost", "doubled", "misblamed", "invented", "broken promises")

_LOOKED_AT: Final = ("items", "values", "failures", "deaths", "timeouts", "cancelled", "run again")

Told = dict[str, Any]


class Verdict:
    """What was found.

    Attributes:
        problems: what does not hold, in words.
        figures: how much was looked at, and how many problems of each kind there are.
    """

    def __init__(self) -> None:
        self.problems: list[str] = []
        self.figures: Counter[str] = Counter(dict.fromkeys((*_LOOKED_AT, *KINDS), 0))

    def wrong(self, kind: str, problem: str) -> None:
        """Notes a violation."""
        self.figures[kind] += 1
        self.problems.append(f"{kind}: {problem}")


def deaths(outcome: Told) -> list[tuple[str, int]]:
    """The attempts of an item that ended with their workers: how, and which worker."""
    return [(name, pid) for name, pid in outcome.get("attempts", ()) if name in ("WorkerDied", "TaskTimeout")]


@dataclass
class Evidence:
    """What is known, and what follows from it: above all, what may have ended a worker.

    Attributes:
        maps: what the process says of each map.
        killed, stopped: the process ids of the workers to which that was done from outside.
        lag: for how many seconds the machine may have kept any process waiting at one time, at most.
        waited: for how long it kept the process with this id waiting within the last so many seconds of its life.
        asked: the items whose futures were asked to be cancelled or killed; to_kill: the latter.
    """

    schedule: Schedule
    maps: list[Told]
    spans: Spans
    killed: set[int]
    stopped: set[int]
    lag: float
    waited: Callable[[int, float], float]
    asked: set[Place] = field(init=False, default_factory=set)
    to_kill: set[Place] = field(init=False, default_factory=set)
    _on_account: set[int] = field(init=False, default_factory=set)  # ended on request, or for a timeout

    def __post_init__(self) -> None:
        for told in self.maps:
            killed = {(told["map"], index) for index in told["killed"]}
            self.to_kill |= killed
            self.asked |= killed | {(told["map"], index) for index in told["cancelled"]}
            for place in killed:
                self._on_account |= {span.pid for span in self.spans.of_item.get(place, [])}
            for outcome in told["outcomes"]:
                for name, pid in deaths(outcome):
                    if name == "TaskTimeout" or (told["map"], outcome["index"]) in killed:
                        self._on_account.add(pid)

    def map_of(self, place: Place) -> Map:
        """The map of an item."""
        return self.schedule.maps[place[0]]

    def step(self, place: Place) -> Step:
        """What an item does."""
        return self.map_of(place).items[place[1]]

    def words(self, place: Place) -> str:
        """An item, for a message."""
        step = self.step(place)
        return f"item {place[1]} of map {place[0]} ({step.does}, {step.ms} ms)"

    def is_watched(self, place: Place) -> bool:
        """Whether somebody waited for the item to the end."""
        return self.map_of(place).take is None

    def ended_for_one(self, pid: int) -> bool:
        """Whether the worker may have been ended on account of one item, so that others were in it by chance.

        That item may have been answered all the same, in the last moment.
        """
        return pid in self._on_account or any(
            self.map_of(span.place).timeout is not None
            and (pid in self.stopped or self.step(span.place).does in ENDLESS)
            for span in self.spans.of_worker.get(pid, [])
        )

    def had_cause_to_end(self, pid: int) -> bool:
        """Whether anything may have ended the worker before its time."""
        return (
            pid in self.killed
            or self.ended_for_one(pid)
            or any(self.step(span.place).does in SUICIDES for span in self.spans.open(pid))
        )

    def watched(self, pid: int) -> list[Span]:
        """What a worker was at when it ended, and somebody waited for."""
        return [span for span in self.spans.open(pid) if self.is_watched(span.place)]

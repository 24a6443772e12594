"""What is known of a storm of handlers that was played: all beginnings, and what may have ended workers."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from handler_schedule import LETHAL, Deed, Flow, Plan, Storm
from handler_tasks import noted

if TYPE_CHECKING:
    from tasks import Entry

Told = dict[str, Any]
Place = tuple[int, int]
"""Flow and number of an item."""


@dataclass
class Begin:
    """One beginning of the function.

    Attributes:
        deed: what it does.
        variant: of the arguments.
        line, last: of the journal, that tell its begin and its end; ``last`` is inf without an end.
        at, ended: when, in seconds; ``ended`` is inf without an end.
    """

    place: Place
    deed: Deed
    count: int
    variant: int
    pid: int
    line: int
    at: float
    last: float = math.inf
    ended: float = math.inf

    def overlaps(self, other: Begin) -> bool:
        """Whether both ran at the same time, for some of it."""
        return self.line < other.last and other.line < self.last


@dataclass
class Evidence:
    """What is known.

    Attributes:
        told: what the process says of each flow.
        killed: the process ids of the workers that were killed from outside.
        lag, waited: how long the machine may have kept any process, and that one, waiting; see the storm of the pool.
    """

    storm: Storm
    told: list[Told]
    entries: Iterable[Entry]
    killed: set[int]
    lag: float
    waited: Callable[[int, float], float]
    of_item: dict[Place, list[Begin]] = field(init=False, default_factory=lambda: defaultdict(list))
    of_worker: dict[int, list[Begin]] = field(init=False, default_factory=lambda: defaultdict(list))
    twice: list[Place] = field(init=False, default_factory=list)
    _late: set[int] = field(init=False, default_factory=set)

    def __post_init__(self) -> None:
        for line, entry in enumerate(self.entries):
            number, count, variant = noted(entry.item)
            place = entry.scope, number
            if entry.kind == "b":
                deed = self.plan(place).deed(count)
                begin = Begin(place, deed, count, variant, entry.pid, line, entry.at)
                self.of_item[place].append(begin)
                self.of_worker[entry.pid].append(begin)
            elif entry.kind == "twice":
                self.twice.append(place)
            else:
                begin = next(one for one in reversed(self.of_item[place]) if one.pid == entry.pid)
                begin.last, begin.ended = line, entry.at
        for told in self.told:
            for outcome in told["outcomes"]:
                self._late |= {pid for name, _, pid in outcome.get("attempts", ()) if name == "TaskTimeout"}
                if outcome.get("error") == "TaskTimeout":
                    self._late.add(outcome["pid"])

    def flow(self, place: Place) -> Flow:
        """The flow of an item."""
        return self.storm.flows[place[0]]

    def plan(self, place: Place) -> Plan:
        """What is planned for an item."""
        return self.flow(place).items[place[1]]

    def ended_otherwise(self, begin: Begin) -> bool:
        """Whether the worker may have ended by something that is known not to be this: then the item runs again."""
        others = [other for other in self.of_worker[begin.pid] if other is not begin]
        if begin.last == math.inf:
            return self._killed_by_flow(begin.pid) or (
                begin.deed not in LETHAL and begin.pid in self._late and any(map(begin.overlaps, others))
            )
        # It was ended, and that not told yet.
        if begin.pid in self.killed or begin.pid in self._late or self._killed_by_flow(begin.pid):
            return True
        return any(other.deed in (*LETHAL, "overtime") and other.last > begin.last for other in others)

    def is_suspect(self, begin: Begin) -> bool:
        """Whether nobody may know that it is this that has ended the worker: then the item runs again, alone."""
        return self.storm.threads > 1 and begin.last == math.inf

    def ran_alone(self, begin: Begin) -> bool:
        """Whether nothing else was in the worker."""
        return not any(other is not begin and begin.overlaps(other) for other in self.of_worker[begin.pid])

    def _killed_by_flow(self, pid: int) -> bool:
        """Whether a flow that was cancelled with an end of what runs had anything in the worker."""
        return any(self.storm.flows[begin.place[0]].ending == "kill" for begin in self.of_worker[pid])

    def crowd(self, pid: int) -> int:
        """How many items the worker was at, at the same time."""
        begins = self.of_worker[pid]
        return max(
            1 + sum(other.line < begin.line < other.last for other in begins if other is not begin)
            for begin in begins
        )

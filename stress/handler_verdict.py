"""Judges how a storm of handlers was played: each item (see ``handler_model``), then what they have in common."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from handler_model import Course

if TYPE_CHECKING:
    from handler_evidence import Evidence, Told
    from handler_schedule import Flow

KINDS: Final = ("lost", "doubled", "misjudged", "broken promises")

_LOOKED_AT: Final = (
    "items", "attempts", "retries", "deaths", "timeouts", "values", "replaced", "discarded", "failures", "cancelled",
)  # fmt: skip


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


def judge(evidence: Evidence) -> Verdict:
    """All rules over all flows."""
    verdict = Verdict()
    if (flows := [told["flow"] for told in evidence.told]) != list(range(len(evidence.storm.flows))):
        verdict.wrong("lost", f"only the flows {flows} have told anything")
    for told in evidence.told:
        _Flows(evidence, verdict, told).check()
    for place in evidence.twice:
        verdict.wrong("doubled", f"item {place[1]} of flow {place[0]} was begun while it was running")
    if evidence.storm.backend == "processes":
        for pid in list(evidence.of_worker):
            if (crowd := evidence.crowd(pid)) > evidence.storm.threads:
                verdict.wrong("broken promises", f"{pid} was at {crowd} items at the same time")
    return verdict


class _Flows:
    """One flow."""

    def __init__(self, evidence: Evidence, verdict: Verdict, told: Told) -> None:
        self._evidence = evidence
        self._wrong = verdict.wrong
        self._figures = verdict.figures
        self._told = told
        self._number: int = told["flow"]
        self._flow: Flow = evidence.storm.flows[self._number]

    def check(self) -> None:
        """Every item that was added has one outcome, the right one; nothing else has one, or was begun."""
        added = dict(self._told["added"])
        indices = [outcome["index"] for outcome in self._told["outcomes"]]
        if sorted(added) != list(range(len(added))) or len(added) != len(self._told["added"]):
            self._wrong("doubled", f"flow {self._number} has the indices {sorted(added)}")
        for index, times in Counter(indices).items():
            if times > 1:
                self._wrong("doubled", f"index {index} of flow {self._number} has {times} outcomes")
        if missing := sorted(set(added) - set(indices)):
            self._wrong("lost", f"flow {self._number} has no outcomes for the indices {missing}")
        for scope, number in self._evidence.of_item:
            if scope == self._number and number not in added.values():
                self._wrong("doubled", f"item {number} of flow {scope} was begun, but not added")
        self._check_promises(indices)
        for outcome in self._told["outcomes"]:
            self._check_outcome(outcome, added.get(outcome["index"]))

    def _check_promises(self, indices: list[int]) -> None:
        told, flow, name = self._told, self._flow, f"flow {self._number}"
        if flow.ordered and flow.consumers == 1 and indices != sorted(indices):
            self._wrong("broken promises", f"{name} is out of order: {indices}")
        if flow.how == "handler" and flow.buffersize is not None and told["ahead"] > flow.buffersize:
            self._wrong(
                "broken promises", f"{name} took in {told['ahead']} items, with a buffer of {flow.buffersize}"
            )
        if told["refused"] and flow.ending == "results":
            self._wrong("lost", f"{name} took no more items before its input was closed")
        if told.get("late") or told.get("pending") or told.get("late add") is not None:
            self._wrong("broken promises", f"{name} was over, and then: {told}")
        if "counts" in told:
            right = [
                sum(word in outcome for outcome in told["outcomes"]) for word in ("value", "error", "discarded")
            ]
            if told["counts"] != [*right, 0]:
                self._wrong("misjudged", f"{name} counts {told['counts']}, and came to {right}")

    def _check_outcome(self, outcome: Told, number: int | None) -> None:
        name = f"item {number} of flow {self._number}"
        self._count(outcome)
        if number is None or outcome["item"] != [self._number, number, 0]:
            self._wrong("misjudged", f"{name}: index {outcome['index']} has {outcome['item']}")
            return
        place = self._number, number
        course = Course(self._evidence, place, outcome, self._told)
        begins = self._evidence.of_item.get(place, [])
        if course.is_right():
            self._figures["retries"] += course.retries
        else:
            known = [(one.deed, one.pid, round(one.at, 3), one.last < 1e9) for one in begins]
            plan = self._evidence.plan(place)
            self._wrong("misjudged", f"{name} {course.reason}: {plan}, begun {known}, came to {outcome}")
        if begins and begins[-1].at > outcome["at"]:
            self._wrong("doubled", f"{name} was begun after its outcome was told: {outcome}")
        moment = self._told.get("was cancelled")
        slack = 0.5 + 2 * self._evidence.lag  # a thread does it
        if moment is not None and begins and begins[0].at > moment + slack:
            self._wrong(
                "broken promises", f"{name} was begun {begins[0].at - moment:.3f} s after all were cancelled"
            )

    def _count(self, outcome: Told) -> None:
        figures, attempts = self._figures, [one[0] for one in outcome.get("attempts", ())]
        figures["items"] += 1
        figures["attempts"] += len(attempts)
        figures["deaths"] += attempts.count("WorkerDied")
        figures["timeouts"] += attempts.count("TaskTimeout")
        if "value" in outcome:
            figures["replaced" if outcome["value"][0] == "replaced" else "values"] += 1
        elif "discarded" in outcome:
            figures["discarded"] += 1
        else:
            figures["cancelled" if outcome["error"] == "CancelledError" else "failures"] += 1

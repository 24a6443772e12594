"""Who is to blame for the end of a worker, and what may run again after it."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Final

from evidence import Evidence, Told, Verdict, deaths
from schedule import ENDLESS, SUICIDES

if TYPE_CHECKING:
    from spans import Place, Span

SLACK_SECONDS: Final = 0.15
"""By so much an item may take longer than planned, beside what the machine kept everybody waiting."""


class Blame:
    """Judges the ends of workers."""

    def __init__(self, evidence: Evidence, verdict: Verdict, outcomes: dict[Place, Told]) -> None:
        self._evidence = evidence
        self._spans = evidence.spans
        self._schedule = evidence.schedule
        self._words = evidence.words
        self._wrong = verdict.wrong
        self._figures = verdict.figures
        self._outcomes = outcomes
        self._blamed: dict[int, list[tuple[str, Place]]] = defaultdict(list)

    def check_death(self, place: Place, pid: int) -> None:
        """A worker's death is put down to what ended it, or was alone in it when it was ended."""
        words = f"{self._words(place)} is blamed for the end of {pid}"
        span = self._spans.find(place, pid)
        others = [self._words(other.place) for other in self._evidence.watched(pid) if other.place != place]
        self._check_alone(place, pid, "WorkerDied")
        if place in self._evidence.to_kill:
            return
        suicide = self._evidence.step(place).does in SUICIDES and span is not None and span.is_open
        if not suicide and pid not in self._evidence.killed:
            self._wrong("misblamed", f"{words}, which it did not end, nor anything outside; {others}")
        elif others:
            self._wrong("misblamed", f"{words}, which was at {others} too")
        elif span is None or not span.is_open:
            # It died between two items: in the moment before it could note the next begin, or after an end.
            later = [
                other for other in self._spans.of_worker.get(pid, []) if span and other.number > span.number
            ]
            self._figures["blamed between items"] += 1
            if later and self._schedule.threads == 1:
                self._wrong("misblamed", f"{words}, which had begun {len(later)} others since")

    def _check_alone(self, place: Place, pid: int, how: str) -> None:
        """One item is to blame for an end; only of those whose time is over, or that are killed, there may be more."""
        for name, other in self._blamed[pid]:
            if name != how or (how == "WorkerDied" and not {place, other} <= self._evidence.to_kill):
                words = f"the end of {pid} is put down to {self._words(other)} by a {name}"
                self._wrong("misblamed", f"{words}, and to {self._words(place)} by a {how}")
        self._blamed[pid].append((how, place))

    def check_ending(self, place: Place, outcome: Told) -> None:
        """The error says how the worker ended."""
        if outcome["error"] != "WorkerDied":
            return
        pid, code = outcome["pid"], outcome["exitcode"]
        right = (
            (place in self._evidence.to_kill and code is None)
            or (pid in self._evidence.killed and code == -9)
            or code == SUICIDES.get(self._evidence.step(place).does, 0)
        )
        if not right:
            self._wrong("misblamed", f"{self._words(place)} says how its worker ended, but not so: {outcome}")

    def check_timeout(self, place: Place, pid: int) -> None:
        """Only an item that runs for too long is over its time, and not before it is."""
        step, limit = self._evidence.step(place), self._evidence.map_of(place).timeout
        words = f"{self._words(place)} was over its time of {limit} ms in {pid}"
        span = self._spans.find(place, pid)
        outcome = self._outcomes[place]
        self._check_alone(place, pid, "TaskTimeout")
        if limit is None:
            self._wrong("misblamed", f"{words}, and had none")
            return
        if pid in self._evidence.stopped or self._waits_for_the_gil(place, pid):
            return
        seconds = limit / 1000
        waited = self._evidence.waited(pid, seconds)
        lag = 2 * self._evidence.lag + waited + SLACK_SECONDS
        kept = f"(lag {self._evidence.lag:.3f} s, no processor for {waited:.3f} s)"
        if span is None:
            if lag < seconds:  # else the machine kept it from its first step
                self._wrong("misblamed", f"{words}, where it never ran {kept}")
        elif outcome.get("pid") == pid and outcome["at"] - span.begun < seconds - lag:
            self._wrong("misblamed", f"{words}, {outcome['at'] - span.begun:.3f} s after its begin {kept}")
        elif not span.is_open and span.ended - span.begun < seconds - lag:
            self._wrong("misblamed", f"{words}, where it ended after {span.ended - span.begun:.3f} s")
        elif step.does not in ENDLESS and step.ms / 1000 + lag < seconds:
            self._wrong("misblamed", f"{words}; nothing kept it for so long {kept}")

    def _waits_for_the_gil(self, place: Place, pid: int) -> bool:
        """Whether something else in the worker may have kept the item from running, or even from its first step."""
        spans = self._spans.of_worker.get(pid, [])
        others = {self._evidence.step(span.place).does for span in spans if span.place != place}
        return self._schedule.threads > 1 and not others.isdisjoint({"stall", "hold"})

    def check_workers(self) -> None:
        """Each is at so many items as it has threads; what it was at when it ended is told of that, or run alone."""
        threads, most = self._schedule.threads, self._schedule.max_tasks
        for pid, spans in self._spans.of_worker.items():
            if most is not None and len(spans) > most:
                self._wrong("broken promises", f"{pid} began {len(spans)} calls, and {most} are allowed")
            crowd = max((1 + sum(o.number < s.number < o.last for o in spans) for s in spans), default=0)
            if crowd > threads:
                self._wrong("broken promises", f"{pid} was at {crowd} items at the same time")
            if not self._evidence.ended_for_one(pid):
                self._check_open(pid, self._spans.open(pid))

    def _check_open(self, pid: int, spans: list[Span]) -> None:
        """A worker ended in the middle of these: one of them is told of that, or each runs again, alone."""
        for span in spans:
            if not self._evidence.is_watched(span.place):
                continue
            outcome = self._outcomes.get(span.place, {})
            words = f"{pid} ended while it was at {self._words(span.place)}"
            if pid in {worker for _, worker in deaths(outcome)} or outcome.get("cancelled"):
                continue
            if self._schedule.threads == 1:
                self._wrong("misblamed", f"{words}, which came to {outcome}")
            elif (again := self._spans.after(span)) is None:
                if any(worker in self._evidence.killed for _, worker in deaths(outcome)):
                    continue  # its next worker was killed from outside before its first step there
                self._wrong("lost", f"{words}, and it did not run again, but came to {outcome}")
            elif beside := [self._words(other.place) for other in self._spans.beside(again)]:
                self._wrong("misblamed", f"{words} and others, and it ran again beside {beside}")

    def check_starts(self, place: Place) -> None:
        """An item is begun again only when its worker has ended and nobody was told what it came to, and if need be."""
        if place in self._spans.twice:
            self._wrong(
                "doubled", f"{self._words(place)} was begun while the worker that had begun it was alive"
            )
        outcome, spans = self._outcomes.get(place, {}), self._spans.of_item.get(place, [])
        if spans and spans[-1].begun > outcome.get("at", spans[-1].begun):
            self._wrong("doubled", f"{self._words(place)} was begun after its outcome was told: {outcome}")
        blamed = {pid for _, pid in deaths(outcome)}
        for span in spans[:-1]:
            self._figures["run again"] += 1
            if not self._evidence.had_cause_to_end(span.pid):
                self._wrong(
                    "doubled", f"{self._words(place)} ran in {span.pid}, which lived on, and then again"
                )
            elif span.pid not in blamed and self._comes_alone(place) and self._schedule.threads == 1:
                # (Other threads may take their turns before this one comes to send what it has.)
                since = sum(other.number > span.last for other in self._spans.of_worker[span.pid])
                if since:
                    words = f"{self._words(place)} ran in {span.pid}, which began {since} others since"
                    self._wrong("doubled", f"{words}, and then again")

    def _comes_alone(self, place: Place) -> bool:
        """Whether an item is answered before its worker gets another."""
        one = self._evidence.map_of(place)
        return one.chunksize == 1 and not one.submits

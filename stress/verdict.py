"""Judges how a schedule was played: by what its process was told, the journal, and what was done from outside.

A worker's end has causes, all of which are known here: a kill from outside or on request, a timeout, an item that
ends it. Of every item it is known in which workers it was begun and ended. The rest follows.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from blame import Blame
from evidence import Evidence, Told, Verdict, deaths
from schedule import VALUES

if TYPE_CHECKING:
    from spans import Place


def judge(evidence: Evidence) -> Verdict:
    """All rules over all maps."""
    verdict = Verdict()
    judge = _Judge(evidence, verdict)
    for told in evidence.maps:
        judge.check_map(told)
    judge.blame.check_workers()
    for place in evidence.schedule.places():
        judge.blame.check_starts(place)
    return verdict


class _Judge:
    def __init__(self, evidence: Evidence, verdict: Verdict) -> None:
        self._evidence = evidence
        self._words = evidence.words
        self._wrong = verdict.wrong
        self._figures = verdict.figures
        self._outcomes: dict[Place, Told] = {}
        self.blame = Blame(evidence, verdict, self._outcomes)

    def check_map(self, told: Told) -> None:
        """One outcome for each item, the right one, in order; none after the end; no item drawn too early."""
        scope = told["map"]
        one = self._evidence.schedule.maps[scope]
        indices = [outcome["index"] for outcome in told["outcomes"]]
        counts = Counter(indices)
        expected = len(one.items) if one.take is None else one.take
        for index, times in counts.items():
            if times > 1:
                self._wrong("doubled", f"item {index} of map {scope} has {times} outcomes")
            if not 0 <= index < len(one.items):
                self._wrong("invented", f"map {scope} has an outcome for an item {index}, which it never had")
        if len(counts) < expected:
            missing = [index for index in range(len(one.items)) if index not in counts]
            self._wrong("lost", f"map {scope} has {len(counts)} outcomes of {expected}, none for {missing[:9]}")
        if one.ordered and not one.submits and indices != sorted(indices):
            self._wrong("broken promises", f"map {scope} is out of order: {indices[:50]}")
        if told["late"]:
            self._wrong("invented", f"map {scope} was over, and then came {told['late'][:3]}")
        if one.buffersize is not None and told["ahead"] > one.buffersize:
            self._wrong(
                "broken promises",
                f"map {scope} drew {told['ahead']} items ahead, with a buffer of {one.buffersize}",
            )
        if one.calls_back and set(told["called"]) != {1}:
            self._wrong("doubled", f"the callbacks of map {scope} were called {told['called']} times")
        for outcome in told["outcomes"]:
            if outcome["index"] < len(one.items):
                self._check_outcome((scope, outcome["index"]), outcome)

    def _check_outcome(self, place: Place, outcome: Told) -> None:
        self._figures["items"] += 1
        self._outcomes[place] = outcome
        if outcome.get("item") != place[1]:
            self._wrong("invented", f"{self._words(place)} came to {outcome}")
            return
        if outcome.get("cancelled"):
            self._check_cancelled(place)
            return
        ends = deaths(outcome)
        attempts = self._evidence.map_of(place).attempts
        for name, pid in ends:
            if name == "WorkerDied":
                self._figures["deaths"] += 1
                self.blame.check_death(place, pid)
            else:
                self._figures["timeouts"] += 1
                self.blame.check_timeout(place, pid)
        final = outcome.get("error")
        if final in ("WorkerDied", "TaskTimeout"):
            self._figures["failures"] += 1
            if len(ends) != attempts or ends[-1] != (final, outcome["pid"]):
                self._wrong("misblamed", f"{self._words(place)} gave up, of {attempts} attempts: {outcome}")
            self.blame.check_ending(place, outcome)
        else:
            self._check_answer(place, outcome)
            if len(ends) >= attempts:
                self._wrong("misblamed", f"{self._words(place)} went on, of {attempts} attempts: {outcome}")

    def _check_cancelled(self, place: Place) -> None:
        self._figures["cancelled"] += 1
        spans = self._evidence.spans.of_item.get(place, [])
        if place not in self._evidence.asked:
            self._wrong("lost", f"{self._words(place)} was cancelled, which nobody asked for")
        if spans and not self._evidence.had_cause_to_end(spans[-1].pid):
            self._wrong("invented", f"{self._words(place)} was cancelled, and yet ran in {spans[-1].pid}")

    def _check_answer(self, place: Place, outcome: Told) -> None:
        """An item that was answered has the value or the failure that was planned for it."""
        does, index = self._evidence.step(place).does, place[1]
        error = outcome.get("error"), outcome.get("text")
        notes = " ".join(outcome.get("notes", ()))
        self._figures["failures" if "error" in outcome else "values"] += 1
        match does:
            case "raise":
                right = error == ("Boom", f"item {index}")
            case "leave":
                right = error == ("RemoteError", f"SystemExit: item {index}")
            case "interrupt":
                right = error == ("RemoteError", f"KeyboardInterrupt: item {index}")
            case "unpicklable":
                right = error[0] == "TypeError" and "can't be sent back" in notes
            case "unloadable":
                right = error[0] == "Boom" and "can't be unpickled" in str(error[1])
            case _:
                right = does in VALUES and outcome.get("value") is True
        if not right:
            self._wrong("invented", f"{self._words(place)} came to {outcome}")
        if place not in self._evidence.spans.of_item:
            self._wrong("invented", f"{self._words(place)} never ran, and came to {outcome}")

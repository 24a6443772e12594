"""What an item of a storm of handlers may come to, by what the guide promises; knows nothing of manyhands.

The worker's notes say how often an item's function was begun, and each time did what was planned. From the first
beginning to the last this goes every way that is allowed. If none leads to what was told, something is wrong.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import handler_tasks
from handler_schedule import LATER, LETHAL, RAISED, Budget
from schedule import SUICIDES

if TYPE_CHECKING:
    from handler_evidence import Begin, Evidence, Place, Told

SLACK_SECONDS: Final = 0.15
"""By so much an item may run before its first note, or more slowly than planned, beside what the machine is late."""

KINDS: Final = {
    "Trouble": ("Trouble", "Exception"),
    "Worse": ("Worse", "Trouble", "Exception"),
    "Broken": ("Broken", "Exception"),
    "ConnectionError": ("ConnectionError", "OSError", "Exception"),
    "InvalidResult": ("InvalidResult", "Exception"),
    "WorkerDied": ("WorkerDied", "Exception"),
    "TaskTimeout": ("TaskTimeout", "OSError", "Exception"),
}
"""Each failure with its bases, the most specific first."""


@dataclass(frozen=True)
class _At:
    """Where an item stands: its next beginning, failures so far in all and by budget, questions, arguments, its wait.

    Attributes:
        is_suspect: whether it may have ended a worker, and so is to run alone.
    """

    begun: int = 0
    failed: int = 0
    asked: int = 0
    variant: int = 0
    spent: tuple[int, ...] = ()
    earliest: float = -math.inf
    latest: Begin | None = None
    is_suspect: bool = False


class Course:
    """All ways of one item.

    Attributes:
        retries: of the way that was right, how many attempts were repeated.
        reason: if none was, what was wrong with the one that came farthest.
    """

    def __init__(self, evidence: Evidence, place: Place, outcome: Told, told: Told) -> None:
        self._evidence = evidence
        self._flow = evidence.flow(place)
        self._plan = evidence.plan(place)
        self._place = place
        self._begins = evidence.of_item.get(place, [])
        self._outcome = outcome
        self._attempts: list[list[Any]] | None = outcome.get("attempts")
        self._asked = [asked[1:] for asked in told["asked"] if asked[0] == place[1]]
        self._cancelled = told["cancelled"] is not None
        self._since = told.get("was cancelled", math.inf)
        own = self._flow.own
        self._budgets: tuple[Budget, ...] = (*self._flow.budgets, *([own] if own else []))
        self.retries = 0
        self.reason = "no way was found"
        self._farthest = (-1, -1)

    def is_right(self) -> bool:
        """Whether there is a way that leads to the outcome."""
        return self._goes(_At(spent=(0,) * len(self._budgets)))

    def _no(self, at: _At, reason: str) -> bool:
        if (at.begun, at.failed) >= self._farthest:
            self._farthest, self.reason = (at.begun, at.failed), reason
        return False

    # -- from one attempt to the next ----------------------------------------------------------------------------

    def _goes(self, at: _At) -> bool:
        """The item is to be begun, for the first time or again."""
        if self._flow.invalid is not None and self._plan.refused == at.variant:
            return self._comes_to(at, "InvalidArguments") or (
                self._cancelled and self._comes_to(at, "CancelledError")
            )
        if self._cancelled and self._comes_to(at, "CancelledError"):
            return True
        if any(self._fails(at, *fate) for fate in self._unseen(at)):
            return True
        if at.begun == len(self._begins):
            return self._no(at, f"was not begun after {at.failed} failures")
        begin = self._begins[at.begun]
        after = replace(at, begun=at.begun + 1, latest=begin, is_suspect=False)
        if at.is_suspect and not self._evidence.ran_alone(begin):
            return self._no(after, f"was not alone in {begin.pid}, though it may have ended a worker")
        if begin.variant != at.variant:
            return self._no(after, f"was begun with variant {begin.variant}, not {at.variant}")
        if begin.at < at.earliest:
            return self._no(
                after, f"was begun {at.earliest - begin.at:.4f} s too early after {at.failed} failures"
            )
        if any(self._fails(after, *fate) for fate in self._fates(begin)):
            return True
        is_value = begin.deed == "return" or (begin.deed == "invalid" and self._flow.invalid is None)
        value = [begin.deed, *self._place, begin.count, begin.variant]
        if is_value and begin.last < math.inf and self._is_value(after, value):
            return True
        if self._evidence.ended_otherwise(begin) and self._goes(replace(after, latest=at.latest)):
            return True
        if self._evidence.is_suspect(begin) and not at.is_suspect:
            return self._goes(replace(after, latest=at.latest, is_suspect=True))
        return self._no(
            after, f"may not be begun again after beginning {begin.count} ({begin.deed} in {begin.pid})"
        )

    def _unseen(self, at: _At) -> Iterator[tuple[str, int, float]]:
        """Failures without a beginning: a worker was killed in the moment before, or had no processor for so long."""
        if self._attempts is None:
            last = self._outcome.get("pid")
            pids = {last} if last in self._evidence.killed else set()
        else:
            pids = {pid for _, _, pid in self._attempts[at.failed : at.failed + 1]}
        for pid in pids:
            if self._is_killed(pid):
                yield "WorkerDied", pid, -math.inf
            if self._flow.timeout is not None and self._is_kept(pid):
                yield "TaskTimeout", pid, -math.inf

    def _fates(self, begin: Begin) -> Iterator[tuple[str, int, float]]:
        """How a beginning may have failed, and when at the earliest."""
        has_returned = begin.last < math.inf
        if begin.deed in RAISED and has_returned:
            yield RAISED[begin.deed], begin.pid, begin.ended
        elif begin.deed == "invalid" and has_returned and self._flow.invalid is not None:
            yield "InvalidResult", begin.pid, begin.ended
        elif begin.deed in LETHAL:
            yield "WorkerDied", begin.pid, begin.at + self._plan.ms / 1000
        limit = self._flow.timeout
        if limit is not None and (begin.deed == "overtime" or self._is_kept(begin.pid)):
            late = limit / 1000 - SLACK_SECONDS - 2 * self._evidence.lag
            yield (
                "TaskTimeout",
                begin.pid,
                begin.at + max(0.0, late - self._evidence.waited(begin.pid, limit / 1000)),
            )
        if self._is_killed(begin.pid):
            yield "WorkerDied", begin.pid, begin.at

    def _is_killed(self, pid: int) -> bool:
        """Whether a worker may be said to have died though no item ended it."""
        return pid in self._evidence.killed or (self._cancelled and self._flow.ending == "kill")

    def _is_kept(self, pid: int) -> bool:
        """Whether the machine may have kept a worker waiting for as long as an item may take."""
        limit = (self._flow.timeout or 0) / 1000
        return 2 * self._evidence.lag + self._evidence.waited(pid, limit) + SLACK_SECONDS > limit

    # -- what becomes of a failure -------------------------------------------------------------------------------

    def _fails(self, at: _At, kind: str, pid: int, when: float) -> bool:
        """An attempt has failed."""
        if not self._is_told(at, kind, pid):
            return False
        at = replace(at, failed=at.failed + 1)
        number = self._budget_for(kind)
        if number is None or (self._cancelled and self._comes_to(at, kind)):
            return self._comes_to(at, kind)
        spent = tuple(count + (place == number) for place, count in enumerate(at.spent))
        at = replace(at, spent=spent)
        budget = self._budgets[number]
        is_left = budget.attempts is None or spent[number] < budget.attempts
        if budget.asks:
            return self._is_judged(at, kind, is_left, when, budget.wait)
        if not is_left:
            return self._comes_to(at, kind)
        return self._again(at, kind, when, budget.wait)

    def _is_judged(self, at: _At, kind: str, is_left: bool, when: float, wait: int) -> bool:
        """``handle_error`` was asked, and has said what is planned."""
        question = [at.failed, kind, at.variant]
        if self._asked[at.asked : at.asked + 1] != [question]:
            return self._no(at, f"should have been asked {question}, but was {self._asked[at.asked :][:1]}")
        at = replace(at, asked=at.asked + 1)
        answer = self._plan.answer(at.failed)
        if answer == "replace":
            return self._is_value(at, ["replaced", *self._place, at.failed, at.variant])
        if answer in ("give up other", "raise", "nonsense"):
            names = {"give up other": "GaveUp", "raise": "Undecided", "nonsense": "TypeError"}
            return self._comes_to(at, names[answer])
        if answer == "give up" or not is_left:
            return self._comes_to(at, kind)
        if answer == "retry other":
            at = replace(at, variant=at.variant + 1)
        return self._again(at, kind, when, LATER if answer == "retry later" else wait)

    def _again(self, at: _At, kind: str, when: float, wait: int) -> bool:
        """The item is tried again, unless it was cancelled meanwhile."""
        if self._cancelled and self._comes_to(at, kind):
            return True
        if when > self._since:
            return self._no(at, "failed when all were cancelled, and went on")
        if not self._goes(replace(at, earliest=when + wait / 1000)):
            return False
        self.retries += 1
        return True

    def _budget_for(self, kind: str) -> int | None:
        """The most specific type counts, then a predicate, then what the handler has for all others."""
        for name in KINDS[kind]:
            for number, budget in enumerate(self._flow.budgets):
                if name in budget.names:
                    return number
        for number, budget in enumerate(self._flow.budgets):
            if kind == "Broken" and "is_broken" in budget.names:
                return number
        return len(self._flow.budgets) if self._flow.own else None

    # -- what was told -------------------------------------------------------------------------------------------

    def _is_told(self, at: _At, kind: str, pid: int) -> bool:
        """Whether the outcome has this as its next attempt."""
        if self._attempts is None:
            return True  # futures tell of none
        here = self._attempts[at.failed : at.failed + 1]
        if not here:
            return self._no(at, f"has no attempt {at.failed + 1}, but failed so often, by {kind}")
        name, text, where = here[0]
        if name != kind or (where != pid and self._evidence.storm.backend == "processes"):
            return self._no(at, f"has {here[0]} as attempt {at.failed + 1}, not {kind} in {pid}")
        if kind in RAISED.values() and at.latest is not None and text != self._text(at.latest):
            return self._no(at, f"has {text!r} as attempt {at.failed + 1}, not {self._text(at.latest)!r}")
        return True

    def _text(self, begin: Begin) -> str:
        return handler_tasks.text([*self._place, begin.count, begin.variant])

    def _is_over(self, at: _At) -> bool:
        """Whether nothing more was done, told or asked."""
        if at.begun < len(self._begins):
            return self._no(at, f"was begun {len(self._begins)} times, and {at.begun} are explained")
        if self._attempts is not None and at.failed < len(self._attempts):
            return self._no(at, f"has {len(self._attempts)} attempts, and {at.failed} are explained")
        if at.asked < len(self._asked):
            return self._no(at, f"was asked about {len(self._asked)} times, and {at.asked} are explained")
        return True

    def _is_value(self, at: _At, value: list[Any]) -> bool:
        if not self._is_over(at):
            return False
        return self._outcome.get("value") == value or self._no(at, f"should have the value {value}")

    def _comes_to(self, at: _At, name: str) -> bool:
        """Whether the item ended with this error or, if it is to be discarded, was."""
        if not self._is_over(at):
            return False
        if name in ("InvalidArguments", "InvalidResult") and self._is_discarded:
            reason = str(self._outcome.get("discarded", ""))
            words = "invalid arguments" if name == "InvalidArguments" else "invalid result"
            return reason.startswith(words) or self._no(at, f"should be discarded, for {words}")
        if self._outcome.get("error") != name:
            return self._no(at, f"should end as {name}")
        return self._says(at, name)

    @property
    def _is_discarded(self) -> bool:
        return self._flow.invalid == "discard" and self._flow.how != "submit"

    def _says(self, at: _At, name: str) -> bool:
        """Whether the error is the one of the last attempt."""
        outcome, begin = self._outcome, at.latest
        if self._outcome.get("same") is False:
            return self._no(at, "has other attempts than its failure")
        if name in RAISED.values():
            return (begin is not None and outcome["text"] == self._text(begin)) or self._no(
                at, "has another's text"
            )
        if name in ("GaveUp", "Undecided"):
            return outcome["text"] == f"at attempt {at.failed}" or self._no(
                at, f"should say attempt {at.failed}"
            )
        if name == "WorkerDied" and not self._is_killed(outcome["pid"]):
            code = SUICIDES[begin.deed] if begin is not None else None
            return outcome["exitcode"] == code or self._no(at, f"should have the status {code}")
        return True

"""The life of one item of a stream. Pure.

The methods named are the only ways from one state to another::

    WAITING --pop-------> DUE      its time has come
    DUE     --send------> SENT     it was handed to the runner
    SENT    --postpone--> WAITING  it came back with nothing decided
    SENT    --fail------> FAILED   an attempt failed; whether there is another is being judged
    FAILED  --retry-----> WAITING  there is
    any     --end-------> ENDED    it has come to what its outcome says
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any, Final

from manyhands.calls import Call, Done, Failed, error_text, qualified_name
from manyhands.outcome import Attempt, Discarded, Elsewhere, Failure, Outcome


class WrongState(RuntimeError):
    """The pump did what an item's state does not allow: an error in the library."""


class State(Enum):
    """Where an item is; see the list above."""

    WAITING = auto()
    DUE = auto()
    SENT = auto()
    FAILED = auto()
    ENDED = auto()


_UNENDED: Final = (State.WAITING, State.DUE, State.SENT, State.FAILED)


@dataclass(slots=True)
class Item:
    """One item.

    Attributes:
        index: its place in the input.
        item: itself.
        arguments: what its call was made of: the item, or what stands in its place since it was tried again.
        call: None for one that was sent in a block.
        held: what the runner holds of it, if it may have changed since it was drawn; None: it is as it was.
        looks: how many times in a row it came back with nothing decided.
        spent: for each budget, by number, how many attempts have failed at its cost.
        begun: when the first of them began.
        last: the attempt that failed last: with what, after how many seconds, and in which worker.
        attempts: all that have failed, as they are told to the user.
    """

    index: int
    item: Any
    arguments: Any
    call: Call | None
    held: Any = None
    state: State = State.WAITING
    looks: int = 0
    spent: dict[int, int] = field(default_factory=dict)
    begun: float | None = None
    last: tuple[Failed, float, str] | None = None
    attempts: list[Attempt] = field(default_factory=list)
    outcome: Outcome[Any] | None = None

    def check(self, *states: State) -> None:
        """Raises WrongState if it is in none of these."""
        if self.state not in states:
            wanted = " or ".join(state.name for state in states)
            raise WrongState(f"item {self.index} is {self.state.name}, not {wanted}")

    def pop(self) -> None:
        """Its time has come."""
        self.check(State.WAITING)
        self.state = State.DUE

    def send(self, call: Call) -> None:
        """It was handed to the runner as ``call``."""
        self.check(State.DUE)
        self.state, self.call = State.SENT, call

    def postpone(self, memo: Any, failed: Failed | None, seconds: float, worker: str) -> None:
        """It came back with nothing decided, or with an attempt that failed and is to be repeated."""
        self.check(State.SENT)
        self.state = State.WAITING
        if self.call is not None:
            self.call = Call(self.call.args, self.call.kwargs, memo)
        if failed is None:
            self.looks += 1
        else:
            self.looks = 0
            self.attempts.append(_attempt(failed, seconds, worker))

    def fail(self, failed: Failed, now: float, seconds: float, worker: str) -> None:
        """An attempt has failed, at the cost of a budget if that has one."""
        self.check(State.SENT)
        self.state, self.last = State.FAILED, (failed, seconds, worker)
        self.attempts.append(_attempt(failed, seconds, worker))
        if failed.budget is not None:
            self.spent[failed.budget] = self.spent.get(failed.budget, 0) + 1
            self.begun = now - seconds if self.begun is None else self.begun

    def retry(self) -> None:
        """There is another attempt."""
        self.check(State.FAILED)
        self.state, self.last, self.looks = State.WAITING, None, 0

    def end(
        self, answer: Done[Any] | Failed | Elsewhere, seconds: float = 0.0, worker: str = ""
    ) -> Outcome[Any]:
        """It has come to this, after so many seconds in that worker."""
        self.check(*_UNENDED)
        result: Done[Any] | Failure | Discarded | Elsewhere
        if not isinstance(answer, Failed):
            result = answer
        elif answer.discard:
            result = Discarded(error_text(answer.error), self.index, self.item)
        else:
            result = self.failure(answer, worker)
        self.state, self.last, self.held = State.ENDED, None, None
        self.outcome = Outcome(self.index, self.item, result, tuple(self.attempts), seconds, worker)
        return self.outcome

    @property
    def was_out(self) -> bool:
        """Whether it was handed to the runner before."""
        return bool(self.looks or self.attempts)

    def failure(self, failed: Failed, worker: str) -> Failure:
        """What the user is told of a failed attempt."""
        attempts = tuple(self.attempts)
        return Failure(failed.error, self.index, self.item, failed.traceback, attempts, worker, self.arguments)


def _attempt(failed: Failed, seconds: float, worker: str) -> Attempt:
    return Attempt(qualified_name(type(failed.error)), error_text(failed.error), seconds, worker)

"""Explores what workers that share a directory can come to: in every order, or in many, drawn by a seed.

``Explorer`` visits all states that can be reached, breadth first, so the trace of a ``Violation`` is a shortest one.
``Wanderer`` goes one way through a world that is too large for that.

Checked at every step: at most one COMMIT is ever made of an output; it appears whole, once, and never changes; a worker
that is done has an output; no live worker waits for ever; who beats is not taken over. After an output was removed, or
the power was gone, its COMMITs are not counted, nor is it asked whether it is still there.
"""

from __future__ import annotations

import os
import random
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from manyhands.claims.gc import collect as gc_steps
from manyhands.claims.names import TOKEN_LENGTH
from manyhands.testing.model import Knobs
from manyhands.testing.programs import collect, compute
from manyhands.testing.world import Faults, Move, State, Step, Successor, World

__all__ = [
    "Choices",
    "Explorer",
    "Faults",
    "Knobs",
    "Violation",
    "Wanderer",
    "collect",
    "compute",
    "replayed",
    "shrunk",
]

_ALONE_MAX: Final = 5_000
"""A worker that runs alone and has made so many steps gets nowhere."""


class Violation(AssertionError):
    """A promise was broken.

    Attributes:
        trace: how, step by step.
        choices: of a ``Wanderer``, which lead there again.
    """

    def __init__(self, message: str, trace: list[str], choices: Sequence[int] = ()) -> None:
        super().__init__("\n".join([message, *trace]))
        self.message = message
        self.trace = trace
        self.choices = list(choices)


@dataclass
class Explorer(World):
    """``explore()`` visits all states and returns their number, or raises ``Violation``.

    Attributes:
        liveness: from every state, let each worker run alone, everybody else dead: it must come to an end.
        states_max: give up, by an AssertionError, beyond so many.
    """

    liveness: bool = False
    states_max: int = 1_000_000

    def explore(self) -> int:
        """Visits every state that can be reached."""
        start = self.start()
        came: dict[State, tuple[State, Step] | None] = {start: None}
        live: set[State] = set()
        queue = deque([start])
        while queue:
            state = queue.popleft()
            try:
                self.check_rest(state)
                if self.liveness:
                    self._check_liveness(state, live)
                for label, successor in self._successors(state):
                    if successor not in came:
                        came[successor] = (state, label)
                        queue.append(successor)
            except AssertionError as error:
                raise Violation(str(error), _trace(came, state)) from None
            assert len(came) <= self.states_max, "more states than states_max"
        return len(came)

    def _successors(self, state: State) -> Iterable[Successor]:
        for moves in self.moves(state):
            for move in moves:
                yield from move()

    def _check_liveness(self, state: State, live: set[State]) -> None:
        """Each worker, alone from here on, finishes or reports a failure; in the states ``live`` that is known."""
        for index, worker in enumerate(state.workers):
            if worker.state in ("done", "left", "crashed", "stopped"):
                continue  # what is stopped is looked at when it goes on
            at = self.alone(state, index)
            way: list[State] = []
            while at not in live and at.workers[index].state not in ("done", "left"):
                way.append(at)
                plain, _ = self.moves(at)
                assert plain, f"{index} can't go on, alone"
                assert len(way) < _ALONE_MAX, f"{index} comes to no end, alone"
                _, at = plain[0]()[0]
                assert at.workers[index].state != "stuck", f"{index} waits for ever, alone"
            live.update(way)


class Choices:
    """Numbers that were drawn: by a seed, or as they are given, and 0, the plainest, when these are used up."""

    def __init__(self, given: Sequence[int] | None = None, seed: int = 0) -> None:
        self._given = given
        self._random = random.Random(seed)
        self.drawn: list[int] = []

    def among(self, count: int, plain: float = 0.0) -> int:
        """One of 0 … count - 1; 0 with at least the probability ``plain``."""
        if count < 2:
            return 0
        if self._given is not None:
            at = len(self.drawn)
            choice = min(self._given[at], count - 1) if at < len(self._given) else 0
        else:
            choice = 0 if self._random.random() < plain else self._random.randrange(count)
        self.drawn.append(choice)
        return choice


@dataclass
class Wanderer(World):
    """``wander(choices)`` goes one way, and then lets all come to their end.

    Attributes:
        steps_max: of these; then no more faults happen.
        rarely: one of so many steps is a fault's, where one may happen.
        counts: of steps, by what happened; all ways together.
    """

    steps_max: int = 2_000
    rarely: int = 25
    counts: Counter[str] = field(default_factory=Counter)

    def wander(self, choices: Choices) -> None:
        """Raises ``Violation``, with its trace and the choices that lead there again."""
        trace: list[str] = []
        try:
            state = self._wander(self.start(), choices, trace)
            self._check_end(state)
        except AssertionError as error:
            raise Violation(str(error), trace, choices.drawn) from None

    def _wander(self, state: State, choices: Choices, trace: list[str]) -> State:
        for number in range(2 * self.steps_max):
            if number == self.steps_max:
                state = state._replace(faults=Faults())
            self.check_rest(state)
            move = self._drawn(state, choices)
            if move is None:
                return state
            found = move()
            if found:
                step, state = found[choices.among(len(found), 1 - 1 / self.rarely)]
                trace.append(str(step))
                self.counts[step.kind] += 1
        raise AssertionError("no end comes")

    def _drawn(self, state: State, choices: Choices) -> Move | None:
        plain, rare = self.moves(state)
        if rare and (not plain or choices.among(2, 1 - 2 / self.rarely)):
            return rare[choices.among(len(rare))]
        return plain[choices.among(len(plain))] if plain else None

    def _check_end(self, state: State) -> None:
        """Nobody waits; and ``gc(now=True)`` leaves nothing but outputs."""
        for index, worker in enumerate(state.workers):
            assert worker.state in ("done", "left", "crashed"), f"{index} is {worker.state} in the end"
        left = set(self.perform_all(state, gc_steps(self.logs[0].directory, "f" * TOKEN_LENGTH, now=True)))
        outputs = {os.path.basename(path) for log in self.logs for path in log.finals}
        assert left <= outputs, f"left over: {sorted(left - outputs)}"


def shrunk(violation: Violation, make: Callable[[], Wanderer]) -> Violation:
    """The same broken promise by fewer choices: a shorter start, and plainer ones in it."""
    best, size = violation, max(1, len(violation.choices) // 2)
    while size:
        at = 0
        while at < len(best.choices):
            choices = best.choices
            for fewer in (
                choices[:at] + choices[at + size :],
                [*choices[:at], *[0] * size, *choices[at + size :]],
            ):
                found = replayed(fewer, make) if fewer != choices else None
                if found is not None and _order(found) < _order(best):
                    best = found
                    break
            else:
                at += size
        size //= 2
    return best


def replayed(choices: Sequence[int], make: Callable[[], Wanderer]) -> Violation | None:
    """What the choices lead to in a new world."""
    try:
        make().wander(Choices(choices))
    except Violation as violation:
        return violation
    return None


def _order(violation: Violation) -> tuple[int, int, int]:
    choices = violation.choices
    return len(violation.trace), sum(choice > 0 for choice in choices), len(choices)


def _trace(came: dict[State, tuple[State, Step] | None], state: State) -> list[str]:
    labels: list[str] = []
    step = came[state]
    while step is not None:
        labels.append(str(step[1]))
        step = came[step[0]]
    return labels[::-1]

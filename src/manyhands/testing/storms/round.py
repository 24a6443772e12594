"""One round of a storm."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Final

from manyhands.testing.checker import Problem, check
from manyhands.testing.events import Event
from manyhands.testing.history import read_histories
from manyhands.testing.nemesis import Nemesis
from manyhands.testing.races import RacerDied
from manyhands.testing.storms.blows import Blows
from manyhands.testing.storms.crew import Crew, Member
from manyhands.testing.storms.job import Job, Options, Program, Room, Told
from manyhands.testing.storms.onlooker import Onlooker
from manyhands.testing.storms.reference import Reference, error_lines, found_in, last_words

_LEAST_PAUSE: Final = 0.08
"""Seconds between two blows, where items take no longer."""

_LONGEST_ITEMS: Final = 20
"""So many times the longest item may pass before there is another output: they share the machine, and are killed."""


class Round:
    """One round.

    Args:
        job: what is mapped.
        reference: what that leaves when it runs by itself.
        room: the directories, which are empty.
        options: of the storm.
        seed: of what is done to whom.
        most: seconds for which that goes on.

    Attributes:
        figures: what happened.
        problems: what was wrong.
        seconds: from the first claim to the last output.
    """

    def __init__(
        self, job: Job, reference: Reference, room: Room, options: Options, seed: str, most: float
    ) -> None:
        self.figures: Counter[str] = Counter(outputs=len(reference.outputs))
        self.problems: list[Problem] = []
        self.seconds = 0.0
        self._program = Program(job.recorded(room, options), room.outputs)
        self._written = job.function
        self._reference = reference
        self._room = room
        self._options = options
        self._seed = seed
        self._most = most
        self._missing = set(reference.outputs)
        self._heard: list[Member] = []
        self._prey: dict[int, bool] = {}  # who was given to the nemesis, and whether it is a worker
        self._strangers: set[int] = set()  # whose histories are those of processes that have ended
        self._struck: set[int] = set()

    def play(self) -> None:
        """Plays it. No process is left; files are, for who wants to look."""
        reference, room = self._reference, self._room
        expected = None if self._options.vary else reference.digests
        with Crew(room.log) as crew, Onlooker(room.outputs, reference.outputs, expected) as onlooker:
            self._play_storm(crew)
            self._play_last(crew)
            if not self.problems:
                left = crew.left(self._options.patience)
                self.problems += [Problem("process", f"left over: {each}") for each in left]
        self.figures["processes"] = len(crew.members)
        self.figures["looks"] = onlooker.looks
        events = self._events()
        self.figures.update(figures_of(events))
        self.problems += [*onlooker.problems, *self._judged(events)]

    # -- the storm --------------------------------------------------------------------------------------------

    def _play_storm(self, crew: Crew) -> None:
        """Until the list is complete, and all have ended."""
        program = crew.program(self._program, self._written)
        gate, start = os.pipe()
        try:
            for _ in range(self._options.processes):
                crew.start(program, gate)

            def ready() -> int:
                return sum(member.is_ready for member in crew.members)

            self._go_on(crew, lambda: ready() == len(crew.members), ready, "come to the start")
        finally:
            os.close(gate)
            os.close(start)
        pause = max(_LEAST_PAUSE, 2 * self._reference.usual)
        with Nemesis() as nemesis:
            blows = Blows(nemesis, self._seed, pause, self._options.lease)
            began = 0.0

            def step() -> None:
                nonlocal began
                began = began or (time.monotonic() if any(self._room.history.iterdir()) else 0.0)
                self.seconds = time.monotonic() - began if began else 0.0
                if self.seconds >= self._most:
                    nemesis.rest()
                elif began:
                    self._strike(crew, nemesis, blows)
                for _ in range(self._options.processes - len(crew.alive())):
                    crew.start(program)

            self._go_on(
                crew, lambda: not self._missing, lambda: len(self._missing), "make the next output", step
            )
        deeds = Counter(deed.what for deed in nemesis.log)
        self.figures.update(kills=deeds["kill"], stops=deeds["stop"], terms=deeds["terminate"])
        self._go_on(crew, lambda: not crew.alive(), lambda: len(crew.alive()), "end when the list was complete")

    def _strike(self, crew: Crew, nemesis: Nemesis, blows: Blows) -> None:
        """One step of the nemesis, which is given those that are new."""
        for member in crew.alive():
            self._give(nemesis, member.pid, is_worker=False)
        for path in self._room.history.iterdir():  # who claims something is a worker
            pid = int(path.name.partition("-")[0])
            if pid not in self._prey and pid not in self._strangers:
                if crew.has(pid):
                    self._give(nemesis, pid, is_worker=True)
                else:
                    self._strangers.add(pid)
        alive = [pid for pid in self._prey if crew.has(pid)]
        before = len(nemesis.log)
        blows.step([pid for pid in alive if not self._prey[pid]], [pid for pid in alive if self._prey[pid]])
        self._struck |= {
            int(deed.target) for deed in nemesis.log[before:] if deed.what in ("kill", "terminate")
        }

    def _give(self, nemesis: Nemesis, pid: int, *, is_worker: bool) -> None:
        if pid not in self._prey:
            try:
                nemesis.give(pid, str(pid))
            except ProcessLookupError:
                return  # it has just ended
            self._prey[pid] = is_worker

    def _play_last(self, crew: Crew) -> None:
        """One who comes when all is done must find it done."""
        if self.problems:
            return
        before = _claims(self._events())
        member = crew.start(crew.program(self._program, self._written))
        self._go_on(crew, lambda: member.has_ended, lambda: member.is_ready, "find that all is done")
        if made := _claims(self._events()) - before:
            self.problems.append(
                Problem("commits", f"a process that came when all was done claimed {made} outputs")
            )

    def _go_on(
        self,
        crew: Crew,
        done: Callable[[], bool],
        progress: Callable[[], object],
        what: str,
        step: Callable[[], None] = lambda: None,
    ) -> None:
        """Hears members and steps until it is done, something is wrong, or nothing moves any more."""
        patience = self._options.patience + _LONGEST_ITEMS * self._reference.slowest
        since, state = time.monotonic(), progress()
        while not self.problems and not done():
            crew.look()
            step()
            self._missing -= {name for name in self._missing if os.path.lexists(self._room.outputs / name)}
            for member in crew.members:
                if (member.has_answered or member.has_ended) and member not in self._heard:
                    self._heard.append(member)
                    self._hear(member)
            self._options.tell(self._line(crew))
            if progress() != state:
                since, state = time.monotonic(), progress()
            elif time.monotonic() - since > patience:
                alive = ", ".join(str(member.pid) for member in crew.alive())
                self.problems.append(
                    Problem(
                        "stuck",
                        f"in {patience:.0f} s they did not {what}; {len(self._missing)} outputs are missing, "
                        f"processes that run: {alive or 'none'}",
                    )
                )

    def _hear(self, member: Member) -> None:
        """What one who has answered, or ended, has come to."""
        if member.error is not None:
            self.problems.append(
                Problem("raised", f"the map of process {member.pid}: {error_lines(member.error)}")
            )
        elif member.has_answered:
            told: Told = member.value
            self.problems += [Problem("raised", f"in the storm only: {failure}") for failure in told.failures]
            if told.discarded != self._reference.discarded:
                self.problems.append(Problem("raised", f"other items were discarded: {told.discarded}"))
        elif member.pid not in self._struck:
            how = RacerDied(member.racer.number, member.pid, member.racer.status() or 0)
            self.problems.append(
                Problem("process", f"{how}, and nobody had killed it; {last_words(self._room.log)}")
            )

    def _line(self, crew: Crew) -> str:
        outputs = len(self._reference.outputs)
        return (
            f"{self._room.path.name}: {outputs - len(self._missing)} of {outputs} outputs, "
            f"{len(crew.members)} processes, {len(self._struck)} of them or of their workers ended"
        )

    # -- what it came to --------------------------------------------------------------------------------------

    def _events(self) -> list[Event]:
        return [event for history in read_histories(self._room.history) for event in history]

    def _judged(self, events: list[Event]) -> list[Problem]:
        """What is there in the end, and how it came to be."""
        reference = self._reference
        found = found_in(self._room.outputs, reference.outputs)
        verdict = check([events], found, reference.outputs, reference.others)
        self.figures["doubts"] += len(verdict.doubts)
        problems = list(verdict.problems)
        if self.problems:  # it was ended before all was there
            problems = [problem for problem in problems if problem.rule not in ("missing", "left over")]
        if not self._options.vary:
            problems += [
                Problem("bytes", f"{name!r} differs from that of a serial run", (), (name,))
                for name in reference.outputs
                if name in found and found[name] != reference.digests[name]
            ]
        return problems


def _claims(events: Iterable[Event]) -> int:
    return sum(event.action == "claim" and event.kind == "ok" for event in events)


def figures_of(events: Iterable[Event]) -> dict[str, int]:
    """What histories tell of takeovers, of owners that came too late, of helpers, and of work done twice."""
    claims: dict[str, set[int]] = {}
    committed: set[str] = set()
    published: set[str] = set()
    fenced = 0
    for event in events:
        fenced += event.kind == "fail" and event.note == "fenced"
        if event.action == "claim" and event.kind == "ok":
            claims.setdefault(event.output, set()).add(event.slot)
        elif event.action == "commit":
            committed.add(event.output)
        elif event.action == "publish" and event.kind == "ok":
            published.add(event.output)
    return {
        "takeovers": sum(slot - 1 in slots for slots in claims.values() for slot in slots),
        "fenced": fenced,
        "helped": len(committed - published),
        "recomputed": sum(len(slots) - 1 for slots in claims.values()),
    }

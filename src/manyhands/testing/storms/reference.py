"""What is right: what the function leaves when it runs by itself."""

from __future__ import annotations

import os
import statistics
from dataclasses import dataclass
from pathlib import Path

from manyhands.claims import gc
from manyhands.policies.parameters import name_of
from manyhands.testing.checker import Problem, check
from manyhands.testing.history import digest, read_histories
from manyhands.testing.races import RacerDied
from manyhands.testing.storms.crew import Crew
from manyhands.testing.storms.job import Job, Options, Outputs, Program, Room, Told


class SerialRunFailed(Exception):
    """The function fails, or its outputs differ from run to run, with nobody beside it: no storm was started."""


@dataclass(frozen=True)
class Reference:
    """What a run by itself leaves.

    Attributes:
        outputs: those that are made; items that ``@validated`` discards have none.
        digests: of each.
        others: what else it leaves.
        usual, slowest: seconds that items took: the median, and the longest.
        discarded: items that are.
    """

    outputs: Outputs
    digests: dict[str, str]
    others: set[str]
    usual: float
    slowest: float
    discarded: tuple[int, ...]
    problems: list[Problem]
    room: Room

    @classmethod
    def of(cls, job: Job, outputs: Outputs, place: Path, options: Options) -> Reference:
        """Two runs, one after the other, that must leave the same; raises SerialRunFailed."""
        first = cls._run(job, outputs, Room(place / "serial-1"), options)
        if options.vary or first.problems:
            return first
        second = cls._run(job, outputs, Room(place / "serial-2"), options)
        for name, found in first.digests.items():
            if second.digests.get(name) != found:
                raise SerialRunFailed(
                    f"{name_of(job.function)} is not deterministic: the output {name!r} differs between two runs of "
                    f"one process alone, so nothing tells which bytes are right; with vary=True (--vary) outputs are "
                    f"only compared with what their writers wrote"
                )
        return first

    @classmethod
    def _run(cls, job: Job, outputs: Outputs, room: Room, options: Options) -> Reference:
        options.tell(f"{room.path.name}: {len(outputs)} outputs by one process")
        with Crew(room.log) as crew:
            run = Program(job.recorded(room, options), room.outputs, "inline")
            member = crew.start(crew.program(run, job.function))
            while not member.has_answered and not member.has_ended:
                crew.look()
            crew.look()
            if not member.has_answered:
                how = RacerDied(0, member.pid, member.racer.status() or 0)
                raise SerialRunFailed(
                    f"{name_of(job.function)} ended its process: {how}; {last_words(room.log)}"
                )
            if member.error is not None:
                raise SerialRunFailed(
                    f"{name_of(job.function)} can't be mapped: {error_lines(member.error)}"
                ) from member.error
            told: Told = member.value
            if told.failures:
                raise SerialRunFailed(
                    f"{name_of(job.function)} fails with nobody beside it, in {len(told.failures)} of {len(job.items)} "
                    f"items (it runs in another directory than this: are paths absolute?): {told.failures[0]}"
                )
            problems = [
                Problem("process", f"left by a run of one process: {each}")
                for each in crew.left(options.patience)
            ]
        made = {key: files for at, (key, files) in enumerate(outputs.items()) if at not in told.discarded}
        found = found_in(room.outputs, made)
        verdict = check(read_histories(room.history), found, made, set(found) - set(made))
        problems += verdict.problems
        others = set(found) - set(made)
        digests = {name: found[name] for name in made if name in found}
        usual = statistics.median(told.seconds)
        return cls(made, digests, others, usual, max(told.seconds), told.discarded, problems, room)


def found_in(directory: Path, outputs: Outputs) -> dict[str, str]:
    """What there is after ``gc``, by its way from the directory; parts of outputs are told with these."""
    for here, _, _ in os.walk(directory):
        gc(here, now=True)
    parts = {file for key, files in outputs.items() for file in files if file != key}
    listing: dict[str, str] = {}
    for here, folders, files in os.walk(directory):
        for name in (*list(folders), *files):
            path = Path(here, name)
            way = path.relative_to(directory).as_posix()
            if way in outputs:
                listing[way] = digest(*(directory / file for file in outputs[way]))
                if name in folders:
                    folders.remove(name)
            elif way not in parts and name in files:
                listing[way] = digest(path)
    return listing


def last_words(log: Path) -> str:
    """What processes have printed, at the end."""
    words = log.read_text(errors="replace")[-2000:].strip()
    return f"the last words of all:\n{words}" if words else "nobody has printed anything"


def error_lines(error: BaseException) -> str:
    """Its type, its text and its notes, which tell where it was raised."""
    return "\n".join([f"{type(error).__name__}: {error}", *getattr(error, "__notes__", ())])

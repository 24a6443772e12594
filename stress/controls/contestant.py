"""What a contestant of the controls is, and the job that all of them do."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import ClassVar, Self

import tasks

OUTPUTS = Path("outputs")
INTERRUPTED = Path("interrupted")


@dataclass(frozen=True, slots=True)
class Job:
    """A list of items, each of which is to be made into an output once.

    Attributes:
        seed: of the items' contents and pace.
        items: how many there are.
        interrupt: what happens to the first caller of some items, when all but the last line is written: "trap": it
            stays there for ever, to be killed; "hold": it stops itself (SIGSTOP).
        interrupts: to how many items at most; they are 10, 30, 50 and so on.
        hurried: outputs are written without pauses.
        lease: seconds after which a silent owner may be taken for dead, and for which who has a patience waits.
    """

    seed: int
    items: int
    interrupt: str = "trap"
    interrupts: int = 0
    hurried: bool = False
    lease: float = 30.0

    def is_interrupted(self, number: int) -> bool:
        """Whether the first caller of this item is interrupted."""
        return number % 20 == 10 and number // 20 < self.interrupts

    def produce(self, number: int, output: Path) -> None:
        """The work of an item: write its output, and a line into the journal before and after.

        Raises:
            OSError: it can't be written, which the journal tells too.
        """
        self._note("b", number)
        try:
            tasks.write_output(self.seed, number, output, self.hurried, lambda: self._before_end(number))
        except OSError:
            self._note("f", number)
            raise
        self._note("e", number)

    def produced(self, number: int) -> bytes:
        """The same work, for who returns a value."""
        self.produce(number, Path(os.devnull))
        return tasks.content(self.seed, number)

    def in_own_order(self) -> list[int]:
        """The items, in an order of this process's own."""
        numbers = list(range(self.items))
        tasks.luck(self.seed, "order", os.environ[tasks.MEMBER]).shuffle(numbers)
        return numbers

    def path(self, number: int) -> Path:
        """The output of an item, where the contestant may choose."""
        return OUTPUTS / tasks.output_name(number)

    def to_json(self) -> str:
        """As an argument of a process."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The other way."""
        return cls(**json.loads(text))

    def _before_end(self, number: int) -> None:
        if not self.is_interrupted(number) or not tasks.first_time(INTERRUPTED / str(number)):
            return
        if self.interrupt == "hold":
            self._note("s", number)
            os.kill(os.getpid(), signal.SIGSTOP)
            return
        self._note("t", number)
        while True:
            signal.pause()

    def _note(self, kind: str, number: int) -> None:
        tasks.note(Path(tasks.JOURNAL), kind, int(os.environ[tasks.MEMBER]), number)


class Contestant:
    """A way in which processes share the work; all they have in common is a directory.

    Attributes:
        name: on the command line.
        distribution: what must be installed; "": nothing.
        remedy: what its documents say to do, by hand, when work is left undone and nobody is at it; "": nothing.
        litter_by_design: what it leaves in the directory for good, as its documents say; "": nothing.
        deeds: what the nemesis does to its processes, by weight.
    """

    name: str
    distribution = ""
    remedy = ""
    litter_by_design = ""
    deeds: ClassVar[dict[str, int]] = {"kill parent": 50, "stop parent": 50}

    def version(self) -> str | None:
        """Of what it needs; "" if that is nothing, None if it is not installed."""
        if not self.distribution:
            return ""
        try:
            return version(self.distribution)
        except PackageNotFoundError:
            return None

    def work(self, job: Job) -> None:
        """In a process of its own, in the round's directory: do the whole list, as far as others don't."""
        raise NotImplementedError

    def paths(self, job: Job) -> Sequence[Path]:
        """Where the outputs are, by item."""
        return [job.path(number) for number in range(job.items)]

    def decoded(self, data: bytes) -> bytes:
        """What an output says; anything but that if it is not whole."""
        return data

    def heal(self, job: Job) -> None:
        """Do what ``remedy`` says."""

    def clean(self, job: Job) -> None:
        """What its documents have for cleaning up; nobody is at work."""

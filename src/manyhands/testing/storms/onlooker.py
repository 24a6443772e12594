"""A reader of outputs that looks all the time, and knows nothing of claims."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Self

from manyhands.testing.checker import Problem
from manyhands.testing.history import digest

_PAUSE: Final = 0.002
_AGAIN: Final = 5
"""How many of the outputs that it has seen it looks at again, each time."""


class Onlooker(threading.Thread):
    """Looks at outputs while they are made: each must be whole when it can be seen, and never change.

    Args:
        directory: where they are.
        outputs: the files of each; when the last one is there, all are.
        expected: the digests that they should have; None: any, if they stay.

    Attributes:
        problems: what it has seen.
        looks: how often it has looked at an output.
    """

    def __init__(
        self, directory: Path, outputs: Mapping[str, Sequence[str]], expected: Mapping[str, str] | None
    ) -> None:
        super().__init__(name="manyhands-onlooker", daemon=True)
        self._paths = {name: [directory / file for file in files] for name, files in outputs.items()}
        self._expected = expected
        self._unseen = list(outputs)
        self._seen: dict[str, tuple[list[int], str]] = {}
        self._done = threading.Event()
        self._luck = random.Random(0)
        self.problems: list[Problem] = []
        self.looks = 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self.join()

    def run(self) -> None:
        """Until it is left."""
        while not self._done.wait(_PAUSE) and len(self.problems) < 100:
            there = [name for name in self._unseen if os.path.lexists(self._paths[name][-1])]
            for name in there:
                self._unseen.remove(name)
                self.look(name)
            for name in self._luck.sample(list(self._seen), min(_AGAIN, len(self._seen))):
                self.look(name)

    def look(self, name: str) -> None:
        """Once, at an output that has been there."""
        self.looks += 1
        paths = self._paths[name]
        try:
            files = [os.lstat(path).st_ino for path in paths]
        except FileNotFoundError:
            files = []
        found = digest(*paths)
        before = self._seen.setdefault(name, (files, found))
        if not files:
            self._wrong("gone", name, "was there and is gone, or a part of it is not")
        elif before[0] != files:
            self._wrong("replaced", name, "was replaced after it was published")
        elif before[1] != found:
            self._wrong("torn", name, "has changed since it was seen first")
        elif self._expected is not None and self._expected[name] != found:
            self._wrong("torn", name, "was seen with other bytes than the serial run wrote")

    def _wrong(self, rule: str, name: str, how: str) -> None:
        problem = Problem(rule, f"{name!r} {how}", names=(name,))
        if problem not in self.problems:
            self.problems.append(problem)

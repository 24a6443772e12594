"""What parent and worker say to one another, besides calls and their answers (see ``channel``)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from manyhands.memory.exchange import Noted
    from manyhands.memory.places import Place
    from manyhands.workers.outlet import Levels


class Setup(NamedTuple):
    """To the worker, first.

    Attributes:
        host: goes into the worker's name.
        number: 0 for the first worker of its pool, and so on; a replacement has a number of its own.
        threads: how many calls run in it at the same time.
        initializer, finalizer: pickled functions without arguments, or empty.
        max_memory: bytes of resident memory above which it is to be replaced; 0: no limit.
        max_shared: bytes of shared memory that its results may take.
        environment: variables that are set unless they are.
        variables: all others, where the worker does not have them from its parent; else None.
        directory, sys_path: where the caller is, and imports from.
    """

    host: str
    number: int
    threads: int
    initializer: bytes
    finalizer: bytes
    max_memory: int
    max_shared: int
    environment: dict[str, str]
    variables: dict[str, str] | None
    directory: str
    sys_path: list[str]


class Load(NamedTuple):
    """To the worker: the pickled work that calls with this number belong to, or the place where it lies.

    Attributes:
        work: its number.
        directory, sys_path: where the caller is, and imports from.
        blob: the work.
        levels: what the caller's loggers let pass.
    """

    work: int
    directory: str
    sys_path: list[str]
    blob: bytes | Place
    levels: Levels | None = None


class Forget(NamedTuple):
    """To the worker: no more calls of this work will come.

    Attributes:
        work: its number.
        tell: whether somebody waits for a ``Forgotten``.
    """

    work: int
    tell: bool = False


class Stop(NamedTuple):
    """To the worker: end in order."""


class Ready(NamedTuple):
    """From the worker: it was set up."""


class Unready(NamedTuple):
    """From the worker: its initializer raised, and it ends."""

    summary: str


class Forgotten(NamedTuple):
    """From the worker: it has let go of what it kept for this work."""

    work: int


class Full(NamedTuple):
    """From the worker: it holds more memory than it may, and takes no more calls."""


class Beat(NamedTuple):
    """From the worker: have this file touched every so many seconds while the worker lives."""

    path: bytes
    seconds: float


Message: TypeAlias = "Setup | Load | Forget | Stop | Ready | Unready | Forgotten | Full | Beat | Noted"

"""What runs calls for ``ExecutorRunner``: executors of ``concurrent.futures``, in this process or elsewhere."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future
from dataclasses import dataclass
from typing import Any, Final, Protocol

from manyhands.calls import Answer, Call, error_text, qualified_name
from manyhands.errors import ManyhandsError, PoolBroken, PoolClosed
from manyhands.settings import resolve_workers
from manyhands.workers import payload
from manyhands.workers.far import name_of_work, pack, run, run_calls

LONG_SECONDS: Final = 0.1
"""Calls that were sent together and did not begin in this time come back: others may be idle."""

SMALL_WORK: Final = 1 << 14
"""A work of fewer bytes goes with every call; of others those who have it keep it."""


@dataclass(eq=False, slots=True)
class Chunk:
    """Calls that are sent together.

    Attributes:
        tickets, calls: of each, the latter as they are sent.
        alone: whether nothing else may run beside it, since one of these may have ended its worker.
        with_work: whether the work is to be sent with it, whoever may have it.
        patience: what has not begun after so many seconds is to come back.
        refused: whether the engine did not take it.
        future: of its answers.
        sent, back: when it was handed to the engine, and when its future was done, by ``time.monotonic``.
    """

    tickets: list[int]
    calls: list[Any]
    alone: bool = False
    with_work: bool = False
    patience: float = LONG_SECONDS
    refused: bool = False
    future: Future[Any] | None = None
    sent: float = 0.0
    back: float = 0.0


class Engine(Protocol):
    """What runs chunks.

    Attributes:
        name: in messages.
        capacity: how many chunks run at the same time.
        ahead_seconds: calls that take longer are not sent before there is somebody for them.
        tells: whether ``cancel`` of its futures is true only if the chunk has not begun.
        steady: whether it lives on when a worker dies. Else what was out then has failed, and it takes no more.
        work: what it holds in this process, or None.
    """

    name: str
    capacity: int
    ahead_seconds: float
    tells: bool
    steady: bool
    work: Callable[[Call], Answer] | None

    def pack(self, call: Call) -> tuple[Any, int]:
        """A call as it is sent, and how many bytes it takes; raises what pickling raises."""
        ...

    def start(self, chunk: Chunk, may_run: Callable[[], bool]) -> Future[Any]:
        """Sends a chunk; the future's result is that of ``far.run`` or ``far.run_calls``."""
        ...

    def unpack(self, answer: Any) -> Answer:
        """An answer of such a result."""
        ...

    def is_death(self, error: BaseException) -> bool:
        """Whether a chunk raised this because of a worker that ended with it."""
        ...

    def fault(self, error: BaseException) -> ManyhandsError | None:
        """What a chunk raised or could not be started with, if no other can run either; None: it concerns that one."""
        ...

    def lost(self) -> ManyhandsError | None:
        """What has happened to the engine, if it will never answer."""
        ...


class ThreadsEngine:
    """A ``ThreadPoolExecutor``: nothing is pickled."""

    ahead_seconds = 0.0  # a thread finds its next call sooner than it could be told of it
    tells = True
    steady = True

    def __init__(self, executor: Executor, work: Callable[[Call], Answer], workers: int | None) -> None:
        self.name = qualified_name(type(executor))
        self.capacity = capacity(executor, workers)
        self.work: Callable[[Call], Answer] | None = work
        self._executor = executor
        self._work = work

    def pack(self, call: Call) -> tuple[Any, int]:
        """The call itself."""
        return call, 0

    def start(self, chunk: Chunk, may_run: Callable[[], bool]) -> Future[Any]:
        """Runs them here."""
        return self._executor.submit(run_calls, self._work, chunk.calls, may_run, chunk.patience)

    def unpack(self, answer: Any) -> Answer:
        """The answer itself."""
        return answer  # type: ignore[no-any-return]

    def is_death(self, error: BaseException) -> bool:
        """Threads don't die."""
        return False

    def fault(self, error: BaseException) -> ManyhandsError | None:
        """See ``executor_fault``."""
        return executor_fault(self.name, error)

    def lost(self) -> ManyhandsError | None:
        """It is here."""
        return None


class FarEngine:
    """Any executor, whose calls run wherever it takes them."""

    ahead_seconds = 0.02
    tells = True
    steady = False
    work: Callable[[Call], Answer] | None = None

    def __init__(
        self, executor: Executor, packed: bytes | payload.Large, tidy: bool, workers: int | None
    ) -> None:
        self.name = qualified_name(type(executor))
        self.capacity = capacity(executor, workers)
        self._executor = executor
        self._packed = pack(packed)
        self._work_name = name_of_work()
        self._tidy = tidy
        self._told = 0  # how many chunks went with the work

    def pack(self, call: Call) -> tuple[Any, int]:
        """Pickled."""
        packed = pack(payload.packed(call))
        return packed, len(packed)

    def start(self, chunk: Chunk, may_run: Callable[[], bool]) -> Future[Any]:
        """Sends them, with the work if it is small or somebody may not have it."""
        packed: bytes | None = None
        if len(self._packed) < SMALL_WORK or chunk.with_work or self._told < self.capacity:
            self._told += 1
            packed = self._packed
        calls = dumps(chunk.calls)
        return self._executor.submit(run, self._work_name, packed, calls, self._tidy, chunk.patience)

    def unpack(self, answer: Any) -> Answer:
        """Unpickled."""
        return unpickled(answer)

    def is_death(self, error: BaseException) -> bool:
        """A pool of processes breaks when one of them ends."""
        return isinstance(error, BrokenExecutor)

    def fault(self, error: BaseException) -> ManyhandsError | None:
        """See ``executor_fault``."""
        return executor_fault(self.name, error)

    def lost(self) -> ManyhandsError | None:
        """An executor settles its futures."""
        return None


def capacity(executor: Any, workers: int | None) -> int:
    """How many calls an executor runs at the same time, or is to run at most."""
    known = next(
        (
            number
            for name in ("_max_workers", "num_workers")
            if type(number := getattr(executor, name, None)) is int and number > 0
        ),
        None,
    )
    if workers is None and known is not None:
        return known
    wanted = resolve_workers(workers)
    return wanted if known is None else min(known, wanted)


def executor_fault(name: str, error: BaseException) -> ManyhandsError | None:
    """What it means for others that an executor has raised this, or refused a call with it."""
    text = f"{qualified_name(type(error))}: {error_text(error)}"
    if isinstance(error, BrokenExecutor):
        return PoolBroken(f"{name} has broken, and takes no more calls ({text})")
    if isinstance(error, ModuleNotFoundError) and (error.name or "").partition(".")[0] == "manyhands":
        return PoolBroken(f"manyhands must be installed where {name} runs its calls ({text})")
    if isinstance(error, CancelledError):
        return PoolClosed(f"{name} has cancelled its calls ({text})")
    if isinstance(error, RuntimeError) and "shutdown" in error_text(error):
        return PoolClosed(f"{name} takes no more calls ({text})")
    return None


def dumps(calls: Sequence[bytes]) -> bytes:
    """Packed calls as one: an executor is not to look into them."""
    return pickle.dumps(list(calls), protocol=5)


def unpickled(answer: bytes) -> Answer:
    """The answer, or what unpickling it raised."""
    try:
        return payload.loads(answer)  # type: ignore[no-any-return]
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        return payload.unloadable(error)

"""Dask: the engine that runs calls on the workers of a scheduler, and the clients for ``dask://`` addresses.

Dask runs again, elsewhere, what a worker had when it ended; a task whose workers have ended several times (see its
setting ``distributed.scheduler.allowed-failures``) has failed. So a call may be begun more than once.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import math
import os
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from typing import Any, Final

from manyhands.calls import Answer, Call, error_text, qualified_name
from manyhands.errors import ManyhandsError, PoolBroken
from manyhands.handler.engines import Chunk, dumps, executor_fault, unpickled
from manyhands.settings import DASK_SCHEME, resolve_workers
from manyhands.workers import payload
from manyhands.workers.far import name_of_work, pack, run

_clients: dict[str, Any] = {}
_lock = threading.Lock()
_log = logging.getLogger("manyhands")
_GONE: Final = ("closing", "closed")

NOBODY_SECONDS: Final = 5.0
"""Calls that wait so long while there are no workers: that is told, once."""


class DaskEngine:
    """The workers of a scheduler.

    Args:
        client: a ``distributed.Client``, which is not an asynchronous one.
        packed: the work.
        tidy: whether the work holds files.
        workers: how many calls are to run at the same time at most; None: as many as the workers have threads.
        label: in the names of tasks, for those who look at them.
        clock: tells seconds.
    """

    ahead_seconds = 0.1
    tells = False  # a task that is cancelled is forgotten, whether it runs or not
    steady = True
    work: Callable[[Call], Answer] | None = None

    def __init__(
        self,
        client: Any,
        packed: bytes | payload.Large,
        tidy: bool,
        workers: int | None,
        label: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        from distributed import KilledWorker

        if getattr(client, "_asynchronous", False):
            raise TypeError("backend can't be an asynchronous Client: its results could not be waited for")
        self._client = client
        self.name = f"Dask at {getattr(client.scheduler, 'address', 'a closed client')}"
        if client.status != "running":  # or it looks for a scheduler that it has lost, for half a minute
            raise _gone(self.name, None)
        self._packed = pack(packed)
        self._work_name = name_of_work()
        self._sent_work: Any = None
        self._tidy = tidy
        self._label = label
        self._killed: type[BaseException] = KilledWorker
        self._most = None if workers is None else resolve_workers(workers)
        self._asked: Future[Any] | None = None
        self._clock = clock
        self._looked = -math.inf
        self._nobody_since: float | None = None
        self._has_told = False
        try:
            self._count(client.nthreads())
        except Exception as error:
            raise self.fault(error) or _gone(self.name, error) from error

    def pack(self, call: Call) -> tuple[Any, int]:
        """Pickled."""
        packed = pack(payload.packed(call))
        return packed, len(packed)

    def start(self, chunk: Chunk, may_run: Callable[[], bool]) -> Future[Any]:
        """Submits a task."""
        client = self._client
        if self._sent_work is None or self._sent_work.status in ("cancelled", "error"):
            # A task rather than data: what a dead worker had of it is made again.
            self._sent_work = client.submit(
                _as_it_is, self._packed, key=f"work-of-{self._label}-{uuid.uuid4().hex}"
            )
        task = client.submit(
            run,
            self._work_name,
            self._sent_work,
            dumps(chunk.calls),
            self._tidy,
            chunk.patience,
            key=f"{self._label}-{uuid.uuid4().hex}",
            pure=False,
            retries=0,
        )
        return self._on_loop(_fetched(client, task))

    def unpack(self, answer: Any) -> Answer:
        """Unpickled."""
        return unpickled(answer)

    def is_death(self, error: BaseException) -> bool:
        """Dask gave up because workers ended."""
        return isinstance(error, self._killed)

    def fault(self, error: BaseException) -> ManyhandsError | None:
        """The scheduler can't be reached any more, or the workers lack what is needed."""
        lost = isinstance(error, CancelledError) and "connection-lost" in str(getattr(error, "reason", ""))
        if lost or self._client.status in _GONE:
            return _gone(self.name, error)
        return None if isinstance(error, CancelledError) else executor_fault(self.name, _root(error))

    def lost(self) -> ManyhandsError | None:
        """Whether the client was closed; also looks how many workers there are now, and warns if there are none.

        It is called about once a second while calls are out.
        """
        now = self._clock()
        if now - self._looked > NOBODY_SECONDS:  # nothing was out meanwhile, and what was known is old
            self._asked = self._nobody_since = None
        self._looked = now
        if self._client.status in _GONE:
            return _gone(self.name, None)
        if self._asked is not None and self._asked.done():
            if not self._asked.cancelled() and self._asked.exception() is None:
                self._count(self._asked.result())
                self._warn(now, has_workers=bool(self._asked.result()))
            self._asked = None
        if self._asked is None:
            try:
                self._asked = self._on_loop(_threads_of(self._client))
            except RuntimeError as error:  # its loop has ended
                return _gone(self.name, error)
        return None

    def _count(self, threads: dict[str, int]) -> None:
        # Where there is nobody yet, somebody may come if there is something to do.
        known = sum(threads.values()) or resolve_workers(None)
        self.capacity = known if self._most is None else min(known, self._most)

    def _warn(self, now: float, has_workers: bool) -> None:
        if has_workers:
            self._nobody_since = None
        elif self._nobody_since is None:
            self._nobody_since = now
        elif now - self._nobody_since >= NOBODY_SECONDS and not self._has_told:
            self._has_told = True
            _log.warning(
                "%s has had no workers for %d seconds; calls of %s wait until some come",
                self.name,
                NOBODY_SECONDS,
                self._label,
            )

    def _on_loop(self, coroutine: Any) -> Future[Any]:
        try:
            return asyncio.run_coroutine_threadsafe(coroutine, self._client.loop.asyncio_loop)
        except BaseException:
            coroutine.close()
            raise


def client_at(address: str) -> Any:
    """The client of this process for an address ``dask://host:port``, opened when it is first asked for."""
    try:
        from distributed import Client
    except ImportError as error:
        raise ImportError(
            f"backend={address!r} needs Dask, which is not installed: pip install 'manyhands[dask]'"
        ) from error
    with _lock:
        client = _clients.get(address)
        if client is None or client.status in _GONE:
            scheduler = f"tcp://{address.removeprefix(DASK_SCHEME)}"
            try:
                client = Client(scheduler, set_as_default=False)
            except OSError as error:
                raise PoolBroken(f"no Dask scheduler answers at {scheduler} ({error_text(error)})") from error
            if not _clients:
                atexit.register(close_clients)
            _clients[address] = client
    return client


def close_clients() -> None:
    """Closes what ``client_at`` has opened."""
    while _clients:
        _clients.popitem()[1].close()


def _start_afresh() -> None:
    global _lock
    _lock = threading.Lock()
    _clients.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_afresh)


async def _fetched(client: Any, task: Any) -> Any:
    # A client joins what it gathers: to cancel that would cancel the gathering of others, too.
    gathering = asyncio.ensure_future(client.gather(task, asynchronous=True))
    gathering.add_done_callback(_seen)
    try:
        return await asyncio.shield(gathering)
    finally:
        task.release()  # a task that nobody asks for any more is dropped, and its gathering ends


def _seen(gathering: asyncio.Future[Any]) -> None:
    """What it raised was told, or nobody wants to know."""
    if not gathering.cancelled():
        gathering.exception()


async def _threads_of(client: Any) -> Any:
    return await client.nthreads(asynchronous=True)


def _as_it_is(packed: bytes) -> bytes:
    return packed


def _gone(name: str, error: BaseException | None) -> PoolBroken:
    why = "" if error is None else f" ({qualified_name(type(error))}: {error_text(error)})"
    return PoolBroken(f"{name} can't be reached any more{why}")


def _root(error: BaseException) -> BaseException:
    """Dask wraps what went wrong while a task was unpickled."""
    while error.__cause__ is not None and not isinstance(error, ModuleNotFoundError):
        error = error.__cause__
    return error

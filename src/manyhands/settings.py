"""Frozen settings: how a map runs, which pool it runs on, and the defaults of both.

A decorator captures settings, a call makes its own state.
"""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, fields
from functools import cache
from typing import Any, Final, Literal, Protocol, get_args

from manyhands.calls import short_repr
from manyhands.spelling import check_names, suggesting, suggestion

StartMethod = Literal["fork", "spawn", "forkserver"]
OnError = Literal["raise", "return", "skip"]


class DaskClient(Protocol):
    """What type checkers take for a ``distributed.Client``, which need not be installed."""

    def get_executor(self, **kwargs: Any) -> Any:
        """An executor over its workers."""
        ...


Backend = Executor | str | DaskClient | None
"""Who runs the calls of a map."""

LEASE: Final = 120.0
"""Seconds without a sign of life after which the owner of a claim that can't be judged is taken for dead.

Twice the time for which an NFS client may believe old attributes, at its own defaults.
"""

MAX_CRASHES: Final = 3
"""Owners that an output may end, one after the other, before it has failed."""

DEFAULT_START_METHOD: Final[StartMethod] = "forkserver" if sys.platform == "linux" else "spawn"


_THREAD_VARIABLES: Final = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)


@dataclass(frozen=True)
class PoolSettings:
    """What makes two pools the same pool.

    Attributes:
        workers: number of worker processes, resolved (at least 1).
        start_method: how they are started.
        initializer: runs first in every worker, without arguments.
        finalizer: runs last in every worker that ends in order, without arguments.
        threads: how many calls run in each worker at the same time.
        max_tasks: calls after which a worker is replaced; None: never.
        max_memory: bytes of resident memory above which a worker is replaced after a call; None: never.
        max_shared: bytes of shared memory that arguments may take, and results as many; None: a quarter of the
            machine's memory.
    """

    workers: int
    start_method: StartMethod = DEFAULT_START_METHOD
    initializer: Callable[[], object] | None = None
    finalizer: Callable[[], object] | None = None
    threads: int = 1
    max_tasks: int | None = None
    max_memory: int | None = None
    max_shared: int | None = None

    @property
    def sets_up(self) -> bool:
        """Whether workers run something of the user's before their first call, or after the last one."""
        return bool(self.initializer or self.finalizer)

    def shared_bytes(self) -> int:
        """``max_shared``, resolved."""
        if self.max_shared is not None:
            return self.max_shared
        try:
            return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 4
        except (OSError, ValueError):
            return 1 << 30

    def environment(self) -> dict[str, str]:
        """What workers find set, so that numerical libraries don't start more threads than there are cores.

        Empty where the user has set ``OMP_NUM_THREADS``; other variables that are set stay as they are.
        """
        if "OMP_NUM_THREADS" in os.environ:
            return {}
        each = str(max(1, available_cores() // (self.workers * self.threads)))
        return dict.fromkeys(_THREAD_VARIABLES, each)


_OWN_WORKERS: Final = {
    "timeout": "can't end a call that runs",
    "threads": "runs its calls in threads of its own",
    "start_method": "starts its own processes",
    "initializer": "starts its own processes",
    "finalizer": "ends its own processes",
    "max_tasks_per_worker": "replaces its own processes",
    "max_memory_per_worker": "replaces its own processes",
    "max_shared_memory": "shares no memory with this process",
    "readonly": "gives each call its own arguments",
}
"""Options that other executors can't keep, and why."""

_OWN_THREADS: Final = {
    "start_method": "starts no processes",
    "initializer": "prepares its own threads",
    "finalizer": "ends its own threads",
    "max_tasks_per_worker": "keeps its threads",
    "max_memory_per_worker": "keeps its threads, which have this process's memory",
    "max_shared_memory": "sends no arguments: its calls get the very objects",
    "readonly": "gives its calls the very objects, as they are",
}
"""Why an executor of threads can't, where it is for another reason."""

DASK_SCHEME: Final = "dask://"


@dataclass(frozen=True)
class MapOptions:
    """The options of ``@parallel``, ``.options(…)`` and ``.map(…)``; they mean the same everywhere.

    Attributes:
        workers: worker processes; None: as configured, else the cores this process may use; -1: all of those,
            -2: all but one, and so on.
        threads: calls that run at the same time in each worker process.
        backend: None for the shared pool, "threads" for threads of this process, "inline" for this very thread, an
            open ``Controller``, any other executor, "dask://host:port", or a ``distributed.Client``.
        chunksize: items sent to a worker at once; "auto" lets the library decide.
        buffersize: bound on items in flight plus results not yet taken; None: the library decides.
        ordered: results in the order of the input (True) or as they finish.
        timeout: seconds that a call may take, in worker processes; it is ended then, with its worker.
        progress: False; True, or the text that stands before the bar; a tqdm class; or a function that is called with
            a ``Progress``.
        worker_bars: whether there is a bar for each worker, too.
        record: whether the map's ``report`` can be asked for; a directory: it also writes a journal there.
        trace: where the map writes a trace when it ends, for Perfetto; None: nowhere.
        on_error: "raise" the first error, "return" failures in their places, or "skip" them.
        start_method: None: forkserver on Linux, spawn elsewhere.
        initializer: runs first in every worker.
        finalizer: runs last in every worker that ends in order.
        max_tasks_per_worker: calls after which a worker is replaced.
        max_memory_per_worker: bytes of resident memory above which a worker is replaced, after the call.
        readonly: whether large arguments arrive as views that can't be written to. Otherwise a call may write to its
            own, which nobody else sees; that takes some memory, and a little time.
        max_shared_memory: bytes of shared memory that large arguments may take at a time, and large results as
            many; what does not fit goes through pipes. None: a quarter of the machine's memory.
    """

    workers: int | None = None
    threads: int = 1
    backend: Any = None
    chunksize: int | Literal["auto"] = "auto"
    buffersize: int | None = None
    ordered: bool = True
    timeout: float | None = None
    progress: Any = False
    worker_bars: bool = False
    record: bool | str | os.PathLike[str] = False
    trace: str | os.PathLike[str] | None = None
    on_error: OnError = "raise"
    start_method: StartMethod | None = None
    initializer: Callable[[], object] | None = None
    finalizer: Callable[[], object] | None = None
    max_tasks_per_worker: int | None = None
    max_memory_per_worker: int | None = None
    max_shared_memory: int | None = None
    readonly: bool = False

    def __post_init__(self) -> None:
        self._check(vars(self))

    def _check(self, given: Mapping[str, Any]) -> None:
        """Raises TypeError or ValueError, which name the option, for what is wrong with these of its options."""
        for name, value in given.items():
            _CHECKS[name](name, value)
        if self.timeout is not None and isinstance(self.backend, str) and self.backend in ("inline", "threads"):
            raise ValueError(
                f"timeout needs worker processes, which can be ended; backend={self.backend!r} has none"
            )
        if is_foreign(self.backend):
            self._check_foreign()

    def __repr__(self) -> str:
        return f"MapOptions({self.changes_text()})"

    def changes_text(self) -> str:
        """What is not as by default: ``workers=4, ordered=False``."""
        own = [(option.name, getattr(self, option.name), option.default) for option in fields(self)]
        return ", ".join(f"{name}={short_repr(value)}" for name, value, default in own if value != default)

    def _check_foreign(self) -> None:
        """Raises ValueError for what can be had of this library's own workers only."""
        reasons = _OWN_WORKERS | _OWN_THREADS if is_here(self.backend) else _OWN_WORKERS
        for option in fields(self):
            if option.name in reasons and getattr(self, option.name) != option.default:
                raise ValueError(
                    f"{option.name} needs worker processes of manyhands: it can't be had with "
                    f"backend={short_name(self.backend)}, which {reasons[option.name]}"
                )

    def changed(self, changes: dict[str, Any], who: str = "", own: tuple[str, ...] = ()) -> MapOptions:
        """A copy with ``changes``; raises TypeError for an unknown name.

        Args:
            changes: by name.
            who: takes them, in messages.
            own: what that takes beside them.
        """
        if not changes:
            return self
        check_names(changes, option_names().union(own), who)
        changed = object.__new__(MapOptions)  # every map makes one: what has been checked is not checked again
        vars(changed).update(vars(self))
        vars(changed).update(changes)
        changed._check(changes)
        return changed

    def pool(self) -> PoolSettings:
        """The settings of the shared pool that these options ask for."""
        return PoolSettings(
            resolve_workers(self.workers),
            self.start_method or configured.start_method or DEFAULT_START_METHOD,
            self.initializer,
            self.finalizer,
            self.threads,
            self.max_tasks_per_worker,
            self.max_memory_per_worker,
            self.max_shared_memory,
        )


def check_progress(progress: object) -> None:
    """Raises TypeError unless this can be a ``progress``."""
    if isinstance(progress, bool | str):
        return
    if isinstance(progress, type):
        if all(callable(getattr(progress, name, None)) for name in ("update", "set_postfix", "close")):
            return
    elif callable(progress):
        return
    raise TypeError(
        f"progress must be True, False, a text, a class with the methods of tqdm, or a function that takes a Progress, "
        f"not {progress!r}"
    )


def check_backend(backend: object) -> None:
    """Raises TypeError or ValueError unless this can be a ``backend``."""
    if backend is None or is_foreign(backend) or isinstance(backend, Executor):
        return
    if isinstance(backend, str) and backend in ("inline", "threads"):
        return
    raise (ValueError if isinstance(backend, str) else TypeError)(
        f"backend must be None (worker processes), 'threads', 'inline', 'dask://host:port', a Controller, a Dask "
        f"Client or an executor of concurrent.futures, not {short_repr(backend)}"
        f"{suggestion(backend, ('threads', 'inline'))}"
    )


def is_foreign(backend: object) -> bool:
    """Whether calls are run by somebody else: an executor that is no ``Controller``, or Dask."""
    if isinstance(backend, str):
        host, _, port = backend.removeprefix(DASK_SCHEME).rpartition(":")
        return backend.startswith(DASK_SCHEME) and bool(host) and port.isdecimal()
    if isinstance(backend, Executor):
        return not hasattr(type(backend), "dispatcher")
    return is_dask(backend)


def is_here(executor: object) -> bool:
    """Whether the calls of an executor run in this very process and interpreter."""
    from concurrent.futures import ThreadPoolExecutor  # loaded where it is used

    if not isinstance(executor, ThreadPoolExecutor):
        return False
    return "InterpreterPoolExecutor" not in {kind.__name__ for kind in type(executor).__mro__}


def is_dask(backend: object) -> bool:
    """Whether this is an address of Dask's, or a client."""
    if isinstance(backend, str):
        return backend.startswith(DASK_SCHEME)
    return any(
        kind.__name__ == "Client" and kind.__module__.partition(".")[0] == "distributed"
        for kind in type(backend).__mro__
    )


def short_name(backend: object) -> str:
    """A backend in messages."""
    return repr(backend) if isinstance(backend, str) else f"a {type(backend).__qualname__}"


@cache
def option_names() -> frozenset[str]:
    """The names of all options of a map."""
    return frozenset(option.name for option in fields(MapOptions))


@dataclass(frozen=True)
class Configuration:
    """Defaults of this process, set by ``configure``."""

    workers: int | None = None
    start_method: StartMethod | None = None


configured = Configuration()


@suggesting("configure", example="configure(workers=4)")
def configure(*, workers: int | None = None, start_method: StartMethod | None = None) -> None:
    """Sets the defaults of this process; what is not given goes back to the library's own default.

    Args:
        workers: as in ``@parallel``; goes before the environment variable ``MANYHANDS_WORKERS``.
        start_method: as in ``@parallel``.

    Raises:
        ValueError: a value is out of range.
    """
    global configured
    MapOptions(workers=workers, start_method=start_method)  # checks both
    configured = Configuration(workers, start_method)


@dataclass(frozen=True)
class Rehearsal:
    """What ``manyhands.testing.inline`` puts in the place of processes, of time and of the filesystem of claims.

    Attributes:
        clock: seconds that never go back.
        sleep: lets so many of them pass.
        filesystem: performs the operations of claims.
    """

    clock: Callable[[], float]
    sleep: Callable[[float], object]
    filesystem: Any


_rehearsal: Rehearsal | None = None


def rehearse(rehearsal: Rehearsal | None) -> None:
    """Maps and calls that begin from now on run in the thread that asks for them, with these; None: as ever."""
    global _rehearsal
    _rehearsal = rehearsal


def current_rehearsal() -> Rehearsal | None:
    """What maps and calls that begin now take."""
    return _rehearsal


def current_clock() -> Callable[[], float]:
    """Tells the time to maps and calls that begin now."""
    return time.monotonic if _rehearsal is None else _rehearsal.clock


def forced_bars() -> bool | None:
    """What the environment variable ``MANYHANDS_PROGRESS`` says: bars everywhere, or nowhere; None: nothing.

    Raises:
        ValueError: it is neither "1" nor "0".
    """
    text = os.environ.get("MANYHANDS_PROGRESS", "").strip()
    if text not in ("", "0", "1"):
        raise ValueError(f"MANYHANDS_PROGRESS must be 1 (bars everywhere), 0 (nowhere) or empty, not {text!r}")
    return bool(int(text)) if text else None


def resolve_workers(workers: int | None, name: str = "workers") -> int:
    """The number of worker processes that ``workers`` asks for; at least 1.

    Raises:
        TypeError, ValueError: it is no whole number, or 0, or fewer than all cores allow.
    """
    if workers is None:
        workers = configured.workers
    if workers is None:
        text = os.environ.get("MANYHANDS_WORKERS", "").strip()
        if not text:
            return available_cores()
        name = "MANYHANDS_WORKERS"
        try:
            workers = int(text)
        except ValueError:
            raise ValueError(f"MANYHANDS_WORKERS must be a whole number, not {short_repr(text)}") from None
    if not isinstance(workers, int) or isinstance(workers, bool):
        raise TypeError(f"{name} must be a whole number or None, not {short_repr(workers)}")
    if workers == 0:
        raise ValueError(f"{name} must not be 0: give 1 or more, -1 for all cores, or None for the default")
    if workers < 0:
        return max(1, available_cores() + 1 + workers)
    return workers


def available_cores() -> int:
    """The cores this process may use, by its affinity and its cgroup's quota; at least 1."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _cgroup_cores()
    return max(1, min(cores, math.ceil(quota))) if quota else cores


_CGROUPS = "/sys/fs/cgroup"
_OWN_CGROUP = "/proc/self/cgroup"


def _cgroup_cores() -> float | None:
    """The processor quota of this process's cgroup (version 2, or 1), in cores; None if there is none."""
    quotas = []
    for files in _quota_files(_CGROUPS, _OWN_CGROUP):
        try:
            limit, period = " ".join(map(_read, files)).split()
            if limit != "max" and int(limit) > 0:
                quotas.append(int(limit) / int(period))
        except (OSError, ValueError):
            pass
    return min(quotas, default=None)


@cache
def _quota_files(top: str, membership: str) -> list[tuple[str, ...]]:
    """The files that may set a quota, a limit and its period each: every map asks, and most machines have few.

    Args:
        top: where the control groups are.
        membership: says which of them is this process's.
    """
    try:
        own = _read(membership)
    except OSError:
        return []
    group = next((line.partition("::")[2] for line in own.splitlines() if line.startswith("0::")), "/")
    names = [name for name in group.split("/") if name]
    above = ["/".join((top, *names[:depth])) for depth in range(len(names), -1, -1)]
    found: list[tuple[str, ...]] = [(f"{directory}/cpu.max",) for directory in above]  # any may set the limit
    found.append((f"{top}/cpu/cpu.cfs_quota_us", f"{top}/cpu/cpu.cfs_period_us"))
    return [files for files in found if all(map(os.path.exists, files))]


def _read(file: str) -> str:
    """The text of a small file of the kernel's: every map asks, and a stream takes longer to open."""
    descriptor = os.open(file, os.O_RDONLY)
    try:
        return os.read(descriptor, 1 << 16).decode()
    finally:
        os.close(descriptor)


def check_positive(name: str, value: object, least: int = 1) -> None:
    """Raises TypeError or ValueError, which name the argument, unless it is a whole number of ``least`` or more."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} must be a whole number, not {short_repr(value)}")
    if value < least:
        raise ValueError(f"{name} must be at least {least}, not {value}")


def check_seconds(name: str, value: object) -> None:
    """Raises TypeError or ValueError, which name the argument, unless it is a number of seconds above 0."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError(f"{name} must be a number of seconds or None, not {short_repr(value)}")
    if not 0 < value < math.inf:
        raise ValueError(f"{name} must be more than 0 seconds, and finite, not {value}")


def _check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        near = suggestion(value, choices)
        raise ValueError(
            f"{name} must be one of {', '.join(map(repr, choices))}, not {short_repr(value)}{near}"
        )


def _check_chunksize(name: str, value: object) -> None:
    if value != "auto":
        check_positive(name, value)


def _check_flag(name: str, value: object) -> None:
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, not {short_repr(value)}")


def _check_function(name: str, value: object) -> None:
    if not callable(value):
        raise TypeError(f"{name} must be a function without arguments, not {short_repr(value)}")


def _check_record(name: str, value: object) -> None:
    if not isinstance(value, bool | str | os.PathLike) or value == "":
        raise TypeError(f"{name} must be True, False or the path of a directory, not {value!r}")


def _check_trace(name: str, value: object) -> None:
    if not isinstance(value, str | os.PathLike) or value == "":
        raise TypeError(f"{name} must be the path of a file, or None; not {value!r}")


def _optional(check: Callable[[str, Any], object]) -> Callable[[str, object], object]:
    return lambda name, value: value is None or check(name, value)


_CHECKS: Final[dict[str, Callable[[str, Any], object]]] = {
    "workers": _optional(lambda name, value: resolve_workers(value, name)),
    "threads": check_positive,
    "backend": lambda _, value: check_backend(value),
    "chunksize": _check_chunksize,
    "buffersize": _optional(check_positive),
    "ordered": _check_flag,
    "timeout": _optional(check_seconds),
    "progress": lambda _, value: check_progress(value),
    "worker_bars": _check_flag,
    "record": _check_record,
    "trace": _optional(_check_trace),
    "on_error": lambda name, value: _check_choice(name, value, get_args(OnError)),
    "start_method": _optional(lambda name, value: _check_choice(name, value, get_args(StartMethod))),
    "initializer": _optional(_check_function),
    "finalizer": _optional(_check_function),
    "max_tasks_per_worker": _optional(check_positive),
    "max_memory_per_worker": _optional(check_positive),
    "max_shared_memory": _optional(lambda name, value: check_positive(name, value, least=0)),
    "readonly": _check_flag,
}
"""What is to hold of each option of a map, whatever the others are."""

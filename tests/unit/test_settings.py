"""Options of maps, the number of workers, and defaults of a process."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tqdm import tqdm

from manyhands import settings
from manyhands.settings import (
    DEFAULT_START_METHOD,
    MapOptions,
    PoolSettings,
    available_cores,
    configure,
    option_names,
    resolve_workers,
)


@pytest.fixture(autouse=True)
def as_installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No defaults but the library's, before and after."""
    monkeypatch.delenv("MANYHANDS_WORKERS", raising=False)
    configure()
    yield
    configure()


CORES = available_cores()


@given(st.integers(1, 10**6))
def test_workers_are_what_was_asked_for(workers: int) -> None:
    """A positive number is taken as it is."""
    assert resolve_workers(workers) == MapOptions(workers=workers).pool().workers == workers


@given(st.integers(-1000, -1))
def test_negative_workers_leave_cores_free(workers: int) -> None:
    """-1 is all cores, -2 all but one and so on, at least one worker."""
    assert resolve_workers(workers) == max(1, CORES - (-workers - 1))


def test_cores_by_affinity(monkeypatch: pytest.MonkeyPatch) -> None:
    """No more than this process may use, by affinity and quota, and at least one."""
    monkeypatch.setattr(settings, "_cgroup_cores", lambda: None)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(7)), raising=False)
    assert available_cores() == 7
    for quota, cores in [(2.0, 2), (2.5, 3), (0.3, 1), (100.0, 7)]:
        monkeypatch.setattr(settings, "_cgroup_cores", lambda quota=quota: quota)
        assert available_cores() == cores
    assert resolve_workers(-1) == 7


@pytest.mark.parametrize(
    ("group", "quotas", "cores"),
    [
        ("0::/a/b", {}, None),
        ("0::/a/b", {"a/b/cpu.max": "max 100000\n", "a/cpu.max": "max 100000\n"}, None),
        ("0::/a/b", {"a/b/cpu.max": "150000 100000\n"}, 1.5),
        (
            "0::/a/b",
            {"a/b/cpu.max": "250000 100000\n", "a/cpu.max": "50000 100000\n", "c/cpu.max": "1 2\n"},
            0.5,
        ),
        ("0::/", {"cpu.max": "300000 100000\n"}, 3.0),
        ("4:cpu:/x\n0::/", {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ("4:cpu:/x", {"cpu/cpu.cfs_quota_us": "200000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 2.0),
        ("0::/a", {"a/cpu.max": "", "cpu.max": "many 100000"}, None),
    ],
)
def test_quotas_of_control_groups(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, group: str, quotas: dict[str, str], cores: float | None
) -> None:
    """The least of the process's own group and of those above it; read anew each time."""
    monkeypatch.setattr(settings, "_CGROUPS", str(tmp_path / "groups"))
    monkeypatch.setattr(settings, "_OWN_CGROUP", str(tmp_path / "own"))
    assert settings._cgroup_cores() is None
    monkeypatch.setattr(settings, "_OWN_CGROUP", str(tmp_path / "mine"))
    (tmp_path / "mine").write_text(f"{group}\n")
    for name, text in quotas.items():
        (tmp_path / "groups" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "groups" / name).write_text(text)
    assert settings._cgroup_cores() == cores
    for name, text in quotas.items():
        (tmp_path / "groups" / name).write_text(text.replace("50000 ", "10000 "))
    assert settings._cgroup_cores() == (cores and {1.5: 1.1, 0.5: 0.1}.get(cores, cores))


def test_who_decides_the_number_of_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The argument before ``configure`` before the environment before the cores."""
    assert resolve_workers(None) == CORES
    monkeypatch.setenv("MANYHANDS_WORKERS", " 5 ")
    assert resolve_workers(None) == 5 == MapOptions().pool().workers
    configure(workers=3)
    assert resolve_workers(None) == 3
    assert resolve_workers(2) == 2
    configure()
    assert resolve_workers(None) == 5
    monkeypatch.setenv("MANYHANDS_WORKERS", "  ")
    assert resolve_workers(None) == CORES
    monkeypatch.setenv("MANYHANDS_WORKERS", "-1")
    assert resolve_workers(None) == CORES


@pytest.mark.parametrize("text", ["0", "two", "1.5", "1 2"])
def test_a_bad_environment_is_named(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """The message names the variable, not an argument that nobody gave."""
    monkeypatch.setenv("MANYHANDS_WORKERS", text)
    with pytest.raises(ValueError, match="MANYHANDS_WORKERS must"):
        resolve_workers(None)


BAD: list[tuple[str, Any, type[Exception]]] = [
    ("workers", 0, ValueError),
    ("workers", True, TypeError),
    ("workers", 1.0, TypeError),
    ("workers", "2", TypeError),
    ("backend", "process", ValueError),
    ("chunksize", 0, ValueError),
    ("chunksize", -1, ValueError),
    ("chunksize", 1.5, TypeError),
    ("chunksize", None, TypeError),
    ("chunksize", "all", TypeError),
    ("chunksize", True, TypeError),
    ("buffersize", 0, ValueError),
    ("buffersize", "auto", TypeError),
    ("buffersize", True, TypeError),
    ("progress", None, TypeError),
    ("progress", 1, TypeError),
    ("progress", int, TypeError),
    ("worker_bars", None, TypeError),
    ("worker_bars", 4, TypeError),
    ("record", None, TypeError),
    ("record", 1, TypeError),
    ("record", "", TypeError),
    ("trace", True, TypeError),
    ("trace", "", TypeError),
    ("on_error", "ignore", ValueError),
    ("on_error", None, ValueError),
    ("on_error", [], ValueError),
    ("start_method", "thread", ValueError),
    ("initializer", 5, TypeError),
    ("finalizer", "f", TypeError),
    ("threads", 0, ValueError),
    ("threads", None, TypeError),
    ("timeout", 0, ValueError),
    ("timeout", float("inf"), ValueError),
    ("timeout", float("nan"), ValueError),
    ("timeout", "1", TypeError),
    ("timeout", True, TypeError),
    ("max_tasks_per_worker", 0, ValueError),
    ("max_tasks_per_worker", 1.5, TypeError),
    ("max_memory_per_worker", 0, ValueError),
    ("max_memory_per_worker", "1G", TypeError),
    ("readonly", 1, TypeError),
    ("readonly", None, TypeError),
    ("max_shared_memory", -1, ValueError),
    ("max_shared_memory", "1G", TypeError),
]


@pytest.mark.parametrize(("name", "value", "kind"), BAD)
def test_a_bad_option_is_named(name: str, value: Any, kind: type[Exception]) -> None:
    """Each is told as the options are made, by its name and with what was given."""
    with pytest.raises(kind, match=rf"^{name} must .*{re.escape(str(value))}"):
        MapOptions(**{name: value})
    with pytest.raises(kind, match=f"^{name} must"):
        MapOptions().changed({name: value})


def test_every_option_is_checked() -> None:
    """An option that is added later gets its line above; any value is right for ``ordered`` as for ``if``."""
    assert {name for name, *_ in BAD} == option_names() - {"ordered"}


def test_an_unknown_option_is_named() -> None:
    """With those that there are."""
    with pytest.raises(
        TypeError, match=r"'time_out' .did you mean 'timeout'.*; the options are backend, .*workers"
    ):
        MapOptions().changed({"time_out": 1})


@pytest.mark.parametrize("wrong", [{"workers": 0}, {"workers": "x"}, {"start_method": "thread"}])
def test_configure_takes_nothing_wrong(wrong: dict[str, Any]) -> None:
    """A wrong default is told, and changes nothing."""
    configure(workers=3, start_method="spawn")
    with pytest.raises((TypeError, ValueError), match=f"^{next(iter(wrong))} must"):
        configure(**wrong)
    assert (settings.configured.workers, settings.configured.start_method) == (3, "spawn")


good = st.fixed_dictionaries(
    {},
    optional={
        "workers": st.none() | st.integers(1, 9) | st.integers(-9, -1),
        "backend": st.sampled_from([None, "inline"]),
        "chunksize": st.just("auto") | st.integers(1),
        "buffersize": st.none() | st.integers(1),
        "ordered": st.booleans(),
        "progress": st.booleans() | st.text() | st.sampled_from([tqdm, print]),
        "worker_bars": st.booleans(),
        "record": st.booleans() | st.just("records"),
        "trace": st.none() | st.just("run.json"),
        "on_error": st.sampled_from(["raise", "return", "skip"]),
        "start_method": st.sampled_from([None, "fork", "spawn", "forkserver"]),
        "initializer": st.sampled_from([None, print]),
        "finalizer": st.sampled_from([None, print]),
        "threads": st.integers(1, 4),
        "max_tasks_per_worker": st.none() | st.integers(1),
        "max_memory_per_worker": st.none() | st.integers(1),
        "max_shared_memory": st.none() | st.integers(0),
    },
)


@given(good, good)
def test_changes_win_and_leave_the_original(first: dict[str, Any], second: dict[str, Any]) -> None:
    """``changed`` is a copy, equal to options made with both, the later ones winning."""
    options = MapOptions(**first)
    assert options.changed(second) == MapOptions(**{**first, **second})
    assert options == MapOptions(**first)
    assert options.changed({}) is options


@given(good)
def test_equal_options_share_a_pool(options: dict[str, Any]) -> None:
    """A pool's settings are a key, and depend on nothing but what makes a pool."""
    made = MapOptions(**options)
    pool = made.pool()
    assert pool == made.changed({"ordered": False, "on_error": "skip", "buffersize": 7}).pool()
    assert hash(pool) == hash(made.pool())
    assert pool.start_method == (options.get("start_method") or DEFAULT_START_METHOD)
    assert (pool.initializer, pool.finalizer) == (options.get("initializer"), options.get("finalizer"))
    assert pool.threads == options.get("threads", 1)
    assert (pool.max_tasks, pool.max_memory, pool.max_shared) == (
        options.get("max_tasks_per_worker"),
        options.get("max_memory_per_worker"),
        options.get("max_shared_memory"),
    )


def test_a_configured_start_method_is_the_default() -> None:
    """The option before ``configure`` before the platform's."""
    configure(start_method="spawn")
    assert MapOptions(workers=1).pool() == PoolSettings(1, "spawn")
    assert MapOptions(workers=1, start_method="fork").pool() == PoolSettings(1, "fork")
    configure()
    assert MapOptions(workers=1).pool() == PoolSettings(1, DEFAULT_START_METHOD)

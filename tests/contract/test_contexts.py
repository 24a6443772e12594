"""Context variables go to where calls run."""

from __future__ import annotations

import contextvars
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from manyhands import Controller, Handler, parallel, retry_on
from manyhands.workers import contexts
from tests.contract import context_tasks
from tests.contract.context_tasks import ask, request, set_again
from tests.helpers import run_script, write_script


@pytest.fixture
def requested() -> Iterator[None]:
    """A variable is set, and another to what can't be sent."""
    tokens = request.set("r-17"), context_tasks.lock.set(threading.Lock())
    yield
    request.reset(tokens[0])
    context_tasks.lock.reset(tokens[1])


@pytest.fixture(params=["threads", "executor"])
def local(request: pytest.FixtureRequest) -> Iterator[dict[str, Any]]:
    """Options that say in which threads of this process a map runs."""
    if request.param == "threads":
        yield {"backend": "threads", "workers": 2}
        return
    with ThreadPoolExecutor(2) as pool:
        yield {"backend": pool}


@pytest.mark.usefixtures("requested")
def test_calls_see_what_is_set_where_the_map_begins(how: dict[str, Any]) -> None:
    """Not what is set later; and what can't be sent does not hinder the rest."""
    with parallel(ask, **how).map(range(100)) as results:
        seen = {next(results)}
        token = request.set("later")
        try:
            seen.update(results)
        finally:
            request.reset(token)
    assert seen == ({"r-17", "later"} if how.get("backend") == "inline" else {"r-17"})


@pytest.mark.usefixtures("requested")
def test_in_threads_of_this_process_too(local: dict[str, Any]) -> None:
    """With whatever is set, since nothing has to be sent."""
    assert set(parallel(ask).map(range(50), **local)) == {"r-17"}


@pytest.mark.usefixtures("requested")
def test_each_call_has_a_context_of_its_own(processes: dict[str, Any], local: dict[str, Any]) -> None:
    """What one sets, the next does not see."""
    assert set(parallel(set_again, **processes).map(range(200))) == {"r-17"}
    assert set(parallel(set_again).map(range(50), **local)) == {"r-17"}


@pytest.mark.usefixtures("requested")
def test_an_executor_takes_them_along(method: str) -> None:
    """With each call that is submitted, and with a map, as they are set there; each call has a context of its own."""
    with Controller(2, start_method=method) as pool:  # type: ignore[arg-type]
        first = [pool.submit(set_again, number) for number in range(20)]
        token = request.set("later")
        later = pool.submit(ask, 1)
        results = pool.map(set_again, range(20), chunksize=5)
        request.reset(token)
        assert {future.result() for future in first} == {"r-17"}
        assert later.result() == "later" and set(results) == {"later"}
        token = request.set("raise 3")
        with pytest.raises(ValueError, match="raise 3"):
            pool.submit(ask, 3).result()
        request.reset(token)


def test_a_variable_of_a_script_travels_with_the_first_call(method: str, tmp_path: Path) -> None:
    """Of an executor, too: that the call uses it is found out as it is pickled."""
    script = write_script(
        tmp_path / "script.py",
        f"""
        from contextvars import ContextVar

        from manyhands import Controller

        name = ContextVar("name", default="nobody")

        def ask(x):
            return name.get()

        name.set("r-17")
        with Controller(1, start_method="{method}") as pool:
            print(pool.submit(ask, 1).result(), *pool.map(ask, [2]))
        """,
    )
    assert run_script(script).split() == ["r-17", "r-17"]


def test_the_next_map_has_the_next_context(processes: dict[str, Any]) -> None:
    """In the same workers; also if nothing is set any more."""
    function = parallel(ask, **processes)
    for name in ("a", "b"):
        token = request.set(name)
        assert set(function.map(range(10))) == {name}
        request.reset(token)
    assert set(function.map(range(10))) == {"nobody"}


def test_submitted_calls_have_the_context_of_their_submission(processes: dict[str, Any]) -> None:
    """Each its own."""
    function = parallel(ask, **processes)
    futures = []
    for name in ("a", "b", "a"):
        token = request.set(name)
        futures.append(function.submit(0))
        request.reset(token)
    futures.append(function.submit(0))
    assert [future.result() for future in futures] == ["a", "b", "a", "nobody"]


def test_submitted_calls_that_may_come_back_have_theirs(processes: dict[str, Any]) -> None:
    """Though they have a thread of their own, which is the function's."""
    function = parallel(retry_on(OSError, attempts=2)(ask), **processes)
    futures = []
    for name in ("a", "b", "a"):
        token = request.set(name)
        futures.append(function.submit(0))
        request.reset(token)
    futures.append(function.submit(0))
    assert [future.result() for future in futures] == ["a", "b", "a", "nobody"]


@pytest.mark.usefixtures("requested")
def test_a_handler_has_the_context_that_it_was_made_in(processes: dict[str, Any]) -> None:
    """For all its items."""
    with Handler(ask, **processes) as handler:
        handler.extend(range(5))
        assert {outcome.value for outcome in handler.drain()} == {"r-17"}


def test_other_errors_and_values_go_their_ways(how: dict[str, Any]) -> None:
    """Running in a context changes nothing else."""
    token = request.set("raise 3")
    try:
        results = list(parallel(ask, **how).map(range(6), on_error="return"))
    finally:
        request.reset(token)
    assert results[:3] == ["raise 3"] * 3
    assert isinstance(results[3].error, ValueError) and "ask" in results[3].traceback


SCRIPT = """
import contextvars, sys
from manyhands import parallel

plain = contextvars.ContextVar("plain")
default = contextvars.ContextVar("default", default=[1])
unset = contextvars.ContextVar("unset")

def both(x):
    return plain.get(), other(), unset.get("none")

def other():
    return default.get()

plain.set("set")
print(list(parallel(both, workers=1, start_method=sys.argv[1]).map([0])))
default.set("too")
f = parallel(other, workers=1, start_method=sys.argv[1])
print(list(f.map([], star=None)), f.submit().result())
"""


def test_variables_of_a_script_travel_with_its_functions(method: str, tmp_path: Path) -> None:
    """With what they are set to, or their defaults."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    ran = subprocess.run(
        [sys.executable, script, method], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert ran.stdout.splitlines() == ["[('set', [1], 'none')]", "[] too"]


def test_no_variable_costs_nothing() -> None:
    """Where nothing is set that could be sent, the work goes as it is."""
    context = contextvars.Context()
    assert context.run(contexts.captured) == ()
    work = object()
    assert context.run(contexts.within_context, work) is work
    hidden = [contextvars.ContextVar[int]("hidden")]
    context.run(hidden[0].set, 1)
    assert context.run(contexts.captured) == ()


def test_what_the_worker_has_not_imported_stays_unset() -> None:
    """Nothing is imported for a variable that no call can look at."""
    settings = (contexts.Setting((("no.such.module", "name"),), "", b""), contexts.Setting((), "no key", b""))
    work = object()
    assert contexts._restored(work, settings) is work

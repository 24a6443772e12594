"""A wrong name, value or position is answered by what would be right, on all versions of Python."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import manyhands
from manyhands import (
    OUTPUT,
    Controller,
    Handler,
    claimed_output,
    configure,
    gc,
    parallel,
    retry_on,
    validated,
    wait_for,
)
from manyhands.settings import option_names
from manyhands.spelling import suggesting, suggestion
from manyhands.testing import inline, race, storm


def body(x: int, scale: int = 1) -> int:
    """What is decorated."""
    return x * scale


def write(x: int, output: Path = OUTPUT) -> None:
    """Writes nothing."""


files = claimed_output("{x}.txt")(write)
task: Any = parallel(body)
plain: Any = validated(arguments=lambda x: x > 0)(body)
WRONG: list[tuple[str, Callable[[], object], str]] = [
    # a name that is nearly right, or that other libraries have
    (
        "parallel",
        lambda: untyped(parallel)(worker=2),
        "'worker' (did you mean 'workers'?); the options of @parallel are",
    ),
    ("parallel as others", lambda: untyped(parallel)(n_jobs=2), "(did you mean 'workers'?)"),
    ("processes", lambda: untyped(parallel)(processes=2), "(did you mean 'workers'?)"),
    (
        "nothing near",
        lambda: untyped(parallel)(xyzzy=2),
        "unknown option 'xyzzy'; the options of @parallel are",
    ),
    ("claimed_output", lambda: untyped(claimed_output)("{x}", wiat=True), "(did you mean 'wait'?)"),
    ("its template", lambda: untyped(claimed_output)(template="{x}"), "(did you mean 'final'?)"),
    ("validated", lambda: untyped(validated)(argument=bool), "(did you mean 'arguments'?)"),
    ("retry_on", lambda: untyped(retry_on)(OSError, attemps=3), "(did you mean 'attempts'?)"),
    ("retry_on as others", lambda: untyped(retry_on)(OSError, retries=3), "(did you mean 'attempts'?)"),
    ("its wait", lambda: untyped(retry_on)(OSError, delay=3), "(did you mean 'wait'?)"),
    ("map", lambda: task.map([1], totl=1), "(did you mean 'total'?); the options of body.map are"),
    ("map twice", lambda: task.map([1], workers=2, worker=3), "(did you mean 'workers'?)"),
    ("map_blocks", lambda: task.map_blocks([1], row=1), "(did you mean 'rows'?)"),
    ("options", lambda: task.options(on_eror="skip"), "(did you mean 'on_error'?)"),
    (
        "Controller",
        lambda: untyped(Controller)(threds=2),
        "(did you mean 'threads'?); the options of Controller are",
    ),
    ("Handler", lambda: untyped(Handler)(body, buffer_size=2), "(did you mean 'buffersize'?)"),
    ("configure", lambda: untyped(configure)(worker=2), "(did you mean 'workers'?)"),
    ("wait_for", lambda: untyped(wait_for)("x", time_out=2), "(did you mean 'timeout'?)"),
    ("gc", lambda: untyped(gc)("x", nwo=2), "(did you mean 'now'?)"),
    ("storm", lambda: untyped(storm)(body, [1], second=1), "(did you mean 'seconds'?)"),
    ("race", lambda: untyped(race)(body, proceses=2), "(did you mean 'processes'?)"),
    ("inline", lambda: untyped(inline)(file_system=None), "(did you mean 'filesystem'?)"),
    # an argument of the function's own
    ("the function's", lambda: task.map([1], scale=2), "body.map(…, kwargs={'scale': 2})"),
    # a value
    ("on_error", lambda: untyped(parallel)(on_error="Skip"), "not 'Skip' (did you mean 'skip'?)"),
    ("start_method", lambda: untyped(parallel)(start_method="froksever"), "(did you mean 'forkserver'?)"),
    ("backend", lambda: parallel(backend="thread"), "(did you mean 'threads'?)"),
    ("ordered", lambda: untyped(parallel)(ordered="no"), "ordered must be True or False, not 'no'"),
    ("a path", lambda: untyped(gc)(5), "gc: directory must be a str or a path, not 5"),
    ("another path", lambda: untyped(wait_for)(None), "wait_for: path must be a str or a path, not None"),
    (
        "seconds",
        lambda: untyped(wait_for)("x", "1"),
        "timeout must be a number of seconds, 0 or more, or None; not '1'",
    ),
    # a position
    ("parallel by position", lambda: untyped(parallel)(4), "options by keyword; not 4"),
    ("two of them", lambda: untyped(parallel)(body, 4), "give others by name: @parallel(workers=4)"),
    (
        "bare claimed_output",
        lambda: untyped(claimed_output)(body),
        "as in @claimed_output('results/{x}.txt'); not body",
    ),
    ("three templates", lambda: untyped(claimed_output)("a", "b", "c"), "takes 2 arguments by position, not 3"),
    ("attempts", lambda: untyped(retry_on)(OSError, 3), "there is attempts=3"),
    ("a list", lambda: untyped(retry_on)([OSError]), "give them one by one: @retry_on(OSError)"),
    ("a text", lambda: untyped(retry_on)("OSError"), "give the class itself, without quotes"),
    ("an instance", lambda: untyped(retry_on)(OSError()), "give its class, OSError"),
    ("bare retry_on", lambda: untyped(retry_on)(body)(3), "@retry_on was meant as the decorator of body"),
    ("no exceptions", lambda: retry_on(attempts=3), "@retry_on(OSError, attempts=3)"),
    ("options by position", lambda: task.options(4), "give others by name: f.options(workers=4)"),
    ("Controller by position", lambda: untyped(Controller)(4, "fork"), "takes 1 argument by position, not 2"),
    ("Handler by position", lambda: untyped(Handler)(body, [1]), "Handler takes 1 argument by position, not 2"),
    ("configure by position", lambda: untyped(configure)(4), "configure takes no arguments by position, not 1"),
    ("two iterables", lambda: task.map([1], [2]), "body.map(zip(xs, ys), star=True)"),
    (
        "no items",
        lambda: untyped(Handler(body, backend="inline")).extend(5),
        "not 5; for one item there is add",
    ),
    (
        "nothing to recompute",
        lambda: untyped(files).claims.recompute(5),
        "write.claims.recompute takes an iterable",
    ),
    (
        "Controller.map",
        lambda: untyped(Controller(1)).map(body, [1], chunk_size=3),
        "(did you mean 'chunksize'?)",
    ),
    ("no iterable", lambda: task.map(1), "body.map takes an iterable of items, not 1"),
]


def untyped(function: Any) -> Any:
    """The function, past the type checker."""
    return function


@pytest.mark.parametrize(("call", "message"), [case[1:] for case in WRONG], ids=[case[0] for case in WRONG])
def test_what_would_be_right(call: Callable[[], object], message: str) -> None:
    """The message says it."""
    with pytest.raises((TypeError, ValueError), match=re.escape(message)):
        call()


@pytest.mark.parametrize("name", sorted(option_names()))
def test_each_option_is_found(name: str) -> None:
    """One wrong letter leads to it."""
    for place in range(len(name)):
        assert (
            suggestion(name[:place] + "_" + name[place + 1 :], option_names()) == f" (did you mean {name!r}?)"
        )


def test_a_method_that_comes_with_a_decorator() -> None:
    """Who asks for it without is told which one."""
    for name in ("map", "submit", "asubmit", "map_blocks", "options"):
        with pytest.raises(AttributeError, match=f"body has no '{name}': that comes with @parallel"):
            getattr(plain, name)
    with pytest.raises(AttributeError, match="body has no 'claims': that comes with @claimed_output"):
        _ = task.claims
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = task.nonsense
    assert not hasattr(task, "__self__") and callable(task.map)


@pytest.mark.parametrize(
    "function",
    [
        parallel,
        claimed_output,
        validated,
        retry_on,
        configure,
        wait_for,
        gc,
        Controller,
        Handler,
        storm,
        race,
        inline,
    ],
)
def test_signatures_are_as_written(function: Any) -> None:
    """``help`` and editors see the parameters and the text."""
    parameters = inspect.signature(function).parameters
    assert list(parameters) not in ([], ["args", "kwargs"]) and inspect.getdoc(function)
    assert getattr(function, "__module__", "").startswith("manyhands")


def test_what_fits_passes() -> None:
    """Arguments by position, by name and in any number reach the function as they are."""

    @suggesting("f")
    def f(a: int, b: int = 2, *, c: int = 3) -> tuple[int, ...]:
        return a, b, c

    @suggesting("g")
    def g(*args: int, **kwargs: int) -> tuple[Any, ...]:
        return args, kwargs

    assert f(1) == f(a=1) == (1, 2, 3) and f(1, 5, c=6) == (1, 5, 6)
    assert g(1, 2, 3, any=4) == ((1, 2, 3), {"any": 4})
    with pytest.raises(TypeError, match="f takes 2 arguments by position, not 3"):
        untyped(f)(1, 2, 3)
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'a'"):
        untyped(f)()


def test_a_claimed_function_keeps_its_ways(tmp_path: Path) -> None:
    """Nothing of this is in the way of what is right."""

    @claimed_output(str(tmp_path / "{x}.txt"))
    def write(x: int, output: Path = OUTPUT) -> None:
        output.write_text(str(x))

    assert write(3).read_text() == "3" and write.claims.path(3).exists()
    assert manyhands.gc(tmp_path) == []

"""The global names of a script in a worker: shared among its functions, and renewed as functions arrive."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from manyhands.workers import namespaces
from manyhands.workers.payload import dumps, loads

Function = Callable[..., Any]


@pytest.fixture(autouse=True)
def afresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process is no worker, and no namespace was brought here."""
    monkeypatch.setattr(namespaces, "_shared", None)
    monkeypatch.setattr(namespaces, "_brought", {})


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Script:
    """A script of this process's own."""
    return Script(monkeypatch)


class Script:
    """Stands for the parent's ``__main__``: code is run in it, and functions of it are sent to a worker."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._module = type(sys)("__main__")
        self._module.__file__ = "script.py"
        self._monkeypatch = monkeypatch

    def run(self, code: str) -> None:
        """Runs lines of the script."""
        exec(code, self._module.__dict__)

    def sent(self, name: str) -> bytes:
        """What travels when the function of this name does."""
        with self._monkeypatch.context() as here:
            here.setitem(sys.modules, "__main__", self._module)
            return dumps(self._module.__dict__[name])


def test_one_finds_what_another_sets(script: Script) -> None:
    """In a worker, functions that arrive one by one have the same globals."""
    script.run("def put(value):\n    global table\n    table = value\n")
    script.run("def get():\n    return table\n")
    put, get = script.sent("put"), script.sent("get")
    namespaces.share()
    loads(put)("there")
    assert loads(get)() == "there"


def test_what_was_set_here_stays(script: Script) -> None:
    """A name that code in the worker has bound anew is not overwritten by functions that arrive later."""
    script.run("table = 'parent'\ndef put(value):\n    global table\n    table = value\n")
    script.run("def get():\n    return table\n")
    put, get = script.sent("put"), script.sent("get")
    namespaces.share()
    assert loads(get)() == "parent"
    loads(put)("worker")
    assert loads(get)() == "worker"
    assert loads(put).__globals__["table"] == "worker"


def test_what_was_not_set_here_is_renewed(script: Script) -> None:
    """Any other name is what it is in the parent whenever a function that uses it arrives."""
    script.run("factor = 2\ndef helper(x):\n    return x * factor\ndef f(x):\n    return helper(x)\n")
    namespaces.share()
    assert loads(script.sent("f"))(10) == 20
    script.run("factor = 3")
    assert loads(script.sent("f"))(10) == 30
    script.run("def helper(x):\n    return -x\n")
    renewed = loads(script.sent("f"))
    assert renewed(10) == -10
    script.run("def f(x):\n    return 'new'\n")
    assert loads(script.sent("f"))(10) == "new"


def test_names_that_nobody_uses_do_not_travel(script: Script) -> None:
    """Only what a function refers to comes with it: a script may hold what can't be pickled."""
    script.run("import threading\nlock = threading.Lock()\ndef f():\n    return 5\n")
    namespaces.share()
    assert loads(script.sent("f"))() == 5
    assert "lock" not in loads(script.sent("f")).__globals__


def test_recursion_and_closures(script: Script) -> None:
    """A function finds itself, one that calls it, and what it closes over."""
    script.run(
        "def even(n):\n    return n == 0 or odd(n - 1)\ndef odd(n):\n    return n != 0 and even(n - 1)\n"
    )
    script.run(
        "def make(n):\n    def add(x):\n        return x + n + base\n    return add\nbase = 100\nadd = make(5)"
    )
    namespaces.share()
    assert loads(script.sent("even"))(10)
    assert loads(script.sent("add"))(1) == 106
    script.run("add = make(6)")
    assert loads(script.sent("add"))(1) == 107


def test_attributes_of_the_script(script: Script) -> None:
    """``__name__`` and ``__file__`` are those of the script."""
    script.run("def f():\n    return __name__, __file__\n")
    namespaces.share()
    assert loads(script.sent("f"))() == ("__main__", "script.py")


def test_globals_of_other_modules_are_left_alone(script: Script) -> None:
    """A function that is no script's does not come into its namespace."""
    script.run("def f():\n    return mark\nmark = 'script'\n")
    local = dumps(lambda: __name__)
    namespaces.share()
    assert loads(script.sent("f"))() == "script"
    assert loads(local)() == __name__
    assert "mark" not in loads(local).__globals__


def test_what_comes_back_keeps_its_names(script: Script) -> None:
    """In a process that is no worker, each function that arrives has names of its own."""
    script.run("n = 0\ndef count():\n    global n\n    n += 1\n    return n\n")
    first, second = loads(script.sent("count")), loads(script.sent("count"))
    assert [first(), first(), second()] == [1, 2, 1]


def test_a_function_goes_there_and_back(script: Script, tmp_path: Path) -> None:
    """A function that a worker makes of a script's functions arrives with the globals it has there."""
    script.run("base = 100\ndef make(n):\n    return lambda x: x + n + base\n")
    (tmp_path / "sent").write_bytes(script.sent("make"))
    code = (
        "import sys, pathlib\n"
        "from manyhands.workers import namespaces\n"
        "from manyhands.workers.payload import dumps, loads\n"
        "namespaces.share()\n"
        "path = pathlib.Path(sys.argv[1])\n"
        "made = loads((path / 'sent').read_bytes())(5)\n"
        "assert made(1) == 106\n"
        "made.__globals__['base'] = 200\n"
        "(path / 'back').write_bytes(dumps(made))\n"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path], check=True, timeout=60)
    assert loads((tmp_path / "back").read_bytes())(1) == 206


@pytest.mark.parametrize("value", [None, float("nan"), [], {}])
def test_values_that_equal_nothing(script: Script, value: Any) -> None:
    """Whether a name was bound anew goes by the object, not by its value."""
    script.run("held = None\ndef put(value):\n    global held\n    held = value\ndef get():\n    return held\n")
    script._module.held = value  # type: ignore[attr-defined]
    put, get = script.sent("put"), script.sent("get")
    namespaces.share()
    loads(get)()
    loads(put)("set here")
    assert loads(get)() == "set here"

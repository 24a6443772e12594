"""Functions of scripts: closures, partials, globals that an initializer sets, and functions that are redefined."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers import run_script, write_script

KINDS = """
import functools
import sys

from manyhands import Controller, parallel

method = sys.argv[1]
options = {"backend": method} if method in ("inline", "threads") else {"workers": 2, "start_method": method}
OFFSET = 10

def plus(x, y, *, scale=1):
    return (x + y) * scale + OFFSET

def adder(n):
    def add(x):
        return plus(x, n)
    return add

class Adder:
    def __init__(self, n):
        self.n = n
    def __call__(self, x):
        return adder(self.n)(x)
    @classmethod
    def of_class(cls, x):
        return cls(1)(x)

def even(n):
    return n == 0 or odd(n - 1)

def odd(n):
    return n != 0 and even(n - 1)

def mapped(function):
    return list(parallel(function).map([1, 2], **options))

def count():
    nonlocal_count = 0
    def step(x):
        nonlocal nonlocal_count
        nonlocal_count += 1
        return nonlocal_count <= 2
    return step

assert mapped(lambda x: x + OFFSET) == [11, 12]
assert mapped((lambda n: lambda x: plus(x, n))(5)) == [16, 17]
assert mapped(adder(5)) == [16, 17]
assert mapped(functools.partial(plus, 5)) == [16, 17]
assert mapped(functools.partial(functools.partial(plus, 5), scale=2)) == [22, 24]
assert mapped(functools.partial(lambda y, x: x * y, 7)) == [7, 14]
assert mapped(Adder(5)) == [16, 17]
assert mapped(Adder(5).__call__) == [16, 17]
assert mapped(Adder.of_class) == [12, 13]
assert mapped(even) == [False, True]
assert mapped(count()) == [True, True]
assert mapped(functools.cache(adder(5))) == [16, 17] if method in ("inline", "threads") else True
assert all(function(1) == 3 for function in parallel(lambda x: lambda y: x + y + 1).map([1, 1], **options))
if "backend" not in options:
    with Controller(2, start_method=method) as pool:
        assert list(pool.map(functools.partial(plus, scale=2), [1], [2])) == [16]
        assert pool.submit(lambda: adder(1)(1)).result() == 12
print("done")
"""


@pytest.mark.parametrize("method", ["inline", "threads", "fork", "spawn", "forkserver"])
def test_functions_of_all_kinds(tmp_path: Path, method: str) -> None:
    """Lambdas, closures, partials, callable objects and functions that call one another, under each start method."""
    assert run_script(write_script(tmp_path / "script.py", KINDS), method) == "done\n"


def test_globals_that_an_initializer_sets(tmp_path: Path, method: str) -> None:
    """Functions of a script see there what its initializer has set, and what they set themselves."""
    script = write_script(
        tmp_path / "script.py",
        """
        import os, sys
        from manyhands import Controller, parallel

        table = None
        calls = 0

        def set_up(size):
            global table
            table = list(range(size))

        def look_up(n):
            return table[n]

        def count():
            global calls
            calls += 1
            return calls

        with Controller(1, start_method=sys.argv[1], initializer=set_up, initargs=(100,)) as pool:
            assert list(parallel(look_up).map([3, 4], backend=pool)) == [3, 4]
            assert pool.submit(look_up, 5).result() == 5
            assert pool.submit(lambda: table[6]).result() == 6
            assert [pool.submit(count).result() for _ in range(3)] == [1, 2, 3]
            assert pool.submit(lambda: calls).result() == 3
        assert table is None and calls == 0

        def set_table():
            set_up(10)

        with_table = parallel(look_up).options(workers=2, start_method=sys.argv[1], initializer=set_table)
        assert list(with_table.map(range(10))) == list(range(10))
        print("done")
        """,
    )
    assert run_script(script, method) == "done\n"


def test_redefined_functions(tmp_path: Path, method: str) -> None:
    """In a living pool a function that is defined anew is the new one, and so are helpers, classes and globals."""
    script = write_script(
        tmp_path / "script.py",
        """
        import os, sys
        from manyhands import Controller, parallel

        FACTOR = 2

        def helper(x):
            return x * FACTOR

        def f(x):
            return helper(x), os.getpid()

        class Point:
            def value(self):
                return "old"

        with Controller(1, start_method=sys.argv[1]) as pool:
            def run(function):
                ((value, pid),) = parallel(function).map([10], backend=pool)
                return value, pid

            value, worker = run(f)
            assert value == 20

            def f(x):
                return helper(x) + 1, os.getpid()
            assert run(f) == (21, worker)

            FACTOR = 3
            assert run(f) == (31, worker)

            def helper(x):
                return -x
            assert run(f) == (-9, worker)

            assert pool.submit(Point().value).result() == "old"
            class Point:
                def value(self):
                    return "new"
            assert pool.submit(Point().value).result() == "new"
            assert pool.submit(lambda: Point().value()).result() == "new"
            assert pool.submit(lambda: f(1)[0]).result() == 0
        print("done")
        """,
    )
    assert run_script(script, method) == "done\n"


def test_a_notebook(tmp_path: Path) -> None:
    """Cells that are run one after the other, and again after a change, mean what they say at that moment."""
    script = write_script(
        tmp_path / "notebook.py",
        """
        from code import InteractiveInterpreter
        import __main__

        CELLS = [
            "from manyhands import parallel",
            "def f(x):\\n    return x + SHIFT\\n",
            "SHIFT = 1",
            "print(list(parallel(f, workers=1).map([1, 2])))",
            "SHIFT = 10",
            "print(list(parallel(f, workers=1).map([1, 2])))",
            "def f(x):\\n    return -x\\n",
            "print(list(parallel(f, workers=1).map([1, 2])))",
        ]
        shell = InteractiveInterpreter(__main__.__dict__)
        for cell in CELLS:
            shell.runsource(cell, symbol="exec")
        """,
    )
    assert run_script(script) == "[2, 3]\n[11, 12]\n[-1, -2]\n"

"""Functions of ``__main__``: scripts without a main guard, run for real."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers import lines, run_script, write_script

SCRIPT = """
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from manyhands import parallel
from tests.helpers import tell

method, top = sys.argv[1:]
tell(top, os.getpid())

FACTOR = 3

@dataclass
class Point:
    x: int

    def moved(self, by):
        return Point(self.x + by)

class Lost(Exception):
    pass

def helper(x):
    return x * FACTOR

@parallel
def scale(x):
    return helper(x)

@parallel
def move(point, by=1):
    return point.moved(by)

@parallel
def fails(x):
    raise Lost(f"item {x}")

@parallel
def factorial(n):
    return 1 if n < 2 else n * next(factorial.map([n - 1]))

class Group:
    def __init__(self, k):
        self.k = k

    @parallel
    def times(self, x):
        return self.k * x

    @parallel
    @classmethod
    def named(cls, x):
        return cls.__name__ + str(x)

    @parallel
    @staticmethod
    def doubled(x):
        return 2 * x

options = {"backend": "inline"} if method == "inline" else {"workers": 2, "start_method": method}
assert list(scale.map(range(5), **options)) == [0, 3, 6, 9, 12]
assert list(move.map([Point(1), Point(2)], args=(5,), **options)) == [Point(6), Point(7)]
assert all(type(point) is Point for point in move.map([Point(1)], **options))
try:
    list(fails.map([4], **options))
except Lost as error:
    assert str(error) == "item 4", error
else:
    raise AssertionError("nothing was raised")
assert list(factorial.map([5, 3], **options)) == [120, 6]
assert list(Group(4).times.map([1, 2], **options)) == [4, 8]
assert list(Group.named.map([1], **options)) == ["Group1"]
assert list(Group(1).doubled.map([4], **options)) == [8]
assert list(parallel(lambda x: helper(x) + 1).map([1], **options)) == [4]
assert scale.options(**options).submit(7).result() == 21
changed = scale.options(**options)
assert list(changed.map([1])) == [3]
print("done")
"""


@pytest.mark.parametrize("method", ["inline", "fork", "spawn", "forkserver"])
def test_script_without_a_main_guard(method: str, tmp_path: Path) -> None:
    """Functions, classes, exceptions, methods and globals of a script work; no worker runs the script again."""
    script = write_script(tmp_path / "script.py", SCRIPT)
    assert run_script(script, method, tmp_path / "top") == "done\n"
    assert len(lines(tmp_path / "top")) == 1


def test_script_that_is_left_early(tmp_path: Path, method: str) -> None:
    """A script that ends with a map unfinished and its pool open ends by itself, at once."""
    script = write_script(
        tmp_path / "script.py",
        """
        import itertools, sys
        from manyhands import parallel

        results = parallel(lambda x: x).map(itertools.count(), workers=2, start_method=sys.argv[1])
        print(next(results))
        """,
    )
    assert run_script(script, method) == "0\n"


def test_script_that_raises(tmp_path: Path, method: str) -> None:
    """An error that nobody catches ends the script with status 1, and shows both tracebacks and the item."""
    script = write_script(
        tmp_path / "script.py",
        """
        import sys
        from manyhands import parallel

        @parallel
        def reciprocal(x):
            return 1 / x

        if __name__ == "__main__":
            sys.stderr = sys.stdout
            list(reciprocal.map([1, 0], workers=2, start_method=sys.argv[1]))
        """,
    )
    told = run_script(script, method, status=1)
    assert "ZeroDivisionError: division by zero" in told
    assert "return 1 / x" in told
    assert "in reciprocal, item 1: 0" in told


def test_what_workers_print(tmp_path: Path, method: str) -> None:
    """What tasks print reaches the script's own output, whole, and is flushed at the end."""
    script = write_script(
        tmp_path / "script.py",
        """
        import sys
        from manyhands import parallel

        say = parallel(lambda x: print(f"task {x}\\n", end=""))
        say.map(range(5), workers=2, start_method=sys.argv[1]).wait()
        """,
    )
    assert sorted(run_script(script, method).splitlines()) == [f"task {x}" for x in range(5)]


def test_script_from_standard_input(tmp_path: Path) -> None:
    """Code that has no file at all maps as well."""
    import subprocess
    import sys

    code = "from manyhands import parallel\nprint(list(parallel(lambda x: x + 1).map(range(3), workers=2)))\n"
    ran = subprocess.run(
        [sys.executable, "-"], input=code, capture_output=True, text=True, timeout=90, cwd=tmp_path, check=False
    )
    assert (ran.returncode, ran.stdout) == (0, "[1, 2, 3]\n"), ran.stderr

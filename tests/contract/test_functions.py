"""What can be mapped: every kind of function, from every kind of place."""

from __future__ import annotations

import functools
import math
import os
from collections import Counter
from decimal import Decimal
from fractions import Fraction
from pathlib import PurePosixPath
from typing import Any

import pytest

from manyhands import parallel
from tests.contract import tasks
from tests.helpers import Fifo

How = dict[str, Any]


def test_lambda(how: How) -> None:
    """``parallel(lambda …)`` maps."""
    assert list(parallel(lambda x: x + 1).map(range(5), **how)) == [1, 2, 3, 4, 5]


def test_closure(how: How) -> None:
    """A closure takes what it holds with it."""
    offset = 100

    @parallel
    def shifted(x: int) -> int:
        return x + offset

    assert list(shifted.map(range(3), **how)) == [100, 101, 102]


def test_closure_over_what_a_test_imported(how: How) -> None:
    """A nested function may use its module's globals."""

    @parallel
    def root(x: int) -> float:
        return math.sqrt(x)

    assert list(root.map([4, 9], **how)) == [2.0, 3.0]


def test_builtin_and_partial(how: How) -> None:
    """Builtins, ``functools.partial`` and callable objects map."""
    assert list(parallel(len).map(["a", "bc"], **how)) == [1, 2]
    assert list(parallel(functools.partial(pow, 2)).map([3, 4], **how)) == [8, 16]
    assert list(parallel(tasks.Scaler(3).scale.__wrapped__).map([(tasks.Scaler(4), 2)], star=True, **how)) == [
        8
    ]


def test_classes(how: How) -> None:
    """A class is called like a function, and what it has for its instances, ``__reduce__`` say, stays theirs."""
    assert list(parallel(Counter).map(["aab"], **how)) == [Counter(a=2, b=1)]
    assert list(parallel(Decimal).map(["1.5"], **how)) == [Decimal("1.5")]
    assert list(parallel(Fraction).map(["1/3", "2"], **how)) == [Fraction(1, 3), Fraction(2)]
    assert list(parallel(PurePosixPath).map([("a", "b")], star=True, **how)) == [PurePosixPath("a/b")]


def test_bound_method(how: How) -> None:
    """``obj.method.map`` knows its object, and fixed arguments follow the item."""
    assert list(tasks.Scaler(7).scale.map([1, 2], **how)) == [7, 14]
    assert list(tasks.Scaler(7).scale.map([1, 2], args=(1,), **how)) == [8, 15]
    assert tasks.Scaler(7).scale(2, plus=3) == 17


def test_method_of_the_class(how: How) -> None:
    """Through the class, the object is an argument like any other."""
    assert list(tasks.Scaler.scale.map([(tasks.Scaler(2), 5)], star=True, **how)) == [10]


def test_classmethod_and_staticmethod(how: How) -> None:
    """Class and static methods map, through the class and through an instance."""
    for owner in (tasks.Scaler, tasks.Scaler(99)):
        assert list(owner.scale_by_class.map([1, 2], **how)) == [10, 20]
        assert list(owner.negate.map([1, 2], **how)) == [-1, -2]


def test_methods_of_a_local_class(how: How) -> None:
    """Methods of a class that no import finds."""

    class Local:
        def __init__(self, x: int) -> None:
            self.x = x

        @parallel
        def plus(self, y: int) -> int:
            return self.x + y

        @parallel
        @classmethod
        def name(cls, _: int) -> str:
            return cls.__name__

    assert list(Local(3).plus.map([1, 2], **how)) == [4, 5]
    assert list(Local.name.map([1], **how)) == ["Local"]


def test_submit_of_a_method(how: How) -> None:
    """A bound method is submitted with its object."""
    assert tasks.Scaler(7).scale.options(**how).submit(2, plus=1).result(60) == 15


def test_map_inside_a_task_runs_inline(processes: How) -> None:
    """A function that maps itself inside a task runs in that task's process, however deep."""
    chains = list(tasks.countdown.map([4, 4], **processes))
    for chain in chains:
        assert len(chain) == 5
        assert len(set(chain)) == 1
        assert os.getpid() not in chain


def test_map_of_a_map(how: How) -> None:
    """``b.map(a.map(items))``: one stream feeds the other, on the same pool."""
    assert list(tasks.triple.map(tasks.double.map(range(200), **how), **how)) == [6 * x for x in range(200)]


def test_map_of_an_infinite_map(how: How) -> None:
    """Nested streams are lazy as well."""
    import itertools

    inner = tasks.double.map(itertools.count(), **how)
    with inner, tasks.triple.map(inner, **how) as outer:
        assert list(itertools.islice(outer, 50)) == [6 * x for x in range(50)]


def test_maps_of_equal_settings_share_a_pool(processes: How, begun: Fifo, gate: Fifo) -> None:
    """Two maps with the same settings use the same two processes."""
    first = tasks.meet.map([0, 1], args=(begun.path, gate.path), **processes)
    busy = {int(begun.line().split()[1]) for _ in range(2)}
    gate.let_go(2)
    assert list(first) == [0, 1]
    assert set(tasks.process_id.map(range(20), **processes)) <= busy


@pytest.mark.parametrize("kind", ["by name", "of a test"])
def test_function_is_loaded_once_per_worker(processes: How, kind: str) -> None:
    """What a function's object keeps between calls stays within a map: it is sent to a worker once."""
    if kind == "by name":
        pids = list(tasks.process_id.map(range(50), **processes))
        assert 1 <= len(set(pids)) <= 2
        return
    seen: list[int] = []

    @parallel
    def remember(x: int) -> int:
        seen.append(x)
        return len(seen)

    counts = list(remember.map(range(20), **{**processes, "workers": 1}))
    assert counts == list(range(1, 21))
    assert seen == []

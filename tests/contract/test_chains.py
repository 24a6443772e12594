"""Maps whose items are the results of maps."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from manyhands import Controller, parallel
from tests.helpers import Fifo, tell, wait_for

How = dict[str, Any]


def doubled(number: int) -> int:
    return 2 * number


def plus_one(number: int) -> int:
    return number + 1


class Source:
    """0, 1, 2 …, and how many of them were drawn."""

    def __init__(self) -> None:
        self.drawn = 0

    def __iter__(self) -> Iterator[int]:
        while True:
            yield self.drawn
            self.drawn += 1


@pytest.mark.parametrize("buffersize", [1, 2, 30])
@pytest.mark.parametrize("ordered", [True, False])
def test_a_mixed_chain_streams(how: How, buffersize: int, ordered: bool) -> None:
    """Of an input without an end, no more is drawn than all stages together may hold."""
    options = {"buffersize": buffersize, "ordered": ordered, **how}
    source = Source()
    first = parallel(doubled).map(map(plus_one, source), **options)
    second = parallel(plus_one).map(map(int, map(str, first)), **options)
    last = map(str, second)
    taken = [next(last) for _ in range(40)]
    assert taken == [str(2 * (n + 1) + 1) for n in range(40)] or not ordered
    assert source.drawn <= 40 + 2 * buffersize + 1
    second.close()
    first.close()


def test_a_pool_of_one_is_enough() -> None:
    """However many stages share it, none waits for what another keeps."""
    with Controller(1) as pool:
        results: Any = range(300)
        for _ in range(5):
            results = parallel(plus_one).map(results, backend=pool, buffersize=2)
        assert list(results) == list(range(5, 305))


def test_stages_overlap(begun: Fifo, gate: Fifo) -> None:
    """The second works on what the first has done while that goes on."""

    def waits(number: int, gate: Any) -> int:
        if number == 1:
            wait_for(gate)
        return number

    def tells(number: int, begun: Any) -> int:
        tell(begun, number)
        return number

    with Controller(2) as pool:
        first = parallel(waits).map(iter(range(4)), args=(gate.path,), backend=pool)
        with ThreadPoolExecutor(1) as consumer:
            got = consumer.submit(lambda: list(parallel(tells).map(first, args=(begun.path,), backend=pool)))
            assert begun.line() == "0"
            gate.let_go()
            assert got.result() == [0, 1, 2, 3]

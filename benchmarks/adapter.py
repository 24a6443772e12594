"""manyhands as a contestant of the agreed benchmark; README.md says where this file goes.

One way for all workloads, and nothing is tuned: no chunks, no buffer, no start method but the measured one.
``on_error="return"`` is what the guide tells those to write who want a place for every item, whatever befalls
one of them: in K the failure, which names its error, stands where the result would. Where nothing fails it
changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from . import Claimer, Offer, claim_contestant, contestant  # type: ignore[attr-defined]


@contestant("manyhands", "manyhands", methods=("fork", "spawn", "forkserver"), chunks=False, unordered=True)  # type: ignore[untyped-decorator]
def manyhands(workers: int, method: Any) -> Iterator[Any]:
    """An open pool, its map, its submit and its map_blocks."""
    from manyhands import Controller, parallel

    @cache  # a function is decorated once, where it is defined
    def decorated(function: Callable[[Any], Any]) -> Any:
        return parallel(function)

    with Controller(workers, start_method=method) as pool:

        def each(
            function: Callable[[Any], Any], items: Iterable[Any], ordered: bool = True, chunk: int | None = None
        ) -> Iterable[Any]:
            results: Iterable[Any] = decorated(function).map(
                items, backend=pool, ordered=ordered, on_error="return"
            )
            return results

        def submit(function: Callable[[Any], Any], item: Any) -> Callable[[], Any]:
            return pool.submit(function, item).result

        def split(function: Callable[[Any], Any], array: Any) -> Any:
            return decorated(function).map_blocks(array, backend=pool)

        yield Offer(each, submit, split)


def manyhands_race(durable: bool) -> Callable[[Path, list[str], Callable[[str], bytes]], None]:
    """One of the processes that share the list: does its part itself, returns when all outputs are there."""

    def race(directory: Path, names: list[str], compute: Callable[[str], bytes]) -> None:
        import os

        from manyhands import OUTPUT, claimed_output, parallel

        @parallel(backend="inline")
        @claimed_output("{name}", durable=durable)
        def write(name: str, output: Path = OUTPUT) -> None:
            output.write_bytes(compute(name))

        os.chdir(directory)
        write.map(names).wait()

    return race


claim_contestant("manyhands.claims", "manyhands", Claimer(manyhands_race(durable=True)))
claim_contestant("manyhands.nosync", "manyhands", Claimer(manyhands_race(durable=False)))

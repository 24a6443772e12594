"""What the storm of claims and the controls judge by: plain functions over what is known in the end."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tasks import Entry


@dataclass(frozen=True, slots=True)
class EndState:
    """What there is of the outputs in the end, by their names.

    Attributes:
        missing: not there.
        differing: not what a serial run writes.
    """

    missing: list[str]
    differing: list[str]


def end_state(expected: Mapping[str, bytes], found: Mapping[str, bytes]) -> EndState:
    """Compares what was found under the names of the outputs with what a serial run writes."""
    return EndState(
        sorted(expected.keys() - found.keys()),
        sorted(name for name in expected.keys() & found.keys() if expected[name] != found[name]),
    )


def repeated(entries: Iterable[Entry], is_killed: Callable[[Entry], bool]) -> dict[int, int]:
    """Items that were begun again without a reason: how often, in all, by processes that nobody killed.

    A reason is that the call failed, which its process has told, or that its process was killed.
    """
    begun: dict[int, int] = defaultdict(int)
    failed: dict[int, int] = defaultdict(int)
    for entry in entries:
        if entry.kind == "b":
            begun[entry.item] += not is_killed(entry)
        elif entry.kind == "f":
            failed[entry.item] += 1
    return {item: times for item, times in begun.items() if times > 1 + failed[item]}

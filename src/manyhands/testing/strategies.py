"""Strategies of Hypothesis: items, plans of what tasks come to, and schedules of what a nemesis does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from manyhands.testing.nemesis import BLOWS, Blow, Move
from manyhands.testing.planned import OUTCOMES, Plan

try:
    from hypothesis import strategies as st
except ImportError as error:
    raise ImportError("manyhands.testing.strategies needs Hypothesis: pip install hypothesis") from error

Star = bool | None


def star_rules() -> st.SearchStrategy[tuple[Star, bool]]:
    """``(star, kwstar)``: all six rules for how an item becomes a call; simple items first."""
    return st.sampled_from(
        [(False, False), (True, False), (None, False), (None, True), (False, True), (True, True)]
    )


def items(
    star: Star = False,
    kwstar: bool = False,
    values: st.SearchStrategy[Any] | None = None,
    names: Sequence[str] = ("a", "b", "c"),
    most: int = 4,
) -> st.SearchStrategy[Any]:
    """Items that fit a rule.

    Args:
        star, kwstar: the rule, as for ``.map``.
        values: of arguments; None: whole numbers and short texts.
        names: of the keywords that an item may have.
        most: positional arguments that an item may have.
    """
    if values is None:
        values = st.integers() | st.text("abc", max_size=5)  # all of Unicode takes a second to be made
    several = st.lists(values, max_size=most)
    sequences = several.map(tuple) | several
    keywords = st.dictionaries(st.sampled_from(list(names)), values)
    if not kwstar:
        return values if not star else sequences
    if star is None:
        return keywords
    return st.tuples(sequences if star else values, keywords)


def called(item: Any, star: Star = False, kwstar: bool = False) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
    """The arguments that a function gets for an item that fits the rule: what a map must do, in plain Python."""
    arguments, keywords = item if kwstar and star is not None else (item, item if kwstar else {})
    if star is None:
        return (), keywords
    return tuple(arguments) if star else (arguments,), keywords


def plans(
    most_items: int = 8, most_attempts: int = 4, outcomes: Sequence[str] = OUTCOMES
) -> st.SearchStrategy[tuple[Plan, ...]]:
    """Plans for ``PlannedTask``: what each attempt of each item comes to. What is simplest is one value."""
    plan = st.lists(st.sampled_from(list(outcomes)), min_size=1, max_size=most_attempts).map(tuple)
    return st.lists(plan, min_size=1, max_size=most_items).map(tuple)


def schedules(
    processes: int, blows: Sequence[Blow] = BLOWS, most: int = 10
) -> st.SearchStrategy[tuple[Move, ...]]:
    """Moves for ``Nemesis.do``, in order, on so many processes."""
    move = st.builds(Move, st.sampled_from(list(blows)), st.integers(0, processes - 1))
    return st.lists(move, max_size=most).map(tuple)

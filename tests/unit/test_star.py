"""The six star rules against the calls that the table writes down."""

from __future__ import annotations

import pickle
from collections import ChainMap, UserDict
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from manyhands.calls import Call, short_repr
from manyhands.errors import ItemError
from manyhands.policies.star import StarRule, checked_keywords

RULES = [(False, False), (True, False), (None, False), (None, True), (False, True), (True, True)]

values = st.one_of(
    st.none(), st.integers(), st.text(max_size=3), st.tuples(st.integers()), st.binary(max_size=2)
)
keywords = st.dictionaries(st.sampled_from(["a", "b", "c", "self", "not a name", ""]), values, max_size=4)
mappings = st.one_of(
    keywords,
    keywords.map(MappingProxyType),
    keywords.map(UserDict),
    keywords.map(lambda some: ChainMap({}, some)),
)
sequences = st.one_of(
    st.lists(values, max_size=4),
    st.lists(values, max_size=4).map(tuple),
    st.frozensets(st.integers(), max_size=4),
    keywords,
    st.integers(0, 4).map(range),
    st.lists(st.integers(), max_size=3).map(lambda some: np.array(some, dtype=object)),
)


def record(*args: Any, **kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Returns what it was called with."""
    return args, kwargs


def literally(star: bool | None, kwstar: bool, item: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The call as the table of the design writes it."""
    match star, kwstar:
        case False, False:
            val = item
            return record(val, *args, **kwargs)
        case True, False:
            vals = item
            return record(*vals, *args, **kwargs)
        case None, False:
            return record(*args, **kwargs)
        case None, True:
            kwvals = item
            return record(*args, **{**kwargs, **kwvals})
        case False, True:
            val, kwvals = item
            return record(val, *args, **{**kwargs, **kwvals})
        case _:
            vals, kwvals = item
            return record(*vals, *args, **{**kwargs, **kwvals})


def fitting(star: bool | None, kwstar: bool) -> st.SearchStrategy[Any]:
    """Items that fit a rule."""
    first = sequences if star else values
    if not kwstar:
        return values if star is None else first
    if star is None:
        return mappings
    pairs = st.tuples(first, mappings)
    return pairs | pairs.map(list)


@pytest.mark.parametrize(("star", "kwstar"), RULES)
@given(data=st.data(), args=st.lists(values, max_size=3), kwargs=keywords)
def test_a_call_is_what_the_table_says(
    star: bool | None, kwstar: bool, data: st.DataObject, args: list[Any], kwargs: dict[str, Any]
) -> None:
    """Each rule calls as its line reads: ``args`` follow the item, and its own keywords win."""
    item = data.draw(fitting(star, kwstar))
    fixed = dict(kwargs)
    call = StarRule(star, kwstar, tuple(args), kwargs).call(0, item)
    assert record(*call.args, **call.kwargs) == literally(star, kwstar, item, tuple(args), kwargs)
    assert kwargs == fixed, "the map's own keywords are left alone"
    call.kwargs["changed"] = 1
    assert kwargs == fixed


def test_an_iterator_is_taken_apart_once() -> None:
    """Any iterable gives its values, a generator too."""
    assert StarRule(star=True).call(0, (n * n for n in range(4))).args == (0, 1, 4, 9)
    assert StarRule(True, True).call(0, (iter("ab"), {"k": 1})).args == ("a", "b")


def test_trivial_rules_take_anything() -> None:
    """Where each item fits, the rule says that there is nothing to check."""
    assert [rule for rule in RULES if StarRule(*rule).trivial] == [(False, False), (None, False)]


no_sequence = st.one_of(
    st.none(), st.integers(), st.text(max_size=5), st.binary(max_size=3), st.just(np.array(3))
)
no_mapping = st.one_of(st.none(), st.integers(), st.text(), st.lists(st.integers()), st.tuples(st.text()))
bad_keywords = st.dictionaries(st.integers() | st.none(), values, min_size=1, max_size=2)
no_pair = st.one_of(
    st.integers(),
    st.none(),
    st.text(max_size=2),
    keywords,
    st.tuples(values),
    st.tuples(values, keywords, values),
)


def misfits(star: bool | None, kwstar: bool) -> st.SearchStrategy[Any]:
    """Items that don't fit a rule."""
    if not kwstar:
        return no_sequence
    bad = no_mapping | bad_keywords
    if star is None:
        return bad
    wrong = no_pair | st.tuples(sequences if star else values, bad)
    return wrong | st.tuples(no_sequence, keywords) if star else wrong


@pytest.mark.parametrize(("star", "kwstar"), [rule for rule in RULES if rule[0] or rule[1]])
@given(data=st.data(), index=st.integers(0, 10**6))
def test_a_misfit_is_named(star: bool | None, kwstar: bool, data: st.DataObject, index: int) -> None:
    """The error says which item, at what place, does not fit which rule."""
    item = data.draw(misfits(star, kwstar))
    with pytest.raises(ItemError) as error:
        StarRule(star, kwstar).call(index, item)
    text = str(error.value)
    assert f"item {index} " in text
    assert short_repr(item) in text
    assert f"star={star}, kwstar={kwstar}" in text
    assert "called as f(" in text


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"star": 1}, "star"),
        ({"star": "yes"}, "star"),
        ({"kwstar": None}, "kwstar"),
        ({"kwstar": 0}, "kwstar"),
        ({"args": "ab"}, "args"),
        ({"args": 5}, "args"),
        ({"kwargs": [("a", 1)]}, "kwargs"),
        ({"kwargs": {1: 2}}, "kwargs"),
    ],
)
def test_bad_settings_name_the_argument(wrong: dict[str, Any], named: str) -> None:
    """A wrong ``star``, ``kwstar``, ``args`` or ``kwargs`` is told as the map is made."""
    with pytest.raises(TypeError, match=rf"^{named} must be"):
        StarRule(**wrong)


def test_settings_are_kept_by_value() -> None:
    """What the caller does to ``args`` and ``kwargs`` later changes nothing; no ``kwargs`` are none."""
    args, kwargs = [1], {"a": 1}
    rule = StarRule(args=args, kwargs=kwargs)  # type: ignore[arg-type]
    args.append(2)
    kwargs["b"] = 2
    assert rule.call(0, 0).args == (0, 1) and rule.call(0, 0).kwargs == {"a": 1}
    assert StarRule(kwargs=None).kwargs == {} == checked_keywords(None, "kwargs")  # type: ignore[arg-type]


nested = st.recursive(
    st.one_of(st.text(min_size=50, max_size=200), st.integers(), st.binary(max_size=100)),
    lambda inner: st.lists(inner, max_size=8) | st.dictionaries(st.text(max_size=40), inner, max_size=8),
    max_leaves=40,
)


@given(nested)
def test_a_short_repr_is_short(value: object) -> None:
    """A message stays readable, however large the item is."""
    assert len(short_repr(value)) <= 100


@pytest.mark.parametrize("result", [RuntimeError("no"), 5])
def test_a_short_repr_never_raises(result: object) -> None:
    """Whatever a user's ``__repr__`` does, there is a text."""

    class Odd:
        def __repr__(self) -> str:
            if isinstance(result, Exception):
                raise result
            return result  # type: ignore[return-value]

    assert "Odd" in short_repr(Odd())
    assert short_repr([Odd()])
    assert short_repr("short") == "'short'"
    assert short_repr(10**6) == "1000000"


@given(st.lists(st.integers(), max_size=3), st.lists(st.integers(), max_size=3), st.sets(st.integers(0, 5)))
def test_converted_calls_are_not_shortened(own: list[int], fixed: list[int], converted: set[int]) -> None:
    """A call comes back as it was, also where arguments that all had in common are others by now."""
    common = [object() for _ in fixed]
    rule = StarRule(args=tuple(common), kwargs={"key": (value := object())})
    args = [*own, *common]
    for place in converted & set(range(len(args))):
        args[place] = -place
    call = Call(tuple(args), {"key": value, "more": 1}, "memo")
    short = rule.shortened(call)
    assert rule.completed(short) == call
    changed = bool(converted & set(range(len(own), len(args))))
    assert len(short.args) == (len(args) if changed else len(own))
    whole = pickle.loads(pickle.dumps(StarRule(args=(5,)).shortened(Call((1, 6)))))
    assert StarRule(args=(5,)).completed(whole) == Call((1, 6))

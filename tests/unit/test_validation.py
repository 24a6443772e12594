"""Predicates over arguments and results."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, reject
from hypothesis import strategies as st

from manyhands.calls import Call
from manyhands.errors import InvalidArguments, InvalidResult
from manyhands.policies.parameters import Parameters
from manyhands.policies.star import StarRule
from manyhands.policies.validation import (
    ItemCheck,
    Refused,
    ResultCheck,
    Validation,
    check_predicate,
    checked,
)


def function(image: Any, sigma: float = 1.0, *rest: Any, debug: bool = False, **others: Any) -> None:
    """What the predicates below are for."""


ARGUMENTS = {"image": "eye.png", "sigma": 2.0, "rest": (1, 2), "debug": True, "others": {"x": 1}}

seen: list[dict[str, Any]] = []


def see(**arguments: Any) -> bool:
    seen.append(arguments)
    return True


PREDICATES: list[tuple[Callable[..., bool], set[str]]] = [
    (lambda image: see(image=image), {"image"}),
    (lambda sigma, image: see(sigma=sigma, image=image), {"sigma", "image"}),
    (lambda *, debug: see(debug=debug), {"debug"}),
    (lambda rest, others: see(rest=rest, others=others), {"rest", "others"}),
    (lambda image=None: see(image=image), {"image"}),
    (see, set(ARGUMENTS)),
    (lambda image, **more: see(image=image, **more), set(ARGUMENTS)),
    (functools.partial(lambda image, sigma: see(image=image), sigma=1), {"image"}),
]


@pytest.mark.parametrize(("predicate", "names"), PREDICATES)
def test_a_predicate_gets_what_it_names(predicate: Callable[..., bool], names: set[str]) -> None:
    """Those of the arguments that it names, or all if it takes any, each by its name."""
    validation = Validation(arguments=predicate)
    validation.fits(Parameters.of(function), "function")
    seen.clear()
    validation.check_arguments(ARGUMENTS)
    assert seen == [{name: ARGUMENTS[name] for name in names}]


@given(
    st.integers() | st.text(max_size=3) | st.sampled_from([None, [], [0], np.True_, np.False_, np.float64(0)])
)
def test_truth_keeps(answer: Any) -> None:
    """What is true keeps the item and the result; what is false does not."""
    validation = Validation(arguments=lambda image: answer, result=lambda value: answer)
    if answer:
        validation.check_arguments(ARGUMENTS)
        validation.check_result(5)
    else:
        with pytest.raises(Refused) as refused:
            validation.check_arguments(ARGUMENTS)
        assert repr(refused.value.error) == repr(InvalidArguments("invalid arguments: image='eye.png'"))
        with pytest.raises(Refused) as refused:
            validation.check_result(5)
        assert repr(refused.value.error) == repr(InvalidResult("invalid result: 5"))


def test_without_predicates_all_is_kept() -> None:
    """Either may be left out."""
    validation = Validation()
    validation.fits(Parameters.of(max), "max")
    validation.check_arguments({})
    validation.check_result(None)


def boom(*args: Any, **kwargs: Any) -> bool:
    raise KeyError("boom")


def test_what_a_predicate_raises_is_noted() -> None:
    """It comes as it is, with a note that says which predicate raised it."""
    for check in (
        lambda: Validation(arguments=boom).check_arguments(ARGUMENTS),
        lambda: Validation(arguments=functools.partial(boom, 1)).check_arguments(ARGUMENTS),
    ):
        with pytest.raises(KeyError) as error:
            check()
        (note,) = error.value.__notes__
        assert "@validated(arguments=…)" in note and ("boom" in note or "partial" in note)
    for check in (
        lambda: Validation(result=boom).check_result(1),
        lambda: checked(str, after=ResultCheck(boom))(1),
    ):
        with pytest.raises(KeyError) as error:
            check()
        (note,) = error.value.__notes__
        assert "@validated(result=…)" in note and "boom" in note


async def later() -> bool:
    return True


ARRAY = np.array([1, 2]) > 1


@pytest.mark.parametrize(
    ("make", "shown"), [(lambda: ARRAY, "array"), (lambda: (x for x in [1]), "generator"), (later, "coroutine")]
)
def test_an_answer_that_is_neither_true_nor_false_is_told(make: Callable[[], Any], shown: str) -> None:
    """With the predicate's name and what it returned; and such an item is not refused, but fails."""

    def strange(*args: Any, **kwargs: Any) -> Any:
        return make()

    validation = Validation(strange, strange)
    for check, which in (
        (lambda: validation.check_arguments(ARGUMENTS), "arguments"),
        (lambda: validation.check_result(1), "result"),
        (lambda: checked(str, after=ResultCheck(strange))(1), "result"),
    ):
        with pytest.raises(TypeError) as error:
            check()
        assert "strange" in str(error.value) and f"({which}=…) returned" in str(error.value)
        assert shown in str(error.value) and "neither true nor false" in str(error.value)


@given(st.integers() | st.sampled_from([None, [], [0], np.True_, np.False_]), st.integers())
def test_a_step_with_a_check_after_it(answer: Any, item: int) -> None:
    """It returns what the step returns, or raises what ``check_result`` raises."""
    validation = Validation(result=lambda value: answer)
    step = checked(lambda item: -item, after=ResultCheck(lambda value: answer))
    if answer:
        assert step(item) == -item
    else:
        with pytest.raises(Refused) as refused:
            step(item)
        with pytest.raises(Refused) as same:
            validation.check_result(-item)
        assert repr(refused.value.error) == repr(same.value.error)
    assert checked(str) is str


def by_position(image: Any, /) -> bool:
    return bool(image)


@pytest.mark.parametrize(
    ("predicate", "why"),
    [
        (lambda picture: True, "asks for picture, but .* are debug, image, others, rest, sigma"),
        (lambda image, limit=3: True, "asks for limit"),
        (by_position, "by_position takes 'image' by its position only"),
        (max, "max does not tell its parameters"),
    ],
)
def test_a_predicate_that_does_not_fit_is_told_at_decoration(predicate: Callable[..., bool], why: str) -> None:
    """Before any item, with what it asks for and what there is."""
    with pytest.raises(TypeError, match=why):
        Validation(arguments=predicate).fits(Parameters.of(function), "function")


def test_parameters_that_are_not_told_can_not_be_checked() -> None:
    """A function without a signature can have no predicate for its arguments."""
    with pytest.raises(TypeError, match="max does not tell its parameters"):
        Validation(arguments=lambda a: True).fits(Parameters.of(max), "max")
    with pytest.raises(TypeError, match="parameters are none"):
        Validation(arguments=lambda a: True).fits(Parameters.of(lambda: None), "f")


def test_long_values_are_cut() -> None:
    """A message stays readable."""
    with pytest.raises(Refused) as refused:
        Validation(arguments=lambda image: False).check_arguments({"image": "x" * 10_000})
    assert len(str(refused.value.error)) < 200


class Host:
    """Has a method to be bound."""


def method(
    self: Host, image: Any, sigma: float = 1.0, *rest: Any, debug: bool = False, **others: Any
) -> None: ...


def only_rest(*rest: Any) -> None: ...


NAMES = ["self", "image", "sigma", "rest", "debug", "others", "**"]


@given(
    st.sampled_from([function, method, only_rest, lambda image: None]),
    st.sampled_from([False, True, None]),
    st.booleans(),
    st.lists(st.integers(), max_size=3),
    st.dictionaries(st.sampled_from(["image", "sigma", "debug", "more"]), st.integers(), max_size=2),
    st.permutations(NAMES).flatmap(lambda names: st.integers(0, 3).map(lambda count: names[:count])),
    st.booleans(),
    st.integers(),
)
def test_the_short_form_asks_the_same(
    function: Any, star: Any, kwstar: bool, args: Any, kwargs: Any, names: list[str], by_name: bool, item: int
) -> None:
    """Where there is one, a predicate is asked what it would be asked of the call, as arguments are bound to names."""
    asked: list[dict[str, Any]] = []
    listed = ["*"] if by_name else []
    text = ", ".join([*listed * any(name != "**" for name in names), *sorted(names, key="**".__eq__)])
    text = text.replace("**", "**all")
    predicate = eval(f"lambda {text}: asked.append(dict(locals())) or item", {"asked": asked, "item": item})
    parameters = Parameters.of(function)
    prefix = (Host(),) if function is method else ()
    rule = StarRule(star, kwstar, tuple(args), kwargs)
    validation = Validation(arguments=predicate)
    try:
        validation.fits(parameters, "f")
    except TypeError:
        reject()  # it asks for what the function has not, which is told when it is decorated
    short = validation.item_check(rule, parameters, prefix)
    if star is not False or kwstar or function is only_rest:
        assert short is None
        return
    call = rule.call(0, item)
    try:
        bound = parameters.bind(Call((*prefix, *call.args), call.kwargs))
    except TypeError:
        assert short is None
        return
    assert short is not None
    assert short(item) == item
    assert asked.pop() == asked_of(validation, bound, asked)


def asked_of(validation: Validation, bound: dict[str, Any], asked: list[dict[str, Any]]) -> dict[str, Any]:
    try:
        validation.check_arguments(bound)
    except Refused:
        pass
    return asked.pop()


def test_the_short_form_of_a_simple_predicate_is_itself() -> None:
    """Nothing is cheaper than that."""
    predicate: Callable[[Any], bool] = lambda image: True  # noqa: E731
    rule, parameters = StarRule(args=(2.0,)), Parameters.of(function)
    assert Validation(arguments=predicate).item_check(rule, parameters) is predicate
    assert Validation(result=bool).item_check(rule, parameters) is None
    assert Validation(predicate, annotations=True).item_check(rule, parameters) is None
    assert Validation(arguments=lambda: True).item_check(rule, Parameters.of(max)) is None


@given(st.integers(-3, 3) | st.sampled_from([None, [], [0], np.True_, ARRAY]))
def test_a_step_with_a_check_before_it(answer: Any) -> None:
    """It is taken for what ``check_arguments`` keeps; else it raises the same."""
    validation = Validation(arguments=lambda image: answer)
    short = validation.item_check(StarRule(), Parameters.of(function))
    assert short is not None
    step = checked(str, ItemCheck(short, validation, lambda item: {"image": item}))

    def outcome(check: Callable[[], Any]) -> str:
        try:
            return repr(check())
        except Refused as refused:
            return repr(refused.error)
        except TypeError as error:
            return repr(error)

    expected = outcome(lambda: validation.check_arguments({"image": 5}))
    assert outcome(lambda: step(5)) == ("'5'" if expected == "None" else expected)


def test_what_a_check_before_a_step_raises_is_noted() -> None:
    """As where there is no step."""
    validation = Validation(arguments=boom)
    with pytest.raises(KeyError) as error:
        checked(str, ItemCheck(boom, validation, lambda item: {}))(1)
    assert "boom of @validated(arguments=…)" in error.value.__notes__[0]


def test_where_what_is_checked() -> None:
    """Each in one place, if at all."""
    for validation, arguments, result in (
        (Validation(result=bool), set(), {"worker"}),
        (Validation(arguments=bool), {"parent"}, set()),
        (Validation(bool, bool, arguments_in="worker", result_in="parent"), {"worker"}, {"parent"}),
        (Validation(annotations=True), {"parent"}, {"worker"}),
    ):
        places = ("parent", "worker")
        assert {place for place in places if validation.checks_arguments(place)} == arguments
        assert {place for place in places if validation.checks_result(place)} == result


def yields(image: Any) -> Any:
    yield True


async def streams(image: Any) -> Any:
    yield True


class Later:
    """Its objects are async functions."""

    async def __call__(self, image: Any) -> bool:
        return True


@pytest.mark.parametrize("predicate", [later, yields, streams, Later(), functools.partial(yields, 1), 3, "x"])
def test_what_can_not_be_a_predicate(predicate: Any) -> None:
    """Is told by the name of the option."""
    for name in ("arguments", "result"):
        with pytest.raises(TypeError, match=f"{name}.*function"):
            check_predicate(predicate, name)


def test_annotations_are_needed_where_they_are_checked() -> None:
    """At decoration: a function without them, or that does not tell its parameters."""
    bare = Validation(annotations=True)
    bare.fits(Parameters.of(function), "function")
    with pytest.raises(TypeError, match="f has no annotations that could be checked; name a predicate"):
        bare.fits(Parameters.of(lambda a: a), "f")
    with pytest.raises(TypeError, match=r"f has no annotations that could be checked$"):
        Validation(bool, annotations=True).fits(Parameters.of(lambda x: x), "f")
    with pytest.raises(TypeError, match="max does not tell its parameters"):
        bare.fits(Parameters.of(max), "max")

"""Annotations as pydantic checks them: its own ``validate_call`` is the oracle."""

from __future__ import annotations

import functools
import importlib.util
import itertools
import pickle
import sys
import threading
import types
from collections.abc import Callable, Iterable
from typing import Annotated, Any, Literal, get_type_hints

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydantic import AfterValidator, BaseModel, Field, Strict, ValidationError, validate_call

from manyhands import validated
from manyhands.calls import Call
from manyhands.errors import InvalidArguments, InvalidResult
from manyhands.policies.annotations import MOST_ERRORS, Annotations
from manyhands.policies.parameters import OUTPUT, Parameters
from manyhands.policies.validation import Refused


class Point(BaseModel):
    """A model."""

    x: int
    y: float = 0.0


def of(function: Callable[..., Any]) -> Annotations:
    return Annotations(function, Parameters.of(function))


def several(a: int, b: float = 2.5, *rest: int, flag: bool = False, **others: str) -> Any:
    return a, b, rest, flag, others


def by_position(a: int, b: list[int] | None = None, /, c: Literal["x", "y"] = "x") -> Any:
    return a, b, c


def partly(a, b: Annotated[int, Field(gt=0)] = 1, *, c: Point | None = None) -> Any:  # noqa: ANN001
    return a, b, c


def strictly(a: Annotated[int, Strict()], b: dict[str, int]) -> Any:
    return a, b


def filled(a: int, b: int = Field(default=7, gt=1)) -> Any:  # type: ignore[assignment]
    return a, b


def unannotated(*a, **b) -> int:  # noqa: ANN002, ANN003
    return 0


values = st.sampled_from(
    [0, 1, -1, "3", "x", "", 2.0, 2.5, True, None, [1, "2"], ["z"], {"x": "1"}, {"x": "z"}, b"3", "y"]
)
calls = st.tuples(
    st.lists(values, max_size=4),
    st.dictionaries(st.sampled_from(["a", "b", "c", "flag", "more"]), values, max_size=3),
)


@pytest.mark.parametrize("function", [several, by_position, partly, strictly, filled, unannotated])
@given(calls)
def test_a_call_is_what_pydantic_makes_of_it(
    function: Callable[..., Any], given: tuple[list[Any], dict[str, Any]]
) -> None:
    """The body gets what it gets through ``validate_call``; what that refuses is refused, for the same reasons."""
    args, kwargs = given
    function.__annotations__.pop("return", None)
    call = Call(tuple(args), kwargs, memo="kept")
    try:
        expected = validate_call(function)(*args, **kwargs)
    except ValidationError as error:
        with pytest.raises(Refused) as refused:
            of(function).checked(call)
        told = refused.value.error
        assert type(told) is InvalidArguments
        assert [(one["type"], one["msg"]) for one in told.errors] == [
            (one["type"], one["msg"]) for one in error.errors()
        ]
        assert all(one["msg"] in str(told) for one in error.errors())
        assert pickle.loads(pickle.dumps(told)).errors == told.errors
    else:
        checked = of(function).checked(call)
        assert checked.memo == "kept"
        converted = function(*checked.args, **checked.kwargs)
        assert repr(converted) == repr(expected)  # 1 is not True


RETURNS = [
    int,
    float,
    bool,
    list[int],
    dict[str, float],
    Point,
    tuple[int, str] | None,
    Annotated[int, Field(lt=2)],
]


@given(st.sampled_from(RETURNS), values)
def test_a_value_is_what_pydantic_makes_of_it(annotation: Any, value: Any) -> None:
    """The same for what is returned."""

    def returned(value: Any) -> Any:
        return value

    returned.__annotations__ = {"return": annotation}
    try:
        expected = validate_call(validate_return=True)(returned)(value)
    except ValidationError as error:
        with pytest.raises(Refused) as refused:
            of(returned).checked_result(value)
        told = refused.value.error
        assert type(told) is InvalidResult
        assert [dict(one) for one in told.errors] == [
            {"type": one["type"], "loc": one["loc"], "msg": one["msg"]} for one in error.errors()
        ]
    else:
        assert repr(of(returned).checked_result(value)) == repr(expected)


def test_errors_name_parameters() -> None:
    """However an argument was given; and where in it something is wrong."""

    def mixed(a: int, b: list[int], /, c: Point, *rest: int, d: int = 0, **others: int) -> None: ...

    with pytest.raises(Refused) as refused:
        of(mixed).checked(Call(("x", [1, "y"], {"x": 1, "y": "z"}, 5, "w"), {"d": "v", "e": "u"}))
    error = refused.value.error
    assert [one["loc"] for one in error.errors] == [
        ("a",),
        ("b", 1),
        ("c", "y"),
        ("d",),
        ("rest", 1),
        ("e",),
    ]
    lines = str(error).split("\n")
    assert lines[0].startswith("invalid arguments: 6 validation errors for ") and lines[0].endswith("mixed")
    assert lines[3] == "b.1"
    assert lines[4].endswith("[type=int_parsing, input_value='y', input_type=str]")
    assert set(error.errors[0]) == {"type", "loc", "msg"}


def test_messages_stay_short() -> None:
    """Of very many errors, and of long values, the message shows some, and the data as many."""

    def total(numbers: list[int]) -> None: ...

    with pytest.raises(Refused) as refused:
        of(total).checked(Call((["x" * 10_000] * 5000,)))
    error = refused.value.error
    assert len(error.errors) == MOST_ERRORS
    assert "5000 validation errors" in str(error) and str(error).endswith(f"… and {5000 - MOST_ERRORS} more")
    assert len(str(error)) < 400 * MOST_ERRORS
    with pytest.raises(Refused, match="1 validation error for"):
        of(total).checked(Call((3,)))


def test_defaults_stay_where_they_are() -> None:
    """A call has what it was given, so a default that can't be pickled, say, need not travel."""

    def locked(a: int, lock: Any = threading.Lock(), *, b: int = 3) -> None: ...  # noqa: B008

    assert of(locked).checked(Call(("1",))) == Call((1,))
    assert of(locked).checked(Call(("1",), {"b": 3})) == Call((1,), {"b": 3})


def test_arrays_are_known_by_their_class() -> None:
    """They pass as they are, and are not copied."""

    def scaled(a: np.ndarray, b: NDArray[np.float64] | None = None) -> np.ndarray: ...  # type: ignore[empty-body]

    array = np.zeros(3)
    checked = of(scaled).checked(Call((array,), {"b": array}))
    assert checked.args[0] is array and checked.kwargs["b"] is array
    assert of(scaled).checked_result(array) is array
    for wrong in ([1.0], "x"):
        with pytest.raises(Refused, match="instance of ndarray"):
            of(scaled).checked(Call((wrong,)))
        with pytest.raises(Refused, match="instance of ndarray"):
            of(scaled).checked_result(wrong)


def test_what_is_iterated_over_is_checked_at_once() -> None:
    """A list for an ``Iterable`` stays one that can be sent; an iterator stays one, which may have no end."""

    def added(numbers: Iterable[int], *, more: Iterable[int] = ()) -> Iterable[int]: ...  # type: ignore[empty-body]

    annotations = of(added)
    assert annotations.checked(Call((["1", 2],), {"more": ("3",)})) == Call(([1, 2],), {"more": [3]})
    assert annotations.checked_result(("4",)) == [4]
    with pytest.raises(Refused, match="unable to parse"):
        annotations.checked(Call((["z"],)))
    with pytest.raises(Refused, match="unable to parse"):
        annotations.checked_result(["z"])
    (numbers,) = annotations.checked(Call((itertools.cycle("12"),))).args
    assert list(itertools.islice(numbers, 3)) == [1, 2, 1]


def raises(value: int) -> int:
    raise KeyError(value)


def test_what_a_validator_raises_is_noted() -> None:
    """It comes as it is: the arguments were not refused."""

    def checked(a: Annotated[int, AfterValidator(raises)]) -> Annotated[int, AfterValidator(raises)]: ...  # type: ignore[empty-body]

    for check in (lambda: of(checked).checked(Call((1,))), lambda: of(checked).checked_result(1)):
        with pytest.raises(KeyError) as caught:
            check()
        assert any(
            "checked the annotations of " in note and "checked" in note for note in caught.value.__notes__
        )


class Scale:
    """Has methods."""

    def times(self: int, factor: int, *more: int) -> int:  # type: ignore[misc]
        return factor

    def __call__(self, factor: int) -> Point: ...  # type: ignore[empty-body]


def test_a_bound_method_has_one_parameter_less() -> None:
    """What it is bound to is not checked."""
    assert of(Scale.times).checked(Call(("2", "3")), bound=1) == Call((2, 3))
    with pytest.raises(Refused) as refused:
        of(Scale.times).checked(Call((1, "x")), bound=1)
    assert refused.value.error.errors[0]["loc"] == ("more", 0)
    with pytest.raises(Refused) as refused:
        of(Scale.times).checked(Call((Scale(), 1)))
    assert refused.value.error.errors[0]["loc"] == ("self",)


class Made:
    """Is called to make one."""

    def __init__(self, point: Point) -> None:
        self.point = point


def writes(a: int, output: int = OUTPUT, b: int = 0) -> None: ...  # type: ignore[assignment]


def wrapping(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapped


@pytest.mark.parametrize(
    ("function", "call", "expected"),
    [
        (functools.partial(several, b=1), Call(("1",), {"flag": "no"}), Call((1,), {"flag": False})),
        (Scale(), Call(("1",)), Call((1,))),
        (wrapping(several), Call(("1",)), Call((1,))),
        (writes, Call(("1", "2")), Call((1, 2))),
        (lambda a: a, Call(("1",)), Call(("1",))),
    ],
)
def test_callables_of_all_kinds(function: Callable[..., Any], call: Call, expected: Call) -> None:
    """Partials, objects that are called, wrapped functions; the output's path is nobody's argument."""
    assert of(function).checked(call) == expected


def test_text_is_looked_up_where_it_was_written() -> None:
    """In the module of the function itself, whatever it is wrapped in."""
    elsewhere: dict[str, Any] = {"functools": functools, "function": partly}
    exec("wrapped = functools.wraps(function)(lambda *args, **kwargs: function(*args, **kwargs))", elsewhere)
    call = Call((1,), {"c": {"x": "2"}})
    for function in (
        functools.partial(partly, b=3),
        elsewhere["wrapped"],
        functools.partial(elsewhere["wrapped"]),
    ):
        assert of(function).checked(call) == Call((1,), {"c": Point(x=2)})
    assert of(Scale()).checked_result({"x": "2"}) == Point(x=2)
    assert of(Made).checked(Call(({"x": "2"},))) == Call((Point(x=2),))


def test_text_is_evaluated_late() -> None:
    """Annotations may name what is defined after the function, in its module or in what it closes over."""

    def late(a: Later, b: int) -> None:  # type: ignore[name-defined]  # noqa: F821
        print(Local)

    class Local(BaseModel):
        x: int

    late.__annotations__["b"] = "Local"
    annotations = of(late)
    with pytest.raises(
        TypeError, match=r"annotations of .*late can't be evaluated: name 'Later' is not defined"
    ):
        annotations.compile()
    try:
        globals()["Later"] = int
        annotations.compile()
        assert annotations.checked(Call(("1", {"x": "2"}))) == Call((1, Local(x=2)))
        assert annotations.hints == get_type_hints(late, {"Later": int}, {"Local": Local})
    finally:
        del globals()["Later"]
    assert Annotations(late, Parameters.of(late), {"a": str, "b": int}).checked(Call(("1", 2))) == Call(
        ("1", 2)
    )


def test_what_pydantic_can_not_check_is_told() -> None:
    """By the function's name, before any call."""

    def strange(a: 5) -> None: ...  # type: ignore[valid-type]

    def nonsense(a: Point) -> None: ...

    nonsense.__annotations__["a"] = "not a type"

    def returns() -> 5: ...  # type: ignore[valid-type]

    for function in (strange, nonsense, returns):
        with pytest.raises(TypeError, match=f"annotations of .*{function.__name__} can't be"):
            of(function).compile()


def test_a_result_needs_no_parameters() -> None:
    """Where only results are checked, that of a method may be, whatever ``self`` is annotated with."""

    def method(self: 5, x: int) -> int: ...  # type: ignore[valid-type, empty-body]

    annotations = of(method)
    assert annotations.checked_result("3") == 3
    annotations.compile(bound=1)
    with pytest.raises(TypeError, match="can't be checked by pydantic"):
        annotations.compile()


def test_without_pydantic(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both at decoration and, should there be an old one only, at the first call: what to install."""
    needed = r"pip install 'manyhands\[pydantic\]'"
    with monkeypatch.context() as patched:
        patched.delitem(sys.modules, "pydantic")
        patched.setattr(importlib.util, "find_spec", lambda name: None)
        for decorate in (lambda: validated(several), lambda: validated(result=bool, annotations=True)):
            with pytest.raises(ImportError, match=needed):
                decorate()
        validated(result=bool)
    monkeypatch.setitem(sys.modules, "pydantic", types.ModuleType("pydantic"))
    with pytest.raises(ImportError, match=needed):
        validated(several)(1)


def test_nothing_to_check() -> None:
    """Where only arguments or only the result is annotated, the rest stays as it is."""

    def arguments(a: int): ...  # noqa: ANN202

    def result(a) -> int: ...  # type: ignore[empty-body]  # noqa: ANN001

    value = object()
    assert of(arguments).checked_result(value) is value
    call = Call(("x", "too many"))
    assert of(result).checked(call) is call

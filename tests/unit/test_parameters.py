"""A function's public parameters, and a call's arguments by their names."""

from __future__ import annotations

import inspect
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from manyhands.calls import Call
from manyhands.policies.parameters import OUTPUT, Parameters, name_of, signature_of


def named(**arguments: Any) -> dict[str, Any]:
    """What a call gave, by name."""
    return arguments


def plain(a: Any, b: Any = 2) -> Any:
    return named(a=a, b=b)


def everything(a: Any, /, b: Any = 2, *rest: Any, c: Any = 3, **others: Any) -> Any:
    return named(a=a, b=b, rest=rest, c=c, others=others)


def keyword_only(*, a: Any, b: Any = 2) -> Any:
    return named(a=a, b=b)


def collects(*rest: Any, **others: Any) -> Any:
    return named(rest=rest, others=others)


def nothing() -> Any:
    return named()


BODIES = [plain, everything, keyword_only, collects, nothing]


@given(
    body=st.sampled_from(BODIES),
    args=st.lists(st.integers(), max_size=4).map(tuple),
    kwargs=st.dictionaries(st.sampled_from(["a", "b", "c", "rest", "others", "d"]), st.integers(), max_size=4),
)
def test_arguments_are_bound_as_a_call_binds_them(
    body: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    """By name, defaults applied, what is collected included; and what a call refuses is refused."""
    # Interpreters differ in how a signature binds a keyword that has the name of a positional-only parameter.
    assume(not (body is everything and "a" in kwargs))
    parameters = Parameters.of(body)
    try:
        expected = body(*args, **kwargs)
    except TypeError:
        with pytest.raises(TypeError):
            parameters.bind(Call(args, kwargs))
    else:
        assert parameters.bind(Call(args, kwargs)) == expected
        assert expected.keys() == parameters.names


def middle(a: Any, output: Path = OUTPUT, b: Any = 2) -> Any:
    return named(a=a, output=output, b=b)


def last(a: Any, b: Any = 2, output: Path = OUTPUT) -> Any:
    return named(a=a, b=b, output=output)


def by_keyword(a: Any, *, b: Any = 2, output: Path = OUTPUT) -> Any:
    return named(a=a, b=b, output=output)


def before_rest(a: Any, output: Path = OUTPUT, *rest: Any, b: Any = 2) -> Any:
    return named(a=a, output=output, rest=rest, b=b)


@given(
    body=st.sampled_from([middle, last, by_keyword, before_rest]),
    args=st.lists(st.integers(), max_size=4).map(tuple),
    kwargs=st.dictionaries(st.sampled_from(["a", "b"]), st.integers(), max_size=2),
)
def test_the_output_parameter_is_not_public(
    body: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    """Wherever it stands, calls are bound as if it were not there, and the body gets the path there."""
    parameters = Parameters.of(body)
    assert parameters.output == "output"
    assert parameters.names == inspect.signature(body).parameters.keys() - {"output"}
    call = Call(args, kwargs)
    try:
        arguments = parameters.bind(call)
    except TypeError:
        return
    sent = parameters.with_output(call, Path("staged"))
    assert body(*sent.args, **sent.kwargs) == {**arguments, "output": Path("staged")}
    with pytest.raises(TypeError):
        parameters.bind(
            Call(args, {**kwargs, "output": Path("own")})
        ) if "others" not in parameters.names else None


def test_only_the_default_declares_an_output() -> None:
    """Neither the name nor a path as default does."""

    def body(output: Path, other: Path = Path("x")) -> None: ...

    assert Parameters.of(body).output is None
    assert Parameters.of(body).names == {"output", "other"}


def test_bad_declarations_name_function_and_parameter() -> None:
    """Two outputs, one that can't be passed by name, one whose neighbours make no signature."""

    def twice(a: Path = OUTPUT, b: Path = OUTPUT) -> None: ...

    def by_position(a: Path = OUTPUT, /) -> None: ...

    with pytest.raises(TypeError, match="twice declares OUTPUT twice: a, b"):
        Parameters.of(twice)
    with pytest.raises(TypeError, match=r"by_position: the parameter 'a'.*positional-only"):
        Parameters.of(by_position)


def test_who_does_not_tell_its_parameters() -> None:
    """Some builtins have no signature; then nothing can be named, and saying so is all."""
    parameters = Parameters.of(max)
    assert (parameters.signature, parameters.output, parameters.names) == (None, None, frozenset())
    assert signature_of(max) is None
    with pytest.raises(TypeError, match="does not tell its parameters"):
        parameters.bind(Call((1, 2)))


def test_there_is_one_output() -> None:
    """It is the same object after pickling, so that ``is`` tells it, and it reads as its name."""
    assert pickle.loads(pickle.dumps(OUTPUT)) is OUTPUT
    assert repr(OUTPUT) == "OUTPUT"


def test_names_for_messages() -> None:
    """A function is called what it is called where it was defined, an object by its type."""

    class Callee:
        def __call__(self) -> None: ...

    assert name_of(plain) == "plain"
    assert name_of(Callee.__call__).endswith("Callee.__call__")
    assert name_of(Callee()).endswith("Callee")

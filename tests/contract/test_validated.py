"""What ``@validated`` promises, wherever a map runs."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import BaseModel

from manyhands import (
    OUTPUT,
    Counts,
    Discarded,
    FailedElsewhere,
    InvalidArguments,
    InvalidResult,
    ItemError,
    claimed_output,
    parallel,
    retry_on,
    validated,
)
from manyhands.decorators import submitting
from tests.contract import validated_tasks as tasks
from tests.helpers import lines, run_script, write_script

How = dict[str, Any]


@pytest.fixture(params=["list", "generator"])
def as_input(request: pytest.FixtureRequest) -> Any:
    """Items go in blocks, or as they are drawn."""
    return list if request.param == "list" else iter


@pytest.fixture(params=["inline", "threads", "fork", "spawn", "forkserver", "controller"])
def anywhere(request: pytest.FixtureRequest) -> How:
    """Every way to run, threads of this process included."""
    if request.param in ("inline", "threads"):
        return {"backend": request.param}
    if request.param == "controller":
        return {"backend": request.getfixturevalue("controller")}
    return {"workers": 2, "start_method": request.param}


# -- annotations ----------------------------------------------------------------------------------------------


def test_values_are_converted(anywhere: How, as_input: Any) -> None:
    """The body gets what pydantic makes of the arguments, and a map gives what it makes of results."""
    assert list(tasks.added.map(as_input([1, "2", 3.0]), **anywhere)) == [2.0, 3.0, 4.0]
    assert {type(value) for value in tasks.added.map([1, "2"], **anywhere)} == {float}


def test_fixed_arguments_are_converted(anywhere: How) -> None:
    """Those that all calls have in common too, by position or by name; those that stay as they are, also."""
    results = tasks.added.map(["1", "2"], args=("10", "5"), kwargs={"plus": "1000"}, **anywhere)
    assert list(results) == [1016.0, 1017.0]
    assert list(tasks.added.map([1, 2], args=(10, 5), kwargs={"plus": 1000}, **anywhere)) == [1016.0, 1017.0]
    assert list(tasks.added.map([(1, {"plus": "2"})], kwstar=True, args=(3,), **anywhere)) == [6.0]
    assert list(tasks.added.map([("1", "2", "3"), (4,)], star=True, **anywhere)) == [6.0, 5.0]


def test_what_does_not_fit_is_discarded(anywhere: How, as_input: Any) -> None:
    """It is counted and listed with what pydantic says of it, by the parameter's name, arguments or result."""
    results = tasks.added.map(as_input([1, "x", 12, 7]), on_error="return", **anywhere)
    outcomes = list(results.outcomes())
    assert [outcome.ok for outcome in outcomes] == [True, False, False, True]
    assert results.counts == Counts(values=2, discarded=2)
    assert outcomes[1].discarded.item == "x"
    reason = outcomes[1].discarded.reason.split("\n")
    assert reason[0] == "invalid arguments: 1 validation error for added"
    assert reason[1] == "a"
    assert reason[2].startswith("  Input should be a valid integer, unable to parse string as an integer [")
    assert outcomes[2].discarded.reason.startswith(
        "invalid result: 1 validation error for added\n  Input should"
    )
    assert "thirteen" in outcomes[2].discarded.reason


def test_errors_survive_the_way(anywhere: How) -> None:
    """With ``invalid="raise"`` they are failures, whose text and data come from whichever process it was."""
    with pytest.raises(InvalidArguments, match="unable to parse") as caught:
        list(tasks.strictly_added.map([1, "x"], **anywhere))
    expected = {
        "type": "int_parsing",
        "loc": ("a",),
        "msg": "Input should be a valid integer, unable to parse string as an integer",
    }
    assert caught.value.errors == (expected,)
    with pytest.raises(InvalidResult, match="unable to parse") as again:
        list(tasks.strictly_added.map([1, 12], **anywhere))
    assert again.value.errors == ({**expected, "loc": ()},)
    for error in (caught.value, again.value):
        copy = pickle.loads(pickle.dumps(error))
        assert (str(copy), copy.errors) == (str(error), error.errors)


def test_a_call_that_does_not_fit_the_signature(anywhere: How) -> None:
    """That is no matter of annotations: it is told as ever, and never discarded."""
    with pytest.raises(ItemError, match="missing a required"):
        list(tasks.moved.map(iter([1]), **anywhere))
    with pytest.raises(ItemError, match="missing a required"):
        list(tasks.length.map(iter([1]), **anywhere))
    with pytest.raises(TypeError):
        tasks.added()


def test_methods(anywhere: How) -> None:
    """Of instances, of classes, and static ones; of the instance nothing is checked."""
    scale = tasks.Scale(3)
    assert list(scale.times.map(["1", 2, "x"], **anywhere)) == [3, 6]
    assert scale.times("5") == 15
    assert [made.factor for made in tasks.Scale.made.map(["1", "x"], **anywhere)] == [1]
    assert list(tasks.Scale.doubled.map(["4", None], **anywhere)) == [8]


def test_arrays(anywhere: How) -> None:
    """Pass as they are, large ones too, beside arguments that are converted."""
    arrays = [np.zeros(10), np.zeros(100_000), [1.0]]
    weights = np.zeros(3).tolist()
    assert list(tasks.length.map(arrays, args=(weights, "2"), **anywhere)) == [20.0, 200_000.0]
    assert list(tasks.length.map(arrays, args=((1, "2"),), **anywhere)) == [13.0, 100_003.0]


def test_submitted_calls_are_checked(anywhere: How) -> None:
    """As those of a map, and raise what does not fit."""
    added = tasks.added.options(**anywhere)
    assert added.submit("1", plus="2").result(60) == 4.0
    with pytest.raises(InvalidArguments, match="unable to parse"):
        added.submit("x").result(60)
    with pytest.raises(InvalidResult, match="thirteen"):
        added.submit(12).result(60)
    moved = tasks.moved.options(**anywhere)
    assert moved.submit("1", pid=0).result(60) == (1, tasks.Point(x=1))
    with pytest.raises(InvalidArguments, match="pid"):
        moved.submit("1", pid="x").result(60)


def made_here() -> Any:
    class Local(BaseModel):
        x: int

    def made(x: Local) -> list[Local]:
        return [x, {"x": "7"}]  # type: ignore[list-item]

    made.__annotations__ = {"x": Local, "return": list[Local]}
    return parallel(validated(made))


def test_local_functions(anywhere: How) -> None:
    """A function that travels by value takes along what its annotations name."""
    function = made_here()
    ((first, second),) = function.map([{"x": "1"}], **anywhere)
    assert (first.x, second.x) == (1, 7)


def test_annotations_that_name_nothing(anywhere: How) -> None:
    """Are told before any work."""

    def strange(x: int) -> None: ...

    strange.__annotations__["x"] = "Nowhere"
    function = parallel(validated(strange))
    for call in (
        lambda: function(1),
        lambda: function.map([1], **anywhere),
        lambda: function.options(**anywhere).submit(1).result(60),
    ):
        with pytest.raises(TypeError, match=r"annotations of .*strange can't be evaluated.*'Nowhere'"):
            call()


def test_nothing_is_started_for_wrong_annotations(monkeypatch: pytest.MonkeyPatch) -> None:
    """A submitted call with retries has a share of a pool, but not if it can't be called at all."""

    def strange(x: int) -> None: ...

    strange.__annotations__["x"] = "Nowhere"
    monkeypatch.setattr(submitting, "start_runner", None)
    with pytest.raises(TypeError, match="'Nowhere'"):
        parallel(retry_on(OSError)(validated(strange))).submit(1)


def test_annotations_before_predicates() -> None:
    """Where both are asked for, predicates see converted values."""

    @validated(arguments=lambda a: a > 0, result=lambda value: value < 10, annotations=True)
    def same(a: int) -> int:
        return str(a)  # type: ignore[return-value]

    assert same("3") == 3
    for wrong, error in (("x", InvalidArguments), ("-1", InvalidArguments), ("20", InvalidResult)):
        with pytest.raises(error):
            same(wrong)

    @validated(arguments=lambda a: True)
    def unchecked(a: int) -> int:
        return a

    assert unchecked("x") == "x"


def test_with_and_without_parentheses() -> None:
    """``@validated`` and ``@validated()`` are one, in any order with other decorators."""
    assert validated(tasks.body).task == validated()(tasks.body).task
    assert (
        validated(parallel(retry_on(OSError)(tasks.body))).task
        == parallel(retry_on(OSError)(validated(tasks.body))).task
    )


def test_a_script(tmp_path: Path) -> None:
    """What is defined there is checked in workers all the same, though only texts name it."""
    script = write_script(
        tmp_path / "script.py",
        """
        from pydantic import BaseModel

        from manyhands import parallel, validated


        class Point(BaseModel):
            x: int


        @parallel(workers=2)
        @validated
        def shifted(point: "Point", by: "int" = 1) -> "Point":
            return {"x": str(point.x + by)}


        @parallel(workers=2)
        @validated(arguments_in="worker", result_in="parent")
        def moved(point: "Point", by: "int" = 1) -> "Point":
            return {"x": str(point.x + by)}


        for function in (shifted, moved):
            assert list(function.map([{"x": "1"}, Point(x=5), {"x": "z"}])) == [Point(x=2), Point(x=6)]
            assert function.submit({"x": 3}, by="4").result() == Point(x=7)
        print("done")
        """,
    )
    assert run_script(script) == "done\n"


# -- where ----------------------------------------------------------------------------------------------------


def test_where_arguments_are_checked(processes: How, as_input: Any) -> None:
    """In the parent, or in the worker if that is asked for."""
    pid = os.getpid()
    for function in (tasks.in_parent, tasks.in_worker):
        assert list(function.map(as_input([1, 2]), args=(pid,), **processes)) == [1, 4]
        assert function.options(**processes).submit(3, pid=pid).result(60) == 9
        ends = function.map(as_input([1, 2]), args=(0 if function is tasks.in_parent else -1,), **processes)
        assert ends.wait().total == 2


def test_a_predicate_for_arguments_is_asked_once(anywhere: How, as_input: Any) -> None:
    """Whatever it says: asked again it might say something else."""
    asked: list[int] = []

    def keep(x: int) -> Any:
        asked.append(x)
        if x % 10 == 3:
            raise LookupError(x)
        return {1: False, 2: 0, 4: 1, 5: None, 6: np.arange(2)}.get(x % 10, True)

    function = parallel(validated(arguments=keep)(tasks.body))
    outcomes = list(function.map(as_input(list(range(100))), on_error="return", **anywhere).outcomes())
    assert asked == list(range(100))
    for outcome in outcomes:
        match outcome.index % 10:
            case 1 | 2 | 5:
                assert outcome.discarded is not None
            case 3:
                assert isinstance(outcome.failure.error, LookupError)
                assert "raised by the predicate" in outcome.failure.error.__notes__[0]
            case 6:
                assert isinstance(outcome.failure.error, TypeError)
                assert "neither true nor false" in str(outcome.failure.error)
            case _:
                assert outcome.value == outcome.index**2


def test_where_results_are_checked(processes: How, as_input: Any) -> None:
    """In the worker, or in the parent if that is asked for: its predicate never travels."""
    seen = tasks.Seen()
    function = parallel(validated(result=seen, result_in="parent")(tasks.body))
    results = function.map(as_input([1, 2, "x"]), on_error="skip", **processes)
    assert list(results) == [1, 4]
    assert sorted(seen) == [(1, os.getpid()), (4, os.getpid())]  # in whatever order they came
    assert function.options(**processes).submit(3).result(60) == 9
    assert len(seen) == 3


def test_the_place_changes_nothing_else(anywhere: How, as_input: Any) -> None:
    """Values, counts and reasons are the same."""
    items = list(range(200))
    for function in (tasks.even_in_worker, tasks.even_in_parent):
        results = function.map(as_input(items), on_error="return", **anywhere)
        found = list(results)
        assert [value for value in found if not isinstance(value, Discarded)] == [x * x for x in items[::2]]
        assert found[3] == Discarded("invalid result: 9", 3, 3)
        assert results.counts == Counts(values=100, discarded=100)
    for wrong in (1, "x"):
        first, second = (
            str(function.map(as_input([wrong]), on_error="return", **anywhere).wait())
            for function in (tasks.even_in_worker, tasks.even_in_parent)
        )
        assert first == second


def test_annotations_are_checked_elsewhere(anywhere: How, as_input: Any) -> None:
    """Both may be moved; both convert."""
    pid = os.getpid()
    outcomes = list(tasks.moved.map(as_input(["1", "x"]), args=(str(pid),), **anywhere).outcomes())
    here = anywhere.get("backend") in ("inline", "threads")
    assert outcomes[0].value == (1, tasks.Point(x=1, y=here))
    assert "unable to parse" in outcomes[1].discarded.reason
    assert outcomes[1].worker  # it was told there


def test_all_is_checked_in_the_worker(anywhere: How, as_input: Any) -> None:
    """Items, what they have in common, and values, in blocks too."""
    function = tasks.added_there
    outcomes = list(function.map(as_input(["1", "x", 12, 7]), **anywhere).outcomes())
    assert [outcome.value for outcome in outcomes if outcome.ok] == [2.0, 8.0]
    assert [type(outcome.value) for outcome in outcomes if outcome.ok] == [float, float]
    assert [outcome.discarded.reason[:17] for outcome in outcomes if not outcome.ok] == [
        "invalid arguments",
        "invalid result: 1",
    ]
    assert list(function.map(as_input(["1"]), args=("2",), kwargs={"plus": "4"}, **anywhere)) == [7.0]
    assert list(function.map(as_input([("1", "2"), ["3"]]), star=True, **anywhere)) == [3.0, 4.0]
    assert list(function.map(as_input([("1", {"plus": "2"})]), kwstar=True, args=("3",), **anywhere)) == [6.0]


@pytest.mark.parametrize("name", ["retried_in_worker", "retried_in_parent", "retried_annotation"])
def test_invalid_results_are_failed_attempts(anywhere: How, as_input: Any, tmp_path: Path, name: str) -> None:
    """``@retry_on(InvalidResult)`` repeats them, wherever they were found; what stays invalid is discarded."""
    function = getattr(tasks, name)
    outcomes = list(function.map(as_input([1, 2]), args=(str(tmp_path), "no"), **anywhere).outcomes())
    assert [outcome.value for outcome in outcomes] == [1, 2]
    for outcome in outcomes:
        assert [attempt.type_name for attempt in outcome.attempts] == ["manyhands.errors.InvalidResult"] * 2
    assert [len(lines(tmp_path / str(x))) for x in (1, 2)] == [3, 3]


def test_what_stays_invalid_is_discarded(anywhere: How, as_input: Any) -> None:
    """After the last attempt."""
    tried = retry_on(InvalidResult, attempts=2, wait=0)(tasks.even_in_parent)
    (outcome,) = tried.map(as_input([3]), **anywhere).outcomes()
    assert outcome.discarded.reason == "invalid result: 9"
    assert len(outcome.attempts) == 2


def test_refused_arguments_are_not_tried_again(anywhere: How, as_input: Any) -> None:
    """They would be the same."""
    outcomes = list(tasks.refused_once.map(as_input([0, 1]), **anywhere).outcomes())
    assert outcomes[0].discarded.reason == "invalid arguments: x=0"
    assert len(outcomes[0].attempts) <= 1
    assert outcomes[1].value == 1


def test_claimed_outputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Arguments and what is saved are converted; an output that the body writes has nothing to check."""
    monkeypatch.chdir(tmp_path)

    @claimed_output("{n}.txt", save=lambda value, path: path.write_text(repr(value)))
    @validated
    def saved(n: int) -> float:
        return "none" if n == 13 else str(n)  # type: ignore[return-value]

    assert saved("03").read_text() == "3.0"
    assert saved.claims.path("03") == saved.claims.path(3) == tmp_path / "3.txt"
    with pytest.raises(InvalidArguments):
        saved.claims.path("x")
    with pytest.raises(InvalidResult, match="unable to parse"):
        saved(13)

    @validated
    @claimed_output("out/{n}.txt")
    def written(n: int, output: Path = OUTPUT) -> None:
        output.write_text(str(n + 1))

    assert written("4").read_text() == "5"

    @claimed_output("late/{n}.txt", save=lambda value, path: path.write_text(str(value)))
    @validated(arguments_in="worker")
    def late(n: int) -> int:
        return n + 1

    assert late.claims.path("04").name == late("04").name == "04.txt" and late("04").read_text() == "5"
    with pytest.raises(InvalidArguments):
        late("x")
    assert [path.name for path in (tmp_path / "late").iterdir()] == ["04.txt"]


def test_refused_results_are_recorded_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process that believes the record says what was refused, and why."""
    monkeypatch.chdir(tmp_path)

    @claimed_output("{n}.txt", save=print, failed="report")
    @validated(result=lambda value: value > 0, invalid="raise")
    def same(n: int) -> int:
        return n

    with pytest.raises(InvalidResult, match="invalid result: -1"):
        same(-1)
    with pytest.raises(
        FailedElsewhere, match=r"manyhands\.errors\.InvalidResult: invalid result: -1"
    ) as caught:
        same(-1)
    assert caught.value.type_name == "manyhands.errors.InvalidResult"


def test_claimed_outputs_are_checked_before_they_are_published() -> None:
    """So not in the parent, whichever decorator comes first."""

    def body(n: int) -> int:
        return n

    claimed = claimed_output("{n}.txt", save=print)
    checked = validated(result=bool, result_in="parent")
    for stack in (lambda: claimed(checked(body)), lambda: checked(claimed(body))):
        with pytest.raises(TypeError, match="body: its output is published in the worker"):
            stack()
    claimed(validated(arguments=lambda n: n, result_in="parent")(body))


# -- predicates that raise --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "which"),
    [
        ("boom_arguments", "arguments"),
        ("boom_arguments_in_worker", "arguments"),
        ("boom_result", "result"),
        ("boom_result_in_parent", "result"),
    ],
)
def test_a_predicate_that_raises_fails_the_item(anywhere: How, as_input: Any, name: str, which: str) -> None:
    """Whatever it raises, and a note says which; nothing is discarded for it."""
    results = getattr(tasks, name).map(as_input([1, 3, 4, 5]), on_error="skip", **anywhere)
    assert list(results) == [1]
    assert results.counts == Counts(values=1, failures=3)
    errors = [failure.error for failure in results.failures]
    assert [type(error) for error in errors] == [LookupError, InvalidResult, InvalidArguments]
    for error in errors:
        assert f"raised by the predicate boom_at_three of @validated({which}=…)" in error.__notes__


def test_refusals_of_others_are_failures(anywhere: How, as_input: Any) -> None:
    """What the body raises is its failure, also where another ``@validated`` refused something in it."""
    results = tasks.boom_body.map(as_input([2, 4, 5, 7]), on_error="skip", **anywhere)
    assert list(results) == [2]
    assert [type(failure.error) for failure in results.failures] == [InvalidResult, InvalidArguments]
    assert results.counts == Counts(values=1, failures=2, discarded=1)


def test_long_values_are_cut(anywhere: How) -> None:
    """A reason stays readable."""

    def text(number: int) -> str:
        return "x" * number

    function = parallel(
        validated(arguments=lambda number: number < 10**50, result=lambda value: not value)(text)
    )
    outcomes = list(function.map([100_000, 10**1000], **anywhere).outcomes())
    assert all(len(outcome.discarded.reason) < 200 for outcome in outcomes)

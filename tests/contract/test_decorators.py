"""The decorators: one Task whatever the order, a face like the body's, pickling, refusals, direct calls."""

from __future__ import annotations

import doctest
import inspect
import itertools
import pickle
import pydoc
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import cloudpickle
import pytest

from manyhands import (
    OUTPUT,
    ClaimedElsewhere,
    FailedElsewhere,
    InvalidArguments,
    InvalidResult,
    ItemError,
    OutputMissing,
    TemplateError,
    claimed_output,
    parallel,
    retry_on,
    validated,
)
from manyhands.decorators.decorated import (
    ClaimedFunction,
    Decorated,
    ParallelClaimedFunction,
    ParallelFunction,
)
from tests.contract import decorated_tasks as samples
from tests.helpers import lines, run_script, write_script

Decorator = Callable[[Any], Any]


def is_even(n: int) -> bool:
    """A predicate."""
    return n % 2 == 0


def is_there(path: Path) -> bool:
    """Another."""
    return path.exists()


FOUR: dict[str, Decorator] = {
    "parallel": parallel(workers=2, ordered=False, on_error="skip"),
    "claimed": claimed_output("out/{n}.txt", wait=False, failed="report"),
    "validated": validated(arguments=is_even, result=is_there, invalid="raise"),
    "retry": retry_on(OSError, attempts=4, wait=0.5),
}


def body(n: int, scale: float = 2.0, *, output: Path = OUTPUT) -> None:
    """Writes n times scale."""
    output.write_text(f"{n * scale}")


def stacked(function: Any, order: tuple[Decorator, ...]) -> Any:
    """The function under these decorators, the last one at the top."""
    for decorator in order:
        function = decorator(function)
    return function


# -- stacking -------------------------------------------------------------------------------------------------


def test_any_order_gives_an_equal_task() -> None:
    """All orders of the four decorators, with three budgets of retries, give one Task, of one type."""
    budgets = [retry_on(ValueError, attempts=2, wait=1), retry_on(KeyError, IndexError, attempts=5, wait=0)]
    functions = [stacked(body, order) for order in itertools.permutations([*FOUR.values(), *budgets])]
    assert len(functions) == 720
    assert all(function.task == functions[0].task for function in functions)
    assert {type(function) for function in functions} == {ParallelClaimedFunction}
    task = functions[0].task
    assert task.parallel.ordered is False
    assert task.claim.final.text == "out/{n}.txt"
    assert task.validation.invalid == "raise"
    assert [budget.attempts for budget in task.retries] == [5, 4, 2]
    assert len({hash(function.task) for function in functions}) == 1


@pytest.mark.parametrize(
    "names", [c for n in range(1, 5) for c in itertools.combinations(FOUR, n)], ids="+".join
)
def test_type_tells_what_was_mixed_in(names: tuple[str, ...]) -> None:
    """``map`` is there with @parallel, ``claims`` with @claimed_output, and only then, in any order."""
    expected = {
        (False, False): Decorated,
        (True, False): ParallelFunction,
        (False, True): ClaimedFunction,
        (True, True): ParallelClaimedFunction,
    }["parallel" in names, "claimed" in names]

    def plain(n: int) -> int:
        return n

    saved = claimed_output("out/{n}.txt", save=print)
    for order in itertools.permutations(names):
        decorators = tuple(saved if name == "claimed" else FOUR[name] for name in order)
        function = stacked(plain, decorators)
        assert type(function) is expected
        assert hasattr(function, "map") == hasattr(function, "submit") == ("parallel" in names)
        assert hasattr(function, "claims") == ("claimed" in names)


def test_task_is_frozen() -> None:
    """A Task can't be changed; decorating again makes another."""
    function = FOUR["parallel"](body)
    with pytest.raises(FrozenInstanceError):
        function.task.parallel = None
    before = function.task
    FOUR["retry"](function)
    assert function.task is before and before.retries == ()


def test_with_and_without_parentheses() -> None:
    """``@parallel`` and ``@parallel()`` are one."""
    assert parallel(body).task == parallel()(body).task == parallel(workers=None)(body).task


def test_order_on_methods_does_not_matter() -> None:
    """Above or below ``@classmethod`` and ``@staticmethod``, wherever Python allows it."""

    class Both:
        base = 5

        @parallel(backend="inline")
        @retry_on(OSError, wait=0)
        @classmethod
        def one(cls, x: int) -> int:
            return cls.base + x

        @retry_on(OSError, wait=0)
        @parallel(backend="inline")
        @staticmethod
        def two(x: int) -> int:
            return 2 * x

        @parallel(backend="inline")
        @validated(arguments=lambda self, x: x > self.base)
        def three(self, x: int) -> int:
            return self.base * x

    assert Both.one(1) == Both().one(1) == 6
    assert Both.two(2) == Both().two(2) == 4
    assert list(Both.one.map([1])) == [6]
    assert list(Both().two.map([3])) == [6]
    assert list(Both().three.map([1, 6])) == [30]
    assert Both.one.task == retry_on(OSError, wait=0)(parallel(backend="inline")(body)).task


# -- the face -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FOUR)
def test_names_and_docs(name: str) -> None:
    """Name, qualified name, module and docstring are the body's, and ``__wrapped__`` is the body."""
    function = claimed_output("x{n}", save=print)(samples.triple_body) if name == "claimed" else None
    function = function or stacked(
        samples.triple_body,
        ({"parallel": parallel, "validated": validated(result=bool), "retry": retry_on(OSError)}[name],),
    )
    for attribute in ("__name__", "__qualname__", "__module__", "__doc__", "__wrapped__"):
        expected = (
            samples.triple_body if attribute == "__wrapped__" else getattr(samples.triple_body, attribute)
        )
        assert getattr(function, attribute) == expected
    assert inspect.unwrap(function) is samples.triple_body
    assert function.some_attribute == "kept"


def test_signature_is_the_bodys() -> None:
    """Signature and annotations are the body's, through any number of decorators."""
    function = retry_on(OSError)(parallel(samples.triple_body))
    assert inspect.signature(function) == inspect.signature(samples.triple_body)
    assert function.__annotations__ == samples.triple_body.__annotations__
    assert inspect.get_annotations(function, eval_str=True) == {"n": int, "return": int}


def test_signature_of_a_claimed_function() -> None:
    """The public signature omits OUTPUT and returns a path, or what ``load`` returns."""
    written = claimed_output("{n}.txt")(body)
    assert str(inspect.signature(written)).startswith("(n: 'int', scale: 'float' = 2.0) ->")
    assert inspect.signature(written).return_annotation is Path
    assert "output" not in written.__annotations__

    def load(path: Path) -> list[int]:
        return [len(path.name)]

    loaded = claimed_output("{n}.txt", load=load)(body)
    assert inspect.signature(loaded).return_annotation == inspect.signature(load).return_annotation


def test_signature_of_a_bound_method() -> None:
    """A bound method's signature has no ``self``."""
    assert list(inspect.signature(samples.Counter(1).add).parameters) == ["x"]
    assert list(inspect.signature(samples.Counter.add).parameters) == ["self", "x"]
    assert list(inspect.signature(samples.Counter.named).parameters) == ["x"]


def test_help_and_doctest() -> None:
    """``help`` shows the docstring, and doctests in it are found and run."""
    assert "Three times n." in pydoc.render_doc(samples.tripled)
    finder = doctest.DocTestFinder()
    found = [test for test in finder.find(samples) if test.examples]
    assert "tripled" in {test.name.rpartition(".")[2] for test in found}
    runner = doctest.DocTestRunner(verbose=False)
    for test in found:
        runner.run(test)
    assert runner.summarize(verbose=False).failed == 0


def test_repr_and_equality() -> None:
    """The repr names the function; bound methods of one object are equal, as Python's are."""
    assert repr(samples.tripled) == "<parallel function tripled>"
    counter = samples.Counter(1)
    assert "Counter.add of" in repr(counter.add)
    assert counter.add == counter.add and hash(counter.add) == hash(counter.add)
    assert counter.add != samples.Counter(1).add
    assert counter.add.__self__ is counter


# -- pickling -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pickler", [pickle, cloudpickle], ids=["pickle", "cloudpickle"])
def test_pickles_by_name(pickler: Any) -> None:
    """Where the name finds this very object, its pickle is the name, and loads as the object."""
    data = pickler.dumps(samples.tripled)
    assert pickle.loads(data) is samples.tripled
    assert len(data) < 200


@pytest.mark.parametrize("pickler", [pickle, cloudpickle], ids=["pickle", "cloudpickle"])
def test_pickles_by_value(pickler: Any) -> None:
    """Where the name finds something else, body and Task travel."""
    other = retry_on(OSError, attempts=7)(samples.tripled)
    copy = pickle.loads(pickler.dumps(other))
    assert copy.task == other.task != samples.tripled.task
    assert copy(2) == 6
    assert copy.__name__ == "tripled" and copy.__doc__ == other.__doc__


@pytest.mark.parametrize("pickler", [pickle, cloudpickle], ids=["pickle", "cloudpickle"])
def test_pickles_an_options_copy(pickler: Any) -> None:
    """A copy by ``.options`` keeps its options."""
    copy = pickle.loads(pickler.dumps(samples.tripled.options(workers=3, ordered=False)))
    assert copy.task.parallel.workers == 3 and copy.task.parallel.ordered is False
    assert list(copy.map([1], backend="inline")) == [3]


@pytest.mark.parametrize("pickler", [pickle, cloudpickle], ids=["pickle", "cloudpickle"])
def test_pickles_methods(pickler: Any) -> None:
    """A bound method takes its object with it; class and static methods find theirs."""
    method = pickle.loads(pickler.dumps(samples.Counter(5).add))
    assert method(1) == 6 and list(method.map([1, 2], backend="inline")) == [6, 7]
    changed = pickle.loads(pickler.dumps(samples.Counter(5).add.options(ordered=False)))
    assert changed(1) == 6 and changed.task.parallel.ordered is False
    assert pickle.loads(pickler.dumps(samples.Counter.named))(1) == "Counter1"
    assert pickle.loads(pickler.dumps(samples.Counter.named.options(workers=2)))(1) == "Counter1"
    assert pickle.loads(pickler.dumps(samples.Counter.plus_one))(1) == 2
    assert pickle.loads(pickler.dumps(samples.Counter.add))(samples.Counter(2), 3) == 5


def test_pickles_closures_with_cloudpickle() -> None:
    """A closure pickles with cloudpickle, a recursive one as well, and plain pickle says no."""

    @parallel
    def factorial(n: int) -> int:
        return 1 if n < 2 else n * factorial(n - 1)

    copy = pickle.loads(cloudpickle.dumps(factorial))
    assert copy(5) == 120
    with pytest.raises((pickle.PicklingError, AttributeError)):
        pickle.dumps(factorial)


def test_pickles_a_recursive_function_of_main(tmp_path: Path) -> None:
    """A recursive function of ``__main__``, pickled by value, works in a process without that script."""
    script = write_script(
        tmp_path / "script.py",
        """
        import pathlib, pickle, sys
        import cloudpickle
        from manyhands import parallel, retry_on
        from manyhands.workers import payload

        @retry_on(OSError, attempts=2)
        @parallel
        def factorial(n):
            return 1 if n < 2 else n * factorial(n - 1)

        assert pickle.loads(pickle.dumps(factorial)) is factorial
        pathlib.Path(sys.argv[1]).write_bytes(payload.dumps(factorial))
        """,
    )
    run_script(script, tmp_path / "pickled")
    copy = pickle.loads((tmp_path / "pickled").read_bytes())
    assert copy(5) == 120
    assert list(copy.map([3, 4], backend="inline")) == [6, 24]
    assert copy.__wrapped__.__globals__["factorial"] is copy


def test_pickled_predicates_and_templates() -> None:
    """Claims, predicates and budgets survive, OUTPUT stays one object."""
    function = stacked(samples.write_body, tuple(FOUR[name] for name in ("claimed", "retry", "parallel")))
    copy = pickle.loads(pickle.dumps(function))
    assert copy.task == function.task
    assert inspect.signature(copy) == inspect.signature(function)


# -- refusals -------------------------------------------------------------------------------------------------


async def coroutine(n: int) -> int:
    """Async."""
    return n


async def async_generator(n: int) -> AsyncIterator[int]:
    """Async, too."""
    yield n


def generator(n: int) -> Iterator[int]:
    """No result."""
    yield n


ALL = {
    "parallel": parallel,
    "parallel()": parallel(),
    "claimed": claimed_output("{n}", save=print),
    "validated": validated(result=bool),
    "retry": retry_on(OSError),
}


@pytest.mark.parametrize("decorator", ALL)
@pytest.mark.parametrize("function", [coroutine, async_generator, generator], ids=lambda f: f.__name__)
def test_async_and_generator_bodies_are_refused(decorator: str, function: Any) -> None:
    """A TypeError at decoration that names the function."""
    with pytest.raises(TypeError, match=f"{function.__name__}.*(async|generator)"):
        ALL[decorator](function)
    with pytest.raises(TypeError):
        ALL[decorator](staticmethod(function))


@pytest.mark.parametrize("name", ["parallel", "claimed", "validated"])
def test_applied_twice(name: str) -> None:
    """The same decorator twice is a TypeError, also with others between."""
    with pytest.raises(TypeError, match="twice"):
        FOUR[name](FOUR[name](body))
    with pytest.raises(TypeError, match="twice"):
        FOUR[name](FOUR["retry"](FOUR[name](body)))


def test_retry_on_the_same_exception_twice() -> None:
    """``@retry_on`` may repeat, but not for one exception."""
    with pytest.raises(TypeError, match="OSError twice"):
        retry_on(OSError)(retry_on(ValueError, OSError)(body))


@pytest.mark.parametrize("decorator", ALL)
@pytest.mark.parametrize("value", [3, "text", None])
def test_what_is_no_function(decorator: str, value: Any) -> None:
    """A TypeError."""
    if decorator == "parallel" and value is None:
        pytest.skip("parallel(None) reads as parallel()")
    with pytest.raises(TypeError):
        ALL[decorator](value)


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (lambda: parallel(workers=0), ValueError, "workers must not be 0"),
        (lambda: parallel(workers=2.0), TypeError, "workers"),
        (lambda: parallel(workers=True), TypeError, "workers"),
        (lambda: parallel(chunksize=0), ValueError, "chunksize"),
        (lambda: parallel(buffersize=0), ValueError, "buffersize"),
        (lambda: parallel(on_error="ignore"), ValueError, "on_error"),
        (lambda: parallel(start_method="clone"), ValueError, "start_method"),
        (lambda: parallel(backend="process"), ValueError, "backend"),
        (lambda: parallel(initializer=3), TypeError, "initializer"),
        (lambda: parallel(wrokers=2), TypeError, "wrokers"),
        (lambda: retry_on(), TypeError, "needs the exceptions"),
        (lambda: retry_on(3), TypeError, "exception types"),
        (lambda: retry_on((OSError, KeyError)), TypeError, r"one by one: @retry_on\(OSError, KeyError\)$"),
        (lambda: retry_on(OSError, attempts=0), ValueError, "attempts"),
        (lambda: retry_on(OSError, wait=-1), ValueError, "wait"),
        (lambda: retry_on(OSError, wait=float("nan")), ValueError, "wait"),
        (lambda: validated(annotations=False), TypeError, "needs a predicate"),
        (lambda: validated(annotations=1.5), TypeError, "annotations"),
        (lambda: validated(3), TypeError, "takes a function"),
        (
            lambda: validated(result=bool, result_in="here"),
            ValueError,
            "result_in must be 'parent' or 'worker'",
        ),
        (lambda: validated(result=bool, arguments_in=None), ValueError, "arguments_in must be"),
        (lambda: validated(result=3), TypeError, "result"),
        (lambda: validated(result=bool, invalid="drop"), ValueError, "invalid"),
        (lambda: validated(arguments=lambda m: True)(body), TypeError, "asks for m"),
        (lambda: claimed_output(body), TypeError, "template"),
        (lambda: claimed_output("{n}", failed="never"), ValueError, "failed"),
        (lambda: claimed_output("{n}", wait=1), TypeError, "wait"),
        (lambda: claimed_output("{n}", save=3), TypeError, "save"),
        (lambda: claimed_output("{n}", save=print)(body), TypeError, "one of the two"),
    ],
)
def test_wrong_options(make: Callable[[], Any], error: type[Exception], says: str) -> None:
    """Each wrong option is told at decoration, by its name."""
    with pytest.raises(error, match=says):
        make()


def test_wrong_use_of_map() -> None:
    """A second iterable, no iterable, an unknown option: each says what to do instead."""
    with pytest.raises(TypeError, match=r"zip\(xs, ys\), star=True"):
        samples.tripled.map([1], [2])
    with pytest.raises(TypeError, match="iterable"):
        samples.tripled.map(3)
    with pytest.raises(TypeError, match=r"unknown option 'wrokers' \(did you mean 'workers'\?\)"):
        samples.tripled.map([1], wrokers=2)
    with pytest.raises(TypeError, match="unknown option"):
        samples.tripled.options(wrokers=2)
    with pytest.raises(TypeError, match="kwargs"):
        samples.tripled.map([1], kwargs=[1])
    with pytest.raises(TypeError, match="args"):
        samples.tripled.map([1], args=3)


def test_retry_on_without_exceptions() -> None:
    """What may be a predicate is told as soon as it can't be one, with what was meant instead."""
    hint = "if @retry_on was meant as the decorator of {}, name the exceptions: @retry_on"

    def one(x: Any) -> Any:
        return x

    bare: Any = retry_on(one)
    for call, given in (
        (lambda: bare(1), "not 1"),
        (lambda: bare(one, x=2), "x=2"),
        (bare, "not nothing"),
        (lambda: parallel(bare), "@parallel takes a function, not <@retry_on"),
    ):
        with pytest.raises(TypeError, match=f"{given}.*{hint.format('.*one')}"):
            call()
    assert bare(samples.triple_body)(2) == 6
    for function in (lambda: 1, lambda x, y: 1, samples.tripled):
        with pytest.raises(TypeError, match=hint.format(".*")):
            retry_on(function)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"@parallel takes a function, not <@validated\(result=bool\)>$"):
        parallel(validated(result=bool))  # type: ignore[arg-type]


# -- direct calls ---------------------------------------------------------------------------------------------


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory to be in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_direct_call_is_plain() -> None:
    """Without policies that matter here, a call is the body's call."""
    assert samples.tripled(4) == 12
    assert samples.tripled(n=4) == 12
    with pytest.raises(TypeError):
        samples.tripled()


def test_direct_call_validates() -> None:
    """Invalid arguments and results raise, also under "discard", and the body is not called for the former."""
    calls = []

    @validated(arguments=lambda n: n >= 0, result=lambda value: value < 10)
    def square(n: int = 2) -> int:
        calls.append(n)
        return n * n

    assert square() == 4
    with pytest.raises(InvalidArguments, match="n=-1") as arguments:
        square(-1)
    with pytest.raises(InvalidResult, match="25") as result:
        square(5)
    assert calls == [2, 5]
    for caught in (arguments, result):
        (note,) = caught.value.__notes__
        assert note.startswith("in a call of ") and "square(" in note


def test_refused_arguments_of_another_function() -> None:
    """A function's own are not tried again; those that it gives to another count as what it raised."""
    calls = []

    @retry_on(InvalidArguments, attempts=3, wait=0)
    @validated(arguments=lambda n: n > 0)
    def outer(n: int) -> int:
        calls.append(n)
        return inner(n)

    @validated(arguments=lambda n: len(calls) > 2)
    def inner(n: int) -> int:
        return n

    with pytest.raises(InvalidArguments):
        outer(0)
    assert calls == []
    assert outer(1) == 1 and calls == [1, 1, 1]


def test_predicate_that_raises() -> None:
    """What a predicate raises is raised, with a note that names it."""

    @validated(arguments=lambda n: 1 / n)
    def same(n: int) -> int:
        return n

    with pytest.raises(ZeroDivisionError) as caught:
        same(0)
    assert any("predicate" in note for note in caught.value.__notes__)


def test_direct_call_retries_in_place() -> None:
    """Failures are retried here, each budget for its own exceptions, the most specific type first."""
    calls = []

    @retry_on(OSError, attempts=3, wait=0)
    @retry_on(FileNotFoundError, attempts=2, wait=0)
    @retry_on(InvalidResult, attempts=4, wait=0)
    @validated(result=lambda value: value != "bad")
    def unreliable(script: list[Any]) -> str:
        calls.append(len(calls))
        step = script[len(calls) - 1]
        if isinstance(step, Exception):
            raise step
        return str(step)

    assert unreliable([OSError("1"), FileNotFoundError("2"), "bad", OSError("3"), "good"]) == "good"
    assert len(calls) == 5
    calls.clear()
    with pytest.raises(FileNotFoundError, match="second"):
        unreliable([FileNotFoundError("first"), FileNotFoundError("second"), "good"])
    calls.clear()
    with pytest.raises(OSError, match="third"):
        unreliable([OSError("1"), OSError("2"), OSError("third"), "good"])
    calls.clear()
    with pytest.raises(ValueError, match="not named"):
        unreliable([ValueError("not named"), "good"])
    calls.clear()
    with pytest.raises(InvalidResult):
        unreliable(["bad"] * 4)
    assert len(calls) == 4


def test_direct_call_through_the_whole_chain(here: Path) -> None:
    """Arguments validated, output claimed, attempt, result validated, output committed."""
    calls = []

    @retry_on(OSError, InvalidResult, attempts=3, wait=0)
    @validated(arguments=lambda n: n > 0, result=lambda path: path.read_text() != "torn")
    @claimed_output("out/{n}.txt")
    def write(n: int, *, output: Path = OUTPUT) -> None:
        assert output.parent == here / "out" and not output.exists()
        calls.append(n)
        if len(calls) == 1:
            output.write_text("half")
            raise OSError("the disk hiccups")
        output.write_text("torn" if len(calls) == 2 else f"value {n}")

    with pytest.raises(InvalidArguments):
        write(0)
    assert not (here / "out").exists() or list((here / "out").iterdir()) == []
    path = write(3)
    assert path == here / "out" / "3.txt" and path.read_text() == "value 3"
    assert calls == [3, 3, 3]
    assert write(n=3) == path
    assert calls == [3, 3, 3]


def test_direct_call_with_save_and_load(here: Path) -> None:
    """``save`` writes the value, ``load`` reads what the call returns; the second call computes nothing."""
    calls = []

    @claimed_output(
        "{n}.txt", save=lambda value, path: path.write_text(str(value)), load=lambda p: int(p.read_text())
    )
    @validated(result=lambda value: value < 100)
    def square(n: int) -> int:
        calls.append(n)
        return n * n

    assert square(5) == 25 and square(5) == 25
    assert calls == [5]
    with pytest.raises(InvalidResult):
        square(50)
    assert sorted(path.name for path in here.glob("*.txt")) == ["5.txt"]


def test_discarded_claim_still_raises_when_called(here: Path) -> None:
    """A direct call raises InvalidResult at each call, though the discard stands in the log."""

    @claimed_output("{n}.txt")
    @validated(result=lambda path: False)
    def write(n: int, output: Path = OUTPUT) -> None:
        output.write_text("x")

    for _ in range(2):
        with pytest.raises(InvalidResult):
            write(1)
    reporting = claimed_output("{n}.txt", failed="report")(
        validated(result=lambda path: False)(write.__wrapped__)
    )
    with pytest.raises((InvalidResult, FailedElsewhere)):
        reporting(1)
    assert not (here / "1.txt").exists()


def test_claims_path(here: Path) -> None:
    """``f.claims.path(…)`` tells where an output lies, without making anything."""
    function = claimed_output("out/{n}_{scale}.txt")(body)
    assert function.claims.path(3) == here / "out" / "3_2.0.txt"
    assert list(here.iterdir()) == []


def test_output_is_not_an_argument(here: Path) -> None:
    """Passing OUTPUT's parameter is a TypeError, by keyword and by position."""
    function = claimed_output("{n}.txt")(body)
    with pytest.raises(TypeError, match="output"):
        function(1, output=Path("elsewhere"))
    with pytest.raises(TypeError):
        function(1, 2.0, Path("elsewhere"))
    assert list(here.iterdir()) == []


def test_output_without_a_claim() -> None:
    """A function that declares OUTPUT and has no claim can't be called or mapped, and says why."""
    for function in (parallel(body), retry_on(OSError)(body)):
        with pytest.raises(TypeError, match="no @claimed_output"):
            function(1)
    with pytest.raises(TypeError, match="no @claimed_output"):
        parallel(body).map([1])


def test_body_that_writes_nothing(here: Path) -> None:
    """OutputMissing names the function and the path."""

    @claimed_output("{n}.txt")
    def forgetful(n: int, output: Path = OUTPUT) -> None:
        pass

    with pytest.raises(OutputMissing, match="forgetful returned without having written output"):
        forgetful(1)
    assert not (here / "1.txt").exists()


def test_arguments_that_do_not_fit_a_claimed_function(here: Path) -> None:
    """Arguments that don't fit the signature raise before anything is written."""
    function = claimed_output("{n}.txt")(body)
    with pytest.raises(ItemError):
        function()
    with pytest.raises(ItemError):
        function(1, wrong=2)
    with pytest.raises(TemplateError):
        claimed_output("{n.name}.txt")(body)(1)
    assert list(here.iterdir()) == []


def test_call_of_what_is_claimed_elsewhere(here: Path) -> None:
    """With ``wait=False`` a call of an output that somebody is computing raises ClaimedElsewhere."""
    from manyhands.claims import Claims, Log

    function = claimed_output("{n}.txt", wait=False)(body)
    with Claims() as other:
        other.acquire(Log.of(here / "1.txt"))
        with pytest.raises(ClaimedElsewhere, match=r"1\.txt"):
            function(1)
    assert function(1).read_text() == "2.0"


def test_workers_are_not_needed_for_a_direct_call(tmp_path: Path) -> None:
    """``workers`` and ``initializer`` don't apply to a direct call."""

    @parallel(workers=2, initializer=lambda: (tmp_path / "ran").touch())
    @retry_on(OSError)
    def here_only(x: int) -> str:
        return sys.modules["__main__"].__name__

    assert here_only(1) == "__main__"
    assert lines(tmp_path / "ran") == [] and not (tmp_path / "ran").exists()

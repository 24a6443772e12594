"""``handle_error``, ``stop`` and predicates of ``@retry_on``, wherever calls run."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest
import tenacity

from manyhands import (
    Controller,
    Discarded,
    Failure,
    GiveUp,
    InvalidArguments,
    InvalidResult,
    Replace,
    Retry,
    TaskTimeout,
    WorkerDied,
    claimed_output,
    parallel,
    retry_on,
    validated,
)
from manyhands.policies.verdict import Verdict
from tests.helpers import Fifo, shown, tell, wait_for

How = dict[str, Any]


def halved(number: int) -> float:
    """Fails for odd numbers."""
    if number % 2:
        raise ValueError(f"{number} is odd")
    return number / 2


def next_one(failure: Failure) -> Verdict:
    """Another item in its place."""
    return Retry(failure.arguments + 1, wait=0)


def test_again_with_other_arguments(how: How) -> None:
    """The value stands in the place of the item that was given."""
    judged = parallel(retry_on(ValueError, handle_error=next_one)(halved))
    outcomes = list(judged.map(range(6), **how).outcomes())
    assert [(outcome.item, outcome.value) for outcome in outcomes] == [
        (0, 0), (1, 1), (2, 1), (3, 2), (4, 2), (5, 3),
    ]  # fmt: skip
    assert [len(outcome.attempts) for outcome in outcomes] == [0, 1, 0, 1, 0, 1]
    assert outcomes[3].attempts[0].text == "3 is odd"


def test_what_it_is_told(how: How) -> None:
    """The error as it was raised, its traceback there, the number of the attempt, and where it ran."""
    seen: list[tuple[Any, ...]] = []

    def judge(failure: Failure) -> Verdict:
        seen.append((failure.index, failure.item, failure.arguments, failure.attempt, str(failure.error)))
        assert "in halved" in failure.traceback and "is odd" in failure.traceback
        assert failure.attempts[-1].worker == failure.worker
        assert os.getpid() == here
        return Retry(failure.arguments + 2, 0) if failure.attempt < 3 else GiveUp()

    here = os.getpid()
    judged = parallel(retry_on(ValueError, handle_error=judge)(halved))
    values, failures = judged.map([4, 7], **how).collect()
    assert values == [2.0]
    assert seen == [(1, 7, 7, 1, "7 is odd"), (1, 7, 9, 2, "9 is odd"), (1, 7, 11, 3, "11 is odd")]
    assert failures == [Failure(failures[0].error, 1, 7, failures[0].traceback)]
    notes = failures[0].error.__notes__
    assert notes[0].startswith("attempt 1: ValueError: 7 is odd")
    assert notes[1].startswith("attempt 2: ValueError: 9")
    assert notes[2].startswith("in halved, item 1: 7, attempt 3")


def test_a_value_in_its_place(how: How) -> None:
    """Any value at all, a verdict too."""
    for value in (None, 0, GiveUp(), ValueError("as a value")):
        judged = parallel(
            retry_on(ValueError, handle_error=lambda failure, value=value: Replace(value))(halved)
        )
        assert list(judged.map([2, 3], **how)) == [1.0, value]


def test_another_error(how: How) -> None:
    """It shows the traceback of the attempt."""
    judged = parallel(
        retry_on(ValueError, handle_error=lambda failure: GiveUp(LookupError("no such half")))(halved)
    )
    with pytest.raises(LookupError, match="no such half") as caught:
        judged.map([3], **how).collect()
        list(judged.map([3], **how))
    assert "3 is odd" in shown(caught.value)


@pytest.mark.parametrize("broken", [lambda failure: 1 / 0, lambda failure: None, lambda: Retry()])
def test_a_judge_that_is_of_no_use(how: How, broken: Callable[..., Any]) -> None:
    """The item fails with what is wrong with it; others are not touched."""
    judged = parallel(retry_on(ValueError, handle_error=broken)(halved))
    values, failures = judged.map([2, 3, 4], **how).collect()
    assert values == [1.0, 2.0]
    (failure,) = failures
    assert type(failure.error) in (ZeroDivisionError, TypeError)
    text = "\n".join([str(failure.error), *failure.error.__notes__])
    assert "handle_error" in text and "3 is odd" in text


def test_other_arguments_are_validated(how: How) -> None:
    """And are discarded, or fail, as those of any item."""

    def small(number: int) -> bool:
        return number < 10

    for invalid, came_to in (("discard", Discarded), ("raise", Failure)):
        checked = validated(arguments=small, invalid=invalid)(halved)  # type: ignore[arg-type]
        judged = parallel(retry_on(ValueError, handle_error=next_one)(checked))
        one, other = judged.map([7, 9], **how).outcomes()
        assert one.value == 4.0
        assert isinstance(other.result, came_to)
        assert other.failure is None or isinstance(other.failure.error, InvalidArguments)


def test_an_invalid_result_is_judged(how: How) -> None:
    """By who is asked about InvalidResult; given up, it is discarded as ever."""

    def judge(failure: Failure) -> Verdict:
        assert isinstance(failure.error, InvalidResult)
        return Retry(failure.arguments - 2, 0) if failure.arguments > 6 else GiveUp()

    checked = validated(result=lambda half: half < 4)(halved)
    judged = parallel(retry_on(InvalidResult, handle_error=judge)(checked))
    results = judged.map([2, 8, 12], on_error="return", **how)
    assert list(results) == [1.0, 3.0, 3.0]
    judged = parallel(retry_on(InvalidResult, handle_error=lambda failure: GiveUp())(checked))
    outcomes = list(judged.map([2, 8], **how).outcomes())
    assert outcomes[0].value == 1.0 and outcomes[1].discarded is not None


def test_attempts_bound_what_is_asked_for(how: How) -> None:
    """To try again is granted as often as the budget says; then the item fails with its own error."""
    asked = []

    def judge(failure: Failure) -> Verdict:
        asked.append(failure.attempt)
        return Retry(wait=0)

    judged = parallel(retry_on(ValueError, attempts=4, handle_error=judge)(halved))
    with pytest.raises(ValueError, match="3 is odd"):
        list(judged.map([3], **how))
    assert asked == [1, 2, 3, 4]


def test_budgets_of_their_own(how: How) -> None:
    """One is asked about its own errors only."""

    def fails(number: int) -> int:
        raise KeyError(number) if number % 2 else OSError(number)

    judged = retry_on(KeyError, handle_error=lambda failure: Replace(-1))(fails)
    judged = retry_on(OSError, attempts=2, wait=0)(judged)
    outcomes = list(parallel(judged).map([1, 2], **how).outcomes())
    assert outcomes[0].value == -1
    assert outcomes[1].failure is not None and outcomes[1].failure.attempt == 2


@pytest.mark.parametrize("also", [(), (OSError,)])
def test_a_predicate(how: How, also: tuple[type[OSError], ...]) -> None:
    """It is asked where the exception was raised, before that is pickled."""

    class Rich(Exception):
        """Has something that does not travel."""

        def __init__(self, number: int) -> None:
            super().__init__(number)
            self.again = lambda: number % 2 == 0

    def fails(number: int) -> None:
        raise Rich(number)

    judged = retry_on(lambda error: getattr(error, "again", lambda: False)(), *also, attempts=3, wait=0)(fails)
    outcomes = list(parallel(judged).map([1, 2], **how).outcomes())
    assert [len(outcome.attempts) for outcome in outcomes] == [1, 3]


def test_tenacitys_stop(how: How) -> None:
    """It goes before the default of three attempts."""
    judged = retry_on(ValueError, wait=0, stop=tenacity.stop_after_attempt(5))(halved)
    (outcome,) = parallel(judged).map([3], **how).outcomes()
    assert len(outcome.attempts) == 5


def even_sum(first: int, second: int = 0) -> int:
    """Takes an even number first."""
    if first % 2:
        raise ValueError(f"{first} is odd")
    return first + second


def one_more(arguments: Any) -> Any:
    """With a first argument that is larger by one, in whichever of the three forms."""
    match arguments:
        case int(first):
            return first + 1
        case (int(first), second):
            return first + 1, second
        case ((first, *rest), dict(keywords)):
            return (first + 1, *rest), keywords
    raise AssertionError(arguments)


CALLS: list[tuple[tuple[int, ...], dict[str, int], Any]] = [
    ((3,), {}, 3),
    ((3, 5), {}, (3, 5)),
    ((3,), {"second": 5}, ((3,), {"second": 5})),
]


@pytest.mark.parametrize(("args", "kwargs", "arguments"), CALLS)
def test_called_directly(args: Any, kwargs: Any, arguments: Any) -> None:
    """It is tried again in place; its only argument is what an item would be, several are as with star."""
    told: list[Any] = []

    def judge(failure: Failure) -> Verdict:
        told.append((failure.item, failure.arguments))
        return Retry(one_more(failure.arguments), 0)

    judged = retry_on(ValueError, handle_error=judge)(even_sum)
    assert judged(*args, **kwargs) == 1 + sum(args) + sum(kwargs.values())
    assert told == [(arguments, arguments)]


def test_submitted(how: How) -> None:
    """A future has what it comes to in the end, in whatever form its arguments are."""

    def judge(failure: Failure) -> Verdict:
        return Retry(one_more(failure.arguments), 0)

    judged = parallel(retry_on(ValueError, handle_error=judge)(even_sum)).options(**how)
    futures = [judged.submit(*args, **kwargs) for args, kwargs, _ in CALLS]
    assert [future.result() for future in futures] == [4, 9, 9]


def test_attempts_of_a_direct_call() -> None:
    """Its error has a note for each attempt before the last, as elsewhere."""
    with pytest.raises(ValueError, match="3 is odd") as caught:
        retry_on(ValueError, attempts=3, wait=0)(even_sum)(3)
    assert [note[:28] for note in caught.value.__notes__] == [
        "attempt 1: ValueError: 3 is ",
        "attempt 2: ValueError: 3 is ",
        "in a call of even_sum(3), at",
    ]


def ends(number: int) -> int:
    """Some end their worker, some take too long."""
    if number == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    while number == 2:
        pass
    return number


def test_deaths_and_timeouts_are_judged(controller: Controller) -> None:
    """As any other failure."""
    seen = []

    def judge(failure: Failure) -> Verdict:
        seen.append((type(failure.error), failure.error.index))  # type: ignore[attr-defined]
        return Retry(failure.item + 10, 0)

    judged = parallel(retry_on(WorkerDied, TaskTimeout, handle_error=judge)(ends))
    outcomes = list(judged.map(range(4), timeout=1.0, backend=controller).outcomes())
    assert [outcome.value for outcome in outcomes] == [0, 11, 12, 3]
    assert [attempt.seconds for attempt in outcomes[2].attempts] == [1.0]  # what it was ended after
    assert sorted(seen, key=lambda told: told[1]) == [(WorkerDied, 1), (TaskTimeout, 2)]


def waits_and_ends(number: int, begun: str, gate: str) -> float:
    """Waits to be let go; the second then ends its worker. Tells when it begins and when it ends."""
    tell(begun, time.monotonic())
    wait_for(gate)
    if number == 1:
        tell(begun, time.monotonic())
        os._exit(7)
    return time.monotonic()


@pytest.mark.parametrize("items", [[1], [0, 1]])
def test_how_long_it_ran_before_it_died(begun: Fifo, gate: Fifo, items: list[int]) -> None:
    """All that it took since it was sent, or since what ran before it in the same piece was heard of."""
    with Controller(1) as pool:
        most = time.monotonic()
        results = parallel(waits_and_ends).map(
            items, args=(begun.path, gate.path), backend=pool, chunksize=2, on_error="return"
        )
        for _ in items[1:]:
            begun.line()
            gate.let_go()
            first = next(results)
            assert isinstance(first, float)
            most = first
        began = float(begun.line())
        least = time.monotonic() if items[1:] else began
        gate.let_go()
        ended = float(begun.line())
        (failure,) = results
        after = time.monotonic()
    assert isinstance(failure, Failure) and isinstance(failure.error, WorkerDied)
    (attempt,) = failure.attempts
    assert ended - least <= attempt.seconds <= after - most
    assert failure.error.seconds == attempt.seconds


def test_bad_policies() -> None:
    """They are refused where they are given, by name."""
    for wrong in (3, "OSError", tenacity.retry_if_exception_type(OSError)):
        with pytest.raises(TypeError, match="@retry_on takes exception types, or functions"):
            retry_on(wrong)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="stop must be a tenacity stop"):
        retry_on(OSError, stop=3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="handle_error must be a function"):
        retry_on(OSError, handle_error=Retry())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="wait must be 0 or more"):
        Retry(wait=-1)
    with pytest.raises(TypeError, match="wait must be a number"):
        Retry(wait="1")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="GiveUp takes an exception"):
        GiveUp("why")  # type: ignore[arg-type]


@pytest.mark.parametrize("claim_first", [True, False])
def test_not_with_a_claim(claim_first: bool) -> None:
    """Whatever the order of the decorators."""
    policies = [
        claimed_output("{number}", save=lambda value, path: None),
        retry_on(OSError, handle_error=next_one),
    ]
    one, other = policies if claim_first else policies[::-1]
    with pytest.raises(TypeError, match="halved: handle_error of @retry_on can't be used with @claimed_output"):
        other(one(halved))  # type: ignore[operator]

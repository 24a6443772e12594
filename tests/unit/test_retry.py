"""Which budget counts, how many calls it allows and how long it waits."""

from __future__ import annotations

import itertools
import math
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import tenacity
from hypothesis import given
from hypothesis import strategies as st

from manyhands.errors import InvalidResult, ManyhandsError, WorkerDied
from manyhands.outcome import Failure
from manyhands.policies.retry import DEFAULT_ATTEMPTS, RetryBudget, budget_of, merged
from manyhands.policies.verdict import Retry, Verdict


class Diamond(FileNotFoundError, KeyError):
    """An error with two lines of bases."""


KINDS: list[type[BaseException]] = [
    BaseException,
    Exception,
    OSError,
    FileNotFoundError,
    LookupError,
    KeyError,
    ValueError,
    ManyhandsError,
    InvalidResult,
    WorkerDied,
    Diamond,
]

divided = st.lists(st.sampled_from(KINDS), unique=True).flatmap(
    lambda kinds: st.lists(st.integers(0, 2), min_size=len(kinds), max_size=len(kinds)).map(
        lambda of: [tuple(kind for kind, n in zip(kinds, of, strict=True) if n == group) for group in range(3)]
    )
)


def sorted_budget(kinds: tuple[type[BaseException], ...], attempts: int = 3) -> RetryBudget:
    """A budget as the decorator makes it."""
    return RetryBudget(tuple(sorted(kinds, key=lambda kind: kind.__name__)), attempts)


@given(divided, st.sampled_from(KINDS))
def test_the_most_specific_type_wins(
    groups: list[tuple[type[BaseException], ...]], kind: type[BaseException]
) -> None:
    """No other budget names a type between the error's own and the one that counts."""
    budgets = tuple(RetryBudget(group) for group in groups if group)
    chosen = budget_of(budgets, kind())
    named = [(cls, number) for number, budget in enumerate(budgets) for cls in budget.exceptions]
    fitting = [(cls, number) for cls, number in named if issubclass(kind, cls)]
    if chosen is None:
        assert not fitting
    else:
        (winner,) = [cls for cls, _ in [min(fitting, key=lambda fit: kind.__mro__.index(fit[0]))]]
        assert (winner, chosen) in named
        assert not any(issubclass(cls, winner) and cls is not winner for cls, _ in fitting)


@given(divided)
def test_budgets_do_not_depend_on_their_order(groups: list[tuple[type[BaseException], ...]]) -> None:
    """Decorators in any order make equal budgets."""
    budgets = [sorted_budget(group, number + 1) for number, group in enumerate(groups) if group]
    results = set()
    for order in itertools.permutations(budgets):
        result: tuple[RetryBudget, ...] = ()
        for budget in order:
            result = merged(result, budget)
        assert set(result) == set(budgets) and len(result) == len(budgets)
        results.add(result)
    assert len(results) == 1


@given(divided, st.data())
def test_an_exception_has_one_budget(
    groups: list[tuple[type[BaseException], ...]], data: st.DataObject
) -> None:
    """Naming a type twice is an error that names it, however many others there are."""
    budgets = tuple(sorted_budget(group) for group in groups if group)
    named = [cls for budget in budgets for cls in budget.exceptions]
    if named:
        again = data.draw(st.sampled_from(named))
        with pytest.raises(TypeError, match=rf"\b{again.__name__}\b.*twice"):
            merged(budgets, RetryBudget((again, ArithmeticError)))


@given(st.integers(1, 100), st.integers(0, 200))
def test_attempts_count_calls(attempts: int, spent: int) -> None:
    """With n attempts, the n-th failure is the last."""
    assert (RetryBudget((OSError,), attempts).next_wait(spent) is not None) == (spent < attempts)
    assert RetryBudget((OSError,)).attempts == DEFAULT_ATTEMPTS == 3


@given(st.integers(1, 2000))
def test_the_default_wait_grows_to_a_minute(spent: int) -> None:
    """Exponential from 0.1 s, with at most as much jitter, up to a minute."""
    wait = RetryBudget((OSError,), None).next_wait(spent)
    assert wait is not None
    base = 0.1 * 2 ** min(spent - 1, 30)
    assert min(base, 60.0) <= wait <= min(base, 60.0) + 0.1


@given(st.floats(0, 1e6) | st.integers(0, 10**6), st.integers(1, 50))
def test_seconds_are_seconds(wait: float, spent: int) -> None:
    """A number is waited as it is, each time."""
    drawn = RetryBudget((OSError,), None, wait).next_wait(spent)
    assert type(drawn) is float and drawn == wait


@pytest.mark.parametrize(
    ("wait", "seconds"),
    [
        (tenacity.wait_fixed(2), [2, 2, 2]),
        (tenacity.wait_incrementing(1, 2), [1, 3, 5]),
        (tenacity.wait_exponential(multiplier=1), [1, 2, 4]),
        (tenacity.wait_chain(tenacity.wait_fixed(1), tenacity.wait_fixed(9)), [1, 9, 9]),
        (tenacity.wait_none(), [0, 0, 0]),
        (lambda state: state.attempt_number * 10, [10, 20, 30]),
        (lambda state: -5, [0, 0, 0]),
        (lambda state: math.nan, [0, 0, 0]),
    ],
)
def test_tenacitys_waits_are_asked(wait: tenacity.wait.wait_base, seconds: list[float]) -> None:
    """One of tenacity's objects, or any function of its state, draws each wait, never negative."""
    budget = RetryBudget((OSError,), None, wait)
    assert [budget.next_wait(spent) for spent in (1, 2, 3)] == seconds


@pytest.mark.parametrize(
    ("stop", "stops"),
    [
        (tenacity.stop_after_attempt(3), (3, 0.0)),
        (tenacity.stop_after_delay(10), (1, 10.0)),
        (tenacity.stop_before_delay(10), (1, 8.0)),
        (tenacity.stop_after_attempt(5) | tenacity.stop_after_delay(10), (5, 1.0)),
        (lambda state: isinstance(state.outcome.exception(), KeyError), None),
    ],
)
def test_tenacitys_stops_are_asked(stop: Callable[[Any], bool], stops: tuple[int, float] | None) -> None:
    """They see the number of the attempt, seconds since the first, the wait to come, and the error; no clock."""
    budget = RetryBudget((OSError,), None, 2.0, stop)
    assert budget.next_wait(1, 0.0, OSError()) == 2.0
    if stops is None:
        assert budget.next_wait(1, 0.0, KeyError()) is None
        return
    spent, seconds = stops
    assert budget.next_wait(spent, seconds, OSError()) is None
    assert budget.next_wait(max(1, spent - 1), max(0.0, seconds - 0.1), OSError()) == 2.0


def test_a_wait_that_was_chosen_is_waited() -> None:
    """Within what the budget allows."""
    budget = RetryBudget((OSError,), 3, tenacity.wait_fixed(9))
    assert [budget.next_wait(spent, wait=0.5) for spent in (1, 2, 3)] == [0.5, 0.5, None]
    before = RetryBudget((OSError,), None, 1.0, tenacity.stop_before_delay(10))
    assert before.next_wait(1, 5.0, OSError(), wait=4.0) == 4.0
    assert before.next_wait(1, 5.0, OSError(), wait=6.0) is None


def is_seven(error: BaseException) -> bool:
    return error.args == (7,)


def test_predicates_come_after_types() -> None:
    """Whatever the order of the budgets."""
    budgets = (RetryBudget((), predicates=(is_seven,)), RetryBudget((OSError,)))
    for order in (budgets, budgets[::-1]):
        seven = order.index(budgets[0])
        assert budget_of(order, ValueError(7)) == seven
        assert budget_of(order, ValueError(8)) is None
        assert budget_of(order, OSError(7)) == 1 - seven
        assert budget_of(order, KeyboardInterrupt(7)) == seven


def test_a_predicate_that_raises() -> None:
    """It is taken for a no, and the error says so."""

    def broken(error: BaseException) -> bool:
        raise LookupError("what?")

    error = ValueError(7)
    assert budget_of((RetryBudget((), predicates=(broken, is_seven)),), error) is None
    (note,) = error.__notes__
    assert "predicate test_a_predicate_that_raises.<locals>.broken" in note and "LookupError: what?" in note


def judge(failure: Failure) -> Verdict:
    return Retry()


def test_handle_error_stays_behind() -> None:
    """Where a budget is sent to, nobody can be asked, and it says so."""
    sent = pickle.loads(pickle.dumps(RetryBudget((OSError,), 2, 0.5, handle_error=judge)))
    assert (sent.exceptions, sent.attempts, sent.wait) == ((OSError,), 2, 0.5)
    with pytest.raises(RuntimeError, match="judge stays in the process"):
        sent.handle_error(Failure(OSError(), 0, 0))
    plain = RetryBudget((OSError,), 2, 0.5, predicates=(is_seven,))
    assert pickle.loads(pickle.dumps(plain)) == plain

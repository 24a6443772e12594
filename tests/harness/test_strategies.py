"""What the strategies draw, and the tasks that are planned by it."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import find, given, settings
from hypothesis import strategies as st

from manyhands import parallel, retry_on, validated
from manyhands.errors import InvalidResult
from manyhands.testing import Move, Nemesis, PlannedTask, inline
from manyhands.testing.planned import ERRORS, INVALID, OUTCOMES
from manyhands.testing.strategies import called, items, plans, schedules, star_rules


@parallel(backend="inline")
def told(*args: Any, **kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return args, kwargs


@given(st.data(), star_rules())
def test_items_fit_their_rules(data: st.DataObject, rule: tuple[bool | None, bool]) -> None:
    """Each item becomes the call that plain Python says."""
    star, kwstar = rule
    drawn = data.draw(st.lists(items(star, kwstar), max_size=5))
    found = list(told.map(drawn, star=star, kwstar=kwstar))
    assert found == [called(item, star, kwstar) for item in drawn]


@given(plans(), st.integers(1, 5))
def test_planned_tasks_do_what_is_planned(drawn: tuple[tuple[str, ...], ...], attempts: int) -> None:
    """Each item comes to what is expected, after so many calls, under retries and validation."""
    with tempfile.TemporaryDirectory() as directory, inline():
        task = PlannedTask(drawn, Path(directory))
        body = parallel(
            validated(result=lambda value: value >= 0, invalid="raise")(
                retry_on(*ERRORS.values(), attempts=attempts, wait=60.0)(task.__call__)
            )
        )
        for outcome in list(body.map(range(len(drawn)), on_error="return").outcomes()):
            kind, calls = task.expected(outcome.index, attempts)
            assert task.calls(outcome.index) == calls
            if kind == "value":
                assert outcome.value == 2 * outcome.index
            else:
                assert type(outcome.failure.error) is ERRORS.get(kind, InvalidResult)
        assert task.calls(len(drawn)) == 0


def test_all_outcomes_and_blows_are_drawn() -> None:
    """Nothing is left out, and what is simplest is drawn first."""
    for outcome in OUTCOMES:
        find(plans(), lambda drawn, outcome=outcome: any(outcome in plan for plan in drawn))
    for blow in ("kill", "stop", "resume", "terminate"):
        find(schedules(3), lambda drawn, blow=blow: Move(blow, 2) in drawn)
    assert find(plans(), bool) == (("value",),)
    assert find(schedules(3), bool) == (Move("kill", 0),)


@settings(max_examples=10)
@given(schedules(2, ("stop", "resume")))
def test_schedules_can_be_played(moves: tuple[Move, ...]) -> None:
    """A nemesis does them all, and who is played with lives on."""
    waiters = [subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) for _ in range(2)]
    try:
        with Nemesis() as nemesis:
            for waiter in waiters:
                nemesis.give(waiter)
            for move in moves:
                assert nemesis.do(move)
        for waiter in waiters:
            waiter.communicate(b"\n")
            assert waiter.returncode == 0
    finally:
        for waiter in waiters:
            waiter.kill()
            waiter.communicate()


def test_a_plan_must_be_one(tmp_path: Path) -> None:
    """What is no outcome is refused when the task is made."""
    for wrong in ((), ((),), (("value", "nothing"),)):
        with pytest.raises(ValueError, match="a plan is made of value, invalid"):
            PlannedTask(wrong, tmp_path)
    assert PlannedTask((("invalid",),), tmp_path)(7) == INVALID


def test_hypothesis_is_asked_for_by_name(tmp_path: Path) -> None:
    """Who has not installed it is told what to do; the rest of the package does not need it."""
    program = (
        "import sys; sys.modules['hypothesis'] = None\n"
        "import manyhands.testing\n"
        "manyhands.testing.PlannedTask\n"
        "try: import manyhands.testing.strategies\n"
        "except ImportError as error: print(error)\n"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout == "manyhands.testing.strategies needs Hypothesis: pip install hypothesis\n"

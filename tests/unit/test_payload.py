"""What users hand in, and what comes back, through pickling."""

from __future__ import annotations

import pickle
import subprocess
import sys
import threading
import types
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manyhands.calls import Answer, Call, Done, Failed, Later
from manyhands.errors import RemoteError
from manyhands.workers import payload
from manyhands.workers.payload import carried, dumps, loads, packed_answer

plain = st.recursive(
    st.none() | st.integers() | st.text(st.characters()) | st.binary() | st.floats(allow_nan=False),
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(plain)
def test_values_round_trip(value: Any) -> None:
    """Plain data comes back equal, whichever way it was pickled."""
    assert loads(dumps(value)) == value
    assert loads(dumps([value, "__main__"])) == [value, "__main__"]
    assert loads(packed_answer(Done(value))) == Done(value)
    assert loads(dumps(Call((value,), {"k": value}, value))) == Call((value,), {"k": value}, value)


def test_importable_functions_go_by_name() -> None:
    """What both sides can look up is not sent."""
    assert loads(dumps(threading.Thread)) is threading.Thread
    assert len(dumps(pickle.dumps)) < 100


def elsewhere(data: bytes, argument: int) -> str:
    """What a fresh interpreter, whose ``__main__`` is another, makes of a pickled function."""
    code = (
        "import sys, pickle; from manyhands.workers.payload import loads;"
        f"print(loads(sys.stdin.buffer.read())({argument}))"
    )
    run = subprocess.run([sys.executable, "-c", code], input=data, capture_output=True, check=True)
    return run.stdout.decode().strip()


SCRIPT = """
FACTOR = 3

class Helper:
    def times(self, n):
        return n * FACTOR

def function(n):
    return Helper().times(n) + 1
"""


def test_functions_of_main_go_by_value(monkeypatch: pytest.MonkeyPatch) -> None:
    """A script's function works where the script was never run, with the classes and values that it uses."""
    main = types.ModuleType("__main__")
    exec(SCRIPT, main.__dict__)
    monkeypatch.setitem(sys.modules, "__main__", main)
    assert elsewhere(dumps(main.function), 5) == "16"
    assert elsewhere(dumps(main.Helper().times), 5) == "15"


def test_closures_and_lambdas_go_by_value() -> None:
    """What has no name to look up is sent as it is."""
    offset = 10
    assert loads(dumps(lambda n: n + offset))(5) == 15
    assert elsewhere(dumps(lambda n: n + offset), 5) == "15"


def test_what_can_not_be_pickled_raises() -> None:
    """The caller hears why, from whichever pickler was last."""
    with pytest.raises(TypeError, match="lock"):
        dumps(threading.Lock())
    with pytest.raises(TypeError, match="lock"):
        dumps([lambda: 0, threading.Lock()])


def failed_of(answer: Answer) -> Failed:
    """The failure that an answer is after its way between processes."""
    back = loads(packed_answer(answer))
    assert isinstance(back, Failed)
    return back


def test_an_unpicklable_result_says_so() -> None:
    """It becomes a failure that names the result's type, and is not retried."""
    failed = failed_of(Done(threading.Lock()))
    assert isinstance(failed.error, TypeError)
    assert failed.error.__notes__ == ["the result, a _thread.lock, can't be sent back"]
    assert "lock" in failed.traceback and failed.budget is None and not failed.halts


class NeedsTwo(Exception):
    """Pickles, and does not unpickle."""

    def __init__(self, name: str, number: int) -> None:
        super().__init__(f"{name}: {number}")
        self.number = number


class HoldsLock(Exception):
    """Does not pickle."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.lock = threading.Lock()


class Mute(HoldsLock):
    """Has no text, either."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


class WithFields(Exception):
    """An exception that takes care of itself."""

    def __init__(self, *, path: str) -> None:
        super().__init__(path)
        self.path = path

    def __reduce__(self) -> Any:
        return (_with_fields, (self.path, self.__dict__))


def _with_fields(path: str, fields: dict[str, Any]) -> WithFields:
    error = WithFields(path=path)
    error.__dict__.update(fields)
    return error


@pytest.mark.parametrize(
    ("error", "name", "text"),
    [
        (NeedsTwo("a", 1), "NeedsTwo", "a: 1"),
        (HoldsLock("held"), "HoldsLock", "held"),
        (Mute("x"), "Mute", "(its text can't be shown)"),
    ],
)
@pytest.mark.parametrize("budget", [None, 1])
@pytest.mark.parametrize("later", [False, True])
def test_errors_that_can_not_travel_are_carried(
    error: Exception, name: str, text: str, budget: int | None, later: bool
) -> None:
    """A RemoteError stands for them: type, text, notes and what the stream needs are kept."""
    error.__dict__.pop("__notes__", None)
    error.add_note("a note")
    sent = Failed(error, "its traceback", budget, discard=True, halts=True)
    if later:
        back = loads(packed_answer(Later(1.5, ("memo",), sent, "path")))
        assert (back.wait, back.memo, back.where) == (1.5, ("memo",), "path")
        failed = back.failed
    else:
        failed = failed_of(sent)
    assert isinstance(failed.error, RemoteError)
    assert failed.error.type_name == f"{__name__}.{name}"
    assert str(failed.error) == f"{__name__}.{name}: {text}"
    assert failed.error.__notes__ == ["a note"]
    assert (failed.traceback, failed.budget, failed.discard, failed.halts) == (
        "its traceback",
        budget,
        True,
        True,
    )


def test_errors_that_can_travel_do() -> None:
    """Built-in ones and those that pickle come as they are, with fields and notes."""
    error = WithFields(path="p")
    error.add_note("a note")
    failed = failed_of(Failed(error, "its traceback", 0))
    assert type(failed.error) is WithFields
    assert (failed.error.path, failed.error.__notes__) == ("p", ["a note"])
    missing = failed_of(Failed(FileNotFoundError(2, "missing", "name"))).error
    assert isinstance(missing, FileNotFoundError) and missing.filename == "name"
    later = Later(None, "memo")
    assert loads(packed_answer(later)) == later


class Chained(Exception):
    """Pickled with what it was raised in, as libraries have it that extend pickle."""

    def __reduce__(self) -> Any:
        return _chained, (self.args, self.__context__, self.__cause__)


def _chained(args: Any, *_: Any) -> Chained:
    return Chained(*args)


@pytest.mark.parametrize("explicit", [True, False])
def test_errors_travel_without_what_cannot(explicit: bool) -> None:
    """What an error was raised in does not keep it from being itself."""
    first = LookupError(threading.Lock())
    try:
        try:
            raise first
        except LookupError:
            if explicit:
                raise Chained("late") from first
            raise Chained("late")  # noqa: B904
    except Chained as error:
        failed = Failed(error, "told", 1, True)
    back = loads(packed_answer(failed))
    assert type(back.error) is Chained and back.error.args == ("late",)
    assert back[1:] == failed[1:]


def test_carried_errors_travel() -> None:
    """The stand-in itself survives pickling with its fields."""
    back = loads(dumps(carried(NeedsTwo("a", 1))))
    assert type(back) is RemoteError and back.type_name.endswith("NeedsTwo")


class Alarm(Exception):
    """Raised by a handler of a signal, say."""


class Interrupted:
    """Pickled at the second try."""

    tries = 0

    def __reduce__(self) -> tuple[Any, ...]:
        Interrupted.tries += 1
        if Interrupted.tries == 1:
            raise Alarm
        return Interrupted, ()


@pytest.mark.parametrize("dump", [payload.dumps, payload.packed])
def test_other_errors_are_not_taken_for_pickles(dump: Any) -> None:
    """Only what pickle says makes another try: an alarm that comes meanwhile is not lost."""
    Interrupted.tries = 0
    with pytest.raises(Alarm):
        dump([Interrupted()])
    assert Interrupted.tries == 1
    assert type(payload.loads(dump([Interrupted()]))[0]) is Interrupted

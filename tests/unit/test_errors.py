"""The library's own errors survive pickling."""

from __future__ import annotations

import copy
import errno
import inspect
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manyhands import errors
from manyhands.errors import FailedElsewhere, ManyhandsError, OutputDirectoryError, WorkerDied

KINDS = [
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, ManyhandsError) and kind.__module__ == errors.__name__
]

BUILT_IN = {
    "ItemError": TypeError,
    "InvalidArguments": ValueError,
    "InvalidResult": ValueError,
    "TemplateError": ValueError,
    "DuplicateOutput": ValueError,
    "OutputMissing": RuntimeError,
    "OutputDirectoryError": OSError,
}

texts = st.text(st.characters(), max_size=20)


@given(
    kind=st.sampled_from(KINDS),
    args=st.lists(texts | st.integers(), max_size=1).map(tuple),
    fields=st.dictionaries(
        st.sampled_from(["pid", "exitcode", "type_name", "own"]), texts | st.integers() | st.none()
    ),
    notes=st.lists(texts, max_size=3),
    protocol=st.integers(2, pickle.HIGHEST_PROTOCOL),
)
def test_errors_survive_pickling(
    kind: type[ManyhandsError],
    args: tuple[object, ...],
    fields: dict[str, object],
    notes: list[str],
    protocol: int,
) -> None:
    """Type, arguments, text, fields and notes are there afterwards, with each protocol and by copying."""
    error = kind(*args)
    vars(error).update(fields)
    for note in notes:
        error.add_note(note)
    for back in (pickle.loads(pickle.dumps(error, protocol)), copy.copy(error)):
        assert type(back) is kind
        assert (back.args, str(back), repr(back)) == (error.args, str(error), repr(error))
        assert vars(back) == vars(error)
        assert getattr(back, "__notes__", []) == notes


@pytest.mark.parametrize("args", [(errno.ENOSPC, "full"), (errno.ENOSPC, "full", "/out"), ("one",), ()])
def test_system_errors_keep_what_the_system_said(args: tuple[object, ...]) -> None:
    """Number, text and file name of an OSError among them survive."""
    error = OutputDirectoryError(*args)
    back = pickle.loads(pickle.dumps(error))
    assert (back.errno, back.strerror, back.filename) == (error.errno, error.strerror, error.filename)
    assert (back.args, str(back)) == (error.args, str(error))


@pytest.mark.parametrize("kind", KINDS)
def test_errors_are_what_python_users_expect(kind: type[ManyhandsError]) -> None:
    """Each is a ManyhandsError, and the built-in error of its kind where there is one."""
    assert issubclass(kind, BUILT_IN.get(kind.__name__, Exception))
    assert kind.__doc__


def test_fields_have_defaults() -> None:
    """An error made by its text alone has its fields."""
    assert (WorkerDied("x").pid, WorkerDied("x").exitcode) == (0, None)
    assert (FailedElsewhere().type_name, FailedElsewhere().traceback) == ("", "")


class Custom(WorkerDied):
    """One that a user derives, with an ``__init__`` of its own."""

    def __init__(self, name: str, *, size: int) -> None:
        super().__init__(f"{name} of {size}")
        self.size = size


def test_derived_errors_survive() -> None:
    """Also with an ``__init__`` that pickling does not know."""
    error = Custom("x", size=3)
    error.pid = 7
    back = pickle.loads(pickle.dumps(error))
    assert type(back) is Custom and str(back) == "x of 3" and (back.size, back.pid) == (3, 7)

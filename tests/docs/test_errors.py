"""docs/errors.md: it has all errors, with a cure for each, and the messages that it shows are those that are raised."""

from __future__ import annotations

import re
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

import manyhands
from manyhands import ManyhandsError
from tests.docs.error_examples import EXAMPLES

PAGE: Final = (Path(__file__).parents[2] / "docs" / "errors.md").read_text(encoding="utf-8")
SECTIONS: Final = {
    text.partition("\n")[0].strip(): text.partition("\n")[2]
    for text in re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:]
}
CLASSES: Final = {
    name: value
    for name, value in vars(manyhands).items()
    if isinstance(value, type) and issubclass(value, BaseException)
}


def example(section: str) -> str:
    """The message that a section shows."""
    found = re.search(r"^```text\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[1]


def told(error: BaseException, directory: Path) -> str:
    """The error's own lines, without what differs from run to run."""
    text = "".join(traceback.format_exception_only(error)).replace(str(directory), "/data")
    text = re.sub(r'File ".*/', 'File "', text.removeprefix("manyhands.errors."))
    text = re.sub(r"line \d+", "line 51", text)
    text = re.sub(r"worker process \d+", "worker process 4242", text)
    text = re.sub(r"worker \S+:\d+", "worker node7:4242", text)
    return re.sub(r"\w+\.<locals>\.", "", text)


def test_every_class_has_its_section() -> None:
    """In the page, no more and no less."""
    assert set(SECTIONS) - {"Others"} == set(CLASSES)
    assert set(EXAMPLES) == set(CLASSES) - {"ManyhandsError"}


@pytest.mark.parametrize("name", CLASSES)
def test_every_class_has_a_cure(name: str) -> None:
    """In its section; and as the last paragraph of its docstring."""
    assert len(SECTIONS[name].split("**What to do:** ")) == 2
    last = (CLASSES[name].__doc__ or "").strip().split("\n\n")[-1]
    assert last.strip().startswith("Cure: ")


@pytest.mark.parametrize("name", CLASSES)
def test_other_types_are_told(name: str) -> None:
    """What else it can be caught as is said at the beginning."""
    others = [base for base in CLASSES[name].__bases__ if not issubclass(base, ManyhandsError)]
    others = [base for base in others if base not in (Exception, object)]
    for base in others:
        assert f"`{base.__name__}`" in SECTIONS[name] or f".{base.__name__}`" in SECTIONS[name]


@pytest.mark.parametrize(("name", "raises"), EXAMPLES.items(), ids=EXAMPLES)
def test_examples_are_real(
    name: str, raises: Callable[[], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message in the page is the one that a program gets."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CLASSES[name]) as caught:
        raises()
    assert type(caught.value) is CLASSES[name]
    assert told(caught.value, tmp_path) == example(SECTIONS[name])

"""Bad input: a clear error that names the argument or the item, before any work where that can be known."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from manyhands import (
    OUTPUT,
    Controller,
    DuplicateOutput,
    Failure,
    ItemError,
    OutputDirectoryError,
    TemplateError,
    claimed_output,
    parallel,
)
from tests.helpers import lines, names, tell


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Where bodies leave a line when they are called."""
    return tmp_path / "log"


def body(item: Any, log: Path, output: Path = OUTPUT) -> None:
    """Leaves a line, and writes its output."""
    tell(log, repr(item))
    output.write_text(f"{item}")


def claimed(template: str) -> Any:
    """``body`` with this template, in two processes."""
    return parallel(workers=2)(claimed_output(template)(body))


# -- at decoration --------------------------------------------------------------------------------------------


def test_field_that_the_function_has_not() -> None:
    """A TemplateError that names field, function and parameters."""
    with pytest.raises(TemplateError, match=r"\{image\}.*parameters are item, log"):
        claimed_output("out/{image}.txt")(body)
    with pytest.raises(TemplateError, match="output"):
        claimed_output("out/{output}.txt")(body)
    with pytest.raises(TemplateError, match=r"temp|name"):
        claimed_output("out/{item}.txt", temp="{name}")(body)


@pytest.mark.parametrize(
    "template", ["", "/", "{", "{}", "{0}", "../{item}", "a/../{item}", "{item:{log}}", "a\0b"]
)
def test_malformed_template(template: str) -> None:
    """A TemplateError at decoration."""
    with pytest.raises(TemplateError):
        claimed_output(template)(body)


def test_neither_output_nor_save() -> None:
    """A TypeError that names the function and both ways out."""

    def returns(item: int) -> int:
        return item

    with pytest.raises(TypeError, match=r"returns must either declare .*OUTPUT.* or return .*save"):
        claimed_output("{item}")(returns)


def test_no_workers() -> None:
    """``workers=0`` is a ValueError that names it, wherever it is given."""
    for make in (
        lambda: parallel(workers=0),
        lambda: claimed("{item}").options(workers=0),
        lambda: claimed("{item}").map([1], workers=0),
        lambda: Controller(0),
    ):
        with pytest.raises(ValueError, match="workers must not be 0"):
            make()


def test_no_workers_by_environment(monkeypatch: pytest.MonkeyPatch, here: Path, log: Path) -> None:
    """A wrong MANYHANDS_WORKERS is named before any work."""
    f = parallel(lambda item: tell(log, item))
    for text, says in (("0", "MANYHANDS_WORKERS"), ("many", "MANYHANDS_WORKERS")):
        monkeypatch.setenv("MANYHANDS_WORKERS", text)
        with pytest.raises(ValueError, match=says):
            f.map([1])
    assert lines(log) == []


def test_decorated_twice_and_async() -> None:
    """Both are TypeErrors at decoration."""
    with pytest.raises(TypeError, match="twice"):
        claimed_output("{item}")(claimed("{item}"))

    async def later(item: int, output: Path = OUTPUT) -> None:
        """Async."""

    with pytest.raises(TypeError, match="async"):
        claimed_output("{item}")(later)


# -- at the start of a map ------------------------------------------------------------------------------------


@pytest.mark.parametrize("item", ["../x", "a/../../x", "..", "", ".", "a\0b", "x/"])
def test_item_that_leaves_the_directory(item: str, here: Path, log: Path) -> None:
    """A TemplateError that names template and item, before anything runs; nothing is made."""
    with pytest.raises(TemplateError) as caught:
        claimed("out/{item}").map(["fine", item], args=(log,))
    assert "out/{item}" in str(caught.value)
    assert any("item 1: " in note and "nothing was started" in note for note in caught.value.__notes__)
    with pytest.raises(TemplateError):
        claimed("out/{item}")(item, log)
    assert names(here) == [] and lines(log) == []


def test_absolute_item(here: Path, log: Path) -> None:
    """An absolute path in a relative template stays below its directory, or is refused."""
    with pytest.raises(TemplateError, match="/etc/x"):
        claimed("{item}").map(["/etc/x"], args=(log,))
    assert claimed("out/{item}")("/etc/x", log) == here / "out" / "etc" / "x"


def test_item_that_leaves_the_directory_in_a_generator(here: Path, log: Path) -> None:
    """From a generator it is that item's failure; the others are made."""
    places = list(claimed("out/{item}").map(iter(["a", "../x", "b"]), args=(log,), on_error="return"))
    assert isinstance(places[1], Failure) and isinstance(places[1].error, TemplateError)
    assert names(here / "out") == ["a", "b"] and names(here) == ["out"]


def test_two_items_with_one_output(here: Path, log: Path) -> None:
    """A DuplicateOutput that names both items and the path, before anything runs."""
    f = claimed("out/{item.stem}.csv")
    with pytest.raises(DuplicateOutput, match=r"items 0 and 2 .*a\.csv.*\{item\.stem\}"):
        f.map([Path("a.png"), Path("b.png"), Path("a.jpg")], args=(log,))
    assert names(here) == [] and lines(log) == []
    outcomes = list(f.map(iter([Path("a.png"), Path("a.jpg")]), args=(log,)).outcomes())
    assert [outcome.ok for outcome in outcomes] == [True, False]
    assert isinstance(outcomes[1].failure.error, DuplicateOutput)
    assert names(here / "out") == ["a.csv"] and len(lines(log)) == 1


def test_item_that_does_not_fit_its_rule(here: Path, log: Path) -> None:
    """An ItemError that names item and rule, before anything runs."""
    for options in (
        {"star": True},
        {"kwstar": True},
        {"star": None, "kwstar": True},
        {"star": True, "kwstar": True},
    ):
        with pytest.raises(ItemError, match=r"item 0 \(7\) does not fit star="):
            claimed("out/{item}").map([7], args=(log,), **options)
    with pytest.raises(TypeError, match="log"):
        claimed("out/{item}").map([7])
    with pytest.raises(TypeError, match="output"):
        claimed("out/{item}").map([7], args=(log,), kwargs={"output": Path("x")})
    assert names(here) == [] and lines(log) == []


def test_item_that_lacks_the_field(here: Path, log: Path) -> None:
    """An item without the template's attribute is named, and private attributes are not to be had."""
    with pytest.raises(TemplateError, match=r"item=3.*stem"):
        claimed("out/{item.stem}").map([Path("a"), 3], args=(log,))
    with pytest.raises(TemplateError, match="not public"):
        claimed("out/{item.__class__}").map([3], args=(log,))
    assert names(here) == [] and lines(log) == []


# -- directories and disks ------------------------------------------------------------------------------------


@pytest.mark.parametrize("on_error", ["raise", "return", "skip"])
def test_file_in_place_of_the_directory(here: Path, log: Path, on_error: str) -> None:
    """An OutputDirectoryError that names the directory, whatever ``on_error`` says; nothing runs."""
    (here / "out").write_text("in the way")
    f = claimed("out/{item}")
    with pytest.raises(OutputDirectoryError, match="out"):
        list(f.map(["a", "b"], args=(log,), on_error=on_error))
    with pytest.raises(OutputDirectoryError, match="out"):
        f("a", log)
    with pytest.raises(OutputDirectoryError, match="out"):
        f.submit("a", log).result(60)
    assert names(here) == ["out"] and lines(log) == []


def test_read_only_directory(mount: Callable[[str], Path], log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a read-only filesystem: an OutputDirectoryError that names the directory; nothing runs."""
    disk = mount("ro")
    for template in ("{item}", "new/{item}"):
        monkeypatch.chdir(disk)
        f = claimed(template)
        with pytest.raises(OutputDirectoryError, match=r"disk 0.*[Rr]ead-only"):
            list(f.map(["a", "b"], args=(log,)))
        with pytest.raises(OutputDirectoryError, match=r"[Rr]ead-only"):
            f("a", log)
    assert names(disk) == [] and lines(log) == []


def test_current_directory_that_is_gone(tmp_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An OutputDirectoryError that says so; nothing runs."""
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    f = claimed("{item}")
    for use in (lambda: f("a", log), lambda: f.map(["a"], args=(log,)), lambda: f.claims.path("a", log)):
        with pytest.raises(OutputDirectoryError, match=r"current directory.*has been removed"):
            use()
    assert lines(log) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_directory_without_permission(here: Path, log: Path) -> None:
    """The same for a directory that belongs to somebody else."""
    (here / "out").mkdir(mode=0o500)
    with pytest.raises(OutputDirectoryError, match="out"):
        list(claimed("out/{item}").map(["a"], args=(log,)))
    assert names(here / "out") == [] and lines(log) == []


def write_much(item: int, log: Path, output: Path = OUTPUT) -> None:
    """100 kB, in ten pieces."""
    tell(log, item)
    with output.open("wb") as file:
        for _ in range(10):
            file.write(bytes([item]) * 10_000)
            file.flush()


@pytest.mark.parametrize("on_error", ["raise", "return"])
def test_full_disk(mount: Callable[[str], Path], tmp_path: Path, log: Path, on_error: str) -> None:
    """The map raises OutputDirectoryError; nothing is torn or left behind; with room again it completes."""
    disk = mount("size=1m")
    f = parallel(claimed_output(f"{disk}/{{item}}.bin")(write_much))
    with pytest.raises(OutputDirectoryError, match=r"disk 0.*(space|full)"), Controller(2) as pool:
        list(f.map(range(20), args=(log,), backend=pool, on_error=on_error))
    visible = [name for name in names(disk) if not name.startswith(".")]
    assert 0 < len(visible) < 20
    for name in visible:
        assert (disk / name).read_bytes() == bytes([int(name[:-4])]) * 100_000
    subprocess.run(["mount", "-o", "remount,size=8m", str(disk)], check=True)
    before = len(visible)
    called = len(lines(log))
    list(f.map(range(20), args=(log,), workers=2))
    assert len(lines(log)) - called == 20 - before
    assert [name for name in names(disk) if not name.startswith(".")] == sorted(f"{n}.bin" for n in range(20))
    assert all((disk / f"{n}.bin").read_bytes() == bytes([n]) * 100_000 for n in range(20))
    from manyhands import gc

    gc(disk, now=True)
    assert names(disk) == sorted(f"{n}.bin" for n in range(20))


# -- names ----------------------------------------------------------------------------------------------------

ODD_NAMES = [
    "with spaces", " leading and trailing ", "{x}", "{{}}", "{0.__class__}", "ünïcödé 漢字 🎈", "line\nbreak",
    "tab\t",     "'quotes\"", "-dash", ".hidden", "%s %(x)s", "~", "*?[a]", "back\\slash", "a.b.c", "$HOME",
    "caf\u0065\u0301",
    "caf\u00e9", "x" * 255, "é" * 127, "a" * 240 + ".txt", "not utf-8 \udcff",
]  # fmt: skip


def test_odd_names(here: Path, log: Path) -> None:
    """Outputs of every name that the filesystem takes are made, found again, and nothing else is there."""
    f = parallel(workers=2)(claimed_output("out/{item}")(write_repr))
    paths = list(f.map(ODD_NAMES, args=(log,)))
    assert paths == [here / "out" / name for name in ODD_NAMES]
    assert names(here / "out") == sorted(ODD_NAMES)
    assert all(path.read_text() == repr(path.name) for path in paths)
    assert list(f.map(ODD_NAMES, args=(log,))) == paths
    assert len(lines(log)) == len(ODD_NAMES)


def write_repr(item: str, log: Path, output: Path = OUTPUT) -> None:
    """Leaves a line, and writes its item's repr."""
    tell(log, "called")
    output.write_text(repr(item))


def test_name_that_is_too_long(here: Path, log: Path) -> None:
    """A name that the filesystem does not take is told; the others are made and nothing else is left."""
    places = list(claimed("out/{item}").map(["a", "x" * 256, "b"], args=(log,), on_error="return"))
    assert isinstance(places[1], Failure)
    assert isinstance(places[1].error, OSError)
    assert any("item 1" in note for note in places[1].error.__notes__)
    assert names(here / "out") == ["a", "b"]


@pytest.mark.parametrize("name", ["x.claim-0", ".manyhands-0123456789abcdef01234567.claim-record"])
def test_name_of_a_claim(here: Path, log: Path, name: str) -> None:
    """A name that would be taken for a file of a claim is refused before any work."""
    with pytest.raises(TemplateError, match="can't be the name of an output"):
        claimed("out/{item}").map(["a", name], args=(log,))
    assert names(here) == [] and lines(log) == []

"""What an output may be: one file, several, or a directory; whole in any case, with the permissions it should have."""

from __future__ import annotations

import os
import signal
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from manyhands import (
    OUTPUT,
    Controller,
    DuplicateOutput,
    Failure,
    FingerprintMismatch,
    OutputMissing,
    TemplateError,
    WorkerDied,
    claimed_output,
    gc,
    parallel,
    validated,
    wait_for,
)
from manyhands.claims.filesystem import LocalFileSystem, Operation, SyncDirectory
from tests.helpers import Fifo, names, tell
from tests.helpers import wait_for as wait_for_fifo

TWO = ("tables/{name}.csv", "plots/{name}.csv.png")


@pytest.fixture
def umask() -> Iterator[None]:
    """What nobody but the user and the group may read."""
    before = os.umask(0o027)
    yield
    os.umask(before)


def write_two(name: str, size: int, output: tuple[Path, Path] = OUTPUT) -> None:
    """Writes both, the second in two steps."""
    table, plot = output
    table.write_text(f"table {name} {size}")
    plot.write_text("half")
    plot.write_text(f"plot {name} {size}")


def write_one_of_two(name: str, size: int, output: tuple[Path, Path] = OUTPUT) -> None:
    """Forgets the first."""
    output[1].write_text(name)


def fill(name: str, size: int, output: Path = OUTPUT) -> None:
    """Writes some files into a directory that it was given."""
    (output / "deep" / "er").mkdir(parents=True)
    (output / "deep" / "er" / "file").write_text(name * size)
    (output / "a link").symlink_to("deep/er/file")
    (output / "top").write_text("top")


def make_and_fill(name: str, size: int, output: Path = OUTPUT) -> None:
    """Makes the directory itself."""
    output.mkdir()
    fill(name, size, output)


def test_several_files(here: Path) -> None:
    """Calls and maps return all paths; all are there; nothing else is."""
    two = parallel(workers=1)(claimed_output(TWO)(write_two))
    paths = (here / "tables" / "a.csv", here / "plots" / "a.csv.png")
    assert two("a", 1) == paths == two.claims.paths("a", 1)
    assert two.claims.path("a", 1) == paths[-1]
    assert list(two.map("ab", args=(2,))) == [paths, two.claims.paths("b", 2)]
    assert [path.read_text() for path in (*paths, *two.claims.paths("b", 2))] == [
        "table a 1",
        "plot a 1",
        "table b 2",
        "plot b 2",
    ]
    assert names(here / "tables") == ["a.csv", "b.csv"] and names(here / "plots") == ["a.csv.png", "b.csv.png"]


def test_several_files_saved_and_loaded(here: Path) -> None:
    """``save`` and ``load`` get all paths, in the order of the templates; so does a predicate for results."""

    def save(value: int, paths: tuple[Path, ...]) -> None:
        for path in paths:
            path.write_text(f"{path.suffix} {value}")

    def load(paths: tuple[Path, ...]) -> list[str]:
        return [path.read_text() for path in paths]

    saved = claimed_output(["{x}.one", "{x}.two"], save=save, load=load)(lambda x: x * x)
    assert saved(3) == [".one 9", ".two 9"]
    assert names(here) == ["3.one", "3.two"]
    seen: list[Any] = []

    def see(paths: tuple[Path, ...]) -> bool:
        seen.append(paths)
        return True

    checked = validated(result=see)(claimed_output(TWO)(write_two))
    checked("a", 1)
    assert [path.suffix for path in seen[0]] == [".csv", ".png"]


def test_the_last_file_tells(here: Path) -> None:
    """If it is gone the output is computed anew, and all files are of one call; if another is, nobody looks."""
    two = claimed_output(TWO)(write_two)
    table, plot = two("a", 1)
    table.unlink()
    assert two("a", 2) == (table, plot)
    assert not table.exists()
    plot.unlink()
    table.write_text("older")
    two("a", 3)
    assert (table.read_text(), plot.read_text()) == ("table a 3", "plot a 3")


def test_a_file_that_is_missing_is_told(here: Path) -> None:
    """By its own name; nothing is published or left."""
    with pytest.raises(OutputMissing, match=r"write_one_of_two returned without .*tables/a\.csv'"):
        claimed_output(TWO)(write_one_of_two)("a", 1)
    gc(here / "plots", now=True)
    assert names(here / "plots") == names(here / "tables") == []


def test_two_items_share_one_of_several_files(here: Path) -> None:
    """That is an error, whichever file it is."""
    shared = parallel(workers=1)(claimed_output(("all.csv", "{name}.png"))(write_two))
    with pytest.raises(DuplicateOutput, match=r"items 0 and 1 .* the same output, '.*all\.csv'"):
        shared.map(["a", "b"], args=(1,))
    with pytest.raises(TemplateError, match="give the same file"):
        claimed_output(("{name}", "{size}"))(write_two)("1", 1)


def test_a_killed_owner_of_several(here: Path, begun: Fifo, gate: Fifo) -> None:
    """What it wrote goes, and the next does it all."""

    def write_and_wait(name: str, output: tuple[Path, Path] = OUTPUT) -> None:
        output[0].write_text("half")
        tell(begun.path, os.getpid())
        wait_for_fifo(gate.path)
        output[1].write_text("half")

    two = parallel(workers=1, start_method="fork", on_error="return")(claimed_output(TWO)(write_and_wait))
    with Controller(1, start_method="fork") as pool:
        results = two.map(["a"], backend=pool)
        os.kill(int(begun.line()), signal.SIGKILL)
        (failure,) = results
        assert isinstance(failure.error, WorkerDied)  # type: ignore[union-attr]
    assert [name for name in names(here / "plots") if "half" in name or name == "a.csv.png"] == []
    claimed_output(TWO)(write_two)("a", 1)
    gc(here / "plots", now=True)
    assert names(here / "plots") == ["a.csv.png"] and names(here / "tables") == ["a.csv"]


@pytest.mark.parametrize(("template", "body"), [("out/{name}/", fill), ("out/{name}", make_and_fill)])
@pytest.mark.parametrize("durable", [True, False])
def test_a_directory(here: Path, template: str, body: Any, durable: bool) -> None:
    """It appears with all that is in it, and is not computed again."""
    filled = parallel(workers=1)(claimed_output(template, durable=durable)(body))
    assert list(filled.map("ab", args=(3,))) == [here / "out" / "a", here / "out" / "b"]
    assert (here / "out" / "a" / "a link").read_text() == "aaa"
    assert names(here / "out" / "b") == ["a link", "deep", "top"] and names(here / "out") == ["a", "b"]
    (here / "out" / "a" / "top").write_text("mine")
    assert filled("a", 4) == here / "out" / "a"
    assert (here / "out" / "a" / "top").read_text() == "mine"


def test_a_directory_that_fails_or_stays_empty(here: Path) -> None:
    """Nothing of it is left, however deep."""

    def fail(name: str, output: Path = OUTPUT) -> None:
        fill(name, 1, output)
        raise ValueError(name)

    with pytest.raises(ValueError, match="a"):
        claimed_output("out/{name}/")(fail)("a")
    with pytest.raises(OutputMissing, match="out/b'"):
        claimed_output("out/{name}/")(lambda name, output=OUTPUT: None)("b")
    gc(here / "out", now=True)
    assert names(here / "out") == []


def test_gc_removes_directories_of_the_dead(here: Path, begun: Fifo, gate: Fifo) -> None:
    """Also what a process that was killed had filled."""

    def fill_and_wait(name: str, output: Path = OUTPUT) -> None:
        fill(name, 1, output)
        tell(begun.path, os.getpid())
        wait_for_fifo(gate.path)

    child = os.fork()
    if not child:
        claimed_output("out/{name}/")(fill_and_wait)("a")
        os._exit(0)
    os.kill(int(begun.line()), signal.SIGKILL)
    os.waitpid(child, 0)
    gc(here / "out")
    assert names(here / "out") == []


@pytest.mark.parametrize("template", ["out/{name}", ("out/{name}", "{name}.png"), "out/{name}/"])
def test_permissions_are_the_users(here: Path, template: Any, umask: None) -> None:
    """As if the file had been written where it is."""

    def write(name: str, output: Any = OUTPUT) -> None:
        for path in output if isinstance(output, tuple) else [output]:
            (path / "inside" if path.is_dir() else path).write_text(name)

    returned: Any = claimed_output(template)(write)("a")
    for path in returned if isinstance(returned, tuple) else [returned]:
        wanted = 0o750 if path.is_dir() else 0o640
        assert stat.S_IMODE(path.stat().st_mode) == wanted
        assert stat.S_IMODE(path.parent.stat().st_mode) == (
            0o750 if path.parent != here else here.stat().st_mode & 0o777
        )


@pytest.mark.parametrize("durable", [True, False])
def test_what_is_durable_is_brought_to_the_disk(
    here: Path, durable: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every file and directory of an output, before it counts as done; unless that is not wanted."""
    synced: list[str] = []
    fsync, perform = os.fsync, LocalFileSystem.perform

    def note(descriptor: int) -> None:
        synced.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)
        fsync(descriptor)

    def told(self: LocalFileSystem, operation: Operation) -> Any:
        if isinstance(operation, SyncDirectory):
            synced.append("after publication")
        return perform(self, operation)

    monkeypatch.setattr(os, "fsync", note)
    monkeypatch.setattr(LocalFileSystem, "perform", told)
    claimed_output("out/{name}/", durable=durable)(fill)("a", 1)
    kinds = [name.rpartition("-")[2] for name in synced]
    assert kinds == (["a", "top", "deep", "er", "file", "after publication", "out"] if durable else [])


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"final": ()}, TypeError, "final names no file"),
        ({"final": ("a", "b/")}, TemplateError, "where only a file can be"),
        ({"final": "a", "temp": "b/"}, TemplateError, "where only a file can be"),
        ({"final": ("a", 3)}, TypeError, "needs a template as its argument 'final'"),
        ({"final": "a", "lease": 0}, ValueError, "lease must be a number of seconds above 0, not 0"),
        ({"final": "a", "lease": "2"}, TypeError, "lease must be a number of seconds above 0, not '2'"),
        ({"final": "a", "lease": float("nan")}, ValueError, "lease must be"),
        ({"final": "a", "max_crashes": 0}, ValueError, "max_crashes must be a whole number of 1 or more"),
        ({"final": "a", "max_crashes": 1.5}, TypeError, "max_crashes must be"),
        ({"final": "a", "durable": 1}, TypeError, "durable must be True or False, not 1"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], error: type[Exception], says: str) -> None:
    """They are refused where they are given, by name."""
    with pytest.raises(error, match=says):
        claimed_output(**arguments)


# -- what all must agree on ------------------------------------------------------------------------------------


def test_a_fingerprint_binds_all(here: Path) -> None:
    """Who has other parameters is refused before any work; the order of a mapping is none of them."""
    calls: list[str] = []

    def write(name: str, output: Path = OUTPUT) -> None:
        calls.append(name)
        output.write_text(name)

    def with_fingerprint(value: Any) -> Any:
        return parallel(backend="inline", on_error="return")(
            claimed_output("out/{name}.txt", fingerprint=value)(write)
        )

    first = with_fingerprint({"a": 1, "b": [2.5, None]})
    assert list(first.map("xy")) == [here / "out" / "x.txt", here / "out" / "y.txt"]
    again = with_fingerprint({"b": [2.5, None], "a": 1})
    other = with_fingerprint({"a": 2})
    assert len(list(again.map("xyz"))) == 3
    for refused in (lambda: list(other.map("xyzw")), lambda: other("w"), lambda: other.submit("w").result()):
        with pytest.raises(
            FingerprintMismatch, match=r'"\{name\}.txt" .*|fingerprint \{"a": 1, .*with \{"a": 2\}'
        ):
            refused()
    assert calls == ["x", "y", "z"]
    claimed_output("out/{name}.dat", fingerprint="another template")(write)("x")
    gc(here / "out", now=True)
    with pytest.raises(FingerprintMismatch):
        other("x")
    removed = other.claims.recompute("xyz")
    assert removed == [here / "out" / f"{name}.txt" for name in "xyz"]
    assert other("x") == here / "out" / "x.txt" and calls[-2:] == ["x", "x"]
    with pytest.raises(FingerprintMismatch):
        first("y")


def test_failures_are_forgotten_to_be_recomputed(here: Path) -> None:
    """And what lies about of claims goes."""
    tries: list[str] = []

    def fail_once(name: str, output: Path = OUTPUT) -> None:
        tries.append(name)
        if len(tries) == 1:
            raise ValueError(name)
        output.write_text(name)

    failing = parallel(backend="inline", on_error="return")(
        claimed_output("out/{name}", failed="report")(fail_once)
    )
    for _ in range(2):
        (failure,) = failing.map(["a"])
        assert isinstance(failure, Failure)
    assert tries == ["a"]
    assert failing.claims.recompute(["a"]) == [] and names(here / "out") == []
    assert list(failing.map(["a"])) == [here / "out" / "a"]


@pytest.mark.parametrize("damage", ["directory", "not JSON", "fifo"])
def test_a_fingerprint_that_cannot_be_read(here: Path, damage: str) -> None:
    """It is told, by name; nothing is computed, nor does anything wait."""
    written = claimed_output("out/{name}", fingerprint="f")(lambda name, output=OUTPUT: output.write_text(name))
    written("a")
    (record,) = (here / "out").glob(".manyhands-*.fingerprint")
    record.unlink()
    if damage == "directory":
        record.mkdir()
    elif damage == "fifo":
        os.mkfifo(record)
    else:
        record.write_text("{")
    with pytest.raises(FingerprintMismatch, match=rf"{record.name}.* can't be read"):
        written("b")
    assert not (here / "out" / "b").exists()


@pytest.mark.parametrize(
    ("value", "error", "says"),
    [
        (3, TypeError, "a text, or a mapping"),
        ({"a": object()}, TypeError, "what JSON can hold"),
        ({"a": float("nan")}, ValueError, "what JSON can hold"),
        ("x" * 20_000, ValueError, "too long"),
    ],
)
def test_bad_fingerprints(value: Any, error: type[Exception], says: str) -> None:
    """They are refused where they are given."""
    with pytest.raises(error, match=f"@claimed_output: .*{says}"):
        claimed_output("a", fingerprint=value)


@pytest.mark.parametrize(("one", "other"), [("Image.txt", "image.TXT"), ("caf\u00e9", "cafe\u0301")])
@pytest.mark.parametrize("same", [True, False])
def test_names_that_a_directory_takes_for_one(
    here: Path, one: str, other: str, same: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two items must not have the same output; where the directory tells the names apart, they have not."""
    lexists = os.path.lexists

    def seen(path: Any) -> bool:  # as in a directory that does not tell them apart
        return any(lexists(os.path.join(os.path.dirname(path), name)) for name in (one, other))

    if same:
        monkeypatch.setattr(os.path, "lexists", seen)
    written = parallel(backend="inline")(
        claimed_output("out/{name}")(lambda name, output=OUTPUT: output.write_text(name))
    )
    if same:
        with pytest.raises(DuplicateOutput, match=r"items 0 and 1 .* the same output"):
            list(written.map([one, other]))
    else:
        assert len(list(written.map([one, other]))) == 2
    assert [name for name in names(here / "out") if name.startswith(".manyhands")] == []


def test_names_that_differ_in_case(here: Path) -> None:
    """Where that is a difference, in files and in directories, each has its output; and two of a kind are found."""
    written = parallel(backend="inline")(
        claimed_output("out/{name}")(lambda name, output=OUTPUT: output.write_text(name))
    )
    items = ["X/a", "x/a", "X/A", "b", "B"]
    assert [path.read_text() for path in written.map(items)] == items
    for twice in (["A", "a", "a"], ["X/a", "x/a", "y", "X/a"]):
        with pytest.raises(DuplicateOutput, match=rf"items {twice.index(twice[-1])} and {len(twice) - 1} of"):
            list(written.map(twice))


# -- waiting ---------------------------------------------------------------------------------------------------


def test_a_file_of_anothers_is_waited_for(tmp_path: Path, gate: Fifo) -> None:
    """Its directory may come later too."""
    wanted = tmp_path / "later" / "file"
    child = os.fork()
    if not child:
        wait_for_fifo(gate.path)
        wanted.parent.mkdir()
        wanted.touch()
        os._exit(0)
    with pytest.raises(TimeoutError, match=r"later/file' did not appear within 0\.05 s"):
        wait_for(wanted, timeout=0.05)
    gate.let_go()
    assert wait_for(str(wanted)) == wanted == wait_for(wanted, timeout=0)
    os.waitpid(child, 0)


def test_bad_timeouts() -> None:
    """They are refused."""
    with pytest.raises(ValueError, match="timeout must be a number of seconds, 0 or more, or None; not -1"):
        wait_for("a", timeout=-1)


def test_a_directory_in_the_place_of_a_part(here: Path) -> None:
    """It stops its own item, and is named; what was computed is published when it has gone."""
    calls: list[str] = []

    @parallel(backend="inline")
    @claimed_output(("{name}.csv", "{name}.png"))
    def write(name: str, output: tuple[Path, Path] = OUTPUT) -> None:
        calls.append(name)
        for path in output:
            path.write_text(name)

    (here / "b.csv").mkdir()
    for _ in range(2):
        values, failures = write.map(["a", "b", "c"], on_error="return").collect()
        assert [marker.name for _, marker in values] == ["a.png", "c.png"]
        assert "b.csv' is a directory in the place of a file" in str(failures[0].error)
    (here / "b.csv").rmdir()
    assert len(list(write.map(["a", "b", "c"]))) == 3
    assert (here / "b.csv").read_text() == "b"
    assert calls == ["a", "b", "c"]

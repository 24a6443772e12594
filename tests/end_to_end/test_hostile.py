"""Hostile and unlucky directories: whatever is where a file of a claim should be is neither followed nor removed.

Nothing blocks, nothing of the user's is lost, and who is refused is told which file is in the way.
"""

from __future__ import annotations

import json
import os
import pickle
import shutil
import socket
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from manyhands import (
    OUTPUT,
    FingerprintMismatch,
    ManyhandsError,
    OutputDirectoryError,
    OutputMissing,
    TemplateError,
    claimed_output,
    gc,
    parallel,
    wait_for,
)
from manyhands.claims import failures_before
from manyhands.decorators import work
from tests.helpers import names

TOKEN = "5f" * 12
CLAIM = {
    "manyhands": 1,
    "kind": "CLAIM",
    "token": TOKEN,
    "host": "elsewhere",
    "boot_id": "another",
    "pid_namespace": 1,
    "pid": 1,
    "start_ticks": 1,
    "lease": 0.02,
}
FAIL = {
    "manyhands": 1,
    "kind": "FAIL",
    "token": TOKEN,
    "type_name": "ValueError",
    "message": "",
    "traceback": "",
    "attempt": 1,
    "backoff": None,
    "discarded": False,
    "code_hash": "",
    "crashes": 0,
}


@pytest.fixture
def out(here: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory of outputs; beside it something precious, to which links lead."""
    monkeypatch.setattr(work, "UNREADABLE_LOOKS", 1)
    (here / "victim").write_text("precious")
    (here / "out").mkdir()
    return here / "out"


@parallel(backend="inline")
@claimed_output("out/{name}", lease=0.02)
def write(name: str, output: Path = OUTPUT) -> None:
    """Writes its name."""
    output.write_text(name)


def collected(function: Any, *items: Any) -> tuple[list[str], list[Exception]]:
    """The names of the outputs of a map, and its errors."""
    values, failures = function.map(list(items)).collect()
    return [path.name for path in values], [failure.error for failure in failures]


# -- what may be in a file's place ----------------------------------------------------------------------------


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(os.path.relpath(path))  # its names are short


def make_device(path: Path) -> None:
    try:
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(5, 0))  # the terminal: it would block
    except PermissionError:
        pytest.skip("only root may make devices")


def make_link_to_inside(path: Path) -> None:
    (path.parent / "inside").write_text("i")
    path.symlink_to("inside")


def make_directory(path: Path) -> None:
    path.mkdir()
    (path / "precious").touch()


def make_huge(path: Path) -> None:
    path.touch()
    os.truncate(path, 2**33)


NO_FILES: dict[str, Callable[[Path], Any]] = {
    "link to outside": lambda path: path.symlink_to("../victim"),
    "link to inside": make_link_to_inside,
    "dangling link": lambda path: path.symlink_to("nowhere"),
    "loop": lambda path: path.symlink_to(path.name),
    "directory": make_directory,
    "fifo": os.mkfifo,
    "socket": make_socket,
    "device": make_device,
}

FOREIGN: dict[str, Callable[[Path], Any]] = {
    **NO_FILES,
    "huge": make_huge,
    "another's": lambda path: path.write_text("a,b\n1,2\n"),
    "JSON of another": lambda path: path.write_text('{"kind": "CLAIM"}'),
}
"""Not known to be ours: it stays, whatever is called."""

DAMAGED = {
    "newer": CLAIM | {"manyhands": 2},
    "no end": None,
    "nothing in it": {"manyhands": 1},
    "another kind": CLAIM | {"kind": "LATER"},
    "wrong type": CLAIM | {"pid": "1"},
    "endless lease": CLAIM | {"lease": 10**400},
    "endless wait": FAIL | {"backoff": 10**400},
    "countless": FAIL | {"attempt": 10**300, "backoff": 0.0},
    "way out": CLAIM | {"token": "x/../../victim"},
    "no name": CLAIM | {"token": "a\0b"},
    "no text": CLAIM | {"token": "\ud800"},
    "of a kind that is in no slot": {
        "manyhands": 1,
        "kind": "FINGERPRINT",
        "token": "no",
        "template": "",
        "text": "",
    },
    "deep": None,
}
"""Ours, but no record that this version can read."""


def damage(path: Path, what: str) -> None:
    record = DAMAGED[what]
    text = json.dumps(record)
    if what == "no end":
        text = '{"manyhands":1,"kind":"CLAIM","tok'
    elif what == "deep":
        text = '{"manyhands":1,"kind":' + "[" * 16_000
    path.write_text(text.replace(": ", ":", 1))


def look(path: Path) -> tuple[int, int, int]:
    """What tells whether somebody has touched it; links are not followed."""
    found = os.lstat(path)
    return found.st_ino, found.st_size, found.st_mtime_ns


@pytest.mark.parametrize("what", FOREIGN)
def test_what_is_in_the_place_of_a_slot(out: Path, what: str) -> None:
    """Its item fails, naming it; others don't; neither gc nor recompute touches it, nor what it leads to."""
    slot = out / ".b.claim-0"
    FOREIGN[what](slot)
    before = look(slot)
    done, errors = collected(write, "a", "b", "c")
    assert done == ["a", "c"] and [type(error) for error in errors] == [ManyhandsError]
    assert repr(str(slot)) in str(errors[0])
    with pytest.raises(ManyhandsError, match=r"\.b\.claim-0"):
        write("b")
    with pytest.raises(ManyhandsError, match=r"\.b\.claim-0"):
        write.submit("b").result(60)
    (out / "b").write_text("the user's")
    with pytest.raises(
        OutputDirectoryError, match=r"\.b\.claim-0' stands in the place .* nothing of this output"
    ):
        write.claims.recompute(["b"])
    gc(out)
    gc(out, now=True)
    assert failures_before(out) == {".b.claim": 0}
    assert look(slot) == before and (out / "b").read_text() == "the user's"
    assert (out.parent / "victim").read_text() == "precious"


@pytest.mark.parametrize("what", DAMAGED)
def test_a_record_that_is_damaged(out: Path, what: str) -> None:
    """Its item fails, naming it, unless a lease ends it; gc takes it when nobody works there."""
    slot, victim = out / ".b.claim-0", out.parent / "victim.claim-record"
    (out / ".manyhands-x").mkdir()  # over which a token might lead out
    victim.write_text("precious")
    damage(slot, what)
    done, errors = collected(write, "a", "b")
    if what in {"deep", "no end"}:
        assert done == ["a", "b"]  # the beginning of a record, so far as can be told: torn
    else:
        assert done == ["a"] and repr(str(slot)) in str(errors[0])
        assert gc(out) == [] and slot.exists()
    assert slot in gc(out, now=True)
    assert collected(write, "b") == (["b"], [])
    assert victim.read_text() == "precious"


def test_a_later_version_is_named(out: Path) -> None:
    """Who is too old for a record is told so."""
    damage(out / ".b.claim-0", "newer")
    assert "another version" in str(collected(write, "b")[1][0])


@pytest.mark.parametrize("what", NO_FILES)
def test_what_is_in_the_place_of_a_claimants_record(out: Path, what: str) -> None:
    """It shows no life, so its claim ends with the lease; it is not followed, and stays."""
    record = out / f".manyhands-{TOKEN}.claim-record"
    (out / ".a.claim-0").write_text(json.dumps(CLAIM, separators=(",", ":")))
    NO_FILES[what](record)
    before = look(record)
    assert collected(write, "a", "b") == (["a", "b"], [])
    gc(out)
    gc(out, now=True)
    assert look(record) == before and (out.parent / "victim").read_text() == "precious"
    assert not [name for name in names(out) if name.startswith(".a")]


def test_a_file_that_is_called_as_a_claimants_record(out: Path) -> None:
    """What somebody else wrote there is not removed."""
    record = out / f".manyhands-{TOKEN}.verdict-record"
    record.write_text("precious")
    assert gc(out, now=True) == [] and record.read_text() == "precious"


@pytest.mark.parametrize("what", FOREIGN)
def test_what_is_in_the_place_of_a_fingerprint(out: Path, what: str) -> None:
    """Nothing is computed, by nobody; the file is named."""
    once = claimed_output("out/{name}", fingerprint={"a": 1})(
        lambda name, output=OUTPUT: output.write_text(name)
    )
    once("a")
    (record,) = out.glob(".manyhands-*.fingerprint")
    record.unlink()
    FOREIGN[what](record)
    before = look(record)
    with pytest.raises(FingerprintMismatch, match=rf"{record.name}.*can't be read \("):
        once("b")
    gc(out, now=True)
    assert look(record) == before and not (out / "b").exists()


# -- outputs --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", NO_FILES)
def test_what_is_in_the_place_of_an_output(out: Path, what: str) -> None:
    """It counts as the output, is not opened, and stays; recomputing removes a link, and not what it leads to."""
    NO_FILES[what](out / "a")
    before = look(out / "a")
    assert collected(write, "a") == (["a"], [])
    assert wait_for(out / "a", timeout=0) == out / "a"
    assert gc(out, now=True) == [] and look(out / "a") == before
    assert write.claims.recompute(["a"]) == [out / "a"]
    assert (out.parent / "victim").read_text() == "precious"
    assert [path.read_text() for path in write.map(["a"])] == ["a"]


@pytest.mark.parametrize("durable", [True, False])
@pytest.mark.parametrize("what", [what for what in NO_FILES if what != "directory"])
def test_what_a_body_leaves_in_place_of_its_output(out: Path, what: str, durable: bool) -> None:
    """A file or a directory is an output; anything else is refused, says what it is, and goes."""

    @parallel(backend="inline")
    @claimed_output("out/{name}", durable=durable)
    def leave(name: str, output: Path = OUTPUT) -> None:
        NO_FILES[what](output)

    done, errors = collected(leave, "a")
    assert done == [] and [type(error) for error in errors] == [OutputMissing]
    kind = next(word for word in ("link", "loop", "fifo", "socket", "device") if word in what)
    kind = {"loop": "link", "fifo": "FIFO"}.get(kind, kind)
    assert f"{kind} at output, for {str(out / 'a')!r}; it must write a file" in str(errors[0])
    gc(out, now=True)
    assert names(out) in ([], ["inside"]) and (out.parent / "victim").read_text() == "precious"


def test_a_directory_may_hold_what_has_no_bytes(out: Path) -> None:
    """FIFOs, sockets and links in an output do not hold up the sync of its files."""

    def fill(name: str, output: Path = OUTPUT) -> None:
        os.mkfifo(output / "fifo")
        make_socket(output / "socket")
        (output / "link").symlink_to("nowhere")
        (output / "file").write_text(name)

    path = claimed_output("out/{name}/")(fill)("a")
    assert names(path) == ["fifo", "file", "link", "socket"]


def test_a_directory_in_the_place_of_one_of_several_files(out: Path) -> None:
    """It is not replaced, and is named."""
    (out / "a.png").mkdir()

    def two(name: str, outputs: tuple[Path, Path] = OUTPUT) -> None:
        for output in outputs:
            output.write_text(name)

    with pytest.raises(ManyhandsError, match=r"a\.png' is a directory in the place of a file"):
        claimed_output(("out/{name}.png", "out/{name}.csv"))(two)("a")
    assert (out / "a.png").is_dir()


# -- directories ----------------------------------------------------------------------------------------------

NO_DIRECTORIES = {
    "file": ("it is no directory", lambda path: path.write_text("precious")),
    "fifo": ("it is no directory", os.mkfifo),
    "dangling link": ("symbolic link that leads nowhere", lambda path: path.symlink_to("nowhere")),
    "loop": ("symbolic link that leads nowhere", lambda path: path.symlink_to(path.name)),
}


@pytest.mark.parametrize("what", NO_DIRECTORIES)
def test_what_is_in_the_place_of_the_directory(here: Path, what: str) -> None:
    """It is named, and says what it is; nothing waits for it, nor is anything made of it."""
    says, make = NO_DIRECTORIES[what]
    make(here / "out")
    before = look(here / "out")
    for ask in (
        lambda: list(write.map(["a"])),
        lambda: write("a"),
        lambda: write.submit("a").result(60),
        lambda: failures_before(here / "out") or list(write.map(["a"])),
    ):
        with pytest.raises(OutputDirectoryError, match=rf"here/out' can't be used: .*{says}"):
            ask()
    with pytest.raises(OSError, match="out"):
        gc(here / "out")
    with pytest.raises((TimeoutError, OSError), match="out"):
        wait_for(here / "out" / "a", timeout=0.01)
    assert write.claims.paths("a") == (here / "out" / "a",)
    assert names(here) == ["out"] and look(here / "out") == before


def test_a_directory_may_be_reached_by_a_link(here: Path) -> None:
    """Where the user put a link to a directory, outputs are there."""
    (here / "disk").mkdir()
    (here / "out").symlink_to("disk")
    assert collected(write, "a") == (["a"], [])
    assert gc("out") == [] and names(here / "disk") == ["a"]


@pytest.mark.parametrize("mode", [0o777, 0o1777])
def test_a_directory_that_all_may_write(out: Path, mode: int) -> None:
    """It is one as any other."""
    out.chmod(mode)
    assert collected(write, "a", "b") == (["a", "b"], [])
    assert names(out) == ["a", "b"]


# -- other users ----------------------------------------------------------------------------------------------


@pytest.fixture
def shared() -> Iterator[Path]:
    """A directory that another user can reach and write, not being root."""
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("only root may become another user")
    place = Path(tempfile.mkdtemp(prefix="manyhands-shared-"))
    place.chmod(0o755)
    (place / "out").mkdir()
    (place / "out").chmod(0o777)
    before = os.getcwd()
    os.chdir(place)
    write("warm up")  # what is imported when first needed may be out of that user's reach
    gc("out", now=True)
    Path("out/warm up").unlink()
    yield place / "out"
    os.chdir(before)
    shutil.rmtree(place)


def as_nobody(ask: Callable[[], Any]) -> Any:
    """What ``ask`` returns or raises for a user that has no rights."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.setgroups([])
            os.setresgid(65534, 65534, 65534)
            os.setresuid(65534, 65534, 65534)
            try:
                told = ask()
            except Exception as error:
                told = error
            os.write(writing, pickle.dumps(told))
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading, "rb") as pipe:
        told = pickle.load(pipe)
    os.waitpid(child, 0)
    return told


def test_a_slot_that_may_not_be_read(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its item fails, naming it, and why; the others don't; nor may gc or recompute remove it."""
    monkeypatch.setattr(work, "UNREADABLE_LOOKS", 1)
    slot = shared / ".b.claim-0"
    slot.write_text(json.dumps(CLAIM, separators=(",", ":")))
    slot.chmod(0o600)
    done, errors = as_nobody(lambda: collected(write, "a", "b", "c"))
    assert done == ["a", "c"] and len(errors) == 1
    assert ".b.claim-0" in str(errors[0]) and "this user may not read it" in str(errors[0])
    assert as_nobody(lambda: gc("out", now=True)) == []
    assert ".b.claim-0" in str(as_nobody(lambda: write.claims.recompute(["b"]))) and slot.exists()


def test_a_claimants_record_that_may_not_be_read(shared: Path) -> None:
    """Whether it changes can be seen all the same."""
    (shared / ".a.claim-0").write_text(json.dumps(CLAIM, separators=(",", ":")))
    record = shared / f".manyhands-{TOKEN}.claim-record"
    record.touch(mode=0o600)
    assert as_nobody(lambda: collected(write, "a")) == (["a"], [])


def test_files_of_others_in_a_directory_for_all(shared: Path) -> None:
    """Where each may remove only what is theirs, as in /tmp, gc removes that, and passes the rest over."""
    shared.chmod(0o1777)
    for name, user in (("a", 0), ("b", 65534)):
        slot = shared / f".{name}.claim-0"
        slot.write_text(json.dumps(CLAIM, separators=(",", ":")))
        os.chown(slot, user, user)
    assert as_nobody(lambda: gc("out", now=True)) == [Path("out/.b.claim-0")]
    assert names(shared) == [".a.claim-0"]


def test_a_directory_that_may_not_be_written(shared: Path) -> None:
    """It is named, and nothing is in it afterwards."""
    shared.chmod(0o755)
    error = as_nobody(lambda: list(write.map(["a"])))
    assert isinstance(error, OutputDirectoryError) and "out' can't be used: Permission denied" in str(error)
    assert names(shared) == []
    assert isinstance(as_nobody(lambda: gc("out", now=True)), list)
    (shared / ".a.claim-0").write_text(json.dumps(CLAIM, separators=(",", ":")))
    assert ".a.claim-0" in str(as_nobody(lambda: gc("out", now=True)))
    shared.chmod(0o700)
    for ask in (lambda: list(write.map(["a"])), lambda: failures_before("out"), lambda: gc("out")):
        error = as_nobody(ask)
        assert isinstance(error, OSError) and "out" in str(error), error


# -- names ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "item", ["..", "../victim", "a/../../victim", "", ".", "a/.", "a/", "a\0b", "\ud800", "a/\udfff"]
)
def test_names_that_no_output_can_have(out: Path, item: str) -> None:
    """They are refused by whatever is asked, with template and item, before any work."""
    for ask in (
        lambda: write.map(["fine", item]),
        lambda: write(item),
        lambda: write.submit(item).result(60),
        lambda: write.claims.paths(item),
        lambda: write.claims.recompute([item]),
    ):
        with pytest.raises(TemplateError, match=r"'out/\{name\}' gives") as caught:
            ask()
        assert repr(f"out/{item}") in str(caught.value)
    assert names(out) == []


ODD = [
    "a.",
    "a..",
    "...",
    "..a",
    " ",
    "\n",
    "\x07\x1b[2J",
    "\x7f",
    "x" * 255,
    "é" * 127,
    "e\u0301",
    "é",
    "\udcff",
    "-rf",
    "con",
]


@pytest.mark.parametrize("temp", [None, "out/work-{name}", "work/{name}"])
def test_odd_names_with_their_claims_elsewhere(out: Path, temp: str | None) -> None:
    """Each has an output and a log of its own, and nothing else is left."""
    items = [item for item in ODD if temp is None or len(os.fsencode(item)) < 200]
    odd = parallel(backend="inline")(
        claimed_output("out/{name}", temp)(lambda name, output=OUTPUT: output.write_text(repr(name)))
    )
    assert [path.read_text() for path in odd.map(items)] == [repr(item) for item in items]
    assert names(out) == sorted(items)
    assert temp != "work/{name}" or names(out.parent / "work") == []


@pytest.mark.parametrize("path", ["a\0b", "\ud800"])
def test_names_that_nobody_can_wait_for(path: str) -> None:
    """They are refused, by the name of the argument."""
    with pytest.raises(ValueError, match="path must be a name that a file can have"):
        wait_for(path, timeout=0)


def test_waiting_below_a_fifo_does_not_block(here: Path) -> None:
    """There may be a directory of that name later."""
    os.mkfifo(here / "fifo")
    with pytest.raises(TimeoutError, match="fifo/a"):
        wait_for(here / "fifo" / "a", timeout=0.01)

"""The face of MultiProcessTools in one process: names, temp files, logs, waiting."""

from __future__ import annotations

import errno
import json
import logging
import os
import pickle
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manyhands.claims import filesystem as fs
from manyhands.claims import liveness
from manyhands.claims.record import Claim, Claimant, encode
from manyhands.compat import multiprocesstools_files as files
from manyhands.compat import multiprocesstools_waiting as waiting
from manyhands.compat.multiprocesstools import (
    MultiProcessHelper,
    RunTimeCounter,
    multiprocesshelper,
    run_func_IO_loop,
    wait_until_file_exists,
)
from manyhands.compat.multiprocesstools_logs import open_logger
from tests.helpers import names

LOGGERS = ["mpt_test_one", "mpt_test_two"]


@pytest.fixture
def helper(tmp_path: Path) -> Iterator[MultiProcessHelper]:
    """A helper with a directory "results"."""
    with_results = MultiProcessHelper("analysis", tmp_path / "work", LOGGERS)
    with_results.create_directory("results")
    yield with_results
    with_results.cleanup()


def gone() -> Claimant:
    """Who has surely ended: this process's number, at another time."""
    return liveness.identity("f" * 24)._replace(start_ticks=1)


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was logged so far by the library itself."""
    return [record.getMessage() for record in caplog.records if record.name == "MultiProcessTools"]


# -- names ----------------------------------------------------------------------------------------------------


def test_both_imports_serve(tmp_path: Path) -> None:
    """What the document imports and calls is the class; the module of that name can be called as well."""
    from manyhands.compat import multiprocesshelper as module

    assert multiprocesshelper is MultiProcessHelper is module.MultiProcessHelper is module.multiprocesshelper
    mph: Any = module(name="a", working_directory=str(tmp_path), loggers=[])  # type: ignore[operator]
    assert isinstance(mph, MultiProcessHelper)
    mph.cleanup()


def test_a_new_helper(tmp_path: Path) -> None:
    """Its directories are made, and it has a number, a temp file and a log file."""
    root = tmp_path / "some" / "where"
    mph = MultiProcessHelper(name="analysis", working_directory=str(root), loggers=LOGGERS)
    assert mph.instance_number == 1
    assert mph.directories == {"working_directory": str(root)}
    assert mph.tempfiles == [str(root / "analysis1.tmp")]
    assert mph.loggers == LOGGERS
    assert names(root) == ["analysis1.tmp", "multiprocesstools_logs"]
    assert names(root / "multiprocesstools_logs") == ["analysis1.log"]
    mph.cleanup()
    assert names(root) == ["multiprocesstools_logs"]
    assert mph.tempfiles == mph.loggers == []


def test_the_records_say_who(helper: MultiProcessHelper, tmp_path: Path) -> None:
    """A temp file holds what tells its process from all others."""
    assert helper.create_temp_file("a.csv", "a.tmp", "results")
    record = json.loads((tmp_path / "work/results/a.tmp").read_bytes())
    me = liveness.identity("")
    kept = ("host", "boot_id", "pid_namespace", "pid", "start_ticks")
    assert {key: record[key] for key in kept} == {key: getattr(me, key) for key in kept}
    assert record["pid"] == os.getpid()


def test_directories(helper: MultiProcessHelper, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """They are known by their names and by their paths, and making one twice is no error."""
    path = str(tmp_path / "work" / "results")
    assert helper.directories["results"] == path and os.path.isdir(path)
    assert helper.get_directory("results") == helper.get_directory(path) == path
    helper.create_directory("results")
    assert told(caplog)[-1] == f"Path already exists:\n\n{path} "
    helper.create_directory("more")
    assert told(caplog)[-1] == f"Creating path:\n\n{tmp_path / 'work' / 'more'}"
    os.rmdir(path)
    helper.create_directory("results")
    assert os.path.isdir(path)


@pytest.mark.parametrize("path", ["results", "whole", "working_directory"])
def test_temp_files(helper: MultiProcessHelper, tmp_path: Path, path: str) -> None:
    """One is made once, until it is deleted, and not at all beside its final file."""
    directory = tmp_path / "work" if path == "working_directory" else tmp_path / "work" / "results"
    where = str(directory) if path == "whole" else path
    temp = str(directory / "a.tmp")
    assert helper.create_temp_file(final_file_name="a.csv", temp_file_name="a.tmp", path=where) is True
    assert helper.tempfiles[1:] == [temp]
    assert helper.create_temp_file(final_file_name="a.csv", temp_file_name="a.tmp", path=where) is False
    assert helper.delete_tempfile(temp_file_name="a.tmp", path=where) is None  # type: ignore[func-returns-value]
    assert helper.tempfiles[1:] == [] and not os.path.exists(temp)
    assert helper.create_temp_file("a.csv", "a.tmp", where) is True
    (directory / "a.csv").touch()
    helper.delete_tempfile(temp)
    assert helper.create_temp_file("a.csv", "a.tmp", where) is False
    assert not [name for name in names(directory) if name.startswith(("a.tmp", ".manyhands"))]


def test_all_ways_to_delete(helper: MultiProcessHelper, tmp_path: Path) -> None:
    """By name and path, in order or by keywords, and by the whole path alone, as a text or not."""
    temp = tmp_path / "work" / "results" / "a.tmp"
    for args, kwargs in [
        ((), {"temp_file_name": "a.tmp", "path": "results"}),
        (("a.tmp", "results"), {}),
        (("a.tmp",), {"path": temp.parent}),
        ((str(temp),), {}),
        ((temp,), {}),
        ((), {"tempfile": str(temp)}),
    ]:
        assert helper.create_temp_file("a.csv", "a.tmp", "results")
        helper.delete_tempfile(*args, **kwargs)
        assert not temp.exists() and len(helper.tempfiles) == 1


def test_what_deleting_logs(
    helper: MultiProcessHelper, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What was done, and what the helper did not know of."""
    temp = str(tmp_path / "work" / "results" / "a.tmp")
    helper.create_temp_file("a.csv", "a.tmp", "results")
    caplog.clear()
    helper.delete_tempfile(temp)
    assert told(caplog) == [f"Deleting tempfile: {temp}"]
    caplog.clear()
    helper.delete_tempfile(temp)
    assert told(caplog) == [
        f"{temp} was already deleted or does not exist...",
        f"{temp} not in self.tempfiles",
    ]


def test_the_same_name_for_both(helper: MultiProcessHelper) -> None:
    """A temp file that is its own final file is one all the same."""
    assert helper.create_temp_file("a", "a", "results")
    assert not helper.create_temp_file("a", "a", "results")
    helper.delete_tempfile("a", "results")
    assert helper.create_temp_file("a", "a", "results")


def test_delete_all_and_clean_up(
    helper: MultiProcessHelper, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """All temp files go, the number's too, and whatever is said twice is no error."""
    for number in range(5):
        helper.create_temp_file(f"{number}.csv", f"{number}.tmp", "results")
    helper.delete_all_tempfiles()
    assert helper.tempfiles == [] and names(tmp_path / "work" / "results") == []
    assert names(tmp_path / "work") == ["multiprocesstools_logs", "results"]
    assert helper.create_temp_file("5.csv", "5.tmp", "results")
    helper.cleanup()
    assert "Cleaning up!" in told(caplog)
    assert helper.tempfiles == helper.loggers == [] and names(tmp_path / "work" / "results") == []
    helper.cleanup()


def test_a_file_that_cant_be_deleted(
    helper: MultiProcessHelper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others are, loggers are closed, the error is raised, and the next try may do better."""
    for number in range(3):
        helper.create_temp_file(f"{number}.csv", f"{number}.tmp", "results")
    unlink = os.unlink

    def refuse(path: Any, **options: Any) -> None:
        if str(path).endswith("1.tmp") and "results" in str(path):
            raise PermissionError(errno.EACCES, "refused", str(path))
        unlink(path, **options)

    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", refuse)
        with pytest.raises(PermissionError, match="refused"):
            helper.cleanup()
    assert [Path(temp).name for temp in helper.tempfiles] == ["1.tmp"] and helper.loggers == []
    helper.cleanup()
    assert helper.tempfiles == [] and names(tmp_path / "work" / "results") == []


@pytest.mark.parametrize("what", ["replace", "open"])
def test_a_file_that_cant_be_made(
    helper: MultiProcessHelper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """That is an error, after which nothing is left but what was there; the next try may do better."""
    temp = tmp_path / "work" / "results" / "a.tmp"
    if what == "replace":
        temp.write_bytes(encode(Claim(gone())))
    before = names(temp.parent)

    def refuse(*_: Any, **options: Any) -> None:
        raise PermissionError(errno.EACCES, "refused", "some path")

    with monkeypatch.context() as patch:
        patch.setattr(*((os, "replace") if what == "replace" else (fs, "_write_new")), refuse)
        with pytest.raises(RuntimeError, match=r"can't be made: .*refused") as caught:
            helper.create_temp_file("a.csv", "a.tmp", "results")
        assert isinstance(caught.value.__cause__, PermissionError)
    assert names(temp.parent) == before and len(helper.tempfiles) == 1
    assert helper.create_temp_file("a.csv", "a.tmp", "results")


def test_long_names(helper: MultiProcessHelper, tmp_path: Path) -> None:
    """A name as long as names may be is taken over as any other."""
    temp = tmp_path / "work" / "results" / ("a" * 251 + ".tmp")
    temp.write_bytes(encode(Claim(gone())))
    assert helper.create_temp_file("a.csv", temp.name, "results")


def test_somebody_else_has_removed_it(
    helper: MultiProcessHelper, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Then there is nothing to delete, which is no error."""
    temp = tmp_path / "work" / "results" / "a.tmp"
    assert helper.create_temp_file("a.csv", "a.tmp", "results")
    temp.unlink()
    helper.delete_tempfile(temp)
    assert told(caplog)[-1] == f"{temp} was already deleted or does not exist..."
    assert len(helper.tempfiles) == 1


def test_a_finished_file_beside_a_stale_temp_file(
    helper: MultiProcessHelper, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It may be half of one: it is not done again, nothing is removed, and the log warns."""
    temp, final = (tmp_path / "work" / "results" / name for name in ("a.tmp", "a.csv"))
    temp.write_bytes(encode(Claim(gone())))
    final.write_text("half")
    assert not helper.create_temp_file("a.csv", "a.tmp", "results")
    assert temp.exists() and any(str(temp) in each and str(final) in each for each in told(caplog))
    final.unlink()
    assert helper.create_temp_file("a.csv", "a.tmp", "results")


def test_finished_between_the_looks(
    helper: MultiProcessHelper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who looked for the final file too early finds it after the temp file is made, and takes that back."""
    final = tmp_path / "work" / "results" / "a.csv"
    take = files.take

    def finish_first(path: str, me: Claimant) -> Any:
        final.touch()
        return (yield from take(path, me))

    monkeypatch.setattr(files, "take", finish_first)
    assert not helper.create_temp_file("a.csv", "a.tmp", "results")
    assert names(final.parent) == ["a.csv"] and len(helper.tempfiles) == 1


def test_threads_share_a_helper(helper: MultiProcessHelper) -> None:
    """Of several threads one gets each file, and deleting one twice takes it from nobody."""
    won: list[tuple[int, int]] = []
    start = threading.Barrier(4)

    def work(thread: int) -> None:
        for number in range(50):
            start.wait()
            if helper.create_temp_file(f"{number}.csv", f"{number}.tmp", "results"):
                won.append((number, thread))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(number for number, _ in won) == list(range(50))
    assert len(helper.tempfiles) == 51


def test_a_helper_can_be_pickled(helper: MultiProcessHelper) -> None:
    """So that its methods may be sent to workers."""
    copy = pickle.loads(pickle.dumps(helper))
    assert copy.get_directory("results") == helper.get_directory("results")
    assert copy.instance_number == helper.instance_number


# -- what is not ours -----------------------------------------------------------------------------------------


def link_to_nothing(path: Path) -> None:
    path.symlink_to(path.with_name("nothing"))


def link_to_stale(path: Path) -> None:
    path.with_name("elsewhere").write_bytes(encode(Claim(gone())))
    path.symlink_to("elsewhere")


def huge(path: Path) -> None:
    with open(path, "wb") as file:
        file.truncate(1 << 30)


def writing(data: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(data)


def a_record(**changes: Any) -> bytes:
    fields = json.loads(encode(Claim(gone())))
    return json.dumps(fields | changes).encode()


HOSTILE: dict[str, Callable[[Path], object]] = {
    "link to nothing": link_to_nothing,
    "link to a stale one": link_to_stale,
    "FIFO": os.mkfifo,
    "directory": Path.mkdir,
    "empty": Path.touch,
    "huge": huge,
    "no JSON": writing(b"\xff{"),
    "deep JSON": writing(b"[" * 10_000),
    "another JSON": writing(b"[1, 2]"),
    "a stale record and more": writing(encode(Claim(gone())) + b"x"),
    "another host": writing(a_record(boot_id="another")),
    "another container": writing(a_record(pid_namespace=7)),
    "no process number": writing(a_record(pid=0)),
    "a negative number": writing(a_record(pid=-1)),
    "a number like no other": writing(a_record(pid=10**4000)),
    "no number": writing(a_record(pid="1")),
    "another version": writing(a_record(manyhands=2)),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_content(helper: MultiProcessHelper, tmp_path: Path, kind: str) -> None:
    """Whatever is no record of a process that has ended is somebody's: not opened for long, nor followed."""
    temp = tmp_path / "work" / "results" / "a.tmp"
    HOSTILE[kind](temp)
    before = (os.lstat(temp), names(temp.parent))
    assert not helper.create_temp_file("a.csv", "a.tmp", "results")
    assert len(helper.tempfiles) == 1
    helper.delete_all_tempfiles()
    after = (os.lstat(temp), names(temp.parent))
    assert (after[0].st_ino, after[0].st_size, after[1]) == (before[0].st_ino, before[0].st_size, before[1])


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_instance_files(tmp_path: Path, kind: str) -> None:
    """A number whose file is such a thing is somebody's; the next is taken."""
    HOSTILE[kind](tmp_path / "analysis1.tmp")
    mph = MultiProcessHelper("analysis", tmp_path, [])
    assert mph.instance_number == 2
    mph.cleanup()
    assert os.path.lexists(tmp_path / "analysis1.tmp")


@pytest.mark.parametrize("kind", HOSTILE)
def test_what_came_into_the_place_of_ours(
    helper: MultiProcessHelper, tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """If somebody has replaced the temp file, what is there now is not removed."""
    temp = tmp_path / "work" / "results" / "a.tmp"
    assert helper.create_temp_file("a.csv", "a.tmp", "results")
    temp.unlink()
    HOSTILE[kind](temp)
    helper.delete_tempfile("a.tmp", "results")
    assert os.path.lexists(temp) and len(helper.tempfiles) == 1
    assert told(caplog)[-1] == f"{temp} was not deleted: it may be another process's"


@pytest.mark.parametrize("kind", ["empty", "no JSON", "link to a stale one", "FIFO"])
def test_deleting_what_nobody_can_have_made(helper: MultiProcessHelper, tmp_path: Path, kind: str) -> None:
    """By its path a file without a record, an older version's say, is removed; a link, not what it leads to."""
    temp = tmp_path / "work" / "results" / "a.tmp"
    HOSTILE[kind](temp)
    helper.delete_tempfile(temp)
    assert names(temp.parent) == (["elsewhere"] if kind.startswith("link") else [])


@pytest.mark.parametrize("kind", ["another host", "another container", "a negative number"])
def test_deleting_what_somebody_may_have_made(
    helper: MultiProcessHelper, tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """By its path the temp file of a process that can't be judged is not removed."""
    temp = tmp_path / "work" / "results" / "a.tmp"
    HOSTILE[kind](temp)
    helper.delete_tempfile(temp)
    assert names(temp.parent) == ["a.tmp"]
    assert f"{temp} was not deleted: it may be another process's" in told(caplog)


def test_unreadable_is_somebodys(
    helper: MultiProcessHelper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A temp file of another user that can't be read is theirs."""
    temp = tmp_path / "work" / "results" / "a.tmp"
    temp.touch()

    def refuse(path: str) -> bytes:
        if path == str(temp):
            raise PermissionError(errno.EACCES, "refused", path)
        return read(path)

    read = fs.read
    monkeypatch.setattr(fs, "read", refuse)
    assert not helper.create_temp_file("a.csv", "a.tmp", "results")
    helper.delete_tempfile(temp)
    (temp.parent / "a.csv").touch()
    assert not helper.create_temp_file("a.csv", "a.tmp", "results")
    assert names(temp.parent) == ["a.csv", "a.tmp"]


@given(
    st.binary(max_size=200)
    | st.dictionaries(st.text(), st.integers()).map(lambda each: json.dumps(each).encode())
)
def test_any_content(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    """No bytes are taken for a temp file that was left, and none make an error."""
    temp = tmp_path_factory.getbasetemp() / "any.tmp"
    temp.write_bytes(data)
    assert files.make(str(temp), str(temp) + ".csv") == "held"
    assert temp.read_bytes() == data


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["create", "delete", "finish", "all"]), st.sampled_from("abc"), st.booleans()
        ),
        max_size=30,
    )
)
def test_as_a_plain_model(tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, str, bool]]) -> None:
    """Two helpers of one directory do what sets of names do."""
    root = tmp_path_factory.mktemp("model")
    helpers = [MultiProcessHelper("model", root, []) for _ in range(2)]
    held: list[set[str]] = [set(), set()]
    finished: set[str] = set()
    for what, name, other in steps:
        mph, own = helpers[other], held[other]
        match what:
            case "create":
                free = name not in held[0] | held[1] | finished
                assert mph.create_temp_file(f"{name}.csv", f"{name}.tmp", "working_directory") is free
                own.update({name} if free else ())
            case "delete":
                if name in own:
                    own.remove(name)
                    mph.delete_tempfile(temp_file_name=f"{name}.tmp", path="working_directory")
            case "finish":
                finished.add(name)
                (root / f"{name}.csv").touch()
            case "all":
                mph.delete_all_tempfiles()
                own.clear()
        for each, temps in zip(helpers, held, strict=True):
            assert {Path(temp).stem for temp in each.tempfiles} - {"model1", "model2"} == temps
        there = {Path(each).stem for each in names(root) if each.endswith(".tmp")}
        assert there - {"model1", "model2"} == held[0] | held[1]
    for mph in helpers:
        mph.cleanup()
    assert set(names(root)) == {"multiprocesstools_logs", *(f"{name}.csv" for name in finished)}


# -- instances ------------------------------------------------------------------------------------------------


def test_instance_numbers(tmp_path: Path) -> None:
    """Each living instance has its own; the lowest that is free is taken, also one whose process is gone."""
    first, second, third = (MultiProcessHelper("a", tmp_path, []) for _ in range(3))
    assert [each.instance_number for each in (first, second, third)] == [1, 2, 3]
    assert MultiProcessHelper("b", tmp_path, []).instance_number == 1
    second.cleanup()
    (tmp_path / "a4.tmp").write_bytes(encode(Claim(gone())))
    again, fourth = (MultiProcessHelper("a", tmp_path, []) for _ in range(2))
    assert [again.instance_number, fourth.instance_number] == [2, 4]
    files._remove_all()
    assert names(tmp_path) == ["multiprocesstools_logs"]


# -- logs -----------------------------------------------------------------------------------------------------


def test_the_log_file(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """It has what the loggers are told from INFO on, a line each; the console has all."""
    mph = MultiProcessHelper("analysis", tmp_path, LOGGERS)
    logger = logging.getLogger(LOGGERS[1])
    logger.debug("some detail")
    logger.info("a result")
    mph.close_all_loggers()
    logger.info("nobody hears this")
    assert mph.loggers == []
    log = (tmp_path / "multiprocesstools_logs" / "analysis1.log").read_text().splitlines()
    form = re.compile(r"[-\d]{10} [:\d]{8},\d{3}:\w+\.py:\w+:(\w+):INFO:(.*)")
    lines = [match.groups() for match in map(form.fullmatch, log) if match]
    assert len(lines) == len(log) == 7
    assert lines[2:5] == [
        (LOGGERS[0], "Instance number: 1"),
        (LOGGERS[0], f"working_directory: {tmp_path}"),
        (LOGGERS[1], "a result"),
    ]
    text = "\n".join(log)
    assert text.count("Created log file: ") == 2
    assert "some detail" not in text and "nobody hears" not in text and "already exists" not in text
    shown = capfd.readouterr().err
    assert shown.count("some detail") == 1 and shown.count("a result") == 1
    mph.cleanup()


def test_two_instances_have_two_log_files(tmp_path: Path) -> None:
    """Closing the loggers of one leaves those of the other, and handlers of the program."""
    own = logging.NullHandler()
    logger = logging.getLogger(LOGGERS[0])
    logger.addHandler(own)
    first, second = (MultiProcessHelper("a", tmp_path, LOGGERS[:1]) for _ in range(2))
    first.cleanup()
    logger.info("a result")
    second.cleanup()
    logs = [(tmp_path / "multiprocesstools_logs" / f"a{number}.log").read_text() for number in (1, 2)]
    assert ["a result" in text for text in logs] == [False, True]
    assert logger.handlers == [own]
    logger.removeHandler(own)


def test_no_loggers(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Then the library's own logger is told about the instance."""
    mph = MultiProcessHelper("a", tmp_path, [])
    assert "Instance number: 1" in told(caplog)
    mph.cleanup()


def test_a_logger_that_is_named_twice(tmp_path: Path) -> None:
    """It is one logger, and writes each line once."""
    mph = MultiProcessHelper("a", tmp_path, [LOGGERS[0], LOGGERS[1], LOGGERS[0]])
    assert mph.loggers == LOGGERS
    logging.getLogger(LOGGERS[0]).info("a result")
    mph.cleanup()
    assert (tmp_path / "multiprocesstools_logs" / "a1.log").read_text().count("a result") == 1


def test_two_helpers_of_one_number(tmp_path: Path) -> None:
    """Those of two directories may share a logger: each has all in its log file, and none of the other's end."""
    first, second = (MultiProcessHelper("a", tmp_path / each, LOGGERS[:1]) for each in "12")
    logging.getLogger(LOGGERS[0]).info("a result")
    first.cleanup()
    logging.getLogger(LOGGERS[0]).info("another result")
    second.cleanup()
    texts = [(tmp_path / each / "multiprocesstools_logs" / "a1.log").read_text() for each in "12"]
    assert [(text.count("a result"), text.count("another result")) for text in texts] == [(1, 0), (1, 1)]


def test_a_log_that_fails_half_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loggers that were opened are closed, and the number is free again."""

    def refuse(name: str, *rest: Any) -> None:
        if name == LOGGERS[1]:
            raise OSError("no more files")
        open_logger(name, *rest)

    monkeypatch.setattr("manyhands.compat.multiprocesstools.open_logger", refuse)
    with pytest.raises(OSError, match="no more files"):
        MultiProcessHelper("a", tmp_path, LOGGERS)
    assert names(tmp_path) == ["multiprocesstools_logs"] and logging.getLogger(LOGGERS[0]).handlers == []


@pytest.mark.parametrize("kind", ["FIFO", "link to nothing", "directory"])
def test_hostile_log_files(tmp_path: Path, kind: str) -> None:
    """A log file that is none is an error, which leaves no temp file, and no handler, behind."""
    logs = tmp_path / "multiprocesstools_logs"
    logs.mkdir()
    HOSTILE[kind](logs / "a1.log")
    with pytest.raises(OSError, match=r"a1\.log"):
        MultiProcessHelper("a", tmp_path, LOGGERS)
    assert names(tmp_path) == ["multiprocesstools_logs"] and names(logs) == ["a1.log"]
    assert [logging.getLogger(name).handlers for name in LOGGERS] == [[], []]


# -- bad input ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"name": 5}, TypeError, "name must be a str, not 5"),
        ({"name": ""}, ValueError, "name must be a name, not ''"),
        ({"name": "a/b"}, ValueError, "name must be the start of a file name, not 'a/b'"),
        ({"working_directory": None}, TypeError, "working_directory must be a str, not None"),
        ({"working_directory": b"a"}, TypeError, "working_directory must be a str, not b'a'"),
        ({"working_directory": "a\0b"}, ValueError, "working_directory must be a name"),
        (
            {"working_directory": "/dev/null/a"},
            ValueError,
            "working_directory '/dev/null/a' is not a valid path",
        ),
        ({"loggers": "one"}, TypeError, "loggers must be a list of names, not 'one'"),
        ({"loggers": None}, TypeError, "loggers must be a list of names, not None"),
        ({"loggers": ["one", 2]}, TypeError, r"loggers\[1\] must be a str, not 2"),
        ({"loggers": ["one", ""]}, ValueError, r"loggers\[1\] must be a name, not ''"),
    ],
)
def test_bad_helpers(tmp_path: Path, arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    """The error names the argument and the item, and nothing is left behind."""
    good: dict[str, Any] = {"name": "a", "working_directory": tmp_path / "work", "loggers": []}
    with pytest.raises(error, match=message):
        MultiProcessHelper(**(good | arguments))
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda mph: mph.create_directory(5), TypeError, "dir_name must be a str, not 5"),
        (lambda mph: mph.create_directory(""), ValueError, "dir_name must be a name, not ''"),
        (lambda mph: mph.create_directory("working_directory"), ValueError, "is the name of another directory"),
        (lambda mph: mph.create_directory("file"), ValueError, "dir_name 'file' can't be a directory"),
        (lambda mph: mph.get_directory("none"), ValueError, "dir_name 'none' is not in self.directories"),
        (lambda mph: mph.get_directory(None), TypeError, "dir_name must be a str, not None"),
        (
            lambda mph: mph.create_temp_file("a", "b", "none"),
            ValueError,
            "path 'none' is not in self.directories",
        ),
        (
            lambda mph: mph.create_temp_file(1, "b", "results"),
            TypeError,
            "final_file_name must be a str, not 1",
        ),
        (lambda mph: mph.create_temp_file("a", None, "results"), TypeError, "temp_file_name must be a str"),
        (lambda mph: mph.create_temp_file("a", "", "results"), ValueError, "temp_file_name must be a name"),
        (
            lambda mph: mph.create_temp_file("a", "no/b", "results"),
            RuntimeError,
            "no/b' can't be made: .*No such",
        ),
        (
            lambda mph: mph.create_temp_file("a", "b" * 300, "results"),
            RuntimeError,
            "bbb' can't be made: .*long",
        ),
        (lambda mph: mph.delete_tempfile(), TypeError, "give tempfile or temp_file_name"),
        (
            lambda mph: mph.delete_tempfile("a", temp_file_name="a"),
            TypeError,
            "give tempfile or temp_file_name",
        ),
        (lambda mph: mph.delete_tempfile("", "results"), ValueError, "tempfile must be a name, not ''"),
        (lambda mph: mph.delete_tempfile(5), TypeError, "tempfile must be a str, not 5"),
        (lambda mph: mph.delete_tempfile("a", "none"), ValueError, "path 'none' is not in self.directories"),
        (lambda mph: RunTimeCounter("a"), TypeError, "timeout must be a number of seconds, not 'a'"),
        (lambda mph: RunTimeCounter(-1), ValueError, "timeout must be 0 or more seconds, not -1"),
        (lambda mph: RunTimeCounter(float("nan")), ValueError, "timeout must be 0 or more"),
        (lambda mph: wait_until_file_exists(5, 1), TypeError, "path must be a path, not 5"),
        (lambda mph: wait_until_file_exists("/", None), TypeError, "timeout must be a number of seconds"),
        (lambda mph: run_func_IO_loop(5, {}, 1), TypeError, "func must be a function, not 5"),
        (lambda mph: run_func_IO_loop(print, [1], 1), TypeError, "func_args must be a mapping"),
        (lambda mph: run_func_IO_loop(print, {}, "1"), TypeError, "timeout must be a number of seconds"),
    ],
)
def test_bad_calls(
    helper: MultiProcessHelper, tmp_path: Path, call: Any, error: type[Exception], message: str
) -> None:
    """The error names the argument and its value, and nothing is changed."""
    (tmp_path / "work" / "file").touch()
    before = names(tmp_path / "work"), names(tmp_path / "work" / "results"), list(helper.tempfiles)
    with pytest.raises(error, match=message):
        call(helper)
    assert (names(tmp_path / "work"), names(tmp_path / "work" / "results"), helper.tempfiles) == before


# -- waiting --------------------------------------------------------------------------------------------------


class Clock:
    """Time passes by sleeping only."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        self.slept: list[float] = []
        self.then: Callable[[], object] = lambda: None
        monkeypatch.setattr(waiting.time, "perf_counter", lambda: self.now)
        monkeypatch.setattr(waiting.time, "sleep", self.sleep)

    def sleep(self, seconds: float) -> None:
        """Goes on by so much, and does what is to happen then."""
        self.slept.append(seconds)
        self.now += seconds
        self.then()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """In the place of the real one."""
    return Clock(monkeypatch)


def test_run_time_counter(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    """It tells the seconds that are left, and raises when none are."""
    counter = RunTimeCounter(10)
    assert (counter.start_queue, counter.timeout) == (1000.0, 10)
    clock.now += 4
    assert counter.get_time_left() == counter.check_runtime() == 6.0
    assert str(counter) == "RunTimeCounter created at 1000.0 with timeout 10 and 6.0 seconds left"
    clock.now += 6
    assert counter.get_time_left() == 0.0
    with pytest.raises(RuntimeError, match="Timeout exceeded"):
        counter.check_runtime()
    clock.now += 1
    assert counter.get_time_left() == 0.0
    with pytest.raises(RuntimeError, match="Timeout exceeded: 10 seconds are over"):
        counter.check_runtime()
    assert any("Timeout reached" in each for each in told(caplog))
    assert RunTimeCounter(float("inf")).check_runtime() == float("inf")


def test_waiting_for_a_file(clock: Clock, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It returns True once the file is there, at once if it is; the log says every five seconds that it waits."""
    path = tmp_path / "a"
    clock.then = lambda: clock.now > 1012 and path.write_text("")
    assert wait_until_file_exists(path, timeout=60) is True
    assert 1012 < clock.now < 1014 and max(clock.slept) <= 1
    assert told(caplog) == [f"Waiting for {path} to be created..."] * 3
    clock.slept.clear()
    assert wait_until_file_exists(str(path), timeout=0) is True and clock.slept == []


def test_waiting_in_vain(clock: Clock, tmp_path: Path) -> None:
    """It looks once more when the time is over, and raises; it does not wait longer."""
    path = tmp_path / "a"
    with pytest.raises(RuntimeError, match="Timeout exceeded"):
        wait_until_file_exists(path, timeout=3)
    assert clock.now == pytest.approx(1003)
    clock.then = lambda: clock.now >= 1005.999 and path.write_text("")
    assert wait_until_file_exists(path, timeout=3) is True


def test_io_loop(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    """It calls until nothing is raised, and returns what is returned, however long that took."""
    calls: list[int] = []

    def read(base: int, *, more: int) -> int:
        calls.append(base)
        if len(calls) < 4:
            raise OSError(f"try {len(calls)}")
        clock.now += 100
        return base + more

    assert run_func_IO_loop(read, {"base": 1, "more": 2}, timeout=50) == 3
    assert len(calls) == 4 and len(clock.slept) == 3
    name = read.__qualname__
    assert told(caplog) == [f"Couldn't run {name}: try {number}" for number in (1, 2, 3)]


def test_io_loop_in_vain(clock: Clock) -> None:
    """When the time is over it raises, and the cause is what was raised last."""
    errors: list[OSError] = []

    def read() -> None:
        errors.append(OSError(f"try {len(errors)}"))
        raise errors[-1]

    with pytest.raises(RuntimeError, match="Timeout exceeded") as caught:
        run_func_IO_loop(read, {}, timeout=5)
    assert caught.value.__cause__ is errors[-1] and len(errors) > 10
    assert clock.now == pytest.approx(1005)
    errors.clear()
    with pytest.raises(RuntimeError):
        run_func_IO_loop(read, {}, timeout=0)
    assert len(errors) == 1


def test_io_loop_lets_interrupts_pass() -> None:
    """What is no Exception ends the loop."""

    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_func_IO_loop(interrupt, {}, timeout=60)

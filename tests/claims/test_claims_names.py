"""Names of slots, stagings and record files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from manyhands.claims.names import (
    NAME_MAX,
    RECORD_FILES,
    Log,
    RecordFile,
    RecordName,
    SlotName,
    StagingName,
    final_name,
    parse,
    record_file,
)
from manyhands.errors import TemplateError

TOKEN = "0123456789abcdef01234567"
pieces = st.sampled_from(
    [
        ".claim",
        "-",
        "0",
        "7",
        ".",
        "a",
        ".csv",
        ".tar.gz",
        "~",
        "@",
        "é",
        "😀",
        " ",
        "{",
        "}",
        "\n",
        TOKEN,
        ".manyhands-",
    ]
)
texts = st.one_of(
    st.lists(pieces, min_size=1, max_size=12).map("".join),
    st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=255),
)
basenames = texts.filter(lambda name: name not in (".", "..") and len(os.fsencode(name)) <= NAME_MAX)
numbers = st.integers(0, 10**9)


def log_of(name: str, temp: str | None = None) -> Log | None:
    """The log, or None for a name that is refused."""
    try:
        return Log.of(f"/d/{name}", None if temp is None else f"/d/{temp}")
    except TemplateError:
        return None


@given(basenames, st.none() | basenames, numbers)
def test_parse_is_the_inverse_of_naming(name: str, temp: str | None, number: int) -> None:
    """Every slot, staging and record file is told for what it is, whatever final and temp are called."""
    log = log_of(name, temp)
    if log is None:
        return
    assert parse(Path(log.slot(number)).name) == SlotName(log.stem, number)
    staging = parse(Path(log.staging(number, TOKEN)).name)
    assert isinstance(staging, StagingName)
    assert (staging.prefix, staging.number, staging.token) == (log.stem, number, TOKEN)
    assert final_name(staging) in (None, name)


@given(basenames, st.none() | basenames, numbers)
def test_names_fit_and_hold_finals_name(name: str, temp: str | None, number: int) -> None:
    """No name is longer than a filesystem takes, and each holds final's name or, where that is long, a hash."""
    log = log_of(name, temp)
    if log is None:
        return
    for path in (log.slot(number), log.staging(number, TOKEN)):
        assert len(os.fsencode(os.path.basename(path))) <= NAME_MAX
    if len(os.fsencode(name)) + len(os.fsencode(temp or "")) < 100:
        assert name in Path(log.slot(number)).name
        assert Path(log.staging(number, TOKEN)).name.endswith(f"-{name}")


@given(basenames, basenames, st.none() | basenames)
def test_two_outputs_never_share_a_staging(one: str, two: str, temp: str | None) -> None:
    """With one fixed temp for all, stagings of different outputs differ: no bytes are published for another."""
    first, second = log_of(one, temp), log_of(two, temp)
    if first is None or second is None or one == two:
        return
    assert first.prefix != second.prefix
    assert first.staging(0, TOKEN) != second.staging(0, TOKEN)


@given(basenames, numbers)
@example(f".manyhands-{TOKEN}.journal", 0)
@example(f".manyhands-{TOKEN}.claim-record", 0)
def test_no_output_is_called_as_one_of_ours(name: str, number: int) -> None:
    """What parses as a file of a claim is refused as an output, so gc can't take one for the other."""
    if parse(name) is not None:
        with pytest.raises(TemplateError, match="can't be the name of an output"):
            Log.of(f"/d/{name}")
    log = log_of(name)
    if log is not None:
        assert log_of(Path(log.slot(number)).name) is None
        assert log_of(Path(log.staging(number, TOKEN)).name) is None


@pytest.mark.parametrize("suffix", [".csv", ".tar.gz", ".ome.tif"])
@pytest.mark.parametrize("length", [1, 100, 120, 150, 200, 240])
def test_staging_keeps_the_suffixes(length: int, suffix: str) -> None:
    """Functions that infer the format from the suffix write the same format to the staging."""
    staging = Log.of(f"/d/{'x' * length}{suffix}").staging(3, TOKEN)
    assert staging.endswith(suffix)


def test_the_directory_of_final_is_part_of_a_temp_elsewhere() -> None:
    """Outputs of one name in two directories with one temp have logs of their own, wherever it is mounted."""
    logs = [Log.of(f"/d/{place}/a.csv", "/d/space/tmp") for place in "pq"]
    assert logs[0].prefix != logs[1].prefix
    assert logs[0].directory == "/d/space"
    assert Log.of("/mnt/p/a.csv", "/mnt/space/tmp").stem == logs[0].stem
    staging = parse(Path(logs[0].staging(0, TOKEN)).name)
    assert isinstance(staging, StagingName) and final_name(staging) is None


def test_the_default_temp_may_be_written_out() -> None:
    """Giving the default template gives the default log."""
    assert Log.of("/d/a.csv", "/d/.a.csv.claim") == Log.of("/d/a.csv")


def test_names_that_are_no_unicode() -> None:
    """A file name of arbitrary bytes has a log, and its names are told."""
    log = Log.of(os.fsdecode(b"/d/\xff\xfe.csv"))
    assert parse(Path(log.slot(0)).name) == SlotName(log.stem, 0)


@pytest.mark.parametrize("kind", RECORD_FILES)
def test_record_files_are_told(kind: RecordFile) -> None:
    """A claimant's files are told with their kind."""
    assert parse(os.path.basename(record_file("/d", TOKEN, kind))) == RecordName(TOKEN, kind)


@pytest.mark.parametrize(
    "name",
    [
        "a.csv",
        ".a.csv.claim",
        ".a.csv.claim-01",
        ".a.csv.claim-x",
        ".claim-0",
        ".a.claim-0-beef-a",
        ".a.claim--1",
        f".manyhands-{TOKEN}.other-record",
        f"x.manyhands-{TOKEN}.claim-record",
        f".manyhands-{TOKEN}.claim-record.txt",
    ],
)
def test_foreign_names_are_nothing(name: str) -> None:
    """A name that we would never give is none of ours."""
    assert parse(name) is None

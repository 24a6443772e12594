"""Records: round trips, and that nothing unreadable gets in the way."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manyhands.claims.names import TOKEN_LENGTH
from manyhands.claims.record import (
    COUNT_MAX,
    SIZE_MAX,
    Claim,
    Claimant,
    Commit,
    Fail,
    Record,
    Release,
    Reopen,
    Unreadable,
    decode,
    encode,
    is_ours,
)

TOKEN = "5f" * (TOKEN_LENGTH // 2)

short = st.text(max_size=50)
integers = st.integers(-(2**63), 2**63)
tokens = st.text("0123456789abcdef", min_size=TOKEN_LENGTH, max_size=TOKEN_LENGTH)
leases = st.floats(0, exclude_min=True, allow_infinity=False)
claimants = st.builds(Claimant, tokens, short, short, integers, integers, integers, leases)
backoffs = st.none() | st.floats(0, allow_infinity=False, allow_nan=False)
counts = st.integers(1, COUNT_MAX)
fails = st.builds(Fail, tokens, short, short, short, counts, backoffs, st.booleans(), short, counts)
records: st.SearchStrategy[Record] = st.one_of(
    st.builds(Claim, claimants),
    st.builds(Commit, claimants),
    fails,
    st.builds(Release, tokens),
    st.builds(Reopen, tokens, short),
)


@given(records)
def test_round_trip(record: Record) -> None:
    """What is decoded equals what was encoded, also with texts that are no valid unicode."""
    assert decode(encode(record)) == record


@given(records, st.data())
def test_a_torn_record_is_unreadable_and_ours(record: Record, data: st.DataObject) -> None:
    """Each true beginning of a record is Unreadable, never another record, and known to be ours."""
    whole = encode(record)
    torn = whole[: data.draw(st.integers(0, len(whole) - 1))]
    assert isinstance(decode(torn), Unreadable)
    assert is_ours(torn) and is_ours(whole)


@given(st.binary(max_size=200))
def test_any_bytes_decode(data: bytes) -> None:
    """Decoding never raises."""
    decode(data)


json_values = st.recursive(
    st.none() | st.booleans() | integers | st.floats() | short,
    lambda inner: st.lists(inner, max_size=2),
    max_leaves=3,
)


@given(records, st.data())
def test_any_field_of_another_type(record: Record, data: st.DataObject) -> None:
    """Decoding never raises either when a field holds something else or is missing."""
    fields = json.loads(encode(record))
    name = data.draw(st.sampled_from(sorted(fields)))
    fields[name] = data.draw(json_values)
    decode(json.dumps(fields).encode())
    del fields[name]
    assert isinstance(decode(json.dumps(fields).encode()), Unreadable)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"[" * 10_000, "not JSON"),
        (b"{}" + b" " * SIZE_MAX, "too long"),
        (b"[1]", "not an object"),
        (b'{"kind":"RELEASE","token":"t"}', "another version"),
        (b'{"manyhands":2,"kind":"RELEASE","token":"t"}', "another version"),
        (b'{"manyhands":true,"kind":"RELEASE","token":"t"}', "another version"),
        (b'{"manyhands":1,"kind":"LATER","token":"%s"}' % TOKEN.encode(), "malformed: kind 'LATER'"),
        (b'{"manyhands":1,"token":"t"}', "malformed: it has no 'kind'"),
        (b'{"manyhands":' + b"1" * 9000 + b"}", "not JSON"),
    ],
)
def test_reasons(data: bytes, reason: str) -> None:
    """What is no record says why."""
    found = decode(data)
    assert isinstance(found, Unreadable) and found.reason == reason


@pytest.mark.parametrize(
    "token", ["", "t", "a" * 23, "a" * 25, "A" * 24, "a" * 24 + "\n", "x/../../victim", "a\0b", "\ud800"]
)
def test_no_token_leads_to_another_directory(token: str) -> None:
    """Names of files are made of tokens, so a record with anything else for one is no record."""
    for record in (Release(token), Claim(Claimant(token, "h", "b", 1, 1, 1)), Fail(token, "E")):
        assert decode(encode(record)) == Unreadable("malformed: token is no 24 hexadecimal digits")


@pytest.mark.parametrize("field", ["lease", "backoff", "attempt", "crashes"])
@pytest.mark.parametrize("number", ["-1", "1" + "0" * 400, "1" + "0" * 4000])
def test_numbers_that_nobody_can_count_with(field: str, number: str) -> None:
    """Negative numbers, and those that would take all time or memory to reckon with, make no record."""
    whole = Claim(Claimant(TOKEN, "h", "b", 1, 1, 1)) if field == "lease" else Fail(TOKEN, "E", backoff=1.0)
    fields = json.loads(encode(whole))
    data = json.dumps(fields | {field: "?"}).replace('"?"', number).encode()
    assert isinstance(decode(data), Unreadable)


@pytest.mark.parametrize("backoff", ["NaN", "Infinity", "-1", "true", '"1"'])
def test_a_backoff_is_a_number_of_seconds(backoff: str) -> None:
    """A back-off that nobody could wait makes the record unreadable."""
    data = encode(Fail(TOKEN, "E", backoff=7.0)).replace(b"7.0", backoff.encode())
    assert isinstance(decode(data), Unreadable)


@pytest.mark.parametrize("text", ["x", "é", "😀", "\ud800", "\0"])
def test_long_texts_are_cut_to_fit(text: str) -> None:
    """A record is never longer than the cap; of the traceback the end is kept, of the message the start."""
    record = Fail(
        TOKEN, "E" + text * 50_000, "M" + text * 50_000, text * 50_000 + "the end", attempt=3, backoff=1.0
    )
    data = encode(record)
    assert len(data) <= SIZE_MAX
    found = decode(data)
    assert isinstance(found, Fail)
    assert (
        found.traceback.endswith("the end")
        and found.message.startswith("M")
        and found.type_name.startswith("E")
    )
    assert (found.attempt, found.backoff) == (3, 1.0)


def test_later_versions_may_add_fields() -> None:
    """Unknown keys are ignored."""
    fields = json.loads(encode(Release(TOKEN))) | {"added": 1}
    assert decode(json.dumps(fields).encode()) == Release(TOKEN)


@pytest.mark.parametrize("data", [b"a,b\n1,2\n", b"{", b'{"many": 1}', b"\x89PNG"])
def test_foreign_bytes(data: bytes) -> None:
    """Another program's file is not taken for a record; a lone brace may be a torn one."""
    assert is_ours(data) is (data == b"{")

"""What a slot holds: small JSON records, written once.

``decode`` never raises: whatever is in a slot's way is ``Unreadable``, which is a claim by an unknown owner.
Keys that this version does not know are ignored, so that later ones may add some.
"""

from __future__ import annotations

import json
import math
from typing import Any, Final, NamedTuple

from manyhands.claims.names import TOKEN_LENGTH, is_token
from manyhands.settings import LEASE

SIZE_MAX: Final = 16 * 1024
"""Bytes; a longer record is Unreadable, and longer texts are cut to fit."""

COUNT_MAX: Final = 2**24
"""Attempts and crashes; back-offs are powers of such counts."""

VERSION: Final = 1
NO_FILE: Final = b"\0it is no regular file"
NO_ACCESS: Final = b"\0this user may not read it"
"""Stand for what was read where nothing can be; no record starts so."""

MARK: Final = b'{"manyhands":'
"""Every record starts so; what does not, and is no part of it, is somebody else's file."""


# Tuples with names: to define a dataclass takes half a millisecond, and every process that claims defines these.


class Claimant(NamedTuple):
    """One thread of one process.

    Attributes:
        token: random; names it for good.
        host: its machine's name, for people.
        boot_id: tells one run of one machine from every other.
        pid_namespace: inode number of its pid namespace, 0 where there are none.
        pid: in that namespace.
        start_ticks: when the process started, in the system's unit: a later process of that pid has another.
        lease: seconds after which a record file of it that does not change any more is a dead claimant's.
    """

    token: str
    host: str
    boot_id: str
    pid_namespace: int
    pid: int
    start_ticks: int
    lease: float = LEASE


class _Owned(NamedTuple):
    claimant: Claimant

    @property
    def token(self) -> str:
        """The owner's."""
        return self.claimant.token

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and tuple.__eq__(self, other) is True

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash((type(self), self.claimant))


class Claim(_Owned):
    """The owner computes, or has died over it."""

    __slots__ = ()


class Commit(_Owned):
    """The owner's staging is the output; whoever sees this may publish it."""

    __slots__ = ()


class Fail(NamedTuple):
    """An attempt failed.

    Attributes:
        token: the writer's.
        type_name: the exception's qualified type name.
        message: its text; cut if too long.
        traceback: its traceback as text; of one that is too long both ends are kept.
        attempt: how many attempts there have been, this one included.
        backoff: seconds from when it is first seen until the next attempt may start; None: there is none.
        discarded: the item was sorted out rather than failed.
        code_hash: of the function that failed; binds only callers of the same.
        crashes: how many owners in a row it ended, if that is why it is given up; else 0.
    """

    token: str
    type_name: str
    message: str = ""
    traceback: str = ""
    attempt: int = 1
    backoff: float | None = None
    discarded: bool = False
    code_hash: str = ""
    crashes: int = 0


class Release(NamedTuple):
    """The claim was given up without a verdict; ``token`` is the writer's."""

    token: str


class Reopen(NamedTuple):
    """Earlier failures of ``code_hash`` count no more, nor do anybody's if it is empty."""

    token: str
    code_hash: str = ""


class Fingerprint(NamedTuple):
    """By which parameters outputs are computed: ``text``, as JSON; ``template`` is theirs, ``token`` the writer's.

    It stands in no slot, but in a file of its own.
    """

    token: str
    template: str
    text: str


class Unreadable(NamedTuple):
    """Not a record: empty, torn, of another version, or no file at all; ``reason`` says which.

    Attributes:
        is_torn: it may be a record that is being written, or that somebody died over.
    """

    reason: str
    is_torn: bool = False


Record = Claim | Commit | Fail | Release | Reopen | Fingerprint

_KINDS: Final[dict[type[Record], str]] = {
    Claim: "CLAIM",
    Commit: "COMMIT",
    Fail: "FAIL",
    Release: "RELEASE",
    Reopen: "REOPEN",
    Fingerprint: "FINGERPRINT",
}


def encode(record: Record) -> bytes:
    """At most ``SIZE_MAX`` bytes; a Fail's texts are cut until it fits.

    Raises:
        ValueError: the back-off is not finite.
    """
    data = _dump(record)
    while len(data) > SIZE_MAX and isinstance(record, Fail):
        record = _shortened(record)
        data = _dump(record)
    return data


def decode(data: bytes) -> Record | Unreadable:
    """The record in ``data``."""
    if len(data) > SIZE_MAX:
        return Unreadable("too long")
    if not data:
        return Unreadable("empty", is_torn=True)
    if data in {NO_FILE, NO_ACCESS}:
        return Unreadable(data[1:].decode())
    try:
        fields = json.loads(data)
    except (ValueError, RecursionError):
        return Unreadable("not JSON", is_torn=is_ours(data))
    if not isinstance(fields, dict):
        return Unreadable("not an object")
    if type(fields.get("manyhands")) is not int or fields["manyhands"] != VERSION:
        return Unreadable("another version")
    try:
        return _read(fields)
    except KeyError as error:
        return Unreadable(f"malformed: it has no {error}")
    except (TypeError, ValueError, OverflowError) as error:
        return Unreadable(f"malformed: {error}")


def is_ours(data: bytes) -> bool:
    """Whether ``data`` is a record or what a torn write leaves of one."""
    return data.startswith(MARK) or MARK.startswith(data)


def _dump(record: Record) -> bytes:
    fields: dict[str, Any] = {"manyhands": VERSION, "kind": _KINDS[type(record)]}
    fields |= (record.claimant if isinstance(record, Claim | Commit) else record)._asdict()
    return json.dumps(fields, separators=(",", ":"), allow_nan=False).encode()


def _shortened(record: Fail) -> Fail:
    longest = max(
        ("traceback", "message", "type_name", "code_hash"), key=lambda name: len(getattr(record, name))
    )
    text = getattr(record, longest)
    half = len(text) // 2
    if longest == "traceback":  # the message, which may be the long one, stands at its end
        return record._replace(traceback=f"{text[: half // 2]}…{text[len(text) - half // 2 :]}")
    return record._replace(**{longest: text[:half] + "…"})


def _field(fields: dict[str, Any], name: str, *kinds: type) -> Any:
    value = fields[name]
    if type(value) not in kinds:
        raise TypeError(f"{name} is a {type(value).__name__}")
    return value


def _count(fields: dict[str, Any], name: str, least: int) -> int:
    value: int = _field(fields, name, int)
    if not least <= value <= COUNT_MAX:
        raise ValueError(f"{name} is out of range")
    return value


def _read(fields: dict[str, Any]) -> Record:
    kind, token = _field(fields, "kind", str), _field(fields, "token", str)
    if not is_token(token):  # names of files are made of it, which must not lead to another directory
        raise ValueError(f"token is no {TOKEN_LENGTH} hexadecimal digits")
    match kind:
        case "CLAIM" | "COMMIT":
            host, boot_id = (_field(fields, name, str) for name in ("host", "boot_id"))
            numbers = (_field(fields, name, int) for name in ("pid_namespace", "pid", "start_ticks"))
            namespace, pid, ticks = numbers
            lease = float(_field(fields, "lease", float, int))
            if not (math.isfinite(lease) and lease > 0):
                raise ValueError(f"lease is {lease}")
            claimant = Claimant(token, host, boot_id, namespace, pid, ticks, lease)
            return Claim(claimant) if kind == "CLAIM" else Commit(claimant)
        case "FAIL":
            return _read_fail(fields, token)
        case "RELEASE":
            return Release(token)
        case "FINGERPRINT":
            return Fingerprint(token, _field(fields, "template", str), _field(fields, "text", str))
        case "REOPEN":
            return Reopen(token, _field(fields, "code_hash", str))
    raise ValueError(f"kind {kind!r}")


def _read_fail(fields: dict[str, Any], token: str) -> Fail:
    backoff = _field(fields, "backoff", float, int, type(None))
    if backoff is not None and not (math.isfinite(backoff) and backoff >= 0):
        raise ValueError(f"backoff is {backoff}")
    return Fail(
        token=token,
        type_name=_field(fields, "type_name", str),
        message=_field(fields, "message", str),
        traceback=_field(fields, "traceback", str),
        attempt=_count(fields, "attempt", 1),
        backoff=None if backoff is None else float(backoff),
        discarded=_field(fields, "discarded", bool),
        code_hash=_field(fields, "code_hash", str),
        crashes=_count(fields, "crashes", 0),
    )

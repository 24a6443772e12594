"""What a history is made of: one event of one thread, as data and as a line of a file."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from typing import Any, Final, Literal, get_args

Kind = Literal["invoke", "ok", "fail", "unknown"]
"""An action begins; it happened; it did not happen; nobody can tell whether it did."""

Action = Literal["claim", "compute", "commit", "publish", "failure", "release"]

KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
ACTIONS: Final[tuple[Action, ...]] = get_args(Action)

FOR_ANOTHER: Final = "for another"
"""The note of a failure or release that another thread than the owner of the claim has recorded."""

WAS_THERE: Final = "was there"
"""The note of a commit that found the output in its place before."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that a thread began, or that it came to.

    An action has two events, ``invoke`` before it and another after it. Who is killed leaves the second one out.

    Attributes:
        process: one thread of one process; each has a name of its own, and does one thing after the other.
        number: counts the events of that thread, from 0.
        kind: whether the action begins, or how it ended.
        action: what it is about.
        output: the name of the output.
        slot: that the action is for: a claim's own, which ``compute`` and ``publish`` have too; of ``commit``,
            ``failure`` and ``release`` the one that they take, next to the claim's. -1: not known (yet).
        token: of who claims.
        attempt: which one the claim is for, from 1; of a ``failure``, which one failed.
        digest: of the output's bytes, as far as they are there.
        reopen: of a claim: failures up to this slot are reopened.
        code: of a claim: which code it is for; failures of other code don't count.
        note: why, in a word.
    """

    process: str
    number: int
    kind: Kind
    action: Action
    output: str
    slot: int = -1
    token: str = ""
    attempt: int = 0
    digest: str = ""
    reopen: int = -1
    code: str = ""
    note: str = ""

    def __str__(self) -> str:
        told = [f"{self.process} #{self.number}: {self.kind} {self.action} {self.output!r}"]
        if self.slot >= 0:
            told.append(f"slot {self.slot}")
        if self.token:
            told.append(f"token {self.token}")
        if self.attempt:
            told.append(f"attempt {self.attempt}")
        if self.digest:
            told.append(f"digest {self.digest}")
        if self.note:
            told.append(self.note)
        return ", ".join(told)


_DEFAULTS: Final[dict[str, Any]] = {
    field.name: field.default for field in fields(Event) if type(field.default) in (int, str)
}
_TYPES: Final = {field.name: int if field.type == "int" else str for field in fields(Event)}


def to_line(event: Event) -> bytes:
    """The event as one line of JSON; what is as it is by default is left out."""
    known = {
        name: value
        for name, value in asdict(event).items()
        if name not in _DEFAULTS or value != _DEFAULTS[name]
    }
    return json.dumps(known, separators=(",", ":")).encode() + b"\n"


def from_line(line: bytes) -> Event | None:
    """The event of a line; None if it is none, torn say."""
    try:
        known = json.loads(line)
    except ValueError:
        return None
    if not isinstance(known, dict) or not known.keys() <= _TYPES.keys():
        return None
    if any(type(value) is not _TYPES[name] for name, value in known.items()):
        return None
    if known.get("kind") not in KINDS or known.get("action") not in ACTIONS:
        return None
    try:
        return Event(**known)
    except TypeError:  # it lacks something
        return None

"""What the files of a claim are called, and what a directory entry is.

    .a.csv.claim-0                                 slot 0 of the log of a.csv
    .a.csv.claim-0-4f…9c-a.csv                     staging of the claim in slot 0 by claimant 4f…9c
    .a.csv.claims-0                                slot 0, where a.csv is the last of several files
    .a.csv.claims-0-4f…9c.1-a.png                  staging of the second of these
    .manyhands-4f…9c.claim-record                  a file of that claimant's own
    .manyhands-4f…9c.journal                       what one map did, for reports

Everything here is pure: no name is looked up.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, get_args

from manyhands.errors import TemplateError
from manyhands.hashing import blake2b

NAME_MAX: Final = 255
"""Bytes of a file name on every filesystem that we know of."""

TOKEN_LENGTH: Final = 24
"""Hexadecimal digits of a claimant's token."""

_MARK: Final = ".claim"
_MARK_OF_SEVERAL: Final = ".claims"
_SLOT_DIGITS: Final = 10
_SUFFIX_MAX: Final = 40
_HASH_BYTES: Final = 16
_TAIL_MAX: Final = 2 * _HASH_BYTES + _SUFFIX_MAX
_PART_DIGITS: Final = 4
_BODY_MAX: Final = (
    NAME_MAX - len(_MARK_OF_SEVERAL) - _SLOT_DIGITS - TOKEN_LENGTH - _PART_DIGITS - len("---.") - _TAIL_MAX
)

RecordFile = Literal["claim", "commit", "verdict", "copy", "released"]
"""A claimant's own files: what its CLAIM and COMMIT slots link to, and two that live for a moment.

The last is what "claim" is renamed to when the claimant is gone, and its claims are no crashes.
"""

RECORD_FILES: Final[tuple[RecordFile, ...]] = get_args(RecordFile)

_kinds: Final[dict[str, RecordFile]] = {kind: kind for kind in RECORD_FILES}
_OWN: Final = ".manyhands-"
_HEX: Final = "0123456789abcdef"

# Compiled when they are needed first: each takes a fraction of a millisecond, and most maps need none.
_SLOT_MARK: Final = r"(\.claims?)-(0|[1-9][0-9]*)(?=-|\Z)"
_STAGING_TAIL: Final = rf"-([0-9a-f]{{{TOKEN_LENGTH}}})(?:\.(0|[1-9][0-9]*))?-(.+)\Z"
_RECORD_FILE: Final = rf"\.manyhands-([0-9a-f]{{{TOKEN_LENGTH}}})\.({'|'.join(RECORD_FILES)})-record\Z"
_JOURNAL_FILE: Final = rf"\.manyhands-([0-9a-f]{{{TOKEN_LENGTH}}})\.journal\Z"
_ELSEWHERE: Final = rf"@[0-9a-f]{{{2 * _HASH_BYTES}}}\.claims?\Z"


@cache
def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(text, re.DOTALL)


def is_token(text: str) -> bool:
    """Whether a claimant may be called so."""
    return len(text) == TOKEN_LENGTH and not text.strip(_HEX)


class SlotName(NamedTuple):
    """Slot ``number`` of the log whose slots start with ``prefix`` (a basename)."""

    prefix: str
    number: int

    @property
    def is_of_several(self) -> bool:
        """Whether the output is several files."""
        return self.prefix.endswith(_MARK_OF_SEVERAL)


class StagingName(NamedTuple):
    """What ``token`` wrote under its claim in slot ``number``; ``tail`` is or stands for final's basename.

    ``part`` counts the files that come before the last one of an output of several; it is None for that.
    """

    prefix: str
    number: int
    token: str
    tail: str
    part: int | None = None


class RecordName(NamedTuple):
    """A file that belongs to the claimant ``token`` itself."""

    token: str
    kind: RecordFile


class JournalName(NamedTuple):
    """What one map did; ``token`` tells it from others."""

    token: str


def parse(name: str) -> SlotName | StagingName | RecordName | JournalName | None:
    """What the directory entry ``name`` is by its name; None if it is none of ours."""
    if name.startswith(_OWN):
        record = _pattern(_RECORD_FILE).match(name)
        if record:
            return RecordName(record[1], _kinds[record[2]])
        journal = _pattern(_JOURNAL_FILE).match(name)
        if journal:
            return JournalName(journal[1])
    slot = _pattern(_SLOT_MARK).search(name) if _MARK in name else None
    if not slot or not slot.start():
        return None
    prefix, number, rest = name[: slot.end(1)], int(slot[2]), name[slot.end() :]
    if not rest:
        return SlotName(prefix, number)
    staging = _pattern(_STAGING_TAIL).match(rest)
    if not staging:
        return None
    return StagingName(prefix, number, staging[1], staging[3], int(staging[2]) if staging[2] else None)


@lru_cache(maxsize=64)
def record_file(directory: str, token: str, kind: RecordFile) -> str:
    """Where the claimant ``token`` keeps its ``kind`` file for the logs in ``directory``."""
    return f"{directory}/.manyhands-{token}.{kind}-record"


def is_plain(path: str) -> bool:
    """Whether nothing in this path looks like a file of a claim."""
    return _MARK not in path and _OWN not in path


def final_name(staging: StagingName) -> str | None:
    """Final's basename if ``staging`` tells it and final is in the same directory, else None."""
    if staging.part is not None or _pattern(_ELSEWHERE).search(staging.prefix) or _is_short(staging.tail):
        return None
    return staging.tail


class OutputName(NamedTuple):
    """What the prefix of a log tells of its output.

    ``name`` is for people: a hash of the name if that is long. ``is_here`` says that it surely is the output's
    basename, and that the output is in the directory of its slots; else only the function knows where it is.
    """

    name: str
    is_here: bool


def output_name(prefix: str) -> OutputName:
    """The output whose slots start with ``prefix`` (a basename)."""
    body = prefix.removesuffix(_MARK_OF_SEVERAL).removesuffix(_MARK)
    elsewhere = _pattern(_ELSEWHERE).search(prefix) is not None
    if elsewhere:
        body = body.rpartition("@")[0]
    start, tilde, after = body.partition("~")
    if tilde and not start.startswith("."):
        name, is_sure = after, "~" not in after
    else:  # a "~" may be of the output's name, or of a temp= that starts with a dot
        name, is_sure = body.removeprefix("."), not after
    return OutputName(name, is_sure and not elsewhere and not _is_short(name))


class Log:
    """The write-once log of one output; it is not to be changed.

    All paths are texts: to make a ``Path`` takes longer than a stat.

    Attributes:
        final: the output's path, absolute as ``of`` makes it. If it is there, the output is whole.
        prefix: as absolute; the slots are called ``<prefix>-0``, ``<prefix>-1``, ….
        parts: of an output of several files those that are published before the last one, ``final``.
        finals: all that the output is, in the order in which it is published.
        home: the directory of ``final``.
        directory: where the slots, the stagings and the claimants' records are.
        stem: the basename of ``prefix``.
    """

    __slots__ = ("directory", "final", "finals", "home", "parts", "prefix", "stem")

    def __init__(self, final: str, prefix: str, parts: tuple[str, ...] = ()) -> None:
        self.final = final
        self.prefix = prefix
        self.parts = parts
        self.finals = (*parts, final)
        self.home, _ = _split(final)
        self.directory, self.stem = _split(prefix)

    def __repr__(self) -> str:
        return f"Log({', '.join(map(repr, self.__reduce__()[1]))})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Log) and self.__reduce__() == other.__reduce__()

    def __hash__(self) -> int:
        return hash(self.prefix)

    def __reduce__(self) -> tuple[type[Log], tuple[Any, ...]]:
        return Log, (self.final, self.prefix, self.parts) if self.parts else (self.final, self.prefix)

    @classmethod
    def of(
        cls,
        final: str | os.PathLike[str],
        temp: str | os.PathLike[str] | None = None,
        parts: Sequence[str | os.PathLike[str]] = (),
    ) -> Log:
        """The log of ``final``; ``temp`` chooses another directory and start of the names than final's.

        ``temp`` must be on final's filesystem, which is not looked at here. Whatever it is, two outputs never
        share a log: final's name is appended, and where final is in another directory, a hash of the way there.

        Raises:
            TemplateError: the name of ``final`` or ``temp`` would be taken for a file of a claim.
        """
        if temp is None and not parts and type(final) is str and _is_quick(final):
            home, _, own = final.rpartition("/")
            return cls(final, f"{home}/.{own}{_MARK}")
        path = Path(os.path.abspath(final))
        mark = _MARK_OF_SEVERAL if parts else _MARK
        if temp is None:
            place, start, where = path, f".{path.name}", ""
        else:
            place = Path(os.path.abspath(temp))
            start = place.name.removesuffix(_MARK)
            way = os.path.relpath(path.parent, place.parent)
            where = "" if way == "." else f"@{_hash(way)}"

        def body_of(name: str) -> str:
            return (f".{name}" if start == f".{path.name}" else f"{start}~{name}") + where

        body = whole = body_of(path.name)
        if len(os.fsencode(body)) > _BODY_MAX:
            body = body_of(_short(path.name))
            if len(os.fsencode(body)) > _BODY_MAX:
                body = f".{_hash(whole)}{where}"
        others = tuple([os.path.abspath(part) for part in parts])
        taken = _SLOT_MARK, rf"\A{_RECORD_FILE}", rf"\A{_JOURNAL_FILE}"
        for name in (path.name, whole, body, *[os.path.basename(part) for part in others]):
            if not name or any(_pattern(text).search(name) for text in taken):
                raise TemplateError(
                    f"{path.name!r} can't be the name of an output (nor of its temp): manyhands calls the "
                    f"files of its claims so ('….claim-<number>', '.manyhands-….<kind>-record', '.manyhands-….journal')"
                )
        return cls(str(path), str(place.with_name(body + mark)), others)

    def slot(self, number: int) -> str:
        """The path of slot ``number``."""
        return f"{self.prefix}-{number}"

    def staging(self, number: int, token: str) -> str:
        """Where ``token`` writes the output that it computes under its claim in slot ``number``.

        It ends with final's basename, or with its suffixes if that would be too long.
        """
        return self._staging(f"{number}-{token}", self.final)

    def stagings(self, number: int, token: str) -> tuple[str, ...]:
        """Where it writes each of ``finals``; the last one is ``staging``."""
        if not self.parts:
            return (self.staging(number, token),)
        parts = (self._staging(f"{number}-{token}.{at}", part) for at, part in enumerate(self.parts))
        return (*parts, self.staging(number, token))

    def _staging(self, claim: str, final: str) -> str:
        _, name = _split(final)
        whole = f"{self.stem}-{claim}-{name}"
        if len(whole) > NAME_MAX // 4 and len(os.fsencode(whole)) > NAME_MAX:
            whole = f"{self.stem}-{claim}-{_short(name)}"
        return f"{self.directory}/{whole}"


def _split(path: str) -> tuple[str, str]:
    """As ``os.path.split``, of what is in normal form; "." where that has no directory."""
    head, slash, name = path.rpartition("/")
    return head or slash or ".", name


def _is_quick(final: str) -> bool:
    """Whether this is an absolute path of the usual kind; others must be looked at closely."""
    if not (final.startswith("/") and final.isascii() and final.isprintable()):
        return False
    name, whole = final.rpartition("/")[2], f"{final}/"
    dotted = "//" in whole or "/./" in whole or "/../" in whole
    return not dotted and len(name) < _BODY_MAX and is_plain(name)


def _hash(text: str) -> str:
    return blake2b(os.fsencode(text), digest_size=_HASH_BYTES).hexdigest()


def _short(name: str) -> str:
    """A hash of ``name`` with its suffixes, at most ``_TAIL_MAX`` bytes."""
    path = Path(name)
    for suffix in ("".join(path.suffixes), path.suffix):
        if len(os.fsencode(suffix)) <= _SUFFIX_MAX:
            return _hash(name) + suffix
    return _hash(name)


def _is_short(tail: str) -> bool:
    return re.match(rf"[0-9a-f]{{{2 * _HASH_BYTES}}}(\.|\Z)", tail) is not None

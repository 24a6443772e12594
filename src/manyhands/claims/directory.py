"""What is true of a directory of outputs as a whole: that it can be used, what lies there, what all must agree on."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NoReturn

from manyhands.claims import liveness, protocol
from manyhands.claims.filesystem import LocalFileSystem, read, run
from manyhands.claims.mounts import Mount, mount_of
from manyhands.claims.names import TOKEN_LENGTH, RecordName, SlotName, is_plain, parse, record_file
from manyhands.claims.record import SIZE_MAX, Claim, Fingerprint, Unreadable, decode, encode
from manyhands.errors import FingerprintMismatch, OutputDirectoryError
from manyhands.hashing import blake2b


def check_directory(directory: str | os.PathLike[str]) -> None:
    """Make ``directory`` and its parents, and prove by a file that it can be written.

    Raises:
        OutputDirectoryError: it can't be; names the directory and the reason.
    """
    path = Path(directory)
    probe = record_file(str(path), os.urandom(TOKEN_LENGTH // 2).hex(), "copy")
    try:
        path.mkdir(parents=True, exist_ok=True)
        with open(probe, "xb") as file:
            file.write(b"{}")
        os.unlink(probe)
    except OSError as error:
        try:
            os.unlink(probe)
        except OSError:
            pass
        unusable(path, error, tells_file=False)


def mounted(directory: str | os.PathLike[str]) -> Mount | None:
    """Of which mount it is; None where the system does not tell."""
    if sys.platform != "linux":
        return None
    try:
        table = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return None
    return mount_of(os.path.realpath(directory), table)


def failures_before(directory: str | os.PathLike[str]) -> dict[str, int]:
    """The highest slot of every log in ``directory``, by ``log.stem``; empty if it does not exist.

    Taken when a map starts and given to ``acquire`` as ``reopen``, it reopens once the failures that were
    recorded before, and believes those recorded since, without any clock.
    """
    try:
        with os.scandir(directory) as entries:
            return highest_slots(entry.name for entry in entries if not is_plain(entry.name))
    except FileNotFoundError:
        return {}
    except OSError as error:
        unusable(Path(directory), error)


def highest_slots(names: Iterable[str]) -> dict[str, int]:
    """As ``failures_before``, of the names in a directory."""
    highest: dict[str, int] = {}
    for name in names:
        if isinstance(found := parse(name), SlotName):
            highest[found.prefix] = max(found.number, highest.get(found.prefix, -1))
    return highest


def others_at_work(directory: str | os.PathLike[str], names: Iterable[str]) -> bool:
    """Whether one of the ``names`` in ``directory`` is the record of a claimant that may live, in another process."""
    for name in names:
        found = parse(name)
        if isinstance(found, RecordName) and found.kind == "claim":
            try:
                record = decode(read(os.path.join(directory, name)))
            except OSError:
                continue
            if not isinstance(record, Claim) or record.claimant.pid == os.getpid():
                continue
            if liveness.life(record.claimant) != "dead":
                return True
    return False


def is_one_name(directory: Path, one: str, other: str) -> bool:
    """Whether these two names of a file mean the same there: case, or ways to write an accent, may not count.

    Raises:
        OutputDirectoryError: nothing can be written there.
    """
    probe = Path(record_file(str(directory), os.urandom(TOKEN_LENGTH // 2).hex(), "copy"))
    try:
        probe.mkdir()  # in the directory, since it may be that alone which does not tell them apart
        (probe / one).touch()
        return os.path.lexists(probe / other)
    except OSError as error:
        unusable(directory, error, tells_file=False)
    finally:
        import shutil  # slow to import, and seldom needed

        shutil.rmtree(probe, ignore_errors=True)


def fingerprint_text(value: Any) -> str:
    """The parameters that outputs depend on, as a text that is the same wherever they are.

    Raises:
        TypeError, ValueError: they can't be written so; says why.
    """
    if not isinstance(value, str | Mapping):
        raise TypeError(f"fingerprint must be a text, or a mapping of parameters, not {value!r}")
    try:
        text = json.dumps(value, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise type(error)(f"fingerprint must consist of what JSON can hold: {error}") from None
    if len(encode(Fingerprint("0" * TOKEN_LENGTH, "", text))) > SIZE_MAX // 2:
        raise ValueError("fingerprint is too long for a record; give a hash of it")
    return text


def fingerprint_file(directory: Path, template: str) -> Path:
    """Where the fingerprint of a template's outputs is; ``template`` is what follows the name of the directory."""
    name = blake2b(os.fsencode(template), digest_size=TOKEN_LENGTH // 2).hexdigest()
    return directory / f".manyhands-{name}.fingerprint"


def agree(directory: Path, template: str, text: str) -> None:
    """Have all who compute these outputs use the same parameters; the first says which.

    Raises:
        FingerprintMismatch: there are outputs by other ones.
        OutputDirectoryError: that can't be read or written.
    """
    me = liveness.identity(os.urandom(TOKEN_LENGTH // 2).hex())
    path = fingerprint_file(directory, template)
    try:
        found = run(protocol.agree(me, str(path), Fingerprint(me.token, template, text)), LocalFileSystem())
    except OSError as error:
        unusable(directory, error)
    if not isinstance(found, Fingerprint):
        why = found.reason if isinstance(found, Unreadable) else "it has gone, or is a record of another kind"
        raise FingerprintMismatch(
            f"{str(path)!r}, which should say by which parameters its outputs were computed, can't be read ({why})"
        )
    if found.text != text:
        raise FingerprintMismatch(
            f"the outputs {template!r} in {str(directory)!r} were computed with the fingerprint {found.text}, and not "
            f"with {text}; to compute them anew, call the function's claims.recompute(items) while nobody else does"
        )


def unusable(place: str | os.PathLike[str], error: OSError, tells_file: bool = True) -> NoReturn:
    """Raises OutputDirectoryError, which names the directory, the reason, and the file if that ``tells`` anything."""
    directory, reason = Path(place), error.strerror or str(error)
    if directory.is_symlink() and not directory.exists():
        reason = f"it is a symbolic link that leads nowhere ({reason})"
    elif os.path.lexists(directory) and not directory.is_dir():
        reason = f"it is no directory ({reason})"
    elif tells_file and (name := error.filename2 or error.filename) and os.fspath(name) != str(directory):
        reason = f"{reason}: {os.fsdecode(name)!r}"
    raise OutputDirectoryError(
        error.errno, f"the output directory {str(directory)!r} can't be used: {reason}"
    ) from error

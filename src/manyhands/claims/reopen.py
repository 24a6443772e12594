"""Opening again what is closed: a record in the next slot, as everybody else writes one. Nothing is removed.

Whoever has the slot first is right: if that is another one, the log has moved on, and nothing needs to be opened.
"""

from __future__ import annotations

import os
from pathlib import Path

from manyhands.claims import liveness, protocol
from manyhands.claims.directory import unusable
from manyhands.claims.filesystem import LocalFileSystem, Steps, run
from manyhands.claims.names import TOKEN_LENGTH, Log
from manyhands.claims.record import Claim, Claimant, Fail, Release, Reopen
from manyhands.claims.states import OutputState


def reopen(found: OutputState) -> bool:
    """Have a failure tried again, whatever code it is of; or give a claim up in its owner's place.

    An owner that is there after all finds its claim superseded, and its output is computed once more.

    Args:
        found: the output, as a survey has just found it.

    Returns:
        bool: whether that was done; else its log says something else by now.

    Raises:
        OutputDirectoryError: nothing can be written there.
    """
    me = liveness.identity(os.urandom(TOKEN_LENGTH // 2).hex())
    try:
        return run(reopened(found, me), LocalFileSystem())
    except OSError as error:
        unusable(Path(found.directory), error)


def reopened(found: OutputState, me: Claimant) -> Steps[bool]:
    """As ``reopen``, by ``me``."""
    log = Log(os.path.join(found.directory, found.name), os.path.join(found.directory, found.prefix))
    head = yield from protocol.look(log.slot(found.slot))
    if isinstance(head, Fail) and head == found.failure:
        record: Reopen | Release = Reopen(me.token)
    elif isinstance(head, Claim) and head.claimant == found.owner:
        record = Release(me.token)
    else:
        return False
    return (yield from protocol.note(me, log.slot(found.slot + 1), record))

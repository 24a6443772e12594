"""What travels to where a call runs: the function, and its order of meaning.

Arguments were validated before, or are here if that was asked for. Then: output claimed, attempt, result validated,
output committed; and every way out of that is an answer for the stream. Only BaseExceptions that are no Exception
pass through, after the claim was given up.
"""

from __future__ import annotations

import errno
import os
import stat
import threading
import types
from collections.abc import Callable
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from manyhands.calls import (
    Answer,
    Call,
    Done,
    Failed,
    Later,
    add_note,
    error_text,
    qualified_name,
    traceback_text,
)
from manyhands.decorators.task import ClaimPolicy
from manyhands.errors import FailedElsewhere, InvalidResult, ManyhandsError, OutputDirectoryError, OutputMissing
from manyhands.hashing import blake2b
from manyhands.policies.parameters import name_of
from manyhands.policies.retry import budget_of
from manyhands.policies.star import StarRule
from manyhands.policies.validation import Check, ItemCheck, Refused, ResultCheck, checked
from manyhands.settings import current_rehearsal
from manyhands.workers.plain import Plain, calling

if TYPE_CHECKING:
    from manyhands.claims import Claims, FailedBefore, Fenced, Log, Mine, Published, Seen, Watch
    from manyhands.decorators.decorated import Decorated

_WRITTEN: Final = (stat.S_IFREG, stat.S_IFDIR)
_KINDS: Final = {stat.S_IFLNK: "symbolic link", stat.S_IFIFO: "FIFO", stat.S_IFSOCK: "socket"}

_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})


UNREADABLE_LOOKS: Final = 15
"""After so many looks, some ten seconds, a claim that can't be read is told."""


class Entry(NamedTuple):
    """What the gate tells the worker of an item's output, and the worker asks to be told again.

    Attributes:
        log: the output and its log.
        reopen: failures up to this slot were recorded before the map began.
        loads: whether the answer is to bring the value that ``load`` makes of the output, if there is one.
        is_there: the gate has seen the output; else it has looked for it.
        seen: the failure whose back-off is being waited for.
        watch: what is known of the claim that is in the way.
        unreadable: how many looks in a row found a slot that can't be read.
    """

    log: Log
    reopen: int = -1
    loads: bool = True
    is_there: bool = False
    seen: Seen | None = None
    watch: Watch | None = None
    unreadable: int = 0


class Work:
    """Runs calls of one function for one map.

    Args:
        function: the decorated function, bound if it is a method.
        discards: whether invalid results are discarded where the task says so; else they always fail.
        rule: how plain items become calls.
        completes: whether calls come without what the rule has for all of them.

    Attributes:
        plain: called with an item of the map, it returns what the function does; None: items need more than that.
        unchecked: ``plain`` without the predicates, and those for items and for results; None: there are none.
    """

    def __init__(
        self,
        function: Decorated[..., Any],
        discards: bool = True,
        rule: StarRule | None = None,
        completes: bool = False,
    ) -> None:
        self._function = function
        self._discards = discards
        self._rule = rule
        self._completes = completes
        validation = function.task.validation
        self._checks_arguments = validation is not None and validation.checks_arguments("worker")
        self._checks_result = validation is not None and validation.checks_result("worker")
        self._claims: dict[int, Claims] = {}  # of each thread: two would take each other's for their own
        self.plain: Callable[[Any], Any] | None = None
        self.unchecked: tuple[Callable[[Any], Any], Check | None, Check | None] | None = None
        if rule is not None and goes_plain(function, rule):
            step, before, after = _parts(function, rule)
            self.plain = checked(step, before, after)
            if before is not None or after is not None:
                self.unchecked = step, before, after

    def __reduce__(self) -> Any:
        body, rule = self._function.alone(), self._rule
        if body is None:
            return Work, (self._function, self._discards, rule, rule is not None and rule.has_fixed)
        if rule is None:
            return Plain, (body,)
        if self.plain is None:
            return Plain, (body, rule.args, dict(rule.kwargs))
        return Plain, (body, rule.args, dict(rule.kwargs), bool(rule.star))

    def __call__(self, call: Call) -> Answer:
        """One attempt."""
        if self._completes and self._rule is not None:
            call = self._rule.completed(call)
        entry, claim = call.memo, self._function.task.claim
        try:
            if self._checks_arguments:
                call = self._function.checked(call)
            if claim is not None and isinstance(entry, Entry):
                return self._claimed(call, entry, claim)
            return Done(self._checked(self._attempt(call)))
        except Exception as error:
            return self.failed(error)

    @cached_property
    def _code_hash(self) -> str:
        return code_hash(self._function)

    def close(self) -> None:
        """Lets go of the claims' files."""
        while self._claims:
            self._claims.popitem()[1].close()

    # -- with a claim -----------------------------------------------------------------------------------------

    def _claimed(self, call: Call, entry: Entry, claim: ClaimPolicy) -> Answer:
        from manyhands.claims.decisions import Busy, FailedBefore, Finished, Mine, Wait

        if entry.is_there and os.path.lexists(entry.log.final):
            return self._finished(entry, claim, computed=False)
        me = threading.get_ident()
        claims = self._claims.get(me)
        if claims is None:
            from manyhands.claims import Claims

            rehearsal = current_rehearsal()
            make: Callable[..., Claims] = claim.claims or Claims
            claims = self._claims[me] = make(
                durable=claim.durable,
                lease=claim.lease,
                max_crashes=claim.max_crashes,
                filesystem=None if rehearsal is None else rehearsal.filesystem,
            )
        log = entry.log
        try:
            decision = claims.acquire(
                log,
                reopen=entry.reopen,
                code_hash=self._code_hash,
                seen=entry.seen,
                watch=entry.watch,
                # The gate has. If more is known, there is a log.
                looked=not entry.is_there
                and entry.seen is None
                and entry.watch is None
                and not entry.unreadable,
            )
            match decision:
                case Finished():
                    return self._finished(entry, claim, computed=False)
                case Busy(None, slot, None) if slot >= 0:
                    return _unreadable(entry, slot)
                case Busy(_, _, watch):
                    return Later(None, entry._replace(unreadable=0, watch=watch), where=log.final)
                case Wait(seconds, seen):
                    return Later(seconds, entry._replace(seen=seen), where=log.final)
                case FailedBefore():
                    return self._failed_before(decision, log)
                case Mine() as mine:
                    return self._compute(call, entry, claim, claims, mine)
        except OutputDirectoryError as error:
            return Failed(error, traceback_text(error), halts=True)

    def _compute(self, call: Call, entry: Entry, claim: ClaimPolicy, claims: Claims, mine: Mine) -> Answer:
        from manyhands.claims.decisions import Fenced

        try:
            self._produce(call, claim, mine)
            outcome = self._commit(claim, claims, mine)
        except OutputDirectoryError:
            raise
        except Exception as error:
            return self._give_up(error, entry, claims, mine)
        except BaseException:
            claims.release(mine)
            raise
        if isinstance(outcome, Fenced):
            return Later(0.0, entry, where=mine.log.final)
        return self._finished(entry, claim, computed=True)

    def _commit(self, claim: ClaimPolicy, claims: Claims, mine: Mine) -> Published | Fenced:
        try:
            return claims.commit(mine)
        except OutputMissing as error:
            missing = error
        self._check_written(claim, mine)  # which has more to say
        raise missing

    def _produce(self, call: Call, claim: ClaimPolicy, mine: Mine) -> None:
        stagings = mine.stagings
        output, is_directory = claim.answer(stagings), claim.final.is_directory
        if is_directory:
            os.mkdir(stagings[-1])
        value = self._attempt(call, output)
        if claim.save is not None:
            claim.save(self._checked(value), output)
        checks_files = claim.save is None and self._checks_result
        if is_directory or checks_files:  # else the commit sees whether there is one
            self._check_written(claim, mine)
        if checks_files:
            self._checked(output, annotated=False)

    def _check_written(self, claim: ClaimPolicy, mine: Mine) -> None:
        for staging, final in zip(mine.stagings, mine.log.finals, strict=True):
            kind = _kind(staging)
            if kind in _WRITTEN and not (claim.final.is_directory and not os.listdir(staging)):
                continue
            who = name_of(self._function if claim.save is None else claim.save)
            what = self._function._parameters.output if claim.save is None else "its path"
            if kind in _WRITTEN or not kind:
                raise OutputMissing(f"{who} returned without having written {what}, for {final!r}")
            raise OutputMissing(
                f"{who} left a {_KINDS.get(kind, 'device')} at {what}, for {final!r}; it must write a file "
                f"there, or make a directory"
            )

    def _give_up(self, error: Exception, entry: Entry, claims: Claims, mine: Mine) -> Answer:
        """A failed attempt under a claim: recorded for everybody, unless it says nothing about the item."""
        from manyhands.claims.decisions import Fenced

        failed = self.failed(error)
        if isinstance(error, OSError) and error.errno in _NO_ROOM:
            claims.release(mine)
            return _no_room(error, mine.log)
        again = None
        if failed.budget is not None:
            budget = self._function.task.retries[failed.budget]
            again = budget.next_wait(mine.attempt, error=error)
        recorded = claims.fail(
            mine,
            type_name=qualified_name(type(failed.error)),
            message=error_text(failed.error),
            traceback=failed.traceback,
            backoff=again,
            discarded=failed.discard and again is None,
            code_hash=self._code_hash,
        )
        if isinstance(recorded, Fenced):
            return Later(0.0, entry, where=mine.log.final)  # taken over: the verdict is the new owner's
        failed = failed._replace(budget=None)
        if again is None:
            return failed
        return Later(again, entry, failed, mine.log.final)

    def _failed_before(self, decision: FailedBefore, log: Log) -> Failed:
        record = decision.record
        if record.discarded:
            return Failed(InvalidResult(record.message), record.traceback, discard=self._discards)
        error = FailedElsewhere(
            f"{log.final!r} failed in another process, in attempt {record.attempt}: "
            f"{record.type_name}: {record.message}"
        )
        error.type_name, error.traceback = record.type_name, record.traceback
        return Failed(error, record.traceback)

    def _finished(self, entry: Entry, claim: ClaimPolicy, computed: bool) -> Done[Any] | Failed:
        log = entry.log
        if claim.load is None or not entry.loads:
            return Done(claim.answer(log.finals), computed)
        try:
            return Done(claim.load(claim.answer(log.finals)), computed)
        except Exception as error:
            add_note(error, f"raised as {name_of(claim.load)} loaded {log.final!r}")
            return Failed(error, traceback_text(error))

    # -- with and without -----------------------------------------------------------------------------------

    def _attempt(self, call: Call, staging: Path | tuple[Path, ...] | None = None) -> Any:
        function = self._function
        call = Call((*function._prefix, *call.args), call.kwargs)
        if staging is not None and function._parameters.output is not None:
            call = function._parameters.with_output(call, staging)
        return function._body(*call.args, **call.kwargs)

    def _checked(self, value: Any, annotated: bool = True) -> Any:
        return self._function.checked_result(value, annotated) if self._checks_result else value

    def failed(self, error: Exception) -> Failed:
        """What an attempt raised, as an answer."""
        task = self._function.task
        if not isinstance(error, Refused):
            return Failed(error, traceback_text(error), budget_of(task.retries, error))
        refused = error.error
        again = budget_of(task.retries, refused) if isinstance(refused, InvalidResult) else None
        discard = self._discards and task.validation is not None and task.validation.invalid == "discard"
        return Failed(refused, "", again, discard)


def goes_plain(function: Decorated[..., Any], rule: StarRule) -> bool:
    """Whether items can be called as they are, once they are checked: nothing is claimed, or comes with keywords."""
    task = function.task
    return task.claim is None and not rule.kwstar and rule.star is not None


def _parts(
    function: Decorated[..., Any], rule: StarRule
) -> tuple[Callable[[Any], Any], Check | None, Check | None]:
    """What is called with each item, and the predicates to ask before and after, by themselves if they can be."""
    body: Callable[..., Any] = (
        partial(function._body, *function._prefix) if function._prefix else function._body
    )
    step = calling(body, rule.args, dict(rule.kwargs), bool(rule.star))
    validation = function.task.validation
    if validation is None:
        return step, None, None
    before: Check | None = None
    after: Check | None = None
    if validation.checks_arguments("worker"):
        short = validation.item_check(rule, function._parameters, function._prefix)
        if short is not None:
            before = ItemCheck(short, validation, lambda item: function.bind_arguments(rule.call(0, item)))
        else:
            step = _checking_arguments(function, rule)
    if validation.checks_result("worker"):
        if function._annotations is None and validation.result is not None:
            after = ResultCheck(validation.result)
        else:
            step, before = _checking_result(function, checked(step, before)), None
    return step, before, after


def _checking_result(function: Decorated[..., Any], step: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """``step``, whose results are checked, and converted."""
    return lambda item: function.checked_result(step(item))


def _checking_arguments(function: Decorated[..., Any], rule: StarRule) -> Callable[[Any], Any]:
    """A call of the function, with the arguments of each item checked before, and converted."""

    def step(item: Any) -> Any:
        args = (*item, *rule.args) if rule.star else (item, *rule.args)
        call = function.checked(Call(args, dict(rule.kwargs)))
        return function._body(*function._prefix, *call.args, **call.kwargs)

    return step


def _kind(path: str) -> int:
    """What is there, as ``stat.S_IFMT`` says it; 0: nothing. Links are not followed."""
    try:
        return stat.S_IFMT(os.lstat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return 0


def _unreadable(entry: Entry, slot: int) -> Later | Failed:
    """Somebody may be writing the slot just now; what stays so was damaged, or is not ours."""
    from manyhands.claims import why_unreadable

    if entry.unreadable < UNREADABLE_LOOKS:
        return Later(None, entry._replace(unreadable=entry.unreadable + 1), where=entry.log.final)
    path = entry.log.slot(slot)
    error = ManyhandsError(
        f"{path!r} stands for a claim of {os.path.basename(entry.log.final)!r}, and can't be read as one "
        f"({why_unreadable(path)}); when nobody works in that directory, call manyhands.gc(directory, now=True), "
        f"or remove the file if it is none of manyhands"
    )
    return Failed(error)


def _no_room(error: OSError, log: Log) -> Failed:
    full = OutputDirectoryError(
        error.errno, f"the output directory {log.home!r} can't be used: {error.strerror}"
    )
    full.__cause__ = error
    return Failed(full, traceback_text(error), halts=True)


def code_hash(function: Decorated[..., Any]) -> str:
    """Identifies the body's code, whatever file and line it stands in; "" for what is not Python."""
    body: Callable[..., Any] = function._body
    while not isinstance(body, types.FunctionType):
        inner = getattr(body, "func", None) or getattr(body, "__func__", None)
        if inner is None:
            return ""
        body = inner
    digest = blake2b(digest_size=8)
    _hash_code(body.__code__, digest)
    return digest.hexdigest()


def _hash_code(code: types.CodeType, digest: Any) -> None:
    digest.update(code.co_code)
    digest.update(repr((code.co_names, code.co_varnames, code.co_freevars)).encode())
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            _hash_code(constant, digest)
        elif isinstance(constant, frozenset):  # its order differs from process to process
            digest.update(repr(sorted(map(repr, constant))).encode())
        else:
            digest.update(repr(constant).encode("utf-8", "surrogatepass"))

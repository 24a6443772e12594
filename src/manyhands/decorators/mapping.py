"""Starting a map: items become calls, and a stream, a gate and a runner are put together for them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence, Sized
from itertools import count, islice, repeat
from operator import is_
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from manyhands.calls import Call, Done, Failed, add_note, short_repr, traceback_text
from manyhands.decorators.decorated import Decorated
from manyhands.decorators.task import current_directory
from manyhands.decorators.work import Work, goes_plain
from manyhands.errors import ClaimedElsewhere, PoolClosed
from manyhands.handler.checking import checking
from manyhands.handler.gate import Gate, OpenGate
from manyhands.handler.progress import is_shown, meter_for
from manyhands.handler.pump import LEAST_BUFFER, Halted, Observer, Plain, Prepare, Pump, Sift
from manyhands.handler.results import Results
from manyhands.handler.runner import InlineRunner, Runner
from manyhands.handler.stream import Stream
from manyhands.handler.walking import WalkingPump
from manyhands.outcome import Failure, Outcome, explain, placed
from manyhands.policies.parameters import name_of
from manyhands.policies.star import CallText, StarRule
from manyhands.policies.validation import Refused, ResultCheck, answers, checked
from manyhands.settings import (
    MapOptions,
    current_clock,
    current_rehearsal,
    is_dask,
    is_foreign,
    is_here,
    resolve_workers,
)
from manyhands.workers.contexts import InContext, captured, within_context
from manyhands.workers.place import in_task, own_name

if TYPE_CHECKING:
    from manyhands.controller.dispatcher import Dispatcher
    from manyhands.decorators.listed import ListedOutputs
    from manyhands.handler.recorder import Recorder
    from manyhands.workers.payload import Large

T = TypeVar("T")

_INLINE: Final = MapOptions(backend="inline")

_LISTED_MAX: Final = 2_000_000
"""Of claimed items; longer sequences are not gone through beforehand, but drawn from as iterators are."""


def start_map(
    function: Decorated[..., Any],
    items: Iterable[Any],
    rule: StarRule,
    options: MapOptions,
    total: int | None,
    runner: Runner | None = None,
    observer: Observer | None = None,
    naming: Callable[[Failure], str] | None = None,
) -> Results[Any]:
    """A map in motion; raises what is wrong with it before any work starts, as far as that can be known.

    Args:
        function: what is mapped.
        items: over these.
        rule: how they become calls.
        options: of the map.
        total: how many items there are; None: if they tell.
        runner: runs the calls; None: one that fits the options.
        observer: is told of what happens; None: one that fits the options.
        naming: what a note says that an error gets: which item of which call failed; None: by its index.
    """
    if not isinstance(items, Iterable):
        raise TypeError(f"{name_of(function)}.map takes an iterable of items, not {short_repr(items)}")
    if total is None and isinstance(items, Sized):
        try:
            total = len(items)
        except OverflowError:  # a range may be longer than that
            pass
    if total is not None and (not isinstance(total, int) or isinstance(total, bool) or total < 0):
        raise ValueError(f"total must be a number of items, 0 or more, or None; not {total!r}")
    # No subclass: its iteration may wait, or raise.
    ready = type(items) in (list, tuple, range)
    source: Any = items if ready else iter(items)
    gate = gate_for(function)
    prepare = preparation(function, rule, discards=True)
    is_claimed = function.task.claim is not None
    is_endless = is_claimed and ready and _is_long(source)
    if is_claimed and ready and not is_endless:
        source = list(source) if isinstance(source, list) else source  # it is gone through again and again
        outputs = _listed_outputs(function, source, rule, prepare, gate)
    else:
        outputs = None
    is_checked = is_endless or (outputs is not None and outputs.are_distinct)
    if isinstance(items, list | tuple | range) and options.on_error == "raise" and not is_checked:
        _check_items(function, items, rule, prepare, gate)
    shows = observer is None and is_shown(options.progress)
    runner = runner or start_runner(function, options, discards=True, rule=rule)
    recorder = recorder_for(function, options, total, runner)
    if shows:
        observer = observer_for(function, options, total, runner.capacity)
    observer = joined(observer, recorder)
    inline = isinstance(runner, InlineRunner)
    runner = with_checks(function, runner, discards=True)
    pump = _pump(function, source, rule, options, prepare, runner, gate, observer, outputs, inline)
    if recorder is not None:
        recorder.given = pump.stream.given
    results: Results[Any] = Results(pump, options.on_error, name_of(function), total, naming, recorder)
    # A generator may be slow, or wait for what its consumer does: draw no more of it than gets everybody going.
    results.start(0 if inline else pump.stream.buffersize if ready else runner.capacity)
    return results


def _pump(
    function: Decorated[..., Any],
    source: Any,
    rule: StarRule,
    options: MapOptions,
    prepare: Prepare,
    runner: Runner,
    gate: Gate,
    observer: Observer | None,
    outputs: ListedOutputs | None,
    inline: bool,
) -> Pump:
    """What moves the items: along a walk where their outputs are listed."""
    stream = Stream(
        # Inline nothing runs ahead, so nothing needs to be drawn ahead.
        buffersize=options.buffersize or (1 if inline and function.task.claim is None else LEAST_BUFFER),
        ordered=options.ordered and outputs is None,
        budgets=function.task.retries,
    )
    if outputs is not None:
        return WalkingPump(
            source,
            outputs.walk(options.ordered, options.buffersize or LEAST_BUFFER),
            outputs,
            prepare,
            stream,
            runner,
            gate,
            observer,
            ahead=not inline,
            buffersize=options.buffersize,
            clock=current_clock(),
        )
    return Pump(
        source,
        prepare,
        stream,
        runner,
        gate,
        observer,
        plain=_plain_items(rule) if goes_plain(function, rule) else None,
        sift=_sift(function, rule, prepare, discards=True),
        remake=preparation(function, rule, discards=True, checks=False),
        adapts=options.buffersize is None and not inline,
        clock=current_clock(),
    )


def _is_long(items: Sequence[Any]) -> bool:
    try:
        return len(items) > _LISTED_MAX
    except OverflowError:  # a range may be longer than that
        return True


def _listed_outputs(
    function: Decorated[..., Any], items: Sequence[Any], rule: StarRule, prepare: Prepare, gate: Gate
) -> ListedOutputs:
    """The outputs of a list of items, which are claimed."""
    from manyhands.decorators.gate import ClaimGate
    from manyhands.decorators.listed import ListedOutputs

    assert isinstance(gate, ClaimGate)
    return ListedOutputs(function, items, rule, prepare, gate)


def call_here(function: Decorated[..., Any], call: Call) -> Done[Any] | Failed:
    """One call in this thread, through the same stream as a map."""
    gate = gate_for(function)
    item, rule = StarRule.of_call(call)
    prepare = preparation(function, rule, discards=False)
    runner = with_checks(function, start_runner(function, _INLINE, discards=False), discards=False)
    stream = Stream(buffersize=1, budgets=function.task.retries)
    pump = Pump(iter([item]), prepare, stream, runner, gate, clock=current_clock())
    where = f"in a call of {CallText(function, call.args, call.kwargs)}"
    try:
        outcome = pump.next_outcome()
    except Halted as halted:
        explain(halted.failed.error, halted.failed.traceback, where)
        return halted.failed
    finally:
        pump.close()
    assert isinstance(outcome, Outcome)
    if outcome.failure is not None:
        failure = outcome.failure
        explain(failure.error, failure.traceback, placed(where, outcome.attempts, ""), outcome.attempts)
        return Failed(failure.error)
    if outcome.elsewhere is not None:
        return Failed(ClaimedElsewhere(f"another process is computing {outcome.elsewhere.path!r}"))
    return Done(outcome.value)


def gate_for(function: Decorated[..., Any], directory: Path | None = None) -> Gate:
    """The gate of a map that starts now, in this directory if in no other."""
    if function.task.claim is not None:
        from manyhands.decorators.gate import ClaimGate

        return ClaimGate(function, directory or current_directory())
    if function._parameters.output is not None:
        raise TypeError(f"{name_of(function)} declares OUTPUT, but has no @claimed_output to fill it in")
    return OpenGate()


def preparation(function: Decorated[..., Any], rule: StarRule, discards: bool, checks: bool = True) -> Prepare:
    """Makes calls of items and, if ``checks``, validates their arguments, in the parent, before anything is sent."""
    validation = function.task.validation
    checks = checks and validation is not None and validation.checks_arguments("parent")
    discards = discards and validation is not None and validation.invalid == "discard"
    if function._annotations is not None:
        function._annotations.compile(len(function._prefix))  # raises here what is wrong with them

    def prepare(index: int, item: Any) -> Call | Failed:
        try:
            call = rule.call(index, item)
            if checks:
                call = function.checked(call)
        except Refused as refused:
            return Failed(refused.error, discard=discards)
        except Exception as error:  # a predicate, or an item's own iteration, may raise anything
            return Failed(error, traceback_text(error))
        return call

    return prepare


def _plain_items(rule: StarRule) -> Plain:
    """Which items can be called as they are: with ``star``, what is taken apart must be a sequence already."""
    if rule.star:
        return lambda items: all(type(item) in (tuple, list) for item in items)
    return lambda _: True


def _sift(function: Decorated[..., Any], rule: StarRule, prepare: Prepare, discards: bool) -> Sift | None:
    """What is wrong with the arguments of items; nothing can be where nothing is checked."""
    validation = function.task.validation
    if validation is None or not validation.checks_arguments("parent"):
        return None
    check = validation.item_check(rule, function._parameters, function._prefix)
    discards = discards and validation.invalid == "discard"
    judge = validation.judge_arguments

    def prepared(index: int, item: Any) -> Failed | Call | None:
        call = prepare(index, item)
        return call if isinstance(call, Failed) or _is_converted(call, item, rule) else None

    def refusal(index: int, item: Any, answer: Any) -> Failed | None:
        try:
            judge(answer, lambda: function.bind_arguments(rule.call(index, item)))
        except Refused as refused:
            return Failed(refused.error, discard=discards)
        except Exception as error:
            return Failed(error, traceback_text(error))
        return None

    def sift(first: int, items: Sequence[Any]) -> list[Failed | Call | None] | None:
        if check is None:
            return list(map(prepared, count(first), items))
        told = answers(check, items)
        if all(map(is_, told, repeat(True))):
            return None
        return [
            None if answer is True else refusal(first + at, items[at], answer) for at, answer in enumerate(told)
        ]

    return sift


def _is_converted(call: Call, item: Any, rule: StarRule) -> bool:
    """Whether the call has other arguments than the item and the rule give it."""
    own = () if rule.star is None else item if rule.star else (item,)
    same = all(map(is_, call.args, (*own, *rule.args)))
    return not same or any(call.kwargs.get(name) is not value for name, value in rule.kwargs.items())


def start_runner(
    function: Decorated[..., Any], options: MapOptions, discards: bool, rule: StarRule | None = None
) -> Runner:
    """Who runs the calls of a map with these options; raises TypeError if the function can't be sent."""
    work = Work(function, discards, rule)
    rehearsal = current_rehearsal()
    if rehearsal is not None:
        return InlineRunner(work, rehearsal.sleep, own_name())
    if options.backend == "inline" or in_task():  # a map inside a task takes no more than its worker
        return InlineRunner(work, name=own_name())
    if options.backend == "threads":
        from manyhands.handler.threads import ThreadRunner

        return ThreadRunner(
            within_context(work), resolve_workers(options.workers) * options.threads, own_name()
        )
    if is_foreign(options.backend):
        return _foreign_runner(function, work, options, rule)
    from manyhands.controller.session import CallForm

    blob = packed_work(function, work)
    chunksize = None if options.chunksize == "auto" else options.chunksize
    keeps = function.task.claim is not None  # files, and they are to be closed when the map has ended
    shortened = rule.shortened if rule is not None and rule.has_fixed else None
    form = CallForm(options.readonly, shortened)
    return open_pool(
        options,
        lambda pool: pool.open_session(
            blob, chunksize, options.timeout, keeps, form=form, name=name_of(function)
        ),
    )


def _foreign_runner(
    function: Decorated[..., Any], work: Work, options: MapOptions, rule: StarRule | None
) -> Runner:
    """Who runs the calls of a map on somebody else's executor."""
    from manyhands.handler.engines import FarEngine, ThreadsEngine
    from manyhands.handler.executors import ExecutorRunner

    backend, tidy = options.backend, function.task.claim is not None
    chunksize = None if options.chunksize == "auto" else options.chunksize
    # Where nothing but values is asked for, somebody might wait for ever for the next one.
    halts = options.on_error == "skip"
    if is_here(backend):
        return ExecutorRunner(ThreadsEngine(backend, within_context(work), options.workers), chunksize, halts)
    packed = packed_work(function, work)
    shortened = rule.shortened if rule is not None and rule.has_fixed else None
    if not is_dask(backend):
        return ExecutorRunner(FarEngine(backend, packed, tidy, options.workers), chunksize, halts, shortened)
    from manyhands.handler.dask import DaskEngine, client_at

    client = client_at(backend) if isinstance(backend, str) else backend
    engine = DaskEngine(client, packed, tidy, options.workers, getattr(function, "__name__", "call"))
    return ExecutorRunner(engine, chunksize, True, shortened)


def with_checks(function: Decorated[..., Any], runner: Runner, discards: bool) -> Runner:
    """The runner, with the checks of results that are to be done in the parent."""
    validation = function.task.validation
    if validation is None or not validation.checks_result("parent"):
        return runner
    check: Callable[[Any], Any] = function.checked_result
    if not validation.annotations and validation.result is not None:
        check = checked(lambda value: value, after=ResultCheck(validation.result))  # a shorter way to the same
    return checking(runner, check, Work(function, discards).failed)


def packed_work(function: Decorated[..., Any], work: Work) -> bytes | Large:
    """What workers load; raises TypeError if the function can't be sent."""
    from manyhands.workers import payload

    try:
        blob = payload.packed(work)
        settings = captured()  # once what the function uses has its names
        return payload.packed(InContext(work, settings)) if settings else blob
    except Exception as error:
        from manyhands.policies.culprit import culprit

        why = "; ".join(filter(None, (str(error), culprit(function._body, payload.packed))))
        raise TypeError(f"{name_of(function)} can't be sent to a worker process: {why}") from error


def open_pool(options: MapOptions, share: Callable[[Dispatcher], T]) -> T:
    """What ``share`` makes with the pool that these options ask for."""
    from manyhands.controller.pool import Controller, shared

    if isinstance(options.backend, Controller):
        return share(options.backend.dispatcher)
    while True:
        try:
            return share(shared(options.pool()))
        except PoolClosed:
            continue  # it has just ended for want of work; there is a new one now


def _check_items(
    function: Decorated[..., Any], items: Sequence[Any], rule: StarRule, prepare: Prepare, gate: Gate
) -> None:
    """Raises for the first item that does not fit its rule, or has no output of its own."""
    if rule.trivial and isinstance(gate, OpenGate):
        items = list(islice(items, 1))  # the others fit if this one does
    for index, item in enumerate(items):
        if rule.uses_up(item):
            continue  # it can be looked at only once, when it is called
        error = _refusal(function, index, item, rule, prepare, gate)
        if error is not None:
            add_note(error, f"in {name_of(function)}, item {index}: {short_repr(item)}; nothing was started")
            raise error


def _refusal(
    function: Decorated[..., Any], index: int, item: Any, rule: StarRule, prepare: Prepare, gate: Gate
) -> BaseException | None:
    if isinstance(gate, OpenGate):
        try:
            function.check_call(rule.call(index, item))
        except Exception as error:  # an item's own iteration may raise anything
            return error
        return None
    call = prepare(index, item)
    if isinstance(call, Failed):
        return None if call.discard else call.error
    return gate.refusal(index, call)  # type: ignore[attr-defined, no-any-return]  # pyright: ignore[reportAttributeAccessIssue]


def observer_for(
    function: Decorated[..., Any], options: MapOptions, total: int | None, capacity: int
) -> Observer | None:
    """Who is told of what happens to a map with these options, of which so many calls can run at a time."""
    rows = capacity if options.worker_bars else 0
    return meter_for(options.progress, name_of(function), total, rows=rows, clock=current_clock())


def recorder_for(
    function: Decorated[..., Any], options: MapOptions, total: int | None, runner: Runner
) -> Recorder | None:
    """Who takes down what a map with these options does; raises OSError if it can't write where it is to."""
    if options.record is False and options.trace is None:
        return None
    from manyhands.handler.recorder import Recorder

    directory = None if isinstance(options.record, bool) else options.record
    try:
        return Recorder(name_of(function), runner.capacity, total, directory, options.trace)
    except BaseException:
        runner.close()
        raise


def joined(observer: Observer | None, recorder: Recorder | None) -> Observer | None:
    """Both, as one."""
    if observer is None or recorder is None:
        return observer or recorder
    from manyhands.handler.recorder import Observers

    return Observers((observer, recorder))

"""Tracebacks as users want them: their own frames, none of ours before those, and across processes.

Python pickles no traceback, nor what an exception was caused by. A ``Trace`` is what a worker sends of both; in the
parent the exception gets them back, so that it is shown, and looked at in a debugger, as if it had been raised there.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import lru_cache
from itertools import islice
from types import CodeType, FrameType, FunctionType, TracebackType
from typing import Final, NamedTuple

from manyhands.errors import ManyhandsError

_MOST_PLACES: Final = 2000  # of one traceback, half of them its last
_MOST_LINKS: Final = 20  # of a chain of causes

_OURS: Final = tuple(
    f"manyhands.{room}."
    for room in ("workers", "decorators", "handler", "controller", "policies", "compat", "memory", "claims")
)


class Place(NamedTuple):
    """A line of a traceback.

    Attributes:
        file: of the code.
        module: the name of its module.
        name: of the function, qualified.
        first: the line in which the function begins.
        span: first and last line, first and last column of what was being computed; None where Python does not tell.
    """

    file: str
    module: str
    name: str
    first: int
    span: tuple[int, int, int | None, int | None]


class Trace(NamedTuple):
    """What an exception loses when it is pickled.

    Attributes:
        places: its traceback, outermost first.
        cause: what it was raised from, and the trace of that.
        context: what was being handled, likewise, if that is to be shown.
        parts: the traces of the exceptions of a group.
    """

    places: tuple[Place, ...] = ()
    cause: tuple[BaseException, Trace] | None = None
    context: tuple[BaseException, Trace] | None = None
    parts: tuple[Trace, ...] = ()

    def __reduce__(self) -> tuple[object, ...]:
        return Trace, tuple(self)


def trace_of(
    error: BaseException, carried: Callable[[BaseException], BaseException], links: int = _MOST_LINKS
) -> Trace:
    """What ``error`` loses when it is pickled.

    Args:
        error: as it was caught.
        carried: gives what stands for a cause in another process.
        links: how many causes of causes there may be.
    """

    def link(other: BaseException | None) -> tuple[BaseException, Trace] | None:
        if other is None or not links:
            return None
        return carried(other), trace_of(other, carried, links - 1)

    is_shown = error.__cause__ is None and not error.__suppress_context__
    parts = error.exceptions if isinstance(error, BaseExceptionGroup) and links else ()
    return Trace(
        _places(error.__traceback__),
        link(error.__cause__),
        link(error.__context__) if is_shown else None,
        tuple(trace_of(part, carried, links - 1) for part in parts),
    )


def restore(error: BaseException, trace: Trace) -> None:
    """Gives ``error`` back what it has lost."""
    error.with_traceback(_traceback(trace.places))
    # Past a __setattr__ of its own: that of a frozen dataclass, say.
    for name, link in (("__cause__", trace.cause), ("__context__", trace.context)):
        if link is not None:
            restore(*link)
            BaseException.__setattr__(error, name, link[0])
    if isinstance(error, BaseExceptionGroup):
        for part, lost in zip(error.exceptions, trace.parts, strict=False):
            restore(part, lost)


def users_frames(traceback: TracebackType | None) -> TracebackType | None:
    """The traceback without frames of ours that lead to frames of the user's.

    Those that come last stay: they tell who raised it.
    """
    entries = _users_entries(traceback)
    found: TracebackType | None = None
    for entry in reversed(entries):
        found = TracebackType(found, entry.tb_frame, entry.tb_lasti, entry.tb_lineno)
    return found


def hide_frames(error: BaseException) -> None:
    """Leaves of the traceback what ``users_frames`` does, without the frame that catches ``error`` and calls this.

    To be followed by a bare ``raise``: then the user's call of us is followed by what the user's function did. Errors
    of this library that no function of the user's raised have no frames of ours at all, nor have interrupts: where we
    were waiting says nothing.
    """
    own = error.__traceback__
    frames = users_frames(own.tb_next) if own is not None else None
    if isinstance(error, ManyhandsError | KeyboardInterrupt) and frames is not None and _is_ours(frames):
        frames = None
    error.with_traceback(frames)


def _users_entries(traceback: TracebackType | None) -> list[TracebackType]:
    entries: list[TracebackType] = []
    while traceback is not None:
        entries.append(traceback)
        traceback = traceback.tb_next
    is_ours = [_is_ours(entry) for entry in entries]
    last = max((place for place, ours in enumerate(is_ours) if not ours), default=-1)
    return [entry for place, entry in enumerate(entries) if place > last or not is_ours[place]]


def _is_ours(entry: TracebackType) -> bool:
    return _module(entry.tb_frame).startswith(_OURS)


def _module(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__"))


def _places(traceback: TracebackType | None) -> tuple[Place, ...]:
    entries = _users_entries(traceback)
    if len(entries) > _MOST_PLACES:
        entries = entries[: _MOST_PLACES // 2] + entries[-_MOST_PLACES // 2 :]
    known: dict[Place, Place] = {}  # of a recursion only one is sent
    places = map(_place, entries)
    return tuple(known.setdefault(place, place) for place in places)


def _place(entry: TracebackType) -> Place:
    code = entry.tb_frame.f_code
    line, end, begin, stop = next(
        islice(code.co_positions(), max(0, entry.tb_lasti) // 2, None), (None, None, None, None)
    )
    if line is None or end is None:
        line = end = entry.tb_lineno or code.co_firstlineno
        begin = stop = None
    name = code.co_qualname
    return Place(code.co_filename, _module(entry.tb_frame), name, code.co_firstlineno, (line, end, begin, stop))


def _traceback(places: tuple[Place, ...]) -> TracebackType | None:
    found: TracebackType | None = None
    for place in reversed(places):
        frame, step = _frame(place)
        found = TracebackType(found, frame, step, place.span[0])
    return found


@lru_cache(1024)
def _frame(place: Place) -> tuple[FrameType, int]:
    """A frame that looks as if it were at this place, and the index of the instruction that is there.

    It is that of a generator that has ended in that line, which some ask the frame for rather than its traceback.
    Nothing of the user's has run, no breakpoint is met and no line is counted.
    """
    code = _code(place)
    line = place.span[0]
    lines = [span[0] for span in code.co_positions()]
    step = 2 * max((step for step, at in enumerate(lines) if at == line), default=0)
    module = sys.modules.get(place.module)
    # With the module's own names a debugger can look around there.
    own = getattr(module, "__dict__", {"__name__": place.module, "__file__": place.file})
    generator = FunctionType(code, own)()
    frame: FrameType = generator.gi_frame
    tracer, profiler = sys.gettrace(), sys.getprofile()
    sys.settrace(None)
    sys.setprofile(None)
    try:
        next(generator)
        generator.close()
    finally:
        sys.setprofile(profiler)
        sys.settrace(tracer)
    return frame, step


def _code(place: Place) -> CodeType:
    """The code of a generator function of this name, with one instruction of interest, at this place."""
    import ast  # slow to import, and only errors need it

    line, end, begin, stop = place.span
    first = max(1, min(place.first, line))
    tree = ast.parse("def function():\n    yield")
    function = tree.body[0]
    assert isinstance(function, ast.FunctionDef)
    (step,) = function.body
    assert isinstance(step, ast.Expr)
    for node in (step, step.value):
        # As if the function began in line 1, since lines count from its first.
        node.lineno, node.end_lineno = line - first + 1, max(line, end) - first + 1
        node.col_offset, node.end_col_offset = begin or 0, stop or 0
    module = compile(tree, place.file, "exec", dont_inherit=True)
    code = next(const for const in module.co_consts if isinstance(const, CodeType))
    return code.replace(
        co_name=place.name.rpartition(".")[2],
        co_qualname=place.name,
        co_firstlineno=first,
        co_filename=place.file,
    )

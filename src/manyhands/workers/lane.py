"""One thread of a worker that runs calls: marks what it is at, and answers in runs.

A run is sent when the calls that it holds took ``FLUSH_SECONDS`` together, so slow calls are answered one by one
and fast ones cost next to nothing. What remains of a piece that goes on for ``SLOW_SECONDS`` is handed back, so that
others can take part in it. Should a slow call follow fast ones, the ``Flusher`` sends what they returned, and hands
back what waits behind it.

A result that is not a plain number, text or the like is pickled before the next call begins, which may change it.
"""

from __future__ import annotations

import os
import pickle
import threading
from collections.abc import Callable, Iterator
from time import perf_counter as clock
from typing import TYPE_CHECKING, Any, Final, Protocol

from manyhands.calls import Answer, Done, Failed, traceback_text
from manyhands.workers import payload
from manyhands.workers.channel import (
    ANSWERED,
    CALLS,
    HANDED_BACK,
    PROMPT,
    RETURNED,
    WATCH,
    WHOLE,
    Frame,
)
from manyhands.workers.marker import NOTHING, Marker
from manyhands.workers.parcel import ATOMIC, ATOMS, EACH, ONE, STORED, unpack
from manyhands.workers.payload import LARGE
from manyhands.workers.spin import SPIN_SECONDS

if TYPE_CHECKING:
    from manyhands.workers.flusher import Flusher
    from manyhands.workers.shared import SharedMemory

FLUSH_SECONDS: Final = 0.1
SLOW_SECONDS: Final = 0.25
PROMPT_PART: Final = 1 / 20
"""Of both, where each answer is waited for by itself."""

_LONG: Final = frozenset({str, bytes})
"""Atoms that may be large."""

_MUCH: Final = 1 << 14
"""Results of a piece that are so many bytes are sent before the next piece: the parent can unpickle them meanwhile."""

_TINY_SECONDS: Final = 20e-6
_SEVERAL: Final = 128
"""The clock is read after so many calls, where they are as short as that."""


class Check(Protocol):
    """What looks at each item of a work, or at each result.

    Attributes:
        predicate: True keeps it; anything else it says, or raises, is for the other two.
    """

    predicate: Callable[[Any], Any]

    def judge(self, value: Any, answer: Any) -> None:
        """Raises, unless that answer keeps the value all the same."""
        ...

    def explain(self, error: Exception) -> None:
        """Says in a note of what the predicate raised where that was."""
        ...


class Work(Protocol):
    """What a parent's session loads into workers.

    Attributes:
        plain: called with an item of a block, it returns the result or raises; None: there are no blocks.
        unchecked: ``plain`` without its checks, and those of items and of results; None: it has none.
    """

    plain: Callable[[Any], Any] | None
    unchecked: tuple[Callable[[Any], Any], Check | None, Check | None] | None

    def __call__(self, call: Any) -> Answer:
        """One attempt at a ``Call``."""
        ...

    def failed(self, error: Exception) -> Failed:
        """What ``plain`` raised, as an answer."""
        ...


class Lane:
    """One thread of a worker.

    Args:
        number: counts from 0.
        marker: shared with the parent.
        send: sends frames.
        flusher: looks after results that wait while a call runs.
        shared: where large values come from and go to; None: they go as others do.
    """

    def __init__(
        self,
        number: int,
        marker: Marker,
        send: Callable[..., None],
        flusher: Flusher | None = None,
        shared: SharedMemory | None = None,
    ) -> None:
        self._marker = marker
        self._numbers = marker.numbers
        self._at = 2 * number + 2
        self._send = send
        self._flusher = flusher
        self._shared = shared
        self._out: list[Frame] = []
        self._due = 0.0
        self.sends = 0
        self.was_quick = False  # whether the last piece was shorter than it takes to be woken for another
        self._several = 1  # calls between two looks at the clock
        self._kind: type = int  # of the last value that was an atom
        self._unchecked: tuple[Callable[[Any], Any], Check | None, Check | None] | None = None  # of the piece
        # The open run of plain values. The flusher may take from its front while the lane adds to its end.
        self._values: list[Any] = []
        self._first = 0
        self._begun = 0.0
        self._before = 0.0  # when the last call had ended, or the clock was read after it
        # The open run of pickles.
        self._pickles: list[bytes] = []
        self._first_pickle = 0
        self._took = self._last_took = 0.0
        self._pickled = 0.0  # when the last of them had been
        self._ticket = NOTHING
        # The piece that runs, and what is left of it. Whoever makes a list of that has taken it: one step of the
        # interpreter, so the lane and the flusher never take the same call.
        self._held: tuple[Frame | None, Iterator[Any]] = None, iter(())
        self.part = 1.0  # of FLUSH_SECONDS and SLOW_SECONDS, as the piece wants it
        self._in_fork = False
        self._lock = threading.Lock()  # over all of these, except for adding a value

    def refuse(self, piece: Frame) -> None:
        """Hands a RUN frame back, unbegun."""
        self._hand_back(piece, piece.begin, piece.end - piece.begin)

    def run(self, piece: Frame, work: Work | Failed, go_home: Callable[[], object] = lambda: None) -> None:
        """Runs the calls of a RUN frame. Its answers are sent at once, or by a later ``run`` or ``push``.

        Args:
            piece: the frame.
            work: what the calls are of, or why they can't run.
            go_home: called after each call (where they are tiny, after some), which may have changed the directory.
        """
        numbers, at = self._numbers, self._at
        if piece.epoch < numbers[0] or self._marker.full:
            self.refuse(piece)
            return
        numbers[at + 1] = piece.begin
        numbers[at] = self._ticket = piece.ticket
        try:
            requests, pickled = unpack(piece.form, piece.body)
            if isinstance(work, Failed):
                for position in range(piece.begin, piece.end):
                    self._answer(position, work, 0.0, clock())
                return
            plain = work.plain
            if piece.flags & CALLS or plain is None:
                step: Callable[[Any], Any] = self._unwrapped(work)
            else:
                step = plain
            if piece.form == STORED and self._shared is not None:
                step = self._shared.opening(step)
            elif pickled:
                step = _opened(step)
            self._unchecked = work.unchecked if step is plain else None
            self._held = piece, iter(requests)
            self.part = PROMPT_PART if piece.flags & PROMPT else 1.0
            if self._flusher is not None and (piece.flags & WATCH or len(requests) > 1 or self._out):
                self._flusher.attend()
            self._run(piece, step, work, go_home)
        finally:
            numbers[at] = self._ticket = NOTHING
            self._held = None, iter(())

    def _run(self, piece: Frame, step: Callable[[Any], Any], work: Work, go_home: Callable[[], object]) -> None:
        numbers, place, several = self._numbers, self._at + 1, self._several
        requests = self._held[1]
        at = piece.begin - 1
        self._first = piece.begin
        begin = self._begun = self._before = clock()
        flush = FLUSH_SECONDS * self.part
        due = self._due if self._out else begin + flush
        while True:
            try:
                if several > 1 and self._unchecked is not None:
                    ended = self._call_several_checked(at + 1, at + several, requests, *self._unchecked)
                elif several > 1:
                    ended = self._call_several(at + 1, at + several, requests, step)
                else:
                    ended = self._call_each(at + 1, piece, requests, step, go_home, due)
            except BaseException as error:
                self._end_fork()
                now = self._raised(error, work)
            else:
                if ended:
                    self._end_fork()
                    break
                now = clock()
            at = numbers[place]
            go_home()
            if now >= due or numbers[0] > piece.epoch:
                self._flush(now, now - self._before)
                due = now + flush
                if self._leaves(piece, at + 1, now - begin):
                    return
                now = clock()
            self._before = now
        now = clock()
        # Of a run that is short as a whole, each call is taken to have had the same share.
        self._close_runs(now, None)
        self.was_quick = now - begin < SPIN_SECONDS
        self._several = _SEVERAL if now - begin < _TINY_SECONDS * (numbers[place] + 1 - piece.begin) else 1
        self._due = due
        if sum([len(frame.body) for frame in self._out]) > _MUCH:
            self.push()

    # These two return whether there are no more requests: these were all, or the flusher took the rest. The loop's
    # variable is the marker itself: what is done here for each call is what tiny ones cost.

    def _call_several(self, first: int, last: int, requests: Iterator[Any], step: Callable[[Any], Any]) -> bool:
        """Some calls, without a look at the clock."""
        numbers, place, values, kind = self._numbers, self._at + 1, self._values, self._kind
        for numbers[place], request in zip(range(first, last + 1), requests, strict=False):
            value = step(request)
            if type(value) is kind:
                values.append(value)
            else:
                kind = self._kind = self._take(value)
                value = None
        return numbers[place] < last

    def _call_several_checked(
        self,
        first: int,
        last: int,
        requests: Iterator[Any],
        step: Callable[[Any], Any],
        before: Check | None,
        after: Check | None,
    ) -> bool:
        """As ``_call_several``. Were the checks within ``step``, they would cost as much again."""
        numbers, place, values, kind = self._numbers, self._at + 1, self._values, self._kind
        fits = None if before is None else before.predicate
        keeps = None if after is None else after.predicate
        for numbers[place], request in zip(range(first, last + 1), requests, strict=False):
            if before is not None and fits is not None:
                try:
                    answer = fits(request)
                except Exception as error:
                    before.explain(error)
                    raise
                if answer is not True:
                    before.judge(request, answer)
            value = step(request)
            if after is not None and keeps is not None:
                try:
                    answer = keeps(value)
                except Exception as error:
                    after.explain(error)
                    raise
                if answer is not True:
                    after.judge(value, answer)
            if type(value) is kind:
                values.append(value)
            else:
                kind = self._kind = self._take(value)
                value = None
        return numbers[place] < last

    def _take(self, value: Any) -> type:
        """A result of another type than those before; returns what such a result is to be next time."""
        if _is_atom(value):
            self._values.append(value)
            return type(value)
        if not self._keep(self._numbers[self._at + 1], value):
            self.push()
        return self._kind

    def _call_each(
        self,
        first: int,
        piece: Frame,
        requests: Iterator[Any],
        step: Callable[[Any], Any],
        go_home: Callable[[], object],
        due: float,
    ) -> bool:
        """Calls with a look at the clock after each, until something is due."""
        numbers, place, epoch = self._numbers, self._at + 1, piece.epoch
        for numbers[place], request in zip(range(first, piece.end), requests, strict=False):
            value = step(request)
            if _is_atom(value) and not (type(value) in _LONG and len(value) >= LARGE):
                self._values.append(value)
            else:
                waits = self._keep(numbers[place], value)
                value = None  # it may be of the call's arguments, whose memory the parent can use again then
                if not waits:
                    self.push()
            now = clock()
            if now >= due or numbers[0] > epoch:
                return False
            self._before = now
            go_home()
        return True

    def _raised(self, error: BaseException, work: Work) -> float:
        """A call has; returns the time."""
        answer = _answer_to(error, work)
        now, at = clock(), self._numbers[self._at + 1]
        self._close_runs(self._before, None)
        self._answer(at, answer, now - self._before, now)
        self._first, self._begun = at + 1, now
        return now

    # -- in a process that a call has forked ----------------------------------------------------------------

    def forked(self) -> None:
        """In the child: what is left of the piece is the worker's to run, and so is its memory."""
        list(self._held[1])
        self._in_fork = True

    def _end_fork(self) -> None:
        if self._in_fork:
            os.write(2, b"a process that a call had forked came back from that call; it ends here\n")
            os._exit(1)

    # -- what goes out ------------------------------------------------------------------------------------

    def push(self) -> None:
        """Sends what waits."""
        if self._out:
            self._numbers[self._at] = NOTHING  # to wait for a reader is no call's fault
            with self._lock:
                self._send_out()
            self._numbers[self._at] = self._ticket

    # In the flusher's thread:

    @property
    def stretch(self) -> tuple[int, int] | None:
        """What tells the piece that runs from others; where it stays whole, the call. None if nothing runs."""
        ticket, piece = self._ticket, self._held[0]
        if ticket == NOTHING or piece is None:
            return None
        return ticket, self._numbers[self._at + 1] if piece.flags & WHOLE else piece.begin

    def flush_for(self) -> None:
        """Sends what calls returned before the one that runs."""
        with self._lock:
            if self._ticket != NOTHING:
                # The call that runs is not of the run: not its time, either. Only where the lane does not look at the
                # clock after each call it is not known when the last one ended.
                until = max(self._begun, self._before) if self._several == 1 else clock()
                self._close_run_of_values(until, None)
                self._close_run_of_pickles(None)
                self._send_out()

    def _send_out(self) -> None:
        """Under the lock."""
        out, self._out = self._out, []
        if out:
            self.sends += 1
            self._send(*out)

    def give_back(self) -> None:
        """Hands back what the piece that runs holds behind the call that runs."""
        piece, requests = self._held
        if piece is None or piece.flags & WHOLE:
            return
        taken = len(list(requests))
        if taken:
            self._send(handed_back(piece, piece.end - taken))

    def _flush(self, now: float, last: float) -> None:
        self._end_fork()
        self._close_runs(now, last)
        self.push()

    def _leaves(self, piece: Frame, position: int, seconds: float) -> bool:
        """Hands back what is left of a piece, if that is due; returns whether to leave it."""
        if (
            piece.epoch < self._numbers[0]
            or self._marker.full
            or (seconds > SLOW_SECONDS * self.part and not piece.flags & WHOLE)
        ):
            self._hand_back(piece, position, len(list(self._held[1])))
            return True
        return False

    def _hand_back(self, piece: Frame, position: int, calls: int) -> None:
        if calls:
            with self._lock:
                self._out.append(handed_back(piece, position, position + calls))
        self.push()

    def _keep(self, position: int, value: Any) -> bool:
        """A result that is no atom: pickled now, since the next call may change it. Returns whether it may wait."""
        self._end_fork()
        form = ONE
        try:
            blob = payload.packed(value)
        except BaseException as error:
            raise _NotReturned(Failed(payload.unsendable(value, error), traceback_text(error))) from None
        if isinstance(blob, payload.Large):
            form, blob = self._put(blob)
        now = clock()
        waits = form != STORED and len(blob) <= LARGE
        with self._lock:
            # The flusher may have sent what came before, with the time up to then.
            before = min(now, max(self._before, self._begun))
            self._close_run_of_values(before, None)
            self._first, self._begun = position + 1, now
            if not waits:
                self._close_run_of_pickles(None)
                self._returned(position, 1, form, blob, 0.0, now - before, now)
            else:
                if position != self._first_pickle + len(self._pickles):
                    self._close_run_of_pickles(None)
                if not self._pickles:
                    self._first_pickle = position
                self._pickles.append(blob)
                self._took += now - before
                self._last_took = now - before
                self._pickled = now
        self._before = now
        return waits

    def _put(self, large: payload.Large) -> tuple[int, bytes]:
        """Form and body of a frame with this value."""
        body = None if self._shared is None else self._shared.put(large)
        return (ONE, payload.whole(large)) if body is None else (STORED, body)

    def _answer(self, position: int, answer: Answer, seconds: float, at: float) -> None:
        form, body = ONE, payload.packed_answer(answer)
        if isinstance(body, payload.Large):
            form, body = self._put(body)
        with self._lock:
            self._out.append(
                Frame(
                    ANSWERED,
                    form,
                    ticket=self._ticket,
                    begin=position,
                    end=position + 1,
                    last=max(0.0, seconds),
                    at=at,
                    body=body,
                )
            )

    def _close_runs(self, now: float, last: float | None) -> None:
        with self._lock:
            self._close_run_of_values(now, last)
            self._close_run_of_pickles(last)

    def _close_run_of_values(self, now: float, last: float | None) -> None:
        """Up to now these calls returned, the last of them after ``last`` seconds; None: all had the same share."""
        count = len(self._values)
        if count:
            seconds = now - self._begun
            body = pickle.dumps(self._values[:count], protocol=5)
            if last is None:
                last = seconds / count
            self._returned(self._first, count, ATOMS, body, seconds - last, last, now)
            del self._values[:count]
            self._first += count
        self._begun = now

    def _close_run_of_pickles(self, last: float | None) -> None:
        count = len(self._pickles)
        if count:
            form, body = (
                (ONE, self._pickles[0]) if count == 1 else (EACH, pickle.dumps(self._pickles, protocol=5))
            )
            # Not what was told: that is since the clock was read when the last one was pickled.
            last = self._took / count if last is None else self._last_took
            self._returned(self._first_pickle, count, form, body, self._took - last, last, self._pickled)
            self._pickles.clear()
            self._took = 0.0

    def _returned(
        self, first: int, count: int, form: int, body: bytes, seconds: float, last: float, at: float
    ) -> None:
        self._out.append(
            Frame(
                RETURNED,
                form,
                ticket=self._ticket,
                begin=first,
                end=first + count,
                seconds=max(0.0, seconds),
                last=max(0.0, last),
                at=at,
                body=body,
            )
        )

    @staticmethod
    def _unwrapped(work: Work) -> Callable[[Any], Any]:
        """A step that returns the value of a call, or raises what else it came to."""

        def step(call: Any) -> Any:
            answer = work(call)
            if type(answer) is Done and answer.computed:
                return answer.value
            try:
                raise _NotReturned(answer)
            finally:
                # Or what it failed with would lead to itself, and to the arguments, until a collection.
                del answer

        return step


def _is_atom(value: Any) -> bool:
    try:
        return type(value) in ATOMIC
    except BaseException:  # the hash of its metaclass is the user's
        return False


def handed_back(piece: Frame, begin: int, end: int | None = None) -> Frame:
    """The frame that hands calls of a piece back."""
    return Frame(HANDED_BACK, ticket=piece.ticket, begin=begin, end=piece.end if end is None else end)


class _NotReturned(BaseException):
    """Carries what a call came to, if not to a value that can be sent; passes ``except Exception``."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer


def _answer_to(error: BaseException, work: Work) -> Answer:
    """What a call came to that raised this."""
    if isinstance(error, _NotReturned):
        return error.answer
    if isinstance(error, Exception):
        return work.failed(error)
    # sys.exit or KeyboardInterrupt in a task is that item's failure, and must not end the parent
    return Failed(payload.carried(error), traceback_text(error))


def _opened(step: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A step that takes its request as a pickle."""
    loads = pickle.loads
    return lambda blob: step(loads(blob))

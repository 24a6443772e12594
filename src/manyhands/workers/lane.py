"""One thread of a worker that runs calls: marks what it is at, and answers in runs.

A run is sent when the calls that it holds took ``FLUSH_SECONDS`` together, so slow calls are answered one by one
and fast ones cost next to nothing. What remains of a piece that goes on for ``SLOW_SECONDS`` is handed back, so
that others can take part in what turned out to be long.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from time import perf_counter as clock
from typing import Any, Final, Protocol

from manyhands.outcome import Answer, Done, Failed, traceback_text
from manyhands.workers import payload
from manyhands.workers.channel import ANSWERED, CALLS, HANDED_BACK, RETURNED, WHOLE, Frame
from manyhands.workers.marker import NOTHING, Marker
from manyhands.workers.parcel import ATOMS, EACH, ONE, atomic, unpack

FLUSH_SECONDS: Final = 0.005
SLOW_SECONDS: Final = 0.025

_LARGE: Final = 1 << 16
"""A result of more bytes is sent by itself, at once."""


class Work(Protocol):
    """What a parent's session loads into workers.

    Attributes:
        plain: called with an item of a block, it returns the result or raises; None: there are no blocks.
    """

    plain: Callable[[Any], Any] | None

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
    """

    def __init__(self, number: int, marker: Marker, send: Callable[..., None]) -> None:
        self._marker = marker
        self._numbers = marker.numbers
        self._at = 2 * number + 2
        self._send = send
        self._out: list[Frame] = []
        self._due = 0.0

    def run(self, piece: Frame, work: Work | Failed) -> None:
        """Runs the calls of a RUN frame. Its answers are sent at once, or by a later ``run`` or ``push``."""
        numbers, at = self._numbers, self._at
        if piece.epoch < numbers[0] or self._marker.full:
            self._hand_back(piece, piece.begin)
            return
        numbers[at + 1] = piece.begin
        numbers[at] = piece.ticket
        try:
            requests, pickled = unpack(piece.form, piece.body)
            if isinstance(work, Failed):
                for position in range(piece.begin, piece.end):
                    self._answer(piece, position, work, 0.0)
                return
            if piece.flags & CALLS:
                step = _opened(work) if pickled else work
            else:
                assert work.plain is not None
                step = _opened(work.plain) if pickled else work.plain
            self._run(piece, requests, step, work)
        finally:
            numbers[at] = NOTHING

    def _run(self, piece: Frame, requests: list[Any], step: Callable[[Any], Any], work: Work) -> None:
        numbers, place = self._numbers, self._at + 1
        answers = bool(piece.flags & CALLS)
        values: list[Any] = []
        append = values.append
        iterator = iter(requests)
        position = first = piece.begin
        start = before = begin = clock()
        due = self._due if self._out else start + FLUSH_SECONDS
        while True:
            answer: Answer
            try:
                for request in iterator:
                    numbers[place] = position
                    value = step(request)
                    if answers:
                        if type(value) is not Done or not value.computed:
                            answer = value
                            break
                        value = value.value
                    append(value)
                    position += 1
                    now = clock()
                    if now > due:
                        self._values(piece, first, values, before - start, now - before)
                        self.push()
                        first, start = position, clock()
                        due = start + FLUSH_SECONDS
                        values.clear()
                        if position < piece.end and self._leaves(piece, start - begin):
                            self._hand_back(piece, position)
                            return
                        now = start
                    before = now
                else:
                    break  # there is no more
            except Exception as error:
                answer = work.failed(error) if not answers else Failed(error, traceback_text(error))
            except BaseException as error:
                # sys.exit or KeyboardInterrupt in a task is that item's failure, and must not end the parent
                answer = Failed(payload.carried(error), traceback_text(error))
            now = clock()
            self._values(piece, first, values, before - start, 0.0)
            values.clear()
            self._answer(piece, position, answer, now - before)
            position += 1
            first, start = position, now
            before = now
            if now > due:
                self.push()
                due = now + FLUSH_SECONDS
                if position < piece.end and self._leaves(piece, now - begin):
                    self._hand_back(piece, position)
                    return
        if values:
            # Of a run that is short as a whole, each call is taken to have had the same share.
            share = (before - start) / len(values)
            self._values(piece, first, values, before - start - share, share)
        self._due = due

    def push(self) -> None:
        """Sends what waits."""
        if self._out:
            out, self._out = self._out, []
            ticket = self._numbers[self._at]
            self._numbers[self._at] = NOTHING  # to wait for a reader is no call's fault
            self._send(*out)
            self._numbers[self._at] = ticket

    def _leaves(self, piece: Frame, seconds: float) -> bool:
        """Whether the rest of a piece that has run for so long goes back."""
        if piece.epoch < self._numbers[0] or self._marker.full:
            return True
        return seconds > SLOW_SECONDS and not piece.flags & WHOLE

    def _hand_back(self, piece: Frame, position: int) -> None:
        self._out.append(
            Frame(HANDED_BACK, epoch=self._numbers[0], ticket=piece.ticket, begin=position, end=piece.end)
        )
        self.push()

    def _answer(self, piece: Frame, position: int, answer: Answer, seconds: float) -> None:
        self._numbers[self._at + 1] = position
        body = payload.dumps_answer(answer)
        self._out.append(
            Frame(
                ANSWERED,
                ticket=piece.ticket,
                begin=position,
                end=position + 1,
                last=seconds,
                body=body,
            )
        )

    def _values(self, piece: Frame, first: int, values: list[Any], seconds: float, last: float) -> None:
        """Notes that the calls from ``first`` on returned these values."""
        if not values:
            return
        if atomic(values):
            self._returned(piece, first, len(values), ATOMS, pickle.dumps(values, protocol=5), seconds, last)
            return
        share = seconds / max(1, len(values) - 1)
        pickles: list[bytes] = []
        for position, value in enumerate(values, first):
            self._numbers[self._at + 1] = position  # to pickle it may take long, or be the end
            took = last if position == first + len(values) - 1 else share
            try:
                blob = payload.dumps(value)
            except Exception as error:
                self._each(piece, position, pickles, share)
                failed = Failed(payload.unsendable(value, error), traceback_text(error))
                self._answer(piece, position, failed, took)
            except BaseException as error:
                self._each(piece, position, pickles, share)
                self._answer(piece, position, Failed(payload.carried(error), traceback_text(error)), took)
            else:
                if len(blob) > _LARGE:
                    self._each(piece, position, pickles, share)
                    self._returned(piece, position, 1, ONE, blob, 0.0, took)
                    self.push()
                else:
                    pickles.append(blob)
        if pickles:
            stop = first + len(values)
            self._each(piece, stop, pickles, share, last)

    def _each(
        self, piece: Frame, stop: int, pickles: list[bytes], share: float, last: float | None = None
    ) -> None:
        """Notes these pickled values of the calls before ``stop``, and forgets them."""
        if not pickles:
            return
        count = len(pickles)
        form, body = (ONE, pickles[0]) if count == 1 else (EACH, pickle.dumps(pickles, protocol=5))
        self._returned(
            piece, stop - count, count, form, body, share * (count - 1), share if last is None else last
        )
        pickles.clear()

    def _returned(
        self, piece: Frame, first: int, count: int, form: int, body: bytes, seconds: float, last: float
    ) -> None:
        self._out.append(
            Frame(
                RETURNED,
                form,
                ticket=piece.ticket,
                begin=first,
                end=first + count,
                seconds=max(0.0, seconds),
                last=max(0.0, last),
                body=body,
            )
        )


def _opened(step: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A step that takes its request as a pickle."""
    loads = pickle.loads
    return lambda blob: step(loads(blob))

"""The ledger of a pool: which worker has which calls, who gets the next one, and who is to blame.

It is pure: it has no clock, thread, process or file. Each method takes in what happened and returns what is
to be done about it. A ticket stands for some calls that were submitted together, known by their positions in it;
tickets (any increasing whole numbers) belong to groups: one group is one map. What is sent, answered or given back
is a *piece*: a stretch of one ticket. Its guarantees, whatever the order of events:

1. a submitted call is answered, told dead, told cancelled or told broken exactly once, unless its group was
   abandoned: then never again;
2. a call is with at most one worker at any moment, and goes to a second one only after the first has ended or
   has handed it back;
3. when a worker ends, only the call it was at is told dead or, if it was killed for calls, only those; what else
   it had not answered goes first again. Where several ran at once, each goes again with nothing beside it. A call
   that no worker began before it ended is at fault once START_ATTEMPTS workers that were set up have ended so;
4. the calls of a group are sent in the order of their submission, except for those; groups take turns;
5. no more than ``limit`` workers live at once, not counting those that are ending or finish abandoned calls.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto
from itertools import count
from typing import Final

from manyhands.controller.actions import (
    Action,
    KillWorker,
    Recall,
    SendCalls,
    StartWorker,
    StopWorker,
    TellBroken,
    TellCancelled,
    TellDied,
)
from manyhands.controller.hands import Hand, WorkerState
from manyhands.controller.pace import MOST, TARGET_SECONDS, Pace
from manyhands.controller.pieces import Piece
from manyhands.controller.queues import Queues
from manyhands.workers.marker import LOADING

START_ATTEMPTS: Final = 3
"""After so many workers in a row that ended before they were ready, the pool gives up."""


_ENDS: Final = (WorkerState.LOST, WorkerState.ENDING)


class PoolState(Enum):
    """Where the pool is in its life."""

    OPEN = auto()
    BROKEN = auto()
    CLOSED = auto()


@dataclass(slots=True)
class _Ticket:
    group: int
    left: int  # calls that have not ended


class Ledger:
    """The state of one pool.

    Args:
        limit: how many workers it may have.
        threads: how many calls run in each at the same time.
        max_tasks: calls after which a worker is replaced; None: never.
        numbers: of the workers; no two get the same.
    """

    def __init__(
        self,
        limit: int,
        threads: int = 1,
        max_tasks: int | None = None,
        numbers: Iterator[int] | None = None,
    ) -> None:
        self.limit = limit
        self.threads = threads
        self.max_tasks = max_tasks
        self.state = PoolState.OPEN
        self._numbers = count() if numbers is None else numbers
        self._spare: deque[int] = deque()  # numbers that were given, and to no process
        self._workers: dict[int, Hand] = {}
        self._queues = Queues()
        self._tickets: dict[int, _Ticket] = {}
        self._failed_starts = 0
        self._dropped: list[Action] = []  # what ``proceed`` is to tell
        self._unbegun: dict[tuple[int, int], int] = {}  # of calls, how many workers died before they began them

    # -- facts ------------------------------------------------------------------------------------------

    @property
    def workers(self) -> dict[int, WorkerState]:
        """The living workers and their states."""
        return {number: worker.state for number, worker in self._workers.items()}

    @property
    def at_rest(self) -> bool:
        """Whether nothing waits and no worker has a call."""
        return not self._queues.waiting and not any(worker.held for worker in self._workers.values())

    @property
    def expects(self) -> bool:
        """Whether a worker has calls, or is starting: something will arrive."""
        return bool(self._queues.waiting) or any(
            worker.held or worker.state is WorkerState.STARTING for worker in self._workers.values()
        )

    @property
    def starting(self) -> bool:
        """Whether a worker is not yet fit for calls."""
        return any(worker.state is WorkerState.STARTING for worker in self._workers.values())

    @property
    def unproven(self) -> list[int]:
        """The workers that should soon say that they are set up."""
        return [
            number
            for number, worker in self._workers.items()
            if worker.runs and not worker.proven and worker.state not in _ENDS
        ]

    @property
    def has_proven(self) -> bool:
        """Whether a worker has said that it is set up, and is not about to end."""
        return any(worker.proven and worker.state not in _ENDS for worker in self._workers.values())

    def knows(self, ticket: int) -> bool:
        """Whether calls of the ticket have not ended."""
        return ticket in self._tickets

    def running(self, worker: int) -> tuple[tuple[int, int, int], ...]:
        """Ticket, begin and end of the pieces that a worker holds, in the order in which they were sent."""
        held = self._workers.get(worker)
        return (
            tuple((piece.ticket, piece.begin, piece.end) for piece in held.pieces) if held is not None else ()
        )

    def begun(self, worker: int) -> list[int]:
        """The tickets of the pieces that a worker is at, as far as that is known."""
        held = self._workers.get(worker)
        return [] if held is None else [piece.ticket for piece in held.pieces[: self.threads]]

    def has_calls_of(self, group: int) -> bool:
        """Whether workers have calls of the group."""
        return any(piece.group == group for worker in self._workers.values() for piece in worker.pieces)

    def pace(self, group: int) -> Pace | None:
        """What was measured of an open group."""
        return self._queues.paces.get(group)

    # -- what the users of the pool say -------------------------------------------------------------------

    def open_group(
        self,
        group: int,
        chunksize: int | None = 1,
        most: int = MOST,
        target: float = TARGET_SECONDS,
        expected: float | None = None,
        size: int | None = None,
    ) -> None:
        """Calls of this group will come, ``chunksize`` of them sent at once; None: by their times, see ``Pace``."""
        self._queues.open(group, Pace(chunksize, most, target, expected, size))

    def submit(self, ticket: int, group: int, calls: int = 1) -> list[Action]:
        """Calls are to be run; those of a group which is not open are cancelled."""
        if self.state is not PoolState.OPEN:
            return [TellBroken(ticket, 0, calls)]
        pace = self._queues.paces.get(group)
        if pace is None:
            return [TellCancelled(ticket, 0, calls)]  # no worker could run them, nor let go of their work
        self._tickets[ticket] = _Ticket(group, calls)
        piece = Piece(group, ticket, 0, calls)
        if calls == 1 and not self._queues.waiting:
            for number, worker in self._workers.items():  # what happens all the time: somebody is free for it
                if worker.state is WorkerState.IDLE:
                    return [self._send(number, [piece], pace)]
        self._queues.add(piece)
        return self._dispatch()

    def submit_again(self, ticket: int, group: int, begin: int, end: int) -> list[Action]:
        """As ``submit``, for some calls of a ticket: what is left of it after an earlier ledger."""
        if self.state is not PoolState.OPEN:
            return [TellBroken(ticket, begin, end)]
        self._tickets.setdefault(ticket, _Ticket(group, 0)).left += end - begin
        self._queues.add(Piece(group, ticket, begin, end))
        return self._dispatch()

    def cancel(self, ticket: int) -> list[Action]:
        """Those calls of a ticket that were not sent are to be dropped, and those that may come back, then."""
        if ticket not in self._tickets:
            return []
        actions = self._drop_waiting(ticket)
        for number, worker in self._workers.items():
            for piece in worker.pieces[self.threads :]:
                if piece.ticket == ticket and not piece.unwanted:
                    piece.unwanted = True
                    actions.append(Recall(number))
        return actions

    def kill(self, ticket: int, position: int = 0) -> list[Action]:
        """A call is to be dropped, with its worker if one has it."""
        for number, worker in self._workers.items():
            if worker.has(ticket, position):
                worker.blamed.add((ticket, position))
                return self._end(number, worker)
        return self._drop_waiting(ticket, position, position + 1)

    def suspect(self, number: int) -> list[Action]:
        """One of the calls that the worker is at must be ended, and nobody knows which: each is to be run alone."""
        worker = self._workers.get(number)
        if worker is None or worker.blamed or worker.state not in (WorkerState.BUSY, WorkerState.RETIRING):
            return []
        worker.suspected = True
        return self._end(number, worker)

    def abandon(self, group: int, kill: bool = False) -> list[Action]:
        """Nobody waits for the calls of this group any more; with ``kill``, what runs of it is ended."""
        self._queues.close(group)
        for ticket in [ticket for ticket, known in self._tickets.items() if known.group == group]:
            del self._tickets[ticket]
        actions: list[Action] = []
        for number, worker in list(self._workers.items()):
            if any(piece.group == group for piece in worker.pieces):
                if kill and worker.state in (WorkerState.BUSY, WorkerState.RETIRING):
                    worker.blamed.add((-1, -1))  # not the fault of what else it has
                    actions += self._end(number, worker)
                elif worker.held > self.threads:
                    actions.append(Recall(number))
        return actions + self._dispatch()

    def retire(self) -> list[Action]:
        """The pool has been at rest for long: its workers may go."""
        return [
            self._stop(number) for number, worker in self._workers.items() if worker.state is WorkerState.IDLE
        ]

    def resume(self, limit: int) -> list[Action]:
        """Now there may be so many workers."""
        self.limit = limit
        return self._dispatch()

    def close(self) -> list[Action]:
        """No call is taken any more; those that wait are cancelled, those that run are finished."""
        self.state = PoolState.CLOSED
        actions = self._drop(self._queues.take_all())
        for number, worker in self._workers.items():
            if worker.state is WorkerState.IDLE:
                actions.append(self._stop(number))
            elif worker.state is WorkerState.STARTING:
                actions += self._end(number, worker)
            elif worker.state is WorkerState.BUSY:
                worker.state = WorkerState.RETIRING
        return actions

    # -- what happens to workers ----------------------------------------------------------------------------

    def withdraw(self, number: int) -> bool:
        """The worker's process was not started yet. If nothing waits any more, it is not to be; returns whether so."""
        worker = self._workers.get(number)
        if worker is None or worker.state is not WorkerState.STARTING or self._queues.waiting:
            return False
        del self._workers[number]
        self._spare.append(number)
        return True

    def worker_started(self, number: int) -> list[Action]:
        """The worker's process runs, and none of the user's code has to before the first call: it may get that.

        One at a time does: if it takes long to start, no more than its calls wait for that, while others are ready.
        """
        worker = self._workers.get(number)
        if worker is None:
            return []
        worker.runs = True
        if any(self._workers[other].held for other in self.unproven):
            return []
        return self._admit(number, worker)

    def worker_ready(self, number: int) -> list[Action]:
        """The worker is set up."""
        worker = self._workers.get(number)
        if worker is None or worker.state is WorkerState.ENDING:
            return []  # it was told to end meanwhile
        self._failed_starts = 0
        worker.proven = True
        return self._admit(number, worker)

    def _admit(self, number: int, worker: Hand) -> list[Action]:
        if worker.state is not WorkerState.STARTING:
            return []
        worker.state = WorkerState.IDLE
        if self.state is not PoolState.OPEN:
            return [self._stop(number)]
        return self._dispatch()

    def answered(self, number: int, ticket: int, begin: int, end: int, seconds: float | None = None) -> bool:
        """The worker answered calls, after ``seconds`` together; returns whether somebody waits for that.

        To be followed by ``proceed``.
        """
        worker = self._workers.get(number)
        piece = None if worker is None else worker.give_up(ticket, begin, end)
        if worker is None or piece is None:
            return False
        worker.slow = False
        if seconds is not None and (pace := self._queues.paces.get(piece.group)) is not None:
            pace.took(seconds, end - begin)
        if self._unbegun:
            for position in range(begin, end):
                self._unbegun.pop((ticket, position), None)
        return self._ended(ticket, end - begin)

    def handed_back(self, number: int, ticket: int, begin: int, end: int) -> None:
        """The worker has not begun these calls and will not. To be followed by ``proceed``."""
        worker = self._workers.get(number)
        if worker is None or worker.blamed:
            return  # they are dealt with when it has ended: some of them are not to run again
        piece = worker.give_up(ticket, begin, end)
        if piece is None:
            return
        worker.slow = True
        if (pace := self._queues.paces.get(piece.group)) is not None:
            pace.disappointed()
        if ticket in self._tickets:
            if piece.unwanted:
                self._ended(ticket, end - begin)
                self._dropped.append(TellCancelled(ticket, begin, end))
            else:
                self._queues.add_again([Piece(piece.group, ticket, begin, end, piece.alone)])

    def doom(self, number: int) -> None:
        """The worker is ending: it gets nothing more."""
        worker = self._workers.get(number)
        if worker is not None and worker.state not in (WorkerState.STARTING, WorkerState.ENDING):
            worker.state = WorkerState.LOST

    def worker_full(self, number: int) -> list[Action]:
        """The worker is to be replaced."""
        worker = self._workers.get(number)
        if worker is not None and worker.state in (WorkerState.IDLE, WorkerState.BUSY):
            worker.state = WorkerState.RETIRING
        return self.proceed(number)

    def proceed(self, number: int) -> list[Action]:
        """After answers of a worker: it may get more to do."""
        worker = self._workers.get(number)
        if worker is None:
            return []
        actions, self._dropped = self._dropped, []
        if self.state is not PoolState.OPEN:
            actions += self._drop(self._queues.take_all())  # what was handed back
        if not worker.held and worker.state is WorkerState.BUSY:
            worker.state = WorkerState.IDLE
            if self.state is not PoolState.OPEN or self._active() > self.limit:
                return [*actions, self._stop(number)]
        elif not worker.held and worker.state is WorkerState.RETIRING:
            return [*actions, self._stop(number), *self._dispatch()]
        return actions + self._dispatch()

    def worker_ended(self, number: int, running: list[tuple[int, int]] | None = None) -> list[Action]:
        """The worker's process is gone, and all that it had answered was taken in.

        Args:
            number: the worker.
            running: ticket and position of the calls that it was at. A ticket that is not among its own stands for
                the loading of a function: then it was at its first call.
        """
        worker = self._workers.pop(number)
        actions: list[Action] = []
        if not worker.proven and worker.state is not WorkerState.ENDING:
            self._failed_starts += 1
            if self._failed_starts >= START_ATTEMPTS:
                actions = self.break_down()
        pieces = [piece for piece in worker.pieces if piece.ticket in self._tickets]
        blamed = self._find_guilty(worker, pieces, running or [])
        alone: list[tuple[int, int]] = []
        if (len(blamed) > 1 or worker.suspected) and not worker.blamed:
            blamed, alone = [], blamed
        for ticket, position in blamed:
            self._unbegun.pop((ticket, position), None)
            if (pace := self._queues.paces.get(self._tickets[ticket].group)) is not None:
                pace.died()
            self._ended(ticket, 1)
            actions.append(TellDied(ticket, position, number, bool(worker.blamed)))
        rest = []
        for piece in pieces:
            for part in piece.without({*blamed, *alone}):
                if piece.unwanted:
                    self._ended(part.ticket, len(part))
                    actions.append(TellCancelled(part.ticket, part.begin, part.end))
                else:
                    rest.append(part)
        if self.state is PoolState.OPEN:
            self._queues.add_again([part for part in rest if part.ticket in self._tickets])
            for ticket, position in alone:
                self._queues.add_suspect(self._tickets[ticket].group, ticket, position)
        else:
            actions += self._drop(rest)
            actions += self._break([Piece(0, ticket, position, position + 1) for ticket, position in alone])
        return actions + self._dispatch()

    def break_down(self) -> list[Action]:
        """Workers can't be set up: nothing that waits will run."""
        if self.state is PoolState.OPEN:
            self.state = PoolState.BROKEN
        actions = self._drop(self._queues.take_all())
        for number, worker in self._workers.items():
            if worker.state is WorkerState.IDLE:
                actions.append(self._stop(number))
        return actions

    # -- inside: who gets what ------------------------------------------------------------------------------

    def _drop_waiting(self, ticket: int, begin: int = 0, end: int | None = None) -> list[Action]:
        """Cancels what waits of some calls of a ticket."""
        if ticket not in self._tickets:
            return []
        actions: list[Action] = []
        for first, last in self._queues.drop(self._tickets[ticket].group, ticket, begin, end):
            self._ended(ticket, last - first)
            actions.append(TellCancelled(ticket, first, last))
        return actions

    def _dispatch(self) -> list[Action]:
        """Gives what waits to workers that take it, and starts workers for the rest."""
        actions: list[Action] = []
        queues = self._queues
        if not queues.waiting or self.state is not PoolState.OPEN:
            return actions
        while queues.has_suspects:
            idle = next((n for n, worker in self._workers.items() if worker.state is WorkerState.IDLE), None)
            if idle is None:
                break
            actions.append(self._send(idle, [queues.pop_suspect()]))
        while (pace := queues.next_pace) is not None:
            number = self._hungriest(pace)
            if number is None:
                break
            pieces = queues.cut(self._chunk(pace, self._workers[number]), exact=pace.fixed is not None)
            actions.append(self._send(number, pieces, pace))
        if queues.waiting:
            starting = sum(worker.state is WorkerState.STARTING for worker in self._workers.values())
            for _ in range(min(queues.waiting - starting, self.limit - self._active())):
                number = self._spare.popleft() if self._spare else next(self._numbers)
                self._workers[number] = Hand()
                actions.append(StartWorker(number))
        return actions

    def _hungriest(self, pace: Pace) -> int | None:
        """The worker with the least to do, of those that may get calls of this pace."""
        best, least = None, 0
        for number, worker in self._workers.items():
            if worker.state is WorkerState.IDLE:
                return number
            if worker.state is not WorkerState.BUSY or worker.pieces[0].alone:
                continue
            if not worker.is_at_any_of(self._tickets):
                continue  # it only finishes what nobody waits for, and that may take long
            free = len(worker.pieces) < self.threads
            if not free and pace.ahead and worker.watched and not worker.slow:
                free = worker.held <= pace.in_hand * self.threads
            if free and (best is None or worker.held < least):
                best, least = number, worker.held
        return best

    def _chunk(self, pace: Pace, worker: Hand) -> int:
        """How many calls the worker gets at once."""
        most = pace.chunksize
        if pace.fixed is None:
            # A chunk takes no more than its fair share of what waits, so that nobody idles at the end; but what
            # takes next to no time is not split for that.
            share = self._queues.waiting // (2 * self.limit * self.threads)
            most = max(1, min(most, max(share, pace.least)))
        if self.max_tasks is not None:
            most = min(most, self.max_tasks - worker.given)
        return most

    def _send(self, number: int, pieces: list[Piece], pace: Pace | None = None) -> SendCalls:
        worker = self._workers[number]
        begins = len(worker.pieces) < self.threads
        worker.take(pieces)
        worker.state = WorkerState.BUSY
        if self.max_tasks is not None and worker.given >= self.max_tasks:
            worker.state = WorkerState.RETIRING
        whole = pace is not None and pace.fixed is not None
        # What waits behind a call, there or here, must not wait for it should it be slow.
        worker.watched = self._queues.waiting > 0 or len(worker.pieces) > self.threads
        return SendCalls(
            number,
            tuple([(piece.group, piece.ticket, piece.begin, piece.end) for piece in pieces]),
            whole,
            worker.watched,
            begins,
        )

    # -- inside: workers and tickets ------------------------------------------------------------------------

    def _find_guilty(
        self, worker: Hand, pieces: list[Piece], running: list[tuple[int, int]]
    ) -> list[tuple[int, int]]:
        """The calls that may have ended the worker."""
        if worker.blamed:
            return [call for call in sorted(worker.blamed) if any(piece.has(*call) for piece in pieces)]
        guilty = [call for call in running if any(piece.has(*call) for piece in pieces)]
        if guilty or not pieces:
            return guilty
        if not worker.proven:
            return []  # it never came to that
        first = pieces[0].ticket, pieces[0].begin
        if any(ticket == LOADING for ticket, _ in running) and worker.pieces[0] is pieces[0]:
            return [first]
        # What kills every worker that receives it must not do so for ever.
        self._unbegun[first] = self._unbegun.get(first, 0) + 1
        return [first] if self._unbegun[first] >= START_ATTEMPTS else []

    def _ended(self, ticket: int, calls: int) -> bool:
        """Calls of a ticket have ended; returns whether it is known."""
        known = self._tickets.get(ticket)
        if known is None:
            return False
        known.left -= calls
        if not known.left:
            del self._tickets[ticket]
        return True

    def _active(self) -> int:
        """How many workers count against the limit: not those that only finish what nobody waits for."""
        return sum(worker.counts(self._tickets) for worker in self._workers.values())

    def _drop(self, pieces: list[Piece]) -> list[Action]:
        """These wait, and will not run."""
        if self.state is not PoolState.CLOSED:
            return self._break(pieces)
        for piece in pieces:
            self._ended(piece.ticket, len(piece))
        return [TellCancelled(piece.ticket, piece.begin, piece.end) for piece in pieces]

    def _break(self, pieces: list[Piece]) -> list[Action]:
        for piece in pieces:
            self._ended(piece.ticket, len(piece))
        return [TellBroken(piece.ticket, piece.begin, piece.end) for piece in pieces]

    def _stop(self, number: int) -> StopWorker:
        self._workers[number].state = WorkerState.ENDING
        return StopWorker(number)

    def _end(self, number: int, worker: Hand) -> list[Action]:
        worker.state = WorkerState.ENDING
        return [KillWorker(number)]

    def text(self) -> str:
        """Its state: ``open, 0 waiting; 1 busy, 1 idle of 2``."""
        states = [worker.state.name.lower() for worker in self._workers.values()]
        listed = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states)) or "no workers"
        return f"{self.state.name.lower()}, {self._queues.waiting} waiting; {listed} of {self.limit}"

    def __repr__(self) -> str:
        return f"<Ledger {self.text()}>"

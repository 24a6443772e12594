"""The ledger of a pool: which worker has which calls, who gets the next one, and who is to blame.

It is pure: it has no clock, thread, process or file. Each method takes in what happened and returns what is
to be done about it. Calls are known by tickets (any increasing whole numbers), and belong to groups: one group
is one map. Its guarantees, whatever the order of events:

1. a submitted ticket is answered, told dead, told cancelled or told broken exactly once, unless its group was
   abandoned: then never again;
2. a ticket is with at most one worker at any moment, and goes to a second one only after the first has ended;
3. when a worker ends, only the ticket it was at is told dead or, if it was killed for tickets, only those; the
   others that it had not answered go first again; one that dies so with START_ATTEMPTS workers was at fault;
4. tickets are sent in the order of their submission, except for those;
5. no more than ``limit`` workers live at once, not counting those that are ending or finish abandoned calls.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import Enum, auto
from itertools import count
from typing import Final

from manyhands.controller.pace import Pace

START_ATTEMPTS: Final = 3
"""After so many workers in a row that ended before they were ready, the pool gives up."""


@dataclass(frozen=True, slots=True)
class StartWorker:
    """Start a worker and call it ``worker``."""

    worker: int


@dataclass(frozen=True, slots=True)
class SendCalls:
    """Send these calls, which are of one group, to the worker."""

    worker: int
    group: int
    tickets: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class StopWorker:
    """Ask the worker to end in order."""

    worker: int


@dataclass(frozen=True, slots=True)
class KillWorker:
    """End the worker at once."""

    worker: int


@dataclass(frozen=True, slots=True)
class TellDied:
    """The ticket's worker died while it was at it."""

    ticket: int
    worker: int


@dataclass(frozen=True, slots=True)
class TellCancelled:
    """The ticket was cancelled before it was sent."""

    ticket: int


@dataclass(frozen=True, slots=True)
class TellBroken:
    """The ticket will never run: no worker can be started."""

    ticket: int


Action = StartWorker | SendCalls | StopWorker | KillWorker | TellDied | TellCancelled | TellBroken


class WorkerState(Enum):
    """Where a worker is in its life."""

    STARTING = auto()
    IDLE = auto()
    BUSY = auto()
    ENDING = auto()


class PoolState(Enum):
    """Where the pool is in its life."""

    OPEN = auto()
    BROKEN = auto()
    CLOSED = auto()


@dataclass(slots=True)
class _Worker:
    state: WorkerState = WorkerState.STARTING
    group: int | None = None
    tickets: deque[int] = field(default_factory=deque)
    blamed: set[int] = field(default_factory=set)
    """The tickets that the worker was killed for."""


class Ledger:
    """The state of one pool of at most ``limit`` workers."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.state = PoolState.OPEN
        self._numbers = count()
        self._workers: dict[int, _Worker] = {}
        self._queue: deque[int] = deque()
        self._groups: dict[int, int] = {}  # of each ticket that is not ended
        self._paces: dict[int, Pace] = {}  # of each group that is open
        self._failed_starts = 0
        self._unbegun: dict[int, int] = {}  # of tickets, how many workers died before they began it

    # -- facts ------------------------------------------------------------------------------------------

    @property
    def workers(self) -> dict[int, WorkerState]:
        """The living workers and their states."""
        return {number: worker.state for number, worker in self._workers.items()}

    @property
    def at_rest(self) -> bool:
        """Whether nothing waits and no worker has a call or is about to change."""
        return not self._queue and all(worker.state is WorkerState.IDLE for worker in self._workers.values())

    def running(self, worker: int) -> tuple[int, ...]:
        """The tickets that a worker holds, the one it is at first."""
        held = self._workers.get(worker)
        return tuple(held.tickets) if held is not None else ()

    # -- what the users of the pool say -------------------------------------------------------------------

    def open_group(self, group: int, chunksize: int | None = 1) -> None:
        """Calls of this group will come, ``chunksize`` of them sent at once; None: as their times suggest."""
        self._paces[group] = Pace(chunksize)

    def submit(self, ticket: int, group: int) -> list[Action]:
        """A call is to be run; that of a group which is not open is cancelled."""
        if self.state is not PoolState.OPEN:
            return [TellBroken(ticket)]
        if group not in self._paces:
            return [TellCancelled(ticket)]  # its work is forgotten: no worker could run it, nor let go of it
        self._groups[ticket] = group
        self._queue.append(ticket)
        return self._dispatch()

    def cancel(self, ticket: int) -> list[Action]:
        """A call is to be dropped if it was not sent."""
        if ticket not in self._groups or ticket not in self._queue:
            return []
        self._queue.remove(ticket)
        del self._groups[ticket]
        return [TellCancelled(ticket)]

    def kill(self, ticket: int) -> list[Action]:
        """A call is to be dropped, with its worker if one has it."""
        number = self._holder(ticket)
        if number is None:
            return self.cancel(ticket)
        worker = self._workers[number]
        worker.blamed.add(ticket)
        return self._end(number, worker)

    def abandon(self, group: int, kill: bool = False) -> list[Action]:
        """Nobody waits for the calls of this group any more; with ``kill``, what runs of it is ended."""
        self._paces.pop(group, None)
        self._queue = deque(ticket for ticket in self._queue if self._groups[ticket] != group)
        for ticket in [ticket for ticket, of in self._groups.items() if of == group]:
            del self._groups[ticket]
        actions: list[Action] = []
        if kill:
            for number, worker in list(self._workers.items()):
                if worker.group == group and worker.state is WorkerState.BUSY:
                    actions += self._end(number, worker)
        return actions + self._dispatch()

    def retire(self) -> list[Action]:
        """The pool has been at rest for long: its workers may go."""
        return [
            self._stop(number) for number, worker in self._workers.items() if worker.state is WorkerState.IDLE
        ]

    def close(self) -> list[Action]:
        """No call is taken any more; those that wait are cancelled, those that run are finished."""
        self.state = PoolState.CLOSED
        actions: list[Action] = [TellCancelled(ticket) for ticket in self._queue]
        for ticket in self._queue:
            del self._groups[ticket]
        self._queue.clear()
        for number, worker in self._workers.items():
            if worker.state is WorkerState.IDLE:
                actions.append(self._stop(number))
            elif worker.state is WorkerState.STARTING:
                actions += self._end(number, worker)
        return actions

    # -- what happens to workers ----------------------------------------------------------------------------

    def worker_ready(self, number: int) -> list[Action]:
        """The worker is set up."""
        worker = self._workers[number]
        if worker.state is not WorkerState.STARTING:
            return []  # it was told to end meanwhile
        self._failed_starts = 0
        worker.state = WorkerState.IDLE
        if self.state is not PoolState.OPEN:
            return [self._stop(number)]
        return self._dispatch()

    def worker_answered(self, number: int, ticket: int, seconds: float | None = None) -> bool:
        """The worker answered a call, after ``seconds``; returns whether somebody waits for the answer.

        To be followed by ``proceed``.
        """
        self._unbegun.pop(ticket, None)
        worker = self._workers.get(number)
        if worker is None:
            return False  # its end was taken in by another thread meanwhile
        if ticket in worker.tickets:
            worker.tickets.remove(ticket)
        if seconds is not None and worker.group in self._paces:
            self._paces[worker.group].took(seconds)
        return self._groups.pop(ticket, None) is not None

    def proceed(self, number: int) -> list[Action]:
        """After answers of a worker: it may get more to do."""
        worker = self._workers.get(number)
        if worker is None or worker.tickets or worker.state is not WorkerState.BUSY:
            return []
        worker.state, worker.group = WorkerState.IDLE, None
        if self.state is not PoolState.OPEN or self._active() > self.limit:
            return [self._stop(number)]
        return self._dispatch()

    def worker_ended(self, number: int, begun: bool = True) -> list[Action]:
        """The worker's process is gone, and all that it had answered was taken in.

        Args:
            number: the worker.
            begun: whether it had begun the first of the tickets that it holds.
        """
        worker = self._workers.pop(number)
        actions: list[Action] = []
        if worker.state is WorkerState.STARTING:
            self._failed_starts += 1
            if self._failed_starts >= START_ATTEMPTS:
                return self.break_down()
        alive = [ticket for ticket in worker.tickets if ticket in self._groups]
        if alive:
            first = worker.tickets[0]
            if not begun:  # what kills every worker that receives it must not do so for ever
                self._unbegun[first] = self._unbegun.get(first, 0) + 1
                begun = self._unbegun[first] >= START_ATTEMPTS
            blamed = worker.blamed or ({first} if begun else set())
            for ticket in [ticket for ticket in alive if ticket in blamed]:
                alive.remove(ticket)
                del self._groups[ticket]
                actions.append(TellDied(ticket, number))
            if self.state is PoolState.OPEN:
                self._queue.extendleft(reversed(alive))
            else:
                actions += self._drop(alive)
        return actions + self._dispatch()

    def break_down(self) -> list[Action]:
        """Workers can't be set up: nothing that waits will run."""
        if self.state is PoolState.OPEN:
            self.state = PoolState.BROKEN
        actions = self._drop(list(self._queue))
        self._queue.clear()
        for number, worker in self._workers.items():
            if worker.state is WorkerState.IDLE:
                actions.append(self._stop(number))
        return actions

    # -- inside -----------------------------------------------------------------------------------------

    def _dispatch(self) -> list[Action]:
        """Gives what waits to idle workers, and starts workers for the rest."""
        actions: list[Action] = []
        if self.state is not PoolState.OPEN:
            return actions
        idle = [number for number, worker in self._workers.items() if worker.state is WorkerState.IDLE]
        while self._queue and idle:
            actions.append(self._send(idle.pop()))
        starting = sum(worker.state is WorkerState.STARTING for worker in self._workers.values())
        for _ in range(min(len(self._queue) - starting, self.limit - self._active())):
            number = next(self._numbers)
            self._workers[number] = _Worker()
            actions.append(StartWorker(number))
        return actions

    def _send(self, number: int) -> SendCalls:
        group = self._groups[self._queue[0]]
        # A chunk takes no more than its fair share of what waits, so that nobody idles at the end.
        most = max(1, min(self._paces[group].chunksize, len(self._queue) // self.limit))
        tickets = [self._queue.popleft()]
        while self._queue and len(tickets) < most and self._groups[self._queue[0]] == group:
            tickets.append(self._queue.popleft())
        worker = self._workers[number]
        worker.state, worker.group = WorkerState.BUSY, group
        worker.tickets.extend(tickets)
        return SendCalls(number, group, tuple(tickets))

    def _active(self) -> int:
        """How many workers count against the limit: not those that only finish what nobody waits for."""
        return sum(
            worker.state in (WorkerState.STARTING, WorkerState.IDLE)
            or (worker.state is WorkerState.BUSY and not self._idle_run(worker))
            for worker in self._workers.values()
        )

    def _idle_run(self, worker: _Worker) -> bool:
        return not any(ticket in self._groups for ticket in worker.tickets)

    def _holder(self, ticket: int) -> int | None:
        for number, worker in self._workers.items():
            if ticket in worker.tickets:
                return number
        return None

    def _drop(self, tickets: list[int]) -> list[Action]:
        for ticket in tickets:
            del self._groups[ticket]
        return [TellBroken(ticket) for ticket in tickets]

    def _stop(self, number: int) -> StopWorker:
        self._workers[number].state = WorkerState.ENDING
        return StopWorker(number)

    def _end(self, number: int, worker: _Worker) -> list[Action]:
        worker.state = WorkerState.ENDING
        return [KillWorker(number)]

    def __repr__(self) -> str:
        states = [worker.state.name.lower() for worker in self._workers.values()]
        listed = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states)) or "no workers"
        return f"<Ledger {self.state.name.lower()}, {len(self._queue)} waiting; {listed} of {self.limit}>"

"""The dispatcher of a pool: does what the ledger decides, and tells it what happens.

Whoever submits a call writes it to an idle worker's channel itself, whoever waits for an answer reads it there (see
``reader``), and the caretaker starts and buries workers. One lock guards all of it; nothing that is done under it
waits, and none of it runs code of the user's: calls and answers are pickled and unpickled by those whose they are.
What may be called from a finaliser (closing a session) takes no lock: it leaves a note for the caretaker.

An interrupt may end a change half-way. Every change marks its begin and its end, so the next one notices, and the
pool is rebuilt: all workers are ended, and the calls of which nothing was heard run again.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
from functools import cache, partial
from itertools import count
from time import monotonic
from typing import Final

from manyhands.calls import Failed
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
from manyhands.controller.caretaker import CLOSE_SECONDS, Caretaker
from manyhands.controller.endings import died, how_it_ended, timed_out
from manyhands.controller.handles import Forgetting, Handle, OpenWork, Reason, Ticket
from manyhands.controller.hands import WorkerState
from manyhands.controller.ledger import Ledger, PoolState
from manyhands.controller.limits import Limits
from manyhands.controller.memory import PoolMemory
from manyhands.controller.pace import PROMPT_SECONDS, TARGET_SECONDS, Pace, Paces
from manyhands.controller.parcels import Parcel
from manyhands.controller.reader import Reader
from manyhands.controller.session import PLAIN_FORM, CallForm, Session
from manyhands.controller.share import Dead, Dropped, Share
from manyhands.errors import PoolBroken, PoolClosed
from manyhands.memory.bank import Stored
from manyhands.memory.exchange import Noted
from manyhands.settings import PoolSettings
from manyhands.workers import payload
from manyhands.workers.channel import (
    ANSWERED,
    CALLS,
    HANDED_BACK,
    PROMPT,
    RETURNED,
    RUN,
    TOLD,
    WATCH,
    WHOLE,
    Frame,
    control,
    message_of,
)
from manyhands.workers.guard import guard
from manyhands.workers.inlet import Said, inlet, levels
from manyhands.workers.launch import end_group, search_path
from manyhands.workers.messages import Beat, Forget, Forgotten, Full, Load, Ready, Setup, Stop, Unready
from manyhands.workers.parcel import STORED
from manyhands.workers.payload import Large

QUICK_SECONDS: Final = 0.005
PATIENCE_SECONDS: Final = 0.25
"""Calls of a closed share that take less than the former are waited for up to the latter: else workers that are about
to be free would be taken for lost, and others be started."""

IDLE_SECONDS: Final = 30.0
"""Workers of a pool that has had nothing to do for so long are ended."""


class Dispatcher:
    """The engine of one pool.

    Args:
        settings: how many workers, and how they are started.
        idle_seconds: after so long at rest, the workers are ended; they come back with the next call. None: never.
        ends_when_idle: the whole pool is closed then, if no map is open.

    Attributes:
        shared_by_worker: bytes of shared memory that the results of one worker may take.
        exitcode: how the process ended that was the last to end; None: none has, or nobody knows.
    """

    def __init__(
        self, settings: PoolSettings, idle_seconds: float | None = IDLE_SECONDS, ends_when_idle: bool = False
    ) -> None:
        if sys.platform == "win32":
            raise PoolBroken(
                "worker processes need POSIX sockets and process groups; use backend='inline' here"
            )
        self.settings = settings
        self.lock = threading.Lock()
        self._worker_numbers = count()
        self.ledger = self._new_ledger(settings.workers)
        self.handles: dict[int, Handle] = {}
        self.works: dict[int, OpenWork] = {}
        self.forgetting: dict[int, Forgetting] = {}
        self.exitcode: int | None = None
        self.finishing = False  # it closes as soon as it rests
        self._by_descriptor: dict[int, int] = {}
        self._tickets: dict[int, Ticket] = {}
        self._numbers = count()
        self._tokens = count()
        self._limits = Limits()
        self._paces = Paces()
        self._broken = ""
        self._closed = "the pool is closed"
        self._changing = False
        self._rebuilding = False
        self.shared_by_worker = settings.shared_bytes() // settings.workers
        self._setup = partial(
            Setup,
            host=_host(),
            threads=settings.threads,
            initializer=payload.dumps(settings.initializer) if settings.initializer else b"",
            finalizer=payload.dumps(settings.finalizer) if settings.finalizer else b"",
            max_memory=settings.max_memory or 0,
            max_shared=self.shared_by_worker,
        )
        self.memory = PoolMemory(settings.shared_bytes())
        self.reader = Reader(self)
        self.caretaker = Caretaker(self, idle_seconds, ends_when_idle)

    # -- for those who submit, from any thread ----------------------------------------------------------

    def open_session(
        self,
        work: bytes | Large,
        chunksize: int | None = None,
        timeout: float | None = None,
        keeps: bool = False,
        canvas: int | None = None,
        form: CallForm = PLAIN_FORM,
        name: str = "",
    ) -> Session:
        """A share of the pool for calls of ``work``, a packed ``Work``; raises PoolClosed.

        Args:
            work: loaded in a worker, it takes a call and returns its answer.
            chunksize: calls sent at once; None: as their times suggest.
            timeout: seconds that a call may take.
            keeps: the work keeps something in its workers that they are to have let go of when the share is closed.
            canvas: a segment of the pool's bank that the calls write to.
            form: how calls travel.
            name: of the function.
        """
        session = Session(self, timeout, keeps, form, name)
        self.open(session, work, chunksize, canvas, form.readonly)
        return session

    def open(
        self,
        share: Share,
        work: bytes | Large,
        chunksize: int | None = None,
        canvas: int | None = None,
        readonly: bool = False,
    ) -> None:
        """Opens a share of the pool; raises PoolClosed."""
        key = hash(work if isinstance(work, bytes) else work.beginning)
        blob = self.memory.store(work, readonly)
        stored = blob if isinstance(blob, Stored) else None
        body = blob.place if isinstance(blob, Stored) else blob
        with self.lock:
            if self.ledger.state is PoolState.CLOSED or self.finishing:
                raise PoolClosed("the pool is closed: it takes no more calls")
            self.begin()
            group = share.group = next(self._numbers)
            load = Load(group, os.getcwd(), list(search_path()), body, levels())
            self.works[group] = OpenWork(load, share, chunksize, key, stored, canvas)
            self._open_group(self.ledger, group)
            self._renew_limits()
            self.end()
        self.caretaker.start()

    def name_of(self, pid: int) -> str:
        """The name of the worker with this process id."""
        return f"{_host()}:{pid}"

    def set_up(self, number: int, handle: Handle) -> None:
        """A worker is told what it is. Under the lock."""
        self._write(handle, [control(self._setup_of(number))])

    def admit(self, number: int) -> None:
        """That worker gets calls as soon as that is safe. Under the lock."""
        # A new interpreter may fail to import the library, and takes its time; the user's code may do anything.
        if self.settings.start_method != "spawn" and not self.settings.sets_up:
            self._act(self.ledger.worker_started(number))

    def _setup_of(self, number: int) -> Setup:
        # The fork server may be older than what its parent has set since.
        variables = dict(os.environ) if self.settings.start_method == "forkserver" else None
        try:
            directory = os.getcwd()
        except OSError:
            directory = "/"  # where this process was is gone
        return self._setup(
            number=number,
            variables=variables,
            directory=directory,
            sys_path=list(search_path()),
            environment=self.settings.environment(),
        )

    def new_ticket(self) -> int:
        """The next ticket: a share notes it before it submits."""
        return next(self._tokens)

    def submit(self, share: Share, ticket: int, parcel: Parcel, calls: bool) -> bool:
        """Takes pickled calls (or items, if not ``calls``); returns whether the pool takes any."""
        with self.lock:
            if self.ledger.state is not PoolState.OPEN:
                return False
            self.begin()
            self._tickets[ticket] = Ticket(share, parcel, calls)
            self._act(self.ledger.submit(ticket, share.group, len(parcel)))
            self.end()
        if self.caretaker.sleeps:
            self.caretaker.wake()  # it looks whether anybody reads
        return True

    def cancel(self, ticket: int) -> bool:
        """Drops calls that no worker has; returns whether there were any."""
        with self.lock:
            self.begin()
            actions = self.ledger.cancel(ticket)
            self._act(actions)
            self.end()
        self.reader.ring()
        return any(isinstance(action, TellCancelled) for action in actions)

    def kill(self, ticket: int, position: int = 0, reason: Reason | None = None) -> bool:
        """Drops a call, with its worker if one has it; returns whether it had not ended."""
        with self.lock:
            if not self.ledger.knows(ticket):
                return False
            self.begin()
            self._kill_call(
                ticket, position, reason or partial(died, exitcode=None, ended_by="was ended on request")
            )
            self.end()
        self.reader.ring()
        return True

    def running(self) -> list[tuple[Share, int, float]]:
        """The share and the ticket of each call that runs, and the seconds for which it was seen to.

        Calls with a limit are looked at all the time, others only here.
        """
        with self.lock:
            self.begin()
            self._end_what_is_late()
            seconds = self._limits.seconds()
            self.end()
            return [
                (owner.share, ticket, seconds[ticket])
                for ticket in seconds
                if (owner := self._tickets.get(ticket)) is not None
            ]

    def pace(self, group: int) -> Pace | None:
        """What was measured of a group's calls."""
        return self.ledger.pace(group)

    def close_session(self, group: int, kill: bool, later: bool, keeps: bool = False) -> None:
        """Nobody waits for calls of this group any more.

        Args:
            group: the share's number.
            kill: end what runs.
            later: takes no lock, and leaves it to the caretaker.
            keeps: return when the idle workers have let go of what they kept for the group.
        """
        if later or self.caretaker.is_this_thread:
            self.caretaker.order(partial(self._forget, group, kill, None))
            return
        forgetting = Forgetting() if keeps else None
        with self.lock:
            self.begin()
            pace = self.ledger.pace(group)
            is_quick = pace is not None and pace.seconds is not None and pace.seconds < QUICK_SECONDS
            self._act(self._forget(group, kill, forgetting))
            self.end()
        if self.caretaker.sleeps:
            self.caretaker.wake()  # it sends what is not urgent
        self.reader.ring()
        if forgetting is not None:
            self.reader.wait(lambda: forgetting.done, CLOSE_SECONDS)
        if is_quick and not kill:
            self.reader.wait(partial(self._has_no_calls_of, group), PATIENCE_SECONDS)

    def _has_no_calls_of(self, group: int) -> bool:
        with self.lock:
            return not self.ledger.has_calls_of(group)

    def wait_at_rest(self) -> None:
        """Waits until no call waits or runs, and none is promised, or the pool is of no use any more."""

        def rests() -> bool:
            with self.lock:
                return self.rests or self.ledger.state is not PoolState.OPEN

        self.reader.wait(rests)

    def wait_for_promises(self) -> None:
        """Waits until all that was submitted one by one has ended, or the pool is of no use any more."""

        def kept() -> bool:
            with self.lock:
                return self.ledger.state is not PoolState.OPEN or not any(
                    work.share.promised() for work in self.works.values()
                )

        self.reader.wait(kept)

    @property
    def rests(self) -> bool:
        """Whether no call waits or runs, and none is promised, nor any initializer. Ask under the lock."""
        return (
            self.ledger.at_rest
            and not (self.ledger.starting and self.settings.sets_up)
            and not self._rebuilding
            and not any(work.share.promised() for work in self.works.values())
        )

    def finish(self) -> None:
        """Takes no new share, and closes the pool when it rests; takes no lock."""
        self.finishing = True
        self.caretaker.wake()

    def drop_maps(self) -> None:
        """Ends what nobody is promised an answer of: maps, and what they have in workers."""
        with self.lock:
            maps = [group for group, work in self.works.items() if work.share.is_map]
        for group in maps:
            self.close_session(group, kill=True, later=True)

    @property
    def has_started(self) -> bool:
        """Whether a session was ever opened."""
        return self.caretaker.has_started

    @property
    def usable(self) -> bool:
        """Whether new calls will run."""
        return self.ledger.state is PoolState.OPEN

    def close(self, kill: bool = False) -> None:
        """Ends the pool: running calls are finished or, with ``kill``, ended; returns when no worker lives."""
        self.caretaker.close(kill)
        inlet.flush()

    def close_later(self) -> None:
        """Ends the pool as soon as its caretaker comes to it; takes no lock."""
        self.caretaker.order(self.ledger_close)

    def ledger_close(self) -> list[Action]:
        """Closes the ledger, whichever it is by then."""
        return self.ledger.close()

    def __repr__(self) -> str:
        return f"<pool of {self.settings.workers}, {self.settings.start_method}: {self.ledger!r}>"

    # -- changes --------------------------------------------------------------------------------------------

    # A change is made so: ``with self.lock``, ``begin()``, the change, ``end()``. (A context manager of Python's own
    # could be interrupted between taking the lock and saying so; a ``with`` over a lock can't.)

    def begin(self) -> None:
        """Things are about to be half done. Under the lock."""
        if self._changing:
            self._rebuild()
        self._changing = True

    def end(self) -> None:
        """Things are whole again. Under the lock."""
        self._changing = False

    @property
    def is_torn(self) -> bool:
        """Whether a change was interrupted. Ask under the lock."""
        return self._changing

    def _rebuild(self) -> None:
        """After an interrupt within a change: ends all workers; the calls of which nothing was heard wait again.

        No worker is started before the last of the old ones has ended. May itself be interrupted, and is done again.
        """
        self._rebuilding = True
        for handle in self.handles.values():
            self._end(handle)
        self.caretaker.forget_starts()
        ledger = self._new_ledger(limit=0)
        ledger.state = self.ledger.state
        for group in self.works:
            self._open_group(ledger, group)
        waiting = {}
        actions: list[Action] = []
        for number in sorted(self._tickets):
            ticket = self._tickets[number]
            if ticket.share.group not in self.works:
                continue  # it was being closed
            for begin, end in ticket.share.unheard(number):
                waiting[number] = ticket
                actions += ledger.submit_again(number, ticket.share.group, begin, end)
        self.ledger, self._tickets = ledger, waiting
        self._changing = False
        self._act(actions)
        self.caretaker.wake()

    def rebuilt(self) -> None:
        """All workers of the torn ledger have ended: there may be new ones."""
        self._rebuilding = False
        for forgetting in self.forgetting.values():
            forgetting.done = True
        self.forgetting.clear()
        self._act(self.ledger.resume(self.settings.workers))

    def _open_group(self, ledger: Ledger, group: int) -> None:
        work = self.works[group]
        target = PROMPT_SECONDS if work.share.prompt else TARGET_SECONDS
        expected, size = self._paces.expected(work.key) if work.share.is_map else (None, None)
        ledger.open_group(group, work.chunksize, work.share.most, target, expected, size)

    def _new_ledger(self, limit: int) -> Ledger:
        return Ledger(limit, self.settings.threads, self.settings.max_tasks, self._worker_numbers)

    # -- what arrives ---------------------------------------------------------------------------------------

    def take_in(self, descriptors: list[int]) -> None:
        """Reads what workers have sent, on channels with these descriptors; the leader's."""
        with self.lock:
            self.begin()
            self.caretaker.run_orders()  # or else what is not wanted any more would be sent
            for descriptor in descriptors:
                number = self._by_descriptor.get(descriptor)
                if number is not None:
                    self.take_in_from(number)
            if self.sample_interval is not None:
                self._end_what_is_late()
            self.end()
        if self.reader.has_followers:
            self.reader.ring_all()

    def take_in_from(self, number: int) -> bool:
        """Reads what one worker has sent; returns whether that was anything. Under the lock."""
        handle = self.handles[number]
        if handle.channel.wants_to_send:
            handle.channel.flush()
            if not handle.channel.wants_to_send:
                self.reader.poller.watch_writing(handle.channel.fileno(), writing=False)
        actions: list[Action] = []
        frames = handle.channel.read()
        if handle.channel.at_end:
            self.ledger.doom(number)
        for heard in frames:
            frame = handle.hear(heard) if handle.lent or heard.form == STORED else heard
            kind = frame.kind
            if kind in (RETURNED, ANSWERED):
                handle.turned = monotonic()
                ticket = frame.ticket
                waiting = self.ledger.answered(
                    number, ticket, frame.begin, frame.end, frame.seconds + frame.last
                )
                owner = self._tickets.get(ticket)
                if waiting and owner is not None:
                    owner.share.put(ticket, frame.begin, frame.end, frame, handle.name)
                if owner is not None and not self.ledger.knows(ticket):
                    del self._tickets[ticket]
            elif kind == HANDED_BACK:
                self.ledger.handed_back(number, frame.ticket, frame.begin, frame.end)
            elif kind == TOLD:
                inlet.put(self._said(handle, frame))
            else:
                actions += self._take_message(number, handle, frame)
        if frames:
            for ticket in self.ledger.begun(number):
                if (owner := self._tickets.get(ticket)) is not None:
                    owner.share.begun(ticket)
            self._act(actions + self.ledger.proceed(number))
        if handle.channel.at_end:
            self._by_descriptor.pop(handle.channel.fileno(), None)
            self.reader.poller.remove(handle.channel.fileno())
            if handle.pid is not None:
                end_group(handle.pid)  # it has closed its channel: it is gone, or of no use any more
            self.caretaker.wake()
        return bool(frames)

    def _said(self, handle: Handle, frame: Frame) -> Said:
        owner = self._tickets.get(frame.ticket)
        if owner is None:
            return Said(frame.flags, frame.body, handle.name, None, "")
        item = owner.share.item(frame.ticket, frame.begin)
        return Said(frame.flags, frame.body, handle.name, item, owner.share.name)

    def _take_message(self, number: int, handle: Handle, frame: Frame) -> list[Action]:
        match message_of(frame):
            case Ready():
                return self.ledger.worker_ready(number)
            case Full():
                return self.ledger.worker_full(number)
            case Forgotten(group):
                if (forgetting := self.forgetting.get(group)) is not None:
                    forgetting.forgotten(number)
                    if forgetting.done:
                        del self.forgetting[group]
            case Unready(summary):
                self.note_broken(f"the initializer of the workers raised {summary}")
                return self.ledger.break_down()
            case Beat(path, seconds):
                if handle.pid is not None:
                    guard.beat(handle.pid, path, seconds)
            case Noted() as noted:
                handle.take_in(noted)
                if noted.rests:
                    handle.rests = False
                    self._give_memory_back()
        return []

    def add_worker(self, number: int, handle: Handle) -> None:
        """A worker is being started. Under the lock."""
        self.handles[number] = handle
        self._by_descriptor[handle.channel.fileno()] = number
        self.reader.poller.add(handle.channel.fileno())

    def bury(self, number: int, exitcode: int | None) -> None:
        """A worker's process has ended. Under the lock."""
        handle = self.handles[number]
        self.exitcode = exitcode
        self.ledger.doom(number)
        while not handle.channel.at_end and self.take_in_from(number):
            pass  # what it said before it ended
        for forgetting in self.forgetting.values():
            forgetting.forgotten(number)
        self.forgetting = {group: wait for group, wait in self.forgetting.items() if not wait.done}
        running = handle.marker.running()
        self.remove_worker(number)
        if self._rebuilding:
            return
        actions = self.ledger.worker_ended(number, running)
        if self.ledger.state is PoolState.BROKEN:
            how = handle.ended_by or how_it_ended(exitcode)
            self.note_broken(f"worker processes can't be started: the last one {how}")
        self._act(actions, handle, exitcode)

    def remove_worker(self, number: int) -> None:
        """Lets go of the parent's side of a worker. Under the lock."""
        handle = self.handles.pop(number)
        descriptor = handle.channel.fileno()
        if self._by_descriptor.pop(descriptor, None) is not None:
            self.reader.poller.remove(descriptor)
        handle.close()

    @property
    def expects(self) -> bool:
        """Whether something will arrive. Ask under the lock."""
        return self.ledger.expects or any(
            handle.rests and not handle.channel.at_end for handle in self.handles.values()
        )

    @property
    def must_rebuild(self) -> bool:
        """Whether a new ledger waits for the last worker to end."""
        return self._rebuilding

    @property
    def sample_interval(self) -> float | None:
        """Seconds between two looks at what workers are at; None: nothing depends on that."""
        return self._limits.interval

    def _end_what_is_late(self) -> None:
        held = {ticket for number in self.handles for ticket, _, _ in self.ledger.running(number)}
        guilty, suspects = self._limits.look(self.handles, self._tickets, held)
        self._renew_limits()
        for call in guilty:
            self._kill_call(call.ticket, call.position, partial(timed_out, limit=call.limit))
        for call in suspects:
            self._act(self.ledger.suspect(call.worker))

    def _kill_call(self, ticket: int, position: int, reason: Reason) -> None:
        for number, handle in self.handles.items():
            if any(
                held == ticket and begin <= position < end for held, begin, end in self.ledger.running(number)
            ):
                handle.reasons[ticket, position] = reason
        self._act(self.ledger.kill(ticket, position))

    # -- doing what the ledger says, under the lock -----------------------------------------------------------

    def act(self, actions: list[Action]) -> None:
        """Does what the ledger said. Under the lock."""
        self._act(actions)

    def _act(self, actions: list[Action], handle: Handle | None = None, exitcode: int | None = None) -> None:
        for action in actions:
            if self._rebuilding and isinstance(action, SendCalls | StartWorker | StopWorker | Recall):
                continue  # the workers are being ended, and what they had is asked of the shares
            match action:
                case SendCalls(worker, pieces, whole, watch, begins):
                    flags = (WHOLE if whole else 0) | (WATCH if watch else 0)
                    self._send(self.handles[worker], pieces, flags, begins)
                case StartWorker(worker):
                    self.caretaker.start_worker(worker)
                case StopWorker(worker):
                    self.tell(worker, control(Stop()))
                case Recall(worker):
                    self.handles[worker].epoch = self.handles[worker].marker.recall()
                case KillWorker(worker):
                    if worker in self.handles:
                        self._end(self.handles[worker])
                case TellDied(ticket, position, _, killed):
                    assert handle is not None
                    reason = handle.reasons.get((ticket, position)) if killed else None
                    pid = handle.pid or 0
                    ran = monotonic() - handle.turned
                    error = reason(pid) if reason else died(pid, exitcode, handle.ended_by, ran)
                    self._put(ticket, position, position + 1, Dead(error), handle.name)
                case TellCancelled(ticket, begin, end):
                    self._put(ticket, begin, end, Dropped())
                case TellBroken(ticket, begin, end):
                    self._put(ticket, begin, end, self.broken)
        for action in actions:
            if isinstance(action, TellDied | TellCancelled | TellBroken) and not self.ledger.knows(
                action.ticket
            ):
                self._tickets.pop(action.ticket, None)

    def _put(self, ticket: int, begin: int, end: int, news: Dead | Dropped | Failed, worker: str = "") -> None:
        owner = self._tickets.get(ticket)
        if owner is not None:
            owner.share.put(ticket, begin, end, news, worker)

    def _send(
        self, handle: Handle, pieces: tuple[tuple[int, int, int, int], ...], flags: int, begins: bool
    ) -> None:
        frames = []
        for group, ticket, begin, end in pieces:
            if group not in handle.loaded:
                handle.loaded.add(group)
                frames.append(self._load(handle, self.works[group]))
            owner = self._tickets[ticket]
            form, body = owner.parcel.piece(begin, end)
            if form == STORED:
                try:
                    handle.lend(ticket, owner.parcel.stored(begin, end))
                except OSError:  # it has ended, most likely; what it can't see it can't do
                    self._end(handle)
            kinds = flags | (CALLS if owner.calls else 0)
            pace = self.ledger.pace(group)
            if owner.share.prompt or pace is None or pace.seconds is None:
                kinds |= PROMPT  # where no call was measured yet, a slow one is to be noticed soon
            frames.append(Frame(RUN, form, kinds, handle.epoch, group, ticket, begin, end, body=body))
            if begins:
                owner.share.begun(ticket)
        if begins:
            handle.turned = monotonic()
        self._write(handle, frames)

    def _load(self, handle: Handle, work: OpenWork) -> Frame:
        try:
            handle.show(work)
        except OSError:
            self._end(handle)
        return control(work.load)

    def tell(self, worker: int, frame: Frame) -> None:
        """Sends a worker something. Under the lock."""
        handle = self.handles.get(worker)
        if handle is not None:
            self._write(handle, [frame])

    def send_held(self) -> None:
        """Sends the workers what was not urgent. Under the lock."""
        for handle in self.handles.values():
            if handle.channel.holds:
                self._write(handle, [])

    def rest(self) -> None:
        """There is nothing to do, so memory that is not used is given back. Under the lock."""
        self.memory.bank.trim()
        for handle in self.handles.values():
            handle.tell_to_rest()

    @property
    def shares_results(self) -> bool:
        """Whether somebody has results that lie in the memory of workers. Ask under the lock."""
        return any(handle.shares_results for handle in self.handles.values())

    @property
    def has_let_go(self) -> bool:
        """Whether some of these are not used any more, but keep memory in their workers. Ask under the lock."""
        return any(handle.has_let_go for handle in self.handles.values())

    def _give_memory_back(self) -> None:
        """A worker has said what it has let go of: others may have mapped it too."""
        self.memory.bank.trim()
        for handle in self.handles.values():
            if handle.exchange.has_news:
                self._write(handle, [])

    def _write(self, handle: Handle, frames: list[Frame]) -> None:
        handle.send(frames)
        if handle.channel.wants_to_send and not handle.channel.at_end:
            self.reader.poller.watch_writing(handle.channel.fileno(), writing=True)

    def _end(self, handle: Handle) -> None:
        handle.doomed = True
        if handle.pid is not None:
            end_group(handle.pid)

    def _forget(self, group: int, kill: bool, forgetting: Forgetting | None) -> list[Action]:
        idle = {number for number, state in self.ledger.workers.items() if state is WorkerState.IDLE}
        work, pace = self.works.pop(group, None), self.ledger.pace(group)
        if work is not None and work.share.is_map and pace is not None:
            self._paces.note(work.key, pace)
        actions = self.ledger.abandon(group, kill)
        for ticket in [ticket for ticket, owner in self._tickets.items() if owner.share.group == group]:
            self._limits.abandon(ticket, self._tickets.pop(ticket))
        self._renew_limits()
        for number, handle in self.handles.items():
            if group in handle.loaded:
                handle.loaded.discard(group)
                if number not in idle:
                    self.tell(number, control(Forget(group)))
                elif forgetting is None:
                    handle.channel.hold(control(Forget(group)))
                else:
                    self.tell(number, control(Forget(group, tell=True)))
                    forgetting.workers.add(number)
        if forgetting is not None and forgetting.workers:
            self.forgetting[group] = forgetting
        elif forgetting is not None:
            forgetting.done = True
        return actions

    def _renew_limits(self) -> None:
        if self._limits.renew(work.share for work in self.works.values()):
            # Who reads may sleep until something arrives, and is to look at the clock from now on.
            self.caretaker.wake()
            self.reader.nudge()

    # -- when it ends -------------------------------------------------------------------------------------------

    def end_stragglers(self, all_of_them: bool = True) -> None:
        """Ends workers: those that run calls, or all. Under the lock."""
        for number, handle in self.handles.items():
            if all_of_them or self.ledger.running(number):
                handle.ended_by = "was ended with its pool"
                self._end(handle)

    def fail_all(self) -> None:
        """Nothing will run any more: all who wait are told. Under the lock."""
        tickets, self._tickets = self._tickets, {}
        for number, owner in tickets.items():
            for begin, end in owner.share.unheard(number):
                owner.share.put(number, begin, end, self.broken, "")

    def note_broken(self, why: str) -> None:
        """Notes why the pool is of no use any more; the first reason counts."""
        self._broken = self._broken or why

    @property
    def broken(self) -> Failed:
        """Why nothing runs here; a new object each time, since each raise adds its frames to the error."""
        error = PoolBroken(self._broken) if self._broken else PoolClosed(self._closed)
        return Failed(error, halts=True)

    def pin_views(self) -> None:
        """In the parent of a fork: what is open of the workers' memory is open in the child too."""
        for handle in list(self.handles.values()):
            handle.exchange.views.pin()

    def disown(self, silently: bool) -> None:
        """In a forked child: the workers are the parent's, so their channels are closed and nothing is said.

        Args:
            silently: nobody waits for an answer in the child.
        """
        self.lock = threading.Lock()
        self._changing = False
        self.ledger = _NOWHERE
        self._closed = "the pool is another process's: this one was forked from it"
        if not silently:  # whoever goes on with a map here must not wait for ever
            for work in self.works.values():
                work.share.renew_locks()
            self.fail_all()
        self.works.clear()
        self.memory.bank.disown()
        for handle in self.handles.values():
            handle.close()
        self.handles.clear()
        self._by_descriptor.clear()
        self.caretaker.disown()
        self.reader.disown()


def _closed_ledger() -> Ledger:
    ledger = Ledger(1)
    ledger.close()
    return ledger


_NOWHERE: Final = _closed_ledger()
"""The ledger of all pools that are another process's: made here, since a worker that is forked has no time for it."""


@cache
def _host() -> str:
    return socket.gethostname()
